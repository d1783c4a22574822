"""How well a model recognises labelled recordings."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from speechrnn.background import (
    BackgroundTest,
    describe_detection,
    load_background,
    measure_background,
)
from speechrnn.command_grammar import describe_grammar, fitted_margin, measure_grammar
from speechrnn.counting import confusions, error_rates, per_label, word_pairs
from speechrnn.datasets.manifest import Utterance
from speechrnn.datasets.reading import load_waveforms
from speechrnn.decoding import Transcript
from speechrnn.decoding.calibration import expected_calibration_error, reliability_bins
from speechrnn.errors import AudioError
from speechrnn.noise import add_noise, load_noise, noise_segment
from speechrnn.progress import progress
from speechrnn.recognize import Model, batches_by_length, expected_answers

# Signal to noise, dB, from an office to a voice that is drowned.
SNRS_DB = (20.0, 15.0, 10.0, 5.0, 0.0, -5.0)
CALIBRATION_BINS = 15
MOST_MISTAKES = 20
# Quantile of the normal distribution that leaves 2.5 % on either side.
Z_95 = 1.959963984540054


def evaluate_model(
    model: Model,
    rows: Sequence[Utterance],
    *,
    data_name: str,
    skip_broken: bool = False,
    noise: str | Path | None = None,
    background: BackgroundTest | None = None,
    adopt_threshold: bool = False,
    false_accepts: float | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Recognise every recording once and count; and again in noise, and in a background.

    Args:
        model: A bundle or a .tflite.
        rows: Labelled recordings.
        data_name: What the figures call them.
        skip_broken: Whether unreadable recordings are left out.
        noise: A file or folder of noise to add at ``SNRS_DB``.
        background: Long recordings without commands.
        adopt_threshold: Whether the model takes on the threshold that was picked for the
            background's budget: then it counts for all that is counted after it.
        false_accepts: Share of the utterances outside the model's grammar that may be taken for a
            phrase: picks its margin, which counts for all that is counted after it.
        seed: Of the parts of the noise.

    Returns:
        ``utterances``, ``audio_seconds``, ``accuracy`` (exact label, or exact utterance; a
        rejected recording is wrong), ``interval`` (95 %, Wilson, over recordings), ``wer``, ``cer``
        (never clamped), ``labels`` (per label, or per word: ``precision``, ``recall``, ``count``),
        ``confusions`` (``[true, said, count]``, most frequent first; said is "" where nothing was
        heard, true where nothing was said), ``speakers``
        (how many), ``speakers_detail`` (per speaker: ``accuracy``, ``count``), ``speaker_spread``
        (of the speakers' accuracies: ``mean``, ``standard_deviation``, ``lowest``, ``highest``;
        None where speakers are unknown), ``threshold``, ``rejected`` (in which something was said
        and nothing was accepted), ``calibration``
        (``temperature``, ``ece``, ``bins``), ``mistakes`` (the most confident ones), ``noise``
        (``snr_db``, None for clean, ``accuracy``, ``wer``, ``rejected``; empty without noise),
        ``grammar`` (as :func:`measure_grammar` has it; None without one),
        ``detection`` (as :func:`measure_background` has it; None without background),
        ``real_time_factor`` (time to answer over time of audio), ``model``, ``data``, ``errors``
        (recordings that were left out).

    Raises:
        LabelError: A row's text is no label of the model.
        DataError: Broken recordings, unless ``skip_broken``; noise or background of no use.
    """
    expected_answers(model, rows)  # before a recording is read
    noises = load_noise(noise, model.sample_rate_hz) if noise is not None else []
    streams = load_background(background, model) if background else []
    loaded, broken = load_waveforms(
        rows, model.sample_rate_hz, model.min_samples, skip_broken=skip_broken
    )
    truths = expected_answers(model, (row for row, _ in loaded))
    waveforms = [waveform for _, waveform in loaded]
    grammar = None
    if model.decoder.has_grammar or false_accepts is not None:
        grammar = measure_grammar(model, [row.text for row, _ in loaded], waveforms, false_accepts)
        if false_accepts is not None:
            model.decoder = model.decoder.with_grammar_margin(fitted_margin(grammar))
    detection = None
    if background:
        clips = list(zip(truths, waveforms, strict=True))
        detection = measure_background(model, streams, clips, background)
        if adopt_threshold and detection["threshold"] is not None:
            model.threshold = detection["threshold"]
    best, seconds = _recognise(model, waveforms)
    said = _accepted(best, model.threshold)
    audio_s = sum(transcript.duration for transcript in best)
    correct = sum(truth == text for truth, text in zip(truths, said, strict=True))
    heard = [
        [word.text for word in transcript.words] if text else []
        for transcript, text in zip(best, said, strict=True)
    ]
    by_utterance = word_pairs([model.decoder.units(truth) for truth in truths], heard)
    pairs = [pair for found in by_utterance for pair in found]
    return {
        "model": str(model.path),
        "data": data_name,
        "utterances": len(loaded),
        "speakers": len({row.speaker for row, _ in loaded} - {""}),
        "audio_seconds": round(audio_s, 3),
        "accuracy": correct / len(loaded),
        "interval": list(wilson_interval(correct, len(loaded))),
        **error_rates(truths, said),
        "labels": per_label(pairs, model.decoder.words or sorted({t for t, _ in pairs} - {""})),
        "confusions": confusions(pairs),
        **_per_speaker([row.speaker for row, _ in loaded], truths, said),
        "threshold": model.threshold,
        "rejected": _rejected(truths, said),
        "calibration": _calibration(model, truths, best),
        "mistakes": _mistakes([row for row, _ in loaded], truths, said, best),
        "noise": _in_noise(model, truths, waveforms, said, noises, seed) if noises else [],
        "grammar": grammar,
        "detection": detection,
        "real_time_factor": seconds / audio_s,
        "errors": [_error_record(error) for error in broken],
    }


def describe_tests(result: Mapping[str, Any]) -> Iterator[str]:
    """How sure the accuracy is, and what else was measured, in lines."""
    low, high = result["interval"]
    spread, calibration = result["speaker_spread"], result["calibration"]
    by_voice = (
        f"; speakers from {100 * spread['lowest']:.1f} to {100 * spread['highest']:.1f} %, "
        f"standard deviation {100 * spread['standard_deviation']:.1f} points"
        if spread
        else ""
    )
    yield f"95 % interval over recordings {100 * low:.2f} to {100 * high:.2f} %{by_voice}"
    yield (
        f"calibration error {100 * calibration['ece']:.2f} % at temperature "
        f"{calibration['temperature']:.3g}"
    )
    if result["threshold"]:
        yield f"{result['rejected']} rejected below threshold {result['threshold']:g}"
    for point in result["noise"]:
        level = "clean" if point["snr_db"] is None else f"{point['snr_db']:g} dB"
        yield f"{level:>6}  {100 * point['accuracy']:.2f} %"
    if result["grammar"]:
        yield describe_grammar(result["grammar"])
    if result["detection"]:
        yield from describe_detection(result["detection"])


def wilson_interval(hits: int, count: int, z: float = Z_95) -> tuple[float, float]:
    """Where the true share lies, with 95 % confidence, after ``hits`` in ``count`` trials.

    Source: Wilson 1927, "Probable inference, the law of succession, and statistical inference".
    """
    if count == 0:
        return 0.0, 1.0
    share, square = hits / count, z * z / count
    middle = (share + square / 2) / (1 + square)
    half = z / (1 + square) * math.sqrt(share * (1 - share) / count + square / count / 4)
    return max(0.0, middle - half), min(1.0, middle + half)


def _recognise(
    model: Model,
    waveforms: Sequence[np.ndarray],
    change: Callable[[int], np.ndarray] | None = None,
    purpose: str = "recognising",
) -> tuple[list[Transcript], float]:
    """The best label of each, accepted or not, in their order; the seconds that the model took.

    ``change`` makes the recording to answer from its number; the default takes it as it is.
    """
    threshold, model.threshold = model.threshold, 0.0
    found: dict[int, Transcript] = {}
    seconds = 0.0
    try:
        for chosen in progress(batches_by_length(waveforms), purpose, unit="batch"):
            batch = [change(i) if change else waveforms[i] for i in chosen]
            started = time.perf_counter()
            answers = model.transcribe_many(batch)
            seconds += time.perf_counter() - started
            found.update(zip(chosen, answers, strict=True))
    finally:
        model.threshold = threshold
    return [found[i] for i in range(len(waveforms))], seconds


def _accepted(best: Sequence[Transcript], threshold: float) -> list[str]:
    """What the model says, "" where it rejects."""
    return [found.text if found.confidence >= threshold else "" for found in best]


def _per_speaker(
    speakers: Sequence[str], truths: Sequence[str], said: Sequence[str]
) -> dict[str, Any]:
    """Accuracy and count of each known speaker, and how the accuracies spread."""
    answers: dict[str, list[bool]] = defaultdict(list)
    for speaker, truth, text in zip(speakers, truths, said, strict=True):
        if speaker:
            answers[speaker].append(truth == text)
    detail = {
        speaker: {"accuracy": sum(right) / len(right), "count": len(right)}
        for speaker, right in sorted(answers.items())
    }
    accuracies = np.array([figures["accuracy"] for figures in detail.values()])
    spread = (
        {
            "mean": float(accuracies.mean()),
            "standard_deviation": float(accuracies.std()),
            "lowest": float(accuracies.min()),
            "highest": float(accuracies.max()),
        }
        if detail
        else None
    )
    return {"speakers_detail": detail, "speaker_spread": spread}


def _calibration(model: Model, truths: Sequence[str], best: Sequence[Transcript]) -> dict[str, Any]:
    """Of every answer, whatever the threshold; rounded to what is no noise.

    What a grammar rejects is no answer: its confidence is that of a phrase that was not said.
    """
    rejects = model.decoder.has_grammar
    answers = [(t, b) for t, b in zip(truths, best, strict=True) if b.text or not rejects]
    confidence = np.array([found.confidence for _, found in answers])
    correct = np.array([truth == found.text for truth, found in answers], bool)
    return {
        "temperature": model.temperature,
        "ece": round(expected_calibration_error(confidence, correct, CALIBRATION_BINS), 4),
        "bins": [
            {key: value if value is None else round(value, 4) for key, value in asdict(b).items()}
            for b in reliability_bins(confidence, correct, CALIBRATION_BINS)
        ],
    }


def _mistakes(
    rows: Sequence[Utterance],
    truths: Sequence[str],
    said: Sequence[str],
    best: Sequence[Transcript],
) -> list[dict[str, Any]]:
    """Wrong answers that were accepted, the most confident first."""
    wrong: list[dict[str, Any]] = [
        {
            "audio_filepath": str(row.path),
            "truth": truth,
            "said": text,
            "confidence": round(found.confidence, 4),
            "speaker": row.speaker,
        }
        for row, truth, text, found in zip(rows, truths, said, best, strict=True)
        if text and text != truth
    ]
    return sorted(wrong, key=lambda mistake: -mistake["confidence"])[:MOST_MISTAKES]


def _in_noise(
    model: Model,
    truths: Sequence[str],
    waveforms: Sequence[np.ndarray],
    clean: Sequence[str],
    noises: Sequence[np.ndarray],
    seed: int,
) -> list[dict[str, Any]]:
    """Accuracy with noise at each ratio, clean first; a recording keeps its part of the noise."""

    def point(snr_db: float | None, said: Sequence[str]) -> dict[str, Any]:
        right = sum(truth == text for truth, text in zip(truths, said, strict=True))
        return {
            "snr_db": snr_db,
            "accuracy": right / len(truths),
            "wer": error_rates(truths, said)["wer"],
            "rejected": _rejected(truths, said),
        }

    def noisy(snr_db: float) -> list[str]:
        def change(i: int) -> np.ndarray:
            rng = np.random.default_rng([seed, i])
            return add_noise(waveforms[i], noise_segment(noises, len(waveforms[i]), rng), snr_db)

        best, _ = _recognise(model, waveforms, change, f"recognising at {snr_db:g} dB")
        return _accepted(best, model.threshold)

    return [point(None, clean), *(point(snr_db, noisy(snr_db)) for snr_db in SNRS_DB)]


def _rejected(truths: Sequence[str], said: Sequence[str]) -> int:
    """Recordings in which something was said and nothing was accepted."""
    return sum(bool(truth) and not text for truth, text in zip(truths, said, strict=True))


def _error_record(error: AudioError) -> dict[str, str]:
    return {"audio_filepath": str(Path(error.path)), "error": error.reason}
