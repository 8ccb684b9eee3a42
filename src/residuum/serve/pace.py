"""Pace: how much of the processors the page takes when it is asked too often.

Whoever trains beside it loses no more than that. Beyond its share the page rests: it takes up nothing, and the kernel
keeps those who ask waiting, or turns them away, which costs a training next to nothing. Whoever looks around, also at
thousands of runs, asks far less often, and never waits.
"""

import asyncio
import os
import time
from collections.abc import Callable, MutableMapping
from typing import Any

from residuum.serve.guard import App, Receive, Send

SHARE = 0.02
"""The share of all processors that it may take for long, once it is asked too often."""
BURST = 0.1
"""Seconds of a processor that it may then take at once."""
REQUESTS, RATE = 100, 20.0
"""Requests that it may be asked at once, as a few browsers do that open a run, and a second for long: beyond both it is
asked too often. Before, it takes what it needs."""
LOOK = 0.05
"""Seconds between two looks at what it has taken."""
LONGEST = 4.0
"""Seconds of a rest: what one thread takes between two looks is made up for in it, also on a single processor."""


def rest(left: float, taken: float, passed: float, processors: int) -> tuple[float, float]:
    """What is left to be taken, in seconds of a processor, and how long to rest now.

    `left` was so before `taken` of it was in so many seconds that have `passed`.
    """
    share = SHARE * processors
    left = min(BURST, left + share * passed) - taken
    return left, min(LONGEST, max(0.0, -left / share))


def counted(app: App) -> tuple[App, Callable[[], int]]:
    """An application, and how many requests have come to it so far."""
    requests = 0

    async def counting(scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        nonlocal requests
        requests += scope["type"] == "http"
        await app(scope, receive, send)

    return counting, lambda: requests


async def keep(asked: Callable[[], int]) -> None:
    """Rest when it is time to, until this is cancelled; `asked` counts the requests so far."""
    left, processors = BURST, os.cpu_count() or 1
    requests, known = float(REQUESTS), asked()
    taken, now = time.process_time(), time.monotonic()
    while True:
        await asyncio.sleep(LOOK)
        before, since = taken, now
        taken, now = time.process_time(), time.monotonic()
        left, pause = rest(left, taken - before, now - since, processors)
        all_asked = asked()
        requests, known = min(REQUESTS, requests + RATE * (now - since)) - (all_asked - known), all_asked
        if requests < 0:
            time.sleep(pause)
        else:
            left = max(left, 0.0)
