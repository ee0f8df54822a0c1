"""`one-sided-padding`: a map that grows or shrinks more on one side than on the other is shifted."""

from collections.abc import Iterator, Sequence

from eqaudit.diagnosis.base import Rule, Scene, Suspect, cut_of, two
from eqaudit.diagnosis.steps import Step
from eqaudit.loader import Operation

PADS = frozenset({"pad", "constant_pad_nd", "reflection_pad2d", "replication_pad2d"})


def find(scene: Scene) -> Iterator[Suspect]:
    """Look for padding, cropping and output padding in breaking steps."""
    for step in scene.network.breaking:
        for operation in step.operations:
            evidence = _padded(operation) or _cropped(operation, step)
            if evidence is not None:
                yield Suspect(evidence, step)


def _padded(operation: Operation) -> str | None:
    given = operation.arguments
    extra = two(given.get("output_padding"), (0, 0))
    if operation.name == "conv_transpose2d" and any(extra):
        return f"output_padding {extra} adds cells at the bottom and on the right"
    pad = given.get("pad", given.get("padding"))
    if operation.name not in PADS or not isinstance(pad, Sequence):
        return None
    sides = [int(size) for size in pad]
    if sides[::2] == sides[1::2]:
        return None
    return f"padding left, right, top, bottom: {', '.join(map(str, sides))}"


def _cropped(operation: Operation, step: Step) -> str | None:
    cut = cut_of(operation, step)
    if cut is None or cut.every > 1 or cut.before == cut.behind:
        return None
    return f"cropped by {cut.before} cells on one side and {cut.behind} on the other"


RULE = Rule("one-sided-padding", "pad or crop both sides alike; then check that strides still fit", find)
