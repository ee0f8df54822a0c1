"""The bounds that a model file is held to before anything in it is unpacked."""

from dataclasses import dataclass

_MIB = 2**20


@dataclass(frozen=True, slots=True)
class Limits:
    """Largest sizes and counts that the reader accepts; a file beyond one is refused by name."""

    file_bytes: int = 8192 * _MIB
    entries: int = 20_000
    unpacked_bytes: int = 16384 * _MIB
    unpack_ratio: int = 200
    ratio_free_bytes: int = 256 * _MIB
    """Below this total the ratio is not looked at: weights of zeros compress well."""
    name_bytes: int = 1024
    pickle_bytes: int = 64 * _MIB
    pickle_steps: int = 8_000_000
    pickle_depth: int = 2_000


LIMITS = Limits()
