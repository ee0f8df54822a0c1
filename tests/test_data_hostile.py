"""Damaged, lying and foreign files: named and skipped, or one DataError; never a traceback or a hang."""

import io
import os
import pickle
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from eqaudit.data import open_images
from eqaudit.errors import DataError, UsageError
from eqaudit.plan import InputOptions, PathData

GOOD: NDArray[np.uint8] = np.random.default_rng(0).integers(0, 255, (40, 40), np.uint8)


def encoded(kind: str, **options: Any) -> bytes:
    """Encode the good picture."""
    buffer = io.BytesIO()
    Image.fromarray(GOOD).save(buffer, format=kind, **options)
    return buffer.getvalue()


def png_of(width: int, height: int) -> bytes:
    """Make a PNG whose header declares any size, with next to no data."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def tiff_bomb() -> bytes:
    """Make a deflated TIFF whose one strip inflates to 600 MB."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, GOOD.astype(np.uint16), compression="zlib")
    data = buffer.getvalue()
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        page: Any = tif.pages[0]
        strip = zlib.compress(bytes(600_000_000), 1)
        count = page.tags[279]
        patched = bytearray(data + strip)
        struct.pack_into("<I", patched, page.tags[273].offset + 8, len(data))
        struct.pack_into("<HII", patched, count.offset + 2, 4, 1, len(strip))
    return bytes(patched)


def nan_tiff() -> bytes:
    """Make a float TIFF with one NaN."""
    buffer = io.BytesIO()
    pixels = GOOD.astype(np.float32)
    pixels[3, 3] = np.nan
    tifffile.imwrite(buffer, pixels)
    return buffer.getvalue()


def no_bits_tiff() -> bytes:
    """Make a TIFF in colour that says its samples have no bits; nothing is decoded, and no error raised."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.stack([GOOD] * 3, -1), photometric="rgb", metadata=None)
    return buffer.getvalue().replace(b"\x08\0" * 3, bytes(6))


def read_all(path: Path) -> tuple[list[str], dict[str, str]]:
    """Return the usable names and the reasons of the others."""
    images = open_images(InputOptions(PathData(str(path)), samples=0))
    height, width = images.native_size or (8, 8)
    dataset = images.prepare((images.native_channels or 3, height, width))
    names = [name for batch in dataset.batches(2) for name in batch.names]
    assert len({skip.name for skip in dataset.skipped}) == len(dataset.skipped)
    return names, {skip.name: skip.reason for skip in dataset.skipped}


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("cut.png", encoded("PNG")[:-200], "truncated|OSError|SyntaxError|broken"),
        ("cut.jpg", encoded("JPEG")[:-200], "truncated"),
        ("cut.bmp", encoded("BMP")[:-200], "truncated"),
        ("cut.webp", encoded("WEBP")[:-200], "Error"),
        ("cut.tif", encoded("TIFF")[:700], "."),
        ("crc.png", encoded("PNG").replace(b"IHDR\0", b"IHDR\1"), "."),
        ("empty.png", b"", "is no PNG"),
        ("text.jpeg", b"this is text", "is no PNG"),
        ("frames.gif", encoded("GIF"), "is no PNG"),
        ("wide.png", png_of(30_000, 30_000), "pixels|bomb|Bomb"),
        ("limit.png", png_of(9_400, 9_400), "truncated|Error"),
        ("zero.png", png_of(0, 0), "."),
        ("nan.tif", nan_tiff(), "NaN"),
        ("bomb.tif", tiff_bomb(), "inflates to more"),
        ("magic.dat", b"\x89PNG\r\n\x1a\n", "Error"),
        ("loop.tif", b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "."),
        ("tags.tif", b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 60, "."),
        ("no_bits.tif", no_bits_tiff(), r"shape \(0,\), its header says"),
        ("scans.jpg", encoded("JPEG") + b"\xff\xda" * 600, "JPEG of 601 scans"),
    ],
)
def test_one_bad_image_is_named_and_the_good_ones_stay(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], name: str, content: bytes, reason: str
) -> None:
    """The bad file is skipped with a one-line reason, and nothing is written to the terminal."""
    (tmp_path / "good.png").write_bytes(encoded("PNG"))
    (tmp_path / name).write_bytes(content)
    names, skipped = read_all(tmp_path)
    assert names == ["good.png"]
    assert list(skipped) == [name]
    assert "\n" not in skipped[name]
    assert re.search(reason, skipped[name])
    assert capfd.readouterr() == ("", "")


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["PNG", "JPEG", "BMP", "WEBP", "TIFF"]), data=st.data())
def test_no_damage_of_an_image_escapes(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    """Whatever bytes are changed or cut, the outcome is an image, a skip or a DataError."""
    content = bytearray(encoded(kind))
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[position] = data.draw(st.integers(0, 255))
    folder = tmp_path_factory.mktemp("damage")
    (folder / "good.png").write_bytes(encoded("PNG"))
    (folder / "x.png").write_bytes(content[: data.draw(st.integers(1, len(content)))])
    try:
        names, skipped = read_all(folder)
    except DataError as error:
        assert "differ too much" in error.message  # noqa: PT017 - the header may lie about its size
    else:
        assert sorted({*names, *skipped}) == ["good.png", "x.png"]


def test_special_files_and_links_are_neither_opened_nor_followed(tmp_path: Path) -> None:
    """A FIFO does not hang the audit; links out of the tree are named; link loops are not entered."""
    folder = tmp_path / "images"
    (folder / "x.png").mkdir(parents=True)
    (folder / "x.png" / "inside.png").write_bytes(encoded("PNG"))
    (tmp_path / "outside.png").write_bytes(encoded("PNG"))
    os.mkfifo(folder / "fifo.png")
    (folder / "link.png").symlink_to(tmp_path / "outside.png")
    (folder / "within.png").symlink_to(folder / "x.png" / "inside.png")
    (folder / "zero.png").symlink_to("/dev/zero")
    (folder / "broken.png").symlink_to(folder / "absent.png")
    (folder / "loop").symlink_to(folder)
    names, skipped = read_all(folder)
    assert names == ["within.png", "x.png/inside.png"]
    assert skipped["fifo.png"] == "is no regular file"
    assert skipped["link.png"] == skipped["zero.png"] == "is a link that leads out of the folder"
    assert skipped["broken.png"] == "No such file or directory"
    with pytest.raises(DataError, match="is no regular file"):
        read_all(folder / "fifo.png")


def test_an_image_that_vanishes_or_becomes_a_fifo_is_named(tmp_path: Path) -> None:
    """What changes between listing and reading is skipped; loading it again is an error."""
    for name in ("a.png", "b.png", "c.png"):
        (tmp_path / name).write_bytes(encoded("PNG"))
    dataset = open_images(InputOptions(PathData(str(tmp_path)))).prepare((1, 40, 40))
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").unlink()
    os.mkfifo(tmp_path / "b.png")
    assert [batch.names for batch in dataset.batches(2)] == [("c.png",)]
    assert [skip.reason.split(":")[0] for skip in dataset.skipped] == [
        "FileNotFoundError",
        "is no regular file",
    ]
    with pytest.raises(DataError, match="changed while it was used"):
        dataset.load(["a.png"])


@pytest.mark.parametrize("make", ["nothing", "folders", "hidden", "text"])
def test_a_folder_without_images_is_one_error(tmp_path: Path, make: str) -> None:
    """The error names the folder and the formats."""
    if make == "folders":
        (tmp_path / "a" / "b").mkdir(parents=True)
    elif make == "hidden":
        (tmp_path / ".a.png").write_bytes(encoded("PNG"))
    elif make == "text":
        (tmp_path / "a.txt").write_text("x")
    with pytest.raises(DataError, match=f"no image in {tmp_path}") as caught:
        read_all(tmp_path)
    assert "PNG, JPEG, TIFF" in caught.value.hint


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("scan", bytes(128) + b"DICM" + bytes(100), "DICOM"),
        ("brain.dat", struct.pack("<I", 348) + bytes(340) + b"n+1\0", "NIfTI"),
        ("brain.nii.gz", b"\x1f\x8b" + bytes(50), "NIfTI"),
        ("slide.svs", encoded("TIFF"), "whole-slide"),
    ],
)
def test_medical_formats_are_answered_with_the_way_out(
    tmp_path: Path, name: str, content: bytes, kind: str
) -> None:
    """Alone they are an error that names the kind; beside images they are passed over and said."""
    (tmp_path / name).write_bytes(content)
    for path in (tmp_path, tmp_path / name):
        with pytest.raises(DataError, match=f"only {kind} data") as caught:
            read_all(path)
        assert "--data path/to/file.py:function" in caught.value.hint
    (tmp_path / "good.png").write_bytes(encoded("PNG"))
    dataset = open_images(InputOptions(PathData(str(tmp_path)))).prepare((1, 40, 40))
    assert len(list(dataset.batches(4))) == 1
    assert f"1 {kind} files passed over" in dataset.description


def test_folders_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Depth and number of files have a limit."""
    deep = tmp_path.joinpath(*["d"] * 70)
    deep.mkdir(parents=True)
    with pytest.raises(DataError, match="more than 64 folders deep"):
        read_all(tmp_path)
    monkeypatch.setattr("eqaudit.data.listing.FILE_LIMIT", 2)
    for number in range(3):
        (deep / f"{number}.txt").write_text("")
    with pytest.raises(DataError, match="more than 2 files"):
        read_all(deep)


class Touch:
    """Unpickled, it would make a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        """Call mkdir when it is unpickled."""
        return os.mkdir, (str(self.path),)


def test_object_arrays_are_refused_without_unpickling(tmp_path: Path) -> None:
    """The hostile pickle never runs, in .npy and in .npz."""
    witness = tmp_path / "PWNED"
    array = np.array([[[Touch(witness)]]], dtype=object)
    np.save(tmp_path / "x.npy", array, allow_pickle=True)
    np.savez(tmp_path / "x.npz", array, allow_pickle=True)
    (tmp_path / "p.npy").write_bytes(pickle.dumps(Touch(witness)))
    for name, message in (("x.npy", "Python objects"), ("x.npz", "Python objects"), ("p.npy", "no image in")):
        with pytest.raises(DataError, match=message):
            read_all(tmp_path / name)
    assert not witness.exists()


def npy_bytes(shape: str, descr: str = "'<f4'", version: int = 1) -> bytes:
    """Make a .npy of a header alone."""
    header = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(header))
    return b"\x93NUMPY" + bytes([version, 0]) + length + header


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (npy_bytes("(1, 3, 65536, 65536)"), "declares 51,539,607,552 bytes, the file has 0"),
        (npy_bytes(f"(1, 1, {2**64}, 1)"), "declares 73,786,976,294,838,206,464 bytes"),
        (npy_bytes("(1, 1, -4, 4)"), "holds no image"),
        (npy_bytes("(0, 3, 8, 8)"), "holds no image"),
        (npy_bytes("(8, 8)"), "has 2 dimensions"),
        (npy_bytes(str((1,) * 33)), "has 33 dimensions"),
        (npy_bytes("(1, 3, 8, 8)", "'<c8'"), "complex numbers"),
        (npy_bytes("(1, 3, 8, 8)", "'<U10'"), "text"),
        (npy_bytes("(1, 3, 8, 8)", "'<M8[s]'"), "dates"),
        (npy_bytes("(1, 3, 8, 8)", "[('a', '<f4')]"), "records"),
        (npy_bytes("(1, 3, 8, 8)", version=3), "damaged: ValueError: npy version 3.0"),
        (npy_bytes("(1, 3, 8, 8" + "(" * 5000), "damaged"),
        (npy_bytes("(" * 90_000, version=2), "damaged"),
        (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", "damaged"),
        (b"\x93NUMPY", "damaged"),
        (b"PK\x03\x04 is all there is", "damaged: BadZipFile"),
        (npy_bytes("(2000000, 1, 1, 1)"), "2,000,000 images, the limit"),
    ],
)
def test_array_files_that_lie_are_one_error(tmp_path: Path, content: bytes, message: str) -> None:
    """Nothing is allocated or unpickled for what a header claims."""
    (tmp_path / "x.npy").write_bytes(content)
    with pytest.raises(DataError, match=message) as caught:
        read_all(tmp_path / "x.npy")
    assert "\n" not in caught.value.message


def test_a_bomb_a_double_and_an_empty_archive_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Declared sizes are summed before anything is inflated."""
    path = tmp_path / "x.npz"
    np.savez_compressed(path, np.zeros((4, 3, 64, 64)))
    with monkeypatch.context() as patch:
        patch.setattr("eqaudit.data.arrays.ARCHIVE_LIMIT", 1000)
        with pytest.raises(DataError, match="declares more than 1,000 bytes"):
            read_all(path)
    member = npy_bytes("(1, 1, 2, 2)") + bytes(16)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.npy", member)
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.writestr("a.npy", member)
    with pytest.raises(DataError, match="holds an array twice"):
        read_all(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data.pkl", b"x")
    with pytest.raises(DataError, match="no array"):
        read_all(path)


@settings(max_examples=60, deadline=None)
@given(kind=st.sampled_from(["npy", "npz"]), data=st.data())
def test_no_damage_of_an_array_file_escapes(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    """Whatever bytes are changed, the outcome is arrays or a DataError."""
    buffer = io.BytesIO()
    if kind == "npy":
        np.save(buffer, GOOD.reshape(4, 1, 20, 20))
    else:
        np.savez_compressed(buffer, GOOD.reshape(4, 1, 20, 20))
    content = bytearray(buffer.getvalue())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damage") / "x.bin"
    path.write_bytes(content)
    try:
        read_all(path)
    except DataError as error:
        assert "\n" not in error.message  # noqa: PT017 - either outcome is right


def test_negative_seeds_are_a_usage_error() -> None:
    """Random generators take no negative seed."""
    with pytest.raises(UsageError, match="--seed"):
        open_images(InputOptions(seed=-1))
