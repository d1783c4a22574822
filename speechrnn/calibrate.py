"""After training: the temperature that makes a model's confidences honest on other recordings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from speechrnn.bundle import read_bundle, replace_decision
from speechrnn.decoding import Decision
from speechrnn.decoding.calibration import fit_temperature, log_probabilities
from speechrnn.labels import Labels
from speechrnn.progress import progress
from speechrnn.recognize import batches_by_length, load_model

if TYPE_CHECKING:
    from speechrnn.model import SpeechModel


def model_temperature(
    model: SpeechModel, waveforms: Sequence[np.ndarray], texts: Sequence[str]
) -> float:
    """The temperature for a model with its trained weights; the model is left as it is.

    Args:
        model: A model whose head gives one label; other heads have no temperature yet, and get 1.
        waveforms: Recordings that the model did not learn from, float32 ``[samples]`` each.
        texts: What is said in each: labels of the model.
    """
    if model.config.head.output_name != "probabilities":
        return 1.0

    from speechrnn.keras_recognizer import logits_of

    return _fit(lambda chosen: logits_of(model, chosen), model.labels, waveforms, texts)


def calibrate_bundle(
    bundle: str | Path, waveforms: Sequence[np.ndarray], texts: Sequence[str]
) -> Decision:
    """Fit the temperature of a saved bundle and store it there; the threshold is taken back to 0.

    Another temperature gives other confidences, so a threshold picked before means nothing.

    Args:
        bundle: A bundle, which is replaced by one that differs in its decision alone.
        waveforms: Recordings that the model did not learn from, float32 ``[samples]`` each, at
            the model's rate.
        texts: What is said in each: labels of the model.

    Raises:
        ModelError: The bundle is not intact.
        LabelError: A text is no label of the model.
        OutputError: The bundle cannot be written.
    """
    model = load_model(bundle)
    old = read_bundle(bundle).decision

    def answers(chosen: Sequence[np.ndarray]) -> np.ndarray:
        return log_probabilities(model.answer_many(chosen))

    found = Decision(old.temperature * _fit(answers, model.labels, waveforms, texts))
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
    temperature = read_bundle(bundle).decision.temperature
    replace_decision(bundle, Decision(temperature, threshold, budget, hours))


def _fit(
    logits: Callable[[Sequence[np.ndarray]], np.ndarray],
    labels: Labels,
    waveforms: Sequence[np.ndarray],
    texts: Sequence[str],
) -> float:
    """The temperature relative to that of the logits."""
    targets = np.array([labels.id_of(text) - 1 for text in texts], int)
    found = np.zeros((len(waveforms), len(labels)))
    for chosen in progress(batches_by_length(waveforms), "calibrating", unit="batch"):
        found[chosen] = logits([waveforms[i] for i in chosen])
    return fit_temperature(found, targets)
