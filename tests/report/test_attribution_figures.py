"""Sheets of attributions: what they show as numbers, and pictures from nothing, from one image, and from many."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib import colormaps

from residuum.attribution import ROWS
from residuum.errors import InputError
from residuum.records.attributions import Attributions, Similarity
from residuum.report import style
from residuum.report.figures import attribution as figures

CLASSES = ("cat", "$dog_1$", "a ship with a very long name indeed")
LAYERS = ("stem", "layer1", "layer2")


def made(
    count=3, method="grad-cam", *, channels=3, labels=None, random=True, seed=0, target="predicted", layers=LAYERS
):
    rng = np.random.default_rng(seed)
    layers = layers if method == "grad-cam" else ("input",)
    logits = 3 * rng.normal(size=(count, 3))
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)

    def maps():
        values = {name: rng.normal(size=(count, 8, 8)).astype(np.float32) for name in layers}
        return values if ROWS[method].signed else {name: np.maximum(one, 0) for name, one in values.items()}

    return Attributions(
        run="0123", method=method, settings={}, target=target, classes=CLASSES,
        names=tuple(f"no. {n}" for n in range(count)), epochs=(7,) * count,
        images_NCHW=rng.integers(0, 256, (count, channels, 8, 8)).astype(np.uint8),
        labels_N=np.arange(count) % 3 if labels is None else np.array(labels),
        targets_N=shares.argmax(axis=1), probabilities_NK=shares.astype(np.float32),
        maps=maps(), randomised=maps() if random else {},
        similarity={part: {name: Similarity(-0.25, count) for name in layers} for part in ("linear", "stem")},
    )  # fmt: skip


def test_a_sheet_has_the_input_each_layer_and_the_random_network():
    found = made()
    found.similarity["stem"]["layer1"] = Similarity(None, 0)
    found.similarity["stem"]["layer2"] = Similarity(-0.25, 2)
    sheet = figures.data(found)
    assert sheet.title == "Grad-CAM for the predicted class, epoch 7"
    (panel,) = sheet.panels
    assert panel.columns == (
        "input", "stem\nρ = −0.25", "layer1\nρ = –", "layer2\nρ = −0.25 (2)", "layer2\nrandom weights",
    )  # fmt: skip
    assert "In brackets: over so many images" in sheet.remark
    assert "In brackets" not in figures.data(made()).remark
    for row, (caption, cells) in enumerate(panel.rows):
        k = found.probabilities_NK[row].argmax()
        true, predicted, share = caption.split("\n")
        assert true == style.literal(style.short(CLASSES[row], 18))
        assert predicted == "→ " + style.literal(style.short(CLASSES[k], 16))
        assert share == f"{found.probabilities_NK[row, k]:.1%}, no. {row}"
        np.testing.assert_array_equal(cells[0].image, found.images_NCHW[row].transpose(1, 2, 0))
        assert cells[0].map_HW is None
        for cell, maps in zip(cells[1:], [*found.maps.values(), found.randomised["layer2"]], strict=True):
            np.testing.assert_allclose(cell.map_HW, maps[row] / maps[row].max(), rtol=1e-6)
            np.testing.assert_array_equal(cell.image, cells[0].image)


def test_a_signed_map_keeps_its_signs_and_is_clipped_at_the_percentile():
    found = made(1, "integrated-gradients", random=False)
    sheet = figures.data(found)
    (caption, (_, cell)), values = sheet.panels[0].rows[0], found.maps["input"][0]
    assert caption.startswith("cat")
    limit = np.percentile(np.abs(values), 99)
    np.testing.assert_allclose(cell.map_HW, np.clip(values / limit, -1, 1), rtol=1e-6)
    assert (sheet.signed, cell.signed, cell.image) == (True, True, None)
    assert sheet.panels[0].columns == ("input", "attribution")
    single = np.zeros((1, 8, 8), np.float32)
    single[0, 2, 3] = -4  # the percentile of it is 0
    ((_, (_, cell)),) = figures.data(replace(found, maps={"input": single})).panels[0].rows
    assert cell.map_HW.min() == cell.map_HW[2, 3] == -1
    assert (cell.map_HW == 0).sum() == 63


def test_a_map_that_says_nothing_says_so():
    found = made(2, random=False)
    found.maps["stem"][0] = 0
    found.maps["layer1"][1, 3, 3] = np.nan
    (_, first), (_, second) = figures.data(found).panels[0].rows
    assert [cell.note for cell in first] == ["", "0 everywhere", "", ""]
    assert [cell.note for cell in second] == ["", "", "not finite", ""]
    assert not second[2].map_HW.any()
    figures.draw(figures.data(found))


def test_many_images_stand_right_beside_wrong_or_in_two_halves():
    known = made(14)
    right = known.probabilities_NK.argmax(axis=1) == known.labels_N
    panels = figures.data(known).panels
    assert [panel.heading for panel in panels] == ["right", "wrong"]
    assert [len(panel.rows) for panel in panels] == [right.sum(), 14 - right.sum()]
    assert panels[1].rows[0][0].endswith(f"no. {np.flatnonzero(~right)[0]}")
    unknown = figures.data(made(15, labels=[-1] * 15)).panels
    assert [(panel.heading, len(panel.rows)) for panel in unknown] == [("", 8), ("", 7)]
    assert unknown[1].rows[0][0].startswith("→ ")
    assert len(figures.data(made(12)).panels) == 1


def test_runs_stand_side_by_side_with_their_own_layers_and_predictions(tmp_path):
    one = made(3)
    other = replace(made(3, seed=1, layers=("stem", "layer1")), epochs=(9,) * 3, images_NCHW=one.images_NCHW)
    sheet = figures.side_by_side({"first": one, "a second": other})
    assert [panel.heading for panel in sheet.panels] == ["first", "a second"]
    assert [len(panel.columns) for panel in sheet.panels] == [5, 4]
    assert sheet.title == "Grad-CAM for the predicted class"  # of other epochs each
    assert figures.side_by_side({"a": one, "b": one}).title.endswith(", epoch 7")
    for panel, found in zip(sheet.panels, (one, other), strict=True):
        for row, (caption, cells) in enumerate(panel.rows):
            assert f"{found.probabilities_NK[row].max():.1%}" in caption
            maps = found.maps["layer1"][row]
            np.testing.assert_allclose(cells[2].map_HW, maps / maps.max(), rtol=1e-6)
    figure = figures.draw(sheet)
    assert {"first", "a second"} <= {text.get_text() for text in texts(figure)}
    check_texts(figure)
    many = made(13)
    bare = replace(made(13, random=False), images_NCHW=many.images_NCHW)
    check_texts(figures.draw(figures.side_by_side({"x" * 80: many, "b": bare})))
    with pytest.raises(InputError, match="only of the same images"):
        figures.side_by_side({"a": many, "b": made(13, seed=1)})
    with pytest.raises(InputError, match="only by the same method"):
        figures.side_by_side({"a": many, "b": replace(many, method="saliency")})
    style.save(figure, tmp_path / "pair")


def test_epochs_are_columns_and_layers_rows():
    found = replace(made(3, random=False, labels=[1, 1, 1]), epochs=(1, 5, 9))
    sheet = figures.over_epochs(found)
    assert [column.split("\n")[0] for column in sheet.panels[0].columns] == ["input", "epoch 1", "epoch 5", "epoch 9"]
    k = found.probabilities_NK[1].argmax()
    assert sheet.panels[0].columns[2].split("\n")[2] == f"{found.probabilities_NK[1, k]:.1%}"
    (panel,) = sheet.panels
    assert [caption for caption, _ in panel.rows] == list(LAYERS)
    for name, (_, cells) in zip(LAYERS, panel.rows, strict=True):
        assert (cells[0] is None) == (name != "stem")
        for epoch in range(3):
            expected = found.maps[name][epoch] / found.maps[name][epoch].max()
            np.testing.assert_allclose(cells[1 + epoch].map_HW, expected, rtol=1e-6)
    assert "for " in sheet.title
    assert "true class" in sheet.title


def test_a_prediction_shows_the_last_layer_and_the_likeliest_classes():
    found = made(2)
    said = figures.prediction(found, 1, top=2)
    order = np.argsort(-found.probabilities_NK[1])[:2]
    assert said.shares == tuple((CLASSES[k], float(found.probabilities_NK[1, k])) for k in order)
    assert (said.name, said.target) == ("no. 1", CLASSES[order[0]])
    last = found.maps["layer2"][1]
    np.testing.assert_allclose(said.overlay.map_HW, last / last.max(), rtol=1e-6)


def texts(figure):
    return [text for axes in figure.axes for text in axes.texts if text.get_text().strip()]


def check_texts(figure):
    """Every text lies within the figure, and none over another."""
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts(figure)]
    for number, (text, box) in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 <= box.x1 <= figure.bbox.x1, text
        assert figure.bbox.y0 <= box.y0 <= box.y1 <= figure.bbox.y1, text
        for other, other_box in boxes[:number]:
            assert not box.overlaps(other_box), (text, other)


@pytest.mark.parametrize(("method", "count", "channels"), [
    *((method, 1, 1) for method in ROWS), ("grad-cam", 0, 3), ("grad-cam", 13, 3), ("occlusion", 13, 1),
])  # fmt: skip
def test_a_sheet_is_drawn_from_nothing_one_and_many(method, count, channels, tmp_path):
    sheet = figures.data(made(count, method, channels=channels, target="cat"))
    figure = figures.draw(sheet)
    pictures = [image for axes in figure.axes for image in axes.images]
    assert len(pictures) == 1 + sum(len(cells) for panel in sheet.panels for _, cells in panel.rows)
    written = {text.get_text() for text in texts(figure)}
    assert ("no images" in written) == (count == 0)
    assert all(caption in written for panel in sheet.panels for caption, _ in panel.rows)
    check_texts(figure)
    style.save(figure, tmp_path / "sheet")


@pytest.mark.parametrize("count", [0, 1, 12])
def test_epochs_are_drawn_from_nothing_one_and_many(count, tmp_path):
    found = replace(made(count, random=False), epochs=tuple(range(1, count + 1)))
    figure = figures.draw(figures.over_epochs(found))
    check_texts(figure)
    style.save(figure, tmp_path / "epochs")


@pytest.mark.parametrize("top", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_prediction_is_drawn(top, channels, tmp_path):
    found = made(1, channels=channels)
    figure = figures.draw_prediction(figures.prediction(found, 0, top))
    style.save(figure, tmp_path / "one")
    assert len(figure.axes[2].patches) == top
    assert len(figure.axes[0].images) == len(figure.axes[1].images) == 1


@pytest.mark.parametrize(("share", "text"), [(1.0, "100.0%"), (0.9997, ">99.9%"), (0.5, "50.0%")])
def test_no_probability_below_one_is_said_to_be_one(share, text):
    assert style.percent(share) == text


def test_both_scales_rise_in_lightness_so_that_they_are_read_in_grey():
    for name in ("inferno", "cividis"):
        lightness = colormaps[name](np.linspace(0, 1, 64))[:, :3] @ np.array([0.299, 0.587, 0.114])
        assert (np.diff(lightness) > 0).all()
        assert lightness[-1] - lightness[0] > 0.6
