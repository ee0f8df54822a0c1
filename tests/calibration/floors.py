"""Compare errors with their floors, on networks that are equivariant in the continuum and on others.

Run: python tests/calibration/floors.py [--seeds 4] [--first-seed 0] [--interpolation spline]
     [--boundary disc]

Isotropic networks have kernels made of Gaussian rings. With escnn installed, C16 and SO(2) networks and a
plain one of their size are measured too. Ratios of error and floor leave out errors below 0.01, which count
as the measurement's own anyhow. The limits of `eqaudit.metrics.classes` were chosen from this table.
"""

import argparse
import importlib.util
import math
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import torch
from torch import nn

from eqaudit import engine
from eqaudit.data import open_images
from eqaudit.loader import wrap_module
from eqaudit.parsing import parse_angles
from eqaudit.plan import AuditPlan, Boundary, FileModel, InputOptions, Method, SpaceOptions
from eqaudit.report import ElementError

sys.path.append(str(Path(__file__).parents[2] / "fixtures"))
sys.path.append(str(Path(__file__).parents[2] / "fixtures" / "models"))

from _p4 import p4_layers
from _weights import seeded

SIDE = 65
IMAGES = 16
ANGLES = "10:80:10"
NEGLIGIBLE = 0.01


class Isotropic(nn.Conv2d):
    """A convolution whose kernels are random mixtures of Gaussian rings, 7x7: equivariant to every turn."""

    def __init__(self, channels: int, features: int, generator: torch.Generator, stride: int = 1) -> None:
        super().__init__(channels, features, 7, padding=3, stride=stride)
        places = torch.arange(7) - 3.0
        radius = torch.hypot(places.unsqueeze(1), places)
        rings = torch.stack([torch.exp(-((radius - ring) ** 2) / 0.98) for ring in (0.0, 1.0, 2.0)])
        rings /= rings.sum((1, 2), keepdim=True)
        mix = torch.randn(features, channels, 3, generator=generator) * math.sqrt(6 / channels)
        self.weight.data = torch.einsum("fcr,rij->fcij", mix, rings)
        self.bias = nn.Parameter(torch.randn(features, generator=generator) * 0.1)


def isotropic(seed: int, *, stride: int = 1, pooled: bool = False) -> nn.Module:
    """Return three isotropic convolutions with ReLU, ending in maps or pooled."""
    generator = torch.Generator().manual_seed(seed)
    layers: list[nn.Module] = []
    for index, (channels, features) in enumerate(((3, 8), (8, 8), (8, 6))):
        layers += [Isotropic(channels, features, generator, stride if index else 1), nn.ReLU()]
    return finish(layers[:-1], pooled=pooled)


def plain(seed: int, *, pooled: bool = False, depth: int = 2) -> nn.Module:
    """Return ordinary 3x3 convolutions with ReLU, ending in maps or pooled."""
    layers: list[nn.Module] = []
    for index in range(depth):
        layers += [nn.Conv2d(8 if index else 3, 8, 3, padding=1), nn.ReLU()]
    return seeded(finish(layers[:-1], pooled=pooled), seed)


def p4(seed: int, *, pooled: bool) -> nn.Module:
    """Return a p4 network: exact at quarter turns, and nothing between."""
    layers = p4_layers(fields=3)
    if not pooled:
        del layers["pool"], layers["head"]
    return seeded(nn.Sequential(layers), seed)


def finish(layers: list[nn.Module], *, pooled: bool) -> nn.Sequential:
    """Put layers together; pooled networks end in the spatial mean of each channel."""
    end = [nn.AdaptiveAvgPool2d(1), nn.Flatten()] if pooled else []
    return nn.Sequential(*layers, *end).eval()


def blur(_seed: int) -> nn.Module:
    """Return a Gaussian blur of each channel, sigma 1."""
    places = torch.arange(9) - 4.0
    row = torch.exp(-(places**2) / 2)
    layer = nn.Conv2d(3, 3, 9, padding=4, groups=3, bias=False)
    layer.weight.data = (torch.outer(row, row) / row.sum() ** 2).expand(3, 1, 9, 9).clone()
    return nn.Sequential(layer)


Factory = Callable[[int], nn.Module]

EQUIVARIANT: dict[str, Factory] = {
    "identity": lambda _seed: nn.Sequential(nn.Identity()),
    "blur": blur,
    "isotropic": isotropic,
    "isotropic, stride 2": lambda seed: isotropic(seed, stride=2),
    "isotropic, pooled": lambda seed: isotropic(seed, pooled=True),
    "isotropic, stride 2, pooled": lambda seed: isotropic(seed, stride=2, pooled=True),
}
OTHER: dict[str, Factory] = {
    "plain": plain,
    "plain, pooled": lambda seed: plain(seed, pooled=True),
    "plain, 4 layers": lambda seed: plain(seed, depth=4),
    "p4": lambda seed: p4(seed, pooled=False),
    "p4, pooled": lambda seed: p4(seed, pooled=True),
}


def add_escnn() -> None:
    """Add the networks of the independent library where it is installed."""
    if importlib.util.find_spec("escnn") is None:
        return
    from independent.networks import build_network  # noqa: PLC0415 - only there

    for pooled in (False, True):
        end = ", pooled" if pooled else ""
        for kind in ("c16", "so2"):
            EQUIVARIANT[kind + end] = lambda seed, kind=kind, pooled=pooled: build_network(kind, seed, pooled)  # type: ignore[misc]
        OTHER["plain, same size" + end] = lambda seed, pooled=pooled: build_network("plain", seed, pooled)  # type: ignore[misc]


def measure(model: nn.Module, seed: int, space: SpaceOptions, angles: str = ANGLES) -> list[ElementError]:
    """Return the errors of the output at the angles, on images drawn by the seed."""
    inputs = InputOptions(samples=IMAGES, seed=seed, input_shape=(3, SIDE, SIDE))
    plan = AuditPlan(FileModel("model"), inputs, angles=parse_angles(angles), space=space, layers=("none",))
    audited = engine.audit(
        wrap_module(model, "model", torch.device("cpu")), open_images(inputs), plan, lambda *_: None
    )
    return audited.report.gating_output.errors


def line(name: str, errors: list[ElementError]) -> str:
    """Return one row of the table."""
    resolved = [error for error in errors if error.floor and (error.error or 0) >= NEGLIGIBLE]
    ratios = sorted((error.error or 0) / (error.floor or 1) for error in resolved)
    shares = sorted(error.normalised or 0 for error in errors)
    counts = Counter(error.class_ for error in errors)
    classes = ", ".join(f"{count} {kind}" for kind, count in counts.most_common())
    span = f"{ratios[0]:.2f} to {ratios[-1]:.2f}" if ratios else "-"
    return f"{name:30} {span:>14}   {shares[0]:6.1%} to {shares[-1]:6.1%}   {classes}"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, default=4)
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--interpolation", choices=get_args(Method), default="spline")
    parser.add_argument("--feature-interpolation", choices=get_args(Method))
    parser.add_argument("--boundary", choices=get_args(Boundary), default="disc")
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    space = SpaceOptions(
        options.boundary, options.interpolation, options.feature_interpolation or options.interpolation
    )
    add_escnn()
    print(f"{'network':30} {'error / floor':>14}   {'share of chance':>16}   classes at {ANGLES} degrees")
    for name, factory in (EQUIVARIANT | OTHER).items():
        if options.only in name:
            seeds = range(options.first_seed, options.first_seed + options.seeds)
            print(
                line(name, [error for seed in seeds for error in measure(factory(seed), seed, space)]),
                flush=True,
            )


if __name__ == "__main__":
    main()
