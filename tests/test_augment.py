"""Augmentations leave words recognisable, are drawn from the given generator, and nothing else."""

from __future__ import annotations

import itertools
from pathlib import Path

import keras
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops

from speechrnn.config import read_preset
from speechrnn.datasets import augment_mixup as augment_mixup  # registers it
from speechrnn.datasets.augment import (
    Clipping,
    Gain,
    Speed,
    TimeShift,
    augmentations_from_mapping,
    prepare_augmentations,
    resampled,
)
from speechrnn.datasets.augment_filter import (
    NUM_ROOMS,
    BandLimit,
    Channel,
    Room,
    Telephone,
    made_rooms,
    mu_law,
)
from speechrnn.datasets.augment_mel import (
    MelAugmentation,
    SpecAugment,
    VocalTract,
    change_log_mel,
)
from speechrnn.datasets.augment_noise import BackgroundNoise, ColouredNoise, coloured_noise
from speechrnn.datasets.waveforms import (
    AUGMENTATIONS,
    WaveformAugmentation,
    Waveforms,
    padded_length,
)
from speechrnn.errors import ConfigError, DataError

RATE_HZ = 16000
ALWAYS = {
    name: AUGMENTATIONS.from_mapping({"type": name, "probability": 1.0})
    for name in AUGMENTATIONS.names()
}
NEVER = {
    name: AUGMENTATIONS.from_mapping({"type": name, "probability": 0.0})
    for name in AUGMENTATIONS.names()
}
ON_WAVEFORMS = [name for name, a in ALWAYS.items() if isinstance(a, WaveformAugmentation)]
ON_MEL = [name for name, a in ALWAYS.items() if isinstance(a, MelAugmentation)]
LENGTHS = (16000, 9000, 12345, 400, 2, 1)

on_waveforms = pytest.mark.parametrize("name", ON_WAVEFORMS)
on_mel = pytest.mark.parametrize("name", ON_MEL)


def tone(hz: float, seconds: float = 1.0) -> np.ndarray:
    time_s = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
    return (0.1 * np.sin(2 * np.pi * hz * time_s)).astype(np.float32)


def voices(lengths: tuple[int, ...] = LENGTHS, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [(0.1 * rng.standard_normal(length)).astype(np.float32) for length in lengths]


def apply(augmentation: WaveformAugmentation, clips: list[np.ndarray], seed: int = 0) -> Waveforms:
    return augmentation.apply(Waveforms.stack(clips, RATE_HZ), np.random.default_rng(seed))


def one(augmentation: WaveformAugmentation, clip: np.ndarray, seed: int = 0) -> np.ndarray:
    return apply(augmentation, [clip], seed).row(0)


def power_within(waveform: np.ndarray, low_hz: float, high_hz: float) -> float:
    spectrum = np.abs(np.fft.rfft(waveform.astype(np.float64) * np.hanning(len(waveform)))) ** 2
    hz = np.fft.rfftfreq(len(waveform), 1 / RATE_HZ)
    return float(spectrum[(low_hz <= hz) & (hz < high_hz)].sum())


# ------------------------------------------------------------------ every augmentation


def test_every_augmentation_acts_on_waveforms_or_on_mel_energies():
    assert set(ON_WAVEFORMS) | set(ON_MEL) == set(ALWAYS) - {"mixup"}  # which acts on frames
    assert not set(ON_WAVEFORMS) & set(ON_MEL)


def test_every_augmentation_has_a_probability_and_says_what_it_does():
    for augmentation in ALWAYS.values():
        assert hasattr(augmentation, "probability")
        assert not (type(augmentation).__doc__ or "").startswith(type(augmentation).__name__)


def test_every_augmentation_of_every_name_is_reachable_from_the_preset_file():
    assert augmentations_from_mapping(read_preset("commands")["augment"])


@on_waveforms
def test_a_batch_is_decided_by_the_generator_alone(name: str):
    first, again, other = (apply(ALWAYS[name], voices(), seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.waveform, again.waveform)
    np.testing.assert_array_equal(first.num_samples, again.num_samples)
    assert (
        name == "telephone"  # which draws nothing but whom it meets
        or first.waveform.shape != other.waveform.shape
        or not np.array_equal(first.waveform, other.waveform)
    )


@on_waveforms
def test_what_comes_out_is_finite_float32_with_true_lengths_and_zeros_behind_them(name: str):
    before = voices()
    changed = apply(ALWAYS[name], before)
    assert changed.waveform.dtype == np.float32
    assert changed.num_samples.dtype == np.int32
    assert changed.sample_rate_hz == RATE_HZ
    assert len(changed) == len(changed.waveform) == len(before)
    assert np.isfinite(changed.waveform).all()
    assert (changed.num_samples >= 1).all()
    if name not in ("speed", "time_shift"):
        assert [len(clip) for clip in before] == changed.num_samples.tolist()
    for row, num_samples in zip(changed.waveform, changed.num_samples, strict=True):
        assert not row[num_samples:].any()
    assert not np.array_equal(changed.row(0)[:9000], before[0][:9000])


@on_waveforms
def test_probability_zero_changes_nothing_and_draws_as_much(name: str):
    rng, always_rng = np.random.default_rng(0), np.random.default_rng(0)
    before = Waveforms.stack(voices(), RATE_HZ)
    after = NEVER[name].apply(Waveforms.stack(voices(), RATE_HZ), rng)
    np.testing.assert_array_equal(after.waveform, before.waveform)
    np.testing.assert_array_equal(after.num_samples, before.num_samples)
    ALWAYS[name].apply(Waveforms.stack(voices(), RATE_HZ), always_rng)
    assert rng.random() == always_rng.random()


@on_waveforms
def test_the_probability_is_that_of_each_clip(name: str):
    half = AUGMENTATIONS.from_mapping({"type": name, "probability": 0.5})
    before = voices((4000,) * 200)
    after = apply(half, before)
    same = sum(np.array_equal(after.row(i), clip) for i, clip in enumerate(before))
    assert 70 <= same <= 130  # four standard deviations


@on_waveforms
def test_a_row_does_not_depend_on_what_the_others_hold(name: str):
    before = voices()
    others = [clip if i == 2 else 3 * clip[::-1] for i, clip in enumerate(before)]
    here, there = apply(ALWAYS[name], before).row(2), apply(ALWAYS[name], others).row(2)
    # An FFT may round otherwise in another lane of the vector unit; 8 bits pass such a step on.
    np.testing.assert_allclose(here, there, atol=1e-6 if name != "telephone" else 0.02)
    assert np.mean((here - there) ** 2) < 1e-10


@on_waveforms
def test_the_recordings_in_memory_stay_as_they_are(name: str):
    clips = voices()
    apply(ALWAYS[name], clips)
    for clip, before in zip(clips, voices(), strict=True):
        np.testing.assert_array_equal(clip, before)


@on_waveforms
@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050, 44100])
def test_digital_silence_stays_finite_at_any_rate(name: str, rate_hz: int):
    silence = Waveforms.stack([np.zeros(8000, np.float32)] * 3, rate_hz)
    changed = ALWAYS[name].apply(silence, np.random.default_rng(0))
    assert not changed.waveform.any()


@on_waveforms
@settings(max_examples=10, deadline=None)
@given(seed=st.integers(0, 1000), lengths=st.lists(st.integers(1, 9000), min_size=1, max_size=20))
def test_any_batch_is_taken(name: str, seed: int, lengths: list[int]):
    changed = apply(ALWAYS[name], voices(tuple(lengths), seed), seed).trimmed()
    assert np.isfinite(changed.waveform).all()
    step = padded_length(1, RATE_HZ)
    assert changed.waveform.shape[1] % step == 0
    assert 0 <= changed.waveform.shape[1] - changed.num_samples.max() < step


def test_order_is_that_of_the_settings():
    chosen = augmentations_from_mapping({"gain": {}, "time_shift": {"max_ms": 5}})
    assert [type(a) for a in chosen] == [Gain, TimeShift]


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"echo": {}}, "coloured_noise"),
        ({"gain": {"loudness": 1}}, "low_db"),
        *[({name: {"probability": 2.0}}, "probability") for name in ALWAYS],
        *[
            ({name: {"low": 1.2, "high": 0.8}}, f"{name}.*low <= high")
            for name in ("speed", "vocal_tract")
        ],
        ({"vocal_tract": {"low": 0.1}}, "low <= high"),
        ({"gain": {"low_db": 7.0}}, "got 7 to 6"),
        ({"clipping": {"low_db": -1.0}}, "clipping"),
        ({"time_shift": {"max_ms": -1.0}}, "time_shift.max_ms"),
        ({"room": {"low_rt60_s": 0.0}}, "room.rt60_s"),
        ({"channel": {"max_db": 100.0}}, "channel.max_db"),
        ({"band_limit": {"low_hz": 9000.0}}, "band_limit"),
        ({"coloured_noise": {"max_exponent": -1.0}}, "max_exponent"),
        ({"background_noise": {"low_snr_db": 50.0}}, "background_noise"),
    ],
)
def test_wrong_settings_are_named(sections: dict, named: str):
    with pytest.raises(ConfigError, match=named):
        augmentations_from_mapping(sections)


# ------------------------------------------------------------------ time and level


def test_time_shift_moves_an_impulse_by_at_most_its_range():
    clips = [np.eye(1, RATE_HZ, 8000, dtype=np.float32)[0]] * 50
    places = np.argmax(apply(TimeShift(max_ms=50), clips).waveform, axis=1)
    assert places.min() >= 8000 - 800
    assert places.max() <= 8000 + 800
    assert len(set(places.tolist())) > 20


def test_time_shift_cuts_nothing_where_the_batch_has_room():
    long, short = voices((16000, 5000))
    for seed in range(20):
        changed = apply(TimeShift(max_ms=50), [long, short], seed)
        row = changed.row(1)
        gap = len(row) - len(short)
        at_start = np.array_equal(row[: len(short)], short)
        at_end = np.array_equal(row[gap:], short)
        assert 0 <= gap <= 800
        assert at_start or at_end
        filled = row[len(short) :] if at_start else row[:gap]
        mirror = short[-2 : -2 - gap : -1] if at_start else short[gap:0:-1]
        np.testing.assert_array_equal(filled, mirror[: len(filled)])
        assert changed.num_samples[0] == 16000


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000))
def test_speed_moves_pitch_and_length_by_one_factor(seed: int):
    room = np.zeros(2 * RATE_HZ, np.float32)
    changed = apply(Speed(low=0.8, high=1.2), [tone(500), room], seed).row(0)
    factor = RATE_HZ / len(changed)
    spectrum = np.abs(np.fft.rfft(changed * np.hanning(len(changed)), 65536))
    peak_hz = np.argmax(spectrum) * RATE_HZ / 65536
    assert 0.79 < factor < 1.21
    assert peak_hz == pytest.approx(500 * factor, rel=0.005)


@pytest.mark.parametrize("factor", [0.5, 0.93, 1.0, 1.07, 2.0])
def test_speed_reads_between_the_samples_as_numpy_does(factor: float):
    clip = voices((50_000,))[0]
    room = np.zeros(2 * len(clip), np.float32)
    changed = apply(Speed(low=factor, high=factor), [clip, room]).row(0)
    expected = np.interp(np.arange(len(changed)) * factor, np.arange(len(clip)), clip)
    np.testing.assert_allclose(changed, expected, atol=1e-5)  # factors are rounded to 2 ** -32


def test_a_slowed_recording_loses_both_ends_alike_where_the_batch_has_no_room():
    clip = np.linspace(-1, 1, 16_000, dtype=np.float32)
    changed = apply(Speed(low=0.9, high=0.9), [clip])
    assert changed.waveform.shape == (1, 16_000)
    row = changed.row(0)
    assert row[0] + row[-1] == pytest.approx(0, abs=1e-3)
    assert row[-1] == pytest.approx(0.9, abs=1e-3)


def test_gain_is_within_its_decibels_and_uses_them():
    changed = apply(Gain(low_db=-6.0, high_db=6.0), [np.ones(4, np.float32)] * 100)
    gain_db = 20 * np.log10([changed.row(i)[0] for i in range(100)])
    assert -6 <= gain_db.min() < -5
    assert 5 < gain_db.max() <= 6
    (six,) = apply(Gain(low_db=6.0, high_db=6.0), [np.ones(1, np.float32)]).row(0)
    assert six == pytest.approx(1.99526, rel=1e-5)


def test_clipping_cuts_at_the_peak_less_its_decibels():
    clipped = one(Clipping(1.0, low_db=6.0, high_db=6.0), tone(440))
    assert clipped.max() == pytest.approx(0.1 * 10 ** (-6 / 20), rel=1e-3)
    assert clipped.min() == pytest.approx(-clipped.max(), rel=1e-3)
    quiet = np.abs(tone(440)) < 0.04
    np.testing.assert_array_equal(clipped[quiet], tone(440)[quiet])


# ------------------------------------------------------------------ noise


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 1000), snr_db=st.floats(-10, 40), kind=st.sampled_from(("made", "file")))
def test_noise_has_the_drawn_snr(
    tmp_path_factory: pytest.TempPathFactory, seed: int, snr_db: float, kind: str
):
    made = ColouredNoise(probability=1.0, low_snr_db=snr_db, high_snr_db=snr_db)
    folder = noise_folder(tmp_path_factory.getbasetemp() / "noise")
    recorded = BackgroundNoise(1.0, low_snr_db=snr_db, high_snr_db=snr_db, folder=str(folder))
    clips = [tone(440), tone(700, 0.2), voices((30_000,))[0]]
    changed = apply(made if kind == "made" else recorded, clips, seed)
    for i, clip in enumerate(clips):
        added = changed.row(i).astype(np.float64) - clip
        measured_db = 10 * np.log10(np.mean(clip.astype(np.float64) ** 2) / np.mean(added**2))
        assert measured_db == pytest.approx(snr_db, abs=0.05)


def noise_folder(folder: Path) -> Path:
    if not folder.exists():
        (folder / "inner").mkdir(parents=True)
        rng = np.random.default_rng(0)
        rising = np.linspace(0.01, 1, 48_000) * rng.standard_normal(48_000) * 0.1
        soundfile.write(folder / "rising.wav", rising, RATE_HZ, subtype="FLOAT")
        short = 0.1 * rng.standard_normal(5000)
        soundfile.write(folder / "inner" / "short.flac", short, 8000)
    return folder


def test_recorded_noise_is_a_piece_of_a_recording(tmp_path: Path):
    soundfile.write(tmp_path / "hum.wav", tone(50, 3.0), RATE_HZ, subtype="FLOAT")
    noise = BackgroundNoise(1.0, low_snr_db=0.0, high_snr_db=0.0, folder=str(tmp_path))
    added = one(noise, tone(1000)) - tone(1000)
    assert power_within(added, 40, 60) > 0.99 * power_within(added, 0, 8000)


def test_a_silent_piece_of_a_recording_adds_nothing(tmp_path: Path):
    recording = np.concatenate([np.zeros(100_000, np.float32), tone(50, 0.1)])
    soundfile.write(tmp_path / "cat.wav", recording, RATE_HZ, subtype="FLOAT")
    noise = BackgroundNoise(1.0, low_snr_db=0.0, high_snr_db=0.0, folder=str(tmp_path))
    changed = apply(noise, [tone(1000, 0.1)] * 20)
    assert np.isfinite(changed.waveform).all()
    assert np.abs(changed.waveform).max() < 1


@pytest.mark.parametrize("wrong", ["missing", "empty", "silent", "text"])
def test_a_folder_that_is_no_noise_is_named_before_training(tmp_path: Path, wrong: str):
    folder = tmp_path / wrong
    if wrong != "missing":
        folder.mkdir()
    if wrong == "silent":
        soundfile.write(folder / "off.wav", np.zeros(8000, np.float32), RATE_HZ)
    if wrong == "text":
        (folder / "notes.wav").write_text("hello")
    expected = {
        "missing": "no such folder",
        "empty": "no recordings",
        "silent": r"off.wav is silent",
        "text": r"notes.wav: .* is it a sound file",
    }
    with pytest.raises(DataError, match=f"{folder}.*{expected[wrong]}") as caught:
        prepare_augmentations([Gain(), BackgroundNoise(folder=str(folder))], RATE_HZ)
    assert "\n" not in str(caught.value)


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


# ------------------------------------------------------------------ rooms and lines


def test_a_room_keeps_the_power_and_the_direct_sound_in_its_place():
    clip = np.zeros(RATE_HZ, np.float32)
    clip[3000] = 0.5
    for seed in range(10):
        heard = one(Room(1.0, low_direct_db=3.0), clip, seed)
        assert np.mean(heard**2) == pytest.approx(np.mean(clip**2), rel=1e-4)
        assert np.argmax(np.abs(heard)) == 3000
        assert np.abs(heard[:3000]).max() < 1e-5  # nothing comes round from the end
        assert np.abs(heard[3100:6000]).max() > 1e-4


def test_rooms_decay_by_their_reverberation_time_and_are_as_wet_as_drawn():
    (rooms, again) = (made_rooms.__wrapped__(RATE_HZ, (0.3, 0.3), (6.0, 6.0)) for _ in range(2))
    np.testing.assert_array_equal(rooms, again)
    assert len(rooms) == NUM_ROOMS
    echoes = np.square(rooms[:, 1:], dtype=np.float64)
    np.testing.assert_allclose(10 * np.log10(1 / echoes.sum(axis=1)), 6.0, atol=1e-3)
    mean = echoes[:, 100:2300].mean(axis=0).reshape(-1, 100).mean(axis=1)
    slope = np.polyfit(np.arange(len(mean)) * 100 / RATE_HZ, 10 * np.log10(mean), 1)[0]
    assert slope == pytest.approx(-60 / 0.3, rel=0.05)  # dB a second


def test_a_channel_stays_within_its_gains_and_cuts_what_lies_beyond():
    clip = voices((RATE_HZ,))[0]
    flat = Channel(1.0, max_db=0.0, high_low_cut_hz=20.0, low_high_cut_hz=8000.0)
    assert power_within(one(flat, clip) - clip, 200, 4000) < 1e-3 * power_within(clip, 200, 4000)
    for seed in range(20):
        heard = one(Channel(1.0, max_db=8.0, low_high_cut_hz=8000.0), clip, seed)
        for low_hz in (600, 1000, 2000, 3000):
            band = (low_hz, low_hz + 200)
            gain_db = 10 * np.log10(power_within(heard, *band) / power_within(clip, *band))
            assert -9 < gain_db < 8.5  # with the edges of the band


def test_a_band_limit_leaves_nothing_above():
    clip = voices((RATE_HZ,))[0]
    heard = one(BandLimit(1.0, low_hz=4000.0, high_hz=4000.0), clip)
    assert power_within(heard, 4300, 8000) < 1e-6 * power_within(clip, 4300, 8000)
    difference = power_within(heard - clip, 0, 3700)
    assert difference < 1e-4 * power_within(clip, 0, 3700)


def test_a_telephone_loses_more_than_30_db_outside_its_band_and_little_inside():
    clip = voices((RATE_HZ,))[0]
    heard = one(Telephone(1.0), clip)
    for low_hz, high_hz in ((0, 270), (3700, 8000)):
        lost = power_within(heard, low_hz, high_hz) / power_within(clip, low_hz, high_hz)
        assert 10 * np.log10(lost) < -30
    kept = power_within(heard, 400, 3200) / power_within(clip, 400, 3200)
    assert 10 * np.log10(kept) == pytest.approx(0, abs=0.2)
    noise = power_within(heard - clip, 400, 3200) / power_within(clip, 400, 3200)
    assert -42 < 10 * np.log10(noise) < -32  # G.711's signal to quantising noise: 38 dB


def test_mu_law_has_255_steps_and_keeps_the_peak():
    ramp = np.linspace(-0.3, 0.3, 20_001, dtype=np.float32)[None]
    coded = mu_law(ramp)
    assert len(np.unique(coded)) == 255
    assert coded.max() == pytest.approx(0.3, rel=1e-5)
    assert coded[0, 10_000] == 0
    large = np.abs(ramp) > 0.03
    assert np.abs(coded[large] / ramp[large] - 1).max() < 0.025  # half of a step of ln(256) / 127


# ------------------------------------------------------------------ mel energies


def changed_mel(augmentation: MelAugmentation, log_mel: np.ndarray, seed: int = 0) -> np.ndarray:
    changed = augmentation.change(log_mel, 10.0, keras.random.SeedGenerator(seed))
    return ops.convert_to_numpy(changed)


def some_mel(batch: int = 3, frames: int = 50) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((batch, frames, 40)).astype(np.float32)


@on_mel
def test_mel_augmentation_keeps_the_shape_and_obeys_its_seed(name: str):
    log_mel = some_mel()
    first, again, other = (changed_mel(ALWAYS[name], log_mel, seed) for seed in (1, 1, 2))
    assert first.shape == log_mel.shape
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], log_mel[0]) or not np.array_equal(first[1], log_mel[1])


@on_mel
def test_a_mel_augmentation_changes_the_share_of_clips_that_its_probability_says(name: str):
    log_mel = some_mel(200)
    np.testing.assert_allclose(changed_mel(NEVER[name], log_mel), log_mel, atol=1e-6)
    half = AUGMENTATIONS.from_mapping({"type": name, "probability": 0.5})
    same = (np.abs(changed_mel(half, log_mel) - log_mel).max(axis=(1, 2)) < 1e-6).sum()
    assert 70 <= same <= 130


@on_mel
def test_a_mel_augmentation_of_a_clip_does_not_depend_on_the_others(name: str):
    log_mel = some_mel()
    others = np.concatenate([log_mel[:1], 5 * log_mel[1:]])
    here, there = changed_mel(ALWAYS[name], log_mel)[0], changed_mel(ALWAYS[name], others)[0]
    np.testing.assert_allclose(here, there, atol=1e-6)


@on_mel
@pytest.mark.parametrize("num_padding", [1, 30])
def test_padding_does_not_change_what_a_mel_augmentation_does(name: str, num_padding: int):
    log_mel = some_mel()
    floor = np.full((3, num_padding, 40), log_mel.min() - 1, np.float32)
    padded = changed_mel(ALWAYS[name], np.concatenate([log_mel, floor], axis=1), 5)
    alone = changed_mel(ALWAYS[name], log_mel, 5)
    np.testing.assert_allclose(padded[:, :50], alone, atol=1e-5)


@on_mel
def test_a_mel_augmentation_leaves_digital_silence_silent(name: str):
    silence = np.full((2, 9, 40), -13.8, np.float32)
    np.testing.assert_allclose(changed_mel(ALWAYS[name], silence), silence, rtol=1e-5)


def test_spec_augment_hides_at_most_its_part_of_a_short_clip():
    rng = np.random.default_rng(0)
    log_mel = rng.standard_normal((200, 20, 8)).astype(np.float32)
    change = SpecAugment(mel_masks=0, time_masks=1, max_ms=1000, max_fraction=0.25)
    changed = ops.convert_to_numpy(change.change(log_mel, 10.0, keras.random.SeedGenerator(0)))
    hidden = (changed != log_mel).all(axis=2).sum(axis=1)
    assert hidden.max() == 6  # a quarter of 20 frames, and the one that it touches
    assert hidden.min() <= 1


def test_spec_augment_hides_whole_bands_and_spans_behind_the_mean():
    log_mel = some_mel(16, 60)
    change = SpecAugment(mel_masks=1, max_mels=6, time_masks=1, max_ms=100)
    changed = changed_mel(change, log_mel)
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
    log_mel = some_mel()
    same = changed_mel(VocalTract(low=1.0, high=1.0), log_mel)
    np.testing.assert_allclose(same, log_mel, atol=1e-6)


def test_vocal_tract_moves_a_band_by_its_factor():
    log_mel = np.zeros((1, 1, 40), np.float32)
    log_mel[..., 20] = 1.0
    assert int(np.argmax(changed_mel(VocalTract(low=1.25, high=1.25), log_mel))) == 16


def test_no_mel_augmentation_gives_no_function():
    assert change_log_mel([TimeShift()], 10.0) is None


@pytest.mark.parametrize("reads", range(14600, 17600, 97))
def test_no_speed_reads_behind_the_end(reads: int):
    # A factor at which the last position falls on the last sample, but for rounding.
    waveform = np.zeros(16000, np.float32)
    for factor in (15999 / reads, np.nextafter(15999 / reads, 0), np.nextafter(15999 / reads, 2)):
        assert len(resampled(waveform, float(factor))) in (reads, reads + 1)
