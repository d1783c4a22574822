"""The result of recognising one recording."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Word:
    """A word with its place in the recording, in seconds, and a confidence from 0 to 1."""

    text: str
    start: float
    end: float
    confidence: float


@dataclass(frozen=True)
class Transcript:
    """What was said in a recording of ``duration`` seconds, with a confidence from 0 to 1.

    ``slots`` are what a command grammar's rules stood for: name and value, in order.
    """

    text: str
    confidence: float
    duration: float
    words: tuple[Word, ...]
    slots: tuple[tuple[str, str], ...] = ()

    def later(self, seconds: float) -> Transcript:
        """The same as a part of what began so long before it."""
        words = tuple(
            replace(word, start=word.start + seconds, end=word.end + seconds) for word in self.words
        )
        return replace(self, words=words)
