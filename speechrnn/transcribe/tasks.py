"""What is handed to a worker, and what comes back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from speechrnn.transcribe.inputs import Source

# What a worker spends its time on.
STAGES = ("hash", "read", "recognise", "decode")


class Task(NamedTuple):
    """An input to transcribe, unless its content is still what this hash is of.

    What is ``kept`` was done by an earlier run.
    """

    source: Source
    known_sha256: str | None = None
    kept: bool = False


@dataclass(slots=True)
class Finished:
    """What became of an input.

    Attributes:
        line: Its record as JSON; None where it is what it was.
        duration_s: Of the sound.
        error: Why there is no text, if so.
        stamp: Of the file when it was read.
        sha256: Of its content, where all of it was read.
        read_ns: When that was.
        seconds: What each of ``STAGES`` took.
    """

    line: str | None
    duration_s: float = 0.0
    error: str | None = None
    stamp: tuple[int, int, int] | None = None
    sha256: str | None = None
    read_ns: int = 0
    seconds: list[float] = field(default_factory=lambda: [0.0] * len(STAGES))
