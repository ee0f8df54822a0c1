"""Damage to bytes and to sequences that knows nothing of what they mean."""

import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import TypeVar

T = TypeVar("T")

SIZES = (0, 1, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
LONGEST = 64
JUNK = (b"\x00", b"\xff", b"PK\x03\x04", b"\x1b[2J", b"\xe2\x80\xae", b"\n", b"%n", b"[[[[", b'"')


def damage(data: bytes, random: Random) -> bytes:
    """Return other bytes: a few flips, a cut, a piece repeated, moved, zeroed or dropped, a size, or junk."""
    while True:
        changed = bytes(random.choice(DAMAGES)(bytearray(data), random))
        if changed != data:
            return changed


def _flip(data: bytearray, random: Random) -> bytearray:
    for _ in range(random.choice((1, 1, 1, 2, 8)) if data else 0):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return data


def _cut(data: bytearray, random: Random) -> bytearray:
    return data[: random.randrange(len(data) + 1)]


def _piece(data: bytearray, random: Random) -> slice:
    start = random.randrange(len(data) + 1)
    return slice(start, start + random.randrange(1, LONGEST))


def _repeat(data: bytearray, random: Random) -> bytearray:
    piece = _piece(data, random)
    data[piece.start : piece.start] = data[piece] * random.choice((1, 1, 2, 50))
    return data


def _splice(data: bytearray, random: Random) -> bytearray:
    piece, place = data[_piece(data, random)], random.randrange(len(data) + 1)
    data[place : place + len(piece)] = piece
    return data


def _zero(data: bytearray, random: Random) -> bytearray:
    piece = _piece(data, random)
    data[piece] = bytes(len(data[piece]))
    return data


def _drop(data: bytearray, random: Random) -> bytearray:
    del data[_piece(data, random)]
    return data


def _size(data: bytearray, random: Random) -> bytearray:
    width, place = random.choice((1, 2, 4, 8)), random.randrange(len(data) + 1)
    number = random.choice(SIZES) % 2 ** (8 * width)
    data[place : place + width] = struct.pack(f"{random.choice('<>')}Q", number)[:width]
    return data


def _junk(data: bytearray, random: Random) -> bytearray:
    place = random.choice((0, len(data), random.randrange(len(data) + 1)))
    data[place:place] = random.choice(JUNK) * random.choice((1, 1, 40))
    return data


DAMAGES: tuple[Callable[[bytearray, Random], bytearray], ...]
DAMAGES = (_flip, _flip, _flip, _cut, _repeat, _splice, _zero, _drop, _size, _junk)


def rearrange(items: Sequence[T], random: Random) -> list[T]:
    """Return a sequence with one of its items dropped, repeated, moved, or put in the place of another."""
    found = list(items)
    if not found:
        return found
    one, other = random.randrange(len(found)), random.randrange(len(found))
    match random.randrange(4):
        case 0:
            del found[one]
        case 1:
            found.insert(other, found[one])
        case 2:
            found.insert(other, found.pop(one))
        case _:
            found[one] = found[other]
    return found
