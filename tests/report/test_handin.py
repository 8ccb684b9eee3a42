"""The hand-in: what it says of each topic, that it says no more than the verdicts, and that texts of users are inert."""

import io
import json
import random
import re
import shutil
import zlib
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image
from report_runs import DEPTHS, depths, finished, leave, planned, read
from report_runs import ERRORS as OF_DEPTHS

from residuum import figures, own
from residuum.analysis.curves import Band
from residuum.analysis.results import Results
from residuum.cli import handing_in, main
from residuum.errors import InputError, Remark
from residuum.models import MODELS
from residuum.models.families.resnet import FAMILIES, SETTINGS
from residuum.optim import OPTIMIZERS, PENALTIES
from residuum.records.record import read_record
from residuum.report import handin, notebook, own_code, style, tables, topics
from residuum.report.content import Items, Paragraph, Picture, Tabular, picture
from residuum.report.figures import four_curves, study_curves
from residuum.report.handin import ToWrite
from residuum.studies.study import Study

ARMS = {
    "baseline": {}, "raw": {"data.normalize": "none"}, "none": {"data.augment": []},
    "turned": {"data.augment": [{"name": "rotation", "degrees": 15}]}, "slow": {"optim.lr": 0.001},
    "constant": {"optim.schedule": {"name": "constant"}}, "large": {"train.batch_size": 512},
    "both": {"train.batch_size": 512, "optim.lr": 0.4},
}  # fmt: skip


def lab(**changes) -> Study:
    arms = [{"name": name, "set": settings} for name, settings in ARMS.items()]
    return Study(**{
        "name": "lab", "question": "Which choice matters?", "base": "report_e", "seeds": 3, "arms": arms,
        "compare": {"baseline": "baseline"},
        "claims": [{"text": "Raw pixels are worse.", "expect": "raw > baseline"},
                   {"text": "A large batch is worse than a low rate.", "expect": "large > slow"}],
        **changes,
    })  # fmt: skip


ERRORS = dict(zip(ARMS, (8.0, 30.0, 8.1, 9.0, 20.0, 8.0, 12.0, 13.0), strict=True))


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="module")
def results(runs) -> Results:
    return finished(planned(lab()), runs, ERRORS)


@pytest.fixture(scope="module")
def made(results) -> handin.Document:
    return handin.document(results, "T", "A", {}, None)


def one_topic(**changes) -> Study:
    """A study whose document has few figures to be drawn."""
    return lab(arms=[{"name": name, "set": ARMS[name]} for name in ("baseline", "raw")], **{
        "claims": [{"text": "Raw pixels are worse.", "expect": "raw > baseline"}], **changes})  # fmt: skip


def texts(blocks) -> str:
    said = [block.text for block in blocks if isinstance(block, Paragraph | ToWrite)]
    return "\n".join([*said, *(text for block in blocks if isinstance(block, Items) for text in block.texts)])


def test_a_topic_is_the_arms_that_differ_from_the_baseline_in_the_same_thing(results):
    found = {topic.title: topic.arms for topic in topics.topics(results)}
    assert found == {
        "Normalisation of the input": ("baseline", "raw"), "Augmentation": ("baseline", "none", "turned"),
        "Learning rate": ("baseline", "slow", "constant"), "Batch size": ("baseline", "large"),
        "Learning rate and batch size": ("baseline", "both"),
    }  # fmt: skip


def test_every_arm_is_in_a_frame_of_at_most_five_with_its_baseline(tmp_path):
    """Of studies of any number of arms, with a baseline or without: none is lost, none stands twice, all fit."""
    random_ = random.Random(7)
    for number in range(6):
        rates = random_.sample(range(1, 60), random_.randint(1, 14))
        arms = [{"name": f"rate {rate}", "set": {"optim.lr": rate / 100}} for rate in rates]
        baseline = random_.choice(["", arms[0]["name"]])
        study = Study(name="rates", question="?", base="report_e", seeds=1, arms=arms, compare={"baseline": baseline})
        found = topics.topics(read(planned(study, epochs=1), tmp_path / str(number)))
        parts = [part for topic in found for part in topic.parts]
        assert all(len(part) <= topics.MOST for part in parts)
        assert all(part[0] == baseline for part in parts if baseline)
        shown = [arm for part in parts for arm in part if arm != baseline]
        assert sorted(shown) == sorted(arm["name"] for arm in arms if arm["name"] != baseline)


def test_families_are_topics_where_a_study_has_named_arms_and_axes(tmp_path):
    study = lab(arms=[{"name": "plain", "set": {"model.shortcut": "none"}}, {"name": "residual"}], claims=[],
                axes={"optim.lr": [0.1, 0.2]}, compare={"baseline": {"optim.lr": 0.1}})  # fmt: skip
    found = topics.topics(read(planned(study, epochs=1), tmp_path))
    assert [(topic.title, topic.paths) for topic in found] == [("plain", ("optim.lr",)), ("residual", ("optim.lr",))]


def test_what_was_changed_is_told_with_a_sentence_from_where_it_is_defined(results):
    (topic,) = (one for one in topics.topics(results) if one.title == "Augmentation")
    assert topics.changed(topic)[1:] == ["none: data.augment = []", "turned: data.augment = [rotation]"]
    told = topics.meaning(topic)
    assert "data.augment sets the augmentations of the training images, in order." in told
    assert any(
        line.startswith("With the augmentation “rotation” training sees images turned about their centre")
        and "`" not in line
        for line in told
    )


def test_what_is_said_of_a_setting_and_of_each_member_of_a_table_is_a_whole_sentence():
    """Docstrings are phrases: each is put into a sentence with a verb, which names keep their capital in."""
    networks = [setting.table for name in MODELS for setting in MODELS.settings(name).values() if setting.table]
    for table in {id(table): table for table in [*topics.TABLES.values(), *networks]}.values():
        for name in table:
            said = topics._sentence(table, name)
            head = said.partition("”")[2]
            assert re.match(r" (is|has|applies|training sees|the network sees|the learning rate is) ", head), said
            assert said.count("“") == 1
            assert said.endswith(".")
    for table, name, said in (
        (OPTIMIZERS, "adamw", "The optimizer “adamw” is AdamW (Loshchilov"), (OPTIMIZERS, "sgd", "“sgd” is stochastic"),
        (OPTIMIZERS, "adagrad", "“adagrad” is Adagrad"), (PENALTIES, "l1", "“l1” is weight times"),
    ):  # fmt: skip
        assert said in topics._sentence(table, name)


def test_sentences_say_a_difference_only_where_its_corrected_p_is_below_five_percent(tmp_path):
    """For studies of many random differences: the wording follows from p, never from the sign or the size alone."""
    random_, seen = random.Random(3), set()
    for number in range(4):
        study = lab(seeds=4)
        plan, root = planned(study, epochs=1), tmp_path / str(number)
        for run in plan.runs:
            leave(root, run, ERRORS[run.arm] + random_.uniform(0, 6 if number % 2 else 0.4))
        results = read(plan, root)
        for one in results.comparisons:
            text = topics.compared(one)
            is_told = one.p_holm is not None and one.p_holm < 0.05
            assert ("do not tell" in text) is not is_told
            assert (" above " in text or " below " in text) is is_told
            assert ("no claim was made of it" in text) is (one.family == "exploratory")
            seen.add(is_told)
    assert seen == {True, False}


def test_a_verdict_keeps_its_word_and_every_claim_is_told_once(results, made):
    whole = "\n".join(texts(part.blocks) for part in made.parts)
    words = {"supported": "support it", "contradicted": "contradict it", "undecided": "do not decide it"}
    for verdict in results.verdicts:
        assert whole.count(f"“{verdict.claim.text}”") == 1
        (line,) = (line for line in whole.splitlines() if f"“{verdict.claim.text}”" in line)
        assert [word for word, said in words.items() if said in line] == [verdict.verdict]
    (between,) = (part for part in made.parts if part.title == "Further claims")
    assert "A large batch is worse than a low rate." in texts(between.blocks)


def test_without_intervals_no_difference_is_claimed(tmp_path):
    results = finished(planned(one_topic(seeds=1)), tmp_path, ERRORS)
    made = handin.document(results, "T", "A", {}, None)
    assert "With one seed there are no intervals and no verdicts" in texts(made.parts[0].blocks)
    assert all("do not tell" in topics.compared(one) for one in results.comparisons)


def test_each_topic_has_its_frame_its_table_and_a_place_for_its_author(results, made):
    for topic in topics.topics(results):
        (part,) = (part for part in made.parts if part.title == topic.title)
        (table,) = (block.table for block in part.blocks if isinstance(block, Tabular))
        assert table.columns[:4] == ("arm", "test loss (nats)", "test accuracy (%)", "n")
        assert tuple(row[0] for row in table.rows) == topic.arms
        assert [isinstance(block, Picture) for block in part.blocks].count(True) == 1
        assert isinstance(part.blocks[-1], ToWrite)


def test_the_four_frames_have_the_values_of_the_runs(results):
    found = four_curves.data(results, study_curves.of_arms(results), ("baseline", "raw"))
    labels = [[panel.label for panel in row] for row in found.rows]
    assert labels == [["training loss (nats)", "validation loss (nats)"],
                      ["training accuracy (%)", "validation accuracy (%)"]]  # fmt: skip
    runs = [results.records[run.id] for run in results.plan.runs_of["raw"]]
    expected = sum(100 * run.epochs[4].validation.accuracy for run in runs) / len(runs)
    assert found.rows[1][1].bands[1].mean[4] == pytest.approx(expected)
    assert found.rows[0][0].extent == found.rows[0][1].extent


def test_what_diverged_failed_or_is_missing_is_said(tmp_path):
    plan = planned(lab(), epochs=2)
    for run in plan.runs:
        if run.arm == "raw":
            leave(tmp_path, run, 50, status="diverged", upto=1)
        elif run.arm != "slow":
            leave(tmp_path, run, 8)
    results = read(plan, tmp_path)
    found = {topic.title: list(topics.troubles(results, topic)) for topic in topics.topics(results)}
    assert found["Normalisation of the input"][0].startswith("3 of 3 runs of raw diverged")
    assert found["Learning rate"] == ["3 of 3 runs of slow were not computed."]
    few = read(planned(one_topic(), epochs=2), tmp_path / "none")
    assert "The runs that are missing may change every" in texts(
        handin.document(few, "T", "A", {}, None).parts[0].blocks
    )


HOSTILE = '#panic("x") $x^2$ *b* <b>&amp; \\ "q" @ref // 王 \x1b[31m\u202e\x00 `raw` _u_ [l](http://e) ' + "x" * 90


def pages(pdf: bytes) -> int:
    """Pages of a PDF, counted in its objects, those in compressed streams included."""
    whole = pdf
    for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, re.DOTALL):
        try:
            whole += zlib.decompress(stream)
        except zlib.error:
            continue
    return len(re.findall(rb"/Type\s*/Page\b", whole))


def test_texts_of_users_are_inert_in_every_form(tmp_path):
    pytest.importorskip("typst")
    told = HOSTILE.replace("\x00", "")
    study = one_topic(question=told, claims=[{"text": told, "expect": "raw > baseline"}])
    results = finished(planned(study, epochs=2), tmp_path / "runs", ERRORS)
    made = handin.document(results, HOSTILE, HOSTILE, {}, None)
    made = replace(made, parts=(*made.parts, handin.Part(HOSTILE, (
        Paragraph(HOSTILE), ToWrite(HOSTILE), Items((HOSTILE,)), handin.Commands((HOSTILE,)),
        Tabular(tables.Table(("arm", HOSTILE), ((HOSTILE, HOSTILE),)), HOSTILE),
    ))))  # fmt: skip
    pdf = handin.write(made, tmp_path / "out" / "h.pdf").read_bytes()
    assert pdf.startswith(b"%PDF-")
    assert pages(pdf) >= 3
    assert b"panicked" not in pdf
    text = handin.write(made, tmp_path / "out" / "h.md").read_text()
    assert "\x1b" not in text
    assert "\u202e" not in text
    read_as_markup = "\n".join(line for line in text.splitlines() if not line.startswith("    "))
    assert not re.search(r"(?<!\\)<b>|(?<!\\)\*b\*|(?<!\\)\]\(http", read_as_markup)
    names = re.findall(r"\]\((h-figures/[\w-]+\.png)\)", text)
    assert names
    assert all((tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_the_same_document_gives_the_same_bytes(made, tmp_path):
    pytest.importorskip("typst")
    one, other = (handin.write(made, tmp_path / f"{name}.pdf").read_bytes() for name in "ab")
    assert one == other


def test_a_docx_is_made_by_pandoc_from_markdown(made, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="pandoc, which is not here"):
        handin.write(made, tmp_path / "h.docx")
    program = tmp_path / "pandoc"
    program.write_text("#!/bin/sh\n/bin/cat handin.md > handin.docx\n")
    program.chmod(0o755)
    assert handin.write(made, tmp_path / "h.docx").read_text().startswith("# T\n")
    program.write_text("#!/bin/sh\necho no such form >&2\nexit 3\n")
    with pytest.raises(InputError, match=r"pandoc could not make the \.docx: no such form"):
        handin.write(made, tmp_path / "other.docx")
    assert not (tmp_path / "other.docx").exists()


def test_another_ending_an_empty_title_and_an_unknown_study_are_refused_before_work(results, runs, tmp_path, capsys):
    for words, said in (
        (["lab", "--title", "T", "--author", "A", "--out", str(tmp_path / "h.odt")], ".pdf, .docx or .md"),
        (["lab", "--title", " \x01", "--author", "A"], "title: it is empty"),
        (["lib", "--title", "T", "--author", "A"], "lab"),
    ):
        assert main(["study", "handin", *words, "--runs", str(runs)]) == 2
        error = capsys.readouterr().err
        assert said in error
        assert error.count("\n") == 1
    assert not [*tmp_path.rglob("h*.*"), *runs.rglob("handin*")]


def test_a_network_of_ones_own_stands_beside_ours_and_its_text_is_known_to_the_command(tmp_path, capsys, monkeypatch):
    """Its text is in the run folders alone, as in a process that did not train them; the activation is none of its settings."""
    (tmp_path / "handed.py").write_text(
        "from torch import nn\n\n\nclass Handed(nn.Module):\n"
        "    def __init__(self, in_channels: int, num_classes: int):\n"
        "        super().__init__()\n        self.head = nn.Linear(64 * in_channels, num_classes)\n\n"
        "    def forward(self, x):\n        return self.head(x.flatten(1))\n\n\n"
        "def single(in_channels, channels, stride):\n"
        '    """One convolution, *and* no more. It is\n    told here."""\n'
        "    return (nn.Conv2d(in_channels, channels, 3, stride=stride, padding=1, bias=False),)\n"
    )
    (tmp_path / "mix.toml").write_text(
        'question = "?"\nbase = "quick"\nseeds = 1\n[set]\ntrain.epochs = 1\ndata.subset = 60\ndata.augment = []\n'
        '[[arms]]\nname = "Handed"\nset = { model = "handed.py:Handed" }\n[[arms]]\nname = "resnet8"\n'
        'set = { model = "resnet8" }\n[[arms]]\nname = "one"\n'
        'set = { model = { name = "staged_resnet", blocks = [1], channels = [4], block = "handed.py:single" } }\n'
    )
    monkeypatch.chdir(tmp_path)
    assert main(["study", "run", "mix.toml", "--on", "here"]) == 0
    monkeypatch.setattr(own, "_SOURCES", {})
    monkeypatch.setattr(own, "_MODULES", {})
    capsys.readouterr()
    assert main(["study", "handin", "mix", "--title", "T", "--author", "A", "--out", "h.md"]) == 0
    assert "runs own code: handed.py:Handed" in capsys.readouterr().err
    text = (tmp_path / "h.md").read_text()
    (changed,) = re.findall(r"^- Handed: (.*)$", text, re.MULTILINE)
    assert changed.startswith("model = handed.py:Handed; model.code = ")
    assert len(changed) < 70  # its hash is cut, and nothing is told that it lacks
    assert "There is no drawing of the network of Handed here: handed.py:Handed is own code, of whose stages" in text
    assert "| head | linear | 10 | 650 |" in text
    assert "- The model “Handed” is own code, from handed.py.\n" in text
    assert "- The block “single” is own code, from handed.py: “One convolution, \\*and\\* no more.”\n" in text
    told = re.findall(r"^- resnet8: (.*)$", text, re.MULTILINE)
    assert told == ["model = cifar\\_resnet; model.depth = 8; model.channels = \\[16, 32, 64\\]; "
                    "model.block = basic (stride\\_at = first); "
                    "model.shortcut = identity (zeros = around, subsample = slice, reads = input)"]  # fmt: skip
    assert "model.wide" not in text.replace("\\_", "_").partition("## The network")[0]
    assert "- model.block sets the kind of block that every stage repeats" in text.replace("\\_", "_")
    assert "The network of one, from the input to the logits." in text
    assert (tmp_path / "h-figures" / "own-1-2.png").is_file()
    digest = sha256((tmp_path / "handed.py").read_bytes()).hexdigest()
    assert f"handed.py (SHA-256 {digest[:12]}…) is the author's own code" in text
    assert "has to lie beside mix.toml" in text
    assert main(["study", "report", "mix"]) == 0
    report = next((tmp_path / "runs" / "studies").glob("mix*/report/report.md")).read_text()
    assert f"| handed.py | Handed | Handed | {digest} |" in report
    assert "The code “single” is own code, from handed.py: “One convolution" in report
    assert 'model="handed.py:Handed"' in report.replace("\\_", "_")
    assert "augmented" not in text


def test_every_setting_of_a_network_is_told_and_own_code_by_its_first_sentence():
    families = {name for family in FAMILIES for name in MODELS.settings(family)}
    assert families == {*SETTINGS}
    for text, said in (
        ('def f():\n    """Adds `one`. Then two."""', "Adds one."), ("def f():\n    pass", ""), ("def (", ""),
        ('class f:\n    """No stop\n    here\n\n    More."""', "No stop here"), ('"""Of the file."""\nf = 1', ""),
    ):  # fmt: skip
        assert own_code.first_sentence(text, "f") == said
    assert (
        own_code.described("loss", "object.py:MyLoss", "") == "The loss “MyLoss” is own code, from an object in Python."
    )
    named = {"name": "se.py:se", "code": "0" * 64}
    assert own.typed({"a": named, "b": [{**named, "k": 2}], "c": {**named, "name": "notebook.py:se"}}) == {
        "a": "se.py:se", "b": [{"name": "se.py:se", "k": 2}], "c": {**named, "name": "notebook.py:se"}}  # fmt: skip


def test_the_command_writes_it_of_runs_that_were_trained(tmp_path, capsys):
    """With its pictures: the gallery, the network, the mistakes; of what cannot be drawn it is said."""
    pytest.importorskip("typst")
    nbformat = pytest.importorskip("nbformat")
    file = tmp_path / "small.toml"
    file.write_text(
        'question = "?"\nbase = "quick"\nseeds = 1\n'
        "[set]\nmodel = { name = 'cifar_resnet', depth = 8, channels = [4, 4, 8] }\ntrain.epochs = 1\n"
        "data.subset = 150\n"
        '[[arms]]\nname = "plain"\nset = { data.augment = [] }\n'
        '[[arms]]\nname = "moved"\nset = { data.augment = [{ name = "pad_crop", padding = 1 }] }\n'
        '[compare]\nbaseline = "plain"\n'
    )
    runs = tmp_path / "runs"
    assert main(["study", "run", str(file), "--on", "here", "--runs", str(runs)]) == 0
    capsys.readouterr()
    words = ["study", "handin", "small", "--title", "T", "--author", "A", "--runs", str(runs)]
    assert main([*words, "--out", str(tmp_path / "h.md"), "--notebook", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {"handin": str(tmp_path / "h.md"), "to_write": 4, "notebook": str(tmp_path / "h.ipynb")}
    drawn = {path.stem for path in (tmp_path / "h-figures").iterdir()}
    assert drawn == {"topic-1", "curves-1-1", "network", "mistakes", "close-calls"}
    text = (tmp_path / "h.md").read_text()
    assert "| together |" in text
    assert "--runs RUNS" in text.replace("\\", "")
    assert str(tmp_path) not in text
    cells = nbformat.read(tmp_path / "h.ipynb", as_version=4).cells
    calls = [cell for cell in cells if cell.cell_type == "code"]
    assert len(calls) == 1 + len(drawn)
    assert "text/html" in calls[0].outputs[-1].data
    assert all(cell.source.startswith("figures.") and "image/png" in cell.outputs[-1].data for cell in calls[1:])
    prose = "\n\n".join(cell.source for cell in cells if cell.cell_type == "markdown")
    assert set(re.findall(r"^#.*|^> .*", text, re.MULTILINE)) == set(re.findall(r"^#.*|^> .*", prose, re.MULTILINE))
    assert "| together |" in prose
    assert str(tmp_path) not in str(cells)
    # What the author has written into it is not lost by the same command.
    assert main([*words, "--out", str(tmp_path / "h.md")]) == 0
    (tmp_path / "h.md").write_text(text + "My answer.")
    assert main([*words, "--out", str(tmp_path / "h.md")]) == 2
    assert "h.md is not as this command left it, so what is written in it would be lost" in capsys.readouterr().err
    assert (tmp_path / "h.md").read_text().endswith("My answer.")
    folder = next(path for path in runs.iterdir() if (path / "predictions").is_dir())
    shutil.rmtree(folder / "predictions")
    (said,) = handing_in._mistakes(read_record(folder), "plain", "")
    assert "cannot be shown here" in said.text
    assert str(tmp_path) not in said.text


def test_figures_name_the_nearest_topic(results):
    assert figures.study_topic(results, "Batch size").figure.axes
    with pytest.raises(InputError, match="did you mean 'Batch size'"):
        figures.study_topic(results, "Batch sizes")
    with pytest.raises(InputError, match="part: 2 of the 1"):
        figures.study_topic(results, "Batch size", 2)
    assert figures.topic_picture(results, "Batch size") is None


@pytest.fixture(scope="module")
def grid(tmp_path_factory) -> Results:
    claims = [{"text": "Plain gets worse with depth.", "expect": "plain56 > plain20"},
              {"text": "Shortcuts help.", "expect": "resnet56 < plain56"},
              {"text": "Plain-110 does not train.", "expect": "plain110 > 60"}]  # fmt: skip
    return finished(planned(depths(claims=claims), epochs=2), tmp_path_factory.mktemp("grid"), OF_DEPTHS)


def test_the_topics_of_a_grid_are_what_it_varies_each_with_all_else_alike(grid):
    found = {topic.title: topic for topic in topics.topics(grid)}
    assert {title: {*topic.groups} for title, topic in found.items()} == {
        "Depth": {DEPTHS[:3], DEPTHS[3:]}, "Shortcut": {*zip(DEPTHS[:3], DEPTHS[3:], strict=True)}}  # fmt: skip
    assert topics.changed(found["Depth"])[0].startswith("plain20: model.shortcut = none; model.depth = 20")
    told = [one.claim.text for topic in found.values() for one in topics.about(grid, topic)]
    assert told == ["Plain gets worse with depth.", "Shortcuts help."]
    assert [one.claim.text for one in topics.elsewhere(grid, [*found.values()])] == ["Plain-110 does not train."]
    for topic in found.values():
        for said in topics.sentences(grid, topic):
            named = [arm for arm in DEPTHS if re.search(rf"\b{arm}\b", said)]
            assert any({*named} <= {*group} for group in topic.groups), said


def gaps(pdf: bytes, folder: Path) -> list[float]:
    """The largest empty stretch of each page, from the last sign of its head to the end of its text, as a share of it."""
    typst = pytest.importorskip("typst")
    (folder / "d.pdf").write_bytes(pdf)
    found = []
    for number in range(1, pages(pdf) + 1):
        source = f'#set page(width: auto, height: auto, margin: 0pt)\n#image("d.pdf", page: {number})'
        (folder / "page.typ").write_text(source)
        picture = Image.open(io.BytesIO(typst.compile(str(folder / "page.typ"), format="png", ppi=36))).convert("L")
        inked = np.flatnonzero((np.asarray(picture) < 200).any(axis=1))
        found.append(float(np.diff(inked).max()) / picture.height)
    return found


def test_no_page_but_the_last_is_left_empty_before_a_picture(grid, tmp_path):
    """Pictures go to where there is room, and the text goes on around them."""
    pytest.importorskip("typst")
    for number, heights in enumerate(((8.0, 3.0, 3.0), (6.0, 3.0, 3.0))):
        named = zip(("network", "mistakes", "close-calls"), heights, strict=True)
        drawn = [picture(name, "It.", Figure(figsize=(7, height), facecolor="0.7")) for name, height in named]
        made = handin.document(grid, "T", "A", {"network": drawn[:1], "mistakes": drawn[1:]}, None)
        folder = tmp_path / str(number)
        folder.mkdir()
        *full, _ = gaps(handin.pdf(made, folder), folder)

        assert max(full) < 0.3, full


def test_curves_of_one_epoch_are_seen(results):
    """Their points are large, their intervals have a width, and no room is left where nothing is."""
    whole = study_curves.of_arms(results)
    short = {arm: tuple(replace(band, **{key: getattr(band, key)[:1] for key in ("epochs", "mean", "low", "high", "n")})
                        for band in bands) for arm, bands in whole.items()}  # fmt: skip
    drawn = study_curves.draw(four_curves.data(results, short, ("baseline", "raw"))).axes[0]
    long = study_curves.draw(four_curves.data(results, whole, ("baseline", "raw"))).axes[0]
    assert drawn.lines[0].get_markersize() > long.lines[0].get_markersize()
    assert drawn.get_xlim()[0] == 0.5
    assert [len(one.get_segments()) for one in drawn.collections if hasattr(one, "get_segments")] == [1, 1]


def test_one_or_two_commands_more_write_the_document_and_nothing_is_told_of_data_that_no_command_names(grid):
    made = handin.document(grid, "T", "A'", {}, None)
    (told, (lines,)) = (
        made.parts[-1].blocks[0].text,
        [block.lines for block in made.parts[-1].blocks if hasattr(block, "lines")],
    )
    assert "DATA" not in told
    assert lines[-1] == """residuum study handin twins --title T --author 'A'"'"''"""
    (table, *_) = (block for part in made.parts for block in part.blocks
                   if isinstance(block, Tabular) and block.table.columns[0] == "arm")  # fmt: skip
    assert ("Without an interval" in table.caption) == any(
        "±" not in cell and "(" not in cell for row in table.table.rows for cell in row[1:3]
    )


def band(arm, split, quantity, values):
    epochs = tuple(range(1, len(values) + 1))
    return Band(arm, split, quantity, epochs, *[tuple(values)] * 3, (1,) * len(epochs))


@pytest.mark.parametrize("seed", range(12))
def test_an_arm_that_does_not_train_does_not_press_the_others_together(grid, seed):
    """Curves of arms that train are in their frame, in at least a third of its height, whatever another arm does."""
    draw = random.Random(seed)
    arms = list(DEPTHS[: draw.randint(3, 5)])
    lost = draw.choice([None, *arms])
    curves = {}
    for arm in arms:
        start, end = draw.uniform(20, 30), draw.uniform(6, 12)
        errors = [90.0] * 5 if arm == lost else [end + (start - end) * 0.5**at for at in range(5)]
        losses = [draw.uniform(20, 60)] * 5 if arm == lost else [error / 20 for error in errors]
        curves[arm] = tuple(band(arm, split, quantity, values) for split in ("train", "validation")
                            for quantity, values in (("error", errors), ("loss", losses)))  # fmt: skip
    found = four_curves.data(grid, curves, arms)
    assert {*four_curves.beyond(found)} <= {lost}  # often it is in the frame as well, outside of the others' window
    for row in found.rows:
        shown = row[0].extent
        values = [value for one in row[0].bands if one.arm != lost for value in one.mean]
        low, high = shown.window or (shown.low, shown.high)
        assert all(low <= value <= high for value in values)
        assert (
            shown.place(max(values)) - shown.place(min(values)) > (shown.place(shown.high) - shown.place(shown.low)) / 3
        )


def test_a_loss_that_is_far_from_all_others_is_beyond_the_frame(grid):
    """As that of a run that diverged: what others came to stays to be seen."""
    arms = [*DEPTHS[:2]]
    curves = {arm: tuple(band(arm, split, "loss", values if split == "validation" else [2.0, 1.5, 1.0])
                         for split in ("train", "validation"))
              for arm, values in zip(arms, ([3.0, 2.0, 1.0], [12_000.0, 9_000.0, 8_000.0]), strict=True)}  # fmt: skip
    assert four_curves.beyond(four_curves.data(grid, curves, arms)) == (arms[1],)


def test_letters_that_no_font_has_are_told_of_a_document_and_others_are_set(tmp_path, monkeypatch):
    monkeypatch.setattr(style, "_families", lambda: ["DejaVu Sans", "sans-serif"])
    made = handin.Document("残差 network", "É. Žák", "x", "Why? 残", "", ())
    with pytest.warns(Remark, match="no font here has '差残': boxes stand in place of such letters"):
        content = handin.pdf(made, tmp_path)
    assert content.startswith(b"%PDF")
    assert {path.name[:6] for path in (tmp_path / "fonts").iterdir()} == {"DejaVu"}
    assert style.without_a_font("plain, λ ~ Β ± é ≤ 1 − 2") == ""


def test_a_cell_that_fails_is_told_and_no_notebook_is_left(tmp_path, monkeypatch):
    pytest.importorskip("nbclient")
    monkeypatch.setattr(notebook, "_cells", lambda *_: [("code", "1 / 0")])
    with pytest.raises(InputError, match=r"h\.ipynb: a cell failed: ZeroDivisionError: division by zero"):
        notebook.write(None, "a", tmp_path, tmp_path / "h.ipynb")
    assert [*tmp_path.iterdir()] == []
