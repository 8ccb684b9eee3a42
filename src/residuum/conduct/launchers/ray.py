"""Many runs on a Ray cluster, one machine to try it, or many.

Its nodes see the run folders by the same path, or each computes on a disk of its own and mirrors its runs in a store.

A task computes one run, or as many side by side as a worker has lanes, and streams what they say. Ray itself retries
nothing, since a task that it repeats skips what was said before by number: a run whose worker or node dies is given to
another task here, and goes on from its last checkpoint. Device and precision were resolved when the runs were planned,
so that the nodes of a mixed cluster compute alike.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from secrets import token_hex
from threading import current_thread, main_thread
from typing import Any

from residuum.conduct.launchers import local
from residuum.conduct.launchers.ended import Ended
from residuum.conduct.launchers.launcher import Job, JobEvent, Room, Said, StoppedError
from residuum.conduct.launchers.ledger import Ledger
from residuum.conduct.launchers.tasks import compute, order_of
from residuum.conduct.launchers.thinning import PERIOD
from residuum.errors import InputError, lacking, quoted
from residuum.records.event import Event, Note, Started

PAUSE = 5.0
"""Seconds until a run is tried again that another process is at, as far as a lock on a shared file system tells."""
REACHED = 5.0
"""Seconds in which a cluster has to answer."""
WAITING = 64
"""Tasks that Ray has at a time, however small the cluster is."""
GRACE = 60.0
"""Seconds that stopped tasks have to end their updates and save their states."""
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",  # nothing is sent to anybody
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # a task without a GPU leaves CUDA_VISIBLE_DEVICES alone
    "RAY_AUTH_MODE": "token",
}
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""For a cluster of one machine: else Ray makes 127.0.0.1 the address of the host and listens to the network."""


def launch(jobs: Iterable[Job], runs: Path, room: Room) -> Iterator[Said]:
    """What runs say while a Ray cluster computes them; see `launcher.Launch`.

    `room.address` is that of the cluster; without one a cluster of this machine alone is started and ended again. A
    task asks for `room.threads` CPUs, and for `room.gpus` GPUs (which may be a share) where its runs compute on one.
    `room.workers` bounds how many tasks there are at a time, 0 leaves that to the cluster.

    Raises:
        InputError: Ray is not installed, or there is no such cluster.
        StoppedError, StorageError: as `launcher.Launch` says.
    """
    with local.noted_signals() as received:
        ray = connected(room.address)
        # The runs that each task has not told the end of, by its stream.
        going: dict[Any, dict[str, Job]] = {}
        try:
            yield from _conduct(ray, Ledger.of(jobs), runs, room, going, received)
        finally:
            _dismiss(ray, going)
            ray.shutdown()


def check(address: str) -> None:
    """Refuse a cluster that cannot be reached.

    Raises:
        InputError: Ray is not installed, or nothing answers at the address.
    """
    if find_spec("ray") is None:
        raise lacking("the launcher ray", "ray", "cluster")
    if address:
        _reach(address)


def connected(address: str) -> Any:
    """The module `ray`, connected to the cluster at an address, or to a new one on this machine.

    Raises:
        InputError: Ray is not installed, or the cluster does not answer.
    """
    check(address)
    os.environ.update(environment(here=not address or address.startswith(("127.", "localhost:"))))
    import ray

    usual = {number: signal.getsignal(number) for number in local.SIGNALS}
    try:
        # Without "local" it would join whatever cluster was here last, alive or not.
        ray.init(address or "local", include_dashboard=False, log_to_driver=False, configure_logging=False)
    except (ConnectionError, RuntimeError, ValueError) as error:
        line = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise InputError(f"no Ray cluster at {address or 'this machine'}: {line}") from error
    finally:  # Ray has a handler of its own, which ends the process
        if current_thread() is main_thread():
            for number, handler in usual.items():
                signal.signal(number, handler)
    return ray


def _reach(address: str) -> None:
    """That something listens at an address: Ray itself tries for minutes.

    Raises:
        InputError: nothing does, or it is no address.
    """
    host, _, port = address.rpartition(":")
    if not (host and port.isdigit() and int(port) < 65536):
        raise InputError(f"{quoted(address)} is no address of a Ray cluster, as 10.0.0.1:6379")
    try:
        socket.create_connection((host, int(port)), timeout=REACHED).close()
    except OSError as error:
        raise InputError(f"no Ray cluster at {address}: {error.strerror or error}") from error


def environment(*, here: bool) -> dict[str, str]:
    """The variables for Ray's programs and its library, on a cluster that is `here` alone, or reaches beyond.

    The token that joins a cluster is made if there is none.

    Ray itself would write the token so that everybody on the machine can read it.
    """
    token = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if token.exists():
        with suppress(PermissionError):
            token.chmod(0o600)
    elif "RAY_AUTH_TOKEN" not in os.environ:
        token.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            descriptor = os.open(token, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(token_hex(32))
    return {**ENVIRONMENT, **(LOOPBACK if here else {}), **os.environ}


def _conduct(
    ray: Any, ledger: Ledger, runs: Path, room: Room, going: dict[Any, dict[str, Job]], received: Sequence[int]
) -> Iterator[Said]:
    """Start tasks and pass on what is heard until nothing is left or an error ends it all."""
    start = _starter(ray, runs, room)
    tasks, counted, cancelled, looked = 0, -math.inf, False, False
    while True:
        if received and ledger.ending is None:
            ledger.ending = StoppedError(received[0])
        if ledger.ending and not cancelled:
            cancelled = True
            for stream in going:
                ray.cancel(stream, force=False)
        if ledger.ending is None:
            if (now := time.monotonic()) > counted + PAUSE:
                tasks, counted = room.workers or _most(ray, room), now
            while len(going) < tasks and (bundle := ledger.take_together(now, room.lanes)):
                going[start(bundle)] = {job.id: job for job in bundle}
                if not looked and (text := _lacking(ray, room, bundle)):
                    yield JobEvent(bundle[0].id, Note(text))
                looked = True
        if not going:
            if ledger.ending or not ledger:
                break
            yield from ledger.waited_for()
            time.sleep(PERIOD)
            continue
        for stream in _ready(ray, going):
            for job, said in _hear(ray, stream, going):
                if isinstance(said, Started):
                    ledger.began(job.id, said.epoch, said.step)
                if not isinstance(said, Ended):
                    yield JobEvent(job.id, said)
                    continue
                if said.how == "stopped":  # not by us, or it ends it all anyway
                    said = Ended("died", "its task was stopped")
                if told := ledger.ended(job, said, time.monotonic() + PAUSE):
                    yield told
    if ledger.ending and ledger:
        raise ledger.ending


def _lacking(ray: Any, room: Room, jobs: Sequence[Job]) -> str:
    """What the whole cluster has too little of for a task, which then waits for a node that joins; else empty."""
    asked = {"CPU": float(room.threads), "GPU": (room.gpus or 1.0) if _on_gpu(jobs) else 0.0}
    there = ray.cluster_resources()
    short = [f"{asked[one]:g} {one}s (it has {there.get(one, 0):g})" for one in asked if there.get(one, 0) < asked[one]]
    return f"a worker asks for {' and '.join(short)}: it waits for a node that joins the cluster" if short else ""


def _on_gpu(jobs: Sequence[Job]) -> bool:
    """Whether some of the runs compute on a GPU."""
    return any(job.config.compute.device == "cuda" for job in jobs)


def _most(ray: Any, room: Room) -> int:
    """How many tasks Ray has at a time where it decides: all that there are CPUs for, and as many that wait.

    It would take any number, but each look at what they say goes through all of them. Tasks that wait are what makes a
    cluster that can grow do so.
    """
    return max(WAITING, 2 * int(ray.cluster_resources().get("CPU", 0) / room.threads))


def _ready(ray: Any, going: Iterable[Any]) -> list[Any]:
    """The tasks that have something to say, after a while at most."""
    streams = [*going]
    ready, _ = ray.wait(streams, num_returns=1, timeout=PERIOD)
    if ready and len(streams) > 1:  # Ray gives no more of them than it was asked for
        ready, _ = ray.wait(streams, num_returns=len(streams), timeout=0)
    return list(ready)


def _starter(ray: Any, runs: Path, room: Room) -> Callable[[Sequence[Job]], Any]:
    """The function that starts a task for some jobs."""
    session = token_hex(8)  # a task may take up what a dead node of this call has a lease of
    # An environment of its own takes seconds a worker, but variables alone do not.
    variables = {"OMP_NUM_THREADS": str(room.threads), "CUDA_DEVICE_MAX_CONNECTIONS": "32", **ENVIRONMENT}
    task = ray.remote(num_returns="streaming", max_retries=0, runtime_env={"env_vars": variables})(compute)

    def start(jobs: Sequence[Job]) -> Any:
        options = {"num_cpus": room.threads, "num_gpus": (room.gpus or 1) if _on_gpu(jobs) else 0}
        place = room.scratch if room.store and room.scratch else str(runs.absolute())
        return task.options(name=jobs[0].id, **options).remote([*map(order_of, jobs)], place, room.store, session)

    return start


def _hear(ray: Any, stream: Any, going: dict[Any, dict[str, Job]]) -> list[tuple[Job, Event | Ended]]:
    """What a task said next, by the job; at its end, how it left those that it told no end of."""
    died = Ended("died", "its task ended early")
    try:
        name, said = ray.get(next(stream))
        jobs = going[stream]
        return [(jobs.pop(name) if isinstance(said, Ended) else jobs[name], said)]
    except StopIteration:
        pass
    except ray.exceptions.RayError as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        died = Ended("died", f"{type(error).__name__}: {lines[0] if lines else ''}"[:200])
    return [(job, died) for job in going.pop(stream).values()]


def _dismiss(ray: Any, going: dict[Any, dict[str, Job]]) -> None:
    """Have tasks save their states and end, and wait for that."""
    for stream in going:
        with suppress(ray.exceptions.RayError, ValueError):
            ray.cancel(stream, force=False)
    end = time.monotonic() + GRACE
    while going and (left := end - time.monotonic()) > 0:
        ready, _ = ray.wait([*going], num_returns=1, timeout=min(left, PERIOD))
        for stream in ready:
            _hear(ray, stream, going)
