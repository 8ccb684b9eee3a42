"""The figures on the page of a run: when there is something to draw, and how."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from residuum.records import mistakes as kept
from residuum.records.record import RunRecord

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Picture:
    """A figure of one run: its title, what it shows, whether the run has what it takes, and the figure."""

    title: str
    text: str
    is_there: Callable[[RunRecord], bool]
    draw: Callable[[RunRecord], "Figure"]


def _has_predictions(record: RunRecord) -> bool:
    return (record.folder / "predictions" / "last.safetensors").exists()


def _has_mistakes(record: RunRecord) -> bool:
    return _has_predictions(record) and kept.path_of(record.folder).exists()


def _has_layers(record: RunRecord) -> bool:
    return any((record.folder / "layers").glob("epoch-*.safetensors"))


def _name(record: RunRecord) -> str:
    from residuum.records.record import labels

    return labels([record])[0]


def _confusion(record: RunRecord) -> "Figure":
    from residuum.analysis import per_class
    from residuum.report.figures import confusion

    return confusion.draw(confusion.data({_name(record): per_class.read(record)}))


def _reliability(record: RunRecord) -> "Figure":
    from residuum.analysis import per_class
    from residuum.report.figures import reliability

    return reliability.draw(reliability.data({_name(record): per_class.read(record)}))


def _mistakes(record: RunRecord) -> "Figure":
    from residuum.analysis import per_class
    from residuum.report.figures import mistake_sheet

    images, name = kept.read(record.folder), _name(record)
    surest = per_class.mistakes(per_class.read(record), len(images))
    wrong = {name: [one for one in surest if one.index in images]}
    return mistake_sheet.draw(mistake_sheet.data(wrong, {name: images}))


def _layers(record: RunRecord) -> "Figure":
    from residuum.report.figures import histograms

    return histograms.draw(histograms.data(_name(record), record.layers(), "parameters"))


def _gradients(record: RunRecord) -> "Figure":
    from residuum.report.figures import gradient_flow

    return gradient_flow.draw(gradient_flow.data({_name(record): record.layers()}))


PICTURES: Mapping[str, Picture] = {
    "confusion": Picture("Confusion", "Rows are true classes, columns predicted ones.", _has_predictions, _confusion),
    "mistakes": Picture(
        "Surest mistakes", "True → predicted, its probability, number of the image.", _has_mistakes, _mistakes
    ),
    "reliability": Picture(
        "Reliability", "How often the network is right when it is this sure.", _has_predictions, _reliability
    ),
    "layers": Picture("Weights", "The weights of the layers, epoch by epoch.", _has_layers, _layers),
    "gradients": Picture(
        "Gradients", "Gradients, responses and dead channels over the depth.", _has_layers, _gradients
    ),
}
