"""What was said against what was heard, word by word."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from speechrnn.errors import MissingExtraError

# What was said, and what was heard for it: "" where one has no counterpart.
Pair = tuple[str, str]
# A command of several words is one to count; jiwer splits at plain spaces only.
NO_BREAK = "\u00a0"


def word_pairs(truths: Sequence[Sequence[str]], said: Sequence[Sequence[str]]) -> list[list[Pair]]:
    """The words of each utterance with those heard for them, by the fewest differences.

    Args:
        truths: The words that were said, a command of several words as one.
        said: The words that were heard.
    """
    jiwer = _jiwer()
    split = [[list(words) for words in utterances] for utterances in (truths, said)]
    joined = [
        [" ".join(word.replace(" ", NO_BREAK) for word in words) for words in texts]
        for texts in split
    ]
    found = []
    alignments = jiwer.process_words(*joined).alignments
    for true_words, said_words, chunks in zip(*split, alignments, strict=True):
        pairs: list[Pair] = []
        for chunk in chunks:
            ours = true_words[chunk.ref_start_idx : chunk.ref_end_idx]
            theirs = said_words[chunk.hyp_start_idx : chunk.hyp_end_idx]
            size = max(len(ours), len(theirs))
            ours += [""] * (size - len(ours))
            theirs += [""] * (size - len(theirs))
            pairs += zip(ours, theirs, strict=True)
        found.append(pairs)
    return found


def per_label(
    pairs: Iterable[Pair], symbols: Sequence[str]
) -> dict[str, dict[str, float | int | None]]:
    """Precision and recall (None where nothing was said, or true) and true count of each label."""
    true_count: Counter[str] = Counter()
    said_count: Counter[str] = Counter()
    hits: Counter[str] = Counter()
    for truth, said in pairs:
        true_count[truth] += 1
        said_count[said] += 1
        hits[truth] += truth == said
    return {
        symbol: {
            "precision": hits[symbol] / said_count[symbol] if said_count[symbol] else None,
            "recall": hits[symbol] / true_count[symbol] if true_count[symbol] else None,
            "count": true_count[symbol],
        }
        for symbol in symbols
    }


def confusions(pairs: Iterable[Pair]) -> list[list[str | int]]:
    """``[true, said, count]`` of what differs, most frequent first."""
    return [
        [truth, said, count]
        for (truth, said), count in Counter(pairs).most_common()
        if truth != said
    ]


def error_rates(truths: Sequence[str], said: Sequence[str]) -> dict[str, float]:
    """``wer`` and ``cer``: errors over what was said; more than 1 where more was heard."""
    jiwer = _jiwer()
    return {
        "wer": float(jiwer.wer(list(truths), list(said))),
        "cer": float(jiwer.cer(list(truths), list(said))),
    }


def _jiwer():  # type: ignore[no-untyped-def]
    try:
        import jiwer
    except ModuleNotFoundError as error:
        raise MissingExtraError("evaluate", "train", "jiwer") from error
    return jiwer
