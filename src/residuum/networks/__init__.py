"""Networks as values: their names and outlines. Nothing here needs torch."""
