"""What is done in the process beside the page: draw a figure, predict an image, write a report.

Every job takes and gives what JSON can say, and is called by its name in `JOBS`.
"""

import json
import signal
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from residuum.errors import InputError, ResiduumError
from residuum.records import run_folder
from residuum.records.record import read_record
from residuum.serve.aside import step_back

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from residuum.run.predict import Trained

LIKELIEST = 5
"""Classes that are told of a predicted image."""


def figure(folder: str, name: str) -> str:
    """A figure of one run as SVG, by its name in `residuum.serve.pictures`."""
    from residuum.serve.pictures import PICTURES

    return _svg(PICTURES[name].draw(read_record(Path(folder))))


def attributions(path: str) -> str:
    """The sheet of attributions that a run has kept, as SVG."""
    from residuum.records.attributions import read
    from residuum.report.figures import attribution

    found = read(Path(path))
    by_epoch = len({*found.epochs}) > 1
    return _svg(attribution.draw(attribution.over_epochs(found) if by_epoch else attribution.data(found)))


def beside(folders: Sequence[str], narrow: bool) -> str:
    """The curves of several runs in one frame, as SVG; `narrow`: for a phone."""
    from residuum.report.figures import run_curves

    records = [read_record(Path(folder)) for folder in folders]
    return _svg(run_curves.draw(run_curves.data([record for record in records if record.epochs]), narrow=narrow))


def arms(runs: str, label: str, narrow: bool) -> str:
    """The curves of the arms of a study so far, as SVG. They say no verdict, so that nothing was read is left so."""
    from residuum.analysis.results import results
    from residuum.report import tables
    from residuum.report.figures import study_curves
    from residuum.studies import plan as plans

    found = results(plans.read(plans.folder_of(Path(runs), label)), Path(runs))
    view = study_curves.data(found, study_curves.of_arms(found), tables.mark(found.plan))
    if not any(view.rows):
        raise InputError("no run has finished an epoch yet")
    return _svg(study_curves.draw(view, narrow=narrow))


def predict(folder: str, content: str) -> dict[str, Any]:
    """The likeliest classes of an image (base64) by the last weights of a run, and what speaks for the first (PNG)."""
    from residuum.registry import Choice
    from residuum.report import style
    from residuum.report.figures import attribution
    from residuum.run import explaining

    record = read_record(Path(folder))
    states = run_folder.checkpoints(record.folder)
    trained = _trained(folder, states[-1][1].name if states else "")
    with TemporaryDirectory() as place:
        path = Path(place) / "your image"
        path.write_bytes(b64decode(content))
        try:
            pictures = explaining.from_files([path], trained.shape)
        except InputError as error:
            raise InputError(error.text.replace(str(path), "the image")) from error
    try:
        found = explaining.attribute(trained, pictures, Choice(name="grad-cam"), "predicted", record.id)
    except InputError:  # a network of somebody's own may have no maps for it
        found = explaining.attribute(trained, pictures, Choice(name="saliency"), "predicted", record.id)
    explained = attribution.prediction(found, 0, LIKELIEST)
    return {
        "shares": [[name, share] for name, share in explained.shares],
        "resized": pictures.names[0].endswith("(resized)"),
        "png": b64encode(style.png(attribution.draw_prediction(explained))).decode(),
    }


@lru_cache(maxsize=2)
def _trained(folder: str, state: str) -> "Trained":
    """The network of a run by its newest state, kept for the next image."""
    from residuum.run.predict import load

    del state  # another one is another network
    return load(read_record(Path(folder)), device="cpu")


def report(runs: str, label: str, out: str) -> list[str]:
    """Write the report of a study as it stands now; gives the names of its figures. That it was read is recorded."""
    from residuum.analysis.results import note_reading, results
    from residuum.report.study_page import write
    from residuum.studies import plan as plans

    found = results(plans.read(plans.folder_of(Path(runs), label)), Path(runs))
    index = write(found, Path(out), runs=Path(runs))
    note_reading(found, Path(runs))
    return sorted(path.name for path in (index.parent / "figures").iterdir())


def _svg(drawn: "Figure") -> str:
    from residuum.report import style

    return style.svg(drawn).decode()


JOBS: Mapping[str, Callable[..., Any]] = {
    one.__name__: one for one in (figure, attributions, beside, arms, predict, report)
}


def main(descriptor: int) -> None:
    """Answer one job after the other until the page has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    step_back()
    channel = Connection(descriptor)
    while True:
        try:
            name, arguments = json.loads(channel.recv_bytes())
        except EOFError:
            return
        try:
            answer = [True, JOBS[name](*arguments)]
        except ResiduumError as error:
            answer = [False, error.text if isinstance(error, InputError) else str(error)]
        except Exception as error:  # one figure that cannot be drawn is no reason to end
            answer = [False, f"it failed: {type(error).__name__}: {str(error)[:200]}"]
        channel.send_bytes(json.dumps(answer).encode())


if __name__ == "__main__":
    main(int(sys.argv[1]))
