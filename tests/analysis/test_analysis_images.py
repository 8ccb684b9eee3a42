import itertools
import math

import numpy as np
import pytest
from scipy import stats

from residuum.analysis.over_images import mcnemar, seeds_and_images
from residuum.errors import InputError


def runs(both, first, second, none):
    right = np.repeat([[1, 1], [1, 0], [0, 1], [0, 0]], [both, first, second, none], axis=0).astype(bool)
    shuffled = np.random.default_rng(0).permutation(right)
    return shuffled[:, 0], shuffled[:, 1]


@pytest.mark.parametrize("counts", [(9000, 300, 350, 350), (5, 6, 1, 0), (1, 0, 7, 2), (10, 0, 0, 3)])
def test_images_are_counted_and_p_is_the_exact_binomial(counts):
    found = mcnemar(*runs(*counts))
    assert (found.both_right, found.only_first_right, found.only_second_right, found.both_wrong) == counts
    discordant = counts[1] + counts[2]
    assert found.p == pytest.approx(stats.binomtest(counts[1], discordant).pvalue if discordant else 1.0)
    assert found.difference == pytest.approx(100 * (counts[1] - counts[2]) / sum(counts))
    assert found.low <= found.difference <= found.high


def test_the_interval_is_agresti_and_mins():
    # Half an image is added to each cell: 100 + 2 images, 21 discordant.
    found = mcnemar(*runs(70, 15, 5, 10))
    error = math.sqrt((15.5 + 5.5) - (15.5 - 5.5) ** 2 / 102) / 102
    assert (found.low, found.high) == pytest.approx((100 * (10 / 102 - 1.959964 * error),
                                                     100 * (10 / 102 + 1.959964 * error)), abs=1e-4)  # fmt: skip


def test_swapping_the_runs_mirrors_the_result():
    one, two = runs(50, 9, 3, 4)
    there, back = mcnemar(one, two), mcnemar(two, one)
    assert (back.difference, back.low, back.high) == pytest.approx((-there.difference, -there.high, -there.low))
    assert back.p == there.p


@pytest.mark.parametrize("n", [10, 25])
def test_the_interval_covers_the_true_difference_as_often_as_it_says(n):
    counts = [(b, c) for b in range(n + 1) for c in range(n + 1 - b)]
    intervals = {(b, c): mcnemar(*runs(n - b - c, b, c, 0)) for b, c in counts}
    coverage = []
    for p, q in itertools.product(np.arange(0.02, 0.5, 0.06), repeat=2):
        true = 100 * (p - q)
        mass = stats.multinomial.pmf([(b, c, n - b - c) for b, c in counts], n, [p, q, 1 - p - q])
        covered = [intervals[one].low <= true <= intervals[one].high for one in counts]
        coverage.append(float(mass @ np.array(covered)))
    assert np.mean(coverage) == pytest.approx(0.955, abs=0.015)
    assert min(coverage) > 0.89


def test_runs_on_other_images_cannot_be_compared():
    with pytest.raises(InputError, match="3 and 2 images"):
        mcnemar(np.ones(3, bool), np.ones(2, bool))
    with pytest.raises(InputError, match="0 and 0 images"):
        mcnemar(np.ones(0, bool), np.ones(0, bool))


def two_way_by_hand(d_SN):
    """The variance of the mean of a table whose rows and columns are both drawn, by the mean squares of an ANOVA."""
    seeds, images = d_SN.shape
    grand = d_SN.mean()
    rows, columns = d_SN.mean(axis=1), d_SN.mean(axis=0)
    rest = d_SN - rows[:, None] - columns[None, :] + grand
    mean_square = (rest**2).sum() / ((seeds - 1) * (images - 1))
    var_rows = (images * rows.var(ddof=1) - mean_square) / images
    var_columns = (seeds * columns.var(ddof=1) - mean_square) / seeds
    return var_rows / seeds + var_columns / images + mean_square / (seeds * images)


def test_over_seeds_and_images_the_variance_is_that_of_a_two_way_table():
    random = np.random.default_rng(0)
    arm, baseline = (random.random((6, 80)) + random.normal(0, 0.2, (6, 1)) > 0.7 for _ in range(2))
    found = seeds_and_images(arm, baseline, paired=True)
    d_SN = arm.astype(float) - baseline
    assert found.difference == pytest.approx(100 * d_SN.mean())
    assert (found.low + found.high) / 2 == pytest.approx(found.difference)
    seeds, images = d_SN.mean(axis=1).var(ddof=1) / 6, d_SN.mean(axis=0).var(ddof=1) / 80
    assert images > 0
    half = 100 * np.sqrt(max(two_way_by_hand(d_SN), seeds)) * stats.t.ppf(0.975, 5)
    assert found.high - found.difference == pytest.approx(half)
    theirs = stats.ttest_1samp(100 * d_SN.mean(axis=0), 0).confidence_interval()
    assert found.only_images == pytest.approx((theirs.low, theirs.high))
    # Unpaired, the seeds of each arm are its own; the images are the same.
    alone = seeds_and_images(arm, baseline[:4], paired=False)
    assert (alone.seeds, alone.difference) == (4, pytest.approx(100 * (arm.mean() - baseline[:4].mean())))


def test_there_is_no_interval_over_images_where_nothing_varies_or_little_is_there():
    some = np.eye(3, 5, dtype=bool)
    assert seeds_and_images(some, some, paired=True) is None
    assert seeds_and_images(some[:1], some[1:2], paired=True) is None
    assert seeds_and_images(some, some[:, :4], paired=False) is None


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize(("seeds", "images", "sd"), [(3, 500, 0.02), (5, 500, 0.02), (5, 300, 0.3)])
def test_the_interval_over_seeds_and_images_covers_and_that_over_seeds_alone_may_not(seeds, images, sd, paired):
    """Images differ in how hard they are, and in how hard each arm finds them; seeds do something to all images."""
    random, covered, by_seeds, studies = np.random.default_rng(0), 0, 0, 400
    spread = {True: 1 + 0.25 + 0.49 + sd**2 * (1 + paired), False: 1 + 0.49 + sd**2 * (1 + paired)}
    truth = 100 * (stats.norm.sf(0.9 / spread[True] ** 0.5) - stats.norm.sf(1 / spread[False] ** 0.5))
    for _ in range(studies):
        hard, own = random.normal(0, 1, images), random.normal(0, 0.5, images)
        common = random.normal(0, sd, seeds) * paired

        def wrong(shift, hard=hard, own=own, common=common):
            of_seed = (common + random.normal(0, sd, seeds))[:, None]
            return hard + bool(shift) * own + shift + of_seed + random.normal(0, 0.7, (seeds, images)) > 1

        arm, baseline = wrong(0.1), wrong(0.0)
        found = seeds_and_images(arm, baseline, paired=paired)
        covered += found.low <= truth <= found.high
        d = 100 * (arm.mean(axis=1) - baseline.mean(axis=1))
        low, high = stats.ttest_1samp(d, 0).confidence_interval()
        by_seeds += low <= truth <= high
    assert covered / studies > 0.95 - 3 * np.sqrt(0.95 * 0.05 / studies)
    if (seeds, sd) == (5, 0.02):
        assert by_seeds < covered  # which is what the images are for


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_over_seeds_and_images_the_interval_is_never_narrower_than_over_seeds_alone(seeds):
    for number in range(40):
        random = np.random.default_rng(number)
        hard_N = random.normal(0, 1, 300)
        arm, baseline = (hard_N + random.normal(0, 0.2, (seeds, 1)) + random.normal(0, 1, (seeds, 300)) > 1
                         for _ in range(2))  # fmt: skip
        found = seeds_and_images(arm, baseline, paired=True)
        alone = stats.ttest_1samp(100 * (arm.mean(axis=1) - baseline.mean(axis=1)), 0).confidence_interval()
        assert found.low <= alone.low + 1e-9
        assert found.high >= alone.high - 1e-9


@pytest.mark.parametrize("seed", range(12))
def test_the_interval_over_both_is_that_over_seeds_exactly_where_images_add_nothing(seed):
    """Where every seed errs on images of its own, what an image does is what the seeds already show."""
    draw = np.random.default_rng(seed)
    seeds, images = int(draw.integers(2, 6)), int(draw.integers(50, 400))
    hard_N = draw.beta(0.4, 1.5, images) * draw.integers(0, 2)  # in half of the cases all images are alike
    arm, baseline = (draw.random((seeds, images)) < hard_N + draw.uniform(0.05, 0.3) for _ in range(2))
    found = seeds_and_images(arm, baseline, paired=True)
    alone = stats.ttest_1samp(100 * (arm.mean(axis=1) - baseline.mean(axis=1)), 0).confidence_interval()
    same = np.allclose((found.low, found.high), tuple(alone), rtol=1e-9)
    assert found.alike == same
    assert found.low <= alone.low + 1e-9
    assert alone.high <= found.high + 1e-9
