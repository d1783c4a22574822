"""After training: the temperature that makes a model's confidences honest on other recordings."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from speechrnn.bundle import read_bundle, replace_decision
from speechrnn.counting import word_pairs
from speechrnn.decoding import Decision, Transcript
from speechrnn.decoding.calibration import fit_log_odds, fit_temperature, log_probabilities
from speechrnn.decoding.margin import Margin
from speechrnn.decoding.sequence import SequenceDecoder
from speechrnn.progress import progress
from speechrnn.recognize import Model, batches_by_length, load_model

# Costs of a symbol that are tried; the least of those with the fewest errors is kept.
SYMBOL_COSTS = (0.0, 1.0, 2.0, 3.0, 4.0, 6.0)

# Words whose place is known that it takes to say how far off a model's are.
FEWEST_PLACES = 20
# Of each recording, where its words begin and end in seconds; nothing where that is not known.
Places = Sequence[Sequence[tuple[float, float]]]

if TYPE_CHECKING:
    from speechrnn.model import SpeechModel


def model_decision(
    model: SpeechModel,
    waveforms: Sequence[np.ndarray],
    texts: Sequence[str],
    places: Places | None = None,
) -> Decision:
    """The decision for a model with its trained weights; the model is left as it is.

    Args:
        model: A model.
        waveforms: Recordings that the model did not learn from, float32 ``[samples]`` each.
        texts: What is said in each: what the model's labels spell.
        places: Where its words are, of as many recordings; None knows nothing of any.
    """
    from speechrnn.keras_recognizer import KerasRecognizer

    temperature, model.temperature = model.temperature, 1.0
    try:
        return _fit(KerasRecognizer.of(model, Decision()), waveforms, texts, places)
    finally:
        model.temperature = temperature


def calibrate_bundle(
    bundle: str | Path,
    waveforms: Sequence[np.ndarray],
    texts: Sequence[str],
    places: Places | None = None,
) -> Decision:
    """Fit the confidences of a saved bundle; its threshold and its grammar's margin are taken back.

    Another temperature gives other confidences, so a threshold picked before means nothing.

    Args:
        bundle: A bundle, which is replaced by one that differs in its decision alone.
        waveforms: Recordings that the model did not learn from, float32 ``[samples]`` each, at
            the model's rate.
        texts: What is said in each: what the model's labels spell.
        places: Where its words are, of as many recordings; None keeps how far the bundle moves its
            words.

    Raises:
        ModelError: The bundle is not intact.
        LabelError: The model's labels do not spell a text.
        OutputError: The bundle cannot be written.
    """
    model = load_model(bundle)
    found = _fit(model, waveforms, texts, places)
    found = dataclasses.replace(found, temperature=model.temperature * found.temperature)
    if places is None:
        found = dataclasses.replace(found, word_edges=read_bundle(bundle).decision.word_edges)
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


def _fit(
    model: Model,
    waveforms: Sequence[np.ndarray],
    texts: Sequence[str],
    places: Places | None,
) -> Decision:
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
        return _sequence_decision(decoder, answers, expected, places or [()] * len(answers))
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
    decoder: SequenceDecoder,
    answers: Sequence[np.ndarray],
    expected: Sequence[str],
    places: Places,
) -> Decision:
    """What a symbol costs, how far off words are, and lines that make confidences honest."""
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
        word_edges=_word_edges(found, expected, places),
        utterance_confidence=fit_log_odds(
            log_probabilities(np.array([transcript.confidence for transcript in found])),
            np.array(right, bool),
        ),
        word_confidence=fit_log_odds(
            log_probabilities(np.array(words)), np.array(words_right, bool)
        ),
    )


def _word_edges(
    found: Sequence[Transcript], expected: Sequence[str], places: Places
) -> tuple[float, float]:
    """The medians of what is missing at starts and at ends, where an utterance is right."""
    missing = [
        (start - word.start, end - word.end)
        for transcript, text, spans in zip(found, expected, places, strict=True)
        if transcript.text == text and len(spans) == len(transcript.words)
        for word, (start, end) in zip(transcript.words, spans, strict=True)
    ]
    if len(missing) < FEWEST_PLACES:
        return 0.0, 0.0
    before, behind = np.median(missing, axis=0).round(3).tolist()
    return before, behind
