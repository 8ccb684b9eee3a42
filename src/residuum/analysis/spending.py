"""Spending: which part of the error probability each of several planned looks may use."""

from residuum.errors import InputError


def spend(look: int, looks: int, alpha: float = 0.05) -> float:
    """The two-sided level of one of several planned looks at growing data, counted from 1; all add up to `alpha`.

    What is spent up to a share t of the looks is alpha t³: little early, nearly 60 % at the last of four, close to
    the boundaries of O'Brien and Fleming (Kim and DeMets, "Design and analysis of group sequential tests based on the
    type I error spending rate function", Biometrika 1987), but with enough at the first look for three seeds to show
    a gross difference. Each look is tested at its own share alone. By the union bound the error of all looks is then
    at most `alpha` however they depend on each other, also for t statistics of few runs, where the usual normal
    boundaries do not hold.
    """
    if not 1 <= look <= looks:
        raise InputError(f"look {look} is not one of {looks}")
    return alpha * (look**3 - (look - 1) ** 3) / looks**3
