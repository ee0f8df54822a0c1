"""Turns and shifts between pixels against scipy and scikit-image, and the laws that a turn obeys.

The oracle has its own geometry: a point of the plane is a complex number, and a turn a multiplication.
"""

import cmath
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from unittest.mock import Mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import ndimage
from skimage.transform import AffineTransform, rotate, warp

from eqaudit.groups import IDENTITY, MIRROR, Element, Group
from eqaudit.plan import Extension, Method
from eqaudit.transforms import (
    Resampler,
    RoundTrip,
    Shift,
    Table,
    act,
    choose_points,
    disc_mask,
    disc_window,
    is_exact,
    resampling,
)

Array = NDArray[np.float64]
Points = NDArray[np.complex128]
Size = tuple[int, int]


@dataclass(frozen=True)
class Limits:
    """What one method may leave, each a share of the largest pixel or of the picture's norm."""

    float64: float  # from the oracle: rounding of at most 36 products
    float32: float  # the same in float32: 36 products, and a prefilter whose inverse has norm 7
    placed: float  # a blob (sigma 2.5 px) from the blob drawn at the turned place: the method's blur
    composed: float  # T_a T_b from T_(a+b) on waves of 10 px and more: two blurs against one
    undone: float  # a shift and the shift back on the same waves: the blur of two shifts
    mass: float  # the sum of a picture: weights of all places a pixel goes to, which add up to 1 only roughly
    centre: float  # px, the centre of mass of the blob


LIMITS: dict[Method, Limits] = {
    # Copies pixels, so that it has no rounding, and puts them up to 0.7 px off.
    "nearest": Limits(0, 0, placed=0.25, composed=0.4, undone=0.01, mass=0.03, centre=0.3),
    # Blurs waves of 10 px by up to 5 % in one pass.
    "bilinear": Limits(1e-12, 1e-5, placed=0.05, composed=0.08, undone=0.15, mass=2e-3, centre=5e-3),
    # Third order: a tenth of that.
    "bicubic": Limits(1e-12, 1e-5, placed=5e-3, composed=8e-3, undone=0.015, mass=1e-3, centre=5e-4),
    # Sixth order: what is left is the tail of the waves that the border cuts off, 1e-4 of their peak.
    "spline": Limits(1e-12, 1e-5, placed=5e-5, composed=5e-4, undone=1e-3, mass=5e-4, centre=1e-5),
}
METHODS = list(LIMITS)
EXTENSIONS: list[Extension] = ["reflect", "zeros", "blank"]
# The spline keeps coefficients of zeros up to 12 cells beyond the border, where 0.43^12 = 4e-5 of a border
# pixel is left: near the border a part of that is missing, inside only what would come back from there.
CUT_AT_THE_BORDER, CUT_INSIDE, BORDER = 1e-5, 1e-9, 5
# Float64 rounding of two resamplings that are equal on paper; the spline's prefilter loses one digit.
ROUNDING = 1e-11
TIE = 1e-9
BEYOND = 48
SIZES: list[Size] = [(16, 16), (17, 17), (12, 20), (21, 14), (3, 3), (2, 5), (1, 1)]
SIDE = 48
tenths = st.integers(-3_600, 3_600).map(lambda tenth: Fraction(tenth, 3_600))


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Keep torch to one thread: on pictures this small more of them wait for each other."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def plane(size: Size) -> Points:
    """Return the pixels' places around the centre as complex numbers, x to the right and y up."""
    height, width = size
    x, y = np.arange(width) - (width - 1) / 2, (height - 1) / 2 - np.arange(height)
    return np.asarray(x[None, :] + 1j * y[:, None])


def circle(turn: Fraction) -> complex:
    """Return the number that turns the plane counter-clockwise."""
    return cmath.exp(2j * math.pi * float(turn))


def sources(size: Size, turn: Fraction) -> Array:
    """Return the row and the column that each pixel of a turned picture comes from, (2, H, W)."""
    points = plane(size) / circle(turn)
    return np.stack([(size[0] - 1) / 2 - points.imag, (size[1] - 1) / 2 + points.real])


def turn_by_oracle(picture: Array, turn: Fraction, method: Method, extension: Extension) -> Array:
    """Turn a picture (H, W) by scipy, and by scikit-image for the Keys cubic (a = -1/2)."""
    mode = {"reflect": "symmetric", "zeros": "constant"}[extension]
    if method == "bicubic":
        options = {"order": 3, "mode": mode, "clip": False, "preserve_range": True}
        return np.asarray(rotate(picture, float(turn * 360), **options))  # type: ignore[no-untyped-call]
    # Padded, because scipy's own prefilter for "reflect" is only right to 0.43^(2n - 1): 2e-2 for 3 pixels.
    padded = np.pad(picture, BEYOND, mode=mode)  # type: ignore[call-overload]
    order = {"nearest": 0, "bilinear": 1, "spline": 5}[method]
    return np.asarray(ndimage.map_coordinates(padded, sources(picture.shape, turn) + BEYOND, order=order))


def random_turns(seed: int, count: int = 20) -> list[Fraction]:
    """Return turns of any angle, none a multiple of 90 degrees."""
    return [Fraction(int(n), 1_000_003) for n in np.random.default_rng(seed).integers(1, 1_000_003, count)]


@pytest.mark.parametrize("method", ["bilinear", "bicubic", "spline"])
@pytest.mark.parametrize("size", [(12, 20), (21, 14)])
def test_transposed_maps_are_read_like_the_maps_themselves(method: Method, size: Size) -> None:
    """A table is made from maps in the form at hand: which of their sides comes first is no matter."""
    maps = torch.rand(2, 3, *size, dtype=torch.float64)
    resampler, turn = Resampler(method, "zeros"), Fraction(1, 12)
    points = choose_points(torch.ones(size, dtype=torch.bool), None, 0)
    plain = Table(maps, resampler).turned(turn, points)
    turned = Table(maps.transpose(-2, -1).contiguous(), resampler, transposed=True).turned(turn, points)
    assert torch.allclose(plain, turned, rtol=0, atol=ROUNDING)
    assert torch.allclose(plain, resampler.turn(maps, turn).flatten(-2), rtol=0, atol=ROUNDING)


def noise(*shape: int, seed: int = 0) -> Array:
    """Return the hardest pictures to interpolate."""
    return np.random.default_rng(seed).normal(size=shape)


def waves(seed: int, size: Size = (SIDE, SIDE)) -> torch.Tensor:
    """Return a band-limited picture: waves of 10 px and more under a Gaussian that is 1e-4 at the border."""
    random, points = np.random.default_rng(seed), plane(size)
    numbers = random.uniform(0, 0.1, 6) * np.exp(2j * np.pi * random.uniform(size=6))
    phases = [2 * np.pi * (points * number).real for number in numbers]
    picture = sum(np.cos(phase + start) for phase, start in zip(phases, random.uniform(0, 6, 6), strict=True))
    return torch.from_numpy(picture * np.exp(-((np.abs(points) / (min(size) / 6)) ** 2)))


def blob(at: complex, size: Size = (SIDE, SIDE)) -> torch.Tensor:
    """Return a Gaussian of 2.5 px around a point of the plane."""
    return torch.from_numpy(np.exp(-(np.abs(plane(size) - at) ** 2) / (2 * 2.5**2)))


def centre_of_mass(picture: torch.Tensor) -> complex:
    """Return the centre of mass as a point of the plane."""
    weights = picture.numpy()
    return complex((weights * plane(weights.shape)).sum() / weights.sum())


def distance(one: torch.Tensor, other: torch.Tensor) -> float:
    """Return |one - other| / |other| inside the disc."""
    height, width = other.shape[-2:]
    inside = disc_mask(height, width, 2)
    difference, power = (part[..., inside].double().square().sum() for part in (one - other, other))
    return math.sqrt(float(difference / power))


def largest(values: torch.Tensor | NDArray[np.floating]) -> float:
    """Return the largest absolute value, 0 of nothing."""
    return float(np.abs(np.asarray(values)).max(initial=0))


# Oracles ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", ["reflect", "zeros"])
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", SIZES)
def test_turns_are_those_of_scipy_and_scikit_image(size: Size, method: Method, extension: Extension) -> None:
    """Twenty random angles of random pictures agree in float64 and in float32."""
    limits, resampler = LIMITS[method], Resampler(method, extension)
    cut = method == "spline" and extension == "zeros"
    for seed, turn in enumerate(random_turns(size[0])):
        picture = noise(*size, seed=seed).astype(np.float32)
        expected = turn_by_oracle(picture.astype(np.float64), turn, method, extension)
        fine, coarse = (
            resampler.turn(torch.from_numpy(picture).to(dtype), turn).double().numpy() - expected
            for dtype in (torch.float64, torch.float32)
        )
        if method == "nearest":
            place = sources(size, turn)
            sure = (np.abs(place - np.floor(place) - 0.5) > TIE).all(axis=0)
            assert sure.mean() > 0.9
            fine, coarse = fine[sure], coarse[sure]
        peak = largest(picture)
        assert largest(fine) <= (CUT_AT_THE_BORDER if cut else limits.float64) * peak
        assert largest(coarse) <= limits.float32 * peak
        if cut:
            assert largest(fine[BORDER:-BORDER, BORDER:-BORDER]) <= CUT_INSIDE * peak


@pytest.mark.parametrize("extension", ["reflect", "zeros"])
@pytest.mark.parametrize("method", METHODS)
def test_shifts_are_those_of_scipy_and_scikit_image(method: Method, extension: Extension) -> None:
    """Ten random shifts down and to the right agree on a rectangle."""
    mode = {"reflect": "symmetric", "zeros": "constant"}[extension]
    for seed, (down, right) in enumerate(np.random.default_rng(1).uniform(-4, 4, (10, 2))):
        picture = noise(13, 18, seed=seed)
        if method == "bicubic":
            back = AffineTransform(translation=(-right, -down))  # type: ignore[no-untyped-call]
            options = {"order": 3, "mode": mode, "clip": False, "preserve_range": True}
            expected = warp(picture, back, **options)  # type: ignore[no-untyped-call]
        else:
            padded = np.pad(picture, BEYOND, mode=mode)  # type: ignore[call-overload]
            order = {"nearest": 0, "bilinear": 1, "spline": 5}[method]
            moved = ndimage.shift(padded, (down, right), order=order)
            expected = moved[BEYOND:-BEYOND, BEYOND:-BEYOND]
        found = Resampler(method, extension).shift(torch.from_numpy(picture), down, right)
        cut = method == "spline" and extension == "zeros"
        limit = CUT_AT_THE_BORDER if cut else LIMITS[method].float64
        assert largest(found.numpy() - expected) <= limit * largest(picture)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("size", [(16, 16), (17, 17), (12, 20)])
def test_blank_is_reflect_on_the_picture_and_zero_beyond_it(size: Size, method: Method) -> None:
    """Points of the picture give the same bits as with reflect, all others give zero."""
    edges = np.array([size[0] - 0.5, size[1] - 0.5]).reshape(2, 1, 1)
    for seed, turn in enumerate(random_turns(7)):
        picture, place = torch.from_numpy(noise(*size, seed=seed) + 5), sources(size, turn)
        depth = np.minimum(place + 0.5, edges - place).min(axis=0)
        blank, reflect = (Resampler(method, extension).turn(picture, turn) for extension in EXTENSIONS[::-2])
        assert torch.equal(blank[depth > TIE], reflect[depth > TIE])
        assert not blank[depth < -TIE].any()
        assert (np.abs(depth) > TIE).mean() > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_a_shift_leaves_blank_what_comes_from_beyond(method: Method) -> None:
    """Three rows come from above the picture and one column from its left."""
    moved = Resampler(method, "blank").shift(torch.full((6, 7), 2.0), 3, 1)
    expected = torch.zeros(6, 7)
    expected[3:, 1:] = 2.0
    torch.testing.assert_close(moved, expected, rtol=1e-6, atol=0)


# Laws ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("quarters", range(-5, 6))
def test_quarter_turns_of_squares_are_rot90_to_the_bit(
    quarters: int, method: Method, extension: Extension
) -> None:
    """No method interpolates where pixels move to pixels."""
    picture = torch.from_numpy(noise(2, 9, 9))
    turned = Resampler(method, extension).turn(picture, Fraction(quarters, 4))
    assert torch.equal(turned, torch.rot90(picture, quarters, (-2, -1)))


@settings(max_examples=20)
@given(turn=tenths, quarters=st.integers(-3, 3), method=st.sampled_from(METHODS), side=st.integers(1, 12))
def test_a_further_quarter_turn_is_rot90_of_the_turned_square_to_the_bit(
    turn: Fraction, quarters: int, method: Method, side: int
) -> None:
    """T_(a+90) = rot90 T_a holds at any angle, for any extension."""
    picture = torch.from_numpy(noise(2, side, side)).float()
    for extension in EXTENSIONS:
        resampler = Resampler(method, extension)
        further = resampler.turn(picture, turn + Fraction(quarters, 4))
        assert torch.equal(further, torch.rot90(resampler.turn(picture, turn), quarters, (-2, -1)))


@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("method", METHODS)
def test_turns_and_shifts_are_linear(method: Method, extension: Extension) -> None:
    """T(2x - 3y) = 2 T(x) - 3 T(y) within rounding."""
    resampler = Resampler(method, extension)
    one, other = (torch.from_numpy(noise(2, 11, 14, seed=seed)) for seed in (1, 2))

    def move(picture: torch.Tensor) -> torch.Tensor:
        return resampler.shift(resampler.turn(picture, Fraction(3, 23)), 0.3, -1.7)

    assert largest(move(2 * one - 3 * other) - (2 * move(one) - 3 * move(other))) <= ROUNDING


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-6), (torch.float64, 1e-12)])
@pytest.mark.parametrize("extension", EXTENSIONS)
@pytest.mark.parametrize("method", METHODS)
def test_a_constant_picture_stays_constant_inside_the_disc(
    method: Method, extension: Extension, dtype: torch.dtype, limit: float
) -> None:
    """The weights of every point add up to one, up to the border where what lies beyond is no zero."""
    # Zeros beyond the border are an edge: taps see it from 3 pixels, a spline rings on by 0.43 a pixel.
    margin = 0 if extension != "zeros" else 34 if method == "spline" else 3
    for side, turn in itertools.product((15, 16, 96), random_turns(3, 4)):
        turned = Resampler(method, extension).turn(torch.ones(side, side, dtype=dtype), turn)
        inside = disc_mask(side, side, margin)
        assert largest(turned[inside] - 1) <= limit
    assert inside.any()


@settings(max_examples=8)
@given(turn=tenths, seed=st.integers(0, 10_000))
@pytest.mark.parametrize("method", METHODS)
def test_the_mean_of_a_smooth_picture_is_kept(method: Method, turn: Fraction, seed: int) -> None:
    """What leaves one pixel arrives at others, inside the disc."""
    picture, inside = waves(seed), disc_mask(SIDE, SIDE)
    change = (Resampler(method, "zeros").turn(picture, turn) - picture)[inside].mean()
    assert abs(float(change)) <= LIMITS[method].mass * float(picture[inside].abs().mean())


@settings(max_examples=8)
@given(turn=tenths)
@pytest.mark.parametrize("size", [(SIDE, SIDE), (32, 50), (45, 33)])
@pytest.mark.parametrize("method", METHODS)
def test_a_blob_at_the_centre_stays_there_and_stays_round(method: Method, size: Size, turn: Fraction) -> None:
    """Nothing drifts by half a pixel, and pixels of a rectangle stay square."""
    turned = Resampler(method, "zeros").turn(blob(0, size), turn)
    # Nearest breaks a tie to one side where an odd side puts pixels on the axes.
    assert abs(centre_of_mass(turned)) <= (0.1 if method == "nearest" else 1e-12)
    assert distance(turned, blob(0, size)) <= LIMITS[method].placed


@settings(max_examples=8)
@given(turn=tenths, start=tenths, radius=st.floats(0, 6))
@pytest.mark.parametrize("size", [(SIDE, SIDE), (40, 56)])
@pytest.mark.parametrize("method", METHODS)
def test_a_blob_moves_counter_clockwise_to_the_turned_place(
    method: Method, size: Size, turn: Fraction, start: Fraction, radius: float
) -> None:
    """With rows downwards, a turn carries a point x + iy to its product with exp(i angle)."""
    at = radius * circle(start)
    turned, there = Resampler(method, "zeros").turn(blob(at, size), turn), at * circle(turn)
    assert abs(centre_of_mass(turned) - there) <= LIMITS[method].centre
    assert distance(turned, blob(there, size)) <= LIMITS[method].placed


@pytest.mark.parametrize("method", METHODS)
def test_an_eighth_of_a_turn_carries_the_right_side_up(method: Method) -> None:
    """A spot right of the centre goes up and to the right, which is to smaller rows."""
    turned = Resampler(method, "zeros").turn(blob(10, (33, 33)), Fraction(1, 8))
    row, column = divmod(int(turned.argmax()), 33)
    assert (row, column) == pytest.approx((16 - 10 / math.sqrt(2), 16 + 10 / math.sqrt(2)), abs=1.5)


@settings(max_examples=8)
@given(one=tenths, other=tenths, seed=st.integers(0, 10_000))
@pytest.mark.parametrize("method", METHODS)
def test_turns_compose_within_the_blur_of_the_method(
    method: Method, one: Fraction, other: Fraction, seed: int
) -> None:
    """T_a T_b = T_(a+b) on band-limited pictures that vanish at the border."""
    resampler, picture = Resampler(method, "zeros"), waves(seed)
    twice = resampler.turn(resampler.turn(picture, other), one)
    assert distance(twice, resampler.turn(picture, one + other)) <= LIMITS[method].composed


def test_better_methods_blur_less() -> None:
    """The loss of a round trip falls in the order nearest, bilinear, bicubic, spline."""
    picture = torch.stack([waves(seed) for seed in range(4)])
    trip = RoundTrip(Fraction(1, 11))
    losses = [distance(act(trip, picture, Resampler(method, "zeros")), picture) for method in METHODS]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > 10 * losses[2] > 100 * losses[3]


@settings(max_examples=20)
@given(
    turn=tenths,
    method=st.sampled_from([method for method in METHODS if method != "nearest"]),
    extension=st.sampled_from(EXTENSIONS),
    size=st.sampled_from(SIZES),
)
def test_a_mirror_that_is_passed_turns_the_other_way(
    turn: Fraction, method: Method, extension: Extension, size: Size
) -> None:
    """T_a m = m T_-a within rounding, at resampled angles too."""
    picture, resampler = torch.from_numpy(noise(*size)), Resampler(method, extension)
    place = sources(size, turn)
    edges = np.array([size[0] - 0.5, size[1] - 0.5]).reshape(2, 1, 1)
    # With blank a point on the very edge may fall on either side.
    sure = (np.abs(place + 0.5) > TIE).all(axis=0) & (np.abs(edges - place) > TIE).all(axis=0)
    difference = resampler.turn(picture.flip(-1), turn) - resampler.turn(picture, -turn).flip(-1)
    assert largest(difference[torch.from_numpy(sure)]) <= ROUNDING


@settings(max_examples=20)
@given(down=st.integers(-6, 6), right=st.integers(-6, 6), extension=st.sampled_from(EXTENSIONS))
@pytest.mark.parametrize("method", METHODS)
def test_whole_shifts_move_pixels(method: Method, down: int, right: int, extension: Extension) -> None:
    """A shift by integers is a slice of the padded picture, within rounding."""
    picture = noise(2, 9, 13)
    padding = [(0, 0), (6, 6), (6, 6)]
    padded = np.pad(picture, padding, mode="symmetric" if extension == "reflect" else "constant")
    expected = padded[:, 6 - down : 15 - down, 6 - right : 19 - right]
    found = Resampler(method, extension).shift(torch.from_numpy(picture), down, right)
    assert largest(found.numpy() - expected) <= ROUNDING


@settings(max_examples=8)
@given(down=st.floats(-3, 3), right=st.floats(-3, 3), seed=st.integers(0, 10_000))
@pytest.mark.parametrize("method", ["bilinear", "bicubic", "spline"])
def test_a_shift_back_undoes_a_shift(method: Method, down: float, right: float, seed: int) -> None:
    """Within the blur of the method on band-limited pictures; nearest moves by whole pixels both ways."""
    resampler, picture = Resampler(method, "zeros"), waves(seed)
    back = resampler.shift(resampler.shift(picture, down, right), -down, -right)
    assert distance(back, picture) <= LIMITS[method].undone


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("lead", [(), (0,), (3,), (2, 3), (2, 1, 4)])
@pytest.mark.parametrize("method", METHODS)
def test_shape_and_precision_are_kept(method: Method, lead: tuple[int, ...], dtype: torch.dtype) -> None:
    """Any number of leading dimensions goes through, each map as if it were alone."""
    maps = torch.from_numpy(noise(*lead, 6, 9)).to(dtype)
    resampler = Resampler(method, "zeros")
    for action in (Element(mirrored=False, k=2, n=13), Shift(0.4, 1.2)):
        moved = act(action, maps, resampler)
        assert (moved.shape, moved.dtype) == (maps.shape, dtype)
        for one, alone in zip(moved.reshape(-1, 6, 9), maps.reshape(-1, 6, 9), strict=True):
            torch.testing.assert_close(one, act(action, alone, resampler))


@pytest.mark.parametrize("method", METHODS)
def test_the_input_is_left_as_it_is_in_any_memory_layout(method: Method) -> None:
    """Channels-last and flipped views give the numbers of a plain copy, and nothing is written to them."""
    maps = torch.from_numpy(noise(2, 8, 8, 3)).movedim(-1, 1).flip(-1)
    before = maps.clone()
    turned = Resampler(method, "reflect").turn(maps, Fraction(1, 7))
    torch.testing.assert_close(turned, Resampler(method, "reflect").turn(before.contiguous(), Fraction(1, 7)))
    assert torch.equal(maps, before)


# Cache -----------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_cache(monkeypatch: pytest.MonkeyPatch) -> resampling._Operators:
    """Return the empty cache that the resamplers use during one test."""
    operators = resampling._Operators()
    monkeypatch.setattr(resampling, "_OPERATORS", operators)
    return operators


def _asked() -> list[tuple[Resampler, Fraction, torch.Tensor]]:
    return [
        (Resampler(method, extension), turn, torch.from_numpy(noise(*size)).to(dtype))
        for method in METHODS
        for extension in EXTENSIONS
        for turn in (Fraction(1, 9), Fraction(2, 9))
        for size in ((6, 8), (8, 6))
        for dtype in (torch.float32, torch.float64)
    ]


def test_the_cache_gives_the_same_bits_and_mixes_nothing_up(
    fresh_cache: resampling._Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Method, extension, turn, size and precision each have operators of their own."""
    first = [resampler.turn(picture, turn) for resampler, turn, picture in _asked()]
    assert len(fresh_cache._kept) == len(first)
    second = [resampler.turn(picture, turn) for resampler, turn, picture in _asked()]
    assert len(fresh_cache._kept) == len(first)
    for (resampler, turn, picture), one, two in zip(_asked(), first, second, strict=True):
        monkeypatch.setattr(resampling, "_OPERATORS", resampling._Operators())
        assert torch.equal(one, two)
        assert torch.equal(one, resampler.turn(picture, turn))


def test_the_cache_stays_within_its_bytes(
    fresh_cache: resampling._Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many angles are asked for, and what was dropped comes out the same when asked for again."""
    bound = 300_000
    monkeypatch.setattr(resampling, "CACHE_BYTES", bound)
    resampler, picture = Resampler("spline", "reflect"), torch.from_numpy(noise(32, 32)).float()
    turns = [Fraction(number, 173) for number in range(1, 41)]
    first = resampler.turn(picture, turns[0])
    for turn in turns:
        resampler.turn(picture, turn)
        held = sum(operator.bytes for operator in fresh_cache._kept.values())
        assert 0 < held == fresh_cache._bytes <= bound
    assert 2 <= len(fresh_cache._kept) < len(turns)
    assert torch.equal(resampler.turn(picture, turns[0]), first)


def test_turns_that_come_round_are_not_all_built_again(
    fresh_cache: resampling._Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where they do not all fit, and however much is left of other turns."""
    monkeypatch.setattr(resampling, "CACHE_BYTES", 300_000)
    resampler, picture = Resampler("spline", "reflect"), torch.from_numpy(noise(32, 32)).float()
    for number in range(1, 11):
        resampler.turn(picture, Fraction(number, 1009))
    build = Mock(wraps=resampling._build)
    monkeypatch.setattr(resampling, "_build", build)
    for _ in range(20):
        for number in range(1, 6):
            resampler.turn(picture, Fraction(number, 173))
    assert len(fresh_cache._kept) < 5
    assert build.call_count < 80


def test_an_operator_above_the_bound_still_works(
    fresh_cache: resampling._Operators, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large picture is turned though the cache can keep nothing but its one operator."""
    picture = torch.from_numpy(noise(20, 20))
    expected = [Resampler("bicubic", "zeros").turn(picture, Fraction(k, 29)) for k in range(1, 7)]
    monkeypatch.setattr(resampling, "_OPERATORS", small := resampling._Operators())
    monkeypatch.setattr(resampling, "CACHE_BYTES", 1)
    found = [Resampler("bicubic", "zeros").turn(picture, Fraction(k, 29)) for k in range(1, 7)]
    assert all(torch.equal(one, other) for one, other in zip(found, expected, strict=True))
    assert len(small._kept) == 1 < len(fresh_cache._kept)


# Actions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("element", Group.named("D8").elements, ids=str)
@pytest.mark.parametrize("method", METHODS)
def test_elements_mirror_first_and_turn_then(method: Method, element: Element) -> None:
    """Every element of D8 acts as the flip of the width or not, followed by the turn."""
    picture, resampler = torch.from_numpy(noise(2, 10, 10)), Resampler(method, "reflect")
    flipped = picture.flip(-1) if element.mirrored else picture
    assert torch.equal(act(element, picture, resampler), resampler.turn(flipped, element.turn))


def test_exact_elements_move_rectangles_and_integers_without_resampling() -> None:
    """Half turns need no square, and pixels that only move need no floating point."""
    numbers, resampler = torch.arange(6).reshape(2, 3), Resampler("spline", "zeros")
    assert act(Element(mirrored=False, k=1, n=2), numbers, resampler).tolist() == [[5, 4, 3], [2, 1, 0]]
    assert act(MIRROR, numbers, resampler).tolist() == [[2, 1, 0], [5, 4, 3]]
    assert act(Element(mirrored=False, k=1, n=4), numbers, resampler).tolist() == [[2, 5], [1, 4], [0, 3]]


@pytest.mark.parametrize("cell", [1.0, 2.0, 4.0])
def test_a_shift_of_the_image_is_a_smaller_one_of_subsampled_features(cell: float) -> None:
    """Three pixels down and two to the left are 3 / cell and 2 / cell cells of the map."""
    maps, resampler = torch.from_numpy(noise(2, 9, 9)), Resampler("bicubic", "zeros")
    moved = act(Shift(3.0, -2.0), maps, resampler, cell)
    assert torch.equal(moved, resampler.shift(maps, 3 / cell, -2 / cell))


def test_a_shift_goes_down_and_to_the_right() -> None:
    """Known answer of half a pixel to the right and one down."""
    picture = torch.tensor([[4.0, 8.0], [0.0, 0.0]])
    assert act(Shift(1.0, 0.5), picture, Resampler("bilinear", "zeros")).tolist() == [[0, 0], [2, 6]]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("turn", [Fraction(1, 9), Fraction(-2, 7), Fraction(1, 4)])
def test_a_round_trip_goes_back_in_two_halves(method: Method, turn: Fraction) -> None:
    """It costs three resamplings and ends where it began."""
    picture, resampler = blob(4 + 3j), Resampler(method, "zeros")
    halfway = resampler.turn(resampler.turn(picture, turn), -turn / 2)
    back = act(RoundTrip(turn), picture, resampler)
    assert torch.equal(back, resampler.turn(halfway, -turn / 2))
    assert 0 < distance(back, picture) <= 3 * LIMITS[method].placed


def test_only_quarter_turns_and_flips_are_exact() -> None:
    """Everything else needs a mask: other elements, shifts by whole pixels, round trips."""
    assert all(is_exact(element) for element in Group.named("D4").elements)
    others = set(Group.named("D8").elements) - set(Group.named("D4").elements)
    assert len(others) == 8
    assert not any(is_exact(element) for element in others)
    assert not is_exact(Shift(1.0, 0.0))
    assert not is_exact(RoundTrip(Fraction(1, 4)))


# Windows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "margin", "expected"),
    [
        ((3, 3), 0, ["###", "###", "###"]),
        ((3, 3), 0.5, [".#.", "###", ".#."]),
        ((4, 4), 0, [".##.", "####", "####", ".##."]),
        ((4, 4), 1, ["....", ".##.", ".##.", "...."]),
        ((4, 4), 2, ["....", "....", "....", "...."]),
        ((2, 4), 0, [".##.", ".##."]),
        ((5, 3), 0.5, ["...", ".#.", "###", ".#.", "..."]),
        ((1, 1), 0, ["#"]),
    ],
)
def test_the_disc_mask_has_known_answers(size: Size, margin: float, expected: list[str]) -> None:
    """Pixels whose centre lies in the inscribed circle less the margin, the rim included."""
    found = disc_mask(*size, margin)
    assert found.dtype == torch.bool
    assert ["".join("#" if inside else "." for inside in row) for row in found] == expected


def test_the_disc_window_has_known_answers() -> None:
    """1 up to four fifths of its radius, then squared cosines of 30 and 60 degrees, 0 from the rim on."""
    window = disc_window(35, 35, margin=2.5)  # radius 17.5 - 2.5 = 15
    row = window[17].tolist()
    assert window.dtype == torch.float64
    assert row == row[::-1]
    assert row[17:] == pytest.approx([1.0] * 13 + [0.75, 0.25, 0, 0, 0], abs=1e-12)
    assert row[17:29] == [1.0] * 12
    assert float(window[0, 0]) == pytest.approx(0, abs=1e-30)


@pytest.mark.parametrize("size", [(5, 5), (6, 6), (48, 48), (63, 63), (12, 20), (9, 7)])
@pytest.mark.parametrize("margin", [0.0, 1.3])
def test_masks_and_windows_are_symmetric_to_the_bit(size: Size, margin: float) -> None:
    """They obey D4 on squares and D2 on rectangles, so that they add no error of their own."""
    group = Group.named("D4" if size[0] == size[1] else "D2")
    for whole in (disc_mask(*size, margin), disc_window(*size, margin)):
        for element in group.elements:
            assert torch.equal(act(element, whole, Resampler("spline", "zeros")), whole)
    assert IDENTITY in group.elements


@given(height=st.integers(1, 40), width=st.integers(1, 40), margin=st.floats(0, 10), more=st.floats(0, 10))
def test_a_margin_only_takes_away(height: int, width: int, margin: float, more: float) -> None:
    """Mask and window shrink as the margin grows, and the window is zero outside of its own mask."""
    assert not (disc_mask(height, width, margin + more) & ~disc_mask(height, width, margin)).any()
    wide, narrow = disc_window(height, width, margin), disc_window(height, width, margin + more)
    assert bool((narrow <= wide + 1e-15).all())
    assert bool(((wide >= 0) & (wide <= 1)).all())
    if min(height, width) / 2 - margin >= 1:
        assert largest(wide[~disc_mask(height, width, margin)]) <= 1e-30


def test_a_margin_larger_than_the_picture_leaves_a_window_but_no_mask() -> None:
    """The window never vanishes altogether, the mask may."""
    assert not disc_mask(9, 9, 20).any()
    assert float(disc_window(9, 9, 20)[4, 4]) == 1
    assert float(disc_window(9, 9, 20).sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_pictures_in_a_window_do_not_see_the_extension(method: Method) -> None:
    """Inside the disc, a picture that vanishes near it turns the same whatever lies beyond the border."""
    picture, inside = waves(3) * disc_window(SIDE, SIDE, 4 + SIDE / 20), disc_mask(SIDE, SIDE)
    turned = [Resampler(method, extension).turn(picture, Fraction(1, 9)) for extension in EXTENSIONS]
    # The spline's coefficients reach the border, 4 pixels on, with 0.43^4 of a picture that is 1e-3 there.
    limit = 1e-4 if method == "spline" else ROUNDING
    assert max(largest((turned[0] - other)[inside]) for other in turned[1:]) <= limit
