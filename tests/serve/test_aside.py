"""The process beside the page: figures and predictions, images of strangers, and its death."""

import io
import os
import signal

import numpy as np
import pytest
from pages_over import client_of, label_of, name_of
from PIL import Image

from residuum.errors import BusyError, InputError
from residuum.records.record import read_record
from residuum.run import predict as predicting
from residuum.serve import aside
from residuum.serve import lab as reading
from residuum.serve.aside import Aside
from residuum.serve.pictures import PICTURES


@pytest.fixture(scope="module")
def beside():
    one = Aside()
    yield one
    one.close()


@pytest.fixture(scope="module")
def live(made):
    with client_of(made, read_only=True) as client:
        yield client


def image(size=(8, 8), form="PNG", value=9):
    file = io.BytesIO()
    Image.fromarray(np.full((size[1], size[0]), value, np.uint8)).save(file, form)
    return file.getvalue()


def test_a_dropped_image_gets_the_probabilities_that_predict_gives(live, made, tmp_path):
    name = name_of(made, "resnet8-digits-seed0")
    draw = np.random.default_rng(3)
    content = io.BytesIO()
    Image.fromarray(draw.integers(0, 256, (11, 9), np.uint8)).save(content, "PNG")
    (tmp_path / "one.png").write_bytes(content.getvalue())
    (expected,) = predicting.predict(predicting.load(read_record(made / name)), [tmp_path / "one.png"])
    answer = live.put(f"/run/{name}/predict", content=content.getvalue())
    assert answer.status_code == 200
    for label, share in [*expected.probabilities.items()][:3]:
        assert f'<td>{label}</td><td class="n">{100 * share:.2f} %</td>' in answer.text
    assert "scaled to the size" in answer.text
    assert 'src="data:image/png;base64,iVBOR' in answer.text
    assert (made / name / "test_reads.jsonl").read_text().count("\n") == read_record(made / name).result.test_reads


def bombs():
    yield b"", "empty"
    yield b"<svg xmlns='http://www.w3.org/2000/svg'/>", "not an image"
    yield image()[:45], "damaged"
    yield image((5000, 4001)), "at most 20,000,000"
    yield b"GIF89a" + os.urandom(500), ""
    draw = np.random.default_rng(8)
    for form in ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP"):
        content = bytearray(image((16, 16), form))
        for at in draw.integers(0, len(content), 30):
            content[at] = draw.integers(0, 256)
        yield bytes(content), ""


def test_what_is_no_image_is_refused_in_a_line_and_the_page_goes_on(live, made):
    """Among them files with flipped bytes, of which some may still be images."""
    name = name_of(made, "resnet8-digits-seed0")
    for content, said in bombs():
        answer = live.put(f"/run/{name}/predict", content=content)
        assert answer.status_code in ((400,) if said else (200, 400))
        assert said in answer.text
        if answer.status_code == 400:
            assert answer.text.startswith("the image ")
            assert "\n" not in answer.text
            assert "/tmp" not in answer.text
    assert live.put(f"/run/{name}/predict", content=image()).status_code == 200


def test_every_figure_that_a_run_has_is_drawn(live, made):
    record = read_record(made / name_of(made, "resnet8-digits-seed0"))
    there = [name for name, one in PICTURES.items() if one.is_there(record)]
    assert {"confusion", "reliability"} <= {*there}
    for path in [*(f"/run/{record.folder.name}/figure/{name}.svg" for name in there),
                 f"/beside/curves.svg?run={record.folder.name}&run={name_of(made, 'plain8')}",
                 f"/beside/curves.svg?run={record.folder.name}&run={name_of(made, 'plain8')}&narrow=true",
                 f"/study/{label_of(made)}/curves.svg", f"/study/{label_of(made)}/curves.svg?narrow=true"]:  # fmt: skip
        answer = live.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (200, "image/svg+xml"), path
        assert "sandbox" in answer.headers["content-security-policy"]
        assert "script-src" not in answer.headers["content-security-policy"]


def test_a_report_is_of_now_and_its_reading_is_recorded(lab, monkeypatch):
    monkeypatch.setattr(reading, "FRESH", 0.0)
    label = label_of(lab)
    readings = lab / "studies" / label / "readings.jsonl"
    with client_of(lab) as client:
        first = client.get(f"/study/{label}/report/")
        assert first.status_code == 200
        assert "2 of 2 runs complete" in first.text
        assert "script" not in first.headers["content-security-policy"]
        svg = client.get(f"/study/{label}/report/figures/curves.svg")
        assert (svg.status_code, svg.headers["content-type"]) == (200, "image/svg+xml")
        for name in ("..%2findex.html", "nosuch.svg", "..%2f..%2f..%2fconfig.json"):
            assert client.get(f"/study/{label}/report/figures/{name}").status_code == 404
        (lab / name_of(lab, "plain8") / "result.json").unlink()
        os.utime(lab / "studies" / label / "plan.json")
        assert "1 of 2 runs complete" in client.get(f"/study/{label}/report/").text
    assert not (lab / "studies" / label / "report").exists()
    assert readings.exists()


def test_a_process_that_dies_takes_nothing_with_it(beside, made, monkeypatch):
    folder = str(made / name_of(made, "resnet8-digits-seed0"))
    assert beside.call("figure", folder, "confusion").startswith("<?xml")
    os.kill(beside._process.pid, signal.SIGKILL)
    beside._process.wait()
    assert beside.call("figure", folder, "confusion").startswith("<?xml")
    monkeypatch.setattr(aside, "LIMIT", 0.0)
    with pytest.raises(BusyError, match="given up"):
        beside.call("figure", folder, "reliability")
    monkeypatch.undo()
    with pytest.raises(InputError, match="config"):
        beside.call("figure", str(made), "confusion")


def test_more_than_can_wait_is_refused(beside):
    taken = [beside._room.acquire(blocking=False) for _ in range(aside.MOST_WAITING)]
    try:
        assert all(taken)
        with pytest.raises(BusyError, match="try again"):
            beside.call("figure", "x", "confusion")
    finally:
        for _ in taken:
            beside._room.release()
