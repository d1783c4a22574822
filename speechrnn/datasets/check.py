"""What a data set holds, and what is wrong with it, before anyone trains on it.

Every recording is read once, at its own rate. Needs nothing beyond numpy and soundfile.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from speechrnn.datasets.manifest import (
    SILENCE,
    SPLIT_MANIFESTS,
    Utterance,
    has_splits,
    read_data,
)
from speechrnn.datasets.reading import read_own_rate
from speechrnn.errors import AudioError, DataError
from speechrnn.progress import progress

# No word is spoken in less: the shortest of 5,000 clips of digits cut to their words is 0.14 s.
SHORTEST_WORD_S = 0.1
# Beyond this many times the median a recording holds more than its label, perhaps.
LONG_FACTOR = 4.0
# A wave that was cut off stands still at its peak: at least so often, three samples in a row.
CLIPPED_PLACES = 10
# Peaks lower than this are too few steps of 16 bits to tell (-40 dB).
LEAST_CLIPPED_PEAK = 0.01
MOST_SPEAKERS_SHOWN, MOST_FILES_SHOWN = 12, 5

# Keys of the report whose entries keep a training from starting, or teach it something untrue.
WRONG = {
    "broken": "cannot be read",
    "silent": "hold nothing but zeros",
    "contradictions": "recordings stand under several labels",
    "shared_speakers": "speakers stand in several splits",
}
DOUBTFUL = {
    "clipped": "are clipped",
    "too_short": f"are shorter than {SHORTEST_WORD_S:g} s",
    "too_long": f"are longer than {LONG_FACTOR:g} times the median",
    "duplicates": "recordings are there several times",
    "labels_with_one_clip": "labels have one recording only",
}


def check_data(path: str | Path) -> dict[str, Any]:
    """Read everything and count.

    Returns:
        What ``speechrnn data check --json`` writes: ``data``, ``recordings``, ``audio_seconds``,
        ``labels`` and ``speakers`` (name -> count, seconds, and speakers of a label),
        ``duration_s`` (min, median, max), ``sample_rates_hz`` (rate -> count), the lists of
        ``WRONG`` and ``DOUBTFUL``, and ``wrong``, how many entries the former have.

    Raises:
        DataError: The data cannot be read as rows at all.
    """
    rows = read_data(path)
    found: dict[str, list] = {"broken": [], "silent": [], "clipped": []}
    durations_s: dict[int, float] = {}
    rates: dict[str, int] = defaultdict(int)
    contents: dict[bytes, list[Utterance]] = defaultdict(list)
    for index, row in enumerate(progress(rows, "reading", unit="clip")):
        try:
            waveform, rate_hz = read_own_rate(row.path)
        except AudioError as error:
            found["broken"].append({"audio_filepath": _name(row), "error": error.reason})
            continue
        durations_s[index] = len(waveform) / rate_hz
        rates[str(rate_hz)] += 1
        if waveform.any():
            contents[_digest(waveform)].append(row)
            if is_clipped(waveform):
                found["clipped"].append(_name(row))
        elif row.text != SILENCE:
            found["silent"].append(_name(row))
    found |= _lengths(rows, durations_s)
    found |= _repeated(contents)
    found["shared_speakers"] = shared_speakers(path)
    found["labels_with_one_clip"] = _labels_with_one_clip(rows)
    return {
        "data": str(path),
        "recordings": len(rows),
        "audio_seconds": round(sum(durations_s.values()), 3),
        "labels": _groups(rows, durations_s, "text"),
        "speakers": _groups(rows, durations_s, "speaker"),
        "duration_s": _spread(list(durations_s.values())),
        "sample_rates_hz": dict(sorted(rates.items())),
        **found,
        "wrong": sum(len(found[key]) for key in WRONG),
    }


def is_clipped(waveform: np.ndarray) -> bool:
    """Whether the wave stands still at its own peak, again and again."""
    size = np.abs(waveform)
    peak = float(size.max())
    if peak < LEAST_CLIPPED_PEAK:
        return False
    top = size >= 0.999 * peak
    flat = top[:-2] & top[1:-1] & top[2:]
    return int(np.count_nonzero(flat[1:] & ~flat[:-1])) >= CLIPPED_PLACES


def shared_speakers(path: str | Path) -> list[str]:
    """Speakers that stand in several of a data set's own splits; none where it has no splits."""
    if not has_splits(path):
        return []
    splits = []
    for split in SPLIT_MANIFESTS:
        try:
            splits.append({row.speaker for row in read_data(path, split)} - {""})
        except DataError:  # it has no such split
            continue
    return sorted({name for a, b in itertools.combinations(splits, 2) for name in a & b})


def describe_report(report: Mapping[str, Any]) -> Iterator[str]:
    """The report as lines for a person."""
    spread, labels, speakers = report["duration_s"], report["labels"], report["speakers"]
    known = [name for name in speakers if name]
    yield (
        f"{report['data']}: {report['recordings']} recordings, {report['audio_seconds']:.0f} s, "
        f"{len(labels)} labels, {len(known)} speakers"
    )
    if spread:
        yield (
            f"  durations {spread['min']:.2f} to {spread['max']:.2f} s, "
            f"median {spread['median']:.2f} s"
        )
    rates = ", ".join(f"{count} at {rate} Hz" for rate, count in report["sample_rates_hz"].items())
    yield f"  rates     {rates or 'none'}"
    width = max(len(name) for name in [*labels, "label"])
    yield f"  {'label':{width}}  count  speakers  seconds"
    for name, group in labels.items():
        figures = f"{group['count']:>5}  {group['speakers']:>8}  {group['seconds']:>7.0f}"
        yield f"  {name:{width}}  {figures}"
    yield from _describe_speakers(speakers)
    for level, kinds in (("wrong", WRONG), ("look at", DOUBTFUL)):
        for key, what in kinds.items():
            if report[key]:
                yield f"{level}: {len(report[key])} {what}"
                yield from (f"    {_shown(entry)}" for entry in report[key][:MOST_FILES_SHOWN])
                if len(report[key]) > MOST_FILES_SHOWN:
                    yield f"    and {len(report[key]) - MOST_FILES_SHOWN} more"
    if not report["wrong"]:
        yield "nothing is wrong with the files"


def _describe_speakers(speakers: Mapping[str, Any]) -> Iterator[str]:
    counts = sorted(((g["count"], name) for name, g in speakers.items()), reverse=True)
    if len(counts) > MOST_SPEAKERS_SHOWN:
        numbers = [count for count, _ in counts]
        yield (
            f"  {len(counts)} speakers with {numbers[-1]} to {numbers[0]} recordings each, "
            f"median {np.median(numbers):.0f}; --json lists them"
        )
    else:
        shown = ", ".join(f"{name or '(not known)'} {count}" for count, name in counts)
        yield f"  speakers: {shown}"


def _shown(entry: Any) -> str:
    if isinstance(entry, dict):
        return f"{entry['audio_filepath']}: {entry['error']}"
    return " = ".join(entry) if isinstance(entry, list) else str(entry)


def _name(row: Utterance) -> str:
    """The file as text that can be written: names need not be UTF-8."""
    return str(row.path).encode("utf-8", "backslashreplace").decode()


def _digest(waveform: np.ndarray) -> bytes:
    return hashlib.blake2b(waveform.tobytes(), digest_size=16).digest()


def _spread(values: Sequence[float]) -> dict[str, float]:
    if not values:
        return {}
    found = {"min": min(values), "median": float(np.median(values)), "max": max(values)}
    return {name: round(value, 4) for name, value in found.items()}


def _groups(
    rows: Sequence[Utterance], durations_s: Mapping[int, float], by: str
) -> dict[str, dict[str, Any]]:
    """Of each label or speaker: recordings, seconds that can be read, and who says a label."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, row in enumerate(rows):
        groups[getattr(row, by)].append(index)
    found: dict[str, dict[str, Any]] = {}
    for name, members in sorted(groups.items()):
        seconds = sum(durations_s.get(index, 0.0) for index in members)
        found[name] = {"count": len(members), "seconds": round(seconds, 3)}
        if by == "text":
            found[name]["speakers"] = len({rows[index].speaker for index in members} - {""})
    return found


def _lengths(rows: Sequence[Utterance], durations_s: Mapping[int, float]) -> dict[str, list[str]]:
    median_s = float(np.median(list(durations_s.values()))) if durations_s else 0.0
    return {
        "too_short": [_name(rows[i]) for i, s in durations_s.items() if s < SHORTEST_WORD_S],
        "too_long": [_name(rows[i]) for i, s in durations_s.items() if s > LONG_FACTOR * median_s],
    }


def _repeated(contents: Mapping[bytes, Sequence[Utterance]]) -> dict[str, list[list[str]]]:
    """Recordings with the same samples: under one label, and under several."""
    found: dict[str, list[list[str]]] = {"duplicates": [], "contradictions": []}
    for same in contents.values():
        if len(same) > 1:
            one_label = len({row.text for row in same}) == 1
            key = "duplicates" if one_label else "contradictions"
            found[key].append([_name(row) for row in same])
    return found


def _labels_with_one_clip(rows: Sequence[Utterance]) -> list[str]:
    counts: dict[str, int] = defaultdict(int)
    for row in rows:
        counts[row.text] += 1
    return sorted(label for label, count in counts.items() if count == 1)
