"""The page's share of the processors is kept over any course of being asked, and whoever looks around never waits."""

import asyncio
import random

import pytest

from residuum.serve import pace


@pytest.mark.parametrize("seed", range(20))
def test_no_more_is_taken_than_the_share_whoever_asks(seed):
    chance = random.Random(seed)
    processors, most = chance.choice([1, 2, 16, 128]), chance.uniform(0.1, 1.5)
    left, total, clock, pause = pace.BURST, 0.0, 0.0, 0.0
    for _ in range(3000):
        passed = pace.LOOK + pause  # in its rest it takes nothing
        taken = pace.LOOK * chance.uniform(0, most)
        left, pause = pace.rest(left, taken, passed, processors)
        total, clock = total + taken, clock + passed
        assert total <= pace.BURST + pace.SHARE * processors * clock + pace.LOOK * most + 1e-9
        assert 0 <= pause <= pace.LONGEST


@pytest.mark.parametrize("requests", [0, 1, 1000])
def test_it_rests_where_it_has_taken_too_much_and_is_asked_too_often(monkeypatch, requests):
    """What whoever looks around asks for may take as long as it does, as a list of 10,000 runs."""
    rests, asked = [], iter(range(0, 10**6, requests or 1))
    clock = iter(range(100))
    monkeypatch.setattr(pace.time, "process_time", lambda: 10.0 * next(clock))
    monkeypatch.setattr(pace.time, "sleep", rests.append)
    monkeypatch.setattr(pace, "LOOK", 0)

    async def a_while():
        keeping = asyncio.create_task(pace.keep(lambda: next(asked) if requests else 0))
        for _ in range(50):
            await asyncio.sleep(0)
        keeping.cancel()

    asyncio.run(a_while())
    assert rests[:3] == ([pace.LONGEST] * 3 if requests > 1 else [])
