"""Events from hand-made probabilities of windows."""

from __future__ import annotations

import numpy as np
import pytest

from speechrnn.decoding.detect import (
    Detection,
    Detector,
    DetectorConfig,
    clip_lengths_s,
    detect,
    is_command,
)
from speechrnn.errors import ConfigError
from speechrnn.labels import Labels

LABELS = Labels(("_silence_", "go", "stop"))
SILENCE, GO, STOP = np.eye(3)
# Windows of 1 s each 0.25 s, no averaging, a second of rest.
PLAIN = DetectorConfig(window_s=1.0, hop_s=0.25, smoothing=1, refractory_s=1.0)


def found(windows: list, threshold: float = 0.5, config: DetectorConfig = PLAIN) -> list[tuple]:
    events = detect(np.array(windows), LABELS, threshold, config)
    return [(event.label, event.time_s) for event in events]


def test_a_word_that_stays_in_view_is_one_event_at_the_middle_of_its_first_window():
    windows = [SILENCE, SILENCE, GO, GO, GO, SILENCE, SILENCE]
    assert found(windows) == [("go", 2 * 0.25 + 0.5)]


def test_after_the_rest_the_same_word_is_another_event():
    assert found([GO] * 4) == [("go", 0.5)]
    assert found([GO] * 5) == [("go", 0.5), ("go", 1.5)]


def test_no_other_word_is_heard_within_the_rest_either():
    assert found([GO, STOP, STOP, STOP, STOP]) == [("go", 0.5), ("stop", 1.5)]
    eager = DetectorConfig(hop_s=0.25, smoothing=1, refractory_s=0)
    assert [label for label, _ in found([GO, STOP], config=eager)] == ["go", "stop"]


@pytest.mark.parametrize("label", ["_silence_", "_unknown_", "_"])
def test_silence_and_unknown_never_raise_an_event(label):
    labels = Labels((label, "go"))
    assert detect(np.tile([1.0, 0.0], (9, 1)), labels, 0.0, PLAIN) == []
    assert not is_command(label)
    assert is_command("_go")


def test_a_command_that_is_not_the_best_label_raises_nothing_at_any_threshold():
    assert found([np.array([0.5, 0.4, 0.1])] * 5, threshold=0.0) == []


def test_averaging_keeps_a_single_window_from_raising_an_event():
    config = DetectorConfig(hop_s=0.25, smoothing=3)
    assert found([SILENCE, SILENCE, GO, SILENCE, SILENCE], 0.5, config) == []
    assert found([SILENCE, SILENCE, GO, GO, SILENCE], 0.5, config) == [("go", 3 * 0.25 + 0.5)]
    (event,) = detect(np.array([SILENCE, SILENCE, GO, GO]), LABELS, 0.5, config)
    assert event.confidence == pytest.approx(2 / 3)


def test_the_first_windows_are_averaged_over_those_there_are():
    assert found([GO, GO], 0.9, DetectorConfig(hop_s=0.25, smoothing=4)) == [("go", 0.5)]


def test_the_threshold_itself_is_enough():
    half = np.array([0.1, 0.5, 0.4])
    assert found([half], 0.5) == [("go", 0.5)]
    assert found([half], 0.51) == []


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("smoothing", [1, 3])
def test_a_higher_threshold_never_raises_more_events(seed, smoothing):
    windows = np.random.default_rng(seed).dirichlet([0.4] * 3, 300)
    config = DetectorConfig(hop_s=0.2, smoothing=smoothing, refractory_s=0.9)
    counts = [len(detect(windows, LABELS, t, config)) for t in np.linspace(0, 1, 41)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 10 > counts[-1]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threshold", [0.0, 0.4, 0.8])
def test_window_by_window_is_the_same_as_at_once(seed, threshold):
    windows = np.random.default_rng(seed).dirichlet([0.4] * 3, 200)
    config = DetectorConfig(hop_s=0.2, smoothing=2)
    detector = Detector(LABELS, threshold, config)
    one_by_one = [event for event in map(detector.push, windows) if event]
    at_once = detect(windows, LABELS, threshold, config)
    assert [(e.label, e.time_s) for e in one_by_one] == [(e.label, e.time_s) for e in at_once]
    assert [e.confidence for e in one_by_one] == pytest.approx([e.confidence for e in at_once])


def test_no_window_raises_no_event():
    assert detect(np.zeros((0, 3)), LABELS, 0.0, PLAIN) == []
    assert Detector(LABELS, 0.5).push(GO) == Detection("go", 0.5, 1.0)


@pytest.mark.parametrize(
    ("num_samples", "starts"),
    [(0, []), (15999, []), (16000, [0]), (19199, [0]), (19200, [0, 3200]), (32000, None)],
)
def test_windows_lie_whole_within_the_recording(num_samples, starts):
    config = DetectorConfig(window_s=1.0, hop_s=0.2)
    found_starts = config.starts(num_samples, 16000)
    if starts is not None:
        assert found_starts.tolist() == starts
    assert all(start + 16000 <= num_samples for start in found_starts)


@pytest.mark.parametrize(
    "settings",
    [{"hop_s": 0.0}, {"hop_s": 1.5}, {"smoothing": 0}, {"refractory_s": -1.0}, {"window_s": 0.1}],
)
def test_settings_out_of_range_are_refused_by_name(settings):
    with pytest.raises(ConfigError, match=r"detector\.\w+: got .*, expected"):
        DetectorConfig(**settings)


# ------------------------------------------------------------------ lengths that were learnt from


@pytest.mark.parametrize("pair", [(0.4, 0.9), [1, 1], (1, 10.0)])
def test_lengths_that_a_file_states_are_taken(pair) -> None:
    assert clip_lengths_s({"clip_s": pair}) == tuple(map(float, pair))


@pytest.mark.parametrize(
    "pair",
    [
        None,
        1.0,
        "11",
        [],
        [1.0],
        [0.5, 1.0, 1.5],
        ["0.5", "1.0"],
        [None, 1.0],
        [True, True],
        [-1.0, 1.0],
        [0.0, 1.0],
        [1.0, 0.5],
        [float("nan"), 1.0],
        [0.5, float("nan")],
        [0.5, float("inf")],
        [0.5, 10.1],
        {"0": 1.0, "1": 1.0},
    ],
)
def test_lengths_of_no_use_are_a_second(pair) -> None:
    assert clip_lengths_s({"clip_s": pair}) == (1.0, 1.0)


@pytest.mark.parametrize("training", [None, {}, "clip_s", ["clip_s"], 3])
def test_a_file_that_states_no_lengths_learnt_from_a_second(training) -> None:
    assert clip_lengths_s(training) == (1.0, 1.0)


@pytest.mark.parametrize("longest_s", [0.4, 1.0, 2.0])
def test_a_word_that_every_window_around_it_is_sure_of_is_one_event(longest_s):
    config = DetectorConfig.of_clips((longest_s, longest_s))
    holding = round(longest_s / config.hop_s)  # all of a word that is as long as a hop
    assert len(found([SILENCE] * 2 + [GO] * holding + [SILENCE] * 9, 0.4, config)) == 1


@pytest.mark.parametrize(
    ("clip_s", "expected"),
    [
        ((1.0, 1.0), DetectorConfig()),
        ((0.3, 0.5), DetectorConfig(0.5, 0.1, refractory_s=0.6)),
        ((1.0, 2.0), DetectorConfig(2.0, 0.2, refractory_s=2.2)),
        ((10.0, 10.0), DetectorConfig(10.0, 0.2, refractory_s=10.2)),
    ],
)
def test_a_window_is_as_long_as_the_longest_that_was_learnt(clip_s, expected):
    assert DetectorConfig.of_clips(clip_s) == expected
