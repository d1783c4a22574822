"""Class probabilities -> the one label for the recording, or none."""

from __future__ import annotations

import numpy as np

from speechrnn.decoding.transcript import Transcript, Word
from speechrnn.errors import ModelError
from speechrnn.labels import Labels


def classify(
    probabilities: np.ndarray, labels: Labels, duration_s: float, *, threshold: float = 0.0
) -> Transcript:
    """The most probable label, as one word that spans the recording.

    Args:
        probabilities: float32 ``[labels]``; column ``k`` is the label with id ``k + 1``.
        labels: The model's labels.
        duration_s: Length of the recording.
        threshold: With less confidence than this the recording is rejected: its text is "", it
            has no words, and the confidence is that of the label it did not get.

    Raises:
        ModelError: The sizes differ, or the model answered something that is not finite.
    """
    if probabilities.shape != (len(labels),):
        raise ModelError(
            f"the model answered {list(probabilities.shape)} values, expected [{len(labels)}], "
            "one for each label"
        )
    best = int(np.argmax(probabilities))
    confidence = float(probabilities[best])
    if not np.isfinite(confidence):
        raise ModelError("the model answered NaN; its file is damaged")
    if confidence < threshold:
        return Transcript("", confidence, duration_s, ())
    text = labels.text_of(best + 1)
    return Transcript(text, confidence, duration_s, (Word(text, 0.0, duration_s, confidence),))
