"""Downloads against a server on this machine that breaks off, lies about length, ignores ranges, gives a wrong file."""

import hashlib
import resource
import socket
import subprocess
import sys
import threading
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer

import numpy as np
import pytest
from scipy.io import savemat

from residuum.data import cache, download
from residuum.data.datasets import ENTRIES, load
from residuum.data.datasets.source import Remote
from residuum.data.download import Progress, fetch, fetch_file
from residuum.errors import BusyError, InputError, StorageError

CONTENT = np.random.default_rng(3).bytes(700_000)
MD5 = hashlib.md5(CONTENT).hexdigest()


class Server:
    """Serves CONTENT in a manner that each path names; `asked` keeps (path, first byte asked for)."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                ranged = self.headers.get("Range", "")
                start = int(ranged.removeprefix("bytes=").rstrip("-") or 0)
                outer.asked.append((self.path, start))
                getattr(self, "do_" + self.path.strip("/").partition("/")[0])(start, bool(ranged))

            def give(self, content, start, ranged, length=None):
                self.send_response(206 if ranged else 200)
                if ranged:
                    self.send_header("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}")
                self.send_header("Content-Length", str(len(content) if length is None else length))
                self.end_headers()
                self.wfile.write(content)

            def do_good(self, start, ranged):
                self.give(CONTENT[start:], start, ranged)

            def do_breaks(self, start, ranged):  # 300,000 bytes at a time
                self.give(CONTENT[start : start + 300_000], start, ranged, len(CONTENT) - start)

            def do_ignores(self, start, ranged):  # and breaks off the first time
                cut = 300_000 if len(outer.asked) == 1 else len(CONTENT)
                self.give(CONTENT[:cut], 0, False, len(CONTENT))

            def do_stops(self, start, ranged):  # never gives more than half
                self.give(CONTENT[start:350_000], start, ranged, len(CONTENT) - start)

            def do_short(self, start, ranged):  # says that it is whole
                self.give(CONTENT[start : start + 300_000], start, ranged)

            def do_long(self, start, ranged):  # says that there is more than there is
                self.give(CONTENT[start:], start, ranged, 10**12)

            def do_endless(self, start, ranged):  # gives more than there is
                self.give(CONTENT[start:] + bytes(10**6), start, ranged)

            def do_wrong(self, start, ranged):
                self.give(bytes(len(CONTENT) - start), start, ranged)

            def do_page(self, start, ranged):  # a page of a hotel's network
                self.give(b"<html>please log in</html>", 0, False)

            def do_shifted(self, start, ranged):  # another part than was asked for
                self.give(CONTENT[start:], start + 1 if ranged else 0, ranged)

            def do_halfwrong(self, start, ranged):  # wrong and broken off
                self.give(bytes(300_000), 0, False, len(CONTENT))

            def do_wrongparts(self, start, ranged):  # wrong, and 300,000 bytes at a time
                self.give(bytes(min(300_000, len(CONTENT) - start)), start, ranged, len(CONTENT) - start)

            def do_missing(self, start, ranged):
                self.send_error(404)

            def do_unwilling(self, start, ranged):
                self.send_error(416 if ranged else 500)

            def do_silent(self, start, ranged):
                self.close_connection = True

            def do_file(self, start, ranged):
                self.redirect("file:///etc/passwd")

            def do_ftp(self, start, ranged):
                self.redirect("ftp://127.0.0.1/x")

            def do_moved(self, start, ranged):
                self.redirect("/good/x")

            def redirect(self, place):
                self.send_response(302)
                self.send_header("Location", place)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def remote(self, *manners):
        return Remote("x.bin", len(CONTENT), MD5, tuple(f"{self.address}/{manner}/x.bin" for manner in manners))


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("no_proxy", "*")
    made = Server()
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.mark.parametrize(
    ("manners", "asked"),
    [
        (["good"], [0]),
        (["moved"], [0, 0]),
        (["breaks"], [0, 300_000, 600_000]),
        (["short"], [0, 300_000, 600_000]),
        (["ignores"], [0, 300_000]),
        (["stops", "good"], [0, 350_000, 350_000]),
        (["long"], [0]),
        (["endless", "good"], [0, 0]),
        (["wrong", "good"], [0, 0]),
        (["page", "good"], [0, 26, 26, 0]),
        (["stops", "shifted", "good"], [0, 350_000, 350_000, 350_000]),
        (["halfwrong", "good"], [0, 300_000, 300_000, 0]),
        (["wrongparts", "good"], [0, 300_000, 600_000, 0, 300_000, 600_000, 0]),
        (["stops", "wrong", "good"], [0, 350_000, 350_000, 0, 0]),
        (["stops", "unwilling", "good"], [0, 350_000, 350_000, 350_000]),
        (["missing", "good"], [0, 0]),
        (["silent", "good"], [0, 0]),
        (["file", "good"], [0, 0]),
        (["ftp", "good"], [0, 0]),
    ],
    ids=lambda value: "-".join(map(str, value)),
)
def test_the_whole_file_arrives(server, tmp_path, manners, asked):
    steps = list(fetch_file(server.remote(*manners), tmp_path / "in" / "here"))
    assert (tmp_path / "in" / "here" / "x.bin").read_bytes() == CONTENT
    assert [entry.name for entry in (tmp_path / "in" / "here").iterdir()] == ["x.bin"]
    assert [start for _, start in server.asked] == asked
    assert steps[-1] == Progress("x.bin", len(CONTENT), len(CONTENT))
    assert all(0 <= step.done <= step.size for step in steps)


@pytest.mark.parametrize(
    ("manners", "message"),
    [
        (["missing"], "Not Found"),
        (["wrong"], "a different file than the published one"),
        (["endless"], "a different file than the published one"),
        (["stops"], "broke off after 350,000 of 700,000 bytes"),
        (["file"], "not allowed"),
        (["ftp"], "unknown url type: ftp"),
        (["missing", "silent"], "Remote end closed"),
    ],
)
def test_what_no_mirror_gives_is_one_line_with_what_to_bring(server, tmp_path, manners, message):
    with pytest.raises(StorageError, match=message) as caught:
        list(fetch_file(server.remote(*manners), tmp_path))
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith("cannot download x.bin: ")
    assert str(tmp_path / "x.bin") in text
    assert not (tmp_path / "x.bin").exists()


def test_a_later_call_goes_on_where_the_last_one_broke_off(server, tmp_path):
    with pytest.raises(StorageError):
        list(fetch_file(server.remote("stops"), tmp_path))
    assert (tmp_path / ".x.bin.part").read_bytes() == CONTENT[:350_000]
    server.asked.clear()
    list(fetch_file(server.remote("good"), tmp_path))
    assert server.asked == [("/good/x.bin", 350_000)]
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_a_call_that_is_stopped_keeps_what_it_has(server, tmp_path):
    running = fetch_file(server.remote("good"), tmp_path)
    done = next(running).done
    running.close()
    assert (tmp_path / ".x.bin.part").read_bytes() == CONTENT[:done]
    assert 0 < done < len(CONTENT)
    list(fetch_file(server.remote("good"), tmp_path))
    assert server.asked[-1] == ("/good/x.bin", done)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("rest", [CONTENT, CONTENT + b"more", bytes(len(CONTENT)), bytes(5)])
def test_what_lies_there_of_an_earlier_call_is_not_trusted(server, tmp_path, rest):
    (tmp_path / ".x.bin.part").write_bytes(rest)
    list(fetch_file(server.remote("good"), tmp_path))
    assert (tmp_path / "x.bin").read_bytes() == CONTENT
    assert len(server.asked) == (0 if rest == CONTENT else 2 if len(rest) == 5 else 1)


def test_a_file_that_is_there_is_not_fetched_again(server, tmp_path):
    (tmp_path / "x.bin").write_bytes(CONTENT)
    assert list(fetch_file(server.remote("good"), tmp_path)) == [Progress("x.bin", len(CONTENT), len(CONTENT))]
    (tmp_path / "x.bin").write_bytes(b"brought by the user")
    with pytest.raises(InputError, match=r"x\.bin is not the published file; remove it"):
        list(fetch_file(server.remote("good"), tmp_path))
    assert (tmp_path / "x.bin").read_bytes() == b"brought by the user"
    assert server.asked == []
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.bin"]


def test_two_at_once_do_not_write_one_file(server, tmp_path):
    first = fetch_file(server.remote("good"), tmp_path)
    next(first)
    with pytest.raises(BusyError, match="being fetched by another process"):
        list(fetch_file(server.remote("good"), tmp_path))
    list(first)
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_only_http_is_asked(tmp_path):
    (tmp_path / "source").write_bytes(CONTENT)
    remote = Remote("x.bin", len(CONTENT), MD5, ((tmp_path / "source").as_uri(),))
    with pytest.raises(StorageError, match="unknown url type: file"):
        list(fetch_file(remote, tmp_path))


def test_without_network_the_file_to_bring_is_named(tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/x.bin"
        with pytest.raises(StorageError, match=f"bring it from {url} to {tmp_path / 'x.bin'}"):
            list(fetch_file(Remote("x.bin", len(CONTENT), MD5, (url,)), tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_a_mirror_that_says_nothing_is_left(tmp_path, server, monkeypatch):
    monkeypatch.setattr(download, "TIMEOUT", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}/x.bin"
        remote = Remote("x.bin", len(CONTENT), MD5, (url, *server.remote("good").urls))
        list(fetch_file(remote, tmp_path))
    assert (tmp_path / "x.bin").read_bytes() == CONTENT


def test_a_full_disk_is_one_line(server, tmp_path):
    """Guard 12, for downloads; a limit on the size of files stands for the full disk."""
    program = (
        "import sys\nfrom pathlib import Path\nfrom residuum.data.download import fetch_file\nfrom residuum.data.datasets.source import Remote\n"
        "from residuum.errors import StorageError\n"
        "try: list(fetch_file(Remote('x.bin', int(sys.argv[2]), 'no', (sys.argv[1],)), Path(sys.argv[3])))\n"
        "except StorageError as error: print(error)"
    )
    command = [sys.executable, "-c", program, f"{server.address}/good/x", str(len(CONTENT)), str(tmp_path)]
    limits = (400_000, 400_000)
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, limits),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"cannot write {tmp_path / '.x.bin.part'}: ")
    assert len(done.stdout.splitlines()) == 1
    assert len(server.asked) == 1


def test_fetch_puts_files_where_they_are_looked_for(server, tmp_path, monkeypatch):
    monkeypatch.setenv("RESIDUUM_CACHE", str(tmp_path))
    second = Remote("y.bin", len(CONTENT), MD5, (f"{server.address}/good/y",))
    entry = replace(ENTRIES["mnist"], remotes=(server.remote("good"), second))
    monkeypatch.setitem(download.ENTRIES, "mnist", entry)
    assert {step.file for step in fetch("mnist")} == {"x.bin", "y.bin"}
    assert sorted(path.name for path in cache.downloads("mnist").iterdir()) == ["x.bin", "y.bin"]


def test_what_is_not_published_as_files_is_refused():
    with pytest.raises(InputError, match="unknown data set to download 'cifar1'; did you mean 'cifar1"):
        list(fetch("cifar1"))


@pytest.mark.parametrize(
    ("name", "why"), [("digits", "come with scikit-learn"), ("synthetic", "generated"), ("folder", "your own")]
)
def test_data_sets_without_a_download_say_why(name, why):
    with pytest.raises(InputError, match=f"nothing to download for the images of '{name}': .*{why}"):
        list(fetch(name))


def test_every_data_set_has_a_download_or_a_reason_for_none():
    for entry in ENTRIES.values():
        assert bool(entry.remotes) != bool(entry.no_download), entry.name


def test_the_published_files_are_written_out_in_full():
    for entry in ENTRIES.values():
        for remote in entry.remotes:
            assert len(bytes.fromhex(remote.md5)) == 16
            assert remote.size > 4000
            assert len(remote.urls) >= 1 + (entry.name != "svhn")  # which one place alone publishes
            assert all(url.startswith(("https://", "http://")) and url.endswith(remote.file) for url in remote.urls)


def test_svhn_is_fetched_file_by_file_and_then_found(tmp_path, monkeypatch):
    """Its two files, as small as they can be, from a server that knows no ranges; a part of the first is there."""
    served = tmp_path / "served"
    served.mkdir()
    remotes = []
    for remote, seed in zip(ENTRIES["svhn"].remotes, (1, 2), strict=True):
        images = np.random.default_rng(seed).integers(0, 256, (32, 32, 3, 10), dtype=np.uint8)
        savemat(served / remote.file, {"X": images, "y": np.arange(1, 11)[:, None].astype(np.uint8)})
        content = (served / remote.file).read_bytes()
        remotes.append((remote, content))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setenv("RESIDUUM_CACHE", str(tmp_path / "cache"))
    quiet = type("Quiet", (SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(quiet, directory=served)) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        at = f"http://127.0.0.1:{server.server_port}"
        here = tuple(Remote.at(one.file, len(c), hashlib.md5(c).hexdigest(), at) for one, c in remotes)
        monkeypatch.setitem(download.ENTRIES, "svhn", replace(ENTRIES["svhn"], remotes=here))
        with pytest.raises(InputError, match="svhn is not here"):
            load("svhn")
        part = cache.downloads("svhn") / ".train_32x32.mat.part"
        part.parent.mkdir(parents=True, exist_ok=True)
        part.write_bytes(remotes[0][1][:1000])
        steps = list(fetch("svhn"))
        server.shutdown()
    assert [step.file for step in steps if step.done == step.size][-1] == "test_32x32.mat"
    dataset = load("svhn")
    assert (len(dataset.train), len(dataset.test), dataset.classes) == (10, 10, tuple("0123456789"))
