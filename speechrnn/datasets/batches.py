"""Examples -> augmented, padded batches with true lengths."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, TypeVar

import numpy as np

from speechrnn.clock import StepClock, apart
from speechrnn.datasets.augment_mixup import Mixup
from speechrnn.datasets.examples import UNKNOWN_SYMBOL, Example
from speechrnn.datasets.waveforms import WaveformAugmentation, Waveforms
from speechrnn.labels import BLANK_ID, GUESSED

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
        y: ``targets`` int32 ``[batch, most targets]`` padded with 0, ``num_targets`` ``[batch]``,
            and where a layout was given ``steps`` int32 ``[batch, steps]``.
    """

    x: dict[str, np.ndarray]
    y: dict[str, np.ndarray]


class StepLayout(Protocol):
    """Where a model's steps lie, as its ``ModelConfig`` says."""

    @property
    def clock(self) -> StepClock:
        """Steps and seconds."""

    def num_steps(self, num_samples: Any) -> Any:
        """Steps of so many samples."""


def training_batches(
    examples: Sequence[Example],
    order: np.ndarray,
    batch_size: int,
    sample_rate_hz: int,
    seed: Sequence[int],
    augmentations: Sequence[WaveformAugmentation] = (),
    mixup: Mixup | None = None,
    layout: StepLayout | None = None,
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
        layout: Given, a batch says what is said at each step of the model, where it is known.
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
        if layout:
            waveforms = replace(waveforms, places=_places(chosen))
        for augmentation in augmentations:
            waveforms = augmentation.apply(waveforms, rng)
        waveforms = waveforms.trimmed()
        batch = _batch(waveforms, [example.targets for example in chosen])
        if layout:
            batch.y["steps"] = step_symbols(chosen, waveforms, layout)
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


def step_symbols(
    examples: Sequence[Example], waveforms: Waveforms, layout: StepLayout
) -> np.ndarray:
    """What is said at each step, int32 ``[batch, steps]``: a symbol, 0 nothing, -1 unknown.

    Where the spans of an example are guessed, a symbol or nothing is ``GUESSED`` less itself.

    Args:
        examples: Say what stands in each of their spans.
        waveforms: Of the examples; its places are where the spans begin and end by now.
        layout: Of the model's steps.
    """
    num_steps = layout.num_steps(waveforms.waveform.shape[1])
    clock, rate_hz = layout.clock, waveforms.sample_rate_hz
    middles = (clock.first_s + clock.step_s * np.arange(num_steps)) * rate_hz
    steps = np.full((len(examples), num_steps), UNKNOWN_SYMBOL, np.int32)
    for row, example, places in zip(steps, examples, waveforms.places, strict=True):
        if example.spans is None:
            continue
        row[:] = BLANK_ID
        size = 2 * len(example.spans)
        starts, ends = apart(places[:size:2], places[1:size:2])
        for (_, _, symbol), start, end in zip(example.spans, starts, ends, strict=True):
            first, last = np.searchsorted(middles, (start, end))
            if symbol != UNKNOWN_SYMBOL and first and row[first - 1] == symbol:
                row[first - 1] = BLANK_ID  # the same once more
            row[first:last] = symbol
        if example.guessed:
            row[:] = np.where(row >= 0, GUESSED - row, row)
    return steps


def _places(examples: Sequence[Example]) -> np.ndarray:
    """Where the spans begin and end, float32 ``[batch, 2 * most spans]``."""
    ends = [[place for span in example.spans or () for place in span[:2]] for example in examples]
    places = np.zeros((len(examples), max(map(len, ends))), np.float32)
    for row, found in zip(places, ends, strict=True):
        row[: len(found)] = found
    return places


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
