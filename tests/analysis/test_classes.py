"""What a network takes for what: against loops, scikit-learn, and cases whose answer is known."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save
from sklearn import metrics

from residuum import recipes
from residuum.analysis import per_class as analysis
from residuum.analysis.per_class import Predictions
from residuum.errors import InputError
from residuum.records import storage
from residuum.records.facts import DataFacts, Normalized
from residuum.records.outcome import Outcome, Scored
from residuum.records.record import RunRecord


def names(k):
    return tuple(f"c{i}" for i in range(k))


def drawn(seed, n=400, k=6, scale=2.0):
    """Predictions with classes of different sizes, right more often than not."""
    rng = np.random.default_rng(seed)
    labels_N = rng.choice(k, n, p=np.arange(1, k + 1) / sum(range(1, k + 1)))
    logits_NK = scale * rng.normal(size=(n, k)).astype(np.float32)
    logits_NK[np.arange(n), labels_N] += scale
    return Predictions(names(k), logits_NK, labels_N)


def certain(labels, predicted, k, logit=50.0):
    """Predictions that put all probability on one class each."""
    logits_NK = np.zeros((len(labels), k), np.float32)
    logits_NK[np.arange(len(labels)), predicted] = logit
    return Predictions(names(k), logits_NK, np.array(labels))


def with_probabilities(probabilities, labels):
    shares_NK = np.array(probabilities, np.float64)
    return Predictions(names(shares_NK.shape[1]), np.log(shares_NK), np.array(labels))


def test_rows_of_a_confusion_matrix_are_true_classes_and_columns_predicted_ones():
    """Guard 31: three images of class 0 are taken for class 1 and none the other way."""
    counts_KK = analysis.confusion(certain(labels=[0, 0, 0, 0, 1, 2], predicted=[1, 1, 1, 0, 1, 0], k=3))
    assert counts_KK.tolist() == [[1, 3, 0], [0, 1, 0], [1, 0, 0]]
    shares_KK = analysis.row_shares(counts_KK)
    assert shares_KK.tolist() == [[0.25, 0.75, 0], [0, 1, 0], [1, 0, 0]]


@pytest.mark.parametrize("seed", range(3))
def test_confusion_is_what_counting_one_by_one_and_scikit_learn_give(seed):
    predictions = drawn(seed)
    counted = np.zeros((6, 6), np.int64)
    for logits_K, label in zip(predictions.logits_NK.tolist(), predictions.labels_N, strict=True):
        counted[label, logits_K.index(max(logits_K))] += 1
    counts_KK = analysis.confusion(predictions)
    assert np.array_equal(counts_KK, counted)
    assert np.array_equal(counts_KK, metrics.confusion_matrix(predictions.labels_N, predictions.predicted_N))
    assert np.trace(counts_KK) / 400 == predictions.accuracy
    assert np.allclose(analysis.row_shares(counts_KK).sum(axis=1), 1)


def test_the_matrix_has_a_place_for_classes_that_never_occur():
    counts_KK = analysis.confusion(certain(labels=[0], predicted=[1], k=4))
    assert counts_KK.shape == (4, 4)
    shares_KK = analysis.row_shares(counts_KK)
    assert shares_KK[0].tolist() == [0, 1, 0, 0]
    assert np.isnan(shares_KK[1:]).all()


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_classes_are_those_of_scikit_learn(seed):
    predictions = drawn(seed)
    scores = analysis.per_class(analysis.confusion(predictions), predictions.classes)
    expected = metrics.precision_recall_fscore_support(predictions.labels_N, predictions.predicted_N)
    ours = [[one.precision for one in scores], [one.recall for one in scores], [one.f1 for one in scores],
            [one.images for one in scores]]  # fmt: skip
    assert np.allclose(ours, expected, rtol=1e-12)
    assert [one.predicted for one in scores] == np.bincount(predictions.predicted_N, minlength=6).tolist()
    macro = metrics.f1_score(predictions.labels_N, predictions.predicted_N, average="macro")
    assert analysis.macro_f1(scores) == pytest.approx(macro, rel=1e-12)


def test_what_divides_by_nothing_is_none():
    """Class 1 is never predicted, class 2 has no images, class 3 neither."""
    predictions = certain(labels=[0, 0, 1], predicted=[0, 2, 0], k=4)
    scores = analysis.per_class(analysis.confusion(predictions), predictions.classes)
    assert [(one.precision, one.recall, one.f1) for one in scores] == [
        (0.5, 0.5, 0.5), (None, 0.0, 0.0), (0.0, None, 0.0), (None, None, None),
    ]  # fmt: skip
    assert analysis.macro_f1(scores) == pytest.approx(0.5 / 3)
    assert analysis.macro_f1(scores) == pytest.approx(
        metrics.f1_score(predictions.labels_N, predictions.predicted_N, average="macro", zero_division=0)
    )


def test_the_commonest_mistakes_come_first():
    counts_KK = np.array([[50, 5, 3], [3, 7, 0], [5, 0, 95]])
    found = analysis.most_confused(counts_KK, ("a", "b", "c"))
    assert [(one.true, one.predicted, one.count) for one in found] == [
        ("a", "b", 5), ("c", "a", 5), ("b", "a", 3), ("a", "c", 3),
    ]  # fmt: skip
    assert found[0].share == pytest.approx(5 / 58)
    assert analysis.most_confused(counts_KK, ("a", "b", "c"), most=2) == found[:2]
    assert analysis.most_confused(np.diag([3, 0, 4]), ("a", "b", "c")) == ()


def ece_one_by_one(predictions, bins=15):
    """Guo et al. 2017, equation 3, image by image."""
    members = [[] for _ in range(bins)]
    for logits_K, label in zip(predictions.logits_NK.astype(np.float64).tolist(), predictions.labels_N, strict=True):
        exponentials = [math.exp(logit - max(logits_K)) for logit in logits_K]
        confidence = max(exponentials) / sum(exponentials)
        m = next(m for m in range(bins) if m / bins < confidence <= (m + 1) / bins)
        members[m].append((confidence, logits_K.index(max(logits_K)) == label))
    total = 0.0
    for member in members:
        if member:
            confidences, rights = zip(*member, strict=True)
            total += abs(sum(rights) - sum(confidences))
    return total / len(predictions), [len(member) for member in members if member]


@pytest.mark.parametrize(("seed", "scale", "bins"), [(0, 0.3, 15), (1, 2.0, 15), (2, 5.0, 10), (3, 1.0, 1)])
def test_calibration_error_is_that_of_its_definition(seed, scale, bins):
    predictions = drawn(seed, scale=scale)
    found = analysis.calibration(predictions, bins)
    ece, images = ece_one_by_one(predictions, bins)
    assert found.ece == pytest.approx(ece, rel=1e-9)
    assert [one.images for one in found.bins] == images
    assert found.confidence == pytest.approx(np.average([b.confidence for b in found.bins], weights=images))
    assert found.accuracy == pytest.approx(np.average([b.accuracy for b in found.bins], weights=images))
    assert found.accuracy == predictions.accuracy


def test_calibration_of_hand_made_cases():
    """Ten images at 0.8, of which 8 are right, are perfectly calibrated; at 0.9, of which 6 are right, off by 0.3."""
    calibrated = with_probabilities([[0.8, 0.2]] * 10, [0] * 8 + [1] * 2)
    assert analysis.calibration(calibrated).ece == pytest.approx(0, abs=1e-12)
    both = with_probabilities([[0.8, 0.2]] * 10 + [[0.1, 0.9]] * 10, [0] * 8 + [1] * 2 + [1] * 6 + [0] * 4)
    found = analysis.calibration(both)
    assert found.ece == pytest.approx((0 + 10 * 0.3) / 20)
    assert [(one.images, round(one.accuracy, 9), round(one.confidence, 9)) for one in found.bins] == [
        (10, 0.8, 0.8), (10, 0.6, 0.9),
    ]  # fmt: skip
    assert (found.bins[0].low, found.bins[0].high) == pytest.approx((11 / 15, 12 / 15))


def test_too_sure_and_not_sure_enough_do_not_cancel_between_bins():
    one = with_probabilities([[0.95, 0.05]] * 10 + [[0.65, 0.35]] * 10, [0] * 8 + [1] * 2 + [0] * 8 + [1] * 2)
    found = analysis.calibration(one)
    assert found.accuracy == pytest.approx(found.confidence)
    assert found.ece == pytest.approx(0.15)


def test_a_confidence_on_an_edge_belongs_to_the_bin_below():
    halves = Predictions(names(2), np.zeros((1, 2), np.float32), np.array([0]))
    assert [(one.low, one.high) for one in analysis.calibration(halves, bins=4).bins] == [(0.25, 0.5)]
    thirds = Predictions(names(3), np.zeros((1, 3), np.float32), np.array([0]))
    assert [(one.low, one.high) for one in analysis.calibration(thirds).bins] == [(4 / 15, 5 / 15)]
    surely = certain([0], [0], k=2, logit=1e4)
    assert [(one.low, one.high, one.confidence) for one in analysis.calibration(surely).bins] == [(14 / 15, 1, 1)]


def test_brier_score_is_the_summed_squared_difference():
    predictions = drawn(4, n=50)
    onehot_NK = np.eye(6)[predictions.labels_N]
    expected = np.mean([((p - y) ** 2).sum() for p, y in zip(predictions.probabilities_NK, onehot_NK, strict=True)])
    assert analysis.calibration(predictions).brier == pytest.approx(expected, rel=1e-12)
    assert analysis.calibration(certain([0, 1], [1, 0], k=2)).brier == pytest.approx(2)
    assert analysis.calibration(certain([0, 1], [0, 1], k=2)).brier == pytest.approx(0, abs=1e-12)
    nothing_known = Predictions(names(4), np.zeros((9, 4), np.float32), np.zeros(9, np.int64))
    assert analysis.calibration(nothing_known).brier == pytest.approx(1 - 1 / 4)


@pytest.mark.parametrize(("right", "images"), [(3, 10), (0, 7), (7, 7), (450, 1000)])
def test_the_interval_of_a_bin_is_wilsons(right, images):
    """Its ends are the shares from which the observed one is 1.96 of their standard errors away."""
    one = with_probabilities([[0.8, 0.2]] * images, [0] * right + [1] * (images - right))
    (found,) = analysis.calibration(one).bins
    for end, extreme in zip(found.interval, (0, images), strict=True):
        if right == extreme:
            assert end == pytest.approx(right / images, abs=1e-12)
        else:
            distance = abs(right / images - end)
            assert distance == pytest.approx(1.959963984540054 * math.sqrt(end * (1 - end) / images), rel=1e-9)
    assert found.interval[0] - 1e-12 <= right / images <= found.interval[1] + 1e-12


def test_mistakes_come_with_the_most_confident_first():
    predictions = with_probabilities(
        [[0.6, 0.3, 0.1], [0.1, 0.9, 0.0001], [0.1, 0.2, 0.7], [0.05, 0.05, 0.9], [0.6, 0.3, 0.1]], [1, 1, 0, 0, 1]
    )
    found = analysis.mistakes(predictions, most=10)
    assert [(one.index, one.true, one.predicted) for one in found] == [
        (3, "c0", "c2"), (2, "c0", "c2"), (0, "c1", "c0"), (4, "c1", "c0"),
    ]  # fmt: skip
    assert found[0].probability == pytest.approx(0.9)
    assert found[2].probability == pytest.approx(0.6)
    assert analysis.mistakes(predictions, most=2) == found[:2]
    assert analysis.mistakes(predictions, most=0) == ()
    alike = with_probabilities([[0.6, 0.4]] * 50 + [[0.7, 0.3]], [1] * 51)
    assert [one.index for one in analysis.mistakes(alike, most=51)] == [50, *range(50)]
    assert analysis.mistakes(certain([0, 1], [0, 1], k=2), most=5) == ()


def test_the_prediction_is_that_of_the_logits_where_probabilities_cannot_tell():
    """Two logits that differ too little for softmax: the prediction is still that which the accuracy counted."""
    predictions = Predictions(names(2), np.array([[1e-30, 2e-30], [3.0, 3.0]], np.float32), np.array([1, 1]))
    assert predictions.probabilities_NK[0].tolist() == [0.5, 0.5]
    assert predictions.predicted_N.tolist() == [1, 0]


def test_findings_hold_the_parts():
    predictions = drawn(5)
    found = analysis.findings(predictions, most=3)
    counts_KK = analysis.confusion(predictions)
    assert found.confusion == tuple(map(tuple, counts_KK.tolist()))
    assert found.classes == analysis.per_class(counts_KK, predictions.classes)
    assert found.macro_f1 == analysis.macro_f1(found.classes)
    assert found.most_confused == analysis.most_confused(counts_KK, predictions.classes)
    assert found.calibration == analysis.calibration(predictions)
    assert found.mistakes == analysis.mistakes(predictions, 3)
    assert (found.images, found.accuracy) == (400, predictions.accuracy)


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros((2, 3)), [0], "logits [2, 3] are not those of 1 images, 3 classes"),
        (np.zeros((1, 2)), [0], "logits [1, 2] are not those of 1 images, 3 classes"),
        (np.zeros((0, 3)), [], "logits [0, 3] are not those of 0 images, 3 classes"),
        (np.zeros((2, 3)), [0, 3], "labels 0 to 3 are not all among 3 classes"),
        (np.zeros((2, 3)), [-1, 2], "labels -1 to 2 are not all among 3 classes"),
        (np.array([[0, np.nan, 1]]), [0], "some logits are not finite"),
        (np.array([[0, np.inf, 1]]), [0], "some logits are not finite"),
    ],
)
def test_predictions_that_cannot_be_are_refused(logits, labels, message):
    with pytest.raises(InputError) as error:
        Predictions(names(3), logits, np.array(labels, np.int64))
    assert str(error.value) == message


@pytest.fixture
def record(tmp_path):
    data = DataFacts("two", "", (1, 8, 8), 90, 0, 3, Normalized("per_image", (), ()), ("a", "b"))
    (tmp_path / "predictions").mkdir()
    return RunRecord(
        id="abc", folder=tmp_path, recipe="quick", status="finished", config=recipes.quick(), environment=(),
        data=data, epochs=(), result=Outcome("finished", last=Scored(2)),
    )  # fmt: skip


def write(record, which, **tensors):
    storage.write_tensors(record.folder / "predictions" / f"{which}.safetensors", save(tensors))


def test_saved_predictions_are_read_back(record):
    logits_NK = np.array([[0, 1], [3, 2], [5, 4]], np.float32)
    write(record, "last", logits_NK=logits_NK, labels_N=np.array([1, 1, 0]))
    write(record, "selected", logits_NK=-logits_NK, labels_N=np.array([1, 1, 0]))
    found = analysis.read(record)
    assert (found.classes, found.accuracy, len(found)) == (("a", "b"), pytest.approx(2 / 3), 3)
    assert found.right_N.tolist() == [True, False, True]
    assert analysis.read(record, "selected").accuracy == pytest.approx(1 / 3)


def test_missing_predictions_are_said_in_one_line(record):
    with pytest.raises(InputError, match="validation has selected no epoch; which='last' takes the last one"):
        analysis.read(record, "selected")
    with pytest.raises(InputError, match="has left the test set unread"):
        analysis.read(record)
    with pytest.raises(InputError, match="has no predictions: a run leaves them when it finishes; it is stopped"):
        analysis.read(replace(record, status="stopped", result=None))


def test_damaged_predictions_are_named(record):
    path = record.folder / "predictions" / "last.safetensors"
    write(record, "last", logits_NK=np.zeros((1, 3), np.float32), labels_N=np.array([0]))
    with pytest.raises(InputError, match=r"last.safetensors is damaged: logits \[1, 3\] are not those of"):
        analysis.read(record)
    write(record, "last", logits_NK=np.zeros((1, 2), np.float32))
    with pytest.raises(InputError, match=r"last.safetensors is damaged: 'labels_N'"):
        analysis.read(record)
    Path(path).write_bytes(b"rubbish")
    with pytest.raises(InputError, match=r"last.safetensors is damaged"):
        analysis.read(record)
