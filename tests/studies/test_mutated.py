"""Mangled study files and settings, a small part of those that `mutated.py` beside this tries, and counts without an end."""

import mutated
import pytest

from residuum.studies import study as studies


def test_mangled_study_files_and_settings_are_refused_in_a_line_or_are_studies():
    assert mutated.tried(150, most=float("inf")) == []


ENDLESS = (
    "0x7fffffffffffffff",
    "9" * 18,
    "9" * 19,
    "9" * 5000,
    "10000000",
    "-1",
    "1e9",
    "٣" * 30,
    "nan",
    "1," * 99999,
    "0",
)


@pytest.mark.parametrize("text", ENDLESS)
def test_seeds_without_an_end_are_refused(text):
    words = ["study", "plan", "quickstart", f"--seeds={text}"]
    assert mutated.wrong(words, most=float("inf")) == ""
    assert mutated.code_of(words) == 2


@pytest.mark.parametrize(
    "text", ["9" * 400 + "h", "9" * 5000 + "s", "1e9h", "0s", "-1h", "nan", "", "1h" * 999, "0." + "0" * 400 + "1s"]
)
def test_a_budget_that_is_no_time_is_refused(text):
    words = ["study", "plan", "quickstart", f"--budget={text}"]
    assert mutated.wrong(words, most=float("inf")) == ""
    assert mutated.code_of(words) == 2


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ("seeds = 100_001", "100,001 seeds: a plan has at most 100,000 runs"),
        ("seeds = 6\n[axes]\n'optim.lr' = A\n'train.epochs' = B", "20,000 arms: a study has at most 10,000"),
        (
            "seeds = 11\n[axes]\n'optim.lr' = A\n'train.epochs' = C",
            "10,000 arms with 11 seeds: a plan has at most 100,000 runs",
        ),
    ],
)
def test_a_plan_has_an_end_that_is_named(changed, said, run):
    from pathlib import Path

    lists = {"A": 200, "B": 100, "C": 50}
    for name, count in lists.items():
        changed = changed.replace(f"= {name}", f"= {[*range(1, count + 1)]}")
    Path("m.toml").write_text(f'question = "?"\nbase = "quick"\n{changed}\n')
    code, _, err = run("study", "plan", "m.toml")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("residuum: m.toml, line ")
    assert said in err


def test_so_many_runs_and_no_more_may_be_planned():
    studies._check_runs(10_000, 10)
    for arms, seeds in ((10_000, 11), (10_001, 1), (1, 100_001)):
        with pytest.raises(ValueError, match="at most"):
            studies._check_runs(arms, seeds)
