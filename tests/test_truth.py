"""Labels and masks: where they are found, what they mean, and what is said when they do not fit."""

import contextlib
import struct
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from eqaudit.bounds import Bounds
from eqaudit.data import IGNORED, Dataset, array_images, open_images
from eqaudit.data.labels import csv_truth
from eqaudit.data.preprocessing import Preprocessing
from eqaudit.errors import DataError, EqauditError, UsageError
from eqaudit.plan import BuiltinData, InputOptions, PathData, PythonObject, TruthOptions

SIDE = 8
RANDOM = np.random.default_rng(0)
MASK: NDArray[np.uint8] = RANDOM.integers(0, 4, (SIDE, SIDE), np.uint8)
SPLIT: NDArray[np.uint8] = np.array([0, 128, 255], np.uint8)[MASK % 3]


def picture(height: int = SIDE, width: int = SIDE) -> Image.Image:
    """Make a grey picture of noise."""
    return Image.fromarray(RANDOM.integers(0, 255, (height, width), np.uint8))


def folder(root: Path, *names: str) -> Path:
    """Write a picture of noise under each name."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        picture().save(root / name)
    return root


def dataset(data: Any, shape: tuple[int, int, int] = (1, SIDE, SIDE), **options: Any) -> Dataset:
    """Open and prepare all images of a path or spec; options of the truth and of the inputs mix."""
    truth = {name: options.pop(name) for name in TruthOptions.__struct_fields__ if name in options}
    spec = PathData(str(data)) if isinstance(data, Path) else data
    given: dict[str, Any] = {"samples": 0, "truth": TruthOptions(**truth)} | options
    return open_images(InputOptions(spec, **given)).prepare(shape)


def targets(opened: Dataset) -> NDArray[np.int64]:
    """Return the targets of all images."""
    (batch,) = opened.batches(1000)
    assert batch.targets is not None
    assert batch.targets.dtype == np.int64
    assert len(batch.targets) == len(batch.images) == len(batch.names)
    return batch.targets


def refusal(data: Any, kind: type[EqauditError] = DataError, **options: Any) -> str:
    """Return the message of the error that opening or reading ends with; its hint is never empty."""
    with pytest.raises(kind) as caught:
        targets(dataset(data, **options))
    assert caught.value.hint
    return caught.value.message


def code(tmp_path: Path, body: str) -> PythonObject:
    """Write a function that makes data."""
    head = "import numpy as np\nfrom PIL import Image\nrng = np.random.default_rng(0)\n"
    noise = "def x(): return rng.integers(0, 255, (8, 8), np.uint8)\n"
    (tmp_path / "source.py").write_text(f"{head}{noise}def make(): {body}\n")
    return PythonObject(str(tmp_path / "source.py"), "make", is_file=True)


# Labels of folders


def test_folders_are_classes_in_sorted_order(tmp_path: Path) -> None:
    """A label is the rank of the first folder, and the dataset knows the names."""
    opened = dataset(folder(tmp_path, "dogs/a.png", "cats/x/b.png", "cats/c.png"), labels="folders")
    assert (opened.truth, opened.class_names) == ("labels", ("cats", "dogs"))
    assert dict(zip(opened.names, targets(opened), strict=True)) == {
        "cats/c.png": 0,
        "cats/x/b.png": 0,
        "dogs/a.png": 1,
    }
    assert opened.truth_place("dogs/a.png") == "folder dogs"
    assert "labels from folders" in opened.description


def test_classes_do_not_depend_on_the_images_chosen(tmp_path: Path) -> None:
    """The index comes from all folders of the data, also when few images are drawn."""
    root = folder(tmp_path, *(f"{letter}/{number}.png" for letter in "abcdef" for number in range(3)))
    for seed in range(4):
        opened = dataset(root, labels="folders", samples=2, seed=seed)
        assert opened.class_names == tuple("abcdef")
        expected = ["abcdef".index(name[0]) for name in opened.names]
        assert targets(opened).tolist() == expected


def test_an_image_outside_of_all_folders_is_an_error(tmp_path: Path) -> None:
    """The image is named."""
    assert "lost.png lies in no folder" in refusal(folder(tmp_path, "a/x.png", "lost.png"), labels="folders")


def test_folders_without_the_option_are_no_labels(tmp_path: Path) -> None:
    """Nothing is guessed, and batches then have no targets."""
    opened = dataset(folder(tmp_path, "a/x.png", "b/y.png"))
    (batch,) = opened.batches(8)
    assert (opened.truth, opened.class_names, batch.targets) == ("none", (), None)
    assert opened.truth_place("a/x.png") == ""
    assert opened.load(["a/x.png"]).shape == (1, 1, SIDE, SIDE)


# Labels of CSV files


@pytest.mark.parametrize(
    "text",
    [
        "file,label\na.png,2\nb/c.png,0\n",
        "\ufefffile,label\r\na.png,2\r\nb/c.png,0\r\n",
        'age,label,file\n7,+2,./a.png\n8," 0 ","b/c.png"\n\n',
        "file,label\na.png,2\nb/c.png,0\na.png,2",
    ],
)
def test_a_csv_file_gives_integer_labels(tmp_path: Path, text: str) -> None:
    """BOM, CRLF, other columns, quotes and rows said twice change nothing."""
    (tmp_path / "labels.csv").write_bytes(text.encode())
    data = folder(tmp_path / "data", "a.png", "b/c.png")
    opened = dataset(data, labels=str(tmp_path / "labels.csv"))
    assert targets(opened).tolist() == [2, 0]
    assert (opened.truth, opened.class_names) == ("labels", ())
    assert opened.truth_place("b/c.png") == f"{tmp_path}/labels.csv line 3"


def test_words_in_a_csv_file_are_classes_in_sorted_order(tmp_path: Path) -> None:
    """Classes come from all rows; rows of files that are not there are counted in a note."""
    (tmp_path / "l.csv").write_text("file,label\na.png,nevus\nb.png,benign\ngone.png,zoster\nc.png,nevus\n")
    opened = dataset(folder(tmp_path / "d", "a.png", "b.png", "c.png"), labels=str(tmp_path / "l.csv"))
    assert opened.class_names == ("benign", "nevus", "zoster")
    assert targets(opened).tolist() == [1, 0, 1]
    assert f"rows of {tmp_path}/l.csv that name no image of the data: 1" in opened.description


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"", "line 1: the header is ''"),
        (b"name;label\na.png;1\n", "line 1: the header is 'name;label'"),
        (b"file,label,label\na.png,1,1\n", "line 1: the header is 'file,label,label'"),
        (b"file,label\nb.png,1\na.png\n", "line 3 has 1 cells, the header has 2"),
        (b"file,label\na.png,1\nb,2.png,1\n", "line 3 has 3 cells"),
        (b"file,label\na.png,1\nb.png,\n", "line 3: b.png has no label"),
        (b"file,label\na.png,1\n,2\n", "line 3: the file is empty"),
        (b"file,label\na.png,1\nb.png,cat\n", "line 3: the label is 'cat', expected a class index"),
        (b"file,label\na.png,cat\nb.png,1\n", "line 2: the label is 'cat', expected a class index"),
        (b"file,label\na.png,0\nb.png,-1\n", "line 3: the label is '-1', expected a class index"),
        (b"file,label\na.png,1.0\nb.png,10.0\n", "line 2: the label is '1.0', expected a class index"),
        (b"file,label\na.png,99999999999999999999\nb.png,1\n", "line 2: the label is '99999999"),
        (b"file,label\na.png,1\nb.png,2\na.png,3\n", "lines 2 and 4: a.png is 1 and 3"),
        (b"file,label\n../a.png,1\n", "line 2: '../a.png' leads outside the data"),
        (b"file,label\nb.png,1\n/etc/a.png,1\n", "line 3: '/etc/a.png' leads outside the data"),
        (b"file,label\nb.png,1\n\na.\xff,1\n", "line 4 is not UTF-8"),
        (b"file,label\nb.png,1\na.png\0,1\n", "line 3 holds a NUL byte"),
        (b'file,label\nb.png,1\n"a.png,1\nb.png,1\n', "line 3: unexpected end of data"),
        (b'file,label\nb.png,1\n"a.png,1\n' + b"b.png,1\n" * 99_999, "line 3: field larger than"),
        (b"file,label\n" + b"a," * 999_999 + b"\n", "line 2 has more than"),
        (b"file,label\nb.png,1\n", "has no row for a.png"),
        (b"file,label\n", "has no row for a.png, nor for 1 more"),
    ],
)
def test_a_csv_file_that_cannot_be_used_is_told_with_its_line(tmp_path: Path, text: bytes, said: str) -> None:
    """Damage and contradictions are one DataError that names the file and the line."""
    (tmp_path / "labels.csv").write_bytes(text)
    message = refusal(folder(tmp_path / "d", "a.png", "b.png"), labels=str(tmp_path / "labels.csv"))
    assert f"{tmp_path}/labels.csv" in message
    assert said in message
    assert len(message) < 400


@given(text=st.one_of(st.binary(), st.text('file,lab10"\r\n\0é./').map(str.encode)), headed=st.booleans())
def test_any_bytes_are_labels_or_one_error(
    tmp_path_factory: pytest.TempPathFactory, text: bytes, headed: bool
) -> None:
    """Nothing but a DataError comes out of a damaged CSV file."""
    path = tmp_path_factory.mktemp("csv") / "l.csv"
    path.write_bytes(b"file,label\n" * headed + text)
    with contextlib.suppress(DataError):
        assert csv_truth(path, [], []).kind == "labels"


def test_a_huge_csv_file_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is on bytes."""
    monkeypatch.setattr("eqaudit.data.labels.BOUNDS", Bounds(csv_bytes=20))
    (tmp_path / "labels.csv").write_text("file,label\na.png,11111111\n")
    assert "more than 20 bytes" in refusal(folder(tmp_path, "a.png"), labels=str(tmp_path / "labels.csv"))


@pytest.mark.parametrize("labels", ["nowhere.csv", "nowhere.npz:y", "."])
def test_labels_that_are_no_file_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, labels: str
) -> None:
    """The error names what was given."""
    monkeypatch.chdir(tmp_path)
    assert f"cannot read --labels {labels}" in refusal(folder(tmp_path / "d", "a.png"), labels=labels)


def test_an_unreadable_image_needs_no_label(tmp_path: Path) -> None:
    """It is skipped, and its missing row does not matter."""
    folder(tmp_path / "d", "a.png")
    (tmp_path / "d" / "broken.png").write_bytes(b"nothing")
    (tmp_path / "l.csv").write_text("file,label\na.png,3\n")
    opened = dataset(tmp_path / "d", labels=str(tmp_path / "l.csv"))
    assert targets(opened).tolist() == [3]
    assert [skip.name for skip in opened.skipped] == ["broken.png"]


# Masks in files


def masked(tmp_path: Path, mask: Any, name: str = "a.png") -> Path:
    """Write one image and its mask; return the folder of the image."""
    (tmp_path / "masks").mkdir(exist_ok=True)
    if isinstance(mask, Image.Image):
        mask.save(tmp_path / "masks" / name)
    else:
        tifffile.imwrite(tmp_path / "masks" / Path(name).with_suffix(".tif"), mask)
    return folder(tmp_path / "images", name)


def in_palette(mask: NDArray[np.uint8]) -> Image.Image:
    """Make a palette image whose colours say nothing of its indices."""
    image = Image.fromarray(mask)
    image.putpalette(list(range(255, -1, -1)) * 3)
    return image


def packed_png(depth: int, mask: NDArray[np.uint8]) -> bytes:
    """Make a grey PNG of 2 or 4 bits."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    bits = (mask[..., np.newaxis] >> np.arange(depth - 1, -1, -1)) & 1
    rows = np.packbits(bits.reshape(len(mask), -1), axis=1)
    header = struct.pack(">IIBBBBB", mask.shape[1], mask.shape[0], depth, 0, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "mask",
    [
        Image.fromarray(MASK),
        Image.fromarray(np.stack([MASK] * 3, axis=-1)),
        Image.fromarray(MASK.astype(np.uint16)),
        in_palette(MASK),
        MASK.astype(np.int32),
        MASK.astype(np.float32),
    ],
    ids=["grey", "equal RGB", "16 bits", "palette", "int32 TIFF", "float TIFF"],
)
def test_a_mask_file_holds_class_indices(tmp_path: Path, mask: Any) -> None:
    """Depth, palette and equal channels do not change the numbers; the mask is named by its path."""
    opened = dataset(masked(tmp_path, mask), masks=str(tmp_path / "masks"))
    assert opened.truth == "masks"
    np.testing.assert_array_equal(targets(opened), MASK[np.newaxis])
    assert opened.truth_place("a.png").startswith(f"{tmp_path}/masks/a.")
    assert any(said.startswith(f"masks from {tmp_path}/masks") for said in opened.description)


@pytest.mark.parametrize("depth", [2, 4])
def test_grey_levels_of_few_bits_are_not_stretched(tmp_path: Path, depth: int) -> None:
    """A PNG of 2 or 4 bits holds 0, 1, 2, 3, and not 0, 85, 170, 255."""
    images = folder(tmp_path / "images", "a.png")
    folder(tmp_path / "masks")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_bytes(packed_png(depth, MASK))
    np.testing.assert_array_equal(targets(dataset(images, masks=str(tmp_path / "masks")))[0], MASK)


def test_a_palette_tiff_that_tifffile_cannot_read_gives_indices_too(tmp_path: Path) -> None:
    """The path through Pillow decodes masks as masks."""
    images = folder(tmp_path / "images", "a.png")
    (tmp_path / "masks").mkdir()
    in_palette(MASK).save(tmp_path / "masks" / "a.tif", compression="tiff_lzw")
    np.testing.assert_array_equal(targets(dataset(images, masks=str(tmp_path / "masks")))[0], MASK)


def test_a_mask_is_turned_upright_as_its_image_is(tmp_path: Path) -> None:
    """EXIF orientation of the mask is applied before sizes are compared, and said."""
    upright = np.repeat(MASK[:4], 2, axis=0)[:, :4]
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "masks").mkdir()
    Image.fromarray(upright).transpose(Image.Transpose.ROTATE_90).save(tmp_path / "masks/a.png", exif=exif)
    (tmp_path / "images").mkdir()
    picture(8, 4).save(tmp_path / "images" / "a.png")
    opened = dataset(tmp_path / "images", (1, 8, 4), masks=str(tmp_path / "masks"), input_shape=(1, 8, 4))
    np.testing.assert_array_equal(targets(opened)[0], upright)
    assert "masks: EXIF orientation applied" in opened.description


@pytest.mark.parametrize(
    ("options", "values", "expected"),
    [
        ({}, [0, 1, 2, 255], [0, 1, 2, 255]),
        ({}, [0, 255, 255, 0], [0, 1, 1, 0]),
        ({}, [255, 255, 255, 255], [1, 1, 1, 1]),
        ({}, [0, 0, 0, 0], [0, 0, 0, 0]),
        ({"ignore_index": 255}, [0, 255, 255, 0], [0, IGNORED, IGNORED, 0]),
        ({"ignore_index": 128}, [0, 128, 255, 0], [0, IGNORED, 1, 0]),
        ({"ignore_index": 7}, [7, 7, 7, 7], [IGNORED] * 4),
        ({"ignore_index": -1}, [-1, 0, 1, 2], [IGNORED, 0, 1, 2]),
        ({"mask_values": "binary"}, [0, 77, 77, 0], [0, 1, 1, 0]),
        ({"mask_values": "binary", "ignore_index": 0}, [0, 77, 77, 0], [IGNORED, 1, 1, IGNORED]),
        ({"mask_values": "instances"}, [0, 1, 2, 300], [0, 1, 1, 1]),
        ({"mask_values": "instances", "ignore_index": 2}, [0, 1, 2, 300], [0, 1, IGNORED, 1]),
    ],
)
def test_mask_values_mean_what_the_options_say(
    tmp_path: Path, options: dict[str, Any], values: list[int], expected: list[int]
) -> None:
    """Index, binary and instances, with and without a value that never counts."""
    mask = np.resize(np.array(values, np.int16), (SIDE, SIDE))
    opened = dataset(masked(tmp_path, mask), masks=str(tmp_path / "masks"), **options)
    np.testing.assert_array_equal(targets(opened)[0], np.resize(expected, (SIDE, SIDE)))


@pytest.mark.parametrize("order", [(255, 3), (3, 255)])
def test_255_must_mean_the_same_in_all_masks(tmp_path: Path, order: tuple[int, int]) -> None:
    """A mask of 0 and 255 among masks of several classes is refused, naming both, in either order."""
    for name, value in zip("ab", order, strict=True):
        masked(tmp_path, Image.fromarray((MASK % 2 * value).astype(np.uint8)), f"{name}.png")
    message = refusal(tmp_path / "images", masks=str(tmp_path / "masks"))
    white, other = ("a", "b") if order[0] == 255 else ("b", "a")
    assert f"masks/{white}.png (mask of {white}.png) holds only 0 and 255" in message
    assert f"masks/{other}.png (mask of {other}.png) other classes" in message
    opened = dataset(tmp_path / "images", masks=str(tmp_path / "masks"), ignore_index=255)
    assert set(np.unique(targets(opened))) == {IGNORED, 0, 3}


@pytest.mark.parametrize(
    ("mask", "options", "said"),
    [
        (np.zeros((4, 8), np.uint8), {}, "a.png has 8x8 pixels, its mask {}/masks/a.tif has 4x8"),
        (np.stack([MASK, MASK, MASK + 1], -1), {}, "a.tif (mask of a.png) has 3 channels that differ"),
        (MASK + np.float32(0.5), {}, "a.tif (mask of a.png) holds fractions (float32)"),
        (np.full((8, 8), np.nan, np.float32), {}, "holds fractions"),
        (np.full((8, 8), np.inf, np.float32), {}, "holds fractions"),
        (MASK.astype(np.int16) - 1, {}, "a.tif (mask of a.png) holds -1, expected class indices"),
        (MASK.astype(np.int16) - 1, {"mask_values": "instances"}, "holds -1"),
        (MASK, {"mask_values": "binary"}, "holds the values 0, 1, 2, 3, expected 0 and one other"),
        (SPLIT, {"mask_values": "binary"}, "0, 128, 255, expected"),
        (np.arange(64, dtype=np.uint8).reshape(8, 8), {"mask_values": "binary"}, "0, 1, 2, 3, 4, 5, ..."),
    ],
)
def test_a_mask_that_cannot_be_used_is_an_error_that_names_the_pair(
    tmp_path: Path, mask: Any, options: dict[str, Any], said: str
) -> None:
    """It is no reason to skip the image."""
    data = masked(tmp_path, mask)
    assert said.format(tmp_path) in refusal(data, masks=str(tmp_path / "masks"), **options)


def test_a_damaged_mask_is_an_error(tmp_path: Path) -> None:
    """The mask file and the reason are named."""
    data = folder(tmp_path / "images", "a.png")
    (tmp_path / "masks").mkdir()
    (tmp_path / "masks" / "a.png").write_bytes(b"nothing")
    assert f"cannot read the mask {tmp_path}/masks/a.png: its format is none of PNG" in refusal(
        data, masks=str(tmp_path / "masks")
    )
    whole = (data / "a.png").read_bytes()
    (tmp_path / "masks" / "a.png").write_bytes(whole[: len(whole) // 2])
    assert f"cannot read the mask {tmp_path}/masks/a.png" in refusal(data, masks=str(tmp_path / "masks"))


@pytest.mark.parametrize(
    ("images", "masks", "said"),
    [
        (["a.png", "b.png"], ["a.png"], "no mask for b.png in {}: expected b with the suffix of an image"),
        (["x/a.png"], ["b.png"], "no mask for x/a.png in {}: expected x/a"),
        (["a.png"], ["a.png", "a.tif"], "two masks for a.png in {}: a.png and a.tif"),
        (["a.png"], ["x/a.png", "y/a.png"], "two masks for a.png in {}: x/a.png and y/a.png"),
        (["a.png", "a.jpg"], ["a.png"], "a.jpg and a.png would share the mask {}/a.png"),
        (["x/a.png", "y/a.png"], ["a.png"], "x/a.png and y/a.png would share the mask {}/a.png"),
        (["x/a.png", "y/a.png"], ["x/a.png"], "no mask for y/a.png in {}: expected y/a"),
        (["a.png"], [], "holds no image"),
    ],
)
def test_masks_that_do_not_pair_are_told_before_anything_is_read(
    tmp_path: Path, images: list[str], masks: list[str], said: str
) -> None:
    """The image, the folder and the files in question are named, whichever images are chosen."""
    data = folder(tmp_path / "d", *images)
    (tmp_path / "m").mkdir()
    folder(tmp_path / "m", *masks)
    options = InputOptions(PathData(str(data)), samples=0, truth=TruthOptions(masks=str(tmp_path / "m")))
    with pytest.raises(DataError) as caught:
        open_images(options)
    assert said.format(tmp_path / "m") in caught.value.message


def test_a_mask_is_found_by_its_path_and_else_by_its_stem(tmp_path: Path) -> None:
    """The same relative path comes first; another folder or suffix will do where it is the only one."""
    data = folder(tmp_path / "d", "x/a.png", "y/a.png", "x/b.jpg")
    masks = folder(tmp_path / "m", "x/a.tif", "y/a.png", "b.png")
    opened = dataset(data, masks=str(masks), mask_values="instances")
    places = {name: opened.truth_place(name).removeprefix(f"{masks}/") for name in opened.names}
    assert places == {"x/a.png": "x/a.tif", "y/a.png": "y/a.png", "x/b.jpg": "b.png"}
    assert targets(opened).shape == (3, SIDE, SIDE)


def test_masks_inside_the_data_folder_are_no_images(tmp_path: Path) -> None:
    """Only the pictures count, also when the data lies inside the folder of the masks."""
    folder(tmp_path, "images/a.png", "images/masks/a.png")
    inside = dataset(tmp_path / "images", masks=str(tmp_path / "images" / "masks"), mask_values="instances")
    assert inside.names == ("a.png",)
    assert inside.label == f"folder {tmp_path}/images (1 image)"
    folder(tmp_path, "m/a.png", "m/images/a.png")
    outside = dataset(tmp_path / "m" / "images", masks=str(tmp_path / "m"), mask_values="instances")
    assert outside.truth_place("a.png") == f"{tmp_path}/m/a.png"


def test_a_single_image_can_have_a_mask(tmp_path: Path) -> None:
    """A file is data as a folder is."""
    data = masked(tmp_path, MASK)
    assert targets(dataset(data / "a.png", masks=str(tmp_path / "masks"))).shape == (1, SIDE, SIDE)


@pytest.mark.parametrize(("masks", "said"), [("nowhere", "does not exist"), ("d/a.png", "is no folder")])
def test_a_masks_folder_that_is_missing_is_an_error(tmp_path: Path, masks: str, said: str) -> None:
    """The path is named."""
    data = folder(tmp_path / "d", "a.png")
    assert f"--masks {tmp_path / masks} {said}" in refusal(data, masks=str(tmp_path / masks))


def test_masks_are_read_batch_by_batch(tmp_path: Path) -> None:
    """A bad mask of the third image leaves the first batch of two alone."""
    data = folder(tmp_path / "d", "a.png", "b.png", "c.png")
    for name in "ab":
        folder(tmp_path / "m", f"{name}.png")
    Image.fromarray(RANDOM.integers(0, 9, (8, 8, 3), np.uint8)).save(tmp_path / "m" / "c.png")
    batches = dataset(data, masks=str(tmp_path / "m"), mask_values="instances").batches(2)
    assert next(batches).names == ("a.png", "b.png")
    with pytest.raises(DataError, match=r"c\.png"):
        next(batches)


def test_jpeg_masks_are_said(tmp_path: Path) -> None:
    """Compression changes values, so the report tells that it was there."""
    data = folder(tmp_path / "d", "a.png")
    folder(tmp_path / "m", "a.jpg")
    opened = dataset(data, masks=str(tmp_path / "m"), mask_values="instances")
    assert "some masks are JPEG, which changes values" in opened.description


# Geometry


@given(
    size=st.tuples(st.integers(2, 20), st.integers(2, 20)),
    target=st.tuples(st.integers(2, 20), st.integers(2, 20)),
)
def test_a_mask_is_resized_by_nearest_neighbour_as_pillow_does(
    size: tuple[int, int], target: tuple[int, int]
) -> None:
    """Pixel centres decide, and every value of the result was there before."""
    mask = np.random.default_rng(size).integers(-1, 9, size)
    moved = Preprocessing((1, *target), resize=target).move_mask(mask)
    pillow = Image.fromarray(mask.astype(np.int32)).resize(target[::-1], Image.Resampling.NEAREST)
    # At exact halves Pillow rounds in floating point.
    exact = [(2 * np.arange(new) + 1) * old % (2 * new) != 0 for old, new in zip(size, target, strict=True)]
    np.testing.assert_array_equal(moved[np.ix_(*exact)], np.asarray(pillow)[np.ix_(*exact)])
    assert set(np.unique(moved)) <= set(np.unique(mask))


@pytest.mark.parametrize(
    "options",
    [{}, {"resize": (12, 12)}, {"resize": (30, 24), "input_shape": (1, 16, 16)}, {"input_shape": (1, 9, 9)}],
    ids=["crop", "resize", "resize and crop", "cover and crop"],
)
def test_a_mask_goes_where_its_image_goes(tmp_path: Path, options: dict[str, Any]) -> None:
    """A bright square covers the same pixels in the image and in the mask, but for its border."""
    mask = np.zeros((40, 30), np.uint8)
    mask[12:32, 6:21] = 1
    for name, value in (("images", 200), ("masks", 1)):
        (tmp_path / name).mkdir()
        Image.fromarray(mask * np.uint8(value) + np.uint8(value == 200)).save(tmp_path / name / "a.png")
    shape = options.get("input_shape") or (1, *(options.get("resize") or (30, 30)))
    opened = dataset(tmp_path / "images", shape, masks=str(tmp_path / "masks"), **options)
    (batch,) = opened.batches(1)
    assert batch.targets is not None
    bright = batch.images[0, 0] * 255
    sure = (bright < 20) | (bright > 180)
    np.testing.assert_array_equal((bright > 100)[sure], batch.targets[0][sure] == 1)
    assert batch.targets[0].any()


def test_mean_and_std_leave_masks_alone(tmp_path: Path) -> None:
    """Only geometry reaches a mask."""
    opened = dataset(masked(tmp_path, MASK), masks=str(tmp_path / "masks"), mean=(0.5,), std=(0.1,))
    np.testing.assert_array_equal(targets(opened)[0], MASK)


# Arrays


def archive(tmp_path: Path, **arrays: Any) -> Path:
    """Save arrays beside five images."""
    images = RANDOM.integers(0, 255, (5, SIDE, SIDE), np.uint8)
    np.savez(tmp_path / "data.npz", **({"images": images} | arrays))
    return tmp_path / "data.npz"


ROWS = np.eye(5, 3, dtype=np.int64)


@pytest.mark.parametrize(
    ("arrays", "kind", "expected"),
    [
        ({"labels": np.arange(5)}, "labels", np.arange(5)),
        ({"labels": np.arange(5, dtype=np.uint8)[:, None]}, "labels", np.arange(5)),
        ({"labels": np.arange(5) > 2}, "labels", [0, 0, 0, 1, 1]),
        ({"labels": ROWS}, "multi-hot", ROWS),
        ({"labels": ROWS.astype(np.float32)}, "multi-hot", ROWS),
        ({"masks": np.stack([MASK] * 5)}, "masks", np.stack([MASK] * 5)),
        ({"masks": np.stack([MASK] * 5)[:, None] > 1}, "masks", np.stack([MASK] * 5) > 1),
    ],
)
def test_arrays_beside_the_images_are_their_truth(
    tmp_path: Path, arrays: Mapping[str, Any], kind: str, expected: Any
) -> None:
    """Arrays called labels or masks are used without being asked for, and it is said."""
    path = archive(tmp_path, **arrays)
    opened = dataset(path)
    assert opened.truth == kind
    np.testing.assert_array_equal(targets(opened), expected)
    (name,) = arrays
    assert opened.truth_place("0003") == f"{path}:{name}[3]"
    assert f"{name} from {path}:{name}" in opened.description


def test_a_subset_keeps_its_own_labels(tmp_path: Path) -> None:
    """Entries follow the images that were drawn."""
    opened = dataset(archive(tmp_path, labels=np.arange(5) * 10), samples=2, seed=3)
    assert targets(opened).tolist() == [10 * int(name) for name in opened.names]


def test_float_images_that_stay_untouched_have_masks_too(tmp_path: Path) -> None:
    """Masks of arrays that reach the model as they are stay as they are."""
    images = RANDOM.random((5, 2, SIDE, SIDE), np.float32)
    path = archive(tmp_path, images=images, masks=np.stack([MASK] * 5))
    np.testing.assert_array_equal(targets(dataset(path, (2, SIDE, SIDE)))[4], MASK)


def test_masks_come_before_labels_of_the_same_file(tmp_path: Path) -> None:
    """The labels are passed over with a note."""
    path = archive(tmp_path, masks=np.stack([MASK] * 5), labels=np.arange(5))
    opened = dataset(path)
    assert opened.truth == "masks"
    assert f"{path}:labels not used, the masks are" in opened.description


@pytest.mark.parametrize(
    ("arrays", "options", "said"),
    [
        ({"labels": np.arange(4)}, {}, "data.npz:labels has 4 entries, the data has 5 images"),
        ({"labels": np.arange(5.0)}, {}, "data.npz:labels holds float64 of shape (5,)"),
        ({"labels": np.arange(-1, 4)}, {}, "data.npz:labels[0] is -1"),
        (
            {"labels": np.array([0, 1, 2, 3, 2**63], np.uint64)},
            {},
            "data.npz:labels[4] is 9223372036854775808",
        ),
        ({"labels": ROWS * 2}, {}, "data.npz:labels[0, 0] is 2"),
        ({"labels": np.zeros((5, 0), int)}, {}, "holds int64 of shape (5, 0)"),
        ({"labels": np.int64(3)}, {}, "data.npz:labels holds int64 of shape ()"),
        ({"labels": np.array(list("abcde"))}, {}, "data.npz:labels holds text"),
        ({"labels": np.stack([MASK] * 5)}, {}, "data.npz:labels holds uint8 of shape (5, 8, 8)"),
        ({"masks": np.arange(5)}, {}, "data.npz:masks holds int64 of shape (5,)"),
        ({"masks": np.zeros((5, 3, 8, 8), int)}, {}, "data.npz:masks holds int64 of shape (5, 3, 8, 8)"),
        ({"masks": np.zeros((5, 8, 8))}, {}, "data.npz:masks holds float64"),
        (
            {"masks": np.zeros((5, 8, 7), int)},
            {},
            "0000 has 8x8 pixels, its mask {}/data.npz:masks[0] has 8x7",
        ),
        (
            {"masks": np.stack([MASK] * 5)},
            {"mask_values": "binary"},
            "data.npz:masks[0] (mask of 0000) holds the values 0, 1, 2, 3",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_told_with_their_place(
    tmp_path: Path, arrays: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    """Length, shape, type and values are checked."""
    assert said.format(tmp_path) in refusal(archive(tmp_path, **arrays), **options)


def test_a_file_of_labels_goes_with_arrays(tmp_path: Path) -> None:
    """A .npy file, an array of an archive, or a CSV file, all before labels beside the images."""
    path = archive(tmp_path, labels=np.zeros(5, int), other=np.arange(5, 10))
    np.save(tmp_path / "y.npy", np.arange(5))
    (tmp_path / "y.csv").write_text("file,label\n" + "".join(f"000{i},{9 - i}\n" for i in range(5)))
    opened = dataset(path, labels=str(tmp_path / "y.npy"))
    assert targets(opened).tolist() == [0, 1, 2, 3, 4]
    assert opened.truth_place("0002") == f"{tmp_path}/y.npy[2]"
    assert f"{path}:labels not used" in opened.description
    assert targets(dataset(path, labels=f"{path}:other")).tolist() == [5, 6, 7, 8, 9]
    assert targets(dataset(path, labels=str(path))).tolist() == [0] * 5
    assert targets(dataset(path, labels=str(tmp_path / "y.csv"))).tolist() == [9, 8, 7, 6, 5]
    assert "holds no array nothing" in refusal(path, labels=f"{path}:nothing")


def test_targets_can_be_given_with_an_array_in_memory() -> None:
    """The Python interface passes truth as one more array."""
    images = RANDOM.random((3, 1, SIDE, SIDE), np.float32)
    opened = array_images(images, InputOptions(), np.array([4, 5, 6])).prepare((1, SIDE, SIDE))
    assert targets(opened).tolist() == [4, 5, 6]
    assert opened.truth_place("0001") == "targets[1]"
    assert array_images(images, InputOptions()).prepare((1, SIDE, SIDE)).truth == "none"


# Python callables


@pytest.mark.parametrize(
    ("body", "kind", "expected"),
    [
        ("return [(x(), 3), (x(), np.int64(1)), (x(), np.array(2))]", "labels", [3, 1, 2]),
        ("yield x(), [1, 0]; yield x(), np.array([0., 1.])", "multi-hot", [[1, 0], [0, 1]]),
        ("return rng.random((2, 1, 8, 8)), np.array([7, 8])", "labels", [7, 8]),
    ],
)
def test_python_code_gives_pairs(tmp_path: Path, body: str, kind: str, expected: Any) -> None:
    """Images with labels, one by one or all at once."""
    opened = dataset(code(tmp_path, body))
    assert opened.truth == kind
    np.testing.assert_array_equal(targets(opened), expected)
    assert opened.truth_place("0001") == f"{tmp_path}/source.py:make[1]"


def test_python_code_gives_masks_of_each_image_size(tmp_path: Path) -> None:
    """Arrays and Pillow palettes are masks; a reused buffer is copied."""
    body = """
    mask = np.zeros((8, 8), int)
    for value in (1, 2):
        mask[:] = value
        yield x(), mask
    pillow = Image.fromarray(np.full((10, 12), 3, np.uint8))
    pillow.putpalette([9] * 768)
    yield rng.integers(0, 255, (10, 12, 3), np.uint8), pillow
"""
    found = targets(dataset(code(tmp_path, body)))
    assert found.shape == (3, SIDE, SIDE)
    assert found[:, 0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("yield x(), 1; yield x(), x()", "target 1 of {} is a mask, target 0 is a label"),
        ("yield x(), [1, 0]; yield x(), [1, 0, 0]", "target 1 of {} is a row of 3, target 0 is a row of 2"),
        ("yield x(), 1; yield x()", "target 1 of {} is missing, target 0 is a label"),
        ("yield x(); yield x(), 1", "target 1 of {} is a label, target 0 is missing"),
        ("yield x(), 0.5", "target 0 of {} is float64 of shape ()"),
        ("yield x(), 'cat'", "target 0 of {} is <U3 of shape ()"),
        ("yield x(), [[1], [1, 2]]", "in {}: ValueError"),
        ("yield x(), -1", "{}[0] is -1"),
        ("yield x(), [1, 2]", "{}[0, 1] is 2"),
        ("yield x(), x()[:4]", "0000 has 8x8 pixels, its mask {}[0] has 4x8"),
        ("return rng.random((2, 1, 8, 8)), np.arange(3)", "{} has 3 entries, the data has 2 images"),
    ],
)
def test_pairs_that_do_not_fit_are_told_with_their_item(tmp_path: Path, body: str, said: str) -> None:
    """Mixtures, missing targets and wrong kinds name the item."""
    spec = code(tmp_path, body)
    assert said.format(spec) in refusal(spec)


def test_a_pair_of_images_is_still_two_images(tmp_path: Path) -> None:
    """A tuple of two pictures that is not one item of several means what it always meant."""
    opened = dataset(code(tmp_path, "return x(), x()"))
    assert (len(opened.names), opened.truth) == (2, "none")


# Contradictions


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        ("d", {"labels": "folders", "masks": "m"}, "contradict"),
        ("d", {"masks": "d"}, "is the folder of the images"),
        ("d", {"labels": "y.npy"}, "has no names of images"),
        ("d", {"labels": "l.csv:x"}, "has no named arrays"),
        ("d", {"labels": "l.csv", "ignore_index": 255}, "need masks"),
        ("d", {"mask_values": "binary"}, "need masks"),
        ("data.npz", {"labels": "folders"}, "--labels folders needs image files"),
        ("data.npz", {"masks": "m"}, "--masks needs image files"),
        (BuiltinData("photos"), {"labels": "folders"}, "--labels folders needs image files"),
        (BuiltinData("photos"), {"labels": "y.npy"}, "the data is builtin:photos"),
    ],
)
def test_options_that_contradict_are_usage_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, data: Any, options: dict[str, Any], said: str
) -> None:
    """Each has a hint that says what to do."""
    monkeypatch.chdir(tmp_path)
    folder(tmp_path, "d/x/a.png", "m/a.png")
    archive(tmp_path)
    np.save("y.npy", np.arange(5))
    Path("l.csv").write_text("file,label\nx/a.png,1\n")
    assert said in refusal(Path(data) if isinstance(data, str) else data, UsageError, **options)
