"""How well a command grammar is kept to: phrases understood against other speech taken for one."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from speechrnn.decoding.sequence import SequenceDecoder
from speechrnn.errors import ConfigError, DataError
from speechrnn.progress import progress
from speechrnn.recognize import Model, batches_by_length

# Points of the curve; the margin itself is picked among all that occurred.
MOST_POINTS = 50


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
        ``inside`` and ``outside`` (utterances), ``budget``, ``margin``, ``right`` (share of those
        inside that are understood), ``false_accepts`` (share of those outside that are taken for a
        phrase), ``kept`` (whether the margin keeps to the budget; None without one), ``curve`` (a
        list of margin, right and false accepts); shares are None where there is nothing to count,
        and the margin where every phrase is taken however far it is.

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
        decoder, search=dataclasses.replace(decoder.search, grammar_margin=math.inf)
    )
    inside = np.array([free.allows(text) for text in texts], bool)
    if budget is not None and inside.all():
        raise DataError(
            "no utterance lies outside the grammar, expected some to fit the share of false "
            "accepts on; add utterances that are none of its phrases"
        )
    deficit, right = np.full(len(texts), math.inf), np.zeros(len(texts), bool)
    for chosen in progress(batches_by_length(waveforms), "grammar", unit="batch"):
        answers = model.answer_many([waveforms[i] for i in chosen])
        for i, answer in zip(chosen, answers, strict=True):
            best = free.search.best(answer, free.decision.symbol_cost)
            if best is not None:
                deficit[i] = free.deficit(answer, best.ids)
                right[i] = free.spelling.text(best.ids) == free.expected(texts[i])

    def point(margin: float) -> dict[str, Any]:
        accepted = deficit <= margin
        return {
            "margin": margin if math.isfinite(margin) else None,
            "right": float((right & accepted)[inside].mean()) if inside.any() else None,
            "false_accepts": None if inside.all() else float(accepted[~inside].mean()),
        }

    margins = np.unique(np.append(deficit[np.isfinite(deficit)], 0.0))
    margin, within = decoder.search.grammar_margin, None
    if budget is not None:
        kept = [m for m in margins if point(m)["false_accepts"] <= budget]
        # Even margin 0 accepts what is heard as a phrase; nothing but better ears helps there.
        margin, within = float(max(kept, default=0.0)), bool(kept)
        beyond = margins[margins > margin]
        if within and len(beyond):  # not on the edge of an utterance, which rounding would move
            margin = float(margin + beyond[0]) / 2
    shown = margins[:: -(-len(margins) // MOST_POINTS)]
    return {
        "inside": int(inside.sum()),
        "outside": int((~inside).sum()),
        "budget": budget,
        "kept": within,
        **point(margin),
        "curve": [point(float(margin)) for margin in shown],
    }


def describe_grammar(found: Mapping[str, Any]) -> str:
    """The figures of :func:`measure_grammar` in a sentence."""

    def share(value: float | None) -> str:
        return "-" if value is None else f"{100 * value:.2f} %"

    margin = "any" if found["margin"] is None else f"{found['margin']:.3g}"
    missed = "; no margin keeps to the budget" if found["kept"] is False else ""
    return (
        f"grammar: {share(found['right'])} of {found['inside']} phrases understood, "
        f"{share(found['false_accepts'])} of {found['outside']} other utterances taken for one, at "
        f"margin {margin}{missed}"
    )
