"""Figures of layers: their numbers, and that they are drawn from nothing, from one epoch, from many and from extremes."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from layer_records import histograms, layers
from report_runs import leave, planned, read

from residuum.errors import InputError
from residuum.records import layers as recorded
from residuum.records import storage
from residuum.records.layers import BINS
from residuum.report import style
from residuum.report.figures import gradient_flow
from residuum.report.figures import histograms as ridges
from residuum.report.study_page import sections
from residuum.studies import plan as plans
from residuum.studies.study import Study

DEEP = layers([1.0] * 60, [1.0] * 60, dead=[0.1] * 59)
NORMAL = [layers([1e-3, 1e-2, 0.1, 1, 2], [1, 2, 3, 1, 1], epoch=epoch, dead=(0.0, 0.25, 0.5)) for epoch in range(5)]


def text_of(figure):
    return style.svg(figure).decode()


def test_densities_are_shares_per_unit():
    found = ridges.data("run", NORMAL, "parameters", ["conv1"])
    (panel,) = found.panels
    assert panel.name == "conv1.weight"
    assert [ridge.epoch for ridge in panel.ridges] == [0, 1, 2, 3, 4]
    for ridge in panel.ridges:
        assert (ridge.edges_E[0], ridge.edges_E[-1], len(ridge.densities_B)) == (-1, 1, BINS)
        assert np.sum(ridge.densities_B * np.diff(ridge.edges_E)) == pytest.approx(1)
    counts_B = NORMAL[0].parameters.counts_TB[0]
    np.testing.assert_allclose(panel.ridges[0].densities_B, counts_B / 100 / (2 / BINS))


def test_a_panel_shows_all_of_its_epochs_and_no_more():
    """Its frame is that of the widest epoch, whatever other layers need."""
    wide = replace(NORMAL[1], gradients=histograms(NORMAL[1].gradients.names, np.ones(10), low=-1e-9, high=5e-9))
    narrow = replace(NORMAL[0], gradients=histograms(NORMAL[0].gradients.names, np.ones(10), low=-2e-9, high=1e-12))
    panel = ridges.data("run", [narrow, wide], "gradients").panels[0]
    assert -2e-9 <= panel.low < -1e-9
    assert 1e-9 < panel.high <= 5e-9


def test_epochs_that_lie_far_apart_are_drawn_in_their_own_deviations():
    def epoch(scale):
        grown = histograms(NORMAL[0].gradients.names, np.full(10, 3 * scale), low=-scale, high=2 * scale)
        return replace(NORMAL[0], gradients=grown)

    (near,) = ridges.data("run", [epoch(1.0), epoch(3.5)], "gradients", ["conv1"]).panels
    assert not near.relative
    assert [ridge.edges_E[-1] for ridge in near.ridges] == [2, 7]
    found = ridges.data("run", [epoch(1e-12), epoch(1.0)], "gradients", ["conv1"])
    (far,) = found.panels
    assert far.relative
    assert -1 / 0.3 <= far.low < -1
    assert 1 < far.high <= 2 / 0.3 + 1e-9
    for ridge, sd in zip(far.ridges, (3e-13, 0.3), strict=True):
        assert ridge.sd == pytest.approx(sd)
        assert (ridge.edges_E[0], ridge.edges_E[-1]) == (pytest.approx(-1 / 0.3), pytest.approx(2 / 0.3))
        assert np.sum(ridge.densities_B * np.diff(ridge.edges_E)) == pytest.approx(1)
    drawn = text_of(ridges.draw(found))
    for text in ("in standard deviations", "3e-13", "0.3"):
        assert text in drawn


def test_a_bar_that_towers_over_the_others_is_cut():
    """Half of what a ReLU gives is 0: the rest would be a flat line."""
    counts_B = np.full(BINS, 10)
    counts_B[0] = 500
    zeros = replace(NORMAL[0].activations, counts_TB=np.tile(counts_B, (3, 1)).astype(np.int32))
    figure = ridges.draw(ridges.data("run", [replace(NORMAL[0], activations=zeros)], "activations", ["act"]))
    heights_B = next(patch for patch in figure.axes[0].patches).get_data().values
    assert heights_B[0] == pytest.approx(2 * heights_B[1])


def test_of_many_epochs_some_are_left_out_but_not_the_first_and_the_last():
    many = [replace(NORMAL[0], epoch=epoch) for epoch in range(165)]
    epochs = [ridge.epoch for ridge in ridges.data("run", many, "responses").panels[0].ridges]
    assert len(epochs) == ridges.MOST
    assert (epochs[0], epochs[-1]) == (0, 164)
    assert {after - before for before, after in pairwise(epochs)} <= {7, 8}


@pytest.mark.parametrize("of", ["parameters", "gradients", "responses", "activations"])
@pytest.mark.parametrize("count", [0, 1, 5])
def test_ridges_are_drawn_from_any_number_of_epochs(of, count):
    drawn = text_of(ridges.draw(ridges.data("a run", NORMAL[:count], of)))
    assert f"a run: {of}" in drawn
    if count:
        for panel in ridges.data("a run", NORMAL[:count], of).panels:
            assert panel.name in drawn


def test_constant_tensors_and_values_that_are_not_finite_are_drawn():
    flat = histograms(["bias"], [0.0], low=0.0, high=0.0)
    lost = replace(flat, counts_TB=0 * flat.counts_TB, low_T=np.array([np.nan]), high_T=np.array([np.nan]))
    epochs = [replace(NORMAL[0], parameters=flat), replace(NORMAL[1], parameters=lost)]
    found = ridges.data("run", epochs, "parameters", ["bias"])
    assert (found.panels[0].low, found.panels[0].high) == (0, 0)
    assert not found.panels[0].ridges[0].densities_B.any()
    assert "not finite" in text_of(ridges.draw(found))
    text_of(ridges.draw(ridges.data("run", [epochs[1]], "parameters", ["bias"])))


def test_a_layer_that_is_not_there_is_refused():
    with pytest.raises(InputError, match=r"did you mean 'layer1\.0\.conv[12]'"):
        ridges.data("run", NORMAL, "parameters", ["layer1.0.conv"])


def test_runs_stand_side_by_side_at_the_epochs_that_all_of_them_have():
    other = [layers([0.0, np.nan, 1.0], epoch=epoch) for epoch in (0, 2, 3, 9)]
    flow = gradient_flow.data({"plain": NORMAL, "residual": other})
    assert [[panel.title for panel in row] for row in flow.rows] == [
        ["at initialisation", "after epoch 2", "after epoch 3"]
    ] * 4
    gradients, responses, ranked, dead = (row[0].lines["plain"].median_P for row in flow.rows)
    np.testing.assert_allclose(gradients, [1e-3, 1e-2, 0.1, 1, 2])
    np.testing.assert_allclose(responses, [1, 2, 3, 1, 1])
    np.testing.assert_allclose(ranked, [3, 2, 1, 1, 1])
    np.testing.assert_allclose(dead, [0, 0.25, 0.5])
    figure = gradient_flow.draw(flow)
    drawn = text_of(figure)
    assert "exactly 0" in drawn
    for text in ("norm of the gradient", "sd of the responses", "dead channels", "plain", "residual"):
        assert text in drawn
    marks = {line.get_marker(): line for line in figure.axes[0].lines if line.get_linestyle() == "None"}
    assert (marks["v"].get_xdata().tolist(), marks["v"].get_ydata().tolist()) == ([1], [0]), "0 is not dropped"
    assert (marks["x"].get_xdata().tolist(), marks["x"].get_ydata().tolist()) == ([2], [1])
    low, high = figure.axes[0].get_ylim()
    assert low < 1e-3 < 2 < high


def test_points_of_deep_networks_stand_for_several_layers_and_axes_have_ticks():
    flow = gradient_flow.data({"deep": [DEEP], "shallow": NORMAL[:1]})
    assert flow.is_grouped
    assert not gradient_flow.data({"shallow": NORMAL}).is_grouped
    for row, grouped in zip(flow.rows, (False, True, False, True), strict=True):
        line = row[0].lines["deep"]
        assert (len(line.at_P) < line.depth) == grouped
        assert line.at_P[-1] == line.depth
    few = gradient_flow.draw(gradient_flow.data({"run": [layers([2.0, 4.0, 9.0])]})).axes[0]
    within = [tick for tick in few.yaxis.get_majorticklocs() if 2 <= tick <= 9]
    assert within == [2, 5]


def test_dead_channels_have_a_row_only_where_there_are_some():
    alive = [layers([1.0, 1.0, 1.0], dead=(0.0, 0.0))]
    assert [row[0].quantity for row in gradient_flow.data({"run": alive}).rows] == [
        gradient_flow.GRADIENTS, gradient_flow.RESPONSES, gradient_flow.RANKED,
    ]  # fmt: skip


@pytest.mark.parametrize(
    "runs",
    [{}, {"one": [layers([1.0, 1.0, 1.0])]}, {"lost": [layers([np.nan] * 3, [np.nan] * 3)]},
     {"nothing": [layers([0.0] * 3, [0.0] * 3)]}],
)  # fmt: skip
def test_flow_is_drawn_from_extremes(runs):
    text_of(gradient_flow.draw(gradient_flow.data(runs)))


STUDY = {
    "name": "flow", "question": "Does it flow?", "base": "he2015", "seeds": 3, "axes": {"model": ["plain20", "resnet20"]},
    "arms": [{"name": "sigmoid", "set": {"model.activation": "sigmoid"}}, {"name": "ReLU"}],
}  # fmt: skip


def test_arms_of_a_study_are_lines_over_their_seeds(tmp_path):
    """Left: what was recorded at initialisation; right: after the last epoch, which a damaged file cannot say."""
    plan = planned(Study(**STUDY), epochs=2)
    for run in plan.runs:
        leave(tmp_path, run, 20)
        scale = 10.0**run.seed
        for epoch in (0, 2):
            recorded.write(tmp_path / run.folder, layers([scale, 2, 3], epoch=epoch, dead=(0.5, epoch / 4)))
    broken = next(run for run in plan.runs if (run.arm, run.seed) == ("ReLU / plain20", 2))
    (tmp_path / broken.folder / "layers" / "epoch-0002.safetensors").write_bytes(b"torn")
    results = read(plan, tmp_path)
    flows = gradient_flow.of_study(results, "scaled")
    assert list(flows) == ["gradient-flow", "responses", "dead"]
    flow = flows["gradient-flow"]
    assert (flow.labels, flow.mark) == (("plain20", "resnet20"), "scaled")
    assert [[panel.title for panel in row] for row in flow.rows] == [
        [f"{name}: {when}" for when in ("at initialisation", "after the last epoch")] for name in ("sigmoid", "ReLU")
    ]
    line = flow.rows[0][0].lines["resnet20"]
    assert (line.n, line.low_P[0], line.median_P[0], line.high_P[0]) == (3, *map(pytest.approx, (1, 10, 100)))
    assert flow.rows[1][1].lines["plain20"].n == 2
    assert [len(row[0].lines["plain20"].median_P) for row in flows["dead"].rows] == [2, 2]
    (section,) = (one for one in sections(results) if one.id == "layers")
    assert [block.name for block in section.blocks] == list(flows)
    assert all(b"resnet20" in block.svg for block in section.blocks)


def test_an_older_plan_gets_family_and_cell_of_its_arms_from_the_study(tmp_path):
    plan = planned(Study(**STUDY), epochs=2)
    path = plans.write(plan, tmp_path) / plans.PLAN
    values = storage.read_json(path)
    assert [(arm["family"], arm["cell"]) for arm in values["arms"]][::3] == [
        ("sigmoid", {"model": "plain20"}), ("ReLU", {"model": "resnet20"}),
    ]  # fmt: skip
    for arm in values["arms"]:
        del arm["family"], arm["cell"]
    storage.write_json(path, values)
    assert plans.read(path.parent) == plan
    assert [arm.label for arm in plans.read(path.parent).arms] == ["plain20", "resnet20"] * 2


def test_a_share_of_channels_ends_at_100_percent():
    (*_, row) = gradient_flow.data({"run": [layers([1.0, 1.0, 1.0], dead=(0.5, 1.0))]}).rows
    figure = gradient_flow.draw(gradient_flow.data({"run": [layers([1.0, 1.0, 1.0], dead=(0.5, 1.0))]}))
    assert row[0].quantity is gradient_flow.DEAD
    assert figure.axes[-1].get_ylim() == (0, 1)
    half = gradient_flow.draw(gradient_flow.data({"run": [layers([1.0, 1.0, 1.0], dead=(0.25, 0.5))]}))
    assert half.axes[-1].get_ylim() == (0, pytest.approx(0.54))


def test_more_than_six_arms_have_a_row_for_each_kind_of_network(tmp_path):
    models = ["plain20", "plain56", "plain110", "resnet20", "resnet56", "resnet110", "bottleneck56"]
    plan = planned(Study(name="many", question="?", base="he2015", seeds=1, axes={"model": models}), epochs=1)
    for run in plan.runs:
        leave(tmp_path, run, 20, drops=())
        recorded.write(tmp_path / run.folder, layers([1, 2, 3], epoch=0))
    flow = gradient_flow.of_study(read(plan, tmp_path))["gradient-flow"]
    assert flow.labels == tuple(models)
    assert [(row[0].title, tuple(row[0].lines)) for row in flow.rows] == [
        ("plain: at initialisation", ("plain20", "plain56", "plain110")),
        ("residual: at initialisation", ("resnet20", "resnet56", "resnet110")),
        ("bottleneck: at initialisation", ("bottleneck56",)),
    ]
    assert [len(gradient_flow.draw(flow, narrow=narrow).axes) for narrow in (False, True)] == [6, 6]


def test_a_study_without_recorded_layers_has_no_such_figure(tmp_path):
    plan = planned(Study(**STUDY), epochs=2)
    leave(tmp_path, plan.runs[0], 20)
    assert gradient_flow.of_study(read(plan, tmp_path)) == {}
