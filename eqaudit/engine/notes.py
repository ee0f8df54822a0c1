"""What a reader must know before believing the numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

from eqaudit.report import Determinism, WindowEffect

FEW_IMAGES = 16
LARGEST_WINDOW_EFFECT = 0.3


@dataclass(frozen=True, slots=True)
class Seen:
    """What was noticed on the way; None for nothing."""

    images: int
    model: tuple[str, ...]
    suspicion: str | None
    window: WindowEffect | None
    rerun: str | None
    determinism: Determinism


def notes(seen: Seen) -> list[str]:
    """Return the notes of a report, one sentence each."""
    found = list(seen.model)
    if seen.images == 1:
        found.append("one image: chance is unknown, so nothing can be called exact; give more images")
    elif seen.images < FEW_IMAGES:
        found.append(
            f"{seen.images} images: shares of chance are known to about {_spread(seen.images)} % only"
        )
    if seen.suspicion:
        found.append(seen.suspicion)
    if seen.window is not None and (seen.window.error or 0.0) > LARGEST_WINDOW_EFFECT:
        found.append(
            f"the disc window alone changes the output by {seen.window.error:.2g}: the model is judged on "
            "images with corners of 0 (--mean and --std make 0 a usual value, --boundary reflect fills them)"
        )
    if seen.rerun:
        found.append(f"not confirmed in float64: {seen.rerun}")
    if seen.determinism.note:
        found.append(f"determinism: {seen.determinism.note}")
    if seen.determinism.changes_input:
        found.append("the model changes its input: it overwrites the images that it is given")
    if seen.determinism.changes_random_state:
        found.append("the model changes the random state: it sets a seed or draws random numbers")
    return found


def _spread(images: int) -> int:
    """Percent by which chance varies between sets of images: about 15 at 32, 30 at 8, 50 at 4."""
    return round(85 / math.sqrt(images))
