"""From recordings of single tones to a model that hears several in a row, and says where."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import TINY_RATE_HZ, TINY_RECIPE, Run, call, stop_training, tone

from speechrnn.bundle import read_bundle, read_log
from speechrnn.config import read_toml
from speechrnn.datasets.manifest import read_data
from speechrnn.epochs import Epochs
from speechrnn.labels import GUESSED
from speechrnn.recipe import Recipe
from speechrnn.recognize import Model, load_model
from speechrnn.training_data import read_training_data

HEAD = """[head]
type = "ctc"
placement = 0.5
[sequences]
num_words = [1, 4]
snr_db = [30.0, 50.0]
"""
RECIPE = TINY_RECIPE.replace('[head]\ntype = "classification"\nattention_pooling = false\n', HEAD)
LEARN = (
    "--set=train.steps=192", "--set=train.validations=2", "--set=train.learning_rate=0.01",
    "--set=train.silence_fraction=0.1", "--set=train.val_fraction=0.01", "--set=encoder.units=32",
    "--set=augment.speed.low=0.9",
)  # fmt: skip


@pytest.fixture(scope="session")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A settings file that learns sequences in seconds."""
    file = tmp_path_factory.mktemp("sequences") / "sequences.toml"
    file.write_text(RECIPE, encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def bundle(tiny_data: Path, recipe: Path) -> Path:
    """A model trained on utterances of ``tiny_data``; do not change it."""
    out = recipe.with_name("bundle")
    result = call("train", "--data", tiny_data, "--out", out, "--config", recipe, *LEARN)
    assert result.status == 0, result.err
    return out


@pytest.fixture(scope="session")
def utterances(tiny_data: Path, recipe: Path) -> Path:
    """Utterances put together once, as a manifest."""
    out = recipe.with_name("utterances")
    size = ("--count", 30, "--num-words", 1, 5, "--sample-rate", TINY_RATE_HZ)
    assert call("data", "sequences", tiny_data, "--out", out, *size).status == 0
    return out / "sequences.jsonl"


def rows_of(manifest: Path) -> list[dict]:
    return [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="session", params=["bundle", "tflite"])
def model(bundle: Path, request: pytest.FixtureRequest) -> Model:
    """The model, as a bundle and as a file."""
    if request.param == "bundle":
        return load_model(bundle)
    file = bundle.with_name("sequences.tflite")
    result = call("export", bundle, "--to", file)
    assert result.status == 0, result.err
    return load_model(file)


def test_the_model_hears_the_words_and_where_they_are(model: Model, utterances: Path):
    rows = rows_of(utterances)
    errors_s = []
    right = 0
    for row in rows:
        found = model.transcribe(utterances.parent / row["audio_filepath"])
        assert 0 <= found.confidence <= 1
        if found.text != row["text"]:
            continue
        right += 1
        for word, true in zip(found.words, row["words"], strict=True):
            assert word.text == true["text"]
            assert 0 <= word.start <= word.end <= found.duration
            assert 0 < word.confidence <= 1
            errors_s.append(abs(word.start - true["start"]))
    assert right >= 27
    assert np.median(errors_s) <= 0.04
    assert np.percentile(errors_s, 95) <= 0.12


def test_silence_is_heard_as_nothing(model: Model):
    rng = np.random.default_rng(0)
    for level in (0.0, 1e-4):
        hiss = level * rng.standard_normal(TINY_RATE_HZ)
        found = model.transcribe(hiss.astype(np.float32))
        assert (found.text, found.words) == ("", ())


def test_evaluation_counts_words(model: Model, utterances: Path, run_cli: Run):
    result = run_cli("evaluate", model.path, "--data", utterances, "--json", "-")
    assert result.status == 0, result.err
    found = json.loads(result.out)
    words = [word for row in rows_of(utterances) for word in row["words"]]
    assert sum(label["count"] for label in found["labels"].values()) == len(words)
    assert set(found["labels"]) == {"go", "turn on", "نعم"}
    assert found["wer"] <= 0.05
    assert found["accuracy"] >= 0.9


def test_a_report_of_sequences_is_written(bundle: Path, utterances: Path, tmp_path: Path):
    result = call("evaluate", bundle, "--data", utterances, "--report", tmp_path / "report")
    assert result.status == 0, result.err
    assert "turn on" in (tmp_path / "report" / "report.html").read_text(encoding="utf-8")


def test_records_hold_every_word(model: Model, utterances: Path, run_cli: Run):
    result = run_cli("transcribe", model.path, utterances)
    assert result.status == 0
    records = [json.loads(line) for line in result.out.splitlines()]
    assert len(records) == 30
    for record in records:
        assert " ".join(word["text"] for word in record["words"]) == record["text"]


def test_the_bundle_says_what_it_learnt_from(bundle: Path):
    info = read_bundle(bundle)
    assert info.labels.symbols == ("go", "turn on", "نعم")
    assert info.training["composed"] is True
    assert info.training["recipe"]["sequences"]["num_words"] == [1, 4]
    assert info.decision.utterance_confidence != (1.0, 0.0)


@pytest.mark.heavy
def test_a_training_on_made_utterances_resumes_bit_for_bit(
    tiny_data: Path, recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    settings = ("--config", recipe, "--set", "train.epochs=3", "--set", "train.checkpoint_s=0")
    command = ("train", "--data", tiny_data, *settings)
    assert call(*command, "--out", tmp_path / "whole").status == 0
    with monkeypatch.context() as patched:
        stop_training(patched, after=1)
        assert call(*command, "--out", tmp_path / "stopped").status == 130
    assert call(*command, "--out", tmp_path / "stopped", "--resume").status == 0
    whole, stopped = (np.load(tmp_path / name / "weights.npz") for name in ("whole", "stopped"))
    for name in whole:
        np.testing.assert_array_equal(whole[name], stopped[name])


def test_whole_utterances_are_learnt_as_they_are(utterances: Path, recipe: Path, tmp_path: Path):
    rows = rows_of(utterances)
    for name, part in (("train", rows[:20]), ("val", rows[20:])):
        lines = [
            json.dumps({**row, "speaker": name, "text": "" if n == 0 else row["text"]})
            for n, row in enumerate(part)
        ]
        (utterances.parent / f"{name}.jsonl").write_text("\n".join(lines), encoding="utf-8")
    result = call(
        "train", "--data", utterances.parent / "train.jsonl", "--val",
        utterances.parent / "val.jsonl", "--config", recipe, "--out", tmp_path / "b",
        "--set", "train.epochs=1", "--set", 'head.symbols="characters"',
    )  # fmt: skip
    assert result.status == 0, result.err
    info = read_bundle(tmp_path / "b")
    assert info.training["composed"] is False
    assert info.labels.symbols[0] == "|"
    assert " " not in info.labels.symbols


def test_other_voices_too_begin_with_their_words_spread_evenly(utterances: Path, recipe: Path):
    sections = read_toml(recipe)
    sections = {**sections, "head": {**sections["head"], "flat_start": 0.3}}
    chosen = Recipe.from_mapping(sections)
    rows = [
        replace(row, speaker=speaker)
        for row, speaker in zip(
            read_data(utterances), np.repeat(["own", "other", "val"], 10).tolist(), strict=True
        )
    ]
    data = read_training_data(chosen, rows[:10], rows[20:], rows[10:20], data_name="utterances")
    assert all(example.guessed for example in (*data.train, *data.also))
    assert not any(example.guessed for example in data.val)
    own = [replace(example, spans=None) for example in data.train]
    for batch in Epochs(chosen, data.labels, own, data.also, ()).batches(1):
        guessed = (batch.y["steps"] <= GUESSED).all(axis=1)
        assert 0 < guessed.sum() < len(guessed)


def test_a_recording_too_short_for_its_text_is_named_before_training(recipe: Path, tmp_path: Path):
    for speaker in ("ann", "bob"):
        soundfile.write(tmp_path / f"{speaker}.wav", tone(400, 0.1, 8000), 8000)
    lines = [
        json.dumps({"audio_filepath": f"{s}.wav", "text": "go " * 40, "speaker": s})
        for s in ("ann", "bob")
    ]
    (tmp_path / "d.jsonl").write_text("\n".join(lines), encoding="utf-8")
    result = call(
        "train", "--data", tmp_path / "d.jsonl", "--config", recipe, "--out", tmp_path / "b"
    )
    assert result.status == 2
    assert ".wav: 8 steps for 79 symbols" in result.err
    assert result.err.count("\n") == 1


def test_sequences_need_a_head_that_answers_with_several(
    tiny_data: Path, tiny_recipe: Path, tmp_path: Path
):
    result = call(
        "train", "--data", tiny_data, "--config", tiny_recipe, "--out", tmp_path / "b",
        "--set", "sequences.num_words=[1, 3]",
    )  # fmt: skip
    assert result.status == 2
    assert 'expected head.type = "ctc"' in result.err


def test_the_log_says_how_much_of_a_batch_is_padding(bundle: Path):
    shares = [entry["padding"] for entry in read_log(bundle)]
    assert all(0 < share < 0.4 for share in shares)


def train_on(manifest: Path, recipe: Path, out: Path, *options: object):
    return call("train", "--data", manifest, "--config", recipe, "--out", out, *options)


def tones(folder: Path, rows: list[tuple[str, str, float]]) -> Path:
    lines = []
    for n, (text, speaker, level) in enumerate(rows):
        soundfile.write(folder / f"{n}.wav", tone(400, 0.3, 8000, level), 8000)
        row = {"audio_filepath": f"{n}.wav", "text": text, "speaker": speaker}
        lines.append(json.dumps(row) + "\n")
    (folder / "d.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder / "d.jsonl"


def test_a_silent_command_is_named_or_left_out(recipe: Path, tmp_path: Path):
    rows = [(text, speaker, 0.3) for text in ("go", "no") for speaker in ("ann", "bob")] * 2
    manifest = tones(tmp_path, [*rows, ("go", "ann", 0.0), ("go", "bob", 0.0)])
    refused = train_on(manifest, recipe, tmp_path / "b")
    assert (refused.status, refused.err.count("\n")) == (2, 1)
    assert "nothing but zeros" in refused.err
    options = ("--skip-broken", "--set", "train.epochs=1")
    kept = train_on(manifest, recipe, tmp_path / "b", *options)
    assert kept.status == 0, kept.err
    assert "left out: " in kept.err


def test_commands_without_a_speaker_are_refused_before_they_are_read(
    recipe: Path, tmp_path: Path, tiny_data: Path
):
    manifest = tones(tmp_path, [("go", "", 0.3)] * 4)
    result = train_on(manifest, recipe, tmp_path / "b", "--val", tiny_data)
    assert result.status == 2
    assert "nobody is named" in result.err


def test_whole_utterances_are_not_mixed_into_commands(
    tiny_data: Path, recipe: Path, tmp_path: Path
):
    other = tones(tmp_path, [("go turn on", "zoe", 0.3)])
    result = train_on(tiny_data, recipe, tmp_path / "b", "--also", other)
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "no single command" in result.err


@pytest.mark.heavy
def test_what_recordings_say_can_be_said(tiny_data: Path, recipe: Path, tmp_path: Path):
    said = [("go", "ann", 0.3), ("no", "ann", 0.3), ("go", "bob", 0.3)]
    once = tones(tmp_path, said)  # so few look like utterances
    for rows, kind, composed in (
        (once, "auto", False),
        (once, "commands", True),
        (tiny_data, "utterances", False),
    ):
        out = tmp_path / f"{rows.name}-{kind}"
        options = ("--set", "train.epochs=1", "--set", f'train.recordings="{kind}"')
        result = train_on(rows, recipe, out, *options)
        assert result.status == 0, result.err
        assert read_bundle(out).training["composed"] is composed


@pytest.mark.parametrize("setting", ["class_balance=0.5", "unknown_fraction=0.2"])
def test_settings_that_utterances_would_ignore_are_refused(
    setting: str, tiny_data: Path, recipe: Path, tmp_path: Path
):
    result = train_on(tiny_data, recipe, tmp_path / "b", "--set", f"train.{setting}")
    assert (result.status, result.err.count("\n")) == (2, 1)
    assert "changes nothing where utterances are put together" in result.err
