"""What a recording's record holds: the contract with everybody's scripts."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from speechrnn.decoding import Transcript

Record = dict[str, Any]


def ok_record(name: str, transcript: Transcript, *, slots: bool = False) -> Record:
    """``audio_filepath``, ``status``, ``text``, ``confidence``, ``duration``, ``words`` and so on.

    Words have ``text``, ``start``, ``end`` and ``confidence``; times are seconds. With ``slots``
    those of a grammar, name and value.
    """
    return _record(
        name,
        text=transcript.text,
        confidence=round(transcript.confidence, 6),
        duration=round(transcript.duration, 4),
        words=[
            {
                "text": word.text,
                "start": round(word.start, 4),
                "end": round(word.end, 4),
                "confidence": round(word.confidence, 6),
            }
            for word in transcript.words
        ],
        **({"slots": [list(slot) for slot in transcript.slots]} if slots else {}),
    )


def error_record(name: str, reason: str) -> Record:
    """The record of an input without a transcript."""
    return _record(name, status="error", error=reason)


# A record as a line; made once, for that takes as long as to use it.
to_line = json.JSONEncoder(ensure_ascii=False).encode


def _record(name: str, **values: Any) -> Record:
    empty: Record = {
        "audio_filepath": name,
        "status": "ok",
        "text": None,
        "confidence": None,
        "duration": None,
        "words": [],
        "error": None,
    }
    return {**empty, **values}
