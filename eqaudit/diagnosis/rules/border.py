"""`border`: at angles between quarter turns the rim of a map holds what padding made of the edge."""

import dataclasses
from collections.abc import Iterator

from eqaudit.diagnosis.base import Rule, Scene, Suspect
from eqaudit.engine.base import Space, on_device
from eqaudit.engine.measure import measure_batch
from eqaudit.engine.references import Batch
from eqaudit.groups import Pose
from eqaudit.report import HOLDING

SHRUNK = 0.2
"""Share of the inscribed circle's radius that is masked in the experiment, beside the audit's margin."""
NOTABLE = 0.1
"""Share of the error that must go: a smaller picture alone changes it a little."""


def find(scene: Scene) -> Iterator[Suspect]:
    """Measure the worst resampled element again with the border of the images masked."""
    rows = {row.element: row for row in scene.report.gating_output.errors}
    poses = [pose for pose in scene.run.setting.poses if not pose.exact]
    failing = [pose for pose in poses if rows[pose.name].class_ not in HOLDING and rows[pose.name].error]
    if not failing:
        return
    worst = max(failing, key=lambda pose: rows[pose.name].error or 0.0)
    own = scene.run.setting.space
    margin = (own.margin or 0.0) + SHRUNK * min(scene.network.images.shape[-2:]) / 2
    masked = dataclasses.replace(
        own,
        boundary="disc",
        margin=margin,
        images=dataclasses.replace(own.images, extension="blank"),
        features=dataclasses.replace(own.features, extension="blank"),
        _points={},
    )
    before, after = (_error(scene, worst, space) for space in (own, masked))
    if before is not None and after is not None and after < (1 - NOTABLE) * before:
        evidence = f"{worst.name}: {before:.2g}, and {after:.2g} with {margin:.2g} pixels of border masked"
        yield Suspect(evidence, None, "border masked", before, after)


def _error(scene: Scene, pose: Pose, space: Space) -> float | None:
    """Return the output error at one resampled pose."""
    run = scene.run
    gating = run.setting.gating
    setting = dataclasses.replace(
        run.setting, poses=(pose,), keep=lambda key: key == gating, layers=False, task=None, space=space
    )
    loaded = run.dataset.sample(run.setting.batch_size)
    batch = Batch(on_device(loaded.images, run.model), loaded.names, loaded.places)
    return measure_batch(run.model, batch, setting).taps[gating].measured(0).error


RULE = Rule("border", "leave the border out (--margin PIXELS), or pad the images beforehand", find)
