"""Other networks that the same tensors would be: settings changed, a preset, or other constants for the pixels."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from torch import Tensor, nn

from residuum.config import RunConfig
from residuum.data.normalize import Normalization
from residuum.models.summary import summarize
from residuum.models.untold import Untold, with_tensors
from residuum.networks.presets import OTHER_PIXELS, PRESETS, Pixels, pixels_of, settings_of
from residuum.registry import Choice

MULTIPLY_ADDS, MOST = 1e12, 500
"""What a search among variants may cost, some thirty seconds on a core, and how many are tried at most."""
BUILDING = 2e7
"""What making a network costs for each of its tensors, in multiply-adds."""


@dataclass(frozen=True)
class Variant:
    """A network in evaluation mode with the same tensors, its normalisation, and what makes it, in words of options."""

    words: str
    network: nn.Module
    normalization: Normalization


@dataclass(frozen=True)
class Change:
    """What makes another network of the same tensors, in words of options.

    Settings by their dotted paths, another normalisation if it is not None, and whether the channels of the images are
    `turned` round. A `preset` stands below other changes.
    """

    words: str
    settings: Mapping[str, Any]
    normalization: Normalization | None = None
    turned: bool = False
    preset: bool = False

    def along(self, other: "Change") -> "Change | None":
        """Both changes at once; None where they are about the same thing. A preset comes first."""
        if other.preset and not self.preset:
            return other.along(self)
        same = (self.turned and other.turned) or (self.normalization is not None and other.normalization is not None)
        if (same and not self.preset) or (self.preset and other.preset):
            return None
        if not self.preset and any(_within(one, path) for one in self.settings for path in other.settings):
            return None
        normalization = self.normalization if other.normalization is None else other.normalization
        turned = self.turned or other.turned
        return Change(f"{self.words} {other.words}", {**self.settings, **other.settings}, normalization, turned)


def _within(one: str, other: str) -> bool:
    """Whether one of two paths is the other, or leads to it."""
    return f"{one}.".startswith(f"{other}.") or f"{other}.".startswith(f"{one}.")


def _each_kind_first(changes: Sequence[Change]) -> list[Change]:
    """Of each setting the first value, then of each the second: many activations are alike, and all are near."""
    seen = Counter[tuple[bool, ...] | str]()
    turns = []
    for change in changes:
        kind = (change.preset, change.turned) if len(change.settings) != 1 else next(iter(change.settings))
        turns.append(seen[kind])
        seen[kind] += 1
    return [change for _, change in sorted(zip(turns, changes, strict=True), key=lambda one: one[0])]


@dataclass(frozen=True)
class Same:
    """Tensors and the network that they were put into: what its variants have in common."""

    model: Choice
    state: Mapping[str, Tensor]
    normalization: Normalization
    shape: tuple[int, int, int]
    classes: int

    def changed(self, change: Change) -> Choice:
        """The model choice that a change makes, unresolved as this one is or not."""
        return RunConfig(model=self.model).changed(change.settings).model

    def variant(self, change: Change) -> Variant | None:
        """The network that a change makes; None where the tensors are not of its shapes."""
        tensors = turned_round(self.state) if change.turned else self.state
        network = with_tensors(self.changed(change), self.shape[0], self.classes, tensors)
        used = self.normalization if change.normalization is None else change.normalization
        if network is None:
            return None
        return Variant(change.words, network, _reversed(used) if change.turned else used)


def changes(same: Same, found: Untold, dataset: str, channels: str, *, pixels: bool = True) -> list[Change]:
    """Every single change: presets first, then one setting, other constants, and the other order of channels.

    `pixels`: the normalisation matters, since images are given as pixels.
    """
    side = next(tensor.shape[-1] for tensor in same.state.values() if tensor.ndim == 4)

    def given(constants: Pixels) -> Normalization:  # they are named in the order of the channels
        return _reversed(_affine(constants)) if channels == "bgr" else _affine(constants)

    made = []
    for name, preset in PRESETS.items():
        constants = pixels_of(preset, dataset) if pixels else None
        own = given(constants) if constants and len(constants[0]) == same.shape[0] else None
        change = Change(f"--preset {name}", settings_of(preset, same.model, side), own, preset=True)
        if same.changed(change) != same.model or own not in (None, same.normalization):
            made.append(change)
    made += [Change(_words(f"model.{path}", value), {f"model.{path}": value})
             for path, values in found.items() for value in values]  # fmt: skip
    if pixels:
        for mean, std in _constants(dataset, same.shape[0]):
            if given((mean, std)) != same.normalization:
                made.append(Change(f"--normalize {listed(mean)} {listed(std)}", {}, given((mean, std))))
        if same.normalization.kind != "per_image":
            made.append(Change("--set data.normalize=per_image", {}, Normalization("per_image")))
    if same.shape[0] == 3:
        made.append(Change(f"--channels {'rgb' if channels == 'bgr' else 'bgr'}", {}, turned=True))
    return made


def _words(path: str, value: Any) -> str:
    """A setting as options; a choice with settings of its own as several."""
    if isinstance(value, Mapping):
        return " ".join(_words(f"{path}.{name}" if name != "name" else path, one) for name, one in value.items())
    text = str(value).lower() if isinstance(value, bool) else f"{value:g}" if isinstance(value, float) else str(value)
    return f"--set {path}={text}"


def nearest(
    same: Same, singles: list[Change], images: int, value: Callable[[Variant], float], enough: float
) -> tuple[float, str]:
    """The smallest value that a variant has, and what makes it; infinite where none can take the images.

    Single changes are tried first, then two at once, those first that were near alone: where one of two is right, the
    logits come nearer. The search ends at a value of at most `enough`, and where making each and
    computing `images` images by it would take too long.
    """
    alike = with_tensors(same.model, same.shape[0], same.classes, same.state)
    cost = BUILDING * len(same.state) + (images * summarize(alike, same.shape).macs if alike else 0)
    left = min(MOST, int(MULTIPLY_ADDS / cost))
    best = (float("inf"), "")
    alone: list[tuple[float, int]] = []

    def tried(change: Change) -> float:
        nonlocal left, best
        if left <= 0 or best[0] <= enough:
            return float("inf")
        left -= 1
        variant = same.variant(change)
        try:
            found = value(variant) if variant else float("inf")
        except RuntimeError:  # images too small for it
            found = float("inf")
        best = min(best, (found, change.words), key=lambda one: one[0])
        return found

    for number, change in enumerate(singles):
        alone.append((tried(change), number))
    # Of what is equally near, a setting says more precisely than a preset what it is.
    near = [(distance, singles[number].preset, number) for distance, number in alone if distance < float("inf")]
    order = _each_kind_first([singles[number] for _, _, number in sorted(near)])
    for first, second in sorted(combinations(range(len(order)), 2), key=sum):
        both = order[first].along(order[second])
        if both:
            tried(both)
    return best


def _constants(dataset: str, channels: int) -> list[Pixels]:
    """The different constants of pixels that public code has."""
    known = [pixels for preset in PRESETS.values() if (pixels := pixels_of(preset, dataset))]
    known += [pixels for preset in PRESETS.values() for pixels in preset.pixels.values()]
    known += OTHER_PIXELS.values()
    return [pixels for pixels in dict.fromkeys(known) if len(pixels[0]) == channels]


def listed(values: tuple[float, ...]) -> str:
    """Constants as an option takes them."""
    return ",".join(f"{value:g}" for value in values)


def turned_round(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors for images with their channels in the reverse order: the first convolution is turned round."""
    name = next(name for name, tensor in state.items() if tensor.ndim == 4)
    return {**state, name: state[name].flip(1)}


def _reversed(normalization: Normalization) -> Normalization:
    return Normalization(normalization.kind, normalization.mean[::-1], normalization.std[::-1])


def _affine(pixels: Pixels) -> Normalization:
    return Normalization("affine", *pixels)
