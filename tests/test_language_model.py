"""Language models: what they add up to, what a small one must be, and what a file holds."""

from __future__ import annotations

import io
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.ctc import path_score

from speechrnn.decoding.ctc import beam_search
from speechrnn.decoding.ngram import (
    BEGIN,
    END,
    UNKNOWN,
    Ngrams,
    NgramScorer,
    arpa_text,
    read_arpa,
)
from speechrnn.errors import ConfigError
from speechrnn.labels import Labels
from speechrnn.language_model import read_sentences, train_ngrams
from speechrnn.spelling import Spelling

TEXT = ["turn on the light", "turn off the light", "switch on the light please", "the light", "on"]
SENTENCES = st.lists(
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=5).map(" ".join), min_size=1, max_size=12
)


@settings(max_examples=60, deadline=None)
@given(sentences=SENTENCES, order=st.integers(1, 4))
def test_what_may_follow_adds_up_to_one_behind_anything(sentences: list[str], order: int):
    model = train_ngrams(sentences, order)
    contexts = {gram[:-1] for gram in model.log10} | {("z",), ("a", "z"), (BEGIN, "b", "a", "d")}
    for context in contexts:
        total = sum(10 ** model.log10_of(word, context) for word in (*model.words, END, UNKNOWN))
        assert total == pytest.approx(1, abs=1e-9)


def test_a_model_of_one_word_is_that_of_the_formula():
    model = train_ngrams(["a a", "a"], 2)
    # Continuation counts: "a" follows <s> and "a"; </s> follows "a" alone. Too few for the
    # discounts to be counted, so .5, 1, 1.5. Unigrams: a (2 - 1) / 3 + 1.5 / 3 / 3 words.
    backed = (0.5 + 1) / 3
    a, end = 1 / 3 + backed / 3, 0.5 / 3 + backed / 3
    assert 10 ** model.log10[("a",)] == pytest.approx(a)
    assert 10 ** model.log10[(END,)] == pytest.approx(end)
    assert 10 ** model.log10[(UNKNOWN,)] == pytest.approx(backed / 3)
    # Bigrams behind "a": "a" once, </s> twice, of three.
    assert 10 ** model.log10[("a", END)] == pytest.approx((2 - 1) / 3 + (0.5 + 1) / 3 * end)
    assert 10 ** model.backoff[("a",)] == pytest.approx(0.5)


def test_what_was_said_is_likelier_than_what_was_not():
    model = train_ngrams(TEXT, 3)
    said, never = ["turn", "on", "the", "light"], ["light", "the", "on", "turn"]
    assert model.sentence_log10(said) > model.sentence_log10(never) + 1
    assert model.log10_of("lamp", ["the"]) == model.log10_of(UNKNOWN, ["the"])


def test_unknown_words_count_as_such_before_others_too():
    # As SRILM's -unk and KenLM have it.
    log10 = {("<s>",): -9.0, ("</s>",): -0.5, (UNKNOWN,): -1.0, ("stop",): -0.7, ("go",): -0.9}
    model = Ngrams(2, {**log10, (UNKNOWN, "stop"): -0.1}, {(UNKNOWN,): -0.2, ("<s>",): -0.3})
    assert model.log10_of("stop", ["what"]) == pytest.approx(-0.1)
    assert model.log10_of("go", ["what"]) == pytest.approx(-1.1)
    assert model.sentence_log10(["what", "stop"]) == pytest.approx(-0.3 - 1.0 - 0.1 - 0.5)


def test_standard_input_is_read_as_a_file_is(monkeypatch: pytest.MonkeyPatch):
    for content, said in ((b"\xef\xbb\xbfzoom in\n", None), (b"\xff\xfe zoom\n", "is not UTF-8")):
        text = io.TextIOWrapper(io.BytesIO(content), "ascii", "surrogateescape")
        monkeypatch.setattr("sys.stdin", text)
        if said is None:
            assert read_sentences("-") == ["zoom in"]
        else:
            with pytest.raises(ConfigError, match=said):
                read_sentences("-")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(ConfigError, match="is closed"):
        read_sentences("-")


@settings(max_examples=30, deadline=None)
@given(sentences=SENTENCES, order=st.integers(1, 3))
def test_a_model_comes_back_from_its_file(
    sentences: list[str], order: int, tmp_path_factory: pytest.TempPathFactory
):
    file = tmp_path_factory.mktemp("arpa") / "lm.arpa"
    model = train_ngrams(sentences, order)
    file.write_text(arpa_text(model), encoding="utf-8")
    found = read_arpa(file)
    assert arpa_text(found) == arpa_text(model)
    for sentence in [*sentences, "a z b"]:
        expected = model.sentence_log10(sentence.split())
        assert found.sentence_log10(sentence.split()) == pytest.approx(expected, abs=1e-5)


# What SRILM writes for this, by hand: a header, tabs, and a back-off where there is one.
BY_HAND = """
\\data\\
ngram 1=4
ngram 2=2

\\1-grams:
-99\t<s>\t-0.30103
-0.60206\ton\t-0.1
-0.60206\toff
-0.30103\t</s>

\\2-grams:
-0.1\t<s> on
-0.2\ton </s>

\\end\\
"""


def by_hand(tmp_path: Path, text: str = BY_HAND) -> Path:
    file = tmp_path / "hand.arpa"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_file_of_another_program_is_read(tmp_path: Path):
    model = read_arpa(by_hand(tmp_path))
    assert model.sentence_log10(["on"]) == pytest.approx(-0.1 - 0.2)
    assert model.sentence_log10(["off"]) == pytest.approx(-0.30103 - 0.60206 - 0.30103)
    assert model.sentence_log10(["on", "off"]) == pytest.approx(-0.1 - 0.1 - 0.60206 - 0.30103)
    assert model.log10_of("lamp", []) == -7


@pytest.mark.parametrize(
    ("cut", "named"),
    [
        (lambda text: "", "lacks \\data\\"),
        (lambda text: text[: text.index("-0.2")], "has 1 2-grams, expected 2"),
        (lambda text: text[: text.index("\\2-grams")], "expected \\2-grams:"),
        (lambda text: text[: text.index("\\end")], "lacks \\end\\"),
        (lambda text: text.replace("ngram 1=4", "ngram 3=4"), "counts n-grams of [3, 2]"),
        (lambda text: text.replace("ngram 1=4", "ngram one"), "expected ngram ORDER=COUNT"),
        (lambda text: text.replace("-0.2\ton </s>", "-0.2\ton"), "2 words"),
        (lambda text: text.replace("-0.2\t", "often\t"), "expected log10 of a probability"),
        (lambda text: text.replace("-0.2\t", "nan\t"), "expected log10 of a probability"),
        (lambda text: text.replace("-0.2\t", "0.2\t"), "expected log10 of a probability"),
    ],
)
def test_a_damaged_file_is_named(cut, named: str, tmp_path: Path):
    file = by_hand(tmp_path, cut(BY_HAND))
    with pytest.raises(ConfigError) as error:
        read_arpa(file)
    assert str(file) in str(error.value)
    assert named in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match="cannot be read"):
        read_arpa(tmp_path / "none.arpa")


@pytest.mark.parametrize(
    ("sentences", "order", "named"),
    [
        ([], 3, "no words"),
        (["", " "], 3, "no words"),
        (["a"], 0, "1 to 6"),
        (["a"], 7, "1 to 6"),
        (["a <s>"], 2, "'<s>'"),
    ],
)
def test_a_text_of_no_use_is_refused(sentences: list[str], order: int, named: str):
    with pytest.raises(ConfigError, match=named):
        train_ngrams(sentences, order)


# ------------------------------------------------------------------ guiding a search

WORDS = Spelling(Labels(("light", "off", "on", "the", "turn on")), "words")
LETTERS = Spelling(Labels(("|", *"efghilnorstu")), "characters")


@pytest.mark.parametrize("spelling", [WORDS, LETTERS], ids=["words", "letters"])
@pytest.mark.parametrize("text", ["turn on the light", "the on", "off", ""])
def test_a_path_adds_what_the_model_says_of_its_sentence(spelling: Spelling, text: str):
    model = train_ngrams(TEXT, 3)
    scorer = NgramScorer(model, spelling, weight=0.7, word_bonus=0.3)
    words = text.split()
    expected = 0.7 * math.log(10) * model.sentence_log10(words) + 0.3 * len(words)
    assert path_score(scorer, spelling.ids(text)) == pytest.approx(expected)


def test_the_search_prefers_what_the_model_expects():
    on, the = (WORDS.ids(word)[0] for word in ("on", "the"))
    log_probs = np.full((5, 6), -8.0)
    log_probs[(0, 1, 2, 3, 4), (on, 0, the, 0, on)] = -0.01
    log_probs[4, WORDS.ids("light")[0]] = -0.9
    assert beam_search(log_probs)[0].ids == (on, the, on)
    scorer = NgramScorer(train_ngrams(TEXT, 3), WORDS)
    assert beam_search(log_probs, scorer=scorer)[0].ids == (on, the, WORDS.ids("light")[0])


@pytest.mark.parametrize("spelling", [WORDS, LETTERS], ids=["words", "letters"])
def test_a_model_of_another_alphabet_is_refused(spelling: Spelling):
    model: Ngrams = train_ngrams(["نعم لا", "لا"], 2)
    with pytest.raises(ConfigError, match=r"arabic\.arpa: none of its 2 words"):
        NgramScorer(model, spelling, name="arabic.arpa")
