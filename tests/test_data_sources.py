"""Every kind of data that --data takes, and what is found in it."""

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageOps

from eqaudit.bounds import Bounds
from eqaudit.data import Images, open_images
from eqaudit.errors import DataError, UsageError
from eqaudit.plan import BuiltinData, DataSpec, InputOptions, PathData, PythonObject


def noise(*shape: int, dtype: Any = np.uint8, seed: int = 0) -> NDArray[Any]:
    """Make random integers over the whole range of their type."""
    top = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, top, shape, dtype=dtype, endpoint=True)


def opened(data: DataSpec | Path, **options: Any) -> Images:
    """Open all images of a path or a spec."""
    spec = PathData(str(data)) if isinstance(data, Path) else data
    return open_images(InputOptions(spec, **({"samples": 0} | options)))


def only(images: Images, *shape: int) -> NDArray[np.float32]:
    """Return the one batch of all images."""
    channels, height, width = shape
    (batch,) = images.prepare((channels, height, width)).batches(1000)
    return batch.images


@pytest.mark.parametrize("name", ["photos", "tissue"])
def test_builtin_patches_have_content_and_unique_sorted_names(name: str) -> None:
    """256 RGB patches, every picture equally often, none near-constant, no black corner."""
    images = opened(BuiltinData(name))
    assert len(set(images.names)) == 256
    assert list(images.names) == sorted(images.names)
    assert images.native_channels == 3
    assert images.native_size is None
    counts = np.unique([name.rsplit("-", 1)[0] for name in images.names], return_counts=True)[1]
    assert counts.max() - counts.min() <= 1
    for patch in map(images._source.read, range(256)):
        assert patch.shape[0] == patch.shape[1] >= 75
        assert patch.std() > 10
        assert name == "photos" or patch.max(axis=-1).min() >= 25


@settings(max_examples=25)  # each example decodes the pictures
@given(seed=st.integers(0, 2**32), samples=st.integers(1, 20))
def test_the_seeded_subset_is_sorted_and_stable(seed: int, samples: int) -> None:
    """The same seed chooses the same names, in sorted order and without repetition."""
    first = opened(BuiltinData("tissue"), seed=seed, samples=samples)
    again = opened(BuiltinData("tissue"), seed=seed, samples=samples)
    assert first.names == again.names == tuple(sorted(set(first.names)))
    assert len(first.names) == samples


def test_a_patch_depends_only_on_seed_and_name() -> None:
    """A patch is the same in any subset, and another seed draws another one."""
    name = opened(BuiltinData("photos"), samples=3).names[1]
    few = opened(BuiltinData("photos"), samples=3).prepare((3, 32, 32)).load([name])
    everything = opened(BuiltinData("photos")).prepare((3, 32, 32)).load([name])
    np.testing.assert_array_equal(few, everything)
    other = opened(BuiltinData("photos"), seed=1).prepare((3, 32, 32)).load([name])
    assert not np.array_equal(few, other)


def test_a_16_bit_tiff_folder_keeps_its_16_bits(tmp_path: Path) -> None:
    """Values are divided by 65,535 and not cut to 8 bits."""
    raw = noise(9, 9, dtype=np.uint16)
    tifffile.imwrite(tmp_path / "a.tif", raw)
    (tmp_path / "deep").mkdir()
    tifffile.imwrite(tmp_path / "deep" / "b.tif", raw[::-1])
    images = opened(tmp_path)
    assert images.names == ("a.tif", "deep/b.tif")
    assert images.label == f"folder {tmp_path} (2 images)"
    np.testing.assert_allclose(only(images, 1, 9, 9)[:, 0], np.stack([raw, raw[::-1]]) / 65535, rtol=1e-6)


@pytest.mark.parametrize(
    ("name", "pixels", "options"),
    [
        ("deflate.tif", noise(9, 9, 3, dtype=np.uint16), {"compression": "zlib", "photometric": "rgb"}),
        ("planar.tif", noise(3, 9, 9), {"planarconfig": "separate", "photometric": "rgb"}),
        ("big.tif", noise(9, 9, dtype=np.uint16), {"byteorder": ">", "bigtiff": True}),
        ("alpha.tif", noise(9, 9, 4), {"photometric": "rgb", "extrasamples": ["unassalpha"]}),
    ],
)
def test_tiff_layouts_give_the_same_numbers(
    tmp_path: Path, name: str, pixels: NDArray[Any], options: dict[str, Any]
) -> None:
    """Deflated, planar, big-endian and alpha TIFF agree with what was written."""
    tifffile.imwrite(tmp_path / name, pixels, **options)
    colour = np.moveaxis(pixels, 0, -1) if name == "planar.tif" else np.atleast_3d(pixels)[..., :3]
    expected = np.moveaxis(colour / float(np.iinfo(pixels.dtype).max), -1, 0)
    batch = only(opened(tmp_path), *expected.shape)
    np.testing.assert_allclose(batch[0], expected, rtol=1e-6)


def test_float_tiff_is_not_scaled_and_white_is_zero_is_turned(tmp_path: Path) -> None:
    """Float pixels pass as they are; an inverted grey image is turned back."""
    raw = np.random.default_rng(0).random((8, 8), np.float32) * 900
    tifffile.imwrite(tmp_path / "f.tif", raw)
    np.testing.assert_array_equal(only(opened(tmp_path / "f.tif"), 1, 8, 8)[0, 0], raw)
    grey = noise(8, 8)
    tifffile.imwrite(tmp_path / "w.tif", grey, photometric="miniswhite")
    np.testing.assert_allclose(only(opened(tmp_path / "w.tif"), 1, 8, 8)[0, 0], (255 - grey) / 255, rtol=1e-6)


@pytest.mark.parametrize("mode", ["L", "RGB", "I;16", "CMYK", "P", "1"])
def test_lzw_tiff_is_read_through_pillow(tmp_path: Path, mode: str) -> None:
    """Compressions that need imagecodecs still work for the common depths."""
    raw = noise(9, 9, dtype=np.uint16)
    image = Image.fromarray(raw) if mode == "I;16" else Image.fromarray(noise(9, 9, 3)).convert(mode)
    image.save(tmp_path / "x.tif", compression="group4" if mode == "1" else "tiff_lzw")
    expected = raw / 65535 if mode == "I;16" else np.asarray(image.convert("RGB")) / 255
    batch = only(opened(tmp_path), 3, 9, 9)[0]
    expected = np.moveaxis(np.broadcast_to(np.atleast_3d(expected), (9, 9, 3)), -1, 0)
    np.testing.assert_allclose(batch, expected, rtol=1e-6)


def test_first_page_of_a_multipage_tiff_is_used_and_said(tmp_path: Path) -> None:
    """The report says that other pages exist."""
    raw = noise(3, 8, 8)
    tifffile.imwrite(tmp_path / "x.tif", raw, photometric="minisblack")
    dataset = opened(tmp_path).prepare((1, 8, 8))
    np.testing.assert_allclose(next(dataset.batches(1)).images[0, 0], raw[0] / 255, rtol=1e-6)
    assert "first page of a multi-page TIFF" in dataset.description


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_png_modes_come_out_as_grey_or_rgb(tmp_path: Path, mode: str) -> None:
    """Palettes become RGB, alpha is dropped, 16 bits and 1 bit are kept."""
    raw = noise(9, 9, dtype=np.uint16)
    image = Image.fromarray(raw) if mode == "I;16" else Image.fromarray(noise(9, 9, 3)).convert(mode)
    image.save(tmp_path / "x.png")
    images = opened(tmp_path)
    grey = mode in ("1", "L", "LA", "I;16")
    assert images.native_channels == (1 if grey else 3)
    expected = raw / 65535 if mode == "I;16" else np.asarray(image.convert("L" if grey else "RGB")) / 255
    channels = 1 if grey else 3
    expected = np.moveaxis(np.atleast_3d(expected), -1, 0)
    np.testing.assert_allclose(only(images, channels, 9, 9)[0], expected, rtol=1e-6)


def test_formats_are_found_by_content_and_others_passed_over(tmp_path: Path) -> None:
    """A wrong, missing or upper-case extension does not matter; text and hidden files are passed over."""
    image = Image.fromarray(noise(9, 9, 3))
    for name, kind in (
        ("png.jpg", "PNG"),
        ("bare", "WEBP"),
        ("UPPER.PNG", "PNG"),
        ("b.dat", "BMP"),
        ("j", "JPEG"),
    ):
        image.save(tmp_path / name, format=kind)
    image.save(tmp_path / ".hidden.png")
    (tmp_path / ".cache").mkdir()
    image.save(tmp_path / ".cache" / "x.png")
    (tmp_path / "labels.csv").write_text("a,b")
    (tmp_path / "BMI.txt").write_text("BM is how this text begins")
    images = opened(tmp_path)
    assert images.names == ("UPPER.PNG", "b.dat", "bare", "j", "png.jpg")
    assert only(images, 3, 9, 9).shape[0] == 5


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "lzw.tif"])
def test_all_exif_orientations_give_the_same_pixels(tmp_path: Path, kind: str) -> None:
    """Eight files, each stored another way, come out upright and alike; the description says so."""
    upright = Image.fromarray(np.kron(noise(2, 3, 3), np.ones((8, 8, 1), np.uint8)))
    undo = {1: None, 2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    for number, method in undo.items():
        stored = upright if method is None else upright.transpose(Image.Transpose(method))
        path = tmp_path / f"{number}.{kind}"
        exif = Image.Exif()
        exif[274] = number
        if kind == "tif":
            tifffile.imwrite(path, np.asarray(stored), extratags=[(274, "H", 1, number, True)])
        elif kind == "lzw.tif":
            stored.save(path, compression="tiff_lzw", exif=exif)
        else:
            stored.save(path, exif=exif, quality=100, subsampling=0)
            assert ImageOps.exif_transpose(Image.open(path)).size == upright.size
    images = opened(tmp_path, input_shape=(3, 16, 24))
    assert {images._source.shape(index) for index in range(8)} == {(3, 16, 24)}
    dataset = images.prepare((3, 16, 24))
    (whole,) = dataset.batches(8)
    batch = whole.images
    expected = np.moveaxis(np.asarray(upright) / 255, -1, 0)
    np.testing.assert_allclose(
        batch, np.broadcast_to(expected, batch.shape), atol=0.02 if kind == "jpg" else 1e-6
    )
    assert "EXIF orientation applied" in dataset.description


def test_grey_folder_works_for_an_rgb_model(tmp_path: Path) -> None:
    """The conversion is done and said."""
    Image.fromarray(noise(9, 9)).save(tmp_path / "a.png")
    images = opened(tmp_path)
    assert images.native_channels == 1
    dataset = images.prepare((3, 9, 9))
    assert next(dataset.batches(1)).images.shape == (1, 3, 9, 9)
    assert "grey repeated to RGB" in dataset.description


def test_mixed_channels_leave_the_choice_to_the_model(tmp_path: Path) -> None:
    """Grey and RGB images together have no native channel count."""
    Image.fromarray(noise(9, 9)).save(tmp_path / "a.png")
    Image.fromarray(noise(9, 9, 3)).save(tmp_path / "b.png")
    images = opened(tmp_path)
    assert images.native_channels is None
    assert only(images, 3, 9, 9).shape == (2, 3, 9, 9)


def test_mixed_sizes_are_cropped_to_the_smallest_square_and_said(tmp_path: Path) -> None:
    """Sizes within a factor of two share the smallest centre square."""
    small, large = noise(20, 30), noise(44, 40)
    Image.fromarray(small).save(tmp_path / "a.png")
    Image.fromarray(large).save(tmp_path / "b.png")
    images = opened(tmp_path)
    assert images.native_size == (20, 20)
    dataset = images.prepare((1, 20, 20))
    (whole,) = dataset.batches(2)
    batch = whole.images
    expected = np.stack([small[:, 5:25], large[12:32, 10:30]]) / 255
    np.testing.assert_allclose(batch[:, 0], expected, rtol=1e-6)
    said = "centre-cropped to 20x20, the smallest centre square among sizes from 20x30 to 44x40"
    assert said in dataset.description


def test_very_different_sizes_ask_for_resize(tmp_path: Path) -> None:
    """Beyond a factor of two nothing is guessed; with --resize it works."""
    Image.fromarray(noise(10, 10)).save(tmp_path / "a.png")
    Image.fromarray(noise(30, 21)).save(tmp_path / "b.png")
    with pytest.raises(DataError, match="from 10x10 to 30x21") as caught:
        opened(tmp_path)
    assert "--resize 21,21" in caught.value.hint
    assert only(opened(tmp_path, resize=(16, 16)), 1, 16, 16).shape == (2, 1, 16, 16)


def test_one_image_file_is_a_set_of_one(tmp_path: Path) -> None:
    """A file given by itself is named by its base name."""
    Image.fromarray(noise(9, 9)).save(tmp_path / "a.png")
    images = opened(tmp_path / "a.png")
    assert (images.names, images.label) == (("a.png",), f"image {tmp_path / 'a.png'}")


@pytest.mark.parametrize("shape", [(4, 9, 8, 3), (4, 3, 9, 8), (4, 9, 8), (4, 9, 8, 1)])
def test_integer_arrays_are_images_in_either_channel_order(tmp_path: Path, shape: tuple[int, ...]) -> None:
    """(N,H,W,C), (N,C,H,W) and (N,H,W) integers are told apart by their shape."""
    raw = noise(*shape)
    np.save(tmp_path / "x.npy", raw)
    images = opened(tmp_path / "x.npy")
    assert not images.ready
    assert images.label == f"{tmp_path / 'x.npy'} (4 arrays)"
    channels = images.native_channels or 0
    first = raw if shape == (4, 3, 9, 8) else np.moveaxis(raw.reshape(4, 9, 8, channels), -1, 1)
    np.testing.assert_allclose(only(images, channels, 8, 8), first[:, :, :8] / 255, rtol=1e-6)


@pytest.mark.parametrize("order", ["C", "F"])
def test_byte_order_and_memory_order_change_no_number(tmp_path: Path, order: Any) -> None:
    """Big-endian and Fortran arrays give the numbers that were saved."""
    raw = np.random.default_rng(0).random((3, 2, 5, 4)).astype(">f4", order=order)
    np.save(tmp_path / "x.npy", raw)
    np.testing.assert_array_equal(only(opened(tmp_path / "x.npy"), 2, 5, 4), raw)


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="the system does not tell what is mapped")
def test_what_was_read_of_an_array_file_takes_no_memory(tmp_path: Path) -> None:
    """Whatever its size: images are copied out of it, and its pages are let go."""
    path = tmp_path / "images.npy"
    array = np.random.default_rng(0).random((64, 1, 128, 128), dtype=np.float32)
    np.save(path, array)
    images = opened(path)
    assert np.array_equal(only(images, 1, 128, 128), array)
    mapping = Path("/proc/self/smaps").read_text().partition(str(path))[2]
    resident = int(mapping.partition("Rss:")[2].split()[0]) * 1024
    assert resident < array.nbytes / 4


def test_npz_takes_images_the_named_array_or_the_only_candidate(tmp_path: Path) -> None:
    """Which array is meant is found or asked for, never guessed."""
    one, two = np.random.default_rng(0).random((2, 3, 1, 5, 5), np.float32)
    np.savez(tmp_path / "named.npz", images=one, other=two)
    np.savez_compressed(tmp_path / "single.npz", x=one, labels=np.arange(3))
    np.savez(tmp_path / "both.npz", x=one, y=two)
    np.testing.assert_array_equal(only(opened(tmp_path / "named.npz"), 1, 5, 5), one)
    np.testing.assert_array_equal(only(opened(PathData(str(tmp_path / "named.npz"), "other")), 1, 5, 5), two)
    np.testing.assert_array_equal(only(opened(tmp_path / "single.npz"), 1, 5, 5), one)
    with pytest.raises(DataError, match="x, y"):
        opened(tmp_path / "both.npz")
    with pytest.raises(DataError, match="no array z; it holds x, y"):
        opened(PathData(str(tmp_path / "both.npz"), "z"))
    np.save(tmp_path / "x.npy", one)
    with pytest.raises(UsageError, match="no named arrays"):
        opened(PathData(str(tmp_path / "x.npy"), "images"))


SOURCE = """
import numpy as np
from PIL import Image
rng = np.random.default_rng(0)
ARRAY = rng.random((4, 2, 6, 6), np.float32)
def array(scale=1): return ARRAY * np.float32(scale)
def images():
    buffer = np.zeros((6, 6, 3), np.uint8)
    for value in range(3):
        buffer[:value + 1] = 50 * value + 10
        yield buffer
def pillow(): return [Image.fromarray(rng.integers(0, 255, (6, 6), np.uint8)).convert("P")]
def forever():
    while True: yield ARRAY[0, 0]
def fails(): raise ValueError("first line\\nsecond line")
def leaves(): raise SystemExit(3)
def stopped(): raise KeyboardInterrupt
def triples(): return [(ARRAY[0], 1, 2)]
def nothing(): return []
def none(): return None
def strings(): return np.array(["a", "b"])
class Maker:
    @staticmethod
    def make(): return ARRAY
"""


def python(tmp_path: Path, attribute: str, **arguments: Any) -> PythonObject:
    """Write the module and name one attribute of it."""
    path = tmp_path / "my-data.py"
    path.write_text(SOURCE)
    return PythonObject(str(path), attribute, is_file=True, arguments=arguments)


@pytest.fixture(autouse=True)
def _same_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.mark.parametrize("attribute", ["ARRAY", "array", "Maker.make"])
def test_python_code_gives_float_arrays_that_stay_untouched(tmp_path: Path, attribute: str) -> None:
    """An array, a function and a method are all taken."""
    images = opened(python(tmp_path, attribute))
    expected = np.random.default_rng(0).random((4, 2, 6, 6), np.float32)
    assert images.ready
    assert images.names == ("0000", "0001", "0002", "0003")
    np.testing.assert_array_equal(only(images, 2, 6, 6), expected)


def test_arguments_reach_the_callable(tmp_path: Path) -> None:
    """Arguments of the spec are passed by name."""
    images = opened(python(tmp_path, "array", scale=2))
    expected = 2 * np.random.default_rng(0).random((4, 2, 6, 6), np.float32)
    np.testing.assert_array_equal(only(images, 2, 6, 6), expected)


def test_a_generator_that_reuses_its_buffer_gives_different_images(tmp_path: Path) -> None:
    """Each image is copied when it is yielded; integers are scaled as images are."""
    images = opened(python(tmp_path, "images"))
    batch = only(images, 3, 6, 6)
    assert [skip.name for skip in images.skipped] == []
    assert batch[1, 0, 0, 0] == pytest.approx(60 / 255)
    assert len(np.unique(batch[:, 0, 0, 0])) == len(batch)


def test_pillow_images_with_a_palette_become_rgb(tmp_path: Path) -> None:
    """Pillow images are converted as files are."""
    assert opened(python(tmp_path, "pillow")).native_channels == 3


@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("fails", r"my-data.py:fails: ValueError: first line$"),
        ("leaves", "SystemExit: 3"),
        ("missing", "has no missing"),
        ("triples", "image 0 of .* is a tuple"),
        ("nothing", "made no image"),
        ("none", "made a NoneType"),
        ("strings", "holds text"),
    ],
)
def test_user_code_that_fails_is_told_in_one_line(tmp_path: Path, attribute: str, message: str) -> None:
    """Every failure is a DataError with its place."""
    with pytest.raises(DataError, match=message):
        opened(python(tmp_path, attribute))


def test_endless_generators_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading stops at the limit."""
    monkeypatch.setattr("eqaudit.data.python_source.BOUNDS", Bounds(callable_images=50))
    with pytest.raises(DataError, match="more than 50 images"):
        opened(python(tmp_path, "forever"))


def test_ctrl_c_in_user_code_passes(tmp_path: Path) -> None:
    """An interrupt is no data error."""
    with pytest.raises(KeyboardInterrupt):
        opened(python(tmp_path, "stopped"))


def test_a_dotted_module_is_found_in_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The current folder is searched last, so it cannot replace an installed package."""
    (tmp_path / "my_unusual_images.py").write_text(SOURCE)
    (tmp_path / "numpy.py").write_text("raise RuntimeError")
    monkeypatch.chdir(tmp_path)
    images = opened(PythonObject("my_unusual_images", "array", is_file=False))
    assert images.label == "my_unusual_images:array (4 arrays)"
    assert sys.path[-1] == os.fspath(tmp_path)
    with pytest.raises(DataError, match="ModuleNotFoundError: No module named 'my_absent_images'"):
        opened(PythonObject("my_absent_images", "array", is_file=False))
