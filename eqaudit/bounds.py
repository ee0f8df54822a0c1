"""How much is read of a file from elsewhere: every bound, in the one table that `eqaudit --help` shows.

What is beyond a bound is refused, or an image skipped, before it is unpacked; the message has the number.
"""

from dataclasses import dataclass, fields

_KIB, _MIB, _GIB = 2**10, 2**20, 2**30


@dataclass(frozen=True, slots=True)
class Bounds:
    """Largest sizes and counts; names that end in ``bytes`` are sizes."""

    model_bytes: int = 8 * _GIB
    """Or of weights; those up to ``pickle_depth`` are of both."""
    entries: int = 20_000
    unpacked_bytes: int = 16 * _GIB
    unpack_ratio: int = 200
    """Of archives of models and of arrays."""
    ratio_from_bytes: int = 256 * _MIB
    """Below this total the ratio is not looked at: weights of zeros compress well."""
    name_bytes: int = _KIB
    pickle_bytes: int = 64 * _MIB
    pickle_steps: int = 8_000_000
    pickle_depth: int = 2_000
    folder_entries: int = 1_000_000
    folder_depth: int = 64
    picture_bytes: int = _GIB
    """Of an image file, and of its decoded pixels in a TIFF."""
    pixels: int = 2**26
    jpeg_scans: int = 500
    """A progressive JPEG has about ten; each costs a pass over the whole picture."""
    array_images: int = 1_000_000
    array_header_bytes: int = 10_000
    npz_bytes: int = 4 * _GIB
    callable_images: int = 100_000
    csv_bytes: int = 64 * _MIB
    csv_line: int = 2**20
    configuration_bytes: int = _MIB
    """Reading that much takes a second."""
    configuration_depth: int = 16
    report_bytes: int = _GIB

    def exceeded(self, unpacked: int, packed: int, most: int) -> str:
        """Return, in words, what an archive of ``packed`` bytes unpacks to more than; empty for nothing."""
        if unpacked > most:
            return format_bytes(most)
        bomb = unpacked > self.ratio_from_bytes and unpacked > self.unpack_ratio * packed
        return f"{self.unpack_ratio} times its size" if bomb else ""


BOUNDS = Bounds()


def describe_bounds() -> str:
    """Return the table in one sentence, as in ``model 8 GiB, entries 20,000``."""
    said = [(field.name, getattr(BOUNDS, field.name)) for field in fields(Bounds)]
    return ", ".join(
        f"{name.removesuffix('_bytes').replace('_', ' ')} "
        f"{format_bytes(value) if name.endswith('bytes') else f'{value:,}'}"
        for name, value in said
    )


def format_bytes(count: int) -> str:
    """Write a size with the largest unit of which it is a whole number.

    Examples
    --------
    >>> format_bytes(2**26), format_bytes(10_000)
    ('64 MiB', '10,000 bytes')
    """
    for unit, size in (("GiB", _GIB), ("MiB", _MIB), ("KiB", _KIB)):
        if count and count % size == 0:
            return f"{count // size:,} {unit}"
    return f"{count:,} bytes"
