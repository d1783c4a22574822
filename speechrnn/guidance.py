"""What a person adds to a model that hears sequences: a grammar, a language model, hot words."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from speechrnn.decoding.ctc import Scorer
from speechrnn.decoding.grammar import Grammar
from speechrnn.decoding.jsgf import parse_grammar
from speechrnn.decoding.margin import Margin
from speechrnn.decoding.ngram import NgramScorer, read_arpa
from speechrnn.decoding.recurrent_lm import Rescorer, read_recurrent
from speechrnn.decoding.scorers import HotWords
from speechrnn.decoding.sequence import Search, SequenceDecoder
from speechrnn.errors import ConfigError, LabelError
from speechrnn.files import reading_text
from speechrnn.options import Guidance as Guidance
from speechrnn.recognize import Model
from speechrnn.spelling import Spelling


def guide(model: Model, guidance: Guidance) -> None:
    """Have the model look for words as ``guidance`` says, from now on.

    Raises:
        ConfigError: The model answers with one label, or a file or setting is of no use to it.
    """
    decoder = model.decoder
    if not isinstance(decoder, SequenceDecoder):
        if guidance == Guidance():
            return
        raise ConfigError(
            f"{model.path}: answers with one label, so no beam, grammar, language model or hot "
            "words can guide it; expected a model with a CTC head"
        )
    spelling = decoder.spelling
    margin = model.grammar_margin or Margin()
    if guidance.grammar_margin is not None:
        margin = Margin(guidance.grammar_margin, guidance.grammar_margin_per_symbol)
    search = Search(
        width=guidance.beam,
        scorers=tuple(_scorers(guidance, spelling)),
        grammar=read_grammar(guidance.grammar, spelling) if guidance.grammar else None,
        grammar_margin=margin,
        rescore=_rescorer(guidance, spelling) if guidance.rescore else None,
    )
    model.decoder = dataclasses.replace(decoder, search=search)


def read_grammar(path: str | Path, spelling: Spelling) -> Grammar:
    """A file of phrases, for a model with these symbols.

    Raises:
        ConfigError: It cannot be read, has an error, or says what the model cannot spell.
    """
    with reading_text(path):
        text = Path(path).read_text(encoding="utf-8")
    rules = parse_grammar(text, str(path))
    columns = 1 + len(spelling.labels)
    return Grammar(rules, columns, spelling.units, boundary=spelling.boundary, name=str(path))


def _rescorer(guidance: Guidance, spelling: Spelling) -> Rescorer:
    name = str(guidance.rescore)
    return Rescorer(read_recurrent(name), spelling, weight=guidance.rescore_weight, name=name)


def _scorers(guidance: Guidance, spelling: Spelling) -> list[Scorer]:
    found: list[Scorer] = []
    if guidance.lm:
        found.append(
            NgramScorer(
                read_arpa(guidance.lm),
                spelling,
                weight=guidance.lm_weight,
                word_bonus=guidance.word_bonus,
                name=str(guidance.lm),
            )
        )
    if guidance.hot_words:
        try:
            phrases = [spelling.ids(phrase) for phrase in guidance.hot_words]
        except LabelError as error:
            raise ConfigError(f"--hot-words: {error}") from error
        columns = 1 + len(spelling.labels)
        found.append(HotWords(phrases, columns, guidance.boost, boundary=spelling.boundary))
    return found
