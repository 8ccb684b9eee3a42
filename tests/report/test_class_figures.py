"""Figures of what a network gets wrong: the numbers in them, and that each is drawn from empty, single, odd data."""

import numpy as np
import pytest

from residuum.analysis import per_class as analysis
from residuum.analysis.per_class import Mistake, Predictions
from residuum.errors import InputError
from residuum.report import style
from residuum.report.figures import confusion, frame, mistake_sheet, reliability


def predictions(k, n=60, seed=0, right=2.0, labels=None, names=None):
    rng = np.random.default_rng(seed)
    labels_N = rng.integers(k, size=n) if labels is None else np.array(labels)
    logits_NK = rng.normal(size=(len(labels_N), k)).astype(np.float32)
    logits_NK[np.arange(len(labels_N)), labels_N] += right
    return Predictions(names or tuple(f"class {i}" for i in range(k)), logits_NK, labels_N)


def changed(old, **logits):
    """The same with another logit for some classes: `c1=-50` is never predicted."""
    logits_NK = old.logits_NK.copy()
    for name, value in logits.items():
        logits_NK[:, int(name[1:])] = value
    return Predictions(old.classes, logits_NK, old.labels_N)


CASES = {
    "empty": {},
    "single": {"one image": predictions(3, n=1)},
    "two classes": {"run": predictions(2)},
    "normal": {"run": predictions(10)},
    "two runs": {"first": predictions(10), "second": predictions(10, right=1.0)},
    "never predicted": {"run": changed(predictions(4), c1=-50)},
    "no images of a class": {"run": predictions(3, labels=[0, 0, 2, 2])},
    "perfect": {"run": predictions(10, right=50.0)},
    "all wrong": {"run": predictions(10, right=-50.0)},
    "equal runs": {"first": predictions(5), "second": predictions(5)},
    "names without numbers": {"run": predictions(30)},
    "hundred": {"first": predictions(100, n=500), "second": predictions(100, n=500, right=1.0)},
    "odd names": {"_run $x": predictions(3, names=("_a", "$b$", "c" * 70))},
}


@pytest.mark.parametrize("name", CASES)
def test_every_figure_is_drawn(name):
    runs = CASES[name]
    wrong = {label: analysis.mistakes(one, 8) for label, one in runs.items()}
    images = {label: np.zeros((len(one), 3, 4, 4), np.uint8) for label, one in runs.items()}
    for figure in (
        confusion.draw(confusion.data(runs)),
        reliability.draw(reliability.data(runs)),
        mistake_sheet.draw(mistake_sheet.data(wrong, images)),
    ):
        content = style.svg(figure)
        assert content.rstrip().endswith(b"</svg>")
        for label in runs:
            assert label.lstrip("_").encode() in content


def test_drawing_twice_gives_the_same_bytes():
    one, two = (style.png(confusion.draw(confusion.data(CASES["two runs"]))) for _ in range(2))
    assert one == two
    assert one.startswith(b"\x89PNG")


ASYMMETRIC = Predictions(
    ("cat", "dog", "frog"),
    np.eye(3, dtype=np.float32)[[1, 1, 1, 0, 1, 2, 2]],
    np.array([0, 0, 0, 0, 1, 2, 2]),
)
"""Three of four cats are taken for dogs; every dog and frog is right."""


def test_rows_of_the_drawn_matrix_are_true_classes_and_columns_predicted_ones():
    """Guard 31, as far as the eye: cat stands on the left and dog below where 3 of 4 cats are."""
    found = confusion.data({"run": ASYMMETRIC})
    assert found.matrices[0].counts_KK.tolist() == [[1, 3, 0], [0, 1, 0], [0, 0, 2]]
    axes, *_ = confusion.draw(found).axes
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true class", "predicted class")
    assert [label.get_text() for label in axes.get_yticklabels()] == ["cat", "dog", "frog"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["cat", "dog", "frog"]
    assert axes.yaxis_inverted()
    (image,) = axes.images
    assert image.get_array()[0].tolist() == [0.25, 0.75, 0]
    texts = {text.get_position(): text.get_text() for text in axes.texts}
    assert texts[(1, 0)] == "3\n75.0%"
    assert texts[(0, 1)] == ""
    assert texts[(2, 2)] == "2\n100.0%"
    assert axes.get_title() == "run\n57.14% of 7 right"


def test_two_runs_have_one_scale_and_their_difference_is_first_minus_second():
    better = Predictions(ASYMMETRIC.classes, np.eye(3, dtype=np.float32)[ASYMMETRIC.labels_N], ASYMMETRIC.labels_N)
    found = confusion.data({"first": ASYMMETRIC, "second": better})
    assert found.difference_KK.tolist() == [[-75, 75, 0], [0, 0, 0], [0, 0, 0]]
    first, second, difference, lists, *_ = confusion.draw(found).axes
    scales = [(axes.images[0].norm.vmin, axes.images[0].norm.vmax) for axes in (first, second, difference)]
    assert scales == [(0, 1), (0, 1), (-75, 75)]
    assert difference.get_title() == "difference: first\nminus second"
    assert {text.get_text() for text in difference.texts} == {"+75.0", "−75.0", ""}
    assert lists.texts[0].get_text().splitlines()[1:] == ["cat → dog: +75.0"]


def test_one_run_has_no_difference():
    assert confusion.data({"run": ASYMMETRIC}).difference_KK is None


def test_runs_on_other_images_are_not_compared():
    with pytest.raises(InputError, match="first and second were not scored on the same test images"):
        confusion.data({"first": predictions(3), "second": predictions(3, seed=1)})
    other = predictions(3, names=("a", "b", "c"))
    with pytest.raises(InputError, match="not scored on the same"):
        confusion.data({"first": predictions(3), "second": other})
    with pytest.raises(InputError, match="3 runs: a confusion matrix shows one run, or compares two"):
        confusion.data({str(number): predictions(3) for number in range(3)})


def test_a_hundred_classes_have_a_list_instead_of_numbers():
    figure = confusion.draw(confusion.data({"run": CASES["hundred"]["first"]}))
    axes, lists, *_ = figure.axes
    assert not axes.texts
    (text,) = lists.texts
    head, first, *more = text.get_text().splitlines()
    assert head == "most confused, true → predicted"
    assert len(more) == confusion.LISTED - 1
    counts_KK = confusion.data(CASES["hundred"]).matrices[0].counts_KK
    worst = analysis.most_confused(counts_KK, CASES["hundred"]["first"].classes)[0]
    true, predicted = (int(name.split()[1]) for name in (worst.true, worst.predicted))
    share = counts_KK[true, predicted] / counts_KK[true].sum()
    assert first == f"class {true} ({true}) → class {predicted} ({predicted}): {worst.count} ({share:.1%})"


def test_the_largest_differences_come_first():
    found = confusion.data(CASES["two runs"])
    lists = confusion.draw(found).axes[3]
    listed = [line.rpartition(": ")[2] for line in lists.texts[0].get_text().splitlines()[1:]]
    mistakes_KK = np.abs(found.difference_KK * (1 - np.eye(len(found.classes))))
    largest = sorted(mistakes_KK.ravel(), reverse=True)[: confusion.LISTED]
    assert [line.lstrip("+−") for line in listed] == [f"{value:.1f}" for value in largest]


def test_numbers_stand_out_from_their_cells():
    axes, *_ = confusion.draw(confusion.data({"run": ASYMMETRIC})).axes
    colours = {text.get_position(): text.get_color() for text in axes.texts}
    assert (colours[(2, 2)], colours[(2, 0)]) == ("white", "black")


def test_a_class_without_images_is_marked():
    axes, *_ = confusion.draw(confusion.data(CASES["no images of a class"])).axes
    marked = [text.get_position()[1] for text in axes.texts if text.get_text() == "no images"]
    assert marked == [1]


def test_the_reliability_diagram_shows_the_bins():
    runs = {"run": predictions(4, n=300)}
    ((panel),) = reliability.data(runs)
    found = panel.calibration
    assert found == analysis.calibration(runs["run"])
    curve, histogram = reliability.draw((panel,)).axes
    accuracies, gaps = curve.containers
    assert [bar.get_height() for bar in accuracies] == [one.accuracy for one in found.bins]
    assert [bar.get_y() + bar.get_height() for bar in gaps] == pytest.approx([one.confidence for one in found.bins])
    assert [bar.get_x() for bar in accuracies] == pytest.approx([one.low for one in found.bins])
    (counts,) = histogram.containers
    assert [bar.get_height() * 300 for bar in counts] == pytest.approx([one.images for one in found.bins])
    assert f"ECE {found.ece:.2%}" in curve.get_title()
    assert (curve.get_xlim(), curve.get_ylim()) == ((0, 1), (0, 1))


def test_the_gallery_shows_each_mistake_with_its_own_image():
    images_NCHW = np.arange(5 * 3 * 2 * 2, dtype=np.uint8).reshape(5, 3, 2, 2)
    wrong = (Mistake(4, "cat", "dog", 0.99987), Mistake(2, "dog", "cat", 0.5123))
    (panel,) = mistake_sheet.data({"run": wrong}, {"run": images_NCHW})
    assert [tile.mistake for tile in panel.tiles] == list(wrong)
    assert panel.tiles[0].image.shape == (2, 2, 3)
    assert panel.tiles[0].image[1, 0].tolist() == images_NCHW[4, :, 1, 0].tolist()
    axes = mistake_sheet.draw((panel,)).axes
    assert [one.get_title() for one in axes[:2]] == ["cat\n→ dog\n>99.9%, no. 4", "dog\n→ cat\n51.2%, no. 2"]
    assert axes[1].images[0].get_array()[0, 1].tolist() == images_NCHW[2, :, 0, 1].tolist()
    assert not axes[2].images


def test_grey_images_are_shown_from_black_to_white():
    grey = np.full((1, 1, 3, 3), 100, np.uint8)
    (panel,) = mistake_sheet.data({"run": (Mistake(0, "3", "8", 1.0),)}, {"run": grey})
    axes, *_ = mistake_sheet.draw((panel,)).axes
    assert axes.images[0].get_array().shape == (3, 3)
    assert axes.images[0].get_clim() == (0, 255)
    assert axes.get_title().endswith("100.0%, no. 0")


def test_a_run_without_mistakes_says_so():
    figure = mistake_sheet.draw(mistake_sheet.data({"run": ()}, {"run": np.zeros((1, 3, 2, 2), np.uint8)}))
    assert figure.subfigs[0].get_suptitle() == "run: no mistakes"


@pytest.mark.parametrize("k", [2, 10, 30])
@pytest.mark.parametrize(
    "mark", ["", "SCALED ×0.05 · CHANGED data.subset = 5000, optim.optimizer = sgd (nesterov = true)"]
)
def test_titles_and_the_stamp_of_a_scaled_study_are_whole_within_the_figure(k, mark):
    """Titles were cut on both sides where a study was scaled."""
    name = "a network of many words and more settings, bottleneck, 110 layers, seed 0"
    one, two = predictions(k), predictions(k, right=1.0)
    wrong = {name: analysis.mistakes(one, 3)}
    figures = (
        confusion.draw(confusion.data({name: one})),
        confusion.draw(confusion.data({name: one, f"{name}1": two})),
        reliability.draw(reliability.data({name: one})),
        mistake_sheet.draw(mistake_sheet.data(wrong, {name: np.zeros((60, 3, 4, 4), np.uint8)})),
    )
    for figure in figures:
        if mark:
            frame.stamp(figure, mark)
        figure.draw_without_rendering()
        titles = [axes.title for axes in figure.axes if axes.title.get_text()]
        titles += [text for part in (figure, *figure.subfigs) for text in part.texts]
        boxes = {text: text.get_window_extent() for text in titles}
        assert titles
        for box in boxes.values():
            assert figure.bbox.x0 <= box.x0
            assert box.x1 <= figure.bbox.x1 + 1
        stamps = [text for text in titles if "SCALED" in text.get_text()]
        assert len(stamps) == bool(mark)
        assert not any(boxes[one].overlaps(boxes[other]) for one in stamps for other in titles if other is not one)
