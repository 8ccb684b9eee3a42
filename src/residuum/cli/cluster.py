"""`residuum cluster`: a Ray cluster of this machine alone, to try what a large one does."""

from __future__ import annotations

import argparse
import os
import signal
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

from residuum.cli.options import Command, print_json
from residuum.errors import InputError, lacking

PORT = 6379
STARTED, ENDED = 120.0, 10.0
"""Seconds in which a cluster has to answer, and in which its processes may end by themselves."""


def add(command: Command) -> None:
    """Add `cluster`."""
    p = command("cluster", _nothing, "A Ray cluster on this machine, to try what a large one does (extra cluster).")
    within = p.add_subparsers(dest="command", metavar="command", required=True)
    p = command("up", up, "Start a cluster that listens on this machine alone.", within=within)
    p.add_argument("--cpus", type=int, help="CPUs that it offers (default: those that this process may use)")
    _place(p)
    p = command("status", status, "The nodes of the cluster, and what they offer.", within=within)
    _place(p)
    p.add_argument("--json", action="store_true", help="end in one line of JSON on standard output")
    p = command("down", down, "End the cluster that was started so.", within=within)
    _place(p)


def _place(p: argparse.ArgumentParser) -> None:
    p.add_argument("--port", type=int, default=PORT, help=f"where it listens (default: {PORT})")


def _nothing(_options: argparse.Namespace) -> None:
    """Its commands do everything."""


def up(options: argparse.Namespace) -> None:
    """`residuum cluster up`."""
    from residuum.conduct.launchers.ray import environment
    from residuum.engine.compute import usual_threads
    from residuum.records import storage

    cpus = usual_threads() if options.cpus is None else options.cpus
    if not 1 <= cpus <= 1024:
        raise InputError(f"--cpus: {cpus} is not a count from 1 to 1024")
    if not 1 <= options.port <= 65535:
        raise InputError(f"--port: {options.port} is not a port from 1 to 65535")
    if _answers(options.port):
        raise InputError(f"something listens at 127.0.0.1:{options.port} already; give another --port")
    program = Path(sys.executable).parent / "ray"
    if not program.exists():
        raise lacking("a cluster", "ray", "cluster")
    words = ["start", "--block", "--head", "--node-ip-address=127.0.0.1", f"--port={options.port}",
             f"--num-cpus={cpus}", "--include-dashboard=false", "--disable-usage-stats"]  # fmt: skip
    # A session of its own: `down` ends it with all of its processes, and no other cluster.
    started = subprocess.Popen(
        [program, *words], env=environment(here=True), start_new_session=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + STARTED
    while not _answers(options.port):
        if started.poll() is not None or time.monotonic() > end:
            raise InputError(f"the cluster did not come up; `{' '.join(['ray', *words])}` says why")
        time.sleep(0.2)
    file = _file(options.port)
    with storage.storing(file):
        file.parent.mkdir(parents=True, exist_ok=True)
    storage.write_file(file, str(started.pid).encode())
    print(f"up: residuum study run STUDY --on ray:127.0.0.1:{options.port}")


def _file(port: int) -> Path:
    """Where the process of a cluster that was started here is noted."""
    from residuum.data import cache

    return cache.folder() / "clusters" / str(port)


def _answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def status(options: argparse.Namespace) -> None:
    """`residuum cluster status`."""
    from residuum.cli.terminal import print_table
    from residuum.conduct.launchers.ray import connected

    ray = connected(f"127.0.0.1:{options.port}")
    try:
        nodes = [
            {"node": one["NodeID"][:12], "address": one["NodeManagerAddress"], "alive": one["Alive"],
             "cpus": one["Resources"].get("CPU", 0), "gpus": one["Resources"].get("GPU", 0)}
            for one in ray.nodes()
        ]  # fmt: skip
    finally:
        ray.shutdown()
    if options.json:
        print_json({"nodes": nodes})
    else:
        print_table(nodes)


def down(options: argparse.Namespace) -> None:
    """`residuum cluster down`."""
    file = _file(options.port)
    text = file.read_text() if file.exists() else ""
    # Another process may have the number by now.
    command = ["ps", "-ww", "-o", "command=", "-p", text or "0"]
    if f"--port={options.port}" not in subprocess.run(command, capture_output=True, text=True, check=False).stdout:
        file.unlink(missing_ok=True)
        raise InputError(f"no cluster was started here at port {options.port}; `residuum cluster up` starts one")
    end = time.monotonic() + ENDED
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(int(text), number)
        while _answers(options.port) and time.monotonic() < end:
            time.sleep(0.2)
    file.unlink(missing_ok=True)
    print("down")
