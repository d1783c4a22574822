"""Whether a confidence of 0.9 is right nine times in ten, and what makes it so. Numpy alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from speechrnn.decoding.align import least_steps
from speechrnn.decoding.likelihood import log_likelihoods

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

    return _lowest(loss)


def fit_sequence_temperature(
    log_probs: np.ndarray, num_steps: np.ndarray, ids: Sequence[Sequence[int]]
) -> float:
    """As :func:`fit_temperature`, for utterances of several symbols.

    What counts is the likelihood of an utterance's symbols over all paths. The doubt is the same:
    at each step every column is as likely as any other, so often.

    Args:
        log_probs: ``[n, steps, columns]``, logarithms or logits.
        num_steps: int ``[n]``, the true steps of each.
        ids: The symbols that are said in each; those that its steps cannot hold are left out.
    """
    possible = np.array([least_steps(row) for row in ids]) <= num_steps
    logits = np.asarray(log_probs, np.float64)[possible]
    if not logits.size:
        return 1.0
    num_steps = num_steps[possible]
    ids = [row for row, can_be in zip(ids, possible, strict=True) if can_be]
    doubt = 1 / (len(logits) + 2)
    true = np.arange(logits.shape[1]) < num_steps[:, None]

    def loss(log_temperature: float) -> float:
        scaled = _log_softmax(logits / np.exp(log_temperature))
        right = log_likelihoods(scaled, num_steps, ids).mean()
        return float(-(1 - doubt) * right - doubt * scaled[true].mean())

    return _lowest(loss)


def _lowest(loss: Callable[[float], float]) -> float:
    """The temperature at whose logarithm the loss is lowest, by golden-section search."""
    low, high = np.log(LOWEST_TEMPERATURE), np.log(HIGHEST_TEMPERATURE)
    ratio = (np.sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    left_loss, right_loss = loss(left), loss(right)
    for _ in range(SEARCH_STEPS):
        if left_loss <= right_loss:
            high, right, right_loss = right, left, left_loss
            left = high - ratio * (high - low)
            left_loss = loss(left)
        else:
            low, left, left_loss = left, right, right_loss
            right = low + ratio * (high - low)
            right_loss = loss(right)
    return float(np.exp((low + high) / 2))


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
