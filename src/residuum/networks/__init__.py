"""Networks as values: their outlines. Nothing here needs torch."""
