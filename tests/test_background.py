"""Noise at a stated ratio; false alarms and misses of a model that hears tones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import Write, tone

from speechrnn.background import (
    LONGEST_GAP_S,
    SHORTEST_GAP_S,
    THRESHOLDS,
    BackgroundTest,
    describe_detection,
    load_background,
    measure_background,
    pick,
    place_clips,
)
from speechrnn.decoding import Transcript
from speechrnn.decoding.detect import DetectorConfig
from speechrnn.errors import AudioError, ConfigError, DataError, ModelError, SpeechRNNError
from speechrnn.labels import Labels
from speechrnn.noise import add_noise, find_recordings, load_noise, mean_power, noise_segment

RATE_HZ = 8000
DETECTOR = DetectorConfig(smoothing=1)
TEST = BackgroundTest("unused", budget=2.0, detector=DETECTOR)


# Times these, averaged, a second gives the levels of 400 Hz and of 1000 Hz.
CARRIERS = 2 * np.exp(-2j * np.pi * np.outer(np.arange(RATE_HZ) / RATE_HZ, [400, 1000])) / RATE_HZ


class Ear:
    """Hears 400 Hz as "low" and 1000 Hz as "high", as surely as it is loud; else silence."""

    path = Path("ear")
    labels = Labels(("_silence_", "high", "low"))
    sample_rate_hz = RATE_HZ
    min_samples = 200
    temperature = 1.0
    clip_s = (1.0, 1.0)

    def __init__(self, threshold: float = 0.3) -> None:
        self.threshold = threshold

    def answer_many(self, waveforms: list[np.ndarray]) -> np.ndarray:
        low, high = np.minimum(2 * np.abs(np.stack(waveforms) @ CARRIERS), 1).T
        loudest = np.maximum(low, high)
        answers = np.stack([1 - loudest, high, low], axis=1)
        answers[loudest < 0.02] = [1, 0, 0]
        return answers / answers.sum(axis=1, keepdims=True)

    def transcribe(self, recording: object) -> Transcript:
        raise NotImplementedError

    transcribe_many = transcribe


def clip(frequency_hz: float, loudness: float = 0.5) -> np.ndarray:
    return tone(frequency_hz, 1.0, RATE_HZ, loudness).astype(np.float32)


def quiet(seconds: float, seed: int = 0) -> np.ndarray:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * RATE_HZ))
    return (1e-3 * samples).astype(np.float32)


def with_alarms(loudness: list[float], seconds: float = 360.0) -> np.ndarray:
    """A tenth of an hour by default, with a tone of a command of each loudness in it."""
    background = quiet(seconds)
    for i, one in enumerate(loudness):
        start = (5 + 5 * i) * RATE_HZ
        background[start : start + RATE_HZ] += clip(400, one)
    return background


CLIPS = [("low", clip(400)), ("high", clip(1000)), ("_silence_", quiet(1.0))] * 6


# ------------------------------------------------------------------ noise


@pytest.mark.parametrize("snr_db", [20.0, 0.0, -5.0])
def test_the_ratio_is_that_of_the_mean_powers(snr_db):
    speech, noise = clip(400), np.random.default_rng(0).standard_normal(RATE_HZ).astype("f4")
    added = add_noise(speech, noise, snr_db) - speech
    ratio_db = 10 * np.log10(mean_power(speech) / mean_power(added))
    assert ratio_db == pytest.approx(snr_db, abs=1e-3)
    assert added.dtype == np.float32


def test_a_recording_of_zeros_stays_as_it_is():
    zeros = np.zeros(100, np.float32)
    np.testing.assert_array_equal(add_noise(zeros, np.ones(100, np.float32), 0.0), zeros)


@pytest.mark.parametrize("num_samples", [10, 100, 1234])
def test_a_part_of_the_noise_is_cut_or_repeated_and_never_silent(num_samples):
    noise = np.zeros(100, np.float32)
    noise[40:43] = [1, 2, 3]
    for seed in range(20):
        part = noise_segment([noise], num_samples, np.random.default_rng(seed))
        assert len(part) == num_samples
        assert part[0] != 0
        np.testing.assert_array_equal(part[100:], part[:-100])


def test_the_same_seed_takes_the_same_part():
    noises = [quiet(1, seed=1), quiet(2, seed=2)]
    parts = [noise_segment(noises, 500, np.random.default_rng(s)) for s in (3, 3, 4)]
    np.testing.assert_array_equal(parts[0], parts[1])
    assert not np.array_equal(parts[0], parts[2])


def test_noise_comes_from_a_file_a_folder_or_a_manifest(write_audio: Write, tmp_path: Path):
    one = write_audio("noise/one.wav", 0.1 * np.ones(400), RATE_HZ)
    write_audio("noise/deeper/two.flac", 0.2 * np.ones(800), RATE_HZ)
    write_audio("noise/silent.wav", np.zeros(800), RATE_HZ)
    manifest = tmp_path / "n.jsonl"
    manifest.write_text('{"audio_filepath": "noise/one.wav", "text": "_noise_"}\n')
    assert [len(noise) for noise in load_noise(one, RATE_HZ)] == [400]
    assert [len(noise) for noise in load_noise(tmp_path / "noise", RATE_HZ)] == [800, 400]
    assert find_recordings(manifest) == [one]


def empty(folder: Path, write_audio: Write) -> str:
    (folder / "noise").mkdir()
    return "folder without recordings, expected sound files"


def missing(folder: Path, write_audio: Write) -> str:
    return "no such file"


def zeros(folder: Path, write_audio: Write) -> str:
    write_audio("noise/zeros.wav", np.zeros(8000), RATE_HZ)
    return "holds nothing but zeros, expected noise that can be heard"


def unreadable(folder: Path, write_audio: Write) -> str:
    (folder / "noise").mkdir()
    (folder / "noise" / "a.wav").write_text("no audio")
    return "a.wav: cannot be read as audio"


@pytest.mark.parametrize("make", [empty, missing, zeros, unreadable])
def test_noise_of_no_use_is_refused_in_one_line(tmp_path, write_audio, make):
    expected = make(tmp_path, write_audio)
    with pytest.raises(SpeechRNNError) as caught:
        load_noise(tmp_path / "noise", RATE_HZ)
    assert str(tmp_path / "noise") in str(caught.value)
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------ false alarms and misses


def test_the_figures_are_those_counted_by_hand():
    # In a tenth of an hour: three alarms of confidence around 0.6, one around 0.9.
    background = with_alarms([0.3, 0.3, 0.3, 0.45])
    found = measure_background(Ear(), [background], CLIPS, TEST)
    assert found["background_hours"] == pytest.approx(0.1)
    assert found["commands"] == 12  # silence is no command
    by_threshold = {point["threshold"]: point for point in found["curve"]}
    assert by_threshold[0.3]["false_alarms"] == 4
    assert by_threshold[0.3]["false_alarms_per_hour"] == pytest.approx(40)
    assert by_threshold[0.7]["false_alarms"] == 1
    assert by_threshold[0.95]["false_alarms"] == 0
    assert by_threshold[0.3]["missed"] == 0
    assert found["threshold"] == min(t for t, p in by_threshold.items() if not p["false_alarms"])
    assert 0.85 < found["threshold"] <= 0.95
    assert found["false_alarms_per_hour"] == 0


def test_the_threshold_rises_as_the_budget_falls_and_is_the_lowest_that_keeps_to_it():
    background = with_alarms([0.15, 0.2, 0.25, 0.3, 0.35, 0.4])
    budgets = (100.0, 50.0, 30.0, 10.0, 0.0)
    found = [
        measure_background(Ear(), [background], CLIPS, BackgroundTest("x", budget))
        for budget in budgets
    ]
    thresholds = [one["threshold"] for one in found]
    assert thresholds == sorted(thresholds)
    assert thresholds[0] < thresholds[-1]
    for one, budget in zip(found, budgets, strict=True):
        assert one["false_alarms_per_hour"] <= budget
        lower = [p for p in one["curve"] if p["threshold"] < one["threshold"]]
        assert all(point["false_alarms_per_hour"] > budget for point in lower)


def test_false_alarms_fall_as_the_threshold_rises():
    noise = 0.15 * np.random.default_rng(0).standard_normal(200 * RATE_HZ).astype(np.float32)
    background = noise + np.sin(np.arange(len(noise)) * 2 * np.pi * 400 / RATE_HZ) * (
        0.3 * np.random.default_rng(1).random(200).repeat(RATE_HZ)
    ).astype(np.float32)
    curve = measure_background(Ear(), [background], CLIPS, TEST)["curve"]
    alarms = [point["false_alarms"] for point in curve]
    assert alarms == sorted(alarms, reverse=True)
    assert alarms[0] > 20 > 0 == alarms[-1]
    assert [point["threshold"] for point in curve] == list(THRESHOLDS)
    assert list(THRESHOLDS) == sorted(set(THRESHOLDS))


def test_a_model_that_hears_another_word_misses():
    wrong = [("high" if text == "low" else "low", w) for text, w in CLIPS if text != "_silence_"]
    assert measure_background(Ear(), [quiet(60)], wrong, TEST)["missed"] == 1


def test_without_a_budget_the_figures_are_at_the_threshold_of_the_model():
    test = BackgroundTest("x", detector=TEST.detector)
    background = with_alarms([0.3, 0.45])
    for threshold, alarms in ((0.3, 2), (0.75, 1)):
        found = measure_background(Ear(threshold), [background], CLIPS, test)
        assert (found["threshold"], found["false_alarms"]) == (threshold, alarms)
        assert found["false_alarms_by_label"] == {"low": alarms}
        assert found["verifiable"]


def test_no_threshold_is_picked_where_none_keeps_to_the_budget():
    found = measure_background(Ear(), [with_alarms([0.6])], CLIPS, TEST)  # confidence 1
    assert found["threshold"] is found["missed"] is None
    assert any("No threshold keeps to 2 false alarms" in line for line in describe_detection(found))
    assert pick(found["curve"], 10.0) is not None


@pytest.mark.parametrize(("budget", "verifiable"), [(0.0, False), (9.9, False), (10.0, True)])
def test_a_budget_below_one_alarm_in_the_background_cannot_be_verified(budget, verifiable):
    test = BackgroundTest("x", budget)
    found = measure_background(Ear(), [with_alarms([])], CLIPS, test)
    assert found["verifiable"] is verifiable
    lines = " ".join(describe_detection(found))
    assert "0.1 hours of background" in lines
    assert ("cannot be verified on so little: one false alarm would be 10 an" in lines) is (
        not verifiable
    )


def test_the_same_seed_gives_the_same_figures_and_another_one_other_places():
    background = [quiet(40, seed=5), quiet(20, seed=6)]
    clips = [waveform for _, waveform in CLIPS]
    streams = []
    for seed in (0, 0, 1):
        rng = np.random.default_rng(seed)
        streams.append(place_clips(clips, background, RATE_HZ, rng, DETECTOR))
    np.testing.assert_array_equal(streams[0][0], streams[1][0])
    assert streams[0][1] == streams[1][1] != streams[2][1]


def test_clips_lie_apart_and_are_added_as_they_are():
    background = quiet(7)  # repeated
    before = background.copy()
    clips = [clip(400), clip(1000)[:5000], clip(400)]
    stream, places = place_clips(clips, [background], RATE_HZ, np.random.default_rng(0), DETECTOR)
    np.testing.assert_array_equal(background, before)
    ends = [0, *(start + len(one) for start, one in zip(places, clips, strict=True))]
    gaps_s = [(a - b) / RATE_HZ for a, b in zip([*places, len(stream)], ends, strict=True)]
    assert all(2 + SHORTEST_GAP_S <= gap <= 2 + LONGEST_GAP_S for gap in gaps_s)
    for start, one in zip(places, clips, strict=True):
        rest = stream[start : start + len(one)] - one
        assert np.abs(rest).max() < 0.01


@pytest.mark.parametrize("snr_db", [20.0, 0.0])
def test_clips_can_have_a_stated_level_over_the_background(snr_db):
    background = 0.1 * np.random.default_rng(0).standard_normal(30 * RATE_HZ).astype(np.float32)
    streams = [
        place_clips([one], [background], RATE_HZ, np.random.default_rng(0), DETECTOR, snr_db)
        for one in (clip(400), np.zeros(RATE_HZ, np.float32))
    ]
    (loud, (start,)), (plain, _) = streams
    added = (loud - plain)[start : start + RATE_HZ]
    under = plain[start : start + RATE_HZ]
    ratio_db = 10 * np.log10(mean_power(added) / mean_power(under))
    assert ratio_db == pytest.approx(snr_db, abs=0.01)


def test_data_without_commands_and_models_without_labels_are_refused():
    with pytest.raises(DataError, match="hold no recording of a command, expected some"):
        measure_background(Ear(), [quiet(2)], [("_silence_", quiet(1))], TEST)

    class Sequences(Ear):
        def answer_many(self, waveforms: list[np.ndarray]) -> np.ndarray:
            return np.zeros((len(waveforms), 50, 3))

    with pytest.raises(ModelError, match="need a model with a classification head"):
        measure_background(Sequences(), [quiet(2)], CLIPS, TEST)


def test_a_background_shorter_than_a_window_is_refused_by_name(write_audio, tmp_path):
    write_audio("bg/long.wav", quiet(2), RATE_HZ)
    assert len(load_background(BackgroundTest(tmp_path / "bg"), Ear())) == 1
    short = write_audio("bg/short.wav", quiet(0.4), RATE_HZ)
    with pytest.raises(AudioError) as caught:
        load_background(BackgroundTest(tmp_path / "bg"), Ear())
    assert str(caught.value) == (
        f"{short}: is too short for a background: 0.40 s, expected at least a window of 1 s; "
        "leave it out"
    )


@pytest.mark.parametrize(
    "settings",
    [{"budget": -1.0}, {"budget": np.nan}, {"budget": np.inf}, {"command_snr_db": np.nan}],
)
def test_settings_of_no_use_are_refused(settings):
    with pytest.raises(ConfigError, match=r"--[a-z-]+ \S+: expected"):
        BackgroundTest("x", **settings)
