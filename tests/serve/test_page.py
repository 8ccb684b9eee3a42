"""What the page answers: runs, studies, curves, and what it refuses, start and stop."""

import fcntl
import hashlib
import html
import io
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import quote

import numpy as np
import pytest
from pages_over import client_of, label_of, name_of
from PIL import Image
from tests.payloads import PAYLOADS

from residuum import recipes, training
from residuum.records import run_folder, storage
from residuum.records.record import read_record
from residuum.run import detached
from residuum.serve import jobs, page
from residuum.serve import lab as reading

PAGES = ("/", "/part/going", "/part/runs", "/run/{run}", "/part/run/{run}", "/study/{study}", "/part/study/{study}",
         "/beside?run={run}&run={other}")  # fmt: skip


def places(runs):
    names = {"run": name_of(runs, "resnet8-digits-seed0"), "other": name_of(runs, "plain8"), "study": label_of(runs)}
    return [path.format(**{key: quote(value) for key, value in names.items()}) for path in PAGES]


class Elements(HTMLParser):
    """Every element of a page, with its attributes."""

    def __init__(self, text):
        super().__init__()
        self.found = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found.append((tag, dict(attributes)))


def test_a_list_says_how_every_run_stands(client, made):
    text = client.get("/").text
    rows = {row["name"]: row for row in page._listed(reading.Lab(made), "", "", 1)["rows"]}
    assert {(row["seed"], row["status"], row["epochs"], row["asked"]) for row in rows.values()} >= {
        (0, "finished", 2, 2), (7, "stopped", 1, 3)
    }  # fmt: skip
    for name in rows:
        assert f'href="/run/{name}"' in text
    assert "2 of 2" in text  # runs of the study
    assert "Does &lt;b&gt;depth&lt;/b&gt; matter?" in text


def test_words_and_a_status_choose_among_runs(client, made):
    def named(**asked):
        return set(re.findall(r'href="/run/([^"]+)"', client.get("/part/runs", params=asked).text))

    assert named(find="plain8") == {name_of(made, "plain8")}
    assert named(status="stopped") == {name_of(made, "resnet8-digits-seed7")}
    assert named(find="RESNET8 digits", status="stopped") == {name_of(made, "resnet8-digits-seed7")}
    assert named(find="<script>") == set()
    assert named(page=10**9) == named()


def test_the_curves_are_those_of_the_record(client, made):
    name = name_of(made, "resnet8-digits-seed0")
    rows = read_record(made / name).epochs
    found = client.get(f"/run/{name}/curves").json()
    assert found["epochs"] == [row.epoch for row in rows]
    assert found["loss"]["train"] == [row.train.loss for row in rows]
    assert found["error"]["validation"] == [100 * (1 - row.validation.accuracy) for row in rows]
    assert found["going"] is False


def test_a_run_asks_for_its_curves_before_its_figures_and_says_a_result_once(client, made):
    """Figures take seconds each, and a browser waits for six of them before it asks for more."""
    name = name_of(made, "plain8")
    text = client.get(f"/run/{name}").text
    early = text.index(f'<link rel="preload" as="fetch" crossorigin="anonymous" href="/run/{name}/curves">')
    assert early < text.index("<img")
    assert text.count("<p>test, ") == 1
    assert "test, last epoch (1, which validation selected too): loss" in text


def test_of_many_epochs_the_last_is_among_those_that_are_sent(made):
    row = read_record(made / name_of(made, "resnet8-digits-seed0")).epochs[0]
    draw = random.Random(5)
    for count in [1, 2, reading.MOST_POINTS, reading.MOST_POINTS + 1, *(draw.randrange(3, 9000) for _ in range(6))]:
        found = reading.curves([replace(row, epoch=epoch) for epoch in range(1, count + 1)])
        assert found["epochs"][0] == 1
        assert found["epochs"][-1] == count
        assert found["epochs"] == sorted({*found["epochs"]})
        assert len(found["epochs"]) <= reading.MOST_POINTS + 1


def test_a_run_that_is_held_is_running(made, lab):
    name = name_of(lab, "resnet8-digits-seed7")
    with storage.locked(lab / name), client_of(lab, read_only=True) as client:
        text = client.get(f"/run/{name}").text
        assert '<span class="status running">running</span>' in text
        assert "to go" in text
        assert f'href="/run/{name}"' in client.get("/part/going").text
        gone_on = client.get(f"/part/run/{name}", params={"was": "running"})
        assert "hx-refresh" not in gone_on.headers
    with client_of(lab, read_only=True) as client:
        assert client.get(f"/part/run/{name}", params={"was": "running"}).headers["hx-refresh"] == "true"


def test_what_failed_and_what_is_damaged_says_why(lab):
    label, name = label_of(lab), name_of(lab, "plain8")
    run = json.loads((lab / name / "config.json").read_text())["id"]
    (lab / name / "result.json").unlink()
    storage.write_json(lab / "studies" / label / "failed.json", {run: "out of <memory>"})
    damaged = name_of(lab, "resnet8-digits-seed0")
    (lab / damaged / "result.json").write_text("{")
    with client_of(lab) as client:
        for path in ("/", f"/study/{label}"):
            assert "out of &lt;memory&gt;" in client.get(path).text
        assert "result.json is damaged" in client.get("/").text
        answer = client.get(f"/run/{damaged}")
        assert (answer.status_code, "result.json is damaged" in answer.text) == (400, True)
        assert str(lab) not in client.get("/").text + answer.text


def test_pages_take_nothing_from_elsewhere_and_have_no_script_within(client, made):
    for path in places(made):
        answer = client.get(path)
        assert answer.status_code == 200, path
        assert "unsafe" not in answer.headers["content-security-policy"]
        for tag, attributes in Elements(answer.text).found:
            assert not any(name.startswith("on") or name == "style" for name in attributes), (path, tag)
            assert tag not in ("style", "iframe", "object", "base")
            if tag == "script":
                assert attributes["src"].startswith("/static/")
            for name in ("src", "href", "action", "srcset"):
                value = attributes.get(name) or "/"
                assert (value.startswith("/") and not value.startswith("//")) or value == "data:,", (path, value)


HASHES = {
    "htmx.min.js": "d6fdc75f204e6bdefa99b69bf1e6d4ac69b8a364f77929f45c13476b4000f717",
    "uPlot.iife.min.js": "19c8d4c6ad88929a79f4ae49d6f7161566dfd0ba3d15cc495e974f787eb78f1f",
    "uPlot.min.css": "df630c6a8d6f8eeaff264b50f73ce5b114f646ffd9a0bb74f049b0a00135fa04",
}
"""Of htmx.org 2.0.11 and uplot 1.6.32, as npm has them."""


def test_what_is_kept_in_the_package_is_what_was_published():
    known = {"htmx.min.js": "htmx", "uPlot.iife.min.js": "uPlot", "uPlot.min.css": "uPlot"}
    for name, project in known.items():
        assert len(page._static(name)) < 60_000
        assert hashlib.sha256(page._static(name)).hexdigest() == HASHES[name]
        assert (page.resources.files("residuum.serve") / "static" / f"{project}.LICENSE").is_file()


HOSTILE = [
    "../..", "..%2f..", "%2e%2e%2f", "..", ".", "studies", "logs", "%00", "a%00b", "x" * 300, "%F0%9F%98%80", "runs/../..",
    "~root", "/etc/passwd", "%2fetc%2fpasswd", "C:\\windows", "{{7*7}}", "%0d%0aset-cookie:a=b", "*", "?", "-rf",
]  # fmt: skip


@pytest.mark.parametrize("before", ["/run/", "/part/run/", "/study/", "/static/", "/beside?run=", "/part/study/"])
def test_names_lead_nowhere(client, before):
    draw = random.Random(before)
    made_up = ["".join(draw.choices("./%2e5c\\ abc\n\x1b", k=draw.randrange(1, 12))) for _ in range(40)]
    for name in [*HOSTILE, *map(quote, made_up)]:
        answer = client.get(before + name)
        assert answer.status_code in (400, 404) or (answer.status_code == 200 and "<h2>Going on</h2>" in answer.text), (
            name
        )
        assert "root:" not in answer.text
        assert "Traceback" not in answer.text


def test_a_figure_is_named_by_the_table_alone(client, made):
    name = name_of(made, "resnet8-digits-seed0")
    for which in ("nosuch", "../confusion", "..%2f..%2fconfig", "layers"):  # no histograms were recorded
        assert client.get(f"/run/{name}/figure/{which}.svg").status_code == 404
    assert client.get(f"/run/{name}/attributions/..%2f..%2fconfig.svg").status_code == 404


NAMES = [payload for payload in PAYLOADS if not re.search(r"[/\0]", payload)]
"""Those that a folder may have, too."""


@pytest.mark.parametrize("number", range(4))
def test_what_others_named_is_text_and_nothing_else(lab, number):
    """Ten of the payloads as classes, two of them as arms and the names of folders, and one in all that is prose."""
    some = PAYLOADS[10 * number : 10 * number + 10]
    arms, payload = dict(zip(("small", "plain"), some[1:3], strict=True)), some[0]
    label, name = label_of(lab), name_of(lab, "plain8")
    run, called = json.loads((lab / name / "config.json").read_text())["id"], f"{NAMES[number]}-{name}"
    changed(lab / name / "data.json", classes=some)
    (lab / name / "result.json").unlink()
    (lab / name / "remarks.jsonl").write_text(json.dumps({"time": payload, "text": payload}) + "\n")
    plan = storage.read_json(lab / "studies" / label / "plan.json")
    study = plan["study"] | {"question": payload,
                             "arms": [one | {"name": arms[one["name"]]} for one in plan["study"]["arms"]]}  # fmt: skip
    changed(
        lab / "studies" / label / "plan.json", study=study,
        arms=[one | {"name": arms[one["name"]], "family": some[3]} for one in plan["arms"]],
        runs=[one | {"arm": arms[one["arm"]]} for one in plan["runs"]],
        configs={arms[arm]: config for arm, config in plan["configs"].items()},
    )  # fmt: skip
    storage.write_json(lab / "studies" / label / "failed.json", {run: payload})
    shutil.copytree(lab / name, lab / called)
    shutil.copytree(lab / "studies" / label, lab / "studies" / NAMES[number + 4])
    with client_of(lab) as client:
        assert client.get(f"/study/{quote(NAMES[number + 4])}").status_code == 400
        for path in ("/", f"/study/{label}", f"/run/{quote(called)}",
                     f"/beside?run={quote(called)}&run={quote(name_of(lab, 'resnet8-digits-seed0'))}"):  # fmt: skip
            answer = client.get(path)
            text, elements = answer.text, Elements(answer.text).found
            assert answer.status_code == 200, (path, text[-300:])
            assert not re.search(r"[\x00-\x08\x0b-\x1f\x80-\x9f\u200b\u2028\u202a-\u202e\u2066\u2069\ufeff]", text)
            assert not [key for _, found in elements for key in found if key.startswith("on")]
            links = [str(found[key]) for _, found in elements for key in ("src", "href") if key in found]
            assert links
            assert {link for link in links if not link.startswith(("/", "#", "?"))} == {"data:,"}
            assert "x" not in [found.get(key) for _, found in elements for key in ("id", "src")]
            assert "alert" not in "".join(re.findall(r"<script[^>]*>(.*?)</script>", text, re.DOTALL))


def changed(path, **values):
    """Write a file of JSON again with other values."""
    storage.write_json(path, {**storage.read_json(path), **values})


def test_own_code_is_found_wherever_it_stands(lab):
    for values in (
        {"model": {"name": "cifar_resnet", "block": {"name": "mine.py:Block", "code": "9f2c"}}},
        {"data": {"augment": [{"name": "flip"}, {"name": "mine.py:Block"}]}},
        [{"a": ({"name": "mine.py:Block"},)}],
    ):
        assert reading.own_code(values) == "mine.py:Block"
    config = read_record(lab / name_of(lab, "resnet8-digits-seed0")).config
    assert reading.own_code(config.model_dump(mode="json")) == ""


NET = """
from torch import nn

class Net(nn.Module):
    def __init__(self, in_channels: int, num_classes: int):
        super().__init__()
        self.head = nn.Linear(in_channels * 64, num_classes)

    def forward(self, x):
        open("ran", "w").close()
        return self.head(x.flatten(1))
"""


@pytest.fixture
def of_own(lab, tmp_path, monkeypatch) -> str:
    """The name of a run whose network is own code, which was named here and therefore is known."""
    monkeypatch.setenv("RESIDUUM_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("mine.py").write_text(NET)
    config = recipes.recipe("quick").changed({"model": "mine.py:Net", "train.epochs": 1, "data.subset": 60})
    name = training.train(config, lab).folder.name
    Path("ran").unlink()
    return name


def image() -> bytes:
    with io.BytesIO() as file:
        Image.fromarray(np.arange(64, dtype=np.uint8).reshape(8, 8)).save(file, "png")
        return file.getvalue()


def test_a_run_of_own_code_that_nobody_trusted_is_shown_and_its_code_never_run(lab, of_own, monkeypatch):
    """Whoever opens the page has not said whose code he trusts."""
    monkeypatch.setenv("RESIDUUM_CACHE", "of-another-user")
    monkeypatch.setattr(detached, "begin", lambda *_: pytest.fail("something was begun"))
    monkeypatch.setattr(page.Aside, "call", lambda *_: pytest.fail("something was computed"))
    with client_of(lab) as client:
        text = client.get(f"/run/{of_own}").text
        assert "own code, mine.py:Net" in text
        assert "residuum evaluate RUN --trust" in text
        assert 'type="file"' not in text
        assert "what does it look at" not in text
        for answer, said in (
            (client.put(f"/run/{of_own}/predict", content=image()), "that nobody has trusted here"),
            (client.post("/start/resume", data={"run": of_own}), "that nobody has trusted here"),
            (client.post("/start/explain", data={"run": of_own}), "that nobody has trusted here"),
        ):
            assert (answer.status_code, said in answer.text) == (400, True)
    assert not Path("ran").exists()


def test_an_image_is_tried_with_own_code_that_was_trusted(lab, of_own, monkeypatch):
    """Also where the network has no maps for Grad-CAM."""
    monkeypatch.setattr(page.Aside, "call", lambda _, job, *given: jobs.JOBS[job](*given))
    with client_of(lab) as client:
        text = client.get(f"/run/{of_own}").text
        assert 'type="file"' in text
        assert "which was trusted here" in text
        answer = client.put(f"/run/{of_own}/predict", content=image())
    assert answer.status_code == 200
    assert answer.text.count("%") == jobs.LIKELIEST
    assert Path("ran").exists()


def test_a_run_of_own_code_that_was_trusted_is_gone_on_with_and_explained_from_the_page(lab, of_own, monkeypatch):
    begun = []
    monkeypatch.setattr(detached, "begin", lambda words, *_: begun.append(words))
    with client_of(lab) as client:
        assert "/start/explain" in client.get(f"/part/run/{of_own}").text
        (lab / of_own / run_folder.RESULT).unlink()
        assert "/start/resume" in client.get(f"/part/run/{of_own}").text
        for what in ("resume", "explain"):
            assert client.post(f"/start/{what}", data={"run": of_own}, follow_redirects=False).status_code == 303
    assert begun == [[what, str(lab / of_own), "--runs", str(lab)] for what in ("resume", "explain")]


def test_a_list_says_which_study_and_arm_asked_for_a_run(client, made):
    text = client.get("/part/runs?find=plain8").text
    assert f'<a href="/study/{quote(label_of(made))}">{label_of(made)}</a>: plain' in text


def test_runs_of_other_classes_are_told_to_compare_in_nothing(lab, monkeypatch):
    names = [name_of(lab, "resnet8-digits-seed0"), name_of(lab, "plain8")]
    path = lab / names[1] / run_folder.DATA
    for classes, said in (
        ([*"abcd"], "These runs tell 4 and 10 classes apart"),
        ([*"abcdefghij"], "classes of other names"),
    ):
        storage.write_json(path, {**storage.read_json(path), "classes": classes})
        with client_of(lab) as client:
            assert said in client.get(f"/beside?run={names[0]}&run={names[1]}").text
            assert said not in client.get(f"/beside?run={names[0]}").text


BAD_FORMS = [
    ("/start/run", {"recipe": "nosuch"}, "unknown recipe"),
    ("/start/run", {"recipe": "quick", "model": "mine.py:Net"}, "own code"),
    ("/start/run", {"recipe": "quick", "model": "--help"}, "not a name"),
    ("/start/run", {"recipe": "quick", "model": "resnet21"}, "resnet"),
    ("/start/run", {"recipe": "quick", "data": "/etc/passwd"}, "not a name"),
    ("/start/run", {"recipe": "quick", "data": "../x"}, "not a name"),
    ("/start/run", {"recipe": "quick", "epochs": "0"}, "epochs"),
    ("/start/run", {"recipe": "quick", "epochs": "9" * 5000}, "epochs"),
    ("/start/run", {"recipe": "quick", "seed": "-1"}, "seed"),
    ("/start/run", {"recipe": "quick", "seed": "1e3"}, "seed"),
    ("/start/study", {"study": "mine.toml"}, "unknown study"),
    ("/start/study", {"study": "../../x"}, "unknown study"),
    ("/start/study", {"study": "quickstart", "scale": "nan"}, "scale"),
    ("/start/study", {"study": "quickstart", "scale": "0"}, "scale"),
    ("/start/study", {"study": "quickstart", "seeds": "10001"}, "seeds"),
    ("/start/study", {"study": "quickstart", "workers": "65"}, "workers"),
    ("/start/again", {"study": "nosuch@1"}, "no study"),
    ("/start/resume", {"run": "../x"}, "no run"),
    ("/stop", {"command": "../../etc"}, "no command"),
    ("/stop", {"x": "y"}, "no command"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "form", "said"), BAD_FORMS)
def test_a_form_that_cannot_be_starts_nothing(lab, path, form, said, monkeypatch):
    monkeypatch.setattr(detached, "begin", lambda *_: pytest.fail("something was begun"))
    with client_of(lab) as client:
        answer = client.post(path, data=form)
        assert answer.status_code in (400, 404)
        assert said in answer.text
        assert "\n" not in answer.text
        assert client.post(path, json=form).status_code == 400


def test_a_study_of_its_users_file_is_not_gone_on_with_from_here(lab):
    with client_of(lab) as client:
        answer = client.post("/start/again", data={"study": label_of(lab)})
    assert (answer.status_code, "its user's own file" in answer.text) == (400, True)


def test_what_a_form_asks_for_is_one_command(lab, monkeypatch):
    begun = []
    monkeypatch.setattr(detached, "begin", lambda words, runs, kind: begun.append(words))
    with client_of(lab) as client:
        form = {"recipe": "quick", "model": "resnet8", "epochs": "3", "seed": "4", "data": ""}
        assert client.post("/start/run", data=form).headers["location"] == "/#started"
        client.post("/start/study", data={"study": "quickstart", "scale": "0.1", "seeds": "2", "workers": ""})
        name = name_of(lab, "resnet8-digits-seed7")
        client.post("/start/resume", data={"run": name})
    where = ["--runs", str(lab)]
    assert begun == [
        ["train", "quick", "--model", "resnet8", "--epochs", "3", "--seed", "4", *where],
        ["study", "run", "quickstart", "--seeds", "2", "--scale", "0.1", *where],
        ["resume", str(lab / name), *where],
    ]


def test_a_read_only_page_has_nothing_to_act_with(client, made):
    for path in places(made):
        forms = [found for tag, found in Elements(client.get(path).text).found if tag == "form"]
        assert all(found.get("method") != "post" for found in forms)
    assert client.post("/stop", data={"command": "x"}).status_code == 403


def test_a_run_that_was_started_here_is_stopped_from_here_and_keeps_its_state(lab):
    """It goes on in a session of its own, says what it says in a log, and saves when it is asked to stop."""
    with client_of(lab) as client:
        client.post("/start/run", data={"recipe": "quick", "model": "resnet8", "epochs": "500", "seed": "3"})
        (one,) = detached.commands(lab)
        try:
            until(lambda: "Epoch: 1 " in detached.printed(one, lab))
            name = name_of(lab, "resnet8-digits-seed3")
            text = client.get(f"/run/{name}").text
            assert f'value="{one.name}"' in text
            assert '<span class="status running">' in text
            client.post("/stop", data={"command": one.name})
            until(lambda: not detached.is_alive(one, lab))
        finally:
            detached.stop(one, lab)
        assert read_record(lab / name).status == "stopped"
        assert run_folder.latest_checkpoint(lab / name)[0] is not None
        assert "go on" in client.get(f"/run/{name}").text
        assert not detached.stop(one, lab)


def until(so):
    for _ in range(1200):
        if so():
            return
        time.sleep(0.05)
    pytest.fail("it did not come to that")


def test_a_command_that_failed_says_so_with_its_whole_error(lab):
    """Of a data set that is not here: the error is longer than a line of the page, and is not cut."""
    with client_of(lab) as client:
        client.post("/start/run", data={"recipe": "quick", "data": "x" * 50})
        (one,) = detached.commands(lab)
        until(lambda: not detached.is_alive(one, lab))
        end = detached.ended(one, lab)
        assert (end.word, end.code) == ("failed", 2)
        assert end.reason == detached.printed(one, lab).strip().removeprefix("residuum: ")
        text = client.get("/").text
        assert '<span class="status failed">failed</span> <span class="soft">exit code 2</span>' in text
        assert html.escape(end.reason).replace("&#x27;", "&#39;") in text


@pytest.mark.parametrize(("code", "said", "expected"), [
    (0, "test loss 1", ("finished", 0, "")), (143, "residuum: stopped by SIGTERM", ("stopped", 143, "")),
    (1, "Traceback\nValueError: x", ("failed", 1, "ValueError: x")), (74, "residuum: disk", ("failed", 74, "disk")),
    (137, "Epoch: 1", ("failed", 137, "it was killed by signal 9")), (1, "", ("failed", 1, "it said nothing")),
    (None, "residuum: it cannot", ("failed", None, "it cannot")), (None, "Epoch: 3", ("ended", None, "")),
    (None, "residuum: stopped by SIGINT", ("stopped", None, "")),
])  # fmt: skip
def test_how_a_command_ended_is_told_by_its_exit_code_else_by_what_it_said_last(tmp_path, code, said, expected):
    one = detached.Detached("20260101-000000-train-abcdef", ("train",), 1, "2026-01-01T00:00:00+00:00")
    log = detached.log_of(tmp_path, one.name)
    log.parent.mkdir()
    log.write_text(f"run x\n{said}\n" if said else "")
    if code is not None:
        log.with_suffix(detached.ENDED).write_text(f"{code}\n")
    end = detached.ended(one, tmp_path)
    assert (end.word, end.code, end.reason) == expected


def test_a_command_that_was_killed_is_known_to_who_began_it(tmp_path):
    one = detached.begin(["study", "watch", "--help"], tmp_path, "killed")
    os.kill(one.process, signal.SIGKILL)
    until(lambda: not detached.is_alive(one, tmp_path))
    assert detached.ended(one, tmp_path).word in ("failed", "finished")
    assert detached.ended(one, tmp_path).code in (137, 0)  # it may have been through


def test_a_process_that_is_another_one_is_not_stopped(tmp_path):
    """Its number may have gone to somebody else since."""
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    try:
        one = detached.Detached("20260101-000000-train-abcdef", ("train",), other.pid, "2026-01-01T00:00:00+00:00")
        log = detached.log_of(tmp_path, one.name)
        log.parent.mkdir()
        log.write_text("")
        assert not detached.stop(one, tmp_path)  # nobody holds its log
        with log.open() as held:
            fcntl.flock(held, fcntl.LOCK_SH)
            assert not detached.stop(one, tmp_path)  # it leads no session
        assert other.poll() is None
    finally:
        other.send_signal(signal.SIGKILL)
        other.wait()


def test_what_a_request_lacks_or_asks_too_much_is_told_in_a_line(lab, monkeypatch):
    run, label = name_of(lab, "resnet8-digits-seed0"), label_of(lab)
    many = "&".join(f"run=r{number}" for number in range(page.MOST_BESIDE + 1))
    with client_of(lab) as client:
        for answer, code, said in (
            (client.get("/beside"), 400, "0 runs to be compared; choose 1 to"),
            (client.get(f"/beside?{many}"), 400, f"{page.MOST_BESIDE + 1} runs to be compared; choose 1 to"),
            (client.get(f"/run/{run}/attributions/none.svg"), 404, "has no attributions 'none'"),
            (client.get(f"/study/{label}/report/figures/none.svg"), 404, "the report has no figure 'none.svg'"),
            (_post(client, b"\xff=1"), 400, "the form cannot be read"),
            (_post(client, b"&".join(b"a=1" for _ in range(21))), 400, "the form cannot be read"),
        ):
            assert answer.status_code == code
            assert said in html.unescape(answer.text)
        monkeypatch.setattr(page, "PATIENCE", 0.0)
        answer = _post(client, b"study=x")
        assert (answer.status_code, "nothing came for 0 s" in answer.text) == (400, True)


def _post(client, content):
    return client.post("/start/again", content=content, headers={"content-type": "application/x-www-form-urlencoded"})


def test_a_study_whose_runs_have_not_begun_has_no_curves_yet(lab):
    label = label_of(lab)
    for folder in lab.glob("*-seed1-*"):
        shutil.rmtree(folder)
    with client_of(lab) as client:
        answer = client.get(f"/study/{label}/curves.svg")
    assert (answer.status_code, "no run has finished an epoch yet" in answer.text) == (400, True)
