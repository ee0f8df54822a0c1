"""How channels turn, as a person sees it: table, sentences, gate, pictures. Small audits of real networks."""

from collections.abc import Callable
from functools import cache
from itertools import combinations
from pathlib import Path
from subprocess import CompletedProcess

import group_networks as networks
import msgspec
import numpy as np
import pytest
from drawn import is_framed_in_white, read_pixels
from reports import make_error, make_layer, make_report
from torch import nn

import eqaudit
from eqaudit.gate import Limits, judge
from eqaudit.groups import Group
from eqaudit.holding import broken_from, describe_ranges, layer_ranges
from eqaudit.plan import AUTO_GROUPS
from eqaudit.report import (
    ActionPicture,
    Class,
    FieldCount,
    GroupElement,
    GroupRecord,
    LayerRange,
    Output,
    Report,
    Representation,
    from_json,
    to_json,
)
from eqaudit.reporters.channel_pictures import draw_channels, field_edges, recorded_actions
from eqaudit.reporters.console import Style
from eqaudit.reporters.pictures import check_figures, draw
from eqaudit.reporters.terminal import render_report

C4 = ("r90", "r180", "r270")
D4 = (*C4, "m", "m-r90", "m-r180", "m-r270")
REGULAR = Representation(
    "permutation",
    4,
    0.0,
    "C4",
    "2 x regular C4, last, roll +1",
    [FieldCount("regular C4", 4, 2)],
    "last",
    images=16,
)


MODEL = Path(__file__).parents[1] / "fixtures/models/exact_c4.pt"


@pytest.fixture
def run(request: pytest.FixtureRequest) -> Callable[..., CompletedProcess[bytes]]:
    """Return what runs the command: its fixture has the name of the package."""
    started: Callable[..., CompletedProcess[bytes]] = request.getfixturevalue("eqaudit")
    return started


@cache
def audited(name: str, group: str) -> Report:
    """Return the judged report of a network on 8 images of 15x15 pixels."""
    made: dict[str, Callable[[], nn.Module]] = {
        "axis": networks.axis_network,
        "broken": lambda: networks.broken_network(3),
        "plain": networks.plain_network,
        "irreps": networks.irrep_network,
    }
    return eqaudit.audit(made[name](), networks.images(8, 15), group=group)


def table_of(report: Report, width: int = 80) -> list[str]:
    """Return the lines of the table of layers."""
    text = render_report(report, Style(width))
    return text.split("\n\n")[1].splitlines()


def layer_of(
    name: str, held: str = "", found: Representation | None = None, elements: tuple[str, ...] = C4
) -> Output:
    """Return a layer that holds at some elements, written with spaces between, and is broken elsewhere."""
    errors = [
        make_error(element, *(("exact", 1e-7) if element in held.split() else ("broken", 0.5)))
        for element in elements
    ]
    layer = make_layer(name, errors=errors)
    return layer if found is None else msgspec.structs.replace(layer, representation=found)


def report_of(*layers: Output, output: str = "", group: str = "C4") -> Report:
    """Return a report, judged, whose output holds at some elements."""
    elements = C4 if group == "C4" else D4
    last = msgspec.structs.replace(layer_of("output", output, elements=elements), gating=True)
    return judge(make_report(layers=list(layers), outputs=[last], group=group), Limits())


def test_the_table_of_a_group_network_says_how_each_layer_turns_and_what_holds() -> None:
    """Words, the error under the action, that of plain maps, and C4, for every layer."""
    report = audited("axis", "D4")
    heading, *rows = table_of(report)[1:]
    assert heading.split()[-3:] == ["plain", "maps", "holds"]
    lift = next(row for row in rows if row.startswith("lift"))
    assert "6 x regular C4, last" in lift
    assert lift.endswith(" C4")
    error, plain = (float(cell) for cell in lift.split()[-3:-1])
    assert error < 1e-6
    assert plain > 0.1
    assert any(row.startswith("output") and "unchanged" in row for row in rows)
    assert rows[-1].startswith("worst: ")


def test_a_network_of_plain_maps_keeps_the_table_of_classes() -> None:
    """Nothing turns: error, interval, share of chance and class, and no line on channels."""
    report = audited("plain", "D4")
    assert table_of(report)[0].split()[-1] == "class"
    assert "channels turn" not in render_report(report, Style(80))


@pytest.mark.parametrize("width", [40, 80, 100, 200])
def test_the_table_of_channels_keeps_its_width(width: int) -> None:
    """Types give way, then words, then names; errors and groups never."""
    long = "2 x trivial + 1 x regular C4 + 2 x quotient C4/C2, last"
    found = msgspec.structs.replace(REGULAR, words=long, fields=[])
    layers = [
        layer_of(f"encoder.stages.{number}.attention.output", "r90 r180 r270", found) for number in (1, 2)
    ]
    lines = table_of(report_of(*layers, output="r90 r180 r270"), width)
    assert max(map(len, lines)) <= max(width, 80)
    assert sum(line.endswith(" C4") for line in lines) == 3
    assert sum("1.0e-7     1.0e-7" in line for line in lines) == 3


def test_words_that_do_not_fit_are_said_once() -> None:
    """A row that would repeat several lines of words has a ditto mark."""
    long = "2 x trivial + 1 x regular D4 + 2 x quotient D4/D1 + 1 x quotient D4/C2 + 3 dead"
    found = msgspec.structs.replace(REGULAR, words=long, fields=[])
    layers = [layer_of(name, "r90 r180 r270", found) for name in ("one", "two", "three")]
    text = "\n".join(table_of(report_of(*layers, output="r90 r180 r270")))
    assert text.count("3 dead") == 1
    assert text.count(' "  ') == 2


def test_a_vacuous_action_is_shown_as_such_and_an_unused_one_makes_no_table() -> None:
    """Vacuous and undetermined actions are words in a cell, nothing else."""
    vacuous = Representation("vacuous", 1, words="orthogonal")
    unknown = Representation("undetermined", 1, words="undetermined")
    with_one = report_of(layer_of("a", "", vacuous), layer_of("b", "r90 r180 r270", REGULAR))
    assert "vacuous (orthogonal)" in "\n".join(table_of(with_one))
    without = report_of(layer_of("a", "", vacuous), layer_of("b", "", unknown))
    assert table_of(without)[0].endswith("class")


def test_the_layout_of_tokens_and_of_channels_last_is_said() -> None:
    """Letters beside the shape, and below the table which grid the tokens are."""
    tokens = msgspec.structs.replace(
        layer_of("patches", "r90 r180 r270"), shape=[17, 8], layout="BND: 4x4 tokens, 1 extra left out"
    )
    last = msgspec.structs.replace(layer_of("to_last", "r90 r180 r270"), shape=[8, 8, 3], layout="BHWC")
    lines = table_of(report_of(tokens, last, layer_of("plain"), output="r90 r180 r270"))
    assert any("17x8 BND " in line for line in lines)
    assert any("8x8x3 BHWC " in line for line in lines)
    assert any("8x32x32  " in line or "8x32x32 r" in line for line in lines)
    assert "BND: 4x4 tokens, 1 extra left out" in lines


def test_layers_are_ranges_of_one_group_and_one_way() -> None:
    """In order of execution, the output last; skipped and degenerate layers neither break nor end a range."""
    dead = make_layer("dead", errors=[make_error(element, "degenerate", 0.0, None) for element in C4])
    held = "r90 r180 r270"
    layers = [
        layer_of("lift", held, REGULAR),
        make_layer("rnn", skipped="returns None"),
        dead,
        layer_of("relu", held, REGULAR),
        layer_of("head", held),
    ]
    report = report_of(*layers, output=held)
    assert report.verdict is not None
    assert report.verdict.by_layer == [
        LayerRange("lift", "relu", "C4", "a regular representation"),
        LayerRange("head", "output", "C4", "plain maps"),
    ]
    assert report.verdict.broken_from is None


@pytest.mark.parametrize(
    ("kind", "fields", "by"),
    [
        ("permutation", ["regular C4"], "a regular representation"),
        ("permutation", ["regular C4", "dead"], "a regular representation"),
        ("permutation", ["quotient C4/C2"], "a quotient representation"),
        ("permutation", ["trivial", "regular C4"], "mixed fields"),
        ("permutation", ["irregular of 3"], "a permutation"),
        ("orthogonal", ["frequency 0", "frequency 1"], "irreps"),
        ("orthogonal", [], "an orthogonal action"),
        ("vacuous", [], "plain maps"),
        ("undetermined", [], "plain maps"),
        ("trivial", ["trivial"], "plain maps"),
    ],
)
def test_a_range_says_how_channels_turn_in_it(kind: str, fields: list[str], by: str) -> None:
    """From the kind of the action and its fields."""
    content = {"kind": kind, "order": 4, "group": "C4"}
    found = msgspec.convert(content, Representation)
    found = msgspec.structs.replace(found, fields=[FieldCount(name, 1, 1) for name in fields])
    assert layer_ranges(report_of(layer_of("a", "r90 r180 r270", found)))[0].by == by


def test_vectors_that_stay_are_invariant() -> None:
    """No map is left where there is no space."""
    vector = msgspec.structs.replace(layer_of("fc", "r90 r180 r270"), layout="BC")
    assert layer_ranges(report_of(vector))[0] == LayerRange("fc", "fc", "C4", "invariance")


def test_without_a_turn_there_are_no_ranges() -> None:
    """C1 holds everywhere, which says nothing."""
    report = judge(make_report(group="C1", outputs=[make_layer("output", gating=True)]), Limits())
    assert layer_ranges(report) == []


@pytest.mark.parametrize("group", ["C4", "D4"])
def test_a_spoiled_block_is_where_the_group_network_is_broken_from(group: str) -> None:
    """The first two blocks hold C4, the output nothing: the sentence says both, whichever group is asked."""
    verdict = audited("broken", group).verdict
    assert verdict is not None
    assert verdict.broken_from == "block3.conv"
    first = verdict.by_layer[0]
    assert (first.first, first.last, first.group) == ("block1.conv", "block2", "C4")
    assert "holds; block1.conv to block2: C4 by a regular representation, broken from block3.conv on" in (
        verdict.sentence
    )


def test_what_an_intact_network_never_held_is_not_broken_from_anywhere() -> None:
    """C4 holds to the end; that D4 does not is said of the first layer, with the elements."""
    report = audited("axis", "D4")
    assert report.verdict is not None
    assert report.verdict.holds == "C4"
    assert report.verdict.broken_from is None
    assert "First layer that breaks: lift (mirrors)." in render_report(report, Style(80))


@pytest.mark.parametrize(
    ("held", "output", "expected"),
    [
        (["r90 r180 r270", "r90 r180 r270"], "r90 r180 r270", None),
        (["r90 r180 r270", ""], "r90 r180 r270", None),
        (["r90 r180 r270", "r180"], "r180", "layer1"),
        (["r90 r180 r270", ""], "", "layer1"),
        (["", ""], "", "layer0"),
        (["", "r180"], "", "output"),
    ],
)
def test_broken_from_is_the_first_layer_after_which_a_group_never_holds_again(
    held: list[str], output: str, expected: str | None
) -> None:
    """A layer whose action was not found, before one that holds, breaks nothing."""
    layers = [layer_of(f"layer{number}", elements) for number, elements in enumerate(held)]
    assert broken_from(report_of(*layers, output=output)) == expected


def test_many_ranges_are_cut_short_in_words_and_whole_in_the_report() -> None:
    """A sentence has room for four."""
    ranges = [LayerRange(f"a{number}", f"b{number}", "C4", f"way {number}") for number in range(9)]
    said = describe_ranges(ranges)
    assert said.count(": C4 by") == 3
    assert said.endswith("and so on in 6 more ranges")
    assert describe_ranges([]) == ""


def test_an_output_whose_channels_turn_says_so() -> None:
    """In the sentence, and in a note on what to do when they are class scores."""
    output = msgspec.structs.replace(
        layer_of("output", "r90 r180 r270", REGULAR), gating=True, representation=REGULAR
    )
    report = judge(make_report(outputs=[output]), Limits())
    assert report.verdict is not None
    assert report.verdict.sentence == "C4 exactly (1.0e-7), its channels turning (2 x regular C4)."
    assert "say --task classification" in " ".join(render_report(report, Style(80)).split())


def auto_report(held: dict[str, Class]) -> Report:
    """Return the judged report of an automatic group: elements that are not named are broken."""
    groups = [Group.named(name) for name in AUTO_GROUPS]
    elements = sorted({g for group in groups for g in group.moving}, key=lambda g: (g.mirrored, g.turn))
    errors = [
        make_error(str(g), held.get(str(g), "broken"), 1e-7 if str(g) in held else 0.3) for g in elements
    ]
    poses = [GroupElement(str(g), g.degrees, g.mirrored, g.exact) for g in elements]
    report = make_report(outputs=[make_layer("output", errors=errors, gating=True)])
    return judge(
        msgspec.structs.replace(report, group=GroupRecord("auto", poses), predictions=None), Limits()
    )


@pytest.mark.parametrize(
    ("group", "holds", "sentence"),
    [
        ("", "C1", "Not equivariant: none of D1, C2, C4, D4, C8, D8, C16 holds; at "),
        ("C2", "C2", "the largest that holds is C2 exactly (1.0e-7); next, C4 fails (0.300 at r"),
        ("D4", "D4", "the largest that holds is D4 exactly (1.0e-7); next, C8 fails (0.300 at r"),
        (
            "C16",
            "C16",
            "the largest that holds is C16 at the floor (1.0e-7), C4 exactly (1.0e-7) among it; D1 ",
        ),
        ("C16 D8", "C16 and D8", "the largest that hold are C16 and D8 at the floor"),
    ],
)
def test_auto_names_the_largest_group_that_holds_and_how_the_next_fails(
    group: str, holds: str, sentence: str
) -> None:
    """Of those that were tried; the gate passes when any does."""
    moving = {g for name in group.split() for g in Group.named(name).moving}
    report = auto_report({str(g): "exact" if g.exact else "at the floor" for g in moving})
    assert report.verdict is not None
    assert report.gate is not None
    assert report.verdict.holds == holds
    assert sentence in report.verdict.sentence
    assert report.gate.passed == bool(group)
    assert max(map(len, render_report(report, Style(80)).splitlines())) <= 80


def test_auto_finds_c4_of_a_real_group_network() -> None:
    """Measured, judged and shown; `--group auto` needs no group."""
    report = audited("axis", "auto")
    assert report.verdict is not None
    assert report.gate is not None
    assert report.verdict.holds in {"C4", "C8", "C16"}
    assert report.gate.passed
    assert "the largest of D1, C2" in render_report(report, Style(80))


def test_old_reports_load_and_are_shown() -> None:
    """Reports from before channels turned have none of the new keys."""
    content = msgspec.json.decode(to_json(report_of(layer_of("a", "r90"), output="r90 r180 r270")))
    for layer in [*content["layers"], *content["outputs"]]:
        layer["representation"] = {"kind": "trivial", "order": 1, "relation_error": None}
    for key in ("by_layer", "broken_from"):
        del content["verdict"][key]
    old = from_json(msgspec.json.encode(content))
    assert "C4 exactly" in render_report(old, Style(80))
    assert set(draw(old)) == {"heatmap.png", "layers.png"}


def matrices(channels: int, count: int = 1) -> list[ActionPicture]:
    """Return a cyclic permutation of fours for each of some layers."""
    places = np.arange(channels)
    source = np.minimum(places // 4 * 4 + (places + 1) % 4, channels - 1)
    values = np.eye(channels, dtype=np.float32)[source]
    return [
        ActionPicture(f"layer{number}", "regular C4, last", "r90", channels, values.tobytes())
        for number in range(count)
    ]


@pytest.mark.parametrize("layers", [1, 3, 12, 40])
def test_the_picture_of_channels_has_a_row_for_each_of_twelve_layers(layers: int) -> None:
    """More are counted in the title; nothing is cut."""
    report = make_report()
    figure = draw_channels(report, matrices(8, layers))
    shown = [text.get_text().partition(":")[0] for text in figure.texts if "layer" in text.get_text()]
    shown = [name for name in shown if name.startswith("layer")]
    assert shown == [f"layer{number}" for number in range(min(layers, 12))]
    assert ("of 40 layers" in figure.get_suptitle()) == (layers > 12)
    assert is_framed_in_white(read_pixels(draw(report, None, matrices(8, layers))["channels.png"]))


@pytest.mark.parametrize("layers", [1, 12])
def test_titles_and_matrices_do_not_overlap(layers: int) -> None:
    """However tall the picture is: title, bar, names and matrices each have their place."""
    figure = draw_channels(make_report(), matrices(8, layers) + matrices(300))
    figure.canvas.draw()
    boxes = [text.get_window_extent() for text in figure.texts]
    boxes += [axes.get_window_extent() for axes in figure.axes]
    assert not any(one.shrunk(0.98, 0.98).overlaps(two) for one, two in combinations(boxes, 2))


@pytest.mark.parametrize("channels", [1, 8, 100, 256, 300])
def test_every_channel_has_the_same_number_of_pixels(channels: int) -> None:
    """Read back from the picture, each entry of the matrix is where it should be."""
    pixels = read_pixels(draw(make_report(), None, matrices(channels))["channels.png"])
    (axes, _) = (figure := draw_channels(make_report(), matrices(channels))).axes
    width, height = figure.get_size_inches() * figure.dpi
    box = axes.get_position()
    left, top, side = round(box.x0 * width), round((1 - box.y1) * height), round(box.width * width)
    cell = side // channels
    assert cell * channels == side
    middles = np.arange(channels) * cell + cell // 2
    seen = pixels[top + middles][:, left + middles]
    dark = seen.astype(int).sum(axis=-1) < 300
    expected = np.frombuffer(matrices(channels)[0].values, np.float32).reshape(channels, channels) == 1
    inner = slice(1, -1) if channels > 8 else slice(None)
    assert (dark[inner, inner] == expected[inner, inner]).all()


def test_wide_layers_are_drawn_by_blocks() -> None:
    """Of 1,000 channels none is lost, and the row says how many share a pixel."""
    figure = draw_channels(make_report(), matrices(1000))
    assert any("(1000 channels, each pixel 2x2 of them)" in text.get_text() for text in figure.texts)


def test_lines_stand_where_one_field_ends() -> None:
    """Between blocks of the matrices, not inside, and not among channels that stay."""
    turn = np.zeros((9, 9), dtype=np.float32)
    turn[[0, 1, 2, 3, 4, 5, 6, 7, 8], [0, 1, 2, 4, 5, 6, 3, 8, 7]] = 1
    assert field_edges([turn]) == [3, 7]
    assert field_edges([turn, turn[:, ::-1]]) == []


def test_a_saved_report_draws_its_permutations() -> None:
    """Without the model and the images; the matrices do what the sources say."""
    report = audited("axis", "C4")
    actions = recorded_actions(from_json(to_json(report)))
    assert {action.layer for action in actions} == {"lift", "relu1", "conv2", "relu2", "conv3", "relu3"}
    assert {action.element for action in actions} == {"r90"}
    found = report.layers[0].representation
    assert found is not None
    matrix = np.frombuffer(actions[0].values, np.float32).reshape(24, 24)
    values = np.arange(24.0)
    assert (matrix @ values == values[found.actions[0].source]).all()
    assert "channels.png" in draw(report)


def test_an_audit_hands_over_the_matrices_of_irreps() -> None:
    """A report lists permutations only: orthogonal matrices are drawn by the audit, or not at all."""
    report = audited("irreps", "C4")
    assert {layer.representation.kind for layer in report.layers[:2] if layer.representation} == {
        "orthogonal"
    }
    assert recorded_actions(report) == []
    assert "channels.png" not in draw(report)


def test_pictures_of_errors_say_that_they_are_under_an_action() -> None:
    """Titles name how many rows turn; those of plain maps do not."""
    for name in ("heatmap.png", "layers.png"):
        turning = check_figures(audited("axis", "C4"))[name].get_suptitle()
        assert "channels of 6 of 9 rows turn: errors are under their action" in turning
        assert "turn:" not in check_figures(audited("plain", "D4"))[name].get_suptitle()


def test_an_action_that_is_found_is_not_called_not_plain() -> None:
    """A layer that fails under its own action fails; one that has none may turn in an unknown way."""
    held = "r90 r180 r270"
    known, unknown = layer_of("known", "r180", REGULAR), layer_of("unknown", "r180")
    lines = table_of(report_of(unknown, output=held))
    assert any(line.startswith("unknown") and line.endswith("not plain") for line in lines)
    lines = table_of(report_of(known, output=held))
    assert lines[-1] == "worst: known at r90, 0.500, 100 % of chance: broken"


def test_layouts_are_options_of_both_commands(
    tmp_path: Path, run: Callable[..., CompletedProcess[bytes]]
) -> None:
    """Letters that are none are refused with what they mean."""
    for command in ("check", "sweep-angles"):
        ended = run(command, str(MODEL), "--layout", "a=BCWH", cwd=tmp_path)
        assert ended.returncode == 2
        assert b"H and W side by side" in ended.stderr
