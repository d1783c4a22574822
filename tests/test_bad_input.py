"""Every bad input, at the command line: one clear line, the right exit status, nothing lost."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from conftest import TINY_LABELS, Result, Run, Write, call, spawn, tone, write_tiny_data

from speechrnn import evaluate
from speechrnn.bundle import HEADER, read_bundle
from speechrnn.datasets.reading import read_own_rate
from speechrnn.errors import AudioError
from speechrnn.recognize import load_model

GOOD = "go/ann_nohash_0.wav"
# Long enough for a loaded machine to import TensorFlow and train an epoch.
PATIENCE_S = 120


def assert_wrong_call(result: Result, said: str = "") -> None:
    """Status 2, nothing on standard output, and one line that is no internal error."""
    assert result.status == 2, result
    assert result.out == ""
    lines = result.err.splitlines()
    assert len(lines) == 1, result.err
    assert lines[0].startswith("speechrnn ")
    assert ": error: " in lines[0]
    assert "internal error" not in lines[0]
    assert said in lines[0]


# --- recordings


def _wav(file: Path, samples: np.ndarray, rate_hz: int = 8000, subtype: str = "PCM_16") -> None:
    soundfile.write(file, samples, rate_hz, subtype=subtype)


def _cut(file: Path, samples: np.ndarray, keep: float) -> None:
    soundfile.write(file, samples, 8000)
    content = file.read_bytes()
    file.write_bytes(content[: int(keep * len(content))])


LONG = tone(440, 2.0, 8000)
BROKEN: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing.wav": (lambda file: None, "no such file"),
    "empty.wav": (Path.touch, "is empty (0 bytes)"),
    "text.wav": (lambda file: file.write_text("dear diary", "utf-8"), "cannot be read as audio"),
    "header.wav": (lambda file: _cut(file, LONG, 0.001), "cannot be read as audio"),
    "none.wav": (lambda file: _wav(file, LONG[:0]), "holds no samples"),
    "short.wav": (lambda file: _wav(file, LONG[:199]), "is too short: 24.9 ms, expected at least"),
    "nan.wav": (lambda file: _wav(file, LONG * np.nan, subtype="FLOAT"), "holds NaN"),
    "unscaled.wav": (lambda file: _wav(file, LONG * 32768, subtype="FLOAT"), "within -1..1"),
    "half.wav": (lambda file: _cut(file, LONG, 0.5), "is cut short"),
    "half.flac": (lambda file: _cut(file, LONG, 0.5), "cut short"),
    "half.ogg": (lambda file: _cut(file, LONG, 0.5), ""),
    "folder.wav": (Path.mkdir, "is a folder, expected a sound file"),
    "link.wav": (lambda file: file.symlink_to("nowhere.wav"), "a link to a missing file"),
    "pipe.wav": (os.mkfifo, "is a device or a pipe"),
}
# What a search for recordings finds; a missing file is not there, and a folder is searched.
FOUND = sorted(BROKEN.keys() - {"missing.wav", "folder.wav"})


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder with every kind of broken recording."""
    folder = tmp_path / "broken"
    folder.mkdir()
    for name, (make, _) in BROKEN.items():
        make(folder / name)
    return folder


@pytest.mark.parametrize("name", sorted(BROKEN.keys() - {"folder.wav"}))
def test_a_broken_recording_is_one_line_one_record_and_status_1(
    name: str, broken: Path, tiny_tflite: Path, run_cli: Run
) -> None:
    result = run_cli("transcribe", tiny_tflite, broken / name)
    record = json.loads(result.out)
    assert result.status == 1
    assert record["status"] == "error"
    assert BROKEN[name][1] in record["error"]
    assert result.err.splitlines() == [
        f"{broken / name}: {record['error']}",
    ]


def test_a_folder_of_broken_recordings_is_accounted_for(
    broken: Path, tiny_tflite: Path, tiny_data: Path, run_cli: Run
) -> None:
    result = run_cli("transcribe", tiny_tflite, broken, tiny_data / GOOD)
    records = [json.loads(line) for line in result.out.splitlines()]
    assert result.status == 1
    assert [Path(record["audio_filepath"]).name for record in records[:-1]] == FOUND
    assert [record["status"] for record in records] == ["error"] * len(FOUND) + ["ok"]
    assert len(result.err.splitlines()[: len(FOUND)]) == len(FOUND)
    summary = f"speechrnn transcribe: {len(FOUND) + 1} recordings, {len(FOUND)} failed; "
    assert result.err.splitlines()[len(FOUND)].startswith(summary)


@pytest.mark.parametrize("name", FOUND)
def test_a_broken_recording_in_the_data_is_refused_by_name(
    name: str, broken: Path, tiny_data: Path, tiny_tflite: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(tiny_data, tmp_path / "data")
    bad = data / "go" / f"ann_nohash_9{Path(name).suffix}"
    (broken / name).rename(bad)
    said = f"1 of 25 recordings are broken ({bad}: "
    assert_wrong_call(call("evaluate", tiny_tflite, "--data", data), said)
    train = call("train", "--data", data, "--out", tmp_path / "b", "--config", tiny_recipe)
    assert_wrong_call(train, f"recordings are broken ({bad}: ")
    assert not (tmp_path / "b").exists()


def test_training_without_the_broken_recordings_says_what_it_left_out(
    tiny_data: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(tiny_data, tmp_path / "data")
    (data / "go" / "ann_nohash_9.wav").touch()
    settings = ("--config", tiny_recipe, "--set", "train.epochs=1", "--skip-broken")
    result = call("train", "--data", data, "--out", tmp_path / "b", *settings)
    assert result.status == 0, result.err
    assert read_bundle(tmp_path / "b").training["finished"]
    assert "ann_nohash_9.wav" in result.err


FORMS = [
    ("wav", "PCM_16", 8000, 1),
    ("wav", "PCM_U8", 8000, 1),
    ("wav", "PCM_24", 16000, 1),
    ("wav", "FLOAT", 44100, 1),
    ("wav", "PCM_16", 96000, 2),
    ("flac", "PCM_16", 44100, 2),
    ("ogg", "VORBIS", 48000, 1),
    ("mp3", "MPEG_LAYER_III", 44100, 2),
]


def test_a_recording_means_the_same_in_every_format_rate_and_channel_count(
    tiny_tflite: Path, tiny_data: Path, write_audio: Write, run_cli: Run
) -> None:
    clip, clip_rate_hz = soundfile.read(tiny_data / GOOD)
    files = [tiny_data / GOOD]
    for i, (suffix, subtype, rate_hz, channels) in enumerate(FORMS):
        samples = np.stack([soxr.resample(clip, clip_rate_hz, rate_hz)] * channels, axis=1)
        files.append(write_audio(f"{i}.{suffix}", samples, rate_hz, subtype))
    result = run_cli("transcribe", tiny_tflite, *files)
    first, *others = (json.loads(line) for line in result.out.splitlines())
    assert result.status == 0, result.err
    assert len(others) == len(FORMS)
    for record in others:
        assert record["text"] == first["text"]
        assert record["confidence"] == pytest.approx(first["confidence"], abs=0.2)  # codecs
        assert record["duration"] == pytest.approx(0.4, abs=0.01)


def test_an_hour_long_recording_does_not_hold_up_the_others(
    tiny_tflite: Path, tiny_data: Path, tmp_path: Path
) -> None:
    hour = tmp_path / "hour.wav"
    with soundfile.SoundFile(hour, "w", 8000, 1) as sound:
        for _ in range(60):
            sound.write(0.1 * np.random.default_rng(0).standard_normal(60 * 8000))
    to = tmp_path / "out.jsonl"
    process = spawn("transcribe", tiny_tflite, tiny_data / GOOD, hour, tiny_data / GOOD, "--to", to)
    _, err = process.communicate(timeout=60)
    records = [json.loads(line) for line in to.read_text(encoding="utf-8").splitlines()]
    assert process.returncode == 0, err
    assert [record["status"] for record in records] == ["ok"] * 3
    assert (records[1]["text"], records[1]["duration"]) == ("", 3600.0)  # noise, no command
    assert records[0] == records[2]


# --- names


def test_a_name_with_a_line_break_is_still_one_line(
    tiny_tflite: Path, tmp_path: Path, run_cli: Run
) -> None:
    file = tmp_path / "two\nlines.wav"
    file.touch()
    result = run_cli("transcribe", tiny_tflite, file)
    assert result.status == 1
    assert json.loads(result.out)["audio_filepath"] == str(file)
    assert len(result.err.splitlines()) == 1
    (tmp_path / "data" / "go").mkdir(parents=True)
    file.rename(tmp_path / "data" / "go" / file.name)
    assert_wrong_call(run_cli("evaluate", tiny_tflite, "--data", tmp_path / "data"), "lines.wav")


def test_a_name_that_starts_with_a_dash_is_reached_as_everywhere(
    tiny_tflite: Path,
    tiny_data: Path,
    tmp_path: Path,
    run_cli: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shutil.copy(tiny_data / GOOD, tmp_path / "-x.wav")
    monkeypatch.chdir(tmp_path)
    for arguments in (["--", "-x.wav"], ["./-x.wav"], ["."]):
        result = run_cli("transcribe", tiny_tflite, *arguments)
        assert result.status == 0, result.err
        assert Path(json.loads(result.out)["audio_filepath"]).name == "-x.wav"


def test_a_broken_recording_whose_name_is_not_utf8_is_reported(
    tiny_tflite: Path, tmp_path: Path, run_cli: Run
) -> None:
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.wav"))
    file.touch()
    result = run_cli("transcribe", tiny_tflite, file)
    assert result.status == 1
    assert "is empty (0 bytes)" in result.err
    assert len(result.err.splitlines()) == 1


def test_a_label_whose_name_is_not_utf8_is_refused_before_training(
    tiny_data: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    data = shutil.copytree(tiny_data, tmp_path / "data")
    (data / "go").rename(Path(os.fsdecode(os.fsencode(data) + b"/caf\xe9")))
    result = call("train", "--data", data, "--out", tmp_path / "b", "--config", tiny_recipe)
    assert_wrong_call(result, "is no UTF-8 text; rename its folder")
    assert not (tmp_path / "b").exists()


def test_labels_with_spaces_and_arabic_letters_go_all_the_way(
    tiny_bundle: Path, tiny_tflite: Path, run_cli: Run
) -> None:
    for model in (tiny_bundle, tiny_tflite):
        assert json.loads(run_cli("info", model, "--json", "-").out)["labels"] == list(TINY_LABELS)
        assert ", ".join(TINY_LABELS) in run_cli("info", model).out


# --- data sets


def test_a_folder_without_audio_is_refused_everywhere(
    tiny_tflite: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    empty = tmp_path / "empty"
    (empty / "label").mkdir(parents=True)
    (empty / "label" / "notes.txt").touch()
    out = tmp_path / "b"
    assert_wrong_call(call("transcribe", tiny_tflite, empty), "folder without recordings")
    assert_wrong_call(call("evaluate", tiny_tflite, "--data", empty), "no recordings in label")
    assert_wrong_call(call("train", "--data", empty, "--out", out), "no recordings in label")
    assert not out.exists()


def test_a_single_class_is_refused(tiny_recipe: Path, tmp_path: Path) -> None:
    data = write_tiny_data(tmp_path / "data", labels=["go"])
    result = call("train", "--data", data, "--out", tmp_path / "b", "--config", tiny_recipe)
    assert_wrong_call(result, "holds only the label 'go', expected two")
    assert not (tmp_path / "b").exists()


def test_validation_with_a_label_of_its_own_is_refused_by_recording(
    tiny_data: Path, tiny_recipe: Path, write_audio: Write, tmp_path: Path
) -> None:
    file = write_audio("val/jump/zoe_nohash_0.wav", tone(440, 0.4, 8000), 8000)
    result = call(
        *("train", "--data", tiny_data, "--val", tmp_path / "val"),
        *("--out", tmp_path / "b", "--config", tiny_recipe),
    )
    assert_wrong_call(result, "unknown label 'jump'; the model knows go, turn on, نعم")
    assert str(file) in result.err
    assert not (tmp_path / "b").exists()


def test_validation_on_the_training_data_is_refused(
    tiny_data: Path, tiny_recipe: Path, tmp_path: Path
) -> None:
    result = call(
        *("train", "--data", tiny_data, "--val", tiny_data),
        *("--out", tmp_path / "b", "--config", tiny_recipe),
    )
    assert_wrong_call(result, "4 speakers stand in the training and the validation data")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b'{"audio_filepath": "a.wav"}\n', "m.jsonl:1: 'text' is missing"),
        (b'\xef\xbb\xbf\r\n{"text": "go"}\r\n', "m.jsonl:2: 'audio_filepath' is missing"),
        (b"{\n", "m.jsonl:1: is not a JSON object"),
        (b"\xff\xfe{\x00", "is not UTF-8 text"),
        (b"\n\n", "holds no recordings"),
    ],
)
def test_a_faulty_manifest_is_refused_by_every_command(
    content: bytes, said: str, tiny_tflite: Path, tmp_path: Path
) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_bytes(content)
    if "text" not in said.split("'")[1::2]:  # which transcribing does not ask for
        assert_wrong_call(call("transcribe", tiny_tflite, manifest), said)
    assert_wrong_call(call("evaluate", tiny_tflite, "--data", manifest), said)
    assert_wrong_call(call("train", "--data", manifest, "--out", tmp_path / "b"), said)


# --- settings


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "train.epoch=5"), "train.epoch: unknown setting; train knows epochs, steps, b"),
        (("--set", "train.epochs=true"), "train.epochs: got True, expected a value of type int"),
        (("--set", "train.epochs=-1"), "train.epochs: got -1, expected 0 or more"),
        (("--set", "epochs=5"), "--set epochs=5: expected section.key=value"),
        (("--set", "trian.epochs=5"), "[trian]: unknown section; expected"),
        (("--set", "encoder.type=transfromer"), "encoder.type: got 'transfromer', expected one of"),
        (("--set", "augment.speeed.low=0.8"), "augment.type: got 'speeed', expected one of"),
        (("--set", "augment.gain=5"), "augment"),
        (("--set", "augment.new=5"), "augment"),
        (("--preset", "none"), "--preset none: unknown preset, expected one of characters"),
        (("--config", "none.toml"), "none.toml: cannot be read (No such file or directory)"),
    ],
)
def test_a_wrong_setting_is_refused_before_training(
    arguments: tuple[str, str], said: str, tiny_data: Path, tmp_path: Path
) -> None:
    result = call("train", "--data", tiny_data, "--out", tmp_path / "b", *arguments)
    assert_wrong_call(result, said)
    assert not (tmp_path / "b").exists()


# --- models


def test_what_is_no_model_is_refused(
    tiny_data: Path, tiny_tflite: Path, tiny_bundle: Path, tmp_path: Path
) -> None:
    content = tiny_tflite.read_bytes()
    (tmp_path / "empty.tflite").touch()
    (tmp_path / "text.tflite").write_text("x" * 100, encoding="utf-8")
    (tmp_path / "cut.tflite").write_bytes(content[: len(content) // 2])
    (tmp_path / "folder").mkdir()
    damaged = shutil.copytree(tiny_bundle, tmp_path / "damaged")
    (damaged / "weights.npz").write_bytes((damaged / "weights.npz").read_bytes()[:-1])
    for name in ("none", "empty.tflite", "text.tflite", "cut.tflite", "folder", "damaged"):
        for command in (("transcribe",), ("evaluate", "--data"), ("info",)):
            data = () if command == ("info",) else (tiny_data,)
            result = call(command[0], tmp_path / name, *command[1:], *data)
            assert_wrong_call(result, str(tmp_path / name))


# --- places that cannot be written


def writes(name: str, place: Path, bundle: Path, tflite: Path, data: Path, recipe: Path) -> Result:
    return {
        "train": lambda: call("train", "--data", data, "--out", place, "--config", recipe),
        "export": lambda: call("export", bundle, "--to", place),
        "transcribe": lambda: call("transcribe", tflite, data, "--to", place),
        "evaluate": lambda: call("evaluate", tflite, "--data", data, "--json", place),
        "info": lambda: call("info", tflite, "--json", place),
    }[name]()


WRITERS = ["train", "export", "transcribe", "evaluate", "info"]


# Neither place can be written, not even by root. That /proc cannot is only found by trying, and
# the first two would do so after minutes of work.
UNWRITABLE = [
    *((command, "file") for command in WRITERS),
    *((command, "/proc") for command in WRITERS[2:]),
]


@pytest.mark.parametrize(("command", "below"), UNWRITABLE)
def test_a_place_that_cannot_be_written_is_refused(
    command: str,
    below: str,
    tiny_bundle: Path,
    tiny_tflite: Path,
    tiny_data: Path,
    tiny_recipe: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "file").write_text("precious", encoding="utf-8")
    place = tmp_path / below / "out.tflite"
    result = writes(command, place, tiny_bundle, tiny_tflite, tiny_data, tiny_recipe)
    assert result.status == 2
    assert len(result.err.splitlines()) == 1
    assert f": error: {place}: cannot be written" in result.err
    assert (tmp_path / "file").read_text(encoding="utf-8") == "precious"


def test_figures_that_cannot_be_written_are_not_computed_or_are_shown(
    tiny_tflite: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = []
    compute = evaluate.evaluate_model

    def spy(*arguments: Any, **options: Any) -> dict[str, Any]:
        computed.append(True)
        return compute(*arguments, **options)

    monkeypatch.setattr(evaluate, "evaluate_model", spy)
    (tmp_path / "file").touch()
    place = tmp_path / "file" / "f.json"
    result = call("evaluate", tiny_tflite, "--data", tiny_data, "--json", place)
    assert result.status == 2
    assert not computed or "accuracy" in result.out


@pytest.mark.parametrize("command", ["train", "export", "transcribe"])
def test_what_exists_is_not_overwritten_unasked(
    command: str,
    tiny_bundle: Path,
    tiny_tflite: Path,
    tiny_data: Path,
    tiny_recipe: Path,
    tmp_path: Path,
) -> None:
    place = tmp_path / "precious"
    place.write_text("precious", encoding="utf-8")
    result = writes(command, place, tiny_bundle, tiny_tflite, tiny_data, tiny_recipe)
    assert_wrong_call(result, f"{place}: exists")
    assert place.read_text(encoding="utf-8") == "precious"


def test_training_does_not_replace_a_bundle_or_a_folder_unasked(
    tiny_bundle: Path, tiny_data: Path, tiny_recipe: Path
) -> None:
    train = ("train", "--data", tiny_data, "--config", tiny_recipe)
    before = (tiny_bundle / HEADER).read_bytes()
    assert_wrong_call(call(*train, "--out", tiny_bundle), "holds a bundle; choose another --out")
    assert_wrong_call(call(*train, "--out", tiny_data, "--force"), "exists and is no bundle")
    assert (tiny_bundle / HEADER).read_bytes() == before
    assert (tiny_data / GOOD).exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_no_internal_error(tiny_tflite: Path, tiny_data: Path) -> None:
    arguments = ("transcribe", tiny_tflite, tiny_data / GOOD, "--to", "/dev/full", "--force")
    assert_wrong_call(call(*arguments), "/dev/full: cannot be written (No space left on device)")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_standard_output_is_no_internal_error(tiny_tflite: Path, tiny_data: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            spawn_arguments("transcribe", tiny_tflite, tiny_data / GOOD),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
        )
    assert_wrong_call(Result(done.returncode, "", done.stderr), "No space left on device")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("command", ["info", "check"])
def test_a_disk_that_is_full_while_printing_is_one_line(
    command: str, tiny_tflite: Path, tiny_data: Path
) -> None:
    calls = {"info": ("info", tiny_tflite), "check": ("data", "check", tiny_data)}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            spawn_arguments(*calls[command]),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=PATIENCE_S,
        )
    said = "cannot be written (No space left on device); make room, and run it again"
    assert_wrong_call(Result(done.returncode, "", done.stderr), said)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_the_exit_status_is_right_even_if_nobody_can_be_told_why() -> None:
    with Path("/dev/full").open("w") as full:
        arguments = spawn_arguments("info", "missing.tflite")
        done = subprocess.run(arguments, stderr=full, timeout=PATIENCE_S)
    assert done.returncode == 2


def test_a_reader_that_is_gone_has_seen_enough(tiny_tflite: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    arguments, pipe = spawn_arguments("info", tiny_tflite), subprocess.PIPE
    done = subprocess.run(arguments, stdout=writing, stderr=pipe, timeout=PATIENCE_S)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_what_is_no_terminal_gets_json_in_utf8(tiny_tflite: Path, tiny_data: Path) -> None:
    sound = next((tiny_data / "نعم").glob("*.wav"))
    done = subprocess.run(
        spawn_arguments("transcribe", tiny_tflite, sound),
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        timeout=PATIENCE_S,
    )
    assert json.loads(done.stdout.decode())["audio_filepath"] == str(sound)


def test_figures_are_refused_a_folder_before_they_are_computed(
    tiny_tflite: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(evaluate, "evaluate_model", None)
    result = call("evaluate", tiny_tflite, "--data", tiny_data, "--json", tmp_path)
    assert_wrong_call(result, f"{tmp_path}: is a folder, expected the name of a file")


def test_results_do_not_replace_what_they_are_of(
    tiny_tflite: Path, tiny_data: Path, tmp_path: Path
) -> None:
    sound = Path(shutil.copy(tiny_data / GOOD, tmp_path / "own.wav"))
    before = sound.read_bytes()
    result = call("transcribe", tiny_tflite, sound, "--to", sound, "--force")
    assert_wrong_call(result, "own.wav: is an input; choose another --to")
    assert sound.read_bytes() == before


def test_results_are_written_where_a_link_leads(
    tiny_tflite: Path, tiny_data: Path, tmp_path: Path
) -> None:
    real, link = tmp_path / "real" / "x.jsonl", tmp_path / "link.jsonl"
    real.parent.mkdir()
    real.write_text("old\n")
    link.symlink_to(real)
    assert call("transcribe", tiny_tflite, tiny_data / GOOD, "--to", link, "--force").status == 0
    assert link.is_symlink()
    assert json.loads(real.read_text(encoding="utf-8"))["status"] == "ok"


@pytest.mark.parametrize("seed", ["-1", "1.5", str(2**32)])
def test_a_seed_that_none_takes_is_refused_at_once(
    seed: str, tiny_tflite: Path, tiny_data: Path
) -> None:
    result = call("evaluate", tiny_tflite, "--data", tiny_data, "--seed", seed)
    assert result.status == 2
    assert f"got '{seed}', expected a whole number from 0 to 4294967295" in result.err


def test_a_pipe_in_a_data_set_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.wav")
    with pytest.raises(AudioError, match="is a device or a pipe"):
        read_own_rate(tmp_path / "a.wav")


def test_figures_can_be_written_through_a_link(
    tiny_tflite: Path, tiny_data: Path, tmp_path: Path
) -> None:
    (tmp_path / "link.json").symlink_to("real.json")
    result = call("evaluate", tiny_tflite, "--data", tiny_data, "--json", tmp_path / "link.json")
    assert result.status == 0
    assert json.loads((tmp_path / "real.json").read_text(encoding="utf-8"))["utterances"] == 24


# --- wrong calls


@pytest.mark.parametrize(
    "arguments", [(), ("trian",), ("transcribe",), ("train", "--data", "x"), ("info", "x", "--x")]
)
def test_a_call_that_is_not_understood_ends_with_status_2(
    arguments: tuple[str, ...], run_cli: Run
) -> None:
    result = run_cli(*arguments)
    assert result.status == 2
    assert result.out == ""
    assert "error: " in result.err.splitlines()[-1]


def test_a_traceback_is_shown_on_request_alone(tmp_path: Path, run_cli: Run) -> None:
    from speechrnn.errors import ModelError

    assert "Traceback" not in run_cli("info", tmp_path / "none").err
    with pytest.raises(ModelError):
        run_cli("info", "--debug", tmp_path / "none")


# --- interruptions


@pytest.fixture(scope="module", autouse=True)
def ctrl_c_reaches_children() -> Iterator[None]:
    """A background job ignores Ctrl-C, and so would the processes it starts."""
    before = signal.getsignal(signal.SIGINT)
    if before == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def spawn_arguments(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "speechrnn", *map(str, arguments)]


def wait_for(happened: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not happened():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited too long"
        time.sleep(0.05)


SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


@pytest.fixture(scope="module")
def interrupted(
    tiny_data: Path, tiny_recipe: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[signal.Signals, tuple[Path, Result]]:
    """Three trainings at once, each stopped by a signal after its first epochs."""
    folder = tmp_path_factory.mktemp("interrupted")
    settings = ("--config", tiny_recipe, "--set", "train.epochs=100000")
    settings += ("--set", "train.checkpoint_s=1e9")
    running = {
        number: (out, spawn("train", "--data", tiny_data, "--out", out, *settings))
        for number in SIGNALS
        for out in [folder / number.name]
    }
    found = {}
    try:
        for number, (out, process) in running.items():
            wait_for((out / HEADER).exists, process)
            time.sleep(0.5)  # some more epochs
            process.send_signal(number)
            texts = process.communicate(timeout=PATIENCE_S)
            found[number] = (out, Result(process.returncode, *texts))
    finally:
        for _, process in running.values():
            process.kill()
            process.communicate()
    return found


Interrupted = dict[signal.Signals, tuple[Path, Result]]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_ends_with_130_and_one_line(
    number: signal.Signals, interrupted: Interrupted
) -> None:
    _, result = interrupted[number]
    assert result.status == 130, result
    lines = [line for line in result.err.splitlines() if "speechrnn" in line]
    assert lines == ["speechrnn train: interrupted; the best model so far is kept"]
    assert "Traceback" not in result.err


@pytest.mark.parametrize("number", SIGNALS)
def test_what_was_trained_before_an_interruption_is_kept(
    number: signal.Signals, interrupted: Interrupted, tiny_data: Path
) -> None:
    bundle, _ = interrupted[number]
    info = read_bundle(bundle)  # every hash fits
    assert info.training["finished"] is False
    assert info.training["epochs_done"] >= 1
    if number != signal.SIGTERM:  # the same way as SIGINT; it takes seconds
        assert load_model(bundle).transcribe(tiny_data / GOOD).text in TINY_LABELS


def test_an_interrupted_training_leaves_nothing_beside_its_bundle(interrupted: Interrupted) -> None:
    folder = interrupted[signal.SIGINT][0].parent
    left = [path.name for path in folder.iterdir() if "SIGKILL" not in path.name]
    assert sorted(left) == ["SIGINT", "SIGTERM"]


def test_an_interrupted_transcription_keeps_its_records(
    tiny_tflite: Path, tiny_data: Path, tmp_path: Path
) -> None:
    row = json.dumps({"audio_filepath": str(tiny_data / GOOD), "text": ""})
    manifest = tmp_path / "many.jsonl"
    manifest.write_text(f"{row}\n" * 100_000, encoding="utf-8")
    to = tmp_path / "out.jsonl"
    process = spawn("transcribe", tiny_tflite, manifest, "--to", to)
    try:
        partial = tmp_path / "out.jsonl.partial"
        wait_for(lambda: partial.exists() and partial.stat().st_size > 10_000, process)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
        process.communicate()
    assert process.returncode == 130
    assert err == "speechrnn transcribe: interrupted; what is done is kept, --resume goes on\n"
    records = [json.loads(line) for line in partial.read_text(encoding="utf-8").splitlines()]
    assert 10 < len(records) < 100_000
    assert {record["status"] for record in records} == {"ok"}


def test_a_reader_that_has_seen_enough_is_no_error(
    tiny_tflite: Path, tiny_data: Path, tmp_path: Path
) -> None:
    row = json.dumps({"audio_filepath": str(tiny_data / GOOD), "text": ""})
    manifest = tmp_path / "many.jsonl"
    manifest.write_text(f"{row}\n" * 3000, encoding="utf-8")
    process = spawn("transcribe", tiny_tflite, manifest)
    assert process.stdout
    assert process.stderr
    assert json.loads(process.stdout.readline())["status"] == "ok"
    process.stdout.close()  # as head -1 does
    assert process.wait(timeout=PATIENCE_S) == 0
    assert process.stderr.read() == ""
    process.stderr.close()
