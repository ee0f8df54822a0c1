"""Where and why equivariance breaks: planted causes are found, proven by experiment, and nothing else is."""

import json
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jsonschema
import pytest
import torch
from conftest import Ended
from group_networks import EXACT as EXACT_NETWORKS
from group_networks import (
    SIDE,
    GroupConv,
    Known,
    axis_network,
    images,
    regular,
    seeded,
    symmetrise,
    trivial,
    vision_transformer,
)
from models_zoo import compiled
from test_exported import export
from torch import Tensor, nn

import eqaudit as eqaudit_api
from eqaudit import glossary
from eqaudit.diagnosis.rules import RULES
from eqaudit.plan import SpaceOptions
from eqaudit.report import Diagnosis, from_json, json_schema

EXPLAIN = sys.modules["eqaudit.diagnosis.explain"]
ROOT = Path(__file__).parents[1]
FIXTURES = ROOT / "fixtures" / "models"
COUNT, FIELDS = 12, 6
EXACT = 1e-9
"""Error in float64 of networks whose weights are averaged in float64 and stored in float32."""


class Position(nn.Module):
    """Adds a learnt map."""

    def __init__(self, channels: int, side: int) -> None:
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, channels, side, side))

    def forward(self, features: Tensor) -> Tensor:
        """Add."""
        return features + self.position


class HalfOrbit(nn.Module):
    """Averages two of the four channels of each field."""

    def forward(self, features: Tensor) -> Tensor:
        """Average, `(B, 4 F, H, W)` to `(B, F, H, W)`."""
        return torch.unflatten(features, 1, (-1, 4))[:, :, :2].mean(2)


class ChannelMean(nn.Module):
    """Mean over space."""

    def forward(self, features: Tensor) -> Tensor:
        """Average, `(B, C, H, W)` to `(B, C)`."""
        return features.mean((-2, -1))


class Noise(nn.Module):
    """Dropout that stays on."""

    def forward(self, features: Tensor) -> Tensor:
        """Drop a tenth."""
        return nn.functional.dropout(features, 0.1, training=True)


class BatchStatistics(nn.Module):
    """Normalisation by the batch."""

    def forward(self, features: Tensor) -> Tensor:
        """Normalise."""
        return nn.functional.batch_norm(features, None, None, training=True)


def network(**changes: nn.Module) -> nn.Sequential:
    """Return an exact p4 network with some layers replaced, or added before the layer of the same ending.

    ``before_conv3=layer`` adds ``planted`` before ``conv3``.
    """
    layers = dict[str, nn.Module]()
    for name, layer in axis_network("last", fields=FIELDS).named_children():
        if f"before_{name}" in changes:
            layers["planted"] = changes[f"before_{name}"]
        layers[name] = changes.get(name, layer)
    return Known(layers, {})


def group_convolution(kernel: int = 3, **options: object) -> nn.Conv2d:
    """Return an exact p4 convolution of any kernel and options."""
    with seeded(1):
        layer = nn.Conv2d(4 * FIELDS, 4 * FIELDS, kernel, **options)  # type: ignore[arg-type]
        symmetrise(layer, regular(FIELDS), regular(FIELDS))
    return layer


def strided() -> nn.Module:
    """Return a stride of 2 on an even map."""
    return network(conv3=group_convolution(stride=2, padding=1))


def three_strided() -> nn.Module:
    """Return three strides of 2."""
    with seeded(2):
        lift = nn.Conv2d(3, 4 * FIELDS, 3, stride=2, padding=1)
        symmetrise(lift, trivial(3), regular(FIELDS))
    step = partial(group_convolution, stride=2, padding=1)
    return network(lift=lift, conv2=step(), conv3=step())


def free_kernel() -> nn.Module:
    """Return a convolution with weights of no symmetry."""
    layer = GroupConv(4 * FIELDS, 4 * FIELDS)
    good = group_convolution(padding=1)
    with seeded(3):
        layer.weight.copy_(good.weight + 0.5 * good.weight.std() * torch.randn(layer.weight.shape))
        layer.bias.copy_(good.bias)  # type: ignore[union-attr, arg-type]
    return network(conv3=layer)


def flat() -> nn.Module:
    """Return a linear layer on a flattened map."""
    with seeded(4):
        return network(pool=nn.Flatten(), head=nn.Linear(4 * FIELDS * 16 * 16, 5))


def normalised() -> nn.Module:
    """Return a normalisation with weights of every channel."""
    with seeded(5):
        layer = nn.BatchNorm2d(4 * FIELDS)
        layer.weight.copy_(1 + 0.5 * torch.rand(4 * FIELDS))
    return network(before_conv3=layer)


def half_orbit() -> nn.Module:
    """Return a pooling over half of each orbit."""
    with seeded(6):
        return network(before_pool=HalfOrbit(), pool=ChannelMean(), head=nn.Linear(FIELDS, 5))


def located() -> nn.Module:
    """Return a position embedding."""
    with seeded(7):
        return network(before_conv3=Position(4 * FIELDS, 16))


PLANTED: dict[str, tuple[Callable[[], nn.Module], int, str, tuple[str, ...]]] = {
    "strided": (strided, 16, "subsampling", ("conv3",)),
    "pooled": (lambda: network(before_conv3=nn.MaxPool2d(2)), 17, "subsampling", ("planted",)),
    "three strides": (three_strided, 32, "subsampling", ("lift", "conv2", "conv3")),
    "padded": (
        lambda: network(before_conv3=nn.ZeroPad2d((0, 1, 0, 1))),
        16,
        "one-sided-padding",
        ("planted",),
    ),
    "even kernel": (
        lambda: network(conv3=group_convolution(4, padding="same")),
        16,
        "even-kernel",
        ("conv3",),
    ),
    "resized": (lambda: network(before_conv3=nn.Upsample(scale_factor=1.5)), 16, "resize", ("planted",)),
    "flat": (flat, 16, "flatten", ("head",)),
    "located": (located, 16, "position-embedding", ("planted",)),
    "free kernel": (free_kernel, 16, "kernel", ("conv3",)),
    "normalised": (normalised, 16, "broken-field", ("planted",)),
    "half orbit": (half_orbit, 16, "orbit-pooling", ("planted",)),
}
"""Networks, the side of their images, and the cause and the layers that were planted."""


def diagnose(model: nn.Module, side: int) -> Diagnosis:
    """Return the diagnosis of a network under C4."""
    found = eqaudit_api.audit(model, images(COUNT, side), group="C4", diagnose=True).diagnose
    assert found is not None
    return found


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel:UserWarning")
@pytest.mark.parametrize("name", PLANTED)
def test_a_planted_cause_is_ranked_first_and_its_layers_hold_the_local_error(name: str) -> None:
    """The cause is named, its experiment takes the error away, and no healthy layer is blamed."""
    make, side, cause, layers = PLANTED[name]
    found = diagnose(make(), side)
    assert (found.error or 0.0) > 1e-3
    assert found.causes[0].id == cause
    assert tuple(found.causes[0].layers) == layers
    assert found.causes[0].removed > 0.99
    assert found.first == layers[0]
    assert sum(layer.share for layer in found.layers if layer.name in layers) > 0.95


@pytest.mark.parametrize("name", EXACT_NETWORKS)
def test_no_layer_of_an_exact_network_has_an_error_of_its_own(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked to look though the output is exact, the local errors blame nothing."""
    monkeypatch.setattr(EXPLAIN, "_worst", lambda network: (network.elements[0], 1.0))
    found = diagnose(EXACT_NETWORKS[name](), SIDE)
    assert len(found.layers) > 5
    assert [layer.name for layer in found.layers if layer.elements] == []


@pytest.mark.parametrize("side", [15, 16])
def test_a_healthy_network_yields_no_cause(side: int) -> None:
    """Nothing is blamed for rounding of float32."""
    found = diagnose(network(), side)
    assert found.causes == []
    assert found.first is None
    assert found.averaged is None
    assert found.error is not None
    assert found.error < EXACT


@pytest.mark.parametrize(
    ("layer", "cause"),
    [(BatchStatistics(), "batch-statistics"), (Noise(), "dropout")],
    ids=["batch", "noise"],
)
def test_what_is_no_function_of_the_image_is_named(layer: nn.Module, cause: str) -> None:
    """Batch statistics and random numbers come from what repeating showed."""
    found = diagnose(network(before_conv3=layer), 16)
    assert found.causes[0].id == cause
    assert found.causes[0].error_without < found.causes[0].error_before


def test_rounding_is_a_cause_where_float64_has_none() -> None:
    """An exact network of 60 layers errs by rounding alone."""
    model = str(FIXTURES / "deep_exact.pt")
    found = eqaudit_api.audit(model, images(COUNT, 32), group="C4", diagnose=True).diagnose
    assert found is not None
    assert [cause.id for cause in found.causes] == ["rounding"]
    assert found.causes[0].removed > 0.99


@pytest.mark.parametrize("how", ["scripted", "traced", "exported", "batch of 4", "frozen"])
def test_files_give_the_same_diagnosis_as_their_code(how: str, tmp_path: Path) -> None:
    """Steps are found by operations, whatever the model came as."""
    model, path = strided(), tmp_path / "model.pt"
    if how == "scripted":
        torch.jit.save(compiled(model, "scripted", (3, 16, 16)), path)
    elif how == "traced":
        torch.jit.save(compiled(model, "traced", (3, 16, 16)), path)
    elif how == "frozen":
        torch.jit.save(torch.jit.freeze(torch.jit.script(model)), path)
    else:
        path.write_bytes(export(model, images(4, 16), dynamic=how == "exported"))
    found = eqaudit_api.audit(path, images(COUNT, 16), group="C4", diagnose=True).diagnose
    assert found is not None
    assert found.causes[0].id == "subsampling"
    assert found.causes[0].removed > 0.99
    assert found.first is not None
    assert "conv" in found.first if how == "frozen" else found.first == "conv3"


@pytest.mark.parametrize("class_token", [False, True])
def test_attention_is_not_blamed_for_a_position_embedding(class_token: bool) -> None:
    """Attention weights, of whose tokens no action is found in a broken network, are passed over."""
    model = vision_transformer(class_token)
    patches = model.get_submodule("patches")
    with seeded(8):
        patches.position.copy_(torch.randn(1, 36, 16))  # type: ignore[operator]
    found = diagnose(model, 24)
    assert [cause.id for cause in found.causes] == ["position-embedding"]
    assert [layer.name for layer in found.layers if layer.elements] == ["patches.add"]


def test_sizes_that_were_run_are_exact_and_the_nearest() -> None:
    """Three strides of 2 at 32 pixels need 33, or 25."""
    found = diagnose(three_strided(), 32)
    tried = {each.size: each.error for each in found.causes[0].sizes}
    assert set(tried) == {(25, 25), (33, 33)}
    assert max(tried.values()) < EXACT


def test_the_averaged_output_and_a_symmetrised_layer_are_exact() -> None:
    """A planted layer as its average over the group is exact; so is the output, at one run for each."""
    found = diagnose(free_kernel(), 16)
    planted = next(layer for layer in found.layers if layer.name == "conv3")
    assert planted.symmetrised_error is not None
    assert planted.symmetrised_error < EXACT
    assert found.averaged is not None
    assert found.averaged.error < EXACT
    assert found.averaged.runs == 4
    assert found.averaged.change > 1e-3


def test_an_output_that_is_not_finite_is_not_explained() -> None:
    """NaN has no cause among those of equivariance, and no words that would say all is well."""
    found = eqaudit_api.audit(
        FIXTURES / "nan_output.pt", images(COUNT, 32), group="C4", diagnose=True
    ).diagnose
    assert found is not None
    assert found.reason is not None
    assert "not finite" in found.reason
    assert found.error is None


def test_the_readme_explains_every_cause_and_word() -> None:
    """Both come from one glossary, which has every rule."""
    readme = (ROOT / "README.md").read_text()
    rows = [f"| {word} | {meaning} |" for word, meaning in glossary.WORDS.items()]
    rows += [f"| `{cause}` | {meaning} |" for cause, meaning in glossary.CAUSES.items()]
    assert [row for row in rows if row not in readme] == []
    assert {rule.id for rule in RULES} | {"unexplained"} == set(glossary.CAUSES)


STRIDED = ("fixtures/models/strided_even.pt", "--group", "C4", "--samples", "16", "--input-shape")


def test_the_command_names_layer_rule_and_sizes(eqaudit: Callable[..., Ended], tmp_path: Path) -> None:
    """It exits as check does, and writes the diagnosis as JSON, text and picture."""
    ended = eqaudit(
        "diagnose",
        *STRIDED,
        "3,32,32",
        "--json",
        str(tmp_path / "r.json"),
        "--plots",
        str(tmp_path),
        cwd=ROOT,
    )
    assert ended.returncode == 1, ended.stderr
    said = ended.stdout.decode()
    for words in (
        "Lie derivative: ",
        "1. subsampling",
        "(32 + 2*1 - 3) mod 2 = 1",
        "31x31",
        "33x33",
        "p4conv3  P4Conv",
        "< breaks",
    ):
        assert words in said
    report = from_json((tmp_path / "r.json").read_bytes())
    assert report.diagnose is not None
    assert report.diagnose.causes[0].layers == ["p4conv3"]
    jsonschema.validate(json.loads((tmp_path / "r.json").read_bytes()), json_schema())
    assert (tmp_path / "waterfall.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(("size", "code"), [("3,32,32", 1), ("3,33,33", 0)])
def test_check_explains_only_what_fails(
    eqaudit: Callable[..., Ended], size: str, code: int, tmp_path: Path
) -> None:
    """A gate that passes needs no reasons; one that fails has them in every report."""
    paths = [tmp_path / "comment.md", tmp_path / "tests.xml"]
    reports = ("--report", f"markdown={paths[0]}", "--report", f"junit={paths[1]}")
    ended = eqaudit("check", *STRIDED, size, "--explain", *reports, cwd=ROOT)
    assert ended.returncode == code, ended.stderr
    for said in (ended.stdout.decode(), *(path.read_text() for path in paths)):
        assert ("subsampling" in said) == (code == 1)


def test_a_group_without_exact_elements_is_refused(eqaudit: Callable[..., Ended]) -> None:
    """Local errors of resampled turns would be those of the resampling."""
    ended = eqaudit("diagnose", STRIDED[0], "--group", "C3", cwd=ROOT)
    assert ended.returncode == 2
    assert b"C3 has none" in ended.stderr


@pytest.mark.long
def test_the_border_is_named_at_resampled_angles() -> None:
    """A steerable network with zeros around its turned images errs at the border alone."""
    found = eqaudit_api.audit(
        ROOT / "fixtures" / "independent" / "fields_so2.pt",
        images(COUNT, 65),
        group="C8",
        diagnose=True,
        space=SpaceOptions(boundary="zeros", margin=0.0),
    ).diagnose
    assert found is not None
    assert [cause.id for cause in found.causes] == ["border"]
    assert found.causes[0].removed > 0.9
