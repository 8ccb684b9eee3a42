"""What `monitor.histograms` costs: the time of a look at the layers against that of a step, in turns.

    python benchmarks/layers.py [--rounds 7] [--data cifar10-jpeg]

ResNet-20 with batches of 128 as the recipe `he2015` trains it (without --data on images of CIFAR-10's shape), and
as `quick` trains it on the embedded digits. A run looks once before training and after each epoch.
"""

import argparse
from itertools import islice
from statistics import median
from time import perf_counter

from residuum import recipes
from residuum.cli.options import data_settings
from residuum.engine.loop import fit
from residuum.engine.state import Progress
from residuum.records.event import StepDone
from residuum.run import assemble

STEPS = 4


def main() -> None:
    """Measure, and print the share of the training time."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("--rounds", type=int, default=7)
    options.add_argument("--data", default="")
    asked = options.parse_args()
    cifar = data_settings(asked.data) if asked.data else {"data.dataset": {"name": "synthetic", "train": 8192}}
    for name, recipe, settings, images in (("CIFAR-10", "he2015", cifar, 50_000), ("digits", "quick", {}, 1221)):
        config = recipes.recipe(recipe).changed({**settings, "monitor.histograms": True, "compute.threads": 1})
        config, data = assemble.resolve(config)
        training, _ = assemble.training(config, data)
        steps = (event for event in fit(training, Progress()) if isinstance(event, StepDone))
        next(steps)  # the first is slower: kernels are chosen, and the layers are looked at before it
        step, look = [], []
        for _ in range(asked.rounds):
            begin = perf_counter()
            for _ in islice(steps, STEPS):
                pass
            middle = perf_counter()
            training.observe[0](0)
            step.append((middle - begin) / STEPS)
            look.append(perf_counter() - middle)
        shares = [one / (other * images / config.train.batch_size) for one, other in zip(look, step, strict=True)]
        print(f"{name}: step {1000 * median(step):.0f} ms, look {1000 * median(look):.0f} ms, "
              f"{100 * median(shares):.1f} % of an epoch's {images / config.train.batch_size:.0f} steps "
              f"({100 * min(shares):.1f} to {100 * max(shares):.1f})")  # fmt: skip


if __name__ == "__main__":
    main()
