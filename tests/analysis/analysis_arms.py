from residuum.analysis.aggregate import Summary, Value, summarize


def arm(name, numbers, statuses=None, measure="test_error", seeds=None):
    """A summary of fabricated runs: a number, or None with its status, for each seed."""
    seeds = seeds if seeds is not None else range(len(numbers))
    statuses = statuses or ["finished"] * len(numbers)
    values = [Value(seed, f"{name}-{seed}", status, number)
              for seed, status, number in zip(seeds, statuses, numbers, strict=True)]  # fmt: skip
    summary: Summary = summarize(name, measure, values)
    return summary
