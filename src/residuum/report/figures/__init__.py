"""Figures, one file each: `data()` gives the numbers that tests check, `draw()` the picture that people look at."""
