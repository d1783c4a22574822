"""Augmentations leave words recognisable, are drawn from the given generator, and nothing else."""

from __future__ import annotations

import itertools

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from speechrnn.datasets.augment import (
    AUGMENTATIONS,
    ColouredNoise,
    Gain,
    Speed,
    TimeShift,
    WaveformAugmentation,
    augmentations_from_mapping,
    coloured_noise,
)
from speechrnn.datasets.augment_mel import (
    MelAugmentation,
    SpecAugment,
    VocalTract,
    change_log_mel,
)
from speechrnn.errors import ConfigError

RATE_HZ = 16000
ALL = {name: AUGMENTATIONS.from_mapping({"type": name}) for name in AUGMENTATIONS.names()}
ON_WAVEFORMS = {name: a for name, a in ALL.items() if isinstance(a, WaveformAugmentation)}
ON_MEL = {name: a for name, a in ALL.items() if isinstance(a, MelAugmentation)}


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (0.1 * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)


def test_every_augmentation_acts_on_waveforms_or_on_mel_energies():
    assert set(ON_WAVEFORMS) | set(ON_MEL) == set(ALL)
    assert not set(ON_WAVEFORMS) & set(ON_MEL)


@pytest.mark.parametrize("name", ON_WAVEFORMS)
def test_waveform_augmentation_is_decided_by_the_generator_alone(name: str):
    waveform = tone(440)
    before = waveform.copy()
    first, again, other = (
        ON_WAVEFORMS[name].apply(waveform, RATE_HZ, np.random.default_rng(seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(waveform, before)
    assert first.dtype == np.float32
    assert np.isfinite(first).all()
    assert first.shape != other.shape or not np.array_equal(first, other)


@pytest.mark.parametrize("name", ON_WAVEFORMS)
def test_probability_zero_changes_nothing_and_draws_as_much(name: str):
    never = AUGMENTATIONS.from_mapping({"type": name, "probability": 0.0})
    rng, always_rng = np.random.default_rng(0), np.random.default_rng(0)
    waveform = tone(300)
    np.testing.assert_array_equal(never.apply(waveform, RATE_HZ, rng), waveform)
    ON_WAVEFORMS[name].apply(waveform, RATE_HZ, always_rng)
    assert rng.random() == always_rng.random()


@pytest.mark.parametrize("name", ON_WAVEFORMS)
@pytest.mark.parametrize("num_samples", [2, 400, 16000])
def test_waveform_augmentation_takes_any_length(name: str, num_samples: int):
    changed = ON_WAVEFORMS[name].apply(
        np.ones(num_samples, np.float32), RATE_HZ, np.random.default_rng(3)
    )
    assert changed.size > 0
    assert np.isfinite(changed).all()


@pytest.mark.parametrize("name", ON_WAVEFORMS)
def test_digital_silence_stays_finite(name: str):
    silence = np.zeros(8000, np.float32)
    assert np.isfinite(ON_WAVEFORMS[name].apply(silence, RATE_HZ, np.random.default_rng(0))).all()


def test_time_shift_moves_an_impulse_by_at_most_its_range():
    waveform = np.zeros(RATE_HZ, np.float32)
    waveform[8000] = 1.0
    shift = TimeShift(max_ms=50)
    places = [
        int(np.argmax(shift.apply(waveform, RATE_HZ, np.random.default_rng(seed))))
        for seed in range(50)
    ]
    assert min(places) >= 8000 - 800
    assert max(places) <= 8000 + 800
    assert len(set(places)) > 20


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_speed_moves_pitch_and_length_by_one_factor(seed: int):
    changed = Speed(low=0.8, high=1.2).apply(tone(500), RATE_HZ, np.random.default_rng(seed))
    factor = RATE_HZ / len(changed)
    spectrum = np.abs(np.fft.rfft(changed * np.hanning(len(changed)), 65536))
    peak_hz = np.argmax(spectrum) * RATE_HZ / 65536
    assert 0.79 < factor < 1.21
    assert peak_hz == pytest.approx(500 * factor, rel=0.005)


def test_gain_is_within_its_decibels():
    gain = Gain(low_db=-6.0, high_db=6.0)
    factors = [
        np.max(gain.apply(np.ones(4, np.float32), RATE_HZ, np.random.default_rng(seed)))
        for seed in range(100)
    ]
    assert min(factors) >= 10 ** (-6 / 20)
    assert max(factors) <= 10 ** (6 / 20)


@pytest.mark.parametrize("snr_db", [0.0, 10.0, 30.0])
def test_noise_has_the_drawn_snr(snr_db: float):
    noise = ColouredNoise(probability=1.0, low_snr_db=snr_db, high_snr_db=snr_db)
    waveform = tone(440)
    added = noise.apply(waveform, RATE_HZ, np.random.default_rng(0)) - waveform
    measured_db = 10 * np.log10(np.mean(waveform**2) / np.mean(added**2))
    assert measured_db == pytest.approx(snr_db, abs=0.05)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_coloured_noise_falls_as_its_exponent_says(exponent: float):
    noise = coloured_noise(1 << 16, RATE_HZ, exponent, np.random.default_rng(0))
    power = np.abs(np.fft.rfft(noise)) ** 2
    lowest = 20 * (1 << 16) // RATE_HZ  # the bin of 20 Hz, under which there is nothing
    assert power[:lowest].sum() < 1e-9 * power.sum()
    octaves = np.geomspace(lowest + 1, len(power) - 1, 12).astype(int)
    means = [power[low:high].mean() for low, high in itertools.pairwise(octaves)]
    middles = np.sqrt(octaves[:-1] * octaves[1:])
    slope = np.polyfit(np.log(middles), np.log(means), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.1)
    assert np.mean(noise**2) == pytest.approx(1.0, rel=1e-4)


@pytest.mark.parametrize("name", ON_MEL)
def test_mel_augmentation_keeps_the_shape_and_obeys_its_seed(name: str):
    log_mel = np.random.default_rng(0).standard_normal((3, 50, 40)).astype(np.float32)
    first, again, other = (
        ops.convert_to_numpy(ON_MEL[name].change(log_mel, 10.0, keras.random.SeedGenerator(seed)))
        for seed in (1, 1, 2)
    )
    assert first.shape == log_mel.shape
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], log_mel[0]) or not np.array_equal(first[1], log_mel[1])


def test_spec_augment_hides_whole_bands_and_spans_behind_the_mean():
    log_mel = np.random.default_rng(0).standard_normal((16, 60, 40)).astype(np.float32)
    change = SpecAugment(mel_masks=1, max_mels=6, time_masks=1, max_ms=100)
    changed = ops.convert_to_numpy(change.change(log_mel, 10.0, keras.random.SeedGenerator(0)))
    hidden = changed != log_mel
    for clip, mask in zip(changed, hidden, strict=True):
        bands, spans = mask.all(axis=0), mask.all(axis=1)
        assert bands.sum() <= 7
        assert spans.sum() <= 11
        np.testing.assert_array_equal(mask, bands[None, :] | spans[:, None])
        if mask.any():
            assert np.ptp(clip[mask]) < 1e-6
    assert hidden.any()


def test_vocal_tract_of_factor_one_changes_nothing():
    log_mel = np.random.default_rng(0).standard_normal((2, 9, 40)).astype(np.float32)
    same = VocalTract(low=1.0, high=1.0).change(log_mel, 10.0, keras.random.SeedGenerator(0))
    np.testing.assert_allclose(ops.convert_to_numpy(same), log_mel, atol=1e-6)


def test_vocal_tract_moves_a_band_by_its_factor():
    log_mel = np.zeros((1, 1, 40), np.float32)
    log_mel[..., 20] = 1.0
    moved = VocalTract(low=1.25, high=1.25).change(log_mel, 10.0, keras.random.SeedGenerator(0))
    assert int(np.argmax(ops.convert_to_numpy(moved))) == 16


def test_no_mel_augmentation_gives_no_function():
    assert change_log_mel([TimeShift()], 10.0) is None


def test_order_is_that_of_the_settings():
    chosen = augmentations_from_mapping({"gain": {}, "time_shift": {"max_ms": 5}})
    assert [type(a) for a in chosen] == [Gain, TimeShift]


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"echo": {}}, "coloured_noise"),
        ({"gain": {"loudness": 1}}, "low_db"),
        ({"gain": {"probability": 2.0}}, "probability"),
        ({"speed": {"low": 1.2, "high": 0.8}}, "low <= high"),
        ({"vocal_tract": {"low": 0.1}}, "low <= high"),
    ],
)
def test_wrong_settings_are_named(sections: dict, named: str):
    with pytest.raises(ConfigError, match=named):
        augmentations_from_mapping(sections)
