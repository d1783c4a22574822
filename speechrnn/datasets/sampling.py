"""Which examples an epoch shows: labels in balance, other words cut down, made silence."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechrnn.datasets.augment_noise import LEAST_POWER, NoiseBank, noise_bank
from speechrnn.datasets.examples import Example
from speechrnn.datasets.manifest import Utterance
from speechrnn.labels import SILENCE

# Level of made silence, mean power against full scale: from a dead line to a loud room.
SILENCE_DB = (-90.0, -25.0)
# First number of the seed of made silence.
SILENCE_SEED = 3


def epoch_order(
    examples: Sequence[Example],
    rng: np.random.Generator,
    *,
    balance: float = 0.0,
    unknown: tuple[int, float] | None = None,
) -> np.ndarray:
    """Which examples an epoch shows, and in which order.

    Args:
        examples: What there is.
        rng: Decides the order, and who is shown once more or left out.
        balance: 0 shows each example once; 1 shows each label equally often; between, a label
            with ``n`` examples is shown in proportion to ``n ** (1 - balance)``. The number of
            examples stays the same.
        unknown: Target id and largest part of the epoch of a label that is cut down to it: other
            words are many, and drawn anew each epoch.
    """
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index, example in enumerate(examples):
        groups[tuple(example.targets)].append(index)
    sizes = {key: float(len(group)) for key, group in groups.items()}
    if unknown and (unknown[0],) in sizes:
        key, share = (unknown[0],), unknown[1]
        others = sum(sizes.values()) - sizes[key]
        sizes[key] = min(sizes[key], max(1.0, round(share / (1 - share) * others)))
    if balance:
        total = sum(sizes.values())
        weights = {key: size ** (1 - balance) for key, size in sizes.items()}
        sizes = {key: w * total / sum(weights.values()) for key, w in weights.items()}
    chosen = [
        draw_from(np.array(groups[key]), max(1, round(size)), rng) for key, size in sizes.items()
    ]
    return rng.permutation(np.concatenate(chosen))


def bucketed(
    order: np.ndarray,
    num_samples: np.ndarray,
    batch_size: int,
    rng: np.random.Generator,
    *,
    bucket_batches: int,
) -> np.ndarray:
    """An order whose batches hold recordings of like length, so that little is padding.

    What would fill ``bucket_batches`` batches in turn is sorted by length, and the batches that
    this makes are shuffled. Those at the end of the order that fill no whole batch are left out,
    be they long or short.

    Args:
        order: Indices of examples.
        num_samples: Length of each of the examples.
        batch_size: Examples in a batch; fewer where there are not as many.
        rng: Decides the order of the batches.
        bucket_batches: Batches sorted together; 1 leaves the order as it is.
    """
    size = min(batch_size, len(order))
    whole = len(order) // size
    if bucket_batches == 1:
        return order[: whole * size]
    filled: list[np.ndarray] = []
    for start in range(0, whole, bucket_batches):
        chosen = order[start * size : min(start + bucket_batches, whole) * size]
        rows = chosen[np.argsort(num_samples[chosen], kind="stable")].reshape(-1, size)
        filled.append(rows[rng.permutation(len(rows))])
    return np.concatenate(filled).reshape(-1)


def draw_from(group: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """``size`` of the group: nobody more than once oftener than another."""
    times, rest = divmod(size, len(group))
    extra = rng.permutation(len(group))[:rest] if rest else np.zeros(0, np.int64)
    return group[np.concatenate([np.tile(np.arange(len(group)), times), extra])]


@dataclass(frozen=True)
class SilenceExample:
    """A recording of noise alone, made when it is used, the same each time."""

    noise: NoiseBank
    num_samples: int
    targets: list[int]
    seed: tuple[int, ...]
    row: Utterance
    spans: tuple[()] = ()  # nothing is said anywhere
    guessed: bool = False

    @property
    def waveform(self) -> np.ndarray:
        """Noise at a level drawn from ``SILENCE_DB``."""
        rng = np.random.default_rng(self.seed)
        level_db = rng.uniform(*SILENCE_DB)
        noise, power = self.noise.piece(rng.random(), rng.random(), self.num_samples)
        scale = np.sqrt(10 ** (level_db / 10) / max(power, LEAST_POWER))
        return noise * np.float32(scale)


def silence_examples(
    lengths: Sequence[int],
    sample_rate_hz: int,
    targets: list[int],
    *,
    seed: Sequence[int],
    folder: str = "",
) -> list[Example]:
    """Recordings of noise alone, one of each length in samples.

    Args:
        lengths: In samples.
        sample_rate_hz: Of the model.
        targets: The ids of ``_silence_``.
        seed: Decides them.
        folder: Where the noise is recorded; "" for coloured noise made here.
    """
    bank = noise_bank(folder, sample_rate_hz)
    row = Utterance(Path("made"), SILENCE)
    return [
        SilenceExample(bank, length, targets, (SILENCE_SEED, *seed, i), row)
        for i, length in enumerate(lengths)
    ]
