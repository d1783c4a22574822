"""What a person adds to a model that hears sequences: a grammar, a language model, hot words."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speechrnn.decoding.ctc import Scorer
from speechrnn.decoding.grammar import Grammar
from speechrnn.decoding.jsgf import parse_grammar
from speechrnn.decoding.ngram import NgramScorer, read_arpa
from speechrnn.decoding.recurrent_lm import Rescorer, read_recurrent
from speechrnn.decoding.scorers import HotWords
from speechrnn.decoding.sequence import Search, SequenceDecoder
from speechrnn.errors import ConfigError, LabelError
from speechrnn.files import reading_text
from speechrnn.recognize import Model
from speechrnn.spelling import Spelling

# Settings, and what they are of.
DEPENDENT = {
    "grammar_margin": "grammar",
    "lm_weight": "lm",
    "word_bonus": "lm",
    "rescore_weight": "rescore",
    "boost": "hot_words",
}


@dataclass(frozen=True)
class Guidance:
    """How the words of an utterance are looked for; nothing set takes the best path.

    Attributes:
        beam: Prefixes that are followed; 0: as many as what else is set needs.
        grammar: A file of phrases (``decoding.jsgf``).
        grammar_margin: How much less likely than what is heard freely a phrase may be (a natural
            logarithm); None: the model's, or if it has none the nearest phrase whatever was said.
        lm: A language model, a file in the ARPA format.
        lm_weight: Of its logarithms.
        word_bonus: What each word adds, with a language model.
        rescore: A recurrent language model (``speechrnn lm --kind gru``), asked at the end about
            each hypothesis of the beam.
        rescore_weight: Of its logarithms.
        hot_words: Words and phrases that are said gladly.
        boost: What each symbol of them adds, a natural logarithm.
    """

    beam: int = 0
    grammar: str | Path | None = None
    grammar_margin: float | None = None
    lm: str | Path | None = None
    lm_weight: float = 0.5
    word_bonus: float = 0.0
    rescore: str | Path | None = None
    rescore_weight: float = 0.5
    hot_words: Sequence[str] = ()
    boost: float = 2.0

    def __post_init__(self) -> None:
        for name, low in (
            ("beam", 0),
            ("lm_weight", 0),
            ("rescore_weight", 0),
            ("word_bonus", -math.inf),
            ("boost", -math.inf),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= low):
                raise ConfigError(f"--{_option(name)} {value}: expected {_range(low)}")
        if self.grammar_margin is not None and not self.grammar_margin >= 0:
            raise ConfigError(f"--grammar-margin {self.grammar_margin}: expected 0 or more")
        for setting, needed in DEPENDENT.items():
            given = getattr(self, setting) != type(self).__dataclass_fields__[setting].default
            if given and not getattr(self, needed):
                raise ConfigError(
                    f"--{_option(setting)} {getattr(self, setting)}: changes nothing without "
                    f"--{_option(needed)}"
                )


def _option(name: str) -> str:
    return name.replace("_", "-")


def _range(low: float) -> str:
    return "a number" if math.isinf(low) else f"a number, {low} or more"


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
    margin = guidance.grammar_margin
    if margin is None:
        margin = math.inf if model.grammar_margin is None else model.grammar_margin
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
