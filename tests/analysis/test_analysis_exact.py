"""Measures without chance, and whether runs trained: what is known is not called undecided."""

from residuum.analysis.aggregate import Value, summarize
from residuum.analysis.claims import verdicts
from residuum.records.measures import MEASURES
from residuum.studies.study import Claim


def arm(name, measure, *values, status="finished"):
    found = [Value(seed, f"{name}{seed}", status, value, True) for seed, value in enumerate(values)]
    return summarize(name, measure, found)


def test_what_is_of_the_network_alone_is_exact():
    assert {name for name, one in MEASURES.items() if one.exact} == {"activation_memory", "parameters", "macs"}


def test_memory_is_decided_from_any_number_of_runs():
    claim = Claim(text="?", expect="small < large", measure="activation_memory")
    for n in (1, 3):
        sides = {"small": arm("small", claim.measure, *[1.2] * n), "large": arm("large", claim.measure, *[2.4] * n)}
        (verdict,) = verdicts([claim], lambda name, _measure, sides=sides: sides[name], paired=True)
        assert verdict.verdict == "supported"
        assert verdict.p_holm is None or verdict.p_holm == 0


def test_a_run_that_diverged_did_not_train_in_the_share_of_those_that_did():
    values = [Value(seed, f"r{seed}", status, float(status == "finished"), status == "finished")
              for seed, status in enumerate(["finished"] * 6 + ["diverged"] * 4)]  # fmt: skip
    found = summarize("a", "trained", values)
    assert (found.n, found.mean) == (10, 0.6)
    assert summarize("a", "test_error", values).n == 6
