"""Studies: a question as a file, its arms, seeds, comparisons and claims. Describes; never imports torch."""
