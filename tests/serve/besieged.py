"""The page while it is asked a thousand times a second, left in mid-answer and asked for what is not its own.

    python tests/serve/besieged.py --windows 3

A training runs beside it, in windows of ten seconds without requests, with as many to a socket that nobody answers, and
with those to the page. Those who ask are on the same machine, at the lowest priority; the second window says what they
cost by themselves. How long a training's threads were ready and had to wait is the kernel's figure, which does not move
with the machine's speed as updates a second do; both are printed, as medians over the windows.
"""

import argparse
import asyncio
import http.client
import json
import os
import resource
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parents[1]))

from residuum.cli.serving import WAITING
from trial import told, updates, warm

SECONDS, A_SECOND = 10.0, 1000
LOST = 5.0
"""Percent that a training may lose while the page is asked so often, and that the page may take of the processors."""
PATIENCE = 3.0
"""Seconds for which whoever asks waits for an answer."""
TRAINING = ["train", "quick", "--epochs", "100000", "--set", "model.channels=[16, 16, 16]", "--set", "model.depth=8",
            "--set", 'data.dataset={name = "synthetic", size = 32, train = 4096, test = 16}',
            "--set", "data.validation=16", "--batch-size", "32"]  # fmt: skip
SECRET = "a canary that no page shows"
BEYOND = (
    "/../canary", "/../../canary", "//canary", "/static/../../canary", "/static/..%2f..%2fcanary", "/%2e%2e/canary",
    "/static/%2e%2e%2f%2e%2e%2fcanary", "/static/..%252f..%252fcanary", "/run/..%2fcanary", "/run/..", "/run/%2e%2e",
    "/run/..%5c..%5ccanary", "/part/run/..%2f..%2fcanary", "/run/..%2f..%2fcanary/figure/curves.svg",
    "/run/%00canary", "/run/canary%00", "/study/..%2f..%2fcanary", "/study/../report/", "/study/..%2f/report/figures/..%2fcanary",
    "/study/x/report/figures/..%2f..%2f..%2fcanary", "/static/%c0%ae%c0%ae/canary", "/static/page.css/../../../canary",
    "/run/" + "%2e%2e%2f" * 30 + "canary", "/" + "a" * 5000,
)  # fmt: skip


def tried(windows: int, seed: int = 0) -> list[str]:
    """What went wrong; the training's loss is taken from so many pairs of windows."""
    return warm(__file__, windows, seed)


class Page:
    """A page of its own process over a folder of runs."""

    def __init__(self, runs: Path, *words: str) -> None:
        self.process = subprocess.Popen([sys.executable, "-m", "residuum", "serve", "--port", "0", "--runs", str(runs), *words],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)  # fmt: skip
        assert self.process.stdout is not None
        address = urlsplit(self.process.stdout.readline().strip())
        assert address.port, "there is no page"
        self.port, self.token = address.port, address.query
        while self.process.poll() is None:  # it prints its address a moment before it answers
            with socket.socket() as one:
                if one.connect_ex(("127.0.0.1", self.port)) == 0:
                    break

    def answer(self, path: str, method: str = "GET", **headers: str) -> tuple[int, str]:
        """Status and text; 0 where there is none."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.putrequest(method, path, skip_host="host" in headers)
            for name, value in headers.items():
                connection.putheader(name.replace("_", "-"), value)
            connection.endheaders()
            found = connection.getresponse()
            return found.status, found.read().decode(errors="replace")
        except (OSError, http.client.HTTPException) as error:
            return 0, str(error)
        finally:
            connection.close()

    def descriptors(self) -> int:
        """How many files and sockets it has open."""
        return len([*Path(f"/proc/{self.process.pid}/fd").iterdir()])

    def processor(self) -> float:
        """Seconds of a processor that it has taken."""
        user, system = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")

    def end(self) -> str:
        """Stop it; what it said on standard error."""
        self.process.send_signal(signal.SIGINT)
        return self.process.communicate(timeout=60)[1]


def _refused(page: Page, other: Page) -> Iterator[str]:
    """What is answered though it should be refused; `other` asks for a token."""
    ours = f"127.0.0.1:{page.port}"
    refused = (
        {"origin": "http://elsewhere.example"}, {"origin": "null"}, {"origin": f"https://{ours}.elsewhere.example"},
        {"host": "elsewhere.example"}, {"host": f"127.0.0.1.elsewhere.example:{page.port}"}, {"host": ""},
        {"sec_fetch_site": "cross-site"},
    )  # fmt: skip
    for headers in refused:
        if (status := page.answer("/", **headers)[0]) not in (400, 403):
            yield f"{headers} is answered with {status}"
    for path in ("/", "/static/page.css", "/part/runs", "/?token=", "/?token=wrong", "/run/x"):
        if (status := other.answer(path)[0]) != 403:
            yield f"{path} without the token is answered with {status}"
    if (status := other.answer(f"/?{other.token}")[0]) != 303:
        yield f"the token itself is answered with {status}"
    for path in BEYOND:
        status, text = page.answer(path)
        if SECRET in text or not 400 <= status < 500:
            yield f"{path[:80]} is answered with {status}: {text[:80]!r}"


def _left(page: Page) -> Iterator[str]:
    """Leave the page in mid-answer, in mid-question, and without a word; it has nothing of that left."""
    before = page.descriptors()
    for number in range(200):
        one = socket.create_connection(("127.0.0.1", page.port), timeout=60)
        words = f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{page.port}\r\n\r\n".encode()
        one.sendall(words[: number % len(words)] if number % 2 else words)
        if number % 4 == 0:
            one.recv(1)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closed at once, with a reset
        one.close()
    until = time.monotonic() + 30
    while page.descriptors() > before + 2 and time.monotonic() < until:
        time.sleep(0.1)
    if (after := page.descriptors()) > before + 2:
        yield f"{before} files open before, {after} after 200 browsers had left"
    if (status := page.answer("/")[0]) != 200:
        yield f"after 200 browsers had left it answers {status}"


def asked(port: int, paths: list[str]) -> Counter[str]:
    """Ask for pages, a thousand a second, each over a connection of its own; how many were answered how."""

    async def one(path: str) -> str:
        writer = None
        try:
            async with asyncio.timeout(PATIENCE):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
                return (await reader.read())[9:12].decode() or "closed"
        except TimeoutError:
            return "no answer"
        except OSError as error:
            return type(error).__name__
        finally:
            if writer is not None:
                writer.close()

    async def every() -> Counter[str]:
        loop, going = asyncio.get_running_loop(), list[asyncio.Task[str]]()
        began = loop.time()
        while (spent := loop.time() - began) < SECONDS:
            while len(going) < spent * A_SECOND:
                going.append(loop.create_task(one(paths[len(going) % len(paths)])))
            await asyncio.sleep(0.005)
        return Counter(await asyncio.gather(*going))

    os.nice(19)
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    return asyncio.run(every())


def _besieged(place: Path, windows: int, threads: int) -> Iterator[str]:
    runs = place / "runs"
    runs.mkdir(parents=True)
    words = [*TRAINING, "--set", f"compute.threads={threads}", "--runs", str(runs)]
    training = subprocess.Popen([sys.executable, "-m", "residuum", *words], stdout=subprocess.DEVNULL,
                                env={**os.environ, "OMP_NUM_THREADS": str(threads)})  # fmt: skip
    page = Page(runs)
    try:
        while updates(runs) < 50:
            assert training.poll() is None, "the training ended early"
            time.sleep(0.1)
        (name,) = (path.parent.name for path in runs.glob("*/config.json"))
        paths = [
            "/",
            f"/run/{name}",
            "/part/going",
            f"/part/run/{name}",
            "/part/runs",
            "/static/page.css",
            "/part/started",
        ]
        window = partial(_window, training.pid, threads, page, runs)
        seen, answers = list[tuple[Window, Window, Window]](), Counter[str]()
        with socket.create_server(("127.0.0.1", 0), backlog=WAITING) as nobody:
            for _ in range(windows):
                quiet = window()
                alone, _ = _asked(nobody.getsockname()[1], paths, window)
                loaded, found = _asked(page.port, paths, window)
                seen.append((quiet, alone, loaded))
                answers += found
        for name, which in (("no requests", 0), ("requests that nobody takes up", 1), ("requests to the page", 2)):
            speed, waited, taken = (statistics.median(one[which][at] for one in seen) for at in range(3))
            print(f"{threads} threads, {name}: {speed:.1f} updates a second, each thread waited {waited:.1f} % of the time, "
                  f"the page took {taken:.1f} % of the processors", file=sys.stderr)  # fmt: skip
        print(f"{threads} threads: answers {dict(answers)}", file=sys.stderr)
        if (taken := statistics.median(one[2].taken for one in seen)) > LOST:
            yield f"the page took {taken:.1f} % of the processors: {seen}"
        if threads == 1 and (waited := statistics.median(one[2].waited for one in seen)) > LOST:
            yield f"a training on one thread had to wait {waited:.1f} % of the time: {seen}"
        if (status := page.answer("/")[0]) != 200:
            yield f"after it was asked so often it answers {status}"
        if not answers["200"]:
            yield f"nobody was answered: {answers}"
        if training.poll() is not None:
            yield "the training ended"
    finally:
        training.kill()
        training.wait()
        if "Traceback" in (said := page.end()):
            yield f"it said {said[-300:]!r}"


class Window(NamedTuple):
    """Updates a second, percent of the time that a thread of the training waited, and of the processors for the page."""

    speed: float
    waited: float
    taken: float


def _window(training: int, threads: int, page: Page, runs: Path) -> Window:
    """What there was in so many seconds; `threads` of the training compute, and the others neither run nor wait."""
    before, waited, taken, began = updates(runs), _waited(training), page.processor(), time.monotonic()
    time.sleep(SECONDS)
    passed, after = time.monotonic() - began, _waited(training)
    delays = sum(after[thread] - waited.get(thread, 0.0) for thread in after)
    return Window(
        (updates(runs) - before) / passed, 100 * delays / threads / passed,
        100 * (page.processor() - taken) / passed / (os.cpu_count() or 1),
    )  # fmt: skip


def _asked(port: int, paths: list[str], window: Callable[[], Window]) -> tuple[Window, Counter[str]]:
    """What there was while somebody asked at a port, and the answers."""
    asking = subprocess.Popen([sys.executable, __file__, "--ask", str(port), *paths], stdout=subprocess.PIPE, text=True)
    assert asking.stdout is not None
    asking.stdout.readline()  # it has begun
    found = window()
    return found, Counter(json.loads(asking.communicate()[0]))


def _waited(process: int) -> dict[str, float]:
    """Seconds for which each thread of a process was ready to run and did not."""
    found = {}
    for thread in Path(f"/proc/{process}/task").iterdir():
        with suppress(OSError):  # it has ended
            found[thread.name] = int((thread / "schedstat").read_text().split()[1]) / 1e9
    return found


def _tried(windows: int) -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="residuum-besieged-") as name:
        place = Path(name)
        (place / "runs").mkdir()
        for path in (place, place / "runs"):
            (path / "canary").write_text(SECRET)
        page, other = Page(place / "runs"), Page(place / "runs", "--token")
        try:
            yield from _refused(page, other)
            yield from _left(page)
        finally:
            for one in (page, other):
                if "Traceback" in (said := one.end()):
                    yield f"it said {said[-300:]!r}"
        for threads in (1, os.cpu_count() or 1):
            yield from _besieged(place / f"{threads}", windows, threads)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", "--windows", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--ask", type=int, help=argparse.SUPPRESS)
    parser.add_argument("paths", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.ask:
        print("begun", flush=True)
        print(json.dumps(asked(options.ask, options.paths)))
    else:
        told(options.count, _tried(options.count))
