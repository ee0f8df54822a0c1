"""What is done when memory runs out: fewer images at once, then fewer layers at once."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Callable, Iterator
from functools import reduce
from typing import TypeVar

import torch

from eqaudit.engine.base import Key, Setting
from eqaudit.engine.measure import Unit
from eqaudit.engine.references import Batch
from eqaudit.errors import ModelError, is_out_of_memory

MOST_PARTS = 64
Result = TypeVar("Result")


class Room:
    """How much is run at once: so many ``images``, and the layers in so many ``parts``. It only shrinks."""

    def __init__(self, images: int, *, fixed: bool) -> None:
        self.images, self.parts = images, 1
        self._asked, self._fixed = images, fixed

    @property
    def notes(self) -> list[str]:
        """What a reader of the report must know."""
        found = []
        if self.images < self._asked:
            found.append(f"memory was too small for batches of {self._asked}: {self.images} images at once")
        if self.parts > 1:
            found.append(f"memory was too small for all layers at once: measured in {self.parts} passes")
        return found

    def prepare(self, work: Callable[[int], Result]) -> Result:
        """Do some work on as many images as memory holds.

        Raises
        ------
        ModelError
            It does not hold one.
        """
        return self._retry(lambda: work(self.images), most_parts=1)

    def measure(self, measure: Callable[[Batch, Setting], Unit], batch: Batch, setting: Setting) -> Unit:
        """Measure a batch, in as many pieces as memory needs; raises as `prepare`."""

        def work() -> Unit:
            pieces = [_slice(batch, start, self.images) for start in range(0, len(batch.places), self.images)]
            settings = list(_parts(setting, self.parts))
            return reduce(
                Unit.merge, [_join([measure(piece, part) for part in settings]) for piece in pieces]
            )

        return self._retry(work, most_parts=MOST_PARTS)

    def _retry(self, work: Callable[[], Result], most_parts: int) -> Result:
        while True:
            try:
                return work()
            except Exception as error:
                if not _out_of_memory(error):
                    raise
                if self.images > 1 and not self._fixed:
                    self.images //= 2
                elif self.parts < most_parts:
                    self.parts *= 2
                else:
                    raise ModelError(
                        "not enough memory, even for the fewest images at once",
                        "use smaller images, fewer --layers, or another --device",
                    ) from error
            gc.collect()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()


def _out_of_memory(error: BaseException | None) -> bool:
    """Whether memory ran out, also where the model's own error is the cause of ours."""
    while error is not None:
        if isinstance(error, MemoryError) or is_out_of_memory(str(error)):
            return True
        error = error.__cause__
    return False


def _slice(batch: Batch, start: int, count: int) -> Batch:
    rows = slice(start, start + count)
    targets = None if batch.targets is None else batch.targets[rows]
    return Batch(batch.images[rows], batch.names[rows], batch.places[rows], targets)


def _parts(setting: Setting, count: int) -> Iterator[Setting]:
    """Yield the setting with some of the layers at a time; the first has the outputs too."""
    if count == 1:
        yield setting
        return
    layers = [key for key in setting.space.cells if key[0] == "layer" and setting.keep(key)]
    for place in range(count):
        chosen = frozenset(layers[place * len(layers) // count : (place + 1) * len(layers) // count])
        yield dataclasses.replace(setting, keep=_chooser(setting, chosen, outputs=place == 0))


def _chooser(setting: Setting, chosen: frozenset[Key], *, outputs: bool) -> Callable[[Key], bool]:
    return lambda key: key in chosen or (outputs and key[0] == "output" and setting.keep(key))


def _join(units: list[Unit]) -> Unit:
    """Put the layers of the same images together, in order of execution: outputs come last."""
    first, *rest = units
    taps = {key: sums for key, sums in first.taps.items() if key[0] == "layer"}
    for unit in rest:
        taps |= unit.taps
    return Unit(first.names, taps | first.taps, first.outputs)
