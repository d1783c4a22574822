"""N-gram language models: the ARPA format, and what a model says of a word. numpy alone.

All probabilities are base-10 logarithms, as the format has them; :class:`NgramScorer` turns them
into natural ones. The format is that of Stolcke's SRILM manual, ngram-format(5).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechrnn.errors import ConfigError
from speechrnn.labels import normalise_text
from speechrnn.spelling import Spelling

BEGIN, END, UNKNOWN = "<s>", "</s>", "<unk>"
# log10 of what never happens, as SRILM and KenLM write it.
NEVER = -99.0
# log10 of an unknown word where a model does not say.
UNKNOWN_LOG10 = -7.0


@dataclass(frozen=True)
class Ngrams:
    """A back-off language model.

    Attributes:
        order: Words of the longest n-gram.
        log10: N-gram -> log10 of the probability of its last word behind the others.
        backoff: N-gram -> log10 of what a word that never followed it is multiplied by.
    """

    order: int
    log10: Mapping[tuple[str, ...], float]
    backoff: Mapping[tuple[str, ...], float]

    @property
    def words(self) -> set[str]:
        """The words it knows, without the special ones."""
        return {gram[0] for gram in self.log10 if len(gram) == 1} - {BEGIN, END, UNKNOWN}

    def log10_of(self, word: str, context: Sequence[str]) -> float:
        """log10 of the probability of a word behind others, the nearest of which count."""
        nearest = context[max(0, len(context) - self.order + 1) :]
        *behind, word = (w if (w,) in self.log10 else UNKNOWN for w in (*nearest, word))
        added = 0.0
        while True:
            found = self.log10.get((*behind, word))
            if found is not None:
                return added + found
            if not behind:
                return added + UNKNOWN_LOG10
            added += self.backoff.get(tuple(behind), 0.0)
            behind = behind[1:]

    def sentence_log10(self, words: Sequence[str]) -> float:
        """log10 of the probability of a whole sentence."""
        said = [BEGIN, *words, END]
        return sum(self.log10_of(said[n], said[:n]) for n in range(1, len(said)))


def read_arpa(path: str | Path) -> Ngrams:
    """Read a model in the ARPA format.

    Raises:
        ConfigError: The file cannot be read, is of another format, or is cut short.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: is not UTF-8 text ({error.reason})") from error
    lines = enumerate(text.split("\n"), start=1)
    counts = _read_counts(path, lines)
    log10: dict[tuple[str, ...], float] = {}
    backoff: dict[tuple[str, ...], float] = {}
    for order, count in counts.items():
        rows = _read_section(path, lines, order)
        if len(rows) != count:
            raise ConfigError(
                f"{path}: has {len(rows)} {order}-grams, expected {count} as its header says; it "
                "was cut short"
            )
        for gram, probability, weight in rows:
            log10[gram] = probability
            if weight is not None:
                backoff[gram] = weight
    if not any(line.strip() == "\\end\\" for _, line in lines):
        raise ConfigError(f"{path}: lacks \\end\\ behind its last n-gram; it was cut short")
    return Ngrams(max(counts), log10, backoff)


def _read_counts(path: str | Path, lines: Iterator[tuple[int, str]]) -> dict[int, int]:
    if not any(line.strip() == "\\data\\" for _, line in lines):
        raise ConfigError(f"{path}: lacks \\data\\, expected a language model in the ARPA format")
    counts: dict[int, int] = {}
    for number, line in lines:
        if not line.strip():
            if counts:
                break
            continue
        try:
            order, count = line.strip().removeprefix("ngram ").split("=")
            counts[int(order)] = int(count)
        except ValueError as error:
            raise ConfigError(
                f"{path}:{number}: got {line.strip()[:40]!r}, expected ngram ORDER=COUNT"
            ) from error
    if list(counts) != list(range(1, len(counts) + 1)) or not counts:
        raise ConfigError(f"{path}: counts n-grams of {list(counts)} words, expected 1, 2, ...")
    return counts


def _read_section(
    path: str | Path, lines: Iterator[tuple[int, str]], order: int
) -> list[tuple[tuple[str, ...], float, float | None]]:
    head = next((line.strip() for _, line in lines if line.strip()), "the end")
    if head != f"\\{order}-grams:":
        raise ConfigError(f"{path}: got {head[:40]!r}, expected \\{order}-grams:")
    rows = []
    for number, line in lines:
        if not line.strip():
            break
        fields = line.split()
        try:
            if len(fields) not in (order + 1, order + 2):
                raise ValueError
            probability = float(fields[0])
            weight = float(fields[order + 1]) if len(fields) == order + 2 else None
            if not probability <= 0 or not math.isfinite(probability + (weight or 0.0)):
                raise ValueError
            gram = tuple(normalise_text(word) for word in fields[1 : order + 1])
            rows.append((gram, probability, weight))
        except ValueError as error:
            raise ConfigError(
                f"{path}:{number}: got {line.strip()[:40]!r}, expected log10 of a probability, "
                f"{order} words and, perhaps, a back-off weight"
            ) from error
    return rows


def arpa_text(model: Ngrams) -> str:
    """The model in the ARPA format, sorted: the same model, the same text."""
    sections = [
        sorted(gram for gram in model.log10 if len(gram) == order)
        for order in range(1, model.order + 1)
    ]
    lines = ["\\data\\"]
    lines += [f"ngram {order}={len(grams)}" for order, grams in enumerate(sections, start=1)]
    for order, grams in enumerate(sections, start=1):
        lines += ["", f"\\{order}-grams:"]
        for gram in grams:
            weight = f"\t{model.backoff[gram]:.7g}" if gram in model.backoff else ""
            lines.append(f"{model.log10[gram]:.7g}\t{' '.join(gram)}{weight}")
    return "\n".join([*lines, "", "\\end\\", ""])


class NgramScorer:
    """A language model of words, for symbols that are words or spell them.

    Source of the weighting: Hannun et al. 2014, arXiv:1408.2873, section 2.

    Args:
        model: The language model.
        spelling: Of the model whose answers are searched.
        weight: What natural logarithms are multiplied by.
        word_bonus: What each word adds, against a preference for few.
        name: Of the language model, for errors.

    Raises:
        ConfigError: It knows no word that the symbols can spell.
    """

    def __init__(
        self,
        model: Ngrams,
        spelling: Spelling,
        *,
        weight: float = 0.5,
        word_bonus: float = 0.0,
        name: str = "language model",
    ) -> None:
        self._model, self._spelling = model, spelling
        self._weight, self._bonus = weight * math.log(10), word_bonus
        self._columns = 1 + len(spelling.labels)
        if not any(spelling.can_say(word) for word in model.words):
            raise ConfigError(
                f"{name}: none of its {len(model.words)} words can be said with the model's "
                f"symbols ({', '.join(spelling.labels.symbols[:10])} ...); it is of another "
                "alphabet or vocabulary"
            )

    def start(self) -> Hashable:
        """The words that count, and the letters of the one that is being spelled."""
        return ((BEGIN,), "")

    def scores(self, state: Any) -> np.ndarray:
        """What each symbol adds, float ``[columns]``: where it ends a word, that word's score."""
        context, letters = state
        found = np.zeros(self._columns)
        boundary = self._spelling.boundary
        if boundary is not None:
            found[boundary] = self._added(letters.split(), context)
            return found
        for symbol in range(1, self._columns):
            found[symbol] = self._added(self._spelling.labels.text_of(symbol).split(), context)
        return found

    def advance(self, state: Any, symbol: int) -> Hashable:
        """The state behind a symbol."""
        context, letters = state
        text = self._spelling.labels.text_of(symbol)
        if self._spelling.boundary is None:
            return (self._behind(context, text.split()), "")
        if symbol == self._spelling.boundary:
            return (self._behind(context, letters.split()), "")
        return (context, letters + text)

    def final(self, state: Any) -> float:
        """The word that was being spelled, and the end of the sentence."""
        context, letters = state
        words = letters.split()
        ended = self._weight * self._model.log10_of(END, self._behind(context, words))
        return self._added(words, context) + ended

    def _added(self, words: Sequence[str], context: tuple[str, ...]) -> float:
        total = 0.0
        for word in words:
            total += self._weight * self._model.log10_of(word, context) + self._bonus
            context = self._behind(context, [word])
        return total

    def _behind(self, context: tuple[str, ...], words: Sequence[str]) -> tuple[str, ...]:
        said = (*context, *words)
        return said[max(0, len(said) - self._model.order + 1) :]
