"""Exported programs: the taps of the source module, the shape from the file, and nothing in it is run."""

import importlib
import io
import json
import pickle
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from models_zoo import IMAGE, ZOO, Hard, compiled, noise
from test_archive import Payload, Raw, build, change, entries_of, entry, payloads, saved
from test_loader import (
    FIXTURE_NAMES,
    FIXTURE_SHAPES,
    FIXTURES,
    FLOAT64_TOLERANCE,
    assert_same,
    hooked,
    made,
    tapped,
)
from torch import Tensor, nn
from torch.export import Dim

import eqaudit
from eqaudit.errors import DataError, ModelError
from eqaudit.loader import AuditModel, load_model
from eqaudit.plan import FileModel
from eqaudit.report import Report

CPU = torch.device("cpu")
CONFIG = "data/weights/model_weights_config.json"
CONSTANTS = "data/constants/model_constants_config.json"
PROGRAM = "models/model.json"
# What cannot be exported, and what leaves no trace in a program: strings, None, parts that nobody reads.
NOT_EXPORTED = {
    "Branch",
    "Loops",
    "Structures",
    "Methods",
    "Optionals",
    "NoTensors",
    "Recurrent",
    "Attention",
}
EXPORTED_ZOO = [hard for hard in ZOO if str(hard) not in NOT_EXPORTED]
# Two runs of float32 sums, relative to the error itself.
ERROR_TOLERANCE = 1e-5

Ended = subprocess.CompletedProcess[bytes]


def export(module: nn.Module, *images: Tensor, dynamic: bool = False, sides: bool = False) -> bytes:
    """Export a module in eval mode and return the file; ``dynamic`` leaves the batch size open."""
    free = {0: Dim.AUTO} if dynamic else {}
    if sides:
        free |= {2: Dim.AUTO, 3: Dim.AUTO}
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(module, images, dynamic_shapes=(free,) * len(images) if free else None)
        torch.export.save(program, buffer)
    return buffer.getvalue()


def read(data: bytes, folder: Path) -> AuditModel:
    """Write a file and load it."""
    path = folder / "model.pt2"
    path.write_bytes(data)
    return load_model(FileModel(str(path)), CPU)


@pytest.fixture
def refusal(tmp_path: Path) -> Callable[[bytes], str]:
    """Return a function that gives message and hint with which a file is refused, nothing having run."""

    def refusal(data: bytes) -> str:
        with pytest.raises(ModelError) as caught:
            read(data, tmp_path)
        assert caught.value.message.startswith(str(tmp_path / "model.pt2"))
        assert caught.value.hint
        assert not list(tmp_path.glob("PWNED*"))
        return f"{caught.value.message} | {caught.value.hint}"

    return refusal


class Small(nn.Module):
    """Two layers with a buffer, a constant, a cast, and a tensor of a type that is written down."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.relu = nn.ReLU()
        self.head = nn.Linear(4, 5)
        self.register_buffer("mean", torch.full((3, 1, 1), 0.5))
        self.scale = torch.ones(1) * 1.5

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, 5)."""
        features = self.relu(self.conv((image - self.mean).float()))
        features = self.relu(features + torch.zeros(4, 1, 1, dtype=torch.float32))
        answer: Tensor = self.head(features.mean((2, 3))) * self.scale + torch.tensor(2.5)
        return answer


@pytest.fixture(scope="module")
def small() -> bytes:
    """Return a small exported program that takes any number of images of 3x16x16."""
    with torch.random.fork_rng(devices=[]):
        return export(made(Small), noise(2, *IMAGE), dynamic=True)


# The same features ---------------------------------------------------------------------------------


@pytest.mark.parametrize("dynamic", [True, False], ids=["any batch", "batch of 3"])
@pytest.mark.parametrize("name", FIXTURE_NAMES)
def test_taps_of_the_program_agree_with_hooks_on_every_fixture(
    name: str, dynamic: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, calls, types, parameters and values, bit by bit."""
    monkeypatch.syspath_prepend(FIXTURES)
    source = getattr(importlib.import_module(name), name)().eval()
    batch = noise(3, *FIXTURE_SHAPES.get(name, (3, 32, 32))).abs()
    model = read(export(source, batch, dynamic=dynamic), tmp_path)
    assert (model.kind, model.input_shape) == ("exported", tuple(batch.shape[1:]))
    assert model.fixed_batch == (None if dynamic else 3)
    assert model.parameters == sum(weight.numel() for weight in source.parameters())
    assert_same(tapped(model, batch), hooked(source, batch))
    if dynamic:
        assert_same(tapped(model, batch[:2]), hooked(source, batch[:2]))


@pytest.mark.parametrize("hard", EXPORTED_ZOO, ids=str)
def test_taps_of_the_program_agree_with_hooks_on_hard_modules(hard: Hard, tmp_path: Path) -> None:
    """Also in float64, where the twin's weights are its own."""
    source, batch = made(hard.make), noise(3, *IMAGE)
    model = read(export(source, batch, dynamic=True), tmp_path)
    expected = hooked(source, batch)
    assert_same(tapped(model, batch), expected)
    twin = model.twin()
    assert_same(
        tapped(twin, batch.double()), hooked(made(hard.make).double(), batch.double()), FLOAT64_TOLERANCE
    )
    with torch.no_grad():
        for weight in twin.runner.weights():
            weight.add_(0.1)
    assert_same(tapped(model, batch), expected)


def test_the_twin_is_float64_also_where_the_program_names_float32(small: bytes, tmp_path: Path) -> None:
    """Constants, casts and created tensors: every feature and the output."""
    twin = read(small, tmp_path).twin()
    features, outputs = tapped(twin, noise(2, *IMAGE).double())
    values = [*(seen.value for seen in features), *outputs]
    assert {value.dtype for value in values if value is not None} == {torch.float64}
    assert len(values) == 5


def audited(path: Path, images: Tensor, **options: Any) -> Report:
    """Audit a file on images."""
    return eqaudit.audit(str(path), images, group="C4", batch_size=6, **options)


@pytest.mark.parametrize("make", [Small, *(hard.make for hard in ZOO if str(hard) in {"ResNet", "UNet"})])
def test_every_kind_of_file_gives_the_same_layers_and_errors(
    make: Callable[[], nn.Module], tmp_path: Path
) -> None:
    """Source module, scripted, traced, and exported for any batch and for one of four images."""
    source, images = made(make), noise(6, *IMAGE).abs()
    paths = {how: tmp_path / f"{how}.pt" for how in ("scripted", "traced", "any", "four")}
    torch.jit.save(compiled(source, "scripted"), paths["scripted"])
    torch.jit.save(compiled(source, "traced"), paths["traced"])
    paths["any"].write_bytes(export(source, images, dynamic=True))
    paths["four"].write_bytes(export(source, images[:4]))
    expected = eqaudit.audit(source, images, group="C4", batch_size=6)
    for path in paths.values():
        report = audited(path, images)
        pairs = zip([*report.layers, *report.outputs], [*expected.layers, *expected.outputs], strict=True)
        for ours, theirs in pairs:
            assert (ours.name, ours.call, ours.type) == (theirs.name, theirs.call, theirs.type)
            for left, right in zip(ours.errors, theirs.errors, strict=True):
                assert left.error == pytest.approx(right.error, rel=ERROR_TOLERANCE, abs=1e-6)
    assert "batch size 4 only" in audited(paths["four"], images).inputs.shape_reason


# The shape -----------------------------------------------------------------------------------------


def test_an_input_shape_that_contradicts_the_program_is_an_error(small: bytes, tmp_path: Path) -> None:
    """It names both shapes; the program's own is taken without being asked for."""
    path = tmp_path / "model.pt2"
    path.write_bytes(small)
    with pytest.raises(DataError, match="takes 3x16x16, but --input-shape asks for 3x20x20"):
        eqaudit.audit(str(path), input_shape=(3, 20, 20))
    with pytest.raises(DataError, match="refuses 3x20x20") as caught:
        eqaudit.audit(str(path), noise(4, 3, 20, 20))
    assert "16" in str(caught.value)
    report = eqaudit.audit(str(path), "builtin:photos")
    assert tuple(report.inputs.shape) == (3, 16, 16)
    assert report.inputs.shape_reason.startswith("as the exported program says")


def test_open_sides_are_open(tmp_path: Path) -> None:
    """A program with height and width left open is audited at the size of the data."""
    data = export(nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU()), noise(2, 2, 16, 16), dynamic=True, sides=True)
    model = read(data, tmp_path)
    assert (model.input_shape, model.fixed_batch) == ((2, None, None), None)
    report = eqaudit.audit(str(tmp_path / "model.pt2"), noise(3, 2, 12, 12))
    assert tuple(report.inputs.shape) == (2, 12, 12)
    assert [layer.name for layer in report.layers] == ["0", "1"]


class _Two(nn.Module):
    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return left + right


class _Deaf(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.dropout = nn.Conv2d(3, 3, 1), nn.Dropout()

    def forward(self, image: Tensor) -> Tensor:
        with torch.no_grad():
            features = self.inner(image)
        answer: Tensor = self.dropout(features) * image.mean()
        return answer


@pytest.mark.parametrize(
    ("module", "images", "said"),
    [
        (nn.Linear(4, 2), (torch.ones(3, 4),), "float32 of shape 3x4, expected float32 images"),
        (nn.ReLU(), (torch.ones(1, 3, 8, 8, dtype=torch.uint8),), "uint8 of shape 1x3x8x8"),
        (_Two(), (noise(2, *IMAGE), noise(2, *IMAGE)), "takes 2 inputs"),
    ],
)
def test_a_program_that_takes_no_images_is_refused(
    module: nn.Module, images: tuple[Tensor, ...], said: str, refusal: Callable[[bytes], str]
) -> None:
    """The message says what it takes."""
    assert said in refusal(export(module, *images))


def test_images_by_keyword_are_refused(refusal: Callable[[bytes], str]) -> None:
    """A program is called with the images as its one argument."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(nn.ReLU().eval(), (), {"input": noise(2, *IMAGE)})
        torch.export.save(program, buffer)
    assert "by keyword" in refusal(buffer.getvalue())


class _Again(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.ReLU())

    def forward(self, image: Tensor) -> Tensor:
        answer: Tensor = self.block(self.block(image))
        return answer


def test_layers_with_preserved_signatures_are_seen(tmp_path: Path) -> None:
    """Each call of a layer is then a module of its own, behind one that chooses."""
    source, batch = made(_Again), noise(2, *IMAGE)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(source, (batch,), preserve_module_call_signature=("block",))
        torch.export.save(program, buffer)
    model = read(buffer.getvalue(), tmp_path)
    features, outputs = hooked(source, batch)
    ours = tapped(model, batch)
    assert [(seen.name, seen.call) for seen in ours[0]] == [(seen.name, seen.call) for seen in features]
    assert_same(([], ours[1]), ([], outputs))
    twin = tapped(model.twin(), batch.double())
    assert {seen.value.dtype for seen in twin[0] if seen.value is not None} == {torch.float64}


def test_what_cannot_be_seen_is_noted(tmp_path: Path) -> None:
    """Layers inside ``no_grad``, and a program exported in training mode."""
    notes = " ".join(read(export(_Deaf().train(), noise(2, *IMAGE)), tmp_path).notes)
    assert "1 places" in notes
    assert "training mode" in notes


def test_a_shape_that_the_program_was_not_made_for_is_a_model_error(small: bytes, tmp_path: Path) -> None:
    """The guard's own text, in one line."""
    with pytest.raises(ModelError, match=r"raises on a batch of 2x3x20x20: .*equal to 16, but got 20"):
        read(small, tmp_path).run(noise(2, 3, 20, 20))


# Nothing in the file is run ------------------------------------------------------------------------


def edit(whole: bytes, member: str, change_json: Callable[[Any], object]) -> bytes:
    """Change a JSON entry of an archive."""
    document = json.loads(entry(whole, member))
    change_json(document)
    return change(whole, member, data=json.dumps(document).encode())


def add(whole: bytes, name: str, data: bytes, place: int | None = None) -> bytes:
    """Add an entry to an archive, inside its top folder."""
    entries = entries_of(whole)
    top = entries[0].name.partition(b"/")[0]
    entries.insert(len(entries) if place is None else place, Raw(top + b"/" + name.encode(), data))
    return build(entries)


def nodes(program: Any) -> Any:
    """Return the nodes of the graph."""
    return program["graph_module"]["graph"]["nodes"]


def test_a_whole_file_keeps_its_weights_and_loses_what_is_pickled(small: bytes, tmp_path: Path) -> None:
    """A rebuilt archive loads the same; sample inputs, stack traces and devices do not reach torch."""
    model, again = read(small, tmp_path), read(build(entries_of(small)), tmp_path)
    batch = noise(2, *IMAGE)
    assert_same(tapped(model, batch), tapped(again, batch))
    elsewhere = small.replace(b'{"type": "cpu", "index": null}', b'{"type": "cuda", "index": 0}')
    assert elsewhere != small
    for member in (PROGRAM, CONFIG, CONSTANTS):
        text = entry(small, member).replace(b'"type": "cpu"', b'"type": "cuda"')
        small = change(small, member, data=text)
    assert_same(tapped(read(small, tmp_path), batch), tapped(model, batch))
    assert_same(tapped(read(add(small, "extra/notes.txt", b"hello"), tmp_path), batch), tapped(model, batch))


def test_an_example_input_that_was_exported_before_is_harmless(tmp_path: Path) -> None:
    """The exporter leaves marks on it, which are pickled beside its values."""
    batch = noise(2, *IMAGE)
    for dynamic in (False, True):
        assert read(export(nn.ReLU(), batch, dynamic=dynamic), tmp_path).kind == "exported"


@pytest.mark.parametrize("road", payloads(Path("x")))
def test_evil_sample_inputs_never_run(
    road: str, small: bytes, refusal: Callable[[bytes], str], tmp_path: Path
) -> None:
    """Bare or in an archive of ``torch.save``."""
    payload = payloads(tmp_path / "PWNED")[road]
    nested = build([Raw(b"archive/data.pkl", payload), Raw(b"archive/version", b"3\n")])
    refusal(change(small, "data/sample_inputs/model.pt", data=payload))
    if road not in {"build", "extension"}:
        assert "pickled objects" in refusal(change(small, "data/sample_inputs/model.pt", data=nested))


def test_pickled_weights_are_refused(small: bytes, refusal: Callable[[bytes], str], tmp_path: Path) -> None:
    """By the flag in the configuration of weights and of constants, and as legacy files."""
    evil = saved(Payload(tmp_path / "PWNED"))
    for member, record in ((CONFIG, "data/weights/weight_0"), (CONSTANTS, "data/constants/tensor_0")):

        def pickled(document: Any) -> None:
            next(iter(document["config"].values()))["use_pickle"] = True

        assert "is pickled: refused" in refusal(edit(change(small, record, data=evil), member, pickled))
        assert "pickled objects" in refusal(add(small, member.rpartition("/")[0] + "/model.pt", evil))
        assert "pickled objects" in refusal(add(small, member.rpartition("/")[0] + "/MODEL.PT", evil))


@pytest.mark.parametrize(
    "name", ["opaque_obj_0", "custom_obj_0", "OPAQUE_OBJ_0", "Opaque_Obj_0", "Custom_OBJ_7"]
)
def test_pickled_objects_among_the_constants_are_refused(
    name: str, small: bytes, refusal: Callable[[bytes], str], tmp_path: Path
) -> None:
    """By the entry's name in any case, and by the name that the configuration gives."""
    evil = pickle.dumps(Payload(tmp_path / "PWNED"))
    assert f"pickled objects (data/constants/{name})" in refusal(add(small, f"data/constants/{name}", evil))

    def point(document: Any) -> None:
        next(iter(document["config"].values()))["path_name"] = name.lower()

    assert "pickled objects" in refusal(edit(add(small, f"data/constants/{name}", evil), CONSTANTS, point))
    assert f"{name.lower()} is missing" in refusal(edit(small, CONSTANTS, point))


@pytest.mark.parametrize("padding", [0, 1, 6])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("member", [PROGRAM, "data/sample_inputs/model.pt", "MODELS/model.json"])
def test_the_same_name_twice_is_refused(
    member: str, first: bool, padding: int, small: bytes, refusal: Callable[[bytes], str]
) -> None:
    """Before or after the good entry, in the same or another case, with other entries around."""
    data = add(small, member, b"x", 0 if first else None)
    for index in range(padding):
        data = add(data, f"extra/{index}", b"", 0 if index % 2 else None)
    assert "same name twice" in refusal(data)


@pytest.mark.parametrize("member", [PROGRAM, CONFIG, "data/weights/weight_0", "data/sample_inputs/model.pt"])
def test_a_wrong_checksum_is_a_damaged_entry(
    member: str, small: bytes, refusal: Callable[[bytes], str]
) -> None:
    """In the program, the configuration, a weight, and even where nothing is read."""
    assert "wrong CRC" in refusal(change(small, member, crc=1))


@pytest.mark.parametrize("kept", [0, 1, 4, 8])
@pytest.mark.parametrize("member", ["data/weights/weight_1", "data/constants/tensor_1"])
def test_a_short_storage_is_refused(
    member: str, kept: int, small: bytes, refusal: Callable[[bytes], str]
) -> None:
    """Nothing beyond its end is ever read."""
    content = entry(small, member)
    said = refusal(change(small, member, data=content[: min(kept, len(content) - 1)]))
    assert f"{member} has {min(kept, len(content) - 1)} bytes, {len(content)} declared" in said


def _shape(**fields: Any) -> Callable[[Any], object]:
    def put(document: Any) -> None:
        next(iter(document["config"].values()))["tensor_meta"].update(fields)

    return put


@pytest.mark.parametrize(
    "fields",
    [
        {"storage_offset": {"as_int": 1}},
        {"storage_offset": {"as_int": -1}},
        {"strides": [{"as_int": 99}] * 4},
        {"strides": [{"as_int": -1}] * 4},
        {"sizes": [{"as_int": 2**40}] * 4, "strides": [{"as_int": 0}] * 4},
        {"sizes": [{"as_expr": {"expr_str": "s0"}}] * 4},
        {"sizes": None},
        {"dtype": 8},
        {"dtype": 99},
        {"layout": 2},
        {"device": {"type": "meta", "index": None}},
    ],
)
def test_a_weight_outside_its_record_is_refused(
    fields: dict[str, Any], small: bytes, refusal: Callable[[bytes], str]
) -> None:
    """Offsets, strides, sizes and types that the record cannot hold."""
    refusal(edit(small, CONFIG, _shape(**fields)))


def _put(key: str, text: str) -> Callable[[Any], object]:
    """Return a change that writes a text wherever a key stands in a document."""

    def put(value: Any) -> None:
        parts = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
        for name, part in parts:
            if name == key and isinstance(part, (str, list)):
                value[name] = [text] if isinstance(part, list) else text
            elif isinstance(part, (dict, list)):
                put(part)

    return put


def _code(marker: Path) -> str:
    return f"__import__('os').system('touch {marker}')"


@pytest.mark.parametrize(
    "key",
    ["expr_str", "name", "target", "in_spec", "out_spec", "forward_arg_names", "parameter_name"],
)
def test_code_in_the_texts_of_a_program_never_runs(
    key: str, small: bytes, refusal: Callable[[bytes], str], tmp_path: Path
) -> None:
    """Sizes are evaluated by torch, names are written into source: only names and sums pass."""
    code = _code(tmp_path / "PWNED")
    refusal(edit(small, PROGRAM, _put(key, code + '"')))
    refusal(edit(small, PROGRAM, _put(key, f'x"); {code}  #')))


def test_the_size_expression_would_run(small: bytes, tmp_path: Path) -> None:
    """The proof that the test above can fail: torch alone runs it."""
    evil = edit(small, PROGRAM, _put("expr_str", _code(tmp_path / "PWNED")))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(Exception):  # noqa: B017, PT011 - whatever comes after
            torch.export.load(io.BytesIO(evil))
    assert (tmp_path / "PWNED").exists()


def test_guards_in_python_do_not_reach_torch(small: bytes, tmp_path: Path) -> None:
    """They are left out, as are traces and other notes of the exporter."""

    def guard(program: Any) -> None:
        program["guards_code"] = [_code(tmp_path / "PWNED")]
        nodes(program)[0]["metadata"]["from_node"] = _code(tmp_path / "PWNED")
        program["graph_module"]["metadata"] = {"custom": "{"}

    read(edit(small, PROGRAM, guard), tmp_path).run(noise(2, *IMAGE))
    assert not list(tmp_path.glob("PWNED*"))


@pytest.mark.parametrize(
    ("target", "said"),
    [
        (
            "torch.ops.mylib.rotate.default",
            "needs operator mylib::rotate, which is not one of this PyTorch's own",
        ),
        ("torch.os.system", "operator torch.os.system is not"),
        ("torch.hub.load", "operator torch.hub.load is not"),
        ("torch.ops.load_library", "operator torch.ops.load_library is not"),
        ("torch.ops.higher_order.triton_kernel_wrapper_mutation", "is not one of PyTorch's own"),
        ("#mylib:rotate", "is not one of PyTorch's own"),
        ("torch.ops.aten.from_file.default", "reads or writes files"),
        ("torch.ops.aten.no_such.default", ""),
        ("torch.ops.aten.__class__.mro", ""),
        ("_operator.attrgetter", "is not one of PyTorch's own"),
    ],
)
def test_foreign_operators_are_refused_by_name(
    target: str, said: str, small: bytes, refusal: Callable[[bytes], str]
) -> None:
    """Operators of another library, and what is none."""
    assert said in refusal(edit(small, PROGRAM, lambda program: nodes(program)[0].update(target=target)))


@pytest.mark.parametrize(
    ("expression", "passes"),
    [
        ("s0*2 + 1", True),
        ("Max(Integer(1), FloorDiv(Symbol('s6', positive=True, integer=True), Integer(2)))", True),
        ("Pow(Symbol('s6', positive=True, integer=True), Integer(2))", True),
        ("Float('1.5', precision=53)", True),
        ("9**9**9", False),
        ("Pow(Integer(9), Pow(Integer(9), Integer(9)))", False),
        ("s0.free_symbols", False),
        ("(lambda: 0)()", False),
        ("Symbol('s0').__class__", False),
        ("open", False),
        ("s0[0]", False),
        ("preview(s0)", False),
    ],
)
def test_sizes_are_sums_of_names_and_numbers(expression: str, passes: bool) -> None:
    """What torch writes passes; attributes, other calls and towers of powers do not."""
    from eqaudit.loader.programs import clean_values  # noqa: PLC0415 - no torch is needed

    document = {"expr_str": expression}
    with pytest.raises(ModelError, match="not a name"):
        clean_values({"as_name": f"x, {expression}"})
    if passes:
        assert clean_values(document) == document
    else:
        with pytest.raises(ModelError, match="nothing was evaluated"):
            clean_values(document)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("data/aotinductor/model/run.so", "native code"),
        ("DATA/AOTInductor/model/run.so", "native code"),
        ("models/second.json", "2 exported programs"),
        ("code/a.py", "no part of an exported program"),
    ],
)
def test_other_contents_are_refused(
    name: str, said: str, small: bytes, refusal: Callable[[bytes], str]
) -> None:
    """Compiled packages, several programs, strangers."""
    assert said in refusal(add(small, name, b""))


@pytest.mark.parametrize(
    ("member", "data", "said"),
    [
        ("archive_version", b"9", "archive_version is b'9', expected b'0'"),
        ("byteorder", b"big", "byteorder"),
        (PROGRAM, b"{", "no JSON text"),
        (PROGRAM, b"[]", "damaged"),
        (PROGRAM, b"[" * 100_000, "no JSON text"),
        (CONFIG, b'{"config": 3}', "damaged"),
    ],
)
def test_damaged_members_are_named(
    member: str, data: bytes, said: str, small: bytes, refusal: Callable[[bytes], str]
) -> None:
    """Another version of the format, and text that is none."""
    assert said in refusal(change(small, member, data=data))


def test_a_missing_member_is_named(small: bytes, refusal: Callable[[bytes], str]) -> None:
    """Without its configuration of weights a program is damaged."""
    kept = [raw for raw in entries_of(small) if not raw.name.endswith(b"weights_config.json")]
    assert f"{CONFIG} is missing" in refusal(build(kept))


# The command ---------------------------------------------------------------------------------------


def test_the_command_audits_an_exported_program(
    eqaudit: Callable[..., Ended], small: bytes, tmp_path: Path
) -> None:
    """The report says the kind and the hash; ``layers`` lists them; an evil file ends in code 3."""
    (tmp_path / "model.pt2").write_bytes(small)
    ended = eqaudit("check", "model.pt2", "--samples", "4", "--no-gate", "--json", "r.json", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert b"exported program" in ended.stdout
    report = json.loads((tmp_path / "r.json").read_text())
    assert report["model"]["kind"] == "exported"
    assert report["inputs"]["shape"] == [3, 16, 16]
    assert [layer["name"] for layer in report["layers"]] == ["conv", "relu", "relu", "head"]
    assert b"relu" in eqaudit("layers", "model.pt2", cwd=tmp_path).stdout
    evil = edit(small, PROGRAM, _put("expr_str", _code(tmp_path / "PWNED")))
    (tmp_path / "evil.pt2").write_bytes(evil)
    ended = eqaudit("check", "evil.pt2", cwd=tmp_path)
    assert ended.returncode == 3
    assert b"nothing was evaluated" in ended.stderr
    assert not (tmp_path / "PWNED").exists()
