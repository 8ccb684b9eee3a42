"""Figures and lines: the numbers that they show, and that they are drawn from empty, single and normal data."""

import io
import math
import random
from dataclasses import replace
from pathlib import Path

import pytest

from residuum import recipes
from residuum.analysis.curves import bands
from residuum.cli import terminal
from residuum.cli.terminal import epoch_line, print_table, show
from residuum.config import RunConfig
from residuum.errors import InputError
from residuum.records.event import Diverged, EpochDone, Note, Scores, Started, StepDone
from residuum.records.record import RunRecord, labels, legend
from residuum.report import style
from residuum.report.figures import frame, learning_curves, of_runs, run_curves


def epoch(number, lr=0.1, validation=True, test=False, best=False):
    def scores(split, accuracy):
        return Scores(split, 2.0 / number, accuracy, 100)

    return EpochDone(
        epoch=number, step=10 * number, lr=lr, train=scores("train", 0.5 + number / 100),
        validation=scores("validation", 0.4) if validation else None, test=scores("test", 0.3) if test else None,
        best=best, seconds=12.34, images_per_second=1234.5,
    )  # fmt: skip


def record(*epochs):
    config = recipes.quick().changed({"optim.schedule": "plateau"})  # the rates tell when it drops
    return RunRecord("id", Path("x"), "quick", "stopped", config, (), None, tuple(epochs), None)


CASES = {
    "empty": record(),
    "single": record(epoch(1)),
    "single, test only": record(epoch(1, validation=False, test=True)),
    "normal": record(*(epoch(n, lr=0.1 if n < 20 else 0.01, test=True, best=n in (1, 7)) for n in range(1, 41))),
}


@pytest.mark.parametrize("name", CASES)
def test_curves_are_drawn_and_written_in_both_forms(name, tmp_path):
    paths = style.save(learning_curves.draw(learning_curves.data(CASES[name])), tmp_path / "curves")
    assert paths[0].read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in paths[1].read_text()


@pytest.mark.parametrize("names", [[], ["empty"], ["single", "empty"], ["normal", "normal", "single, test only"]])
def test_several_runs_are_drawn_into_one_figure(names, tmp_path):
    lines = run_curves.data([replace(CASES[name], id=str(number)) for number, name in enumerate(names)])
    assert len(lines) == len(names)
    for narrow in (False, True):
        drawn = run_curves.draw(lines, narrow=narrow)
        assert all(path.stat().st_size > 1000 for path in style.save(drawn, tmp_path / "runs"))
        assert drawn.get_figwidth() == (frame.NARROW if narrow else 9.5)
        places = [axes.get_position() for axes in drawn.axes]
        assert places[0].y0 > places[1].y1 if narrow else places[0].x1 < places[1].x0, "one below, or beside, the other"


@pytest.mark.parametrize(("error", "ends"), [(0.999, (94.7, 100.0)), (0.2, (0.0, 21.0))])
def test_the_axis_of_an_error_fits_its_curves_and_ends_at_100_at_most(error, ends):
    """Of a network that learns nothing the points lie at the edge, and noise of 0.1 points is not blown up."""
    flat = [replace(epoch(n), train=Scores("train", 2.0, 1 - error, 9), validation=Scores("validation", 2.0, round(1 - error), 9))
            for n in range(1, 5)]  # fmt: skip
    single = learning_curves.draw(learning_curves.data(record(*flat)))
    several = run_curves.draw(run_curves.data([record(*flat)]))
    for figure in (single, several):
        assert figure.axes[1].get_ylabel() == "error (%)"
        assert figure.axes[1].get_ylim() == pytest.approx(ends, abs=0.06)
        assert figure.axes[0].get_ylim() == pytest.approx((1.89, 2.11))  # a loss that stays at 2


def losing(id_, *losses):
    """A run with these losses while training; on validation images the first is a thousand times as large."""
    rows = [replace(epoch(number), train=Scores("train", loss, 0.5, 9), validation=Scores("validation", loss, 0.5, 9))
            for number, loss in enumerate(losses, start=1)]  # fmt: skip
    rows[0] = replace(rows[0], validation=Scores("validation", 1000 * losses[0], 0.5, 9))
    return replace(record(*rows), id=id_)


def test_of_many_runs_each_is_told_apart_in_its_frame_and_dashes_mean_training_alone():
    runs = [losing(f"{number}", 2.3, 1.0 + number / 10, 0.5) for number in range(15)]
    for narrow in (False, True):
        figure = run_curves.draw(
            run_curves.data(runs, [f"run {number}" for number in range(15)]), ("loss",), narrow=narrow
        )
        assert len(figure.axes) == 3
        named = []
        for axes in figure.axes:
            legend = axes.get_legend()
            lines = [line for line in axes.lines if len(line.get_xdata()) == 3 and line.get_color() != "0.85"]
            assert len({line.get_color() for line in lines}) == len(legend.get_texts()) == len(lines) / 2 <= 6
            assert {line.get_linestyle() for line in legend.get_lines()} == {"-"}
            assert axes.get_ylim() == figure.axes[0].get_ylim()
            named += [text.get_text() for text in legend.get_texts()]
        assert named == [f"run {number}" for number in range(15)]
        assert [text.get_text() for text in figure.legends[0].get_texts()] == [
            "training", "validation", "goes on beyond the axis"]  # fmt: skip


@pytest.mark.parametrize("losses", [(2.3, 1.2, 12_000.0), (2.3, 12_000.0, float("inf"))])
def test_a_loss_that_runs_away_leaves_the_axis_to_the_others_and_is_marked(losses):
    """Of one run, and beside one that trains: what is beyond has a triangle at the edge."""
    away, sane = losing("a", *losses), losing("b", 2.2, 1.1, 0.4)
    for figure in (run_curves.draw(run_curves.data([away, sane])), learning_curves.draw(learning_curves.data(away))):
        axes = figure.axes[0]
        assert 2.3 < axes.get_ylim()[1] < 6
        at_edge = {*(line.get_xdata()[0] for line in axes.lines if line.get_marker() == "^" and len(line.get_xdata()) == 1
                     and line.get_ydata()[0] == axes.get_ylim()[1])}  # fmt: skip
        assert 3 in at_edge


def test_epochs_are_counted_in_whole_numbers_though_there_be_one():
    one = losing("a", 2.3)
    for figure in (run_curves.draw(run_curves.data([one])), learning_curves.draw(learning_curves.data(one))):
        assert [tick for axes in figure.axes for tick in axes.get_xticks() if tick % 1] == []
        assert 1 in figure.axes[-1].get_xticks()


def test_a_run_that_is_named_twice_is_refused():
    with pytest.raises(InputError, match="run id is named twice; name each run once"):
        run_curves.data([CASES["normal"], CASES["normal"]])


def test_a_comparison_prefers_the_observed_test_error():
    names = ("normal", "single, test only", "empty")
    both, test_only, none = run_curves.data([replace(CASES[name], id=name) for name in names])
    assert (both.held_out, both.unseen["error"].values[0]) == ("test", pytest.approx(70))
    assert (test_only.held_out, none.unseen["error"].values) == ("test", ())
    assert both.train["error"].values[0] == pytest.approx(49)
    assert both.train["accuracy"].values[0] == pytest.approx(51)


def test_each_figure_of_curves_has_what_its_name_says():
    of = of_runs.table()
    records = [replace(CASES["normal"], id=str(number)) for number in range(3)]
    drawn = {name: of[name].draw(records, ["a", "b", "c"]) for name in ("curves", "both", "loss", "accuracy")}
    assert {name: [axes.get_ylabel() for axes in figure.axes] for name, figure in drawn.items()} == {
        "curves": ["loss (nats)", "error (%)"], "both": ["loss (nats)", "accuracy (%)"], "loss": ["loss (nats)"],
        "accuracy": ["accuracy (%)"],
    }  # fmt: skip
    errors, accuracies = (drawn[name].axes[1].lines for name in ("curves", "both"))
    assert [100 - y for y in errors[1].get_ydata()] == pytest.approx(accuracies[1].get_ydata())
    assert [text.get_text() for text in drawn["loss"].legends[0].get_texts()] == ["a", "b", "c", "training", "test"]


def test_a_legend_says_what_sets_runs_apart_and_never_an_id():
    def of(**settings):
        made = record()
        config = made.config.changed({key.replace("__", "."): value for key, value in settings.items()})
        return replace(made, config=config, id=f"{random.getrandbits(48):012x}")

    def called(*settings):
        return legend([of(**one) for one in settings])

    assert called({"model": "resnet20"}) == ["resnet20"]
    assert called({"model": "resnet20"}, {"model": "plain20", "optim__lr": 0.3}) == ["resnet20", "plain20"]
    assert called({}, {"train__seed": 1}) == ["resnet20, seed 0", "resnet20, seed 1"]
    assert called({"optim__lr": 0.05}, {"optim__lr": 0.2}) == ["resnet20, lr 0.05", "resnet20, lr 0.2"]
    assert called({"data__augment": []}, {"data__augment": ["flip"]}) == [
        "resnet20, augment none", "resnet20, augment flip"]  # fmt: skip
    assert called({"save__every": 1}, {"save__every": 2}) == ["resnet20, every 1", "resnet20, every 2"]
    assert called({}, {}, {"model": "plain20"}) == ["resnet20, run 1", "resnet20, run 2", "plain20"]
    draw = random.Random(5)
    choices = {"optim__lr": (0.1, 0.2), "model": ("resnet20", "plain20"), "train__seed": (0, 1),
               "train__batch_size": (32, 64), "optim__optimizer": ("sgd", "adam"), "save__keep": (1, 2)}  # fmt: skip
    for _ in range(20):
        records = [of(**{key: draw.choice(values) for key, values in choices.items()}) for _ in range(6)]
        for names in (legend(records), labels(records)):
            assert len({*names}) == 6
            assert not any(one.id in name for one in records for name in names)


def test_the_rate_drops_where_the_lines_stand_that_mark_its_drops():
    """They stood half an epoch beside the steps; a drop within an epoch is within it."""
    data = learning_curves.data(CASES["normal"])
    for drops in (data.drops, (19.25,)):
        figure = learning_curves.draw(replace(data, drops=drops))
        for strip in figure.axes[2:]:
            values, edges, _ = strip.patches[0].get_data()
            falls = [edge for edge, one, two in zip(edges[1:], values, values[1:], strict=False) if two < one]
            assert falls == [drops[0]]
            assert [line.get_xdata()[0] for line in strip.lines] == [drops[0]]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_a_loss_that_is_not_finite_has_a_mark_in_every_figure_of_curves(value):
    rows = [epoch(n) for n in range(1, 6)]
    rows[3] = replace(rows[3], validation=Scores("validation", value, 0.1, 9))
    lost = record(*rows)
    for figure in (learning_curves.draw(learning_curves.data(lost)), of_runs.table()["loss"].draw([lost], ["one"])):
        axes = figure.axes[0]
        marks = [(line.get_xdata()[0], line.get_ydata()[0]) for line in axes.lines if line.get_marker() == "^"]
        assert marks == [(4, axes.get_ylim()[1])]
    (loss,) = (band for band in bands("arm", [lost, record(*map(epoch, range(1, 6)))])
               if (band.split, band.quantity) == ("validation", "loss"))  # fmt: skip
    edges = list(zip(loss.mean, loss.low, loss.high, strict=True))
    assert [one == (math.inf,) * 3 for one in edges] == [at == 3 for at in range(5)]
    assert all(low <= mean <= high < math.inf for at, (mean, low, high) in enumerate(edges) if at != 3)


def test_drawing_twice_gives_the_same_bytes(tmp_path):
    for name in ("one", "two"):
        style.save(learning_curves.draw(learning_curves.data(CASES["normal"])), tmp_path / name)
    for suffix in ("png", "svg"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (tmp_path / f"two.{suffix}").read_bytes()


def test_the_curves_hold_the_numbers_of_the_record():
    data = learning_curves.data(CASES["normal"])
    assert [curve.split for curve in data.loss] == ["train", "validation", "test"]
    assert data.loss[0].values[:3] == (2.0, 1.0, 2.0 / 3)
    assert data.error[1].values[0] == pytest.approx(60)
    assert (data.drops, data.selected) == ((19,), 7)
    assert data.rate.values[18:20] == (0.1, 0.01)


def test_a_rate_that_falls_every_epoch_is_not_marked():
    data = learning_curves.data(record(*(epoch(n, lr=0.9**n) for n in range(1, 31))))
    assert data.drops == ()


def test_the_epoch_line_has_the_form_of_report_e():
    line = epoch_line(
        replace(
            epoch(20, lr=0.0125), train=Scores("train", 0.002, 1.0, 9), validation=Scores("validation", 0.447, 0.872, 9)
        )
    )
    assert line.startswith("Epoch: 20  lr 0.0125 | train loss 0.002 acc 1.000 | val loss 0.447 acc 0.872")


def test_a_pipe_gets_plain_lines():
    stream = io.StringIO()
    events = [
        Started("abc", Path("runs/x"), 2, 3, 30, 1, 3),
        Note("a note"),
        StepDone(2, 3, 0.1, 1.0, 1.0, "h"),
        epoch(2, test=True),
        Diverged(2, 5, 1.0, 1.0),
    ]
    assert show(iter(events), stream) is None
    lines = stream.getvalue().splitlines()
    assert lines[0] == "run abc | continuing at epoch 2, 30 images, 2 epochs of 3 steps | runs/x"
    assert lines[1] == "note: a note"
    assert lines[2].startswith("Epoch: 2 ")
    assert "test loss 1.000 acc 0.300 (observed)" in lines[2]
    assert len(lines) == 3
    assert "\x1b" not in stream.getvalue()


def test_a_table_shows_every_value(capsys):
    print_table([{"name": "a", "n": 1, "share": 0.25}, {"name": "b", "n": 2, "inner": {"x": 1, "y": [2]}}])
    out = capsys.readouterr().out
    for text in ("name", "share", "0.25", "x=1, y=[2]", "–"):
        assert text in out
    print_table([])
    assert capsys.readouterr().out == "nothing here yet\n"


def test_a_long_table_looks_like_a_short_one(capsys, monkeypatch):
    """Rich aligns a few rows, and is the slow twin of what aligns thousands."""
    chance = random.Random(0)

    def text() -> str:
        return "".join(chance.choice("ab z日本é[]:/") for _ in range(chance.randrange(12)))

    for _ in range(60):
        kinds = {"name": text, "n": lambda: chance.choice([1, 22, 2.5, -3e9]), "größe": text, "日": text}
        columns = chance.sample([*kinds], chance.randrange(1, 5))
        rows = [{column: kinds[column]() for column in columns if chance.random() < 0.9}
                for _ in range(chance.randrange(1, 6))]  # fmt: skip
        if not any(rows):
            continue
        shown = []
        for many in (10**9, 1):
            monkeypatch.setattr(terminal, "MANY", many)
            print_table(rows)
            shown.append(capsys.readouterr().out)
        assert shown[0] == shown[1]


def test_a_figure_keeps_the_name_that_it_was_given(tmp_path):
    figure = learning_curves.draw(learning_curves.data(CASES["single"]))
    for asked, stem in (
        ("a", "a"),
        ("a.png", "a"),
        ("a.SVG", "a"),
        ("report.v1", "report.v1"),
        ("report.v2", "report.v2"),
    ):
        assert [path.name for path in style.save(figure, tmp_path / asked)] == [f"{stem}.png", f"{stem}.svg"]
    assert len(list(tmp_path.iterdir())) == 6
    with pytest.raises(InputError, match=r"a\.jpg: figures are written as PNG and SVG"):
        style.save(figure, tmp_path / "a.jpg")
    assert len(list(tmp_path.iterdir())) == 6


@pytest.mark.parametrize(("texts", "length"), [
    (["resnet8, seed 0, subset 400, lr 0.02, epochs 4, stride at first", "resnet8, seed 0, subset 400, lr 0.1, epochs 4, stride at first"], 30),
    ([f"{'x' * 40}{n}{'y' * 40}" for n in range(12)], 20), (["a" * 60 + "b", "a" * 60 + "c", "short"], 20),
    (["one", "two"], 20), ([f"{'x' * 90}{n}" for n in "ab"] + [f"{n}{'x' * 90}" for n in "ab"], 24),
])  # fmt: skip
def test_what_is_cut_in_a_legend_is_still_told_apart(texts, length):
    cut = style.apart(texts, length)
    assert len({*cut}) == len(texts)
    assert all(len(one) <= length for one in cut)
    assert [one for one in cut if "…" not in one] == [one for one in texts if len(one) <= length]


def test_runs_of_own_code_are_told_apart_by_its_name_or_else_by_its_hash_in_short():
    def of(model):
        return replace(CASES["normal"], id=repr(model), config=RunConfig.of({"model": model}))

    one, other = "0" * 64, "1" * 64
    block = {"name": "cifar_resnet", "depth": 8}
    names = legend(
        [of({**block, "block": {"name": "mine.py:Se", "code": one, "reduction": 4}}), of({**block, "block": "basic"})]
    )
    assert names == ["resnet8, block Se", "resnet8, block basic"]
    names = legend([of({**block, "block": {"name": "mine.py:Se", "code": code}}) for code in (one, other)])
    assert names == [f"resnet8, code {code[:12]}" for code in (one, other)]


def test_lists_of_the_same_names_are_told_apart_by_their_settings():
    runs = [replace(CASES["normal"], id=str(padding), config=RunConfig.of({"data": {"augment": [
        {"name": "pad_crop", "padding": padding}]}})) for padding in (1, 4)]  # fmt: skip
    assert [name.partition("augment ")[2] for name in legend(runs)] == ["pad_crop padding=1", "pad_crop padding=4"]
