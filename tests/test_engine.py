import numpy as np
import pytest
import torch
from torch import Tensor, nn

import eqaudit
from eqaudit.errors import DataError, ModelError, UsageError
from eqaudit.report import Report


def pictures(count: int = 16, size: int = 12, channels: int = 3) -> Tensor:
    """Return random images."""
    return torch.rand((count, channels, size, size), generator=torch.Generator().manual_seed(0))


class Pooled(nn.Module):
    """Exactly D4: the mean and the mean square of each channel."""

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, 2 C)."""
        return torch.cat([image.mean(dim=(2, 3)), image.square().mean(dim=(2, 3))], dim=1)


class Steep(nn.Module):
    """Exactly D4, so steep that rounding in float32 shows; optionally computed in float32 only."""

    def __init__(self, *, cast: bool = False) -> None:
        super().__init__()
        self.pooled, self.cast = Pooled(), cast

    def forward(self, image: Tensor) -> Tensor:
        """Return (B, 2 C)."""
        return torch.sin(1e4 * self.pooled(image.float() if self.cast else image))


def plain() -> nn.Sequential:
    """Return a small plain network, always the same."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return nn.Sequential(
            nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5)
        )


def classes(report: Report) -> set[str]:
    """Return the classes of the gating output."""
    return {error.class_ for error in report.gating_output.errors}


def test_one_image_is_never_enough_to_call_a_model_exact() -> None:
    """Without a second image there is no chance: undecided, with the reason."""
    report = eqaudit.audit(Pooled(), pictures(1))
    assert classes(report) == {"unresolved"}
    assert report.gate is not None
    assert not report.gate.passed
    assert any("one image" in warning for warning in report.warnings)


def test_few_images_are_warned_of() -> None:
    """Below 16 the share of chance is known only roughly."""
    assert any("8 images" in warning for warning in eqaudit.audit(Pooled(), pictures(8)).warnings)
    assert not eqaudit.audit(Pooled(), pictures(16)).warnings


def test_float64_settles_what_float32_leaves_in_doubt() -> None:
    """A slope of 10,000 makes rounding 0.1 % of chance; the rerun shows that it is rounding."""
    report = eqaudit.audit(Steep(), pictures())
    assert classes(report) == {"exact"}
    assert report.float64_images == 4


def test_a_model_without_float64_is_judged_in_float32_and_the_report_says_so() -> None:
    """A cast inside keeps float32: what is in doubt stays in doubt."""
    report = eqaudit.audit(Steep(cast=True), pictures())
    assert "exact" not in classes(report)
    assert any("not confirmed in float64" in warning for warning in report.warnings)


def test_a_frozen_model_is_confirmed_in_float64_too() -> None:
    """The constants of a copy of its graph are converted."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), Steep()).eval()
    report = eqaudit.audit(torch.jit.freeze(torch.jit.script(model)), pictures())
    assert classes(report) == {"exact"}
    assert report.model.note == "frozen: no modules in the file, only operations (--taps operations)"
    assert report.layers == []


def test_the_rerun_looks_at_the_worst_images() -> None:
    """A model that is exact but for one image in sixteen does not pass because four others are exact."""

    class Rare(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            marked = (image.amax(dim=(1, 2, 3)) > 5).to(image.dtype)[:, None]
            return image.mean(dim=(2, 3)) + 1e-3 * marked * image[:, :, 0, 0]

    images = pictures()
    images[11, :, 5, 6] = 9.0
    (r90, *_) = eqaudit.audit(Rare(), images).gating_output.errors
    assert r90.class_ == "approximate"


def _trained(images: Tensor) -> nn.Sequential:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    for _ in range(60):
        model(images)
    return model.eval()


def test_images_unlike_the_training_images_are_warned_of() -> None:
    """The first batch normalisation remembers what it was trained on."""
    images = (pictures(64) - 0.5) / 0.1
    assert any("--mean and --std" in text for text in eqaudit.audit(_trained(images), pictures(64)).warnings)
    assert eqaudit.audit(_trained(images), images).warnings == []


def test_a_normalisation_that_was_never_trained_says_nothing() -> None:
    """Running statistics of 0 and 1 are those of a new layer."""
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    assert eqaudit.audit(model, pictures()).warnings == []


def test_values_up_to_255_are_warned_of() -> None:
    """Most models expect 0 to 1, or mean 0 and spread 1."""
    assert any("values up to 25" in text for text in eqaudit.audit(plain(), pictures() * 255).warnings)


def test_consistency_counts_only_images_with_finite_scores() -> None:
    """A NaN row has no class: it enters no share."""

    class Holes(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            scores = image.mean(dim=(2, 3))
            return torch.where(image.amax(dim=(1, 2, 3))[:, None] > 5, torch.nan, scores)

    images = pictures()
    images[3] *= 9
    report = eqaudit.audit(Holes(), images)
    assert report.predictions is not None
    assert report.predictions.images == 15
    assert report.predictions.orbit_consistency == 1.0
    assert report.per_image is not None
    assert report.per_image.predicted["r90"][3] == -1
    assert report.per_image.output["r90"][3] is None


def test_a_square_group_refuses_rectangles_and_names_the_way_out() -> None:
    """90 degrees swap the sides."""
    images = torch.rand(4, 3, 8, 12)
    with pytest.raises(DataError, match="needs squares") as caught:
        eqaudit.audit(Pooled(), images, group="C4")
    assert "D2" in caught.value.hint
    assert eqaudit.audit(Pooled(), torch.rand(16, 3, 8, 12), group="D2").verdict is not None


def test_c1_tests_nothing_and_says_so() -> None:
    """The identity alone holds for every model that is deterministic."""
    report = eqaudit.audit(plain(), pictures(), group="C1")
    assert report.verdict is not None
    assert "no turn and no mirror was tested" in report.verdict.sentence


def test_the_gating_output_must_exist_and_be_a_tensor() -> None:
    """An output name that is wrong is usage; a model without tensors cannot be audited."""
    with pytest.raises(UsageError, match="no output of the model"):
        eqaudit.audit(plain(), pictures(), output="mask")

    class Words(nn.Module):
        def forward(self, image: Tensor) -> list[str]:
            return ["cat"] * len(image)

    with pytest.raises((ModelError, DataError), match="it returns"):
        eqaudit.audit(Words(), pictures())


def test_layers_chosen_by_pattern_are_the_only_ones_measured() -> None:
    """`none` leaves the output; a pattern that matches nothing is refused with close names."""
    assert [layer.name for layer in eqaudit.audit(plain(), pictures(), layers=("0", "4")).layers] == [
        "0",
        "4",
    ]
    assert eqaudit.audit(plain(), pictures(), layers=("none",)).layers == []
    with pytest.raises(UsageError, match="matches no layer"):
        eqaudit.audit(plain(), pictures(), layers=("conv*",))


def test_a_layer_that_hands_its_child_s_tensor_on_is_measured_once() -> None:
    """Parent and last child share one measurement, and the report says so."""
    report = eqaudit.audit(nn.Sequential(plain(), nn.Identity()), pictures())
    shared = {layer.name: layer.same_as for layer in report.layers}
    assert shared["0"] == shared["1"] == "0.4"
    assert report.gating_output.same_as == "0.4"
    assert report.gating_output.errors[0].error == report.layers[-1].errors[0].error


def test_a_flat_large_audit_equals_itself_bit_for_bit() -> None:
    """Same machine, threads and batch size: the same report."""
    assert eqaudit.audit(plain(), pictures(33)) == eqaudit.audit(plain(), pictures(33))


def test_numpy_and_torch_images_are_the_same_images() -> None:
    """Both reach the model untouched."""
    images = pictures()
    report = eqaudit.audit(plain(), np.asarray(images))
    assert report.inputs.fingerprint == eqaudit.audit(plain(), images).inputs.fingerprint


def test_rounding_that_a_model_amplifies_is_no_lack_of_determinism(monkeypatch: pytest.MonkeyPatch) -> None:
    """A difference in float32 that float64 does not show is rounding, and the report says so."""
    monkeypatch.setattr("eqaudit.engine.determinism.DETERMINISM_LIMIT", -1.0)
    report = eqaudit.audit(Pooled(), pictures())
    assert report.determinism.cause is None
    assert "only rounding" in str(report.determinism.note)
    assert any("only rounding" in warning for warning in report.warnings)


def test_a_single_image_is_rebatched_with_its_mirror_image() -> None:
    """Batch statistics show also when there is one image only."""

    class Centred(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            corner = image[:, :, 0, 0]
            return corner - corner.mean(dim=0)

    assert eqaudit.audit(Centred(), pictures(1)).determinism.cause == "depends on the batch"


def test_a_model_that_cannot_be_copied_is_judged_in_float32_and_the_report_says_so() -> None:
    """Whatever the model's own copying raises is no bug of ours."""

    class Single(Steep):
        def __deepcopy__(self, memo: dict[int, object]) -> "Single":
            raise KeyError("there is only one of me")

    report = eqaudit.audit(Single(), pictures())
    assert any("cannot be converted: KeyError" in warning for warning in report.warnings)
    assert "exact" not in classes(report)
