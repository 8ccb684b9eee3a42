"""What a report says of the arm that validation chose, from fabricated runs whose test and validation errors disagree."""

import json
import re

import pytest
from report_runs import DEPTHS, depths, leave, planned, read

from residuum.report import chosen_arm, tables
from residuum.report.figures import scatter
from residuum.report.study_page import sections
from residuum.studies import chosen
from residuum.studies import plan as plans
from residuum.studies.chosen import Chosen

VALIDATION = {"compare": {"baseline": "resnet20", "measure": "validation_error"}, "select": "validation",
              "set": {"data.validation": 5000},
              "claims": [{"text": "Plain gets worse.", "expect": "plain56 > plain20", "measure": "validation_error"}]}  # fmt: skip
ERRORS = dict(zip(DEPTHS, (9.5, 13.5, 20.0, 8.5, 7.0, 6.5), strict=True))
MADE = Chosen(
    "2026-01-02T03:04:05+00:00", "resnet110", "resnet20", (0, 1, 2), {"resnet110": 7.15, "resnet20": 9.35}, 18, 0
)


def study(root, *, read_of=("resnet110", "resnet20"), missing=0, made=MADE, reads_of=None, **changes):
    """A study of which some runs are missing, some arms were read on the test set, and a choice was made or not."""
    plan = planned(depths(**{**VALIDATION, **changes}))
    for run in plan.runs[: len(plan.runs) - missing]:
        leave(root, run, ERRORS[run.arm] * (1 + 0.01 * run.seed**2), observed=True)
        path = root / run.folder / "result.json"
        result = json.loads(path.read_text())
        result["last"] |= {
            "validation": {"loss": 0.5, "accuracy": 0.9, "n": 5000},
            "held_out_chance": 0.1,
            "chance": 0.1,
        }
        if run.arm in read_of:
            (root / run.folder / "test_reads.jsonl").write_text('{"why": "last", "epoch": 12}\n')
        else:
            del result["last"]["test"]
        path.write_text(json.dumps(result))
    folder = plans.write(plan, root)
    if made:
        chosen.write(made, folder)
    return read(plan, root)


def told(found):
    (section,) = (one for one in sections(found) if one.id == "selection")
    return section.blocks


def test_the_reading_is_a_table_of_its_own_with_its_paired_difference(tmp_path):
    found = study(tmp_path)
    table, text = told(found)
    assert table.table.columns == (
        "arm", "role", "validation error (%)", "test error (%)", "difference", "95 % interval", "n", "readings",
    )  # fmt: skip
    test = found.selection.test
    ends = tables.interval(test.comparison.low, test.comparison.high, 2, "+")
    assert [row[:3] for row in table.table.rows] == [("resnet110", "chosen", "7.15"), ("resnet20", "baseline", "9.35")]
    assert table.table.rows[0][3].startswith("6.61 ± ")
    assert table.table.rows[0][4:] == (tables.number(-2 * (1 + 0.05 / 3), 2, "+"), ends, "3", "3")
    assert table.table.rows[1][4:] == ("–", "–", "3", "3")
    assert table.caption.startswith("The only reading of the test set in this study (2026-01-02), of the last epoch.")
    assert (
        text.text
        == f"{chosen_arm.HOW} A validation error that was the lowest of several is too low on average; the test error is not."
    )


def test_accuracy_against_cost_is_that_of_the_held_out_images(tmp_path):
    results = study(tmp_path)
    found = scatter.data(results)
    held_out = {one.arm: one.mean for one in results.summaries["validation_accuracy"]}
    assert found.split == "validation"
    assert {point.arm: point.y for panel in found.panels for point in panel.points} == held_out
    assert held_out["resnet110"] == pytest.approx(100 - 1.1 * ERRORS["resnet110"] * (1 + 0.05 / 3))
    assert [axes.get_ylabel() for axes in scatter.draw(found).axes] == ["validation accuracy (%)"] * len(found.panels)


def test_nothing_else_in_the_report_is_of_the_test_set(tmp_path):
    """Though the runs have an observed test curve on record, and those of two arms their test errors."""
    found = study(tmp_path)
    others = [block for one in sections(found) if one.id != "selection" for block in one.blocks]
    words = " ".join([*(getattr(one, "caption", "") for one in others), *(getattr(one, "text", "") for one in others)])
    assert not re.search(r"test (error|accuracy|loss)", words.replace("Published numbers", ""))
    cells = {cell for one in others if hasattr(one, "table") for row in one.table.rows for cell in row}
    assert not [cell for cell in cells if cell.startswith("6.61")]
    heads = {column for one in others if hasattr(one, "table") for column in one.table.columns}
    assert "validation error, last epoch (%)" in heads
    assert not [head for head in heads if "test" in head]
    assert all(row.test is None for record in found.records.values() for row in record.epochs)


@pytest.mark.parametrize("at_chance", ["test", "validation"])
def test_whether_a_run_trained_is_judged_by_the_same_images_in_every_table(tmp_path, at_chance):
    """One run of the chosen arm is at chance on the images of one split and beyond it on those of the other."""
    study(tmp_path)
    plan = plans.read(plans.find("twins", tmp_path))
    lost = next(run for run in plan.runs if (run.arm, run.seed) == ("resnet110", 1))
    path = tmp_path / lost.folder / "result.json"
    result = json.loads(path.read_text())
    result["last"][at_chance]["accuracy"] = 0.1
    path.write_text(json.dumps(result))
    found = read(plan, tmp_path)
    (arms,) = (one for one in found.summaries["validation_error"] if one.arm == "resnet110")
    trained = {one.seed: one.trained for one in arms.values}
    assert trained == {0: True, 1: at_chance == "test", 2: True}
    assert {one.seed: one.trained for one in found.selection.test.errors["resnet110"].values} == trained
    (failed,) = (one.failed for one in found.failures if one.arm == "resnet110")
    assert failed == (at_chance == "validation")
    assert ("did not train" in found.selection.test.comparison.note) == bool(failed)
    assert (found.selection.test.comparison.low is None) == bool(failed)


def test_a_published_test_error_beside_held_out_images_is_said_to_be_one(tmp_path):
    found = study(tmp_path, made=None)
    (row,) = tables.published(found).rows
    columns = tables.published(found).columns
    assert (
        "test images there, images held out of the training set here" in row[columns.index("differences in protocol")]
    )
    # 110 % of the error at the last epoch, as such runs leave it.
    assert row[columns.index("ours")].startswith(tables.number(1.1 * 8.5 * (1 + 0.05 / 3)))


@pytest.mark.parametrize(
    ("made", "says"),
    [
        ({"missing": 4, "made": None}, "The test set is still unread: 4 of 18 runs are not there yet."),
        ({"made": None}, "The test set is still unread: the command that ran the study, given again, chooses an arm and reads it."),
        ({"read_of": ("resnet20",)}, "Chosen by validation error: resnet110 (7.15 %). The test set is not read for it in every run yet"),
    ],
)  # fmt: skip
def test_a_report_before_the_reading_says_how_far_it_is(made, says, tmp_path):
    (text,) = told(study(tmp_path, **made))
    assert text.text.startswith(f"{chosen_arm.HOW} {says}")


def test_what_was_read_elsewhere_and_another_choice_by_now_are_told(tmp_path):
    before = Chosen(**{**vars(MADE), "read_before": 5})
    _, text = told(study(tmp_path / "before", made=before, read_of=("resnet110", "resnet20", "plain20")))
    assert "Of the 18 runs 5 had been read on the test set before, for something else" in text.text
    _, text = told(study(tmp_path / "since", read_of=("resnet110", "resnet20", "plain20")))
    assert "Since then the test set was read for 3 runs of other arms, for something else, or by" in text.text
    other = Chosen(**{**vars(MADE), "arm": "resnet56", "validation": {"resnet56": 7.0, "resnet20": 9.35}})
    _, text = told(study(tmp_path / "other", made=other, read_of=("resnet56", "resnet20")))
    assert "resnet110 would be chosen. The choice stands: the test set is not read again." in text.text


def test_a_study_that_chooses_nothing_has_no_such_section(tmp_path):
    plan = planned(depths())
    assert "selection" not in [one.id for one in sections(read(plan, tmp_path))]


def test_a_notebook_says_whether_the_test_set_was_read(tmp_path):
    unread = study(tmp_path / "unread", made=None, read_of=())._repr_html_()
    assert unread.endswith("<p>The test set is still unread.</p>")
    found = study(tmp_path / "read")
    errors = {name: f"{one.mean:.2f}" for name, one in found.selection.test.errors.items()}
    assert found._repr_html_().endswith(
        "<p>Chosen by validation error: resnet110. Test error, read once: "
        f"resnet110: {errors['resnet110']} %; resnet20: {errors['resnet20']} %.</p>"
    )
