"""Grammars against all that they say, written out; slots; and every wrong file named."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechrnn.decoding.ctc import beam_search
from speechrnn.decoding.grammar import Grammar, Phrase
from speechrnn.decoding.jsgf import (
    Alternatives,
    Expansion,
    Parts,
    Reference,
    Repeated,
    Rules,
    Tagged,
    Words,
    parse_grammar,
)
from speechrnn.errors import ConfigError
from speechrnn.labels import Labels
from speechrnn.spelling import Spelling

WORDS = ("turn", "switch", "the", "kitchen", "living", "room", "light", "on", "off", "please")
LIGHTS = """#JSGF V1.0;
grammar home;  // of a house
public <command> = (turn | switch) the <room> light <state> [please];
<room> = kitchen | living room {lounge};
/* what it
   becomes */
<state> = on | off;
"""
LINES = """
(turn | switch) the <room> light <state> [please]
<room> = kitchen | living room {lounge}
<state> = on | off
"""


def spell(text: str) -> list[tuple[str, list[int]]]:
    return Spelling(Labels(WORDS), "words").units(text)


def compiled(text: str) -> Grammar:
    return Grammar(parse_grammar(text, "home.jsgf"), 1 + len(WORDS), spell, name="home.jsgf")


def ids(text: str) -> list[int]:
    return Spelling(Labels(WORDS), "words").ids(text)


def accepts(grammar: Grammar, symbols: list[int]) -> bool:
    state = grammar.start()
    for symbol in symbols:
        if grammar.scores(state)[symbol] == -np.inf:
            return False
        state = grammar.advance(state, symbol)
    return grammar.final(state) == 0


@pytest.mark.parametrize("text", [LIGHTS, LINES], ids=["jsgf", "lines"])
def test_a_grammar_says_its_phrases_and_nothing_else(text: str):
    grammar = compiled(text)
    said = {
        " ".join(filter(None, parts))
        for parts in itertools.product(
            ("turn", "switch"),
            ("the",),
            ("kitchen", "living room"),
            ("light",),
            ("on", "off"),
            ("", "please"),
        )
    }
    assert all(accepts(grammar, ids(phrase)) for phrase in said)
    for phrase in said:
        for place in range(len(phrase.split())):
            words = phrase.split()
            del words[place]
            shorter = " ".join(words)
            assert accepts(grammar, ids(shorter)) == (shorter in said)
            assert (grammar.match(ids(shorter)) is not None) == (shorter in said)


@pytest.mark.parametrize("text", [LIGHTS, LINES], ids=["jsgf", "lines"])
def test_slots_hold_the_words_or_the_tag(text: str):
    found = compiled(text).match(ids("turn the living room light off please"))
    assert found == Phrase(
        "turn the living room light off please", (("room", "lounge"), ("state", "off"))
    )
    found = compiled(text).match(ids("switch the kitchen light on"))
    assert found is not None
    assert found.slots == (("room", "kitchen"), ("state", "on"))


def test_slots_within_slots_and_repetitions():
    grammar = compiled("<many>\n<many> = <one>+ please\n<one> = light {L} | room")
    found = grammar.match(ids("light room please"))
    assert found is not None
    assert found.slots == (("many", "L"), ("one", "L"), ("one", "room"))
    assert not accepts(grammar, ids("please"))


def test_a_beam_stays_within_the_grammar():
    grammar = compiled("turn on | switch off")
    rng = np.random.default_rng(0)
    for _ in range(20):
        logits = rng.standard_normal((8, 1 + len(WORDS)))
        log_probs = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
        said = {h.ids for h in beam_search(log_probs, scorer=grammar)}
        assert said
        assert said <= {tuple(ids("turn on")), tuple(ids("switch off"))}


def test_characters_are_spelled_with_a_boundary_between_words():
    symbols = ["|", *"abc"]
    spelling = Spelling(Labels(tuple(symbols)), "characters")
    grammar = Grammar(parse_grammar("ab [c] b"), 5, spelling.units, boundary=1)
    for text, expected in (("ab|b", True), ("ab|c|b", True), ("|ab|b", False), ("abb", False)):
        symbol_ids = [1 + symbols.index(c) for c in text]
        assert accepts(grammar, symbol_ids) == expected
        assert (grammar.match(symbol_ids) is not None) == expected
    assert grammar.match([2, 3, 1, 3]) == Phrase("ab b", ())


# ------------------------------------------------------------------ against all that rules say

ATOMS = st.sampled_from(["on", "off", "light"]).map(Words)
EXPANSIONS = st.recursive(
    ATOMS | st.just(Reference("state")),
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda parts: Parts(tuple(parts)))
        | st.lists(inner, min_size=1, max_size=3).map(lambda parts: Alternatives(tuple(parts)))
        | st.tuples(inner, st.integers(0, 1)).map(lambda pair: Repeated(*pair))
        | inner.map(lambda part: Tagged(part, "T"))
    ),
    max_leaves=6,
)
STATE = Alternatives((Words("on"), Words("off")))


def language(expansion: Expansion, most: int) -> set[tuple[str, ...]]:
    """All that an expansion says in at most so many words."""
    if isinstance(expansion, Words):
        return {tuple(expansion.text.split())}
    if isinstance(expansion, Reference):
        return language(STATE, most)
    if isinstance(expansion, Tagged):
        return language(expansion.part, most)
    if isinstance(expansion, Alternatives):
        return set().union(*(language(choice, most) for choice in expansion.choices))
    if isinstance(expansion, Parts):
        return set(_joined([language(part, most) for part in expansion.parts], most))
    once = language(expansion.part, most) | ({()} if expansion.at_least == 0 else set())
    said = once
    for _ in range(most):
        said = said | set(_joined([said, once], most))
    return said


def _joined(parts: list[set[tuple[str, ...]]], most: int) -> Iterator[tuple[str, ...]]:
    for chosen in itertools.product(*parts):
        words = tuple(itertools.chain(*chosen))
        if len(words) <= most:
            yield words


@settings(max_examples=150, deadline=None)
@given(expansion=EXPANSIONS)
def test_the_automaton_says_what_the_rules_say(expansion: Expansion):
    rules = Rules({"all": expansion, "state": STATE}, ("all",))
    expected = language(expansion, 3)
    try:
        grammar = Grammar(rules, 1 + len(WORDS), spell)
    except ConfigError:
        assert expected <= {()}
        return
    for length in range(4):
        for words in itertools.product(("on", "off", "light"), repeat=length):
            symbols = ids(" ".join(words))
            assert accepts(grammar, symbols) == (words in expected)
            found = grammar.match(symbols)
            assert (found is not None) == (words in expected)
            if found:
                assert found.text == " ".join(words)


# ------------------------------------------------------------------ wrong files


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "holds no phrase"),
        ("#JSGF V1.0;", "grammar NAME"),
        ("#JSGF V1.0; grammar a;", "no public rule"),
        ("#JSGF V1.0; grammar a; <b> = on;", "no public rule"),
        ("#JSGF V1.0; grammar a; public <b> = on", '";" at the end of rule <b>'),
        ("#JSGF V1.0; grammar a; public <b> = on; <b> = off;", "<b> is defined twice"),
        ("#JSGF V1.0; grammar a; import <c.d>; public <b> = on;", "import is not supported"),
        ("turn on)", "behind the end"),
        ("(turn on", "expected \")\", got 'the end'"),
        ("turn | | off", "<NULL> says nothing"),
        ("turn <where>", "unknown rule <where>"),
        ("turn on\n<room> = kitchen", "no phrase leads to rule <room>"),
        ("<a>\n<a> = on <b>\n<b> = off <a>", "<a> -> <b> -> <a>"),
        ("/2/ turn | /1/ switch", "weights such as /2/ are not supported"),
        ("turn = on", "behind the end"),
        ("(" * 60 + "on" + ")" * 60, "more than 50 brackets"),
        ("turn on\n<a = off", "expected a word"),
        ("<VOID>", "allows no words at all"),
        ("<NULL>", "allows no words at all"),
        ("turn on the lamp | lantern | lamp", "no symbols for 'lamp', 'lantern'"),
    ],
)
def test_a_wrong_grammar_is_named(text: str, named: str):
    with pytest.raises(ConfigError) as error:
        compiled(text)
    assert "home.jsgf" in str(error.value)
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_rules_that_double_one_another_stop_at_a_limit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("speechrnn.decoding.grammar.MOST_STATES", 1000)
    rules = ["<r0> = on"] + [f"<r{i}> = <r{i - 1}> <r{i - 1}>" for i in range(1, 30)]
    with pytest.raises(ConfigError, match="more than 1,000 states"):
        compiled("\n".join([*rules, "<r29>"]))


def test_rules_too_deep_to_be_followed_are_one_line():
    chain = "".join(f"<r{n}> = go <r{n + 1}>;\n" for n in range(2000))
    text = f"#JSGF V1.0;\ngrammar deep;\npublic <a> = <r0>;\n{chain}<r2000> = on;\n"
    with pytest.raises(ConfigError, match="more than 100 rules that each need the next"):
        compiled(text)


def test_the_header_may_lack_its_semicolon_and_have_a_comment_before_it():
    text = "// of a house; really\n#JSGF V1.0\ngrammar home;\npublic <state> = on | off;"
    assert accepts(compiled(text), ids("off"))


def test_what_looks_like_a_comment_in_tags_and_quotes_is_none():
    text = 'on {see http://x/y} /* no tag */ | "off" {a /* b */} // nor this\n'
    for written in (text, f"#JSGF V1.0; grammar g; public <state> = {text};"):
        grammar = compiled(written)
        assert accepts(grammar, ids("on"))
        assert accepts(grammar, ids("off"))


def test_a_command_of_several_words_may_be_one_symbol():
    spelling = Spelling(Labels(("in", "out", "zoom in", "zoom out", "now")), "words")
    for text in ("zoom (in | out) now", 'zoom in now | "zoom out" now'):
        with_phrase = parse_grammar(text)
        if text.startswith("zoom ("):  # no symbol says "zoom" alone
            with pytest.raises(ConfigError, match="no symbols for 'zoom'"):
                Grammar(with_phrase, 6, spelling.units)
            continue
        grammar = Grammar(with_phrase, 6, spelling.units)
        assert grammar.match(spelling.ids("zoom out now")) == Phrase("zoom out now", ())
        assert accepts(grammar, [3, 5])
        assert not accepts(grammar, [1, 5])


@pytest.mark.parametrize(
    "text", ["<room> light\n<room> = kitchen {K} | hall", "[on] <room>\n<room> = hall"]
)
def test_a_spelled_phrase_may_begin_with_a_slot(text: str):
    spelling = Spelling.from_texts(["kitchen hall light on"], "characters", commands=False)
    grammar = Grammar(parse_grammar(text), 20, spelling.units, boundary=spelling.boundary)
    said = "kitchen light" if "light" in text else "hall"
    found = grammar.match(spelling.ids(said))
    assert found == Phrase(said, (("room", "K" if "light" in text else "hall"),))
    assert accepts(grammar, spelling.ids(said))


@pytest.mark.parametrize("symbols", ["words", "characters"])
def test_a_phrase_may_say_nothing_whatever_the_symbols(symbols: str):
    spelling = Spelling.from_texts(["on"], symbols, commands=False)
    rules = parse_grammar("on | <NULL>")
    grammar = Grammar(rules, 5, spelling.units, boundary=spelling.boundary)
    assert grammar.match([]) == Phrase("", ())
    assert grammar.final(grammar.start()) == 0
    assert accepts(grammar, spelling.ids("on"))
