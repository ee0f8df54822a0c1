"""The memory allocator of the measuring process, where it is glibc's: how much of what is freed it keeps."""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

_THRESHOLD = "MALLOC_MMAP_THRESHOLD_"
KEPT_BYTES, KEPT_IN_LOOP = 2**25, 2**31 - 1
ENVIRONMENT = {
    _THRESHOLD: str(KEPT_BYTES),
    "MALLOC_TRIM_THRESHOLD_": "8589934592",
    "MALLOC_TOP_PAD_": "67108864",
}
"""What a process is started with.

glibc gives big blocks back to the system at once, and faults them in again for every batch; blocks up to this
size are kept instead. Larger ones would be kept with holes among what lasts, too small for the next.
"""
M_MMAP_THRESHOLD = -3


def is_set() -> bool:
    """Whether this process was started with a threshold that its allocator heeds."""
    return _THRESHOLD in os.environ and platform.libc_ver()[0] == "glibc"


def describe() -> str | None:
    """Say what was set; None for nothing."""
    if not is_set():
        return None
    return f"glibc keeps freed blocks of up to {os.environ[_THRESHOLD]} bytes, of {KEPT_IN_LOOP} in the loop"


@contextmanager
def large_blocks_kept() -> Iterator[None]:
    """Keep freed blocks of any size, as batches of one kind want; give back what is free before and after."""
    if not is_set():
        yield
        return
    library = ctypes.CDLL(None)
    library.malloc_trim(0)
    library.mallopt(M_MMAP_THRESHOLD, KEPT_IN_LOOP)
    try:
        yield
    finally:
        library.mallopt(M_MMAP_THRESHOLD, int(os.environ[_THRESHOLD]))
        library.malloc_trim(0)
