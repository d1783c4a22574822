"""Many recordings -> one record each, in input order, whatever happens to single ones."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TextIO

from speechrnn.datasets.manifest import find_recordings
from speechrnn.errors import AudioError
from speechrnn.recognize import Model

Record = dict[str, Any]


def find_inputs(inputs: Sequence[str]) -> list[Path]:
    """Files as they are, the recordings below folders, and the rows of manifests.

    A file that is missing or broken is kept: it becomes a record with its error.

    Raises:
        DataError: A folder without recordings, or a faulty manifest.
    """
    return [path for name in inputs for path in find_recordings(name)]


def transcribe_files(
    model: Model, paths: Iterable[Path], *, slots: bool = False
) -> Iterator[Record]:
    """A record for each path, in order; with ``slots`` those of a grammar, name and value.

    Yields:
        ``audio_filepath``, ``status`` ("ok" or "error"), ``text``, ``confidence``, ``duration``,
        ``words`` (``text``, ``start``, ``end``, ``confidence``; seconds), ``error``, ``slots``.
    """
    for path in paths:
        try:
            transcript = model.transcribe(path)
        except AudioError as error:
            yield _record(path, status="error", error=error.reason)
            continue
        yield _record(
            path,
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


def _record(path: Path, **values: Any) -> Record:
    empty: Record = {
        "audio_filepath": str(path),
        "status": "ok",
        "text": None,
        "confidence": None,
        "duration": None,
        "words": [],
        "error": None,
    }
    return {**empty, **values}


class Writer(Protocol):
    """A format of results: made with an open text stream, then given each record."""

    def __init__(self, stream: TextIO) -> None: ...

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record."""


class JsonLines:
    """One JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record."""
        self._stream.write(json.dumps(record, ensure_ascii=False) + "\n")


class Text:
    """The text alone, one recording a line; a broken one is an empty line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record."""
        self._stream.write((record["text"] or "") + "\n")


class Csv:
    """A header and one row a recording, quoted as RFC 4180 says."""

    columns = ("audio_filepath", "status", "text", "confidence", "duration", "error")
    dialect = "excel"

    def __init__(self, stream: TextIO) -> None:
        self._writer = csv.DictWriter(
            stream, self.columns, dialect=self.dialect, extrasaction="ignore", lineterminator="\n"
        )
        self._writer.writeheader()

    def write(self, record: Mapping[str, Any]) -> None:
        """Add a record."""
        self._writer.writerow(record)


class Tsv(Csv):
    """As CSV, with tabs between the columns."""

    dialect = "excel-tab"


WRITERS: dict[str, type[Writer]] = {"jsonl": JsonLines, "csv": Csv, "tsv": Tsv, "txt": Text}
