"""Other networks that the same tensors would be: one setting changed, a preset, or other constants for the pixels."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from residuum.config import RunConfig
from residuum.data.normalize import Normalization
from residuum.models.summary import summarize
from residuum.models.untold import Untold, with_tensors
from residuum.networks.presets import PRESETS, Pixels, pixels_of, settings_of
from residuum.registry import Choice

MULTIPLY_ADDS, MOST = 2e11, 150
"""What a search among variants may cost, some ten seconds on a core, and how many are tried at most."""


@dataclass(frozen=True)
class Variant:
    """A network in evaluation mode with the same tensors, its normalisation, and what makes it, in words of options."""

    words: str
    network: nn.Module
    normalization: Normalization


def variants(
    model: Choice, state: Mapping[str, Tensor], found: Untold, normalization: Normalization, *,
    shape: tuple[int, int, int], classes: int, dataset: str, images: int,
    channels: str,
) -> Iterator[Variant]:  # fmt: skip
    """The variants of a network, presets first, then one setting, other constants, and two of these at once.

    They end where computing `images` images by each would take too long.
    """
    side = next(tensor.shape[-1] for tensor in state.values() if tensor.ndim == 4)
    single = [(f"--set model.{path}={str(value).lower()}", {f"model.{path}": value})
              for path, values in found.items() for value in values]  # fmt: skip
    constants = _constants(normalization, dataset)
    changes: list[tuple[str, dict[str, Any], Normalization]] = []
    for name, preset in PRESETS.items():
        pixels = pixels_of(preset, dataset)
        own = _affine(pixels) if pixels and len(pixels[0]) == shape[0] else normalization
        changes.append((f"--preset {name}", settings_of(preset, model, side), own))
    changes += [(words, settings, normalization) for words, settings in single]
    changes += [(words, {}, other) for words, other in constants]
    other_order = f"--channels {'rgb' if channels == 'bgr' else 'bgr'}"
    changes += [(other_order, {}, _reversed(normalization))] if shape[0] == 3 else []
    changes += [(f"{words} {more}", settings, other) for words, settings in single for more, other in constants]
    changes += [(f"{words} {more}", {**settings, **further}, normalization)
                for at, (words, settings) in enumerate(single) for more, further in single[at + 1 :]
                if not {*settings} & {*further}]  # fmt: skip
    made = with_tensors(model, shape[0], classes, state)
    cost = images * summarize(made, shape).macs if made else 0
    for words, settings, other in changes[: min(MOST, int(MULTIPLY_ADDS / max(cost, 1)))]:
        tensors = turned_round(state) if words == other_order else state
        network = with_tensors(_changed(model, settings), shape[0], classes, tensors)
        if network is not None:
            yield Variant(words, network, other)


def first(tried: Iterator[Variant], suits: Callable[[Variant], bool]) -> Variant | None:
    """The first variant that suits, if any does; one that cannot take the images does not."""
    for variant in tried:
        try:
            if suits(variant):
                return variant
        except RuntimeError:
            continue
    return None


def _constants(normalization: Normalization, dataset: str) -> list[tuple[str, Normalization]]:
    """Normalisations that public code has, other than this one."""
    known = [pixels for preset in PRESETS.values() if (pixels := pixels_of(preset, dataset))]
    channels = len(normalization.mean) or 3
    known += [((0.5,) * channels, (0.5,) * channels), ((0.0,) * channels, (1.0,) * channels)]
    found = {}
    for pixels in known:
        other = _affine(pixels)
        if other != normalization and len(pixels[0]) == channels:
            mean, std = (",".join(f"{value:g}" for value in values) for values in pixels)
            found[f"--normalize {mean} {std}"] = other
    return list(found.items())


def turned_round(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors for images with their channels in the reverse order: the first convolution is turned round."""
    name = next(name for name, tensor in state.items() if tensor.ndim == 4)
    return {**state, name: state[name].flip(1)}


def _reversed(normalization: Normalization) -> Normalization:
    return Normalization(normalization.kind, normalization.mean[::-1], normalization.std[::-1])


def _affine(pixels: Pixels) -> Normalization:
    return Normalization("affine", *pixels)


def _changed(model: Choice, settings: Mapping[str, Any]) -> Choice:
    """A model choice with settings changed by their dotted paths."""
    return RunConfig(model=model).changed(settings).model
