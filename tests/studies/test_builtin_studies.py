"""The studies that come with the package: they ask what the reports ask, and every arm of every one can be trained.

Every study is planned on a few images of CIFAR's shape, and every arm trained for two steps on images of half its size.
What the reports state stands below as tables of their own, so that neither a claim nor a figure can get lost in the files.
"""

import json
import re
from functools import cache
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from residuum import recipes
from residuum.conduct import planning
from residuum.config import RunConfig
from residuum.data.dataset import Dataset, Split
from residuum.engine.loop import fit
from residuum.engine.state import Progress
from residuum.optim import SCHEDULES, Span
from residuum.records.event import StepDone
from residuum.records.measures import MEASURES
from residuum.run import assemble
from residuum.studies import parsing

DOCUMENT = Path(__file__).parents[2] / "docs" / "studies.md"
NAMES = parsing.names()
READ = {name: parsing.read(name) for name in NAMES}
ARMS = {(name, arm.name): arm for name in NAMES for arm in READ[name].arms()}

ASKED_FOR = {
    "quickstart", "degradation", "width", "report-d", "optimizers", "schedules", "regularization", "activations",
    "block-order", "augmentation", "mixup", "best-network", "normalization", "learning-rate", "batch-size",
    "resnet18-lab", "shortcuts", "budget", "initialization", "gradient-flow", "optimizer-rates",
    "tuned-optimizers",
}  # fmt: skip

FOUR = ("resnet10c", "resnet16c", "resnet24c", "resnet48c")
OPTIMIZERS = ("Adagrad", "Adadelta", "momentum", "Nesterov")

# What the reports found: study, what is expected, measure, margin.
FINDINGS = [
    # A and B: residual error falls with depth, plain error rises, and so does its training error (E); B: chance.
    ("degradation", "resnet56 < resnet20", "test_error", 0.0),
    ("degradation", "resnet110 < resnet56", "test_error", 0.0),
    ("degradation", "plain56 > plain20", "test_error", 0.0),
    ("degradation", "plain110 > plain56", "test_error", 0.0),
    ("degradation", "plain110 > 60", "test_error", 0.0),
    ("degradation", "plain110 > 89", "test_error", 0.0),
    ("degradation", "plain56 > plain20", "train_error", 0.0),
    # A: both drop at epoch 81, some again at 122; lowering the rate helps once the loss oscillates.
    ("degradation", "resnet56 > 0", "first_drop", 0.0),
    ("degradation", "plain56 > 0", "first_drop", 0.0),
    ("degradation", "resnet110 > 0", "second_drop", 0.0),
    ("degradation", "resnet20 > 1", "roughness_before_drop", 0.0),
    ("degradation", "resnet20 > 0", "first_drop", 2.0),
    # C1, on all four networks: converged by epoch 35 of 50, deeper is better, SGD about 8 points above Ada* but overfits
    # more, Adagrad like Adadelta, momentum like Nesterov's; the choice.
    *[("optimizers", f"{name} / {net} < 0.7", "converged_at", 0.0) for name in OPTIMIZERS for net in FOUR],
    *[("optimizers", f"{name} / {deep} < {name} / {flat}", "validation_error", 0.0)
      for name in OPTIMIZERS for flat, deep in pairwise(FOUR)],
    *[("optimizers", f"{name} / {net} > momentum / {net}", "validation_error", 7.5)
      for name in ("Adagrad", "Adadelta") for net in FOUR],
    *[("optimizers", f"momentum / {net} > {name} / {net}", "gap", 0.0)
      for name in ("Adagrad", "Adadelta") for net in FOUR],
    *[("optimizers", f"Adagrad / {net} = Adadelta / {net}", "validation_error", 1.0) for net in FOUR],
    *[("optimizers", f"momentum / {net} = Nesterov / {net}", "validation_error", 0.5) for net in FOUR],
    ("optimizers", "Nesterov / resnet24c < momentum / resnet24c", "validation_error", -0.3),
    *[("optimizer-rates", f"{name}, rate {rate} > momentum, rate 0.1", "validation_error", 7.5)
      for name, rates in (("Adagrad", (0.0025, 0.01, 0.04)), ("Adadelta", (0.25, 1.0, 4.0))) for rate in rates],
    *[("optimizer-rates", f"momentum, rate {rate} = Nesterov, rate {rate}", "validation_error", 0.5)
      for rate in (0.025, 0.1, 0.4)],
    # C2: exponential converges fastest and most steadily.
    *[("schedules", f"exponential < {other}", measure, 0.0) for other in ("step", "warm restarts", "plateau")
      for measure in ("converged_at", "mean_held_out_error", "roughness")],
    # C3: L2 1e-3; L1 is slow, penalties lower the gap, L2 still overfits late.
    *[("regularization", f"L2 1e-3 < {other}", "validation_error", 0.0)
      for other in ("none", "L2 1e-4", "L2 1e-2", "L1 1e-6", "L1 1e-5", "L1 1e-4")],
    *[("regularization", f"{other} < none", "gap", 0.0)
      for other in ("L1 1e-6", "L1 1e-5", "L1 1e-4", "L2 1e-4", "L2 1e-3", "L2 1e-2")],
    ("regularization", "L1 1e-5 > none", "milliseconds_per_update", 0.0),
    ("regularization", "L1 1e-5 > L2 1e-3", "mean_held_out_error", 0.0),
    ("regularization", "L2 1e-3 > 1", "gap", 0.0),
    ("regularization", "L2 1e-3 > 1", "gap_growth", 0.0),
    # C4: none clearly beats ReLU, and some cost more. C5: small differences, the original best.
    *[("activations", f"{other} > relu", "validation_error", -0.5) for other in ("relu6", "leaky_relu", "elu", "swish")],
    *[("activations", f"{other} > relu", "milliseconds_per_update", 0.0) for other in ("elu", "swish")],
    *[("block-order", f"{other} = original", "validation_error", 1.0)
      for other in ("bn_after_addition", "relu_before_addition", "relu_only_preactivation", "full_preactivation")],
    *[("block-order", f"original < {other}", "validation_error", 0.0)
      for other in ("bn_after_addition", "relu_before_addition", "relu_only_preactivation", "full_preactivation")],
    # C7: better with mixup; 93.71 without augmentation, in both readings, and 94.43.
    ("best-network", "with mixup < without mixup", "test_error", 0.0),
    ("best-network", "without augmentation = 6.29", "test_error", 0.5),
    ("best-network", "without mixup = 6.29", "test_error", 0.5),
    ("best-network", "with mixup = 5.57", "test_error", 0.5),
    # D: error falls with depth; width against accuracy, time and memory; batches; the drop; Adam ends at 80-odd %.
    ("report-d", "resnet56 < resnet20", "test_error", 0.0),
    ("report-d", "resnet110 < resnet56", "test_error", 0.0),
    ("report-d", "resnet20 < resnet20, batch 128", "test_error", 0.0),
    ("report-d", "resnet20 < resnet20, batch 128", "activation_memory", 0.0),
    ("report-d", "resnet20 < resnet20, 16+32+64 channels", "test_error", 0.0),
    ("report-d", "resnet20 > resnet20, 16+32+64 channels", "seconds_per_epoch", 0.0),
    ("report-d", "resnet20 > resnet20, 16+32+64 channels", "activation_memory", 0.0),
    ("report-d", "resnet110 > 703", "activation_memory", 0.0),
    ("report-d", "resnet20, one drop at 50 > 1", "roughness_before_drop", 0.0),
    ("report-d", "resnet20, one drop at 50 > 0", "first_drop", 2.0),
    ("report-d", "resnet20, one drop at 90 > 0", "first_drop", 2.0),
    ("report-d", "resnet110, Adam > resnet110", "test_error", 0.0),
    ("report-d", "resnet110, Adam > 10", "test_error", 0.0),
    ("report-d", "resnet110, Adam < 20", "test_error", 0.0),
    *[("width", f"depth={depth}, channels=30+60+90 < depth={depth}, channels=16+32+64", "test_error", 0.0)
      for depth in (20, 56, 110)],
    *[("width", f"depth={depth}, channels=30+60+90 > depth={depth}, channels=16+32+64", measure, 0.0)
      for depth in (20, 56, 110) for measure in ("seconds_per_epoch", "activation_memory")],
    # E: accuracy above 90 %; small against large batches.
    ("resnet18-lab", "baseline < 10", "test_error", 0.0),
    ("batch-size", "batch 1024 > batch 32", "milliseconds_per_update", 0.0),
    ("batch-size", "batch 64 = batch 32", "milliseconds_per_update", 0.0),
    ("batch-size", "batch 32 > batch 1024", "seconds_per_epoch", 0.0),
    ("batch-size", "batch 32 > batch 1024", "gradient_variation", 0.0),
    ("batch-size", "batch 32 < batch 1024", "train_error", 0.0),
    ("batch-size", "batch 32 < batch 1024", "validation_error", 0.0),
]  # fmt: skip

# What is published: study, source, measure, then a value for each arm.
PUBLISHED = [
    ("degradation", "report A", "test_error", {"plain20": 9.93, "plain56": 13.68, "plain110": 75.17,
                                               "resnet20": 8.39, "resnet56": 6.98, "resnet110": 6.84}),
    ("degradation", "report B", "test_error", {"resnet20": 8.51, "resnet56": 6.20, "resnet110": 5.68,
                                               "bottleneck56": 6.20, "bottleneck110": 5.68,
                                               "bottleneck83": 6.20, "bottleneck164": 5.68,
                                               "plain20": 9.66, "plain56": 15.05, "plain110": 90.00}),
    ("depths", "He et al. 2015, table 6", "test_error", {"resnet20": 8.75, "resnet32": 7.51, "resnet44": 7.17,
                                                         "resnet56": 6.97, "resnet110": 6.43}),
    ("depths", "He et al. 2015, table 6", "test_error", {"resnet110": 6.61}),
    ("depths", "He et al. 2015, figure 6", "test_error", {"plain20": 9.5, "plain32": 10, "plain44": 12,
                                                          "plain56": 13.5, "plain110": 60}),
    ("depths", "akamaster/pytorch_resnet_cifar10", "test_error", {"resnet20": 8.27, "resnet32": 7.37, "resnet44": 6.90,
                                                                  "resnet56": 6.61, "resnet110": 6.32}),
    ("depths", "chenyaofo/pytorch-cifar-models, training logs", "test_error",
     {"resnet20": 7.44, "resnet32": 6.59, "resnet44": 6.15, "resnet56": 5.79}),
    ("depths", "hysts/pytorch_image_classification", "test_error", {"resnet110": 6.52}),
    ("best-network", "report C", "test_accuracy", {"without augmentation": 93.71, "without mixup": 93.71,
                                                  "with mixup": 94.43}),
    ("best-network", "report C, confusion matrix", "test_accuracy",
     {"with mixup": (959 + 980 + 926 + 865 + 950 + 921 + 967 + 962 + 958 + 971) / 100}),
    ("report-d", "report D", "test_error", {"resnet20": 6.89, "resnet56": 6.69, "resnet110": 6.57}),
    ("report-d", "report D, Adam", "test_accuracy", {"resnet110, Adam": 80}),
    ("width", "report D", "test_error", {"depth=20, channels=30+60+90": 6.89, "depth=56, channels=30+60+90": 6.69,
                                         "depth=110, channels=30+60+90": 6.57}),
    ("resnet18-lab", "public repositories, lowest", "test_accuracy", {"baseline": 93}),
    ("resnet18-lab", "public repositories, highest", "test_accuracy", {"baseline": 96}),
    ("resnet18-lab", "report E, example of the output", "test_accuracy", {"no augmentation": 86.6}),
    ("resnet18-lab", "report E, example of the output", "test_loss", {"no augmentation": 0.465}),
]  # fmt: skip

# Published counts; the rest of the table is what the files say and the networks have.
PARAMETERS = {
    ("depths", "resnet20"): 269_722, ("depths", "resnet32"): 464_154, ("depths", "resnet44"): 658_586,
    ("depths", "resnet56"): 853_018, ("depths", "resnet110"): 1_727_962,
    ("shortcuts", "depth=20, identity"): 269_722, ("shortcuts", "depth=20, projection"): 269_722 + 2_752,
    ("shortcuts", "depth=56, identity"): 853_018, ("shortcuts", "depth=56, projection"): 853_018 + 2_752,
    ("budget", "resnet10c"): 4_903_242, ("budget", "resnet16c"): 4_909_642,
    ("budget", "resnet24c"): 4_935_242, ("budget", "resnet48c"): 4_994_378,
    ("resnet18-lab", "baseline"): 11_173_962,
}  # fmt: skip

# Arms that are one run wherever they stand, so that it is computed once.
SHARED = [
    [("degradation", "resnet20"), ("depths", "resnet20"), ("shortcuts", "depth=20, identity")],
    [("degradation", "resnet56"), ("depths", "resnet56"), ("shortcuts", "depth=56, identity"),
     ("initialization", "residual, He fan-in")],
    [("degradation", "plain56"), ("depths", "plain56"), ("shortcuts", "depth=56, none"),
     ("initialization", "plain, He fan-in")],
    [("report-d", "resnet20"), ("width", "depth=20, channels=30+60+90")],
    [("report-d", "resnet20, 16+32+64 channels"), ("width", "depth=20, channels=16+32+64")],
    [("report-d", "resnet110"), ("width", "depth=110, channels=30+60+90")],
    # Report C's choice, which each of its comparisons holds against something else.
    [("optimizers", "Nesterov / resnet24c"), ("schedules", "exponential"), ("regularization", "L2 1e-3"),
     ("activations", "relu"), ("block-order", "original"), ("augmentation", "crop and horizontal flip"),
     ("budget", "resnet24c"), ("optimizer-rates", "Nesterov, rate 0.1")],
    *[[("optimizers", f"{name} / resnet24c"), ("optimizer-rates", f"{name}, rate {rate}")]
      for name, rate in (("Adagrad", 0.01), ("Adadelta", 1.0), ("momentum", 0.1))],
    # The same networks with their layers recorded.
    [("mixup", "none"), ("best-network", "without mixup")],
    [("mixup", "mixup alpha=1"), ("best-network", "with mixup")],
    # Report E's baseline, and what its parts share beside it.
    [("resnet18-lab", "baseline"), ("normalization", "standardize sample=0.3"), ("learning-rate", "decay / lr=0.05")],
    [("resnet18-lab", "raw pixels"), ("normalization", "none")],
    [("resnet18-lab", "constant rate"), ("learning-rate", "constant / lr=0.05")],
    [("resnet18-lab", "cyclical rate"), ("learning-rate", "cyclical / lr=0.05")],
    [("resnet18-lab", "rate 0.2"), ("learning-rate", "decay / lr=0.2")],
]  # fmt: skip


def stand_in(channels: int, size: int) -> Dataset:
    """A few random images of ten classes."""
    draw = np.random.default_rng(0)

    def part(count: int) -> Split:
        images = draw.integers(0, 256, (count, channels, size, size), dtype=np.uint8)
        return Split(images, np.arange(count, dtype=np.int64) % 10)

    return Dataset.of("stand-in", [str(number) for number in range(10)], part(40), part(10))


OF_DIGITS = {"quickstart", "gradient-flow", "tuned-optimizers"}
HALF, DIGITS = stand_in(3, 16), stand_in(1, 8)


@cache
def planned(name):
    """The plan of a study on a few images of CIFAR's shape; on the digits where it is about them."""
    few = {} if name in OF_DIGITS else {"data.dataset": {"name": "synthetic", "train": 40, "test": 10}}
    return planning.plan(READ[name], few)


def planned_arm(study, name):
    return next(arm for arm in planned(study).arms if arm.name == name)


def planned_run(study, name):
    """The run of an arm with the first seed."""
    return next(run for run in planned(study).runs if run.arm == name)


def test_every_study_that_was_asked_for_is_there():
    assert set(NAMES) >= ASKED_FOR


@pytest.mark.parametrize("name", NAMES)
def test_header_says_what_it_asks_how_long_it_takes_and_what_came_out(name):
    lines = parsing.header(name).splitlines()
    labels = [
        match[1] for line in lines if (match := re.match(r"(What it asks|Where from|How long|What came out): \S", line))
    ]
    assert labels == ["What it asks", "Where from", "How long", "What came out"]
    assert max(map(len, parsing.source(name).splitlines())) <= 120


@pytest.mark.parametrize("name", NAMES)
def test_study_compares_its_arms_and_claims_something(name):
    study, arms = READ[name], READ[name].arms()
    assert study.question.endswith("?")
    assert len(arms) >= 2
    assert study.claims
    against = [study.baseline_of(arm, arms) for arm in arms]
    assert 0 < sum(one is not None for one in against) < len(arms)
    configs = [arm.config.model_dump_json() for arm in arms]
    assert len({*configs}) == len(configs), "two arms are the same run"
    assert len(study.seeds) >= 3


@pytest.mark.parametrize(("study", "expect", "measure", "margin"), FINDINGS)
def test_finding_of_a_report_is_a_claim(study, expect, measure, margin):
    claims = [(claim.expect, claim.measure, claim.margin) for claim in READ[study].claims]
    assert claims.count((expect, measure, margin)) == 1


def test_no_claim_about_times_depends_on_how_fast_a_machine_is():
    """Times are compared by ratio: a margin in seconds would be much on one device and nothing on another."""
    timed = [(name, claim) for name in NAMES for claim in READ[name].claims if MEASURES[claim.measure].is_time]
    assert len(timed) > 10
    for name, claim in timed:
        assert (claim.margin, isinstance(claim.right, str)) == (0, True), (name, claim.text)
        assert claim.operator != "=" or claim.factor > 1


@pytest.mark.parametrize(("study", "source", "measure", "values"), PUBLISHED)
def test_published_number_stands_beside_its_arm(study, source, measure, values):
    found = [(one.arm, one.value) for one in READ[study].published if (one.source, one.measure) == (source, measure)]
    assert set(values.items()) <= {*found}


def test_nothing_else_is_published():
    """Every figure in the files is in the tables above, with a source and how it was made."""
    known = {(study, source, measure, arm, value) for study, source, measure, values in PUBLISHED
             for arm, value in values.items()}  # fmt: skip
    of_depths = {row[1:] for row in known if row[0] == "depths"}
    for name in NAMES:
        for one in READ[name].published:
            how = READ[name].protocol_of(one)
            assert how.known or how.protocol
            if one.measure == "parameters":
                assert PARAMETERS[name, one.arm] == one.value
            elif name == "shortcuts":  # A's depth 20 and 56 under another name
                arm = f"resnet{re.findall(r'[0-9]+', one.arm)[0]}"
                assert (one.source, one.measure, arm, one.value) in of_depths
            else:
                row = (one.source, one.measure, one.arm, one.value)
                assert (name, *row) in known or row in of_depths
    spread = [one.spread for one in READ["depths"].published if one.value == 6.61 and one.source.startswith("He")]
    assert spread == [0.16]


@pytest.mark.parametrize(("study", "arm"), PARAMETERS)
def test_published_count_is_that_of_the_network(study, arm):
    assert planned_arm(study, arm).parameters == PARAMETERS[study, arm]
    stated = [one.value for one in READ[study].published if (one.arm, one.measure) == (arm, "parameters")]
    assert stated == [PARAMETERS[study, arm]]


def test_claims_about_counts_are_true():
    """No training decides these; each is an equality with a number."""
    claims = [(name, claim) for name in NAMES for claim in READ[name].claims if claim.measure == "parameters"]
    assert claims
    for name, claim in claims:
        assert (claim.operator, claim.right) == ("=", planned_arm(name, claim.left).parameters)


def test_networks_of_the_budget_keep_to_it_and_use_it_up():
    arms = planned("budget").arms
    assert all(4_890_000 < arm.parameters < 5_000_000 for arm in arms)
    macs = [f"{round(arm.macs / 1e6):,}" for arm in arms]
    header = " ".join(parsing.header("budget").split())
    assert "{}, {}, {} and {} for C's; {}, {}, {} and {} for the others".format(*macs) in header


TUNING = {
    "optimizers", "optimizer-rates", "schedules", "regularization", "activations", "block-order", "augmentation",
    "learning-rate", "batch-size", "normalization", "mixup", "budget",
}  # fmt: skip


def test_studies_that_tune_choose_by_validation_and_no_other_chooses():
    assert {name for name in NAMES if READ[name].select == "validation"} == TUNING


def test_a_study_compares_tuned_with_tuned():
    """Every arm has as many trials over the same space, none has a rate of its own, and no seed of theirs judges."""
    study = READ["tuned-optimizers"]
    assert study.search.tune_each_arm
    assert {*study.search.space} == {"optim.lr"}
    assert not any("optim.lr" in arm.settings for arm in study.arms())
    assert not {*study.search.seeds} & {*study.seeds}
    named = {name for claim in study.claims for name in (claim.left, claim.right)}
    assert named == {arm.name for arm in study.arms()}


@pytest.mark.parametrize("name", sorted(TUNING))
def test_no_run_of_a_study_that_tunes_reads_the_test_set(name):
    """5,000 images are held out of every arm, which all that is asked is about; the network sees no test image."""
    study, plan = READ[name], planned(name)
    assert {ARMS[name, arm.name].config.data.validation for arm in plan.arms} == {0.1}
    assert {(run.config.monitor.test, run.config.monitor.final_test) for run in plan.runs} == {(False, False)}
    assert {arm.evaluated for arm in plan.arms} == {4}
    assert not any(MEASURES[one.measure].held_out for one in (study.compare, *study.claims))
    assert not study.inside
    assert "test error" not in " ".join(claim.text for claim in study.claims)


@pytest.mark.parametrize("name", NAMES)
def test_study_can_be_planned_and_shortened(name):
    """Every name and setting of every arm exists, and a tenth of a run can be made of each.

    The test set is read at the end of a run, unless the study chooses among its arms.
    """
    base = recipes.recipe(READ[name].base).changed(READ[name].settings)
    plan, epochs = planned(name), base.train.epochs
    assert [arm.name for arm in plan.arms] == [arm.name for arm in READ[name].arms()]
    assert {arm.epochs for arm in plan.arms} == {epochs}
    assert {run.config.monitor.final_test for run in plan.runs} == {name not in TUNING}
    for run in plan.runs:
        short = planning.shortened(run.config, 0.1)
        assert short.train.epochs == max(1, round(epochs / 10))


@pytest.mark.parametrize("arms", SHARED, ids=lambda arms: "=".join(study for study, _ in arms))
def test_arms_that_are_the_same_run_have_the_same_id(arms):
    assert len({planned_run(*arm).id for arm in arms}) == 1


def trained_differently():
    """One arm for each combination that a short training can tell apart."""
    seen = {}
    for key, arm in ARMS.items():
        values = arm.config.changed(
            {"optim.lr": 0.1, "train.batch_size": 2, "optim.weight_decay": 1e-4, "train.epochs": 1}
        )
        seen.setdefault(json.dumps(values.model_dump(mode="json"), sort_keys=True), key)
    return list(seen.values())


@pytest.mark.parametrize(("study", "arm"), trained_differently())
def test_arm_trains_two_steps(study, arm):
    config = ARMS[study, arm].config.changed(
        {
            "train.batch_size": 2,
            "compute.device": "cpu",
            "compute.precision": "fp32",
            "compute.threads": 1,
            "monitor.histograms": False,
            "monitor.noise": False,
            "data.subset": 0,
        }
    )
    config, data = assemble.resolve(config, DIGITS if config.data.dataset.name == "digits" else HALF)
    training, notes = assemble.training(config, data)
    assert notes == []
    before = training.network.linear.weight.clone()
    events = fit(training, Progress())
    first = list(islice(events, 2))
    events.close()
    assert [type(event) for event in first] == [StepDone, StepDone]
    assert not torch.equal(training.network.linear.weight, before)


def rates(study, arm, steps_per_epoch):
    """The factor of the rate at the first step of each epoch, as if the validation loss never improved."""
    config = RunConfig.of(planned_run(study, arm).config)
    factor = SCHEDULES.build(config.optim.schedule, Span(steps_per_epoch, config.train.epochs))
    return [factor(steps_per_epoch * epoch, [1.0] * epoch) for epoch in range(config.train.epochs)]


def test_rates_are_those_of_the_reports():
    """Epochs counted from 1 in which the rate falls: A and B at 82 and 123, D at 52 and 76, C2, E halving four times."""

    def falls(study, arm, steps):
        factors = rates(study, arm, steps)
        return [(epoch + 1, after / before) for epoch, (before, after) in enumerate(pairwise(factors), 1)
                if after < 0.999 * before]  # fmt: skip

    tenth = pytest.approx(0.1)
    assert falls("degradation", "plain20", 391) == [(82, tenth), (123, tenth)]
    assert falls("report-d", "resnet20", 782) == [(52, tenth), (76, tenth)]
    assert falls("report-d", "resnet20, batch 128", 391) == [(52, tenth), (76, tenth)]
    assert falls("report-d", "resnet20, one drop at 50", 782) == [(51, tenth)]
    assert falls("report-d", "resnet20, one drop at 90", 782) == [(91, tenth)]
    assert falls("schedules", "step", 352) == [(21, tenth), (41, tenth)]
    assert falls("schedules", "exponential", 352) == [(epoch, pytest.approx(0.9)) for epoch in range(2, 51)]
    assert falls("schedules", "plateau", 352)[:2] == [(6, 0.5), (10, 0.5)]
    restarts = rates("schedules", "warm restarts", 352)
    assert [epoch for epoch in range(50) if restarts[epoch] == 1] == [0, 20, 40]
    assert falls("resnet18-lab", "baseline", 352) == [(11, 0.5), (21, 0.5), (31, 0.5)]
    cyclical = rates("learning-rate", "cyclical / lr=0.05", 352)
    assert [epoch for epoch in range(40) if cyclical[epoch] == pytest.approx(0.1)] == [0, 8, 16, 24, 32]
    assert [epoch for epoch in range(40) if cyclical[epoch] == pytest.approx(1.0)] == [4, 12, 20, 28, 36]


def test_scaled_rate_is_in_proportion_to_the_batch():
    for (study, arm), made in ARMS.items():
        if study == "batch-size":
            batch, lr = made.config.train.batch_size, made.config.optim.lr
            assert batch == int(re.findall(r"\d+", arm)[0])
            assert lr == pytest.approx(0.05 * batch / 128 if arm.endswith("rate scaled") else 0.05)


# Multiply-adds of a forward pass in a second on two CPU cores, three of them for a training image: measured for ResNet-20
# (docs/performance.md); about twice that where the channels are 64 and more.
NARROW, WIDE = 40e9, 80e9


def days(name):
    """About how long a study on CIFAR-10 takes on two CPU cores, from multiply-adds alone."""
    total = 0.0
    for arm in planned(name).arms:
        config = ARMS[name, arm.name].config
        validation = config.data.validation * 50_000
        passes = 50_000 - validation + (validation + 10_000 * config.monitor.test) / 3
        speed = NARROW if config.model.name == "cifar_resnet" else WIDE
        total += arm.epochs * passes * arm.macs / speed * len(READ[name].seeds)
    return total / 86400


@pytest.mark.parametrize("name", sorted({*NAMES} - OF_DIGITS))
def test_header_says_about_how_long_it_takes(name):
    stated = int(re.search(r"How long: about (\d+) days on two CPU cores", parsing.header(name))[1])
    assert stated == pytest.approx(days(name), rel=0.05, abs=0.5)


def rows():
    """The rows of the catalogue, as the files have them."""
    for name in NAMES:
        study = READ[name]
        time = re.search(r"How long: about (\S+ \S+)", parsing.header(name))[1]
        size = f"{len(study.arms())} × {len(study.seeds)}"
        yield f"| [`{name}`](#{name}) | {study.question} | `{study.base}` | {size} | {len(study.claims)} | {len(study.published)} | {time} |"


def test_catalogue_is_what_the_files_say():
    text = DOCUMENT.read_text()
    table = [line for line in text.splitlines() if line.startswith("| [`")]
    assert sorted(table) == sorted(rows())
    headings = re.findall(r"^### (.+)$", text, re.MULTILINE)
    assert sorted(headings) == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_claims_are_told_as_the_study_is_in_errors_or_in_accuracies(name):
    """So signs agree in all tables of its report."""
    study = parsing.read(name)
    kinds = {one.rpartition("_")[2] for one in (study.compare.measure, *(claim.measure for claim in study.claims))}
    assert not {"error", "accuracy"} <= kinds
