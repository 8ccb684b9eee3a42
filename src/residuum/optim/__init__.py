"""How parameters move: optimizers, learning rate over time, losses, penalties, groups, averages."""

from residuum.optim.averaging import Average
from residuum.optim.groups import Group, decayed, freeze, parameter_groups, table
from residuum.optim.losses import LOSSES
from residuum.optim.optimizers import OPTIMIZERS
from residuum.optim.penalties import PENALTIES
from residuum.schedules import (
    SCHEDULES,
    Factor,
    Span,
    rates,
    shortened,
    shortened_time,
    unreached,
    with_warmup,
)

__all__ = [
    "LOSSES",
    "OPTIMIZERS",
    "PENALTIES",
    "SCHEDULES",
    "Average",
    "Factor",
    "Group",
    "Span",
    "decayed",
    "freeze",
    "parameter_groups",
    "rates",
    "shortened",
    "shortened_time",
    "table",
    "unreached",
    "with_warmup",
]
