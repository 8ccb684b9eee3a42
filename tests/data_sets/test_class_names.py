"""Which classes of two data sets are the same, by their names: in any order, case and form; or refused."""

import random
from unicodedata import normalize

import pytest
from cifar_files import one_line

from residuum.data.class_names import ALSO, matched, places, usual
from residuum.data.datasets import cifar10, cifar100
from residuum.errors import InputError

CIFAR10, CIFAR100 = cifar10.LAYOUT.classes, cifar100.layout("fine").classes


def otherwise(name, draw):
    """A name as somebody else may write it."""
    name = draw.choice([name, *(other for other, own in ALSO.items() if own == name)])
    name = draw.choice([str, str.upper, str.title, str.capitalize])(name)
    name = name.replace("_", draw.choice(["_", " ", "-"]))
    return normalize(draw.choice(["NFC", "NFD"]), draw.choice(["", " "]) + name)


@pytest.mark.parametrize("seed", range(60))
def test_classes_are_matched_in_any_order_and_form(seed):
    draw = random.Random(seed)
    ours = draw.choice([CIFAR10, CIFAR100, ("vögel", "Été d'or", "10", "2")])
    order = draw.sample(range(len(ours)), len(ours))
    theirs = [otherwise(ours[number], draw) for number in order]
    assert places(theirs, ours) == order
    assert matched(theirs, ours, "theirs", "ours") == order


@pytest.mark.parametrize("seed", range(60))
def test_classes_that_are_not_the_same_are_refused(seed):
    draw = random.Random(seed)
    ours = draw.choice([CIFAR10, CIFAR100])
    theirs = [otherwise(name, draw) for name in ours]
    place = draw.randrange(len(theirs))
    match draw.choice(["lacks", "more", "another", "twice"]):
        case "lacks":
            del theirs[place]
        case "more":
            theirs.insert(place, "unicorn")
        case "another":
            theirs[place] = "unicorn"
        case "twice":
            theirs[place] = theirs[place - 1]
    assert places(theirs, ours) is None
    with pytest.raises(InputError) as caught:
        matched(theirs, ours, "theirs", "ours")
    one_line(caught.value)
    assert "theirs" in str(caught.value)


def test_classes_that_differ_in_their_form_alone_cannot_be_matched():
    with pytest.raises(InputError, match="are called alike, so they cannot be matched by name"):
        matched(["Cat", "dog"], ["cat", "Cat", "dog"], "theirs", "ours")


def test_no_two_classes_of_the_published_sets_are_called_alike():
    for classes in (CIFAR10, CIFAR100, cifar100.layout("coarse").classes):
        assert len({usual(name) for name in classes}) == len(classes)
