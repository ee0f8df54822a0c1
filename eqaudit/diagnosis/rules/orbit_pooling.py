"""`orbit-pooling`: a reduction over some, and not all, of the channels that turn into each other."""

from collections.abc import Iterator

from eqaudit.diagnosis.base import Rule, Scene, Suspect
from eqaudit.diagnosis.steps import Step

REDUCTIONS = frozenset(
    {"amax", "amin", "max", "mean", "min", "sum", "logsumexp", "norm", "select", "slice", "index", "narrow"}
)


def find(scene: Scene) -> Iterator[Suspect]:
    """Look for reductions of channels whose action is known before and gone behind."""
    for step in scene.network.breaking:
        if step.before is None or step.before.action is None:
            continue
        before, after = _channels(step.before), _channels(step)
        names = [operation.name for operation in step.operations if operation.name in REDUCTIONS]
        if names and after < before:
            words = step.before.action.named.words
            yield Suspect(f"{names[-1]} makes {after} channels of {before}, which are {words}", step)


def _channels(step: Step) -> int:
    cells = 1
    if step.layout.tokens is not None:
        cells = step.shape[step.layout.tokens.axis]
    elif step.layout.dims is not None:
        cells = step.shape[step.layout.dims[0]] * step.shape[step.layout.dims[1]]
    return step.shape[1:].numel() // max(cells, 1)


RULE = Rule("orbit-pooling", "pool over all channels of each field, or over none", find)
