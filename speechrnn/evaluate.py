"""How well a model recognises labelled recordings."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speechrnn.datasets.manifest import Utterance
from speechrnn.datasets.reading import load_waveforms
from speechrnn.decoding import Transcript
from speechrnn.errors import AudioError, LabelError, MissingExtraError
from speechrnn.progress import progress
from speechrnn.recognize import Model

# Recordings handed to the model at once: a bundle answers them as one padded batch.
BATCH_SIZE = 64


def evaluate_model(
    model: Model,
    rows: Sequence[Utterance],
    *,
    data_name: str,
    skip_broken: bool = False,
) -> dict[str, Any]:
    """Recognise every recording once and count.

    Returns:
        ``utterances``, ``audio_seconds``, ``accuracy`` (exact label), ``wer``, ``cer`` (never
        clamped), ``labels`` (per label: ``precision``, ``recall``, ``count``), ``confusions``
        (``[true, said, count]``, most frequent first), ``real_time_factor`` (time to answer over
        time of audio), ``model``, ``data``, ``errors`` (recordings that were left out).

    Raises:
        LabelError: A row's text is no label of the model.
        DataError: Broken recordings, unless ``skip_broken``.
    """
    for row in rows:
        try:
            model.labels.id_of(row.text)
        except LabelError as error:
            raise LabelError(f"{row.path}: {error}") from error
    loaded, broken = load_waveforms(
        rows, model.sample_rate_hz, model.min_samples, skip_broken=skip_broken
    )
    transcripts, seconds = _recognise(model, [waveform for _, waveform in loaded])
    truths = [row.text for row, _ in loaded]
    said = [transcript.text for transcript in transcripts]
    audio_s = sum(transcript.duration for transcript in transcripts)
    correct = sum(truth == text for truth, text in zip(truths, said, strict=True))
    return {
        "model": str(model.path),
        "data": data_name,
        "utterances": len(loaded),
        "speakers": len({row.speaker for row, _ in loaded}),
        "audio_seconds": round(audio_s, 3),
        "accuracy": correct / len(loaded),
        **_error_rates(truths, said),
        "labels": per_label(truths, said, model.labels.symbols),
        "confusions": [
            [truth, text, count]
            for (truth, text), count in Counter(zip(truths, said, strict=True)).most_common()
            if truth != text
        ],
        "real_time_factor": seconds / audio_s,
        "errors": [_error_record(error) for error in broken],
    }


def per_label(
    truths: Sequence[str], said: Sequence[str], symbols: Sequence[str]
) -> dict[str, dict[str, float | int | None]]:
    """Precision and recall (None where nothing was said, or true) and true count of each label."""
    true_count, said_count = Counter(truths), Counter(said)
    hits = Counter(truth for truth, text in zip(truths, said, strict=True) if truth == text)
    return {
        symbol: {
            "precision": hits[symbol] / said_count[symbol] if said_count[symbol] else None,
            "recall": hits[symbol] / true_count[symbol] if true_count[symbol] else None,
            "count": true_count[symbol],
        }
        for symbol in symbols
    }


def _recognise(model: Model, waveforms: Sequence[np.ndarray]) -> tuple[list[Transcript], float]:
    """Transcripts in the order of the waveforms, and the seconds that the model took.

    Waveforms are taken by length, so that a batch is not mostly padding.
    """
    order = sorted(range(len(waveforms)), key=lambda i: len(waveforms[i]))
    found: dict[int, Transcript] = {}
    seconds = 0.0
    starts = range(0, len(order), BATCH_SIZE)
    for start in progress(starts, "recognising", unit="batch"):
        chosen = order[start : start + BATCH_SIZE]
        started = time.perf_counter()
        answers = model.transcribe_many([waveforms[i] for i in chosen])
        seconds += time.perf_counter() - started
        found.update(zip(chosen, answers, strict=True))
    return [found[i] for i in range(len(waveforms))], seconds


def _error_rates(truths: list[str], said: list[str]) -> dict[str, float]:
    try:
        import jiwer
    except ModuleNotFoundError as error:
        raise MissingExtraError("evaluate", "train", "jiwer") from error
    return {"wer": float(jiwer.wer(truths, said)), "cer": float(jiwer.cer(truths, said))}


def _error_record(error: AudioError) -> dict[str, str]:
    return {"audio_filepath": str(Path(error.path)), "error": error.reason}
