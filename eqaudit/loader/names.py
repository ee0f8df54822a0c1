"""Names that stand in pickles of weights, and what each means to the reader."""

import re
from typing import Final

import torch

STORAGES: Final = {
    "torch.BoolStorage": torch.bool,
    "torch.ByteStorage": torch.uint8,
    "torch.CharStorage": torch.int8,
    "torch.ShortStorage": torch.int16,
    "torch.IntStorage": torch.int32,
    "torch.LongStorage": torch.int64,
    "torch.HalfStorage": torch.float16,
    "torch.BFloat16Storage": torch.bfloat16,
    "torch.FloatStorage": torch.float32,
    "torch.DoubleStorage": torch.float64,
    "torch.ComplexHalfStorage": torch.complex32,
    "torch.ComplexFloatStorage": torch.complex64,
    "torch.ComplexDoubleStorage": torch.complex128,
    "torch.QInt8Storage": torch.qint8,
    "torch.QUInt8Storage": torch.quint8,
    "torch.QInt32Storage": torch.qint32,
    "torch.QUInt4x2Storage": torch.quint4x2,
    "torch.QUInt2x4Storage": torch.quint2x4,
    "torch.storage.UntypedStorage": torch.uint8,
}
QUANTIZED: Final = frozenset(
    (torch.qint8, torch.quint8, torch.qint32, torch.quint4x2, torch.quint2x4),
)
DTYPES: Final = {
    f"torch.{name}": getattr(torch, name)
    for name in (
        *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
        *("float16", "bfloat16", "float32", "float64", "complex32", "complex64", "complex128"),
        *("float8_e4m3fn", "float8_e4m3fnuz", "float8_e5m2", "float8_e5m2fnuz", "float8_e8m0fnu"),
    )
}
REBUILDS: Final = frozenset({"torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2"})
REBUILD_TYPED: Final = "torch._utils._rebuild_tensor_v3"
WRAPPERS: Final = frozenset(
    {"torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state"},
)
REBUILD_SUBCLASS: Final = "torch._tensor._rebuild_from_type_v2"
DICTIONARIES: Final = frozenset({"collections.OrderedDict", "collections.defaultdict"})
_USUAL: Final = frozenset(
    f"{module}.{name}"
    for module, names in {
        "builtins": ("set", "frozenset", "dict", "list", "int", "float", "complex", "bytearray", "slice"),
        "__builtin__": ("set", "frozenset", "dict", "list", "int", "float", "complex", "bytearray", "slice"),
        "_codecs": ("encode",),
        "argparse": ("Namespace",),
        "collections": ("Counter", "deque"),
        "numpy": ("dtype", "ndarray"),
        "numpy.core.multiarray": ("scalar", "_reconstruct"),
        "numpy._core.multiarray": ("scalar", "_reconstruct"),
        "pathlib": ("Path", "PosixPath", "WindowsPath", "PurePosixPath"),
        "torch": ("Size", "device", "Tensor"),
        "torch.nn.parameter": ("Parameter", "Buffer"),
    }.items()
    for name in names
)
"""What often stands beside weights, and needs no mention."""
KNOWN: Final = frozenset(
    {*STORAGES, *DTYPES, *REBUILDS, REBUILD_TYPED, *WRAPPERS, REBUILD_SUBCLASS, *DICTIONARIES, *_USUAL}
)
RUNS_CODE: Final = re.compile(
    r"(os|posix|nt|subprocess|pty|runpy|timeit|pkgutil|importlib|ctypes|socket|shutil|webbrowser)\..*"
    r"|(builtins|__builtin__)\.(eval|exec|execfile|compile|open|__import__|breakpoint)"
)
UNREAD_TENSOR: Final = "torch._utils._rebuild_"
