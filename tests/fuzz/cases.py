"""Input number n: remade from the seed and its number alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import PurePath
from random import Random

from test_archive import Raw, build

from . import archives, commands, pictures, raw, sources, values
from .bases import BESIDE, Base
from .commands import Options

Near = tuple[str, Mapping[str, bytes]]
"""The command line of a near miss, and the files that are other than those that lie beside all of them."""
NEAR_EVERY = 3
"""Of so many inputs one is a near miss, until each was one."""


@dataclass(frozen=True, slots=True)
class Case:
    """One input: files and a command, and the base that it was made of.

    ``same``: it is refused, or nothing that counts has changed and the report is that of the base.
    """

    family: str
    base: Base
    files: dict[str, bytes]
    arguments: tuple[str, ...]
    same: bool = False


def make_case(
    seed: int, number: int, bases: Sequence[Base], options: Options, near: Sequence[Case] = ()
) -> Case:
    """Make an input from its number."""
    random = Random(f"{seed}/{number}")  # noqa: S311 - seeded on purpose
    if number % NEAR_EVERY == 0 and number < NEAR_EVERY * len(near):
        return near[number // NEAR_EVERY]
    while True:
        family = random.choice(tuple(FAMILIES))
        case = FAMILIES[family](random, bases, options)
        if case is not None:
            return replace(_shown(case, random), family=f"{family}: {case.base.name}")


def _shown(case: Case, random: Random) -> Case:
    """Let the report go elsewhere, where nothing is compared with it."""
    arguments = list(case.arguments)
    if not case.same and arguments[-2:] == ["--json", "-"] and random.random() < 0.4:
        other = (
            ["--json", "out/r.json"],
            ["--report", "markdown=out/r.md", "--report", "junit=out/r.xml"],
            ["-q"],
        )
        arguments[-2:] = random.choice(other)
    return replace(case, arguments=tuple(arguments))


def _content(
    change: Callable[[bytes, Random], bytes | None], kinds: tuple[str, ...], *, same: bool = False
) -> Callable[[Random, Sequence[Base], Options], Case | None]:
    """Return a family that changes the content of a file of some kinds."""

    def make(random: Random, bases: Sequence[Base], _options: Options) -> Case | None:
        fitting = [(base, name) for base in bases for name in base.targets if name.endswith(kinds)]
        base, name = random.choice(fitting)
        changed = change(base.files[name], random)
        if changed is None or changed == base.files[name]:
            return None
        intact = same or (change is raw.damage and base.sealed)
        return Case("", base, {**base.files, name: changed}, base.arguments, intact)

    return make


def _swapped(random: Random, bases: Sequence[Base], _options: Options) -> Case:
    base, other = random.sample([base for base in bases if base.targets[0].endswith(ARCHIVES)], 2)
    (name, *_), (source, *_) = base.targets, other.targets
    changed = archives.swap(base.files[name], other.files[source], random)
    return Case("", base, {**base.files, name: changed}, base.arguments)


def _text(data: bytes, random: Random) -> bytes:
    return values.toml_text(data.decode(), random).encode("utf-8", "surrogatepass")


def _rows(data: bytes, random: Random) -> bytes:
    rows = [row.split(b",") for row in data.splitlines()]
    if random.random() < 0.5:
        rows = raw.rearrange(rows, random)
    else:
        cell = random.choice((values.string(random), "-1", "1.0", "b.png", '"', "1e9"))
        rows[random.randrange(len(rows))][random.randrange(2)] = cell.encode("utf-8", "surrogatepass")
    return b"\n".join(b",".join(row) for row in rows)


def _json_header(data: bytes, random: Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = values.json_text(data[8 : 8 + length], random)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def _renamed(random: Random, bases: Sequence[Base], _options: Options) -> Case:
    """Give a file, or a folder of images, a hostile name, on disk and on the command line."""
    base = random.choice([base for base in bases if not base.configured])
    old = random.choice(base.targets)
    folder, slash, file = old.rpartition("/")
    name = commands.file_name(random)
    new = f"{folder}{slash}{name}{PurePath(file).suffix * random.randrange(2)}"
    if random.random() < 0.3 and slash:
        new = f"{folder}/{name}/{file}"
    files = {new if one == old else one: content for one, content in base.files.items()}
    arguments = tuple(new if one == old else one for one in base.arguments)
    return Case("", base, files, arguments)


def _named(random: Random, bases: Sequence[Base], _options: Options) -> Case:
    """Let Python code make the model, and sometimes the images."""
    base = next(base for base in bases if base.name == "scripted")
    content, factory, images = sources.source(random)
    data = ("--data", f"net.py:{images}") if images else base.arguments[2:4]
    verbose = ("--verbose",) * random.randrange(2)
    arguments = ("check", f"net.py:{factory}", *verbose, *data, *base.arguments[4:])
    return Case("", base, {**base.files, "net.py": content}, arguments)


def _asked(random: Random, bases: Sequence[Base], options: Options) -> Case:
    base = random.choice(bases)
    return Case("", base, base.files, commands.command_line(base.arguments, options, random))


def _beside(random: Random, bases: Sequence[Base], _options: Options) -> Case:
    """Change the archive beside a report, and let the report name what it has become."""
    base = random.choice([base for base in bases if BESIDE in base.files])
    old = base.files[BESIDE]
    new = random.choice((archives.contents, archives.headers, raw.damage))(old, random)
    report = base.files["r.json"].replace(sha256(old).hexdigest().encode(), sha256(new).hexdigest().encode())
    return Case("", base, {**base.files, BESIDE: new, "r.json": report}, base.arguments)


def _mistaken(random: Random, bases: Sequence[Base], _options: Options) -> Case:
    """Put a file of another kind in the place of one."""
    base, other = random.sample(bases, 2)
    name = random.choice(base.targets)
    kinds = (*OTHER_KINDS, other.files[random.choice(other.targets)])
    return Case("", base, {**base.files, name: random.choice(kinds)}, base.arguments)


OTHER_KINDS = (
    b"",
    b"some text\n",
    b'{"a": 1}\n',
    b"<!DOCTYPE html><title>404</title>\n",
    b"import torch\n",
    b"version https://git-lfs.github.com/spec/v1\n",
    b"\x08\x07\x12\x07pytorch\x3a\x02\x08\x01",
    b"\x80\x02cos\nsystem\nX\x0b\x00\x00\x00touch PWNED\x85R.",
    bytes(132) + b"DICM" + bytes(400),
    bytes(range(256)) * 9,
    build([Raw(b"a/model.json", b"{}"), Raw(b"a/x", b"")]),
    build([Raw(b"a/.data/extern_modules", b""), Raw(b"a/x.py", b"")]),
    build([Raw(b"one", b""), Raw(b"two/x", b"")]),
)
ARCHIVES = (".pt", ".pt2", "w.pth", ".npz")
ANY = ("",)
FAMILIES: dict[str, Callable[[Random, Sequence[Base], Options], Case | None]] = {
    "bytes": _content(raw.damage, ANY),
    "bytes of a model": _content(raw.damage, (".pt", ".pt2", ".pth", ".safetensors")),
    "headers of entries": _content(archives.headers, ARCHIVES, same=True),
    "contents of entries": _content(archives.contents, ARCHIVES),
    "contents of a model": _content(archives.contents, (".pt", ".pt2", "w.pth")),
    "lengths of storages": _content(archives.lengths, (".pt", ".pt2", "w.pth"), same=True),
    "entries of another": _swapped,
    "operations of a pickle": _content(archives.operations, (".pt", "w.pth", "old.pth")),
    "files of another kind": _mistaken,
    "header of weights": _content(_json_header, (".safetensors",)),
    "chunks": _content(pictures.png, (".png",)),
    "segments": _content(pictures.jpeg, (".jpeg",)),
    "directory": _content(pictures.tiff, (".tif",)),
    "header of an array": _content(pictures.npy, (".npy",)),
    "rows": _content(_rows, (".csv",)),
    "values of a report": _content(values.json_text, (".json",)),
    "archive beside a report": _beside,
    "values of a configuration": _content(_text, (".toml",)),
    "file names": _renamed,
    "names in code": _named,
    "command line": _asked,
}
