"""Whether a confidence of 0.9 is right nine times in ten, and what makes it so. Numpy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# The search is over log T: the loss is convex in 1 / T, so it has one minimum in log T too.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
# Each step keeps 0.618 of the bracket: 40 leave 4e-9 of it, all that float64 tells of a minimum.
SEARCH_STEPS = 40
# Log-odds beyond are as good as certain.
MOST_LOG_ODDS = 30.0
# Enough for a convex loss, whose step is limited; and what keeps it convex where all are right.
NEWTON_STEPS, RIDGE = 100, 1e-3
SMALLEST = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Bin:
    """The answers whose confidence lies in ``(low, high]``; the means are None where none does."""

    low: float
    high: float
    count: int
    confidence: float | None
    accuracy: float | None


def fit_temperature(log_probabilities: np.ndarray, targets: np.ndarray) -> float:
    """The temperature under which the true labels are most likely.

    Golden-section search, so the same input gives the same number. Source: Guo et al. 2017, "On
    Calibration of Modern Neural Networks", arXiv:1706.04599, section 4.2; a true label counts as
    ``(n + 1) / (n + 2)`` of one, as in Platt 1999, "Probabilistic Outputs for Support Vector
    Machines", section 2.1, for ``n`` answers without a mistake would else prove certainty.

    Args:
        log_probabilities: ``[n, labels]``; logits do as well, for the two differ by a constant
            for each row.
        targets: int ``[n]``, the true column of each row, counted from 0.

    Returns:
        A number from 0.05 to 20; 1 where there is nothing to fit on.
    """
    logits = np.asarray(log_probabilities, np.float64)
    if not logits.size:
        return 1.0
    doubt = 1 / (len(logits) + 2)
    true = logits[np.arange(len(logits)), targets]
    wanted = (1 - doubt) * true + doubt * logits.mean(axis=1)
    relative = logits - wanted[:, None]

    def loss(log_temperature: float) -> float:
        scaled = relative / np.exp(log_temperature)
        peak = scaled.max(axis=1)
        return float(np.mean(peak + np.log(np.exp(scaled - peak[:, None]).sum(axis=1))))

    low, high = np.log(LOWEST_TEMPERATURE), np.log(HIGHEST_TEMPERATURE)
    ratio = (np.sqrt(5) - 1) / 2
    for _ in range(SEARCH_STEPS):
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        if loss(left) <= loss(right):
            high = right
        else:
            low = left
    return float(np.exp((low + high) / 2))


def fit_log_odds(log_probabilities: np.ndarray, correct: np.ndarray) -> tuple[float, float]:
    """Slope and offset of log-odds that make probabilities of being right honest.

    Logistic regression by Newton's method. Source: Platt 1999, section 2.2, with its targets: what
    is right counts as ``(n + 1) / (n + 2)``, what is wrong as ``1 / (m + 2)``.

    Args:
        log_probabilities: float ``[n]``, natural logarithms of what a model believes.
        correct: bool ``[n]``.

    Returns:
        1 and 0 where there is nothing to fit on. The slope is never negative.
    """
    given, right = log_odds(log_probabilities), np.asarray(correct, bool)
    if not given.size:
        return 1.0, 0.0
    num_right = int(right.sum())
    sure, doubt = (num_right + 1) / (num_right + 2), 1 / (len(right) - num_right + 2)
    wanted = np.where(right, sure, doubt)
    features = np.stack([given, np.ones_like(given)])
    found = np.array([1.0, 0.0])
    for _ in range(NEWTON_STEPS):
        answer = 1 / (1 + np.exp(-found @ features))
        gradient = features @ (answer - wanted) + RIDGE * (found - [1, 0])
        curvature = (features * answer * (1 - answer)) @ features.T + RIDGE * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        found = found - step / max(1.0, np.abs(step).max())  # never far at once
    if found[0] < 0:  # the surest are the wrong ones: all that is left is how many are right
        found = np.array([0.0, np.log((num_right + 1) / (len(right) - num_right + 1))])
    return float(found[0]), float(found[1])


def log_odds(log_probabilities: np.ndarray) -> np.ndarray:
    """``log p - log (1 - p)``, float64, within +-30."""
    given = np.minimum(np.asarray(log_probabilities, np.float64), -1e-13)
    return np.clip(given - np.log(-np.expm1(given)), -MOST_LOG_ODDS, MOST_LOG_ODDS)


def confidence_of(log_probability: float, line: tuple[float, float]) -> float:
    """The probability of being right, from slope and offset of log-odds."""
    odds = line[0] * float(log_odds(np.array(log_probability))) + line[1]
    return float(1 / (1 + np.exp(-odds)))


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    lowered = logits - logits.max(axis=-1, keepdims=True)
    return lowered - np.log(np.exp(lowered).sum(axis=-1, keepdims=True))


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """float64 logarithms; a probability that float32 rounded to 0 counts as the smallest one."""
    return np.log(np.maximum(np.asarray(probabilities, np.float64), SMALLEST))


def apply_temperature(kind: str, answer: np.ndarray, temperature: float) -> np.ndarray:
    """What the model would have answered at this temperature, ``[..., columns]``.

    ``kind`` is the head's ``output_name``, "probabilities" or "log_probs".
    """
    if temperature == 1:
        return answer
    logs = answer if kind == "log_probs" else log_probabilities(answer)
    scaled = _log_softmax(np.asarray(logs, np.float64) / temperature)
    return (scaled if kind == "log_probs" else np.exp(scaled)).astype(np.float32)


def reliability_bins(confidence: np.ndarray, correct: np.ndarray, bins: int = 15) -> list[Bin]:
    """Bins of equal width over 0..1 with the mean confidence and the accuracy of each.

    Args:
        confidence: float ``[n]``, 0 to 1.
        correct: bool ``[n]``.
        bins: How many.
    """
    confidence, correct = np.asarray(confidence, np.float64), np.asarray(correct, np.float64)
    place = np.clip(np.ceil(confidence * bins).astype(int) - 1, 0, bins - 1)
    found = []
    for i in range(bins):
        inside = place == i
        some = bool(inside.any())
        found.append(
            Bin(
                low=i / bins,
                high=(i + 1) / bins,
                count=int(inside.sum()),
                confidence=float(confidence[inside].mean()) if some else None,
                accuracy=float(correct[inside].mean()) if some else None,
            )
        )
    return found


def expected_calibration_error(
    confidence: np.ndarray, correct: np.ndarray, bins: int = 15
) -> float:
    """Mean over the answers of |accuracy - confidence| of their bin, 0 to 1 (Guo et al., eq. 3)."""
    total = sum(
        b.count * abs(b.accuracy - b.confidence)
        for b in reliability_bins(confidence, correct, bins)
        if b.confidence is not None and b.accuracy is not None
    )
    return total / max(1, len(np.asarray(confidence)))
