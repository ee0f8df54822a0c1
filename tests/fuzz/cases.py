"""Input number n: remade from the seed and its number alone."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath
from random import Random

from . import archives, pictures, raw, values
from .bases import Base

LONGEST_NAME = 80
OUTPUTS = ("--json", "--csv", "--plots", "--report", "--baseline")
PLACES = (
    "",
    "-",
    "out",
    "out/new",
    "out/no/new",
    "out/r.json",
    "m.pt",
    "i.npy",
    "missing/x",
    "junit=out/x",
    "junit=",
)
WORDS = (
    *("", "-", "0", "1", "-1", "2", "3,8,8", "8,8", "0,0", "1,2147483648,1", "9223372036854775808", "1e400"),
    *("nan", "-inf", "0.5", "1e-9", "C4", "D4", "C360", "C999999", "auto", "none", "*", "[", "conv", "a=b"),
    *("head=BD", "a=(1", "m.pt", "i.npy", "i.npy:x", "p", "net.py:make", "nothing:make", "builtin:no", "cpu"),
    *("cuda:99", "float16", "0:90:45", "0:1:1e-12", "9:0:1", "output.error < 1", 'layers["x"].error < nan'),
    *(
        "dice.p5 > 2 @ r90..",
        "verdict >= C4",
        "accuracy < 0.5",
        "segmentation",
        "embedding",
        "dense",
        "junit=x",
    ),
)


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


Options = Mapping[str, Sequence[str]]
"""The options of each command."""


def make_case(seed: int, number: int, bases: Sequence[Base], options: Options) -> Case:
    """Make an input from its number."""
    random = Random(f"{seed}/{number}")  # noqa: S311 - seeded on purpose
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
    at = random.randrange(len(rows))
    rows[at][random.randrange(2)] = random.choice(
        (values.string(random), "-1", "1.0", "b.png", '"', "1e9")
    ).encode("utf-8", "surrogatepass")
    return b"\n".join(b",".join(row) for row in raw.rearrange(rows, random))


def _json_header(data: bytes, random: Random) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header = values.json_text(data[8 : 8 + length], random)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def argument(text: str) -> str:
    """Return a string as the command line and the names of files can hold it."""
    return os.fsdecode(text.replace("\0", "_").encode("utf-8", "surrogatepass"))


def file_name(random: Random) -> str:
    """Return a hostile name that a file can have."""
    name = os.fsdecode(os.fsencode(argument(values.string(random)).replace("/", "_"))[:LONGEST_NAME])
    return name if name not in {"", ".", ".."} else "_"


def _renamed(random: Random, bases: Sequence[Base], _options: Options) -> Case:
    """Give a file, or a folder of images, a hostile name, on disk and on the command line."""
    base = random.choice([base for base in bases if not base.configured])
    old = random.choice(base.targets)
    folder, slash, file = old.rpartition("/")
    name = file_name(random)
    new = f"{folder}{slash}{name}{PurePath(file).suffix * random.randrange(2)}"
    if random.random() < 0.3 and slash:
        new = f"{folder}/{name}/{file}"
    files = {new if one == old else one: content for one, content in base.files.items()}
    arguments = tuple(new if one == old else one for one in base.arguments)
    return Case("", base, files, arguments)


NETWORK = """
from collections import OrderedDict
from torch import nn
import os, sys

NAME = {name!r}


class Net(nn.Sequential):
    def forward(self, x):
        {before}
        return super().forward(x).mean((2, 3))


def make():
    layers = [(NAME.replace(".", "") or "x", nn.Conv2d(3, 2, 3)), ("b", nn.ReLU())]
    made = Net(OrderedDict(layers))
    {made}
    return made
"""
ACTS = (
    "pass",
    "print(NAME)",
    "os.write(2, os.fsencode(NAME.encode('utf-8', 'replace').decode()) * 9)",
    "raise ValueError(NAME)",
    "raise KeyError(NAME)",
    "raise SystemExit(0)",
    "os._exit(0)",
    "sys.exit(NAME)",
    "return {NAME: super().forward(x).mean((2, 3)), 'b': x}",
    "raise KeyboardInterrupt",
    "os.kill(os.getpid(), 11)",
    "raise type(NAME[:9] or 'E', (Exception,), {})(NAME)",
)


def _named(random: Random, bases: Sequence[Base], _options: Options) -> Case:
    """Let Python code have hostile names, say them, raise them, or end its process."""
    base = next(base for base in bases if base.name == "scripted")
    acts = [random.choice(ACTS) if random.random() < 0.5 else "pass" for _ in range(2)]
    source = NETWORK.format(
        name=values.string(random), before=acts[0], made=acts[1].replace("return", "pass #")
    )
    arguments = ("check", "net.py:make", *base.arguments[2:])
    verbose = ("--verbose",) * random.randrange(2)
    return Case(
        "",
        base,
        {**base.files, "net.py": source.encode("utf-8", "backslashreplace")},
        (arguments[0], *verbose, *arguments[1:]),
    )


def _asked(random: Random, bases: Sequence[Base], options: Options) -> Case:
    """Change the command line: other options, other values, or the words in another order."""
    base = random.choice(bases)
    arguments = list(base.arguments)
    command = random.choice(tuple(options)) if random.random() < 0.05 else arguments[0]
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(1, len(arguments) + 1)
        option = random.choice(options[command])
        match random.randrange(5):
            case 0 | 1 | 2:
                arguments[at:at] = [option, _word(option, random)][: random.choice((1, 2, 2, 2))]
            case 3 if at < len(arguments):
                arguments[at] = _word(arguments[at - 1], random)
            case _:
                arguments[1:] = raw.rearrange(arguments[1:], random)
    return Case("", base, base.files, tuple(_harmless(one) for one in (command, *arguments[1:])))


def _word(option: str, random: Random) -> str:
    if option in OUTPUTS:
        return random.choice((*PLACES, f"out/{file_name(random)}"))
    return random.choice((random.choice(WORDS), values.string(random)))


def _harmless(word: str) -> str:
    """Keep a word from naming a place outside the folder of the input, or what no command line can hold."""
    return argument(word).replace("..", "_").replace("=/", "=_").replace("~", "_").removeprefix("/")


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
    "operations of a pickle": _content(archives.pickle, ("old.pth",)),
    "header of weights": _content(_json_header, (".safetensors",)),
    "chunks": _content(pictures.png, (".png",)),
    "segments": _content(pictures.jpeg, (".jpeg",)),
    "directory": _content(pictures.tiff, (".tif",)),
    "header of an array": _content(pictures.npy, (".npy",)),
    "rows": _content(_rows, (".csv",)),
    "values of a report": _content(values.json_text, (".json",)),
    "values of a configuration": _content(_text, (".toml",)),
    "file names": _renamed,
    "names in code": _named,
    "command line": _asked,
}
