"""`subsampling`: a stride that does not fit the size leaves out rows and columns on one side."""

from collections.abc import Iterator

from eqaudit.diagnosis.base import Rule, Scene, Suspect, cut_of, window_of
from eqaudit.diagnosis.steps import Step
from eqaudit.loader import Operation


def find(scene: Scene) -> Iterator[Suspect]:
    """Compare size, padding, kernel and stride of every window that a breaking step slides over a map."""
    for step in scene.network.breaking:
        found = [evidence for operation in step.operations if (evidence := misfit(operation))]
        for evidence in [*found, *_sliced(step)]:
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


def _sliced(step: Step) -> Iterator[str]:
    """Say the same of indexing with a step, ``x[..., ::2]``: a window of one cell.

    Not where every place is taken by one of several such slices: patches, and nothing is left out.
    """
    cuts = [cut for operation in step.operations if (cut := cut_of(operation, step)) and cut.every > 1]
    for cut in cuts:
        starts = {other.before for other in cuts if (other.dim, other.every) == (cut.dim, cut.every)}
        if cut.before != cut.behind and len(starts) < cut.every:
            taken = f"one of {cut.every} cells of {cut.size}"
            yield f"slice: {taken}, {cut.before} left over on one side and {cut.behind} on the other"


RULE = Rule(
    "subsampling",
    "choose an input size, or a padding, with which every stride fits; sizes that were run are listed",
    find,
)
