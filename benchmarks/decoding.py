"""Time to decode a second of CTC log-probabilities, against libraries that do the same.

    python benchmarks/decoding.py [--rounds 15] [--write]

One thread. A recording is made up: words of a 40-word model, each sure for most of its steps and
unsure now and then, 25 steps a second. All decoders get the same recordings in turn, and a row is
the median over the rounds of the time for a second. "Same" is how often the best sequence is ours.
fast-ctc-decode takes probabilities; what it takes to make them is not counted. flashlight-text has
no grammar: it gets the phrases as words of a lexicon, of which it may say several. Its words are
without a language model (its ZeroLM).
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import fast_ctc_decode
import numpy as np
from flashlight.lib.text import decoder as flashlight

sys.path.insert(0, str(Path(__file__).parent))
from provenance import append_table

from speechrnn.decoding.align import align
from speechrnn.decoding.ctc import beam_search, greedy
from speechrnn.decoding.grammar import Grammar
from speechrnn.decoding.jsgf import parse_grammar
from speechrnn.decoding.likelihood import log_likelihood
from speechrnn.labels import Labels
from speechrnn.spelling import Spelling

WORDS, STEPS_A_SECOND, WIDTH, PHRASES = 40, 25, 16, 200
COLUMNS = 1 + WORDS
RESULTS = Path(__file__).parent / "results" / "decoding.md"
# Names of one letter, for fast-ctc-decode has no longer ones; the first is the blank.
ALPHABET = ["_", *map(chr, range(0x4E00, 0x4E00 + WORDS))]

Ids = tuple[int, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help=f"append to {RESULTS.name}")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    phrases = [tuple(rng.integers(1, COLUMNS, rng.integers(2, 6)).tolist()) for _ in range(PHRASES)]
    lines = ["| seconds | decoder | ms a second | ratio to ours | same |", "|---|---|---|---|---|"]
    for seconds in (1, 5):
        recordings = [recording(phrases[i], seconds, rng) for i in range(20)]
        for group in groups(phrases):
            times, said = measure(group, recordings, seconds, options.rounds)
            ours = next(iter(group))
            for name in group:
                same = sum(a == b for a, b in zip(said[name], said[ours], strict=True))
                lines.append(
                    f"| {seconds} | {name} | {times[name]:.3f} | {times[name] / times[ours]:.2f} "
                    f"| {same} of {len(recordings)} |"
                )
    table = "\n".join(lines)
    print(table)
    if options.write:
        append_table(RESULTS, table, ["numpy", "fast-ctc-decode", "flashlight-text"])


def recording(words: Sequence[int], seconds: int, rng: np.random.Generator) -> np.ndarray:
    """float32 ``[steps, columns]``, natural logarithms."""
    steps = seconds * STEPS_A_SECOND
    logits = rng.normal(0, 1, (steps, COLUMNS))
    logits[:, 0] += 8
    length = steps // len(words)
    for place, word in enumerate(words):
        part = slice(place * length, place * length + max(1, length - 2))
        logits[part, 0] -= 4
        logits[part, word] += rng.normal(8, 1, len(logits[part]))
    return (logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)).astype(np.float32)


def groups(phrases: Sequence[Ids]) -> list[dict[str, Callable[[np.ndarray], Ids]]]:
    """Decoders that do the same job, ours first."""
    spelling = Spelling(Labels(tuple(ALPHABET[1:])), "words")
    lines = "\n".join(" ".join(ALPHABET[symbol] for symbol in phrase) for phrase in phrases)
    grammar = Grammar(parse_grammar(lines), COLUMNS, spelling.units)
    free, lexicon = lexicon_free(), lexicon_of(phrases)

    def by_beam(log_probs: np.ndarray, **guide: Grammar) -> Ids:
        return beam_search(log_probs, width=WIDTH, **guide)[0].ids

    def theirs(log_probs: np.ndarray) -> Ids:
        text, _ = fast_ctc_decode.beam_search(np.exp(log_probs), ALPHABET, WIDTH, 0.0)
        return tuple(ALPHABET.index(letter) for letter in text)

    def viterbi(log_probs: np.ndarray) -> Ids:
        text, _ = fast_ctc_decode.viterbi_search(np.exp(log_probs), ALPHABET)
        return tuple(ALPHABET.index(letter) for letter in text)

    def words_of(log_probs: np.ndarray) -> Ids:
        found = decode(lexicon, log_probs)
        return tuple(s for word in found.words if word >= 0 for s in phrases[word])

    return [
        {
            "greedy": lambda log_probs: greedy(log_probs).ids,
            "fast-ctc-decode viterbi_search": viterbi,
        },
        {
            f"beam of {WIDTH}": by_beam,
            "fast-ctc-decode beam_search": theirs,
            "flashlight-text without a lexicon": lambda log_probs: collapsed(
                decode(free, log_probs).tokens
            ),
        },
        {
            f"beam of {WIDTH}, grammar of {PHRASES} phrases": lambda log_probs: by_beam(
                log_probs, scorer=grammar
            ),
            f"flashlight-text, lexicon of {PHRASES}": words_of,
        },
        {
            "times and likelihood of what was heard": lambda log_probs: (
                (
                    log_likelihood(log_probs, ids := greedy(log_probs).ids),
                    align(log_probs, ids),
                )
                and ids
            )
        },
    ]


def lexicon_free() -> flashlight.LexiconFreeDecoder:
    options = flashlight.LexiconFreeDecoderOptions(
        WIDTH, COLUMNS, 1e9, 0.0, 0.0, True, flashlight.CriterionType.CTC
    )
    return flashlight.LexiconFreeDecoder(options, flashlight.ZeroLM(), -1, 0, [])


def lexicon_of(phrases: Sequence[Ids]) -> flashlight.LexiconDecoder:
    trie = flashlight.Trie(COLUMNS, 0)
    for number, phrase in enumerate(phrases):
        trie.insert(list(phrase), number, 0.0)
    trie.smear(flashlight.SmearingMode.NONE)
    options = flashlight.LexiconDecoderOptions(
        WIDTH, COLUMNS, 1e9, 0.0, 0.0, -np.inf, 0.0, True, flashlight.CriterionType.CTC
    )
    lm = flashlight.ZeroLM()
    return flashlight.LexiconDecoder(options, trie, lm, -1, 0, len(phrases), [], False)


def decode(decoder: object, log_probs: np.ndarray) -> flashlight.DecodeResult:
    steps, columns = log_probs.shape
    return decoder.decode(log_probs.ctypes.data, steps, columns)[0]  # type: ignore[attr-defined]


def collapsed(tokens: Sequence[int]) -> Ids:
    found = []
    for before, token in zip([0, *tokens], tokens, strict=False):
        if token > 0 and token != before:
            found.append(token)
    return tuple(found)


def measure(
    group: dict[str, Callable[[np.ndarray], Ids]],
    recordings: Sequence[np.ndarray],
    seconds: int,
    rounds: int,
) -> tuple[dict[str, float], dict[str, list[Ids]]]:
    """Milliseconds for a second of each decoder, and what it heard."""
    spent: dict[str, list[float]] = {name: [] for name in group}
    said: dict[str, list[Ids]] = {}
    for _ in range(rounds):
        for name, decoder in group.items():
            started = time.perf_counter()
            said[name] = [decoder(log_probs) for log_probs in recordings]
            spent[name].append(time.perf_counter() - started)
    scale = 1000 / len(recordings) / seconds
    return {name: scale * statistics.median(times) for name, times in spent.items()}, said


if __name__ == "__main__":
    main()
