"""What a tree of images means: which of its folders are splits, which are classes, and where labels come from.

The rules, first that fits:

    train/CLASS/*, test/CLASS/*, also val/CLASS/*     splits, each with a folder for each class
    train/*, test/* with a table or labels in names    splits without folders of classes
    CLASS/*                                            one tree, which is split
    * with a table or labels in names                  one tree, which is split, or the table says how
    images anywhere, train.csv and test.csv            splits by the tables that name the images of each

What is left over is never data: hidden files and folders, what systems and archives leave, runs, reports, figures.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from unicodedata import normalize

from residuum.data.class_names import usual
from residuum.data.dataset import Reading
from residuum.data.formats.label_tables import Labels, images_in, labels_of, read_table
from residuum.data.formats.trees import MAX_TABLE_BYTES, Folder, Tree, is_rubbish, suffix
from residuum.data.formats.trees import tree as tree_of
from residuum.data.images import SUFFIXES, UNREAD_SUFFIXES
from residuum.errors import InputError, quoted, tally

Labelled = list[tuple[str, int]]
"""Paths of images and their labels."""

SPLITS = {
    "train": "train", "training": "train",
    "val": "validation", "valid": "validation", "validation": "validation", "dev": "validation",
    "test": "test", "testing": "test",
}  # fmt: skip
"""What folders of splits are called, in lower case."""

WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+")
"""A word of a name such as trainLabels or X_train."""

DOUBTFUL = {"valid", "dev"}
"""Words that say a split beside a folder of training images, and else may be classes, as valid and invalid."""

BESIDE = {"images", "image", "imgs", "img", "data", "set", "dataset", "files", "pictures", "jpg", "jpeg", "png"}
"""Words that may stand beside that of a split in the name of its folder, as in train_images."""

NO_CLASSES = {
    "img", "image", "images", "dsc", "dscn", "dscf", "pic", "picture", "photo", "frame", "scan", "screenshot", "file",
    "untitled", "sample", "crop", "patch", "tile", "copy", "pxl", "mvi", "vid", "mask", "input", "output", "label", "x",
    "y", "id", "no", "nr", *SPLITS,
}  # fmt: skip
"""What cameras and programs call files: no classes."""

_NAME = r"[^\W\d_][^\d]*"
NAMED = tuple(map(re.compile, (rf"({_NAME}?)[ ._-]+\d+", rf"({_NAME}?) ?\(\d+\)", rf"\d+[ ._-]+({_NAME})")))
"""Forms in which the name of a file says a class beside a number: cat.17, cat (17), 17_cat."""


@dataclass(frozen=True)
class Layout:
    """What a tree of images holds: classes, labelled images of each split, tables that gave labels, and its reading.

    `parts` has the keys train, validation and test; without `test`, that is to be drawn from `train`.
    """

    classes: tuple[str, ...]
    parts: Mapping[str, Labelled]
    tables: tuple[str, ...]
    reading: Reading

    @property
    def used(self) -> list[str]:
        """The paths of everything that is read."""
        return [*(path for part in self.parts.values() for path, _ in part), *self.tables]


@dataclass(frozen=True)
class _Tables:
    """The rows of tables of text by their paths, and why others could not be read."""

    rows: Mapping[str, list[list[str]]]
    unread: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Part:
    """The images of a split by the name of their class, and where these came from."""

    of: Mapping[str, Sequence[str]]
    table: str = ""
    note: str = ""


def understand(tree: Tree, *, alone: bool = False) -> Layout:
    """The layout of a tree of images. With `alone` only test images are wanted, which may lie there without others.

    Raises:
        InputError: it could be read in several ways or in none, a class has no images, or a label is missing.
    """
    top = _unwrapped(tree.top)
    splits = _split_folders(tree, top)
    said = _splits_in(top)
    classes = [folder for folder in top.open_folders if folder.below and not said[folder.path]]
    holders = [
        one for one in top.walk() if any(f"{split.path}/".startswith(f"{one.path}/") for split in splits.values())
    ]
    tables = _tables(tree, [top, *holders, *(classes if len(classes) == 1 else ())])
    if splits and _are_classes(tree, top, splits, classes, tables, alone):
        splits = {}
    return _of_splits(tree, top, splits, tables, alone) if splits else _of_one(tree, top, tables)


def _split_folders(tree: Tree, top: Folder) -> dict[str, Folder]:
    """The folder of each split; one that is called just so goes before one that has its name among others."""
    splits, said = {}, _splits_in(top)
    for which in dict.fromkeys(SPLITS.values()):
        named = [folder for folder in top.open_folders if said[folder.path] == which]
        exactly = [folder for folder in named if folder.name.lower() in SPLITS]
        folders = exactly or [folder for folder in named if folder.below]
        if len(folders) > 1:
            names = " and ".join(folder.name for folder in folders)
            raise InputError(f"{_at(tree, top)} has several folders of one split: {names}; keep one")
        if folders:
            splits[which] = _inner(folders[0], which)
    return splits


def _splits_in(top: Folder) -> dict[str, str]:
    """The splits that the names of the folders in one say, by their paths, as test, test1 or test_images do, or none.

    Other words may stand beside it where they do so for several splits, as in seg_train and seg_test.
    """
    names = {folder.path: folder.name for folder in top.open_folders}
    words = {path: frozenset(words_of(name)) for path, name in names.items()}
    said = {path: split_in(name) for path, name in names.items()}
    alike = defaultdict[frozenset[str], set[str]](set)
    for path, which in said.items():
        alike[words[path] - {*SPLITS}].add(which)
    is_train_there = "train" in said.values()

    def is_one(path: str) -> bool:
        beside = words[path] - {*SPLITS}
        return (is_train_there or not words[path] & DOUBTFUL) and (beside <= BESIDE or len(alike[beside] - {""}) > 1)

    return {path: which if which and is_one(path) else "" for path, which in said.items()}


def _inner(folder: Folder, which: str) -> Folder:
    """The folder that holds what a split's folder is there for: archives of archives leave train/train/*."""
    while not folder.images and len(inner := [one for one in folder.open_folders if one.below]) == 1:
        name = inner[0].name
        if name != folder.name and name.lower() not in BESIDE and split_in(name) != which:
            break
        folder = inner[0]
    return folder


def split_in(name: str) -> str:
    """The split that a word of a name says, as in trainLabels; empty if none does, or several do."""
    found = {SPLITS[word] for word in words_of(name) if word in SPLITS}
    return found.pop() if len(found) == 1 else ""


def _unwrapped(top: Folder) -> Folder:
    """The folder that holds the images or folders of a tree: a tree may lie in folders that hold nothing else."""
    while not top.images and not any(map(may_be_table, top.files)):
        inner = [folder for folder in top.open_folders if folder.below]
        if len(inner) != 1 or _splits_in(top)[inner[0].path] or not any(one.below for one in inner[0].open_folders):
            break
        top = inner[0]
    return top


def _are_classes(
    tree: Tree, top: Folder, splits: Mapping[str, Folder], classes: Sequence[Folder],
    tables: _Tables, alone: bool,
) -> bool:  # fmt: skip
    """Whether folders that are called as splits are classes beside others, as `train` beside `ship`."""
    train = splits.get("train")
    if train is not None and any(folder.below for folder in train.open_folders):
        return False
    beside = [folder for folder in classes if folder.images]
    if set(splits) == {"train"} and beside and train is not None and train.images:
        return _labelled(tree, top, "train", train, tables, ()) is None
    if train is None and alone and "test" in splits and not beside:
        return False
    others = [folder for folder in splits.values() if folder is not train and folder.below]
    if beside and (others or train is not None):
        one = others[0] if others else splits["train"]
        raise InputError(
            f"{_at(tree, one)} stands beside folders of classes ({beside[0].name}): put them into a folder train, "
            f"or move {one.name} away"
        )
    if train is None and others:
        raise InputError(f"{_at(tree, top)} has a folder {others[0].name}, but no folder train")
    return train is None


def _of_splits(tree: Tree, top: Folder, splits: Mapping[str, Folder], tables: _Tables, alone: bool) -> Layout:
    """The layout of a tree whose folders are splits."""
    parts: dict[str, _Part] = {}
    notes: list[str] = []
    for which, folder in splits.items():
        others = [one for other, one in splits.items() if other != which]
        known = parts["train"].of if "train" in parts else {}
        part = _part(tree, top, which, folder, tables, others, known)
        if part is not None:
            parts[which] = part
        elif which == "train" and not alone:
            raise _unlabelled(tree, folder, tables)
        elif folder.below:
            notes.append(f"{folder.path} holds {tally(folder.below, 'image')} without labels, not used")
    in_folders = any(one.below for one in splits["train"].open_folders) if "train" in splits else False
    if "test" not in splits and in_folders and not alone:
        alone_too = f"; {_at(tree, splits['train'])} alone is read as one tree, of which a part is the test split"
        instead = f"; is {splits['validation'].name} it? Then call it test" if "validation" in splits else alone_too
        raise InputError(f"{_at(tree, top)} has a folder train, but no folder test{instead}")
    if alone and "test" not in parts:
        raise InputError(f"{_at(tree, top)} has no test images with labels")
    if alone:
        parts = {"test": parts["test"]}
    classes = _classes(tree, splits, parts)
    if "validation" in parts:
        images = sum(map(len, parts["validation"].of.values()))
        notes.append(brought(splits["validation"].path, images))
    if "test" not in parts:
        notes.append("the test split is drawn from train, which has the only labels (data.dataset.test)")
    return _layout(tree, classes, {which: part.of for which, part in parts.items()}, list(parts.values()), notes)


def brought(name: str, images: int) -> str:
    """The line that says that a data set brings its validation split."""
    return f"{name} is the validation split ({tally(images, 'image')}): none is drawn from the training images"


def _classes(tree: Tree, splits: Mapping[str, Folder], parts: Mapping[str, _Part]) -> tuple[str, ...]:
    """The classes of the training images, or else of the test images, which those of the other splits have to be."""
    first = "train" if "train" in parts else "test"
    classes = _sorted(parts[first])
    where = splits[first].path
    for which, part in parts.items():
        for name in part.of:
            if name not in classes:
                place = f"{_at(tree, splits[which])}/{name}"
                raise InputError(
                    f"{place} is a class that {_at(tree, splits[first])} does not have{_alike(name, classes)}"
                )
        if not part.table and not part.note:  # a folder for each class
            for name in classes:
                if name not in part.of:
                    raise InputError(f"{_at(tree, splits[which])}/{name} holds no images, but {where}/{name} does")
    _check_count(classes, _at(tree, splits[first]))
    return classes


def _alike(name: str, classes: Sequence[str]) -> str:
    """A hint at the class that is written nearly so: in other case, or with other signs between words."""
    other = next((one for one in classes if usual(one) == usual(name)), None)
    return f"; it has {quoted(other)}: call both alike" if other is not None else ""


def _check_count(classes: Sequence[str], place: str) -> None:
    if len(classes) < 2:
        raise InputError(f"{place} has only the class {quoted(classes[0])}; at least 2 are needed")


def _of_one(tree: Tree, top: Folder, tables: _Tables) -> Layout:
    """The layout of one tree without folders of splits."""
    by_tables = _of_tables(tree, top, tables)
    if by_tables is not None:
        return by_tables
    inner = [folder for folder in top.open_folders if folder.below]
    flat = top if top.images and not inner else inner[0] if len(inner) == 1 and inner[0].images else None
    if flat is not None:
        part = _labelled(tree, top, "", flat, tables, ())
        if part is not None:
            return _of_flat(tree, flat, part)
        if flat is top or flat.name.lower() in BESIDE:
            raise _unlabelled(tree, flat, tables)
    while not top.images and len(inner) == 1 and not inner[0].images:  # images/CLASS/* beside lists of them
        top = inner[0]
        inner = [folder for folder in top.open_folders if folder.below]
    of = _class_folders(tree, top)
    if not of:
        raise InputError(f"{_at(tree, top)} holds no images")
    classes = _sorted(_Part(of))
    _check_count(classes, _at(tree, top))
    return _layout(tree, classes, {"train": of}, [], [])


def _of_tables(tree: Tree, top: Folder, tables: _Tables) -> Layout | None:
    """The layout of images wherever they lie, of which one table names those to train on and others the rest.

    None if there are no such tables.

    Raises:
        InputError: an image has a row in two of them, or in none; or a class has no training images.
    """
    by_split = {split_in(path.rpartition("/")[2]): path for path in tables.rows}
    if "train" not in by_split or len(by_split.keys() - {""}) < 2:
        return None
    images = [image for folder in top.walk() for image in folder.images]
    parts: dict[str, _Part] = {}
    placed: dict[str, str] = {}
    notes = []
    for which in dict.fromkeys(SPLITS.values()):
        path = by_split.get(which)
        if path is None:
            continue
        known = parts["train"].of if "train" in parts else ()
        rows = tables.rows[path]
        labels = labels_of(rows, path, images, top.path, known=known, some=True)
        if labels is None and which == "train":
            return None
        named = labels.of if labels else images_in(rows, images, top.path)
        for image in named:
            if image in placed:
                raise InputError(f"{tree.root}/{image} has a row in {placed[image]} and in {path}; keep one")
            placed[image] = path
        if labels:
            rest = f"; {labels.others:,} of its rows name no image that is here" if labels.others else ""
            note = f"the {which} split is the {tally(len(labels.of), 'image')} of {path}, with their labels{rest}"
            parts[which] = _Part(_by_class(labels.of), path, note)
        elif named:
            notes.append(f"{path} names {tally(len(named), 'image')} without labels, not used")
    lacking = next((image for image in images if image not in placed), None)
    if lacking is not None:
        raise InputError(f"{tree.root}/{lacking} has no row in {' or '.join(sorted(by_split.values(), reverse=True))}")
    classes = _sorted(parts["train"])
    for part in parts.values():
        for name in part.of:
            if name not in classes:
                raise InputError(f"{part.table} has the class {quoted(name)}, of which "
                                 f"{parts['train'].table} names no image{_alike(name, classes)}")  # fmt: skip
    _check_count(classes, _at(tree, top))
    return _layout(tree, classes, {which: part.of for which, part in parts.items()}, list(parts.values()), notes)


def _of_flat(tree: Tree, flat: Folder, part: tuple[_Part, Labels | None]) -> Layout:
    """The layout of images without folders, of which a table may also say the splits."""
    labelled, labels = part
    classes = _sorted(labelled)
    _check_count(classes, _at(tree, flat))
    said = {image: SPLITS.get(split, "") for image, split in labels.splits.items()} if labels else {}
    if not said or not all(said.values()) or "train" not in said.values():
        return _layout(tree, classes, {"train": labelled.of}, [labelled], [])
    parts = {
        which: {name: [image for image in images if said[image] == which] for name, images in labelled.of.items()}
        for which in dict.fromkeys(said.values())
    }
    notes = [f"the splits are those that {labelled.table} says"]
    return _layout(tree, classes, parts, [labelled], notes)


def _part(
    tree: Tree, top: Folder, which: str, folder: Folder, tables: _Tables,
    others: Sequence[Folder], known: Collection[str],
) -> _Part | None:  # fmt: skip
    """The labelled images of a split; None where there are no labels. `known` are the classes that train."""
    if any(one.below for one in folder.open_folders) or (not folder.images and folder.open_folders):
        of = _class_folders(tree, folder)
        if of:
            return _Part(of)
    if folder.images:
        found = _labelled(tree, top, which, folder, tables, others, known)
        return found[0] if found else None
    if which == "validation":
        return None
    raise InputError(f"{_at(tree, folder)} holds no images")


RESULTS = {"figure", "figures", "plot", "plots", "output", "outputs", "prediction", "predictions", "result", "results",
           "log", "logs", "report", "reports", "curves", "samples", "screenshots", "runs"}  # fmt: skip
"""Folders of what somebody made of the images; beside two classes none of them is a class."""


def _class_folders(tree: Tree, folder: Folder) -> dict[str, list[str]]:
    """The images in the folders of a folder, by the names of these in Unicode's composed form.

    Raises:
        InputError: a folder that could be a class has no images of its own.
    """
    of: dict[str, list[str]] = {}
    for one in folder.open_folders:
        images: Sequence[str] = one.images
        inner = [below for below in one.open_folders if below.below]
        if not images and len(inner) == 1 and inner[0].name.lower() in BESIDE:
            images = inner[0].images  # CLASS/images/*
        unread = any(suffix(name) in UNREAD_SUFFIXES and suffix(name) != ".svg" for name in one.files)
        empty = not one.files and not one.folders
        if not images and (inner or unread or empty):
            raise InputError(f"{_at(tree, one)} holds no images{', only folders of them' if inner else ''}")
        if images:
            of.setdefault(normalize("NFC", one.name), []).extend(images)
    classes = {name: images for name, images in of.items() if name.lower() not in RESULTS}
    return classes if len(classes) > 1 else of


def _labelled(
    tree: Tree, top: Folder, which: str, folder: Folder, tables: _Tables,
    others: Sequence[Folder], known: Collection[str] = (),
) -> tuple[_Part, Labels | None] | None:  # fmt: skip
    """The images that lie in a folder by the labels that a table or their names give; None if nothing does.

    `others` are the folders of the other splits, whose files may have the same names.

    Raises:
        InputError: several tables do, or one does for some of the images.
    """
    names = _names_in(folder)
    shared = [other for other in others if names & _names_in(other)]
    found = []
    for path, rows in tables.rows.items():
        place, said = path.rpartition("/")[0], split_in(path.rpartition("/")[2])
        near = place != top.path and f"{folder.path}/".startswith(f"{place}/")
        if not near and (place not in (folder.path, top.path) or (which and said not in ("", which))):
            continue
        # Bare names that two splits have may be those of the other.
        if said or near or not shared or _has_paths(rows, folder):
            labels = labels_of(rows, path, folder.images, top.path, known=known)
        else:
            labels = _of_these_alone(rows, path, folder, top, shared)
        if labels is not None:
            found.append(labels)
    if len(found) > 1 and any(one.of != found[0].of for one in found):
        raise InputError(f"{found[0].table} and {found[1].table} give {_at(tree, folder)} different labels; keep one")
    place = folder.path or "the images"
    if found:
        labels = found[0]
        rest = f"; {labels.others:,} of its rows name no image that is here" if labels.others else ""
        note = f"the labels of {place} are those of {labels.table}{rest}"
        return _Part(_by_class(labels.of), labels.table, note), labels
    named = _names(folder.images)
    if named is None:
        if which != "train" and (odd := _odd_one(folder.images)):
            raise InputError(f"{tree.root / odd} says no class in its name, unlike most files beside it")
        return None
    first = folder.images[0]
    note = (
        f"the labels of {place} stand in the names of the files: {first.rpartition('/')[2]} is {quoted(named[first])}"
    )
    return _Part(_by_class(named), "", note), None


def _names_in(folder: Folder) -> set[str]:
    return {image.rpartition("/")[2] for image in folder.images}


def _of_these_alone(
    rows: Sequence[Sequence[str]], table: str, folder: Folder, top: Folder, others: Sequence[Folder]
) -> Labels | None:
    """The labels of a table with a row for each image of a folder and no other row, if that is true of no other one."""
    if any(_names_in(other) == _names_in(folder) for other in others):
        return None
    try:
        labels = labels_of(rows, table, folder.images, top.path)
    except InputError:
        return None
    return labels if labels and not labels.others else None


def _has_paths(rows: Sequence[Sequence[str]], folder: Folder) -> bool:
    """Whether a table names the images of a folder with the folder."""
    return any(cell.replace("\\", "/").removeprefix("./").startswith(f"{folder.name}/") for row in rows for cell in row)


def _names(images: Sequence[str]) -> dict[str, str] | None:
    """The classes that the names of all files say beside a number; None where that is not beyond doubt."""
    stems = {image: normalize("NFC", image.rpartition("/")[2].rpartition(".")[0]) for image in images}
    for form in NAMED:
        matches = {image: form.fullmatch(stem) for image, stem in stems.items()}
        if not all(matches.values()):
            continue
        names = {image: match[1].strip(" ._-") for image, match in matches.items() if match}
        counts = Counter(names.values())
        if len(counts) > 1 and min(counts.values()) > 1 and not any(name.lower() in NO_CLASSES for name in counts):
            return None if _are_copies(stems, names) else names
    return None


def _are_copies(stems: Mapping[str, str], names: Mapping[str, str]) -> bool:
    """Whether what stands behind a number tells copies of an image and no class: every number has each, as `0_flip`."""
    numbers: dict[str, set[str]] = {}
    for image, stem in stems.items():
        if not stem[:1].isdigit():
            return False
        numbers.setdefault(names[image], set()).add(stem.replace(names[image], ""))
    first, *others = numbers.values()
    return all(one == first for one in others)


def _odd_one(images: Sequence[str]) -> str:
    """The first file whose name says no class where most others say one beside a number; empty if there is none."""
    stems = {image: normalize("NFC", image.rpartition("/")[2].rpartition(".")[0]) for image in images}
    for form in NAMED:
        odd = {image: None for image, stem in stems.items() if not form.fullmatch(stem)}
        if odd and 2 * len(odd) < len(stems) and _names([image for image in images if image not in odd]):
            return next(iter(odd))
    return ""


def _by_class(labels: Mapping[str, str]) -> dict[str, list[str]]:
    of: dict[str, list[str]] = {}
    for image in sorted(labels):
        of.setdefault(labels[image], []).append(image)
    return of


def _sorted(part: _Part) -> tuple[str, ...]:
    """The names of its classes in their order: numbers in a table by their size, all others as text."""
    numbers = part.table and all(re.fullmatch(r"0|[1-9]\d{0,8}", name) for name in part.of)
    return tuple(sorted(part.of, key=int)) if numbers else tuple(sorted(part.of))


def _tables(tree: Tree, folders: Sequence[Folder]) -> _Tables:
    """The tables of text in some folders; sheets to be filled in for a contest are none."""
    if not any(folder.below for folder in folders):
        return _Tables({})
    rows, unread = dict[str, list[list[str]]](), []
    for path in [folder.place(name) for folder in folders for name in folder.files if may_be_table(name)]:
        if suffix(path) in UNREAD_TABLES:
            unread.append(f"{path} is not read; save it as .csv, in UTF-8")
            continue
        try:
            content = next(content for _, content in tree.read([path], MAX_TABLE_BYTES))
            if found := read_table(content, path):
                rows[path] = found
        except InputError as error:  # no table of labels, or one in another encoding: said where labels are missing
            unread.append(error.text)
    return _Tables(rows, tuple(unread))


SHEETS = (".xlsx", ".xls", ".ods", ".numbers")
UNREAD_TABLES = (*SHEETS, ".json", ".jsonl", ".xml", ".pkl", ".mat")
"""Endings of spreadsheets, and of other files that may hold labels, which are not read."""


def may_be_table(name: str) -> bool:
    """Whether a file may be a table of labels, by its name; of files of text only those that say so."""
    words = {*words_of(name.rpartition(".")[0])}
    if is_rubbish(name) or words & {"sample", "submission"}:
        return False
    says_so = bool(words & {"annotations", "annotation", "labels", "label"} or split_in(name))
    return suffix(name) in (".csv", ".tsv", *SHEETS) or (suffix(name) in (".txt", *UNREAD_TABLES) and says_so)


def words_of(name: str) -> list[str]:
    """The words of a name such as trainLabels or train_labels, in lower case."""
    return [word.lower() for word in WORD.findall(name)]


def _layout(
    tree: Tree,
    classes: tuple[str, ...],
    parts: Mapping[str, Mapping[str, Sequence[str]]],
    labelled: Sequence[_Part],
    notes: Sequence[str],
) -> Layout:
    """The layout, with what it leaves unused."""
    numbered = {
        which: [(image, label) for label, name in enumerate(classes) for image in of.get(name, ())]
        for which, of in parts.items()
    }
    tables = tuple(dict.fromkeys(part.table for part in labelled if part.table))
    used = {image for part in numbered.values() for image, _ in part} | {*tables}
    passed_over, not_used = unused(tree, used)
    notes = [*(part.note for part in labelled if part.note), *notes]
    return Layout(classes, numbered, tables, Reading(tuple(notes), passed_over, tuple(not_used)))


def beside(root: Path, used: set[str], notes: Sequence[str] = ()) -> Reading:
    """How files in a folder were read: what lies beside those that are used; nothing does beside a single file."""
    found = tree_of(root) if root.is_dir() else None
    passed_over, names = unused(found, used) if found else ({}, [])
    return Reading(tuple(notes), passed_over, tuple(names))


def unused(tree: Tree, used: set[str]) -> tuple[dict[str, int], list[str]]:
    """What of a tree is not used: files counted by kind, and their names, or those of folders of which nothing is."""
    kinds: Counter[str] = Counter()
    names: list[str] = []

    def count(folder: Folder) -> bool:
        """Count a folder; whether something in it is used."""
        start, any_used, loose = len(names), False, []
        for name in folder.files:
            if folder.place(name) in used:
                any_used = True
            else:
                kinds[_kind(name)] += 1
                loose.append(folder.place(name))
        for _, inner in sorted(folder.folders.items()):
            if inner.closed:
                kinds[inner.closed] += 1
                loose.append(f"{inner.path}/")
            else:
                any_used |= count(inner)
        if any_used or not folder.path:
            names[start:start] = loose
        elif loose or len(names) > start or not folder.files:
            names[start:] = [f"{folder.path}/"]
        return any_used

    count(tree.top)
    return dict(sorted(kinds.items())), names


def _kind(name: str) -> str:
    if is_rubbish(name):
        return "files that are hidden, or left by a system"
    ending = suffix(name)
    if ending in SUFFIXES:
        return "images without a place among the classes"
    if ending in UNREAD_SUFFIXES:
        return f"images in a format that is not read ({ending})"
    return f"files of another kind ({ending or 'no ending'})"


def _at(tree: Tree, folder: Folder) -> str:
    return f"{tree.root}/{folder.path}" if folder.path else str(tree.root)


def _unlabelled(tree: Tree, folder: Folder, tables: _Tables) -> InputError:
    if tables.unread:
        return InputError(f"{_at(tree, folder)} holds images without labels; {tables.unread[0]}")
    if tables.rows:
        text = f"{next(iter(tables.rows))} has no row for each of them, or no column that can be their class"
        return InputError(f"{_at(tree, folder)} holds images without labels; {text}")
    return InputError(
        f"{_at(tree, folder)} holds images without labels: put those of each class into a folder of its name, "
        "or bring a table beside them, as trainLabels.csv with the columns id and label"
    )
