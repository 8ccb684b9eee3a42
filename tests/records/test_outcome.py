"""What a run's JSON files say, as values: written as they always were, and refused in one line where they are damaged."""

import json
import math

import pytest

from residuum import recipes
from residuum.errors import InputError
from residuum.records import outcome, run_folder, storage
from residuum.records.event import Scores
from residuum.records.facts import Start
from residuum.records.record import read_record

FINISHED = (
    '{"status": "finished", "epochs": 2, "steps": 16, "diverged": null, "last": {"epoch": 2, '
    '"validation": {"loss": 1.5, "accuracy": 0.5, "n": 32}, "train_clean": {"loss": "nan", "accuracy": 0.1, "n": 96}, '
    '"held_out_chance": 0.125, "test": {"loss": "inf", "accuracy": 0.25, "n": 20}, "chance": 0.2}, '
    '"selected": {"epoch": 1, "validation": {"loss": 1.25, "accuracy": 0.5, "n": 32}, '
    '"test": {"loss": 2.0, "accuracy": 0.3, "n": 20}, "chance": 0.2}, "test_reads": 2, "seconds": 1.5, '
    '"micro_batch": 0, "parameters": 75290, "macs": 3105856, "activations": 40960}'
)
DIVERGED = (
    '{"status": "diverged", "epochs": 0, "steps": 3, "last": null, "selected": null, "diverged": {"epoch": 1, '
    '"step": 3, "loss": "nan", "gradient_norm": "-inf"}, "test_reads": 0, "seconds": 0.25, "micro_batch": 4, '
    '"parameters": 75290, "macs": 3105856, "activations": 40960}'
)
IMPORTED = (
    '{"status": "imported", "epochs": 0, "steps": 0, "last": null, "selected": null, "diverged": null, "test_reads": 0}'
)
FACTS = (
    '{"dataset": "digits", "fingerprint": "0a", "classes": ["0", "1"], "shape": [1, 8, 8], "train": 90, '
    '"validation": 10, "test": 20, "normalization": {"kind": "affine", "mean": [0.5], "std": [0.25]}}'
)


@pytest.fixture
def folder(tmp_path):
    path = run_folder.folder_of(tmp_path, recipes.quick())
    path.mkdir()
    run_folder.begin(path, recipes.quick(), "quick")
    return path


@pytest.mark.parametrize("text", [FINISHED, DIVERGED, IMPORTED])
def test_an_outcome_is_written_as_it_was_read(tmp_path, text):
    path = tmp_path / "result.json"
    path.write_text(text)
    assert json.dumps(outcome.read(path).plain()) == text


def test_an_outcome_says_what_is_known_of_each_epoch(tmp_path):
    found = outcome.of(json.loads(FINISHED), tmp_path)
    assert found.of("selected") == found.selected
    assert found.selected.test == Scores("test", 2.0, 0.3, 20)
    assert found.last.validation == Scores("validation", 1.5, 0.5, 32)
    assert found.last.test.loss == math.inf
    assert math.isnan(found.last.train_clean.loss)
    assert (found.is_unread, found.blind().is_unread) == (False, True)
    assert "test" not in json.dumps(found.blind().plain()).replace("test_reads", "")
    lost = outcome.of(json.loads(DIVERGED), tmp_path)
    assert (lost.diverged.step, lost.diverged.gradient_norm, lost.is_unread) == (3, -math.inf, False)


def test_what_an_earlier_version_did_not_measure_is_not_known(tmp_path):
    old = json.loads(FINISHED)
    for key in ("activations", "micro_batch"):
        del old[key]
    for key in ("chance", "held_out_chance", "train_clean"):
        del old["last"][key]
    found = outcome.of(old | {"later": 1}, tmp_path)
    assert (found.activations, found.last.chance, found.last.train_clean, found.parameters) == (None, None, None, 75290)


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("result.json", "[]", "Input should be"),
        ("result.json", '{"status": "done"}', "status: Input should be"),
        (
            "result.json",
            '{"status": "finished", "last": {"epoch": 1, "test": {"loss": 1}}}',
            "last.test.accuracy: Field",
        ),
        ("result.json", "{", "Expecting property name"),
        ("data.json", FACTS.replace("[1, 8, 8]", "[8, 8]"), "shape.2: Field required"),
        ("environment.json", '{"cores": 2}', "Input should be a valid tuple"),
        ("environment.json", '[{"cores": "many"}]', "0.cores: Input should be a valid integer"),
    ],
)
def test_a_damaged_file_is_one_line_that_names_the_place(folder, name, text, said):
    try:
        storage.write_json(folder / name, json.loads(text))
    except ValueError:
        (folder / name).write_text(text)
    with pytest.raises(InputError) as error:
        read_record(folder)
    assert str(error.value).startswith(f"{folder / name} is damaged: {said}")
    assert "\n" not in str(error.value)
    assert not run_folder.is_complete(folder)  # a damaged result is made again


def test_facts_and_starts_are_written_as_they_were_read(folder):
    storage.write_json(folder / run_folder.DATA, json.loads(FACTS))
    earlier = {"time": "2026-01-02T03:04:05+00:00", "packages": {"torch": "2.13.0"}, "device": "cpu", "unheard": "of"}
    storage.write_json(folder / run_folder.ENVIRONMENT, [earlier])
    before = run_folder.add_start(folder, Start(python="3.12", cores=2, compiled=False, epoch=1, step=0))
    assert [(start.device, start.cores) for start in before] == [("cpu", None)]
    assert storage.read_json(folder / run_folder.ENVIRONMENT) == [
        earlier, {"python": "3.12", "packages": {}, "cores": 2, "compiled": False, "epoch": 1, "step": 0},
    ]  # fmt: skip
    record = read_record(folder)
    assert json.dumps(record.data.plain()) == FACTS
    assert record.facts.normalization.std == (0.25,)
    (folder / run_folder.DATA).unlink()
    with pytest.raises(InputError, match=r"data\.json is missing"):
        assert read_record(folder).facts
