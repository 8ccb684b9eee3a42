"""Budget search: closed forms against built networks, the search against an exhaustive one, and the command."""

import itertools
import json
import random
import tomllib

import pytest
import torch
import torch.nn.functional as F

from residuum.cli import main
from residuum.cli.models import _amount
from residuum.config import RunConfig, parse_setting
from residuum.errors import InputError
from residuum.models import MODELS, build
from residuum.models.search import FLOAT, MOST_BLOCKS, Limits, Task, _splits, cost, search
from residuum.models.summary import summarize
from residuum.networks.names import REPORT_C_NETWORKS
from residuum.registry import Choice
from residuum.studies.study import Study

SMALL = Task((3, 16, 16), 10, 8)


def network(blocks, channels, task=SMALL):
    model = Choice(name="staged_resnet", blocks=list(blocks), channels=list(channels))
    return build(model, task.shape[0], task.classes, task.shape[1:], seed=0)


def random_networks(count):
    """Blocks, channels and tasks beyond the space of the search: any channels, also falling ones, and odd images."""
    chance = random.Random(7)
    for _ in range(count):
        stages = chance.randint(1, 5)
        shape = (chance.choice((1, 3, 4)), chance.randint(16, 40), chance.randint(16, 40))
        blocks = tuple(chance.randint(1, 4) for _ in range(stages))
        channels = tuple(chance.choice((1, 4, 7, 16, 30)) for _ in range(stages))
        yield blocks, channels, Task(shape, chance.randint(1, 100), chance.randint(1, 6))


def test_the_closed_form_is_what_the_summary_of_the_network_counts():
    for blocks, channels, task in random_networks(60):
        with torch.device("meta"):
            choice = Choice(name="staged_resnet", blocks=list(blocks), channels=list(channels))
            summary = summarize(MODELS.build(choice, task.shape[0], task.classes), task.shape)
        counted = cost(blocks, channels, task)
        assert (counted.parameters, counted.macs) == (summary.parameters, summary.macs)


def kept_for_backward(net, images_NCHW, labels_N):
    """Bytes of the float tensors that autograd keeps, without parameters and the two statistics of a batch norm."""
    parameters = {p.data_ptr() for p in net.parameters()}
    kept = {}

    def pack(tensor):
        if tensor.is_floating_point() and tensor.ndim > 1 and tensor.data_ptr() not in parameters:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss = F.cross_entropy(net(images_NCHW), labels_N)
    assert loss.grad_fn is not None  # the graph, and so every address above, is alive until here
    return sum(kept.values())


def test_the_memory_is_what_autograd_keeps_and_three_numbers_for_each_parameter():
    for blocks, channels, task in random_networks(12):
        if task.batch == 1:
            continue
        net = network(blocks, channels, task)
        images_NCHW = torch.rand(task.batch, *task.shape)
        kept = kept_for_backward(net, images_NCHW, torch.zeros(task.batch, dtype=torch.int64))
        counted = cost(blocks, channels, task)
        assert counted.memory == kept + 12 * counted.parameters
        net.eval()  # how a network is left by its last evaluation
        assert task.batch * FLOAT * summarize(net, task.shape).activations == kept
        assert not net.training
        assert all(parameter.grad is None for parameter in net.parameters())


def exhaustive(limits, task, stages, widths, top, depth=None):
    """Every network of the space that keeps to the limits, built from its description alone; best of each first."""
    first = next(iter(limits.given))
    every = []
    for blocks in itertools.product(range(1, 7), repeat=stages):
        if max(blocks) > 2 * min(blocks) or sum(blocks) > 6:
            continue
        for channels in itertools.product({w * 2**k for w in widths for k in range(stages)}, repeat=stages):
            if channels[0] in widths and all(b in (a, 2 * a) for a, b in itertools.pairwise(channels)):
                counted = cost(blocks, channels, task)
                if all(getattr(counted, part) <= limit for part, limit in limits.given.items()):
                    rank = (getattr(counted, first), -sum(b * b for b in blocks), counted.macs, counted.parameters)
                    every.append((2 * sum(blocks) + 2, rank, blocks, channels))
    every.sort(key=lambda row: row[1], reverse=True)
    group = 3 if depth else 0  # one network for each list of channels, or for each depth
    best = {}
    for row in every:
        if depth in (None, row[0]):
            best.setdefault(row[group], row)
    rows = list(best.values()) if depth else sorted(best.values())
    return [(row[2], row[3]) for row in rows[:top]]


@pytest.mark.parametrize(
    "limits",
    [
        Limits(parameters=60_000),
        Limits(macs=4_000_000),
        Limits(memory=3_000_000),
        Limits(parameters=60_000, macs=3_000_000, memory=3_000_000),
    ],
    ids=lambda limits: "+".join(limits.given),
)
@pytest.mark.parametrize("depth", [None, 14])
@pytest.mark.parametrize("stages", [2, 3])
def test_the_search_finds_what_an_exhaustive_one_finds(limits, stages, depth):
    options = {"stages": stages, "widths": (12, 8, 16), "top": 4}
    found = search(limits, SMALL, depth=depth, **options)
    assert [(network.blocks, network.channels) for network in found] == exhaustive(
        limits, SMALL, depth=depth, **options
    )
    assert all(network.cost == cost(network.blocks, network.channels, SMALL) for network in found)


@pytest.mark.parametrize(("total", "stages"), [(1, 1), (18, 1), (19, 1), (21, 2), (35, 2), (9, 3), (52, 3)])
def test_blocks_are_split_in_every_way_once(total, stages):
    grid = itertools.product(range(1, MOST_BLOCKS + 1), repeat=stages)
    assert sorted(_splits(total, stages)) == [b for b in grid if sum(b) == total and max(b) <= 2 * min(b)]


def test_depths_rise_until_nothing_fits():
    found = search(Limits(parameters=100_000), Task(), stages=3, top=1000)
    depths = [network.depth for network in found]
    assert depths == list(range(8, depths[-1] + 1, 2))
    with pytest.raises(InputError, match=f"depth {depths[-1] + 2} has at most 100,000 parameters"):
        search(Limits(parameters=100_000), Task(), stages=3, depth=depths[-1] + 2)


def test_the_networks_of_report_c_are_the_best_of_their_depths_under_5_million():
    found = {(n.blocks, n.channels) for n in search(Limits(parameters=5_000_000), Task(), stages=4, top=20)}
    assert set(REPORT_C_NETWORKS.values()) <= found


def run(capsys, *words):
    code = main(["models", "search", *words])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_every_row_is_text_that_a_setting_takes(capsys):
    code, out, _ = run(capsys, "--max-params", "300k", "--stages", "3", "--top", "5")
    assert code == 0
    texts = [line[line.index("{") :].strip() for line in out.splitlines() if "{name=" in line]
    assert len(texts) == 5
    said = json.loads(run(capsys, "--max-params", "0.3e6", "--stages", "3", "--top", "5", "--json")[1])
    for text, row in zip(texts, said["networks"], strict=True):
        model = RunConfig().changed(dict([parse_setting(f"model={text}")])).model
        assert model.model_dump() == row["model"]
        summary = summarize(build(model, 3, 10, (32, 32), seed=0), (3, 32, 32))
        assert (summary.parameters, summary.macs) == (row["parameters"], row["macs"])
        assert row["share"] == row["parameters"] / 300_000
    assert said["limits"] == {"parameters": 300_000}
    assert said["input"] == [3, 32, 32]


def test_the_axis_is_that_of_a_study(capsys):
    code, out, _ = run(capsys, "--max-macs", "20M", "--max-memory", "24 MB", "--batch", "16", "--top", "3", "--toml")
    assert code == 0
    study = Study(question="Which?", base="report_c", seeds=1, axes=tomllib.loads(out)["axes"])
    models = [arm.config.model for arm in study.arms()]
    assert len(models) == 3
    for model in models:
        blocks, channels = model.settings["blocks"], model.settings["channels"]
        counted = cost(blocks, channels, Task(batch=16))
        assert counted.macs <= 20_000_000
        assert counted.memory <= 24_000_000


@pytest.mark.parametrize(
    ("text", "number"),
    [("5e6", 5_000_000), ("5M", 5_000_000), ("2.5k", 2_500), ("2e9", 2 * 10**9), ("2GB", 2 * 10**9), ("1 GiB", 2**30)],
)
def test_amounts(text, number):
    assert _amount("max_params", text) == number


MISTAKES = [
    ([], "a limit is needed"),
    (["--max-params", "lots"], "--max-params: 'lots' is not a number above 0"),
    (["--max-memory", "0"], "--max-memory: '0'"),
    (["--max-macs", "-5e6"], "--max-macs"),
    (["--max-params", "5e6", "--stages", "0"], "--stages: 0 is too few"),
    (["--max-params", "5e6", "--stages", "7"], "32×32 can be halved 5 times; at most 6 stages, not 7"),
    (["--max-params", "5e6", "--stages", "4", "--input", "1x3x5"], "3×5 can be halved 2 times; at most 3 stages"),
    (["--max-params", "5e6", "--stages", "7", "--input", "3x224x224"], "at most 6 stages are searched"),
    (["--max-params", "5e6", "--depth", "25"], "even depths from 10 to 146, not 25"),
    (["--max-params", "5e6", "--depth", "8"], "even depths from 10"),
    (["--max-params", "5e6", "--top", "0"], "--top: 0"),
    (["--max-params", "5e6", "--batch", "0"], "--batch: 0"),
    (["--max-params", "5e6", "--classes", "0"], "--classes: 0"),
    (["--max-params", "5e6", "--width", "16,x"], "--width: 'x' is not a whole number"),
    (["--max-params", "5e6", "--width", "0"], "--width: 0"),
    (["--max-params", "5e6", "--json", "--toml"], "not allowed with"),
    (["--max-parms", "5e6"], "did you mean '--max-params'?"),
    (["--max-params", "1000"], "has at most 1,000 parameters; the smallest, "),
]


@pytest.mark.parametrize(("words", "says"), MISTAKES, ids=[" ".join(words) for words, _ in MISTAKES])
def test_a_mistake_is_one_line_and_exit_code_2(capsys, words, says):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert says in err


@pytest.mark.parametrize("depth", [None, 24])
@pytest.mark.parametrize("part", ["parameters", "macs", "memory"])
def test_an_impossible_limit_names_the_smallest_network_and_its_count_is_the_least_that_works(part, depth):
    with pytest.raises(InputError, match="the smallest, ") as caught:
        search(Limits(**{part: 1000}), Task(), depth=depth)
    least = int(str(caught.value).rpartition("has ")[2].replace(",", ""))
    with pytest.raises(InputError):
        search(Limits(**{part: least - 1}), Task(), depth=depth)
    (only,) = search(Limits(**{part: least}), Task(), depth=depth)
    assert only.share == 1
    assert f"channels={list(only.channels)}".replace(", ", ",") in str(caught.value)
