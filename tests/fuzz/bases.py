"""The whole inputs that are broken: tiny files of every kind, and the commands that read them."""

import io
import json
import struct
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tifffile
import torch
from PIL import Image
from test_exported import export
from test_quantized import save as save_quantized
from test_weights import SOURCE, legacy, tensors_file, trained, zipped
from torch import Tensor, nn

from eqaudit.report import from_json, to_json
from eqaudit.reporters import per_image

from . import special, warm

SIDE = 8
IMAGES = ("--data", "i.npy", "--seed", "0", "--timeout", "30")
AUDIT = (*IMAGES, "--group", "C4", "--json", "-")
OLD = b"an old report\n"
BESIDE = "r.json.per-image.npz"
CONFIG = """\
group = "C4"
samples = 1
data = "i.npy"
input-shape = "3,8,8"

[check.first]
model = "m.pt"
json = "first.json"
limits = ["output.error < 1e-3", 'layers["*"].normalised < 0.5 @ r90']
seed = 3

[check.second]
model = "m.pt"
angles = "0:90:45"
boundary = "zeros"
"""
LABELS = "file,label\na.png,0\nb.png,1\n"


@dataclass(frozen=True, slots=True)
class Base:
    """A command that ends well, the files that it reads, and which of them may be broken.

    ``sealed``: the files carry checksums, so that damage cannot pass for content. ``writes``: what may change
    beside the folder ``out``.
    """

    name: str
    files: dict[str, bytes]
    arguments: tuple[str, ...]
    targets: tuple[str, ...]
    sealed: bool = False
    configured: bool = False
    writes: tuple[str, ...] = ()


class Net(nn.Module):
    """Two layers with weights, a buffer and a constant."""

    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = nn.Conv2d(3, 2, 3, padding=1), nn.BatchNorm2d(2), nn.Linear(2, 3)
        self.register_buffer("shift", torch.full((3, 1, 1), 0.5))

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, 3)."""
        answer: Tensor = self.head(torch.relu(self.norm(self.conv(image - self.shift))).mean((2, 3)) * 2.0)
        return answer


def make_bases(folder: Path) -> tuple[Base, ...]:
    """Make every base; reports are written by the command itself, in a folder of its own."""
    models = [*_models()]
    whole = next(base for base in models if base.name == "scripted")
    return (*models, *_pictures(whole), *_arrays(whole), *_texts(whole, folder))


def noise(*shape: int, seed: int = 1) -> Any:
    """Return seeded numbers from 0 to 1."""
    return np.random.default_rng(seed).random(shape, dtype=np.float32)


def npy(array: Any) -> bytes:
    """Return the file of an array."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _saved(module: Any) -> bytes:
    buffer = io.BytesIO()
    torch.jit.save(module, buffer)
    return buffer.getvalue()


def _models() -> Iterable[Base]:
    torch.manual_seed(0)
    net, images = Net().eval(), torch.from_numpy(noise(2, 3, SIDE, SIDE))
    grey, colour = npy(noise(1, 1, 16, 16)), npy(noise(1, 3, SIDE, SIDE))
    files = {
        "scripted": ("m.pt", _saved(torch.jit.script(net)), colour),
        "traced": ("m.pt", _saved(torch.jit.trace(net, images)), colour),  # type: ignore[no-untyped-call]
        "frozen": ("m.pt", _saved(torch.jit.freeze(torch.jit.script(net))), colour),
        "quantised": ("m.pt", save_quantized("static, scripted"), grey),
        "exported": ("m.pt2", export(net, images, dynamic=True), colour),
    }
    for name, (file, content, data) in files.items():
        parts = {file: content, "i.npy": data}
        yield Base(name, parts, ("check", file, *AUDIT), (file,), sealed=True)
        if name in {"scripted", "exported"}:
            yield Base(f"{name}, listed", parts, ("layers", file, "--json", "-"), (file,), sealed=True)
            yield Base(f"{name}, in the table", parts, ("check", file, *AUDIT[:-2]), (file,), sealed=True)
    state = trained().state_dict()
    # Storages of this format are named and ordered by their addresses: there is one, for all tensors.
    shared = torch.cat([tensor.flatten().float() for tensor in state.values()])
    pieces = torch.split(shared, [tensor.numel() for tensor in state.values()])
    views = {name: piece.view(state[name].shape) for name, piece in zip(state, pieces, strict=True)}
    address = str(shared.untyped_storage()._cdata).encode()
    old = legacy(views).replace(struct.pack("<L", len(address)) + address, struct.pack("<L", 1) + b"0")
    checkpoints = {"w.pth": zipped(state), "old.pth": old, "w.safetensors": tensors_file(state)}
    for file, content in checkpoints.items():
        parts = {"net.py": SOURCE.encode(), file: content, "i.npy": colour}
        command = ("check", "net.py:make", "--weights", file, *AUDIT)
        yield Base(f"weights {file}", parts, command, (file,), sealed=file == "w.pth")


def _pictures(model: Base) -> Iterable[Base]:
    pixels = (noise(SIDE, SIDE, 3, seed=2) * 255).astype(np.uint8)
    pictures = {
        "a.png": encoded(pixels, "png"),
        "a.jpeg": encoded(pixels, "jpeg", quality=95),
        "a.bmp": encoded(pixels, "bmp"),
        "a.webp": encoded(pixels, "webp", lossless=True),
    }
    for file, compression in {"a.tif": None, "b.tif": "deflate"}.items():
        buffer = io.BytesIO()
        tifffile.imwrite(buffer, pixels, photometric="rgb", compression=compression, metadata=None)
        pictures[file] = buffer.getvalue()
    for file, content in pictures.items():
        yield _with_data(model, f"picture {file}", {f"p/{file}": content}, "p", sealed=file == "a.png")
    grey = (noise(SIDE, SIDE, seed=3) * 255).astype(np.uint8)
    both = {"p/a.png": pictures["a.png"], "p/b.png": encoded(pixels[::-1], "png")}
    yield _with_data(
        model, "labels", both | {"l.csv": LABELS.encode()}, "p", "--labels", "l.csv", targets=("l.csv",)
    )
    yield _with_data(
        model,
        "class folders",
        {f"p/{name[2]}/{name[2:]}": one for name, one in both.items()},
        "p",
        "--labels",
        "folders",
    )
    masks = {"q/a.png": encoded(grey % 3, "png"), "q/b.png": encoded(grey % 2, "png")}
    segments = Base("", {"m.pt": _saved(torch.jit.script(nn.Conv2d(3, 3, 3, padding=1).eval()))}, (), ())
    yield _with_data(segments, "masks", both | masks, "p", "--masks", "q", targets=tuple(masks))


def encoded(pixels: Any, kind: str, **options: Any) -> bytes:
    """Return the file of a picture."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def _arrays(model: Base) -> Iterable[Base]:
    images, labels = noise(2, 3, SIDE, SIDE), np.array([0, 2])
    alone, buffer = io.BytesIO(), io.BytesIO()
    np.savez(alone, images=images)
    np.savez(buffer, images=images, labels=labels)
    yield _with_data(model, "array", {"d.npy": npy(images)}, "d.npy")
    # Of labels beside them that nobody asks for, an archive may be without.
    yield _with_data(model, "archive", {"d.npz": alone.getvalue()}, "d.npz:images", sealed=True)
    yield _with_data(
        model,
        "labels in an archive",
        {"d.npz": buffer.getvalue()},
        "d.npz:images",
        "--labels",
        "d.npz:labels",
        sealed=True,
    )


def _with_data(
    model: Base,
    name: str,
    files: dict[str, bytes],
    data: str,
    *options: str,
    targets: tuple[str, ...] = (),
    sealed: bool = False,
) -> Base:
    arguments = ("check", "m.pt", "--data", data, *options, *AUDIT[2:])
    return Base(name, {"m.pt": model.files["m.pt"], **files}, arguments, targets or tuple(files), sealed)


def _texts(model: Base, folder: Path) -> Iterable[Base]:
    second = {**model.files, "i.npy": npy(noise(2, 3, SIDE, SIDE))}
    commands = {
        "report": ("check", "m.pt", *AUDIT[:-1], "out/r.json"),
        "sweep": ("sweep-angles", "m.pt", *IMAGES, "--angles", "0:90:45", "--json", "out/r.json"),
        "comparison": ("compare", "m.pt", "m.pt", *IMAGES, "--json", "out/r.json"),
        "diagnosis": ("diagnose", "m.pt", *IMAGES, "--json", "out/r.json"),
    }
    for name, command in commands.items():
        report = _written(replace(model, files=second, arguments=command), folder / name)
        yield Base(name, {"r.json": report}, ("render", "r.json"), ("r.json",))
        if name in {"report", "sweep"}:
            again = (*command[:-1], "-", "--baseline", "r.json")
            yield Base(f"baseline, {name}", {**second, "r.json": report}, again, ("r.json",))
            parts = _split(report)
            yield Base(f"{name} in parts", parts, ("render", "r.json"), (BESIDE,), sealed=True)
            yield Base(f"baseline, {name} in parts", second | parts, again, (BESIDE,), sealed=True)
    files = {**model.files, "eqaudit.toml": CONFIG.encode()}
    yield Base("proposal", second, ("init", "m.pt", *IMAGES), ("m.pt",), writes=("eqaudit.toml",))
    yield Base("configuration", files, ("check",), ("eqaudit.toml",), configured=True)


def _written(base: Base, folder: Path) -> bytes:
    lay_out(base.files, folder)
    ended = warm.run(base.arguments, folder)
    report = folder / "work/out/r.json"
    if ended.code not in {0, 1} or report.read_bytes() == OLD:
        raise RuntimeError(f"{base.name} is no whole input: {ended.stderr.decode()}")
    content: dict[str, Any] = json.loads(report.read_bytes())
    if "timing" in content:
        content["timing"] = [dict.fromkeys(times, 1) for times in content["timing"]]
    return json.dumps(content).encode()


def _split(report: bytes) -> dict[str, bytes]:
    """Write a report as one of many images is written, its values for each image beside it."""
    with mock.patch.object(per_image, "LARGEST_INLINE", 0):
        main, values = per_image.split_per_image(from_json(report, ""), BESIDE)
    return {"r.json": to_json(main), BESIDE: values or b""}


def lay_out(files: dict[str, bytes], folder: Path) -> None:
    """Write the files of an input into ``folder/work``, empty folders beside it, and an old report."""
    for name in ("home", "tmp", "work/out"):
        (folder / name).mkdir(parents=True)
    for name, content in {**files, "out/r.json": OLD}.items():
        path = folder / "work" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        special.lay(path, content)
