"""`residuum serve`: a web page over the run folders."""

from __future__ import annotations

import argparse
import ipaddress
import secrets
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from residuum.cli.options import Command, common, store_option
from residuum.errors import InputError, ResiduumError, StorageError, lacking, quoted

PORT = 8091
AT_ONCE = 1000
"""Connections at a time, of which a browser holds up to six; more are told to come again."""
WAITING = 32
"""Connections that the kernel keeps until they are taken up, all at once: what is beyond costs a training nothing."""
ANEW = 30.0
"""Seconds after which what lies in a store is looked at again."""


def add(command: Command) -> None:
    """Add `serve`."""
    p = command("serve", serve, "A web page over run folders: runs and studies as they train (extra web).")
    p.add_argument("--port", type=int, default=PORT, help=f"where it listens (default: {PORT}; 0: one that is free)")
    p.add_argument(
        "--host", default="127.0.0.1", metavar="ADDRESS",
        help="which address it listens on (default: 127.0.0.1, this machine alone); any other asks for a token",
    )  # fmt: skip
    p.add_argument("--token", action="store_true", help="ask for a token on this machine, too: others work on it")
    p.add_argument("--read-only", action="store_true", help="start and stop nothing: for a classroom")
    common(p)
    store_option(p, weights=False)


def serve(options: argparse.Namespace) -> None:
    """`residuum serve`."""
    try:
        import uvicorn

        from residuum.serve.page import application
    except ModuleNotFoundError as error:
        if error.name not in ("uvicorn", "fastapi", "starlette"):
            raise
        raise lacking("the page", error.name, "web") from error
    from residuum.serve.aside import step_back
    from residuum.serve.guard import Rules, is_loopback

    if options.json:
        raise InputError("--json: the page has no result to end in; `residuum list runs --json` lists runs")
    if not 0 <= options.port <= 65535:
        raise InputError(f"--port: {options.port} is not a port from 0 to 65,535")
    if options.store is None and not options.runs.is_dir():
        raise InputError(f"--runs: {options.runs} is no folder; a first run makes it")
    with _listening(options.host, options.port) as listening:
        port = listening.getsockname()[1]
        token = secrets.token_urlsafe(24) if options.token or not is_loopback(options.host) else ""
        # Runs that were mirrored are copies here: what is started would not be mirrored.
        rules = Rules(options.host, port, token, options.read_only or options.store is not None)
        step_back()
        config = uvicorn.Config(
            application(options.runs, rules, paced=True), log_level="critical", access_log=False, ws="none",
            limit_concurrency=AT_ONCE, backlog=WAITING, timeout_keep_alive=10, timeout_graceful_shutdown=3,
            server_header=False, proxy_headers=False, h11_max_incomplete_event_size=16 * 2**10,
        )  # fmt: skip
        host = f"[{options.host}]" if ":" in options.host else options.host
        print(f"http://{host}:{port}/{f'?token={token}' if token else ''}", flush=True)
        print("Ctrl-C ends the page; what it started goes on", file=sys.stderr, flush=True)
        with _refreshed(options):
            uvicorn.Server(config).run(sockets=[listening])
        raise KeyboardInterrupt  # a signal ends it; a process that was begun in the background ignores the usual one


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    """A socket that listens."""
    name = "127.0.0.1" if host == "localhost" else host
    try:
        version = ipaddress.ip_address(name).version
    except ValueError:
        raise InputError(f"--host: {quoted(host)} is not an address, as 127.0.0.1 or 0.0.0.0") from None
    with socket.socket(socket.AF_INET6 if version == 6 else socket.AF_INET) as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((name, port))
            listening.listen(WAITING)
        except OSError as error:
            raise StorageError(
                f"cannot listen on {host} port {port}: {error.strerror}; --port 0 takes a free one"
            ) from error
        yield listening


@contextmanager
def _refreshed(options: argparse.Namespace) -> Iterator[None]:
    """Bring what is new in a store here, again and again, as long as the page is there."""
    if options.store is None:
        yield
        return
    from residuum.cli.stores import bring
    from residuum.records import mirror

    ended = threading.Event()

    def refresh() -> None:
        store = mirror.store_of(options.store)
        while not ended.wait(ANEW):
            with suppress(ResiduumError):  # a store that cannot be reached now is tried again
                there = mirror.folders(store)
                bring(store, options.runs, there)
                mirror.note_going(store, options.runs, there)

    thread = threading.Thread(target=refresh, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
