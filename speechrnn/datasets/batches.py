"""Rows -> examples in memory -> padded batches with true lengths."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from speechrnn.datasets.augment import WaveformAugmentation
from speechrnn.datasets.manifest import Utterance
from speechrnn.errors import LabelError
from speechrnn.heads import Head
from speechrnn.labels import Labels

# Batches are padded to a multiple of this, so that few different shapes are compiled.
PADDING_S = 0.25
# Batches made ahead of the training step, in a thread of their own.
PREFETCHED_BATCHES = 4

T = TypeVar("T")


@dataclass(frozen=True)
class Example:
    """A recording ready for training: float32 ``[num_samples]`` and its target ids."""

    row: Utterance
    waveform: np.ndarray
    targets: list[int]


@dataclass(frozen=True)
class Batch:
    """Padded rows with their true lengths, as the model takes them.

    Attributes:
        x: ``waveform`` float32 ``[batch, samples]``, ``num_samples`` int32 ``[batch]``.
        y: ``targets`` int32 ``[batch, most targets]`` padded with 0, ``num_targets`` ``[batch]``.
    """

    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray]


def make_examples(
    loaded: Sequence[tuple[Utterance, np.ndarray]], labels: Labels, head: Head
) -> list[Example]:
    """Rows with waveforms -> rows with target ids.

    Raises:
        LabelError: A row's text is no label; the message names the recording.
    """
    return [Example(row, waveform, row_targets(row, labels, head)) for row, waveform in loaded]


def row_targets(row: Utterance, labels: Labels, head: Head) -> list[int]:
    """The ids that a row is trained towards.

    Raises:
        LabelError: Its text is no label; the message names the recording.
    """
    try:
        return head.targets(row.text, labels)
    except LabelError as error:
        raise LabelError(f"{row.path}: {error}") from error


def training_batches(
    examples: Sequence[Example],
    batch_size: int,
    sample_rate_hz: int,
    rng: np.random.Generator,
    augmentations: Sequence[WaveformAugmentation] = (),
) -> Iterator[Batch]:
    """One epoch in an order drawn from ``rng``; examples that fill no whole batch sit it out."""
    size = min(batch_size, len(examples))
    order = rng.permutation(len(examples))
    for start in range(0, len(order) - size + 1, size):
        chosen = [examples[i] for i in order[start : start + size]]
        waveforms = [example.waveform for example in chosen]
        for augmentation in augmentations:
            waveforms = [augmentation.apply(w, sample_rate_hz, rng) for w in waveforms]
        yield _pad(waveforms, [example.targets for example in chosen], sample_rate_hz)


def evaluation_batches(
    examples: Sequence[Example], batch_size: int, sample_rate_hz: int
) -> Iterator[Batch]:
    """Every example once, short ones first, so that batches hold little padding."""
    ordered = sorted(examples, key=lambda example: len(example.waveform))
    for start in range(0, len(ordered), batch_size):
        chosen = ordered[start : start + batch_size]
        yield _pad([e.waveform for e in chosen], [e.targets for e in chosen], sample_rate_hz)


def prefetch(items: Iterator[T]) -> Iterator[T]:
    """The same items, made ahead in a thread; an error there is raised here."""
    done = object()
    ready: queue.Queue[Any] = queue.Queue(maxsize=PREFETCHED_BATCHES)
    stopped = threading.Event()

    def work() -> None:
        try:
            for item in items:
                while not stopped.is_set():
                    try:
                        ready.put(item, timeout=0.1)
                        break
                    except queue.Full:
                        continue
                if stopped.is_set():
                    return
            ready.put(done)
        except BaseException as error:
            ready.put(error)

    threading.Thread(target=work, daemon=True).start()
    try:
        while (item := ready.get()) is not done:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()


def num_training_batches(num_examples: int, batch_size: int) -> int:
    """Batches that :func:`training_batches` yields in an epoch."""
    return num_examples // min(batch_size, num_examples)


def _pad(waveforms: list[np.ndarray], targets: list[list[int]], sample_rate_hz: int) -> Batch:
    step = max(1, round(PADDING_S * sample_rate_hz))
    longest = max(len(waveform) for waveform in waveforms)
    return Batch(
        x={
            "waveform": _stack(waveforms, -(-longest // step) * step, np.float32),
            "num_samples": np.array([len(waveform) for waveform in waveforms], np.int32),
        },
        y={
            "targets": _stack(targets, max(1, max(map(len, targets))), np.int32),
            "num_targets": np.array([len(ids) for ids in targets], np.int32),
        },
    )


def _stack(rows: Sequence[Sequence | np.ndarray], size: int, dtype: type) -> np.ndarray:
    stacked: np.ndarray = np.zeros((len(rows), size), dtype)
    for target, row in zip(stacked, rows, strict=True):
        target[: len(row)] = row
    return stacked
