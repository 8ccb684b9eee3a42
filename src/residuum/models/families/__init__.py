"""Network families, a file for each or for a few that are alike: its `FAMILIES` are builders by name."""
