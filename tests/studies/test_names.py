"""Names that become folders: none leads out of the folder of runs, whoever wrote the file that it stands in."""

import json
import random
import re
from pathlib import Path

import pytest

from residuum.errors import InputError
from residuum.studies import parsing
from residuum.studies import plan as plans
from residuum.studies.part import word
from residuum.studies.study import Study, StudyError

OUT = ("../../x", "/etc/passwd", "..", ".", "a/b", "a\\b", "~root", "-rf", "a\0b", "a\nb", "a\x1b[2J", "\u202egpj", " a",
       "a.", "é" * 91, "a" * 181, "$(id)", "a;b", "*", "[b]x[/b]", "<b>")  # fmt: skip
KEPT = ("twins", "my study (2)", "été_3", "a.b", "x@y", "R&D", "実験")


def study(name):
    return Study(name=name, question="?", base="quick", seeds=1)


@pytest.mark.parametrize("name", OUT)
def test_a_study_whose_name_is_no_folder_is_refused_with_the_nearest_that_is(name):
    with pytest.raises(StudyError) as caught:
        study(name)
    near = re.search(r"; as '(.*)'$", str(caught.value))
    if near:
        assert study(near[1]).name == near[1]
    else:
        assert not any(letter.isalnum() for letter in name)


@pytest.mark.parametrize("name", KEPT)
def test_a_plain_name_is_kept(name, tmp_path):
    assert study(name).name == name
    assert plans.folder_of(tmp_path, f"{name}@a1b2c3").parent == tmp_path / plans.PLANS


def test_no_name_that_is_taken_leads_anywhere_else(tmp_path):
    rng = random.Random(5)
    letters = "ab./\\~-_ @.()\0\n\x1b\u202e*?é実$"
    taken = 0
    for _ in range(3000):
        name = "".join(rng.choice(letters) for _ in range(rng.randint(1, 8)))
        try:
            word(name)
        except ValueError:
            continue
        taken += 1
        folder = plans.folder_of(tmp_path, name)
        assert folder.resolve().parent == (tmp_path / plans.PLANS).resolve()
        assert folder.name == name
    assert taken > 100


def test_a_file_with_such_a_name_names_the_line_and_writes_nothing(run):
    Path("mine.toml").write_text('question = "?"\nname = "../../x"\nbase = "quick"\nseeds = 1\n')
    code, out, err = run("study", "run", "mine.toml")
    assert (code, out) == (2, "")
    assert "mine.toml, line 2: name: '../../x'" in err
    assert "as 'x'" in err
    assert [path.name for path in Path().iterdir()] == ["mine.toml"]


@pytest.mark.parametrize("key", ["label", "folder", "name"])
def test_the_plan_of_a_stranger_leads_nowhere_else(key, tmp_path):
    folder = tmp_path / "runs" / plans.PLANS / "its"
    folder.mkdir(parents=True)
    values = {"study": study("its").model_dump(mode="json"), "label": "its", "scale": 1.0, "settings": {},
              "gave_up": [], "arms": [{"name": "base", "settings": {}, "parameters": 1, "macs": 1, "epochs": 1,
                                       "steps_per_epoch": 1, "family": "", "cell": {}}],
              "configs": {"base": {}},
              "runs": [{"arm": "base", "seed": 0, "id": "0" * 12, "folder": "its-run"}]}  # fmt: skip
    (folder / plans.PLAN).write_text(json.dumps(values))
    assert plans.read(folder).runs[0].folder == "its-run"
    place = {"label": values, "folder": values["runs"][0], "name": values["study"]}[key]
    place[key] = "../../../elsewhere"
    (folder / plans.PLAN).write_text(json.dumps(values))
    with pytest.raises(InputError, match="elsewhere' is no name for a folder"):
        plans.read(folder)


def test_what_a_search_finds_still_has_a_name():
    text = {"question": "?", "base": "quick", "seeds": 1,
            "search": {"space": {"optim.lr": [0.1, 0.2]}, "trials": 2}}  # fmt: skip
    assert Study(name="a" * 170, **text).search
    with pytest.raises(StudyError, match="called after it"):
        Study(name="a" * 178, **text)


def test_shipped_studies_have_such_names():
    assert [word(name) for name in parsing.names()] == parsing.names()
