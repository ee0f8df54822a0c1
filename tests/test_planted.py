"""Networks as people write them, each with one planted cause, with a leak that training found, or healthy."""

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from group_networks import images, seeded
from torch import Tensor, nn
from torch.nn import functional

import eqaudit
from eqaudit.report import Diagnosis

sys.path.append(str(Path(__file__).parents[1] / "fixtures" / "models"))
from _group import GroupConv
from _p4 import P4Conv, P4Lift, P4Pool, P4RotationPool
from _weights import seeded as fixture_weights

FIELDS, CHANNELS, SIDE, COUNT = 4, 16, 16, 8
WIDTH = 24
"""Of a transformer: no square, which would leave open whether tokens or channels are a grid."""
Make = Callable[[], nn.Module]


class Plain(nn.Module):
    """A function of tensors as a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, features: Tensor) -> Tensor:
        """Apply it."""
        return self.function(features)


class Joined(nn.Module):
    """Adds a parameter, or multiplies by it."""

    def __init__(self, start: Tensor, *, times: bool = False) -> None:
        super().__init__()
        self.learnt, self.times = nn.Parameter(start), times

    def forward(self, features: Tensor) -> Tensor:
        """Join."""
        return features * self.learnt if self.times else features + self.learnt


class WeightedOrbit(nn.Module):
    """A weighted mean of the four channels of each field, with equal weights at first."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.full((4,), 0.25))

    def forward(self, features: Tensor) -> Tensor:
        """Average, `(B, 4 F, H, W)` to `(B, F, H, W)`."""
        return torch.einsum("bfghw,g->bfhw", torch.unflatten(features, 1, (-1, 4)), self.weights)


class Excitation(nn.Module):
    """Squeeze and excitation, which gates channels by plain linear layers."""

    def __init__(self) -> None:
        super().__init__()
        self.squeeze, self.excite = nn.Linear(CHANNELS, 8), nn.Linear(8, CHANNELS)

    def forward(self, features: Tensor) -> Tensor:
        """Gate."""
        gate = torch.sigmoid(self.excite(torch.relu(self.squeeze(features.mean((2, 3))))))
        return features * gate[:, :, None, None]


class UNet(nn.Module):
    """Two levels with a skip connection; what does not fit is cropped or padded, as is the custom."""

    def __init__(self, down: nn.Module, up: nn.Module) -> None:
        super().__init__()
        self.lift, self.middle, self.down, self.up = P4Lift(3, FIELDS), P4Conv(FIELDS, FIELDS), down, up
        self.join, self.orbit = P4Conv(2 * FIELDS, FIELDS), P4RotationPool()
        self.head = nn.Conv2d(FIELDS, 2, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Segment."""
        skip = torch.relu(self.lift(pictures))
        up = self.up(torch.relu(self.middle(self.down(skip))))[..., : skip.shape[-2], : skip.shape[-1]]
        up = functional.pad(up, (0, skip.shape[-1] - up.shape[-1], 0, skip.shape[-2] - up.shape[-2]))
        return self.head(self.orbit(torch.relu(self.join(torch.cat([skip, up], 1)))))  # type: ignore[no-any-return]


class Residual(nn.Module):
    """A residual block whose shortcut is computed after the branch."""

    def __init__(self, norm: nn.Module, stride: int = 1) -> None:
        super().__init__()
        self.stem, self.branch, self.norm = P4Lift(3, FIELDS), P4Conv(FIELDS, FIELDS, stride), norm
        self.shortcut, self.pool = P4Conv(FIELDS, FIELDS, stride), P4Pool()
        self.head = nn.Linear(FIELDS, 5)

    def forward(self, pictures: Tensor) -> Tensor:
        """Classify."""
        stem = torch.relu(self.stem(pictures))
        branch = self.norm(self.branch(stem))
        return self.head(self.pool(torch.relu(branch + self.shortcut(stem))))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """A transformer on isotropic patches, with torch's own layers."""

    def __init__(self, position: Tensor | None = None, *, flat: bool = False) -> None:
        super().__init__()
        self.patches, self.position, self.flat = isotropic(3, WIDTH, 2, stride=2), position, flat
        layer = nn.TransformerEncoderLayer(WIDTH, 2, 32, 0.0, batch_first=True, norm_first=True)
        self.encoder = nn.TransformerEncoder(layer, 1, enable_nested_tensor=False)
        self.head = nn.Linear(WIDTH * 64 if flat else WIDTH, 5)

    def forward(self, pictures: Tensor) -> Tensor:
        """Classify."""
        tokens = self.patches(pictures).flatten(2).transpose(1, 2)
        tokens = self.encoder(tokens if self.position is None else tokens + self.position)
        return self.head(tokens.flatten(1) if self.flat else tokens.mean(1))  # type: ignore[no-any-return]


class Windows(nn.Module):
    """Attention inside windows, rolled first and rolled back, with a bias between tokens if there is one."""

    def __init__(self, side: int, shift: int, bias: Tensor | None = None) -> None:
        super().__init__()
        self.patches, self.mix = isotropic(3, CHANNELS, 1), nn.Linear(CHANNELS, 3 * CHANNELS)
        self.side, self.shift, self.bias, self.head = side, shift, bias, nn.Linear(CHANNELS, 5)

    def forward(self, pictures: Tensor) -> Tensor:
        """Classify."""
        maps = self.patches(pictures).permute(0, 2, 3, 1)
        rolled = torch.roll(maps, (-self.shift, -self.shift), (1, 2))
        batch, height, width, channels = maps.shape
        cells = (batch, height // self.side, self.side, width // self.side, self.side, channels)
        tokens = rolled.view(cells).transpose(2, 3).reshape(-1, self.side**2, channels)
        query, key, value = self.mix(tokens).chunk(3, -1)
        weights = query @ key.transpose(1, 2)
        mixed = (weights if self.bias is None else weights + self.bias).softmax(-1) @ value
        back = mixed.view(-1, cells[1], cells[3], self.side, self.side, channels).transpose(2, 3)
        rolled = torch.roll(back.reshape(maps.shape), (self.shift, self.shift), (1, 2))
        return self.head(torch.relu(maps + rolled).mean((1, 2)))  # type: ignore[no-any-return]


def isotropic(before: int, after: int, kernel: int, **options: object) -> nn.Conv2d:
    """Return a convolution with kernels that are the same from every side."""
    layer = nn.Conv2d(before, after, kernel, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        turned = [torch.rot90(layer.weight, turn, (-2, -1)) for turn in range(4)]
        layer.weight.copy_(torch.stack(turned).mean(0))
    return layer


def up(kernel: int, *, padding: int = 0, output_padding: int = 0) -> nn.ConvTranspose2d:
    """Return a transposed convolution of stride 2, one kernel for all channels, the same from every side."""
    layer = nn.ConvTranspose2d(
        CHANNELS, CHANNELS, kernel, 2, padding, output_padding, groups=CHANNELS, bias=False
    )
    with torch.no_grad():
        kernels = torch.rand(kernel, kernel)
        layer.weight.copy_(torch.stack([torch.rot90(kernels, turn) for turn in range(4)]).sum(0))
    return layer


def p4(middle: nn.Module | None = None, *tail: nn.Module) -> nn.Sequential:
    """Return a p4 network with a module in its middle, and a tail of its own if it is given one."""
    network = nn.Sequential(P4Lift(3, FIELDS), nn.ReLU())
    network.add_module("planted", middle or nn.Identity())
    end = tail or (P4Pool(), nn.Linear(FIELDS, 5))
    for number, layer in enumerate((P4Conv(FIELDS, FIELDS), nn.ReLU(), *end)):
        network.add_module(f"layer{number}", layer)
    return network


def named(function: Callable[[Tensor], Tensor]) -> Make:
    """Return a factory of a p4 network that calls a function in its middle."""
    return lambda: p4(Plain(function))


def pooled(*orbit: nn.Module) -> tuple[nn.Module, ...]:
    """Return a tail that pools over space after what it does to the fields."""
    return (*orbit, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(FIELDS, 5))


def resized(size: int, mode: str, **options: bool) -> Make:
    """Return a factory of a p4 network that resizes its maps."""
    return named(lambda maps: functional.interpolate(maps, size=(size, size), mode=mode, **options))


HEALTHY: dict[str, tuple[Make, int]] = {
    "transposed, even kernel": (lambda: p4(up(2)), 16),
    "transposed, padded": (lambda: p4(up(4, padding=1)), 15),
    "transposed, odd kernel": (lambda: p4(up(3, padding=1)), 16),
    "slices on an odd map": (named(lambda maps: maps[..., ::2, ::2]), 17),
    "slices off the border": (named(lambda maps: maps[..., 1::2, 1::2]), 17),
    "cropped": (named(lambda maps: maps[..., 1:-1, 1:-1]), 16),
    "resized, corners aligned": (resized(24, "bilinear", align_corners=True), 16),
    "resized, antialiased": (resized(11, "bicubic", antialias=True), 16),
    "rolled and back": (named(lambda maps: torch.roll(maps, (2, 2), (2, 3)).roll((-2, -2), (2, 3))), 16),
    "groups of whole fields": (lambda: p4(nn.GroupNorm(FIELDS, CHANNELS)), 16),
    "max pooling on an odd map": (lambda: p4(nn.MaxPool2d(3, 2, 1)), 17),
    "U-Net": (lambda: UNet(nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear")), 16),
    "residual": (lambda: Residual(nn.Identity(), 2), 17),
    "transformer": (Transformer, 16),
    "shifted windows": (lambda: Windows(4, 2), 16),
}
"""Networks that are exact, and the side of their images."""

PLANTED: dict[str, tuple[Make, int, str, str]] = {
    "transposed, output padding": (
        lambda: p4(up(3, padding=1, output_padding=1)),
        16,
        "one-sided-padding",
        "planted",
    ),
    "cropped": (named(lambda maps: maps[..., 1:-2, 1:-2]), 16, "one-sided-padding", "layer0"),
    "narrowed": (
        named(lambda maps: maps.narrow(2, 0, 14).narrow(3, 0, 14)),
        16,
        "one-sided-padding",
        "layer0",
    ),
    "slices": (named(lambda maps: maps[..., ::2, ::2]), 16, "subsampling", "layer0"),
    "slices of four": (named(lambda maps: maps[..., ::4, ::4]), 16, "subsampling", "layer0"),
    "pooling, ceil mode": (lambda: p4(nn.MaxPool2d(2, ceil_mode=True)), 17, "subsampling", "planted"),
    "residual stride": (lambda: Residual(nn.Identity(), 2), 16, "subsampling", "branch shortcut"),
    "patches": (
        lambda: p4(nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(64, 16, 1))),
        16,
        "kernel",
        "planted.1",
    ),
    "resized": (resized(11, "nearest"), 16, "resize", "planted"),
    "rolled": (named(lambda maps: torch.roll(maps, (1, 1), (2, 3))), 16, "roll", "planted"),
    "odd windows": (lambda: Windows(5, 2), 15, "roll", ""),
    "groups of half fields": (lambda: p4(nn.GroupNorm(2 * FIELDS, CHANNELS)), 16, "broken-field", "planted"),
    "gates": (lambda: p4(Excitation()), 16, "broken-field", ""),
    "coordinates": (
        named(lambda maps: maps + torch.linspace(-1, 1, 16)),
        16,
        "position-embedding",
        "planted",
    ),
    "bias on attention": (lambda: Windows(4, 0, torch.randn(16, 16)), 16, "position-embedding", ""),
    "positions": (lambda: Transformer(torch.randn(1, 64, WIDTH)), 16, "position-embedding", "add"),
    "flattened tokens": (lambda: Transformer(flat=True), 16, "flatten", "head"),
    "every fourth channel": (
        lambda: p4(None, *pooled(Plain(lambda maps: torch.unflatten(maps, 1, (-1, 4))[:, :, :3].amax(2)))),
        16,
        "orbit-pooling",
        "layer2",
    ),
    "free kernel": (lambda: p4(nn.Conv2d(CHANNELS, CHANNELS, 3, padding=1)), 16, "kernel", "planted"),
    "plain branch": (
        lambda: Residual(nn.Conv2d(CHANNELS, CHANNELS, 1)),
        16,
        "kernel",
        "norm",
    ),
}
"""Networks, their side in pixels, the cause that was planted, and its layers (any where none is told)."""


def made(make: Make) -> nn.Module:
    """Return a network with weights that do not depend on the machine's state."""
    with seeded(1):
        network = make().eval()
        for number, layer in enumerate(network.modules()):
            if isinstance(layer, GroupConv):
                fixture_weights(layer, number)
    return network


def diagnose(network: nn.Module, pictures: Tensor) -> Diagnosis:
    """Return the diagnosis under C4."""
    found = eqaudit.audit(network, pictures, group="C4", diagnose=True).diagnose
    assert found is not None
    assert found.reason is None
    return found


@pytest.mark.parametrize("name", HEALTHY)
def test_a_healthy_network_of_each_kind_has_no_cause(name: str) -> None:
    """What would break another network is no cause in one that is exact."""
    make, side = HEALTHY[name]
    found = diagnose(made(make), images(COUNT, side))
    assert found.causes == []
    assert (found.error or 0.0) < 1e-7


@pytest.mark.parametrize("name", PLANTED)
def test_the_planted_cause_comes_first(name: str) -> None:
    """Named with its layers, which hold the local error; with it most of the error goes."""
    make, side, cause, layers = PLANTED[name]
    found = diagnose(made(make), images(COUNT, side))
    assert found.causes[0].id == cause
    assert found.causes[0].removed > 0.9
    if layers:
        assert found.causes[0].layers == layers.split()
        assert sum(layer.share for layer in found.layers if layer.name in layers.split()) > 0.95


def waves(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return waves `(count, 3, SIDE, SIDE)`, and whether each is vertical: no p4 network can tell."""
    with seeded(seed):
        labels = torch.randint(2, (count,))
        wave = torch.cos(1.2 * torch.arange(SIDE) + 6 * torch.rand(count, 1))[:, None, None]
        upright = wave.expand(count, 3, SIDE, SIDE)
        turned = torch.where(labels.view(-1, 1, 1, 1).bool(), upright, upright.mT)
        return 0.5 + 0.4 * turned + 0.05 * torch.randn(turned.shape), labels


def tied(layer: nn.Linear, group: int) -> nn.Linear:
    """Return a linear layer with equal weights for each run of ``group`` inputs."""
    with torch.no_grad():
        layer.weight.copy_(layer.weight[:, ::group].repeat_interleave(group, 1) / group)
    return layer


LEAKS: dict[str, tuple[Make, str]] = {
    "position, zero": (lambda: p4(Joined(torch.zeros(CHANNELS, SIDE, SIDE))), "position-embedding"),
    "mask, one": (lambda: p4(Joined(torch.ones(SIDE, SIDE), times=True)), "position-embedding"),
    "scale, one": (lambda: p4(Joined(torch.ones(CHANNELS, 1, 1), times=True)), "broken-field"),
    "slopes": (lambda: p4(nn.Sequential(P4Conv(FIELDS, FIELDS), nn.PReLU(CHANNELS))), "broken-field"),
    "normalisation": (lambda: p4(nn.BatchNorm2d(CHANNELS)), "broken-field"),
    "orbit weights": (lambda: p4(None, *pooled(WeightedOrbit())), "kernel"),
    "flattened": (
        lambda: p4(None, nn.Flatten(), tied(nn.Linear(CHANNELS * SIDE**2, 5), 4 * SIDE**2)),
        "flatten",
    ),
    "tied head": (
        lambda: p4(None, nn.AdaptiveAvgPool2d(1), nn.Flatten(), tied(nn.Linear(CHANNELS, 5), 4)),
        "kernel",
    ),
}
"""Networks that are exact as long as something has the values it starts from."""


@pytest.mark.parametrize("name", LEAKS)
def test_the_leak_that_training_exploited_is_the_cause(name: str) -> None:
    """Exact at first; ten steps on what an equivariant network cannot learn, and the leak alone is named."""
    make, cause = LEAKS[name]
    network = made(make).requires_grad_()
    pictures, _ = waves(COUNT, 5)
    assert diagnose(network, pictures).causes == []
    examples, labels = waves(32, 0)
    optimiser = torch.optim.Adam(network.train().parameters(), 0.005)
    for _ in range(10):
        optimiser.zero_grad()
        functional.cross_entropy(network(examples), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    found = diagnose(network.eval(), pictures)
    assert [each.id for each in found.causes] == [cause]
    assert found.causes[0].removed > 0.99
