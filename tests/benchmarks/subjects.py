"""One subject of the benchmark, timed in this process: prints seconds by stage and peak memory as JSON."""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise

import numpy as np
import torch
from networks import make
from skimage.transform import rotate
from torch import nn
from torch.nn import functional

from eqaudit import engine
from eqaudit.allocator import large_blocks_kept
from eqaudit.data import array_images
from eqaudit.engine.base import Progress
from eqaudit.loader import wrap_module
from eqaudit.parsing import parse_angles
from eqaudit.plan import AuditPlan, FileModel, InputOptions, SpaceOptions

ANGLES = "15:360:15"
STAGES = {
    "measuring the floor": "floor",
    "fitting how channels turn": "fit",
    "measuring": "loop",
    "float64 rerun": "float64",
}


def passes(elements: str) -> int:
    """Return how many times the images go through the model: unmoved, and once for each element."""
    return 8 if elements == "D4" else 25


def make_images(count: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return smooth random images, (N, C, H, W)."""
    noise = torch.rand((count, shape[0], 12, 12), generator=torch.Generator().manual_seed(0))
    return functional.interpolate(noise, size=shape[1:], mode="bicubic").clamp(0, 1)


def run_plain(
    net: Callable[[torch.Tensor], object], images: torch.Tensor, batch: int, elements: str
) -> float:
    """Time the bare forward passes."""
    with torch.no_grad(), large_blocks_kept():
        net(images[:batch])
        start = time.perf_counter()
        for _ in range(passes(elements)):
            for part in torch.split(images, batch):
                net(part)
    return time.perf_counter() - start


def run_ready(net: nn.Module, images: torch.Tensor, batch: int, elements: str, how: str) -> float:
    """Time passes of a network that was folded and frozen, or compiled, channels last."""
    images = images.contiguous(memory_format=torch.channels_last)
    for weight in net.parameters():
        if weight.ndim == images.ndim:
            weight.data = weight.data.contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        if how == "compiled":
            ready: Callable[[torch.Tensor], object] = torch.compile(net)
        else:
            traced = torch.jit.trace(net, images[:batch])  # type: ignore[no-untyped-call]
            ready = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
        for _ in range(3):
            ready(images[:batch])
    return run_plain(ready, images, batch, elements)


def run_skimage(net: nn.Module, images: torch.Tensor, elements: str) -> float:
    """Time the loop that people write: each image turned by skimage, one call each, the output's error."""
    angles = np.linspace(0, 360, passes(elements))[1:]
    start = time.perf_counter()
    with torch.no_grad():
        for image in images:
            still = net(image[None])
            array = image.permute(1, 2, 0).numpy()
            for angle in angles:
                turned = rotate(array, angle, order=1).transpose(2, 0, 1)  # type: ignore[no-untyped-call]
                found = net(torch.from_numpy(turned.astype(np.float32))[None])
                float((found - still).norm() / still.norm())
    return time.perf_counter() - start


def run_hooks(net: nn.Module, images: torch.Tensor, batch: int, elements: str) -> float:
    """Time hooks on every layer, each map turned whole, each difference a tensor of its own."""
    seen: dict[str, torch.Tensor] = {}
    for name, module in net.named_modules():
        module.register_forward_hook(lambda _m, _i, value, name=name: seen.__setitem__(name, value))
    start = time.perf_counter()
    with torch.no_grad():
        for part in torch.split(images, batch):
            net(part)
            kept = {name: value.clone() for name, value in seen.items()}
            for angle in np.linspace(0, 360, passes(elements))[1:]:
                net(_turn(part, angle))
                for name, value in seen.items():
                    expected = _turn(kept[name], angle) if value.ndim == part.ndim else kept[name]
                    float((value - expected).square().sum() / expected.square().sum())
    return time.perf_counter() - start


def _turn(maps: torch.Tensor, angle: float) -> torch.Tensor:
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    matrix = torch.tensor([[cosine, -sine, 0], [sine, cosine, 0]], dtype=maps.dtype)
    grid = functional.affine_grid(matrix.expand(len(maps), 2, 3), list(maps.shape), align_corners=False)
    return functional.grid_sample(maps, grid, align_corners=False)


def run_audit(
    net: nn.Module, images: torch.Tensor, batch: int, elements: str, subject: str
) -> dict[str, float]:
    """Time the stages of an audit."""
    inputs = InputOptions(batch_size=batch)
    plan = AuditPlan(
        FileModel("net"),
        inputs,
        angles=() if elements == "D4" else parse_angles(ANGLES),
        layers=("none",) if subject.startswith("output") else (),
        space=SpaceOptions(floor_samples=8 if subject.endswith("+floor") else 0),
    )
    model = wrap_module(net, "net", torch.device("cpu"))
    with stage_times() as (stages, progress):
        engine.audit(model, array_images(images.numpy(), inputs), plan, progress)
    return stages


@contextmanager
def stage_times() -> Iterator[tuple[dict[str, float], Progress]]:
    """Time the stages of an audit that is given the callback; the seconds are there when it has ended."""
    marks: list[tuple[str, float]] = []
    stages: dict[str, float] = {}

    def progress(stage: str, _done: int, _total: int) -> None:
        if not marks or marks[-1][0] != stage:
            marks.append((stage, time.perf_counter()))

    yield stages, progress
    marks.append(("end", time.perf_counter()))
    for (stage, start), (_, end) in pairwise(marks):
        name = STAGES.get(stage, "before")
        stages[name] = stages.get(name, 0.0) + end - start


def main() -> None:
    """Run the subject that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network")
    parser.add_argument("elements", choices=("D4", "angles"))
    parser.add_argument("subject")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--images", type=int, default=64)
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    net, shape = make(options.network)
    images, batch, elements = make_images(options.images, shape), options.batch, options.elements
    match options.subject:
        case "bare":
            stages = {"loop": run_plain(net, images, batch, elements)}
        case "frozen" | "compiled":
            stages = {"loop": run_ready(net, images, batch, elements, options.subject)}
        case "skimage":
            stages = {"loop": run_skimage(net, images, elements)}
        case "hooks":
            stages = {"loop": run_hooks(net, images, batch, elements)}
        case _:
            stages = run_audit(net, images, batch, elements, options.subject)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps(stages | {"peak": peak}) + "\n")


if __name__ == "__main__":
    main()
