"""Small modules, each hard to read from outside in one way, and small networks of the usual kinds.

No ``from __future__ import annotations`` here: TorchScript reads the annotations.
"""

import math
import warnings
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

IMAGE = (3, 16, 16)
How = Literal["scripted", "traced"]


def noise(*shape: int, seed: int = 5) -> Tensor:
    """Return normal random numbers, the same for the same seed."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def compiled(module: nn.Module, how: How, shape: tuple[int, ...] = IMAGE, batch: int = 3) -> Any:
    """Script or trace a module."""
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tracing: torch's own layers compare sizes
        if how == "scripted":
            return torch.jit.script(module)
        return torch.jit.trace(module, noise(batch, *shape), strict=False)  # type: ignore[no-untyped-call]


def _convolution(channels_in: int, channels: int) -> nn.Conv2d:
    return nn.Conv2d(channels_in, channels, 3, padding=1)


class _Nested(nn.Module):
    """A Sequential in a ModuleList in a ModuleDict."""

    def __init__(self) -> None:
        super().__init__()
        stages = nn.Sequential(*(nn.Sequential(_convolution(4, 4), nn.Tanh()) for _ in range(2)))
        self.stem = nn.Sequential(OrderedDict(first=_convolution(3, 4), act=nn.Sequential(nn.ReLU())))
        self.listed = nn.ModuleList([_convolution(4, 4), nn.Sequential(nn.Softplus())])
        self.parts = nn.ModuleDict({"deep": stages, "flat": nn.Sequential(nn.Dropout(), nn.SiLU())})

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.stem(image)
        for part in self.parts.values():
            out = part(out)
        for number, stage in enumerate(self.listed):
            out = stage(out) + number
        return out


class _Branch(nn.Module):
    """Another module for another image, in nested branches."""

    def __init__(self) -> None:
        super().__init__()
        self.bright, self.dark, self.never = _convolution(3, 4), _convolution(3, 4), _convolution(3, 4)
        self.act = nn.ReLU()

    def forward(self, image: Tensor) -> Tensor:
        if bool(image.mean() > 0):
            if bool(image.mean() > 1e6):
                out: Tensor = self.never(image)
            else:
                out = self.act(self.bright(image))
        else:
            out = self.dark(image)
        return out


class _Loops(nn.Module):
    """Modules called a number of times that the data decide, in a while, a for, and one in the other."""

    def __init__(self) -> None:
        super().__init__()
        self.grow, self.mix, self.end = _convolution(3, 3), _convolution(3, 3), nn.Tanh()

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = image * 0.01
        while bool(out.abs().max() < 1):
            out = self.grow(out) + out * 3
            if bool(out.mean() > 0):
                for _ in range(int(image.abs().max().item()) + 1):
                    out = out + 0.1 * self.mix(out)
                    if bool(out.max() > 100):
                        break
        for _ in range(int(image.shape[0])):
            out = self.end(out)
        return out


class _CalledTwice(nn.Module):
    """One block, with modules inside, called three times."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(_convolution(3, 3), nn.ReLU())

    def forward(self, image: Tensor) -> Tensor:
        once: Tensor = self.block(image)
        twice: Tensor = self.block(once)
        again: Tensor = self.block[0](once)
        return twice + again


class _InPlace(nn.Module):
    """Features that are overwritten after their module returned them, some through a view."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList([_convolution(3, 4)] + [_convolution(4, 4) for _ in range(4)])
        self.relu, self.same, self.flat = nn.ReLU(inplace=True), nn.Dropout(), nn.Flatten()
        self.elu = nn.ELU(inplace=True)

    def forward(self, image: Tensor) -> Tensor:
        image.mul_(2)
        one: Tensor = self.relu(self.convs[0](image))
        two: Tensor = functional.relu_(self.convs[1](one))
        two += one
        view = two.view(two.shape[0], -1)
        view[:, ::2].mul_(-1)
        three: Tensor = self.same(self.elu(self.convs[2](two)))
        three[:, 1] = 0.5
        four: Tensor = self.convs[3](three)
        torch.sigmoid_(four)
        five: Tensor = self.convs[4](four)
        flat: Tensor = self.flat(five)
        flat.add_(1)
        five.transpose(1, 2)[:, 0] -= 3
        return flat


class _InPlaceBlock(nn.Module):
    """Overwrites its own argument, which is the feature of the module before."""

    def forward(self, features: Tensor) -> Tensor:
        features.clamp_(0, 1)
        return features


class _OverwritesItsInput(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.clamp, self.last = _convolution(3, 4), _InPlaceBlock(), nn.Hardtanh(inplace=True)

    def forward(self, image: Tensor) -> Tensor:
        image.neg_()
        out: Tensor = self.last(self.clamp(self.conv(image)).sub_(0.5))
        return out


class _Pair(NamedTuple):
    high: Tensor
    low: Tensor


class _Tuple(nn.Module):
    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return features + 1, features[:, :1]


class _NestedTuple(nn.Module):
    def forward(self, features: Tensor) -> tuple[Tensor, tuple[Tensor, tuple[Tensor, int]]]:
        return features, (features * 2, (features * 3, 4))


class _List(nn.Module):
    def forward(self, features: Tensor) -> list[Tensor]:
        return [features, features.mean(dim=(2, 3))]


class _Dict(nn.Module):
    def forward(self, features: Tensor) -> dict[str, Tensor]:
        return {"mask": features, "a.b": features[:, 0]}


class _Named(nn.Module):
    def forward(self, features: Tensor) -> _Pair:
        return _Pair(features.clamp(min=0), features.clamp(max=0))


class _ListOfPairs(nn.Module):
    def forward(self, features: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(features, features + 1), (features + 2, features + 3)]


class _DictOfLists(nn.Module):
    def forward(self, features: Tensor) -> dict[str, list[Tensor]]:
        return {"one": [features], "two": [features, -features]}


class _Optional(nn.Module):
    def forward(self, features: Tensor, wanted: bool) -> Tensor | None:
        return features if wanted else None


class _PairWithNone(nn.Module):
    def forward(self, features: Tensor) -> tuple[Tensor, Tensor | None]:
        return features, None


class _Structures(nn.Module):
    """Every structure in the middle; a tuple of structures at the end."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = _convolution(3, 4)
        self.tuple, self.nested, self.list, self.dict = _Tuple(), _NestedTuple(), _List(), _Dict()
        self.named, self.pairs, self.lists = _Named(), _ListOfPairs(), _DictOfLists()
        self.after = _convolution(4, 2)

    def forward(self, image: Tensor) -> tuple[Tensor, dict[str, Tensor], _Pair]:
        out: Tensor = self.conv(image)
        first, _ = self.tuple(out)
        _, (second, (third, _)) = self.nested(first)
        fourth: Tensor = self.list(second + third)[0]
        fifth = self.dict(fourth)
        pair = self.named(fifth["mask"])
        pairs = self.pairs(pair.high + pair.low)
        lists = self.lists(pairs[1][0])
        last: Tensor = self.after(lists["two"][1])
        return last, fifth, pair


class _Optionals(nn.Module):
    """None in the place of a tensor, alone and inside a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.maybe, self.pair = _convolution(3, 4), _Optional(), _PairWithNone()

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.conv(image)
        kept = self.maybe(out, True)
        lost = self.maybe(out, False)
        if kept is not None:
            out = out + kept
        if lost is not None:
            out = out + lost
        last: Tensor = self.pair(out)[0]
        return last


class _Int(nn.Module):
    def forward(self, features: Tensor) -> int:
        return int(features.shape[0])


class _Text(nn.Module):
    def forward(self, features: Tensor) -> str:
        return "wide" if features.shape[1] > 3 else "narrow"


class _Labels(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.argmax(dim=1)


class _Number(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features.mean()


class _Sizes(nn.Module):
    def forward(self, features: Tensor) -> list[int]:
        return [features.shape[2], features.shape[3]]


class _Mask(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return features > 0


class _NoTensors(nn.Module):
    """Modules that return integers, masks, a number, text, sizes, or indices beside a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.count, self.text, self.labels = _convolution(3, 4), _Int(), _Text(), _Labels()
        self.number, self.sizes, self.mask = _Number(), _Sizes(), _Mask()
        self.pool = nn.MaxPool2d(2, return_indices=True)

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.conv(image)
        if self.text(out) == "wide":
            out = out * int(self.count(out))
        height: int = self.sizes(out)[0]
        out = out + self.labels(out).unsqueeze(1) + self.number(out) / height
        pooled, indices = self.pool(out.where(self.mask(out), out * 0.1))
        last: Tensor = pooled + indices
        return last


class _Recurrent(nn.Module):
    """An LSTM over the rows and a GRU over its states."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(48, 12, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(24, 8, num_layers=2, batch_first=True)
        self.head = nn.Linear(8, 5)

    def forward(self, image: Tensor) -> Tensor:
        rows = image.permute(0, 2, 1, 3).flatten(2)
        states, (_, _) = self.lstm(rows)
        outputs, _ = self.gru(states)
        scores: Tensor = self.head(outputs[:, -1])
        return scores


class _Attention(nn.Module):
    """Patches, attention with and without weights, and a whole encoder layer."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 8, 4, stride=4)
        self.attend = nn.MultiheadAttention(8, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1)
        self.norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)
        self.place = nn.Parameter(torch.randn(1, 16, 8))

    def forward(self, image: Tensor) -> Tensor:
        tokens = self.embed(image).flatten(2).transpose(1, 2) + self.place
        mixed, shares = self.attend(tokens, tokens, tokens)
        if shares is not None:
            mixed = mixed + shares.mean()
        tokens = self.encoder(self.norm(tokens + mixed).transpose(0, 1)).transpose(0, 1)
        scores: Tensor = self.head(tokens.mean(dim=1))
        return scores


class _Norms(nn.Module):
    """Normalisations with statistics that are not the default, transposed convolution, dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.batch = _convolution(3, 4), nn.BatchNorm2d(4)
        self.group, self.layer = nn.GroupNorm(2, 4), nn.LayerNorm([4, 8, 8])
        self.instance = nn.InstanceNorm2d(4, affine=True, track_running_stats=True)
        self.up = nn.ConvTranspose2d(4, 4, 2, stride=2)
        self.drop, self.drop_maps = nn.Dropout(0.5), nn.Dropout2d(0.3, inplace=True)
        self.alpha, self.act = nn.AlphaDropout(0.2), nn.PReLU(4)
        self.pool, self.resize = nn.AvgPool2d(2), nn.Upsample(scale_factor=2.0, mode="bilinear")
        with torch.no_grad():
            for norm in (self.batch, self.instance):
                if norm.running_mean is not None and norm.running_var is not None:
                    norm.running_mean.normal_()
                    norm.running_var.uniform_(0.5, 2)

    def forward(self, image: Tensor) -> Tensor:
        out = self.layer(self.pool(self.group(self.batch(self.conv(image)))))
        out = self.drop_maps(self.drop(self.act(self.up(out))))
        grown: Tensor = self.resize(self.alpha(self.instance(out)))
        return grown


class _Tied(nn.Module):
    """Two linear layers of one weight, and a weight that is used by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.encode, self.decode = nn.Linear(16, 16, bias=False), nn.Linear(16, 16)
        self.decode.weight = self.encode.weight
        self.scale = nn.Parameter(torch.rand(1))

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.decode(torch.tanh(self.encode(image)))
        return out * self.scale + functional.linear(image, self.encode.weight)


def _swish(features: Tensor, slope: float = 1.5) -> Tensor:
    return features * torch.sigmoid(slope * features)


@torch.jit.script_if_tracing  # type: ignore[untyped-decorator]
def _halve_until_small(features: Tensor) -> Tensor:
    while bool(features.abs().max() > 0.5):
        features = features / 2
    return features


class _Methods(nn.Module):
    """Submodules called in helper methods, helper functions, and an exported method."""

    def __init__(self) -> None:
        super().__init__()
        self.down, self.up, self.change = _convolution(3, 4), _convolution(4, 3), _convolution(3, 3)

    def _encode(self, image: Tensor, times: int = 2) -> Tensor:
        out: Tensor = self.down(image)
        for _ in range(times):
            out = _swish(out)
        return out

    def _decode(self, features: Tensor) -> Tensor:
        out: Tensor = self.up(features)
        small: Tensor = _halve_until_small(self._refine(out))
        return small

    def _refine(self, features: Tensor) -> Tensor:
        return features + functional.gelu(self.change(features))

    @torch.jit.export
    def features(self, image: Tensor) -> Tensor:
        return self._encode(image, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self._decode(self._encode(image)) + self._refine(image)


class _CallsExported(nn.Module):
    """Calls the exported method of a child, whose own forward is never called."""

    def __init__(self) -> None:
        super().__init__()
        self.child = _Methods()

    def forward(self, image: Tensor) -> Tensor:
        out: Tensor = self.child.features(image)
        return out.mean(dim=(2, 3))


class _Buffers(nn.Module):
    """Buffers, constants, and constants in the code."""

    kernel: Tensor
    stride: Final[int]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("kernel", torch.rand(3, 1, 3, 3, generator=torch.Generator().manual_seed(3)))
        self.stride, self.slope, self.name = 2, 0.25, "blur"
        self.conv = _convolution(3, 4)

    def forward(self, image: Tensor) -> Tensor:
        blurred = functional.conv2d(image, self.kernel, stride=self.stride, padding=1, groups=3)
        out: Tensor = self.conv(blurred)
        weights = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=out.dtype).view(1, 4, 1, 1)
        return functional.leaky_relu(out * weights + math.pi, self.slope)


class ResidualBlock(nn.Module):
    """The block of a small ResNet."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn1, self.relu = nn.BatchNorm2d(channels), nn.ReLU(inplace=True)
        self.conv2, self.bn2 = _convolution(channels, channels), nn.BatchNorm2d(channels)
        self.downsample = (
            nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride), nn.BatchNorm2d(channels))
            if stride > 1 or channels != channels_in
            else None
        )

    def forward(self, features: Tensor) -> Tensor:
        """Return the features plus what two convolutions add."""
        out = self.relu(self.bn1(self.conv1(features)))
        out = self.bn2(self.conv2(out))
        out += features if self.downsample is None else self.downsample(features)
        last: Tensor = self.relu(out)
        return last


class ResNet(nn.Module):
    """A small ResNet: six logits."""

    def __init__(self, channels_in: int = 3) -> None:
        super().__init__()
        self.stem = nn.Sequential(_convolution(channels_in, 6), nn.BatchNorm2d(6), nn.ReLU(inplace=True))
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.layer1 = nn.Sequential(ResidualBlock(6, 6, 1), ResidualBlock(6, 6, 1))
        self.layer2 = nn.Sequential(ResidualBlock(6, 12, 2))
        self.gap, self.fc = nn.AdaptiveAvgPool2d(1), nn.Linear(12, 6)

    def forward(self, image: Tensor) -> Tensor:
        """Return logits, (B, 6)."""
        out = self.layer2(self.layer1(self.pool(self.stem(image))))
        logits: Tensor = self.fc(torch.flatten(self.gap(out), 1))
        return logits


class UNet(nn.Module):
    """A U-Net of two levels: a map of two classes, of the image's size."""

    def __init__(self, channels_in: int = 3) -> None:
        super().__init__()
        self.enc1 = nn.Sequential(_convolution(channels_in, 4), nn.ReLU())
        self.enc2 = nn.Sequential(_convolution(4, 8), nn.LeakyReLU(0.1, inplace=True))
        self.middle = nn.Sequential(_convolution(8, 8), nn.GroupNorm(2, 8), nn.ReLU())
        self.pool, self.up1 = nn.MaxPool2d(2), nn.ConvTranspose2d(8, 4, 2, stride=2)
        self.up2 = nn.Upsample(scale_factor=2, mode="nearest")
        self.dec1, self.head = nn.Sequential(_convolution(12, 8), nn.ReLU()), nn.Conv2d(12, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Return maps, (B, 2, H, W)."""
        one: Tensor = self.enc1(image)
        two: Tensor = self.enc2(self.pool(one))
        three: Tensor = self.up1(self.middle(self.pool(two)))
        up: Tensor = self.dec1(torch.cat([two, three], dim=1))
        maps: Tensor = self.head(torch.cat([one, self.up2(up)], dim=1))
        return maps


def deep() -> nn.Sequential:
    """Return 200 modules in a row."""
    first = nn.Sequential(_convolution(3, 3), nn.Tanh(), nn.Dropout(), nn.ReLU6())
    blocks = (nn.Sequential(nn.PReLU(), nn.Tanh(), nn.Dropout(), nn.Hardtanh()) for _ in range(39))
    return nn.Sequential(first, *blocks)


@dataclass(frozen=True)
class Hard:
    """One entry of the zoo.

    ``trace`` unless tracing fixes what depends on the data, or returns another structure: a traced
    module flattens and reorders its tuples, and keeps only the parts that are used.
    """

    make: Callable[[], nn.Module]
    trace: bool = True

    def __str__(self) -> str:
        return self.make.__name__.strip("_")


ZOO = (
    Hard(_Nested),
    Hard(_Branch, trace=False),
    Hard(_Loops, trace=False),
    Hard(_CalledTwice),
    Hard(_InPlace),
    Hard(_OverwritesItsInput),
    Hard(_Structures, trace=False),
    Hard(_Optionals, trace=False),
    Hard(_NoTensors, trace=False),
    Hard(_Recurrent, trace=False),
    Hard(_Attention, trace=False),
    Hard(_Norms),
    Hard(_Tied),
    Hard(_Methods),
    Hard(_CallsExported),
    Hard(_Buffers),
    Hard(ResNet),
    Hard(UNet),
    Hard(deep),
)
