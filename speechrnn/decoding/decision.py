"""From probabilities to an answer, or to none: what a trained model is given after its training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from speechrnn.decoding.margin import Margin
from speechrnn.errors import ConfigError


@dataclass(frozen=True)
class Decision:
    """How far a model's confidences are to be trusted; stored in the bundle and in the .tflite.

    Attributes:
        temperature: What the logits are divided by (Guo et al. 2017, arXiv:1706.04599); over 1
            for a model that is too sure of itself. The served probabilities hold it already.
        threshold: An answer of less confidence is none. 0 accepts every answer.
        threshold_budget: False alarms an hour that the threshold was picked for.
        threshold_hours: Hours of background that it was picked on.
        grammar_margin: A phrase of a command grammar that is less likely than what is heard freely
            by more than this natural logarithm was not said. None takes the nearest phrase.
        grammar_margin_per_symbol: What each symbol that is heard freely adds to it.
        grammar_false_accepts: Share of utterances outside a grammar that it was picked for.
        utterance_confidence: Slope and offset of the log-odds that an utterance of several words
            is right (Platt 1999), against what the model believes.
        word_confidence: The same for each of its words.
        symbol_cost: What each symbol of a sequence costs, a natural logarithm (``ctc.greedy``).
        word_edges: Seconds that are added to the start and to the end of each word: a model may
            answer with it at some part of it.
    """

    temperature: float = 1.0
    threshold: float = 0.0
    threshold_budget: float | None = None
    threshold_hours: float | None = None
    grammar_margin: float | None = None
    grammar_margin_per_symbol: float = 0.0
    grammar_false_accepts: float | None = None
    utterance_confidence: tuple[float, float] = (1.0, 0.0)
    word_confidence: tuple[float, float] = (1.0, 0.0)
    symbol_cost: float = 0.0
    word_edges: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, tuple):
                self._check_line(field.name, value)
                continue
            if value is None and field.default is None:
                continue
            least = -math.inf if field.name == "grammar_margin" else 0
            if type(value) not in (int, float) or not math.isfinite(value) or value < least:
                expected = "a number" if least else "a number, 0 or more"
                raise ConfigError(f"decision.{field.name}: got {value!r}, expected {expected}")
        if self.temperature == 0:
            raise ConfigError("decision.temperature: got 0, expected more than 0")
        if self.threshold > 1:
            raise ConfigError(f"decision.threshold: got {self.threshold}, expected 0 to 1")

    @property
    def margin(self) -> Margin | None:
        """How far a grammar's phrase may be; None: as far as it likes."""
        if self.grammar_margin is None:
            return None
        return Margin(self.grammar_margin, self.grammar_margin_per_symbol)

    def _check_line(self, name: str, value: Any) -> None:
        numbers = isinstance(value, tuple) and len(value) == 2
        if not (numbers and all(type(v) in (int, float) and math.isfinite(v) for v in value)):
            raise ConfigError(f"decision.{name}: got {value!r}, expected two numbers")

    @classmethod
    def read(cls, mapping: Any) -> Decision:
        """From what a .tflite says, whose newer keys an older reader ignores.

        Raises:
            ConfigError: No mapping, or a value of no use.
        """
        if not isinstance(mapping, Mapping):
            raise ConfigError(f"decision: got {mapping!r}, expected a section of settings")
        known = {field.name for field in dataclasses.fields(cls)}
        settings: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in mapping.items()
            if key in known
        }
        return cls(**settings)
