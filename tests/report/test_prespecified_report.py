"""What a report says of what was promised: who claimed later, who read before, who stopped early, and what that does."""

import html
import re

import pytest
from report_runs import ERRORS, depths, finished, leave, planned, read

from residuum.analysis import stopping
from residuum.analysis.spending import spend
from residuum.report import promised
from residuum.report.study_page import sections
from residuum.studies import plan as plans
from residuum.studies import prespecified as promises
from residuum.studies.prespecified import note_reading, prespecify


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    return root, finished(planned(depths()), root, ERRORS)


def after_promises(root, before, now, errors=ERRORS):
    """The results of a study that made the claims of `before` at its first run, and makes those of `now`."""
    prespecify(planned(before), root)
    return finished(planned(now), root, errors)


def told(found):
    """What a report says of what was promised, and beside its verdicts, as texts."""
    sections_ = {section.id: section.blocks for section in sections(found)}
    said = [
        text for block in sections_["prespecified"] for text in getattr(block, "texts", [getattr(block, "text", "")])
    ]
    table, *beside = sections_["claims"]
    return said, table, [block.text for block in beside[:-1]]


def test_a_study_without_a_record_says_that_nothing_was_prespecified(whole):
    said, table, beside = told(whole[1])
    assert said == [promised.NOTHING]
    assert beside == []
    assert table.caption == "1 claim: 1 supported, 0 contradicted, 0 undecided."


def test_a_study_that_kept_what_it_promised_says_so(tmp_path):
    found = after_promises(tmp_path, depths(), depths())
    (said,), _, beside = told(found)
    assert said.startswith("Recorded before the first run of this study, 20")
    assert f"hash {found.prespecified.hash}: 1 claim with margins, in one family (Holm, all claims, 5 %); " in said
    assert "5 exploratory comparisons on test error; 3 seeds (0, 1, 2); one test of all seeds; residuum" in said
    assert said.endswith("Nothing in it has changed since, in 18 runs.")
    assert beside == []


def test_claims_that_came_later_or_were_changed_are_told_apart(tmp_path):
    kept, other = (
        depths().claims[0].model_dump(),
        {"text": "Deep is bad.", "expect": "plain110 > plain20", "margin": 5.0},
    )
    late = {"text": "Shortcuts help.", "expect": "resnet56 < plain56"}
    found = after_promises(
        tmp_path, depths(claims=[kept, other]), depths(claims=[kept, {**other, "margin": 1.0}, late])
    )
    said, table, beside = told(found)
    assert said[1:] == [
        "Exploratory: Deep is bad. – plain110 > plain20, margin 1 (test error): "
        "promised otherwise: plain110 > plain20, margin 5 (test error).",
        "Exploratory: Shortcuts help. – resnet56 < plain56 (test error): claimed after the first run.",
        "Promised, but not claimed in this form: Deep is bad. – plain110 > plain20, margin 5 (test error). "
        "It still counts in the correction.",
    ]
    assert "Nothing of it has changed" not in said[0]
    assert table.caption.startswith("1 claim: 1 supported, 0 contradicted, 0 undecided; 2 exploratory claims: ")
    assert table.table.rows[0][0] == "✓ supported"
    assert all(row[0].endswith(" (exploratory)") for row in table.table.rows[1:])
    rests = table.table.columns.index("rests on")
    assert table.table.rows[2][rests].endswith("; exploratory: claimed after the first run")
    # A notebook says the same beside the same verdicts.
    notebook = re.findall(r"<tr>(.*?)</tr>", found._repr_html_())
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in notebook][1:4]
    assert [row[0] for row in cells] == [row[0].partition(" ")[2] for row in table.table.rows]
    assert [html.unescape(row[2]) for row in cells] == [row[rests] for row in table.table.rows]
    assert promised.EXPLORATORY in beside
    assert "Promised, but not claimed in this form: 1 claim, in the correction all the same." in beside


def test_unplanned_looks_are_told_with_seeds_and_with_the_error_of_such_readings(tmp_path):
    plan = planned(depths(seeds=12))
    plans.write(plan, tmp_path)
    for seeds in (3, 6, 9):
        note_reading(planned(depths(seeds=seeds)), tmp_path, planned=False)
    said, table, beside = told(finished(plan, tmp_path, ERRORS))
    (look,) = beside
    assert said[1:] == [look]
    assert re.match(
        r"Unplanned looks: the verdicts were read at 3 seeds \(0, 1, 2\) \(\d{4}-\d\d-\d\d\), at 6 seeds", look
    )
    assert (
        "13 % of studies read at 3, 6, 9 and 12 seeds" in look or "14 % of studies read at 3, 6, 9 and 12 seeds" in look
    )
    assert table.table.rows[0][table.table.columns.index("rests on")].endswith("; after 3 unplanned looks")


def test_an_early_stop_is_told_with_its_bias(tmp_path):
    plan = planned(depths(seeds=6))
    rows = [{"look": look, "looks": 4, "seeds": list(range(3 * look)), "level": 1 - spend(look, 4), "decided": {}}
            for look in (1, 2)]  # fmt: skip
    for run in plan.runs:
        leave(tmp_path, run, ERRORS[run.arm] * (1 + 0.01 * run.seed**2))
    said, table, beside = told(read(plan, tmp_path, looks=rows))
    assert said == [promised.NOTHING]
    (stopped,) = beside
    assert stopped.startswith("1 claim was decided before the last look.")
    half, one = (stopping.exaggeration([3, 6, 9, 12], [spend(k, 4) for k in (1, 2, 3, 4)], shift) for shift in (0.5, 1))
    assert half > 1.8 > 1.3 > one > 1.2
    assert f"one of 0.5 sd looked {half:.1f} times as large and one of 1 sd looked {one:.1f} times" in stopped
    assert "decided at an early look" in table.table.rows[0][table.table.columns.index("rests on")]


def test_a_change_of_the_code_within_a_study_is_told(tmp_path):
    plan = planned(depths())
    prespecify(plan, tmp_path)
    now = promises.read(plans.folder_of(tmp_path, "twins")).version
    for number, run in enumerate(plan.runs):
        leave(tmp_path, run, 8.0, extra={"packages": {"residuum": "9.9" if number < 4 else now}})
    said, *_ = told(read(plan, tmp_path))
    assert said[1:] == [
        f"The code has changed within this study: runs were computed with residuum {now} (14 runs) and 9.9 (4 runs); "
        f"the study was promised with {now}."
    ]
