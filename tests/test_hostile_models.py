"""Hostile model files, row by row: the code of the contract, one message, nothing run, nothing written.

Every row has an identifier, M01 to M46, and goes through the real command, by one file or by several. Where
a row is a family, `FAMILIES` names the tests that read its other members.
"""

import io
import os
import pickle
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import test_archive as archives
import test_exported as programs
import torch
from test_archive import Raw, build, change, entries_of, entry
from torch import Tensor, nn

import eqaudit
from eqaudit.cli.files import TEMPORARY_PREFIX
from eqaudit.errors import EqauditError, ExitCode, ModelError
from eqaudit.loader import load_model
from eqaudit.plan import FileModel

CPU = torch.device("cpu")
SHAPE = ("--input-shape", "3,8,8", "--samples", "4")
LOOSE = 60.0  # seconds for one command on a busy machine
MEMORY = 1_800_000  # kilobytes of addresses for models that eat memory; the process starts with half
OLD_REPORT = b"an old report\n"
Ended = Any
Make = Callable[[], bytes]

# What is written -----------------------------------------------------------------------------------


class Double(nn.Module):
    """The model whose code is replaced: one class, no weights."""

    def forward(self, x: Tensor) -> Tensor:
        """Return the images, doubled."""
        return x * 2


CLASS = "__torch__.test_hostile_models.Double"
CODE = "code/__torch__/test_hostile_models.py"
HEAD = "class Double(Module):\n  __parameters__ = []\n  __buffers__ = []\n  training : bool\n"
HEAD += "  _is_full_backward_hook : Optional[bool]\n"


def scripted(module: nn.Module) -> bytes:
    """Return the file of a scripted module."""
    buffer = io.BytesIO()
    torch.jit.save(torch.jit.script(module.eval()), buffer)
    return buffer.getvalue()


def code(body: str, returns: str = "Tensor", after: str = "") -> Make:
    """Return a maker of a file with this code of forward, of images ``x``, and functions after it."""

    def make() -> bytes:
        lines = "\n".join(f"    {line}" for line in body.splitlines())
        text = f"{HEAD}  def forward(self: {CLASS},\n    x: Tensor) -> {returns}:\n{lines}\n{after}"
        whole = [raw for raw in entries_of(scripted(Double())) if not raw.name.endswith(b".debug_pkl")]
        return change(build(whole), CODE, data=text.encode())

    return make


class Loading(nn.Module):
    """A module whose state is put back by code."""

    @torch.jit.export
    def __getstate__(self) -> tuple[bool]:
        """Return what is pickled."""
        return (self.training,)

    @torch.jit.export
    def __setstate__(self, state: tuple[bool]) -> None:
        """Take it."""
        self.training = state[0]

    def forward(self, x: Tensor) -> Tensor:
        """Return the images."""
        return x


def at_load(body: str) -> Make:
    """Return a maker of a file that runs this code when it is loaded."""

    def make() -> bytes:
        whole = build(
            [raw for raw in entries_of(scripted(Loading())) if not raw.name.endswith(b".debug_pkl")]
        )
        lines = "\n".join(f"    {line}" for line in body.splitlines()).encode()
        place = b"    self.training = (state)[0]\n"
        text = entry(whole, CODE)
        assert place in text
        return change(whole, CODE, data=text.replace(place, lines + b"\n" + place))

    return make


def small() -> bytes:
    """Return a good TorchScript file with two weights."""
    return scripted(nn.Sequential(nn.Linear(4, 2), nn.ReLU()))


def program() -> bytes:
    """Return a good exported program of images of 3x8x8."""
    return programs.export(nn.Conv2d(3, 2, 3), torch.zeros(2, 3, 8, 8), dynamic=True)


def changed(member: str, edit: Callable[[bytes], bytes], make: Make = small) -> Make:
    """Return a maker of a file with one member edited, its checksum made good."""
    return lambda: change(make(), member, data=edit(entry(make(), member)))


def trick(name: str) -> Make:
    """Return a maker of one of the zip archives that two readers read differently."""
    return lambda: archives.ZIP_TRICKS[name][0](
        [replace(raw, name=raw.name.replace(b"archive/", b"small/")) for raw in entries_of(small())]
    )


def pickled(body: bytes) -> Make:
    """Return a maker of a file whose data.pkl is this, between protocol and end."""
    return lambda: change(small(), "data.pkl", data=b"\x80\x02" + body + b".")


def payload() -> bytes:
    """Return a pickle that would leave PWNED in the current folder."""
    return pickle.dumps(archives.Payload(Path("PWNED")), 2)


def gadget(name: bytes) -> bytes:
    """Return a pickle that calls a function of Python with a text."""
    return b"\x80\x02c" + name.replace(b":", b"\n") + b"\n" + b"X\x05\x00\x00\x00PWNED\x85R."


GADGETS = (
    b"pkgutil:resolve_name",
    b"runpy:run_path",
    b"timeit:timeit",
    b"numpy.f2py.crackfortran:myeval",
    b"torch.fx.experimental.symbolic_shapes:ShapeEnv.evaluate_guards_expression",
)


def evil_program(name: str) -> Make:
    """Return a maker of an exported program with a pickle among its entries."""
    return lambda: programs.add(program(), name, payload())


def twice() -> bytes:
    """Return an exported program with evil sample inputs after the good ones, and other entries around."""
    name = "data/sample_inputs/model.pt"
    return programs.add(programs.add(program(), name, payload()), "extra/padding", b"")


def flagged() -> bytes:
    """Return an exported program that says of its weights that they are pickled."""
    whole = change(program(), "data/weights/weight_0", data=payload())
    text = entry(whole, programs.CONFIG)
    assert b'"use_pickle": false' in text
    return change(whole, programs.CONFIG, data=text.replace(b'"use_pickle": false', b'"use_pickle": true'))


def bomb() -> bytes:
    """Return two gigabytes of zeros in two megabytes."""
    packer = zlib.compressobj(wbits=-15)
    block = packer.compress(bytes(2**20)) + packer.flush(zlib.Z_FULL_FLUSH)
    zeros = Raw(b"archive/x", b"", method=8, payload=block * 2048 + b"\x03\x00", size=2**31, crc=0)
    return build([*entries_of(small()), zeros])


def crowd() -> bytes:
    """Return an archive that lists 100,000 entries."""
    return small()[:4] + bytes(4_600_000) + archives.end_64(1, 4_600_000, 4, 100_000)


def holding(tensor: Callable[[], Tensor]) -> Make:
    """Return a maker of a file with one tensor of another kind."""

    def make() -> bytes:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return scripted(archives.Holder(tensor()))

    return make


def recursive() -> bytes:
    """Return a file whose forward calls itself."""
    return code("return (self).forward(x)")()


# The table -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """One hostile input, and how the command ends on it."""

    row: str
    what: str
    make: Make | str
    says: tuple[str, ...] = ()
    code: ExitCode = ExitCode.CANNOT_RUN
    options: tuple[str, ...] = SHAPE
    memory: int = 0

    def __str__(self) -> str:
        """Name the row and its member."""
        return f"{self.row} {self.what}"


FAILED, PASSED = ExitCode.GATE_FAILED, ExitCode.PASSED
WHILE_TRUE = "go = True\nn = 0\nwhile go:\n  n = torch.add(n, 1)\n  go = torch.gt(n, 0)\n"
ALLOCATE = "parts = annotate(List[Tensor], [])\ngo = True\nwhile go:\n"
ALLOCATE += "  _0 = torch.append(parts, torch.rand([16777216]))\n  go = torch.gt(torch.len(parts), 0)\n"
BRIEFLY = (*SHAPE, "--timeout", "5")

PYTHON = """
import os
import time

import torch
from torch import nn


class Acts(nn.Module):
    def __init__(self, layers=()):
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x):
        return self.layers(x)


class Sleeps(Acts):
    def forward(self, x):
        time.sleep(3600)


class Twice(Acts):
    def forward(self, x):
        return self.layers(self.layers(x))


def identity():
    return nn.Identity()


def many():
    return Acts([nn.ReLU() for _ in range(200)])


def deep():
    module = nn.ReLU()
    for _ in range(200):
        module = nn.Sequential(module)
    return module


def dropout():
    class Forced(nn.Module):
        def forward(self, x):
            return nn.functional.dropout(x, 0.5, training=True)

    return Acts([Forced()])


def batch_statistics():
    norm = nn.BatchNorm2d(3)
    norm.eval = lambda: norm
    norm.train(True)
    norm.train = lambda mode=True: norm
    return Acts([norm])


def twice():
    return Twice([nn.Conv2d(3, 3, 1)])


def skipped():
    class Counts(nn.Module):
        def forward(self, x):
            return x.shape

    class Whole(nn.Module):
        def __init__(self):
            super().__init__()
            self.counts = Counts()

        def forward(self, x):
            self.counts(x)
            return x

    return Whole()
"""

ROWS = (
    Row("M01", "empty file", bytes, ("is empty",)),
    Row("M02", "random bytes", archives.OTHER_KINDS["random"][0], ("is not a model",)),
    Row("M03", "cut in half", lambda: small()[: len(small()) // 2], ("truncated or damaged",)),
    Row("M04", "HTML page", lambda: b"<!DOCTYPE html><title>404</title>", ("HTML page",)),
    Row("M05", "git-LFS pointer", lambda: archives.LFS, ("LFS pointer", "run git lfs pull")),
    Row("M06", "pickle", payload, ("pickle", "refused")),
    Row(
        "M07", "old checkpoint with an object", lambda: archives.legacy(nn.ReLU()), ("nothing is unpickled",)
    ),
    Row(
        "M08",
        "pickle in a zip archive",
        lambda: build([Raw(b"archive/data.pkl", payload()), Raw(b"archive/version", b"3\n")]),
        ("pickle", "refused"),
    ),
    Row(
        "M09",
        "pickle by another road",
        lambda: change(small(), "data.pkl", data=archives.payloads(Path("PWNED"))["stack global"]),
        ("data.pkl",),
    ),
    Row("M10", "gadget without os", lambda: gadget(GADGETS[0]), ("pkgutil.resolve_name",)),
    Row(
        "M11",
        "state dict",
        lambda: archives.saved(nn.Linear(2, 2).state_dict()),
        ("weights only", "--weights"),
    ),
    Row("M11", "whole module", lambda: archives.saved(nn.ReLU()), ("refused", "path/to/file.py:factory")),
    Row("M12", "zip archive", archives.OTHER_KINDS["other zip"][0], ("zip archive that is no model",)),
    Row("M12", "ONNX", archives.protobuf, ("ONNX",)),
    Row("M12", "torch.package", archives.package, ("torch.package",)),
    Row(
        "M13",
        "evil sample inputs",
        lambda: change(
            program(), "data/sample_inputs/model.pt", data=archives.saved(archives.Payload(Path("PWNED")))
        ),
        ("nothing is unpickled",),
    ),
    Row("M14", "pickled weight", flagged, ("pickled", "refused")),
    Row("M15", "opaque object", evil_program("data/constants/opaque_obj_0"), ("pickled objects",)),
    Row(
        "M16", "opaque object in capitals", evil_program("data/constants/OPAQUE_OBJ_0"), ("pickled objects",)
    ),
    Row("M17", "evil entry after the good one", twice, ("same name twice",)),
    Row("M18", "same but for case", trick("same but for case"), ("same name twice",)),
    Row("M19", "two names", trick("two names"), ("two different headers",)),
    Row("M20", "wrong checksum", lambda: change(small(), "data/0", crc=1), ("damaged entry", "wrong CRC")),
    Row("M21", "wrong size", lambda: change(small(), "version", size=2**32 - 1), ("damaged",)),
    Row("M22", "two archives", trick("two archives"), ("truncated or damaged",)),
    Row("M23", "directory beyond the end", trick("offset beyond end"), ("truncated or damaged",)),
    Row("M24", "encrypted", trick("encrypted"), ("encrypted",)),
    Row("M25", "absurd count", trick("absurd zip64 count"), ("too large",)),
    Row("M26", "bomb", bomb, ("too large",)),
    Row("M27", "overlapping entries", trick("overlap"), ("overlaps",)),
    Row("M28", "100,000 entries", crowd, ("too large: 100000 entries",)),
    Row("M29", "parent folder in a name", trick("parent"), ("unsafe name",)),
    Row("M30", "short storage", changed("data/0", lambda data: data[:4]), ("has 4 bytes", "declared")),
    Row("M31", "long storage", changed("data/0", lambda data: data * 2), ("bytes", "declared")),
    Row(
        "M32",
        "missing storage",
        lambda: change(small(), "data/0", name=b"archive/data/9"),
        ("storage data/0 is missing",),
    ),
    Row("M33", "negative stride", pickled(archives.HOSTILE_PICKLES["negative stride"][0]), ("data.pkl",)),
    Row("M34", "sparse weights", holding(lambda: torch.eye(3).to_sparse_csr()), ("sparse weights",)),
    Row("M35", "other byte order", lambda: change(small(), "byteorder", data=b"big"), ("byteorder",)),
    Row("M36", "deep pickle", pickled(b"N" + b"\x85" * 100_000), ("nests deeper",)),
    Row("M37", "syntax error", code("return torch.mul(x, "), ("cannot be loaded",)),
    Row("M37", "recursion", recursive, ("recursive",)),
    Row(
        "M37",
        "operator that is missing",
        code("return torch.no_such_thing(x)"),
        ("operator aten::no_such_thing",),
    ),
    Row(
        "M37", "deep expression", code("return " + "torch.neg(" * 100_000 + "x" + ")" * 100_000), ("SIGSEGV",)
    ),
    Row("M37", "line of 10 MB", code("return torch.mul(x, 2)" + " " * 10**7), (), PASSED),
    Row(
        "M38",
        "damaged debug record",
        changed(f"{CODE}.debug_pkl", lambda data: data[:-9] + b".", lambda: scripted(Double())),
        ("debug_pkl",),
    ),
    Row("M39", "foreign operator", code("return ops.mylib.op(x)"), ("needs operator mylib::op",)),
    Row(
        "M39",
        "operator of a network",
        code("return ops._c10d_functional.wait_tensor(x)"),
        ("needs operator _c10d_functional::wait_tensor",),
    ),
    Row("M39", "operator of this tool", code("_0 = ops.eqaudit.tap(0, x)\nreturn x"), ("eqaudit::tap",)),
    Row("M40", "CUDA", code('return torch.to(x, torch.device("cuda:0"))'), ("the model raises", "CUDA")),
    Row("M40", "meta", code('return torch.to(x, torch.device("meta"))'), ("meta device",)),
    Row(
        "M40", "no such device", code('return torch.to(x, torch.device("privateuseone"))'), ("privateuseone",)
    ),
    Row("M41", "loops at load", at_load(WHILE_TRUE), ("time is up",), options=BRIEFLY),
    Row("M41", "allocates at load", at_load(ALLOCATE), ("memory",), memory=MEMORY),
    Row("M41", "prints at load", at_load('print("\\033[31mred\\033]0;title\\007")'), (), PASSED),
    Row("M42", "endless loop", code(WHILE_TRUE + "return torch.mul(x, n)"), ("time is up",), options=BRIEFLY),
    Row("M42", "sleeps", "bad.py:Sleeps", ("time is up",), options=BRIEFLY),
    Row("M42", "allocates", code(ALLOCATE + "return torch.cat(parts)"), ("memory",), memory=MEMORY),
    Row("M43", "saves", code('_0 = ops.aten.save(x, "PWNED")\nreturn x'), ("files (aten::save)",)),
    Row("M43", "saves by another name", at_load('t = torch\nt.save(1, "PWNED")'), ("files (aten::save)",)),
    Row(
        "M43",
        "prints much",
        code('for i in range(20000):\n  print("\\033[31mred\\033]0;title\\007")\nreturn x'),
        ("its code prints",),
        PASSED,
    ),
    Row(
        "M43", "sets a seed", code("_0 = torch.manual_seed(3)\nreturn x"), ("sets the random state",), PASSED
    ),
    Row("M43", "draws", code("return torch.add(x, torch.rand_like(x))"), ("the output is random",), FAILED),
    Row("M43", "changes its input", code("_0 = torch.mul_(x, 2)\nreturn x"), ("changes its input",), FAILED),
    Row("M44", "text", code('return "text"', "str"), ("no output can be compared: it returns str",)),
    Row("M44", "NaN", code("return torch.mul(x, nan)"), ("the output is not finite",), FAILED),
    Row(
        "M44",
        "10^9 elements",
        code("return torch.ones([4, 250000000])"),
        ("memory",),
        memory=MEMORY,
    ),
    Row("M45", "identity", "bad.py:identity", ("D4 exactly",), PASSED),
    Row("M45", "200 layers", "bad.py:many", ("layers.199",), PASSED),
    Row("M45", "depth 200", "bad.py:deep", ("D4 exactly",), PASSED),
    Row("M45", "dropout left on", "bad.py:dropout", ("the output is random",), FAILED),
    Row("M45", "batch statistics", "bad.py:batch_statistics", ("depends on the batch",), FAILED),
    Row("M45", "layer called twice", "bad.py:twice", ("layers.0#1",), PASSED),
    Row(
        "M45",
        "layer skipped",
        "bad.py:skipped",
        ("returns",),
        ExitCode.INCOMPLETE,
        options=(*SHAPE, "--strict"),
    ),
    Row("M46", "FIFO", "fifo.pt", ("FIFO, not a regular file",)),
    Row("M46", "device", "/dev/zero", ("device, not a regular file",)),
    Row("M46", "file of 10 GB", "sparse.pt", ("too large",)),
)

FAMILIES: dict[str, tuple[Callable[..., None], ...]] = {
    "M03": (archives.test_truncated_files_are_refused,),
    "M04": (archives.test_other_kinds_are_named,),
    "M06": (archives.test_pickles_never_run,),
    "M13": (programs.test_evil_sample_inputs_never_run,),
    "M14": (programs.test_pickled_weights_are_refused,),
    "M15": (programs.test_pickled_objects_among_the_constants_are_refused,),
    "M17": (programs.test_the_same_name_twice_is_refused,),
    "M20": (archives.test_wrong_crc_is_a_damaged_entry, programs.test_a_wrong_checksum_is_a_damaged_entry),
    "M21": (archives.test_wrong_sizes_are_refused,),
    "M22": (archives.test_zip_tricks_are_refused, archives.test_a_comment_is_dropped),
    "M26": (archives.test_bombs_are_refused_fast,),
    "M30": (archives.test_storage_of_another_length_is_refused, programs.test_a_short_storage_is_refused),
    "M33": (archives.test_hostile_pickles_are_refused, programs.test_a_weight_outside_its_record_is_refused),
    "M34": (archives.test_unsupported_weights_are_named,),
    "M35": (archives.test_records_are_checked, archives.test_missing_id_is_harmless),
    "M38": (archives.test_mutated_files_are_refused_or_unharmed,),
    "M39": (programs.test_foreign_operators_are_refused_by_name,),
    "M46": (
        archives.test_special_files_are_refused_without_hanging,
        archives.test_a_file_that_changes_is_refused,
    ),
}
"""By the first row of a family: the tests that read its other members."""


def test_every_row_is_in_the_table() -> None:
    """M01 to M46."""
    assert {row.row for row in ROWS} == {f"M{number:02}" for number in range(1, 47)}
    assert len({str(row) for row in ROWS}) == len(ROWS)
    assert set(FAMILIES) <= {row.row for row in ROWS}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what is no bytes of a file."""
    folder = tmp_path_factory.mktemp("workshop")
    (folder / "bad.py").write_text(PYTHON)
    os.mkfifo(folder / "fifo.pt")
    with (folder / "sparse.pt").open("wb") as file:
        file.truncate(10 * 10**9)
    return folder


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_the_command_ends_as_the_row_says(
    row: Row,
    workshop: Path,
    eqaudit: Callable[..., Ended],
    shell: Callable[..., Ended],
    told: Callable[[Ended], str],
) -> None:
    """One error line or a report; nothing ran, no escape is shown; a refusal leaves the old report alone."""
    given = row.make
    if not isinstance(given, str):
        (workshop / "model.pt").write_bytes(given())
        given = "model.pt"
    report = workshop / "report.json"
    report.write_bytes(OLD_REPORT)
    before = {path.name for path in workshop.iterdir()}
    arguments = ("check", given, *row.options, "--json", "report.json")
    started = time.monotonic()
    if row.memory:
        ended = shell(f"ulimit -v {row.memory}; $EQAUDIT {' '.join(arguments)}", workshop)
    else:
        ended = eqaudit(*arguments, cwd=workshop)
    took = time.monotonic() - started
    text = (ended.stdout + ended.stderr).decode()
    assert ended.returncode == row.code, text
    assert took < LOOSE
    assert "\x1b" not in text
    assert "Traceback" not in text
    words = " ".join(text.split())
    for said in row.says:
        assert said in words
    if row.code == ExitCode.CANNOT_RUN:
        told(ended)
        assert ended.stdout == b""
        assert report.read_bytes() == OLD_REPORT
    else:
        assert report.read_bytes() != OLD_REPORT
    # Python keeps the bytecode of a module beside it, where it may.
    assert {path.name for path in workshop.iterdir()} - {"__pycache__"} == before - {"__pycache__"}
    assert not [name for name in before if name.startswith((TEMPORARY_PREFIX, "PWNED"))]


def test_the_payload_would_leave_its_mark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The table can fail: what is pickled there does what it says."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(payload())
    assert (tmp_path / "PWNED").exists()


def load(data: bytes, folder: Path) -> Any:
    """Write a file and load it in this process."""
    path = folder / "model.pt"
    path.write_bytes(data)
    return load_model(FileModel(str(path)), CPU)


@pytest.mark.parametrize("name", GADGETS)
def test_m10_gadgets_are_refused_by_name(name: bytes, tmp_path: Path) -> None:
    """Bare, and as the pickle of a TorchScript file: functions that no list of bad names holds."""
    function = name.decode().replace(":", ".")
    for data in (gadget(name), change(small(), "data.pkl", data=gadget(name))):
        with pytest.raises(ModelError, match=function[:20]):
            load(data, tmp_path)


AT_LOAD = {
    "torch": 'torch.save(torch.ones([1]), "PWNED")',
    "torch.autograd": 'torch.autograd.save(torch.ones([1]), "PWNED")',
    "ops": 'ops.aten.save(torch.ones([1]), "PWNED")',
    "another name": 't = torch\nt.save(torch.ones([1]), "PWNED")',
    "getattr": 'getattr(torch, "save")(torch.ones([1]), "PWNED")',
    "getattr with escapes": 'getattr(torch, "\\163ave")(torch.ones([1]), "PWNED")',
    "getattr put together": 'getattr(torch, "sa" "ve")(torch.ones([1]), "PWNED")',
    "getattr on two lines": 'getattr(torch,\n  "\\163ave")(torch.ones([1]), "PWNED")',
}


@pytest.mark.parametrize("road", AT_LOAD)
def test_m43_no_road_to_a_file_is_open_while_loading(
    road: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By whatever name the operator is reached; and torch alone would run it."""
    monkeypatch.chdir(tmp_path)
    data = at_load(AT_LOAD[road])()
    with pytest.raises(ModelError, match="reads or writes files"):
        load(data, tmp_path)
    assert not (tmp_path / "PWNED").exists()
    torch.jit.load(io.BytesIO(data))  # type: ignore[no-untyped-call]
    assert (tmp_path / "PWNED").exists()


def test_m43_defaults_may_not_read_files(tmp_path: Path) -> None:
    """Torch evaluates default arguments while it compiles; other texts around them hide nothing."""
    after = 'def f(y: Tensor=torch.from_file("model.pt", False, 3)) -> Tensor:\n  return y\n'
    with pytest.raises(ModelError, match=r"files \(aten::from_file\)"):
        load(code("return x", after=after)(), tmp_path)
    evil = entries_of(code("return x", after=after)())
    quotes = [
        Raw(evil[0].name.partition(b"/")[0] + b"/code/" + name, b'"""\n') for name in (b"a.py", b"z.py")
    ]
    with pytest.raises(ModelError, match=r"files \(aten::from_file\)"):
        load(build([quotes[0], *evil, quotes[1]]), tmp_path)


OUTPUTS: dict[str, tuple[str, str, str]] = {
    "None": ("Optional[Tensor]", "return None", "returns None"),
    "int": ("int", "return 3", "returns int values"),
    "empty list": ("List[Tensor]", "return annotate(List[Tensor], [])", "list without tensors"),
    "empty tensor": ("Tensor", "return torch.slice(x, 1, 0, 0)", "is empty"),
    "number": ("Tensor", "return torch.sum(x)", "returns a float32 number"),
    "int64": ("Tensor", "return torch.to(x, 4)", "returns a int64 tensor"),
    "bool": ("Tensor", "return torch.gt(x, 0.5)", "returns a bool tensor"),
    "complex": ("Tensor", "return torch.to(x, 9)", "returns a complex64 tensor"),
    "float8": ("Tensor", "return torch.to(x, 24)", "returns a float8_e4m3fn tensor"),
    "sparse": ("Tensor", "return torch.to_sparse(x)", "returns a sparse_coo float32 tensor"),
    "meta": ("Tensor", 'return torch.to(x, torch.device("meta"))', "on the meta device"),
}


@pytest.mark.parametrize("kind", OUTPUTS)
def test_m44_outputs_that_cannot_be_compared_are_named(kind: str, tmp_path: Path) -> None:
    """The audit says what came back; no other shape is tried in vain."""
    returns, body, said = OUTPUTS[kind]
    path = tmp_path / "model.pt"
    path.write_bytes(code(body, returns)())
    with pytest.raises(EqauditError, match=said) as caught:
        eqaudit.audit(path, torch.rand(4, 3, 8, 8))
    assert caught.value.exit_code == ExitCode.CANNOT_RUN


GRADIENTS = (
    "_0 = torch.set_grad_enabled(True)\ny = torch.requires_grad_(torch.mul(x, 2))\nreturn torch.mul(y, 3)"
)
GOOD_OUTPUTS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "gradients": ("Tensor", GRADIENTS, ("output",)),
    "itself": ("Tensor", "return x", ("output",)),
    "dictionary": ("Dict[str, Tensor]", 'return {"a": x, "b": torch.neg(x)}', ("output.a", "output.b")),
    "nested": (
        "Tuple[Tensor, List[Tuple[Tensor, Tensor]]]",
        "return (x, [(x, torch.neg(x))])",
        ("output.0", "output.1.0.0", "output.1.0.1"),
    ),
}


@pytest.mark.parametrize("kind", GOOD_OUTPUTS)
def test_m44_nested_outputs_are_measured(kind: str, tmp_path: Path) -> None:
    """Each tensor by its place; an alias of the input does not spoil what is compared with it."""
    returns, body, names = GOOD_OUTPUTS[kind]
    path = tmp_path / "model.pt"
    path.write_bytes(code(body, returns)())
    report = eqaudit.audit(path, torch.rand(16, 3, 8, 8))
    assert tuple(output.name for output in report.outputs) == names
    assert report.verdict
    assert report.verdict.holds == "D4"
    assert all(error.error == 0 for output in report.outputs for error in output.errors)
