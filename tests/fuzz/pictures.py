"""Image files and arrays whose parts are changed, and whose checksums and lengths are made good again."""

import re
import struct
import zlib
from random import Random

from . import raw, values

SIGNATURE = b"\x89PNG\r\n\x1a\n"
ODD_CHUNKS = (
    b"tEXt",
    b"zTXt",
    b"iTXt",
    b"eXIf",
    b"iCCP",
    b"tRNS",
    b"acTL",
    b"PLTE",
    b"gAMA",
    b"sBIT",
    b"IDAT",
    b"abcd",
)
NPY_HEADER = 10
DESCRIPTIONS = (
    "<f4",
    ">f4",
    "<f8",
    "|O",
    "<c8",
    "|S9",
    "<U9",
    "<M8[s]",
    "|b1",
    "<i8",
    "<f2",
    "|V4",
    "[('a', '<f4')]",
)


def png(data: bytes, random: Random) -> bytes:
    """Change the chunks of a PNG file: their order, number, fields, or what the pixels are packed to."""
    chunks = _chunks(data)
    at = random.randrange(len(chunks))
    kind, body = chunks[at]
    match random.randrange(5):
        case 0:
            chunks = raw.rearrange(chunks, random)
        case 1:
            chunks.insert(at, (random.choice(ODD_CHUNKS), raw.damage(body, random)))
        case 2:
            text = values.string(random).encode("utf-8", "replace")
            chunks.insert(1, (random.choice(ODD_CHUNKS), text[:79] + b"\0\0" + zlib.compress(bytes(1 << 20))))
        case 3:
            pixels = next(here for here, chunk in enumerate(chunks) if chunk[0] == b"IDAT")
            packed = zlib.compress(raw.damage(zlib.decompress(chunks[pixels][1]), random))
            chunks[pixels] = (b"IDAT", packed)
        case _:
            chunks[at] = (kind, raw.damage(body, random))
    return _png(chunks)


def sealed(data: bytes) -> bytes:
    """Make the checksums of a PNG file good again."""
    return _png(_chunks(data))


def _chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    chunks, place = [], len(SIGNATURE)
    while place < len(data):
        (length,) = struct.unpack_from(">I", data, place)
        chunks.append((data[place + 4 : place + 8], data[place + 8 : place + 8 + length]))
        place += length + 12
    return chunks


def _png(chunks: list[tuple[bytes, bytes]]) -> bytes:
    return SIGNATURE + b"".join(
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in chunks
    )


def jpeg(data: bytes, random: Random) -> bytes:
    """Change the segments of a JPEG file, whose lengths are kept true."""
    parts = re.split(rb"(?=\xff[\xc0-\xc4\xda-\xdd\xe0-\xef\xfe])", data)
    at = random.randrange(1, len(parts))
    if random.random() < 0.4:
        return parts[0] + b"".join(raw.rearrange(parts[1:], random))
    marker, body = parts[at][:2], raw.damage(parts[at][4:], random)
    parts[at] = marker + struct.pack(">H", min(len(body) + 2, 65535)) + body
    return b"".join(parts)


def tiff(data: bytes, random: Random) -> bytes:
    """Change a field of an entry in the first directory of a little-endian TIFF file."""
    changed = bytearray(data)
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    start = directory + 2 + 12 * random.randrange(count)
    place, width = random.choice(((start, 2), (start + 2, 2), (start + 4, 4), (start + 8, 4), (start + 8, 4)))
    (old,) = struct.unpack_from("<I", data, place)
    number = random.choice((*raw.SIZES, old + 1, random.randrange(256, 340), directory))
    changed[place : place + width] = (number % 2 ** (8 * width)).to_bytes(width, "little")
    return bytes(changed)


def retagged(data: bytes, tags: dict[int, int]) -> bytes:
    """Give tags of one value in the first directory of a little-endian TIFF file another value."""
    changed = bytearray(data)
    (directory,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, directory)
    for place in range(directory + 2, directory + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, place)
        if tag in tags:
            # As a long, whatever it was.
            struct.pack_into("<H2I", changed, place + 2, 4, 1, tags[tag])
    return bytes(changed)


def npy(data: bytes, random: Random) -> bytes:
    """Change what the header of an array says, and write a length of the header that fits."""
    (length,) = struct.unpack_from("<H", data, NPY_HEADER - 2)
    header, body = data[NPY_HEADER : NPY_HEADER + length].decode(), data[NPY_HEADER + length :]
    sides = re.findall(r"\d+(?=,|\))", header)
    if not sides or random.random() < 0.5:
        sides = raw.rearrange(sides, random)
    else:
        sides[random.randrange(len(sides))] = str(random.choice((0, 1, 4, -1, *raw.SIZES)))
    shape = ", ".join(sides)
    edits = (
        (r"\(.*?\)", f"({shape},)"),
        (r"'[<|]\w+'", repr(random.choice(DESCRIPTIONS))),
        (r"False", random.choice(("True", "None", "1", "[]"))),
        (r"'descr'", repr(values.string(random)[:100])),
        (r".*", random.choice(("", "{}", "[" * 5000, "{'a': 1}", "\0" * 9, "1" * 9000))),
    )
    pattern, new = random.choice(edits)
    header = re.sub(pattern, lambda _: new, header, count=1)
    version = bytes((random.choice((1, 1, 1, 1, 2, 3, 9)), 0))
    text = header.encode("utf-8", "replace")
    return data[:6] + version + struct.pack("<H", len(text) % 65536) + text + body
