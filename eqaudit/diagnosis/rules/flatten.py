"""`flatten`: a linear layer that sees every place with a weight of its own."""

from collections.abc import Iterator

from eqaudit.diagnosis.base import Rule, Scene, Suspect, flattened
from eqaudit.report import describe_shape

LINEAR = frozenset({"linear", "addmm", "matmul", "mm"})


def find(scene: Scene) -> Iterator[Suspect]:
    """Look for a flattened map before a linear layer."""
    for step in scene.network.breaking:
        before = flattened(step)
        if before is not None and any(operation.name in LINEAR for operation in step.operations):
            shape = describe_shape(before[1:])
            yield Suspect(f"a map of {shape} is flattened into {before[1:].numel():,} inputs", step)


RULE = Rule("flatten", "pool over space (mean or maximum) before the linear layer", find)
