"""False alarms on long recordings without commands, against commands missed in front of them.

The background is listened to as it is: every event is a false alarm. Then the clips are put into
stretches of it, with pauses of some seconds, at seeded places: a clip without an event of its
label is a missed command. The curve over the threshold is what a product decides on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechrnn.audio import load_waveform
from speechrnn.datasets.manifest import find_recordings
from speechrnn.datasets.waveforms import mean_power
from speechrnn.decoding.detect import (
    DetectorConfig,
    candidates,
    first_of_each,
    is_command,
    window_time_s,
)
from speechrnn.errors import AudioError, ConfigError, DataError, ModelError
from speechrnn.progress import progress
from speechrnn.recognize import BATCH_SIZE, Model

# In hundredths, and finer where confident models differ: 0.991 ... 0.999, 0.9991 ... 0.9999.
THRESHOLDS = (
    *(i / 100 for i in range(100)),
    *(i / 1000 for i in range(991, 1000)),
    *(i / 10000 for i in range(9991, 10000)),
)
# Pauses between the clips, in s beyond a window and the refractory time: no event belongs to two.
SHORTEST_GAP_S, LONGEST_GAP_S = 0.5, 2.5
CLIPS_PER_STREAM = 16


@dataclass(frozen=True)
class BackgroundTest:
    """What to measure on.

    Attributes:
        path: A recording, a folder of them, or a manifest; of any length, without commands.
        budget: False alarms an hour that a threshold is picked for; None picks none.
        command_snr_db: Level of the clips, by mean power against the background under them; None
            leaves them as they are.
        seed: Of the places of the clips.
        detector: How the model listens; None as the recordings that it learnt from ask for.
    """

    path: str | Path
    budget: float | None = None
    command_snr_db: float | None = None
    seed: int = 0
    detector: DetectorConfig | None = None

    def __post_init__(self) -> None:
        if self.budget is not None and not (np.isfinite(self.budget) and self.budget >= 0):
            raise ConfigError(
                f"--false-alarms-per-hour {self.budget}: expected a number, 0 or more"
            )
        if self.command_snr_db is not None and not np.isfinite(self.command_snr_db):
            raise ConfigError(f"--command-snr {self.command_snr_db}: expected decibels")

    def detector_of(self, model: Model) -> DetectorConfig:
        """How this model listens."""
        return self.detector or DetectorConfig.of_clips(model.clip_s)


@dataclass(frozen=True)
class Heard:
    """A recording listened to: the best column of each window, and its value or -1."""

    best: np.ndarray
    confidence: np.ndarray


@dataclass(frozen=True)
class Placed:
    """A stream with commands in it: where each begins and ends in s, and its column."""

    heard: Heard
    commands: list[tuple[float, float, int]]


def load_background(test: BackgroundTest, model: Model) -> list[np.ndarray]:
    """The recordings, float32 ``[samples]`` each.

    Raises:
        DataError: Nothing there.
        AudioError: A file cannot be read, or is shorter than a window.
    """
    config = test.detector_of(model)
    window = config.window_samples(model.sample_rate_hz)
    files = find_recordings(test.path)
    found = []
    for file in progress(files, "background", unit="file"):
        waveform = load_waveform(file, model.sample_rate_hz)
        if len(waveform) < window:
            raise AudioError(
                file,
                f"is too short for a background: {len(waveform) / model.sample_rate_hz:.2f} s, "
                f"expected at least a window of {config.window_s:g} s; leave it out",
            )
        found.append(waveform)
    return found


def measure_background(
    model: Model,
    background: Sequence[np.ndarray],
    clips: Sequence[tuple[str, np.ndarray]],
    test: BackgroundTest,
) -> dict[str, Any]:
    """The curve of false alarms against missed commands, and the threshold for the budget.

    Args:
        model: Answers windows.
        background: From :func:`load_background`.
        clips: Text and waveform of labelled recordings; those without a command are left out.
        test: The settings.

    Returns:
        Plain values: ``background_hours``, ``background_recordings``, ``commands``, ``budget``,
        ``verifiable`` (whether the background is long enough to see the budget broken),
        ``threshold`` (picked for the budget, None where none keeps to it; the model's own without
        a budget), ``false_alarms``, ``false_alarms_per_hour``, ``missed`` (share of the commands)
        and ``false_alarms_by_label`` at it, ``curve`` (a list of the same by threshold),
        ``detector``, ``command_snr_db``, ``seed``.

    Raises:
        DataError: No clip holds a command.
    """
    commands = [(text, waveform) for text, waveform in clips if is_command(text)]
    if not commands:
        raise DataError(
            "the data hold no recording of a command, expected some to be missed or not; give "
            "--data with commands"
        )
    config = test.detector_of(model)
    num_windows = sum(len(config.starts(len(b), model.sample_rate_hz)) for b in background)
    with progress(None, "background", unit="window", total=num_windows) as line:
        quiet = [_listen(model, waveform, config, line.update) for waveform in background]
    placed = list(_place_and_listen(model, background, commands, test))
    hours = sum(map(len, background)) / model.sample_rate_hz / 3600

    def figures(threshold: float) -> dict[str, Any]:
        alarms = sum(len(first_of_each(h.confidence, threshold, config)) for h in quiet)
        hits = sum(_hits(stream, threshold, config) for stream in placed)
        return {
            "threshold": threshold,
            "false_alarms": alarms,
            "false_alarms_per_hour": alarms / hours,
            "missed": 1 - hits / len(commands),
        }

    curve = [figures(threshold) for threshold in THRESHOLDS]
    chosen = figures(model.threshold) if test.budget is None else pick(curve, test.budget)
    by_label: Counter[str] = Counter()
    if chosen:
        for heard in quiet:
            windows = first_of_each(heard.confidence, chosen["threshold"], config)
            by_label.update(model.labels.text_of(int(heard.best[i]) + 1) for i in windows)
    return {
        "background_hours": hours,
        "background_recordings": len(background),
        "commands": len(commands),
        "budget": test.budget,
        "verifiable": test.budget is None or test.budget * hours >= 1,
        **(chosen or dict.fromkeys(curve[0])),
        "false_alarms_by_label": dict(by_label.most_common()),
        "curve": curve,
        "detector": asdict(config),
        "command_snr_db": test.command_snr_db,
        "seed": test.seed,
    }


def pick(curve: Sequence[dict[str, Any]], budget: float) -> dict[str, Any] | None:
    """The point of the lowest threshold that keeps to the budget, if any does."""
    return next((point for point in curve if point["false_alarms_per_hour"] <= budget), None)


def describe_detection(found: Mapping[str, Any]) -> list[str]:
    """The figures of :func:`measure_background` in sentences."""
    hours, budget = found["background_hours"], found["budget"]
    level = (
        "their own level"
        if found["command_snr_db"] is None
        else f"{found['command_snr_db']:g} dB over the background"
    )
    lines = [
        f"{hours:.3g} hours of background without commands; {found['commands']} commands placed in "
        f"it at {level}."
    ]
    if found["threshold"] is None:
        lines.append(
            f"No threshold keeps to {budget:g} false alarms an hour: the surest false alarm is as "
            "sure as an answer can be. Train with such recordings as _unknown_ or _silence_."
        )
    else:
        picked = f", the lowest that keeps to {budget:g} an hour" if budget is not None else ""
        lines.append(
            f"Threshold {found['threshold']:g}{picked}: {found['false_alarms']} false alarms, "
            f"{found['false_alarms_per_hour']:.3g} an hour; {100 * found['missed']:.1f} % of the "
            "commands missed."
        )
    if not found["verifiable"]:
        wanted = f"; give {1 / budget:.3g} hours or more" if budget else ""
        lines.append(
            f"A budget of {budget:g} an hour cannot be verified on so little: one false alarm "
            f"would be {1 / hours:.2g} an hour{wanted}."
        )
    return lines


def _listen(
    model: Model,
    waveform: np.ndarray,
    config: DetectorConfig,
    done: Callable[[int], Any] = lambda count: None,
) -> Heard:
    """The windows of a recording, answered in batches."""
    size = config.window_samples(model.sample_rate_hz)
    starts = config.starts(len(waveform), model.sample_rate_hz)
    answers = []
    for first in range(0, len(starts), BATCH_SIZE):
        chosen = starts[first : first + BATCH_SIZE]
        answers.append(model.answer_many([waveform[start : start + size] for start in chosen]))
        done(len(chosen))
    found = np.concatenate(answers)
    if found.shape != (len(starts), len(model.labels)):
        raise ModelError(
            f"{model.path}: answers {list(found.shape[1:])} values a window, expected a "
            "probability for each label; false alarms need a model with a classification head"
        )
    return Heard(*candidates(found, model.labels, config))


def _place_and_listen(
    model: Model,
    background: Sequence[np.ndarray],
    commands: Sequence[tuple[str, np.ndarray]],
    test: BackgroundTest,
) -> Iterator[Placed]:
    """Streams of up to CLIPS_PER_STREAM commands, in a drawn order."""
    rng, config = np.random.default_rng(test.seed), test.detector_of(model)
    order = rng.permutation(len(commands))
    rate_hz = model.sample_rate_hz
    firsts = range(0, len(order), CLIPS_PER_STREAM)
    for first in progress(firsts, "commands in the background", unit="stream"):
        chosen = [commands[i] for i in order[first : first + CLIPS_PER_STREAM]]
        stream, places = place_clips(
            [w for _, w in chosen], background, rate_hz, rng, config, test.command_snr_db
        )
        spans = [
            (start / rate_hz, (start + len(waveform)) / rate_hz, model.labels.id_of(text) - 1)
            for start, (text, waveform) in zip(places, chosen, strict=True)
        ]
        yield Placed(_listen(model, stream, config), spans)


def place_clips(
    clips: Sequence[np.ndarray],
    background: Sequence[np.ndarray],
    sample_rate_hz: int,
    rng: np.random.Generator,
    config: DetectorConfig,
    snr_db: float | None = None,
) -> tuple[np.ndarray, list[int]]:
    """A drawn stretch of background, repeated if it is short, with the clips added to it.

    Between the clips is more than a window and the refractory time; at ``snr_db`` each, or as they
    are.

    Returns:
        float32 ``[samples]``, and the sample at which each clip begins.
    """
    apart_s = config.window_s + config.refractory_s
    low, high = (round((apart_s + gap) * sample_rate_hz) for gap in (SHORTEST_GAP_S, LONGEST_GAP_S))
    gaps = rng.integers(low, high, len(clips) + 1)
    places = np.cumsum(gaps[:-1]) + np.cumsum([0, *(len(clip) for clip in clips[:-1])])
    total = int(gaps.sum()) + sum(map(len, clips))
    lengths = np.array([len(waveform) for waveform in background])
    under = background[int(rng.choice(len(background), p=lengths / lengths.sum()))]
    stream = under[(int(rng.integers(len(under))) + np.arange(total)) % len(under)]
    for start, clip in zip(places, clips, strict=True):
        stretch = stream[start : start + len(clip)]
        stretch += np.float32(_level(clip, stretch, snr_db)) * clip
    return stream, [int(place) for place in places]


def _level(clip: np.ndarray, under: np.ndarray, snr_db: float | None) -> float:
    """What to multiply a clip with; 1 where there is no ratio to be had."""
    if snr_db is None or not clip.any() or not under.any():
        return 1.0
    return float(np.sqrt(10 ** (snr_db / 10) * mean_power(under) / mean_power(clip)))


def _hits(stream: Placed, threshold: float, config: DetectorConfig) -> int:
    """Commands with an event of their label in a window that overlaps them, or one just after.

    The average over windows answers late by as many hops.
    """
    windows = first_of_each(stream.heard.confidence, threshold, config)
    events = [(window_time_s(i, config), int(stream.heard.best[i])) for i in windows]
    early, late = config.window_s / 2, config.window_s / 2 + (config.smoothing - 1) * config.hop_s
    return sum(
        any(start - early <= time_s <= end + late and label == column for time_s, label in events)
        for start, end, column in stream.commands
    )
