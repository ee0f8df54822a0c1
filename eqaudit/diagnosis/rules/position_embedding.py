"""`position-embedding`: a constant that is not the same at every place is added or multiplied."""

from collections.abc import Iterator

from eqaudit.diagnosis.base import Rule, Scene, Suspect, asymmetry, constants_of

JOINS = frozenset({"add", "sub", "mul", "div"})
UNIFORM = 1e-6


def find(scene: Scene) -> Iterator[Suspect]:
    """Look for constants that vary over space, and not as their own moved copies do."""
    for step in scene.network.breaking:
        if not step.layout.spatial:
            continue
        for operation in step.operations:
            for constant in constants_of(operation) if operation.name in JOINS else ():
                error = asymmetry(constant, step, scene.setting, scene.element)
                if error is None or error <= scene.network.limit:
                    continue
                inside = step.layout.space_last(constant.double().expand(step.shape))
                if float(inside.std((-2, -1)).max()) > UNIFORM * float(inside.abs().max()):
                    what = "x".join(map(str, constant.shape))
                    moved = f"differs from itself moved by {scene.element} by {error:.2g}"
                    yield Suspect(f"a constant of {what} {moved}", step)


RULE = Rule("position-embedding", "use relative positions, or average the embedding over the group", find)
