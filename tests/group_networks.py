"""Small networks whose layers turn in known ways, exact on the pixel grid. Nothing of the package is used.

Every layer obeys ``F(T_g x) = rho(g) T_g F(x)``: ``T_g`` flips the width of a mirrored element first, then
turns counter-clockwise; ``rho`` acts on channels. Weights are drawn and averaged over the group, so that the
``rho`` of each layer can be chosen. The ``truth`` of a network tells it for each tap.

No ``from __future__ import annotations`` here: TorchScript reads the annotations.
"""

import copy
import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Literal, TypeVar

import torch
from torch import Tensor, nn

Element = tuple[bool, int]
"""Mirrored (first), and quarter turns."""

C4: tuple[Element, ...] = tuple((False, k) for k in range(4))
D4: tuple[Element, ...] = C4 + tuple((True, k) for k in range(4))
C2 = (C4[0], C4[2])

Order = Literal["last", "first", "axis"]
Layout = Literal["BCHW", "BCGHW", "BHWC", "BND", "BCND", "BC"]

Network = TypeVar("Network", bound=nn.Module)

LOGITS = 5
PATCH = 4
HEADS = 2


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw random numbers that depend on the seed only, without gradients, and restore the global state."""
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        yield


def images(count: int, side: int, seed: int = 0) -> Tensor:
    """Return smooth random images `(count, 3, side, side)` in 0..1."""
    with seeded(seed):
        grids = [torch.rand(count, 3, cells, cells) - 0.5 for cells in (4, 9)]
        layers = [nn.functional.interpolate(grid, (side, side), mode="bicubic") for grid in grids]
        return (0.5 + 0.4 * layers[0] + 0.6 * layers[1]).clamp(0, 1)


def move(maps: Tensor, element: Element) -> Tensor:
    """Return maps `(..., H, W)` mirrored, if at all, then turned."""
    mirrored, turns = element
    return torch.rot90(maps.flip(-1) if mirrored else maps, turns, (-2, -1))


def compose(g: Element, h: Element) -> Element:
    """Return the element that acts as `h` first, then `g`."""
    return g[0] != h[0], (g[1] + (-h[1] if g[0] else h[1])) % 4


@dataclass(frozen=True, slots=True, eq=False)
class Fields:
    """How the `C` channels of a layer turn.

    `turn` and `mirror` are the float64 matrices `(C, C)` of r90 and of the mirror; without `mirror` the group
    is C4. `counts` has the number of fields by name; `order` tells where the group axis of regular fields is.
    """

    counts: Mapping[str, int]
    turn: Tensor
    mirror: Tensor | None = None
    order: Order | None = None
    layout: Layout = "BCHW"

    @property
    def elements(self) -> tuple[Element, ...]:
        """The group."""
        return C4 if self.mirror is None else D4

    @property
    def size(self) -> int:
        """Number of channels."""
        return len(self.turn)

    @property
    def kind(self) -> Literal["trivial", "permutation", "orthogonal"]:
        """The simplest words for the action."""
        matrices = torch.stack([self.matrix(element) for element in self.elements])
        if bool((matrices == torch.eye(self.size)).all()):
            return "trivial"
        return "permutation" if bool(((matrices == 0) | (matrices == 1)).all()) else "orthogonal"

    def matrix(self, element: Element) -> Tensor:
        """Return `rho`, a float64 matrix `(C, C)`."""
        mirrored, turns = element
        turned: Tensor = torch.linalg.matrix_power(self.turn, turns)
        if not mirrored:
            return turned
        if self.mirror is None:
            raise ValueError("the group has no mirror")
        return turned @ self.mirror

    def source(self, element: Element) -> Tensor:
        """Return, for a permutation, the int64 `source` with `(rho x)[c] = x[source[c]]`."""
        return self.matrix(element).argmax(1)


def coset_field(name: str, group: Sequence[Element], stabiliser: Sequence[Element]) -> Fields:
    """Return one field with a channel for each coset of the stabiliser, in the order of the elements."""
    cosets = list(dict.fromkeys(frozenset(compose(g, h) for h in stabiliser) for g in group))

    def matrix(element: Element) -> Tensor:
        sent = torch.zeros(len(cosets), len(cosets), dtype=torch.float64)
        for column, coset in enumerate(cosets):
            sent[cosets.index(frozenset(compose(element, g) for g in coset)), column] = 1
        return sent

    return Fields({name: 1}, matrix((False, 1)), matrix((True, 0)) if len(group) == len(D4) else None)


def trivial(count: int, group: Sequence[Element] = C4) -> Fields:
    """Return `count` channels that stay where they are."""
    return copies(coset_field("trivial", group, group), count)


def regular(count: int, group: Sequence[Element] = C4, order: Order = "last") -> Fields:
    """Return fields of a channel for each element; `g` sends the channel of `h` to that of `g h`."""
    name = "regular C4" if len(group) == len(C4) else "regular D4"
    return copies(coset_field(name, group, group[:1]), count, order)


def frequency(number: int) -> Fields:
    """Return an irrep of C4: rotation of a plane by `number` quarter turns, one channel for 0 and for 2."""
    matrices = {0: [[1]], 1: [[0, -1], [1, 0]], 2: [[-1]]}
    return Fields({f"frequency {number}": 1}, torch.tensor(matrices[number], dtype=torch.float64))


def copies(field: Fields, count: int, order: Order = "last") -> Fields:
    """Return equal fields: channel `field * size + g`, or `g * count + field` where `order` is first."""

    def repeated(matrix: Tensor) -> Tensor:
        same = torch.eye(count, dtype=torch.float64)
        return torch.kron(matrix, same) if order == "first" else torch.kron(same, matrix)

    return replace(
        field,
        counts={name: number * count for name, number in field.counts.items()},
        turn=repeated(field.turn),
        mirror=None if field.mirror is None else repeated(field.mirror),
        order=order if field.size > 1 else None,
    )


def joined(*parts: Fields) -> Fields:
    """Return the channels of one part after those of another."""
    counts: dict[str, int] = {}
    for part in parts:
        for name, number in part.counts.items():
            counts[name] = counts.get(name, 0) + number
    mirrors = [part.mirror for part in parts if part.mirror is not None]
    return Fields(
        counts,
        _diagonal([part.turn for part in parts]),
        _diagonal(mirrors) if mirrors else None,
    )


def _diagonal(blocks: Sequence[Tensor]) -> Tensor:
    matrix: Tensor = torch.block_diag(*blocks)  # type: ignore[no-untyped-call]
    return matrix


def in_basis(fields: Fields, basis: Tensor) -> Fields:
    """Return the same action on channels `basis @ x`, for an orthogonal matrix."""
    mirror = None if fields.mirror is None else basis @ fields.mirror @ basis.T
    return replace(fields, turn=basis @ fields.turn @ basis.T, mirror=mirror, order=None)


def as_maps(features: Tensor, layout: Layout) -> Tensor:
    """Return features as `(B, C, H, W)`: extra tokens left out, 1x1 maps of vectors."""
    match layout:
        case "BCHW":
            return features
        case "BCGHW":
            return features.flatten(1, 2)
        case "BHWC":
            return features.permute(0, 3, 1, 2)
        case "BC":
            return features[:, :, None, None]
        case "BND":
            channels = features.transpose(1, 2)
        case "BCND":
            channels = features.transpose(2, 3).flatten(1, 2)
    side = math.isqrt(channels.shape[-1])
    return channels[..., -(side**2) :].reshape(*channels.shape[:-1], side, side)


def acted(maps: Tensor, fields: Fields, element: Element) -> Tensor:
    """Return `rho(g) T_g` of maps `(B, C, H, W)`."""
    return torch.einsum("dc,bchw->bdhw", fields.matrix(element).to(maps), move(maps, element))


def averaged(weight: Tensor, before: Fields, after: Fields) -> Tensor:
    """Return the part of `(out, in, k, k)` with `W = rho_out(g) (T_g W) rho_in(g)^T`, of the same norm."""
    wide = weight.double()
    turned = [
        torch.einsum("oi,ijhw,kj->okhw", after.matrix(g), move(wide, g), before.matrix(g))
        for g in after.elements
    ]
    mean = torch.stack(turned).mean(0)
    scaled: Tensor = mean * (wide.norm() / mean.norm().clamp(min=1e-12))
    return scaled.to(weight)


def symmetrise(layer: nn.Conv2d | nn.Linear | nn.LayerNorm, before: Fields, after: Fields) -> None:
    """Draw the weights of a layer anew, such that it leads from one kind of fields to the other."""
    no_input = replace(trivial(1, after.elements), layout="BC")
    if isinstance(layer, nn.LayerNorm):
        drawn = 1 + 0.3 * torch.randn(layer.weight.shape)
        layer.weight.copy_(averaged(drawn[:, None, None, None], no_input, after).flatten())
    else:
        shape = (*layer.weight.shape, 1, 1)[:4]
        drawn = torch.randn(shape) * math.sqrt(2 / math.prod(shape[1:]))
        if shape[-1] > 1:
            # Kernels that mostly see differences: a constant looks the same from every side.
            drawn -= 0.8 * drawn.mean((2, 3), keepdim=True)
        layer.weight.copy_(averaged(drawn, before, after).reshape(layer.weight.shape))
    if layer.bias is not None:
        drawn = 0.05 * torch.randn(layer.bias.shape)
        layer.bias.copy_(averaged(drawn[:, None, None, None], no_input, after).flatten())


class Known(nn.Sequential):
    """A network in eval mode with the fields of its taps; taps that turn in no known way are left out."""

    def __init__(self, layers: Mapping[str, nn.Module], truth: Mapping[str, Fields]) -> None:
        super().__init__(OrderedDict(layers))
        self.truth = dict(truth)
        self.eval().requires_grad_(False)


class GroupConv(nn.Conv2d):
    """A 3x3 convolution of maps `(B, C, H, W)` or `(B, C, G, H, W)`; with `group` it returns the latter."""

    def __init__(self, before: int, after: int, kernel: int = 3, group: int = 0) -> None:
        super().__init__(before, after, kernel, padding=kernel // 2)
        self.group = group

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - its name in torch
        """Convolve all channels."""
        out = self._conv_forward(input.flatten(1, -3), self.weight, self.bias)
        return torch.unflatten(out, 1, [-1, self.group]) if self.group else out


class LastConv(nn.Conv2d):
    """A 3x3 convolution of features `(B, H, W, C)`."""

    def __init__(self, before: int, after: int) -> None:
        super().__init__(before, after, 3, padding=1)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - its name in torch
        """Convolve with the channels in front, and move them back."""
        out: Tensor = self._conv_forward(input.permute(0, 3, 1, 2), self.weight, self.bias)
        return out.permute(0, 2, 3, 1)


class ChannelsLast(nn.Module):
    """Images `(B, C, H, W)` as `(B, H, W, C)`."""

    def forward(self, image: Tensor) -> Tensor:
        """Move the channels."""
        return image.permute(0, 2, 3, 1)


class Mean(nn.Module):
    """Mean over some dimensions."""

    def __init__(self, *dims: int) -> None:
        super().__init__()
        self.dims = list(dims)

    def forward(self, features: Tensor) -> Tensor:
        """Average."""
        return features.mean(self.dims)


class GroupPool(nn.Module):
    """Mean over space and the group axis of regular fields: `(B, C)`."""

    def __init__(self, group: int, order: Order) -> None:
        super().__init__()
        self.group, self.first = group, order == "first"

    def forward(self, features: Tensor) -> Tensor:
        """Average everything that the group moves."""
        vectors = features.flatten(1, -3).mean([-2, -1])
        if self.first:
            return torch.unflatten(vectors, 1, [self.group, -1]).mean(1)
        return torch.unflatten(vectors, 1, [-1, self.group]).mean(2)


class NormShrink(nn.Module):
    """Scale each irrep by `2 n / (n + 0.3)`, `n` its length, in the basis that tells irreps apart."""

    def __init__(self, sizes: Sequence[int], basis: Tensor) -> None:
        super().__init__()
        self.sizes = list(sizes)
        self.register_buffer("basis", basis.float())
        self.basis: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Shrink the irreps of maps `(B, C, H, W)`."""
        plain = torch.einsum("cd,bchw->bdhw", self.basis, features)
        parts = torch.split(plain, self.sizes, 1)
        scaled = []
        for part in parts:
            length = part.square().sum(1, keepdim=True).sqrt()
            scaled.append(part * (2 * length / (length + 0.3)))
        return torch.einsum("cd,bdhw->bchw", self.basis, torch.cat(scaled, 1))


def _body(
    layers: Sequence[Fields],
    group: int = 0,
    act: Callable[[], nn.Module] = nn.ReLU,
    conv: Callable[..., nn.Conv2d] = GroupConv,
) -> tuple[dict[str, nn.Module], dict[str, Fields]]:
    """Return lift, relu1, conv2, relu2 ... with their truth."""
    modules, truth = dict[str, nn.Module](), dict[str, Fields]()
    image = trivial(3, layers[0].elements)
    for number, (before, after) in enumerate(pairwise([image, *layers]), 1):
        name = "lift" if number == 1 else f"conv{number}"
        layer = conv(before.size, after.size, group=group) if group else conv(before.size, after.size)
        symmetrise(layer, before, after)
        modules |= {name: layer, f"relu{number}": act()}
        truth |= {name: after, f"relu{number}": after}
    return modules, truth


def _vectors(count: int, group: Sequence[Element] = C4) -> Fields:
    return replace(trivial(count, group), layout="BC")


def _pooled(
    modules: dict[str, nn.Module], truth: dict[str, Fields], last: Fields, *dims: int, of_group: bool = True
) -> Known:
    """Append pooling, over space and the group axis or over `dims` only, and an invariant head."""
    size = len(last.elements)
    pool: nn.Module = GroupPool(size, last.order or "last") if of_group else Mean(*(dims or (-2, -1)))
    kept = _vectors(last.size // size, last.elements) if of_group else replace(last, layout="BC")
    answer = _vectors(LOGITS, last.elements)
    head = nn.Linear(kept.size, LOGITS)
    symmetrise(head, kept, answer)
    return Known({**modules, "pool": pool, "head": head}, {**truth, "pool": kept, "head": answer})


def axis_network(where: Order = "last", seed: int = 0, fields: int = 6) -> Known:
    """Return p4 convolutions; features `(B, C, 4, H, W)`, or flattened to `(C, 4)` or to `(4, C)`."""
    with seeded(seed):
        last = replace(regular(fields, order=where), layout="BCGHW" if where == "axis" else "BCHW")
        return _pooled(*_body([last] * 3, group=4 if where == "axis" else 0), last)


def few_fields(fields: int, seed: int = 0) -> Known:
    """Return p4 convolutions of one or two fields."""
    return axis_network("last", seed, fields)


def lifting(orientations: int = 12, seed: int = 0, *, flat: bool = False, fields: int = 4) -> Known:
    """Return a lifting layer of which a quarter turn rolls the orientations by a quarter of their number.

    The kernel of orientation `o + orientations / 4` is that of `o`, turned. Features are
    `(B, fields, orientations, H, W)` or flat; then comes the mean over orientations, and a plain layer.
    """
    with seeded(seed):
        quarter = orientations // 4
        # Channels (4, quarter) of one field are quarter regular fields with the group axis first.
        several = copies(regular(quarter, order="first"), fields)
        layout: Layout = "BCHW" if flat else "BCGHW"
        turned = replace(several, order="last" if flat else "axis", layout=layout)
        plain = trivial(fields)
        lift, conv = GroupConv(3, turned.size, 5, 0 if flat else orientations), GroupConv(fields, fields)
        symmetrise(lift, trivial(3), turned)
        symmetrise(conv, plain, plain)
        modules: dict[str, nn.Module] = {"lift": lift, "relu1": nn.ReLU()}
        if flat:
            modules["axis"] = nn.Unflatten(1, (fields, orientations))
        modules |= {"mean": Mean(2), "conv2": conv, "relu2": nn.ReLU()}
        truth = {"lift": turned, "relu1": turned, "mean": plain, "conv2": plain, "relu2": plain}
        if flat:
            truth["axis"] = replace(turned, order="axis", layout="BCGHW")
        return _pooled(modules, truth, plain, of_group=False)


def d4_network(seed: int = 0, fields: int = 4) -> Known:
    """Return regular convolutions of D4: 8 channels per field."""
    with seeded(seed):
        last = regular(fields, D4)
        return _pooled(*_body([last] * 3), last)


def quotient_network(seed: int = 0, group: Literal["C4", "D4"] = "C4") -> Known:
    """Return convolutions on trivial, regular and quotient fields, one kind after the other."""
    with seeded(seed):
        every = C4 if group == "C4" else D4
        quotients = [copies(coset_field(f"quotient {group}/C2", every, C2), 3)]
        if group == "D4":
            quotients.append(copies(coset_field("quotient D4/C4", every, C4), 2))
        last = joined(trivial(3, every), regular(2, every), *quotients)
        return _pooled(*_body([last] * 3), last, of_group=False)


def irrep_network(seed: int = 0, *, rotated: bool = False) -> Known:
    """Return convolutions on irreps of C4, with channels in a random orthonormal basis if `rotated`."""
    with seeded(seed):
        parts = [frequency(0)] * 3 + [frequency(1)] * 4 + [frequency(2)] * 3
        plain = joined(*parts)
        drawn = torch.randn(plain.size, plain.size, dtype=torch.float64)
        basis = torch.linalg.qr(drawn).Q if rotated else torch.eye(plain.size, dtype=torch.float64)
        last = in_basis(plain, basis)
        act = partial(NormShrink, [part.size for part in parts], basis)
        return _pooled(*_body([last] * 3, act=act), last, of_group=False)


def broken_network(at: int, seed: int = 0, fields: int = 4) -> Known:
    """Return five blocks of a p4 convolution and ReLU; block `at` (1 to 5, or 0: none) has free weights."""
    with seeded(seed):
        last = regular(fields)
        modules, truth = dict[str, nn.Module](), dict[str, Fields]()
        for number, before in enumerate([trivial(3), *[last] * 4], 1):
            conv = GroupConv(before.size, last.size)
            symmetrise(conv, before, last)
            if number == at:
                conv.weight.copy_(torch.randn(conv.weight.shape) * conv.weight.std())
            name = f"block{number}"
            modules[name] = nn.Sequential(OrderedDict(conv=conv, relu=nn.ReLU()))
            truth |= {tap: last for tap in (f"{name}.conv", f"{name}.relu", name) if number < (at or 6)}
        whole = _pooled(modules, truth, last)
        return Known(dict(whole.named_children()), truth) if at else whole


def channels_last_network(regular_fields: bool = False, seed: int = 0) -> Known:
    """Return convolutions on features `(B, H, W, C)`: plain maps, or regular fields of C4."""
    with seeded(seed):
        last = replace(regular(6) if regular_fields else trivial(8), layout="BHWC")
        modules, truth = _body([last] * 3, conv=LastConv)
        modules = {"to_last": ChannelsLast(), **modules}
        truth = {"to_last": replace(trivial(3), layout="BHWC"), **truth}
        return _pooled(modules, truth, last, 1, 2, of_group=False)


def with_dead_channels(seed: int = 0, dead: int = 2, fields: int = 6) -> Known:
    """Return p4 convolutions of which the last fields are dead from relu2 on."""
    network = axis_network("last", seed, fields)
    with torch.no_grad():
        for name in ("conv2", "conv3"):
            layer = network.get_submodule(name)
            # Features that come from a ReLU are never negative.
            for weight in layer.parameters():
                weight[-4 * dead :] = -weight[-4 * dead :].abs()
    alive = {"regular C4": fields - dead, "dead": 4 * dead}
    network.truth |= {name: replace(network.truth[name], counts=alive) for name in ("relu2", "relu3")}
    return network


def with_duplicates(seed: int = 0, copied: int = 2, fields: int = 6, noise: float = 0.0) -> Known:
    """Return p4 convolutions of which the last fields are copies of the first, but for relative noise."""
    network = axis_network("last", seed, fields)
    count = 4 * copied
    with seeded(seed + 1):
        for before, name in ((trivial(3), "lift"), (regular(fields), "conv2"), (regular(fields), "conv3")):
            layer = network.get_submodule(name)
            other = GroupConv(before.size, 4 * fields)
            symmetrise(other, before, regular(fields))
            for weight, change in zip(layer.parameters(), other.parameters(), strict=True):
                drawn = change[-count:] * (weight[:count].norm() / change[-count:].norm())
                weight[-count:] = weight[:count] + noise * drawn
    return network


def with_near_duplicates(seed: int = 0, noise: float = 1e-3) -> Known:
    """Return p4 convolutions of which some fields nearly are copies of others."""
    return with_duplicates(seed, noise=noise)


def with_half_turn_kernels(seed: int = 0, fields: int = 4) -> Known:
    """Return regular fields of which the last has kernels that a half turn keeps: pairs of channels agree."""
    network = axis_network("last", seed, fields)
    with torch.no_grad():
        layer = network.get_submodule("lift")
        assert isinstance(layer, GroupConv)
        layer.weight[-4:] += move(layer.weight[-4:], (False, 2))
    alike = {"regular C4": fields - 1, "quotient C4/C2": 2}
    network.truth |= {name: replace(network.truth[name], counts=alike) for name in ("lift", "relu1")}
    return network


class Patches(nn.Conv2d):
    """Tokens `(B, N, D)` of patches of the image, after an extra token if there is one."""

    def __init__(self, width: int, side: int, extra: int) -> None:
        super().__init__(3, width, PATCH, stride=PATCH)
        self.extra = nn.Parameter(torch.zeros(1, extra, width))
        self.position = nn.Parameter(torch.zeros(1, side**2, width))

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - its name in torch
        """Embed the patches, add their positions, and put the extra token first."""
        tokens = self._conv_forward(input, self.weight, self.bias).flatten(2).transpose(1, 2) + self.position
        return torch.cat([self.extra.expand(len(tokens), -1, -1), tokens], 1)


class Mix(nn.Module):
    """Values `(B, heads, N, d)` mixed with weights `(B, heads, N, N)`."""

    def forward(self, weights: Tensor, values: Tensor) -> Tensor:
        """Return `(B, heads, N, d)`."""
        return weights @ values


class Attention(nn.Module):
    """Attention of all tokens to all, with every step a submodule."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(width, width) for _ in range(3))
        self.softmax, self.mix, self.project = nn.Softmax(-1), Mix(), nn.Linear(width, width)
        # Twice the usual, so that it matters which tokens are alike.
        self.scale = 2 * (width // HEADS) ** -0.5

    def forward(self, tokens: Tensor) -> Tensor:
        """Attend, `(B, N, D)` to `(B, N, D)`."""
        q, k, v = self._split(self.q(tokens)), self._split(self.k(tokens)), self._split(self.v(tokens))
        weights = self.softmax(q @ k.transpose(-2, -1) * self.scale)
        mixed: Tensor = self.mix(weights, v)
        out: Tensor = self.project(mixed.transpose(1, 2).flatten(2))
        return out

    def _split(self, tokens: Tensor) -> Tensor:
        return torch.unflatten(tokens, 2, [2, -1]).transpose(1, 2)


class TransformerBlock(nn.Module):
    """Attention and a perceptron, each after a normalisation and beside a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.attention, self.norm2 = nn.LayerNorm(width), Attention(width), nn.LayerNorm(width)
        self.fc1, self.gelu, self.fc2 = nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform `(B, N, D)`."""
        tokens = tokens + self.attention(self.norm1(tokens))
        out: Tensor = tokens + self.fc2(self.gelu(self.fc1(self.norm2(tokens))))
        return out


class FirstToken(nn.Module):
    """The class token: `(B, N, D)` to `(B, D)`."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Take the first."""
        return tokens[:, 0]


def vision_transformer(
    class_token: bool = False, seed: int = 0, *, regular_fields: bool = False, side: int = 6
) -> Known:
    """Return a transformer of patches of 4x4 pixels, exact under D4, or under C4 if on regular fields."""
    with seeded(seed):
        group = C4 if regular_fields else D4
        fields = replace(regular(4) if regular_fields else trivial(16, group), layout="BND")
        wide = replace(regular(8) if regular_fields else trivial(32, group), layout="BND")
        patches = Patches(fields.size, side, int(class_token))
        symmetrise(patches, trivial(3, group), fields)
        patches.extra.copy_(averaged(torch.randn(16, 1, 1, 1), trivial(1, group), fields).flatten())
        grid = averaged(0.3 * torch.randn(16, 1, side, side), trivial(1, group), fields)
        patches.position.copy_(grid.flatten(1).T)
        modules: dict[str, nn.Module] = {"patches": patches}
        truth = {"patches": fields}
        for name in ("block1", "block2"):
            block = TransformerBlock(fields.size)
            modules[name], truth[name] = block, fields
            for part, layer in block.named_modules():
                if isinstance(layer, nn.Linear | nn.LayerNorm):
                    before, after = (wide if part == "fc2" else fields), (wide if part == "fc1" else fields)
                    symmetrise(layer, before, after)
            truth |= _block_truth(name, fields, wide, _tokens(side, int(class_token), group))
        pool: nn.Module = FirstToken() if class_token else Mean(1)
        head = nn.Linear(fields.size, LOGITS)
        answer = _vectors(LOGITS, group)
        symmetrise(head, fields, answer)
        truth |= {"pool": replace(fields, layout="BC"), "head": answer}
        return Known({**modules, "pool": pool, "head": head}, truth)


def _block_truth(name: str, fields: Fields, wide: Fields, tokens: Fields) -> dict[str, Fields]:
    narrow = (
        "norm1",
        "attention",
        "norm2",
        "fc2",
        *(f"attention.{part}" for part in ("q", "k", "v", "project")),
    )
    return {
        **{f"{name}.{part}": fields for part in narrow},
        **{f"{name}.{part}": wide for part in ("fc1", "gelu")},
        f"{name}.attention.mix": replace(fields, layout="BCND"),
        f"{name}.attention.softmax": replace(copies(tokens, HEADS), layout="BCND", order=None),
    }


def _tokens(side: int, extra: int, group: Sequence[Element]) -> Fields:
    """Return how the tokens of a grid of even side turn, for features with a channel for each."""
    numbers = torch.arange(side**2).reshape(side, side)

    def matrix(element: Element) -> Tensor:
        moved = move(numbers, element).flatten()
        return _diagonal([torch.eye(extra), torch.eye(side**2)[moved]]).double()

    orbits = {frozenset(int(move(numbers, g).flatten()[n]) for g in group) for n in range(side**2)}
    names = ["trivial"] * extra
    for orbit in orbits:
        # A token on a diagonal of a grid without middle rows has a mirror to itself.
        alone = f"regular {'C4' if len(group) == len(C4) else 'D4'}"
        names.append(alone if len(orbit) == len(group) else "quotient D4/{e, m-r90}")
    counts = {name: names.count(name) for name in dict.fromkeys(sorted(names))}
    return Fields(counts, matrix((False, 1)), matrix((True, 0)) if len(group) == len(D4) else None)


def plain_network(
    seed: int = 0, width: int = 16, depth: int = 4, *, norm: bool = True, pooled: bool = True
) -> nn.Sequential:
    """Return an ordinary network of random weights: conv1, norm1, relu1 ..., pooling to 1x1 or 8x8, head."""
    with seeded(seed):
        layers = OrderedDict[str, nn.Module]()
        for number in range(1, depth + 1):
            conv = nn.Conv2d(3 if number == 1 else width, width, 3, padding=1, bias=not norm)
            nn.init.kaiming_normal_(conv.weight, nonlinearity="relu")
            layers[f"conv{number}"] = conv
            if norm:
                layers[f"norm{number}"] = nn.BatchNorm2d(width, momentum=None)
            layers[f"relu{number}"] = nn.ReLU()
        layers["pool"] = nn.AdaptiveAvgPool2d(1 if pooled else 8)
        layers["flatten"] = nn.Flatten()
        layers["head"] = nn.Linear(width * (1 if pooled else 64), LOGITS)
        network = nn.Sequential(layers)
        network(images(8, 24, seed))  # statistics of the normalisation
        return network.eval().requires_grad_(False)


def noisy(network: Network, share: float, seed: int = 0) -> Network:
    """Return a copy with every parameter multiplied by `1 + share * u`, `u` normal."""
    changed = copy.deepcopy(network)
    with seeded(seed):
        for parameter in changed.parameters():
            parameter.mul_(1 + share * torch.randn(parameter.shape))
    return changed


SIDE = 24
"""Side in pixels of images that every network takes; all but the transformers take others, odd or even."""


def _file_truth(fields: Fields, samples: Fields | None = None) -> dict[str, Fields]:
    """Return the truth of a file; `samples` are those of a function of which fields are the coefficients."""
    truth = dict[str, Fields]()
    for number in range(1, 4):
        truth |= {f"{layer}{number}": fields for layer in ("conv", "norm", "relu")}
        if samples is not None:
            truth |= {f"relu{number}.0": samples, f"relu{number}.1": samples, f"relu{number}.2": fields}
    logits = trivial(4, fields.elements)
    return {**truth, "head": logits, "pool": logits, "flatten": replace(logits, layout="BC")}


def _parity(name: str, turn: int, mirror: int) -> Fields:
    one = torch.ones(1, 1, dtype=torch.float64)
    return Fields({name: 1}, turn * one, mirror * one)


def _irreps_of_d4() -> Fields:
    turn = torch.tensor([[0, -1], [1, 0]], dtype=torch.float64)
    plane = Fields({"E1": 1}, turn, torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64)))
    ones = {"A1": (1, 1), "A2": (1, -1), "B2": (-1, -1), "B1": (-1, 1)}
    a1, a2, b2, b1 = (_parity(name, *signs) for name, signs in ones.items())
    return joined(a1, a2, plane, plane, b2, b1)


_QUARTERS_OF_C8 = regular(2, order="first")
_SAMPLES_OF_CIRCLE = regular(3, order="first")
_MIRROR_FIELD = coset_field("quotient D4/D1", D4, (D4[0], D4[4]))
_IRREPS_OF_CIRCLE = joined(frequency(0), frequency(1), frequency(2), frequency(2))

FIELD_FILES: dict[str, dict[str, Fields]] = {
    "fields_c4": _file_truth(regular(3)),
    "fields_c4_trained": _file_truth(regular(3)),
    "fields_c4_mixed": _file_truth(joined(trivial(3), regular(3))),
    "fields_c4_quotient": _file_truth(copies(coset_field("quotient C4/C2", C4, C2), 5)),
    "fields_c8": _file_truth(copies(_QUARTERS_OF_C8, 2)),
    "fields_d4": _file_truth(regular(2, D4)),
    "fields_d4_mixed": _file_truth(joined(trivial(2, D4), copies(_MIRROR_FIELD, 2), regular(1, D4))),
    "fields_d4_irreps": _file_truth(copies(_irreps_of_d4(), 2), regular(2, D4)),
    "fields_so2": _file_truth(copies(_IRREPS_OF_CIRCLE, 3), copies(_SAMPLES_OF_CIRCLE, 3)),
}
"""What the quarter turns, and for D4 the mirrors, do in files of `fixtures/independent/make_fields.py`."""

FIELD_SIDE = 33
"""Side in pixels of images for these files."""

EXACT: dict[str, Callable[[], Known]] = {
    "axis": partial(axis_network, "axis"),
    "last": partial(axis_network, "last"),
    "first": partial(axis_network, "first"),
    "one field": partial(few_fields, 1),
    "two fields": partial(few_fields, 2),
    "lifting": lifting,
    "lifting, flat": partial(lifting, flat=True),
    "d4": d4_network,
    "quotient": quotient_network,
    "quotient of D4": partial(quotient_network, group="D4"),
    "irreps": irrep_network,
    "irreps, rotated": partial(irrep_network, rotated=True),
    "channels last": channels_last_network,
    "channels last, regular": partial(channels_last_network, regular_fields=True),
    "transformer": vision_transformer,
    "transformer, class token": partial(vision_transformer, class_token=True),
    "transformer, regular": partial(vision_transformer, regular_fields=True),
    "transformer, class token, regular": partial(vision_transformer, class_token=True, regular_fields=True),
    "dead": with_dead_channels,
    "duplicates": with_duplicates,
    "near duplicates": with_near_duplicates,
    "half-turn kernels": with_half_turn_kernels,
}
"""Every network that is exact as a whole, by name."""
