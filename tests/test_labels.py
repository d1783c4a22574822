"""Labels: the same set gives the same ids, whatever the order, the machine, or the Unicode form."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechrnn.errors import LabelError
from speechrnn.labels import BLANK_ID, Labels, normalise_text

# Any text but lone surrogates, which are no characters.
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
WORD = TEXT.map(normalise_text).filter(bool)
# Composed (one letter) and decomposed (a letter and a mark) forms of the same word.
TWO_FORMS = [
    ("caf\u00e9", "cafe\u0301"),
    ("\u0622\u0644\u0629", "\u0627\u0653\u0644\u0629"),  # آلة: alef with madda
    ("\u0645\u0624\u0645\u0646", "\u0645\u0648\u0654\u0645\u0646"),  # مؤمن: waw with hamza
    ("\u1ebft", "e\u0302\u0301t"),
]


@given(st.lists(WORD, unique=True), st.randoms())
def test_the_order_of_the_texts_does_not_matter(words: list[str], random: Random) -> None:
    shuffled = words * 2
    random.shuffle(shuffled)
    assert Labels.from_texts(shuffled) == Labels.from_texts(words)


@given(st.lists(WORD, unique=True, min_size=1))
def test_ids_start_after_the_blank_and_lead_back_to_the_text(words: list[str]) -> None:
    labels = Labels.from_texts(words)
    ids = [labels.id_of(text) for text in labels.symbols]
    assert ids == list(range(BLANK_ID + 1, len(labels) + 1))
    assert tuple(labels.text_of(i) for i in ids) == labels.symbols


def test_the_order_does_not_depend_on_the_hash_seed() -> None:
    script = (
        "from speechrnn.labels import Labels;"
        "print(Labels.from_texts({'stop', 'go', 'turn on', 'left', 'right', 'oui'}).symbols)"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(4)
    }
    assert outputs == {"('go', 'left', 'oui', 'right', 'stop', 'turn on')\n"}


@pytest.mark.parametrize(("composed", "decomposed"), TWO_FORMS)
def test_both_unicode_forms_of_a_word_are_one_label(composed: str, decomposed: str) -> None:
    assert composed != decomposed
    labels = Labels.from_texts([decomposed, composed, "other"])
    assert len(labels) == 2
    assert labels.id_of(decomposed) == labels.id_of(composed)
    assert labels.text_of(labels.id_of(decomposed)) == composed


@given(TEXT)
def test_normalising_twice_changes_nothing_more(text: str) -> None:
    once = normalise_text(text)
    assert normalise_text(once) == once
    assert unicodedata.is_normalized("NFC", once)


def test_white_space_of_any_kind_is_one_space() -> None:
    assert normalise_text("  turn\u00a0\t on\u2028\r\n") == "turn on"


@pytest.mark.parametrize(
    ("symbols", "said"),
    [
        (("",), "label '': is empty, expected text"),
        ((" go",), "label ' go': expected 'go'"),
        (("turn  on",), "expected 'turn on'"),
        (("cafe\u0301",), "NFC"),
        (("go", "stop", "go"), "label 'go' stands twice"),
        (("caf\udce9",), "label 'caf\\\\udce9': is no UTF-8 text; rename its folder"),
    ],
)
def test_symbols_that_no_model_can_carry_are_refused(symbols: tuple[str, ...], said: str) -> None:
    with pytest.raises(LabelError, match=said):
        Labels(symbols)


def test_an_unknown_text_is_refused_with_the_known_ones() -> None:
    with pytest.raises(LabelError, match=r"^unknown label 'Go'; the model knows go, stop$"):
        Labels(("go", "stop")).id_of("Go")


def test_a_long_list_of_known_labels_is_shortened() -> None:
    labels = Labels.from_texts(f"word{i}" for i in range(1000))
    with pytest.raises(LabelError) as caught:
        labels.id_of("x")
    assert str(caught.value).endswith(" ...")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("symbol_id", [BLANK_ID, -1, 3])
def test_an_id_of_no_label_is_refused(symbol_id: int) -> None:
    with pytest.raises(LabelError, match=f"label id {symbol_id}: expected 1 to 2"):
        Labels(("go", "stop")).text_of(symbol_id)
