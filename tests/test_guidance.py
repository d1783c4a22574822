"""Grammar, language model and hot words, from the command line to what is heard."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Run, call
from model_fixtures import LABELS, shared_bundle, shared_tflite, sweep

from speechrnn.bundle import read_bundle
from speechrnn.clock import StepClock
from speechrnn.command_grammar import describe_grammar, fitted_margin, measure_grammar
from speechrnn.datasets.manifest import Utterance
from speechrnn.decoding import Decision, Transcript, make_decoder
from speechrnn.decoding.margin import Margin
from speechrnn.errors import ConfigError, DataError, ModelError
from speechrnn.evaluate import evaluate_model
from speechrnn.export import export_bundle
from speechrnn.guidance import Guidance, guide
from speechrnn.recognize import load_model

YES, NO, GO = (LABELS.id_of(word) for word in ("yes", "no", "go"))


class Heard:
    """A model that hears what it is told to: the first sample says which of its answers."""

    sample_rate_hz, min_samples = 8000, 1
    threshold, temperature, grammar_margin = 0.0, 1.0, None
    path, labels = Path("heard"), LABELS

    def __init__(self, answers: list[np.ndarray]) -> None:
        self.decoder = make_decoder(
            "log_probs", {"symbols": "words"}, LABELS, StepClock(0.02, 0.04), Decision()
        )
        self._answers = answers

    def answer_many(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        return [self._answers[int(waveform[0])] for waveform in waveforms]

    def transcribe_many(self, waveforms: list[np.ndarray]) -> list[Transcript]:
        return [self.decoder.decode(answer, 1.0) for answer in self.answer_many(waveforms)]

    def transcribe(self, recording: object) -> Transcript:
        raise NotImplementedError


def said(*symbols: int, second: dict[int, int] | None = None, sure: float = 0.9) -> np.ndarray:
    """Each symbol for a step, and a blank; ``second`` says what else the n-th may have been."""
    rows = []
    for place, symbol in enumerate(symbols):
        for column in (symbol, 0):
            row = np.full(1 + len(LABELS), 0.01)
            other = (second or {}).get(place)
            if other and column:
                row[other] = 1 - sure
            row[column] = sure
            rows.append(np.log(row / row.sum()))
    return np.array(rows, np.float32).reshape(len(rows), 1 + len(LABELS))


def waveforms(count: int) -> list[np.ndarray]:
    return [np.array([n], np.float32) for n in range(count)]


def guided(model: Heard, tmp_path: Path, grammar: str = "", **settings: object) -> Heard:
    if grammar:
        (tmp_path / "g.txt").write_text(grammar, encoding="utf-8")
        settings["grammar"] = tmp_path / "g.txt"
    guide(model, Guidance(**settings))  # type: ignore[arg-type]
    return model


def test_a_grammar_takes_the_nearest_phrase_and_fills_its_slots(tmp_path: Path):
    heard = Heard([said(YES, NO, second={1: GO}, sure=0.6), said(YES, GO)])
    grammar = "yes <what>\n<what> = go {forward}"
    first, second = guided(heard, tmp_path, grammar).transcribe_many(waveforms(2))
    assert (first.text, second.text) == ("yes go", "yes go")
    assert first.slots == second.slots == (("what", "forward"),)
    assert [word.text for word in first.words] == ["yes", "go"]
    assert first.confidence < second.confidence


def test_what_a_grammar_does_not_allow_is_expected_to_be_nothing(tmp_path: Path):
    decoder = guided(Heard([]), tmp_path, "yes go").decoder
    assert decoder.expected("yes go") == "yes go"
    for other in ("no", "_silence_", "banana split", ""):
        assert decoder.expected(other) == ""


def test_rescoring_picks_among_what_the_beam_found(tmp_path: Path):
    (tmp_path / "text").write_text("yes go\n" * 40 + "no\n" * 4, encoding="utf-8")
    result = call(
        "lm", tmp_path / "text", "--to", tmp_path / "lm.npz", "--kind", "gru", "--units", 8
    )
    assert result.status == 0, result.err
    heard = Heard([said(YES, NO, second={1: GO}, sure=0.55)])
    guided(heard, tmp_path, rescore=tmp_path / "lm.npz", rescore_weight=1.0)
    assert heard.transcribe_many(waveforms(1))[0].text == "yes go"


def test_a_guide_replaces_the_one_before(tmp_path: Path):
    heard = guided(Heard([said(NO)]), tmp_path, "yes go")
    assert guided(heard, tmp_path).transcribe_many(waveforms(1))[0].text == "no"


def test_with_a_margin_what_is_no_phrase_is_rejected(tmp_path: Path):
    heard = Heard([said(YES, NO, second={1: GO}, sure=0.6), said(NO, NO)])
    guided(heard, tmp_path, "yes go", grammar_margin=3.0)
    near, far = heard.transcribe_many(waveforms(2))
    assert near.text == "yes go"
    assert (far.text, far.words) == ("", ())


def test_where_a_model_has_a_margin_it_is_the_default(tmp_path: Path):
    heard = Heard([said(NO, NO)])
    heard.grammar_margin = Margin(0.5)  # type: ignore[assignment]
    assert guided(heard, tmp_path, "yes go").transcribe_many(waveforms(1))[0].text == ""


def test_each_symbol_that_is_heard_freely_adds_to_the_margin(tmp_path: Path):
    second = {1: GO}
    short, long = said(YES, NO, second=second), said(YES, NO, NO, YES, second=second)
    heard = Heard([short, long, said(NO, GO)])
    # A word is taken for another at odds of 9 to 1: 2.2 as a logarithm.
    longer = {"grammar_margin": -1.5, "grammar_margin_per_symbol": 1.0}
    guided(heard, tmp_path, "yes go [no yes]\nno go", **longer)
    assert [found.text for found in heard.transcribe_many(waveforms(3))] == [
        "",  # up to -1.5 + 2
        "yes go no yes",  # up to -1.5 + 4
        "no go",  # what is heard as a phrase is one
    ]


def test_what_a_symbol_adds_to_the_margin_is_picked_too(tmp_path: Path):
    # Two words are nearer to a phrase than four are, but only the four were meant to be one.
    answers = [said(YES, NO, second={1: GO})] * 3
    answers += [said(YES, NO, NO, YES, second={1: GO}, sure=0.95)] * 3
    texts = ["yes no"] * 3 + ["yes go no yes"] * 3
    heard = guided(Heard(answers), tmp_path, "yes go [no yes]")
    found = measure_grammar(heard, texts, waveforms(6), 0.0)
    assert (found["right"], found["false_accepts"], found["kept"]) == (1.0, 0.0, True)
    margin = fitted_margin(found)
    assert margin.per_symbol > 0
    assert str(margin) in describe_grammar(found)
    settings = {
        "grammar_margin": margin.base,
        "grammar_margin_per_symbol": margin.per_symbol,
    }
    guided(heard, tmp_path, "yes go [no yes]", **settings)
    answered = [one.text for one in heard.transcribe_many(waveforms(6))]
    assert answered == [""] * 3 + ["yes go no yes"] * 3


def test_hot_words_and_a_language_model_turn_what_is_nearly_heard(tmp_path: Path):
    answer = said(YES, NO, second={1: GO}, sure=0.55)
    assert Heard([answer]).transcribe_many(waveforms(1))[0].text == "yes no"
    hot = guided(Heard([answer]), tmp_path, hot_words=["yes go"], boost=1.0)
    assert hot.transcribe_many(waveforms(1))[0].text == "yes go"
    (tmp_path / "text").write_text("yes go\nyes go\nno\n", encoding="utf-8")
    result = call("lm", tmp_path / "text", "--to", tmp_path / "lm.arpa", "--order", 2)
    assert result.status == 0, result.err
    expected = guided(Heard([answer]), tmp_path, lm=tmp_path / "lm.arpa", lm_weight=1.0)
    assert expected.transcribe_many(waveforms(1))[0].text == "yes go"


def test_the_margin_for_a_share_of_false_accepts_is_picked(tmp_path: Path):
    # Two phrases, one heard badly; ten other utterances, one of them almost a phrase.
    answers = [said(YES, GO), said(YES, NO, second={1: GO}, sure=0.7)]
    answers += [said(NO, NO)] * 9 + [said(YES, NO, second={1: GO}, sure=0.8)]
    texts = ["yes go"] * 2 + ["no no"] * 9 + ["yes no"]
    heard = guided(Heard(answers), tmp_path, "yes go")
    found = measure_grammar(heard, texts, waveforms(12), 0.05)
    assert (found["inside"], found["outside"]) == (2, 10)
    assert (found["right"], found["false_accepts"]) == (1.0, 0.0)
    loose = measure_grammar(heard, texts, waveforms(12), 0.1)
    assert loose["false_accepts"] == pytest.approx(0.1)
    assert loose["margin"] > found["margin"] > 0
    every = measure_grammar(heard, texts, waveforms(12), None)
    assert (every["false_accepts"], every["margin"], every["kept"]) == (1.0, None, None)
    assert found["kept"]
    strict = measure_grammar(guided(Heard([said(YES)]), tmp_path, "yes"), ["no"], waveforms(1), 0)
    assert (strict["kept"], strict["margin"]) == (False, 0)
    assert "no margin keeps to the budget" in describe_grammar(strict)
    accepts = [point["false_accepts"] for point in found["curve"]]
    assert accepts == sorted(accepts)
    assert "100.00 % of 2 phrases understood" in describe_grammar(found)


def test_with_a_grammar_other_speech_is_right_where_it_is_rejected(tmp_path: Path):
    rows = []
    for n, text in enumerate(["yes go", "no no"]):
        soundfile.write(tmp_path / f"{n}.wav", np.full(100, float(n)), 8000, subtype="FLOAT")
        rows.append(Utterance(tmp_path / f"{n}.wav", text, "ann"))
    heard = guided(Heard([said(YES, GO), said(NO, NO)]), tmp_path, "yes go")
    found = evaluate_model(heard, rows, data_name="two", false_accepts=0.1)
    assert found["accuracy"] == 1
    assert found["wer"] == 0
    assert found["grammar"]["false_accepts"] == 0


def test_a_margin_is_stored_in_the_bundle_and_goes_into_the_file(tmp_path: Path):
    bundle = Path(shutil.copytree(shared_bundle("sequences"), tmp_path / "bundle"))
    for n in range(6):
        clip = sweep(8000 + 4000 * n, seed=n)
        soundfile.write(tmp_path / f"{n}.wav", clip, 16000, subtype="FLOAT")
    texts = ["yes", "_silence_", "no no", "go no", "no no yes", "go go"]
    rows = [
        json.dumps({"audio_filepath": f"{n}.wav", "text": text}) + "\n"
        for n, text in enumerate(texts)
    ]
    (tmp_path / "d.jsonl").write_text("".join(rows), encoding="utf-8")
    (tmp_path / "g.txt").write_text("yes", encoding="utf-8")
    data = ("--data", tmp_path / "d.jsonl", "--grammar", tmp_path / "g.txt")
    figures = ("--json", tmp_path / "f.json")
    result = call("evaluate", bundle, *data, *figures, "--false-accepts", 0.5)
    assert result.status == 0, result.err
    found = json.loads((tmp_path / "f.json").read_text())["grammar"]
    assert (found["inside"], found["outside"]) == (1, 5)
    assert found["kept"]
    margin = fitted_margin(found)
    assert f"grammar margin {margin} stored" in result.out
    decision = read_bundle(bundle).decision
    assert (decision.margin, decision.grammar_false_accepts) == (margin, 0.5)
    assert load_model(bundle).grammar_margin == margin
    file = export_bundle(bundle, tmp_path / "m.tflite").path
    assert load_model(file).grammar_margin == margin
    again = call("evaluate", file, *data, "--false-accepts", 0.5)
    assert "a .tflite is not changed" in again.out


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"beam": -1}, "--beam -1"),
        ({"beam": 10**8}, "--beam 100000000: expected at most 10,000 prefixes"),
        ({"lm_weight": float("nan")}, "--lm-weight nan"),
        ({"boost": float("inf"), "hot_words": ["yes"]}, "--boost inf"),
        ({"grammar_margin": -1.0}, "--grammar-margin -1.0"),
        ({"grammar_margin": 1.0}, "without --grammar"),
        ({"grammar_margin_per_symbol": 1.0}, "without --grammar-margin"),
        ({"grammar_margin_per_symbol": -1.0}, "--grammar-margin-per-symbol -1.0"),
        ({"lm_weight": 0.3}, "without --lm"),
        ({"rescore_weight": 0.3}, "without --rescore"),
        ({"boost": 1.0}, "without --hot-words"),
        ({"hot_words": ["yes maybe"]}, "'maybe'"),
        ({"hot_words": [" "]}, "says nothing"),
        ({"grammar": "none.txt"}, "none.txt: cannot be read"),
        ({"lm": "none.arpa"}, "none.arpa: cannot be read"),
    ],
)
def test_a_guide_of_no_use_is_named(settings: dict, named: str):
    with pytest.raises(ConfigError) as error:
        guide(Heard([]), Guidance(**settings))
    assert named in str(error.value)


def test_a_model_of_one_label_takes_no_guide(tiny_bundle: Path, run_cli: Run, tmp_path: Path):
    result = run_cli("transcribe", tiny_bundle, tmp_path / "a.wav", "--beam", 4)
    assert result.status == 2
    assert "answers with one label" in result.err


def test_a_budget_needs_a_grammar_and_something_outside_it(tmp_path: Path):
    with pytest.raises(ConfigError, match="give --grammar"):
        measure_grammar(Heard([]), [], [], 0.1)
    heard = guided(Heard([said(YES)]), tmp_path, "yes")
    with pytest.raises(DataError, match="outside the grammar"):
        measure_grammar(heard, ["yes"], waveforms(1), 0.1)
    with pytest.raises(ConfigError, match="expected a share"):
        measure_grammar(heard, ["yes"], waveforms(1), 1.5)


def test_records_hold_slots_where_there_is_a_grammar(tmp_path: Path, run_cli: Run, write_audio):
    file = write_audio("a.wav", np.zeros(16000))
    (tmp_path / "g.txt").write_text("<a>\n<a> = yes | no go", encoding="utf-8")
    result = run_cli(
        "transcribe", shared_tflite("sequences"), file, "--grammar", tmp_path / "g.txt"
    )
    assert result.status == 0, result.err
    record = json.loads(result.out)
    assert record["text"] in ("yes", "no go")
    assert record["slots"] == [["a", record["text"]]]


def test_an_answer_of_another_kind_is_refused():
    with pytest.raises(ModelError, match="'spectrum'"):
        make_decoder("spectrum", {}, LABELS, StepClock(0, 1), Decision())


@pytest.mark.parametrize("head", [{}, {"symbols": "phones"}, {"symbols": None}])
def test_symbols_of_another_kind_are_refused(head: dict[str, str | None]):
    with pytest.raises(ModelError, match="expected words or characters"):
        make_decoder("log_probs", head, LABELS, StepClock(0, 1), Decision())


def test_lm_refuses_to_overwrite_and_reads_standard_input(
    tmp_path: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
):
    import io

    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"go\nno go\n")))
    out = tmp_path / "lm.arpa"
    assert run_cli("lm", "-", "--to", out).status == 0
    again = run_cli("lm", "-", "--to", out)
    assert again.status == 2
    assert "exists" in again.err
    missing = run_cli("lm", tmp_path / "none", "--to", tmp_path / "b.arpa")
    assert (missing.status, missing.err.count("\n")) == (2, 1)
