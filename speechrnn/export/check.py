"""A bundle against the files made of it, on the same labelled recordings."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechrnn.counting import error_rates
from speechrnn.datasets.manifest import Utterance
from speechrnn.decoding import Transcript
from speechrnn.errors import ExportError
from speechrnn.progress import progress
from speechrnn.recognize import Model, batches_by_length, expected_answers
from speechrnn.runtime import Recognizer

# A labelled recording, and its waveform at the model's rate.
Labelled = tuple[Utterance, np.ndarray]
# A process that opens a file and answers to so many samples, and says what memory that took.
PEAK_MEMORY = (sys.executable, "-m", "speechrnn.runtime.peak_memory")
PEAK_MEMORY_TIMEOUT_S = 120
# Of disagreements, so many are named.
MOST_NAMED = 20


@dataclass(frozen=True)
class FormatFigures:
    """What one file does on the recordings.

    Attributes:
        quantization: Its format.
        num_bytes: Of the file.
        clip_ms: Median time to answer to a recording, one thread.
        real_time_factor: Time to answer to all of them over the time that they last.
        peak_mb: Largest resident memory of a process that answers to the longest of them, Python
            and NumPy included; None where the system does not say.
        accuracy: Share of recordings with exactly the right text.
        wer: Word error rate, not clamped.
        largest_difference: Of a probability from the bundle's; in float32 of a sequence's natural
            logarithms.
        disagreements: Recordings of which the bundle says something else.
    """

    quantization: str
    num_bytes: int
    clip_ms: float
    real_time_factor: float
    peak_mb: float | None
    accuracy: float
    wer: float
    largest_difference: float
    disagreements: int


@dataclass(frozen=True)
class Disagreement:
    """A recording of which the file says something else than the bundle; "" is nothing."""

    path: Path
    truth: str
    bundle: str
    file: str


@dataclass(frozen=True)
class Comparison:
    """A bundle and its files on the same recordings.

    Attributes:
        recordings: How many.
        accuracy: The bundle's.
        wer: The bundle's.
        counted: "accuracy", or "wer" of a model of sequences: what a loss is of.
        formats: The format that is to be written, and then every other.
        left_out: Formats that were not made, and why.
        disagreements: Of the format that is to be written.
    """

    recordings: int
    accuracy: float
    wer: float
    counted: str
    formats: tuple[FormatFigures, ...]
    left_out: Mapping[str, str]
    disagreements: tuple[Disagreement, ...]

    def loss(self, figures: FormatFigures) -> float:
        """What a format loses against the bundle: accuracy, or word error rate that it adds."""
        if self.counted == "wer":
            return figures.wer - self.wer
        return self.accuracy - figures.accuracy


class Reference:
    """What a bundle answers to labelled recordings, for its files to be held against.

    Raises:
        LabelError: A text is no label of the model.
    """

    def __init__(self, model: Model, recordings: Sequence[Labelled]) -> None:
        self.rows = [row for row, _ in recordings]
        self.waveforms = [waveform for _, waveform in recordings]
        self.truths = expected_answers(model, self.rows)
        self._answers: list[np.ndarray] = [np.empty(0)] * len(recordings)
        with progress(None, "the bundle", unit="clip", total=len(recordings)) as line:
            for chosen in batches_by_length(self.waveforms):
                found = model.answer_many([self.waveforms[i] for i in chosen])
                for i, answer in zip(chosen, found, strict=True):
                    self._answers[i] = answer
                line.update(len(chosen))
        self.said = [_said(model, a, w) for a, w in zip(self._answers, self.waveforms, strict=True)]
        self.accuracy, self.wer = _rates(self.truths, self.said)

    def measure(self, recognizer: Recognizer) -> tuple[FormatFigures, list[Disagreement]]:
        """A file's figures, and where it says something else."""
        kind, seconds, largest, said = recognizer.metadata["quantization"], [], 0.0, []
        recognizer.run(self.waveforms[0])  # what is done but once
        bar = progress(self.waveforms, kind, unit="clip")
        for waveform, expected in zip(bar, self._answers, strict=True):
            started = time.perf_counter()
            answer = recognizer.run(waveform)
            seconds.append(time.perf_counter() - started)
            largest = max(largest, largest_difference(recognizer, answer, expected))
            said.append(_said(recognizer, answer, waveform))
        others = [
            Disagreement(row.path, *texts)
            for row, *texts in zip(self.rows, self.truths, self.said, said, strict=True)
            if texts[1] != texts[2]
        ]
        accuracy, wer = _rates(self.truths, said)
        samples = [len(waveform) for waveform in self.waveforms]
        figures = FormatFigures(
            quantization=kind,
            num_bytes=recognizer.path.stat().st_size,
            clip_ms=1e3 * statistics.median(seconds),
            real_time_factor=sum(seconds) * recognizer.sample_rate_hz / sum(samples),
            peak_mb=peak_memory_mb(recognizer.path, max(samples)),
            accuracy=accuracy,
            wer=wer,
            largest_difference=largest,
            disagreements=len(others),
        )
        return figures, others


def compare(
    model: Model,
    recognizers: Iterable[Recognizer],
    recordings: Sequence[Labelled],
    left_out: Mapping[str, str],
) -> Comparison:
    """Measure files against the bundle that they were made of, the first above all.

    Args:
        model: The bundle.
        recognizers: Its files; the first is the one whose disagreements are named.
        recordings: What to answer to; at least one.
        left_out: Formats of which there is no file, and why.

    Raises:
        LabelError: A text is no label of the model.
        ExportError: A process of its own cannot run a file.
    """
    reference = Reference(model, recordings)
    measured, counted = [], "accuracy"
    for recognizer in recognizers:
        counted = "wer" if recognizer.metadata["output"]["name"] == "log_probs" else "accuracy"
        measured.append(reference.measure(recognizer))
    return Comparison(
        recordings=len(recordings),
        accuracy=reference.accuracy,
        wer=reference.wer,
        counted=counted,
        formats=tuple(figures for figures, _ in measured),
        left_out=left_out,
        disagreements=tuple(measured[0][1]),
    )


def largest_difference(recognizer: Recognizer, actual: np.ndarray, expected: np.ndarray) -> float:
    """Of probabilities; in float32 of their logarithms, where the model answers with these."""
    if actual.shape != expected.shape:
        return np.inf
    logarithms = recognizer.metadata["output"]["name"] == "log_probs"
    if logarithms and recognizer.metadata["quantization"] != "none":
        actual, expected = np.exp(actual), np.exp(expected)
    return float(np.max(np.abs(actual - expected)))


def peak_memory_mb(file: Path, num_samples: int) -> float | None:
    """Largest resident memory of a process that answers to so many samples with a file.

    Raises:
        ExportError: The process fails.
    """
    run = subprocess.run(
        [*PEAK_MEMORY, str(file), str(num_samples)],
        capture_output=True,
        text=True,
        timeout=PEAK_MEMORY_TIMEOUT_S,
        check=False,
    )
    if run.returncode != 0:
        lines = run.stderr.strip().splitlines() or ["it said nothing"]
        raise ExportError(f"{file.name}: a process of its own cannot run it ({lines[-1][:300]})")
    return None if run.stdout.strip() == "unknown" else float(run.stdout) / 1e6


def describe(comparison: Comparison) -> Iterator[str]:
    """The table of all formats, the first is the one to be written; and the disagreements."""
    whole, sequences = 100 * comparison.accuracy, comparison.counted == "wer"
    rates = f"accuracy {whole:.2f} %" + (f", WER {100 * comparison.wer:.2f} %" * sequences)
    yield f"on {comparison.recordings} recordings; the bundle: {rates}"
    counted = "  WER %" if sequences else ""
    yield (
        f"  {'format':10}   kB  ms a clip  real time  peak MB  accuracy %{counted}   loss"
        "  largest difference  other answers"
    )
    for place, row in enumerate(comparison.formats):
        peak = "-" if row.peak_mb is None else f"{row.peak_mb:.0f}"
        error = f"{100 * row.wer:7.2f}" if sequences else ""
        yield (
            f"{' ' if place else '*'} {row.quantization:8}{row.num_bytes / 1e3:7.0f}"
            f"{row.clip_ms:11.2f}{row.real_time_factor:11.4f}{peak:>9}{100 * row.accuracy:12.2f}"
            f"{error}{100 * comparison.loss(row):+7.2f}{row.largest_difference:20.1e}"
            f"{row.disagreements:15}"
        )
    for name, reason in comparison.left_out.items():
        yield f"  {name:8} not made: {reason}"
    for other in comparison.disagreements[:MOST_NAMED]:
        yield (
            f"  {other.path}: {other.truth!r}, the bundle heard {other.bundle!r}, the file "
            f"{other.file!r}"
        )
    more = len(comparison.disagreements) - MOST_NAMED
    if more > 0:
        yield f"  and {more} more"


def _said(model: Model, answer: np.ndarray, waveform: np.ndarray) -> str:
    duration_s = len(waveform) / model.sample_rate_hz
    found: Transcript = model.decoder.decode(answer, duration_s, threshold=model.threshold)
    return found.text


def _rates(truths: Sequence[str], said: Sequence[str]) -> tuple[float, float]:
    right = sum(truth == text for truth, text in zip(truths, said, strict=True))
    return right / len(truths), error_rates(truths, said)["wer"]
