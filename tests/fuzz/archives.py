"""Archives whose entries, headers, pickles and code are changed, and whose checksums are made good again."""

import io
import pickletools
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from zipfile import is_zipfile

from test_archive import Raw, build, deflate, end_64, end_record, entries_of

from . import pictures, raw, values

PICKLES = (".pkl",)
TEXTS = (".json", ".py", ".npy")
RECORDS = ("version", "byteorder", "archive_version", "archive_format")
CALLS = (b"cos\nsystem\n", b"cbuiltins\neval\n", b"ctorch\nload\n", b"ctorch._utils\n_rebuild_tensor_v2\n")
RUNS = b"cos\nsystem\nX\x0b\x00\x00\x00touch PWNEDR0"
OPERATORS = (
    "torch.save",
    "ops.aten.from_file",
    "torch.manual_seed",
    "ops.mylib.op",
    "torch.add",
    "print",
    "getattr",
)
CALLED = re.compile(r"\b(torch|ops|annotate)[\w.]*(?=\()")
TOKEN = re.compile(r"[A-Za-z_][\w.]*|\d+(?:\.\d+)?|[^\w\s]")
ODD_TOKENS = (
    "0",
    "-1",
    "99999999999",
    "0.",
    "None",
    "x",
    "self",
    "[]",
    "Tensor",
    "(",
    ")",
    "int",
    '"cuda:0"',
)


def headers(data: bytes, random: Random) -> bytes:
    """Change what headers say of an entry, or the order and number of entries, and not what they hold."""
    entries = entries_of(data)
    at = random.randrange(len(entries))
    one = entries[at]
    size = random.choice((len(one.data) + 1, max(0, len(one.data) - 1), *raw.SIZES[:-2]))
    changes: tuple[Callable[[], Raw], ...] = (
        lambda: replace(one, crc=zlib.crc32(one.data) ^ 1 << random.randrange(32)),
        lambda: replace(one, size=size % 2**32),
        lambda: replace(one, packed=size % 2**32),
        lambda: replace(one, flags=1 << random.randrange(16)),
        lambda: replace(one, method=random.choice((1, 8, 9, 12, 14, 93, 99))),
        lambda: replace(one, method=8, payload=deflate(one.data)),
        lambda: replace(one, method=8, payload=raw.damage(deflate(one.data), random)),
        lambda: replace(one, attributes=random.choice((0o120777 << 16, 0o040755 << 16, 0o100644 << 16, 16))),
        lambda: replace(one, local_name=_name(one, random)),
        lambda: replace(one, name=_name(one, random)),
        lambda: replace(one, prefix=b"junk"),
        lambda: replace(one, start=random.choice(raw.SIZES[:-2])),
    )
    if random.random() < 0.6:
        entries[at] = random.choice(changes)()
        return build(entries)
    ends = (
        end_record,
        lambda count, size, start: end_record(count, size, start, b"a comment"),
        lambda count, size, start: end_record(random.choice((0, 1, count + 1, 65535)), size, start),
        lambda count, size, start: end_record(count, size, max(0, start + random.choice((-1, 1)))),
        lambda count, size, start: end_64(count, size, start, random.choice(raw.SIZES)),
    )
    return build(raw.rearrange(entries, random), random.choice(ends))


def _name(one: Raw, random: Random) -> bytes:
    top, _, inside = one.name.partition(b"/")
    odd = values.string(random).encode("utf-8", "surrogatepass" if random.random() < 0.5 else "replace")
    names = (
        one.name.upper(),
        one.name + b"x",
        b"/" + one.name,
        top + b"/../" + inside,
        inside,
        top + b"/" + odd[:2000],
    )
    return random.choice(names)


def contents(data: bytes, random: Random) -> bytes:
    """Change what one entry holds, as what it is, and write sizes and checksum that fit."""
    entries = entries_of(data)
    telling = [
        at for at, one in enumerate(entries) if one.name.decode().endswith((*PICKLES, *TEXTS, *RECORDS))
    ]
    at = random.choice(telling) if telling and random.random() < 0.8 else random.randrange(len(entries))
    name, content = entries[at].name.decode(), entries[at].data
    if random.random() < 0.15:
        changed = raw.damage(content, random)
    elif name.endswith(".pkl"):
        changed = pickle(content, random)
    elif name.endswith(".npy"):
        changed = pictures.npy(content, random)
    elif name.endswith(".json"):
        changed = values.json_text(content, random)
    elif name.endswith(".py"):
        changed = code(content.decode(), random).encode()
    else:
        changed = raw.damage(content, random)
    entries[at] = replace(entries[at], data=changed)
    return build(entries)


def lengths(data: bytes, random: Random) -> bytes | None:
    """Give a storage of weights another length, or none at all; None where there is no storage."""
    entries = entries_of(data)
    storages = [
        at for at, one in enumerate(entries) if re.search(rb"/data/(\d+|weights/weight_\d+)$", one.name)
    ]
    if not storages:
        return None
    at = random.choice(storages)
    content = entries[at].data
    changed = random.choice(
        (b"", content[:-1], content[: len(content) // 2], content + b"\0", content * 2, None)
    )
    if changed is None:
        return build([*entries[:at], *entries[at + 1 :]])
    entries[at] = replace(entries[at], data=changed)
    return build(entries)


def swap(data: bytes, other: bytes, random: Random) -> bytes:
    """Put an entry of another archive in the place of one of the same end of name, or beside the others."""
    entries, others = entries_of(data), entries_of(other)
    one = random.choice(others)
    top, inside = entries[0].name.partition(b"/")[0], one.name.partition(b"/")[2]
    moved = replace(one, name=top + b"/" + inside)
    kept = [entry for entry in entries if entry.name != moved.name]
    place = random.randrange(len(kept) + 1)
    return build([*kept[:place], moved, *kept[place:]])


def operations(data: bytes, random: Random) -> bytes:
    """Change the pickle that a file is, or one that lies in it."""
    if not is_zipfile(io.BytesIO(data)):
        return pickle(data, random)
    entries = entries_of(data)
    at = random.choice([at for at, one in enumerate(entries) if one.name.endswith(b"a.pkl")])
    entries[at] = replace(entries[at], data=pickle(entries[at].data, random))
    return build(entries)


def pickle(data: bytes, random: Random) -> bytes:
    """Change one operation of a pickle: dropped, repeated, moved, with another argument, or a call."""
    operations = _operations(data)
    at = random.randrange(len(operations))
    match random.randrange(6):
        case 0:
            return b"".join(raw.rearrange(operations, random))
        case 1:
            operations[at] = random.choice(CALLS)
        case 2:
            operations.insert(
                at,
                random.choice(
                    (RUNS, b"R", b"b", b"0", b"(", b"t", b"u", b"q\x00", b"h\x00", b")", b"}", b"Q")
                ),
            )
        case 3:
            codes = [one.code.encode("latin-1") for one in pickletools.opcodes]
            operations[at] = random.choice(codes) + operations[at][1:]
        case _:
            numbers = [here for here, one in enumerate(operations) if one[:1] in b"KMJ\x8aX" and len(one) > 1]
            at = random.choice(numbers or [at])
            operations[at] = _argument(operations[at], random)
    return b"".join(operations)


def _operations(data: bytes) -> list[bytes]:
    starts: Sequence[int] = []
    try:
        starts = [place or 0 for _, _, place in pickletools.genops(data)]
    except ValueError:
        # A part of a file that is no pickle to its end: what can be read of it is changed.
        starts = starts or [0]
    return [data[start:end] for start, end in zip(starts, [*starts[1:], len(data)], strict=True)]


def _argument(operation: bytes, random: Random) -> bytes:
    if operation[:1] == b"X":
        text = values.string(random).encode("utf-8", "replace")
        return b"X" + len(text).to_bytes(4, "little") + text
    number = random.choice((*raw.SIZES[:-1], -1, -8)).to_bytes(9, "little", signed=True)
    return random.choice(
        (b"K" + number[:1], b"M" + number[:2], b"J" + number[:4], b"\x8a\x09" + number, b"N")
    )


def code(text: str, random: Random) -> str:
    """Change a token or a line of the code of a TorchScript file."""
    if random.random() < 0.3 or not TOKEN.search(text):
        return "\n".join(raw.rearrange(text.split("\n"), random))
    called = random.random() < 0.4
    found = list((CALLED if called else TOKEN).finditer(text)) or list(TOKEN.finditer(text))
    one = random.choice(found)
    odd = random.choice(OPERATORS if called else (*ODD_TOKENS, random.choice(found)[0]))
    return text[: one.start()] + odd + text[one.end() :]
