"""`subsampling`: a stride that does not fit the size leaves out rows and columns on one side."""

from collections.abc import Iterator

from eqaudit.diagnosis.base import Rule, Scene, Suspect, data_of, is_space, window_of
from eqaudit.diagnosis.steps import Step
from eqaudit.loader import Operation


def find(scene: Scene) -> Iterator[Suspect]:
    """Compare size, padding, kernel and stride of every window that a breaking step slides over a map."""
    for step in scene.network.breaking:
        for operation in step.operations:
            evidence = misfit(operation) or _sliced(operation, step)
            if evidence is not None:
                yield Suspect(evidence, step)


def misfit(operation: Operation) -> str | None:
    """Say how the stride of a convolution or a pooling misses the size; None where it fits."""
    window = window_of(operation)
    if window is None or isinstance(window.padding, str):
        return None
    for side in (0, 1):
        left = window.left_over(side)
        if left:
            size, padding, reach = window.sizes[side], window.padding[side], window.reach(side)
            stride = window.stride[side]
            return f"{operation.name}: ({size} + 2*{padding} - {reach}) mod {stride} = {left}"
    return None


def _sliced(operation: Operation, step: Step) -> str | None:
    """Say the same of an indexing with a step, ``x[..., ::2]``: a window of one cell."""
    before, every = data_of(operation), operation.arguments.get("step")
    dim = operation.arguments.get("dim")
    if operation.name != "slice" or before is None or not isinstance(every, int) or not isinstance(dim, int):
        return None
    if not is_space(dim, before, step) or not (before[dim] - 1) % every:
        return None
    return f"slice: ({before[dim]} - 1) mod {every} = {(before[dim] - 1) % every}"


RULE = Rule(
    "subsampling",
    "choose an input size, or a padding, with which every stride fits; sizes that were run are listed",
    find,
)
