import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from safetensors.numpy import save
from scipy import stats

from residuum.analysis.compare import holm
from residuum.analysis.curves import bands
from residuum.analysis.over_images import mcnemar
from residuum.analysis.results import note_reading, results
from residuum.analysis.spending import spend
from residuum.config import identity
from residuum.records import run_folder, storage
from residuum.records.event import EpochDone, Scores
from residuum.records.facts import DataFacts, Normalized
from residuum.records.record import read_record
from residuum.studies import plan as plans
from residuum.studies.plan import Plan, PlannedArm, PlannedRun
from residuum.studies.prespecified import PRESPECIFIED, prespecify, readings
from residuum.studies.study import Study

LABELS = np.array([0, 1, 2, 0, 1, 2, 0, 1, 2, 0])


def planned(seeds=3, **study):
    """A plan of two arms, plain20 and resnet20."""
    study = Study(**{
        "name": "small", "question": "Do shortcuts help?", "base": "he2015", "seeds": seeds,
        "axes": {"model": ["plain20", "resnet20"]}, "compare": {"baseline": "plain20"},
        "claims": [{"text": "They help.", "expect": "resnet20 < plain20"}], **study,
    })  # fmt: skip
    runs = []
    for arm in study.arms():
        for seed in study.seeds:
            config = arm.config.changed({"train.seed": seed})
            folder = run_folder.folder_of(plans.Path(), config).name
            runs.append(PlannedRun(arm.name, seed, identity(config), folder, config))
    arms = tuple(PlannedArm(arm.name, arm.settings, 269722, 40551040, 2, 10) for arm in study.arms())
    return Plan(study, "small", 1.0, {}, (), arms, tuple(runs))


FACTS = DataFacts("digits", "f" * 16, (1, 8, 8), 1437, 0, 360, Normalized("affine", (0.5,), (0.5,)), ("a", "b", "c"))


def compute(plan, root, arm, seed, error=None, *, status="finished", losses=(2.0, 1.0), right=None):
    """Fabricate a run folder with the files that a run leaves; without `error` there is no result yet."""
    run = next(one for one in plan.runs if (one.arm, one.seed) == (arm, seed))
    config = next(one for one in plan.study.arms() if one.name == arm).config.changed({"train.seed": seed})
    folder = root / run.folder
    run_folder.begin(folder, config, "he2015")
    storage.write_json(folder / run_folder.DATA, FACTS.plain())
    scores = [Scores("train", loss, 1 - loss / 4, 100) for loss in losses]
    with run_folder.writing(folder) as writer:
        for epoch, score in enumerate(scores, start=1):
            test = replace(score, split="test", loss=score.loss + seed)
            writer.write(EpochDone(epoch, 10 * epoch, 0.1, score, None, test, False, 1.5, 100.0))
    last = {
        "epoch": 2,
        "test": {"loss": 1.0, "accuracy": 1 - (error or 0) / 100, "n": 10},
        "chance": 0.1,
        "validation": None,
    }
    counts = {"seconds": 3.0, "parameters": 269722, "macs": 40551040}
    if status == "diverged":
        storage.write_json(folder / run_folder.RESULT, {"status": status, "last": None, "selected": None, **counts})
    elif error is not None:
        storage.write_json(folder / run_folder.RESULT, {"status": status, "last": last, "selected": None, **counts})
    if right is not None:
        guesses = np.where(right, LABELS, (LABELS + 1) % 3)
        tensors = {"logits_NK": np.eye(3, dtype=np.float32)[guesses], "labels_N": LABELS}
        storage.write_tensors(folder / "predictions" / "last.safetensors", save(tensors))
    return folder


def complete(plan, root):
    for seed, (plain, residual) in enumerate(zip((10.0, 10.3, 9.8), (8.1, 8.2, 8.15), strict=True)):
        compute(plan, root, "plain20", seed, plain)
        compute(plan, root, "resnet20", seed, residual)


def test_a_complete_study_is_summarised_compared_and_judged(tmp_path):
    plan = planned()
    complete(plan, tmp_path)
    found = results(plan, tmp_path)
    assert set(found.records) == {run.id for run in plan.runs}
    assert {name: [one.arm for one in row] for name, row in found.summaries.items()} == {
        name: ["plain20", "resnet20"] for name in
        ("test_error", "test_accuracy", "test_loss", "train_loss", "train_error", "held_out_error", "trained", "gap_growth",
         "mean_held_out_error", "converged_at", "seconds", "seconds_per_epoch", "milliseconds_per_update",
         "parameters", "macs")
    }  # fmt: skip
    plain, residual = found.summaries["test_error"]
    assert (plain.mean, residual.n) == (pytest.approx(10.0333333), 3)
    theirs = stats.ttest_rel([8.1, 8.2, 8.15], [10.0, 10.3, 9.8])
    (comparison,) = found.comparisons
    assert (comparison.arm, comparison.baseline, comparison.paired) == ("resnet20", "plain20", True)
    assert comparison.p_holm == comparison.p_t == pytest.approx(theirs.pvalue)
    (verdict,) = found.verdicts
    assert (verdict.verdict, verdict.n) == ("supported", 3)
    assert [(one.arm, one.failed, one.n) for one in found.failures] == [("plain20", 0, 3), ("resnet20", 0, 3)]
    assert (found.looks, found.failed, found.images) == ((), {}, ())


def test_a_plan_without_any_run_has_results_too(tmp_path):
    found = results(planned(), tmp_path)
    assert (dict(found.records), dict(found.summaries), found.images) == ({}, {}, ())
    assert found.comparisons[0].note.startswith(
        "seeds 0, 1, 2 left out: 'resnet20' is missing and 'plain20' is missing"
    )
    assert found.verdicts[0].reason == "6 of 6 runs are still missing"


def test_every_planned_run_is_listed_with_its_status(tmp_path):
    plan = planned()
    compute(plan, tmp_path, "plain20", 0, status="diverged")
    compute(plan, tmp_path, "plain20", 1, losses=(2.0,))
    running = compute(plan, tmp_path, "resnet20", 0)
    compute(plan, tmp_path, "resnet20", 1)
    compute(plan, tmp_path, "resnet20", 2, 8.0)
    ids = {(run.arm, run.seed): run.id for run in plan.runs}
    beside = plans.write(plan, tmp_path)
    failed = {ids["resnet20", 1]: "killed three times", ids["resnet20", 2]: "finished by another study since"}
    storage.write_json(beside / plans.FAILED, failed)
    with storage.locked(running):
        found = results(plan, tmp_path)
    plain, residual = found.summaries["test_error"]
    assert [one.status for one in plain.values] == ["diverged", "stopped", "missing"]
    assert [one.status for one in residual.values] == ["running", "failed", "finished"]
    assert [one.run for one in residual.values] == [ids["resnet20", seed] for seed in (0, 1, 2)]
    assert found.failed == {ids["resnet20", 1]: "killed three times"}


def test_holm_runs_over_the_comparisons_of_a_study(tmp_path):
    plan = planned(
        axes={"model": ["plain20", "resnet20", "resnet32"]},
        compare={"baseline": "plain20", "pair_by": "none"},
        claims=[],
    )
    complete(plan, tmp_path)
    for seed, error in enumerate((9.9, 9.5, 9.6)):
        compute(plan, tmp_path, "resnet32", seed, error)
    one, two = results(plan, tmp_path).comparisons
    assert (one.paired, one.differences) == (False, ())
    assert one.p_holm == pytest.approx(2 * one.p_t)
    assert two.p_holm == two.p_t == pytest.approx(
        stats.ttest_ind((9.9, 9.5, 9.6), (10.0, 10.3, 9.8), equal_var=False).pvalue)  # fmt: skip


def test_a_hypothesis_has_one_corrected_p(tmp_path):
    claims = [{"text": "better", "expect": "resnet20 < plain20"}, {"text": "much", "expect": "resnet20 < plain20",
              "margin": 1.0}, {"text": "worse than 1", "expect": "plain20 > 1"}]  # fmt: skip
    plan = planned(axes={"model": ["plain20", "resnet20", "resnet32", "resnet44"]}, claims=claims)
    complete(plan, tmp_path)
    for seed, error in enumerate((9.9, 9.5, 9.6)):
        compute(plan, tmp_path, "resnet32", seed, error)
        compute(plan, tmp_path, "resnet44", seed, error - 0.3 * seed)
    found = results(plan, tmp_path)
    claimed, *others = found.comparisons
    assert (claimed.family, claimed.p) == ("claim", pytest.approx(found.verdicts[0].p))
    assert claimed.p_holm == found.verdicts[0].p_holm > claimed.p
    assert [one.family for one in others] == ["exploratory", "exploratory"]
    assert [one.p_holm for one in others] == holm([one.p for one in others])
    # One with a margin is another hypothesis, whichever is claimed first; one that cannot be judged yet has no p.
    margin = results(planned(claims=claims[1:2]), tmp_path)
    assert (margin.comparisons[0].family, margin.comparisons[0].p_holm) == ("exploratory", margin.comparisons[0].p)
    turned = results(planned(claims=[claims[1], claims[0]]), tmp_path)
    assert turned.comparisons[0].p_holm == turned.verdicts[1].p_holm != turned.verdicts[0].p_holm
    waiting = results(planned(seeds=4), tmp_path)
    assert (waiting.comparisons[0].family, waiting.comparisons[0].p_holm) == ("claim", None)


def test_runs_that_stay_at_chance_are_found_and_judged(tmp_path):
    plan = planned(seeds=5)
    for seed in range(5):
        stuck = compute(
            plan, tmp_path, "plain20", seed, 70.0
        )  # 3 of 10 images right, which guesses are in one of 14 cases
        compute(plan, tmp_path, "resnet20", seed, 0.0)
        if seed == 4:
            storage.write_json(stuck / run_folder.RESULT, {"status": "diverged", "last": None, "selected": None})
    found = results(plan, tmp_path)
    plain, residual = found.failures
    assert (plain.stuck, plain.diverged, plain.n, residual.failed) == (4, 1, 5, 0)
    assert (plain.low, plain.high) == pytest.approx((0.025 ** (1 / 5), 1.0))
    assert (residual.baseline, residual.p) == ("plain20", pytest.approx(2 * 0.5**10))
    assert found.verdicts[0].verdict == "supported"
    assert found.verdicts[0].reason.startswith("0 of 5 runs of 'resnet20' and 5 of 5 of 'plain20' did not train")
    assert found.comparisons[0].p == found.verdicts[0].p


def test_runs_of_one_seed_are_compared_image_by_image(tmp_path):
    plan, random = planned(), np.random.default_rng(0)
    right = {(arm, seed): random.random(10) < 0.7 for arm in ("plain20", "resnet20") for seed in (0, 1)}
    for (arm, seed), right_N in right.items():
        compute(plan, tmp_path, arm, seed, 9.0, right=right_N)
    compute(plan, tmp_path, "plain20", 2, 9.0, right=right_N)
    folder = compute(plan, tmp_path, "resnet20", 2, 9.0)
    found = results(plan, tmp_path).images
    alone = [mcnemar(right["resnet20", seed], right["plain20", seed]) for seed in (0, 1)]
    low, high = sorted(pairs.p for pairs in alone)
    corrected = {low: min(1, 2 * low), high: min(1, max(2 * low, high))}
    assert low < high
    assert found == tuple(
        ("resnet20", "plain20", seed, replace(pairs, p_holm=corrected[pairs.p])) for seed, pairs in enumerate(alone)
    )
    assert found[0][3].only_first_right != found[0][3].only_second_right
    other = {"logits_NK": np.eye(3, dtype=np.float32), "labels_N": np.arange(3)}
    storage.write_tensors(folder / "predictions" / "last.safetensors", save(other))  # another test set
    assert len(results(plan, tmp_path).images) == 2
    (folder / "predictions" / "last.safetensors").write_bytes(b"\x08 no tensors")
    found = results(plan, tmp_path)
    assert len(found.images) == 2
    (noted,) = [record.damaged for record in found.records.values() if record.damaged]
    assert noted[0].startswith("predictions/last.safetensors is damaged")


def test_an_effect_smaller_than_the_test_set_can_tell_is_marked(tmp_path):
    plan = planned()
    # The same two images of ten in every seed: sure over seeds, and not over images.
    for seed in range(3):
        right_N = np.ones(10, dtype=bool)
        right_N[seed] = False
        compute(plan, tmp_path, "resnet20", seed, 10.0 + seed / 100, right=right_N)
        worse_N = right_N & (np.arange(10) < 8)
        compute(plan, tmp_path, "plain20", seed, 30.0 + seed / 50, right=worse_N)
    found = results(plan, tmp_path)
    (comparison,) = found.comparisons
    assert comparison.high < -19
    assert comparison.on_images.difference == pytest.approx(-20)
    assert comparison.on_images.low < -40 < comparison.on_images.high
    assert not comparison.on_images.is_beyond_images
    assert found.verdicts[0].verdict == "supported"
    assert found.verdicts[0].rests_on.endswith(", not beyond what 10 test images can tell")


def test_rows_of_updates_are_read_only_where_a_study_asks_for_them(tmp_path):
    plan = planned(seeds=1)
    folder = compute(plan, tmp_path, "plain20", 0, 9.0)
    rows = [{"epoch": 2, "gradient_norm": norm} for norm in (1.0, 3.0)]
    (folder / run_folder.STEPS).write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert "gradient_variation" not in results(plan, tmp_path).summaries
    for asked in (
        {"claims": [{"text": "noise", "expect": "plain20 > 0", "measure": "gradient_variation"}]},
        {"compare": {"baseline": "plain20", "measure": "gradient_variation"}},
        {"published": [{"source": "x", "arm": "plain20", "measure": "gradient_variation", "value": 1}]},
    ):
        summary = results(planned(seeds=1, **asked), tmp_path).summaries["gradient_variation"][0]
        assert summary.mean == 0.5


def test_a_damaged_row_of_an_update_leaves_one_value_out_and_is_named_once(tmp_path):
    asked = {"claims": [{"text": "noise", "expect": "plain20 > 0", "measure": "gradient_variation"}],
             "compare": {"baseline": "resnet20", "measure": "gradient_variation"}}  # fmt: skip
    plan = planned(seeds=2, **asked)
    for seed in range(2):
        folder = compute(plan, tmp_path, "plain20", seed, 9.0)
        rows = [json.dumps({"epoch": 2, "gradient_norm": norm}) for norm in (1.0, 3.0)]
        (folder / run_folder.STEPS).write_text("\n".join([*rows, *(["{torn"] if seed else []), rows[0], ""]))
    found = results(plan, tmp_path)
    summary = found.summaries["gradient_variation"][0]
    assert [one.value is None for one in summary.values] == [False, True]
    assert found.summaries["test_error"][0].n == 2
    (noted,) = [record.damaged for record in found.records.values() if record.damaged]
    assert [line.partition(":")[0] for line in noted] == ["steps.jsonl, line 3 is damaged"]
    assert found.verdicts[0].verdict == "undecided"
    assert "measured no gradient_variation" in found.verdicts[0].reason


def grown(tmp_path, errors):
    """A study of one claim whose seeds came in two groups, 0-2 and 3-5, with its looks beside the plan."""
    plan = planned(seeds=6)
    for seed, error in enumerate(errors):
        compute(plan, tmp_path, "plain20", seed, 10.0)
        compute(plan, tmp_path, "resnet20", seed, error)
    beside = plans.write(plan, tmp_path)
    rows = [{"look": look, "looks": 4, "seeds": list(range(3 * look)), "level": 1 - spend(look, 4), "decided": {}}
            for look in (1, 2)]  # fmt: skip
    storage.write_json(beside / plans.LOOKS, rows)
    return plan


def test_what_a_look_decided_stays_decided(tmp_path):
    # Seeds 3-5 blur what the first look saw beyond doubt.
    plan = grown(tmp_path, [8.0, 8.01, 7.99, 12.0, 7.0, 11.0])
    found = results(plan, tmp_path)
    assert [look.look for look in found.looks] == [1, 2]
    assert (found.verdicts[0].verdict, found.verdicts[0].n) == ("supported", 3)
    assert found.verdicts[0].reason.endswith("; look 1 of 4, where p has to be below 0.00078")
    assert results(plan, tmp_path, level=0.95).verdicts[0].verdict == "undecided"


def test_what_no_look_decided_is_judged_at_the_level_of_the_last(tmp_path):
    plan = grown(tmp_path, [8.0, 9.9, 9.0, 9.5, 9.6, 9.1])
    assert results(plan, tmp_path, level=0.95).verdicts[0].verdict == "supported"
    verdict = results(plan, tmp_path).verdicts[0]
    assert (verdict.verdict, verdict.n) == ("undecided", 6)
    assert verdict.level == 1 - spend(2, 4)
    assert verdict.corrected[0] < verdict.low < verdict.high < 0 < verdict.corrected[1]
    assert verdict.reason.endswith(
        "not beyond chance at this look (p = 0.030); look 2 of 4, where p has to be below 0.0055"
    )
    fewer = results(replace(planned(seeds=4), label="small"), tmp_path)  # written anew since: the looks are not its own
    assert fewer.looks == ()
    assert fewer.verdicts[0].level == 0.95


def three_arms(root, claims, promised):
    """A complete study of three arms that first made other claims than it makes now."""
    changes = {"axes": {"model": ["plain20", "resnet20", "resnet32"]}}
    prespecify(planned(claims=promised, **changes), root)
    plan = planned(claims=claims, **changes)
    for seed, errors in enumerate([(10.0, 8.1, 7.9), (10.3, 8.2, 8.0), (9.8, 8.15, 8.05), (10.1, 8.0, 7.9)][:3]):
        for arm, error in zip(("plain20", "resnet20", "resnet32"), errors, strict=True):
            compute(plan, root, arm, seed, error)
    return results(plan, root)


HELP = {"text": "They help.", "expect": "resnet20 < plain20"}
DEEPER = {"text": "Deeper helps.", "expect": "resnet32 < plain20"}


def test_a_claim_that_came_later_takes_no_part_in_the_correction_of_the_promised_ones(tmp_path):
    both = three_arms(tmp_path / "both", [HELP, DEEPER], [HELP, DEEPER])
    assert [one.exploratory for one in both.verdicts] == ["", ""]
    assert [one.family for one in both.comparisons] == ["claim", "claim"]
    one, late = three_arms(tmp_path / "late", [HELP, DEEPER], [HELP]).verdicts
    assert (one.exploratory, one.p_holm) == ("", one.p)
    assert late.exploratory == "claimed after the first run, until then a comparison"
    assert late.p_holm == pytest.approx(2 * late.p), "it is corrected for the promised one, too"
    assert {one.p, late.p} == {verdict.p for verdict in both.verdicts}
    assert max(verdict.p_holm / verdict.p for verdict in both.verdicts) == pytest.approx(2)
    found = three_arms(tmp_path / "again", [DEEPER, HELP], [HELP])
    assert [verdict.claim.text for verdict in found.verdicts] == ["Deeper helps.", "They help."]
    assert {one.arm: one.family for one in found.comparisons} == {"resnet20": "claim", "resnet32": "exploratory claim"}
    assert {one.arm: one.p_holm for one in found.comparisons}["resnet32"] == late.p_holm


def test_a_promised_claim_that_is_dropped_or_changed_still_counts(tmp_path):
    alone = three_arms(tmp_path / "alone", [HELP], [HELP]).verdicts[0]
    left = three_arms(tmp_path / "left", [HELP], [HELP, DEEPER])
    assert [one.text for one in left.dropped] == ["Deeper helps."]
    assert left.verdicts[0].p_holm == pytest.approx(2 * alone.p_holm)
    changed = three_arms(tmp_path / "changed", [HELP, {**DEEPER, "margin": 1.0}], [HELP, DEEPER])
    assert changed.verdicts[0].p_holm == pytest.approx(2 * alone.p_holm)
    assert changed.verdicts[1].exploratory == "promised otherwise: resnet32 < plain20 (test error)"
    assert changed.verdicts[1].p_holm == pytest.approx(3 * changed.verdicts[1].p)


def test_a_promised_claim_that_became_exploratory_counts_once(tmp_path):
    """A seed that was left out after a reading makes every claim exploratory: each is still one test of the family."""
    plan = planned(
        seeds=4, claims=[HELP, {"text": "Smaller.", "expect": "resnet20 < plain20", "measure": "parameters"}]
    )
    complete(plan, tmp_path)
    prespecify(plan, tmp_path)
    note_reading(results(plan, tmp_path), tmp_path)
    fewer = replace(plan, study=plan.study.model_copy(update={"seeds": (0, 1, 2)}),
                    runs=tuple(run for run in plan.runs if run.seed < 3))  # fmt: skip
    found = results(fewer, tmp_path)
    assert found.verdicts[0].exploratory == "seed 3 left out after the verdicts were read"
    assert found.verdicts[0].p_holm == found.verdicts[0].p


def test_an_altered_record_makes_every_claim_exploratory(tmp_path):
    three_arms(tmp_path, [HELP], [HELP])
    path = plans.folder_of(tmp_path, "small") / PRESPECIFIED
    values = storage.read_json(path)
    storage.write_json(path, {**values, "seeds": [0, 1, 2, 3]})
    found = results(planned(), tmp_path)
    assert found.prespecified is None
    assert found.altered.startswith("prespecified.json was changed since it was written: its hash is ")
    assert [one.exploratory for one in found.verdicts] == [found.altered]
    assert str(tmp_path) not in found.altered


def test_readings_before_seeds_were_added_are_unplanned_looks(tmp_path):
    three, six = planned(), planned(seeds=6)
    complete(three, tmp_path)
    plans.write(three, tmp_path)
    note_reading(results(three, tmp_path), tmp_path)
    assert results(three, tmp_path).unplanned == ()
    assert [one.seeds for one in results(six, tmp_path).unplanned] == [(0, 1, 2)]


def test_reading_a_study_without_results_or_at_a_planned_look_is_no_reading(tmp_path):
    empty = planned()
    plans.write(empty, tmp_path / "empty")
    note_reading(results(empty, tmp_path / "empty"), tmp_path / "empty")
    assert readings(plans.folder_of(tmp_path / "empty", "small")) == ()
    plan = grown(tmp_path, [8.0, 8.01, 7.99, 12.0, 7.0, 11.0])
    note_reading(results(plan, tmp_path), tmp_path)
    assert [one.planned for one in readings(plans.folder_of(tmp_path, "small"))] == [True]
    assert results(planned(seeds=9), tmp_path).unplanned == ()


def test_what_an_early_look_decided_is_marked(tmp_path):
    (found,) = results(grown(tmp_path / "early", [8.0, 8.01, 7.99, 12.0, 7.0, 11.0]), tmp_path / "early").verdicts
    assert (found.verdict, found.early) == ("supported", True)
    (found,) = results(grown(tmp_path / "open", [8.0, 9.9, 9.0, 9.5, 9.6, 9.1]), tmp_path / "open").verdicts
    assert (found.verdict, found.early) == ("undecided", False)
    last = grown(tmp_path / "last", [8.0, 8.01, 7.99, 12.0, 7.0, 11.0])
    path = plans.folder_of(tmp_path / "last", "small") / plans.LOOKS
    storage.write_json(path, [{**row, "looks": row["look"]} for row in storage.read_json(path)][:1])
    assert not results(last, tmp_path / "last").verdicts[0].early


def test_curves_are_means_and_bands_of_the_runs_that_reached_each_epoch(tmp_path):
    plan = planned()
    curves = [(2.0, 1.0, 0.8), (2.2, 1.4), (2.1, 1.1, 0.6, 0.5)]
    folders = [compute(plan, tmp_path, "plain20", seed, losses=losses) for seed, losses in enumerate(curves)]
    found = {(band.split, band.quantity): band for band in bands("plain20", [read_record(one) for one in folders])}
    assert set(found) == {("train", "loss"), ("train", "error"), ("test", "loss"), ("test", "error")}
    band = found["train", "loss"]
    assert (band.arm, band.epochs, band.n) == ("plain20", (1, 2, 3, 4), (3, 3, 2, 1))
    for place in range(3):
        values = [curve[place] for curve in curves if len(curve) > place]
        low, high = stats.ttest_1samp(values, 0).confidence_interval()
        assert (band.mean[place], band.low[place], band.high[place]) == pytest.approx((np.mean(values), low, high))
    assert band.mean[3] == band.low[3] == band.high[3] == 0.5
    assert found["train", "error"].mean[0] == pytest.approx(100 * 2.1 / 4)
    assert found["test", "loss"].mean[3] == 2.5
    assert bands("plain20", []) == ()


@pytest.mark.parametrize("last", ["trains", "is stuck", "diverges"])
def test_a_curve_has_a_band_where_the_table_has_an_interval(tmp_path, last):
    plan, ends = planned(), {"trains": {}, "is stuck": {"error": 90.0}, "diverges": {"status": "diverged"}}
    folders = [compute(plan, tmp_path, "plain20", seed, **{"error": 10.0 + seed, "losses": (2.0 + seed, 1.0), **more})
               for seed, more in enumerate(({}, {}, ends[last]))]  # fmt: skip
    found = [band for band in bands("plain20", [read_record(one) for one in folders]) if band.split == "test"]
    drawn = {band.quantity: band.low[0] < band.mean[0] < band.high[0] for band in found}
    # At chance a loss is a number like any other, and an error is the worst there is.
    assert drawn == {"loss": last != "diverges", "error": last == "trains"}
    if last != "trains":
        (error,) = (band for band in found if band.quantity == "error")
        assert error.low == error.mean == error.high


def test_results_need_no_torch(tmp_path):
    plan = planned()
    complete(plan, tmp_path)
    plans.write(plan, tmp_path)
    code = (
        "import sys, pathlib; from residuum.analysis import curves, power; from residuum.analysis.results import results; "
        "from residuum.studies import plan; root = pathlib.Path(sys.argv[1]); "
        "found = results(plan.read(plan.find('small', root)), root); "
        "print(found.verdicts[0].verdict, 'torch' in sys.modules, 'scipy.stats' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["supported", "False", "False"]
