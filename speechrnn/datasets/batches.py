"""Examples -> augmented, padded batches with true lengths."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from speechrnn.datasets.augment_mixup import Mixup
from speechrnn.datasets.examples import Example
from speechrnn.datasets.waveforms import WaveformAugmentation, Waveforms

# Behind the longest recording of a batch there is room for it to be shifted and slowed: so much,
# or this part of it, if that is more; but never beyond the longest recording of all.
ROOM_S, ROOM_FRACTION = 0.2, 0.25
# Batches made ahead of the training step, in a thread of their own.
PREFETCHED_BATCHES = 4

T = TypeVar("T")


@dataclass(frozen=True)
class Batch:
    """Padded rows with their true lengths, as the model takes them.

    Attributes:
        x: ``waveform`` float32 ``[batch, samples]``, ``num_samples`` int32 ``[batch]``.
        y: ``targets`` int32 ``[batch, most targets]`` padded with 0, ``num_targets`` ``[batch]``.
    """

    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray]


def training_batches(
    examples: Sequence[Example],
    order: np.ndarray,
    batch_size: int,
    sample_rate_hz: int,
    seed: Sequence[int],
    augmentations: Sequence[WaveformAugmentation] = (),
    mixup: Mixup | None = None,
    first: int = 0,
) -> Iterator[Batch]:
    """One epoch: the examples in an order; those that fill no whole batch sit it out.

    Every batch is drawn from a seed of its own, so that a training can go on at any of them.

    Args:
        examples: What there is.
        order: Indices into it.
        batch_size: Examples in a batch; fewer where there are not as many.
        sample_rate_hz: Of the waveforms.
        seed: Decides every augmentation, together with the number of the batch.
        augmentations: Applied to the waveforms, in their order.
        mixup: How recordings are mixed with one another.
        first: Number of the first batch wanted.
    """
    size = min(batch_size, len(order))
    longest = max(example.num_samples for example in examples)
    for number in range(first, len(order) // size):
        rng = np.random.default_rng([*seed, number])
        chosen = [examples[i] for i in order[number * size : (number + 1) * size]]
        most = max(example.num_samples for example in chosen)
        room = most + round(max(ROOM_S * sample_rate_hz, ROOM_FRACTION * most))
        waveforms = Waveforms.stack(
            [example.waveform for example in chosen], sample_rate_hz, min_samples=min(room, longest)
        )
        for augmentation in augmentations:
            waveforms = augmentation.apply(waveforms, rng)
        batch = _batch(waveforms.trimmed(), [example.targets for example in chosen])
        if mixup:
            batch.x["share"] = mixup.shares(size, rng)
        yield batch


def evaluation_batches(
    examples: Sequence[Example], batch_size: int, sample_rate_hz: int
) -> Iterator[Batch]:
    """Every example once, short ones first, so that batches hold little padding."""
    ordered = sorted(examples, key=lambda example: example.num_samples)
    for start in range(0, len(ordered), batch_size):
        chosen = ordered[start : start + batch_size]
        waveforms = Waveforms.stack([example.waveform for example in chosen], sample_rate_hz)
        yield _batch(waveforms, [example.targets for example in chosen])


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


def _batch(waveforms: Waveforms, targets: Sequence[Sequence[int]]) -> Batch:
    ids = np.zeros((len(targets), max(1, max(map(len, targets)))), np.int32)
    for row, row_ids in zip(ids, targets, strict=True):
        row[: len(row_ids)] = row_ids
    return Batch(
        x={"waveform": waveforms.waveform, "num_samples": waveforms.num_samples},
        y={"targets": ids, "num_targets": np.array([len(row) for row in targets], np.int32)},
    )
