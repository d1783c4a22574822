"""Evaluation: figures that a person can count, the same from a bundle and from its .tflite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
from conftest import TINY_LABELS, TINY_RATE_HZ, Run, Write, tone

from speechrnn.datasets.manifest import Utterance
from speechrnn.decoding import Transcript
from speechrnn.errors import DataError, LabelError
from speechrnn.evaluate import evaluate_model, per_label
from speechrnn.labels import Labels

# What speechrnn evaluate --json promises to scripts (docs: the command line).
PROMISED = {
    "utterances",
    "audio_seconds",
    "accuracy",
    "wer",
    "cer",
    "labels",
    "real_time_factor",
    "model",
    "data",
}


class Parrot:
    """A model that says what it is told to, by the length of the recording in 10 ms."""

    path = Path("parrot")
    labels = Labels(TINY_LABELS)
    sample_rate_hz = TINY_RATE_HZ
    min_samples = 200

    def __init__(self, said: dict[int, str]) -> None:
        self._said = said

    def transcribe(self, recording: object) -> Transcript:
        raise NotImplementedError

    def transcribe_many(self, waveforms: Sequence[np.ndarray]) -> list[Transcript]:
        lengths_s = [len(waveform) / self.sample_rate_hz for waveform in waveforms]
        return [Transcript(self._said[round(100 * s)], 0.9, s, ()) for s in lengths_s]


def pairs_to_model(
    pairs: Sequence[tuple[str, str]], write_audio: Write
) -> tuple[Parrot, list[Utterance]]:
    """A model and data with these (true, said) pairs; the longest recording stands first."""
    rows, said = [], {}
    for i, (truth, answer) in enumerate(pairs):
        length = 10 + len(pairs) - i
        file = write_audio(f"{i}.wav", tone(440, length / 100, TINY_RATE_HZ), TINY_RATE_HZ)
        rows.append(Utterance(file, truth, f"speaker{i % 2}"))
        said[length] = answer
    return Parrot(said), rows


PAIRS = [
    ("go", "go"),
    ("go", "go"),
    ("go", "turn on"),
    ("turn on", "go"),
    ("turn on", "turn on"),
    ("go", "go"),
]


def test_the_figures_are_those_counted_by_hand(write_audio: Write) -> None:
    model, rows = pairs_to_model(PAIRS, write_audio)
    found = evaluate_model(model, rows, data_name="six")
    assert found["utterances"] == 6
    assert found["speakers"] == 2
    assert found["accuracy"] == 4 / 6
    assert found["audio_seconds"] == pytest.approx(sum(range(11, 17)) / 100)
    assert found["labels"] == {
        "go": {"precision": 3 / 4, "recall": 3 / 4, "count": 4},
        "turn on": {"precision": 1 / 2, "recall": 1 / 2, "count": 2},
        "نعم": {"precision": None, "recall": None, "count": 0},
    }
    assert sorted(found["confusions"]) == [["go", "turn on", 1], ["turn on", "go", 1]]
    # 8 true words. go -> turn on: one other, one more. turn on -> go: one other, one less.
    assert found["wer"] == 4 / 8
    assert found["errors"] == []


def distance(truth: Sequence[str], said: Sequence[str]) -> int:
    """Fewest insertions, deletions and replacements; Wagner and Fischer 1974."""
    row = list(range(len(said) + 1))
    for i, true_item in enumerate(truth, start=1):
        diagonal, row[0] = row[0], i
        for j, said_item in enumerate(said, start=1):
            step = min(row[j] + 1, row[j - 1] + 1, diagonal + (true_item != said_item))
            diagonal, row[j] = row[j], step
    return row[-1]


def test_error_rates_are_those_of_jiwer_and_of_the_textbook(write_audio: Write) -> None:
    rng = np.random.default_rng(0)
    pairs = [tuple(rng.choice(TINY_LABELS, 2).tolist()) for _ in range(20)]
    model, rows = pairs_to_model(pairs, write_audio)
    found = evaluate_model(model, rows, data_name="random")
    truths, said = map(list, zip(*pairs, strict=True))
    assert found["wer"] == jiwer.wer(truths, said)
    assert found["cer"] == jiwer.cer(truths, said)
    word_errors = sum(distance(t.split(), s.split()) for t, s in pairs)
    letter_errors = sum(distance(t, s) for t, s in pairs)
    assert found["wer"] == pytest.approx(word_errors / sum(len(t.split()) for t in truths))
    assert found["cer"] == pytest.approx(letter_errors / sum(map(len, truths)))


def test_error_rates_are_not_clamped_at_one(write_audio: Write) -> None:
    model, rows = pairs_to_model([("go", "turn on")] * 2, write_audio)
    found = evaluate_model(model, rows, data_name="worse than silence")
    assert found["wer"] == 2
    assert found["accuracy"] == 0


def test_more_recordings_than_a_batch_keep_their_answers(write_audio: Write) -> None:
    pairs = [(TINY_LABELS[i % 3], TINY_LABELS[i % 3]) for i in range(70)]
    model, rows = pairs_to_model(pairs, write_audio)
    found = evaluate_model(model, rows, data_name="seventy")
    assert found["accuracy"] == 1
    assert [found["labels"][label]["count"] for label in TINY_LABELS] == [24, 23, 23]


def test_a_label_that_was_never_said_has_no_precision() -> None:
    assert per_label(["a", "a"], ["b", "b"], ["a", "b"]) == {
        "a": {"precision": None, "recall": 0, "count": 2},
        "b": {"precision": 0, "recall": None, "count": 0},
    }


def test_a_text_that_is_no_label_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    row = Utterance(tmp_path / "gone.wav", "jump")
    with pytest.raises(LabelError) as caught:
        evaluate_model(Parrot({}), [row], data_name="x")
    known = ", ".join(TINY_LABELS)
    assert str(caught.value) == f"{row.path}: unknown label 'jump'; the model knows {known}"


def test_broken_recordings_are_refused_or_listed(write_audio: Write, tmp_path: Path) -> None:
    model, rows = pairs_to_model(PAIRS, write_audio)
    rows.insert(2, Utterance(tmp_path / "gone.wav", "go"))
    with pytest.raises(DataError, match="1 of 7 recordings are broken"):
        evaluate_model(model, rows, data_name="x")
    found = evaluate_model(model, rows, data_name="x", skip_broken=True)
    assert found["errors"] == [
        {"audio_filepath": str(tmp_path / "gone.wav"), "error": "no such file"}
    ]
    assert found["utterances"] == 6
    assert found["accuracy"] == 4 / 6


# --- the command


@pytest.fixture(scope="module")
def figures(
    tiny_bundle: Path, tiny_tflite: Path, tiny_data: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    from conftest import call

    folder = tmp_path_factory.mktemp("figures")
    found = {}
    for model in (tiny_bundle, tiny_tflite):
        result = call("evaluate", model, "--data", tiny_data, "--json", folder / "f.json")
        assert result.status == 0, result.err
        found[model.suffix] = json.loads((folder / "f.json").read_text(encoding="utf-8"))
    return found


def test_the_json_has_every_promised_key(figures: dict[str, dict[str, Any]]) -> None:
    for found in figures.values():
        assert found.keys() >= PROMISED
        assert list(found["labels"]) == list(TINY_LABELS)
        for label in found["labels"].values():
            assert label.keys() >= {"precision", "recall", "count"}


def test_a_bundle_and_its_tflite_give_the_same_figures(figures: dict[str, dict[str, Any]]) -> None:
    bundle, tflite = (dict(figures[kind]) for kind in (".bundle", ".tflite"))
    for found in (bundle, tflite):
        assert found.pop("model").startswith("/")
        assert found.pop("real_time_factor") > 0
    assert bundle == tflite
    assert bundle["utterances"] == 24
    assert bundle["audio_seconds"] == pytest.approx(24 * 0.4)


def test_the_tiny_model_has_learnt_something(figures: dict[str, dict[str, Any]]) -> None:
    # Guards the tests that compare answers: a model that always says the same would pass them.
    assert figures[".tflite"]["accuracy"] > 0.5


def test_json_to_standard_output_is_nothing_but_json(
    tiny_tflite: Path, tiny_data: Path, run_cli: Run
) -> None:
    result = run_cli("evaluate", tiny_tflite, "--data", tiny_data, "--json", "-")
    assert result.status == 0
    assert json.loads(result.out)["data"] == str(tiny_data)
    assert "نعم" in result.out
    assert result.err == ""


def test_the_summary_names_model_data_and_every_label(
    tiny_tflite: Path, tiny_data: Path, run_cli: Run
) -> None:
    result = run_cli("evaluate", tiny_tflite, "--data", tiny_data)
    assert f"{tiny_tflite} on {tiny_data}" in result.out
    assert "of 24 recordings of 4 speakers" in result.out
    assert all(label in result.out for label in TINY_LABELS)


def test_a_label_that_the_model_does_not_know_ends_with_status_2(
    tiny_tflite: Path, write_audio: Write, tmp_path: Path, run_cli: Run
) -> None:
    file = write_audio("data/jump/a.wav", tone(440, 0.4, 8000), 8000)
    result = run_cli("evaluate", tiny_tflite, "--data", tmp_path / "data")
    assert result.status == 2
    assert result.out == ""
    assert result.err.startswith(f"speechrnn evaluate: error: {file}: unknown label 'jump'; the")


def test_skipped_recordings_end_with_status_1_and_are_named(
    tiny_tflite: Path, write_audio: Write, tmp_path: Path, run_cli: Run
) -> None:
    write_audio("data/go/a.wav", tone(400, 0.4, 8000), 8000)
    broken = tmp_path / "data" / "go" / "b.wav"
    broken.write_text("no audio", encoding="utf-8")
    arguments = ("evaluate", tiny_tflite, "--data", tmp_path / "data", "--skip-broken")
    result = run_cli(*arguments, "--json", tmp_path / "f.json")
    assert result.status == 1
    assert result.err.startswith(f"left out: {broken}: cannot be read as audio")
    assert len(result.err.splitlines()) == 1
    (error,) = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))["errors"]
    assert error["audio_filepath"] == str(broken)


def test_the_test_list_is_used_where_there_is_one(
    tiny_tflite: Path, write_audio: Write, tmp_path: Path, run_cli: Run
) -> None:
    for speaker in ("ann", "bob"):
        write_audio(f"data/go/{speaker}_nohash_0.wav", tone(400, 0.4, 8000), 8000)
    (tmp_path / "data" / "testing_list.txt").write_text("go/bob_nohash_0.wav\n", encoding="utf-8")
    counts = {}
    for split in (None, "test", "train", "all"):
        chosen = ("--split", split) if split else ()
        arguments = ("evaluate", tiny_tflite, "--data", tmp_path / "data", "--json", "-")
        counts[split] = json.loads(run_cli(*arguments, *chosen).out)["utterances"]
    assert counts == {None: 1, "test": 1, "train": 1, "all": 2}
