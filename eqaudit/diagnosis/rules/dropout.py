"""`dropout`: random numbers at work while the model is measured."""

from collections.abc import Iterator

from eqaudit.diagnosis.base import Rule, Scene, Suspect
from eqaudit.diagnosis.steps import Step

RANDOM = frozenset(
    {"alpha_dropout", "bernoulli", "dropout", "feature_dropout", "multinomial", "normal", "random", "uniform"}
)


def find(scene: Scene) -> Iterator[Suspect]:
    """Take what running the same images again changed."""
    found = scene.report.determinism
    if found.cause == "random" and found.repeat is not None:
        evidence = f"the same images again: the output changes by {found.repeat:.2g}"
        before = max(scene.error, found.repeat)
        random: list[Step | None] = [
            step
            for step in scene.network.breaking
            if any(operation.name in RANDOM for operation in step.operations)
        ]
        for step in random or [None]:
            yield Suspect(evidence, step, "the same images run twice", before, before - found.repeat)


RULE = Rule(
    "dropout", "call model.eval() before saving; leave no functional dropout with training=True", find
)
