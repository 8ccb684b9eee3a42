"""Protocols of published numbers: what is told of them, and that each key that differs from ours is, and nothing else."""

import re

import pytest

from residuum.conduct import planning
from residuum.data.datasets import ENTRIES
from residuum.records.facts import DataFacts, Normalized
from residuum.registry import Choice
from residuum.report import protocols
from residuum.studies import parsing
from residuum.studies.study import PROTOCOL, Protocol, Study

OURS = Protocol(
    images=50_000, test_images=10_000, validation=0, selection="last", epochs=164, batch=128, lr=0.1, weight_decay=1e-4,
    schedule={"name": "multistep", "milestones": [81 / 164, 122 / 164], "gamma": 0.1},
    optimizer={"name": "sgd", "momentum": 0.9, "nesterov": False, "dampening": 0.0},
    augment=[{"name": "pad_crop", "padding": 4, "mode": "zeros"}, {"name": "horizontal_flip", "p": 0.5}],
    normalize={"name": "standardize", "sample": 1.0, "mean": None, "std": None},
)  # fmt: skip


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        # What once was told as the opposite of the truth.
        ({"validation": 0}, {}),
        ({"selection": "best-of-runs"}, {"selection": "best of several runs there, mean of runs here"}),
        ({"schedule": "cosine", "weight_decay": 5e-4, "optimizer": {"name": "sgd", "nesterov": True}},
         {"weight_decay": "weight decay 5e-4 there, 1e-4 here", "schedule": "schedule cosine there, multistep here",
          "optimizer": "optimizer sgd (nesterov = true) there, sgd (nesterov = false) here"}),
        # Every key, and its forms.
        ({"validation": 5000}, {"validation": "5,000 of the training images held out there, none here"}),
        ({"images": 50_000, "test_images": 10_000}, {}),
        ({"images": 5_000}, {"images": "5,000 training images there, 50,000 here"}),
        ({"test_images": 2_000}, {"test_images": "2,000 test images there, 10,000 here"}),
        ({"validation": 0.1}, {"validation": "10 % of the training images held out there, none here"}),
        ({"selection": "last"}, {}),
        ({"selection": "best-on-test"}, {"selection": "best epoch on the test set there, last epoch here"}),
        ({"selection": "best-on-validation"},
         {"selection": "best epoch on the validation images there, last epoch here"}),
        ({"selection": "median-of-runs"}, {"selection": "median of several runs there, mean of runs here"}),
        ({"epochs": 200}, {"epochs": "200 epochs there, 164 here"}),
        ({"batch": 64}, {"batch": "batch 64 there, 128 here"}),
        ({"lr": 0.05}, {"lr": "rate 0.05 there, 0.1 here"}),
        ({"lr": 2.5e-4}, {"lr": "rate 2.5e-4 there, 0.1 here"}),
        ({"weight_decay": 0.0}, {"weight_decay": "weight decay 0 there, 1e-4 here"}),
        ({"schedule": "multistep"}, {}),
        ({"epochs": 164, "schedule": {"name": "multistep", "milestones": [81, 122]}}, {}),
        # The same shape of another length: the length alone differs.
        ({"epochs": 328, "schedule": {"name": "multistep", "milestones": [162, 244]}},
         {"epochs": "328 epochs there, 164 here"}),
        ({"epochs": 164, "schedule": {"name": "multistep", "milestones": [51, 75], "gamma": 0.1}},
         {"schedule": "schedule multistep (milestones = 51 and 75, gamma = 0.1) there, "
                      "multistep (milestones = 81 and 122, gamma = 0.1) here"}),
        ({"schedule": {"name": "multistep", "milestones": [0.5]}},
         {"schedule": "schedule multistep (milestones = 0.5) there, multistep (milestones = 81 and 122) here"}),
        ({"optimizer": "nesterov"},
         {"optimizer": "optimizer sgd (nesterov = true) there, sgd (nesterov = false) here"}),
        ({"optimizer": "sgd"}, {}),
        ({"optimizer": "adam"}, {"optimizer": "optimizer adam there, sgd here"}),
        ({"augment": ["horizontal_flip", "pad_crop"]}, {}),  # in any order
        ({"augment": []}, {"augment": "augmentation none there, pad_crop + horizontal_flip here"}),
        ({"augment": ["pad_crop", "cutout"]},
         {"augment": "augmentation pad_crop + cutout there, pad_crop + horizontal_flip here"}),
        ({"augment": [{"name": "pad_crop", "padding": 2}, "horizontal_flip"]},
         {"augment": "augmentation pad_crop (padding = 2) + horizontal_flip there, "
                     "pad_crop (padding = 4) + horizontal_flip here"}),
        ({"normalize": "standardize"}, {}),
        ({"normalize": "per-pixel mean"}, {"normalize": "normalisation per-pixel mean there, standardize here"}),
        ({"protocol": "best epoch on test, no images held out, batch 64, 200 epochs"}, {}),  # a text is never read
    ],
)  # fmt: skip
def test_what_differs_is_told_key_by_key(known, expected):
    assert protocols.differences(Protocol(**known), OURS) == expected


def test_the_selected_epoch_is_that_of_the_best_validation():
    config = parsing.read("best-network").arms()[0].config
    ours = protocols.of_run(config, "selected_test_error")
    assert protocols.differences(Protocol(selection="best-on-validation"), ours) == {}
    assert protocols.differences(Protocol(selection="last"), ours) == {
        "selection": "last epoch there, best epoch on the validation images here"
    }


def test_nothing_is_known_of_the_rest():
    assert protocols.unknown(OURS) == ""
    assert protocols.unknown(Protocol(protocol="a text")) == "unknown there: how it was made"
    values = OURS.known
    del values["lr"], values["selection"], values["validation"]
    assert protocols.unknown(Protocol(**values)) == "unknown there: held-out images, which epoch, rate"


def test_a_protocol_is_described_in_a_phrase():
    assert protocols.described(OURS) == (
        "50,000 training images, 10,000 test images, none of the training images held out, last epoch, 164 epochs, batch 128, rate 0.1, weight decay 1e-4, "
        "schedule multistep (milestones = 81 and 122, gamma = 0.1), "
        "optimizer sgd (momentum = 0.9, nesterov = false, dampening = 0), "
        "augmentation pad_crop (padding = 4, mode = zeros) + horizontal_flip (p = 0.5), "
        "normalisation standardize (sample = 1, mean = none, std = none)"
    )
    assert protocols.described(Protocol(batch=64, protocol="a note")) == "batch 64; a note"
    assert protocols.described(Protocol()) == ""


OTHER = {
    "images": lambda value: value - 1, "test_images": lambda value: value + 1,
    "validation": lambda value: 0.3, "selection": lambda value: "best-on-test", "epochs": lambda value: value + 1,
    "batch": lambda value: value + 1, "lr": lambda value: 2 * value, "weight_decay": lambda value: 2 * value + 1e-5,
    "schedule": lambda value: Choice(name="one_cycle"), "optimizer": lambda value: Choice(name="rmsprop"),
    "augment": lambda value: (*value, Choice(name="cutout")), "normalize": lambda value: Choice(name="per_image"),
}  # fmt: skip
"""Another value of each key, of which no study makes use."""


def facts(**changes):
    """What a run on all of CIFAR-10 records of its data, 5,000 images held out."""
    return DataFacts(**{"dataset": "cifar10", "fingerprint": "f", "shape": (3, 32, 32), "train": 45_000,
                        "validation": 5_000, "test": 10_000, "normalization": Normalized("affine", (), ()),
                        **changes})  # fmt: skip


@pytest.mark.parametrize("name", parsing.names())
def test_our_own_protocol_makes_no_difference_and_each_changed_key_exactly_its_own(name):
    assert set(OTHER) == set(PROTOCOL)
    for arm in parsing.read(name).arms():
        ours = protocols.of_run(arm.config, "test_error", facts())
        assert set(ours.known) == set(PROTOCOL)
        assert protocols.differences(ours, ours) == {}
        for key, other in OTHER.items():
            theirs = Protocol(**{**ours.known, key: other(getattr(ours, key))})
            found = protocols.differences(theirs, ours)
            # Times of a schedule in epochs are other shares of a run of another length.
            assert set(found) - ({"schedule"} if key == "epochs" else set()) == {key}
            assert re.search(r" there, .+ here$", found[key])


def test_resolved_runs_of_the_reports_differ_from_their_own_protocols_only_as_stated():
    """The protocols of reports A and D, held against the runs that are to repeat them, every default written out."""
    for name, source in (("degradation", "report A"), ("report-d", "report D"), ("best-network", "report C")):
        study = parsing.read(name)
        plan = planning.plan(study, {"data.dataset": {"name": "synthetic", "train": 40, "test": 10}})
        for one in study.published:
            if one.source == source and one.arm != "without mixup":
                run = next(run for run in plan.runs if run.arm == one.arm)
                ours = protocols.of_run(run.config, one.measure)
                assert protocols.differences(study.protocol_of(one), ours) == {}


def test_what_one_number_says_stands_over_what_its_source_says():
    study = Study(
        question="?", base="he2015", seeds=1, axes={"model": ["resnet20", "plain20"]},
        sources={"S": {"epochs": 200, "batch": 64, "augment": ["pad_crop"], "protocol": "a paper"}, "T": {}},
        published=[{"source": "S", "arm": "resnet20", "value": 1, "batch": 32, "augment": [], "protocol": "its table"},
                   {"source": "T", "arm": "resnet20", "value": 1}],
    )  # fmt: skip
    first, second = map(study.protocol_of, study.published)
    assert first.known == {"epochs": 200, "batch": 32, "augment": ()}
    assert first.protocol == "a paper; its table"
    assert second.known == {}
    assert Study(**study.model_dump(mode="json")) == study


def test_a_share_and_a_count_of_the_images_in_use_are_held_against_each_other():
    config = parsing.read("degradation").arms()[0].config.changed({"data.validation": 0.1})
    theirs = Protocol(validation=5_000)
    assert protocols.differences(theirs, protocols.of_run(config, "test_error", facts())) == {}
    fewer = protocols.of_run(config, "test_error", facts(train=900, validation=100))
    assert set(protocols.differences(theirs, fewer)) == {"validation"}


def test_of_images_nothing_is_said_before_a_run_has_counted_them():
    ours = protocols.of_run(parsing.read("degradation").arms()[0].config, "test_error")
    assert protocols.differences(Protocol(images=1, test_images=1, batch=128), ours) == {}


@pytest.mark.parametrize("dataset", sorted(ENTRIES))
def test_a_number_of_which_no_count_is_told_is_of_all_published_images(dataset):
    full = protocols.of_all_images(Protocol(batch=64), dataset)
    counts = ENTRIES[dataset].published
    assert (full.images, full.test_images) == (counts or (None, None))
    told = Protocol(images=1_000)
    assert protocols.of_all_images(told, dataset) == told
    assert protocols.unknown(protocols.of_all_images(Protocol(), dataset)) == "unknown there: how it was made"


@pytest.mark.parametrize(
    ("encodings", "dataset", "expected"),
    [
        (None, "cifar10", ""),  # recorded before that was: nothing is guessed
        ((), "cifar10", ""),
        (("PNG",), "cifar10", ""),
        (("JPEG",), "cifar10", "JPEG copy of the images"),
        (("JPEG", "PNG"), "cifar100", "JPEG copy of some images"),
        (("GIF", "JPEG", "WEBP"), "mnist", "GIF and JPEG and WEBP copy of the images"),
        (("JPEG",), "folder", ""),  # one's own images are what they are
        (("JPEG",), "somebody's", ""),
    ],
)
def test_a_copy_in_a_lossy_format_is_told_by_what_the_record_says(encodings, dataset, expected):
    assert protocols.altered(facts(dataset=dataset, encodings=encodings)) == expected
