"""CIFAR-100: 60,000 colour images of 32×32 pixels in 100 classes, or in the 20 groups of them (Krizhevsky 2009)."""

from functools import partial
from pathlib import Path
from typing import Literal

from residuum.data.dataset import Dataset
from residuum.data.datasets import cifar
from residuum.data.datasets.source import Entry, Remote, found_by, load_files

_FINE = """
apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly camel can castle
caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur dolphin elephant
flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion lizard lobster man maple_tree
motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate
poppy porcupine possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake spider
squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor train trout tulip turtle
wardrobe whale willow_tree wolf woman worm
"""
_COARSE = """
aquatic_mammals fish flowers food_containers fruit_and_vegetables household_electrical_devices household_furniture
insects large_carnivores large_man-made_outdoor_things large_natural_outdoor_scenes large_omnivores_and_herbivores
medium_mammals non-insect_invertebrates people reptiles small_mammals trees vehicles_1 vehicles_2
"""


def layout(labels: Literal["fine", "coarse"]) -> cifar.Layout:
    """The layout of the files with the one or the other label of each image."""
    return cifar.Layout(
        name="cifar100",
        classes=tuple((_FINE if labels == "fine" else _COARSE).split()),
        rows=50_000,
        train=("train",),
        test="test",
        python_folder="cifar-100-python",
        python_meta="meta",
        python_label=f"{labels}_labels",
        python_classes=f"{labels}_label_names",
        binary_folder="cifar-100-binary",
        binary_meta=f"{labels}_label_names.txt",
        binary_labels=2,
        label_byte=1 if labels == "fine" else 0,
        columns=(f"{labels}_label",),
    )


locate = partial(cifar.locate, layout("fine"))


def cifar100(root: Path | None, *, labels: Literal["fine", "coarse"] = "fine") -> Dataset:
    """CIFAR-100 in the forms of CIFAR-10: 50,000 and 10,000 RGB images, labelled by class or by group of classes.

    Raises:
        InputError: it is not there, not whole, or damaged.
        StorageError: it cannot be read, or the cache cannot be written.
    """
    chosen = layout(labels)
    return load_files("cifar100", root, partial(cifar.locate, chosen), chosen.bring, {"labels": labels})


ENTRY = Entry(
    "cifar100",
    cifar100,
    remotes=(Remote.at("cifar-100-python.tar.gz", 169_001_437, "eb9058c3a382ffc7106e4002c42a8d85", *cifar.PLACES),),
    published=(50_000, 10_000),
    shape=cifar.SHAPE,
    classes=lambda labels="fine": layout(labels).classes,
    lies_at=lambda path: found_by(locate)(path) and cifar.looks_like_it(layout("fine"), path),
    test_at=partial(cifar.images_at, layout("fine")),
)
