"""Count channel actions found where there is none, and missed where there is one.

Run: python tests/calibration/representations.py [--count 300] [--seed 0]

The thresholds of `eqaudit.representations` (fit, rule and offgrid) were chosen so that plain networks get no
action and exact ones all of theirs. The tables are: plain networks by family; exact networks by kind; exact
networks with noise on their weights; angles that resample; and the first three again with other thresholds.
"""

import argparse
import dataclasses
import itertools
import sys
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar
from unittest import mock

import numpy as np
import torch
from torch import Tensor, nn

import eqaudit
from eqaudit.engine import channels
from eqaudit.engine.base import Key
from eqaudit.groups import Element, Group
from eqaudit.report import Layer, Report
from eqaudit.representations import Channels, Decision, Floats, GeneratorFit, Pairs, fit, offgrid, rule

ROOT = Path(__file__).parents[2]
sys.path += [str(ROOT / "tests"), str(ROOT / "fixtures" / "models")]

import group_networks as known  # noqa: E402 - the neighbours beside and above
from _weights import make_isotropic  # noqa: E402
from group_networks import Known, seeded  # noqa: E402

Choice = TypeVar("Choice")

STRIDED_SIDE = 17
"""Halves three times with a pixel in the middle: what a stride of two keeps exact."""
STRIDED_LAYERS = 3
WIDE = 128
EXACT_ERROR = 1e-5
CHANCE_SHARE = 1.0
STEPS = 10


# Plain networks


@dataclass(frozen=True, slots=True)
class Recipe:
    """What a plain network is made of, and which images it is shown."""

    seed: int
    width: int
    depth: int
    style: str
    init: str
    act: str
    norm: bool
    head: str
    trained: str
    smooth: bool
    count: int
    side: int
    logits: int

    @property
    def images(self) -> Tensor:
        """Images (count, 3, side, side), smooth or white."""
        if self.smooth:
            return known.images(self.count, self.side, self.seed)
        return torch.rand(
            self.count, 3, self.side, self.side, generator=torch.Generator().manual_seed(self.seed)
        )


STYLES = (
    "3x3",
    "5x5",
    "1x1",
    "dilated",
    "strided",
    "depthwise",
    "separable",
    "residual",
    "positions",
    "mixed",
)
ACTS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky": partial(nn.LeakyReLU, 0.1),
    "gelu": nn.GELU,
    "tanh": nn.Tanh,
    "none": nn.Identity,
}
HEADS = ("pooled", "map", "flat", "bottleneck")


class Residual(nn.Module):
    """Features and what a body makes of them."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, features: Tensor) -> Tensor:
        """Add both."""
        added: Tensor = features + self.body(features)
        return added


class Positions(nn.Module):
    """Adds waves along rows to half of the channels, along columns to the rest, as transformers do.

    Where they outweigh the image, a mirror that swaps rows and columns seems to swap channels.
    """

    def __init__(self, width: int, side: int, gain: float) -> None:
        super().__init__()
        waves = [
            (trig, 100.0 ** (-4 * n / width)) for n in range(width // 4 + 1) for trig in (np.sin, np.cos)
        ]
        lines = torch.stack([torch.tensor(trig(rate * np.arange(side))) for trig, rate in waves]).float()
        rows, columns = (width + 1) // 2, width // 2
        maps = [lines[:rows, :, None].expand(-1, -1, side), lines[:columns, None].expand(-1, side, -1)]
        self.register_buffer("maps", gain * torch.cat(maps))
        self.maps: Tensor

    def forward(self, features: Tensor) -> Tensor:
        """Add the same maps to the features of every image."""
        return features + self.maps


def draw_recipe(seed: int) -> Recipe:
    """Draw a recipe; wide networks are shallower and see fewer and smaller images."""
    draw = np.random.default_rng(seed)
    width = int(np.exp(draw.uniform(np.log(2), np.log(513))))
    style = str(draw.choice(STYLES))
    wide = width > WIDE
    return Recipe(
        seed,
        width,
        depth=int(draw.integers(1, 4 if wide else 7)),
        style="1x1" if wide and style == "5x5" else style,
        init=str(draw.choice(["default", "kaiming", "orthogonal"])),
        act=str(draw.choice(list(ACTS))),
        norm=bool(draw.integers(2)),
        head=str(draw.choice(["pooled", "map"] if wide else HEADS)),
        trained="" if wide else str(draw.choice(["", "", "random labels", "turned images"])),
        smooth=bool(draw.integers(2)),
        count=8 if wide else int(draw.choice([8, 16, 32])),
        side=STRIDED_SIDE if style == "strided" else int(draw.integers(12, 14 if wide else 18)),
        logits=int(draw.integers(2, 11)),
    )


def plain(recipe: Recipe) -> nn.Sequential:
    """Return a network without any built-in symmetry, trained for a few steps or not, in eval mode."""
    with seeded(recipe.seed), torch.enable_grad():
        layers, before = OrderedDict[str, nn.Module](), 3
        for number in range(1, recipe.depth + 1):
            layers[f"block{number}"] = _block(recipe, before, number)
            before = recipe.width
        network = nn.Sequential(layers | _head(recipe))
        _initialise(network, recipe.init)
        network.train()
        network(recipe.images)  # statistics of the normalisation
        if recipe.trained:
            _train(network, recipe)
        return network.eval().requires_grad_(False)


def _block(recipe: Recipe, before: int, number: int) -> nn.Module:
    width, style = recipe.width, recipe.style
    if style == "mixed":
        style = STYLES[(recipe.seed + number) % STYLES.index("positions")]
    if style == "strided" and (number > STRIDED_LAYERS or recipe.side != STRIDED_SIDE):
        style = "3x3"
    kernel = {"5x5": 5, "1x1": 1}.get(style, 3)
    step = 2 if style == "dilated" else 1
    stride, padding = 2 if style == "strided" else 1, step * (kernel // 2)
    deep = number > 1 and style in {"depthwise", "separable"}
    groups = width if deep else 1
    convs: list[nn.Module] = [nn.Conv2d(before, width, kernel, stride, padding, step, groups)]
    if deep and style == "separable":
        convs.append(nn.Conv2d(width, width, 1))
    norm: list[nn.Module] = [nn.BatchNorm2d(width, momentum=None)] if recipe.norm else []
    if style == "positions" and number == 1:
        norm.append(Positions(width, recipe.side, 10.0 ** (recipe.seed % 4 - 1)))
    block = nn.Sequential(*convs, *norm, ACTS[recipe.act]())
    return Residual(block) if style == "residual" and number > 1 else block


def _head(recipe: Recipe) -> dict[str, nn.Module]:
    last, logits = recipe.width, recipe.logits
    match recipe.head:
        case "map":
            return {"head": nn.Conv2d(last, logits, 1)}
        case "flat":
            cells = {"pool": nn.AdaptiveAvgPool2d(2), "flatten": nn.Flatten()}
            return {**cells, "head": nn.Linear(4 * last, logits)}
        case "bottleneck":
            one = {"one": nn.Conv2d(last, 1, 3, padding=1), "act": nn.ReLU(), "more": nn.Conv2d(1, last, 3)}
            return {**one, "pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
        case _:
            pool = {"pool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}
            return {**pool, "head": nn.Linear(last, logits)}


def _initialise(network: nn.Module, how: str) -> None:
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d) and how == "kaiming":
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        elif isinstance(layer, nn.Conv2d | nn.Linear) and how == "orthogonal":
            nn.init.orthogonal_(layer.weight)


def _train(network: nn.Module, recipe: Recipe) -> None:
    images, labels = recipe.images, torch.randint(2, (recipe.count,))
    optimiser = torch.optim.SGD(network.parameters(), lr=0.02, momentum=0.9)
    for _ in range(STEPS):
        element = (bool(torch.randint(2, ())), int(torch.randint(4, ())))
        shown = known.move(images, element) if recipe.trained == "turned images" else images
        scores = network(shown).flatten(2).mean(2) if recipe.head == "map" else network(shown)
        optimiser.zero_grad()
        nn.functional.cross_entropy(scores, labels).backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()


# Exact networks


def nearly_dead(seed: int) -> Known:
    """Return a network of which a third of the orbits of channels are alive in few pixels of few images."""
    made = (known.quotient_network, partial(known.quotient_network, group="D4"), known.d4_network)
    network = made[seed % 3](seed)
    features = known.images(64, 20, seed)
    for name, layer in network.named_children():
        before, features = features, layer(features)
        if isinstance(layer, nn.Conv2d) and layer.bias is not None:
            high = features.transpose(0, 1).flatten(1)[:, ::7].quantile(0.9995 if seed % 2 else 0.998, 1)
            sources = [network.truth[name].source(g).numpy() for g in network.truth[name].elements]
            orbits = {frozenset(int(source[c]) for source in sources) for c in range(len(high))}
            for orbit in sorted(orbits, key=min)[seed % 3 :: 3]:
                layer.bias[list(orbit)] -= high[list(orbit)].max()
            features = layer(before)
    return network


EXACT: dict[str, Callable[[int], Known]] = {
    "regular C4, by axis": lambda n: known.axis_network("axis", n, 1 + n % 8),
    "regular C4, group axis last": lambda n: known.axis_network("last", n, 1 + n % 8),
    "regular C4, group axis first": lambda n: known.axis_network("first", n, 1 + n % 8),
    "lifting": lambda n: known.lifting(4 * (1 + n % 4), n, flat=n % 2 == 0, fields=1 + n % 5),
    "regular D4": lambda n: known.d4_network(n, 1 + n % 5),
    "quotients of C4": known.quotient_network,
    "quotients of D4": lambda n: known.quotient_network(n, "D4"),
    "irreps": known.irrep_network,
    "irreps, rotated": lambda n: known.irrep_network(n, rotated=True),
    "plain maps, channels last": lambda n: known.channels_last_network(seed=n),
    "regular C4, channels last": lambda n: known.channels_last_network(regular_fields=True, seed=n),
    "transformer": lambda n: known.vision_transformer(n % 2 == 0, n),
    "transformer, regular C4": lambda n: known.vision_transformer(n % 2 == 0, n, regular_fields=True),
    "dead channels": lambda n: known.with_dead_channels(n, 1 + n % 4, 5 + n % 3),
    "duplicate channels": lambda n: known.with_duplicates(n, 1 + n % 4, 5 + n % 3),
    "near duplicates": lambda n: known.with_near_duplicates(n, 10.0 ** -(2 + n % 4)),
    "half-turn kernels": lambda n: known.with_half_turn_kernels(n, 2 + n % 4),
    "nearly dead channels": nearly_dead,
    "broken": lambda n: known.broken_network(2 + n % 4, n, 1 + n % 5),
}
FIXED_SIDE = ("transformer", "transformer, regular C4")
NOISES = (0.01, 0.05, 0.2)


def rounds(count: int, seed: int, choices: Sequence[Choice]) -> Iterator[tuple[int, Choice]]:
    """Return each choice with a seed, then again with the next, until there are enough."""
    for place in range(count):
        yield seed + place // len(choices), choices[place % len(choices)]


def expected(truth: known.Fields) -> tuple[str, str]:
    """Return the kind of an action and its group, as a report names them."""
    mirrored = truth.mirror is not None
    return truth.kind, "D4" if mirrored else "C4"


def images_of(number: int, name: str) -> Tensor:
    """Return images for an exact network: of even and odd sides, 8 to 32 of them."""
    side = known.SIDE if name in FIXED_SIDE else 16 + number % 6
    return known.images((8, 16, 32)[number % 3], side, number)


# Thresholds


@dataclass(frozen=True, slots=True)
class Rule:
    """Thresholds to replay the decisions with."""

    name: str
    share: float = fit.PERMUTATION_SHARE
    small: float = rule.SMALL_GROUP_SHARE
    proven: float = fit.PROVEN_ERROR
    relation: float = rule.LIKELY_RELATION

    @contextmanager
    def used(self) -> Iterator[None]:
        """Put the thresholds in place."""
        shared = {"PERMUTATION_SHARE": self.share, "PROVEN_ERROR": self.proven}
        own = {"SMALL_GROUP_SHARE": self.small, "LIKELY_RELATION": self.relation}
        with mock.patch.dict(vars(fit), shared), mock.patch.dict(vars(rule), shared | own):
            yield


SHIPPED = Rule("as shipped")
RULES = (
    SHIPPED,
    Rule("share 0.25", share=0.25),
    Rule("share 0.75", share=0.75),
    Rule("share 0.75, of C2 and mirrors too", share=0.75, small=0.75),
    Rule("share 0.5 of C2 and mirrors too", small=0.5),
    Rule("proven 1e-2", proven=1e-2),
    Rule("proven 1e-4", proven=1e-4),
    Rule("relations 1e-3", relation=1e-3),
    Rule("relations not asked", relation=float("inf")),
)


class Replay:
    """Decides each layer under every rule from the same samples, while the audit goes on as shipped.

    ``decisions`` are those of the fit in the model's own precision, by rule and layer. What is vacuous as
    shipped stays so under every rule.
    """

    def __init__(self) -> None:
        self.decisions: dict[str, dict[Key, Decision]] = {}
        self._fits: dict[int, dict[str, GeneratorFit]] = {}
        self._decided: dict[int, dict[str, Decision]] = {}
        self._patches = ExitStack()

    def __enter__(self) -> Self:
        whole = channels.Fitting.fit
        self._patches.enter_context(mock.patch.object(channels, "fit_generator", self._fit))
        self._patches.enter_context(mock.patch.object(channels, "decide", self._decide))
        self._patches.enter_context(
            mock.patch.object(channels.Fitting, "fit", lambda *arguments: self._keep(whole(*arguments)))
        )
        return self

    def __exit__(self, *_error: object) -> None:
        self._patches.close()

    def _fit(self, pairs: Pairs, exact_trivial: float, *, thorough: bool) -> GeneratorFit:
        fits: dict[str, GeneratorFit] = {}
        permuted, mixed = partial(fit.fit_permutation, pairs), partial(fit.fit_orthogonal, pairs)
        with (
            mock.patch.object(fit, "fit_permutation", _once(permuted)),
            mock.patch.object(fit, "fit_orthogonal", _once(mixed)),
        ):
            for one in RULES:
                with one.used():
                    fits[one.name] = fit.fit_generator(pairs, exact_trivial, thorough=thorough)
        self._fits[id(fits[SHIPPED.name])] = fits
        return fits[SHIPPED.name]

    def _decide(self, group: Group, fits: Mapping[Element, GeneratorFit], features: Floats) -> Decision:
        every: dict[str, Decision] = {}
        for one in RULES:
            with one.used():
                own = {element: self._fits[id(fit)][one.name] for element, fit in fits.items()}
                every[one.name] = rule.decide(group, own, features)
        self._decided[id(every[SHIPPED.name])] = every
        return every[SHIPPED.name]

    def _keep(self, found: Channels) -> Channels:
        used = {key: action for key, action in found.by_key.items() if action.status != "vacuous"}
        self.decisions = {
            one.name: {key: self._decided[id(action.decision)][one.name] for key, action in used.items()}
            for one in RULES
        }
        # The rerun in float64 fits again; its decisions are not asked for.
        self._fits, self._decided = {}, {}
        return found


def _once(function: Callable[[], Any]) -> Callable[[object], Any]:
    kept: list[Any] = []

    def call(_pairs: object) -> Any:
        if not kept:
            kept.append(function())
        return kept[0]

    return call


# Counts


@dataclass
class Table:
    """Counts by row and column, printed with the columns in order of appearance, and with their sum."""

    title: str
    summed: bool = True
    rows: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, row: str, column: str, number: int = 1) -> None:
        """Count."""
        self.rows[row][column] += number

    def show(self) -> None:
        """Print the table."""
        columns = list(dict.fromkeys(itertools.chain.from_iterable(self.rows.values())))
        widths = [max(7, len(column)) for column in columns]
        print(
            f"\n{self.title:36}", *(f"{name:>{width}}" for name, width in zip(columns, widths, strict=True))
        )
        rows = dict(self.rows)
        if self.summed:
            rows["sum"] = sum(self.rows.values(), Counter[str]())
        for name, counts in rows.items():
            print(f"{name:36}", *(f"{counts[c]:{w}}" for c, w in zip(columns, widths, strict=True)))


def judged(report: Report) -> list[Layer]:
    """Return layers and outputs that have a representation."""
    return [layer for layer in [*report.layers, *report.outputs] if layer.representation is not None]


def is_false(layer: Layer) -> bool:
    """Whether a layer of a plain network is said to have an action.

    A flattened map of a network that nearly turns has one: its cells change places.
    """
    found = layer.representation
    if found is None or layer.type == "Flatten":
        return False
    return found.kind in {"permutation", "orthogonal"} and found.group != "C1"


def beside_chance(layer: Layer) -> bool:
    """Whether the fit is no further off than images are apart: a test that is not shipped."""
    found, chance = layer.representation, max((error.chance or 0.0 for error in layer.errors), default=0.0)
    return found is not None and (found.fit_error or 0.0) <= CHANCE_SHARE * chance


def differs(layer: Layer) -> bool:
    """Whether some error is not that of the reading as plain maps."""
    return any(error.trivial_error not in {None, error.error} for error in layer.errors)


def count_plain(count: int, seed: int, table: Table, alternatives: Table) -> None:
    """Audit plain networks and count what is false."""
    replay = Replay()
    for number in range(count):
        recipe = draw_recipe(seed + number)
        with replay:
            report = eqaudit.audit(plain(recipe), recipe.images, group="D4")
        for row in ("all", recipe.style, f"activation {recipe.act}", f"init {recipe.init}"):
            table.add(row, "networks")
            for layer in judged(report):
                found = layer.representation
                assert found is not None
                table.add(row, "layers")
                table.add(row, "false", is_false(layer))
                table.add(row, "beside chance", is_false(layer) and beside_chance(layer))
                table.add(row, "error changed", differs(layer))
                table.add(row, "vacuous", found.kind == "vacuous")
                table.add(row, "undetermined", found.kind == "undetermined")
                table.add(row, "plain maps hold", found.kind == "trivial" and found.group != "C1")
        for layer in filter(is_false, judged(report)):
            found = layer.representation
            assert found is not None
            print(f"false: {layer.name} {found.kind} {found.group} {found.words}, fit {found.fit_error:.2g}")
            print(f"  relations {found.relation_error:.2g}, shape {layer.shape}, {recipe}")
        for name, decisions in replay.decisions.items():
            alternatives.add(name, "plain layers", len(decisions))
            claimed = Counter(one.kind for key, one in decisions.items() if "flatten" not in key[1])
            for kind in ("permutation", "orthogonal"):
                alternatives.add(name, f"false {kind}", claimed[kind])


def count_exact(count: int, seed: int, table: Table, alternatives: Table) -> None:
    """Audit exact networks and count layers whose error is not exact or whose action is another one."""
    replay = Replay()
    for number, name in rounds(count, seed, tuple(EXACT)):
        network = EXACT[name](number)
        with replay:
            report = eqaudit.audit(network, images_of(number, name), group="D4")
        table.add(name, "networks")
        for layer in report.layers:
            truth, found = network.truth.get(layer.name), layer.representation
            if truth is None or found is None:
                continue
            kind, group = expected(truth)
            worst = _worst(layer, truth)
            table.add(name, "layers")
            table.add(name, "error above 1e-5", worst > EXACT_ERROR)
            table.add(name, "other kind", found.kind != kind)
            smaller = found.group not in {group, "D4"}
            table.add(name, "smaller group", smaller)
            if worst > EXACT_ERROR or found.kind != kind or smaller:
                said = f"{found.kind} {found.group} for {kind} {group}"
                print(f"missed: {name} {number}, {layer.name}: {said}, error {worst:.2g}")
        _count_named("exact", network, replay, alternatives)


def _worst(layer: Layer, truth: known.Fields) -> float:
    names = {str(Element(mirrored, turns, 4)) for mirrored, turns in truth.elements}
    return max((error.error or 0.0 for error in layer.errors if error.element in names), default=0.0)


def _count_named(what: str, network: Known, replay: Replay, alternatives: Table) -> None:
    truth = {name: expected(fields) for name, fields in network.truth.items()}
    moving = {name for name, (kind, _) in truth.items() if kind != "trivial"}
    for name, decisions in replay.decisions.items():
        found = [
            (truth[key[1]], one) for key, one in decisions.items() if key[0] == "layer" and key[1] in moving
        ]
        right = sum(one.group is not None and (one.kind, one.group.name) == true for true, one in found)
        alternatives.add(name, f"{what} layers", len(found))
        alternatives.add(name, f"missed, {what}", len(found) - right)


def count_noisy(count: int, seed: int, table: Table, alternatives: Table) -> None:
    """Audit p4 networks with noise on their weights, and count which layers are still named."""
    replay = Replay()
    for number, share in rounds(count, seed, NOISES):
        network = known.noisy(known.axis_network("last", number, 2 + number % 7), share, number)
        with replay:
            report = eqaudit.audit(network, images_of(number, ""), group="D4")
        row = f"noise {share:.0%}"
        for layer in report.layers:
            if layer.representation is None or network.truth[layer.name].kind == "trivial":
                continue
            named = layer.representation.kind == "permutation"
            table.add(row, "layers")
            table.add(row, "C4", named and layer.representation.group == "C4")
            table.add(row, "another group", named and layer.representation.group != "C4")
            table.add(row, "beside chance", named and beside_chance(layer))
        _count_named(f"{share:.0%} noise", network, replay, alternatives)


# Angles that resample

FILES = ("escnn_c16", "escnn_so2")
FILE_SIDE = 65


def show_angles(seed: int) -> None:
    """Print how many elements of each layer are at the floor, and how the action was found."""
    models = {name: str(ROOT / "fixtures" / "independent" / f"{name}.pt") for name in FILES}
    networks: dict[str, str | nn.Module] = {**models, "plain": known.plain_network(seed, 24, 3)}
    for (name, model), group in itertools.product(networks.items(), ("C8", "C16")):
        report = eqaudit.audit(model, known.images(8, FILE_SIDE, seed), group=group, samples=8)
        print(
            f"\n{name} under {group:20} {'kind':12} group off the grid    at the floor  error  plain  floor"
        )
        for layer in judged(report):
            found = layer.representation
            assert found is not None
            errors = [error for error in layer.errors if error.floor is not None]
            near = sum(error.class_ == "at the floor" for error in errors)
            means = [np.mean([getattr(e, a) or e.error or 0 for e in errors] or [0]) for a in _COLUMNS]
            print(
                f"{layer.name:35} {found.kind:12} {found.group:5} {found.off_grid or '-':12}"
                f" {near:6} of {len(errors):2}  ",
                *(f"{mean:6.3f}" for mean in means),
            )


_COLUMNS = ("error", "trivial_error", "floor")


def isotropic(seed: int, width: int = 8, depth: int = 3) -> nn.Module:
    """Return a plain network whose kernels are the same from every side: exactly D4, as plain maps."""
    network = known.plain_network(seed, width, depth)
    with torch.no_grad():
        for layer in network:
            if isinstance(layer, nn.Conv2d):
                make_isotropic(layer)
    return network


def count_extensions(count: int, seed: int, table: Table) -> None:
    """Count plain layers that are said to have an action at angles that resample."""
    for number, group in rounds(count, seed, ("C8", "C6", "C3")):
        recipe = dataclasses.replace(draw_recipe(number), count=8, side=STRIDED_SIDE)
        recipe = dataclasses.replace(recipe, width=min(recipe.width, WIDE))
        for what, network in (("plain", plain(recipe)), ("isotropic", isotropic(number, 4 + number % 29))):
            report = eqaudit.audit(network, recipe.images, group=group)
            row = f"{what}, {group}"
            table.add(row, "networks")
            for layer in (layer for layer in judged(report) if layer.type != "Flatten"):
                found = layer.representation
                assert found is not None
                table.add(row, "layers")
                for how in offgrid.How.__args__:  # type: ignore[attr-defined]
                    table.add(row, how, found.off_grid == how)
                if found.off_grid is not None:
                    print(f"extended: {what} {group} {layer.name} {found.off_grid} {found.kind}, {recipe}")


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    alternatives = Table("thresholds", summed=False)
    tables = [
        Table("plain networks", summed=False),
        Table("exact networks"),
        Table("noise on weights"),
        Table("extensions"),
    ]
    count_plain(options.count, options.seed, tables[0], alternatives)
    count_exact(options.count // 2, options.seed, tables[1], alternatives)
    count_noisy(options.count // 5, options.seed, tables[2], alternatives)
    count_extensions(options.count // 5, options.seed, tables[3])
    for table in [*tables, alternatives]:
        table.show()
    show_angles(options.seed)


if __name__ == "__main__":
    main()
