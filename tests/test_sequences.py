"""Made utterances: what is said where, and what each depends on."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from conftest import Run, tone
from hypothesis import given, settings
from hypothesis import strategies as st

from speechrnn.datasets.manifest import Utterance, read_data
from speechrnn.datasets.sequences import (
    SequenceConfig,
    clips_by_speaker,
    make_sequence,
    plan_sequence,
    trimmed,
    write_sequences,
)
from speechrnn.errors import ConfigError, DataError
from speechrnn.labels import SILENCE

RATE_HZ = 8000
CLIPS = [
    (text, tone(hz, duration_s, RATE_HZ).astype(np.float32))
    for text, hz, duration_s in (("one", 300, 0.3), ("two", 700, 0.2), ("three", 1300, 0.4))
]
CLEAN = {"snr_db": (100.0, 100.0), "level_dbfs": (-20.0, -20.0)}


def made(seed: int = 0, **changes: tuple[float, float]):
    config = SequenceConfig(**{**CLEAN, **changes})
    lengths = [(text, len(clip)) for text, clip in CLIPS]
    plan = plan_sequence(lengths, RATE_HZ, config, np.random.default_rng(seed))
    waveform = make_sequence(plan, [CLIPS[i][1] for i in plan.clips], RATE_HZ)
    return SimpleNamespace(waveform=waveform, words=plan.words)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_words_stand_where_they_are_said_to(seed: int):
    utterance = made(seed, num_words=(1, 6), gap_s=(-0.1, 0.3))
    assert 1 <= len(utterance.words) <= 6
    assert np.abs(utterance.waveform).max() <= 0.99
    heard = np.zeros(len(utterance.waveform), bool)
    pitch_hz = {"one": 300, "two": 700, "three": 1300}
    for word in utterance.words:
        heard[word.start : word.end] = True
        middle = (word.start + word.end) // 2
        piece = utterance.waveform[middle - 200 : middle + 200] * np.hanning(400)
        peak_hz = np.argmax(np.abs(np.fft.rfft(piece, 8000)))
        assert peak_hz == pytest.approx(pitch_hz[word.text], abs=40)
    assert np.abs(utterance.waveform[~heard]).max(initial=0) < 1e-4
    starts = [word.start for word in utterance.words]
    assert starts == sorted(starts)
    assert 0.1 * RATE_HZ <= starts[0] <= 0.4 * RATE_HZ
    trail = len(utterance.waveform) - utterance.words[-1].end
    assert 0.1 * RATE_HZ <= trail <= 0.4 * RATE_HZ


def test_gaps_are_within_their_range_and_overlaps_fade():
    apart = made(1, num_words=(5, 5), gap_s=(0.2, 0.3)).words
    for one, other in itertools.pairwise(apart):
        assert 0.2 * RATE_HZ <= other.start - one.end <= 0.3 * RATE_HZ
    utterance = made(1, num_words=(5, 5), gap_s=(-0.08, -0.08), word_gain_db=(0.0, 0.0))
    for one, other in itertools.pairwise(utterance.words):
        assert one.end - other.start == 640
        power = np.mean(utterance.waveform[other.start : one.end] ** 2)
        if one.text != other.text:  # the same tone twice adds up, or cancels itself
            assert power == pytest.approx(0.01, rel=0.2)  # -20 dB: it neither swells nor sinks


@pytest.mark.parametrize(("level_db", "snr_db"), [(-20.0, 10.0), (-35.0, 0.0)])
def test_level_and_noise_are_those_asked_for(level_db: float, snr_db: float):
    utterance = made(
        2, level_dbfs=(level_db, level_db), snr_db=(snr_db, snr_db), lead_s=(2.0, 2.0),
        trail_s=(2.0, 2.0), noise_exponent=(0.0, 0.0),
    )  # fmt: skip
    noise_db = 10 * np.log10(np.mean(utterance.waveform[: 2 * RATE_HZ] ** 2))
    assert noise_db == pytest.approx(level_db - snr_db, abs=0.5)


def test_the_seed_decides_everything():
    assert np.array_equal(made(3).waveform, made(3).waveform)
    assert not np.array_equal(made(3).waveform[:2000], made(4).waveform[:2000])


def test_a_recording_is_cut_to_its_word():
    word = CLIPS[0][1]
    hiss = np.random.default_rng(1).standard_normal(12000).astype(np.float32)
    noisy = 0.03 * hiss  # 17 dB below the word
    noisy[5000 : 5000 + len(word)] += word
    assert len(trimmed(noisy, RATE_HZ)) <= len(word) + 2 * 0.04 * RATE_HZ
    silence = 1e-4 * np.random.default_rng(0).standard_normal(4000).astype(np.float32)
    cut = trimmed(np.concatenate([silence, word, silence]), RATE_HZ)
    assert len(word) <= len(cut) <= len(word) + 2 * 0.04 * RATE_HZ
    assert len(trimmed(np.zeros(4000, np.float32), RATE_HZ)) == 0
    assert np.array_equal(trimmed(word, RATE_HZ), word)


def test_weak_high_consonants_at_the_ends_are_the_word_too():
    rng = np.random.default_rng(0)
    hiss = np.diff(rng.standard_normal(1201)).astype(np.float32)  # as "s": little but high
    vowel = tone(250, 0.2, RATE_HZ).astype(np.float32)
    silence = np.zeros(4000, np.float32)
    word = np.concatenate([0.002 * hiss, vowel, 0.002 * hiss])  # 38 dB below the vowel
    cut = trimmed(np.concatenate([silence, word, silence]), RATE_HZ)
    assert len(word) <= len(cut) <= len(word) + 2 * 0.04 * RATE_HZ


@pytest.mark.parametrize("offset", [0.001, -0.01])
def test_an_offset_is_no_word(offset: float):
    word = CLIPS[0][1]
    silence = np.zeros(4000, np.float32)
    recording = np.concatenate([silence, word, silence]) + np.float32(offset)
    assert len(trimmed(recording, RATE_HZ)) <= len(word) + 2 * 0.04 * RATE_HZ


def test_silence_is_no_word_and_every_speaker_is_named():
    word = CLIPS[0][1]
    rows = [
        (Utterance(Path("a"), "go", "ann"), word),
        (Utterance(Path("b"), SILENCE, "ann"), word),
        (Utterance(Path("c"), "go", "bob"), np.zeros_like(word)),
    ]
    assert [text for text, _ in clips_by_speaker(rows, RATE_HZ)["ann"]] == ["go"]
    assert list(clips_by_speaker(rows, RATE_HZ)) == ["ann"]
    with pytest.raises(DataError, match="nobody is named"):
        clips_by_speaker([(Utterance(Path("a"), "go"), word)], RATE_HZ)
    with pytest.raises(DataError, match="no recording says a word"):
        clips_by_speaker(rows[1:], RATE_HZ)


@pytest.mark.parametrize(
    "wrong",
    [{"num_words": (0, 3)}, {"num_words": (3, 2)}, {"gap_s": (-1.0, 0.0)},
     {"snr_db": (float("nan"), 1.0)}, {"level_dbfs": (-3.0, 0.0)}],
)  # fmt: skip
def test_wrong_ranges_are_refused(wrong: dict):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        SequenceConfig(**wrong)


# ------------------------------------------------------------------ the command


def test_the_command_writes_a_manifest_that_can_be_read(
    run_cli: Run, tiny_data: Path, tmp_path: Path
):
    out = tmp_path / "seq"
    result = run_cli("data", "sequences", tiny_data, "--out", out, "--count", 9)
    assert result.status == 0, result.err
    assert "9 utterances of 4 speakers" in result.out
    rows = read_data(out / "sequences.jsonl")
    assert [row.speaker for row in rows[:5]] == ["ann", "bob", "eve", "mia", "ann"]
    lines = (out / "sequences.jsonl").read_text(encoding="utf-8").splitlines()
    for row, line in zip(rows, map(json.loads, lines), strict=True):
        info = soundfile.info(row.path)
        assert (info.samplerate, info.subtype) == (16000, "PCM_16")
        assert info.duration == pytest.approx(line["duration"], abs=1e-3)
        assert row.text == " ".join(word["text"] for word in line["words"])
        assert line["words"][-1]["end"] < line["duration"]
    again = tmp_path / "again"
    assert run_cli("data", "sequences", tiny_data, "--out", again, "--count", 4).status == 0
    for file in (again / "audio").iterdir():  # fewer utterances: the same ones
        assert file.read_bytes() == (out / "audio" / file.name).read_bytes()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--count", 0), "expected at least 1 utterance"),
        (("--num-words", 0, 2), "sequences.num_words"),
        (("--gap", 1, 0), "sequences.gap_s"),
        (("--sample-rate", 100), "4000 to 192000 Hz"),
    ],
)
def test_a_wrong_call_is_one_line(
    run_cli: Run, tiny_data: Path, tmp_path: Path, options: tuple, named: str
):
    result = run_cli("data", "sequences", tiny_data, "--out", tmp_path / "x", *options)
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert named in result.err
    assert not (tmp_path / "x").exists()


def test_a_folder_that_holds_something_is_left_alone(run_cli: Run, tiny_data: Path, tmp_path: Path):
    (tmp_path / "mine.txt").write_text("x")
    result = run_cli("data", "sequences", tiny_data, "--out", tmp_path)
    assert result.status == 2
    assert "is not empty" in result.err
    assert [file.name for file in tmp_path.iterdir()] == ["mine.txt"]


def test_given_phrases_are_said_commands_of_several_words_too(
    tiny_data: Path, run_cli: Run, tmp_path: Path
):
    phrases = tmp_path / "phrases.txt"
    phrases.write_text("go turn on\n\nturn on نعم go\n", encoding="utf-8")
    out = ("--out", tmp_path / "u", "--count", 12, "--sample-rate", 8000)
    result = run_cli("data", "sequences", tiny_data, *out, "--phrases", phrases)
    assert result.status == 0, result.err
    lines = (tmp_path / "u" / "sequences.jsonl").read_text(encoding="utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    assert {row["text"] for row in rows} == {"go turn on", "turn on نعم go"}
    assert {tuple(word["text"] for word in row["words"]) for row in rows} == {
        ("go", "turn on"),
        ("turn on", "نعم", "go"),
    }


def test_a_phrase_that_nobody_says_is_named(tiny_data: Path, run_cli: Run, tmp_path: Path):
    phrases = tmp_path / "phrases.txt"
    out = ("--out", tmp_path / "u", "--phrases", phrases)
    phrases.write_text("\n \n", encoding="utf-8")
    result = run_cli("data", "sequences", tiny_data, *out)
    assert (result.status, "holds no phrase" in result.err) == (2, True)
    phrases.write_text("go stop\n", encoding="utf-8")
    result = run_cli("data", "sequences", tiny_data, *out)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "'stop'" in result.err


def test_a_speaker_who_does_not_say_a_word_of_a_phrase_is_named(tmp_path: Path):
    clips = {"ann": CLIPS, "bob": CLIPS[:1]}
    with pytest.raises(DataError, match="speaker bob: no recording says 'two'"):
        write_sequences(
            clips, RATE_HZ, SequenceConfig(), 3, tmp_path / "u", phrases=[("one", "two")]
        )
