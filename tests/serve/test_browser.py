"""The page in a browser, on a desk and on a phone, over a real server that is also treated badly."""

import http.client
import io
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import HTTPCookieProcessor, build_opener, urlopen

import pytest
from pages_over import label_of, name_of
from PIL import Image

from residuum.records import mirror, storage
from residuum.records.rows import Rows, read_rows

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def served(made, tmp_path_factory):
    """Runs, and the address of a page over them, where one run is held as if it trained."""
    runs = tmp_path_factory.mktemp("served") / "runs"
    shutil.copytree(made, runs)
    process = subprocess.Popen(
        [sys.executable, "-m", "residuum", "serve", "--runs", str(runs), "--port", "0"],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    address = process.stdout.readline().strip().rstrip("/")
    assert address.startswith("http://127.0.0.1:"), process.stderr.read()
    with storage.locked(runs / name_of(runs, "resnet8-digits-seed7")):
        yield runs, address
    process.send_signal(2)
    assert process.wait(30) == 130
    assert "Traceback" not in process.stderr.read()


@pytest.fixture(scope="module")
def browser():
    program = os.environ.get("RESIDUUM_BROWSER") or next(filter(None, map(shutil.which, BROWSERS)), None)
    if program is None:
        pytest.skip("no browser here (RESIDUUM_BROWSER)")
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        yield browser
        browser.close()


@pytest.fixture(params=[1200, 390], ids=["desk", "phone"])
def window(request, browser, served):
    """A window of that width that keeps what goes wrong in it, and what it asks of others."""
    page = browser.new_page(viewport={"width": request.param, "height": 800})
    troubles = []
    page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: troubles.append(str(error)))
    page.on("request", lambda one: troubles.append(one.url)
            if not one.url.startswith((served[1], "data:")) else None)  # fmt: skip
    yield page
    page.close()
    assert troubles == []


def is_within(page):
    """No page is wider than its window."""
    return page.evaluate("document.documentElement.scrollWidth <= window.innerWidth")


def test_pages_fit_and_no_script_is_refused(window, served):
    runs, address = served
    run, other = name_of(runs, "resnet8-digits-seed0"), name_of(runs, "plain8")
    for path in ("/", f"/run/{run}", f"/study/{label_of(runs)}", f"/beside?run={run}&run={other}"):
        window.goto(address + path)
        window.wait_for_load_state("networkidle") if path == f"/run/{run}" else None
        assert is_within(window), path
    window.goto(f"{address}/run/{run}")
    window.wait_for_selector("[data-of=error] canvas")
    boxes = [one.bounding_box() for one in window.query_selector_all("canvas")]
    assert len(boxes) == 2
    assert all(box["width"] > 200 for box in boxes)
    window.locator("img[alt=Confusion]").scroll_into_view_if_needed()
    window.wait_for_load_state("networkidle")
    assert window.evaluate("document.querySelector('img[alt=Confusion]').naturalWidth") > 0


def test_a_run_is_followed_without_a_reload(window, served):
    runs, address = served
    name = name_of(runs, "resnet8-digits-seed7")
    rows = runs / name / "metrics.jsonl"
    window.goto(f"{address}/run/{name}")
    window.evaluate("window.same = true")
    window.wait_for_selector("[data-of=loss] canvas")
    text = rows.read_text()
    done = text.count("\n")
    row = read_rows(rows)[-1]
    try:
        more = Rows(rows)
        more.add(row | {"epoch": done + 1, "step": row["step"] // done * (done + 1)})
        more.close()
        window.wait_for_selector(f"#now p:has-text('epoch {done + 1} of')")
        assert window.evaluate("window.same")
    finally:
        rows.write_text(text)


def test_a_dropped_image_is_answered(window, served, tmp_path):
    runs, address = served
    window.goto(f"{address}/run/{name_of(runs, 'resnet8-digits-seed0')}")
    Image.new("L", (8, 8), 90).save(tmp_path / "image.png")
    window.set_input_files("input[type=file]", str(tmp_path / "image.png"))
    window.wait_for_selector(".answer img")
    assert window.evaluate("document.querySelector('.answer img').naturalWidth") > 0
    assert is_within(window)


def test_runs_are_chosen_and_compared(window, served):
    runs, address = served
    window.goto(address)
    for name in (name_of(runs, "resnet8-digits-seed0"), name_of(runs, "plain8")):
        window.check(f"[id='pick-{name}']")
    with window.expect_response(f"{address}/part/runs**"):  # the list is renewed, what was chosen stays
        pass
    window.click("text=compare the chosen")
    window.wait_for_selector("h1:has-text('2 runs side by side')")
    assert "model.shortcut.name" in window.text_content("main")


def test_a_server_that_has_gone_is_said_to_have(browser, made):
    process = subprocess.Popen([sys.executable, "-m", "residuum", "serve", "--runs", str(made), "--port", "0", "--read-only"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # fmt: skip
    address = process.stdout.readline().strip()
    page = browser.new_page()
    page.goto(address)
    assert page.is_hidden("#gone")
    process.kill()
    process.wait()
    page.wait_for_selector("#gone", state="visible")
    page.close()


def test_runs_of_a_store_are_shown_to_who_has_the_token(made, tmp_path):
    """They are copies without weights, so that there is nothing to start and no image to try."""
    url = f"file://{tmp_path}/store"
    name = name_of(made, "resnet8-digits-seed0")
    mirror.give(mirror.store_of(url), Path(shutil.copytree(made, tmp_path / "runs")), [name])
    process = subprocess.Popen([sys.executable, "-m", "residuum", "serve", "--store", url, "--token", "--port", "0"],
                               stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)  # fmt: skip
    try:
        address, _, token = process.stdout.readline().strip().partition("?")
        with pytest.raises(HTTPError, match="403"):
            urlopen(address)
        visitor = build_opener(HTTPCookieProcessor())
        text = visitor.open(f"{address}?{token}").read().decode()
        assert f'href="/run/{name}"' in text
        assert 'action="/start' not in text
        text = visitor.open(f"{address}run/{name}").read().decode()
        assert "2 of 2" in text
        assert 'type="file"' not in text
    finally:
        process.kill()
        process.wait()


def test_a_flood_and_those_who_leave_or_dawdle_leave_the_page_alive(served):
    """Many at once, answers that nobody waits for, requests that never end, and what is no request at all."""
    runs, address = served
    host = address.removeprefix("http://")
    name, port = name_of(runs, "resnet8-digits-seed0"), int(host.rpartition(":")[2])
    dawdling = []
    for head in (b"GET / HTTP/1.1\r\nHost: ", b"PUT /run/x/predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\n",
                 b"\x16\x03\x01" * 20, b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 9000, b"\r\n" * 500):  # fmt: skip
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(head)
        dawdling.append(one)
    for path in ("/", f"/run/{name}", f"/run/{name}/figure/confusion.svg"):
        one = socket.create_connection(("127.0.0.1", port))
        one.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        one.close()  # in mid-stream

    def ask(_):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            found = []
            for path in ("/part/going", "/", "/static/page.js", f"/run/{name}/curves", "/run/nosuch"):
                connection.request("GET", path, headers={"Host": host})
                answer = connection.getresponse()
                answer.read()
                found.append(answer.status)
            connection.close()
            return found
        except (OSError, http.client.HTTPException):
            return [0]

    with ThreadPoolExecutor(100) as pool:
        statuses = [status for found in pool.map(ask, range(100)) for status in found]
    assert (statuses.count(200), statuses.count(404)) == (400, 100)
    for one in dawdling:
        one.close()
    assert threading.active_count() < 150
    with urlopen(f"{address}/run/{name}/curves", timeout=60) as answer:
        assert json.load(io.TextIOWrapper(answer))["epochs"] == [1, 2]
