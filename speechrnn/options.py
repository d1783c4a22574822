"""What a person may ask for: of a model that hears sequences, and of chance; quick to import."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from speechrnn.errors import ConfigError

# The largest seed that numpy and Keras both take.
MOST_SEED = 2**32 - 1
# Prefixes: more cost gigabytes, and find nothing more.
MOST_BEAM = 10_000
# Settings that name files.
FILES = ("grammar", "lm", "rescore")
# Settings, and what they are of.
DEPENDENT = {
    "grammar_margin": "grammar",
    "grammar_margin_per_symbol": "grammar_margin",
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
        grammar_margin_per_symbol: What each symbol that is heard freely adds to it.
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
    grammar_margin_per_symbol: float = 0.0
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
            ("grammar_margin_per_symbol", 0),
            ("lm_weight", 0),
            ("rescore_weight", 0),
            ("word_bonus", -math.inf),
            ("boost", -math.inf),
        ):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= low):
                raise ConfigError(f"--{_option(name)} {value}: expected {_range(low)}")
        if self.beam > MOST_BEAM:
            raise ConfigError(f"--beam {self.beam}: expected at most {MOST_BEAM:,} prefixes")
        margin, more = self.grammar_margin, self.grammar_margin_per_symbol
        if margin is not None and not (margin >= 0 or (more and math.isfinite(margin))):
            raise ConfigError(
                f"--grammar-margin {margin}: expected 0 or more, or less than 0 together with "
                "--grammar-margin-per-symbol"
            )
        for setting, needed in DEPENDENT.items():
            if self._given(setting) and not self._given(needed):
                raise ConfigError(
                    f"--{_option(setting)} {getattr(self, setting)}: changes nothing without "
                    f"--{_option(needed)}"
                )

    def _given(self, setting: str) -> bool:
        value, default = getattr(self, setting), type(self).__dataclass_fields__[setting].default
        return bool(value != default)


def _option(name: str) -> str:
    return name.replace("_", "-")


def _range(low: float) -> str:
    return "a number" if math.isinf(low) else f"a number, {low} or more"
