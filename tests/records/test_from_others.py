"""Run folders of somebody else: links in them lead nowhere, and files without end are told in a line."""

import os
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from damage import SETTINGS, files
from PIL import Image

from residuum import own, training
from residuum.cli import main
from residuum.config import RunConfig
from residuum.errors import InputError
from residuum.records import integrity, rows, run_folder, storage
from residuum.records.record import read_record
from residuum.report import own_code
from residuum.studies import plan

MONITORED = {"monitor.histograms": False, "monitor.noise": False}


def copied(folder, tmp_path):
    shutil.copytree(folder, tmp_path / "runs" / folder.name)
    return tmp_path / "runs" / folder.name


@pytest.mark.parametrize("name", ["lock", run_folder.METRICS, run_folder.STEPS, run_folder.TEST_READS, "checkpoints",
                                  "predictions", "layers"])  # fmt: skip
def test_a_run_does_not_go_on_where_a_link_leads_out_of_its_folder(stopped, tmp_path, name):
    folder, victim = copied(stopped, tmp_path), tmp_path / "victim"
    place = folder / name
    if place.is_dir():
        place.rename(victim)
    else:
        victim.write_text("precious\n")
        place.unlink(missing_ok=True)
    place.symlink_to(victim)
    before = [(path, path.stat().st_mtime_ns) for path in (victim, *sorted(victim.glob("**/*")))]
    with pytest.raises(InputError, match=rf"{name} is a link; what belongs to a run lies in its folder"):
        list(training.resume(folder))
    assert [(path, path.stat().st_mtime_ns) for path in (victim, *sorted(victim.glob("**/*")))] == before


@pytest.mark.parametrize("words", [["evaluate"], ["explain"]])
def test_no_command_adds_to_a_file_to_which_a_link_leads(whole, tmp_path, words, capsys):
    folder = copied(whole, tmp_path)
    (folder / run_folder.TEST_READS).unlink(missing_ok=True)
    (folder / run_folder.TEST_READS).symlink_to(tmp_path / "victim")
    (tmp_path / "victim").write_text("precious\n")
    assert main([*words, str(folder), *(["--images", "0"] if words == ["explain"] else [])]) == 2
    assert f"{run_folder.TEST_READS} is a link" in capsys.readouterr().err
    assert (tmp_path / "victim").read_text() == "precious\n"


@pytest.mark.parametrize(("name", "words"), [
    ("figures", ["classes", "{run}", "--mistakes", "0"]), ("figures", ["explain", "{run}", "--images", "0"]),
    ("figures", ["layers", "{run}"]), ("figures", ["predict", "{run}", "{image}", "--explain"]),
    ("surfaces", ["surface", "{run}", "--points", "3", "--images", "10"]),
    ("export", ["export", "{run}", "--format", "safetensors"]), ("export", ["export", "{run}", "--format", "python"]),
])  # fmt: skip
def test_no_command_writes_into_a_folder_to_which_a_link_leads(whole, tmp_path, name, words, capsys):
    folder, victim = copied(whole, tmp_path), tmp_path / "victim"
    victim.mkdir()
    shutil.rmtree(folder / name, ignore_errors=True)
    (folder / name).symlink_to(victim)
    Image.fromarray(np.zeros((12, 12, 3), np.uint8)).save(tmp_path / "a.png")
    code = main([word.format(run=folder, image=tmp_path / "a.png") for word in words])
    assert (code, [*victim.iterdir()]) == (2, [])
    assert f"{name} is a link; what belongs to a run lies in its folder" in capsys.readouterr().err


def test_a_study_is_not_begun_where_a_link_leads_out_of_its_folder(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.toml").write_text('question = "?"\nbase = "quick"\nseeds = 1\n[set]\ntrain.epochs = 1\n')
    (tmp_path / "victim").mkdir()
    (tmp_path / "runs" / "studies").mkdir(parents=True)
    (tmp_path / "runs" / "studies" / "q").symlink_to(tmp_path / "victim")
    assert main(["study", "run", "q.toml", "--on", "here"]) == 2
    assert "studies/q is a link" in capsys.readouterr().err
    assert [*(tmp_path / "victim").iterdir()] == []


@pytest.mark.parametrize("write", [
    lambda folder: storage.write_tensors(folder / "predictions" / "last.safetensors", (8).to_bytes(8, "little") + b"{}      "),
    lambda folder: storage.write_checked_folder(folder / "predictions" / "epoch-0001", {"a": b"1"}, {}),
])  # fmt: skip
def test_nothing_is_put_into_a_folder_to_which_a_link_leads(whole, tmp_path, write):
    folder = copied(whole, tmp_path)
    (folder / "predictions").rename(tmp_path / "victim")
    (folder / "predictions").symlink_to(tmp_path / "victim")
    before = sorted((tmp_path / "victim").iterdir())
    with pytest.raises(InputError, match="predictions is a link"):
        write(folder)
    assert sorted((tmp_path / "victim").iterdir()) == before


def test_the_text_of_own_code_is_read_of_a_plain_file_of_a_usual_size_alone(tmp_path):
    digest = "ab" * 32
    place = tmp_path / run_folder.CODE / own.file_of("mine.py:Net", digest)
    place.parent.mkdir()
    found = SimpleNamespace(records={"it": SimpleNamespace(folder=tmp_path)})
    place.write_text("class Net: ...")
    assert own_code._kept(found, "it", "mine.py:Net", digest) == "class Net: ..."
    os.truncate(place, 2**40)
    assert own_code._kept(found, "it", "mine.py:Net", digest) == ""
    place.unlink()
    os.mkfifo(place)
    assert own_code._kept(found, "it", "mine.py:Net", digest) == ""


def test_a_row_is_added_to_no_link_pipe_or_folder(tmp_path):
    (tmp_path / "victim").write_text("precious\n")
    (tmp_path / "link").symlink_to(tmp_path / "victim")
    (tmp_path / "nowhere").symlink_to(tmp_path / "new")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "nowhere", "pipe"):
        with pytest.raises(InputError, match=f"{name} is (a link|not a file)"):
            rows.Rows(tmp_path / name)
    assert (tmp_path / "victim").read_text() == "precious\n"
    assert not (tmp_path / "new").exists()


def test_a_file_of_holes_is_told_by_its_name_and_hides_no_other_run(whole, tmp_path, capsys):
    """What is larger than anything that is written here is not read: a terabyte of holes takes no room on a disk."""
    folder = copied(whole, tmp_path)
    other = training.train(RunConfig.of({}).changed({**SETTINGS, **MONITORED, "train.epochs": 1}), tmp_path / "runs")
    for name in files(folder):
        content = (folder / name).read_bytes()
        os.truncate(folder / name, 2**40)
        said = integrity.damage(folder) if name.name != run_folder.CONFIG else []
        try:
            read_record(folder)
        except InputError as error:
            said = [*said, str(error)]
        assert any(name.name in line and "1100 GB" in line for line in said), (name, said)
        assert not any("\n" in line for line in said)
        if name.name in (run_folder.RESULT, run_folder.METRICS, run_folder.CONFIG):
            assert main(["list", "runs", "--runs", str(tmp_path / "runs")]) == 0
            assert other.id in capsys.readouterr().out
        (folder / name).write_bytes(content)


def test_readers_of_single_files_name_the_one_without_end(whole, tmp_path):
    folder = copied(whole, tmp_path)
    paths = [path for path in (*folder.glob("layers/*"), *folder.glob("predictions/*")) if path.is_file()]
    assert paths
    for path in paths:
        os.truncate(path, 2**40)
        with pytest.raises(InputError, match=f"{path.name}.* is the most"):
            storage.read_tensors(path)


@pytest.mark.parametrize("values", ["[]", "5", '"x"', "null", '{"run": 1}'])
def test_reasons_of_failure_that_are_none_are_damage(tmp_path, values):
    (tmp_path / plan.FAILED).write_text(values)
    with pytest.raises(InputError, match=rf"{plan.FAILED} is damaged"):
        plan.read_failed(tmp_path)
