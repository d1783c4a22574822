"""Text -> an n-gram language model, smoothed as Kneser and Ney do.

Source: Chen and Goodman 1999, "An empirical study of smoothing techniques for language modeling",
section 3, interpolated modified Kneser-Ney; counts and the unknown word as KenLM's lmplz has them
(Heafield et al. 2013, "Scalable modified Kneser-Ney language model estimation").
"""

from __future__ import annotations

import itertools
import math
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from speechrnn.decoding.ngram import BEGIN, END, NEVER, UNKNOWN, Ngrams
from speechrnn.errors import ConfigError
from speechrnn.files import reading_text
from speechrnn.labels import normalise_text

HIGHEST_ORDER = 6
# Where a text is too small for its counts to say: lmplz' --discount_fallback.
FALLBACK = (0.5, 1.0, 1.5)

Gram = tuple[str, ...]


def read_sentences(path: str) -> list[str]:
    """The lines of a text; ``-`` is standard input.

    Raises:
        ConfigError: It cannot be read as UTF-8 text, or is closed.
    """
    with reading_text(path):
        if path == "-":
            if sys.stdin is None:
                raise ConfigError("-: standard input is closed, expected text")
            return sys.stdin.buffer.read().decode("utf-8-sig").splitlines()
        return Path(path).read_text(encoding="utf-8-sig").splitlines()


def train_ngrams(sentences: Iterable[str], order: int = 3) -> Ngrams:
    """A language model of the words of sentences.

    Args:
        sentences: One each; empty ones are left out.
        order: Words of the longest n-gram.

    Raises:
        ConfigError: No words, an order out of 1 to 6, or a sentence with one of the special words.
    """
    if not 1 <= order <= HIGHEST_ORDER:
        raise ConfigError(f"--order {order}: expected 1 to {HIGHEST_ORDER}")
    split = [said for text in sentences if (said := normalise_text(text).split())]
    if not split:
        raise ConfigError("the text holds no words, expected a sentence a line")
    for said in split:
        special = sorted({BEGIN, END, UNKNOWN} & set(said))
        if special:
            raise ConfigError(f"the text holds {special[0]!r}, which is no word; take it out")
    counts = _counts([[BEGIN, *said, END] for said in split], order)
    probability: dict[Gram, float] = {}
    backoff: dict[Gram, float] = {}
    num_words = len({gram[0] for gram in counts[0]} | {UNKNOWN})
    for found in counts:
        _smooth(found, probability, backoff, num_words)
    log10 = {gram: math.log10(p) for gram, p in probability.items()}
    log10[(BEGIN,)] = NEVER  # it stands before every sentence, and is never said
    return Ngrams(order, log10, {gram: math.log10(weight) for gram, weight in backoff.items()})


def _counts(sentences: Sequence[Sequence[str]], order: int) -> list[Counter[Gram]]:
    """How often each n-gram occurs; of the shorter ones, behind how many different words."""
    found: list[Counter[Gram]] = [Counter() for _ in range(order)]
    for words in sentences:
        for size in range(1, min(order, len(words)) + 1):
            for start in range(len(words) - size + 1):
                found[size - 1][tuple(words[start : start + size])] += 1
    for shorter, longer in itertools.pairwise(found):
        behind = Counter(gram[1:] for gram in longer)
        for gram, count in behind.items():  # nothing stands before the beginning of a sentence
            shorter[gram] = count
    del found[0][(BEGIN,)]
    return found


def _smooth(
    counts: Counter[Gram],
    probability: dict[Gram, float],
    backoff: dict[Gram, float],
    num_words: int,
) -> None:
    """Add the n-grams of one length, of which the shorter ones are known already."""
    discounts = _discounts(counts)
    totals: dict[Gram, int] = Counter()
    taken: dict[Gram, float] = defaultdict(float)
    for gram, count in counts.items():
        totals[gram[:-1]] += count
        taken[gram[:-1]] += discounts[min(count, 3) - 1]
    for gram, count in counts.items():
        context = gram[:-1]
        share = (count - discounts[min(count, 3) - 1]) / totals[context]
        lower = probability[gram[1:]] if context else 1 / num_words
        probability[gram] = share + taken[context] / totals[context] * lower
    if counts and len(next(iter(counts))) == 1:
        probability[(UNKNOWN,)] = taken[()] / totals[()] / num_words
        return
    for context, amount in taken.items():
        backoff[context] = amount / totals[context]


def _discounts(counts: Counter[Gram]) -> tuple[float, float, float]:
    """What is taken from a count of 1, 2, and 3 or more (Chen and Goodman 1999, eq. 26)."""
    of = Counter(min(count, 4) for count in counts.values())
    if not all(of[n] for n in (1, 2, 3, 4)):
        return FALLBACK
    y = of[1] / (of[1] + 2 * of[2])
    found = tuple(n - (n + 1) * y * of[n + 1] / of[n] for n in (1, 2, 3))
    # Not every text is as texts are.
    return found if all(0 < d <= n for n, d in enumerate(found, start=1)) else FALLBACK  # type: ignore[return-value]
