"""What the verdicts of studies are worth, simulated: false verdicts, error under Holm, coverage, power as promised.

    python benchmarks/verdicts.py [--studies 2000] [--only READINGS]

Every study is judged by `residuum.analysis.claims.verdicts` itself. "Before" is what was judged until runs that do not
train were told apart: a t test of all finished runs, whatever they did.
"""

import argparse
from collections.abc import Callable

import numpy as np

from residuum.analysis.aggregate import Summary, Value, summarize
from residuum.analysis.claims import Verdict, verdicts
from residuum.analysis.estimate import LEVEL
from residuum.analysis.failures import fewest, least_by_counts
from residuum.analysis.over_images import seeds_and_images
from residuum.analysis.power import Trial, detectable_sds
from residuum.analysis.spending import spend
from residuum.analysis.stopping import error, exaggeration
from residuum.studies.study import Claim

SD, STUCK = 0.16, 90.0
Row = tuple[str, str, str]


def arm(name: str, errors_S: np.ndarray, *, told: bool = True) -> Summary:
    """An arm of finished runs; `told`: those at chance are known as such."""
    values = [Value(seed, "", "finished", float(one), not told or one != STUCK) for seed, one in enumerate(errors_S)]
    return summarize(name, "test_error", values)


def judged(
    expects: list[str], arms: dict[str, np.ndarray], *, told: bool = True, margin: float = 0.0, level: float = LEVEL,
    dropped: int = 0,
) -> list[Verdict]:  # fmt: skip
    claims = [Claim(text=str(at), expect=expect, margin=margin) for at, expect in enumerate(expects)]
    made = {name: arm(name, errors_S, told=told) for name, errors_S in arms.items()}
    return list(verdicts(claims, lambda name, _: made[name], paired=True, level=level, dropped=dropped))


def with_stuck(random: np.random.Generator, n: int, mean: float, share: float) -> np.ndarray:
    return np.where(random.random(n) < share, STUCK, random.normal(mean, SD, n))


def share(of: Callable[[np.random.Generator], bool], studies: int) -> float:
    random = np.random.default_rng(0)
    return float(np.mean([of(random) for _ in range(studies)]))


def failures(studies: int) -> list[Row]:
    rows: list[Row] = []
    for n in (3, 5, 10):
        for what, means, stuck, wrong in (
            ("10 % stuck in both arms, which train alike: any verdict", (8.0, 8.0), (0.1, 0.1), "decided"),
            ("half stuck in both arms, which train alike: any verdict", (8.0, 8.0), (0.5, 0.5), "decided"),
            ('10 % stuck in a, so worse in the mean, else 0.64 better: "a < b"', (7.36, 8.0), (0.1, 0.0), "supported"),
            ("the same, of studies in which no run was stuck", (7.36, 8.0), (0.1, 0.0), "unseen"),
            ('10 % stuck in a, which else is 0.64 worse: "a > b"', (8.64, 8.0), (0.1, 0.0), "a > b"),
            ('a never trains: "a > b"', (STUCK, 8.0), (1.0, 0.0), "a > b"),
            ('a never trains: "a > 60"', (STUCK, 8.0), (1.0, 0.0), "a > 60"),
        ):
            shares = []
            for told in (False, True):

                def one(random: np.random.Generator, means=means, stuck=stuck, wrong=wrong, told=told, n=n) -> bool:
                    a, b = (with_stuck(random, n, mean, part) for mean, part in zip(means, stuck, strict=True))
                    word = judged([wrong if ">" in wrong else "a < b"], {"a": a, "b": b}, told=told)[0].verdict
                    seen = bool((a == STUCK).any())
                    return {"decided": word != "undecided", "unseen": word == "supported" and not seen}.get(
                        wrong, word == "supported"
                    )

                shares.append(share(one, studies))
            rows.append((f"n = {n}, {what}", f"{100 * shares[0]:.1f} %", f"{100 * shares[1]:.1f} %"))
    return rows


def never(studies: int) -> list[Row]:
    """An arm that never trains against one that always does, beside claims with nothing to them, and both by a coin."""
    rows: list[Row] = []
    for claims in (1, 2, 5, 12):
        first = fewest(lambda n: least_by_counts(n, n), 0.05 / claims)
        expects = ["a > b", *(f"c{at} > d{at}" for at in range(claims - 1))]
        for n in sorted({3, first - 1, first}):
            for stuck in (1.0, 0.5):

                def one(random: np.random.Generator, n=n, claims=claims, expects=expects, stuck=stuck) -> bool:
                    shares = (stuck, 0.0 if stuck == 1 else stuck)
                    arms = {name: with_stuck(random, n, 8.0, part) for name, part in zip("ab", shares, strict=True)}
                    arms |= {f"{side}{at}": random.normal(8.0, SD, n) for at in range(claims - 1) for side in "cd"}
                    return judged(expects, arms)[0].verdict == "supported"

                what = "a never trains" if stuck == 1 else "half of the runs of either train"
                said = ("100 %" if n >= first else "next to none") if stuck == 1 else f"at most {2.5 / claims:.3g} %"
                rows.append((f'n = {n}, one of {claims} claims, {what}: "a > b"', said,
                             f"{100 * share(one, studies):.1f} %"))  # fmt: skip
    return rows


def family(studies: int) -> list[Row]:
    rows: list[Row] = []
    for n in (3, 5, 10):
        expects = [f"{one} > base" for one in "abcdefghij"]

        def one(random: np.random.Generator, n=n, expects=expects) -> bool:
            arms = {name: random.normal(8.0, SD, n) for name in ("base", *"abcdefghij")}
            return any(found.verdict != "undecided" for found in judged(expects, arms))

        rows.append((f"n = {n}, ten claims on one baseline, none true: any verdict", "at most 5 %",
                     f"{100 * share(one, studies):.1f} %"))  # fmt: skip
    return rows


def looks(studies: int) -> list[Row]:
    def one(random: np.random.Generator) -> bool:
        a, b = random.normal(8, SD, 12), random.normal(8, SD, 12)
        made = {"a": a, "b": b}
        for look in (1, 2, 3, 4):
            sides = {name: arm(name, errors_S[: 3 * look]) for name, errors_S in made.items()}
            claim = Claim(text="?", expect="a < b")
            (found,) = verdicts(
                [claim], lambda name, _, sides=sides: sides[name], paired=True, level=1 - spend(look, 4)
            )
            if found.verdict != "undecided":
                return True
        return False

    return [("four looks at 3, 6, 9 and 12 seeds, nothing there: any verdict", "at most 5 %",
             f"{100 * share(one, studies):.1f} %")]  # fmt: skip


def readings(studies: int) -> list[Row]:
    """Studies without anything to find that are read at 5 % each time seeds were added."""
    rows: list[Row] = []
    for sizes in ((3, 6), (3, 6, 9), (3, 6, 9, 12)):

        def one(random: np.random.Generator, sizes=sizes) -> bool:
            a, b = random.normal(8, SD, sizes[-1]), random.normal(8, SD, sizes[-1])
            return any(judged(["a < b"], {"a": a[:n], "b": b[:n]})[0].verdict != "undecided" for n in sizes)

        said = error(sizes, [0.05] * len(sizes))
        rows.append((f"read at {', '.join(map(str, sizes))} seeds, nothing there: any verdict",
                     f"{100 * said:.1f} %", f"{100 * share(one, studies):.1f} %"))  # fmt: skip
    return rows


def early_stops(studies: int) -> list[Row]:
    """The estimate of a true difference in studies that a look before the last one ended."""
    rows: list[Row] = []
    sizes, levels = (3, 6, 9, 12), [spend(look, 4) for look in (1, 2, 3, 4)]
    for shift in (0.5, 0.75, 1.0, 2.0):
        random, found = np.random.default_rng(0), []
        for _ in range(studies):
            a, b = random.normal(8 + shift * SD * 2**0.5, SD, 12), random.normal(8, SD, 12)
            for n, level in zip(sizes[:-1], levels[:-1], strict=True):
                (one,) = judged(["a > b"], {"a": a[:n], "b": b[:n]}, level=1 - level)
                if one.verdict != "undecided":
                    assert one.difference is not None
                    found.append(one.difference / (shift * SD * 2**0.5))
                    break
        said = exaggeration(sizes, levels, shift)
        rows.append((f"true difference {shift:g} sd, {100 * len(found) / studies:.0f} % stop early",
                     "–" if said is None else f"{said:.2f} ×", f"{np.mean(found):.2f} ×"))  # fmt: skip
    return rows


def late_claims(studies: int) -> list[Row]:
    """Five promised claims with nothing to them, and five that were added once the data were there."""
    rows: list[Row] = []
    for n in (3, 5, 10):
        promised, late = [f"{one} > base" for one in "abcde"], [f"{one} > base" for one in "fghij"]

        def one(random: np.random.Generator, n=n, promised=promised, late=late) -> tuple[bool, bool]:
            arms = {name: random.normal(8.0, SD, n) for name in ("base", *"abcdefghij")}
            picked = sorted(late, key=lambda expect: -abs(np.mean(arms[expect[0]] - arms["base"])))[:1]
            # What came later is corrected for the promised ones as well.
            parts = [judged(promised, arms), judged(picked, arms, dropped=len(promised))]
            return tuple(any(found.verdict != "undecided" for found in part) for part in parts)

        random = np.random.default_rng(0)
        kept, added = np.mean([one(random) for _ in range(studies)], axis=0)
        rows += [(f"n = {n}, any of five promised claims", "at most 5 %", f"{100 * kept:.1f} %"),
                 (f"n = {n}, the most striking of five others, claimed afterwards: exploratory", "nothing",
                  f"{100 * added:.1f} %")]  # fmt: skip
    return rows


def coverage(studies: int) -> list[Row]:
    rows: list[Row] = []
    for n in (3, 5, 10):
        found = {"95 %": 0, "corrected": 0}
        random = np.random.default_rng(0)
        for _ in range(studies):
            true = {name: 8 + 0.1 * at for at, name in enumerate("abcde")}
            arms = {name: random.normal(mean, SD, n) for name, mean in true.items()}
            one = judged([f"{name} > a" for name in "bcde"], arms)[1]
            assert one.low is not None
            assert one.high is not None
            assert one.corrected is not None
            found["95 %"] += one.low <= 0.2 <= one.high
            found["corrected"] += one.corrected[0] <= 0.2 <= one.corrected[1]
        rows += [(f"n = {n}, {name} interval of one of four claims", "at least 95 %", f"{100 * hits / studies:.1f} %")
                 for name, hits in found.items()]  # fmt: skip
    return rows


def images(studies: int) -> list[Row]:
    """Images differ in how hard they are and each arm in which it finds hard; the truth is that of all images."""
    from statistics import NormalDist

    rows: list[Row] = []
    for seeds, number, sd in ((3, 1000, 0.02), (5, 1000, 0.02), (5, 1000, 0.2)):
        random = np.random.default_rng(0)
        spread = 1 + 0.25 + 0.49 + 2 * sd**2, 1 + 0.49 + 2 * sd**2
        normal = NormalDist()
        truth = 100 * (normal.cdf(-0.9 / spread[0] ** 0.5) - normal.cdf(-1 / spread[1] ** 0.5))
        hits = [0, 0]
        for _ in range(studies):
            hard, own, common = random.normal(0, 1, number), random.normal(0, 0.5, number), random.normal(0, sd, seeds)
            wrong = [hard + own * (not at) + (0.1, 0.0)[at] + (common + random.normal(0, sd, seeds))[:, None]
                     + random.normal(0, 0.7, (seeds, number)) > 1 for at in (0, 1)]  # fmt: skip
            both = seeds_and_images(wrong[0], wrong[1], paired=True)
            assert both is not None
            hits[0] += both.low <= truth <= both.high
            errors = [100 * part.mean(axis=1) for part in wrong]
            alone = judged(["a > b"], {"a": errors[0], "b": errors[1]})[0]
            hits[1] += alone.low is not None and alone.high is not None and alone.low <= truth <= alone.high
        what = f"{seeds} seeds × {number:,} images, sd of seeds {sd}"
        rows += [(f"{what}: over seeds", "95 %", f"{100 * hits[1] / studies:.1f} %"),
                 (f"{what}: over seeds × images", "95 %", f"{100 * hits[0] / studies:.1f} %")]  # fmt: skip
    return rows


def promise(studies: int) -> list[Row]:
    rows: list[Row] = []
    for n, claims in ((3, 12), (5, 5), (10, 5)):
        trial = Trial((n,), (0.05,), claims, True)
        for together in (False, True):
            beyond = SD * 2**0.5 * (detectable_sds(trial, together=together) or 0.0)

            def one(random: np.random.Generator, n=n, claims=claims, beyond=beyond, together=together) -> bool:
                # Each claim has arms of its own, as the promise takes them to have.
                arms = {
                    f"a{at}": random.normal(8 + (beyond if together or not at else 0), SD, n) for at in range(claims)
                }
                arms |= {f"b{at}": random.normal(8, SD, n) for at in range(claims)}
                return judged([f"a{at} > b{at}" for at in range(claims)], arms)[0].verdict == "supported"

            what = "all claims true" if together else "it alone is true"
            rows.append((f"n = {n}, {claims} claims, {what}: {beyond:.2f} points", "80 %",
                         f"{100 * share(one, studies):.1f} %"))  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--only", default="", help="the sections whose title begins so")
    options = parser.parse_args()
    studies = options.studies
    for title, heads, made in (
        ("Runs that do not train", ("study", "before", "now"), failures),
        ("Arms that never train, beside other claims", ("study", "promised", "found"), never),
        ("Holm's correction", ("study", "promised", "found"), family),
        ("Looks", ("study", "promised", "found"), looks),
        ("Readings that were not planned", ("study", "said in the report", "found"), readings),
        ("Estimates after an early stop", ("study", "said in the report", "found"), early_stops),
        ("Claims that came later", ("study", "promised", "found"), late_claims),
        ("Coverage", ("interval", "promised", "found"), coverage),
        ("Seeds and images", ("interval", "promised", "found"), images),
        ("Power", ("claim", "promised", "found"), promise),
    ):
        if not title.lower().startswith(options.only.lower()):
            continue
        print(f"\n{title}\n\n| {' | '.join(heads)} |\n|---|---:|---:|")
        for row in made(studies):
            print(f"| {' | '.join(row)} |", flush=True)


if __name__ == "__main__":
    main()
