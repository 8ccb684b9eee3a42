"""Groups of arms: which stand in one panel of a figure where a study has too many arms for one."""

from itertools import pairwise

from residuum.analysis.results import Results
from residuum.registry import name_of
from residuum.studies.study import Arm, Study

MOST = 6
"""So many arms in one pair of axes can be told apart."""


def groups(results: Results) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Arms that belong together, each group with its title; one without a title where there are no more than six arms.

    The arms of one name or one value of the first axis, else networks of a kind: plain, residual, bottleneck. Where
    none of these tells arms apart they stand together as in the file, with the baseline in each group to hold them
    against. No group has more than six arms.
    """
    study = results.plan.study
    arms = study.arms()
    if len(arms) <= MOST:
        return (("", tuple(arm.name for arm in arms)),)
    members: dict[str, list[str]] = {}
    for arm in arms:
        members.setdefault(_kin(study, arm), []).append(arm.name)
    alike = len(members) == 1
    baseline = study.compare.baseline if alike and isinstance(study.compare.baseline, str) else ""
    found = []
    for title, names in members.items():
        others = [name for name in names if name != baseline]
        parts = -(-len(others) // (MOST - bool(baseline)))
        ends = [round(at * len(others) / parts) for at in range(parts + 1)]
        for number, (first, last) in enumerate(pairwise(ends), start=1):
            words = ["" if alike else title, f"part {number} of {parts}" if parts > 1 else ""]
            kept = [baseline] if baseline else []
            found.append((", ".join(word for word in words if word), (*kept, *others[first:last])))
    return tuple(found)


def _kin(study: Study, arm: Arm) -> str:
    if arm.family:
        return arm.family
    if len(study.axes) > 1:
        path = next(iter(study.axes))
        value = name_of(arm.cell[path])
        return value if isinstance(value, str) else f"{path.rpartition('.')[2]} = {value}"
    network = arm.config.model.model_dump(mode="json")
    if name_of(network.get("shortcut")) == "none":
        return "plain"
    return "bottleneck" if name_of(network.get("block")) == "bottleneck" else "residual"
