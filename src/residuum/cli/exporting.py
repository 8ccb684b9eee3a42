"""`residuum export`: a trained network as one file for other programs."""

from __future__ import annotations

import argparse

from residuum.cli.options import Command, common, moved_data_option, output_file, print_json, which_option


def add(command: Command) -> None:
    """Add `export`."""
    p = command("export", export, "Write a run's network, with classes and normalisation, for other programs.")
    p.add_argument("folder", metavar="RUN", help="a run folder, or the beginning of a run's id")
    p.add_argument(
        "--format", choices=("safetensors", "onnx"), required=True, help="weights alone, or a graph that runs as it is"
    )
    which_option(p)
    p.add_argument("--out", type=output_file, metavar="FILE", help="file to write (default: in export/ of the run)")
    moved_data_option(p, "; ONNX is checked on its images")
    common(p)


def export(options: argparse.Namespace) -> None:
    """`residuum export RUN --format ...`."""
    from residuum.records.record import find_run, read_record
    from residuum.run import weights

    record = read_record(find_run(options.folder, options.runs))
    path = options.out or record.folder / "export" / f"{options.which}.{options.format}"
    done = weights.export(record, options.format, path, which=options.which, data=options.data or "")
    if options.json:
        print_json({"run": record.id, "file": str(done.path), "format": done.format, "difference": done.difference,
                    "images": done.images})  # fmt: skip
        return
    if done.difference is not None:
        print(f"onnxruntime gives the network's logits on {done.images} training images, to {done.difference:.1e}")
    print(done.path)
