"""Hostile data files, row by row: named and skipped, or one error of code 3; never a crash or a bomb.

Every row has an identifier, D01 to D31, and goes through the real command: files that are skipped all
together, and each by itself; files that are refused one by one, measured in this process. `HELD_BY` names the
tests of other files that hold members of a row.
"""

import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import test_data_sources
import test_truth
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from eqaudit import cli
from eqaudit.bounds import BOUNDS, Bounds
from eqaudit.data import open_images
from eqaudit.errors import DataError, ExitCode, UsageError
from eqaudit.plan import InputOptions, PathData, TruthOptions

GENERATOR = np.random.default_rng(0)
GOOD: NDArray[np.uint8] = GENERATOR.integers(0, 255, (40, 40), np.uint8)
COLOUR: NDArray[np.uint8] = GENERATOR.integers(0, 255, (40, 40, 3), np.uint8)
FLOATS: NDArray[np.float32] = GENERATOR.random((20, 3, 8, 8), dtype=np.float32)
SECONDS = 60.0  # for one command on a busy machine
EXTRA = 200 * 2**20  # bytes: what reading damaged data may take beside the libraries
HELD_BY = {
    "d07": [test_data_sources.test_png_modes_come_out_as_grey_or_rgb],
    "d08": [test_data_sources.test_all_exif_orientations_give_the_same_pixels],
    "d09": [test_data_sources.test_first_page_of_a_multipage_tiff_is_used_and_said],
    "d10": [test_data_sources.test_formats_are_found_by_content_and_others_passed_over],
    "d16": [
        test_data_sources.test_mixed_channels_leave_the_choice_to_the_model,
        test_data_sources.test_very_different_sizes_ask_for_resize,
    ],
    "d21": [test_data_sources.test_byte_order_and_memory_order_change_no_number],
    "d24": [test_truth.test_a_mask_that_cannot_be_used_is_an_error_that_names_the_pair],
    "d25": [test_truth.test_masks_that_do_not_pair_are_told_before_anything_is_read],
    "d30": [test_truth.test_a_csv_file_that_cannot_be_used_is_told_with_its_line],
}
NO_TEST: dict[str, str] = {}
"""Rows that cannot be made, with the reason: none."""

# How files are made --------------------------------------------------------------------------------


def encoded(kind: str, pixels: NDArray[Any] = GOOD, **options: Any) -> bytes:
    """Encode a picture, the good one when left out."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format=kind, **options)
    return buffer.getvalue()


Chunk = tuple[bytes, bytes] | tuple[bytes, bytes, int]
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunks(*parts: Chunk) -> bytes:
    """Return a PNG of these chunks: name, content and, when it is wrong, the checksum."""
    whole = SIGNATURE
    for name, data, *given_sum in parts:
        checksum = given_sum[0] if given_sum else zlib.crc32(name + data)
        whole += struct.pack(">I", len(data)) + name + data + struct.pack(">I", checksum)
    return whole


def header(width: int, height: int, depth: int = 8, colour: int = 0) -> Chunk:
    """Return the first chunk of a PNG."""
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)


END: Chunk = (b"IEND", b"")
ROWS = b"".join(b"\0" + row.tobytes() for row in GOOD)
PIXELS: Chunk = (b"IDAT", zlib.compress(ROWS))
HEADER = header(40, 40)
ONE_BIT_OFF = bytes([*PIXELS[1][:-9], PIXELS[1][-9] ^ 1, *PIXELS[1][-8:]])


def with_chunk(name: bytes, data: bytes) -> bytes:
    """Return the good PNG with one more chunk."""
    return chunks(HEADER, (name, data), PIXELS, END)


def png_of(width: int, height: int, colour: int = 0) -> bytes:
    """Return a PNG whose header declares any size, with next to no data."""
    return chunks(header(width, height, 8, colour), (b"IDAT", zlib.compress(bytes(100))), END)


def inflating(size: int) -> bytes:
    """Return a deflate stream of zeros: one block that stands by itself, many times."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(2**24)) + packer.flush(zlib.Z_FULL_FLUSH)
    checksum = (size % 65_521) << 16 | 1
    return b"\x78\xda" + block * (size >> 24) + packer.flush() + struct.pack(">I", checksum)


GIBIBYTE = inflating(2**30)


def tiff(pixels: NDArray[Any], **options: Any) -> bytes:
    """Encode a TIFF."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, pixels, **options)
    return buffer.getvalue()


def no_bits_tiff() -> bytes:
    """Make a TIFF in colour that says its samples have no bits; nothing is decoded, and no error raised."""
    return tiff(np.stack([GOOD] * 3, -1), photometric="rgb").replace(b"\x08\0" * 3, bytes(6))


def tiff_bomb() -> bytes:
    """Make a deflated TIFF whose one strip inflates to 1 GiB."""
    data = tiff(GOOD.astype(np.uint16), compression="zlib")
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        page: Any = tif.pages[0]
        count = page.tags[279]
        patched = bytearray(data + GIBIBYTE)
        struct.pack_into("<I", patched, page.tags[273].offset + 8, len(data))
        struct.pack_into("<HII", patched, count.offset + 2, 4, 1, len(GIBIBYTE))
    return bytes(patched)


def with_tag(data: bytes, code: int, field: int, number: int) -> bytes:
    """Return a TIFF with another number in the entry of a tag: at 4 its count, at 8 its value."""
    patched = bytearray(data)
    with tifffile.TiffFile(io.BytesIO(data)) as tif:
        page: Any = tif.pages[0]
        struct.pack_into("<I", patched, page.tags[code].offset + field, number)
    return bytes(patched)


def lzw_bomb() -> bytes:
    """Make an LZW TIFF that declares the most pixels that are allowed, and has next to none."""
    data = encoded("TIFF", compression="tiff_lzw")
    for tag in (256, 257, 278):
        data = with_tag(data, tag, 8, 8192)
    return data


TILED, STRIPS = tiff(GOOD, tile=(16, 16)), tiff(GOOD, rowsperstrip=10)
LZW_STRIPS = encoded("TIFF", compression="tiff_lzw", strip_size=400)
PLANES = tiff(np.moveaxis(COLOUR, -1, 0).copy(), planarconfig="separate", photometric="rgb")


def nan_tiff() -> bytes:
    """Make a float TIFF with one NaN."""
    pixels = GOOD.astype(np.float32)
    pixels[3, 3] = np.nan
    return tiff(pixels)


def jpeg_of(width: int, height: int) -> bytes:
    """Return the good JPEG with another size in its header."""
    data = bytearray(encoded("JPEG"))
    struct.pack_into(">HH", data, data.index(b"\xff\xc0") + 5, height, width)
    return bytes(data)


def many_scans() -> bytes:
    """Return a progressive JPEG whose scans come 100,000 times."""
    data = encoded("JPEG", progressive=True)
    first = data.index(b"\xff\xda")
    return data[:-2] + data[first:-2] * 16_667 + b"\xff\xd9"


def several(kind: str) -> bytes:
    """Return a file of two pictures."""
    return encoded(kind, COLOUR, save_all=True, append_images=[Image.fromarray(COLOUR[::-1].copy())])


FITS = b"SIMPLE  =                    T".ljust(2880)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n0 0 40 40 rectfill\n"
SVG = b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg" width="40" height="40"/>'
PDF = b"%PDF-1.7\n1 0 obj<<>>endobj\n"
DICOM = bytes(128) + b"DICM" + b"\x10\0\x10\0PN\x08\0Doe^Jane" + bytes(100)
FORMAT = "its format is none of PNG"

SKIPPED: dict[str, tuple[bytes, str]] = {
    "d02 cut.png": (encoded("PNG")[:-200], "cut short"),
    "d02 cut.jpg": (encoded("JPEG")[:-200], "truncated"),
    "d02 cut.bmp": (encoded("BMP")[:-200], "truncated"),
    "d02 cut.webp": (encoded("WEBP")[:-200], "Error"),
    "d02 cut.tif": (encoded("TIFF")[:700], "."),
    "d02 empty.png": (b"", FORMAT),
    "d02 text.jpeg": (b"this is text", FORMAT),
    "d02 magic.dat": (SIGNATURE, "its header is damaged"),
    "d03 sides.png": (png_of(30_000, 30_000), "more than 67,108,864 pixels"),
    "d03 sides.tif": (lzw_bomb().replace(struct.pack("<I", 8192), struct.pack("<I", 30_000)), "pixels"),
    "d04 under.png": (png_of(9_400, 9_400, 2), "9400x9400 is more than 67,108,864 pixels"),
    "d05 zero.png": (png_of(0, 0), "a size of 0"),
    "d06 ztxt.png": (with_chunk(b"zTXt", b"a\0\0" + GIBIBYTE), "too large"),
    "d06 iccp.png": (with_chunk(b"iCCP", b"a\0\0" + GIBIBYTE), "too large"),
    "d06 itxt.png": (with_chunk(b"iTXt", b"a\0\1\0\0\0" + GIBIBYTE), "too large"),
    "d09 frames.gif": (encoded("GIF"), FORMAT),
    "d11 stars.fits": (FITS, FORMAT),
    "d11 stars.png": (FITS, FORMAT),
    "d11 script.eps": (EPS, FORMAT),
    "d11 script.png": (EPS, FORMAT),
    "d11 paper.png": (PDF, FORMAT),
    "d11 waves.jp2": (encoded("JPEG2000"), FORMAT),
    "d11 waves.png": (encoded("JPEG2000"), FORMAT),
    "d11 drawing.svg": (SVG, FORMAT),
    "d11 pair.mpo": (several("MPO"), "its format is MPO"),
    "d11 pair.jpg": (several("MPO"), "its format is MPO"),
    "d12 header.png": (encoded("PNG").replace(b"IHDR\0", b"IHDR\1"), "its header is damaged"),
    "d12 checksum.png": (chunks(HEADER, (*PIXELS[:2], 1), END), "IDAT is damaged"),
    "d12 text.png": (chunks(HEADER, PIXELS, (b"tEXt", b"a\0b", 1), END), "tEXt is damaged"),
    "d12 bit.png": (chunks(HEADER, (b"IDAT", ONE_BIT_OFF, zlib.crc32(b"IDAT" + PIXELS[1])), END), "IDAT"),
    "d12 stream.png": (chunks(HEADER, (b"IDAT", bytes(900)), END), "broken data stream"),
    "d12 length.png": (chunks(HEADER) + struct.pack(">I", 2**31 - 1) + b"IDAT" + PIXELS[1], "cut short"),
    "d12 no end.png": (chunks(HEADER, PIXELS), "cut short"),
    "d12 two heads.png": (chunks(header(20, 20), HEADER, PIXELS, END), "2 headers"),
    "d13 sos.jpg": (encoded("JPEG")[: encoded("JPEG").index(b"\xff\xda") + 14], "truncated"),
    "d13 sof.jpg": (jpeg_of(65_500, 65_500), "more than 67,108,864 pixels"),
    "d13 scans.jpg": (many_scans(), "scans, more than 500"),
    "d14 no bits.tif": (no_bits_tiff(), "another size than its header"),
    "d14 loop.tif": (b"II*\0\x08\0\0\0\0\0\x08\0\0\0", "."),
    "d14 tags.tif": (b"II*\0\x08\0\0\0\xff\xff" + b"\xff" * 60, "suspicious number of tags"),
    "d14 count.tif": (
        b"II*\0\x08\0\0\0\x02\0"
        + struct.pack("<HHII", 256, 4, 2**32 - 1, 8)
        + struct.pack("<HHII", 257, 4, 1, 40)
        + bytes(4),
        ".",
    ),
    "d14 wide.tif": (with_tag(TILED, 256, 8, 1_500_000), "without all of its strips or tiles"),
    "d14 tiles.tif": (with_tag(TILED, 324, 4, 8), "without all of its strips or tiles"),
    "d14 strips.tif": (with_tag(STRIPS, 273, 4, 3), "without all of its strips or tiles"),
    "d14 planes.tif": (with_tag(PLANES, 277, 8, 50_179), "without all of its strips or tiles"),
    "d14 lzw.tif": (with_tag(LZW_STRIPS, 273, 4, 3), "."),
    "d14 deflate.tif": (tiff_bomb(), "inflates to more"),
    "d15 flat.png": (encoded("PNG", np.full((40, 40), 7, np.uint8)), "no content"),
    "d15 black.png": (encoded("PNG", np.zeros((40, 40), np.uint8)), "no content"),
    "d15 nan.tif": (nan_tiff(), "NaN"),
}
"""By row and name: a file that is left out of a folder of good ones, and what is said of it."""


@dataclass(frozen=True)
class Ended:
    """What a command did."""

    code: int
    out: str
    err: str


def names_of(cases: dict[str, Any]) -> list[str]:
    """Return the names of the files, without their rows."""
    return [case.partition(" ")[2] for case in cases]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a model that is exactly invariant, and takes images of any size and 1 or 3 channels."""

    class Mean(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.mean((2, 3))

    path = tmp_path_factory.mktemp("model") / "model.pt"
    torch.jit.script(Mean()).save(str(path))  # type: ignore[no-untyped-call]
    return path


@pytest.fixture
def check(
    model: Path, capfd: pytest.CaptureFixture[str], tmp_path: Path, measured_here: None
) -> Callable[..., Ended]:
    """Return a function that audits the model on some data and writes no file but ``r.json``, if asked."""
    del measured_here

    def run(data: Path, *options: str) -> Ended:
        before = set(tmp_path.rglob("*"))
        code = cli.main(["check", str(model), "--data", str(data), "--samples", "0", *options])
        shown = capfd.readouterr()
        assert "Traceback" not in shown.err
        assert set(tmp_path.rglob("*")) - before <= {tmp_path / "r.json"}
        return Ended(code, shown.out, shown.err)

    return run


def read_all(path: Path) -> tuple[list[str], dict[str, str], tuple[str, ...]]:
    """Return the usable names, the reasons of the others, and what was done."""
    images = open_images(InputOptions(PathData(str(path)), samples=0))
    height, width = images.native_size or (8, 8)
    dataset = images.prepare((images.native_channels or 3, height, width))
    names = [name for batch in dataset.batches(2) for name in batch.names]
    assert len({skip.name for skip in dataset.skipped}) == len(dataset.skipped)
    return names, {skip.name: skip.reason for skip in dataset.skipped}, dataset.description


def pixels_of(path: Path) -> NDArray[np.float32]:
    """Return the images of one size as the model gets them."""
    images = open_images(InputOptions(PathData(str(path)), samples=0))
    assert images.native_size is not None
    dataset = images.prepare((images.native_channels or 3, *images.native_size))
    return np.concatenate([batch.images for batch in dataset.batches(8)])


# Folders of images ---------------------------------------------------------------------------------


@pytest.mark.parametrize("case", SKIPPED)
def test_one_bad_image_is_named_and_the_good_ones_stay(tmp_path: Path, case: str) -> None:
    """The bad file is skipped with a one-line reason, at once."""
    (content, reason), name = SKIPPED[case], case.partition(" ")[2]
    (tmp_path / "good.png").write_bytes(encoded("PNG"))
    (tmp_path / name).write_bytes(content)
    begin = time.monotonic()
    names, skipped, _ = read_all(tmp_path)
    assert time.monotonic() - begin < 5
    assert names == ["good.png"]
    assert list(skipped) == [name]
    assert skipped[name].isprintable()
    assert str(tmp_path) not in skipped[name]
    assert re.search(reason, skipped[name])


MEASURED = """
import contextlib, resource, sys
from eqaudit.data import open_images
from eqaudit.errors import DataError
from eqaudit.plan import InputOptions, PathData

before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[1:]:
    with contextlib.suppress(DataError):
        images = open_images(InputOptions(PathData(path), samples=0))
        for batch in images.prepare((images.native_channels, *images.native_size)).batches(2):
            pass
print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
"""


def test_d06_d14_d19_d22_bombs_take_no_memory(tmp_path: Path) -> None:
    """Images, and arrays whose header or archive declares gibibytes: in a process of their own."""
    folder = tmp_path / "images"
    folder.mkdir()
    for case in SKIPPED:
        (folder / case.partition(" ")[2]).write_bytes(SKIPPED[case][0])
    paths = [folder]
    for number, case in enumerate(REFUSED):
        paths.append(tmp_path / f"{number}.npy")
        paths[-1].write_bytes(REFUSED[case][0])
    with (tmp_path / "header.npy").open("wb") as file:
        file.write(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{")
        file.truncate(5 * 2**30)
    paths.append(tmp_path / "header.npy")
    ended = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, paths)],
        capture_output=True,
        timeout=SECONDS,
        check=True,
    )
    assert int(ended.stdout) < EXTRA


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with good images and every one that is skipped."""
    folder = tmp_path_factory.mktemp("damaged")
    for number in range(3):
        pixels = GOOD // (1 + number)
        (folder / f"good{number}.png").write_bytes(encoded("PNG", pixels))
    for case, (content, _) in SKIPPED.items():
        (folder / case.partition(" ")[2]).write_bytes(content)
    return folder


def test_d02_the_command_names_and_counts_them_all(
    model: Path, damaged: Path, tmp_path: Path, eqaudit: Callable[..., Any]
) -> None:
    """Quickly and in little memory, in the table and in the report; the gate judges the good ones."""
    begin = time.monotonic()
    ended = eqaudit(
        "check", str(model), "--data", str(damaged), "--samples", "0", "--json", "r.json", cwd=tmp_path
    )
    assert time.monotonic() - begin < SECONDS
    assert (ended.returncode, ended.stderr) == (ExitCode.PASSED, b"")
    inputs = json.loads((tmp_path / "r.json").read_bytes())["inputs"]
    reasons = {skipped["name"]: skipped["reason"] for skipped in inputs["skipped"]}
    assert inputs["samples"] == 3
    assert sorted(reasons) == sorted(names_of(SKIPPED))
    shown = " ".join(ended.stdout.decode().split())
    for case, (_, said) in SKIPPED.items():
        assert re.search(said, reasons[case.partition(" ")[2]])
        assert f"{case.partition(' ')[2]}:" in shown


def test_d02_strict_is_incomplete(damaged: Path, check: Callable[..., Ended]) -> None:
    """Code 5, and each image is named."""
    ended = check(damaged, "--strict")
    assert ended.code == ExitCode.INCOMPLETE
    assert all(name in ended.err for name in names_of(SKIPPED))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP", "TIFF"])
@settings(max_examples=30)
@given(data=st.data())
def test_d02_d12_d13_d14_no_damage_of_an_image_escapes(
    tmp_path_factory: pytest.TempPathFactory, kind: str, data: st.DataObject
) -> None:
    """Whatever bytes are changed or cut, the outcome is an image, a skip or a DataError; of a PNG a skip."""
    whole = encoded(kind)
    content = bytearray(whole)
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), max_size=6)):
        content[position] = data.draw(st.integers(0, 255))
    del content[data.draw(st.integers(1, len(content))) :]
    folder = tmp_path_factory.mktemp("damage")
    (folder / "good.png").write_bytes(encoded("PNG"))
    (folder / "x.png").write_bytes(content)
    try:
        names, skipped, _ = read_all(folder)
    except DataError as error:
        assert "differ too much" in error.message  # noqa: PT017 - the header may lie about its size
    else:
        assert sorted({*names, *skipped}) == ["good.png", "x.png"]
        assert kind != "PNG" or ("x.png" in names) == (content == whole)


@pytest.mark.parametrize("make", ["nothing", "folders", "hidden", "text"])
def test_d01_a_folder_without_images_is_one_error(
    tmp_path: Path, make: str, check: Callable[..., Ended]
) -> None:
    """The error names the folder and the formats."""
    folder = tmp_path / "images"
    (folder / "a" / "b").mkdir(parents=True) if make == "folders" else folder.mkdir()
    if make == "hidden":
        (folder / ".a.png").write_bytes(encoded("PNG"))
    elif make == "text":
        (folder / "a.txt").write_text("x")
    ended = check(folder)
    assert (ended.code, ended.out) == (ExitCode.CANNOT_RUN, "")
    assert f"no image in {folder}" in ended.err
    assert "PNG, JPEG, TIFF" in ended.err


@pytest.mark.parametrize(
    ("height", "width", "reason"),
    [(1, 1, "no content"), (1, 1_000_000, "pixels")],
)
def test_d05_sizes_that_no_model_takes(
    tmp_path: Path, height: int, width: int, reason: str, check: Callable[..., Ended]
) -> None:
    """Beside others an error of sizes; brought to the model's size, a skip with its reason."""
    (tmp_path / "good.png").write_bytes(encoded("PNG"))
    (tmp_path / "odd.png").write_bytes(encoded("PNG", GENERATOR.integers(0, 255, (height, width), np.uint8)))
    ended = check(tmp_path)
    assert ended.code == ExitCode.CANNOT_RUN
    assert "differ too much in size" in ended.err
    assert "--resize" in ended.err
    ended = check(tmp_path, "--input-shape", "1,40,40", "--json", str(tmp_path / "r.json"))
    (skipped,) = json.loads((tmp_path / "r.json").read_bytes())["inputs"]["skipped"]
    assert (skipped["name"], reason in skipped["reason"]) == ("odd.png", True)


DEEP = (GENERATOR.random((40, 40, 3)) * 65_535).astype(np.uint16)


def png16(pixels: NDArray[np.uint16]) -> bytes:
    """Encode a PNG of 16 bits and 3 channels, which Pillow cannot write."""
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    return chunks(header(40, 40, 16, 2), (b"IDAT", zlib.compress(rows)), END)


CMYK = Image.fromarray(COLOUR).convert("CMYK")


def adobe_inverted() -> bytes:
    """Return a CMYK JPEG as Adobe's programs write it; Pillow writes and reads them so."""
    buffer = io.BytesIO()
    CMYK.save(buffer, "JPEG", quality=100, subsampling=0)
    assert b"Adobe" in buffer.getvalue()
    return buffer.getvalue()


VALUES: dict[str, tuple[bytes, NDArray[Any], float, str]] = {
    "grey16.png": (encoded("PNG", DEEP[..., 0]), DEEP[..., 0] / 65_535, 1e-6, "maximum of uint16"),
    "rgb16.png": (png16(DEEP), (DEEP >> 8) / 255, 1e-6, "16-bit PNG with colour or alpha read with 8 bits"),
    "rgb16.tif": (tiff(DEEP), DEEP / 65_535, 1e-6, "maximum of uint16"),
    "float.tif": (tiff(DEEP[..., 0].astype(np.float32)), DEEP[..., 0], 1e-6, "float pixels, not scaled"),
    "cmyk.jpg": (adobe_inverted(), np.asarray(CMYK.convert("RGB")) / 255, 0.02, "maximum of uint8"),
    "ycbcr.jpg": (encoded("JPEG", COLOUR, quality=100, subsampling=0), COLOUR / 255, 0.02, "uint8"),
}


@pytest.mark.parametrize("name", VALUES)
def test_d07_nothing_is_clipped_and_the_range_is_said(tmp_path: Path, name: str) -> None:
    """Sixteen bits, floats, inks: the numbers are those of the picture."""
    content, expected, tolerance, said = VALUES[name]
    (tmp_path / name).write_bytes(content)
    found = np.moveaxis(pixels_of(tmp_path)[0], 0, -1)
    np.testing.assert_allclose(found, expected.reshape(found.shape), atol=tolerance, rtol=1e-6)
    assert any(said in step for step in read_all(tmp_path)[2])


def interlaced() -> bytes:
    """Return the good picture as an interlaced PNG: seven passes over the pixels."""
    passes = (
        (0, 8, 0, 8),
        (0, 8, 4, 8),
        (4, 8, 0, 4),
        (0, 4, 2, 4),
        (2, 4, 0, 2),
        (0, 2, 1, 2),
        (1, 2, 0, 1),
    )
    rows = b"".join(
        b"\0" + row.tobytes() for top, down, left, right in passes for row in GOOD[top::down, left::right]
    )
    name, data = header(40, 40)[:2]
    return chunks((name, data[:-1] + b"\1"), (b"IDAT", zlib.compress(rows)), END)


@pytest.mark.parametrize(
    ("content", "said"),
    [(interlaced(), "decoded"), (several("PNG"), "first frame"), (several("TIFF"), "first page")],
    ids=["interlaced", "animated", "pages"],
)
def test_d09_of_several_pictures_the_first_is_used_and_that_is_said(
    tmp_path: Path, content: bytes, said: str
) -> None:
    """Whatever the order in which its pixels are stored."""
    (tmp_path / "x.png").write_bytes(content)
    expected = GOOD[np.newaxis] if said == "decoded" else np.moveaxis(COLOUR, -1, 0)
    np.testing.assert_allclose(pixels_of(tmp_path)[0], expected / 255, rtol=1e-6)
    assert any(said in step for step in read_all(tmp_path)[2])


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("scan", DICOM, "DICOM"),
        ("brain.dat", struct.pack("<I", 348) + bytes(340) + b"n+1\0", "NIfTI"),
        ("brain.nii.gz", b"\x1f\x8b" + bytes(50), "NIfTI"),
        ("slide.svs", encoded("TIFF"), "whole-slide"),
    ],
)
def test_d11_d31_medical_formats_are_answered_with_the_way_out(
    tmp_path: Path, name: str, content: bytes, kind: str, check: Callable[..., Ended]
) -> None:
    """Alone they are an error that names the kind; beside images they are passed over and said.

    Nothing is read of them but their first bytes: no name of a patient comes out.
    """
    folder = tmp_path / "images"
    folder.mkdir()
    (folder / name).write_bytes(content)
    for path in (folder, folder / name):
        ended = check(path)
        assert ended.code == ExitCode.CANNOT_RUN
        assert f"only {kind} data" in ended.err
        assert "--data path/to/file.py:function" in ended.err
    (folder / "good.png").write_bytes(encoded("PNG"))
    ended = check(folder, "--json", str(tmp_path / "r.json"))
    report = (tmp_path / "r.json").read_text()
    assert f"1 {kind} files passed over" in report
    assert "Doe" not in report + ended.out + ended.err


@pytest.mark.parametrize("flat", [np.zeros, np.ones])
def test_d15_a_model_never_passes_on_images_without_content(
    tmp_path: Path, flat: Callable[..., NDArray[Any]], check: Callable[..., Ended]
) -> None:
    """Nothing could fail on them: that is no pass."""
    folder = tmp_path / "images"
    folder.mkdir()
    np.save(tmp_path / "flat.npy", flat((8, 3, 8, 8), np.float32))
    (folder / "flat.png").write_bytes(encoded("PNG", 255 * flat((8, 8), np.uint8)))
    for data in (tmp_path / "flat.npy", folder):
        ended = check(data)
        assert ended.code == ExitCode.CANNOT_RUN
        assert "no content" in ended.err


@pytest.mark.parametrize(
    ("second", "said"),
    [
        (GOOD[:30], "centre square among sizes from 30x40 to 40x40"),
        (COLOUR, "grey repeated to RGB"),
        (GOOD[:, :24], "centre-cropped to 24x24"),
    ],
    ids=["sizes", "channels", "oblong"],
)
def test_d16_what_differs_is_made_alike_by_a_rule_that_is_said(
    tmp_path: Path, second: NDArray[np.uint8], said: str, check: Callable[..., Ended]
) -> None:
    """Sizes, channels and oblong images."""
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    (tmp_path / "b.png").write_bytes(encoded("PNG", second))
    ended = check(tmp_path, "--json", str(tmp_path / "r.json"))
    assert ended.code == ExitCode.PASSED
    assert said in (tmp_path / "r.json").read_text()


def test_d26_an_image_that_vanishes_grows_or_becomes_a_fifo_is_named(tmp_path: Path) -> None:
    """What changes between listing and reading is skipped; loading it again is an error."""
    for name in ("a.png", "b.png", "c.png", "d.png"):
        (tmp_path / name).write_bytes(encoded("PNG"))
    dataset = open_images(InputOptions(PathData(str(tmp_path)))).prepare((1, 40, 40))
    (tmp_path / "a.png").unlink()
    (tmp_path / "b.png").unlink()
    os.mkfifo(tmp_path / "b.png")
    os.truncate(tmp_path / "d.png", BOUNDS.picture_bytes + 1)
    assert [batch.names for batch in dataset.batches(2)] == [("c.png",)]
    assert [skip.reason.split(":")[0] for skip in dataset.skipped] == [
        "FileNotFoundError",
        "is no regular file",
        "a file of more than 1 GiB",
    ]
    with pytest.raises(DataError, match="changed while it was used"):
        dataset.load(["a.png"])


def test_d27_folders_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Depth, files and folders have a bound, which ends the listing where it is reached."""
    # Of a thousand levels none but the first are seen, and shutil, so pytest, could not remove them.
    deep = tmp_path / "deep"
    deep.joinpath(*["d"] * 100).mkdir(parents=True)
    with pytest.raises(DataError, match="more than 64 folders deep"):
        read_all(deep)
    monkeypatch.setattr("eqaudit.data.listing.BOUNDS", Bounds(folder_entries=3))
    opened: list[Path] = []
    monkeypatch.setattr("eqaudit.data.listing.recognise", opened.append)
    wide = tmp_path / "wide"
    for number in range(2):
        (wide / f"folder{number}").mkdir(parents=True)
        (wide / f"{number}.txt").write_text("")
    with pytest.raises(DataError, match="more than 3 files and folders"):
        read_all(wide)
    assert len(opened) <= 2


def test_d27_d28_special_files_and_links_are_neither_opened_nor_followed(tmp_path: Path) -> None:
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
    (folder / "itself.png").symlink_to("itself.png")
    names, skipped, _ = read_all(folder)
    assert names == ["within.png", "x.png/inside.png"]
    assert skipped["fifo.png"] == "is no regular file"
    assert skipped["link.png"] == skipped["zero.png"] == "is a link that leads out of the folder"
    assert skipped["broken.png"] == "No such file or directory"
    assert skipped["itself.png"] == "Too many levels of symbolic links"
    with pytest.raises(DataError, match="is no regular file"):
        read_all(folder / "fifo.png")


# Arrays --------------------------------------------------------------------------------------------


class Touch:
    """Unpickled, it would make a folder in the current one."""

    def __reduce__(self) -> tuple[Any, ...]:
        """Call mkdir when it is unpickled."""
        return os.mkdir, ("PWNED",)


def saved(array: NDArray[Any]) -> bytes:
    """Encode a .npy file, objects pickled."""
    buffer = io.BytesIO()
    np.save(buffer, array, allow_pickle=True)
    return buffer.getvalue()


def npy(shape: str, descr: str = "'<f4'", version: int = 1) -> bytes:
    """Make a .npy of a header alone."""
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}}}\n".encode()
    length = struct.pack("<H" if version == 1 else "<I", len(head))
    return b"\x93NUMPY" + bytes([version, 0]) + length + head


def npz(*members: tuple[str, bytes]) -> bytes:
    """Make an archive; names may come twice."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.fp.seek(0, 2)  # type: ignore[union-attr]
            archive.NameToInfo.pop(name, None)
            archive.writestr(name, content)
    return buffer.getvalue()


def unpacking(size: int) -> bytes:
    """Make an archive whose one array unpacks to so many bytes of zeros."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("images.npy", "w", force_zip64=True) as member,
    ):
        member.write(npy(f"(1, 1, {size >> 12}, 1024)"))
        for _ in range(size >> 24):
            member.write(bytes(2**24))
    return buffer.getvalue()


OBJECTS = saved(np.array([[[Touch()]]], dtype=object))
WHOLE = saved(FLOATS)
DAMAGED = "is damaged: "

REFUSED: dict[str, tuple[bytes, str]] = {
    "d17 of the row": (npy("(65536, 65536)"), "has 2 dimensions (65536x65536)"),
    "d17 of images": (npy("(1, 1, 65536, 65536)", "'<f8'"), "declares 34,359,738,368 bytes, the file has 0"),
    "d18 2^64": (npy(f"(1, 1, {2**64}, 1)"), "declares 73,786,976,294,838,206,464 bytes"),
    "d18 negative": (npy("(1, 1, -4, 4)"), "holds no image"),
    "d18 two negative": (npy("(1, 1, -4, -4)"), "holds no image"),
    "d18 zero": (npy("(0, 3, 8, 8)"), "holds no image"),
    "d18 two dimensions": (npy("(8, 8)"), "has 2 dimensions"),
    "d18 33 dimensions": (npy(str((1,) * 33)), "has 33 dimensions"),
    "d18 a fraction": (npy("(1.5, 3, 8, 8)"), DAMAGED),
    "d18 many images": (npy("(2000000, 1, 1, 1)"), "2,000,000 images, the limit is 1,000,000"),
    "d19 open brackets": (npy("(1, 3, 8, 8" + "(" * 5000), DAMAGED),
    "d19 100,000 brackets": (npy("(" * 100_000, version=2), DAMAGED),
    "d19 no literal": (npy("__import__('os').mkdir('PWNED')"), DAMAGED),
    "d19 4 GiB": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff{", DAMAGED),
    "d19 nothing": (b"\x93NUMPY", DAMAGED),
    "d20 objects": (OBJECTS, "Python objects"),
    "d20 objects in an archive": (npz(("images.npy", OBJECTS)), "Python objects"),
    "d20 a bare pickle": (pickle.dumps(Touch()), "no image in"),
    "d20 records": (npy("(1, 3, 8, 8)", "[('a', '<f4')]"), "records"),
    "d20 text": (npy("(1, 3, 8, 8)", "'<U10'"), "text"),
    "d20 dates": (npy("(1, 3, 8, 8)", "'<M8[s]'"), "dates"),
    "d20 complex": (npy("(1, 3, 8, 8)", "'<c8'"), "complex numbers"),
    "d21 version 3": (npy("(1, 3, 8, 8)", version=3), DAMAGED + "ValueError: npy version 3.0"),
    "d22 bomb": (unpacking(17 * 2**24), "unpacks to 285,212,"),
    "d22 duplicate": (npz(("a.npy", WHOLE), ("a.npy", WHOLE)), "holds a.npy 2 times"),
    "d22 above": (npz(("../a.npy", WHOLE)), "holds ../a.npy, which names no array"),
    "d22 absolute": (npz(("/etc/a.npy", WHOLE)), "holds /etc/a.npy, which names no array"),
    "d22 no array": (npz(("images.npy", WHOLE), ("data.pkl", b"x")), "holds data.pkl, which names no array"),
    "d22 empty": (npz(), "no array"),
    "d22 objects read late": (npz(("images.npy", WHOLE), ("labels.npy", OBJECTS)), "Python objects"),
    "d22 no directory": (b"PK\x03\x04 is all there is", DAMAGED + "BadZipFile"),
    "d29 NaN": (saved(np.full_like(FLOATS, np.nan)), "holds NaN or infinite pixels"),
    "d29 infinite": (saved(np.full_like(FLOATS, np.inf)), "holds NaN or infinite pixels"),
    "d29 beyond float32": (saved(FLOATS.astype(np.float64) * 1e300), "holds NaN or infinite pixels"),
}
"""By row: an array file that is refused, and what is said of it."""


@pytest.mark.parametrize("case", REFUSED)
def test_array_files_that_lie_are_one_error(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: Callable[..., Ended]
) -> None:
    """Nothing is allocated or unpickled for what a header claims."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.npy").write_bytes(REFUSED[case][0])
    ended = check(tmp_path / "x.npy")
    assert (ended.code, ended.out) == (ExitCode.CANNOT_RUN, "")
    assert REFUSED[case][1] in ended.err
    assert [line.startswith("error: ") for line in ended.err.splitlines()] == [True, False]


@pytest.mark.parametrize(
    "content",
    [saved(np.asfortranarray(FLOATS)), WHOLE + b"trailing", saved(FLOATS.astype(">f8"))],
    ids=["Fortran order", "trailing bytes", "other byte order"],
)
def test_d20_d21_the_same_numbers_whatever_the_order(tmp_path: Path, content: bytes) -> None:
    """What is stored in another way is the same array."""
    (tmp_path / "x.npy").write_bytes(content)
    np.testing.assert_array_equal(pixels_of(tmp_path / "x.npy"), FLOATS)


@pytest.mark.parametrize("name", ["npy", "npz"])
@settings(max_examples=60)
@given(data=st.data())
def test_d23_no_damage_of_an_array_file_escapes(
    tmp_path_factory: pytest.TempPathFactory, name: str, data: st.DataObject
) -> None:
    """Whatever bytes are changed, the outcome is arrays or a DataError."""
    buffer = io.BytesIO()
    (np.save if name == "npy" else np.savez_compressed)(buffer, GOOD.reshape(4, 1, 20, 20))
    content = bytearray(buffer.getvalue())
    for position in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=6)):
        content[position] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damage") / "x.bin"
    path.write_bytes(content)
    try:
        read_all(path)
    except DataError as error:
        assert error.message.isprintable()  # noqa: PT017 - either outcome is right


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")  # sums of infinite features
@pytest.mark.parametrize("scale", [1e38, 1e-40, -1.0])
def test_d29_extreme_numbers_never_pass_unseen(
    scale: float, tmp_path: Path, check: Callable[..., Ended]
) -> None:
    """Sums beyond float32 fail the gate, others are as good as any; the report has no infinite number."""
    np.save(tmp_path / "x.npy", (FLOATS * scale).astype(np.float32))
    ended = check(tmp_path / "x.npy", "--json", str(tmp_path / "r.json"))
    report = json.loads((tmp_path / "r.json").read_bytes(), parse_constant=pytest.fail)
    (output,) = [output for output in report["outputs"] if output["gating"]]
    assert {error["class"] for error in output["errors"]} == {"unresolved" if scale == 1e38 else "exact"}
    assert ended.code == (ExitCode.GATE_FAILED if scale == 1e38 else ExitCode.PASSED)


# Truth ---------------------------------------------------------------------------------------------


def test_d24_300_labels_in_a_mask_are_classes_or_objects(tmp_path: Path, check: Callable[..., Ended]) -> None:
    """Sixteen bits hold them; a mask without its image's name is named with it."""
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
    (tmp_path / "images" / "a.png").write_bytes(encoded("PNG"))
    labels = (np.arange(1600) % 300).reshape(40, 40).astype(np.uint16)
    Image.fromarray(labels).save(tmp_path / "masks" / "b.png")
    masks = ("--masks", str(tmp_path / "masks"))
    ended = check(tmp_path / "images", *masks)
    assert ended.code == ExitCode.CANNOT_RUN
    assert "no mask for a.png" in ended.err
    (tmp_path / "masks" / "b.png").rename(tmp_path / "masks" / "a.png")
    options = InputOptions(
        PathData(str(tmp_path / "images")), truth=TruthOptions(masks=str(tmp_path / "masks"))
    )
    (batch,) = open_images(options).prepare((1, 40, 40)).batches(1)
    assert batch.targets is not None
    np.testing.assert_array_equal(batch.targets[0], labels)


def test_d25_two_images_of_one_stem_are_both_audited(tmp_path: Path) -> None:
    """They are told apart by their whole names."""
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    (tmp_path / "a.jpg").write_bytes(encoded("JPEG"))
    assert read_all(tmp_path)[0] == ["a.jpg", "a.png"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"\xef\xbb\xbffile,label\r\na.png\0,1\r\n", "line 2 holds a NUL"),
        (b"file,label\n" + b"a" * 2**20 + b",1\n", "line 2 has more than 1,048,576 characters"),
        (b'file,label\n"a.png,1\n', "line 2: unexpected end of data"),
        (b"file,file,label\na.png,1\n", "line 1: the header is 'file,file,label'"),
        (b"file,label\n../../etc/passwd,1\n", "line 2: '../../etc/passwd' leads outside"),
    ],
    ids=["NUL", "long line", "quote", "header", "outside"],
)
def test_d30_a_manifest_is_refused_with_its_line(
    text: bytes, said: str, tmp_path: Path, check: Callable[..., Ended]
) -> None:
    """With or without a byte order mark, whatever ends its lines."""
    (tmp_path / "a.png").write_bytes(encoded("PNG"))
    (tmp_path / "labels.csv").write_bytes(text)
    ended = check(tmp_path, "--labels", str(tmp_path / "labels.csv"))
    assert ended.code == ExitCode.CANNOT_RUN
    assert said in ended.err
    assert len(ended.err) < 1_000


def test_negative_seeds_are_a_usage_error() -> None:
    """Random generators take no negative seed."""
    with pytest.raises(UsageError, match="--seed"):
        open_images(InputOptions(seed=-1))


def test_every_row_has_a_test_or_a_reason() -> None:
    """D01 to D31: in the name of a test here, of one of its cases, or in a list above."""
    tests = [name for name in globals() if name.startswith("test_d")]
    named = {row for name in [*tests, *SKIPPED, *REFUSED] for row in re.findall(r"d\d\d", name)}
    assert named | set(NO_TEST) == {f"d{number:02}" for number in range(1, 32)} - (set(HELD_BY) - named)
