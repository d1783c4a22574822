"""Whether a confidence of 0.9 is right nine times in ten, and what makes it so. Numpy alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# The search is over log T: the loss is convex in 1 / T, so it has one minimum in log T too.
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
# Each step keeps 0.618 of the bracket: 40 leave 4e-9 of it, all that float64 tells of a minimum.
SEARCH_STEPS = 40
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


def log_probabilities(probabilities: np.ndarray) -> np.ndarray:
    """float64 logarithms; a probability that float32 rounded to 0 counts as the smallest one."""
    return np.log(np.maximum(np.asarray(probabilities, np.float64), SMALLEST))


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """What the model would have answered at this temperature, ``[..., labels]``."""
    if temperature == 1:
        return probabilities
    scaled = log_probabilities(probabilities) / temperature
    powers = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return (powers / powers.sum(axis=-1, keepdims=True)).astype(np.float32)


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
