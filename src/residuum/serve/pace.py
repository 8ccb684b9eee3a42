"""Pace: how much of the processors the page takes, however often it is asked.

Whoever trains beside it loses no more than that. Beyond its share the page rests: it takes up nothing, and the kernel
keeps those who ask waiting, or turns them away, which costs a training next to nothing.
"""

import asyncio
import os
import time

SHARE = 0.05
"""The share of all processors that it may take for long."""
BURST = 2.0
"""Seconds of a processor that it may take at once, as whoever looks around does."""
LOOK = 0.05
"""Seconds between two looks at what it has taken."""
LONGEST = 2.0
"""Seconds of a rest: what one thread takes between two looks is made up for in it, also on a single processor."""


def rest(left: float, taken: float, passed: float, processors: int) -> tuple[float, float]:
    """What is left to be taken, in seconds of a processor, and how long to rest now.

    `left` was so before `taken` of it was in so many seconds that have `passed`.
    """
    share = SHARE * processors
    left = min(BURST, left + share * passed) - taken
    return left, min(LONGEST, max(0.0, -left / share))


async def keep() -> None:
    """Rest when it is time to, until this is cancelled."""
    left, processors = BURST, os.cpu_count() or 1
    taken, now = time.process_time(), time.monotonic()
    while True:
        await asyncio.sleep(LOOK)
        before, since = taken, now
        taken, now = time.process_time(), time.monotonic()
        left, pause = rest(left, taken - before, now - since, processors)
        time.sleep(pause)
