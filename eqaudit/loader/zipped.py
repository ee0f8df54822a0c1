"""Read a zip archive, every byte accounted for; what two readers could read differently is refused."""

import stat
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from eqaudit.bounds import BOUNDS
from eqaudit.errors import ModelError
from eqaudit.loader.kinds import AGAIN, OLD_PROGRAM, WAY_OUT

_END: Final = struct.Struct("<4s4H2LH")
_END_64: Final = struct.Struct("<4sQ2H2L4Q")
_LOCATOR: Final = struct.Struct("<4sLQL")
_CENTRAL: Final = struct.Struct("<4s6H3L5H2L")
_LOCAL: Final = struct.Struct("<4s5H3L2H")
_FULL_16: Final = 2**16 - 1
_FULL_32: Final = 2**32 - 1
_STORED, _DEFLATED = zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED
_DESCRIPTOR: Final = 0x0008
_ENCRYPTED: Final = 0x2041
_HARMLESS_FLAGS: Final = 0x080E
"""UTF-8 name, sizes after the data, and the two bits that say how hard deflate tried."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry as the central directory gives it; `packed` bytes inflate to `size`."""

    raw_name: bytes
    name: str
    flags: int
    method: int
    crc: int
    packed: int
    size: int
    start: int

    @property
    def is_folder(self) -> bool:
        """True for the empty entries that some packers write for folders."""
        return self.name.endswith("/") and self.size == 0


def _damaged(what: str) -> ModelError:
    return ModelError(f"truncated or damaged archive: {what}", AGAIN)


def _unpack(layout: struct.Struct, signature: bytes, data: bytearray, at: int) -> tuple[int, ...]:
    if not 0 <= at <= len(data) - layout.size:
        raise _damaged("a header points outside the file")
    found, *fields = layout.unpack_from(data, at)
    if found != signature:
        raise _damaged("a header is missing")
    return tuple(fields)


def _find_directory(data: bytearray) -> tuple[int, int, int]:
    """Return where the central directory starts and ends and how many entries it lists."""
    at = data.rfind(b"PK\x05\x06", max(0, len(data) - _END.size - _FULL_16))
    if at < 0:
        raise _damaged("it has no central directory")
    disk, disk_of, here, count, size, start, comment = _unpack(_END, b"PK\x05\x06", data, at)
    if at + _END.size + comment != len(data) or disk or disk_of or here != count:
        raise _damaged("its end does not match its central directory")
    end = at
    if data.startswith(b"PK\x06\x07", max(0, at - _LOCATOR.size)):
        end = at - _LOCATOR.size - _END_64.size
        *disks, here_64, count_64, size_64, start_64 = _unpack(_END_64, b"PK\x06\x06", data, end)
        locator = _unpack(_LOCATOR, b"PK\x06\x07", data, at - _LOCATOR.size)
        agree = (
            count in {count_64, _FULL_16} and size in {size_64, _FULL_32} and start in {start_64, _FULL_32}
        )
        if not agree or here_64 != count_64 or locator != (0, end, 1) or disks[0] != 44 or any(disks[3:]):  # noqa: PLR2004
            raise _damaged("its two ends disagree")
        count, size, start = count_64, size_64, start_64
    if count > BOUNDS.entries:
        raise ModelError(f"too large: {count} entries, limit {BOUNDS.entries}", WAY_OUT)
    if start + size != end:
        raise _damaged("its central directory is not where it should be")
    return start, end, count


def read_directory(data: bytearray) -> list[Entry]:
    """Check the structure of an archive, unpacking nothing: quick also for a bomb.

    Parameters
    ----------
    data
        The whole file.

    Returns
    -------
    list[Entry]
        In the order of the central directory.

    Raises
    ------
    ModelError
        The archive is damaged, beyond a limit, or would be read differently by another reader.
    """
    start, end, count = _find_directory(data)
    entries, at = [], start
    for _ in range(count):
        entry, at = _read_entry(data, at, end)
        entries.append(entry)
    if at != end:
        raise _damaged("its central directory has another length than it says")
    total = sum(entry.size for entry in entries)
    most = BOUNDS.exceeded(total, len(data), BOUNDS.unpacked_bytes)
    if most:
        raise ModelError(f"too large: {len(data)} bytes that unpack to {total}, more than {most}", WAY_OUT)
    _check_names(entries)
    _check_layout(data, entries, start)
    return entries


def _read_entry(data: bytearray, at: int, end: int) -> tuple[Entry, int]:
    fields = _unpack(_CENTRAL, b"PK\x01\x02", data, at)
    (
        _,
        _,
        flags,
        method,
        _,
        _,
        crc,
        packed,
        size,
        name_size,
        extra_size,
        comment,
        disk,
        _,
        attributes,
        start,
    ) = fields
    name_at = at + _CENTRAL.size
    extra_at = name_at + name_size
    after = extra_at + extra_size + comment
    if name_size > BOUNDS.name_bytes:
        raise ModelError(f"an entry has a name of {name_size} bytes, limit {BOUNDS.name_bytes}")
    if after > end or disk not in {0, _FULL_16}:
        raise _damaged("an entry of its central directory does not fit")
    raw_name = bytes(data[name_at:extra_at])
    extra = bytes(data[extra_at : extra_at + extra_size])
    size, packed, start = _widen(extra, size, packed, start)
    name = raw_name.decode("utf-8", "backslashreplace")
    if flags & _ENCRYPTED:
        raise ModelError(f"entry {name} is encrypted", "save the model without a password")
    if method not in {_STORED, _DEFLATED} or flags & ~_HARMLESS_FLAGS:
        raise ModelError(
            f"entry {name} uses zip compression method {method} or flags {flags:#x} that are not read"
        )
    if stat.S_IFMT(attributes >> 16) not in {0, stat.S_IFREG, stat.S_IFDIR}:
        raise ModelError(f"entry {name} is a link or a special file")
    return Entry(raw_name, name, flags, method, crc, packed, size, start), after


def _widen(extra: bytes, *fields: int) -> Iterator[int]:
    """Replace each 32-bit field that says so by its 64-bit value in the zip64 extra record."""
    wide = b""
    while len(extra) >= 4 and not wide:  # noqa: PLR2004 - tag and length, two bytes each
        tag, length = struct.unpack_from("<2H", extra)
        wide = extra[4 : 4 + length] if tag == 1 else b""
        extra = extra[4 + length :]
    for field in fields:
        if field != _FULL_32:
            yield field
        elif len(wide) < 8:  # noqa: PLR2004 - one 64-bit number
            raise _damaged("a 64-bit size is missing")
        else:
            yield int.from_bytes(wide[:8], "little")
            wide = wide[8:]


def _check_names(entries: list[Entry]) -> None:
    seen: set[str] = set()
    tops: set[str] = set()
    for entry in entries:
        name = entry.name
        parts = name.removesuffix("/").split("/") if entry.is_folder else name.split("/")
        unsafe = {"", ".", ".."}.intersection(parts) or "\\" in name or name[1:2] == ":"
        if unsafe or not name.isprintable() or name.encode() != entry.raw_name:
            raise ModelError(f"entry {name!r} has an unsafe name")
        # torch takes the first of two names that differ in case only, Python the last.
        folded = unicodedata.normalize("NFKC", name).casefold()
        if folded in seen:
            raise ModelError(f"it holds the same name twice: {name}", "save the model again with PyTorch")
        seen.add(folded)
        tops.add(parts[0] if len(parts) > 1 or entry.is_folder else "")
    if "serialized_exported_program.json" in seen:
        raise ModelError(*OLD_PROGRAM)
    if len(tops) != 1 or "" in tops:
        raise ModelError("is a zip archive that is no model (it has not one top folder)", WAY_OUT)


def _check_layout(data: bytearray, entries: list[Entry], directory: int) -> None:
    """Account for every byte before the directory: no gap, no overlap, no second header."""
    ordered = sorted(entries, key=lambda entry: entry.start)
    expected = 0
    for entry, following in zip(ordered, [*(entry.start for entry in ordered[1:]), directory], strict=True):
        if entry.start != expected or _data_end(data, entry) > following:
            raise _damaged(f"entry {entry.name} overlaps another, or bytes lie between entries")
        _check_local(data, entry, following)
        expected = following


def _data_start(data: bytearray, entry: Entry) -> int:
    *_, name_size, extra_size = _unpack(_LOCAL, b"PK\x03\x04", data, entry.start)
    return entry.start + _LOCAL.size + name_size + extra_size


def _data_end(data: bytearray, entry: Entry) -> int:
    return _data_start(data, entry) + entry.packed


def _check_local(data: bytearray, entry: Entry, following: int) -> None:
    local = _unpack(_LOCAL, b"PK\x03\x04", data, entry.start)
    _, flags, method, _, _, crc, packed, size, name_size, _ = local
    name_at = entry.start + _LOCAL.size
    name = data[name_at : name_at + name_size]
    if name != entry.raw_name or (flags, method) != (entry.flags, entry.method):
        raise _damaged(f"entry {entry.name} has two different headers")
    end = _data_end(data, entry)
    tail = bytes(data[end : min(following, end + 25)])
    if not flags & _DESCRIPTOR:
        same = crc == entry.crc and packed in {entry.packed, _FULL_32} and size in {entry.size, _FULL_32}
        if tail or not same:
            raise _damaged(f"entry {entry.name} has two different sizes or checksums")
        return
    sizes = [
        struct.pack(f"<L2{code}", entry.crc, entry.packed, entry.size) for code in _descriptor_codes(entry)
    ]
    if tail not in {mark + numbers for mark in (b"", b"PK\x07\x08") for numbers in sizes}:
        raise _damaged(f"entry {entry.name} is followed by other sizes than it has")


def _descriptor_codes(entry: Entry) -> str:
    return "Q" if max(entry.packed, entry.size) >= _FULL_32 else "LQ"


def unpack_entry(data: bytearray, entry: Entry) -> bytes:
    """Return the content of an entry whose size and checksum are those declared.

    Parameters
    ----------
    data
        The whole file.
    entry
        One of its entries, from `read_directory`.

    Raises
    ------
    ModelError
        Naming the entry.
    """
    start = _data_start(data, entry)
    view = memoryview(data)[start : start + entry.packed]
    if entry.method == _STORED:
        content, whole = bytes(view), True
    else:
        inflate = zlib.decompressobj(-zlib.MAX_WBITS)
        try:
            content = inflate.decompress(view, entry.size + 1)
        except zlib.error as error:
            raise ModelError(f"damaged entry {entry.name}: {error}") from error
        whole = inflate.eof and not inflate.unused_data and not inflate.unconsumed_tail
    if len(content) != entry.size or not whole:
        raise ModelError(f"damaged entry {entry.name}: another size than declared")
    if zlib.crc32(content) != entry.crc:
        raise ModelError(f"damaged entry {entry.name}: wrong CRC")
    return content
