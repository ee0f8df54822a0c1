"""The steps from pixels to input: order, sizes, and the sentences that say what was done."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from skimage import transform
from skimage.color import rgb2gray

from eqaudit.data import Dataset, open_images
from eqaudit.data.base import Unreadable
from eqaudit.data.preprocessing import Preprocessing
from eqaudit.errors import DataError, UsageError
from eqaudit.plan import BuiltinData, InputOptions, PathData

SIDES = st.integers(2, 24)


def pixels(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> NDArray[Any]:
    """Make random pixels; integers over their whole range, floats from 0 to 1."""
    generator = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return generator.random(shape).astype(dtype)
    return generator.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


def prepared(path: Path, shape: tuple[int, int, int], **options: Any) -> tuple[NDArray[np.float32], Dataset]:
    """Open, prepare and read all images of a path in one batch."""
    dataset = open_images(InputOptions(PathData(str(path)), **options)).prepare(shape)
    batches = list(dataset.batches(100))
    return batches[0].images, dataset


@given(height=SIDES, width=SIDES, target=st.tuples(SIDES, SIDES))
def test_covering_gives_exactly_the_asked_size(height: int, width: int, target: tuple[int, int]) -> None:
    """Any image comes out at the target size, whatever the aspect ratios."""
    raw = np.arange(height * width, dtype=np.uint16).reshape(height, width)
    try:
        image = Preprocessing((1, *target), cover=True).apply(raw)
    except Unreadable as error:
        assert "constant" in error.reason  # noqa: PT017 - the only refusal that resizing can lead to
    else:
        assert image.shape == (1, *target)


@given(side=st.integers(2, 24), margin=st.integers(0, 9), offset=st.integers(0, 1))
def test_centre_crop_keeps_the_middle(side: int, margin: int, offset: int) -> None:
    """The crop leaves the same margin on both sides, but for one pixel, and changes no value."""
    size = side + 2 * margin + offset
    raw = pixels(size, size, dtype=np.float32)
    image = Preprocessing((1, side, side)).apply(raw)
    np.testing.assert_array_equal(image[0], raw[margin : margin + side, margin : margin + side])


@pytest.mark.parametrize("dtype", ["u1", "u2", ">u2", "u4", "i2", "i8"])
def test_integers_are_divided_by_the_maximum_of_their_type(dtype: str) -> None:
    """Scaling agrees with a division in float64."""
    raw = pixels(6, 6, 3, dtype=np.dtype(dtype).newbyteorder("=")).astype(dtype)
    image = Preprocessing((3, 6, 6)).apply(raw)
    expected = np.moveaxis(raw / float(np.iinfo(dtype).max), -1, 0)
    np.testing.assert_allclose(image, expected, rtol=2e-7)
    assert 0 <= image.min() < image.max() <= 1


def test_bool_becomes_zero_and_one_and_floats_are_not_scaled() -> None:
    """Types without a maximum keep their values."""
    mask = np.eye(4, dtype=bool)
    np.testing.assert_array_equal(Preprocessing((1, 4, 4)).apply(mask)[0], mask.astype(np.float32))
    raw = 700 * pixels(4, 4, dtype=np.float64)
    np.testing.assert_array_equal(Preprocessing((1, 4, 4)).apply(raw)[0], raw.astype(np.float32))


def test_all_steps_agree_with_scikit_image_in_the_stated_order() -> None:
    """Scale, luminance, antialiased resize, crop, normalise: an oracle in plain numpy and skimage."""
    raw = pixels(40, 50, 4)
    recipe = Preprocessing((1, 16, 16), resize=(20, 30), mean=(0.4,), std=(0.2,))
    scaler: Any = transform.resize
    expected = scaler(rgb2gray(raw[..., :3] / 255), (20, 30), order=1, anti_aliasing=True)[2:18, 7:23]
    np.testing.assert_allclose(recipe.apply(raw)[0], (expected - 0.4) / 0.2, atol=1e-5)
    assert [sentence for _, sentence in recipe.describe(raw)] == [
        "decoded",
        "scaled to 0..1 by the maximum of uint8",
        "alpha dropped",
        "RGB to grey (luminance)",
        "resized to 20x30 (antialiased)",
        "centre-cropped to 16x16",
        "minus mean, divided by std",
    ]


def test_grey_is_repeated_for_an_rgb_model() -> None:
    """All three channels equal the grey one, and each gets its own mean."""
    raw = pixels(5, 5)
    image = Preprocessing((3, 5, 5), mean=(0.0, 0.5, 1.0)).apply(raw)
    np.testing.assert_allclose(image - image[:1], np.zeros((3, 5, 5)) - [[[0]], [[0.5]], [[1]]], atol=1e-6)


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (np.full((8, 8, 3), 7, np.uint8), "constant: no content"),
        (np.full((8, 8), 0.1), "constant: no content"),
        (np.array([[0.0, np.nan], [1.0, 2.0]]), "NaN or infinite"),
        (np.array([[0.0, np.inf], [1.0, 2.0]]), "NaN or infinite"),
        (np.array([[0.0, 1e300], [1.0, 2.0]]), "NaN or infinite"),
        (pixels(9, 9, 5), "has 5 channels, the model is given 3"),
        (pixels(1, 1_000_000), "more than 67,108,864 pixels"),
    ],
)
def test_images_without_use_are_refused_with_a_reason(raw: NDArray[Any], reason: str) -> None:
    """Nothing constant, not finite or of other channels reaches the model."""
    with pytest.raises(Unreadable, match=reason):
        Preprocessing((3, 200, 200), cover=True).apply(raw)


def test_float_arrays_reach_the_model_untouched(tmp_path: Path) -> None:
    """Not one bit changes, order is kept, and any channel count passes."""
    array = pixels(5, 7, 6, 9, dtype=np.float32) * 100 - 50
    np.save(tmp_path / "x.npy", array)
    images, dataset = prepared(tmp_path / "x.npy", (7, 6, 9))
    np.testing.assert_array_equal(images, array)
    assert dataset.description == ("float arrays, unchanged",)
    images, dataset = prepared(tmp_path / "x.npy", (7, 6, 9), mean=(2.0,), std=(4.0,))
    np.testing.assert_array_equal(images, (array - 2) / 4)
    assert dataset.description[-1] == "minus mean, divided by std"


@pytest.mark.parametrize("options", [{"resize": (4, 4)}, {"input_shape": (3, 4, 4)}])
def test_float_arrays_are_never_resized(tmp_path: Path, options: dict[str, Any]) -> None:
    """Asking for another size is a usage error that says why."""
    np.save(tmp_path / "x.npy", pixels(2, 3, 6, 6, dtype=np.float32))
    with pytest.raises(UsageError, match="reach the model as they are, 3x6x6"):
        open_images(InputOptions(PathData(str(tmp_path / "x.npy")), **options))


def test_float64_arrays_are_rounded_to_float32_and_constant_ones_skipped(tmp_path: Path) -> None:
    """The description says the rounding; the constant array is named."""
    array = pixels(3, 1, 4, 4, dtype=np.float64)
    array[1] = 0.5
    np.save(tmp_path / "x.npy", array)
    images, dataset = prepared(tmp_path / "x.npy", (1, 4, 4))
    np.testing.assert_array_equal(images, array[[0, 2]].astype(np.float32))
    assert dataset.description == ("float64 arrays as float32",)
    assert [skip.name for skip in dataset.skipped] == ["0001"]


@pytest.mark.parametrize(
    ("options", "native"),
    [
        ({}, (30, 30)),
        ({"resize": (20, 24)}, (20, 20)),
        ({"input_shape": (3, 12, 18)}, (12, 18)),
        ({"input_shape": (3, 12, 18), "resize": (20, 24)}, (12, 18)),
    ],
)
def test_size_follows_the_options(tmp_path: Path, options: dict[str, Any], native: tuple[int, int]) -> None:
    """Without options the square of the shorter side, else what was asked."""
    np.save(tmp_path / "x.npy", pixels(2, 30, 40, 3))
    images = open_images(InputOptions(PathData(str(tmp_path / "x.npy")), **options))
    assert images.native_size == native
    assert images.native_channels == 3
    assert next(images.prepare((3, *native)).batches(2)).images.shape == (2, 3, *native)


def test_equal_square_size_is_not_touched(tmp_path: Path) -> None:
    """Neither resize nor crop happens when the size is right already."""
    np.save(tmp_path / "x.npy", pixels(2, 3, 8, 8))
    _, dataset = prepared(tmp_path / "x.npy", (3, 8, 8), input_shape=(3, 8, 8))
    assert dataset.description == ("decoded", "scaled to 0..1 by the maximum of uint8")


def test_resize_smaller_than_the_input_is_a_usage_error(tmp_path: Path) -> None:
    """A crop cannot make an image larger."""
    np.save(tmp_path / "x.npy", pixels(2, 3, 8, 8))
    with pytest.raises(UsageError, match=r"--resize 4,8 is smaller than the input of 6x6"):
        open_images(InputOptions(PathData(str(tmp_path / "x.npy")), input_shape=(3, 6, 6), resize=(4, 8)))


def test_mean_of_another_length_than_the_channels_is_a_usage_error() -> None:
    """Three means for one channel cannot be meant."""
    images = open_images(InputOptions(BuiltinData("tissue"), samples=2, mean=(0.1, 0.2, 0.3)))
    with pytest.raises(UsageError, match="--mean has 3 values, the input has 1 channels"):
        images.prepare((1, 8, 8))


def test_a_resize_of_a_trillion_pixels_is_a_usage_error() -> None:
    """It is refused before memory is asked for."""
    with pytest.raises(UsageError, match="--resize asks for more than"):
        open_images(InputOptions(resize=(999_999, 999_999)))


def test_when_nothing_is_left_the_first_reason_is_told(tmp_path: Path) -> None:
    """An audit of no image ends in an error, not in a pass."""
    np.save(tmp_path / "x.npy", np.zeros((3, 3, 8, 8), np.float32))
    dataset = open_images(InputOptions(PathData(str(tmp_path / "x.npy")))).prepare((3, 8, 8))
    with pytest.raises(DataError, match="all 3 are unreadable; first: 0000: constant: no content"):
        list(dataset.batches(2))
    assert len(dataset.skipped) == 3
