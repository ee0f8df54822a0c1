"""What the rules share: what they look at, what they find, and the geometry of sliding windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from eqaudit.diagnosis.network import Network
from eqaudit.diagnosis.steps import Step, relative_error
from eqaudit.engine import Run
from eqaudit.engine.base import Setting
from eqaudit.groups import Element
from eqaudit.loader import Operation
from eqaudit.report import Report

CONVOLUTIONS = frozenset({"conv2d"})
POOLS = frozenset({"max_pool2d", "avg_pool2d"})
JOINS = frozenset({"add", "sub", "mul", "div"})
VIEWS = frozenset({"flatten", "reshape", "view", "unsafe_view"})
MAP_RANK = 4
UNIFORM = 1e-6


@dataclass(frozen=True, slots=True)
class Scene:
    """What rules look at: the breaking steps, the audit that was run, and its report.

    ``error`` is that of the output at ``element``, in the precision of the network.
    """

    network: Network
    run: Run
    report: Report
    element: Element
    error: float

    @property
    def setting(self) -> Setting:
        """How the network is run."""
        return self.network.setting


@dataclass(frozen=True, slots=True)
class Suspect:
    """One reason to break: where, and what was measured.

    Without a step the rule made its own ``experiment``: the error ``before`` it, and what was left ``after``.
    What is ``likely`` counts where no rule has more to say of the step.
    """

    evidence: str
    step: Step | None = None
    experiment: str = ""
    before: float = 0.0
    after: float = 0.0
    likely: bool = False


@dataclass(frozen=True, slots=True)
class Rule:
    """One cause by its id in the glossary, what helps, and how it is found."""

    id: str
    fix: str
    find: Callable[[Scene], Iterator[Suspect]]


@dataclass(frozen=True, slots=True)
class Window:
    """What slides over a map: for height and width size, kernel, stride, padding, dilation."""

    sizes: tuple[int, int]
    kernel: tuple[int, int]
    stride: tuple[int, int]
    padding: tuple[int, int] | str
    dilation: tuple[int, int]

    def left_over(self, side: int) -> int:
        """Return ``(N + 2p - k) mod s`` of a side, k as dilation spreads it: cells that no window reaches."""
        if isinstance(self.padding, str):
            return 0 if self.padding == "same" else (self.sizes[side] - self.reach(side)) % self.stride[side]
        room = self.sizes[side] + 2 * self.padding[side] - self.reach(side)
        return room % self.stride[side]

    def reach(self, side: int) -> int:
        """Return how many cells a kernel spans."""
        return self.dilation[side] * (self.kernel[side] - 1) + 1

    @property
    def fits(self) -> bool:
        """Whether windows lie symmetrically about the centre."""
        one_sided = self.padding == "same" and any(self.reach(side) % 2 == 0 for side in (0, 1))
        return not one_sided and not any(self.left_over(side) for side in (0, 1))


def window_of(operation: Operation) -> Window | None:
    """Return the window of a convolution or a pooling of maps (B, C, H, W); None of anything else."""
    given = operation.arguments
    before = given.get("self", given.get("input"))
    if operation.name not in CONVOLUTIONS | POOLS or not isinstance(before, torch.Size):
        return None
    weight = given.get("weight")
    kernel = weight.shape[-2:] if isinstance(weight, torch.Tensor) else given.get("kernel_size")
    size = two(kernel)
    padding = given.get("padding")
    return Window(
        sizes=(before[-2], before[-1]),
        kernel=size,
        stride=two(given.get("stride"), size),
        padding=padding if isinstance(padding, str) else two(padding, (0, 0)),
        dilation=two(given.get("dilation"), (1, 1)),
    )


def two(value: object, default: tuple[int, int] = (1, 1)) -> tuple[int, int]:
    """Read an argument that is a number, one or two of them, or nothing, for height and width."""
    if isinstance(value, int):
        return value, value
    if isinstance(value, Sequence) and value:
        return int(value[0]), int(value[-1])
    return default


def data_of(operation: Operation) -> torch.Size | None:
    """Return the shape of the first data that an operation is given."""
    return next((value for value in _values(operation) if isinstance(value, torch.Size)), None)


def _values(operation: Operation) -> Iterator[object]:
    """Return the arguments of an operation, those in lists too."""
    for value in operation.arguments.values():
        yield from value if isinstance(value, list) else (value,)


@dataclass(frozen=True, slots=True)
class Cut:
    """What indexing takes of a side: every so many cells; it leaves some out ``before`` and ``behind``."""

    dim: int
    size: int
    before: int
    behind: int
    every: int


def cut_of(operation: Operation, step: Step) -> Cut | None:
    """Return what an operation on the way to a step takes of height or width; None of anything else."""
    given, shape = operation.arguments, data_of(operation)
    dim = given.get("dim")
    if operation.name not in {"slice", "narrow"} or shape is None or not isinstance(dim, int):
        return None
    if step.layout.dims is None or len(shape) != len(step.shape):
        return None
    size = shape[dim]
    if dim % len(shape) not in {place % len(shape) for place in step.layout.dims}:
        return None
    start = _place(given.get("start"), size, 0)
    length = given.get("length")
    end = start + length if isinstance(length, int) else _place(given.get("end"), size, size)
    step_size = given.get("step")
    every = step_size if isinstance(step_size, int) else 1
    last = start + (end - 1 - start) // every * every
    return Cut(dim % len(shape), size, start, size - 1 - last, every)


def _place(value: object, size: int, default: int) -> int:
    """Read an index of Python: from the end if it is negative, and not beyond."""
    if not isinstance(value, int):
        return default
    return min(max(value + size if value < 0 else value, 0), size)


def constants_of(operation: Operation) -> list[torch.Tensor]:
    """Return the tensors that an operation is given beside data: weights, most of them."""
    return [value for value in _values(operation) if isinstance(value, torch.Tensor)]


def flattened(step: Step) -> torch.Size | None:
    """Return the shape of the map, or tokens, flattened into vectors on the way to a step; None without."""
    copied = step.before.operations if step.before and step.before.type in VIEWS else ()
    for operation in (*copied, *step.operations):
        before, after = data_of(operation), operation.result
        if operation.name not in VIEWS or before is None or after is None:
            continue
        several = sum(size > 1 for size in before[1:]) > 1
        if several and before[0] == after[0] and after[-1] == before[1:].numel():
            return before
    return None


def over_channels(constant: torch.Tensor, step: Step) -> torch.Tensor | None:
    """Return one number for each channel as a step's tensor has them; None if there are not as many."""
    spread = torch.zeros(step.shape, dtype=torch.float64)
    inside = step.layout.space_last(spread)
    if constant.numel() != inside.shape[1]:
        return None
    inside.copy_(constant.double().reshape(-1, *[1] * (inside.ndim - 2)))
    return spread


def is_uniform(constant: torch.Tensor, step: Step) -> bool:
    """Tell whether a constant that is joined to a step's tensor is the same at every place of it."""
    inside = step.layout.space_last(constant.double().expand(step.shape))
    return float(inside.std((-2, -1)).max()) <= UNIFORM * float(inside.abs().max())


def asymmetry(constant: torch.Tensor, step: Step, setting: Setting, element: Element) -> float | None:
    """Return how far a constant, spread over a step's tensor, is from its moved self; None if none can be."""
    try:
        spread = constant.detach().double().expand(step.shape).clone()
    except RuntimeError:
        return None
    return relative_error(spread, step.expect(element, spread, setting))
