"""Text to symbols and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechrnn.errors import LabelError
from speechrnn.labels import Labels
from speechrnn.spelling import Spelling

COMMANDS = ("in", "one", "out", "zoom in", "zoom out", "نعم")
WORDS = Spelling(Labels(COMMANDS), "words")
LETTERS = Spelling.from_texts(["gone on", "نعم", "éa"], "characters", commands=True)


@given(st.lists(st.sampled_from(COMMANDS), max_size=6))
def test_words_come_back_and_a_command_of_several_is_one(said: list[str]):
    ids = WORDS.ids(" ".join(said))
    assert WORDS.text(ids) == " ".join(said)
    assert [word for word, _, _ in WORDS.words(ids)] == said
    assert [word for word, _ in WORDS.units(" ".join(said))] == said


@given(st.lists(st.text(alphabet="goneaنعمé", min_size=1, max_size=4), max_size=4))
def test_letters_come_back_with_boundaries_between_words(said: list[str]):
    text = " ".join(said)
    ids = LETTERS.ids(text)
    assert LETTERS.text(ids) == text
    assert ids.count(LETTERS.boundary) == max(0, len(said) - 1)
    for (word, symbols), (again, first, behind) in zip(
        LETTERS.units(text), LETTERS.words(ids), strict=True
    ):
        assert word == again
        assert symbols == ids[first:behind]


def test_a_model_s_boundaries_at_the_ends_and_twice_say_nothing():
    edge = LETTERS.boundary
    g, o = (LETTERS.labels.id_of(letter) for letter in "go")
    assert LETTERS.text([edge, g, edge, edge, o, edge]) == "g o"


def test_letters_are_composed_and_sorted_and_the_boundary_is_first():
    assert LETTERS.labels.symbols == ("|", *sorted("goneaنعمé"))
    assert LETTERS.ids("e\u0301") == [LETTERS.labels.id_of("é")]


@pytest.mark.parametrize(
    ("commands", "symbols"), [(True, ("on", "turn on")), (False, ("on", "turn"))]
)
def test_symbols_are_commands_or_the_words_of_utterances(commands: bool, symbols: tuple[str, ...]):
    found = Spelling.from_texts(["turn on", "on", ""], "words", commands=commands)
    assert found.labels.symbols == symbols


@pytest.mark.parametrize(
    ("spelling", "text", "named"),
    [
        (WORDS, "one two", "'two'"),
        (WORDS, "zoom", "'zoom'"),
        (LETTERS, "gone!", "'!'"),
        (LETTERS, "go|on", "between two words"),
    ],
)
def test_what_cannot_be_spelled_is_named(spelling: Spelling, text: str, named: str):
    with pytest.raises(LabelError) as error:
        spelling.ids(text)
    assert text in str(error.value)
    assert named in str(error.value)


def test_known_words_that_make_no_command_are_refused():
    spelling = Spelling(Labels(("in", "zoom in now", "zoom out")), "words")
    with pytest.raises(LabelError, match="'zoom'"):
        spelling.ids("zoom in")


@pytest.mark.parametrize("symbols", [("twenty", "five", "twenty five"), ("on", "turn", "turn on")])
def test_a_command_that_others_make_up_together_is_refused(symbols: tuple[str, ...]):
    with pytest.raises(LabelError, match="in a row"):
        Spelling.from_texts(symbols, "words", commands=True)
    assert len(Spelling.from_texts(symbols, "words", commands=False).labels) == 2


def test_letters_that_combine_to_another_come_back_as_that():
    spelling = Spelling(Labels(("|", "e", "\u0301")), "characters")
    assert spelling.text([2, 3]) == "é"
