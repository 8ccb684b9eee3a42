"""`residuum export`: a trained network for other programs."""

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


def add(command: Command) -> None:
    """Add `export`."""
    p = command("export", export, "Write a run's network, with classes and normalisation, for other programs.")
    p.add_argument("folder", metavar="RUN", help="a run folder, or the beginning of a run's id")
    p.add_argument(
        "--format", choices=("safetensors", "onnx", "huggingface"), required=True,
        help="weights alone, a graph that runs as it is, or a folder for the Hugging Face hub, with a model card",
    )  # fmt: skip
    which_option(p)
    p.add_argument("--out", type=Path, metavar="PLACE", help="file or folder to write (default: in export/ of the run)")
    moved_data_option(p, "; ONNX is checked on its images")
    common(p)
    store_option(p, "folder")


def export(options: argparse.Namespace) -> None:
    """`residuum export RUN --format ...`."""
    from residuum.records.record import find_run, read_record
    from residuum.run import weights

    record = read_record(find_run(options.folder, options.runs))
    name = f"{options.which}-huggingface" if options.format == "huggingface" else f"{options.which}.{options.format}"
    place = output_folder if options.format == "huggingface" else output_file
    path = place(str(options.out)) if options.out else record.folder / "export" / name
    done = weights.export(record, options.format, path, which=options.which, data=options.data or "")
    if options.json:
        print_json({"run": record.id, "file": str(done.path), "format": done.format, "difference": done.difference,
                    "images": done.images})  # fmt: skip
        return
    if done.difference is not None:
        print(f"onnxruntime gives the network's logits on {done.images} training images, to {done.difference:.1e}")
    print(done.path)
