"""Cells at which turned features are compared: closed under exact moves, spread evenly, as good as all."""

from fractions import Fraction
from typing import get_args

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import eqaudit
from eqaudit.engine.base import Space
from eqaudit.engine.still import MovedImages, Still
from eqaudit.groups import Element, Group
from eqaudit.plan import PointsName, SpaceOptions
from eqaudit.report import ElementError, Report
from eqaudit.transforms import Resampler, Shift, Table, act, choose_points, disc_mask, split

SIDES = [(12, 12), (13, 13), (9, 14)]


def _elements(height: int, width: int) -> list[Element]:
    """Return elements of D16 that a map of this size has."""
    every = Group.named("D16").elements
    return [
        element for element in every if height == width or not element.exact or element.quarter_turns % 2 == 0
    ]


@pytest.mark.parametrize("sides", SIDES)
def test_a_turn_is_a_turn_by_less_and_an_exact_move(sides: tuple[int, int]) -> None:
    """The two parts compose to the element, and the first is below a quarter where sides are equal."""
    for element in _elements(*sides):
        turn, after = split(element, square=sides[0] == sides[1])
        assert after.exact
        assert after @ Element(mirrored=False, k=turn.numerator, n=turn.denominator) == element
        assert 0 <= turn < (Fraction(1, 4) if sides[0] == sides[1] else 1)


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("count", [None, 24])
def test_points_read_what_whole_maps_hold(sides: tuple[int, int], count: int | None) -> None:
    """The turned maps at the points are those of the resampler, whatever exact move is left out."""
    maps = torch.rand((2, 3, *sides), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    resampler = Resampler("spline", "blank")
    points = choose_points(disc_mask(*sides, 0.5), count, 0)
    table = Table(maps, resampler)
    for element in _elements(*sides):
        turn, after = split(element, square=sides[0] == sides[1])
        expected = points.of(act(element, maps, resampler), after)
        torch.testing.assert_close(table.turned(turn, points), expected, rtol=0, atol=1e-11)
    shifted = act(Shift(0.3, -0.4), maps, resampler)
    torch.testing.assert_close(table.shifted(0.3, -0.4, points), points.of(shifted), rtol=0, atol=1e-11)


@settings(max_examples=30)
@given(st.integers(5, 40), st.integers(5, 40), st.integers(1, 200), st.integers(0, 5), st.floats(0.0, 2.0))
def test_points_are_inside_distinct_and_closed(
    height: int, width: int, count: int, seed: int, margin: float
) -> None:
    """Every exact move of the shape maps the points to themselves."""
    mask = disc_mask(height, width, margin)
    points = choose_points(mask, count, seed)
    places = points.places
    assert len(set(places.tolist())) == len(places) > 0
    assert mask.flatten()[places].all()
    chosen = torch.zeros(height * width)
    chosen[places] = 1
    for element in Group.named("D4" if height == width else "D2").elements:
        assert torch.equal(
            act(element, chosen.view(height, width), Resampler("nearest", "zeros")).flatten(), chosen
        )


def test_every_cell_is_as_likely_as_any_other() -> None:
    """Over 4,000 seeds each cell of a 12 x 12 map is drawn about equally often; no quarter goes without."""
    mask = torch.ones(12, 12, dtype=torch.bool)
    drawn = torch.zeros(144)
    for seed in range(4_000):
        places = choose_points(mask, 48, seed).places
        drawn[places] += 1
        assert len({(int(place) // 12 // 6, int(place) % 12 // 6) for place in places}) == 4
    assert float(drawn.max() / drawn.min()) < 1.2


def test_the_mean_over_points_is_that_over_all_cells() -> None:
    """On maps of smooth structure, within 2 % of the sum of squares on average over seeds."""
    maps = torch.rand((8, 16, 40, 40), generator=torch.Generator().manual_seed(0))
    maps = nn.functional.avg_pool2d(maps, 5, 1, 2).square()
    mask = disc_mask(40, 40)
    whole = float((maps * mask).sum() / mask.sum())
    found = [float(choose_points(mask, 128, seed).of(maps).mean(-1).sum()) for seed in range(200)]
    assert np.mean(found) == pytest.approx(whole, rel=0.01)
    assert np.std(found) < 0.03 * whole


def test_moved_images_are_those_of_single_moves() -> None:
    """What elements share is resampled once, and gives each of them what it gives alone."""
    images = torch.rand((2, 1, 11, 11), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    resampler = Resampler("bicubic", "reflect")
    copies = MovedImages(images, resampler)
    for element in sorted(Group.named("D8").elements, key=copies.order):
        torch.testing.assert_close(copies.at(element), act(element, images, resampler), rtol=0, atol=1e-12)


@pytest.mark.parametrize("side", [6, 7])
def test_still_features_expect_what_moves_give(side: int) -> None:
    """Exact moves of maps and of their transposes; the maps come back as they were."""
    maps = torch.rand((2, 3, side, side), generator=torch.Generator().manual_seed(0))
    still = Still(maps.clone(), spatial=True, resampler=Resampler("spline", "blank"))
    for element in [*Group.named("D4").elements, *Group.named("D4").elements[::-1]]:
        assert torch.equal(still.expect(element).value, act(element, maps, Resampler("spline", "blank")))
    assert torch.equal(still.value, maps)
    wide = Still(maps[..., :-1].clone(), spatial=True, resampler=Resampler("spline", "blank"))
    assert wide.expect(Element(mirrored=False, k=1, n=4)).value.shape == (2, 3, side - 1, side)


def test_few_images_are_compared_at_more_points() -> None:
    """Together as many as of 64 images; of one or two images every cell."""
    key, resampler = ("layer", "conv", 0), Resampler("spline", "blank")
    places = {}
    for samples in (1, 2, 8, 16, 64, 4096):
        space = Space(resampler, resampler, "disc", 0.0, {}, {}, samples=samples)
        points = space.points(key, 96, 96, torch.device("cpu"))
        assert points is not None
        places[samples] = len(points.places)
    assert places[1] == places[2] == int(disc_mask(96, 96, 0.0).sum())
    assert places[64] == places[4096] == pytest.approx(9216 / 32, rel=0.03)
    assert [places[few] * few for few in (8, 16)] == pytest.approx([64 * places[64]] * 2, rel=0.03)


def layer_errors(report: Report) -> dict[tuple[str, str], ElementError]:
    """Return the errors of layers by layer and element."""
    return {(layer.name, error.element): error for layer in report.layers for error in layer.errors}


def test_errors_at_points_are_those_at_all_cells_within_their_intervals() -> None:
    """A plain network: each layer at each angle; exact poses and outputs are the same numbers."""
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 8, 5, padding=2), nn.ReLU(), nn.Conv2d(8, 2, 1)
    )
    reports = [
        eqaudit.audit(
            net, angles="30,45,90,100", space=SpaceOptions(points=points), samples=32, input_shape=(1, 48, 48)
        )
        for points in get_args(PointsName)
    ]
    some, every = (layer_errors(report) for report in reports)
    assert [report.resampling.points for report in reports if report.resampling] == ["some", "all"]
    for place, whole in every.items():
        assert whole.ci95 is not None
        assert whole.error is not None
        assert some[place].error == pytest.approx(whole.error, rel=0.1)
        assert whole.ci95[0] <= (some[place].error or 0.0) <= whole.ci95[1]
        if place[1] == "r90":
            assert some[place].error == pytest.approx(whole.error, rel=1e-6)
    for one, other in zip(*(report.outputs[0].errors for report in reports), strict=True):
        assert one.error == pytest.approx(other.error, rel=1e-6)
