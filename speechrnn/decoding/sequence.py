"""CTC log-probabilities -> words with their times and confidences. numpy alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from speechrnn.clock import StepClock, apart
from speechrnn.decoding.align import align
from speechrnn.decoding.calibration import confidence_of
from speechrnn.decoding.ctc import (
    BEAM_WIDTH,
    Hypothesis,
    Scorer,
    SymbolCost,
    beam_search,
    greedy,
)
from speechrnn.decoding.decision import Decision
from speechrnn.decoding.grammar import Grammar
from speechrnn.decoding.likelihood import log_likelihood
from speechrnn.decoding.margin import Margin
from speechrnn.decoding.scorers import Together
from speechrnn.decoding.transcript import Transcript, Word
from speechrnn.errors import LabelError, ModelError
from speechrnn.labels import SILENCE
from speechrnn.spelling import Spelling


@dataclass(frozen=True)
class Search:
    """How the words of an utterance are looked for.

    Attributes:
        width: Prefixes that the beam follows; 0: those that it needs where something guides it,
            and the best path where nothing does.
        scorers: Language models and hot words, which guide the beam.
        grammar: Phrases to which it keeps.
        grammar_margin: How much less likely than what is heard without the grammar its phrase may
            be; more, and it was none of its phrases.
        rescore: Adds to the score of each of the beam's hypotheses at the end: symbols -> score.
    """

    width: int = 0
    scorers: tuple[Scorer, ...] = ()
    grammar: Grammar | None = None
    grammar_margin: Margin = field(default_factory=Margin)
    rescore: Callable[[Sequence[int]], float] | None = None

    def best(self, log_probs: np.ndarray, cost: float = 0.0) -> Hypothesis | None:
        """The best of what may be said, where each symbol costs so much; None where nothing may."""
        guides = (*self.scorers, *([self.grammar] if self.grammar else []))
        if not self.width and not guides and self.rescore is None:
            return greedy(log_probs, cost)
        if cost:
            guides = (*guides, SymbolCost(cost, log_probs.shape[1]))
        width = self.width or BEAM_WIDTH
        found = beam_search(log_probs, width=width, scorer=Together(guides) if guides else None)
        if not found or self.rescore is None:
            return found[0] if found else None
        rescore = self.rescore
        return max(found, key=lambda one: one.log_score + rescore(one.ids))


@dataclass(frozen=True)
class SequenceDecoder:
    """Turns a CTC model's answer into a transcript."""

    spelling: Spelling
    clock: StepClock
    decision: Decision = field(default_factory=Decision)
    search: Search = field(default_factory=Search)

    @property
    def has_grammar(self) -> bool:
        """Whether a command grammar says what may be answered."""
        return self.search.grammar is not None

    def with_grammar_margin(self, margin: Margin) -> SequenceDecoder:
        """The same with another margin of its grammar."""
        return replace(self, search=replace(self.search, grammar_margin=margin))

    @property
    def words(self) -> tuple[str, ...]:
        """The words that it may say, where each is a symbol."""
        return self.spelling.labels.symbols if self.spelling.symbols == "words" else ()

    def expected(self, text: str) -> str:
        """The text as the model spells it; nothing for silence and what a grammar forbids."""
        if text == SILENCE or (self.search.grammar and not self.allows(text)):
            return ""
        return self.spelling.text(self.spelling.ids(text))

    def allows(self, text: str) -> bool:
        """Whether the text is a phrase of the grammar; without one every text is allowed."""
        grammar = self.search.grammar
        if grammar is None:
            return True
        try:
            return text != SILENCE and grammar.match(self.spelling.ids(text)) is not None
        except LabelError:  # other words than the model's
            return False

    def units(self, text: str) -> list[str]:
        """The words, commands of several words as one."""
        return [word for word, _ in self.spelling.units(text)]

    def decode(
        self, answer: np.ndarray, duration_s: float, *, threshold: float = 0.0
    ) -> Transcript:
        """The words of an utterance.

        Their times are those of the best path that spells them (Viterbi). What a model believes of
        an utterance is the probability of its symbols over all paths, of a word the product over
        its symbols of the highest probability that each has in its place; confidences are what the
        model's decision makes of that.

        Args:
            answer: Natural logarithms, float32 ``[steps, columns]``.
            duration_s: Length of the recording.
            threshold: With less confidence than this it is rejected: its text is "", it has no
                words, and the confidence is that of what it would have been.

        Raises:
            ModelError: The shape is another, or the model answered something that is no number.
        """
        columns = 1 + len(self.spelling.labels)
        if answer.ndim != 2 or answer.shape[1] != columns:
            raise ModelError(
                f"the model answered {list(answer.shape)} values, expected [steps, {columns}], the "
                "blank and its symbols"
            )
        best = self.search.best(answer, self.decision.symbol_cost)
        if best is None:
            return Transcript("", 0.0, duration_s, ())
        likelihood = log_likelihood(answer, best.ids)
        confidence = confidence_of(likelihood, self.decision.utterance_confidence)
        slots: tuple[tuple[str, str], ...] = ()
        if self.search.grammar:
            if not self.search.grammar_margin.allows(*self.deficit(answer, best.ids)):
                return Transcript("", confidence, duration_s, ())
            phrase = self.search.grammar.match(best.ids)
            slots = phrase.slots if phrase else ()
        if confidence < threshold:
            return Transcript("", confidence, duration_s, ())
        words = self._words(answer, best.ids, duration_s)
        return Transcript(self.spelling.text(best.ids), confidence, duration_s, words, slots)

    def deficit(self, answer: np.ndarray, ids: Sequence[int]) -> tuple[float, int]:
        """How much less likely symbols are than what is heard freely, and how many that has.

        The first is a natural logarithm, 0 or more.
        """
        free = greedy(answer, self.decision.symbol_cost).ids
        if free == tuple(ids):
            return 0.0, len(free)
        return max(0.0, log_likelihood(answer, free) - log_likelihood(answer, ids)), len(free)

    def _words(self, answer: np.ndarray, ids: Sequence[int], duration_s: float) -> tuple[Word, ...]:
        found = align(answer, ids)
        if found is None:  # a beam found a path, so there is one
            return ()
        likely = [
            float(answer[start:end, symbol].max())
            for symbol, (start, end) in zip(ids, found.spans, strict=True)
        ]
        words = self.spelling.words(ids)
        steps = [(found.spans[first][0], found.spans[behind - 1][1]) for _, first, behind in words]
        return tuple(
            Word(
                text,
                start,
                end,
                confidence_of(sum(likely[first:behind]), self.decision.word_confidence),
            )
            for (text, first, behind), (start, end) in zip(
                words, self._places(steps, duration_s), strict=True
            )
        )

    def _places(
        self, steps: Sequence[tuple[int, int]], duration_s: float
    ) -> list[tuple[float, float]]:
        """Where words begin and end, in seconds: one behind the other, within the recording."""
        moved = self.clock.begins(np.reshape(steps, (-1, 2))) + self.decision.word_edges
        middles = moved.mean(axis=1)  # in which a word ends that would end before it begins
        starts, ends = np.minimum(moved[:, 0], middles), np.maximum(moved[:, 1], middles)
        within = np.clip(apart(starts, ends), 0.0, duration_s)
        return list(zip(*within.tolist(), strict=True))
