"""STL-10: 13,000 colour images of 96×96 pixels in ten classes (Coates, Lee, Ng 2011), in its binary form."""

from collections.abc import Mapping
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np

from residuum.data.dataset import Dataset, Split
from residuum.data.datasets.source import Entry, Remote, Source, found_by, load_files
from residuum.data.formats import files
from residuum.data.layout import beside
from residuum.errors import InputError

SIDE, PIXELS = 96, 3 * 96 * 96
CLASSES = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
FOLDER = "stl10_binary"
MAX_IMAGES = 20_000
BOUNDS = files.Bounds(64, 4 * 2**30)
"""More than its archive holds: 3.1 GB decompressed, most of it images without labels."""
FILES = {
    f"{which}_{part}.bin": MAX_IMAGES * size for which in ("train", "test") for part, size in (("X", PIXELS), ("y", 1))
}
NAMES = "class_names.txt"
LIMITS = {**FILES, NAMES: 4096}
BRING = f"stl10_binary.tar.gz, or the folder {FOLDER} with {', '.join(FILES)}"


def stl10(root: Path | None) -> Dataset:
    """STL-10 from its archive or its folder: 5,000 and 8,000 RGB images; those without labels are not used.

    Raises:
        InputError: it is not there, not whole, or damaged.
        StorageError: it cannot be read, or the cache cannot be written.
    """
    return load_files("stl10", root, locate, BRING)


def locate(root: Path) -> Source | None:
    """The data set at `root`: its archive, its folder, or a folder that holds either."""
    if root.is_file():
        archive = files.is_archive(root)
        # The first name tells; an archive of another kind may have any number of members.
        names = list(islice(files.member_names(root, files.ANY), 1)) if archive else []
        if not any(name.startswith(f"{FOLDER}/") for name in names):
            return None
        return Source({"archive": root}, partial(_decode_archive, root))
    for folder in (root, root / FOLDER):
        if (folder / "train_X.bin").is_file() or (folder / "test_X.bin").is_file():
            return _loose(folder)
    archive_path = root / f"{FOLDER}.tar.gz"
    return locate(archive_path) if archive_path.is_file() else None


def _loose(folder: Path) -> Source:
    for name in FILES:
        if not (folder / name).is_file():
            raise InputError(f"{folder / name} is missing")
    paths = {name: folder / name for name in LIMITS if (folder / name).is_file()}

    def decode() -> Dataset:
        return _assemble({name: files.read_whole(path, LIMITS[name]) for name, path in paths.items()}, str(folder))

    return Source(paths, decode, beside(folder, {*paths}))


def _decode_archive(path: Path) -> Dataset:
    limits = {f"{FOLDER}/{name}": limit for name, limit in LIMITS.items()}
    found = files.read_members(path, limits, BOUNDS)
    return _assemble({name.removeprefix(f"{FOLDER}/"): content for name, content in found}, str(path))


def _assemble(contents: Mapping[str, bytes], place: str) -> Dataset:
    for name in FILES:
        if name not in contents:
            raise InputError(f"{place} has no {name}")
    said = contents[NAMES].decode("ascii", "replace").split() if NAMES in contents else [*CLASSES]
    if tuple(said) != CLASSES:
        raise InputError(f"{place}: {NAMES} does not name the ten classes of STL-10 in their order")
    return Dataset.of("stl10", CLASSES, _split(contents, "train", place), _split(contents, "test", place))


def _split(contents: Mapping[str, bytes], which: str, place: str) -> Split:
    pixels, labels = (np.frombuffer(contents[f"{which}_{part}.bin"], np.uint8) for part in ("X", "y"))
    if not len(labels) or len(pixels) != len(labels) * PIXELS:
        raise InputError(
            f"{place}: {which}_X.bin has {len(pixels):,} bytes, not {PIXELS:,} for each of {len(labels):,} labels"
        )
    if labels.min() < 1 or labels.max() > len(CLASSES):
        raise InputError(f"{place}: {which}_y.bin has labels other than 1 to {len(CLASSES)}")
    columns_NCWH = pixels.reshape(-1, 3, SIDE, SIDE)  # MATLAB's order: column by column
    return Split(np.ascontiguousarray(columns_NCWH.swapaxes(2, 3)), labels.astype(np.int64) - 1)


ENTRY = Entry(
    "stl10",
    stl10,
    remotes=(
        Remote.at(f"{FOLDER}.tar.gz", 2_640_397_119, "91f7769df0f17e558f3565bffb0c7dfb",
                  "http://ai.stanford.edu/~acoates/stl10", "https://cs.stanford.edu/~acoates/stl10"),
    ),
    published=(5_000, 8_000),
    shape=(3, SIDE, SIDE),
    classes=lambda: CLASSES,
    lies_at=found_by(locate),
)  # fmt: skip
