"""`residuum export` and `export-to`: a trained network, and the numbers of runs, for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from residuum.cli.options import (
    Command,
    common,
    moved_data_option,
    output_file,
    output_folder,
    print_json,
    store_option,
    which_option,
)
from residuum.errors import tally
from residuum.records.regular import within


def add(command: Command) -> None:
    """Add `export`."""
    p = command("export", export, "Write a run's network, with classes and normalisation, for other programs.")
    p.add_argument("folder", metavar="RUN", help="a run folder, or the beginning of a run's id")
    p.add_argument(
        "--format", choices=("safetensors", "onnx", "huggingface", "python"), required=True,
        help="weights alone, a graph that runs as it is, a folder for the Hugging Face hub with a model card, or a "
        "file of plain PyTorch with its weights beside it",
    )  # fmt: skip
    which_option(p)
    p.add_argument("--out", type=Path, metavar="PLACE", help="file or folder to write (default: in export/ of the run)")
    moved_data_option(p, "; ONNX is checked on its images")
    common(p)
    store_option(p, "folder")

    p = command("export-to", export_to, "Tell a tracker (TensorBoard, W&B, MLflow) of runs that are there.")
    p.add_argument("tracker", metavar="TRACKER", help="tensorboard, wandb or mlflow, as NAME or NAME:FOLDER")
    p.add_argument("names", metavar="RUN", nargs="+", help="run folders, or the beginnings of runs' ids")
    p.add_argument("--study", action="store_true", help="the names are those of studies: all runs of them, by arm")
    common(p)
    store_option(p, weights=False)


def export(options: argparse.Namespace) -> None:
    """`residuum export RUN --format ...`."""
    from residuum.networks.names import short_name
    from residuum.records.record import find_run, read_record
    from residuum.run import pytorch_source, weights

    record = read_record(find_run(options.folder, options.runs))
    network = pytorch_source.importable(short_name(record.config.model))
    name = {"huggingface": f"{options.which}-huggingface", "python": f"{network}.py"}.get(
        options.format, f"{options.which}.{options.format}"
    )
    place = output_folder if options.format == "huggingface" else output_file
    path = place(str(options.out)) if options.out else within(record.folder, "export") / name
    done = weights.export(record, options.format, path, which=options.which, data=options.data or "")
    if options.json:
        print_json({"run": record.id, "file": str(done.path), "format": done.format, "difference": done.difference,
                    "images": done.images})  # fmt: skip
        return
    if done.difference is not None:
        on = tally(done.images, "training image")
        print(f"onnxruntime gives the network's logits on {on}, to {done.difference:.1e}")
    print(done.path)


def export_to(options: argparse.Namespace) -> None:
    """`residuum export-to TRACKER RUN…`."""
    from residuum.records.record import RunRecord, labels, read_record, record_of
    from residuum.records.run_folder import CONFIG
    from residuum.records.storage import storing
    from residuum.run.trackers import place_of
    from residuum.run.tracking import replay
    from residuum.studies import plan as plans

    name, place = place_of(options.tracker, options.runs)
    told: list[tuple[RunRecord, dict[str, str]]] = []
    if options.study:
        for plan in [plans.read(plans.find(one, options.runs)) for one in options.names]:
            there = [run for run in plan.runs if (options.runs / run.folder / CONFIG).exists()]
            told += [(read_record(options.runs / run.folder), {"study": plan.label, "arm": run.arm}) for run in there]
    else:
        told = [(record_of(run, options.runs), {}) for run in options.names]
        labels([record for record, _ in told])  # refuses a run that is named twice
    for record, labelled in told:
        with storing(place):
            replay(record, name, place, labelled)
    if options.json:
        print_json({"tracker": name, "place": str(place), "runs": [record.id for record, _ in told]})
    else:
        print(f"{tally(len(told), 'run')} told to {name}: {place}")
