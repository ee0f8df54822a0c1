"""Command lines with other options, other values, and words in another order."""

import os
from collections.abc import Mapping, Sequence
from random import Random

from . import raw, values

Options = Mapping[str, Sequence[str]]
"""The options of each command."""

LIMITING = ("--limit", "--limits")
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
NUMBERS = (
    "0",
    "1",
    "-1",
    "2",
    "0.5",
    "1.5",
    "1e-9",
    "1e400",
    "nan",
    "-inf",
    "99999",
    "9223372036854775808",
    "x",
)
LISTS = ("3,8,8", "8,8", "4,4", "0,0", "1,2147483648,1", "60000,60000", "0.5,0.5,0.5", "0,1", "1,x", ",", "0")
SPECS = (
    "m.pt",
    "i.npy",
    "i.npy:x",
    "d.npz",
    "d.npz:x",
    "p",
    "q",
    "l.csv",
    "w.pth",
    "net.py",
    "net.py:make",
    "net.py:",
)
NEAR: Mapping[str, Sequence[str]] = {
    "--group": ("C4", "D1", "D4", "C360", "C999999", "C0", "auto", "d4", "C1"),
    "--layers": ("*", "none", "conv", "head", "[", "missing"),
    "--layout": ("head=BD", "*=BCHW", "conv=BHWC", "conv=XX", "=B", "conv="),
    "--output": ("output", "output.0", "missing"),
    "--angles": ("0:90:45", "0:1:1e-12", "9:0:1", "0,45", "0:1", "nan", "1e9", "0:90:0", "1,,2"),
    "--data": (*SPECS, "builtin:photo", "nothing:make"),
    "--labels": (*SPECS, "folders", "d.npz:labels"),
    "--masks": SPECS,
    "--weights": SPECS,
    "--arg": ("width=2", "width=-1", "a=(1", "width", "=1", "seed='x'"),
    "--report": (*PLACES, "markdown=out/r.md", "html=out/x"),
    "--device": ("cpu", "cuda", "cuda:99", "cuda:-1", "tpu"),
    "--dtype": ("float64", "float16", "bfloat16", "int8", "float32"),
    "--task": ("classification", "segmentation", "dense", "embedding", "x"),
}


def command_line(arguments: Sequence[str], options: Options, random: Random) -> tuple[str, ...]:
    """Change a command line in one to three places."""
    command, *words = arguments
    if random.random() < 0.05:
        command = random.choice(tuple(options))
    for _ in range(random.choice((1, 1, 2, 3))):
        at = random.randrange(len(words) + 1)
        near = [option for option in options[command] if option in NEAR or option in LIMITING]
        option = random.choice(near if near and random.random() < 0.5 else options[command])
        match random.randrange(8):
            case 0:
                words = raw.rearrange(words, random)
            case 1 if at < len(words):
                words[at] = _word(words[at - 1] if at else "", random)
            case 2:
                words.insert(at, option)
            case _:
                words[at:at] = [option, _word(option, random)]
    return tuple(_harmless(word) for word in (command, *words))


def _word(option: str, random: Random) -> str:
    if option in OUTPUTS and random.random() < 0.8:
        return random.choice((*PLACES, f"out/{file_name(random)}"))
    if option in LIMITING:
        return values.limit(random)
    if random.random() < 0.7:
        return random.choice(NEAR.get(option, (*NUMBERS, *LISTS)))
    return random.choice((random.choice((*NUMBERS, *LISTS, *SPECS)), values.string(random)))


def argument(text: str) -> str:
    """Return a string as the command line and the names of files can hold it."""
    return os.fsdecode(text.replace("\0", "_").encode("utf-8", "surrogatepass"))


def file_name(random: Random) -> str:
    """Return a hostile name that a file can have."""
    name = os.fsdecode(os.fsencode(argument(values.string(random)).replace("/", "_"))[:80])
    return name if name not in {"", ".", ".."} else "_"


def _harmless(word: str) -> str:
    """Keep a word from naming a place outside the folder of the input, or what no command line can hold."""
    parts = argument(word).replace("=/", "=_").replace("~", "_").split("/")
    return "/".join("_" if part == ".." else part for part in parts).removeprefix("/")
