"""Records as text: one file for all of them, or one for each recording.

``FILES`` are formats of a file that holds every record, ``TREES`` of one for each recording.
SubRip (srt) and WebVTT are subtitles; TextGrid is Praat's (https://www.praat.org, "long" text).
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TextIO

Record = Mapping[str, Any]

# A subtitle ends at such a pause, or before it is longer than can be read.
CUE_PAUSE_S, LONGEST_CUE_S, MOST_CUE_LETTERS = 0.8, 6.0, 80
# The ends of one differ in thousandths of a second however they are rounded: WebVTT asks for it.
SHORTEST_CUE_S = 0.002


class Writer(Protocol):
    """A format of all records: made with an open text stream, then given each record."""

    def __init__(self, stream: TextIO) -> None: ...

    def write(self, line: str) -> None:
        """Add a record, which is one line of JSON."""


class JsonLines:
    """One JSON object a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        """Add a record."""
        self._stream.write(line + "\n")


class Text:
    """The text alone, one recording a line; a broken one is an empty line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, line: str) -> None:
        """Add a record."""
        self._stream.write((json.loads(line)["text"] or "") + "\n")


class Csv:
    """A header and one row a recording, quoted as RFC 4180 says."""

    columns = ("audio_filepath", "status", "text", "confidence", "duration", "error")
    dialect = "excel"

    def __init__(self, stream: TextIO) -> None:
        self._writer = csv.DictWriter(
            _LineFeeds(stream), self.columns, dialect=self.dialect, extrasaction="ignore"
        )
        self._writer.writeheader()

    def write(self, line: str) -> None:
        """Add a record."""
        self._writer.writerow(json.loads(line))


class _LineFeeds:
    """Takes the rows of a csv writer and ends them with a line feed alone.

    Told to do so itself, the writer leaves a lone carriage return without quotes (Python 3.11).
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, row: str) -> None:
        self._stream.write(row.removesuffix("\r\n") + "\n")


class Tsv(Csv):
    """As CSV, with tabs between the columns."""

    dialect = "excel-tab"


FILES: dict[str, type[Writer]] = {"jsonl": JsonLines, "csv": Csv, "tsv": Tsv, "txt": Text}


class TreeFormat(NamedTuple):
    """What stands in a recording's own file, and the suffix of its name."""

    suffix: str
    text: Callable[[Record], str]


@dataclass(frozen=True)
class Cue:
    """A subtitle."""

    start: float
    end: float
    text: str


def cues(record: Record) -> list[Cue]:
    """A record's words as subtitles; words may overlap, subtitles do not."""
    found: list[Cue] = []
    for word in record["words"]:
        start, end = word["start"], word["end"]
        if found:
            last = found[-1]
            joined = f"{last.text} {word['text']}"
            if end - last.end < SHORTEST_CUE_S or (
                start - last.end < CUE_PAUSE_S
                and end - last.start <= LONGEST_CUE_S
                and len(joined) <= MOST_CUE_LETTERS
            ):
                found[-1] = Cue(last.start, max(last.end, end), joined)
                continue
            start = max(start, last.end)
        found.append(Cue(start, max(end, start + SHORTEST_CUE_S), word["text"]))
    return found


def _plain(record: Record) -> str:
    return record["text"] + "\n"


def _srt(record: Record) -> str:
    blocks = (
        f"{number}\n{_clock(cue.start, ',')} --> {_clock(cue.end, ',')}\n{cue.text}\n"
        for number, cue in enumerate(cues(record), start=1)
    )
    return "\n".join(blocks)


def _vtt(record: Record) -> str:
    blocks = [
        f"{_clock(cue.start, '.')} --> {_clock(cue.end, '.')}\n{_escaped(cue.text)}\n"
        for cue in cues(record)
    ]
    return "\n".join(["WEBVTT\n", *blocks])


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _clock(seconds: float, point: str) -> str:
    """Hours, minutes, seconds and thousandths."""
    thousandths = round(1000 * seconds)
    whole, rest = divmod(thousandths, 1000)
    return f"{whole // 3600:02}:{whole // 60 % 60:02}:{whole % 60:02}{point}{rest:03}"


def _words(dialect: str) -> Callable[[Record], str]:
    """A row for each word."""

    def text(record: Record) -> str:
        stream = io.StringIO(newline="")
        columns = ("text", "start", "end", "confidence")
        writer = csv.DictWriter(_LineFeeds(stream), columns, dialect=dialect)
        writer.writeheader()
        writer.writerows(record["words"])
        return stream.getvalue()

    return text


def _textgrid(record: Record) -> str:
    """One tier of words, with nothing said between them."""
    end = record["duration"]
    intervals = list(_intervals(record["words"], end))
    lines = [
        'File type = "ooTextFile"',
        'Object class = "TextGrid"',
        "",
        "xmin = 0",
        f"xmax = {end}",
        "tiers? <exists>",
        "size = 1",
        "item []:",
        "    item [1]:",
        '        class = "IntervalTier"',
        '        name = "words"',
        "        xmin = 0",
        f"        xmax = {end}",
        f"        intervals: size = {len(intervals)}",
    ]
    for number, cue in enumerate(intervals, start=1):
        quoted = cue.text.replace('"', '""')
        lines += [
            f"        intervals [{number}]:",
            f"            xmin = {cue.start}",
            f"            xmax = {cue.end}",
            f'            text = "{quoted}"',
        ]
    return "\n".join(lines) + "\n"


def _intervals(words: Sequence[Mapping[str, Any]], end: float) -> Iterator[Cue]:
    """Words and what is between them, without a gap and without an overlap.

    Words of which another one leaves nothing share its interval.
    """
    place: float = 0
    held: Cue | None = None
    for word in words:
        start, behind = max(place, word["start"]), min(word["end"], end)
        if behind <= start:
            if held:
                held = Cue(held.start, held.end, f"{held.text} {word['text']}")
            continue
        if held:
            yield held
        if start > place:
            yield Cue(place, start, "")
        held = Cue(start, behind, word["text"])
        place = behind
    if held:
        yield held
    if place < end or not end:
        yield Cue(place, end, "")


TREES: dict[str, TreeFormat] = {
    "txt": TreeFormat(".txt", _plain),
    "srt": TreeFormat(".srt", _srt),
    "vtt": TreeFormat(".vtt", _vtt),
    "csv": TreeFormat(".csv", _words("excel")),
    "tsv": TreeFormat(".tsv", _words("excel-tab")),
    "textgrid": TreeFormat(".TextGrid", _textgrid),
}
