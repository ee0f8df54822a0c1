"""`roll`: a map is moved by whole cells, and what leaves on one side comes back on the other."""

from collections.abc import Iterator

from eqaudit.diagnosis.base import Rule, Scene, Suspect


def find(scene: Scene) -> Iterator[Suspect]:
    """Look for rolling in breaking steps: rolled back, it does not break."""
    for step in scene.network.breaking:
        for operation in step.operations:
            if operation.name == "roll":
                yield Suspect(f"rolled by {operation.arguments.get('shifts')}", step)


RULE = Rule("roll", "roll back by as much, or shift windows by half of one that fits the map evenly", find)
