"""The result of recognising one recording."""

from __future__ import annotations

from dataclasses import dataclass


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
