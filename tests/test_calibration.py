"""Temperatures, reliability, and Wilson's interval, against closed forms and published values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from speechrnn.decoding.calibration import (
    HIGHEST_TEMPERATURE,
    LOWEST_TEMPERATURE,
    apply_temperature,
    confidence_of,
    expected_calibration_error,
    fit_log_odds,
    fit_temperature,
    log_probabilities,
    reliability_bins,
)
from speechrnn.evaluate import wilson_interval


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return powers / powers.sum(axis=-1, keepdims=True)


def honest(n: int, labels: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits, and targets drawn from exactly the probabilities that they are of."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 2, (n, labels))
    cumulated = softmax(logits).cumsum(axis=1)
    return logits, (rng.random((n, 1)) > cumulated).sum(axis=1).clip(max=labels - 1)


# ------------------------------------------------------------------ temperature


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.7, 5.0])
def test_the_temperature_of_scaled_logits_is_their_scale(scale):
    logits, targets = honest(20_000, 6)
    # 20,000 draws leave a standard error of some 1 %.
    assert fit_temperature(scale * logits, targets) == pytest.approx(scale, rel=0.03)


@pytest.mark.parametrize("scale", [0.3, 2.5])
def test_scaling_the_logits_scales_the_temperature_exactly(scale):
    logits, targets = honest(500, 4)
    once = fit_temperature(logits, targets)
    assert fit_temperature(scale * logits, targets) == pytest.approx(scale * once, rel=1e-6)


def test_probabilities_do_as_well_as_logits():
    logits, targets = honest(300, 5)
    found = fit_temperature(log_probabilities(softmax(logits)), targets)
    assert found == pytest.approx(fit_temperature(logits, targets), rel=1e-6)


def test_no_other_temperature_makes_the_true_labels_more_likely():
    logits, targets = honest(2000, 5)
    best = fit_temperature(3 * logits, targets)

    def loss(temperature):
        p = softmax(3 * logits / temperature)[np.arange(len(targets)), targets]
        return -np.log(p).mean()

    # The true labels are counted as 2001/2002 of one, which moves the minimum by next to nothing.
    assert all(loss(best) <= loss(best * factor) + 1e-5 for factor in (0.8, 0.95, 1.05, 1.3))


def test_few_answers_without_a_mistake_do_not_prove_certainty():
    logits = np.tile([3.0, 0.0, 0.0], (8, 1))
    sure = softmax(logits / fit_temperature(logits, np.zeros(8, int)))[0, 0]
    # 9/10 by the rule of succession, and a third of the doubt is on the label itself.
    assert sure == pytest.approx(0.9 + 0.1 / 3, abs=1e-6)


def test_chance_level_answers_get_the_highest_temperature_and_nothing_gets_one():
    rng = np.random.default_rng(0)
    logits, targets = 50 * rng.normal(size=(400, 4)), rng.integers(4, size=400)
    found = fit_temperature(logits, targets)
    assert LOWEST_TEMPERATURE < found <= HIGHEST_TEMPERATURE * (1 + 1e-9)
    assert found > 15
    assert fit_temperature(np.zeros((0, 4)), np.zeros(0, int)) == 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_applying_a_temperature_is_dividing_the_logits(temperature):
    logits = np.random.default_rng(1).normal(0, 3, (7, 5))
    found = apply_temperature("probabilities", softmax(logits).astype(np.float32), temperature)
    np.testing.assert_allclose(found, softmax(logits / temperature), atol=1e-6)


def test_a_probability_of_zero_survives_a_temperature():
    found = apply_temperature("probabilities", np.array([1, 0, 0], np.float32), 2.0)
    assert np.isfinite(found).all()
    assert found.sum() == pytest.approx(1)


# ------------------------------------------------------------------ reliability


def test_perfect_calibration_has_no_error():
    confidence = np.repeat([0.25, 0.75], 8)
    correct = np.array([1, 1, 0, 0, 0, 0, 0, 0] + [1] * 6 + [0] * 2, bool)
    assert expected_calibration_error(confidence, correct) == 0


@pytest.mark.parametrize(
    ("confidence", "correct", "error"),
    [
        ([1.0, 1.0], [False, False], 1.0),
        ([1.0, 1.0, 1.0, 1.0], [True, True, True, False], 0.25),
        ([0.9, 0.2], [True, False], 0.15),  # each alone in its bin: (0.1 + 0.2) / 2
        ([0.7, 0.72], [True, False], 0.21),  # one bin: |0.5 - 0.71|
        ([], [], 0.0),
    ],
)
def test_the_error_is_that_of_the_formula(confidence, correct, error):
    found = expected_calibration_error(np.array(confidence), np.array(correct, bool))
    assert found == pytest.approx(error)


def test_bins_cover_everything_once():
    confidence = np.array([0.0, 1e-9, 1 / 15, 2 / 15 - 1e-9, 0.5, 1.0])
    bins = reliability_bins(confidence, np.ones(6, bool))
    assert len(bins) == 15
    assert [b.count for b in bins[:2]] == [3, 1]
    assert bins[-1].count == 1
    assert sum(b.count for b in bins) == 6
    assert (bins[0].low, bins[-1].high) == (0, 1)
    assert bins[3].confidence is bins[3].accuracy is None


def test_calibrating_lessens_the_error_of_a_model_that_is_too_sure():
    logits, targets = honest(4000, 5)
    sure = softmax(4 * logits)
    cooled = apply_temperature("probabilities", sure, fit_temperature(4 * logits, targets))
    before, after = (
        expected_calibration_error(p.max(axis=1), p.argmax(axis=1) == targets)
        for p in (sure, cooled)
    )
    assert before > 0.15
    assert after < 0.03


# ------------------------------------------------------------------ Wilson


@pytest.mark.parametrize(
    ("hits", "count", "low", "high"),
    [
        # Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (20, 20, 0.8389, 1.0),
        (0, 0, 0.0, 1.0),
    ],
)
def test_wilson_is_as_published(hits, count, low, high):
    assert wilson_interval(hits, count) == pytest.approx((low, high), abs=6e-5)


# ------------------------------------------------------------------ log-odds


def beliefs(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """What is believed, and whether it was right, by a line of log-odds: slope .6, offset 1.2."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 3, count)
    right = rng.random(count) < 1 / (1 + np.exp(-(0.6 * odds + 1.2)))
    return -np.logaddexp(0, -odds), right


def test_a_line_of_log_odds_is_found_again():
    given, right = beliefs(20_000)
    slope, offset = fit_log_odds(given, right)
    assert slope == pytest.approx(0.6, abs=0.03)
    assert offset == pytest.approx(1.2, abs=0.06)
    honest_ones = np.array([confidence_of(p, (slope, offset)) for p in given[:4000]])
    assert expected_calibration_error(honest_ones, right[:4000]) < 0.03
    assert expected_calibration_error(np.exp(given[:4000]), right[:4000]) > 0.1


def test_plain_confidences_stay_what_they_are():
    for p in (0.001, 0.3, 0.5, 0.999):
        assert confidence_of(math.log(p), (1.0, 0.0)) == pytest.approx(p)
    assert 0 < confidence_of(0.0, (1.0, 0.0)) <= 1
    assert confidence_of(-math.inf, (1.0, 0.0)) < 1e-12


@pytest.mark.parametrize("right", [True, False])
@pytest.mark.parametrize("count", [1, 5, 200])
def test_where_all_are_right_or_wrong_nothing_is_certain(right: bool, count: int):
    given = np.log(np.linspace(0.6, 0.99, count))
    line = fit_log_odds(given, np.full(count, right))
    assert all(0.001 < confidence_of(p, line) < 0.9999 for p in given)
    mean = np.mean([confidence_of(p, line) for p in given])
    assert (mean > 0.6) == right


def test_nothing_to_fit_on_changes_nothing_and_a_line_never_falls():
    assert fit_log_odds(np.zeros(0), np.zeros(0, bool)) == (1.0, 0.0)
    slope, _ = fit_log_odds(np.log([0.1] * 50 + [0.9] * 50), np.arange(100) < 50)
    assert slope == 0
