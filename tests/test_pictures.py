import pytest
from drawn import is_framed_in_white, read_pixels
from reports import make_error, make_layer, make_report

from eqaudit.gate import Limits, judge
from eqaudit.groups import Group
from eqaudit.report import Class, Report
from eqaudit.reporters.console import Style
from eqaudit.reporters.pictures import check_figures, draw, draw_check
from eqaudit.reporters.terminal import render_report

ELEMENTS = ("r90", "r180", "r270")
CLASSES: tuple[Class, ...] = ("exact", "approximate", "broken", "degenerate", "unresolved", "at the floor")


def report_of(layers: int, name: str = "stage1.block{}.conv") -> Report:
    """Return a judged report with layers of every class."""
    made = []
    for number in range(layers):
        kind = CLASSES[number % len(CLASSES)]
        size = None if kind == "unresolved" else 10.0 ** -(number % 8)
        made.append(
            make_layer(name.format(number), errors=[make_error(element, kind, size) for element in ELEMENTS])
        )
    return judge(make_report(layers=[*made, make_layer("rnn", skipped="returns None, no tensor")]), Limits())


@pytest.mark.parametrize("layers", [1, 8, 60])
def test_pictures_grow_with_the_layers_and_are_not_cut(layers: int) -> None:
    """White margins all around: no name, title or colour bar touches the edge."""
    pictures = draw_check(report_of(layers))
    assert set(pictures) == {"heatmap.png", "layers.png"}
    for content in pictures.values():
        pixels = read_pixels(content)
        assert pixels.shape[0] > 300 + 30 * layers
        assert is_framed_in_white(pixels)


def test_the_same_report_draws_the_same_bytes() -> None:
    """Nothing of the day or of the machine is in a picture."""
    assert draw_check(report_of(8)) == draw_check(report_of(8))


def test_a_name_with_dollar_signs_is_no_mathematics() -> None:
    r"""Unmatched `$` and `\frac{` are drawn as they are."""
    assert len(draw_check(report_of(3, name="a$_{}^\\frac{{"))) == 2


@pytest.mark.parametrize(("group", "numbers"), [("C4", True), ("D8", True), ("D16", False), ("C72", False)])
def test_the_heatmap_of_a_large_group_has_no_numbers_and_a_bounded_width(group: str, numbers: bool) -> None:
    """Cells that are too narrow for a number have none; every name has room, and nothing is cut."""
    figures = check_figures(make_report(group=group, consistency=None))
    axes = figures["heatmap.png"].axes[0]
    assert bool([text for text in axes.texts if text.get_text()]) == numbers
    assert len(axes.get_xticklabels()) <= 24
    assert figures["heatmap.png"].get_figwidth() < 14
    assert is_framed_in_white(read_pixels(draw(make_report(group=group))["heatmap.png"]))


@pytest.mark.parametrize("group", ["C4", "C36"])
def test_the_heatmap_says_why_a_row_is_empty(group: str) -> None:
    """Skipped layers and degenerate ones are white, and say so at any number of columns."""
    elements = [str(element) for element in Group.named(group).moving]
    errors = [make_error(element, "degenerate", 0.0, None) for element in elements]
    layers = [make_layer("dead", errors=errors), make_layer("rnn", skipped="returns None")]
    axes = check_figures(make_report(group=group, layers=layers))["heatmap.png"].axes[0]
    words = [text.get_text() for text in axes.texts]
    assert "degenerate" in words
    assert "skipped: returns None" in words


def test_a_name_in_a_script_that_the_font_lacks_is_drawn_without_a_warning() -> None:
    """Boxes stand for what cannot be drawn."""
    assert len(draw_check(report_of(2, name="\U0001f40d{}\u732b"))) == 2


def test_the_heatmap_shows_different_errors_in_different_colours() -> None:
    """Two reports that differ in one error differ in the picture."""
    one = make_report(layers=[make_layer("a", errors=[make_error(element) for element in ELEMENTS])])
    other = make_report(
        layers=[make_layer("a", errors=[make_error(element, "broken", 0.5) for element in ELEMENTS])]
    )
    first, second = (read_pixels(draw_check(report)["heatmap.png"]) for report in (one, other))
    assert first.shape == second.shape
    assert (first != second).any(axis=-1).mean() > 0.05


@pytest.mark.parametrize("width", [20, 80, 81, 90, 120, 300])
def test_the_table_keeps_its_width_and_every_class_whole(width: int) -> None:
    """Readable at 80 columns; a narrower terminal gets 80."""
    text = render_report(report_of(12, name="encoder.stages.{}.blocks.attention.projection"), Style(width))
    assert max(len(line) for line in text.splitlines()) <= max(width, 80)
    rows = text.split("\nlayer", 1)[1].split("\n\n", 1)[0]
    assert rows.count("exact") == 3
    assert rows.count("not plain") == 4
    assert rows.count("degenerate") == 2
    assert "skipped  rnn: returns None, no tensor" in text


def test_names_are_whole_though_folded() -> None:
    """A long name goes on in the next line: nothing of it is lost."""
    name = "encoder.stages.3.blocks.attention.projection"
    text = render_report(
        judge(make_report(layers=[make_layer(name, errors=[make_error("r90")])]), Limits()), Style(80)
    )
    rows = text.split("class\n", 1)[1].split("output", 1)[0]
    assert "".join(line.split(" ")[0] for line in rows.splitlines()) == name


def test_without_unicode_the_table_is_ascii() -> None:
    """The same lines in characters that the stream can take."""
    text = render_report(report_of(8), Style(80, encoding="ascii"))
    assert text.isascii()
    assert "error +-95%" in text
    assert "####" in text


def test_colour_only_where_it_is_asked_for() -> None:
    """A pipe gets no escapes."""
    assert "\x1b" not in render_report(report_of(8), Style(80))
    assert "\x1b[" in render_report(report_of(8), Style(80, colour=True))
