"""How well a command grammar is kept to: phrases understood against other speech taken for one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from speechrnn.decoding.margin import Margin
from speechrnn.decoding.sequence import SequenceDecoder
from speechrnn.errors import ConfigError, DataError
from speechrnn.progress import progress
from speechrnn.recognize import Model, batches_by_length
from speechrnn.spread import evenly

# Points of the curve; the margin itself is picked among all that occurred.
MOST_POINTS = 50
# What each symbol may add to the margin: the logarithm of so many words to choose from, and several
# times that for a model that is too sure of itself.
PER_SYMBOL = (0.0, 1.0, 2.0, 4.0, 8.0, 12.0, 16.0, 24.0)


def measure_grammar(
    model: Model, texts: Sequence[str], waveforms: Sequence[np.ndarray], budget: float | None
) -> dict[str, Any]:
    """Recognise every utterance with the model's grammar, and pick the margin for a budget.

    Args:
        model: Guided by a grammar.
        texts: What was said; what the grammar does not allow should be rejected.
        waveforms: Float32 ``[samples]`` each, at the model's rate.
        budget: Largest share of the utterances outside the grammar that may be taken for a phrase;
            None keeps the margin that the model is guided with.

    Returns:
        ``inside`` and ``outside`` (utterances), ``budget``, ``margin`` and ``margin_per_symbol``
        (those with which most is right within the budget), ``right`` (share of those
        inside that are understood), ``false_accepts`` (share of those outside that are taken for a
        phrase), ``kept`` (whether the margin keeps to the budget; None without one), ``curve`` (a
        list of margin, right and false accepts, with what a symbol adds as picked); shares are None
        where there is nothing to count, and the margin where every phrase is taken however far it
        is.

    Raises:
        ConfigError: The budget is no share, or the model has no grammar.
        DataError: A budget, and no utterance outside the grammar to count on.
    """
    decoder = model.decoder
    if not isinstance(decoder, SequenceDecoder) or decoder.search.grammar is None:
        raise ConfigError("--false-accepts: there is nothing to accept; give --grammar")
    if budget is not None and not 0 <= budget < 1:
        raise ConfigError(f"--false-accepts {budget}: expected a share, 0 <= x < 1")
    free = dataclasses.replace(
        decoder, search=dataclasses.replace(decoder.search, grammar_margin=Margin())
    )
    inside = np.array([free.allows(text) for text in texts], bool)
    if budget is not None and inside.all():
        raise DataError(
            "no utterance lies outside the grammar, expected some to fit the share of false "
            "accepts on; add utterances that are none of its phrases"
        )
    deficit, right = np.full(len(texts), math.inf), np.zeros(len(texts), bool)
    heard = np.zeros(len(texts))
    for chosen in progress(batches_by_length(waveforms), "grammar", unit="batch"):
        answers = model.answer_many([waveforms[i] for i in chosen])
        for i, answer in zip(chosen, answers, strict=True):
            best = free.search.best(answer, free.decision.symbol_cost)
            if best is not None:
                deficit[i], heard[i] = free.deficit(answer, best.ids)
                right[i] = free.spelling.text(best.ids) == free.expected(texts[i])
    utterances = _Utterances(inside, right, deficit, heard)
    margin, within = decoder.search.grammar_margin, None
    if budget is not None:
        margin, within = utterances.pick(budget)
    bases = utterances.bases(margin.per_symbol)
    shown = evenly(bases, MOST_POINTS)
    return {
        "inside": int(inside.sum()),
        "outside": int((~inside).sum()),
        "budget": budget,
        "kept": within,
        **utterances.point(margin),
        "margin_per_symbol": margin.per_symbol,
        "curve": [utterances.point(Margin(base, margin.per_symbol)) for base in shown],
    }


@dataclasses.dataclass(frozen=True)
class _Utterances:
    """What each of them was, with arrays ``[utterances]``; see :meth:`Margin.allows`."""

    inside: np.ndarray
    right: np.ndarray
    deficit: np.ndarray
    heard: np.ndarray

    def point(self, margin: Margin) -> dict[str, Any]:
        """What a margin gives."""
        near, inside = margin.allows(self.deficit, self.heard), self.inside
        accepted = near & np.isfinite(self.deficit)
        return {
            "margin": margin.base if math.isfinite(margin.base) else None,
            "right": float((self.right & accepted)[inside].mean()) if inside.any() else None,
            "false_accepts": None if inside.all() else float(accepted[~inside].mean()),
        }

    def bases(self, per_symbol: float) -> list[float]:
        """Every margin that is just enough for an utterance, and one that is enough for none."""
        found = (self.deficit - per_symbol * self.heard)[np.isfinite(self.deficit)]
        least = 0.0 if not per_symbol else min(found.min(initial=0.0) - 1, 0.0)
        return np.unique(np.append(found, least)).tolist()

    def pick(self, budget: float) -> tuple[Margin, bool]:
        """The margin with which most is right within the budget; whether there is one."""
        # Even margin 0 accepts what is heard as a phrase; nothing but better ears helps there.
        best, most_right = Margin(0.0), -1.0
        for per_symbol in PER_SYMBOL:
            bases = self.bases(per_symbol)
            points = [self.point(Margin(base, per_symbol)) for base in bases]
            kept = sum(point["false_accepts"] <= budget for point in points)
            if kept and (points[kept - 1]["right"] or 0.0) > most_right:
                most_right = points[kept - 1]["right"] or 0.0
                # Not on the edge of an utterance, which rounding would move.
                beyond = bases[kept] if kept < len(bases) else bases[kept - 1]
                best = Margin((bases[kept - 1] + beyond) / 2, per_symbol)
        return best, most_right >= 0


def fitted_margin(found: Mapping[str, Any]) -> Margin:
    """The margin that :func:`measure_grammar` picked, or counted with."""
    base = math.inf if found["margin"] is None else found["margin"]
    return Margin(base, found["margin_per_symbol"])


def describe_grammar(found: Mapping[str, Any]) -> str:
    """The figures of :func:`measure_grammar` in a sentence."""

    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.2f} %"

    missed = "; no margin keeps to the budget" if found["kept"] is False else ""
    return (
        f"grammar: {share(found['right'])} of {found['inside']} phrases understood, "
        f"{share(found['false_accepts'])} of {found['outside']} other utterances taken for one, at "
        f"margin {fitted_margin(found)}{missed}"
    )
