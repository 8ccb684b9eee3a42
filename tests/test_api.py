"""`import residuum`: what it gives, that it is lazy, and that objects show themselves."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import residuum
from residuum import errors, figures
from residuum.conduct.launchers import LAUNCHERS
from residuum.conduct.launchers.launcher import JobFailed, Room, outlook
from residuum.errors import InputError
from residuum.figures import Drawing

SMALL = {"model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]}, "train.epochs": 2, "data.subset": 200,
         "compute.threads": 1}  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A folder with two runs that recorded their layers."""
    root = tmp_path_factory.mktemp("runs")
    made = [
        residuum.train("quick", SMALL | {"train.seed": seed, "monitor.histograms": True}, runs=root) for seed in (0, 1)
    ]
    return root, *made


def test_importing_it_imports_nothing_heavy():
    code = "import sys, residuum; dir(residuum); print([m for m in ('torch', 'matplotlib', 'pydantic', 'numpy') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
    assert {"train", "Study", "load_run", "explain", "figures"} <= {*dir(residuum)}
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = residuum.trian
    assert callable(residuum.train)  # not the module that trains, which is imported by now
    assert callable(residuum.explain)


def test_a_run_is_trained_read_and_shown(runs, monkeypatch):
    root, first, _ = runs
    again = residuum.load_run(first.id, runs=root)
    assert again == first == residuum.load_run(first.folder)
    html = first._repr_html_()
    for said in (first.id, "finished", "2 of 2", f"{first.result.last.test.accuracy:.2%}"):
        assert said in html
    monkeypatch.chdir(root.parent)
    with pytest.raises(InputError, match="resnet20"):
        residuum.train("quick", {"model": "resnet21"})
    assert not (root.parent / "runs").exists() or root.name == "runs"


def test_what_is_shown_is_text_and_not_markup(tmp_path):
    study = residuum.Study(question="Is <b> & bold?", base="quick", seeds=1, axes={"optim.lr": [0.1, 0.2]})
    assert "Is &lt;b&gt; &amp; bold?" in study._repr_html_()
    assert "lr=0.2" in study._repr_html_()


def test_a_study_is_answered_and_shown(tmp_path):
    study = residuum.Study(
        name="rates", question="Does the rate matter?", base="quick", seeds=3, axes={"optim.lr": [0.02, 0.002]},
        claims=[{"text": "A tenth is too slow.", "expect": "lr=0.002 > lr=0.02", "measure": "train_loss"}],
    )  # fmt: skip
    found = residuum.run_study(study, SMALL, seeds=2, scale=0.5, runs=tmp_path, threads=1)
    assert len(found.records) == 4
    assert {record.config.train.epochs for record in found.records.values()} == {1}
    html = found._repr_html_()
    assert "A tenth is too slow." in html
    assert "scaled by 0.5" in html
    for draw in (figures.study, figures.study_histories, figures.study_differences, figures.study_cost,
                 figures.study_batch_size):  # fmt: skip
        assert draw(found)._repr_png_().startswith(b"\x89PNG")
    one = residuum.run_study(study, SMALL, arms=["lr=0.02"], seeds=[1], scale=0.5, runs=tmp_path, threads=1)
    assert len(one.records) == 1
    assert residuum.load_study("quickstart").name == "quickstart"


@pytest.mark.parametrize(("workers", "threads", "expected"), [(1, 0, 6), (2, 0, 3), (4, 0, 1), (9, 0, 1), (2, 5, 5)])
def test_workers_of_a_study_share_the_threads_that_there_are(monkeypatch, tmp_path, workers, threads, expected):
    """Unless a number is given, and never fewer than one."""
    asked = []

    def launch(jobs, runs, room):
        asked.append(room)
        return iter(())

    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    monkeypatch.setitem(LAUNCHERS, "processes", launch)
    study = residuum.Study(name="one", question="?", base="quick", seeds=1, axes={"optim.lr": [0.02, 0.002]})
    residuum.run_study(study, SMALL, runs=tmp_path, workers=workers, threads=threads)
    assert asked == [Room(workers, expected, 1, [])]


FIGURES = {
    "curves": lambda run, other: figures.curves(run),
    "curves of two": lambda run, other: figures.curves(run, other),
    "confusion": lambda run, other: figures.confusion(run, other),
    "reliability": lambda run, other: figures.reliability(run),
    "mistakes": lambda run, other: figures.mistakes(run, 3),
    "histograms": lambda run, other: figures.histograms(run, "gradients"),
    "gradients": lambda run, other: figures.gradients(run, other),
    "surface": lambda run, other: figures.surface(run, other, points=3, images=20),
    "surface over two": lambda run, other: figures.surface(run, dimensions=2, points=3, images=20),
    "model": lambda run, other: figures.model("resnet20", shape=(1, 8, 8)),
    "activations": lambda run, other: figures.activations(),
    "schedules": lambda run, other: figures.schedules("quick", "he2015"),
    "augmentations": lambda run, other: figures.augmentations("quick"),
}


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_shows_itself(runs, name):
    _, first, second = runs
    drawing = FIGURES[name](first, second)
    assert isinstance(drawing, Drawing)
    assert drawing._repr_png_().startswith(b"\x89PNG")


def test_an_explanation_shows_itself_and_is_drawn(runs, tmp_path):
    found = residuum.explain(runs[1], numbers=[5, 6])
    assert "grad-cam" in found._repr_html_()
    drawing = figures.attributions(found)
    paths = drawing.save(tmp_path / "sheet")
    assert [path.name for path in paths] == ["sheet.png", "sheet.svg"]
    assert paths[0].read_bytes().startswith(b"\x89PNG")


def test_a_run_may_be_given_by_folder_or_name(runs):
    root, first, _ = runs
    by_record = residuum.explain(first, "saliency", numbers=[5])
    for name, where in ((first.folder, "elsewhere"), (str(first.folder), "elsewhere"), (first.id, root)):
        found = residuum.explain(name, "saliency", numbers=[5], runs=where)
        np.testing.assert_array_equal(found.maps["input"], by_record.maps["input"])
    assert figures.curves(first.folder)._repr_png_() == figures.curves(first)._repr_png_()
    assert figures.curves(first.id, runs=root)._repr_png_() == figures.curves(first)._repr_png_()


def test_an_explanation_is_followed_over_the_epochs_and_set_beside_another(runs):
    _, first, second = runs
    found, other = (residuum.explain(run, numbers=[5, 6]) for run in (first, second))
    assert len(figures.attributions_by_epoch(first, found)) == 2
    assert figures.attributions(found, other)._repr_png_().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="only of the same images"):
        figures.attributions(found, residuum.explain(second, numbers=[5, 7]))
    with pytest.raises(InputError, match="only by the same method"):
        figures.attributions(found, residuum.explain(second, "saliency", numbers=[5, 6]))
    with pytest.raises(InputError, match=f"are of run {second.id}, not of {first.id}"):
        figures.attributions_by_epoch(first, other)


@pytest.mark.parametrize(("call", "says"), [
    (lambda run: residuum.explain(run, numbers=1), r"a list, as \[1\]"),
    (lambda run: residuum.explain(run, files="a.png"), r"a list, as \['a.png'\]"),
    (lambda run: residuum.explain(["a"]), "a record, a folder or a name; this is a list"),
    (lambda run: figures.curves([run]), "a record, a folder or a name; this is a list"),
    (lambda run: figures.curves(), "no run to draw"),
    (lambda run: figures.noise(), "no run to draw"),
    (lambda run: figures.noise(run), "did not measure the noise"),
    (lambda run: figures.mistakes(run, run), "a number from 1"),
    (lambda run: figures.mistakes(run, 0), "a number from 1"),
    (lambda run: figures.histograms(run, "gradient"), "unknown kind of histogram 'gradient'; did you mean 'gradients'"),
    (lambda run: figures.histograms(run, names="layer7"), "unknown layer 'layer7'"),
    (lambda run: figures.surface(run, dimensions=3), "along 1 direction or over 2"),
    (lambda run: figures.study("quickstart"), "what residuum.run_study gives; this is a str"),
    (lambda run: residuum.explain(run, numbers=[0], which="best"), "which: unknown weights 'best'"),
    (lambda run: residuum.explain(run, numbers=[0], target=8), "target: 8 is not text; name a class"),
    (lambda run: residuum.explain(run, numbers=[1.5]), "whole numbers, from 0"),
    (lambda run: figures.attributions(), "no attributions to draw"),
    (lambda run: figures.attributions_by_epoch(run, run), "what residuum.explain gives; this is a RunRecord"),
    (lambda run: figures.surface(run, run), "is named twice"),
    (lambda run: figures.attributions(run), "what residuum.explain gives; this is a RunRecord"),
])  # fmt: skip
def test_what_is_no_run_is_one_line(runs, call, says):
    with pytest.raises(InputError, match=says):
        call(runs[1])


def test_what_cannot_be_drawn_is_said(runs, tmp_path):
    _, first, _ = runs
    with pytest.raises(InputError, match="twice"):
        figures.gradients(first, first)
    blind = residuum.train("quick", SMALL | {"train.epochs": 1}, runs=tmp_path)
    with pytest.raises(InputError, match=r"monitor\.histograms"):
        figures.histograms(blind)


def test_values_errors_and_events_are_at_hand_and_figures_find_runs_anywhere(runs, tmp_path):
    root, first, second = runs
    assert {"RunConfig", "RunRecord", "errors", "events", "evaluate", "predict", "results"} <= {*dir(residuum)}
    assert residuum.errors.InputError is InputError
    assert isinstance(first, residuum.RunRecord)
    assert isinstance(first.epochs[0], residuum.events.EpochDone)
    assert residuum.RunConfig().train.epochs == 10
    scores = residuum.evaluate(first.id, runs=root)
    assert (scores.loss, scores.n) == (first.result.last.test.loss, first.result.last.test.n)
    Image.fromarray(np.full((8, 8), 90, np.uint8)).save(tmp_path / "grey.png")
    (found,) = residuum.predict(second.id, [tmp_path / "grey.png"], runs=root)
    assert sum(found.probabilities.values()) == pytest.approx(1)
    for draw in (figures.curves, figures.gradients, figures.confusion, figures.reliability):
        assert draw(first.id, second.id, runs=root).figure.axes
    assert figures.histograms(first.id, runs=root).figure.axes
    with pytest.raises(InputError, match=r"no run .* holds no runs"):
        figures.curves(first.id, runs=tmp_path)


@pytest.mark.parametrize("library", ["pandas", "polars", "none"])
def test_runs_epochs_and_arms_are_frames(tmp_path, library):
    if library != "none":
        pytest.importorskip(library)
    study = residuum.Study(name="rates", question="?", base="quick", seeds=2, set=SMALL, axes={"optim.lr": [0.1, 0.01]},
                           compare={"baseline": "lr=0.1"})  # fmt: skip
    residuum.run_study(study, runs=tmp_path, on="here")
    alone = residuum.train("quick", SMALL | {"train.seed": 7}, runs=tmp_path)

    def rows(of, name=""):
        found = residuum.results(name, of=of, library=library, runs=tmp_path)
        return found if library == "none" else found.to_dicts() if library == "polars" else found.to_dict("records")

    of_runs = {row["run"]: row for row in rows("runs")}
    assert len(of_runs) == 5
    assert of_runs[alone.id]["test_error"] == pytest.approx(100 * (1 - alone.result.last.test.accuracy))
    assert {(row["arm"], row["seed"]) for row in rows("runs", "rates")} == {
        ("lr=0.1", 0), ("lr=0.1", 1), ("lr=0.01", 0), ("lr=0.01", 1)}  # fmt: skip
    epochs = [row for row in rows("epochs") if row["run"] == alone.id]
    assert [row["train_loss"] for row in epochs] == [row.train.loss for row in alone.epochs]
    arms = {row["arm"]: row for row in rows("arms") if row["measure"] == "test_error"}
    for name, arm in arms.items():
        own = [row["test_error"] for row in of_runs.values() if row["arm"] == name]
        assert (arm["n"], arm["mean"]) == (2, pytest.approx(np.mean(own)))
    with pytest.raises(InputError, match="did you mean 'epochs'"):
        residuum.results(of="epoch", runs=tmp_path)


def test_without_a_library_for_frames_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    for library in ("auto", "pandas", "polars"):
        with pytest.raises(InputError, match=r"pip install 'residuum\[frames\]'"):
            residuum.results(library=library, runs=tmp_path)
    assert residuum.results(library="none", runs=tmp_path) == []


def test_what_a_run_says_is_logged_and_what_failed_is_an_error(tmp_path, caplog, monkeypatch):
    with caplog.at_level("INFO", logger="residuum"):
        run = residuum.train("quick", SMALL, runs=tmp_path)
    said = [record.getMessage() for record in caplog.records if record.name == "residuum"]
    assert next(line for line in said if "epoch 2" in line).startswith(f"run {run.id}: epoch 2, training loss ")
    assert said[-1] == f"run {run.id}: complete"
    caplog.clear()
    study = residuum.Study(name="x", question="?", base="quick", seeds=1, set=SMALL, axes={"optim.lr": [0.1, 0.2]})
    failed = []

    def run_of(plan, *_):
        failed.append(plan.runs[0].id)
        return iter([JobFailed(failed[0], "it cannot work")])

    monkeypatch.setattr("residuum.api.conducting.run", run_of)
    residuum.run_study(study, runs=tmp_path / "none")
    assert [(one.levelname, one.getMessage()) for one in caplog.records if one.name == "residuum"] == [
        ("ERROR", f"run {failed[0]} failed: it cannot work")]  # fmt: skip


def test_runs_whose_own_code_fails_are_not_said_to_be_tried_again(tmp_path):
    """What was asked for fails in the same way; a run whose worker died may come to its end the next time."""
    (tmp_path / "late.py").write_text(
        "from torch import nn\n\n\nclass Late(nn.Module):\n    def __init__(self, classes: int, most: int = 9):\n"
        "        super().__init__()\n        self.head, self.most = nn.Linear(64, classes), most\n\n"
        "    def forward(self, x):\n        self.most -= self.training\n"
        "        if self.most < 0:\n            raise ValueError('no more')\n        return self.head(x.flatten(1))\n"
    )
    study = residuum.Study(name="late", question="?", base="quick", seeds=1, set=SMALL, axes={"model": [
        {"name": f"{tmp_path / 'late.py'}:Late", "most": most} for most in (2, 1000)]})  # fmt: skip
    with pytest.warns(residuum.errors.Remark, match=r"1 of 2 runs .* failed: .*no more.*; it fails in the same way again "
                      "until what is named is mended"):  # fmt: skip
        residuum.run_study(study, runs=tmp_path / "runs", on="here")
    died, certain = JobFailed("a", "killed"), JobFailed("b", "raised", certain=True)
    assert outlook([died, died]) == "the same command tries again"
    assert outlook([died, certain, certain]) == (
        "the same command tries 1 of them again, and the others fail in the same way until what is named is mended"
    )


@pytest.mark.parametrize(("study", "said"), [("runs", "of='runs'"), (".", r"runs='\.' reads a folder")])
def test_what_is_no_study_is_answered_with_the_argument_that_it_is_for(tmp_path, monkeypatch, study, said):
    monkeypatch.chdir(tmp_path)
    for of in ("runs", "epochs", "arms"):
        with pytest.raises(InputError, match=said):
            residuum.results(study, of=of, library="none")


def test_images_to_predict_are_files_or_arrays_of_any_form(runs, tmp_path):
    record = runs[1]
    channels, height, width = record.facts.shape
    images = np.random.default_rng(3).integers(0, 256, (3, channels, height, width), np.uint8)
    Image.fromarray(images[0, 0]).save(tmp_path / "one.png")
    from_array = residuum.predict(record, images)
    assert [one.path for one in from_array] == [None] * 3
    for same in (images[:, 0], images.transpose(0, 2, 3, 1), images / 255, (images / 255).astype(np.float32),
                 torch.from_numpy(images), list(images), images.tolist(), images.astype(np.int64)):  # fmt: skip
        assert residuum.predict(record, same) == from_array
    for of_file in (tmp_path / "one.png", str(tmp_path / "one.png"), [tmp_path / "one.png"]):
        (one,) = residuum.predict(record, of_file)
        assert (one.path, one.probabilities) == (tmp_path / "one.png", from_array[0].probabilities)
    assert residuum.predict(record, Image.open(tmp_path / "one.png")) == from_array[:1]
    for wrong, said in ((images[:, :, 1:], "and the network takes"), (images - 300.0, "pixels are 0 to 255, or 0 to 1"),
                        ([], "there are none"), (None, "files or an array"), (7, "files or an array"),
                        ([object()], "hold no numbers"), ([images[0], images[0, :, 1:]], "several sizes")):  # fmt: skip
        with pytest.raises(InputError, match=said):
            residuum.predict(record, wrong)


@pytest.mark.parametrize(("call", "said"), [
    (lambda: residuum.train("quick", [1]), r"settings: \[1\] is a list; give a mapping by dotted names"),
    (lambda: residuum.train("quick", {3: 4}), "settings: .* give a mapping"),
    (lambda: residuum.train("quick", runs=3), "runs: 3 is a int; give the folder"),
    (lambda: residuum.load_study(3), "name: a study is a name or a file"),
    (lambda: residuum.load_results(None), "label: None is a NoneType; give the label"),
    (lambda: residuum.run_study(None), "study: None is a NoneType; give a study, or"),
    (lambda: residuum.search_study(["a"]), "study: .* give a study, or"),
    (lambda: residuum.results(np.zeros(3)), "study: .* give a study, or"),
    (lambda: residuum.run_study("quickstart", scale="a"), "scale: 'a' is a str; give a number"),
    (lambda: residuum.run_study("quickstart", seeds=1.5), "seeds: 1.5 is a float; give a count of seeds"),
    (lambda: residuum.run_study("quickstart", arms="plain"), "arms: 'plain' is a str; give a list of arms"),
    (lambda: residuum.run_study("quickstart", workers="two"), "workers: 'two' is a str; give a whole number"),
    (lambda: residuum.run_study("quickstart", on=3), "on: 3 is a int; give the name of a place"),
    (lambda: residuum.evaluate("x", device=torch.device("cpu")), "device: .* give the name of a device, as 'cpu'"),
    (lambda: residuum.explain("x", files=[np.zeros(3)]), "files: .* give a list of image files"),
    (lambda: residuum.figures.schedules(3), "unknown recipe '3'"),
    (lambda: residuum.figures.augmentations(["quick"]), "unknown recipe"),
    (lambda: residuum.figures.every_schedule("quick"), "it takes a configuration"),
    (lambda: residuum.figures.schedules_of([1]), "are a mapping; this is a list"),
    (lambda: residuum.figures.every_augmentation(3), "this is a int"),
])  # fmt: skip
def test_an_argument_of_a_wrong_kind_is_a_line_with_a_right_one(tmp_path, monkeypatch, call, said):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=said):
        call()
    assert not any(tmp_path.iterdir())


def test_a_remark_is_told_at_the_line_that_called_the_package():
    with pytest.warns(errors.Remark, match="somewhere") as told:
        errors.remark("somewhere")
    assert told[0].filename == __file__
    with pytest.warns(errors.Remark) as told:
        reasons({"a": "it failed"})
    assert told[0].filename == __file__


def reasons(failed):
    """As `run_study` tells of runs that failed, from within the package."""
    source = compile("from residuum.errors import remark\ndef tell(text):\n    remark(text)\n",
                     str(Path(errors.__file__).with_name("somewhere.py")), "exec")  # fmt: skip
    names = {}
    exec(source, names)
    names["tell"](str(failed))
