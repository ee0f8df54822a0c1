from collections.abc import Sequence
from itertools import pairwise

import msgspec
import numpy as np
import pytest
from drawn import is_framed_in_white, read_pixels
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import PathPatch, StepPatch
from reports import QUARTERS, TaskKind, make_layer, make_panel, make_sweep

from eqaudit.report import Report
from eqaudit.reporters.angles import angle_rows
from eqaudit.reporters.figures import to_png
from eqaudit.reporters.pictures import draw
from eqaudit.reporters.sweep_pictures import sweep_figures

OWN_PICTURES: dict[TaskKind, set[str]] = {
    "classification": {"consistency.png", "per_class.png"},
    "segmentation": {"dice.png"},
    "dense": {"psnr.png"},
    "embedding": {"cosine.png"},
}


def boxes_of(axes: Axes) -> list[PathPatch]:
    """Return the boxes of a box plot."""
    return [patch for patch in axes.patches if type(patch) is PathPatch]


def steps_of(axes: Axes) -> list[StepPatch]:
    """Return floors and levels drawn as steps."""
    return [patch for patch in axes.patches if isinstance(patch, StepPatch)]


def words_of(figure: Figure) -> str:
    """Return everything that is written in and above the axes of a figure, and in its legend."""
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    texts += [axes.get_title(loc="left") for axes in figure.axes]
    texts += [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return "\n".join([figure.get_suptitle(), *texts])


@pytest.mark.parametrize("task", [None, *OWN_PICTURES])
def test_a_sweep_draws_the_error_the_layers_and_what_its_task_has(task: TaskKind | None) -> None:
    """No empty figure: a picture is there when its numbers are."""
    own = OWN_PICTURES[task] if task else set()
    assert set(sweep_figures(make_sweep(task))) == {"error.png", "heatmap.png"} | own
    with_panel = sweep_figures(make_sweep(task), make_panel())
    assert set(with_panel) == {"error.png", "heatmap.png", "worst.png"} | own


@pytest.mark.parametrize("task", [None, *OWN_PICTURES])
@pytest.mark.parametrize(
    ("angles", "mirror"),
    [
        (QUARTERS, True),
        (range(0, 361, 5), False),
        ([0, 45, 90], False),
        ([45], True),
        ([-30, 0, 1, 200], False),
    ],
)
def test_no_picture_of_a_sweep_is_cut(task: TaskKind | None, angles: Sequence[float], mirror: bool) -> None:
    """White margins all around, for one angle and for 73, with mirrored poses and without."""
    figures = sweep_figures(make_sweep(task, angles, mirror=mirror))
    for name in OWN_PICTURES[task] if task else set(figures):
        pixels = read_pixels(to_png(figures[name]))
        assert is_framed_in_white(pixels)
        assert pixels.shape[1] <= 2100


def test_the_same_sweep_draws_the_same_bytes() -> None:
    """Nothing of the day, of the machine or of an earlier picture is in a picture."""
    report, panel = make_sweep("segmentation", [0, 45]), make_panel()
    assert draw(report, panel) == draw(report, panel)


def test_a_box_stands_at_each_angle_between_the_quartiles() -> None:
    """The boxes of Dice are those of the report, in degrees and by the 25th and 75th percentile."""
    report = make_sweep("segmentation")
    assert report.segmentation is not None
    axes = sweep_figures(report)["dice.png"].axes[0]
    boxes = [box.get_path().get_extents() for box in boxes_of(axes)]
    assert [(box.x0 + box.x1) / 2 for box in boxes] == pytest.approx(list(QUARTERS))
    expected = [(row.dice.p25, row.dice.p75) for row in report.segmentation.by_element]
    assert [box.y0 for box in boxes] == pytest.approx([low for low, _ in expected])
    assert [box.y1 for box in boxes] == pytest.approx([high for _, high in expected])
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_means_whiskers_and_outliers_of_dice_are_drawn() -> None:
    """One mean and one outlier for each angle, and whiskers that end where the report says."""
    axes = sweep_figures(make_sweep("segmentation", [45]))["dice.png"].axes[0]
    heights = [float(value) for line in axes.lines for value in np.asarray(line.get_ydata())]
    for value in (0.75, 0.75 + 0.005, 0.75 - 0.1, 0.75 + 0.05, 0.75 - 0.15):
        assert any(value == pytest.approx(height) for height in heights)


def test_the_floor_of_dice_is_shaded_up_to_1_where_there_is_one() -> None:
    """Resampled angles have the band, quarter turns have not, and without floors there is none."""
    axes = sweep_figures(make_sweep("segmentation"))["dice.png"].axes[0]
    (floor,) = steps_of(axes)
    values, edges, baseline = floor.get_data()
    assert baseline == 1
    middles = (edges[1:] + edges[:-1]) / 2
    for angle, value in zip(middles, values, strict=True):
        assert np.isnan(value) if angle % 90 == 0 else value == 0.9
    bare = sweep_figures(make_sweep("segmentation", floor=False))["dice.png"]
    assert not steps_of(bare.axes[0])
    assert "measurement alone" not in words_of(bare)


def test_dice_against_the_truth_has_axes_of_its_own() -> None:
    """With masks there is a second row, and the mean of the unmoved images to compare with."""
    with_masks, without = (
        sweep_figures(make_sweep("segmentation", truth=truth))["dice.png"] for truth in (True, False)
    )
    assert len(with_masks.axes) == 2
    assert len(without.axes) == 1
    assert "mean of unmoved images" in words_of(with_masks)
    assert "60 of 64 images" in words_of(with_masks)


@pytest.mark.parametrize(("task", "name"), [("segmentation", "dice.png"), (None, "error.png")])
def test_mirrored_poses_have_axes_of_their_own(task: TaskKind | None, name: str) -> None:
    """A turn by 90 degrees and the mirrored one never share a place."""
    turns = sweep_figures(make_sweep(task, truth=False))[name]
    both = sweep_figures(make_sweep(task, truth=False, mirror=True))[name]
    assert len(both.axes) == 2 * len(turns.axes)
    assert "T mirrors and turns" in words_of(both)
    assert "T mirrors" not in words_of(turns)


def test_an_error_of_exactly_zero_has_its_place_on_a_logarithmic_axis() -> None:
    """It stands inside of the axes, below every other error."""
    axes = sweep_figures(make_sweep())["error.png"].axes[0]
    assert axes.get_yscale() == "symlog"
    bottom, top = axes.get_ylim()
    places = axes.transData.transform([(0, bottom), (0, 0), (0, 1e-7), (0, 0.2), (0, top)])[:, 1]
    assert (np.diff(places) > 5).all()


def test_errors_of_like_size_are_read_on_a_linear_axis() -> None:
    """A logarithmic axis is for errors that differ by a hundred times and more."""
    axes = sweep_figures(make_sweep(None, [30, 45, 60], floor=False))["error.png"].axes[0]
    assert axes.get_yscale() == "linear"
    assert axes.get_ylim()[0] < 0


def test_the_error_is_drawn_with_its_floor_twice_the_floor_and_chance() -> None:
    """Three levels as the report gives them, and the classes named by their marks."""
    figure = sweep_figures(make_sweep())["error.png"]
    levels = [np.nanmax(step.get_data()[0]) for step in steps_of(figure.axes[0])]
    assert levels == pytest.approx([0.05, 0.1, 0.5])
    words = words_of(figure)
    for label in ("exact", "at the floor", "approximate", "below the floor", "2 x floor", "chance"):
        assert label in words
    assert "broken" not in words


def test_an_output_without_a_floor_says_why() -> None:
    """The reason of the report stands above the errors, once."""
    figure = sweep_figures(make_sweep(None, floor=False, mirror=True))["error.png"]
    assert words_of(figure).count("no floor: not equivariant to translations either") == 1
    assert "below the floor" not in words_of(figure)


def test_the_least_accuracy_is_marked() -> None:
    """Where labels are, the worst angle is that of accuracy; else that of consistency."""
    labelled = sweep_figures(make_sweep("classification", range(0, 90, 5)))["consistency.png"]
    assert "least accuracy: 0.50 at r45" in words_of(labelled)
    bare = sweep_figures(make_sweep("classification", range(0, 90, 5), truth=False))["consistency.png"]
    assert "least consistency: 0.60 at r45" in words_of(bare)
    assert "accuracy" not in words_of(bare)


def test_accuracy_by_class_has_a_row_for_each_class_and_none_for_no_images() -> None:
    """Class names with dollar signs are no mathematics; a class without images has no colour."""
    figure = sweep_figures(make_sweep("classification"))["per_class.png"]
    axes = figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat (40)", "d$o$g (24)", "eel (0)"]
    values = axes.images[0].get_array()
    assert values is not None
    assert values.shape == (3, len(QUARTERS))
    assert np.ma.getmaskarray(values).all(axis=1).tolist() == [False, False, True]
    assert "per_class.png" not in sweep_figures(make_sweep("classification", truth=False))


def test_a_thousand_classes_still_fit_on_a_page() -> None:
    """Only some of the names are written; no figure is higher than a long page."""
    report = make_sweep("classification")
    assert report.predictions is not None
    rows = [
        msgspec.structs.replace(row, class_accuracy=[0.5] * 1000) for row in report.predictions.by_element
    ]
    many = msgspec.structs.replace(report.predictions, by_element=rows, class_images=[1] * 1000)
    figure = sweep_figures(msgspec.structs.replace(report, predictions=many))["per_class.png"]
    assert figure.get_figheight() < 15
    assert len(figure.axes[0].get_yticks()) <= 60


def test_equal_maps_have_no_decibels_and_stand_at_the_top() -> None:
    """An infinite PSNR is no gap and no number."""
    figure = sweep_figures(make_sweep("dense"))["psnr.png"]
    assert "equal maps (infinite)" in words_of(figure)
    assert "equal maps" not in words_of(sweep_figures(make_sweep("dense", [30, 45]))["psnr.png"])


def test_the_heatmap_of_many_angles_is_bounded_and_names_round_ones() -> None:
    """73 columns have no numbers in them, and a label every 45 degrees."""
    few, many = (
        sweep_figures(make_sweep(None, angles))["heatmap.png"] for angles in ([0, 45, 90], range(0, 361, 5))
    )
    assert len(few.axes[0].texts) > 3
    assert not [text for text in many.axes[0].texts if text.get_text()]
    labels = [label.get_text() for label in many.axes[0].get_xticklabels()]
    assert labels == ["e", "r45", "r90", "r135", "r180", "r225", "r270", "r315", "r360"]
    assert many.get_figwidth() < 14


def test_the_colours_of_a_sweep_begin_where_its_shares_do() -> None:
    """Of a network that holds nowhere the colours still tell errors apart: two decades, not eight."""
    figures = [sweep_figures(make_sweep(None, angles))["heatmap.png"] for angles in ([30, 45], [45, 90])]
    least = [figure.axes[0].images[0].norm.vmin for figure in figures]
    assert least == pytest.approx([1e-2, 1e-7])


@pytest.mark.parametrize(
    ("shape", "image"),
    [
        ((12, 12), (1, 12, 12)),
        ((1, 12, 12), (3, 12, 12)),
        ((3, 12, 12), (4, 12, 12)),
        ((5, 6, 6), (1, 12, 9)),
        ((2, 2, 6, 6), (3, 12, 12)),
        ((10,), (1, 12, 12)),
        ((1,), (2, 12, 12)),
    ],
)
def test_the_worst_case_is_drawn_for_any_output(shape: tuple[int, ...], image: tuple[int, ...]) -> None:
    """Maps, maps of channels and vectors: six pictures with their titles, none cut."""
    report, panel = make_sweep(), make_panel(shape, image)
    figure = sweep_figures(report, panel)["worst.png"]
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert sorted(titles) == sorted(picture.title for picture in panel.pictures)
    assert "a$b.png at r45 (45 degrees)" in figure.get_suptitle()
    assert is_framed_in_white(read_pixels(to_png(figure)))


def test_outputs_share_a_scale_and_the_difference_is_centred_at_0() -> None:
    """Equal colours mean equal values, and white means no difference."""
    figure = sweep_figures(make_sweep(), make_panel())["worst.png"]
    images = {axes.get_title(): axes.images[0] for axes in figure.axes if axes.get_title()}
    assert images["x"].get_clim() == images["T x"].get_clim()
    assert images["f(x)"].get_clim() == images["f(T x)"].get_clim() == images["T f(x)"].get_clim()
    low, high = images["f(T x) - T f(x)"].get_clim()
    assert low == -high


def test_vectors_share_the_height_of_their_axes() -> None:
    """Bars of the same value have the same height in all four of them."""
    figure = sweep_figures(make_sweep(), make_panel((10,)))["worst.png"]
    assert len({axes.get_ylim() for axes in figure.axes if "f" in axes.get_title()}) == 1


def test_values_that_are_not_finite_are_drawn_without_a_word() -> None:
    """An infinite pixel decides no scale and raises no warning."""
    panel = make_panel()
    broken = np.full((12, 12), np.inf, dtype=np.float32)
    broken[0, 0] = np.nan
    pictures = [
        msgspec.structs.replace(picture, values=broken.tobytes()) if "f" in picture.title else picture
        for picture in panel.pictures
    ]
    figures = sweep_figures(make_sweep(), msgspec.structs.replace(panel, pictures=pictures))
    assert is_framed_in_white(read_pixels(to_png(figures["worst.png"])))


def test_a_sweep_whose_output_was_skipped_still_draws() -> None:
    """Without a single error there are axes, and no exception; layers that were measured are there."""
    output = make_layer("output", skipped="returns None", gating=True)
    for layers in (make_sweep().layers, []):
        skipped = msgspec.structs.replace(make_sweep(), outputs=[output], layers=layers)
        pictures = draw(skipped)
        assert set(pictures) == {"error.png", "heatmap.png"}
        assert all(is_framed_in_white(read_pixels(content)) for content in pictures.values())


def _turns(angles: Sequence[float]) -> Report:
    return make_sweep(None, angles)


@settings(max_examples=60)
@given(st.sets(st.integers(-720, 720), min_size=1, max_size=40))
def test_cells_hold_their_angles_and_never_overlap(halves: set[int]) -> None:
    """Every angle lies in a cell with its own value; edges increase; ticks lie on the axis."""
    (angles,) = angle_rows(_turns([half / 2 for half in halves]))
    values, edges = angles.cells(np.arange(len(angles.names), dtype=np.float64))
    assert (np.diff(edges) > 0).all()
    found = values[np.searchsorted(edges, angles.degrees, side="right") - 1]
    assert found.tolist() == list(range(len(angles.names)))
    assert all(edges[0] <= tick <= edges[-1] for tick in angles.ticks())
    assert 1 <= len(angles.ticks()) <= 10
