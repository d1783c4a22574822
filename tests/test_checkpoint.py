"""A training that was stopped goes on as if it had not been."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import stop_training

from speechrnn import checkpoint as module
from speechrnn.bundle import read_bundle, read_log
from speechrnn.checkpoint import Checkpoint, checkpoint_path, load_checkpoint, save_checkpoint
from speechrnn.datasets.manifest import read_data, split_by_speaker
from speechrnn.errors import ConfigError, ModelError, OutputError
from speechrnn.recipe import Recipe
from speechrnn.train import TrainResult, train_model

SECTIONS: dict[str, Any] = {
    "features": {"sample_rate_hz": 8000, "fft_length": 256, "num_mels": 16, "high_hz": 3800.0,
                 "num_coefficients": 12},
    "encoder": {"type": "gru", "units": 8, "num_layers": 1, "dropout": 0.3},
    "head": {"type": "classification", "dropout": 0.2},
    "train": {"epochs": 4, "batch_size": 2, "checkpoint_s": 0.0, "seed": 5,
              "silence_fraction": 0.1},
    "augment": {"speed": {}, "gain": {}, "coloured_noise": {}, "room": {}, "mixup": {},
                "vocal_tract": {}, "spec_augment": {}},
}  # fmt: skip


# Whose running statistics no gradient changes.
NORMALISED = {"type": "ds_cnn", "num_bands": 8, "width": 6, "num_layers": 1}


def recipe(encoder: dict[str, Any] | None = None, **train: Any) -> Recipe:
    sections = {**SECTIONS, "encoder": encoder or SECTIONS["encoder"]}
    return Recipe.from_mapping({**sections, "train": {**SECTIONS["train"], **train}})


def fit(
    data: Path, out: Path, chosen: Recipe, *, resume: bool = False, num_also: int = 3
) -> TrainResult:
    """Train on half of the recordings, with some of the others mixed in."""
    train_rows, val_rows = split_by_speaker(read_data(data), 0.3)
    return train_model(
        chosen,
        train_rows[::2],
        val_rows,
        out,
        also_rows=train_rows[1::2][:num_also],
        data_name="tones",
        val_name="others",
        resume=resume,
    )


def outcome(bundle: Path) -> tuple[dict[str, str], list[dict[str, Any]]]:
    """What a training found, without how long it took."""
    files = read_bundle(bundle).files
    timeless = [
        {k: v for k, v in entry.items() if k not in ("seconds", "clips_per_second")}
        for entry in read_log(bundle)
    ]
    return {name: files[name] for name in ("weights.npz", "selftest.npz", "metrics.json")}, timeless


@pytest.fixture(scope="module")
def whole(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A training without a break."""
    return fit(tiny_data, tmp_path_factory.mktemp("whole") / "b", recipe()).bundle


def test_a_finished_training_leaves_no_checkpoint(whole: Path):
    assert not checkpoint_path(whole).exists()


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(1, marks=pytest.mark.heavy, id="first epoch"),
        pytest.param(5, id="within an epoch"),
        pytest.param(9, marks=pytest.mark.heavy, id="later"),
    ],
)
def test_resumed_equals_uninterrupted_bit_for_bit(
    whole: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
):
    with monkeypatch.context() as patched:
        stop_training(patched, after=step, error=RuntimeError)
        with pytest.raises(RuntimeError, match="stopped by the test"):
            fit(tiny_data, tmp_path / "b", recipe())
    result = fit(tiny_data, tmp_path / "b", recipe(), resume=True)
    assert outcome(result.bundle) == outcome(whole)
    assert not checkpoint_path(result.bundle).exists()


@pytest.mark.heavy
def test_batch_normalisation_resumes_bit_for_bit_too(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    chosen = recipe(NORMALISED, epochs=2)
    whole = fit(tiny_data, tmp_path / "whole", chosen).bundle
    with monkeypatch.context() as patched:
        stop_training(patched, after=4)
        assert fit(tiny_data, tmp_path / "b", chosen).interrupted
    assert outcome(fit(tiny_data, tmp_path / "b", chosen, resume=True).bundle) == outcome(whole)


def test_ctrl_c_and_resume_equal_uninterrupted(
    whole: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patched:
        stop_training(patched, after=6)
        assert fit(tiny_data, tmp_path / "b", recipe()).interrupted
    result = fit(tiny_data, tmp_path / "b", recipe(), resume=True)
    assert outcome(result.bundle) == outcome(whole)


def test_other_recordings_mixed_in_are_another_training(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patched:
        stop_training(patched, after=2)
        fit(tiny_data, tmp_path / "b", recipe())
    with pytest.raises(ConfigError, match="recordings mixed in"):
        fit(tiny_data, tmp_path / "b", recipe(), resume=True, num_also=2)


def test_a_new_training_forgets_the_checkpoint_of_an_old_one(tiny_data: Path, tmp_path: Path):
    old = checkpoint_path(tmp_path / "b")
    old.write_bytes(b"of another training")
    fit(tiny_data, tmp_path / "b", recipe(epochs=1, checkpoint_s=1e9))
    assert not old.exists()


@pytest.mark.heavy
def test_kill_9_in_the_middle_loses_nothing_but_time(tiny_data: Path, tmp_path: Path):
    config = tmp_path / "recipe.toml"
    lines = []
    for name, section in SECTIONS.items():
        inner = {k: v for k, v in section.items() if not isinstance(v, dict)}
        lines.append(f"[{name}]")
        lines += [f"{key} = {value!r}".replace("'", '"') for key, value in inner.items()]
        lines += [f"[{name}.{key}]" for key, value in section.items() if isinstance(value, dict)]
    config.write_text("\n".join(lines), encoding="utf-8")
    train = [sys.executable, "-m", "speechrnn", "train", "--data", tiny_data, "--config", config]
    train += ["--set", "train.epochs=40"]
    for name in ("whole", "killed"):
        command = list(map(str, [*train, "--out", tmp_path / name]))
        if name == "whole":
            subprocess.run(command, check=True, capture_output=True)
            continue
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        deadline = time.monotonic() + 120
        while not checkpoint_path(tmp_path / name).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        assert checkpoint_path(tmp_path / name).exists()
        done = subprocess.run([*command, "--resume"], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


IDENTITY = {"train": {"learning_rate": 0.002}, "labels": ["a", "b"]}


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "b.checkpoint"
    arrays = {"model/0": np.arange(5, dtype=np.float32), "optimizer/0": np.int64(7)}
    save_checkpoint(path, Checkpoint(IDENTITY, {"epoch": 3, "log": [0.1]}, arrays))
    return path


def test_a_checkpoint_comes_back_as_it_was(saved: Path):
    found = load_checkpoint(saved, IDENTITY)
    assert found.progress == {"epoch": 3, "log": [0.1]}
    np.testing.assert_array_equal(found.arrays["model/0"], np.arange(5, dtype=np.float32))
    assert found.arrays["optimizer/0"] == 7


def test_nothing_to_resume_is_said(tmp_path: Path):
    with pytest.raises(ModelError, match="nothing to resume"):
        load_checkpoint(tmp_path / "b.checkpoint", IDENTITY)


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({**IDENTITY, "train": {"learning_rate": 0.1}}, r"learning_rate = 0\.002, now it is 0\.1"),
        ({**IDENTITY, "labels": ["a"]}, "labels"),
        ({**IDENTITY, "augment": {"mixup": {}}}, "augment"),
    ],
)
def test_a_checkpoint_of_another_training_is_refused_by_name(
    saved: Path, other: dict[str, Any], named: str
):
    with pytest.raises(ConfigError, match=named):
        load_checkpoint(saved, other)


@pytest.mark.parametrize("size", [0, 10, 300])
def test_a_damaged_checkpoint_is_refused(saved: Path, size: int):
    saved.write_bytes(saved.read_bytes()[:size])
    with pytest.raises(ModelError, match="no intact checkpoint"):
        load_checkpoint(saved, IDENTITY)


def test_another_version_is_refused(saved: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "FORMAT_VERSION", 2)
    with pytest.raises(ModelError, match="version 1, expected 2"):
        load_checkpoint(saved, IDENTITY)


def test_a_full_disk_keeps_the_checkpoint_before(saved: Path, monkeypatch: pytest.MonkeyPatch):
    before = saved.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match=r"No space left.*--resume"):
        save_checkpoint(saved, Checkpoint(IDENTITY, {}, {}))
    assert saved.read_bytes() == before
    assert [file.name for file in saved.parent.iterdir()] == [saved.name]
