"""Loss surfaces: directions have the length of the filters, points are those of a network moved by hand, a stop is no loss."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from residuum.cli import main
from residuum.config import RunConfig
from residuum.data.batches import normalise_for_network
from residuum.errors import InputError
from residuum.records import surfaces
from residuum.report import style
from residuum.report.figures import loss_surface as figures
from residuum.run import assemble, predict, surface
from residuum.training import train

SETTINGS = {"dimensions": 2, "points": 3, "span": 0.5, "images": 20, "seed": 4}


@pytest.fixture
def record(tmp_path):
    config = RunConfig().changed({
        "data.dataset": {"name": "synthetic", "size": 12, "train": 60, "test": 20, "classes": 4},
        "data.validation": 12, "model": {"name": "cifar_resnet", "depth": 8, "channels": [4, 4, 8]}, "optim.lr": 0.02,
        "train.epochs": 1, "train.batch_size": 16, "compute.threads": 1, "compute.precision": "fp32",
    })  # fmt: skip
    return train(config, tmp_path / "runs")


def computed(record, **changes):
    grid = [grid for _, grid in surface.evaluate(record, **SETTINGS | changes)][-1]
    return surfaces.read(record.folder, grid)


def test_a_direction_has_filters_of_the_networks_length():
    torch.manual_seed(0)
    center = {
        "conv": torch.randn(5, 3, 3, 3),
        "linear": torch.randn(4, 7),
        "bn": torch.randn(5),
        "dead": torch.zeros(2, 2),
    }
    first, again, second = (surface.direction(center, 1, number) for number in (0, 0, 1))
    for name in ("conv", "linear"):
        for row, filter_ in enumerate(center[name]):
            assert first[name][row].norm().item() == pytest.approx(filter_.norm().item(), rel=1e-5)
        assert torch.equal(first[name], again[name])
        cosine = F.cosine_similarity(first[name].flatten(), second[name].flatten(), dim=0).abs().item()
        assert cosine < 0.5
    assert not first["bn"].any()
    assert not first["dead"].any()


def test_points_are_the_losses_of_a_network_moved_by_hand(record):
    found = computed(record)
    trained = predict.load(record)
    center = {name: value.detach().clone() for name, value in trained.network.named_parameters()}
    along = [surface.direction(center, 4, number) for number in (0, 1)]
    _, data = assemble.resolve(record.config)
    chosen_N = data.train_N[:20]
    images_NCHW = normalise_for_network(
        torch.from_numpy(data.dataset.train.images_NCHW[chosen_N]), trained.normalization
    )
    labels_N = torch.from_numpy(data.dataset.train.labels_N[chosen_N])
    trained.network.eval()
    for i, first in enumerate((-0.5, 0, 0.5)):
        for j, second in enumerate((-0.5, 0, 0.5)):
            moved = {name: center[name] + first * along[0][name] + second * along[1][name] for name in center}
            with torch.no_grad():
                logits_NK = torch.func.functional_call(trained.network, moved, (images_NCHW,))
            assert found.loss[i, j] == pytest.approx(F.cross_entropy(logits_NK, labels_N).item(), rel=1e-4)
            assert found.accuracy[i, j] == (logits_NK.argmax(1) == labels_N).double().mean().item()
    line = computed(record, dimensions=1)
    assert line.loss == pytest.approx(found.loss[:, 1], rel=1e-6)


def test_a_stopped_computation_goes_on_where_it_was(record):
    whole = computed(record, seed=1)
    path = surfaces.path_of(record.folder, whole.grid)
    content = path.read_bytes()
    rows = content.splitlines(keepends=True)
    path.write_bytes(b"".join(rows[:5]) + rows[5][:7])  # the sixth row was being written
    counts = [done for done, _ in surface.evaluate(record, **SETTINGS | {"seed": 1})]
    assert counts == [4, 5, 6, 7, 8, 9]
    assert path.read_bytes() == content
    assert [done for done, _ in surface.evaluate(record, **SETTINGS | {"seed": 1})] == [9]


def test_losses_that_are_not_finite_come_back_as_nan(tmp_path):
    grid = surfaces.Grid(1, 3, 1.0, 10, 0, "last", 1)
    rows, there = surfaces.begin(tmp_path, grid)
    for number, loss in enumerate((float("inf"), 1.5)):
        rows.add(surfaces.row(number, loss, 0.1))
    rows.close()
    assert there == 0
    assert np.isnan(surfaces.read(tmp_path, grid).loss).tolist() == [True, False, True]
    path = surfaces.path_of(tmp_path, grid)
    path.write_bytes(path.read_bytes().replace(b'"point": 1', b'"point": 7'))
    with pytest.raises(InputError, match="damaged"):
        surfaces.read(tmp_path, grid)
    path.write_bytes(b"")
    with pytest.raises(InputError, match="damaged"):
        surfaces.read(tmp_path, grid)


def made(loss, dimensions=1):
    grid = surfaces.Grid(dimensions, 5, 1.0, 10, 0, "last", 1)
    shape = (5,) * dimensions
    return surfaces.Surface(grid, np.broadcast_to(np.asarray(loss, float), shape).copy(), np.full(shape, 0.5))


def test_losses_are_cut_only_in_the_picture():
    original = made([1e-9, 1, 10, 1e5, np.nan])
    view = figures.data({"a": original, "b": made(2.0)})
    assert view.loss["a"][:4].tolist() == [1e-6, 1, 10, 1000]
    assert np.isnan(view.loss["a"][4])
    assert (view.low, view.high, view.cut) == (1e-6, 1000, True)
    assert not figures.data({"b": made(2.0)}).cut
    assert original.loss[3] == 1e5


@pytest.mark.parametrize(
    "losses", [{}, {"flat": 2.0}, {"lost": np.nan}, {"a": np.arange(5) + 0.1, "_b $": [3, 2, 1, 2e6, np.nan]}]
)
def test_every_view_is_drawn(losses):
    assert style.png(figures.lines(figures.data({name: made(loss) for name, loss in losses.items()}))).startswith(
        b"\x89PNG"
    )
    flat = figures.data({name: made(loss, 2) for name, loss in losses.items()})
    for draw in (figures.contours, figures.relief):
        figure = draw(flat)
        assert style.svg(figure).startswith(b"<?xml")
        assert len([axes for axes in figure.axes if axes.get_title()]) == len(losses)


def test_the_command_draws_two_runs_in_one_frame(record, tmp_path, capsys):
    other = train(replace_seed(record.config), tmp_path / "runs")
    words = [
        "surface",
        str(record.folder),
        str(other.folder),
        "--images",
        "16",
        "--points",
        "3",
        "--out",
        str(tmp_path / "f"),
    ]
    assert main([*words, "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out)["figures"] == [
        str(tmp_path / "f" / f"surface-1d-points3-images16-and-{other.id}.{ending}") for ending in ("png", "svg")
    ]
    assert "3 points, 0 there already" in said.err
    assert main([*words, "--dimensions", "2"]) == 0
    assert {path.name for path in (tmp_path / "f").glob("*.png")} == {
        f"surface-{name}-points3-images16-and-{other.id}.png" for name in ("1d", "contours", "3d")
    }


def replace_seed(config):
    return config.model_copy(update={"train": config.train.model_copy(update={"seed": 1})})


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--points", "4"], "odd"), (["--points", "1"], "odd"), (["--points", "0"], "odd"), (["--span", "0"], "--span"), (["--span", "nan"], "--span"),
        (["--images", "0"], "--images"), (["--seed", "-1"], "--seed"), (["--dimensions", "3"], "invalid|unknown"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_one_line(record, capsys, words, says):
    assert main(["surface", str(record.folder), *words]) == 2
    err = capsys.readouterr().err
    assert any(word in err for word in says.split("|"))
    assert len(err.splitlines()) == 1
    assert not (record.folder / "surfaces").exists()
    assert main(["surface", str(record.folder), str(record.folder)]) == 2
