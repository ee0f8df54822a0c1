"""`batch-statistics`: a normalisation that looks at the other images of the batch."""

from collections.abc import Iterator

from eqaudit.diagnosis.base import Rule, Scene, Suspect


def find(scene: Scene) -> Iterator[Suspect]:
    """Take what running the images in other batches changed."""
    found = scene.report.determinism
    if found.cause == "depends on the batch" and found.rebatch is not None:
        evidence = f"the same images in other batches: the output changes by {found.rebatch:.2g}"
        before = max(scene.error, found.rebatch)
        yield Suspect(evidence, None, "images in other batches", before, before - found.rebatch)


RULE = Rule(
    "batch-statistics", "call model.eval() before saving, or give the normalisation fixed statistics", find
)
