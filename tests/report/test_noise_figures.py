"""The noise of gradients and the batch size as figures: their numbers, and that they draw from nothing to everything."""

import json

import numpy as np
import pytest
from report_runs import leave, planned, read

from residuum.errors import InputError
from residuum.records.record import read_record
from residuum.report import style
from residuum.report.figures import batch_size, noise_scale
from residuum.report.study_page import sections
from residuum.studies import parsing
from residuum.studies.study import Study

SEEN = ((0, 0.5, 20.0), (1, 0.1, 20.0), (2, -0.1, 20.0), (3, 0.01, 20.0))


def study(**changes):
    arms = [{"name": f"batch {size}", "set": {"train.batch_size": size}} for size in (32, 128)]
    return Study(**{"question": "Does it matter?", "base": "quick", "seeds": 2, "arms": arms, **changes})


def computed(root, made, seen=SEEN):
    """Runs of a plan, 100 images at 1,000 a second times the batch size over 100, with the noise that was seen."""
    plan = planned(made, epochs=3)
    for run in plan.runs:
        leave(root, run, 10.0, drops=())
        folder, size = root / run.folder, run.config.train.batch_size
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for row in rows:
            row |= {"images_per_second": 10.0 * size, "seconds": 200.0 / size + run.seed}
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        kept = [{"epoch": epoch, "images": 1024, "batch": 128, "squared_norm": norm, "trace": trace * size}
                for epoch, norm, trace in seen]  # fmt: skip
        (folder / "noise.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
    return read(plan, root)


def test_a_line_has_a_scale_where_a_gradient_is_seen(tmp_path):
    found = computed(tmp_path, study())
    records = [read_record(tmp_path / run.folder) for run in found.plan.runs[:2]]
    first, _ = noise_scale.data(records)
    assert (first.epochs, first.unseen, first.batch) == ((0, 1, 3), (2,), 32)
    np.testing.assert_allclose(first.scales, [20 * 32 / 0.5, 20 * 32 / 0.1, 20 * 32 / 0.01])
    text = style.svg(noise_scale.draw(noise_scale.data(records))).decode()
    assert "batch 32" in text
    assert "noise hides the gradient" in text
    (records[0].folder / "noise.jsonl").unlink()
    with pytest.raises(InputError, match=r"did not measure the noise; train it with monitor.noise=true and fresh=True"):
        noise_scale.data(records)


def test_noise_draws_from_nothing_one_epoch_and_no_gradient_at_all(tmp_path):
    assert style.png(noise_scale.draw(()))
    for number, seen in enumerate((SEEN[:1], SEEN[2:3])):
        found = computed(tmp_path / str(number), study(seeds=1), seen)
        (line, *_) = noise_scale.data([read_record(tmp_path / str(number) / found.plan.runs[0].folder)])
        axes = noise_scale.draw([line]).axes[0]
        crosses = [one for one in axes.lines if one.get_marker() == "x"]
        assert [len(one.get_xdata()) for one in crosses] == [len(line.unseen)]
        drawn = [one for one in axes.lines if one.get_marker() == "o"]
        gaps = [epoch for one in drawn for epoch, scale in zip(*one.get_data(), strict=True) if np.isnan(scale)]
        assert gaps == sorted(line.unseen)  # no line is joined over what was not seen
        low, high = axes.get_ylim()
        assert low <= 32 <= high  # the batch
        assert len([tick for tick in axes.yaxis.get_majorticklocs() if low <= tick <= high]) > 1


def test_points_are_means_over_seeds_at_their_batch_sizes(tmp_path):
    found = batch_size.data(computed(tmp_path, study()), "a mark")
    assert [panel.measure for panel in found.panels] == list(batch_size.SHOWN)
    update, epoch, scale = (panel.points for panel in found.panels)
    assert [(point.arm, point.batch) for point in update] == [("batch 32", 32), ("batch 128", 128)]
    assert found.series == ("batch …",)
    assert [point.value for point in update] == pytest.approx([100.0, 100.0])  # size images at 10 · size a second
    # Times have a geometric mean, here of two seeds whose epochs differ by a second.
    assert [point.value for point in epoch] == pytest.approx([(x * (x + 1)) ** 0.5 for x in (200 / 32, 200 / 128)])
    assert all(point.interval[0] < point.value < point.interval[1] for point in epoch)
    assert [point.value for point in scale] == pytest.approx([20 * 32 / 0.01, 20 * 128 / 0.01])
    text = style.svg(batch_size.draw(found)).decode()
    assert "a mark" in text
    assert "noise scale = batch" in text


def test_lines_join_arms_that_differ_in_the_batch_size_alone():
    """In the shipped studies: others beside the baseline have its batch size and are on no line."""

    def series(name):
        plan = planned(parsing.read(name), epochs=4)
        sizes = {run.arm: run.config.train.batch_size for run in plan.runs}
        return batch_size._series(plan, sizes)

    assert series("resnet18-lab") == dict.fromkeys(("baseline", "batch 32", "batch 512"), "batch …")
    found = series("batch-size")
    assert [list(found.values()).count(name) for name in ("batch …", "batch …, rate scaled")] == [6, 5]
    assert series("degradation") == {}


def test_a_study_of_one_batch_size_has_no_such_section(tmp_path):
    other = study(arms=[{"name": "a"}, {"name": "b", "set": {"optim.lr": 0.01}}])
    found = computed(tmp_path / "one", other)
    assert batch_size.data(found).panels == ()
    assert style.png(batch_size.draw(batch_size.data(found)))
    assert "batch-size" not in [section.id for section in sections(found)]
    several = computed(tmp_path / "two", study(), ())
    (section,) = (section for section in sections(several) if section.id == "batch-size")
    assert "noise scale" not in section.blocks[0].caption
    assert (
        "noise scale"
        in next(section for section in sections(computed(tmp_path / "three", study())) if section.id == "batch-size")
        .blocks[0]
        .caption
    )
    nothing = read(planned(study()), tmp_path / "four")
    assert batch_size.data(nothing).panels == ()
