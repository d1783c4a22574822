"""``speechrnn train``: its options, one line for each wrong call, and what it leaves behind."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import stop_training

from speechrnn.bundle import read_bundle, read_log
from speechrnn.checkpoint import checkpoint_path
from speechrnn.config import preset_names, read_preset
from speechrnn.datasets.manifest import Utterance, read_data
from speechrnn.labels import Labels
from speechrnn.model import build_model
from speechrnn.recipe import Recipe

FEW = ("--set", "train.epochs=2")


@pytest.fixture
def train(run_cli: Callable, tiny_data: Path, tiny_recipe: Path, tmp_path: Path) -> Callable:
    """Run the command on the tiny data, towards ``tmp_path / "b"``."""

    def run(*options: object, data: Path = tiny_data):
        fixed = ("--data", data, "--config", tiny_recipe, "--out", tmp_path / "b", *FEW)
        return run_cli("train", *fixed, *options)

    return run


@pytest.fixture
def noise(tmp_path: Path) -> Path:
    """A folder with a second of noise."""
    folder = tmp_path / "noise"
    folder.mkdir()
    rng = np.random.default_rng(0)
    soundfile.write(folder / "hiss.wav", 0.1 * rng.standard_normal(8000), 8000)
    return folder


def test_the_bundle_has_a_picture_of_the_training(train: Callable, tmp_path: Path):
    assert train().status == 0
    assert (tmp_path / "b" / "training.png").read_bytes().startswith(b"\x89PNG")
    assert [entry["epoch"] for entry in read_log(tmp_path / "b")] == [1, 2]


def test_the_bundle_has_a_temperature(train: Callable, tmp_path: Path):
    assert train().status == 0
    assert read_bundle(tmp_path / "b").decision.temperature not in (0, 1)


def test_other_words_become_unknown(train: Callable, tmp_path: Path):
    result = train("--words", "go,نعم", "--set", "train.unknown_fraction=0.2")
    assert result.status == 0, result.err
    assert read_bundle(tmp_path / "b").labels.symbols == ("_unknown_", "go", "نعم")


def test_a_word_that_nobody_says_is_refused(train: Callable):
    result = train("--words", "go,gone")
    assert result.status == 2
    assert "--words: no recording says 'gone'" in result.err


def copies(data: Path, folder: Path) -> list[Utterance]:
    return [
        dataclasses.replace(row, path=Path(shutil.copy(row.path, folder / f"{i}.wav")))
        for i, row in enumerate(read_data(data))
    ]


def manifest_of(rows: list[Utterance], file: Path, speaker: str) -> Path:
    lines = (
        json.dumps({"audio_filepath": str(row.path), "text": row.text, "speaker": speaker})
        for row in rows
    )
    file.write_text("\n".join(lines), encoding="utf-8")
    return file


def test_recordings_of_other_voices_are_mixed_in(train: Callable, tiny_data: Path, tmp_path: Path):
    also = manifest_of(copies(tiny_data, tmp_path)[:5], tmp_path / "made.jsonl", "espeak-ng")
    assert train("--also", also).status == 0
    training = read_bundle(tmp_path / "b").training
    assert training["mixed_in"] == 5
    assert "and 5 of other voices mixed in" in (tmp_path / "b" / "MODEL_CARD.md").read_text()
    assert training["data"].endswith("/data + " + "/".join(also.parts[-2:]))


def test_what_is_mixed_in_may_not_share_a_speaker_with_the_validation(
    train: Callable, tiny_data: Path
):
    result = train("--also", tiny_data)
    assert result.status == 2
    assert "speakers stand in what is mixed in (--also) and the validation data" in result.err


def test_what_is_mixed_in_may_not_add_a_label(train: Callable, tiny_data: Path, tmp_path: Path):
    rows = [dataclasses.replace(read_data(tiny_data)[0], text="gone")]
    also = manifest_of(rows, tmp_path / "made.jsonl", "espeak-ng")
    result = train("--also", also)
    assert result.status == 2
    assert "unknown label 'gone'; the model knows go, turn on, نعم" in result.err
    assert str(rows[0].path) in result.err


@pytest.mark.heavy
def test_other_words_of_what_is_mixed_in_become_unknown_too(
    train: Callable, tiny_data: Path, tmp_path: Path
):
    also = manifest_of(copies(tiny_data, tmp_path), tmp_path / "made.jsonl", "espeak-ng")
    result = train("--words", "go,نعم", "--also", also)
    assert result.status == 0, result.err
    assert read_bundle(tmp_path / "b").labels.symbols == ("_unknown_", "go", "نعم")


def test_to_mix_something_in_at_a_share_of_zero_is_refused(
    train: Callable, tiny_data: Path, tmp_path: Path
):
    also = manifest_of(copies(tiny_data, tmp_path), tmp_path / "made.jsonl", "espeak-ng")
    result = train("--also", also, "--set", "train.also_fraction=0")
    assert result.status == 2
    assert "train.also_fraction: got 0" in result.err


def test_noise_comes_from_the_folder_given(train: Callable, noise: Path, tmp_path: Path):
    result = train("--noise", noise, "--set", "train.silence_fraction=0.2")
    assert result.status == 0, result.err
    info = read_bundle(tmp_path / "b")
    # A model is passed on, and says no more than it must.
    assert info.training["recipe"]["augment"]["background_noise"]["folder"] == "noise"
    assert "_silence_" in info.labels.symbols


def _empty(folder: Path) -> None:
    (folder / "hiss.wav").unlink()


def _silent(folder: Path) -> None:
    soundfile.write(folder / "hiss.wav", np.zeros(8000), 8000)


def _text(folder: Path) -> None:
    (folder / "hiss.wav").write_text("hiss")


def _gone(folder: Path) -> None:
    (folder / "hiss.wav").unlink()
    folder.rmdir()


@pytest.mark.parametrize("damage", [_empty, _silent, _text, _gone])
def test_a_folder_of_no_use_is_refused_before_anything_is_read(
    train: Callable, noise: Path, tmp_path: Path, damage: Callable
):
    damage(noise)
    result = train("--noise", noise)
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert str(noise) in result.err
    assert not (tmp_path / "b").exists()


def test_tensorboard_gets_the_curves(train: Callable, tmp_path: Path):
    import tensorflow as tf

    assert train("--tensorboard", tmp_path / "curves").status == 0
    (file,) = (tmp_path / "curves").iterdir()
    found = {
        (value.tag, event.step)
        for event in tf.compat.v1.train.summary_iterator(str(file))
        for value in event.summary.value
    }
    assert {("loss", 1), ("loss", 2), ("val_accuracy", 2), ("learning_rate", 1)} <= found


def test_resume_without_a_checkpoint_is_refused(train: Callable):
    result = train("--resume")
    assert result.status == 2
    assert "nothing to resume; start without --resume" in result.err


def test_resume_of_a_finished_training_says_so(train: Callable, tmp_path: Path):
    assert train().status == 0
    before = read_bundle(tmp_path / "b").sha256
    result = train("--resume")
    assert result.status == 0
    assert "is finished, nothing to resume" in result.out
    assert read_bundle(tmp_path / "b").sha256 == before


def test_a_training_that_was_to_replace_a_bundle_goes_on_where_it_was_killed(
    train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    assert train().status == 0
    before = read_bundle(tmp_path / "b").sha256
    longer = [
        f"--set=train.{setting}" for setting in ("epochs=3", "batch_size=2", "checkpoint_s=0")
    ]
    with monkeypatch.context() as patched:
        stop_training(patched, after=1, error=RuntimeError)
        assert train(*longer, "--force").status != 0
    assert read_bundle(tmp_path / "b").sha256 == before
    result = train(*longer, "--resume")
    assert result.status == 0, result.err
    assert len(read_log(tmp_path / "b")) == 3


def test_a_bundle_that_a_power_cut_damaged_is_no_end_of_its_training(
    train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patched:
        stop_training(patched, after=1)
        assert train("--set", "train.checkpoint_s=0").status == 130
    for name in ("config.json", "weights.npz"):
        (tmp_path / "b" / name).write_bytes(b"")
    result = train("--resume", "--set", "train.checkpoint_s=0")
    assert (result.status, result.err) == (0, "")
    assert read_bundle(tmp_path / "b").training["finished"]


def test_a_picture_that_cannot_be_written_does_not_fail_the_training(
    train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("speechrnn.report.draw_training", full)
    result = train()
    assert result.status == 0
    assert "training.png: cannot be written (No space left on device)" in result.err
    assert "% on" in result.out
    assert read_bundle(tmp_path / "b").training["finished"]


def test_a_folder_whose_name_is_not_utf8_is_learnt_from(
    train: Callable, tiny_data: Path, tmp_path: Path
):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    shutil.copytree(tiny_data, folder)
    assert train(data=folder).status == 0
    assert read_bundle(tmp_path / "b").training["data"].endswith("caf\udce9")
    assert "caf\\udce9" in (tmp_path / "b" / "MODEL_CARD.md").read_text()


def test_resume_with_other_settings_names_them(
    train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stop_training(monkeypatch, after=1)
    assert train("--set", "train.checkpoint_s=0").status == 130
    assert checkpoint_path(tmp_path / "b").exists()
    result = train("--resume", "--set", "train.learning_rate=0.5")
    assert result.status == 2
    assert "train.learning_rate" in result.err
    assert "now it is 0.5" in result.err
    assert checkpoint_path(tmp_path / "b").exists()


def test_a_full_disk_while_checkpointing_is_one_line(
    train: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from speechrnn import checkpoint
    from speechrnn.errors import OutputError

    def full(path: Path, _: bytes) -> None:
        raise OutputError(f"{path}: cannot be written (No space left on device)")

    monkeypatch.setattr(checkpoint, "write_atomically", full)
    result = train("--set", "train.checkpoint_s=0")
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert "No space left on device" in result.err
    assert "make room, and start again" in result.err


def test_a_label_with_one_recording_is_learnt(train: Callable, tiny_data: Path, tmp_path: Path):
    rows = read_data(tiny_data)
    go = [row for row in rows if row.text == "go"]
    few = [row for row in rows if row.text != "go"] + go[:1]
    manifest = tmp_path / "few.jsonl"
    import json

    manifest.write_text(
        "\n".join(
            json.dumps({"audio_filepath": str(row.path), "text": row.text, "speaker": row.speaker})
            for row in few
        ),
        encoding="utf-8",
    )
    result = train(data=manifest)
    assert result.status == 0, result.err
    assert "go" in read_bundle(tmp_path / "b").labels.symbols


MOST_PARAMETERS = {
    "commands": 500_000,
    "commands-tiny": 80_000,
    "streaming": 500_000,
    "sequences": 500_000,
    "characters": 500_000,
}


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_keeps_to_its_size_with_forty_labels(name: str):
    recipe = Recipe.from_mapping(read_preset(name))
    model = build_model(recipe.model, Labels(tuple(f"word {i:02}" for i in range(40))))
    assert model.count_params() <= MOST_PARAMETERS[name]
