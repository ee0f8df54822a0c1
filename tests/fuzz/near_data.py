"""Near misses of images, labels and masks."""

import io
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from test_archive import Raw, build

from . import pictures
from .bases import encoded, noise, npy
from .cases import Near


def images() -> Iterator[Near]:
    """Pictures and arrays."""
    pixels = (noise(8, 8, 3, seed=2) * 255).astype(np.uint8)
    png = encoded(pixels, "png")
    jpeg = encoded(pixels, "jpeg")
    header = png.index(b"IHDR") + 4
    contents = {
        "x.png": (
            b"junk",
            pictures.sealed(png[:header] + struct.pack(">2L", 0, 8) + png[header + 8 :]),
            pictures.sealed(png[:header] + struct.pack(">2L", 9400, 9400) + png[header + 8 :]),
            pictures.sealed(png[:header] + struct.pack(">2L", 30000, 30000) + png[header + 8 :]),
            png[:-4],
            png[:-20],
            png[:50] + b"x" + png[51:],
            png[:33] + png[8:],
            encoded(pixels * 0, "png"),
            bytes(128) + b"DICM" + bytes(400),
        ),
        "x.jpeg": (
            jpeg[:200],
            encoded(pixels, "MPO", save_all=True, append_images=[Image.fromarray(pixels)]),
            jpeg.replace(b"\xff\xd9", b"\xff\xda" * 501 + b"\xff\xd9"),
        ),
        "x.tif": (*_tiffs(pixels),),
        "x.npy": (
            b"\x93NUMPY\x03\x00" + bytes(99),
            npy(np.zeros((2, 3), np.float32)),
            npy(np.zeros((0, 3, 8, 8), np.float32)),
            npy(np.zeros((2, 3, 8, 8), np.complex64)),
            npy(noise(2, 3, 8, 8) * np.nan),
            npy(noise(2, 3, 8, 8))[:-1],
            npy(noise(2, 5, 8, 8)),
            npy((noise(2, 8, 8, 2) * 255).astype(np.uint8)),
        ),
        "x.npz": (
            _npz(),
            _npz(a=noise(9)),
            _npz(a=noise(9, 8, 8), b=noise(9, 8, 8)),
            build([Raw(b"x.txt", b"")]),
            build([Raw(b"a.npy", npy(noise(9, 8, 8)), size=2**32 - 2)]),
        ),
    }
    for name, found in contents.items():
        for content in found:
            yield f"check m.pt --data {name}", {name: content}
    yield "check m.pt --data d", {"d/x.png": b"junk"}
    yield "check m.pt --data d", {"d/x.dcm": contents["x.png"][-1]}
    yield "check m.pt --data d", {"d/a.png": png, "d/b.png": encoded(np.tile(pixels, (5, 5, 1)), "png")}
    yield "check m.pt --data d --resize 8,8 --input-shape 5,8,8", {"d/a.png": png}


def _npz(**arrays: Any) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def tiff(array: Any, **options: Any) -> bytes:
    """Return the TIFF file of an array."""
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, metadata=None, **options)
    return buffer.getvalue()


def _tiffs(pixels: Any) -> Iterator[bytes]:
    grown = {256: 8192, 257: 8192}
    plain = tiff(pixels, photometric="rgb")
    yield pictures.retagged(plain, {257: 99})
    yield pictures.retagged(tiff(pixels.astype(np.float64), photometric="rgb"), grown)
    yield pictures.retagged(plain, {259: 5, 258: 16})
    yield pictures.retagged(tiff(pixels.astype(np.uint16), photometric="rgb"), {259: 5})
    yield pictures.retagged(plain, {256: 0})
    yield tiff(np.zeros((4, 8, 8, 3), np.uint8), photometric="rgb", volumetric=True)
    yield tiff(pixels.astype(np.complex64), photometric="minisblack")
    packed = bytearray(tiff(pixels, photometric="rgb", compression="deflate"))
    # Where the bits of a sample stand: now in the middle of the directory.
    packed[42] = 8
    yield bytes(packed)
    bomb = np.zeros((5000, 4096), np.uint8)
    yield pictures.retagged(tiff(bomb, compression="deflate", rowsperstrip=5000), {256: 8, 257: 8, 278: 8})


def truth(files: Mapping[str, bytes]) -> Iterator[Near]:
    """Labels and masks."""
    rows = (
        b"file,label\na.png,0,1\nb.png,1",
        b"file,label\na.png,\nb.png,1",
        b"file,label\na.png,0\na.png,1",
        b"file,label\n../a.png,0",
        b"file,label\n,0",
        b'file,label\n"a.png,0',
        b"file,label\n" + b"a" * (1 << 21),
        b"file,label\n\xff,0",
        b"file,label\n\0,0",
        b"file,file\na.png,0",
        b"file,label\na.png,0.5\nb.png,1",
        b"file,label\na.png,0",
        b"file,label\na.png,7\nb.png,9",
    )
    for content in rows:
        yield "check m.pt --data p --labels x.csv", {"x.csv": content}
    grey = (noise(8, 8, seed=3) * 255).astype(np.uint8)
    colour = encoded((noise(8, 8, 3) * 255).astype(np.uint8), "png")
    masks: tuple[tuple[str, dict[str, bytes]], ...] = (
        ("", {"q/b.png": b"junk"}),
        ("", {"q/b.png": colour}),
        ("", {"q/b.png": tiff(noise(8, 8))}),
        ("", {"q/b.png": encoded(grey[:4], "png")}),
        ("", {"q/b.png": encoded(grey // 128 * 255, "png")}),
        ("--mask-values binary", {}),
        ("", {"q/b.tif": files["q/b.png"]}),
        ("", {"p/c.png": files["p/a.png"]}),
        ("", {"p/b.bmp": encoded(grey, "bmp")}),
        ("", {"p/1/c.png": files["p/a.png"], "p/2/c.png": files["p/b.png"], "q/c.png": files["q/a.png"]}),
    )
    for option, changed in masks:
        yield f"check maps.pt --data p --masks q {option}", changed
    floats, shorts = noise(2, 8, 8), (noise(2, 8, 8) * 3).astype(np.int16)
    images = noise(2, 3, 8, 8)
    for truth in (floats, shorts - 9, shorts[:, :4], shorts[:1]):
        yield "check maps.pt --data x.npz", {"x.npz": _npz(images=images, masks=truth)}
    for labels in (
        np.array([0.5, 1]),
        np.array([0, -1]),
        np.array([0]),
        np.eye(2, 5, dtype=int),
        np.eye(2, 5) * 7,
    ):
        yield "check m.pt --data x.npz", {"x.npz": _npz(images=images, labels=labels)}
