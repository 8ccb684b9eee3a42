"""Statistics of runs: intervals, paired comparisons, power, claims. Reads records; never imports torch."""
