"""Lie derivatives: what a turn too small for resampling does, against finite differences and sweeps."""

import math
import sys
from fractions import Fraction
from pathlib import Path
from typing import Literal

import pytest
import torch
from group_networks import images, seeded, vision_transformer
from models_zoo import compiled
from test_exported import export
from torch import Tensor, nn
from torch.nn import functional

import eqaudit
from eqaudit.diagnosis.lie import MARGIN, TURN, band_limited
from eqaudit.report import Diagnosis
from eqaudit.transforms import Resampler, disc_mask, slope_matrix

sys.path.append(str(Path(__file__).parents[1] / "fixtures" / "models"))
from _p4 import p4_layers
from _weights import seeded as fixture_weights

SIDE, COUNT = 40, 4
SMALL = Fraction(1, 36_000)
"""A hundredth of a degree."""
SPLINE = Resampler("spline", "reflect")


def diagnose(model: nn.Module | Path, photos: Tensor) -> Diagnosis:
    """Return the diagnosis of a network under C4."""
    found = eqaudit.audit(model, photos, group="C4", diagnose=True).diagnose
    assert found is not None
    return found


def turn_of(found: Diagnosis, name: str | None = None) -> float:
    """Return the Lie derivative of a layer, or of the output."""
    lie = found.lie_derivative
    if name is not None:
        lie = next(layer.lie_derivative for layer in found.layers if layer.name == name)
    assert lie is not None
    return lie.turn


def finite_difference(model: nn.Module, photos: Tensor) -> float:
    """Return |d/dt (T_-t F(T_t x))| / |F(x)| from small turns both ways, inside the disc where F is a map."""
    still = band_limited(photos.double())
    with torch.no_grad():
        features = model(still)
        moved = [model(SPLINE.turn(still, turn)) for turn in (SMALL, -SMALL)]
    mask = torch.ones(())
    if features.ndim == 4:
        moved = [SPLINE.turn(each, -turn) for each, turn in zip(moved, (SMALL, -SMALL), strict=True)]
        cell = photos.shape[-1] / features.shape[-1]
        mask = disc_mask(features.shape[-2], features.shape[-1], MARGIN / cell)
    slope = (moved[0] - moved[1]) / (4 * math.pi * float(SMALL))
    return float((slope * mask).norm() / (features * mask).norm())


def plain_network() -> nn.Sequential:
    """Return a network of smooth and kinked nonlinearities, pooling and a linear head."""
    with seeded(1):
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1),
            nn.GELU(),
            nn.Conv2d(8, 8, 3, padding=1, stride=2),
            nn.ReLU(),
            nn.AvgPool2d(2),
            nn.Flatten(),
            nn.Linear(8 * 10 * 10, 5),
        )


@pytest.mark.parametrize(("wave", "limit"), [(4, 6e-3), (8, 6e-5), (12, 5e-6), (24, 1e-7)])
def test_the_slope_of_a_wave_is_that_of_calculus(wave: int, limit: float) -> None:
    """The scheme is of order 6: half the frequency, a sixty-fourth of the relative error."""
    places = 2 * math.pi / wave * torch.arange(96, dtype=torch.float64)
    slopes = slope_matrix(96) @ places.sin() * wave / (2 * math.pi)
    assert float((slopes - places.cos())[24:-24].abs().max()) < limit


def test_the_generator_of_turns_is_that_of_calculus() -> None:
    """A blob off the centre, and a centred one, which no turn moves."""
    offsets = torch.arange(64, dtype=torch.float64) - 31.5
    rows, columns = torch.meshgrid(offsets, offsets, indexing="ij")
    blob = torch.exp(-((rows - 9) ** 2 + (columns - 4) ** 2) / 50)
    # A point at (row, column) comes from (row, column) + t (column, -row).
    exact = blob * (-(rows - 9) * columns + (columns - 4) * rows) / 25
    assert float((TURN.act(blob) - exact).norm() / exact.norm()) < 1e-5
    assert float(TURN.act(torch.exp(-(rows**2 + columns**2) / 50)).abs().max()) < 1e-5


def test_the_identity_has_none_and_a_pointwise_network_next_to_none() -> None:
    """What is the same at every place commutes with every motion."""
    found = diagnose(nn.Sequential(nn.Identity(), nn.Hardtanh(-9, 9)), images(COUNT, 64))
    assert turn_of(found) == 0
    with seeded(2):
        pointwise = nn.Sequential(
            nn.Conv2d(3, 8, 1), nn.Tanh(), nn.Conv2d(8, 8, 1), nn.GELU(), nn.Conv2d(8, 4, 1)
        )
    found = diagnose(pointwise, images(COUNT, 64))
    assert 0 < turn_of(found) < 1e-5
    assert max(turn_of(found, name) for name in "01234") < 1e-5


@pytest.mark.parametrize("layer", [0, 1, 2, 3, 4, 6])
def test_it_agrees_with_finite_differences_at_every_layer(layer: int) -> None:
    """Maps of the image's size, of half and of a quarter of it, and vectors; one percent is asked for."""
    photos = images(COUNT, SIDE)
    network = plain_network()
    found = diagnose(network, photos)
    expected = finite_difference(network[: layer + 1].double(), photos)
    assert turn_of(found, str(layer)) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("how", ["code", "scripted", "traced", "exported"])
def test_attention_is_differentiated_whatever_the_model_came_as(
    how: Literal["code", "scripted", "traced", "exported"], tmp_path: Path
) -> None:
    """Fused attention has no forward mode; the plain one is taken."""
    model, photos = vision_transformer(class_token=True), images(COUNT, 24)
    given: nn.Module | Path = model
    if how in ("scripted", "traced"):
        given = tmp_path / "model.pt"
        torch.jit.save(compiled(model, how, (3, 24, 24), COUNT), given)
    elif how == "exported":
        given = tmp_path / "model.pt2"
        given.write_bytes(export(model, photos))
    fused = torch.backends.mha.get_fastpath_enabled()
    assert turn_of(diagnose(given, photos)) == pytest.approx(
        finite_difference(model.double(), photos), rel=0.01
    )
    assert torch.backends.mha.get_fastpath_enabled() == fused


class Opaque(torch.autograd.Function):
    """A function without a forward mode."""

    @staticmethod
    def forward(_context: object, features: Tensor) -> Tensor:
        """Double."""
        return 2 * features


class OpaqueLayer(nn.Module):
    """Calls it."""

    def forward(self, features: Tensor) -> Tensor:
        """Double."""
        doubled: Tensor = Opaque.apply(features)  # type: ignore[no-untyped-call]
        return doubled


def test_an_operator_without_forward_mode_leaves_the_rest_of_the_diagnosis() -> None:
    """The reason is said, in the report."""
    found = diagnose(nn.Sequential(OpaqueLayer(), plain_network()), images(COUNT, SIDE))
    assert found.lie_derivative is None
    assert found.lie_reason is not None
    assert "forward" in found.lie_reason
    assert found.causes


def test_layers_whose_channels_turn_have_none() -> None:
    """A group of four turns has no small ones; the output, which does not turn, has a number."""
    found = diagnose(seeded_p4(0), images(COUNT, SIDE))
    by_name = {layer.name: layer.lie_derivative for layer in found.layers}
    assert by_name["lift"] is by_name["p4conv2"] is None
    assert turn_of(found) > 0


def seeded_p4(seed: int) -> nn.Sequential:
    """Return a p4 network with an invariant head."""
    return fixture_weights(nn.Sequential(p4_layers(fields=4, depth=2)), seed)


def waves(count: int, seed: int) -> tuple[Tensor, Tensor]:
    """Return noisy vertical waves `(count, 3, SIDE, SIDE)`, and which of four frequencies they have."""
    with seeded(seed):
        labels = torch.randint(4, (count,))
        wave = torch.cos((0.3 + 0.3 * labels[:, None, None]) * torch.arange(SIDE))
        noise = 0.1 * torch.randn(count, 3, SIDE, SIDE)
        return (0.5 + 0.25 * wave.unsqueeze(1) + noise).clamp(0, 1), labels


def trained(network: nn.Module) -> nn.Module:
    """Train for some steps."""
    optimiser = torch.optim.Adam(network.parameters(), 0.02)
    pictures, labels = waves(48, 0)
    for _ in range(30):
        optimiser.zero_grad()
        functional.cross_entropy(network(pictures), labels).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return network


def test_trained_networks_rank_as_in_a_sweep() -> None:
    """A plain network that learnt vertical waves is worse than a p4 network that did, at every angle."""
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    plain = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5))
    networks = [trained(fixture_weights(plain, 1)), trained(seeded_p4(1))]
    pictures, _ = waves(16, 1)
    turns = [turn_of(diagnose(network, pictures)) for network in networks]
    sweeps = [eqaudit.audit(network, pictures, angles="15,30,45") for network in networks]
    assert turns[0] > turns[1] > 0
    for one, other in zip(*(sweep.gating_output.errors for sweep in sweeps), strict=True):
        assert (one.error or 0.0) > (other.error or 0.0) > 0
