"""Evaluation: figures that a person can count, the same from a bundle and from its .tflite."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jiwer
import numpy as np
import pytest
import soundfile
from conftest import TINY_LABELS, TINY_RATE_HZ, Run, Write, tone

from speechrnn.bundle import read_bundle
from speechrnn.counting import per_label
from speechrnn.datasets.manifest import Utterance
from speechrnn.decoding import Transcript, Word
from speechrnn.decoding.decoder import LabelDecoder
from speechrnn.errors import DataError, LabelError
from speechrnn.evaluate import _rejected, describe_tests, evaluate_model, wilson_interval
from speechrnn.files import json_text
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
    temperature = 1.0
    grammar_margin = None
    decoder = LabelDecoder(labels)

    def __init__(self, said: dict[int, str], confidence: float = 0.9) -> None:
        self._said, self._confidence = said, confidence
        self.threshold = 0.0

    def answer_many(self, waveforms: Sequence[np.ndarray]) -> np.ndarray:
        raise NotImplementedError

    def transcribe(self, recording: object) -> Transcript:
        raise NotImplementedError

    def transcribe_many(self, waveforms: Sequence[np.ndarray]) -> list[Transcript]:
        lengths_s = [len(waveform) / self.sample_rate_hz for waveform in waveforms]
        confidence = self._confidence
        if confidence < self.threshold:
            return [Transcript("", confidence, s, ()) for s in lengths_s]
        said = [(self._said[round(100 * s)], s) for s in lengths_s]
        return [Transcript(text, confidence, s, (Word(text, 0, s, 1),)) for text, s in said]


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
    assert per_label([("a", "b"), ("a", "b")], ["a", "b"]) == {
        "a": {"precision": None, "recall": 0, "count": 2},
        "b": {"precision": 0, "recall": None, "count": 0},
    }


def test_the_interval_is_over_recordings_and_the_spread_over_speakers(write_audio: Write) -> None:
    model, rows = pairs_to_model(PAIRS, write_audio)
    found = evaluate_model(model, rows, data_name="six")
    assert found["interval"] == list(wilson_interval(4, 6))
    assert found["interval"] == pytest.approx([0.2999, 0.9032], abs=1e-4)
    assert found["speakers_detail"] == {
        "speaker0": {"accuracy": 2 / 3, "count": 3},
        "speaker1": {"accuracy": 2 / 3, "count": 3},
    }
    spread = found["speaker_spread"]
    assert (spread["lowest"], spread["highest"]) == (2 / 3, 2 / 3)
    assert spread["standard_deviation"] == pytest.approx(0)


def test_silence_that_is_heard_as_such_is_not_rejected() -> None:
    assert _rejected(["", "go", "go", "stop"], ["", "", "go", "go"]) == 1


def test_unknown_speakers_have_no_spread(write_audio: Write) -> None:
    model, rows = pairs_to_model(PAIRS, write_audio)
    unknown = [Utterance(row.path, row.text) for row in rows]
    found = evaluate_model(model, unknown, data_name="six")
    assert found["speakers_detail"] == {}
    assert found["speaker_spread"] is None
    assert found["speakers"] == 0
    assert not any("speakers from" in line for line in describe_tests(found))


def test_a_recording_whose_name_is_not_utf8_can_be_reported(
    write_audio: Write, tmp_path: Path
) -> None:
    model, rows = pairs_to_model(PAIRS, write_audio)
    odd = [Utterance(row.path.rename(f"{row.path}\udce9.wav"), row.text, "a\udce9") for row in rows]
    found = evaluate_model(model, odd, data_name="six\udce9")
    again = json.loads(json_text(found).encode())
    assert {mistake["audio_filepath"] for mistake in again["mistakes"]} <= {
        str(row.path) for row in odd
    }
    assert list(again["speakers_detail"]) == ["a\udce9"]


def test_calibration_and_mistakes_are_those_of_the_answers(write_audio: Write) -> None:
    model, rows = pairs_to_model(PAIRS, write_audio)
    found = evaluate_model(model, rows, data_name="six")
    assert found["calibration"]["ece"] == pytest.approx(0.9 - 4 / 6, abs=1e-4)
    assert [b["count"] for b in found["calibration"]["bins"] if b["count"]] == [6]
    assert [(m["truth"], m["said"]) for m in found["mistakes"]] == [
        ("go", "turn on"),
        ("turn on", "go"),
    ]
    assert found["mistakes"][0]["audio_filepath"] == str(rows[2].path)


def test_what_is_below_the_threshold_is_rejected_and_wrong(write_audio: Write) -> None:
    model, rows = pairs_to_model(PAIRS, write_audio)
    model.threshold = 0.95
    found = evaluate_model(model, rows, data_name="six")
    assert model.threshold == 0.95
    assert (found["accuracy"], found["rejected"], found["threshold"]) == (0, 6, 0.95)
    assert sorted(found["confusions"]) == [["go", "", 4], ["turn on", "", 2]]
    assert found["mistakes"] == []
    # How sure it is of what it would have said is another question.
    assert found["calibration"]["ece"] == pytest.approx(0.9 - 4 / 6, abs=1e-4)


def test_noise_is_measured_from_clean_to_drowned(write_audio: Write, tmp_path: Path) -> None:
    model, rows = pairs_to_model(PAIRS, write_audio)
    heard: list[np.ndarray] = []

    def listen(waveforms: Sequence[np.ndarray]) -> list[Transcript]:
        heard.extend(waveforms)
        return Parrot.transcribe_many(model, waveforms)

    model.transcribe_many = listen  # type: ignore[method-assign]
    noise = 0.1 * np.random.default_rng(0).standard_normal(4000)
    write_audio("noise/n.wav", noise, TINY_RATE_HZ)
    found = evaluate_model(model, rows, data_name="six", noise=tmp_path / "noise")
    assert [point["snr_db"] for point in found["noise"]] == [None, 20, 15, 10, 5, 0, -5]
    assert {point["accuracy"] for point in found["noise"]} == {4 / 6}
    assert len(heard) == 7 * 6
    powers = [float(np.mean(np.square(heard[6 * level]))) for level in range(7)]
    assert powers == sorted(powers)
    # At -5 dB there is 3.16 times as much noise as speech.
    assert powers[6] / powers[0] == pytest.approx(1 + 10**0.5, rel=0.1)
    again = list(heard)
    heard.clear()
    evaluate_model(model, rows, data_name="six", noise=tmp_path / "noise")
    for one, other in zip(again, heard, strict=True):
        np.testing.assert_array_equal(one, other)
    heard.clear()
    evaluate_model(model, rows, data_name="six", noise=tmp_path / "noise", seed=1)
    assert not np.array_equal(heard[-1], again[-1])


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


# --- interval, noise, long recordings, report


@pytest.fixture(scope="module")
def noisy_places(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """noise/: two seconds; long/: a minute of the same, faint, and of a tone near a label's."""
    folder = tmp_path_factory.mktemp("noisy")
    rng = np.random.default_rng(0)
    for name, seconds, level in (("noise", 2, 0.1), ("long", 60, 0.003)):
        (folder / name).mkdir()
        samples = level * rng.standard_normal(seconds * TINY_RATE_HZ)
        if name == "long":
            samples[80000:120000] += tone(800, 5.0, TINY_RATE_HZ)
        soundfile.write(folder / name / "a.wav", samples, TINY_RATE_HZ)
    return folder


def given_places(places: Path) -> tuple[object, ...]:
    noise, long = places / "noise", places / "long"
    return ("--noise", noise, "--background", long, "--false-alarms-per-hour", 100)


def test_everything_is_measured_the_same_by_a_bundle_and_its_tflite(
    tiny_bundle: Path, tiny_tflite: Path, tiny_data: Path, noisy_places: Path, tmp_path: Path,
    run_cli: Run,
) -> None:  # fmt: skip
    found = {}
    bundle = Path(shutil.copytree(tiny_bundle, tmp_path / "b"))
    for model in (tiny_tflite, bundle):
        report = tmp_path / f"report of {model.name}"
        places = ("--report", report, "--json", tmp_path / "f.json")
        result = run_cli(
            "evaluate", model, "--data", tiny_data, *given_places(noisy_places), *places
        )
        assert result.status == 0, result.err
        assert f"{report / 'report.html'}: the report" in result.out
        assert (report / "report.html").read_text(encoding="utf-8").count("<img") == 6
        found[model] = json.loads((tmp_path / "f.json").read_text(encoding="utf-8"))
        threshold = found[model]["detection"]["threshold"]
        told = (
            f"threshold {threshold:g} stored; export again"
            if model is bundle
            else f"a .tflite is not changed; to store threshold {threshold:g}, give the bundle"
        )
        assert f"{model}: {told}" in result.out
        assert "cannot be verified" not in result.out
    ours, theirs = found.values()
    assert ours["detection"] == theirs["detection"]
    assert ours["detection"]["false_alarms_per_hour"] <= 100
    assert ours["calibration"]["ece"] == pytest.approx(theirs["calibration"]["ece"], abs=1e-3)
    assert [p["snr_db"] for p in ours["noise"]] == [None, 20, 15, 10, 5, 0, -5]
    # The figures of the bundle are those with the threshold that it was given.
    assert (ours["threshold"], theirs["threshold"]) == (0, theirs["detection"]["threshold"])
    decision = read_bundle(bundle).decision
    assert decision.threshold == theirs["threshold"]
    assert decision.threshold_budget == 100
    assert decision.threshold_hours == pytest.approx(60 / 3600)


def test_a_bundle_is_left_alone_without_a_budget(
    tiny_bundle: Path, tiny_data: Path, noisy_places: Path, run_cli: Run
) -> None:
    before = read_bundle(tiny_bundle).sha256
    arguments = ("evaluate", tiny_bundle, "--data", tiny_data)
    result = run_cli(*arguments, "--background", noisy_places / "long")
    assert result.status == 0
    assert "stored" not in result.out
    assert read_bundle(tiny_bundle).sha256 == before


def test_json_on_standard_output_stays_json_when_a_threshold_is_picked(
    tiny_tflite: Path, tiny_data: Path, noisy_places: Path, run_cli: Run
) -> None:
    arguments = ("evaluate", tiny_tflite, "--data", tiny_data, "--json", "-")
    result = run_cli(*arguments, *given_places(noisy_places)[2:])
    assert json.loads(result.out)["detection"]["budget"] == 100
    assert "a .tflite is not changed" in result.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--false-alarms-per-hour", "0.5"), "--false-alarms-per-hour 0.5: there is nothing to"),
        (
            ("--command-snr", "6"),
            "--command-snr 6: there is nothing to count false alarms on; give",
        ),
        (("--noise", "{gone}"), "gone: no such file"),
        (("--background", "{gone}"), "gone: no such file"),
        (("--noise", "{empty}"), "empty: folder without recordings, expected sound files in it"),
        (("--background", "{empty}"), "empty: folder without recordings"),
        (("--noise", "{zeros}"), "zeros.wav: holds nothing but zeros, expected noise that can be"),
        (("--background", "{short}"), "short.wav: is too short for a background: 0.20 s, expected"),
        (("--noise", "{text}"), "text.wav: cannot be read as audio"),
        (("--report", "{text}"), "text.wav: is a file, expected a folder for report.html"),
        (
            ("--background", "{zeros}", "--false-alarms-per-hour", "-1"),
            "--false-alarms-per-hour -1.0: expected a number, 0 or more",
        ),
        (
            ("--background", "{zeros}", "--false-alarms-per-hour", "nan"),
            "--false-alarms-per-hour nan: expected a number, 0 or more",
        ),
    ],
)
def test_a_call_that_cannot_work_is_one_line_and_status_2(
    tiny_tflite: Path, tiny_data: Path, write_audio: Write, tmp_path: Path, run_cli: Run,
    options: tuple[str, ...], words: str,
) -> None:  # fmt: skip
    write_audio("zeros.wav", np.zeros(16000), TINY_RATE_HZ)
    write_audio("short.wav", tone(440, 0.2, TINY_RATE_HZ), TINY_RATE_HZ)
    (tmp_path / "text.wav").write_text("no audio", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    names = {"gone": "gone", "empty": "empty"} | {n: f"{n}.wav" for n in ("zeros", "short", "text")}
    places = {name: str(tmp_path / file) for name, file in names.items()}
    given = [option.format(**places) for option in options]
    result = run_cli("evaluate", tiny_tflite, "--data", tiny_data, *given)
    assert result.status == 2
    assert result.out == ""
    assert result.err.startswith("speechrnn evaluate: error: ")
    assert words in result.err
    assert len(result.err.splitlines()) == 1
