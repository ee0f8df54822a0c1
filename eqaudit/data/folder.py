"""The images of a folder: those that cannot be decoded say why, and never stop the others."""

import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

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
            _check_pixels(pixels, picture.shape)
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
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", Image.DecompressionBombWarning)
                yield self._decoders[name](handle)
        except Unreadable:
            raise
        except Exception as exception:
            # A damaged file makes decoders raise nearly anything: struct.error, zlib.error, MemoryError, ...
            raise Unreadable(one_line(exception)) from exception


def _check_pixels(pixels: Pixels, shape: Shape) -> None:
    try:
        check_dtype("it", np.asarray(pixels).dtype)
    except DataError as error:
        raise Unreadable(error.message) from error
    # Damaged files decode to something else than their header says, and to no error.
    if pixels.ndim not in (2, 3) or pixels.shape[:2] != shape[1:]:
        raise Unreadable(f"its pixels are of shape {pixels.shape}, its header says {shape}")
