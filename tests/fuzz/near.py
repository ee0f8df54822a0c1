"""Near misses: requests wrong in one thing, each run once, so that few reasons are left to chance."""

import json
import shlex
from collections.abc import Iterator, Mapping, Sequence
from hashlib import sha256

import numpy as np
from test_archive import Raw, build

from . import sources, special
from .bases import BESIDE, CONFIG, LABELS, Base, noise, npy
from .cases import Case, Near
from .near_data import images, truth
from .near_models import edited, models, programs, walked, weights

DEFAULTS = {
    "--data": ({"check", "compare", "diagnose", "features", "init", "sweep-angles"}, "i.npy"),
    "--timeout": ({"check", "compare", "diagnose", "features", "init", "layers", "sweep-angles"}, "30"),
    "--group": ({"check", "init"}, "C4"),
    "--json": ({"check", "compare", "diagnose", "sweep-angles"}, "-"),
}
LONG = "a" * 300


def near_misses(bases: Sequence[Base]) -> list[Case]:
    """Return every one, in an order that is always the same."""
    files = _bench({base.name: base.files for base in bases})
    found = (
        *((f"{line} {words}".strip(), {}) for line, table in COMMANDS.items() for words in _words(table)),
        *((f"check m.pt --limit {shlex.quote(text)}", {}) for text in WRONG_LIMITS),
        *_special(),
        *models(files),
        *walked(files["m.pt"]),
        *programs(files["m.pt2"]),
        *weights(files),
        *images(),
        *truth(files),
        *_code(),
        *_texts(files),
    )
    return [_case(line, {**files, **changed}) for line, changed in found]


def _case(line: str, files: dict[str, bytes]) -> Case:
    command, *words = shlex.split(line)
    configured = command == "check" and (not words or words[0] in {"--config", "--only"})
    if not configured:
        for option, (commands, value) in DEFAULTS.items():
            if command in commands and option not in words:
                words += [option, value]
    writes = ("eqaudit.toml",) if command == "init" else ()
    base = Base(line, files, (command, *words), (), configured=configured, writes=writes)
    return Case(f"near misses: {line}", base, files, base.arguments)


def _bench(of: Mapping[str, Mapping[str, bytes]]) -> dict[str, bytes]:
    return {
        **of["masks"],
        "maps.pt": of["masks"]["m.pt"],
        "eight.pt": of["quantised"]["m.pt"],
        "eight.npy": of["quantised"]["i.npy"],
        **of["scripted"],
        **of["exported"],
        **of["weights w.pth"],
        **of["weights old.pth"],
        **of["weights w.safetensors"],
        **of["labels in an archive"],
        "l.csv": LABELS.encode(),
        "r.json": of["report"]["r.json"],
        "s.json": of["sweep"]["r.json"],
        "c.json": of["comparison"]["r.json"],
        "i.npy": npy(noise(2, 3, 8, 8)),
        "u.npy": npy((noise(2, 3, 8, 8) * 255).astype(np.uint8)),
        "wide.npy": npy(noise(2, 3, 8, 12)),
        "many.npy": npy(noise(8, 3, 8, 8)),
    }


WRONG_LIMITS = (
    "x" * 5000,
    "x",
    "?",
    "output.error < 1 x",
    "output.error > 1",
    "output.error < x",
    "output.error < 1e999",
    "output.error < 1 @ x",
    "output.error < 1 @ 9..1",
    "layers[x].error < 1",
    "layers.error < 1",
    "dice.p5 > 2",
    "verdict >= X",
    "verdict >= C1",
    "verdict >= C4 @ m",
)
COMMANDS = {
    "check": r"""
    '' | missing.pt | missing.py:make | net.py | net.py: | LONG | p | net.py:normed --weights w.pth |
    net.py:missing | missing:make | w.pth | w.safetensors | r.json | eight.pt --data eight.npy --dtype
    float64 | eight.pt --data eight.npy --dtype float16 | wide.npy | maps.pt --layout output=BNCD | m.pt2
    --input-shape 1,8,8 --data u.npy |  | --config missing | --config LONG | maps.pt --data p --labels
    l.csv
    """,
    "check m.pt": r"""
    --arg a=1 | --no-strict-weights | --weights w.pth | --dtype int8 | --device tpu | --device cuda:99 |
    --tf32 | --threads 0 | --group X0 | --layers missing | --layers head --limit 'layers["conv"].error < 1'
    | --output missing | --layout conv | --layout conv=XX | --layout missing=BCHW | --layout conv=BC |
    --layout conv=BNC | --task segmentation | --batch-size x | --input-shape 8,8 | --input-shape 3,9,9 |
    --input-shape 2,8,8 --data u.npy | --input-shape 3,8,8 --resize 4,4 --data u.npy | --resize 60000,60000
    --data u.npy | --resize 9,9 | --mean 0,x | --mean 0,0 --std 1,1 --data u.npy | --mean 0,0,0 --std 1,1 |
    --std 0 | --max-error nan | --seed -1 | --samples -1 | --json '' | --json out | --json no/x | --json
    m.pt | --json out/LONG | --json out/a --report junit=out/a | --plots m.pt | --plots out/no/no |
    --plots '' | --report x | --baseline '' | --baseline missing | --baseline LONG | --update-baseline |
    --baseline r.json --samples 1 | --config eqaudit.toml | --labels '' | --labels missing |
    --labels i.npy:x | --labels d.npz:x | --labels i.npy | --labels folders | --labels l.csv --masks q |
    --mask-values binary
    """,
    "check net.py:make": r"""
    --arg width | --weights '' | --weights missing | --weights m.pt | --weights m.pt2 | --weights w.pth
    --arg width=5
    """,
    "diagnose": r"""
    eight.pt --data eight.npy | m.pt --group C3 | m.pt --output missing
    """,
    "check m.pt --data": r"""
    wide.npy | '' | builtin:x | missing | i.npy:x | d.npz:x | out | l.csv | p --labels d.npz:labels | p
    --labels folders | p --masks missing | p --masks p | p --masks out | p --masks q
    """,
    "check m.pt --limit": r"""
    'output.error < 1 @ r45' | 'output.error < 1 @ 30..60' | 'verdict >= D8'
    """,
    "sweep-angles m.pt": r"""
    --angles 0:360:0.01 | --angles 0:1 | --angles 9:0:1 | --angles x | --angles 999 | --angles 0,90
    --per-image | --angles 0,90 --json out/a --csv out/a
    """,
    "sweep-angles": r"""
    maps.pt --angles 0,45 --margin 99
    """,
    "features": r"""
    m.pt --layer conv --image p/a.png --plots out --angles 0:350:10
    """,
    "compare": r"""
    m.pt | m.pt m.pt --arg width=1 | m.pt net.py:make --weights w.pth --weights w.pth | m.pt maps.pt
    --angles 0,90 --group C4 | m.pt maps.pt --mirror | m.pt eight.pt --data p
    """,
    "init": r"""
     | m.pt --data many.npy --samples 1 | --force
    """,
    "render": r"""
    missing | LONG | c.json --report junit=out/x
    """,
}
"""Words that follow a command, between bars; LONG is longer than the name of a file may be."""


def _words(table: str) -> list[str]:
    return [words.strip().replace("LONG", LONG) for words in " ".join(table.split()).split("|")]


def _special() -> Iterator[Near]:
    """Put what is no file, or a giant one, in the place of every kind of file."""
    readers = {
        "x.pt": "check x.pt",
        "x.pth": "check net.py:make --weights x.pth",
        "x.npy": "check m.pt --data x.npy",
        "x.csv": "check m.pt --data p --labels x.csv",
        "p/x.png": "check m.pt --data p",
        "x.json": "render x.json",
        "x.toml": "check --config x.toml",
        "x": "check m.pt --json x",
    }
    for name, line in readers.items():
        for kind in (*special.KINDS, special.LINK + name.rpartition("/")[2].encode()):
            yield line, {name: kind}
        yield line, {f"{name}/x": b""}
    for size in (7 << 30, 9 << 30):
        for name in ("x.pt", "x.pth"):
            yield readers[name], {name: special.giant(size, b"PK\x03\x04")}
    header = npy(np.zeros((1, 1, 1), np.uint8)).replace(b"(1, 1, 1), }      ", b"(1000001, 1, 1), }")
    giants = {
        "x.npy": special.giant(1 << 21, header),
        "x.csv": special.giant((64 << 20) + 1),
        "x.json": special.giant((1 << 30) + 1),
        "x.toml": special.giant((1 << 20) + 1),
        "p/x.png": special.giant((1 << 30) + 1, b"\x89PNG\r\n\x1a\n"),
    }
    for name, content in giants.items():
        yield readers[name], {name: content}
    yield "check m.pt --data d", {"d/" * 66 + "x": b""}
    yield "check m.pt --data p", {"p/x.png": special.LINK + b"../m.pt"}


def _code() -> Iterator[Near]:
    """Give every source of the family of names in code, with a plain name."""
    for content, factory, images_of in sources.every():
        line = f"check s.py:{factory}" + (f" --data s.py:{images_of}" if images_of else "")
        yield line, {"s.py": content}
        if line == "check s.py:make":
            yield f"{line} --dtype float64", {"s.py": content}
    late = ("compare m.pt s.py:make", "diagnose s.py:make", "layers s.py:make", "check s.py:make --data p")
    for content, factory, _ in sources.every():
        if b"in called()" in content or b"assert" in content:
            yield from ((line, {"s.py": content}) for line in late)
        if factory == "made":
            yield "check s.py:made --arg a=1", {"s.py": content}
    yield "check s.py:make --timeout 1", {"s.py": sources.written("forward", "while True: pass")}
    yield "check x:make", {"x.py": b"import"}


def _texts(files: Mapping[str, bytes]) -> Iterator[Near]:
    """Break configurations and reports."""
    check = "[check.a]\nmodel = 'm.pt'\n"
    configurations = (
        "",
        "check = 1",
        "[check]\na = 1",
        "[check.a]\ndata = 'i.npy'",
        check + "odd = 1",
        check + "seed = 'x'",
        check + "json = '-'",
        check + "json = 'm.pt'",
        check + "json = 'a'\n[check.b]\nmodel = 'm.pt'\njson = 'a'",
        check + 'data = "a\\u0000b"',
        check + "limit = ['x']\nlimits = ['x']",
        check + "max-error = -1",
        check + "judge = 'odd'",
        check + "x",
        f"x = {'[' * 99}{']' * 99}",
        f"x = {'[' * 9999}{']' * 9999}",
        f"x = {'9' * 9999}",
        "\ud800",
        CONFIG,
    )
    for text in configurations:
        yield "check", {"eqaudit.toml": text.encode("utf-8", "surrogatepass")}
    yield "check --only missing", {"eqaudit.toml": CONFIG.encode()}
    yield "check", {"pyproject.toml": b"tool = 1"}
    yield "init m.pt", {"eqaudit.toml": b""}
    yield "init x\udcff.pt", {"x\udcff.pt": files["m.pt"]}
    yield from _reports(files)


def _reports(files: Mapping[str, bytes]) -> Iterator[Near]:
    report, both = (json.loads(files[name]) for name in ("r.json", "c.json"))
    found = [b"{", b'{"a": 1, "a": 1}', b'{"schema": "x/2"}', b'{"schema": "eqaudit.report/1"}']
    found += edited(both, both, "reports", [both["reports"][:1]])
    found += edited(both, both, "timing", [[]] if not both["timing"] else [both["timing"][:1]])
    found += edited(both, both["differences"][0], "first", [9])
    found += edited(both, both["reports"][0]["inputs"], "fingerprint", ["x"])
    for content in found:
        yield "render x.json", {"x.json": content}
    judged = edited(report, report["per_image"]["output"], "r90", [[0.5]])
    told = report["predictions"]["by_element"][0]
    judged += edited(report, told, "accuracy", [told["total_variation"]])
    for content in judged:
        yield "check m.pt --baseline x.json", {"x.json": content}
    bomb = build([Raw(b"ids.npy", npy(noise(9)), size=2**31)])
    for archive, digest in ((b"", "x"), (b"", ""), (bomb, "")):
        table = {**report["per_image"], "file": BESIDE, "sha256": digest or sha256(archive).hexdigest()}
        yield (
            "check m.pt --baseline r.json",
            {"r.json": json.dumps({**report, "per_image": table}).encode(), BESIDE: archive},
        )
