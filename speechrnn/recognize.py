"""A MODEL, bundle or .tflite alike, ready to answer."""

from __future__ import annotations

import os  # os.path.isdir, unlike Path.is_dir, is False where one may not look
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from speechrnn.bundle import is_bundle
from speechrnn.config import to_mapping
from speechrnn.decoding import Decoder, Transcript
from speechrnn.decoding.margin import Margin
from speechrnn.errors import LabelError, ModelError
from speechrnn.extras import require_training
from speechrnn.labels import Labels
from speechrnn.ready_models import model_path, no_such_model

if TYPE_CHECKING:
    from speechrnn.datasets.manifest import Utterance

# Recordings handed to a model at once: a bundle answers them as one padded batch.
BATCH_SIZE = 64


class Model(Protocol):
    """What a bundle and a .tflite have in common."""

    path: Path
    labels: Labels
    sample_rate_hz: int
    min_samples: int
    temperature: float
    threshold: float
    grammar_margin: Margin | None
    clip_s: tuple[float, float]
    decoder: Decoder

    def selftest(self) -> float:
        """How far its answer to the self-test is from what it was; a ModelError if too far."""

    def transcribe(self, recording: str | Path | np.ndarray) -> Transcript:
        """Recognise a file, or a waveform at the model's rate."""

    def transcribe_many(self, waveforms: Sequence[np.ndarray]) -> list[Transcript]:
        """Recognise checked waveforms at the model's rate, in their order."""

    def answer_many(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The answers themselves to checked waveforms: ``[labels]``, or ``[steps, columns]``."""


def batches_by_length(waveforms: Sequence[np.ndarray]) -> list[list[int]]:
    """Indices in batches of recordings of like length, which padding makes little longer."""
    order = sorted(range(len(waveforms)), key=lambda i: len(waveforms[i]))
    return [order[start : start + BATCH_SIZE] for start in range(0, len(order), BATCH_SIZE)]


def expected_answers(model: Model, rows: Iterable[Utterance]) -> list[str]:
    """The right answer to each recording.

    Raises:
        LabelError: The model cannot say a text; names the recording.
    """
    found = []
    for row in rows:
        try:
            found.append(model.decoder.expected(row.text))
        except LabelError as error:
            raise LabelError(f"{row.path}: {error}") from error
    return found


def load_model(path: str | Path, *, num_threads: int = 1) -> Model:
    """Open a bundle directory or a .tflite file.

    Args:
        path: The model, or the name of a ready one (:mod:`speechrnn.ready_models`).
        num_threads: Threads for a .tflite; a bundle uses what its backend takes.

    Raises:
        ModelError: Missing, foreign, damaged, or of another version.
        MissingExtraError: A bundle is given and Keras is not installed.
    """
    model = model_path(path)
    if os.path.isdir(model):
        if not is_bundle(model):
            raise ModelError(f"{path}: is a folder without bundle.json, expected a bundle")
        require_training("a bundle as the model")
        from speechrnn.keras_recognizer import KerasRecognizer

        return KerasRecognizer(model)
    if not os.path.exists(model):
        raise no_such_model(path)
    from speechrnn.runtime import Recognizer

    return Recognizer(model, num_threads=num_threads)


def describe_model(path: str | Path) -> dict[str, Any]:
    """What a bundle or .tflite says about itself, as plain values; nothing is computed.

    Raises:
        ModelError: Missing, foreign, or damaged.
    """
    model = model_path(path)
    if os.path.isdir(model):
        from speechrnn.bundle import read_bundle

        info = read_bundle(model)
        return {
            "path": str(model),
            "kind": "bundle",
            "bytes": sum(file.stat().st_size for file in model.iterdir()),
            "labels": list(info.labels.symbols),
            **info.sections,
            "front_end": info.front_end,
            "decision": to_mapping(info.decision),
            "num_parameters": info.num_parameters,
            "training": info.training,
            "metrics": info.metrics,
            "sha256": info.sha256,
        }
    from speechrnn.runtime import read_metadata

    found = read_metadata(model)
    from speechrnn.flatbuffer import Graph

    graph = Graph(found.model)
    return {
        "path": str(model),
        "kind": "tflite",
        "bytes": model.stat().st_size,
        **found.metadata,
        "operators": graph.count_operators(),
        "weights_bytes": graph.count_bytes(),
    }
