"""Figures of the parts: the outline computes what the network computes, and the numbers come from the code that trains."""

import json

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from residuum import figures, recipes
from residuum.cli import main
from residuum.config import RunConfig
from residuum.data import gallery
from residuum.data.augment import AUGMENTATIONS
from residuum.data.batches import TrainingBatches
from residuum.data.dataset import Dataset, Split
from residuum.data.mix import MIXES
from residuum.data.normalize import NORMALIZERS
from residuum.errors import StorageError
from residuum.models import MODELS, build
from residuum.models.activations import ACTIVATIONS, curve
from residuum.models.blocks import ORDERINGS
from residuum.models.outlining import in_each_ordering, outline
from residuum.models.summary import summarize
from residuum.optim import SCHEDULES, Span, rates
from residuum.registry import Choice
from residuum.report import style
from residuum.report.figures import activation_curves, architecture, augmentations, choices, schedule_curves
from residuum.run.assemble import resolve

SMALL = {"name": "staged_resnet", "blocks": [2, 3], "channels": [4, 6]}


def network(settings, seed=0, shape=(3, 8, 8)):
    model = MODELS.resolve(RunConfig().changed({"model": settings}).model)
    made = build(model, shape[0], 5, shape[1:], seed)
    with torch.no_grad():
        for module in made.modules():  # batch norms that do something, so that none can be left out or moved
            if isinstance(module, torch.nn.BatchNorm2d):
                for tensor in (module.weight, module.bias, module.running_mean):
                    tensor.copy_(torch.randn(tensor.shape, generator=torch.Generator().manual_seed(len(tensor))))
    return model, made.eval()


def drawing(settings, shape=(3, 8, 8)):
    model, made = network(settings, shape=shape)
    orderings = in_each_ordering(model, shape, 5)
    return architecture.data("it", outline(made, shape), orderings, model.settings["ordering"].name)


# --- Architecture -----------------------------------------------------------------------------------------------------


def followed(made, plan, images):
    """The logits that one gets who follows an outline with the layers that it names."""
    modules = dict(made.named_modules())

    def through(layers, x):
        for layer in layers:
            if layer.kind == "linear":
                x = x.flatten(1)
            x = modules[layer.name](x)
            assert tuple(x.shape[1:]) == layer.output_shape, layer
        return x

    x = through(plan.stem, images)
    for block in (block for stage in plan.stages for block in stage):
        assert tuple(x.shape[1:]) == block.input_shape
        started = through(block.before, x)
        y = through(block.branch, started)
        if block.shortcut is not None:
            y = y + through(block.shortcut, started if block.late else x)
        x = through(block.after, y)
    return through(plan.head, x)


@pytest.mark.parametrize("ordering", list(ORDERINGS))
@pytest.mark.parametrize("shortcut", ["identity", "projection", "all_projection", "none"])
@pytest.mark.parametrize("block", ["basic", {"name": "bottleneck", "expansion": 2, "stride_at": "3x3"}])
def test_following_the_outline_computes_what_the_network_computes(ordering, shortcut, block):
    settings = {**SMALL, "ordering": ordering, "shortcut": shortcut, "block": block, "activation": "elu"}
    _, made = network(settings)
    images = torch.randn(3, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        torch.testing.assert_close(followed(made, outline(made, (3, 8, 8)), images), made(images), rtol=0, atol=0)


def test_following_the_outline_of_an_imagenet_form():
    _, made = network({"name": "imagenet_resnet", "stem": "7x7", "channels": [4, 4, 6, 6]}, shape=(3, 32, 32))
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    plan = outline(made, (3, 32, 32))
    assert [layer.kind for layer in plan.stem] == ["conv 7x7 /2", "batch norm", "relu", "max pool 3x3 /2"]
    with torch.no_grad():
        torch.testing.assert_close(followed(made, plan, images), made(images), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["resnet20", "plain56", "preact20", "bottleneck56", "resnet24c", "resnet18"])
def test_the_rows_hold_every_block_and_every_parameter_once(name):
    _, made = network(name, shape=(3, 32, 32))
    drawn = architecture.data("it", outline(made, (3, 32, 32)), {}, "")
    assert sum(row.parameters for row in drawn.rows) == summarize(made, (3, 32, 32)).parameters
    named = [part for row in drawn.rows if row.stage for part in row.names]
    assert named == [f"{stage}.{index}" for stage in made.stages for index in range(len(getattr(made, stage)))]
    for before, after in zip(drawn.rows, drawn.rows[1:], strict=False):
        assert after.input_shape == before.shape
    assert drawn.rows[-1].shape == (5,)


def test_equal_blocks_are_folded_and_different_ones_are_not():
    def counts(name):
        _, made = network(name, shape=(3, 32, 32))
        rows = architecture.data("it", outline(made, (3, 32, 32)), {}, "").rows
        return [(row.stage, row.count) for row in rows]

    ends = ((0, 1), (0, 1))
    assert counts("resnet110") == [ends[0], (1, 18), (2, 1), (2, 17), (3, 1), (3, 17), ends[1]]
    assert counts("plain20") == [ends[0], (1, 3), (2, 1), (2, 2), (3, 1), (3, 2), ends[1]]
    # The first block after the stem has no BN and activation of its own; a first bottleneck has more channels to add.
    assert counts("preact20")[1:3] == [(1, 1), (1, 2)]
    assert counts("bottleneck20")[1:3] == [(1, 1), (1, 1)]


@pytest.mark.parametrize(
    ("shortcut", "texts"),
    [
        ("identity", [["identity"], ["every 2nd pixel, 2 channels of zeros"], ["identity"]]),
        ("projection", [["identity"], ["1×1 conv, 6, /2", "BN"], ["identity"]]),
        ("all_projection", [["1×1 conv, 4", "BN"], ["1×1 conv, 6, /2", "BN"], ["1×1 conv, 6", "BN"]]),
        ("none", [None, None, None]),
    ],
)
def test_the_kind_of_every_shortcut_is_written(shortcut, texts):
    rows = [row for row in drawing({**SMALL, "shortcut": shortcut}).rows if row.stage]
    shown = [row.chain.shortcut and [box.text for box in row.chain.shortcut] for row in rows]
    assert shown == texts


def test_a_block_in_each_ordering_is_that_of_the_paper():
    """He et al. 2016, figure 4: what stands in front of the addition, and what behind."""
    drawn = drawing({**SMALL, "ordering": "full_preactivation"})
    conv = "3×3 conv, 6"
    texts = {
        name: [[box.text for box in boxes] for boxes in ((*chain.before, *chain.branch), chain.after)]
        for name, chain in drawn.orderings.items()
    }
    assert texts == {
        "original": [[conv, "BN", "ReLU", conv, "BN"], ["ReLU"]],
        "bn_after_addition": [[conv, "BN", "ReLU", conv], ["BN", "ReLU"]],
        "relu_before_addition": [[conv, "BN", "ReLU", conv, "BN", "ReLU"], []],
        "relu_only_preactivation": [["ReLU", conv, "BN", "ReLU", conv, "BN"], []],
        "full_preactivation": [["BN", "ReLU", conv, "BN", "ReLU", conv], []],
        "without_bn": [[conv, "ReLU", conv], ["ReLU"]],
    }
    assert (drawn.own, drawn.block) == ("full_preactivation", "layer2.2")


def test_what_is_written_along_a_shortcut_ends_before_it_turns():
    """Of networks with one block a stage the block that is shown in each ordering changes the shape: much is written."""
    figure = architecture.draw(
        drawing({"name": "staged_resnet", "blocks": [1, 1], "channels": [4, 16], "shortcut": "identity"})
    )
    (axes,) = figure.axes
    renderer = FigureCanvasAgg(figure).get_renderer()
    texts = [(one, one.get_window_extent(renderer)) for one in axes.texts if one.get_text()]
    turned = [(one, box) for one, box in texts if one.get_rotation() == 90 and "channels" in one.get_text()]
    assert len(turned) == len(list(ORDERINGS))
    for one, box in turned:
        assert not [other.get_text() for other, around in texts if other is not one and around.overlaps(box)]


def test_the_block_of_the_orderings_is_not_the_first_which_the_stem_activates():
    model, _ = network({**SMALL, "blocks": [1, 1]})
    made = in_each_ordering(model, (3, 8, 8), 5)["full_preactivation"]
    assert (made.name, [layer.kind for layer in made.before]) == ("layer2.0", ["batch norm", "relu"])


def test_a_pre_activated_projection_leaves_behind_the_activation():
    rows = drawing({**SMALL, "ordering": "full_preactivation", "shortcut": "projection"}).rows
    assert [row.chain.late for row in rows if row.stage] == [False, False, True, False]


@pytest.mark.parametrize(
    "settings",
    [
        {**SMALL, "blocks": [1], "channels": [4]},
        {**SMALL, "shortcut": "none", "activation": "tanh"},
        {**SMALL, "block": "bottleneck", "shortcut": "all_projection", "ordering": "relu_only_preactivation"},
        {**SMALL, "blocks": [1] * 6, "channels": [4] * 6, "strides": [1] * 6},
    ],
)
def test_every_network_is_drawn_within_its_page(settings):
    figure = architecture.draw(drawing(settings))
    figure.canvas.draw()
    page = figure.bbox
    for text in figure.axes[0].texts:
        box = text.get_window_extent()
        assert page.x0 <= box.x0, text.get_text()
        assert box.x1 <= page.x1, text.get_text()
        assert page.y0 <= box.y0, text.get_text()
        assert box.y1 <= page.y1, text.get_text()


def test_a_network_is_drawn_without_orderings_too():
    _, made = network(SMALL)
    assert b"layer2.0" in style.svg(architecture.draw(architecture.data("it", outline(made, (3, 8, 8)), {}, "")))


def test_the_drawn_boxes_do_not_overlap():
    """In a row of the figure every box ends before the next begins."""
    figure = architecture.draw(drawing({**SMALL, "block": "bottleneck", "activation": "leaky_relu"}))
    boxes = [patch.get_bbox() for patch in figure.axes[0].patches if hasattr(patch, "get_boxstyle")]
    boxes = [box for box in boxes if box.height < architecture.HEIGHT + 1 and box.width < 200]
    assert len(boxes) > 40
    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            apart_x = one.x1 <= other.x0 + 1e-6 or other.x1 <= one.x0 + 1e-6
            apart_y = (
                max(one.y0, one.y1) <= min(other.y0, other.y1) + 1e-6
                or max(other.y0, other.y1) <= min(one.y0, one.y1) + 1e-6
            )
            assert apart_x or apart_y


# --- Activations ------------------------------------------------------------------------------------------------------

X = np.array([-3.0, -1.0, -0.25, 0.5, 2.0, 7.0])
SIGMOID = 1 / (1 + np.exp(-X))
CLOSED = {
    "relu": (np.maximum(X, 0), X > 0),
    "relu6": (np.clip(X, 0, 6), (X > 0) & (X < 6)),
    "leaky_relu": (np.where(X > 0, X, 0.01 * X), np.where(X > 0, 1, 0.01)),
    "elu": (np.where(X > 0, X, np.exp(X) - 1), np.where(X > 0, 1, np.exp(X))),
    "swish": (X * SIGMOID, SIGMOID * (1 + X * (1 - SIGMOID))),
    "sigmoid": (SIGMOID, SIGMOID * (1 - SIGMOID)),
    "tanh": (np.tanh(X), 1 - np.tanh(X) ** 2),
}


@pytest.mark.parametrize("name", CLOSED)
def test_a_curve_is_the_function_and_its_derivative(name):
    values, slopes = curve(ACTIVATIONS.build(name), X)
    np.testing.assert_allclose(values, CLOSED[name][0], rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(slopes, CLOSED[name][1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", list(ACTIVATIONS))
def test_derivatives_are_slopes_and_are_broken_only_where_they_jump(name):
    drawn = activation_curves.data(ACTIVATIONS.resolve(name), *curve(ACTIVATIONS.build(name), activation_curves.POINTS))
    gaps = activation_curves.POINTS[np.isnan(drawn.slopes_N)]
    jumps = {"relu": [0], "relu6": [0, 5.99], "leaky_relu": [0], "hardswish": [-3, 2.99], "selu": [0]}
    np.testing.assert_allclose(gaps, jumps.get(name, []), atol=1e-9)
    differences = np.diff(drawn.values_N) / np.diff(activation_curves.POINTS)
    middle = (drawn.slopes_N[1:] + drawn.slopes_N[:-1]) / 2
    smooth = ~np.isnan(middle)
    assert np.abs(differences - middle)[smooth].max() < 0.01


def test_all_activations_of_the_table_are_drawn_with_their_settings():
    figure = figures.activations().figure
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert titles == list(ACTIVATIONS)
    assert "negative_slope 0.01" in style.svg(figure).decode()


# --- Schedules --------------------------------------------------------------------------------------------------------


def lines(figure):
    """Title and drawn rates of each panel."""
    return {axes.get_title(): axes.lines[0].get_ydata() for axes in figure.axes if axes.get_title()}


def test_every_schedule_is_drawn_by_the_rates_that_train():
    drawn = lines(figures.every_schedule(RunConfig().changed({"train.epochs": 12, "optim.lr": 0.3})).figure)
    span = Span(figures.STEPS_PER_EPOCH, 12)
    assert list(drawn) == list(SCHEDULES)
    for name, values in drawn.items():
        expected = rates(name, span, lr=0.3, validation_losses=schedule_curves.example_losses(12))
        assert list(values) == expected, name


def test_the_made_up_losses_make_plateau_fall_and_are_shown_only_there():
    figure = figures.every_schedule(RunConfig().changed({"train.epochs": 30})).figure
    # They improve until epoch 10, so after 3 bad epochs the rate falls: in the 15th epoch, then every 4th.
    falls = np.flatnonzero(np.diff(lines(figure)["plateau"])) + 1
    np.testing.assert_array_equal(falls, 100 * np.arange(14, 30, 4))
    counts = {axes.get_title(): len(axes.lines) for axes in figure.axes if axes.get_title()}
    assert {name for name, count in counts.items() if count > 1} == {"plateau"}


def test_recipes_are_drawn_with_their_own_rate_length_and_warm_up():
    config = recipes.he2015().changed({"optim.warmup": 2})
    figure = figures.schedules_of({"a": config, "b": recipes.report_e()}).figure
    drawn = lines(figure)
    assert len(drawn["a"]) == 164 * figures.STEPS_PER_EPOCH
    np.testing.assert_allclose(drawn["a"][[0, 100, 200, 8099, 8100, 12200]], [0.01, 0.055, 0.1, 0.1, 0.01, 0.001])
    np.testing.assert_allclose(drawn["b"][::1000], [0.05, 0.025, 0.0125, 0.00625])
    assert "multistep: milestones 0.494, 0.744; gamma 0.1" in style.svg(figure).decode()


def test_any_number_of_panels_is_drawn_and_no_more():
    panel = schedule_curves.data("it", SCHEDULES.resolve("constant"), [0.1], 1)
    curves = curve(ACTIVATIONS.build("relu"), activation_curves.POINTS)
    for count in (0, 1, 2, 5):
        for figure in (
            schedule_curves.draw([panel] * count),
            activation_curves.draw([activation_curves.data(Choice(name="relu"), *curves)] * count),
        ):
            assert sum(axes.axison for axes in figure.axes) == 2 * count
            assert b"</svg>" in style.svg(figure)


# --- Augmentations ----------------------------------------------------------------------------------------------------


def photographs(channels=3, side=16, classes=4, count=12):
    """Images of noise, the classes in turn."""
    generator = np.random.default_rng(7)
    images = generator.integers(0, 256, (count, channels, side, side), dtype=np.uint8)
    split = Split(images, np.arange(count) % classes)
    return Dataset.of("noise", [f"class {number}" for number in range(classes)], split, split)


def prepared(settings, **shape):
    return resolve(RunConfig().changed({"data.validation": 0, **settings}), photographs(**shape))


def test_an_augmented_image_is_what_a_run_trains_on():
    chain = ["pad_crop", "horizontal_flip", "hue", "gaussian_noise", "cutout"]
    config, data = prepared({"data.augment": chain, "data.normalize": "standardize"})
    images, labels = data.dataset.train.images_NCHW, data.dataset.train.labels_N
    batches = TrainingBatches(
        images, labels, data.train_N, batch_size=5, seed=3, normalization=data.normalization,
        augment=config.data.augment, mix=config.data.mix, classes=4, device=torch.device("cpu"),
    )  # fmt: skip
    for epoch in (0, 2):
        draws = batches.draws(epoch)
        for batch in (batches.batch(draws, number, size) for number, size in enumerate(batches.sizes)):
            for index, trained in zip(batch.indices_B.tolist(), batch.images_BCHW, strict=True):
                shown = gallery.augmented(config.data.augment, images[index], index, seed=3, epochs=[epoch])
                torch.testing.assert_close(data.normalization(torch.from_numpy(shown))[0], trained, rtol=0, atol=1e-6)


def test_mixed_pairs_follow_from_their_share():
    data = prepared({})[1]
    images, labels = data.dataset.train.images_NCHW[:4], data.dataset.train.labels_N[:4]
    for name in ("mixup", "cutmix"):
        pairs = gallery.mixed(MIXES.resolve(name), images, labels, 4)
        shares = []
        for _, (first, second, share, mixed) in zip(range(12), pairs, strict=False):
            a, b = (images[at].astype(np.float32) / 255 for at in (first, second))
            assert first != second
            assert share < 1
            if name == "mixup":
                np.testing.assert_allclose(mixed, share * a + (1 - share) * b, atol=1e-6)
            else:
                replaced = (mixed == b).all(axis=0) & (a != b).any(axis=0)
                np.testing.assert_array_equal(np.where(replaced, b, a), mixed)
                assert share == pytest.approx(1 - replaced.mean())
            shares.append(share)
        assert max(shares) - min(shares) > 0.2


def test_default_sizes_are_those_of_images_of_32_pixels():
    for name in AUGMENTATIONS:
        assert AUGMENTATIONS.resolve(gallery.suited(name, 32)) == AUGMENTATIONS.resolve(name)
    assert gallery.suited("cutout", 8).settings == {"size": 2}
    assert gallery.suited("pad_crop", 4).settings == {"padding": 1}


def texts(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


@pytest.mark.parametrize(("channels", "side"), [(3, 16), (1, 8)])
def test_every_augmentation_normalisation_and_mixing_has_a_row(channels, side):
    data = prepared({}, channels=channels, side=side)[1]
    figure = figures.every_augmentation(data).figure
    names = [text for text in texts(figure) if text in {*AUGMENTATIONS, *NORMALIZERS, *MIXES}]
    assert names == [
        *AUGMENTATIONS, *NORMALIZERS, *["mixup"] * figures.PAIRS, *["cutmix"] * figures.PAIRS
    ]  # fmt: skip
    missing = 0 if channels == 3 else 2
    rows = len(list(AUGMENTATIONS)) - missing
    expected = rows * (1 + len(figures.EPOCHS)) + 4 * len(list(NORMALIZERS)) + 2 * 3 * figures.PAIRS
    assert len(figure.axes[0].images) == expected
    assert sum("needs 3 colour channels" in text for text in texts(figure)) == missing


def test_a_configuration_shows_its_own_chain():
    config, data = prepared({"data.augment": ["vertical_flip", {"name": "cutout", "size": 5}], "data.mix": "mixup"})
    shown = texts(figures.augmentations_of(config, data).figure)
    for text in ("vertical_flip", "cutout", "size 5; fill 0.5", "all in this order", "vertical_flip, cutout",
                 "standardize", "mixup"):  # fmt: skip
        assert text in shown, text
    assert "cutmix" not in shown


def test_the_row_of_a_normalisation_says_the_values_that_the_network_gets():
    images = photographs().train.images_NCHW // 2 + 40
    row = augmentations.normalisation(Choice(name="none"), images, images.astype(np.float32))
    assert row.text.startswith(f"{images.min()} to {images.max()}\nmean {images.mean():.3g}")
    np.testing.assert_allclose(row.pictures[2], images[1].transpose(1, 2, 0) / 255, atol=1e-6)
    np.testing.assert_allclose(row.pictures[3][..., 0], (images[1, 0] - images.min()) / np.ptp(images), atol=1e-6)
    centred = np.array([-1.004, 1.0], dtype=np.float32).reshape(2, 1, 1, 1)
    row = augmentations.normalisation(Choice(name="standardize"), images[:2, :1, :1, :1], centred)
    assert row.text == "−1 to 1\nmean 0, std 1"


def test_a_single_class_has_no_pairs_and_a_constant_image_no_contrast():
    data = prepared({}, classes=1)[1]
    assert "mixup" not in texts(figures.every_augmentation(data).figure)
    black = np.zeros((2, 1, 4, 4), dtype=np.uint8)
    row = augmentations.normalisation(Choice(name="minmax"), black, black.astype(np.float32))
    assert row.text == "0 to 0\nmean 0, std 0"
    assert not np.isnan(row.pictures[1]).any()


def test_nothing_to_show_is_drawn_too():
    assert b"</svg>" in style.svg(augmentations.draw([]))


def test_settings_are_written_in_a_few_words():
    multistep = SCHEDULES.resolve({"name": "multistep", "milestones": [81 / 164, 0.75]})
    assert choices.settings(multistep) == "milestones 0.494, 0.75; gamma 0.1"
    assert choices.settings(NORMALIZERS.resolve("standardize")) == "sample 1"
    assert choices.settings(SCHEDULES.resolve("constant")) == ""


# --- Commands ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "stem"),
    [
        (
            ["model", "staged_resnet", "--set", "model.blocks=[1,2]", "--set", "model.channels=[4,4]", "--draw"],
            "staged_resnet",
        ),
        (["model", "plain8", "--draw", "new/folder/p"], "new/folder/p"),
        (["activations"], "activations"),
        (["schedules", "--epochs", "3"], "schedules"),
        (["schedules", "quick", "he2015", "--set", "optim.warmup=1", "--out", "new/two.png"], "new/two"),
        (["schedules", "--set", "optim.schedule=cosine"], "schedules"),
        (["augmentations"], "augmentations"),
        (["augmentations", "quick", "--set", "data.mix=cutmix", "--out", "q"], "q"),
    ],
)
def test_commands_write_what_they_say(words, stem, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["show", *words, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["figures"] == [f"{stem}.png", f"{stem}.svg"]
    assert (tmp_path / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (tmp_path / f"{stem}.svg").read_text()


def test_a_figure_makes_the_folders_that_it_is_saved_in_and_says_in_a_line_where_none_can_be(tmp_path):
    drawn = figures.Drawing(Figure())
    assert drawn.save(tmp_path / "a" / "b" / "c.svg") == [tmp_path / "a" / "b" / f"c.{form}" for form in ("png", "svg")]
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file"):
        drawn.save(tmp_path / "file" / "c")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a", "file"]


def test_a_schedule_of_ones_own_is_drawn_alone(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["show", "schedules", "--set", "optim.schedule={name='step', every=5}", "--out", "s"]) == 0
    text = (tmp_path / "s.svg").read_text()
    assert "every 5; gamma 0.5" in text
    assert "cosine" not in text


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["activatons"], "did you mean 'activations'?"),
        (["activations", "--ot", "x"], "did you mean '--out'?"),
        (["schedules", "he2014"], "did you mean 'he2015'?"),
        (["schedules", "--set", "optim.schedule=cosin"], "did you mean 'cosine'?"),
        (["augmentations", "--set", "data.augment=['hue']"], "needs 3 colour channels"),
        (["model", "resnet21", "--draw"], "the nearest is 'resnet20'"),
    ],
)
def test_mistakes_are_one_line_and_nothing_is_written(words, said, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["show", *words]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 4, 5, 8, 9, 13])
def test_every_activation_has_its_numbers_below_it_and_lies_within_its_frame(count):
    """A ninth one took the numbers below the axes of all the others."""
    points = activation_curves.POINTS
    drawn = [
        activation_curves.data(Choice(name=f"no. {at}"), at * np.tanh(points), at / np.cosh(points) ** 2)
        for at in range(1, count + 1)
    ]
    figure = activation_curves.draw(drawn)
    figure.draw_without_rendering()
    below = [axes for axes in figure.axes if axes.get_xlabel() == "x"]
    assert len(below) == count
    assert all([text.get_text() for text in axes.get_xticklabels() if text.get_visible()] for axes in below)
    for axes in (axes for axes in figure.axes if axes.axison and count <= 8):
        low, high = axes.get_ylim()
        values = np.concatenate([np.asarray(line.get_ydata(), float) for line in axes.lines[-1:]])
        assert low <= np.nanmin(values)
        assert np.nanmax(values) <= high or high == pytest.approx(2.75)  # a derivative of 8 is cut
