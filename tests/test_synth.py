"""The synthetic data set: repeatable, fairly split, well formed, and refused with one line."""

from __future__ import annotations

import builtins
import dataclasses
import hashlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from speechrnn import cli
from speechrnn.datasets import espeak, synth
from speechrnn.datasets.manifest import (
    SILENCE,
    UNKNOWN,
    Utterance,
    check_disjoint,
    read_data,
)
from speechrnn.datasets.synth import SynthConfig, make_clip, place_word, safe_name, synthesise
from speechrnn.errors import ConfigError, DataError, MissingExtraError, OutputError

SMALL = SynthConfig(words=("yes", "turn on"), num_voices=8, clips_per_voice=2)
# Breath noise (f2), echo (Marco), three synthesisers (klatt4, edward2, m3): all kinds of state.
STATEFUL_VOICES = ("f2", "Marco", "klatt4", "edward2", "m3")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out_dir = tmp_path_factory.mktemp("synth") / "words"
    synthesise(SMALL, out_dir)
    return out_dir


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line)
        for split in synth.SPLIT_SHARES
        for line in (folder / f"{split}.jsonl").read_text(encoding="utf-8").splitlines()
    ]


def digests(folder: Path) -> dict[str, str]:
    return {
        file.relative_to(folder).as_posix(): hashlib.sha1(file.read_bytes()).hexdigest()
        for file in sorted(folder.rglob("*.*"))
    }


# --- voices and splits


def test_no_voice_stands_in_two_splits(folder: Path) -> None:
    train, val, test = (read_data(folder / f"{split}.jsonl") for split in synth.SPLIT_SHARES)
    check_disjoint(train, val)
    check_disjoint(train, test)
    check_disjoint(val, test)
    assert len(train) > len(val) > 0 < len(test)


def test_look_alikes_stand_in_one_split() -> None:
    for row in espeak.SAME_SPEAKER:
        assert len({synth.split_of(voice) for voice in row.split()}) == 1


def test_voices_with_equal_formants_are_listed_as_look_alikes() -> None:
    by_formants: dict[tuple[str, ...], set[str]] = {}
    for voice in espeak.available_voices():
        file = espeak._espeak().data / "voices" / "!v" / voice
        formants = {"1": "100", "2": "100", "3": "100"}
        for line in file.read_text(errors="replace").splitlines():
            parts = line.split()
            if parts[:1] == ["formant"] and parts[1] in formants:
                formants[parts[1]] = parts[2]
        leader = espeak.speaker_of(voice)
        by_formants.setdefault(tuple(formants.values()), set()).add(leader)
    assert [names for names in by_formants.values() if len(names) > 1] == []


def test_the_lists_name_only_voices_that_exist_and_no_voice_twice() -> None:
    everyone = {file.name for file in (espeak._espeak().data / "voices" / "!v").iterdir()}
    listed = [voice for row in espeak.SAME_SPEAKER for voice in row.split()]
    assert set(listed) | set(espeak.EXCLUDED_VOICES) <= everyone
    assert len(listed) == len(set(listed))
    assert not set(listed) & set(espeak.EXCLUDED_VOICES)


def test_shares_are_near_70_15_15_and_more_voices_keep_the_earlier_ones() -> None:
    chosen: list[str] = []
    for num_voices in (4, 5, 20, 60):
        more = synth.choose_voices(num_voices)
        assert set(chosen) <= set(more)
        assert len(more) == num_voices
        chosen = more
        splits = [synth.split_of(voice) for voice in chosen]
        assert set(splits) == set(synth.SPLIT_SHARES)
        # 2 voices: rounding to whole voices, in each of the other two splits
        assert abs(splits.count("train") - 0.7 * num_voices) <= 2


def test_every_voice_gives_a_loud_enough_word_of_sane_length() -> None:
    for voice in espeak.available_voices():
        word = espeak.speak("yes", voice, "en-us", speed_wpm=170, pitch=50, pitch_range=50, seed=1)
        assert 0.25 < len(word) / espeak.RATE_HZ < 0.6, voice
        # espeak-ng's limiter acts at full scale; at the low volume no voice comes near it
        assert 0.03 < np.max(np.abs(word)) < 0.9, voice
        assert np.sqrt(np.mean(word**2)) > 0.005, voice


def test_accents_leave_out_other_scripts() -> None:
    accents = espeak.available_accents("en")
    assert {"en", "en-us", "en-gb-scotland"} <= set(accents)
    assert "en-shaw" not in accents
    assert espeak.available_accents("fa") == ("fa",)


# --- determinism


@pytest.mark.parametrize("voice", STATEFUL_VOICES)
def test_a_clip_is_the_same_after_any_other_clips(voice: str) -> None:
    first = make_clip(SMALL, voice, "yes", 0)
    for other in STATEFUL_VOICES:
        make_clip(SMALL, other, "turn on", 1)
    np.testing.assert_array_equal(make_clip(SMALL, voice, "yes", 0), first)


def test_a_clip_is_the_same_in_another_process() -> None:
    code = (
        "import sys, hashlib; from speechrnn.datasets.synth import *;"
        "c = SynthConfig(words=('yes', 'turn on'), num_voices=8, clips_per_voice=2);"
        "print(hashlib.sha1(make_clip(c, 'f2', 'yes', 1).tobytes()).hexdigest())"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(synth.__file__).parents[2],
    )
    here = hashlib.sha1(make_clip(SMALL, "f2", "yes", 1).tobytes()).hexdigest()
    assert done.stdout.strip() == here
    assert done.stderr == ""


def test_clips_differ_by_seed_voice_word_and_index() -> None:
    clips = [
        make_clip(SMALL, "f2", "yes", 0),
        make_clip(dataclasses.replace(SMALL, seed=1), "f2", "yes", 0),
        make_clip(SMALL, "f1", "yes", 0),
        make_clip(SMALL, "f2", "turn on", 0),
        make_clip(SMALL, "f2", "yes", 1),
    ]
    assert len({clip.tobytes() for clip in clips}) == len(clips)


def test_the_noise_in_a_voice_comes_from_the_seed_alone() -> None:
    settings = {"speed_wpm": 170, "pitch": 50, "pitch_range": 50}
    first, second, again = (
        espeak.speak("yes", "f2", "en-us", seed=seed, **settings).tobytes() for seed in (1, 2, 1)
    )
    assert first == again != second


def test_adding_words_voices_and_clips_changes_no_file(folder: Path, tmp_path: Path) -> None:
    more = SynthConfig(words=("no", "turn on", "yes"), num_voices=9, clips_per_voice=3)
    synthesise(more, tmp_path / "more")
    small, large = digests(folder), digests(tmp_path / "more")
    clips = [name for name in small if name.endswith(".flac")]
    assert len(clips) == 8 * 2 * 2
    assert {name: large[name] for name in clips} == {name: small[name] for name in clips}


# --- clips


def test_clips_are_exactly_one_second_finite_unclipped_and_never_digital_silence(
    folder: Path,
) -> None:
    for row in rows_of(folder):
        clip, rate_hz = soundfile.read(folder / row["audio_filepath"], dtype="int16")
        assert rate_hz == 16000
        assert clip.shape == (16000,)
        assert row["duration"] == 1.0
        # -20 dBFS is 3277; MAX_PEAK is 32440
        assert 3200 < np.max(np.abs(clip.astype(int))) <= 32440
        edge = clip[: int(0.05 * rate_hz)]
        assert np.count_nonzero(edge) > len(edge) / 2


def test_a_word_longer_than_the_clip_is_kept_whole() -> None:
    config = dataclasses.replace(SMALL, clip_s=(0.2,), lead_s=(0.1, 0.1), trail_s=(0.05, 0.05))
    word = np.sin(np.arange(8000, dtype=np.float32))
    clip = place_word(word, config, np.random.default_rng(0))
    assert clip.shape == (1600 + 8000 + 800,)
    assert clip.dtype == np.float32
    assert np.corrcoef(clip[1600:9600], word)[0, 1] > 0.98  # SNR of 15 dB and more


def test_a_word_of_the_clips_length_gets_no_silence() -> None:
    word = np.ones(16000, np.float32)
    assert place_word(word, SMALL, np.random.default_rng(0)).shape == (16000,)


def test_loud_noise_on_a_loud_word_does_not_clip() -> None:
    config = dataclasses.replace(SMALL, snr_db=(0.0, 0.0), peak_dbfs=(0.0, 0.0))
    clip = place_word(np.sin(np.arange(9000.0)), config, np.random.default_rng(0))
    assert np.max(np.abs(clip)) == pytest.approx(synth.MAX_PEAK, abs=1e-6)


@pytest.mark.parametrize("snr_db", [15.0, 40.0])
def test_noise_has_the_ratio_asked_for(snr_db: float) -> None:
    config = dataclasses.replace(
        SMALL, snr_db=(snr_db, snr_db), clip_s=(4.0,), lead_s=(3.0, 3.0), trail_s=(0.0, 0.0)
    )
    word = np.sin(np.arange(16000, dtype=np.float32))
    clip = place_word(word, config, np.random.default_rng(5)).astype(np.float64)
    noise = clip[:48000]
    ratio = 10 * np.log10(np.mean(clip[48000:] ** 2) / np.mean(noise**2))
    # 1.5 dB: the word's part holds noise too, and brown noise is uneven over 3 s
    assert ratio == pytest.approx(snr_db, abs=1.5)


@pytest.mark.parametrize(("language", "word"), [("ar", "نعم"), ("de", "über"), ("cmn", "你好")])
def test_other_languages_speak(language: str, word: str) -> None:
    config = SynthConfig(words=(word,), language=language)
    assert make_clip(config, "f1", word, 0).shape == (16000,)


# --- accents of other languages


def test_phonemes_are_said_as_the_text_is() -> None:
    manner = {"speed_wpm": 170, "pitch": 50, "pitch_range": 50, "seed": 1}
    for word in ("seven", "turn on"):
        as_text = espeak.speak(word, "Alex", "en-us", **manner)
        notation = espeak.phonemes(word, "en-us")
        as_phonemes = espeak.speak(notation, "Alex", "en-us", **manner, as_phonemes=True)
        np.testing.assert_array_equal(as_phonemes, as_text)


def test_a_foreign_accent_says_the_word_with_other_sounds() -> None:
    assert {("de", "t'u:"), ("el", "t'u:")} <= set(espeak.foreign_accents("two", "en-us"))
    manner = {"speed_wpm": 170, "pitch": 50, "pitch_range": 50, "seed": 1}
    notation = espeak.phonemes("two", "en-us")
    said = {
        accent: espeak.speak(notation, "Alex", accent, **manner, as_phonemes=True).tobytes()
        for accent in ("en-us", "de", "el")
    }
    assert len(set(said.values())) == 3


def test_a_language_without_the_sounds_of_a_word_says_it_more_plainly() -> None:
    said = dict(espeak.foreign_accents("six", "en-us"))
    assert said["de"] == "s'Iks"
    assert said["el"] == "s'iks"  # it has no short i


@pytest.mark.parametrize("word", ["right", "nine", "five", "house", "eight"])
def test_a_foreign_accent_says_a_word_to_its_end(word: str) -> None:
    manner = {"speed_wpm": 170, "pitch": 50, "pitch_range": 50, "seed": 1, "as_phonemes": True}
    said = espeak.foreign_accents(word, "en-us")
    assert len(said) > 20
    for accent, notation in said:
        whole, without_end = (
            espeak.speak(text, "Alex", accent, **manner).tobytes()
            for text in (notation, notation[:-1])
        )
        assert whole != without_end, (accent, notation)


def test_nobody_is_foreign_in_the_own_language() -> None:
    assert "de" not in dict(espeak.foreign_accents("drei", "de"))


def test_the_foreign_part_of_the_clips_is_the_one_asked_for(monkeypatch: Any) -> None:
    said: list[bool] = []
    speak = espeak.speak

    def listen(*arguments: Any, as_phonemes: bool = False, **settings: Any) -> np.ndarray:
        said.append(as_phonemes)
        return speak(*arguments, as_phonemes=as_phonemes, **settings)

    config = SynthConfig(words=("two",), foreign=0.5)
    for accent in espeak.available_accents("en"):  # which speak to find out
        espeak.foreign_accents("two", accent)
    monkeypatch.setattr(espeak, "speak", listen)
    for index in range(60):
        make_clip(config, "Alex", "two", index)
    assert 15 <= sum(said) <= 45


# --- like recordings


def test_what_is_made_like_recordings_has_their_words_rate_and_lengths(tmp_path: Path) -> None:
    rows = []
    for text, duration_s in (("go", 0.3), ("stop", 0.9), (SILENCE, 0.5), (UNKNOWN, 0.5)):
        path = tmp_path / f"{text}.wav"
        soundfile.write(path, np.full(round(8000 * duration_s), 0.1), 8000)
        rows.append(Utterance(path, text))
    config = synth.config_like(rows)
    assert config.words == ("go", "stop")
    assert config.sample_rate_hz == 8000
    assert min(config.clip_s) < 0.4
    assert 0.8 < max(config.clip_s) < 0.91
    assert config.foreign > 0
    lengths = {len(make_clip(config, "Alex", "go", index)) for index in range(20)}
    assert len(lengths) > 3


def test_recordings_without_a_word_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no words to say"):
        synth.config_like([Utterance(tmp_path / "a.wav", SILENCE)])


def call(*arguments: object) -> tuple[int, SynthConfig | None]:
    """Run ``speechrnn data synth``; its exit status, and the config that it came to."""
    chosen: list[SynthConfig] = []

    def note(config: SynthConfig, out_dir: Path, **_: Any) -> dict[str, Path]:
        chosen.append(config)
        return {}

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(synth, "synthesise", note)
        try:
            status = cli.main(["data", "synth", "--out", "x", *map(str, arguments)])
        except SystemExit as stop:
            status = int(stop.code or 0)
    return status, chosen[0] if chosen else None


def test_the_command_takes_words_and_its_defaults() -> None:
    status, config = call("--words", "go, turn on")
    assert (status, config) == (0, SynthConfig(words=("go", "turn on")))


def test_the_command_takes_everything_from_recordings_but_what_is_said(tmp_path: Path) -> None:
    path = tmp_path / "go" / "a.wav"
    path.parent.mkdir()
    soundfile.write(path, np.full(4000, 0.1), 8000)
    like = synth.config_like(read_data(tmp_path))
    assert call("--like", tmp_path) == (0, like)
    status, config = call("--like", tmp_path, "--foreign", 0, "--sample-rate", 16000, "--voices", 9)
    expected = dataclasses.replace(like, foreign=0.0, sample_rate_hz=16000, num_voices=9)
    assert (status, config) == (0, expected)


@pytest.mark.parametrize(
    "options", [(), ("--words", "a", "--like", "b"), ("--like", "no such data")]
)
def test_a_wrong_call_makes_nothing(options: tuple[str, ...]) -> None:
    assert call(*options) == (2, None)


# --- names


@pytest.mark.parametrize("word", ["go", "up", "7", "yes"])
def test_plain_words_name_their_folder(word: str) -> None:
    assert safe_name(word) == word


def test_no_two_words_share_a_folder_and_every_name_is_safe() -> None:
    words = ["go", "Go", "GO", "g o", "g_o", "g/o", "g\\o", "..", ".", "con", "nul", "lpt1", "*"]
    words += ["نعم", "نَعم", "über", "uber", "on?", "on:", "a" * 300, "a" * 301, "ض" * 300]
    words += [safe_name(word) for word in words if safe_name(word) != word]
    names = [safe_name(word) for word in words]
    assert len({name.casefold() for name in names}) == len(words)
    for name in names:
        assert len(name.encode()) <= 200
        assert not set(name) & set('/\\:*?"<>| .')
        assert name not in ("con", "nul", "lpt1")


# --- the folder on disk


def test_manifests_keep_their_contract(folder: Path) -> None:
    manifests = synthesise(SMALL, folder)
    assert manifests == {split: folder / f"{split}.jsonl" for split in ("train", "val", "test")}
    for split, manifest in manifests.items():
        rows = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
        names = [row["audio_filepath"] for row in rows]
        assert names == sorted(names)
        assert len(names) == len(set(names))
        for row in rows:
            assert set(row) == {"audio_filepath", "duration", "text", "speaker"}
            assert row["text"] in SMALL.words
            place, word, file = row["audio_filepath"].split("/")
            assert (place, word) == (split, safe_name(row["text"]))
            assert file.startswith(f"{row['speaker']}_nohash_")
            assert (folder / row["audio_filepath"]).is_file()
    assert len(rows_of(folder)) == 8 * 2 * 2


def test_texts_stay_readable_in_the_manifest(tmp_path: Path) -> None:
    config = SynthConfig(words=("نعم",), language="ar", num_voices=4, clips_per_voice=1)
    manifest = synthesise(config, tmp_path)["train"]
    assert '"text": "نعم"' in manifest.read_text(encoding="utf-8")
    assert {row.text for row in read_data(manifest)} == {"نعم"}


def test_a_complete_folder_is_returned_untouched(folder: Path) -> None:
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    synthesise(SMALL, folder)
    assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before


def test_a_half_written_folder_is_done_again(folder: Path, tmp_path: Path) -> None:
    class StopError(Exception):
        pass

    def stop(done: int, total: int) -> None:
        assert total == 32
        if done == 9:
            raise StopError

    with pytest.raises(StopError):
        synthesise(SMALL, tmp_path / "words", progress=stop)
    assert not (tmp_path / "words" / synth.MARKER).exists()
    synthesise(SMALL, tmp_path / "words")
    assert digests(tmp_path / "words") == digests(folder)


# --- errors, one line each


def check_one_line(error: pytest.ExceptionInfo[Exception]) -> None:
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "changes",
    [
        {"words": ()},
        {"words": "yes"},
        {"words": ("yes", "no", "yes")},
        {"words": ("yes", " yes ")},
        {"words": ("e\u0301", "\u00e9")},
        {"words": ("yes", " ")},
        {"words": ("a\x01b",)},
        {"num_voices": 3},
        {"clips_per_voice": 0},
        {"clip_s": (float("nan"),)},
        {"clip_s": ()},
        {"clip_s": 1.0},
        {"foreign": 1.5},
        {"pitch": (50, 100)},
        {"pitch": (60, 50)},
        {"snr_db": (10.0, 20.0, 30.0)},
    ],
)
def test_unusable_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as error:
        dataclasses.replace(SMALL, **changes)
    check_one_line(error)
    assert str(error.value).startswith(next(iter(changes)))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"words": ("yes", "...")}, DataError),
        ({"language": "xx"}, ConfigError),
        ({"num_voices": 999}, ConfigError),
    ],
)
def test_what_espeak_cannot_do_is_refused_before_anything_is_written(
    changes: dict[str, Any], problem: type[Exception], tmp_path: Path
) -> None:
    with pytest.raises(problem) as error:
        synthesise(dataclasses.replace(SMALL, **changes), tmp_path / "words")
    check_one_line(error)
    assert not (tmp_path / "words").exists()


def test_foreign_folders_are_left_alone(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("")
    other = dataclasses.replace(SMALL, seed=1)
    for config, place in [(SMALL, tmp_path), (other, folder), (SMALL, tmp_path / "file")]:
        with pytest.raises(OutputError) as error:
            synthesise(config, place)
        check_one_line(error)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["file", "thesis.txt"]


def test_a_folder_half_written_with_other_settings_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / synth.PARTIAL_MARKER).write_text('{"words": ["ye')
    with pytest.raises(OutputError, match="other settings"):
        synthesise(SMALL, tmp_path)


def test_an_unwritable_folder_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written") as error:
        synthesise(SMALL, tmp_path / "file" / "words")
    check_one_line(error)


def test_an_unwritable_clip_is_an_output_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(file: Path, *_args: object, **_options: object) -> None:
        raise soundfile.LibsndfileError(2, f"{file}: ")

    monkeypatch.setattr(soundfile, "write", refuse)
    with pytest.raises(OutputError, match="cannot be written") as error:
        synthesise(SMALL, tmp_path / "words")
    check_one_line(error)


def test_a_missing_espeak_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def without_espeak(name: str, *args: Any, **options: Any) -> Any:
        if name == "espeakng_loader":
            raise ImportError(name)
        return real_import(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without_espeak)
    monkeypatch.setattr(espeak, "_espeak", espeak._espeak.__wrapped__)
    with pytest.raises(MissingExtraError, match=r"speechrnn\[demo\]"):
        espeak.available_voices()


def test_a_library_that_stays_loaded_is_refused() -> None:
    refusal = pytest.raises(DataError, match="cannot be unloaded")
    with espeak._fresh_library(), refusal, espeak._fresh_library():
        pass


def test_espeak_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    make_clip(SMALL, "f2", "yes", 0)
    make_clip(SynthConfig(words=("go",), language="ar"), "f2", "go", 0)
    assert capfd.readouterr() == ("", "")
