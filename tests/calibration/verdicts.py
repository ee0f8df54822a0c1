"""Count wrong verdicts on random exact and broken networks.

Run: python tests/calibration/verdicts.py [--count 200] [--seed 0]

The thresholds of `eqaudit.metrics.classes` were chosen so that this table has no wrong verdict.
"""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import eqaudit
from eqaudit.report import Report

sys.path.append(str(Path(__file__).parents[2] / "fixtures" / "models"))

from _p4 import P4Conv, p4_layers
from _standard import Average, move, move_back
from _weights import make_isotropic, seeded


@dataclass(frozen=True)
class Variant:
    """A network, the group that it is asked for, and whether that group holds exactly."""

    name: str
    model: nn.Module
    group: str
    exact: bool


class Wrapped(nn.Module):
    """A network followed by a fixed function of its output."""

    def __init__(self, network: nn.Module, last: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.network, self.last = network, last

    def forward(self, image: Tensor) -> Tensor:
        """Return the changed output."""
        return self.last(self.network(image))


class Defect(nn.Module):
    """One pixel of one channel multiplied: the smallest defect that a border bug leaves."""

    def __init__(self, factor: float, row: int) -> None:
        super().__init__()
        self.factor, self.row = factor, row

    def forward(self, features: Tensor) -> Tensor:
        """Return a copy of (B, C, H, W) with one pixel changed."""
        changed = features.clone()
        changed[:, 0, self.row, 0] *= self.factor
        return changed


class Orbit(nn.Module):
    """Maps of a plain convolution, turned back and averaged over D4: exactly D4 as plain maps."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network, self.average = network, Average()

    def forward(self, image: Tensor) -> Tensor:
        """Return the averaged maps."""
        maps = [move_back(self.network(move(image, index)), index) for index in range(8)]
        averaged: Tensor = self.average(torch.stack(maps))
        return averaged


def p4(number: int, *, depth: int, stride: int = 1) -> nn.Sequential:
    """Return a p4 network with random weights; deep ones amplify rounding, as `deep_exact` does."""
    layers = p4_layers(fields=3, depth=depth, stride=stride)
    model: nn.Sequential = seeded(nn.Sequential(layers), seed=number, gain=2.1 if depth > 6 else 6.0**0.5)
    for layer in model if depth > 6 else ():
        if isinstance(layer, P4Conv):
            layer.weight.data -= layer.weight.data.roll(1, 1)
    return model


def plain(number: int, *, isotropic: bool = False, depth: int = 3) -> nn.Sequential:
    """Return a plain pooled network; isotropic kernels make it exactly D4."""
    layers: list[nn.Module] = []
    for index in range(depth):
        layers += [nn.Conv2d(3 if index == 0 else 8, 8, 3, padding=1), nn.ReLU()]
    model: nn.Sequential = seeded(
        nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)), seed=number
    )
    for layer in model if isotropic else ():
        if isinstance(layer, nn.Conv2d):
            make_isotropic(layer)
    return model


def default_deep(number: int) -> nn.Module:
    """Return twenty plain layers of default weights: features so constant that the relative error is 1e-8."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(number)
        layers = [part for _ in range(20) for part in (nn.Conv2d(8, 8, 3, padding=1), nn.ReLU())]
        pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5)]
        return nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *layers, *pooled).eval()


def variants(count: int, seed: int) -> Iterator[Variant]:
    """Yield networks of known truth, of each family in turn."""
    numbers = np.random.default_rng(seed)
    families: list[Callable[[int], Variant]] = [
        lambda n: Variant("p4", p4(n, depth=1 + n % 5), "C4", exact=True),
        lambda n: Variant("plain", plain(n), "D4", exact=False),
        lambda n: Variant(
            "p4 with logits offset by 1,000", Wrapped(p4(n, depth=3), _offset), "C4", exact=True
        ),
        lambda n: Variant(
            "p4 with one pixel changed", nn.Sequential(Defect(1.5, n % 31), p4(n, depth=3)), "C4", exact=False
        ),
        lambda n: Variant("isotropic", plain(n, isotropic=True), "D4", exact=True),
        lambda n: Variant("p4 asked for mirrors", p4(n, depth=3), "D4", exact=False),
        lambda n: Variant("p4, 40 layers", p4(n, depth=40), "C4", exact=True),
        lambda n: Variant("p4 with an uneven stride", p4(n, depth=3, stride=2), "C4", exact=False),
        lambda n: Variant(
            "orbit-averaged maps", Orbit(seeded(nn.Conv2d(3, 4, 5, padding=2), seed=n)), "D4", exact=True
        ),
        lambda n: Variant("plain, saturated softmax", Wrapped(plain(n), _saturate), "D4", exact=False),
        lambda n: Variant(
            "isotropic, softmax", Wrapped(plain(n, isotropic=True), _softmax), "D4", exact=True
        ),
        lambda n: Variant("plain, 20 layers of default weights", default_deep(n), "D4", exact=False),
        lambda n: Variant(
            "isotropic, outputs of 1e-12", Wrapped(plain(n, isotropic=True), _shrink), "D4", exact=True
        ),
        lambda n: Variant("constant", Wrapped(plain(n), _forget), "D4", exact=False),
    ]
    for place in range(count):
        yield families[place % len(families)](int(numbers.integers(2**31)))


def _offset(logits: Tensor) -> Tensor:
    return logits + 1_000.0


def _shrink(logits: Tensor) -> Tensor:
    return logits * 1e-12


def _softmax(logits: Tensor) -> Tensor:
    return logits.softmax(dim=1)


def _saturate(logits: Tensor) -> Tensor:
    ahead = torch.tensor([25.0, 0.0, 0.0, 0.0, 0.0], dtype=logits.dtype)
    return (logits + ahead).softmax(dim=1)


def _forget(logits: Tensor) -> Tensor:
    return torch.zeros_like(logits) + 3.0


def measure(variant: Variant, samples: int = 16) -> Report:
    """Audit a variant on built-in photographs of 32x32."""
    return eqaudit.audit(variant.model, group=variant.group, samples=samples, input_shape=(3, 32, 32))


def main() -> None:
    """Print how many verdicts are right and wrong, by family."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    right, wrong = Counter[str](), Counter[str]()
    for variant in variants(options.count, options.seed):
        report = measure(variant)
        passed = report.gate is not None and report.gate.passed
        (right if passed == variant.exact else wrong)[variant.name] += 1
    print(f"{'family':40}  right  wrong")
    for name in {**right, **wrong}:
        print(f"{name:40} {right[name]:6} {wrong[name]:6}")
    print(f"{'sum':40} {right.total():6} {wrong.total():6}")


if __name__ == "__main__":
    main()
