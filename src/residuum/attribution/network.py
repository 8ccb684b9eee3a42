"""What attributions need of a network: its feature maps, and copies of it that have unlearned."""

from collections.abc import Iterator
from copy import deepcopy

from torch import nn

from residuum.models import Network


def feature_maps(network: Network) -> dict[str, nn.Module]:
    """The modules whose outputs are the feature maps of a network: `stem`, then the end of each stage, by its name.

    The stem's is what enters the first stage. The last stage's is what the linear layer pools: in pre-activated
    networks after the last batch norm and activation, which belong to no block. Between the stages of such a network
    it is the sum that the last block ends in, since the next block's shortcut reads that sum itself.
    """
    *others, last = network.stages
    return {"stem": network.maxpool, **{stage: getattr(network, stage) for stage in others}, last: network.last_act}


def randomised(network: Network, seed: int) -> Iterator[tuple[str, Network]]:
    """A copy of a network that loses what it learned from the end to the start: linear layer, stages, stem.

    Gives the name of the part that was initialised anew from the seed, batch norms and their statistics included, and
    the copy, the same object each time. It is the cascading randomisation of Adebayo et al., "Sanity checks for
    saliency maps", NeurIPS 2018, section 3.1.
    """
    copy, fresh = deepcopy(network), deepcopy(network)
    fresh.initialize(seed)
    *others, last = network.stages
    parts = {"linear": ("linear",), last: (last, "bn"), **{stage: (stage,) for stage in reversed(others)}}
    for part, modules in {**parts, "stem": ("conv1", "bn1")}.items():
        for name in modules:
            getattr(copy, name).load_state_dict(getattr(fresh, name).state_dict())
        yield part, copy
