"""Figures, one file each: `data()` gives the numbers that tests check, `draw()` the picture that people look at.

One that is drawn of runs alone has `OF_RUNS` besides, by which `residuum draw --of NAME` finds it.
"""
