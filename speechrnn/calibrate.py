"""After training: the temperature that makes a model's confidences honest on other recordings."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from speechrnn.bundle import read_bundle, replace_decision
from speechrnn.decoding import Decision
from speechrnn.decoding.calibration import (
    fit_sequence_temperature,
    fit_temperature,
    log_probabilities,
)
from speechrnn.progress import progress
from speechrnn.recognize import batches_by_length, load_model

if TYPE_CHECKING:
    from speechrnn.model import SpeechModel


def model_temperature(
    model: SpeechModel, waveforms: Sequence[np.ndarray], texts: Sequence[str]
) -> float:
    """The temperature for a model with its trained weights; the model is left as it is.

    Args:
        model: A model.
        waveforms: Recordings that the model did not learn from, float32 ``[samples]`` each.
        texts: What is said in each: what the model's labels spell.
    """
    from speechrnn.keras_recognizer import logits_of

    config = model.config
    ids = [config.head.targets(text, model.labels) for text in texts]
    num_steps = np.array([config.num_steps(len(waveform)) for waveform in waveforms])

    def answers(chosen: Sequence[np.ndarray]) -> Iterable[np.ndarray]:
        return logits_of(model, chosen)

    return _fit(config.head.output_name, answers, waveforms, ids, num_steps)


def calibrate_bundle(
    bundle: str | Path, waveforms: Sequence[np.ndarray], texts: Sequence[str]
) -> Decision:
    """Fit the temperature of a saved bundle and store it there; the threshold is taken back to 0.

    Another temperature gives other confidences, so a threshold picked before means nothing.

    Args:
        bundle: A bundle, which is replaced by one that differs in its decision alone.
        waveforms: Recordings that the model did not learn from, float32 ``[samples]`` each, at
            the model's rate.
        texts: What is said in each: what the model's labels spell.

    Raises:
        ModelError: The bundle is not intact.
        LabelError: The model's labels do not spell a text.
        OutputError: The bundle cannot be written.
    """
    from speechrnn.model import ModelConfig

    model, info = load_model(bundle), read_bundle(bundle)
    config = ModelConfig.from_mapping(info.sections)
    kind = config.head.output_name
    ids = [config.head.targets(text, info.labels) for text in texts]
    num_steps = np.array([config.num_steps(len(waveform)) for waveform in waveforms])

    def answers(chosen: Sequence[np.ndarray]) -> Iterable[np.ndarray]:
        found = model.answer_many(chosen)
        return found if kind == "log_probs" else map(log_probabilities, found)

    found = Decision(info.decision.temperature * _fit(kind, answers, waveforms, ids, num_steps))
    replace_decision(bundle, found)
    return found


def store_threshold(
    bundle: str | Path, threshold: float, budget: float | None = None, hours: float | None = None
) -> None:
    """Have every runtime of the bundle reject what is less confident than ``threshold``.

    ``budget`` and ``hours`` say for how many false alarms an hour it was picked, and on how many
    hours of background.

    Raises:
        ModelError: The bundle is not intact.
        OutputError: It cannot be written.
    """
    old = read_bundle(bundle).decision
    changed = dataclasses.replace(
        old, threshold=threshold, threshold_budget=budget, threshold_hours=hours
    )
    replace_decision(bundle, changed)


def store_grammar_margin(bundle: str | Path, margin: float, false_accepts: float) -> None:
    """Have every runtime of the bundle reject what keeps further from a grammar than ``margin``.

    Raises:
        ModelError: The bundle is not intact.
        OutputError: It cannot be written.
    """
    old = read_bundle(bundle).decision
    changed = dataclasses.replace(old, grammar_margin=margin, grammar_false_accepts=false_accepts)
    replace_decision(bundle, changed)


def _fit(
    kind: str,
    logits: Callable[[Sequence[np.ndarray]], Iterable[np.ndarray]],
    waveforms: Sequence[np.ndarray],
    ids: Sequence[Sequence[int]],
    num_steps: np.ndarray,
) -> float:
    """The temperature relative to that of the logits."""
    if not waveforms:
        return 1.0
    found: list[np.ndarray] = [np.zeros(0)] * len(waveforms)
    for chosen in progress(batches_by_length(waveforms), "calibrating", unit="batch"):
        for i, answer in zip(chosen, logits([waveforms[i] for i in chosen]), strict=True):
            found[i] = answer[: num_steps[i]] if kind == "log_probs" else answer
    if kind == "probabilities":
        return fit_temperature(np.stack(found), np.array([row[0] - 1 for row in ids], int))
    stacked = np.zeros((len(found), num_steps.max(), found[0].shape[-1]), np.float32)
    for row, answer in zip(stacked, found, strict=True):
        row[: len(answer)] = answer
    return fit_sequence_temperature(stacked, num_steps, ids)
