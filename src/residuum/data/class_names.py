"""Names of classes as people write them: which of two data sets' classes are the same."""

from collections.abc import Mapping, Sequence
from unicodedata import normalize

from residuum.errors import InputError, quoted

ALSO: Mapping[str, str] = {
    "plane": "airplane", "aeroplane": "airplane", "aircraft": "airplane",
    "car": "automobile", "auto": "automobile",
}  # fmt: skip
"""What some call classes of CIFAR-10, by the names that it gives them."""


def usual(name: str) -> str:
    """A name in the form in which equal classes are equal: composed, without case, words parted by spaces."""
    words = normalize("NFC", normalize("NFC", name).casefold()).replace("_", " ").replace("-", " ").split()
    return ALSO.get(" ".join(words), " ".join(words))


def places(theirs: Sequence[str], ours: Sequence[str]) -> list[int] | None:
    """For each of their classes its number among ours; None where they are not the same classes."""
    known = {usual(name): number for number, name in enumerate(ours)}
    found = [known.get(usual(name), -1) for name in theirs]
    return found if len(known) == len(ours) and sorted(found) == list(range(len(ours))) else None


def matched(theirs: Sequence[str], ours: Sequence[str], whose: str, of: str) -> list[int]:
    """For each of their classes its number among ours.

    Raises:
        InputError: they are not the same classes; `whose` and `of` are what theirs and ours are called.
    """
    found = places(theirs, ours)
    if found is not None:
        return found
    known, said = {usual(name) for name in ours}, {usual(name) for name in theirs}
    other = next((name for name in theirs if usual(name) not in known), None)
    lacking = next((name for name in ours if usual(name) not in said), None)
    if other is None and lacking is None:
        raise InputError(f"two classes of {whose} or of {of} are called alike, so they cannot be matched by name")
    parts = [
        f"has the class {quoted(other)}" if other is not None else "",
        f"lacks {quoted(lacking)}" if lacking is not None else "",
    ]
    hint = (
        "; its classes are numbers: bring a file classes.txt beside it"
        if all(name.isdigit() for name in theirs)
        else ""
    )
    raise InputError(f"{whose} {' and '.join(part for part in parts if part)}, unlike {of}{hint}")
