"""The images of a folder: those that cannot be decoded say why, and never stop the others."""

import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from eqaudit.bounds import BOUNDS, format_bytes
from eqaudit.data.base import Picture, Pixels, Shape, Unreadable, check_dtype, open_regular
from eqaudit.errors import DataError
from eqaudit.pythonspec import one_line

Decoder = Callable[[BinaryIO], Picture]


class FolderSource:
    """Image files under ``root``, each with its decoder; ``problems`` are known not to be readable."""

    ready = False
    sized = True

    def __init__(
        self,
        label: str,
        root: Path,
        decoders: Mapping[str, Decoder],
        problems: Mapping[str, str],
        foreign: Mapping[str, str],
    ) -> None:
        self.label = label
        self.names = tuple(sorted({*decoders, *problems}))
        self.notes = {
            f"{count} {kind} files passed over" for kind, count in Counter(foreign.values()).items()
        }
        self.root = root
        self._decoders = decoders
        self._problems = problems

    def shape(self, index: int) -> Shape:
        """Return the upright ``(C, H, W)`` from the header, without alpha."""
        with self._picture(index) as picture:
            return picture.shape

    def read(self, index: int) -> Pixels:
        """Return the upright pixels of the first frame or page."""
        with self._picture(index) as picture:
            pixels = picture.pixels()
            _check_numbers(pixels)
            if pixels.shape[:2] != picture.shape[1:]:
                raise Unreadable("its pixels have another size than its header states")
        self.notes.update(picture.notes)
        if picture.orientation in range(2, 9):
            self.notes.add("EXIF orientation applied")
        return pixels

    @contextmanager
    def _picture(self, index: int) -> Iterator[Picture]:
        name = self.names[index]
        if name in self._problems:
            raise Unreadable(self._problems[name])
        try:
            with warnings.catch_warnings(), open_regular(self.root / name) as handle:
                if os.fstat(handle.fileno()).st_size > BOUNDS.picture_bytes:
                    raise Unreadable(f"a file of more than {format_bytes(BOUNDS.picture_bytes)}")  # noqa: TRY301 - as below
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                yield self._decoders[name](handle)
        except Unreadable:
            raise
        except Exception as exception:
            # A damaged file makes decoders raise nearly anything: struct.error, zlib.error, MemoryError, ...
            raise Unreadable(one_line(exception)) from exception


def _check_numbers(pixels: Pixels) -> None:
    try:
        check_dtype("it", np.asarray(pixels).dtype)
    except DataError as error:
        raise Unreadable(error.message) from error
