"""Changes of a study that its user asked for: what every arm has anyway is none."""

from residuum.conduct import planning
from residuum.report import tables
from residuum.studies import parsing


def test_a_setting_that_every_arm_has_anyway_is_no_change(tmp_path):
    study = parsing.read("quickstart")
    usual = {"compute.kernels": "cudnn", "train.batch_size": 64}
    plan = planning.plan(study, usual, scale=0.1)
    assert (plan.settings, tables.mark(plan)) == ({}, "SCALED ×0.1")
    changed = planning.plan(study, usual | {"optim.lr": 0.05}, scale=0.1)
    assert tables.mark(changed) == "SCALED ×0.1 · CHANGED optim.lr = 0.05"
