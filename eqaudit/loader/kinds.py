"""Say what a file is that is no model archive, from its content and never from its name."""

import codecs
import io
import pickletools
import re
from collections import deque
from collections.abc import Collection, Iterator
from typing import Final, TypeAlias

Finding: TypeAlias = tuple[str, str]
"""What the file is, and what to do next."""

WAY_OUT: Final = (
    "give the code that builds the model, path/to/file.py:factory, "
    "or save it with torch.export.save or torch.jit.script(model).save(...)"
)
_OBJECTS_NEED_CODE: Final = (
    "if a state dict is in it: eqaudit check path/to/file.py:factory --weights FILE; "
    "else save the model with torch.export.save"
)
EXPORT_AGAIN: Final = "export the model again and save it with torch.export.save"
WEIGHTS_NEED_CODE: Final = "give the code too: eqaudit check path/to/file.py:factory --weights FILE"
AGAIN: Final = "copy, download or save the file again"

_MAGIC: Final = (
    (0, b"version https://git-lfs", "a git-LFS pointer, not the file that it stands for", "run git lfs pull"),
    (0, b"\x89HDF\r\n\x1a\n", "an HDF5 file (Keras?)", ""),
    (0, b"\x1f\x8b", "a gzip archive", "unpack it first"),
    (0, b"BZh", "a bzip2 archive", "unpack it first"),
    (0, b"\xfd7zXZ\x00", "an xz archive", "unpack it first"),
    (0, b"7z\xbc\xaf", "a 7z archive", "unpack it first"),
    (0, b"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first"),
    (257, b"ustar", "a tar archive (old checkpoints are too)", ""),
    (4, b"PTMF", "a mobile TorchScript file", ""),
    (4, b"TFL3", "a TensorFlow Lite model", ""),
    (0, b"GGUF", "a GGUF file", ""),
    (0, b"\x93NUMPY", "a NumPy array", "give images with --data"),
    (0, b"\x89PNG", "a PNG image", "give images with --data"),
    (0, b"\xff\xd8\xff", "a JPEG image", "give images with --data"),
    (0, b"%PDF", "a PDF file", ""),
    (0, b"\x7fELF", "a program or library", ""),
)
_PYTHON: Final = re.compile(
    rb"^(#!.*python|import \w|from [\w.]+ import |def \w+\(|class \w+\s*[:(]|@\w)", re.MULTILINE
)
_WEIGHTS_ONLY: Final = re.compile(
    r"torch\._utils\._rebuild_\w+|torch\._tensor\._rebuild_\w+|torch\.\w*(Storage|Size|device|float\d*|int\d*)"
    r"|torch\.nn\.parameter\.Parameter|torch\.serialization\._get_layout|collections\.(OrderedDict|defaultdict)"
    r"|(__builtin__|builtins)\.(set|int|dict|list)"
)
# Tensors may carry marks of the exporter: torch's own names, never read.
_SAMPLE_NAMES: Final = re.compile(rf"{_WEIGHTS_ONLY.pattern}|(torch|sympy|numpy)\.[\w.]+")
_EXPORTED: Final = ("models/", "data/aotinductor/")
OLD_PROGRAM: Final = (
    "is an exported program of PyTorch 2.7 or older: refused, its weights are pickled",
    "load it with that PyTorch and save it with torch.export.save of a newer one",
)
_PICKLES_IN_LEGACY_SAVE: Final = 5
_SMALLEST_HEADER: Final = 8


def describe(head: bytes, size: int) -> Finding:
    """Name what a file that is no zip archive is.

    Parameters
    ----------
    head
        Its first bytes: all of them, or a mebibyte.
    size
        Its length in bytes.
    """
    for start, magic, name, hint in _MAGIC:
        if head.startswith(magic, start):
            return f"is {name}, not a model that this version reads", hint or WAY_OUT
    if _is_pickle(head, size):
        return describe_pickle(head)
    if is_safetensors(head, size):
        return "is a safetensors file: weights only", WEIGHTS_NEED_CODE
    if _is_protobuf(head):
        return "looks like an ONNX or TensorFlow model (protobuf), which this version does not read", WAY_OUT
    return _describe_text(head) or ("is not a model: its content is of no known kind", AGAIN)


def describe_pickle(data: bytes) -> Finding:
    """Tell weights from pickled objects by the names in a pickle, without unpickling it."""
    others = sorted(name for name in set(_names(data)) if not _WEIGHTS_ONLY.fullmatch(name))
    tensors = b"_rebuild_" in data
    if others:
        message = f"is a pickle of Python objects ({others[0][:80]}): refused, nothing is unpickled"
        return message, _OBJECTS_NEED_CODE if tensors else WAY_OUT
    if tensors:
        message = "holds pickled weights only (a state dict): refused, nothing is unpickled"
        return message, WEIGHTS_NEED_CODE
    return "is a pickle, not a model: refused, nothing is unpickled", WAY_OUT


def describe_zip(names: Collection[str]) -> Finding | None:
    """Name what a zip archive is, by its entries inside the top folder; None: its ``data.pkl`` decides.

    Parameters
    ----------
    names
        The names, folded to lower case.
    """
    if "serialized_exported_program.json" in names:
        return OLD_PROGRAM
    if "model.json" in names:
        return (
            "is a TorchScript file of PyTorch 1.1 or older (model.json)",
            "save it again with a newer PyTorch",
        )
    if ".data/extern_modules" in names or ".data/python_version" in names:
        return "is a torch.package archive, which is pickled: refused, nothing is unpickled", WAY_OUT
    if "data.pkl" in names:
        return None
    return "is a zip archive that is no model", WAY_OUT


def is_exported(names: Collection[str]) -> bool:
    """Tell whether a zip archive is an exported program, or one compiled ahead of time.

    Parameters
    ----------
    names
        Its entries inside the top folder, folded to lower case.
    """
    return "archive_format" in names or any(name.startswith(_EXPORTED) for name in names)


def describe_samples(data: bytes) -> str | None:
    """Name an object that pickled sample inputs would make and that is no tensor; None: there is none."""
    others = [name for name in set(_names(data)) if not _SAMPLE_NAMES.fullmatch(name)]
    return min(others, default=None)


def _names(data: bytes) -> Iterator[str]:
    """Yield the globals that the pickles in `data` name, as far as they can be read."""
    stream = io.BytesIO(data)
    try:
        for _ in range(_PICKLES_IN_LEGACY_SAVE):
            strings: list[str] = []
            memo: dict[object, str] = {}
            top = ""
            for opcode, argument, _position in pickletools.genops(stream):
                if "PUT" in opcode.name or opcode.name == "MEMOIZE":
                    memo[len(memo) if argument is None else argument] = top
                    continue
                if opcode.name in {"GLOBAL", "INST"}:
                    yield str(argument).replace(" ", ".")
                elif opcode.name == "STACK_GLOBAL":
                    yield ".".join(strings)
                found = memo.get(argument) if "GET" in opcode.name else argument
                top = found if isinstance(found, str) else ""
                strings = [*strings[-1:], top] if top else strings
    except Exception:  # noqa: BLE001 - the file is refused all the same; the names only word the refusal
        return


def _is_pickle(head: bytes, size: int) -> bool:
    if head[:1] == b"\x80" and head[1:2] in {b"\x02", b"\x03", b"\x04", b"\x05"}:
        return True
    if len(head) != size or b"." not in head:
        return False
    try:
        steps = deque(pickletools.genops(head), maxlen=2)
    except Exception:  # noqa: BLE001 - whatever it is, it is no pickle
        return False
    # Protocols 0 and 1 have no mark; one dot is a pickle to the letter, so ask for the whole file.
    return len(steps) == 2 and steps[-1][2] == size - 1  # noqa: PLR2004 - more than the dot


def is_zip(head: bytes | bytearray) -> bool:
    """Tell whether a file is a zip archive, by its first bytes."""
    return head.startswith((b"PK\x03\x04", b"PK\x05\x06"))


def is_safetensors(head: bytes, size: int) -> bool:
    """Tell whether a file of ``size`` bytes is one of safetensors, by its first bytes."""
    header = int.from_bytes(head[:_SMALLEST_HEADER], "little")
    return header <= size - _SMALLEST_HEADER and head[_SMALLEST_HEADER : _SMALLEST_HEADER + 1] == b"{"


def _is_protobuf(head: bytes) -> bool:
    # ONNX begins with ir_version (field 1, a small integer), then another field of ModelProto.
    return (
        head[:1] == b"\x08"
        and head[1:2] <= b"\x20"
        and head[2:3] in {bytes([n << 3 | 2]) for n in range(2, 9)}
    )


def _describe_text(head: bytes) -> Finding | None:
    text = head[:65536].removeprefix(b"\xef\xbb\xbf")
    if re.search(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]", text):
        return None
    try:
        # Incremental, for the cut may split a character.
        codecs.getincrementaldecoder("utf-8")().decode(text)
    except UnicodeDecodeError:
        return None
    start = text.lstrip()[:64].lower()
    if start.startswith((b"<!doctype html", b"<html", b"<head")):
        return "is an HTML page, not a model: a download that failed?", "download the file again"
    if _PYTHON.search(text):
        return "is Python source", "name the factory in it: path/to/file.py:factory"
    if start.startswith((b"{", b"[")):
        return "is JSON text, not a model", AGAIN
    return "is a text file, not a model", AGAIN
