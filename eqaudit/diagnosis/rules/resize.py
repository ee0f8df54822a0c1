"""`resize`: interpolation to a size whose cells do not lie symmetrically about the centre."""

from collections.abc import Iterator

from eqaudit.diagnosis.base import Rule, Scene, Suspect, data_of


def find(scene: Scene) -> Iterator[Suspect]:
    """Look for interpolation in breaking steps."""
    for step in scene.network.breaking:
        for operation in step.operations:
            before, after = data_of(operation), operation.result
            if operation.name == "interpolate" and before is not None and after is not None:
                sizes = f"{before[-2]}x{before[-1]} to {after[-2]}x{after[-1]}"
                yield Suspect(f"interpolation from {sizes}", step)


RULE = Rule(
    "resize",
    'resize by a whole factor, or with mode "bilinear" or "nearest-exact" instead of "nearest"',
    find,
)
