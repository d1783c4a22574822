"""What a training measures on examples: their features before it, the model's answers during it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from speechrnn.datasets.batches import evaluation_batches
from speechrnn.datasets.examples import Example
from speechrnn.model import SpeechModel
from speechrnn.spread import evenly

EVALUATION_BATCH = 128
# Recordings whose frames decide the stored means and deviations; more change them by under 1 %.
STATISTICS_EXAMPLES = 1000


def feature_statistics(
    model: SpeechModel, examples: Sequence[Example]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each value of a true frame, float32 ``[features]``.

    Taken from at most ``STATISTICS_EXAMPLES`` recordings, spread evenly over all.
    """
    config = model.config.features
    chosen = evenly(examples, STATISTICS_EXAMPLES)
    total, squares, count = np.zeros(config.num_features), np.zeros(config.num_features), 0
    for batch in evaluation_batches(chosen, EVALUATION_BATCH, config.sample_rate_hz):
        frames = ops.convert_to_numpy(
            model.front_end.unnormalised(batch.x["waveform"], batch.x["num_samples"])
        )
        for row, num_samples in zip(frames, batch.x["num_samples"], strict=True):
            true = np.asarray(row[: config.num_frames(int(num_samples))], np.float64)
            total += true.sum(axis=0)
            squares += np.square(true).sum(axis=0)
            count += len(true)
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)  # of a constant, rounding may say -1e-14
    return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def evaluate_examples(model: SpeechModel, examples: Sequence[Example]) -> dict[str, Any]:
    """Accuracy and mean loss over examples, each counted once."""
    correct = loss = 0.0
    rate_hz = model.config.features.sample_rate_hz
    for batch in evaluation_batches(examples, EVALUATION_BATCH, rate_hz):
        found = model.test_on_batch(batch.x, batch.y, return_dict=True)
        size = len(batch.x["num_samples"])
        correct += found["accuracy"] * size
        loss += found["loss"] * size
    return {
        "accuracy": round(correct / len(examples), 6),
        "loss": round(loss / len(examples), 6),
        "utterances": len(examples),
        "speakers": len({example.row.speaker for example in examples} - {""}),
    }
