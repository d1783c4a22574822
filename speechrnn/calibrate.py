"""After training: the temperature that makes a model's confidences honest on other recordings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from speechrnn.bundle import read_bundle, replace_decision
from speechrnn.counting import word_pairs
from speechrnn.decoding import Decision
from speechrnn.decoding.calibration import fit_log_odds, fit_temperature, log_probabilities
from speechrnn.decoding.margin import Margin
from speechrnn.decoding.sequence import SequenceDecoder
from speechrnn.progress import progress
from speechrnn.recognize import Model, batches_by_length, load_model

# Costs of a symbol that are tried; the least of those with the fewest errors is kept.
SYMBOL_COSTS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)

if TYPE_CHECKING:
    from speechrnn.model import SpeechModel


def model_decision(
    model: SpeechModel, waveforms: Sequence[np.ndarray], texts: Sequence[str]
) -> Decision:
    """The decision for a model with its trained weights; the model is left as it is.

    Args:
        model: A model.
        waveforms: Recordings that the model did not learn from, float32 ``[samples]`` each.
        texts: What is said in each: what the model's labels spell.
    """
    from speechrnn.keras_recognizer import KerasRecognizer

    temperature, model.temperature = model.temperature, 1.0
    try:
        return _fit(KerasRecognizer.of(model, Decision()), waveforms, texts)
    finally:
        model.temperature = temperature


def calibrate_bundle(
    bundle: str | Path, waveforms: Sequence[np.ndarray], texts: Sequence[str]
) -> Decision:
    """Fit the confidences of a saved bundle; its threshold and its grammar's margin are taken back.

    Another temperature gives other confidences, so a threshold picked before means nothing.

    Args:
        bundle: A bundle, which is replaced by one that differs in its decision alone.
        waveforms: Recordings that the model did not learn from, float32 ``[samples]`` each, at
            the model's rate.
        texts: What is said in each: what the model's labels spell.

    Raises:
        ModelError: The bundle is not intact.
        LabelError: The model's labels do not spell a text.
        OutputError: The bundle cannot be written.
    """
    model = load_model(bundle)
    found = _fit(model, waveforms, texts)
    found = dataclasses.replace(found, temperature=model.temperature * found.temperature)
    replace_decision(bundle, found)
    return found


def store_threshold(
    bundle: str | Path, threshold: float, budget: float | None = None, hours: float | None = None
) -> None:
    """Have every runtime of the bundle reject what is less confident than ``threshold``.

    ``budget`` and ``hours`` say for how many false alarms an hour it was picked, and on how many
    hours of background.

    Raises:
        ModelError: The bundle is not intact.
        OutputError: It cannot be written.
    """
    old = read_bundle(bundle).decision
    changed = dataclasses.replace(
        old, threshold=threshold, threshold_budget=budget, threshold_hours=hours
    )
    replace_decision(bundle, changed)


def store_grammar_margin(bundle: str | Path, margin: Margin, false_accepts: float) -> None:
    """Have every runtime of the bundle reject what keeps further from a grammar than ``margin``.

    Raises:
        ModelError: The bundle is not intact.
        OutputError: It cannot be written.
    """
    old = read_bundle(bundle).decision
    changed = dataclasses.replace(
        old,
        grammar_margin=margin.base,
        grammar_margin_per_symbol=margin.per_symbol,
        grammar_false_accepts=false_accepts,
    )
    replace_decision(bundle, changed)


def _fit(model: Model, waveforms: Sequence[np.ndarray], texts: Sequence[str]) -> Decision:
    """The decision relative to the temperature of the model's answers."""
    expected = [model.decoder.expected(text) for text in texts]
    answers: list[np.ndarray] = [np.zeros(0)] * len(waveforms)
    for chosen in progress(batches_by_length(waveforms), "calibrating", unit="batch"):
        for i, answer in zip(
            chosen, model.answer_many([waveforms[i] for i in chosen]), strict=True
        ):
            answers[i] = answer
    decoder = model.decoder
    if isinstance(decoder, SequenceDecoder):
        return _sequence_decision(decoder, answers, expected)
    if not answers:
        return Decision()
    logits = log_probabilities(np.array(answers))
    targets = np.array([model.labels.id_of(text) - 1 for text in texts], int)
    return Decision(fit_temperature(logits, targets))


def _word_errors(
    decoder: SequenceDecoder,
    answers: Sequence[np.ndarray],
    true_words: Sequence[Sequence[str]],
    cost: float,
) -> int:
    """Words that are wrong, missing or too many where each symbol costs so much."""
    said = []
    for answer in answers:
        best = decoder.search.best(answer, cost)
        said.append([word for word, _, _ in decoder.spelling.words(best.ids)] if best else [])
    pairs = [pair for one in word_pairs(true_words, said) for pair in one]
    return sum(truth != text for truth, text in pairs)


def _sequence_decision(
    decoder: SequenceDecoder, answers: Sequence[np.ndarray], expected: Sequence[str]
) -> Decision:
    """What a symbol costs, and lines that make confidences of utterances and words honest."""
    true_words = [decoder.units(text) for text in expected]
    cost = min(SYMBOL_COSTS, key=lambda cost: _word_errors(decoder, answers, true_words, cost))
    plain = dataclasses.replace(decoder, decision=Decision(symbol_cost=cost))
    found = [plain.decode(answer, np.inf) for answer in answers]
    said = [transcript.text for transcript in found]
    right = [text == truth for text, truth in zip(said, expected, strict=True)]
    words_said = [[word.text for word in transcript.words] for transcript in found]
    pairs = [pair for one in word_pairs(true_words, words_said) for pair in one]
    words_right = [truth == text for truth, text in pairs if text]
    words = [word.confidence for transcript in found for word in transcript.words]
    return Decision(
        symbol_cost=cost,
        utterance_confidence=fit_log_odds(
            log_probabilities(np.array([transcript.confidence for transcript in found])),
            np.array(right, bool),
        ),
        word_confidence=fit_log_odds(
            log_probabilities(np.array(words)), np.array(words_right, bool)
        ),
    )
