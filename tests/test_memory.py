"""When memory runs out: fewer images at once, then fewer layers; the numbers stay."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

import eqaudit
from eqaudit.engine.arena import Arena
from eqaudit.engine.base import Setting
from eqaudit.engine.measure import Unit, measure_batch
from eqaudit.engine.references import Batch
from eqaudit.errors import EqauditError, ModelError
from eqaudit.loader import AuditModel
from eqaudit.report import Report

IMAGES = torch.rand((12, 1, 12, 12), generator=torch.Generator().manual_seed(0))


class Greedy(nn.Module):
    """Two convolutions that have no memory for more than so many images at once."""

    def __init__(self, most: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.first, self.second = nn.Conv2d(1, 3, 3, padding=1), nn.Conv2d(3, 2, 3, padding=1)
        with torch.no_grad():
            for weight in self.parameters():
                weight.copy_(torch.rand(weight.shape, generator=generator) - 0.5)
        self.most = most

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return scores (B, 2)."""
        if len(x) > self.most:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes.")
        scores: torch.Tensor = self.second(self.first(x).relu()).mean((2, 3))
        return scores


def _numbers(report: Report) -> list[float]:
    every = [*report.layers, *report.outputs]
    return [error.error or 0.0 for layer in every for error in layer.errors]


@pytest.mark.parametrize("most", [3, 4, 8])
def test_the_batch_is_halved_and_said_once(most: int) -> None:
    """Errors are those of the whole batch but for rounding; the report says how many images ran at once."""
    plain = eqaudit.audit(Greedy(100), IMAGES, batch_size=12)
    less = eqaudit.audit(Greedy(most), IMAGES, batch_size=12)
    assert _numbers(less) == pytest.approx(_numbers(plain), rel=1e-5)
    assert [layer.name for layer in less.layers] == [layer.name for layer in plain.layers]
    said = [warning for warning in less.warnings if "memory" in warning]
    assert len(said) == 1
    assert "batches of 12" in said[0]
    assert not any("memory" in warning for warning in plain.warnings)
    assert less.inputs.samples == 12


def test_layers_are_measured_in_passes_when_one_image_is_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pass keeps some of the layers; all stand in the report, in order, with the same numbers."""
    plain = eqaudit.audit(Greedy(100), IMAGES, batch_size=4)

    def cramped(
        model: AuditModel, batch: Batch, setting: Setting, on_pose: Callable[[int], None], arena: Arena
    ) -> Unit:
        kept = [key for key in setting.space.cells if setting.keep(key)]
        if len(kept) * len(batch.places) > 2:
            raise MemoryError
        return measure_batch(model, batch, setting, on_pose, arena)

    monkeypatch.setattr("eqaudit.engine.loop.measure_batch", cramped)
    less = eqaudit.audit(Greedy(100), IMAGES, batch_size=4)
    assert _numbers(less) == pytest.approx(_numbers(plain), rel=1e-5)
    assert [layer.name for layer in less.layers] == [layer.name for layer in plain.layers]
    assert any("2 passes" in warning for warning in less.warnings)


def test_too_little_for_one_image_is_an_error() -> None:
    """It names the memory, before and after the first call."""
    for most in (0, 3):
        net = Greedy(most)
        net.register_forward_hook(lambda net, _inputs, _output: setattr(net, "most", net.most - 1))
        with pytest.raises(EqauditError) as caught:
            eqaudit.audit(net, IMAGES)
        assert "memory" in caught.value.message


def test_another_error_is_not_tried_again() -> None:
    """A model that raises for its own reasons raises once."""
    calls = []

    class Moody(Greedy):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            calls.append(len(x))
            if len(calls) > 12:
                raise ValueError("I have had enough")
            return super().forward(x)

    with pytest.raises(ModelError, match="had enough"):
        eqaudit.audit(Moody(100), IMAGES)
    assert len(calls) == 13
