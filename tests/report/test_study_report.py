"""The report of a study: every number in it, whatever state the study is in, and nothing that it must not say."""

import csv
import html
import io
import itertools
import json
import random
import re
import shlex
import subprocess
import sys
import xml.etree.ElementTree as ET
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from layer_records import layers
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from report_runs import DEPTHS, ERRORS, depths, finished, leave, planned, read
from scipy import stats

from residuum.analysis.over_images import ImagePairs
from residuum.analysis.results import results
from residuum.errors import InputError, StorageError
from residuum.records import layers as recorded
from residuum.records import storage
from residuum.report import answer, commands, study_page, style, tables
from residuum.report.figures import arm_history, batch_size, differences, frame, scatter, study_curves
from residuum.report.figures.grouping import groups
from residuum.report.study_page import Picture, Tabular, sections, write
from residuum.studies import parsing
from residuum.studies import plan as plans
from residuum.studies.plan import Look
from residuum.studies.study import Study

NASTY = ('<b>a</b> & "b" | c_d $x$ 100% #1 ~ ^ \\e {f} `g` *h*', "=1+2", "_under", "x" * 90)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    return root, finished(planned(depths()), root, ERRORS)


@pytest.fixture
def page(tmp_path, monkeypatch):
    """Writes a report and gives the texts of its files. Figures are made but not rendered: that takes seconds."""

    def sketch(name, caption, figure, narrow=None):
        return Picture(name, caption, b"png", f"<svg><text>{html.escape(figure.get_suptitle())}</text></svg>".encode())

    def made(results, root=None, folder=None):
        monkeypatch.setattr(study_page, "picture", sketch)
        index = write(results, folder or tmp_path / "report", runs=root or tmp_path)
        return {path.name: path.read_text() for path in index.parent.iterdir() if path.is_file()}

    return made


@pytest.fixture
def undrawn(monkeypatch):
    """What tests of words alone need of figures: that they are there."""
    monkeypatch.setattr(style, "png", lambda figure: b"\x89PNG")
    monkeypatch.setattr(style, "svg", lambda figure: b'<svg viewBox="0 0 1 1"></svg>')


@pytest.fixture(scope="module")
def printed(whole, tmp_path_factory):
    """A report with all that belongs to it: its sections, its folder and the text of its page."""
    root, found = whole
    folder = tmp_path_factory.mktemp("printed") / "report"
    write(found, folder, runs=root)
    return folder, {path.name: path.read_text() for path in folder.iterdir() if path.is_file()}


class Page(HTMLParser):
    """What a page says: words, ids, links, and whether its elements are nested as they should be."""

    VOID = ("meta", "link", "br", "img", "hr")

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.open, self.words, self.cells = [], [], [], [], []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.ids += [values["id"]] if "id" in values else []
        self.links += [value for key, value in attributes if key in ("href", "src", "xlink:href")]
        if tag not in self.VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"style", "svg"} & set(self.open):
            self.words.append(data)
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())


def cells(table, arm, *columns):
    """The cells of an arm's first row."""
    row = next(row for row in table.rows if arm in row)
    return [row[table.columns.index(column)] for column in columns]


# Figures


def states(tmp_path):
    """Results from empty to full."""
    whole = planned(depths())
    yield "empty", read(whole, tmp_path / "empty")
    one = planned(depths(seeds=1, axes={"model": ["resnet20"]}, compare={}, claims=[], published=[]), epochs=1)
    leave(tmp_path / "single", one.runs[0], 8.0)
    yield "single", read(one, tmp_path / "single")
    yield "normal", finished(whole, tmp_path / "normal", ERRORS)
    for run in whole.runs:
        leave(tmp_path / "diverged", run, 50.0, status="diverged", upto=run.seed)
    yield "diverged", read(whole, tmp_path / "diverged")
    names = [f"{NASTY[at % 4]}{at}"[-80:] for at in range(20)]
    many = planned(depths(axes={}, arms=[{"name": name} for name in names], seeds=2, claims=[], published=[],
                          compare={"baseline": names[0]}))  # fmt: skip
    folders = {run.folder for run in many.runs}
    assert len(folders) == 2  # arms that ask for the same run share it
    for run in many.runs[:2]:
        leave(tmp_path / "many", run, 8.0)
    yield "many", read(many, tmp_path / "many")


FIGURES = {
    "curves": lambda found: study_curves.draw(study_curves.data(found, study_curves.of_arms(found), "a mark")),
    "differences": lambda found: differences.draw(differences.data(found, "a mark")),
    "scatter": lambda found: scatter.draw(scatter.data(found, "a mark")),
    "batch_size": lambda found: batch_size.draw(batch_size.data(found, "a mark")),
    "history": lambda found: arm_history.draw(arm_history.data(found, study_curves.of_arms(found), "a mark")),
}


def test_commands_within_sentences_are_set_as_code_and_nothing_else_is_markup():
    coded = study_page._coded
    assert coded("`a --b` does <x>, `c`.") == "<code>a --b</code> does &lt;x&gt;, <code>c</code>."
    assert coded("one ` <b>") == "one ` &lt;b&gt;"
    assert "<script>" not in coded("`<script>`") + coded("<script>")
    assert "\u202e" not in coded("`x\u202ey`")


def test_every_figure_draws_from_every_state(tmp_path):
    for name, found in states(tmp_path):
        for kind, draw in FIGURES.items():
            figure = draw(found)
            text = style.svg(figure)
            assert ET.fromstring(text).tag.endswith("svg"), (name, kind)
            assert b"a mark" in text, (name, kind)
            if name in ("empty", "normal"):
                assert style.png(figure).startswith(b"\x89PNG")


def test_no_two_of_twenty_arms_look_alike():
    looks = style.arms(20)
    assert len({(look.colour, look.marker) for look in looks}) == 20
    assert len({(look.colour, str(look.dash)) for look in looks}) == 20
    assert style.arms(3) == looks[:3]  # an arm keeps its look whatever comes after it


def test_names_are_shown_letter_by_letter(tmp_path):
    study = depths(axes={}, arms=[{"name": name, "set": {"optim.lr": 0.1 + at}} for at, name in enumerate(NASTY[:3])],
                   compare={"baseline": NASTY[0]}, claims=[], published=[])  # fmt: skip
    found = finished(planned(study), tmp_path, dict.fromkeys(NASTY[:3], 8.0))
    for name, draw in FIGURES.items():
        if name == "batch_size":  # it has lines where batches differ, and these do not
            continue
        text = " ".join(ET.fromstring(style.svg(draw(found))).itertext())
        assert "=1+2" in text
        assert "under" in text
    assert style.short(NASTY[0], 48) in " ".join(ET.fromstring(style.svg(FIGURES["curves"](found))).itertext())


def test_an_arm_that_learned_nothing_is_within_the_frame_and_the_others_keep_most_of_it(whole):
    _, found = whole
    curves = study_curves.data(found, study_curves.of_arms(found))
    loss, error = curves.rows[0]
    assert [panel.label for panel in (loss, error)] == ["training loss (nats)", "test error (%), observed"]
    (failing,) = (band for band in error.bands if band.arm == "plain110")
    assert 91 < max(failing.mean) < 93 < error.extent.high <= 100
    assert error.extent.low == 0
    assert error.extent.window is None  # from 45 % after the first epoch to 90 is no distance

    def flat(arm, error):
        return (replace(failing, arm=arm, mean=(error,) * 12, low=(error,) * 12, high=(error + 1,) * 12),)

    late = {arm: flat(arm, 60.0 if arm == "plain110" else 8.0) for arm in DEPTHS}
    (near,) = study_curves.data(found, late).rows[0]
    assert near.extent.window == pytest.approx((7.56, 8.44))  # they are all at 8: 0 would take the frame
    assert 60 < near.extent.high < 82
    assert all(axes.get_xlim() == (0, 12.5) for axes in study_curves.draw(curves).axes)
    assert list(curves.drops) == pytest.approx([12 * 81 / 164, 12 * 122 / 164])  # as the schedule has them
    assert set(curves.drops.values()) == {DEPTHS}


def lost_at_once(tmp_path, lost=("plain110",)):
    """A study in which some arms diverged before an epoch ended."""
    plan = planned(depths())
    for run in plan.runs:
        leave(tmp_path, run, ERRORS[run.arm], status="diverged" if run.arm in lost else "finished")
        if run.arm in lost:
            (tmp_path / run.folder / "metrics.jsonl").unlink()
    return read(plan, tmp_path)


def test_an_arm_that_diverged_at_once_is_in_the_legend_with_a_cross_at_the_top(tmp_path):
    found = lost_at_once(tmp_path, ("plain56", "plain110"))
    curves = study_curves.of_arms(found)
    data = study_curves.data(found, curves)
    assert [panel.at_once for panel in data.rows[0]] == [("plain56", "plain110")] * 2
    figure = study_curves.draw(data)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[-3:-1] == ["plain56\n(diverged at once)", "plain110\n(diverged at once)"]
    colours = {arm: look.colour for arm, look in zip(DEPTHS, style.arms(6), strict=True)}
    figure.draw_without_rendering()
    for axes in figure.axes:
        crosses = [line for line in axes.lines if line.get_marker() == "x"]
        assert [line.get_color() for line in crosses] == [colours["plain56"], colours["plain110"]]
        frame_box, boxes = axes.get_window_extent(), [line.get_window_extent() for line in crosses]
        assert all(box.x0 >= frame_box.x0 - 1 and box.y1 <= frame_box.y1 + 1 for box in boxes)
        assert frame_box.y1 - boxes[0].y1 < 5
        assert not boxes[0].overlaps(boxes[1])
        assert boxes[0].x1 < axes.transData.transform((1, 0))[0]  # before the first epoch
    histories = arm_history.data(found, curves)
    assert [(one.arm, bool(one.loss)) for one in histories.arms] == [
        (arm, arm not in ("plain56", "plain110")) for arm in DEPTHS
    ]
    texts = [text.get_text() for text in arm_history.draw(histories).axes[0].texts]
    assert texts.count("diverged at once") == 2
    assert texts.count("epoch") == 6


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("number", [4, 12])
def test_of_an_arm_that_diverged_the_legend_says_so_whole(tmp_path, number, narrow):
    names = [f"{'a very long name of an arm ' * (at % 3)}{at}" for at in range(number)]
    arms = [{"name": name, "set": {"optim.lr": 0.01 * at + 0.01}} for at, name in enumerate(names)]
    plan = planned(depths(axes={}, arms=arms, compare={"baseline": "0"}, claims=[], published=[]))
    for run in plan.runs:
        gone = run.arm in names[-2:]
        leave(tmp_path, run, 9.0, status="diverged" if gone else "finished")
        if gone:
            (tmp_path / run.folder / "metrics.jsonl").unlink()
    found = read(plan, tmp_path)
    curves = study_curves.draw(study_curves.data(found, study_curves.of_arms(found)), narrow=narrow)
    legends = [*curves.legends, *(one for axes in curves.axes if (one := axes.get_legend()))]
    told = [text.get_text() for legend in legends for text in legend.get_texts() if "diverged" in text.get_text()]
    assert len(told) == 2
    assert all(text.endswith("\n(diverged at once)") for text in told)
    cost = scatter.draw(scatter.data(found), narrow=narrow)
    words = [text.get_text() for text in cost.findobj(Text)]
    assert len([word for word in words if word.endswith("(diverged)")]) == 2


def test_an_arm_that_diverged_has_a_cross_where_it_has_no_number(tmp_path):
    """Differences: at the edge, on the side of the worse; of its baseline on the other. Cost: at the lower edge."""
    plan = planned(depths())
    for run in plan.runs:
        gone = run.arm == "plain110" or (run.arm == "plain56" and run.seed == 0)
        seconds = 60 + 5 * ERRORS[run.arm]
        status = "diverged" if gone else "finished"
        leave(tmp_path, run, ERRORS[run.arm], status=status, upto=2 if gone else 0, seconds=seconds)
    found = read(plan, tmp_path)
    for measured, side in (("test_error", 1), ("test_accuracy", -1)):
        compare = plan.study.compare.model_copy(update={"measure": measured})
        results_ = read(replace(plan, study=plan.study.model_copy(update={"compare": compare})), tmp_path)
        data = differences.data(results_)
        rows = {(row.arm, row.baseline): row for row in data.rows}
        assert {(one.arm, one.baseline) for one in results_.comparisons} == {*rows}
        gone, other = rows["plain110", "resnet20"], rows["resnet110", "plain110"]
        assert (gone.mean, gone.lost) == (None, "3 of 3 diverged")
        assert (other.mean, other.lost) == (None, "of the baseline 3 of 3 diverged")
        assert rows["plain56", "resnet20"].lost == "1 of 3 diverged"
        assert rows["plain20", "resnet20"].lost == ""
        ends = {1: data.extent.high, -1: data.extent.low}
        assert (data.edge(gone), data.edge(other)) == (ends[side], ends[-side])
        crosses = [line for line in differences.draw(data).axes[0].lines if line.get_marker() == "x"]
        assert [line.get_xdata()[0] for line in crosses] == [data.edge(gone), data.edge(other)]
    cost = scatter.data(found)
    assert [panel.lost for panel in cost.panels] == [(("plain110", 0.3),), ()]
    figure = scatter.draw(cost)
    figure.draw_without_rendering()
    (cross,) = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    low, high = figure.axes[0].get_ylim()
    assert low < cross.get_ydata()[0] < high
    assert not [line for line in figure.axes[1].lines if line.get_marker() == "x"]
    assert "plain110 (diverged)" in [text.get_text() for text in figure.axes[0].texts]
    blocks = [block for section in sections(found) for block in section.blocks]
    texts = {block.name: block.caption for block in blocks if isinstance(block, Picture)}
    assert "A cross at the edge: no number, since all runs of an arm diverged" in texts["differences"]
    assert "A cross at the lower edge: plain110 diverged in every run." in texts["cost"]


def test_where_nothing_diverged_no_figure_speaks_of_it(whole):
    _, found = whole
    texts = [block.caption for section in sections(found) for block in section.blocks if isinstance(block, Picture)]
    assert not [text for text in texts if "A cross at" in text]
    assert {row.lost for row in differences.data(found).rows} == {""}


@pytest.mark.parametrize("seed", range(5))
def test_titles_of_histories_never_touch(seed):
    """Names of any letters, cut until two frames beside each other have room for their titles."""
    random_ = np.random.default_rng(seed)
    letters = list("abcdeilmnorstw MWGOXΑΩ0123456789=,./%@_-−×…")
    with style.styled():
        figure = Figure()
        canvas = FigureCanvasAgg(figure)
        for inches in (1.5, 1.9):
            for _ in range(12):
                name = "".join(random_.choice(letters, random_.integers(1, 60)))
                text = figure.text(0, 0, style.literal(style.fitted(name, inches)), fontsize=9)
                width = text.get_window_extent(canvas.get_renderer()).width / figure.dpi
                assert width <= inches + 0.05, name
                assert len(style.fitted(name, inches)) == len(name) or width > inches / 2


def test_an_arm_is_lost_at_once_only_if_no_run_of_it_has_an_epoch(tmp_path):
    found = lost_at_once(tmp_path / "one")
    apart = study_curves.families(found, study_curves.of_arms(found))
    assert [[panel.at_once for panel in row] for row in apart.rows] == [[(), ("plain110",)]] * 2
    assert [panel.title for panel in apart.rows[1]] == ["", ""]
    plan = planned(depths())
    for number, run in enumerate(run for run in plan.runs if run.arm == "plain110"):
        leave(tmp_path / "two", run, 90.0, status="diverged", upto=2)
        if number == 0:
            (tmp_path / "two" / run.folder / "metrics.jsonl").unlink()
    found = read(plan, tmp_path / "two")
    assert study_curves.diverged_at_once(found) == ()
    data = study_curves.data(found, study_curves.of_arms(found))
    assert data.broken == {"plain110": (0, 2)}
    crosses = [line.get_xydata()[0] for line in study_curves.draw(data).axes[0].lines if line.get_marker() == "x"]
    assert tuple(crosses[0]) == (0, data.rows[0][0].extent.high)


def test_arms_that_all_diverged_at_once_are_named_without_a_figure(tmp_path, page):
    files = page(lost_at_once(tmp_path / "runs", DEPTHS))
    said = Page(files["index.html"]).text
    assert f"No run has finished an epoch yet. Diverged in the first: {', '.join(DEPTHS)}." in said
    assert "History of each arm" not in said


def test_the_frame_of_histories_cuts_towering_losses_alone_and_says_so(tmp_path):
    plan = planned(depths(seeds=1, axes={"model": ["plain20", "resnet20"]}, claims=[], published=[]), epochs=4)

    def histories(root, training, losses):
        for run in plan.runs:
            leave(root, run, 10.0, drops=())
            path = root / run.folder / "metrics.jsonl"
            rows = [json.loads(line) for line in path.read_text().splitlines()]
            for row, train, test in zip(rows, training, losses, strict=True):
                row["train"]["loss"], row["test"]["loss"] = train, test
            path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        found = read(plan, root)
        made = arm_history.data(found, study_curves.of_arms(found))
        (axes,) = arm_history.draw(made).axes
        marks = [line for line in axes.lines if line.get_marker() == "^"]
        return made.top, [line for line in marks if line.get_markerfacecolor() != "white"]

    falling = (2.4, 0.5, 0.05, 0.02)
    top, marks = histories(tmp_path / "usual", falling, (3.0, 0.6, 0.1, 0.1))
    assert (top, marks) == (pytest.approx(1.05 * 3.0), [])
    top, marks = histories(tmp_path / "towering", falling, (4e6, 3.0, 0.1, 0.1))
    assert top == pytest.approx(1.05 * 3.0)
    # One in the frame of each arm, at its upper edge and its first epoch.
    assert [mark.get_markerfacecolor() for mark in marks] == [style.TEST] * 2
    assert len({mark.get_ydata()[0] for mark in marks}) == 1
    # A short run on hard images, whose losses hardly fall.
    top, marks = histories(tmp_path / "short", (2.1, 1.8, 1.7, 1.6), (1.5, 1.4, 1.2, 1.2))
    assert top == pytest.approx(1.05 * 2.1)


def test_bands_hold_the_interval_of_the_seeds(whole):
    _, found = whole
    band = study_curves.of_arms(found)["resnet56"][-1]
    assert (band.split, band.quantity) == ("test", "error")
    ends = 7.0 * np.array([1, 1.01, 1.04])
    half = stats.t.ppf(0.975, 2) * stats.sem(ends)
    assert (band.mean[-1], band.high[-1]) == (pytest.approx(ends.mean()), pytest.approx(ends.mean() + half))


def test_families_are_residual_left_and_plain_right_in_the_same_frames(whole):
    _, found = whole
    apart = study_curves.families(found, study_curves.of_arms(found))
    assert [panel.title for panel in apart.rows[0]] == ["residual", "plain"]
    for row in apart.rows:
        assert [sorted({band.arm for band in panel.bands}) for panel in row] == [sorted(DEPTHS[3:]), sorted(DEPTHS[:3])]
        assert row[0].extent == row[1].extent
        assert {band.arm for band in row[0].behind} == {*DEPTHS[:3]}


def test_families_follow_the_axis_of_the_baseline_and_need_two_of_two(tmp_path):
    axes = {"optim.lr": [0.1, 0.01], "train.batch_size": [64, 128]}
    study = depths(axes=axes, compare={"baseline": {"train.batch_size": 64}}, claims=[], published=[])
    found = read(planned(study), tmp_path)
    assert [title for title, _ in study_curves.split(found)] == ["batch_size = 128", "batch_size = 64"]
    assert study_curves.families(found, study_curves.of_arms(found)) is None  # no curve yet
    three = depths(axes={"train.batch_size": [64, 128, 256]}, compare={"baseline": {"train.batch_size": 64}}, claims=[],
                   published=[])  # fmt: skip
    assert study_curves.split(read(planned(three), tmp_path)) == ()


def test_the_cost_is_in_millions_of_parameters_and_in_minutes(whole):
    """Against the summaries and the plan themselves: seconds by 60, the interval's ends too, never below 0."""
    _, found = whole
    size, time = scatter.data(found).panels
    seconds = {one.arm: one for one in found.summaries["seconds"]}
    assert {point.arm: point.x for point in size.points} == {arm.name: arm.parameters / 1e6 for arm in found.plan.arms}
    assert time.label == "time of a run (minutes)"
    for point in time.points:
        assert point.x == pytest.approx(seconds[point.arm].mean / 60)
        low, high = seconds[point.arm].interval
        assert point.x_interval == pytest.approx((max(0.0, low) / 60, high / 60))
    assert [axes.get_xlim()[0] >= 0 for axes in scatter.draw(scatter.data(found)).axes] == [True, True]


TIMES = [(24.0, "seconds", 1), (130.0, "minutes", 60), (9e3, "hours", 3600)]


@pytest.mark.parametrize(("seconds", "unit", "length"), TIMES)
def test_times_have_a_unit_in_which_they_can_be_read(seconds, unit, length, whole):
    """A run of 24 s was one of 0.40 minutes."""
    _, found = whole
    arms = ("plain20", "resnet20")
    took = tuple(replace(one, mean=seconds / 2 if one.arm == "plain20" else seconds, low=None, high=None)
                 for one in found.summaries["seconds"] if one.arm in arms)  # fmt: skip
    panel = scatter.data(replace(found, summaries={**found.summaries, "seconds": took})).panels[-1]
    assert panel.label == f"time of a run ({unit})"
    assert sorted(point.x for point in panel.points) == pytest.approx([seconds / 2 / length, seconds / length])


@pytest.mark.parametrize("seed", range(10))
def test_an_interval_far_beyond_the_others_does_not_blow_up_a_frame_and_ordinary_ones_stay_whole(seed):
    draw = random.Random(seed)
    means = [draw.uniform(10, 90) for _ in range(draw.randint(2, 9))]
    usual = [(mean - half, mean + half, 3) for mean in means if (half := draw.uniform(0.5, 3))]
    shown = frame.reach(means, usual)
    assert min(shown) == min(low for low, *_ in usual)
    assert max(shown) == max(high for _, high, _ in usual)
    apart = max(max(means) - min(means), 9.0)
    for n in (2, 3):  # of two runs, and of one that was disturbed
        blown = [*usual[1:], (means[0] - 1e4, means[0] + 1e5, n)]
        wide = frame.reach(means, blown)
        assert min(means) - apart <= min(wide) <= min(means)
        assert max(means) <= max(wide) <= max(means) + apart
    assert frame.reach(means[:1], [(0.0, 100.0, 2)]) == means[:1]  # nothing to hold it against
    assert frame.reach([], []) == []


def test_labels_cover_neither_each_other_nor_points(tmp_path):
    found = finished(planned(depths()), tmp_path, {**ERRORS, "plain110": 16.0})
    figure = scatter.draw(scatter.data(found))
    assert not figure.legends  # six arms are labelled where they stand
    for axes in figure.axes:
        boxes = [text.get_window_extent() for text in axes.texts if text.get_text() != "logarithmic"]
        assert len(boxes) == 6
        marks = [line.get_window_extent() for line in axes.lines]
        assert not any(one.overlaps(two) for one, two in itertools.combinations(boxes, 2))
        assert not any(one.overlaps(two) for one in boxes for two in marks)


def test_arms_that_leave_no_room_for_labels_get_a_legend(tmp_path):
    names = [f"a name of thirty letters, no. {at}" for at in range(8)]
    study = depths(axes={}, arms=[{"name": name, "set": {"optim.lr": 0.1 + at / 100}} for at, name in enumerate(names)],
                   compare={}, claims=[], published=[])  # fmt: skip
    found = finished(planned(study), tmp_path, {name: 8.0 + at / 1000 for at, name in enumerate(names)})
    figure = scatter.draw(scatter.data(found))
    assert len(figure.legends) == 1
    assert not any(text.get_text() for axes in figure.axes for text in axes.texts)


def test_a_legend_has_as_many_columns_as_fit():
    assert frame.legend_rows(["ab"] * 20, 9.5)[1] < 4
    assert frame.legend_rows(["x" * 200] * 20, 9.5) == (2, 10)
    assert frame.legend_rows([], 9.5) == (1, 0)


def test_the_largest_differences_are_within_the_frame(whole):
    _, found = whole
    data = differences.data(found)
    assert [(row.arm, row.baseline) for row in data.rows] == [
        *((arm, "resnet20") for arm in DEPTHS if arm != "resnet20"), ("plain56", "plain20"), ("resnet56", "plain56"),
        ("resnet110", "plain110"),
    ]  # fmt: skip
    ends = [end for row in data.rows for end in (row.low, row.mean, row.high) if end is not None]
    low, high = differences.draw(data).axes[0].get_xlim()
    assert (low, high) == (data.extent.low, data.extent.high)
    assert -100 <= low < min(ends) < -83
    assert 81 < max(ends) < high <= 100
    # Those that are not far out are drawn in proportion: the largest of them are plain56 and its twin.
    first, last = data.extent.window
    assert -12 < first < -6.5
    assert 5 < last < 9
    plain = differences.data(replace(found, comparisons=tuple(one for one in found.comparisons if one.n)[:2]))
    assert plain.extent.window is None
    assert not [text for text in differences.draw(plain).axes[0].texts if text.get_text() == "logarithmic"]


def test_an_interval_of_a_difference_ends_in_a_triangle_at_100_points(whole):
    _, found = whole
    one = replace(found.comparisons[0], mean=-40.0, low=-130.0, high=50.0, differences=((0, -70.0), (1, -10.0)))
    data = differences.data(replace(found, comparisons=(one,)))
    assert data.extent.low == -100
    assert 50 < data.extent.high < 60
    (axes,) = differences.draw(data).axes
    marks = [line for line in axes.lines if line.get_marker() in ("<", ">")]
    assert [(mark.get_marker(), *map(list, mark.get_data())) for mark in marks] == [("<", [-100], [0])]


@pytest.mark.parametrize(
    ("near", "every", "ends", "expected"),
    [
        ([0, 10], [5], (0, 100), (0, 10.5, None)),
        ([0, 10], [20], (0, 100), (0, 21, None)),
        ([0, 99], [99.5], (0, 100), (0, 100, None)),
        ([0, 10], [60], (0, 100), (0, 73.4, (0, 10.5))),
        ([0, 10], [90], (0, 100), (0, 100, (0, 10.5))),
        ([90, 94], [10, 104], (0, 100), (0, 100, (89.8, 94.2))),
        ([0, 1], [float("nan"), float("inf")], (0, 100), (0, 1.05, None)),
        ([], [], (0, 100), (0, 1.05, None)),
        ([5, 5], [5], (0, 100), (2.5, 7.5, None)),
    ],
)  # fmt: skip
def test_an_axis_shows_every_value_and_nothing_that_cannot_be(near, every, ends, expected):
    found = frame.extent(near, every, *ends)
    assert (found.low, found.high) == (pytest.approx(expected[0], abs=0.06), pytest.approx(expected[1], rel=0.01))
    assert found.window == (expected[2] and pytest.approx(expected[2]))


def test_outside_of_its_window_an_axis_is_logarithmic_and_its_ticks_do_not_touch():
    shown = frame.Extent(-100, 100, (-6, 4))
    assert [float(shown.place(value)) for value in (-6, 0, 4)] == [-6, 0, 4]
    assert float(shown.place(4 + 90)) == pytest.approx(4 + 10 * 1)  # nine spans beyond are one span away
    assert float(shown.place(-6 - 990)) == pytest.approx(-6 - 10 * 2)
    values = np.linspace(-100, 100, 41)
    np.testing.assert_allclose(shown.value(shown.place(values)), values)
    ticks = shown.ticks()
    assert {-100, -50, -20, -2, 0, 20, 50, 100} <= {*ticks}
    assert min(b - a for a, b in itertools.pairwise(shown.place(ticks))) >= 2


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1, 5, 9], ()),
        ([0, 10], ()),
        ([-1, 5, 11, 14, 12, 5, 10.5], ((0, 0), (3, 10), (6, 10))),
        ([-1, 12], ((0, 0), (1, 10))),
        ([float("nan"), float("inf")], ((1, 10),)),
    ],
)
def test_a_curve_leaves_a_frame_once_for_each_stretch_beyond_an_edge(values, expected):
    assert frame.departures(values, 0, 10) == expected


def spread_out(root, errors):
    """A study of two arms whose seeds end so far apart that intervals reach beyond what an error can be."""
    plan = planned(depths(axes={"model": ["plain20", "resnet20"]}, claims=[], published=[]))
    for run in plan.runs:
        leave(root, run, errors[run.seed] * (1 if run.arm == "plain20" else 0.5))
    return read(plan, root)


def test_no_axis_of_an_error_or_accuracy_goes_beyond_0_and_100_and_what_does_is_marked(tmp_path):
    found = spread_out(tmp_path, (2.0, 30.0, 96.0))
    curves = study_curves.of_arms(found)
    low, high = curves["plain20"][-1].low, curves["plain20"][-1].high
    assert min(low) < 0
    assert max(high) > 100
    drawn = study_curves.draw(study_curves.data(found, curves))
    loss, error = drawn.axes
    assert error.get_ylim()[0] == 0
    assert 60 < error.get_ylim()[1] <= 100
    marks = {(line.get_marker(), line.get_ydata()[0]) for line in error.lines if line.get_marker() in ("^", "v")
             and line.get_markerfacecolor() == "white"}  # fmt: skip
    assert ("v", 0) in marks
    assert ("^", error.get_ylim()[1]) in marks
    assert loss.get_ylim()[0] == 0
    names = [text.get_text() for text in drawn.legends[0].get_texts()]
    assert names[-2:] == ["95 % interval, pointwise", "goes on beyond the axis"]
    cost = scatter.draw(scatter.data(found)).axes[0]
    assert (cost.get_ylim()[0], cost.get_ylim()[1]) == (0, 100)
    ends = {(line.get_marker(), line.get_ydata()[0]) for line in cost.lines if line.get_markerfacecolor() == "white"}
    assert ends == {("v", 0), ("^", 100)}
    history = arm_history.draw(arm_history.data(found, curves))
    assert "goes on beyond the axis" in [text.get_text() for text in history.legends[0].get_texts()]
    # The frames of the accuracy: the lower ones, of 0 to 100 %.
    edges = [line.get_ydata()[0] for line in history.axes[0].lines if line.get_markerfacecolor() == "white"]
    lower = min(edges)
    assert {round(edge - lower, 6) for edge in edges if edge - lower < arm_history.HIGH + 0.1} == {0, arm_history.HIGH}


@pytest.mark.parametrize("seed", range(3))
def test_no_table_has_an_interval_that_cannot_be(seed, tmp_path):
    draw = random.Random(seed)
    found = spread_out(tmp_path, tuple(draw.uniform(0, 100) for _ in range(3)))
    error = next(one for one in found.summaries["test_error"] if one.arm == "plain20")
    assert error.low < 0 or error.high > 100
    said = tables.around(error, 2)
    low, high = map(float, re.fullmatch(r"[\d.]+ \(([\d.]+) to ([\d.]+)\)", said).groups())
    assert (low, high) == (pytest.approx(max(0, error.low), abs=0.01), pytest.approx(min(100, error.high), abs=0.01))
    assert tables.spread(error, 2) == said  # half of it would say otherwise
    rows = [*(row[4] for row in tables.arms(found).rows), *(row[3] for row in tables.comparisons(found).rows),
            *re.findall(r"[\d.−-]+ to [\d.−-]+", html.unescape(found._repr_html_()))]  # fmt: skip
    ends = [float(end.replace("−", "-")) for row in rows if " to " in row for end in re.findall(r"[+−-]?\d[\d.]*", row)]
    assert ends
    assert all(-100 <= end <= 100 for end in ends)
    assert "– to –" not in found._repr_html_()


@pytest.mark.parametrize("error", [8.0, 60.0])
def test_the_frame_of_accuracies_fits_what_is_drawn(error, tmp_path):
    """It was 0 to 100 %, and all that networks differ by lay in the uppermost tenth of it."""
    found = many_arms(tmp_path, depths(axes={"model": ["plain20", "resnet20"]}, claims=[]), lambda _arm: error)
    histories = arm_history.data(found, study_curves.of_arms(found))
    values = [value for history in histories.arms for band in history.accuracy for value in band.mean]
    low, high = histories.accuracy
    assert 0 <= low <= min(values) <= max(values) <= high <= 100
    assert max(values) - min(values) > 0.8 * (high - low)


def test_bands_that_stay_within_are_not_marked(whole):
    _, found = whole
    drawn = study_curves.draw(study_curves.data(found, study_curves.of_arms(found)))
    assert max(study_curves.of_arms(found)["plain110"][-1].high) < 98
    assert [text.get_text() for text in drawn.legends[0].get_texts()][-1] == "95 % interval, pointwise"
    assert not [line for axes in drawn.axes for line in axes.lines if line.get_markerfacecolor() == "white"]


def many_arms(root, study, error=lambda arm: 8.0):
    plan = planned(study, epochs=4)
    for run in {run.id: run for run in plan.runs}.values():
        leave(root, run, error(run.arm))
    return read(plan, root)


def test_more_than_six_arms_stand_in_panels_by_their_kind_in_the_frames_of_all(tmp_path):
    found = many_arms(tmp_path, parsing.read("degradation"), lambda arm: 60.0 if arm == "plain110" else 8.0)
    members = {"plain": ("plain20", "plain56", "plain110"), "residual": ("resnet20", "resnet56", "resnet110"),
               "bottleneck": ("bottleneck56", "bottleneck110", "bottleneck83", "bottleneck164")}  # fmt: skip
    assert dict(groups(found)) == members
    curves = study_curves.of_arms(found)
    data = study_curves.data(found, curves)
    assert [row[0].title for row in data.rows] == [*members]
    for row, arms in zip(data.rows, members.values(), strict=True):
        for panel, first in zip(row, data.rows[0], strict=True):
            assert tuple(band.arm for band in panel.bands) == arms
            assert len(panel.behind) == 10 - len(arms)
            assert panel.extent == first.extent
    figure = study_curves.draw(data)
    assert [axes.get_ylim() for axes in figure.axes[::2]] == [(0, data.rows[0][0].extent.high)] * 3
    legends = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes[1::2]]
    assert legends == [list(arms) for arms in members.values()]
    assert study_curves.families(found, curves) is None
    histories = arm_history.data(found, curves)
    assert [tuple(history.arm for history in row) for row in histories.rows] == list(members.values())


def test_six_arms_stand_in_one_panel(whole):
    _, found = whole
    assert groups(found) == (("", DEPTHS),)
    curves = study_curves.data(found, study_curves.of_arms(found))
    assert (len(curves.rows), curves.grouped) == (1, False)


def texts(figure):
    """All texts of a figure that are seen, those of its axes and legends too."""
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


@pytest.mark.parametrize("name", ["twins", "degradation"])
def test_on_a_phone_panels_stand_below_one_another_in_text_that_can_be_read(name, whole, tmp_path):
    """On 390 pixels a figure of 4.2 inches is shown nine tenths as large: 8 points are then 9.5 pixels."""
    found = whole[1] if name == "twins" else many_arms(tmp_path, parsing.read("degradation"))
    curves = study_curves.of_arms(found)
    shown = study_curves.data(found, curves)
    panels = sum(map(len, shown.rows))
    for figure, count in (
        (study_curves.draw(shown, narrow=True), panels),
        (differences.draw(differences.data(found), narrow=True), 1),
        (scatter.draw(scatter.data(found), narrow=True), len(scatter.data(found).panels)),
        (arm_history.draw(arm_history.data(found, curves), narrow=True), 1),
    ):
        assert figure.get_figwidth() == pytest.approx(frame.NARROW)
        assert len(figure.axes) == count
        figure.draw_without_rendering()
        places = [axes.get_position() for axes in figure.axes]
        assert all(above.y0 > below.y1 for above, below in itertools.pairwise(places))
        assert min(text.get_fontsize() for text in texts(figure)) >= 8
        # Nothing is wider than the phone, and no panel is a sliver.
        drawn = figure.get_tightbbox()
        assert -0.02 <= drawn.x0 < drawn.x1 <= frame.NARROW + 0.02
        assert all(place.width > 0.6 for place in places)


def test_the_answer_is_what_the_verdicts_and_means_say(whole, undrawn, tmp_path):
    _, found = whole
    answer = sections(found)[0]
    text, table, extent = answer.blocks
    assert (answer.id, table.table.columns) == ("answer", ("verdict", "claim", "difference"))
    assert text.text.startswith("The claim of this study is supported.")
    words = ("supported", "undecided", "undecided", "contradicted", "undecided")
    many = replace(found, verdicts=tuple(replace(found.verdicts[0], verdict=word) for word in words))
    said = sections(many)[0].blocks[0].text
    assert said.startswith("Of 5 claims 1 is supported, 1 is contradicted, and 3 are undecided.")
    means = {one.arm: one.mean for one in found.summaries["test_error"]}
    least, most = min(means, key=means.get), max(means, key=means.get)
    assert (
        f"the lowest mean is {means[least]:.2f} %, of {least}; the highest {means[most]:.2f} %, of {most}" in text.text
    )
    assert extent.text.startswith("18 of 18 runs complete: 6 arms, seeds 0, 1, 2;")
    # Without claims, every arm; nothing is said of what is not there.
    plan = planned(depths(claims=[], published=[]))
    text, table, _ = sections(finished(plan, tmp_path, ERRORS))[0].blocks
    assert not re.search("claim|supported", text.text)
    assert [row[0] for row in table.table.rows] == [arm.name for arm in plan.arms]
    (only,) = sections(read(plan, tmp_path / "nothing"))[0].blocks
    assert only.text.startswith("0 of 18 runs complete")


def test_what_is_long_stands_below_its_row_and_on_a_phone_each_row_is_a_card(whole, page):
    root, found = whole
    text = page(found, root)["index.html"]
    for column, table in (("reason", tables.verdicts(found)), ("note", tables.comparisons(found))):
        said = [row[table.columns.index(column)] for row in table.rows]
        below = re.findall(rf'<tr class="below"><td data-head="{column}" colspan="\d+">(.*?)</td></tr>', text)
        assert [html.unescape(one) for one in below] == [one for one in said if one not in ("–", "")]
    assert '<th scope="col" class=" s">reason</th>' not in text
    for head, row in re.findall(
        r'<table class="cards">\n<thead><tr>(.*?)</tr></thead>\n<tbody.*?>\n<tr>(.*?)</tr>', text
    ):
        heads = re.findall(r'<th scope="col" class=".*?">(.*?)</th>', head)
        assert re.findall(r'<td data-head="(.*?)"', row) == heads  # a card has the head of each of its values


@pytest.mark.parametrize(("scale", "changed", "folded"), [
    (1.0, {}, ""), (0.6, {}, ""), (0.05, {}, "Published"), (1.0, {"data.dataset": "digits"}, "Published"),
])  # fmt: skip
def test_published_numbers_are_folded_where_runs_are_no_repetition_of_them(scale, changed, folded, tmp_path):
    found = read(planned(depths(), scale=scale, settings=changed), tmp_path)
    arms = next(section for section in sections(found) if section.id == "arms")
    (published,) = (one for one in arms.blocks if isinstance(one, Tabular) and "published" in one.caption.lower())
    assert published.folded.startswith(folded)
    assert bool(published.folded) == bool(folded)


def test_the_page_has_each_figure_of_arms_in_a_broad_and_a_narrow_form_and_tables_in_boxes_of_their_own(printed):
    text = printed[1]["index.html"]
    names = ["curves", "families", "differences", "cost", "histories"]
    assert re.findall(r'<div class="wide broad" tabindex="0"><svg .*?aria-label="(.*?)"', text) == names
    assert re.findall(r'<div class="narrow"><svg .*?aria-label="(.*?)"', text) == names
    widths = [float(one) for one in re.findall(r'<div class="narrow"><svg [^>]*--width: ([\d.]+)pt', text)]
    assert widths == [pytest.approx(72 * frame.NARROW)] * 5
    assert text.count("<table") == text.count('<div class="wide" tabindex="0"><table')
    assert "@media screen and (max-width: 40rem)" in text


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("shortcuts", {"depth = 20": 4, "depth = 56": 4}),
        ("learning-rate", {"constant": 3, "decay": 3, "cyclical": 3}),
        ("optimizers", {"Adagrad": 4, "Adadelta": 4, "momentum": 4, "Nesterov": 4}),
        ("report-d", {"residual, part 1 of 2": 4, "residual, part 2 of 2": 4, "plain": 3}),
        ("augmentation", {"part 1 of 2": 5, "part 2 of 2": 5}),  # nine arms, and the baseline twice
        ("regularization", {"part 1 of 2": 4, "part 2 of 2": 4}),  # six of them and the baseline
        ("resnet18-lab", {"part 1 of 3": 6, "part 2 of 3": 6, "part 3 of 3": 6}),
    ],
)
def test_arms_are_grouped_by_what_sets_them_apart(name, expected, tmp_path):
    found = read(planned(parsing.read(name)), tmp_path)
    made = groups(found)
    assert {title: len(members) for title, members in made} == expected
    every = [arm for _, members in made for arm in members]
    assert {*every} == {arm.name for arm in found.plan.arms}
    baseline = found.plan.study.compare.baseline
    if made[0][0].startswith("part"):
        assert {members[0] for _, members in made} == {baseline}
        every = [arm for arm in every if arm != baseline]
    assert len(every) == len({*every})


# Tables


def test_the_table_of_arms_holds_means_intervals_and_counts(whole):
    _, found = whole
    table = tables.arms(found)
    numbers = 8.5 * np.array([1, 1.01, 1.04])
    half = stats.t.ppf(0.975, 2) * stats.sem(numbers)
    assert cells(table, "resnet20", "test error (%)", "sd", "n", "runs", "published") == [
        f"{numbers.mean():.2f} ± {half:.2f}", f"{numbers.std(ddof=1):.2f}", "3", "3", "8.75 [1]",
    ]  # fmt: skip
    assert cells(table, "plain56", "settings", "parameters", "published") == ["model = plain56", "200,000", "–"]


def test_the_table_of_comparisons_holds_the_differences(whole):
    _, found = whole
    table = tables.comparisons(found)
    one = next(one for one in found.comparisons if one.arm == "plain56")
    assert [row[:2] for row in table.rows][5:] == [
        ("plain56", "plain20"),
        ("resnet56", "plain56"),
        ("resnet110", "plain110"),
    ]  # a claim, and twins
    assert cells(table, "plain56", "baseline", "difference", "95 % interval", "pairs", "p (sign-flip)") == [
        "resnet20", "+5.08", tables.interval(one.low, one.high, 2, "+"), "3", "0.250",
    ]  # fmt: skip
    assert "95 % interval" not in tables.filled(tables.comparisons(replace(
        found, comparisons=tuple(replace(one, low=None, high=None) for one in found.comparisons)))).columns  # fmt: skip


def test_the_table_of_runs_lists_every_run(whole):
    _, found = whole
    table = tables.runs(found)
    assert [(row[0], row[1]) for row in table.rows] == [(arm, seed) for arm in DEPTHS for seed in "012"]
    assert cells(table, "plain20", "status", "test error, last epoch (%)", "seconds") == ["finished", "9.50", "70"]


@pytest.mark.parametrize(
    ("published", "changes", "expected"),
    [
        ({"validation": 0}, {}, []),
        ({"validation": 0}, {"data.validation": 5000},
         ["none of the training images held out there, 5,000 here"]),
        ({"validation": 0.1}, {"data.validation": 0.1}, []),
        ({}, {"data.validation": 0.1}, ["data.validation = 0.1 here"]),
        ({"schedule": "multistep"}, {"optim.schedule.gamma": 0.2}, ["optim.schedule.gamma = 0.2 here"]),
        ({"schedule": {"name": "multistep", "gamma": 0.1}}, {"optim.schedule.gamma": 0.2},
         ["schedule multistep (gamma = 0.1) there, multistep (gamma = 0.2) here"]),
        ({"lr": 0.05}, {"optim.lr": 0.05}, []),
        ({}, {"data.root": "/secret/place/cifar10-JPEG/"}, []),  # a name is no fact
        ({"measure": "parameters", "batch": 64}, {}, []),  # a count has no protocol
        ({"measure": "parameters"}, {"optim.lr": 0.05}, ["optim.lr = 0.05 here"]),
    ],
)  # fmt: skip
def test_changed_settings_are_said_once(published, changes, expected, tmp_path):
    study = depths(published=[{"source": "S", "arm": "resnet20", "value": 1, **published}])
    found = read(planned(study, settings=changes), tmp_path)
    told = tables.protocol_differences(found, found.plan.study.published[0])
    assert [text for text in told if not text.startswith("unknown there: ")] == expected


def test_a_share_and_a_count_of_the_same_images_are_alike_where_a_run_says_how_many_there_are(tmp_path):
    study = depths(published=[{"source": "S", "arm": "resnet20", "value": 1, "validation": 0.1},
                              {"source": "S", "arm": "resnet20", "value": 1, "validation": 0.2}])  # fmt: skip
    plan = planned(study, settings={"data.validation": 5000})
    leave(tmp_path, next(run for run in plan.runs if run.arm == "resnet20"), 8.0)
    found = read(plan, tmp_path)
    same, other = (tables.protocol_differences(found, one)[:-1] for one in found.plan.study.published)
    assert same == []
    assert other == ["20 % of the training images held out there, 5,000 here"]


@pytest.mark.parametrize(
    ("published", "changes", "facts", "expected"),
    [
        ({}, {}, {}, []),  # 45,000 and 5,000 held out: all that are published
        ({}, {}, {"train": 8000, "validation": 0, "test": 2000},
         ["50,000 training images there, 8,000 here", "10,000 test images there, 2,000 here"]),
        ({}, {"data.subset": 5000}, {"train": 5000, "validation": 0}, ["50,000 training images there, 5,000 here"]),
        ({"images": 5000}, {"data.subset": 5000}, {"train": 5000, "validation": 0}, []),
        ({"images": 8000, "test_images": 2000}, {}, {"train": 8000, "validation": 0, "test": 2000}, []),
        ({}, {"data.dataset": "mnist"}, {"train": 60000, "validation": 0}, ["data.dataset = mnist here"]),
        ({}, {}, {"encodings": ["JPEG"]}, ["JPEG copy of the images here"]),
        ({}, {}, {"encodings": []}, []),
        ({"measure": "parameters"}, {}, {"train": 8000, "encodings": ["JPEG"]}, []),
    ],
)  # fmt: skip
def test_images_are_compared_with_those_of_the_source_by_what_runs_have_recorded(
    tmp_path, published, changes, facts, expected
):
    plan = planned(depths(published=[{"source": "S", "arm": "resnet20", "value": 1, **published}]), settings=changes)
    leave(tmp_path, next(run for run in plan.runs if run.arm == "resnet20"), 8.0, facts=facts)
    found = read(plan, tmp_path)
    told = tables.protocol_differences(found, found.plan.study.published[0])
    assert [text for text in told if not text.startswith("unknown there: ")] == expected
    (said,) = study_page._data(found)
    assert said.endswith(" test images, stored as JPEG" if facts.get("encodings") else " test images")


def test_a_difference_in_every_row_is_said_once_in_the_caption(tmp_path, page):
    known = {"epochs": 12, "validation": 0}
    published = [{"source": "S", "arm": "resnet20", "value": 1, "selection": "best-on-test", **known},
                 {"source": "T", "arm": "resnet56", "value": 1, "selection": "last", **known}]  # fmt: skip
    found = read(planned(depths(published=published), settings={"data.validation": 5000}), tmp_path)
    unknown = "unknown there: batch, rate, weight decay, schedule, optimizer, augmentation, normalisation"
    shared = ["none of the training images held out there, 5,000 here", unknown]
    assert tables.shared_differences(found) == shared
    assert [row[-1] for row in tables.published(found).rows] == [
        "best epoch on the test set there, last epoch here", "no other known",
    ]  # fmt: skip
    assert Page(page(found)["index.html"]).text.count("; ".join(shared)) == 1
    one = read(planned(depths(published=published[:1]), settings={"data.validation": 5000}), tmp_path)
    assert tables.shared_differences(one) == []
    assert shared[0] in tables.published(one).rows[0][-1]


def test_scale_and_arithmetic_are_differences_in_protocol(tmp_path):
    published = [
        {"source": "S", "arm": "resnet20", "value": 1, "epochs": 164},
        {"source": "S", "arm": "resnet20", "value": 1},
    ]
    plan = planned(depths(published=published), scale=0.05, epochs=8)
    leave(tmp_path, next(run for run in plan.runs if run.arm == "resnet20"), 20.0, extra={"precision": "bf16"})
    found = read(plan, tmp_path)
    known, unknown = (tables.protocol_differences(found, one)[:-1] for one in found.plan.study.published)
    assert known == ["164 epochs there, 8 here (×0.05)", "bf16 arithmetic here"]
    assert unknown == ["8 epochs here (×0.05)", "bf16 arithmetic here"]


def test_a_bound_is_printed_as_one_and_nothing_is_subtracted_from_it(tmp_path):
    published = [{"source": "S", "arm": "plain110", "value": 60, "bound": "above"}]
    found = finished(planned(depths(published=published)), tmp_path, ERRORS)
    (row,) = tables.published(found).rows
    cell = dict(zip(tables.published(found).columns, row, strict=True))
    assert (cell["published"], cell["ours − published"]) == ("> 60.00", "–")
    assert cells(tables.arms(found), "plain110", "published") == ["> 60.00 [1]"]


def test_a_plan_from_before_there_were_keys_is_reported(tmp_path):
    plan = planned(depths())
    path = plans.write(plan, tmp_path) / plans.PLAN
    values = storage.read_json(path)
    del values["study"]["sources"]
    values["study"]["published"] = [
        {"source": "S", "arm": "resnet20", "measure": "test_error", "value": 8.75, "spread": None,
         "protocol": "no images held out, best of 5 runs"}]  # fmt: skip
    storage.write_json(path, values)
    found = results(plans.read(path.parent), tmp_path)
    (row,) = tables.published(found).rows
    assert row[-2:] == ("no images held out, best of 5 runs", "unknown there: how it was made")


def test_csv_has_a_row_a_run_and_defuses_formulas(tmp_path):
    names = ["=HYPERLINK(1)", "@a", "-b", 'plain, "quoted"\nline']
    study = depths(axes={}, arms=[{"name": name, "set": {"optim.lr": 0.1 + at}} for at, name in enumerate(names)],
                   compare={}, claims=[], published=[], seeds=2)  # fmt: skip
    plan = planned(study)
    for run in plan.runs[:-1]:
        leave(tmp_path, run, 8.25)
    text = tables.as_csv(*tables.long_form(read(plan, tmp_path)))
    rows = list(csv.DictReader(io.StringIO(text, newline="")))
    assert [row["arm"] for row in rows[::2]] == [f"'{name}" for name in names[:3]] + names[3:]
    assert [row["status"] for row in rows] == ["finished"] * 7 + ["missing"]
    assert [row["test_error"] for row in rows[-2:]] == [rows[0]["test_error"], ""]
    assert float(rows[0]["test_error"]) == pytest.approx(8.25)
    assert rows[0]["macs"] == "2000"
    assert tables.as_csv(["n"], [[-1.5]]).splitlines()[1] == "-1.5"  # a number is no formula


def test_tex_escapes_everything_and_keeps_its_columns():
    table = tables.Table(("a & b", "n"), tuple((name, "−1.5 ± 2 %") for name in (*NASTY[:3], "[x]")), ("n",))
    text = tables.as_tex(table, "cap_tion", "tab:x")
    body = text[text.index(r"\midrule") : text.index(r"\bottomrule")]
    for line in body.splitlines()[1:]:
        assert len(re.findall(r"(?<!\\)&", line)) == 1
        assert line.endswith(r"\\")
        bare = re.sub(r"\\(textbackslash|textasciitilde|textasciicircum|textless|textgreater|textbar|textquotedbl)\{\}",
                      "", line)  # fmt: skip
        assert not re.search(r"(?<!\\)[%#_~^|<>]", bare)
        assert len(re.findall(r"(?<!\\)\{", bare)) == len(re.findall(r"(?<!\\)\}", bare))
    assert r"$-$1.5 $\pm$ 2 \%" in body
    assert r"\begin{tabular}{lr}" in text
    assert r"\caption{cap\_tion}" in text
    assert "\n{}[x]" in body  # else \\ before it would take it for a length


def test_every_measure_of_a_claim_has_a_column_for_all_arms(whole):
    _, found = whole
    assert tables.asked(found) is None  # its claim is about the test error, which stands there already
    claim = found.plan.study.claims[0].model_copy(update={"measure": "train_loss"})
    study = found.plan.study.model_copy(update={"claims": (claim,)})
    table = tables.asked(replace(found, plan=replace(found.plan, study=study)))
    assert table.columns == ("arm", "train loss (nats)")
    losses = {one.arm: one for one in found.summaries["train_loss"]}
    assert table.rows == tuple((arm.name, tables.spread(losses[arm.name], 4)) for arm in found.plan.arms)


def test_a_study_of_untrained_networks_begins_with_their_layers_and_shows_no_training(tmp_path, page):
    claim = {"text": "It vanishes.", "expect": "plain56 < plain20", "measure": "first_gradient"}
    asked = {"baseline": "plain20", "measure": "first_gradient"}
    plan = planned(depths(compare=asked, claims=[claim], published=[]), epochs=1)
    for number, run in enumerate(plan.runs):
        leave(tmp_path, run, ERRORS[run.arm], drops=())
        seen = layers([10.0**-number, 1, 2, 3], [1, 1, 1, 1])
        recorded.write(tmp_path / run.folder, seen)
    found = read(plan, tmp_path)
    text = page(found)["report.md"]
    assert text.index("What the layers do") < text.index("What was run")
    names = [section.id for section in sections(found)]
    assert names[:4] == ["answer", "layers", "claims", "comparisons"]
    assert not {"curves", "cost", "histories"} & set(names)
    assert tables.measures_shown(found) == ["first_gradient"]
    (arms,) = (block for block in next(one for one in sections(found) if one.id == "arms").blocks)
    assert "first gradient (decades)" in arms.table.columns
    assert "test error (%)" not in arms.table.columns
    assert "log10 of the norm" in arms.caption.lower()
    # One claim about trained networks, and training is of interest.
    plan = planned(
        depths(compare=asked, claims=[claim, {**claim, "text": "It errs.", "measure": "test_error"}], published=[]),
        epochs=1,
    )
    names = [section.id for section in sections(read(plan, tmp_path))]
    assert names[:2] == ["answer", "curves"]
    assert names.index("arms") < names.index("layers")


def test_what_is_saved_or_recorded_beside_training_is_no_change_of_a_number(tmp_path):
    plan = planned(depths(), settings={"save.keep": 0, "monitor.noise": True, "optim.lr": 0.05})
    assert tables.mark(plan) == "CHANGED optim.lr = 0.05"
    assert tables.mark(planned(depths(), settings={"save.keep": 0})) == ""
    assert "--set save.keep=0" in commands.train_command(plan, plan.runs[0])  # it belongs to the run's id


def test_how_small_p_can_get_is_said_once(whole, undrawn, page):
    page(whole[1], whole[0])
    caption = next(b.caption for s in sections(whole[1]) if s.id == "comparisons" for b in s.blocks)
    assert caption.count("With 3 pairs the permutation test cannot give p below 0.250.") == 1
    assert "note" not in tables.filled(tables.comparisons(whole[1])).columns


def test_markdown_tables_keep_their_columns():
    table = tables.Table(("a", "b"), tuple((name, "line\nbreak") for name in NASTY))
    lines = tables.as_markdown(table).splitlines()
    assert len(lines) == 2 + len(NASTY)
    assert all(len(re.findall(r"(?<!\\)\|", line)) == 3 for line in lines)
    assert "<b>" not in lines[2]


# Commands


def test_a_run_is_computed_again_by_its_command(tmp_path):
    """The command line that the report prints resolves to the same id, for settings of all kinds and scaled."""
    from residuum import cli, recipes
    from residuum.cli.options import settings_of
    from residuum.conduct import planning
    from residuum.config import identity
    from residuum.run.assemble import resolve

    study = Study(
        name="kinds", question="?", base="quick", seeds=[4],
        set={"data.augment": [{"name": "pad_crop", "padding": 2}], "optim.warmup": 2.0},
        arms=[
            {"name": "as it is"},
            {"name": "steps", "set": {"optim.schedule": {"name": "multistep", "milestones": [5, 0.75]}}},
            {"name": "choices", "set": {"optim.optimizer": "adam", "model.activation": {"name": "leaky_relu"},
                                        "model.shortcut": "none", "data.augment": [], "optim.lr": 1e-3}},
            {"name": "decay", "set": {"optim.schedule": "exponential", "optim.weight_decay": 0}},
        ],
        axes={"model": ["resnet20", "plain32"]},
    )  # fmt: skip
    # What is changed within a network or an optimizer is no part of its name.
    within = {
        "model.channels": [4, 8, 16],
        "model.init": {"name": "he", "mode": "fan_out"},
        "optim.optimizer.momentum": 0.8,
    }
    some = study.restricted(["as it is / resnet20", "steps / plain32"])
    plans = [planning.plan(study, {"data.validation": 0.25}, scale=0.4), planning.plan(some, within)]
    data = None
    for plan, run in ((made, run) for made in plans for run in made.runs):
        words = shlex.split(commands.train_command(plan, run))
        options = cli.build_parser()[0].parse_args(words[1:])
        config, data_ = resolve(recipes.recipe(options.recipe).changed(settings_of(options)), data)
        data = data_.dataset
        assert identity(config) == run.id, words


def test_commands_never_tell_where_the_data_lies(tmp_path):
    settings = {"data.root": "/data/me/cifar10-jpeg", "data.dataset": "cifar10", "data.subset": 0.5}
    found = read(planned(depths(), settings=settings), tmp_path)
    assert (
        commands.study_command(found.plan)
        == "residuum study run twins.toml --seeds 3 --data DATA --set data.subset=0.5"
    )
    line = commands.train_command(found.plan, found.plan.runs[4])
    assert line.startswith("residuum train he2015 --data DATA --seed 1 --set ")
    assert "data.subset=0.5" in line
    assert "home" not in line


def test_commands_name_the_folder_of_the_runs_where_it_is_not_the_default(whole):
    _, found = whole
    for elsewhere, ending in ((True, " --runs RUNS"), (False, "")):
        blocks = study_page._again(found, elsewhere)
        lines = [*blocks[1].lines, *(cell for row in blocks[2].table.rows for cell in row[2:])]
        assert len(lines) == 2 + 2 * 18
        assert {line[line.find(" --runs") :] if " --runs" in line else "" for line in lines} == {ending}
        assert ("RUNS stands for" in blocks[0].text) == elsewhere


def test_a_file_that_is_named_like_a_shipped_study_is_still_a_file():
    own = depths(name="quickstart", base="quick")
    assert commands.study_command(planned(own)) == "residuum study run quickstart.toml --seeds 3"
    assert commands.shipped(planned(parsing.read("quickstart"))) == parsing.read("quickstart")


def test_the_command_of_a_shipped_study_names_what_was_left_out(tmp_path):
    study = parsing.read("quickstart")
    plan = planned(study)
    assert commands.study_command(plan) == "residuum study run quickstart"
    fewer = replace(plan, study=study.changed({}, [0, 3]), arms=plan.arms[:2], scale=0.125)
    names = shlex.quote(",".join(arm.name for arm in fewer.arms))
    assert commands.study_command(fewer) == f"residuum study run quickstart --arms {names} --seeds 0,3 --scale 0.125"


@pytest.mark.parametrize(
    ("value", "text"),
    [("a\"b", '"a\\"b"'), (True, "true"), (1e-05, "1e-05"), ([1, 0.5], "[1, 0.5]"),
     ({"name": "sgd", "x": None, "y z": [{}]}, '{name = "sgd", "y z" = [{}]}')],
)  # fmt: skip
def test_values_are_written_as_toml(value, text):
    import tomllib

    assert commands.toml(value) == text
    tomllib.loads(f"x = {text}")


# The report


def test_a_report_is_whole_and_stands_alone(printed):
    _, files = printed
    text = files["index.html"]
    read_page = Page(text)
    assert len(read_page.ids) == len(set(read_page.ids))
    assert not [link for link in read_page.links if not link.startswith(("#", "figures/"))]
    assert {link[1:] for link in read_page.links if link.startswith("#")} <= set(read_page.ids)
    assert "<script" not in text
    titles = ["Answer", "Learning curves", "Verdicts", "Comparisons", "Arms", "Accuracy and cost",
              "History of each arm", "What was run", "Every run", "What was promised",
              "How to compute it again", "Environment"]  # fmt: skip
    assert re.findall(r"<h2>(.*?)</h2>", text) == titles
    assert re.findall(r"^## (.*)$", files["report.md"], re.MULTILINE) == titles
    for said in ("18 of 18 runs complete", "✓ supported", "Somebody 2015", "Some processor",
                 "residuum study run twins.toml --seeds 3", "twins.toml is the user's own file"):  # fmt: skip
        assert said in read_page.text
    assert set(files) == {"index.html", "report.md", "tables.csv", "tables.tex"}


def test_both_forms_have_the_same_tables_and_figures(whole, printed, monkeypatch):
    _, found = whole
    folder, files = printed
    monkeypatch.setattr(study_page, "picture", lambda name, caption, *figures: Picture(name, caption, b"", b""))
    blocks = [block for section in sections(found) for block in section.blocks]
    seen = Page(files["index.html"])
    for block in blocks:
        if isinstance(block, Tabular):
            assert all(cell in seen.cells for row in block.table.rows for cell in row)
            assert tables.as_markdown(block.table) in files["report.md"]
        elif isinstance(block, Picture):
            assert f"](figures/{block.name}.png)" in files["report.md"]
            assert ET.parse(folder / "figures" / f"{block.name}.svg").getroot().tag.endswith("svg")
            assert (folder / "figures" / f"{block.name}.png").read_bytes().startswith(b"\x89PNG")
    names = [block.name for block in blocks if isinstance(block, Picture)]
    assert names == ["curves", "families", "differences", "cost", "histories"]


def test_no_path_of_the_machine_is_told(tmp_path, page):
    root = tmp_path / "elsewhere"
    settings = {"data.root": "/data/someone/secret/cifar10-jpeg"}
    found = finished(planned(depths(), settings=settings), root, ERRORS)
    for name, text in page(found, root, tmp_path / "report").items():
        for told in ("/home", "secret", str(tmp_path), "elsewhere"):
            assert told not in text, name


def test_runs_are_linked_where_the_report_lies_among_them(whole, page, tmp_path):
    root, found = whole
    inside = root / "studies" / "twins" / "report"
    links = [link for link in Page(page(found, root, inside)["index.html"]).links if link.startswith("..")]
    assert len(links) == 18
    assert all((inside / link).is_dir() for link in links)


def test_a_scaled_study_is_marked_wherever_there_are_numbers(tmp_path, page):
    plan = planned(depths(), scale=0.05, settings={"data.subset": 5000}, gave_up=["seeds: 3 of 5"])
    found = finished(plan, tmp_path / "runs", ERRORS)
    mark = "SCALED ×0.05 · CHANGED data.subset = 5000"
    files = page(found)
    # Once, where it stays in sight; and in each figure, which is shown without its page.
    assert files["index.html"].count(f'<p class="stamp"><span class="mark">{mark}</span></p>') == 1
    assert files["report.md"].count(tables.markdown_text(mark)) == 1
    captions = [block for section in sections(found) for block in section.blocks if hasattr(block, "caption")]
    assert files["tables.tex"].count(tables.tex_text(mark)) == 2
    rows = list(csv.DictReader(io.StringIO(files["tables.csv"], newline="")))
    assert {(row["scale"], row["changed"]) for row in rows} == {("0.05", "data.subset = 5000")}
    for block in captions:
        if isinstance(block, Picture):
            assert mark in " ".join(ET.fromstring(block.svg).itertext())
    said = Page(files["index.html"]).text
    assert "Given up for the budget: seeds: 3 of 5" in said
    assert "Changed: data.subset = 5000" in said
    assert "--scale 0.05 --set data.subset=5000" in said


def test_a_study_at_full_scale_is_not_marked(whole, page):
    root, found = whole
    assert tables.mark(found.plan) == ""
    assert not any("SCALED" in text or 'class="mark"' in text for text in page(found, root).values())


def test_one_seed_has_no_intervals_and_says_so(tmp_path, page):
    found = finished(planned(depths(seeds=1)), tmp_path / "runs", ERRORS)
    files = page(found)
    assert cells(tables.arms(found), "resnet20", "test error (%)", "sd", "n") == ["8.50", "–", "1"]
    said = Page(files["index.html"]).text
    assert "With one seed there are no intervals" in said
    assert "? undecided" in said
    assert "±" not in files["tables.csv"] + files["tables.tex"].replace("mean $\\pm$ half", "")
    curves = study_curves.data(found, study_curves.of_arms(found))
    assert not study_curves.draw(curves).axes[0].collections


def test_a_study_in_the_middle_is_reported_as_it_stands(tmp_path, page):
    plan = planned(depths())
    of = {(run.arm, run.seed): run for run in plan.runs}
    root = tmp_path / "runs"
    leave(root, of["plain20", 0], 9.5)
    leave(root, of["plain20", 1], 9.7)
    with (root / of["plain20", 1].folder / "metrics.jsonl").open("a") as file:
        file.write("not a row\n")
    leave(root, of["plain56", 0], 70, status="diverged", upto=4)
    leave(root, of["plain56", 1], 70, status="stopped", upto=3)
    found = read(plan, root, failed={of["plain110", 0].id: "killed by <SIGKILL>\nthree times"})
    files = page(found)
    said = Page(files["index.html"]).text
    assert "3 of 18 runs complete" in said
    assert "2 finished, 1 diverged, 1 failed, 1 stopped, 13 missing" in said
    assert "preliminary" in said
    assert cells(tables.arms(found), "plain56", "n", "without result") == ["0", "1 diverged, 1 stopped, 1 missing"]
    assert [row[2:4] for row in tables.troubles(found).rows] == [
        ("damaged", "metrics.jsonl, line 13 is damaged and left out"),
        ("diverged", "epoch 5, step 77: loss nan, gradient norm inf"), ("failed", "killed by <SIGKILL> three times"),
    ]  # fmt: skip
    curves = study_curves.data(found, study_curves.of_arms(found))
    assert curves.broken == {"plain56": (4,)}
    assert study_curves.families(found, study_curves.of_arms(found)) is None  # no residual network has a curve yet
    assert "What diverged, failed or is damaged" in said


def test_nothing_run_all_diverged_and_nothing_to_compare(tmp_path, page):
    for number, (name, found) in enumerate(states(tmp_path / "states")):
        files = page(found, folder=tmp_path / f"report{number}")
        said = Page(files["index.html"]).text
        if name == "empty":
            assert "0 of 18 runs complete" in said
            assert "No run has finished an epoch yet." in said
            assert "Environment" not in said
        if name == "diverged":
            assert said.count("diverged") > 18
            assert "18 of 18 runs complete" in said
        if name == "single":
            assert not {"Verdicts", "Comparisons"} & set(re.findall("<h2>(.*?)</h2>", files["index.html"]))


def test_names_cannot_break_the_page(tmp_path, page):
    study = depths(
        question='<script>alert("1")</script> & $x$', axes={}, compare={"baseline": NASTY[0]}, published=[],
        arms=[{"name": name, "set": {"optim.lr": 0.1 + at}} for at, name in enumerate(NASTY)],
        claims=[{"text": "<i>so</i>", "expect": f"{NASTY[1]} < {NASTY[3]}"}],
    )  # fmt: skip
    files = page(finished(planned(study), tmp_path / "runs", dict.fromkeys(NASTY, 8.0)))
    seen = Page(files["index.html"])
    assert "<script" not in files["index.html"]
    assert "<script" not in files["report.md"]
    assert study.question in seen.text
    assert all(name in seen.cells for name in NASTY)


def test_looks_and_images_are_told(whole, undrawn, page):
    root, found = whole
    looks = (Look(1, 4, (0, 1), 0.999, {}), Look(2, 4, (0, 1, 2), 0.98, {"Plain gets worse.": "supported"}))
    pairs = ImagePairs(30, 10, 900, 60, 0.00222, 2.0, 0.75, 3.25, p_holm=0.0333)
    said = replace(found, looks=looks, images=(("plain20", "resnet20", 1, pairs),))
    assert tables.looks(said).rows == (
        ("1 of 4", "2", "0.0010", "0.0010", "none yet"),
        ("2 of 4", "3", "0.0200", "0.0210", "✓ supported: Plain gets worse."),
    )
    claim = found.verdicts[0].claim.model_copy(update={"text": "Plain gets worse."})
    late = replace(said, verdicts=(replace(found.verdicts[0], claim=claim, exploratory="claimed later"),))
    assert tables.looks(late).rows[1][-1] == "✓ supported (exploratory): Plain gets worse."
    assert tables.images(said).rows == (
        ("plain20", "resnet20", "1", "30", "10", "900", "60", "−2.00", "−3.25 to −0.75", "0.033"),
    )  # fmt: skip
    text = page(said, root)["index.html"]
    assert "Looks until decided" in text
    assert "before the first look" not in text
    again = replace(said, looks=(replace(looks[0], read_before=True), looks[1]))
    assert Page(page(again, root)["index.html"]).text.count(tables.READ_BEFORE) == 1
    assert re.search(r"<details><summary>Every pair of runs", text)
    assert "corrected for all rows of this table together (Holm)" in text


# The folder


def test_an_older_report_is_replaced_and_nothing_else_is(whole, page, tmp_path):
    root, found = whole
    page(found, root)
    index = tmp_path / "report" / "index.html"
    before = {path: path.read_bytes() for path in index.parent.rglob("*") if path.is_file()}
    (index.parent / "figures" / "stale.png").write_bytes(b"old")
    assert write(found, tmp_path / "report", runs=root) == index
    assert {path: path.read_bytes() for path in index.parent.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["report"]
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(InputError, match=r"not a report: it holds chapter\.tex"):
        write(found, tmp_path / "thesis", runs=root)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="not a report"):
        write(found, tmp_path / "file", runs=root)


def test_a_full_disk_leaves_the_older_report(whole, page, tmp_path, monkeypatch):
    root, found = whole
    page(found, root)
    index = tmp_path / "report" / "index.html"
    before = index.read_bytes()
    real = Path.write_bytes

    def full(path, content):
        if path.name == "tables.tex":
            raise OSError(28, "No space left on device")
        return real(path, content)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageError, match="No space left"):
        write(replace(found, looks=()), tmp_path / "report", runs=root)
    assert index.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["report"]


def test_a_report_needs_no_torch(whole, tmp_path):
    root, _ = whole
    code = (
        "import sys; from pathlib import Path; from residuum.analysis.results import results;"
        "from residuum.report.study_page import write; from residuum.studies import plan;"
        f"root = Path({str(root)!r}); found = results(plan.read(plan.find('twins', root)), root);"
        f"write(found, Path({str(tmp_path / 'report')!r}), runs=root); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert (tmp_path / "report" / "index.html").exists()


@pytest.mark.parametrize("measured", ["test_error", "test_accuracy"])
def test_published_numbers_have_the_sign_of_the_tables_beside_them(tmp_path, measured):
    stated = [{"source": "A", "arm": "resnet20", "value": 91.25, "measure": "test_accuracy"},
              {"source": "B", "arm": "resnet20", "value": 20.5, "bound": "above"},
              {"source": "C", "arm": "resnet20", "value": 80.0, "measure": "test_accuracy", "bound": "above",
               "protocol": "in its words"}]  # fmt: skip
    plan = planned(depths(axes={"model": ["plain20", "resnet20"]}, published=stated, claims=[],
                          compare={"baseline": "plain20", "measure": measured}))  # fmt: skip
    for run in plan.runs:
        leave(tmp_path, run, 8.5)
    found = read(plan, tmp_path)
    table = tables.published(found)
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.rows]
    errors = measured == "test_error"
    assert {row["measure"] for row in rows} == {tables.heading(measured)}
    assert [row["published"] for row in rows] == (
        ["8.75", "> 20.50", "< 20.00"] if errors else ["91.25", "< 79.50", "> 80.00"]
    )
    assert rows[0]["ours − published"] == ("−0.25" if errors else "+0.25")
    turned = ["stated as 91.25 % accuracy", "", "in its words; stated as > 80.00 % accuracy"]
    assert [row["their protocol"] for row in rows] == (
        [text or "not stated" for text in turned]
        if errors
        else ["not stated", "stated as > 20.50 % error", "in its words"]
    )


def test_the_median_of_runs_some_of_which_did_not_train_is_called_so_wherever_it_stands(tmp_path):
    claims = [{"text": "ranked", "expect": "plain110 > plain20"}, {"text": "signs", "expect": "plain110 > 60"},
              {"text": "by t", "expect": "plain56 > plain20"}]  # fmt: skip
    plan = planned(depths(claims=claims, published=[]))
    for run in plan.runs:
        error = ERRORS[run.arm] + run.seed / 10 * (run.arm != "plain110")
        leave(tmp_path, run, error, facts={"classes": list("abcdefghij")})
    found = read(plan, tmp_path)
    assert [one.median for one in found.verdicts] == [True, True, False]
    differences = [[row[table.columns.index("difference")] for row in table.rows]
                   for table in (tables.verdicts(found), answered(found))]  # fmt: skip
    assert differences[0] == differences[1] == ["+80.40 points (median)", "+30.00 points (median)", "+4.00 points"]


def answered(found):
    (table,) = (block.table for block in answer.blocks(found) if isinstance(block, Tabular))
    return table
