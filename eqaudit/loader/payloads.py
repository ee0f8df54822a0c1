"""Check the archive of an exported program: which entries it has, and that each weight lies in its record."""

import json
import math
import re
from collections.abc import Mapping
from typing import Any, Final

from eqaudit.bounds import BOUNDS
from eqaudit.errors import ModelError
from eqaudit.loader.kinds import EXPORT_AGAIN, WAY_OUT
from eqaudit.loader.programs import clean_program, clean_values, read_json

PROGRAM: Final = "models/model.json"
SAMPLES: Final = "data/sample_inputs/model.pt"
WEIGHTS: Final = "data/weights/model_weights_config.json"
CONSTANTS: Final = "data/constants/model_constants_config.json"
_FIXED: Final = {"archive_format": b"pt2", "archive_version": b"0", "byteorder": b"little"}
_HARMLESS: Final = re.compile(r"\.data/(version|serialization_id)|\.format_version")
_RECORD: Final = re.compile(r"data/weights/weight_\d+|data/constants/tensor_\d+", re.ASCII)
_NATIVE: Final = re.compile(r"data/aotinductor/.*|data/(executorch|mtia)/.*", re.IGNORECASE)
_PICKLED: Final = re.compile(
    r"data/constants/(opaque|custom)_obj_.*|data/(weights|constants)/[^/]*\.pt", re.IGNORECASE
)
_DTYPE_BYTES: Final = {
    **dict.fromkeys((1, 2, 12, 29, 30, 31, 32, 33), 1),
    **dict.fromkeys((3, 6, 13, 28), 2),
    **dict.fromkeys((4, 7, 9, 34), 4),
    **dict.fromkeys((5, 8, 10, 35), 8),
    11: 16,
}
"""By torch's number of the type: (u)int8, bool and float8; 16, 32 and 64 bits, complex of two; complex128."""
_STRIDED: Final = 7


def check_names(names: Mapping[str, str]) -> None:
    """Refuse an archive by the names of its entries.

    Parameters
    ----------
    names
        The names inside the top folder; folded to lower case -> as they are.

    Raises
    ------
    ModelError
        It holds native code, pickled objects, several programs, or entries that torch does not write.
    """
    for name in names.values():
        if _NATIVE.fullmatch(name):
            raise ModelError(
                f"holds compiled native code ({name}): refused, it cannot be checked",
                "save the exported program itself with torch.export.save",
            )
        if _PICKLED.fullmatch(name):
            raise ModelError(f"holds pickled objects ({name}): refused, nothing is unpickled", WAY_OUT)
    programs = [name for name in names.values() if name.lower().startswith("models/")]
    if programs != [PROGRAM]:
        raise ModelError(f"holds {len(programs)} exported programs, expected one: {PROGRAM}", EXPORT_AGAIN)
    known = {PROGRAM, SAMPLES, WEIGHTS, CONSTANTS, *_FIXED}
    for name in names.values():
        extra = name.startswith("extra/")
        if name not in known and not (extra or _HARMLESS.fullmatch(name) or _RECORD.fullmatch(name)):
            raise ModelError(f"holds {name}, which is no part of an exported program", EXPORT_AGAIN)
    missing = known - set(names.values())
    if missing:
        raise ModelError(f"damaged exported program: {min(missing)} is missing", EXPORT_AGAIN)


def check_contents(contents: Mapping[str, bytes]) -> dict[str, bytes]:
    """Check the entries of an exported program and return those that torch may see.

    Parameters
    ----------
    contents
        By name inside the top folder; the names passed `check_names`.

    Raises
    ------
    ModelError
        Naming the entry and what is wrong in it.
    """
    for name, expected in _FIXED.items():
        if contents[name].strip() != expected:
            raise ModelError(
                f"{name} is {contents[name][:20]!r}, expected {expected!r}: another version of the format",
                "export the model again with the PyTorch of this installation",
            )
    found: dict[str, bytes] = {}
    for name, content in contents.items():
        if name == SAMPLES:
            # Read only by unpickling it; torch takes an empty one for "none saved".
            found[name] = b""
        elif name == PROGRAM:
            found[name] = clean_program(content)
        elif name in {WEIGHTS, CONSTANTS}:
            found[name] = _check_config(name, content, contents)
        elif not name.startswith("extra/"):
            found[name] = content
    return found


def _check_config(member: str, data: bytes, contents: Mapping[str, bytes]) -> bytes:
    config = read_json(member, data)
    types: dict[str, object] = {}
    try:
        for name, payload in config["config"].items():
            record = f"{member.rpartition('/')[0]}/{payload['path_name']}"
            if payload["use_pickle"] is not False:
                raise ModelError(f"{member}: {name[:80]} is pickled: refused, nothing is unpickled", WAY_OUT)
            if not _RECORD.fullmatch(record) or record not in contents:
                raise ModelError(f"{member}: record {record[:80]} is missing", EXPORT_AGAIN)
            meta = payload["tensor_meta"]
            if types.setdefault(record, meta["dtype"]) != meta["dtype"]:
                raise ModelError(f"{member}: {record} is shared by weights of two types", EXPORT_AGAIN)
            _check_tensor(record, meta, len(contents[record]))
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise ModelError(f"{member}: damaged ({type(error).__name__})", EXPORT_AGAIN) from error
    return json.dumps(clean_values(config)).encode()


def _check_tensor(record: str, meta: dict[str, Any], found: int) -> None:
    if meta["layout"] != _STRIDED or meta["dtype"] not in _DTYPE_BYTES:
        raise ModelError(f"{record}: weights of this layout or type are not supported", WAY_OUT)
    if meta["device"]["type"] == "meta":
        raise ModelError("its weights are on the meta device: the file holds no values", EXPORT_AGAIN)
    item = _DTYPE_BYTES[meta["dtype"]]
    sizes, strides = ([_count(size) for size in meta[key]] for key in ("sizes", "strides"))
    needed = _count(meta["storage_offset"]) * bool(math.prod(sizes))
    if 0 not in sizes:
        needed += 1 + sum((size - 1) * stride for size, stride in zip(sizes, strides, strict=True))
    if needed * item > found or found % item:
        raise ModelError(
            f"storage {record} has {found} bytes, {needed * item} declared",
            "copy, download or export the file again",
        )
    # A stride of zero makes a giant of one number; torch copies weights out.
    if math.prod(sizes) * item > BOUNDS.unpacked_bytes:
        raise ModelError(f"too large: {record} declares {math.prod(sizes)} numbers", WAY_OUT)


def _count(size: dict[str, Any]) -> int:
    value = size["as_int"]
    if type(value) is not int or not 0 <= value < 2**62:
        raise ModelError("a size, stride or offset of a weight is no count", EXPORT_AGAIN)
    return value
