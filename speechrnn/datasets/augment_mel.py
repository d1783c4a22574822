"""Changes of log mel energies in the training graph, drawn anew for each clip of each batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import keras
from keras import ops

from speechrnn.datasets.waveforms import AUGMENTATIONS, check_probability, check_range


@runtime_checkable
class MelAugmentation(Protocol):
    """What a registered augmentation of mel energies offers."""

    def change(self, log_mel: Any, hop_ms: float, seed: keras.random.SeedGenerator) -> Any:
        """Changed float32 ``[batch, frames, mels]``, every random number drawn from ``seed``."""


@AUGMENTATIONS.register("spec_augment")
@dataclass(frozen=True)
class SpecAugment:
    """Hides bands of mel channels and spans of frames behind the clip's mean energy.

    Source: Park et al. 2019, arXiv:1904.08779, without time warping.

    Attributes:
        probability: Of a clip to be changed at all.
        mel_masks: Masks over channels in each clip.
        max_mels: Widest such mask, in channels.
        time_masks: Masks over frames in each clip.
        max_ms: Longest such mask.
        max_fraction: Longest such mask as a part of the clip: half of a short word is no word.
    """

    probability: float = 1.0
    mel_masks: int = 1
    max_mels: int = 8
    time_masks: int = 1
    max_ms: float = 150.0
    max_fraction: float = 0.2

    def __post_init__(self) -> None:
        check_probability(self.probability)
        check_range("spec_augment.max_fraction", 0, 0, self.max_fraction, 1)

    def change(self, log_mel: Any, hop_ms: float, seed: keras.random.SeedGenerator) -> Any:
        """float32 ``[batch, frames, mels]`` with parts hidden."""
        batch, num_frames, num_mels = ops.shape(log_mel)
        # Padding and digital silence stand at the floor throughout: neither counts.
        floor = ops.min(log_mel, axis=(1, 2))
        heard = ops.cast(ops.max(log_mel, axis=2) > floor[:, None], "float32")
        count = ops.sum(heard, axis=1)
        total = ops.sum(ops.mean(log_mel, axis=2) * heard, axis=1)
        mean = ops.where(count > 0, total / ops.maximum(count, 1.0), floor)
        position = ops.arange(num_frames, dtype="float32")
        end = ops.max((position + 1.0) * heard, axis=1, keepdims=True)
        hidden = ops.zeros((1, 1, 1), dtype="bool")
        for _ in range(self.mel_masks):
            mask = _spans(batch, num_mels, num_mels, self.max_mels, seed)
            hidden = ops.logical_or(hidden, mask[:, None, :])
        for _ in range(self.time_masks):
            longest = ops.minimum(float(round(self.max_ms / hop_ms)), self.max_fraction * end)
            mask = _spans(batch, num_frames, end, longest, seed)
            hidden = ops.logical_or(hidden, mask[:, :, None])
        chosen = keras.random.uniform((batch, 1, 1), seed=seed) < self.probability
        hidden = ops.logical_and(hidden, chosen)
        return ops.where(hidden, mean[:, None, None], log_mel)


@AUGMENTATIONS.register("vocal_tract")
@dataclass(frozen=True)
class VocalTract:
    """Stretches the mel axis by a drawn factor, as a longer or shorter vocal tract would.

    Source: after Jaitly and Hinton 2013, "Vocal tract length perturbation improves speech
    recognition", with a warp that is linear in mel.
    """

    probability: float = 1.0
    low: float = 0.9
    high: float = 1.1

    def __post_init__(self) -> None:
        check_probability(self.probability)
        check_range("vocal_tract", 0.5, self.low, self.high, 2)

    def change(self, log_mel: Any, hop_ms: float, seed: keras.random.SeedGenerator) -> Any:
        """float32 ``[batch, frames, mels]``, each clip read at stretched channels."""
        batch, _, num_mels = ops.shape(log_mel)
        factor = keras.random.uniform((batch, 1, 1), self.low, self.high, seed=seed)
        chosen = keras.random.uniform((batch, 1, 1), seed=seed) < self.probability
        factor = ops.where(chosen, factor, 1.0)
        channels = ops.arange(num_mels, dtype="float32")
        wanted = ops.minimum(channels[None, None, :] * factor, num_mels - 1.0)
        # Hat functions: each new channel is a linear mix of its two nearest old ones.
        weights = ops.maximum(0.0, 1.0 - ops.abs(channels[None, :, None] - wanted))
        return ops.matmul(log_mel, weights)


def change_log_mel(
    augmentations: Sequence[Any], hop_ms: float
) -> Callable[[Any, keras.random.SeedGenerator], Any] | None:
    """One function that applies those of the augmentations that act on mel energies, or None."""
    chosen = [
        augmentation for augmentation in augmentations if isinstance(augmentation, MelAugmentation)
    ]
    if not chosen:
        return None

    def change(log_mel: Any, seed: keras.random.SeedGenerator) -> Any:
        for augmentation in chosen:
            log_mel = augmentation.change(log_mel, hop_ms, seed)
        return log_mel

    return change


def _spans(batch: Any, size: Any, end: Any, longest: Any, seed: keras.random.SeedGenerator) -> Any:
    """bool ``[batch, size]``: one span of drawn length and place in each row, before ``end``."""
    draw = keras.random.uniform((2, batch, 1), seed=seed)
    length = draw[0] * (longest + 1)
    start = draw[1] * ops.maximum(ops.cast(end, "float32") - length, 0.0)
    position = ops.arange(size, dtype="float32")[None, :]
    return ops.logical_and(position >= start, position < start + length)
