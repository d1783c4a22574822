"""Commands in a long recording: probabilities of overlapping windows -> events. Numpy alone.

A window slides over the recording; the model answers each. The answers are averaged over a few
windows, and a command whose average reaches the threshold raises an event, unless one was raised
a moment ago. Labels that start and end with ``_`` (``_silence_``, ``_unknown_``) are no commands.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from speechrnn.errors import ConfigError
from speechrnn.labels import Labels

# A window is as long as what the model learnt from, or so long where its file does not say.
WINDOW_S, MOST_CLIP_S = 1.0, 10.0
# From one window to the next: at least so many that overlap, and at most so many seconds.
OVERLAPPING, HOP_S = 5, 0.2
SMOOTHING = 2


def clip_lengths_s(training: Any) -> tuple[float, float]:
    """Length of nearly all recordings that a classifier learnt from, shortest and longest.

    ``training`` is what its file says about its training, and may say nothing of it.
    """
    found = training.get("clip_s") if isinstance(training, Mapping) else None
    if not isinstance(found, list | tuple) or len(found) != 2:
        return (WINDOW_S, WINDOW_S)
    low, high = found
    usable = (
        all(type(length) in (int, float) for length in found) and 0 < low <= high <= MOST_CLIP_S
    )
    return (float(low), float(high)) if usable else (WINDOW_S, WINDOW_S)


@dataclass(frozen=True)
class DetectorConfig:
    """How a long recording is listened to.

    Attributes:
        window_s: Length of a window: that of the recordings that the model was trained with.
        hop_s: From one window to the next.
        smoothing: Windows that are averaged, the newest among them.
        refractory_s: No second event for so long after an event: a word stays in several windows.
    """

    window_s: float = WINDOW_S
    hop_s: float = HOP_S
    smoothing: int = SMOOTHING
    refractory_s: float = WINDOW_S + (SMOOTHING - 1) * HOP_S

    def __post_init__(self) -> None:
        if not 0 < self.hop_s <= self.window_s:
            raise ConfigError(
                f"detector.hop_s: got {self.hop_s}, expected 0 < hop_s <= window_s "
                f"({self.window_s})"
            )
        if self.smoothing < 1:
            raise ConfigError(f"detector.smoothing: got {self.smoothing}, expected at least 1")
        if self.refractory_s < 0:
            raise ConfigError(f"detector.refractory_s: got {self.refractory_s}, expected 0 or more")

    @classmethod
    def of_clips(cls, clip_s: tuple[float, float]) -> DetectorConfig:
        """For a model that learnt from recordings between these lengths.

        A window holds the longest; a command stays in windows for as long as one is, and in
        averages for as long as they reach back.
        """
        longest = clip_s[1]
        hop_s = min(HOP_S, longest / OVERLAPPING)
        return cls(longest, hop_s, refractory_s=longest + (SMOOTHING - 1) * hop_s)

    def window_samples(self, sample_rate_hz: int) -> int:
        """Length of a window in samples."""
        return round(self.window_s * sample_rate_hz)

    def starts(self, num_samples: int, sample_rate_hz: int) -> np.ndarray:
        """First samples, int ``[windows]``, of the windows that fit into a recording."""
        last = num_samples - self.window_samples(sample_rate_hz)
        count = int(last / (self.hop_s * sample_rate_hz)) + 1 if last >= 0 else 0
        return np.round(np.arange(count) * self.hop_s * sample_rate_hz).astype(int)


@dataclass(frozen=True)
class Detection:
    """A command: its label, the middle of the window that raised it in s, and the confidence."""

    label: str
    time_s: float
    confidence: float


class Detector:
    """Raises events from windows as they come.

    Args:
        labels: The model's labels.
        threshold: The least confidence of an event, 0 to 1.
        config: How the windows lie.
        first_s: Where the first window begins; below 0 it reaches back before the sound.
    """

    def __init__(
        self,
        labels: Labels,
        threshold: float,
        config: DetectorConfig | None = None,
        *,
        first_s: float = 0.0,
    ) -> None:
        self.labels, self.threshold = labels, threshold
        self.config, self.first_s = config or DetectorConfig(), first_s
        self._recent: deque[np.ndarray] = deque(maxlen=self.config.smoothing)
        self._windows = 0
        self._quiet_before = 0

    def push(self, probabilities: np.ndarray) -> Detection | None:
        """The event, if any, that the next window's float ``[labels]`` raises."""
        self._recent.append(np.asarray(probabilities, np.float64))
        window = self._windows
        self._windows += 1
        mean = np.mean(self._recent, axis=0)
        best = int(np.argmax(mean))
        label, confidence = self.labels.text_of(best + 1), float(mean[best])
        loud = confidence >= self.threshold  # not of an answer that is no number
        if window < self._quiet_before or not loud or not is_command(label):
            return None
        self._quiet_before = window + refractory_windows(self.config)
        time_s = max(0.0, self.first_s + window_time_s(window, self.config))
        return Detection(label, time_s, confidence)


def detect(
    probabilities: np.ndarray,
    labels: Labels,
    threshold: float,
    config: DetectorConfig | None = None,
) -> list[Detection]:
    """The events of a whole recording from float ``[windows, labels]``; those of a Detector."""
    config = config or DetectorConfig()
    best, confidence = candidates(probabilities, labels, config)
    return [
        Detection(
            labels.text_of(int(best[i]) + 1), window_time_s(int(i), config), float(confidence[i])
        )
        for i in first_of_each(confidence, threshold, config)
    ]


def candidates(
    probabilities: np.ndarray, labels: Labels, config: DetectorConfig
) -> tuple[np.ndarray, np.ndarray]:
    """For each window the best column of the average, int ``[windows]``, and its value.

    The value is -1 where the best label is no command: no threshold is as low.
    """
    probabilities = np.asarray(probabilities, np.float64).reshape(-1, len(labels))
    sums = np.zeros_like(probabilities)
    for back in range(min(config.smoothing, len(sums))):
        sums[back:] += probabilities[: len(sums) - back]
    counts = np.minimum(np.arange(1, len(sums) + 1), config.smoothing)
    mean = sums / counts[:, None]
    best = mean.argmax(axis=1)
    commands = np.array([is_command(symbol) for symbol in labels.symbols])
    return best, np.where(commands[best], mean.max(axis=1), -1.0)


def first_of_each(confidence: np.ndarray, threshold: float, config: DetectorConfig) -> list[int]:
    """Windows that raise an event: over the threshold, and none within the refractory time.

    Taking the first each time gives the most events that the spacing allows, so a higher threshold
    never raises more of them.
    """
    over = np.flatnonzero(confidence >= threshold)
    gap = refractory_windows(config)
    found, place = [], 0
    while place < len(over):
        found.append(int(over[place]))
        place = int(np.searchsorted(over, over[place] + gap))
    return found


def refractory_windows(config: DetectorConfig) -> int:
    """The fewest windows from an event to the next."""
    return max(1, int(np.ceil(config.refractory_s / config.hop_s - 1e-9)))


def window_time_s(window: int, config: DetectorConfig) -> float:
    """The middle of a window."""
    return window * config.hop_s + config.window_s / 2


def is_command(label: str) -> bool:
    """Whether a label may raise an event."""
    return not (label.startswith("_") and label.endswith("_"))
