"""Any way of naming recordings -> rows of (file, text, speaker), and splits by speaker.

A format in ``FORMATS`` recognises a path and reads it. The first that does is taken:

- a folder with a manifest per split, ``train.jsonl``, ``val.jsonl``, ``test.jsonl``;
- a folder with one folder per label, as Speech Commands v0.02 comes (``validation_list.txt``,
  ``testing_list.txt``, ``_background_noise_``; Warden 2018, arXiv:1804.03209);
- a JSON-lines manifest, one object a line with ``audio_filepath`` (absolute, or relative to the
  manifest), ``text``, and optionally ``duration`` in seconds and ``speaker`` (as NVIDIA NeMo);
  UTF-8, with or without a byte order mark; empty lines are left out.
"""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from speechrnn.audio import find_audio
from speechrnn.errors import DataError
from speechrnn.files import json_object
from speechrnn.labels import SILENCE, UNKNOWN, normalise_text
from speechrnn.suffixes import MANIFEST_SUFFIXES

Split = Literal["train", "val", "test", "all"]

BACKGROUND_NOISE = "_background_noise_"
# Speech Commands names its clips <speaker>_nohash_<take>.wav.
NOHASH = re.compile(r"^(?P<speaker>.+)_nohash_\d+$")
SPLIT_MANIFESTS: dict[Split, str] = {split: f"{split}.jsonl" for split in ("train", "val", "test")}
SPLIT_LISTS: dict[Split, str] = {"val": "validation_list.txt", "test": "testing_list.txt"}


@dataclass(frozen=True)
class Utterance:
    """One recording and what is said in it; ``speaker`` is "" where it is not known."""

    path: Path
    text: str
    speaker: str = ""
    duration_s: float | None = None


class Format(NamedTuple):
    """How to tell that a path is in a format, and how to read its rows of one split."""

    recognises: Callable[[Path], bool]
    read: Callable[[Path, Split], list[Utterance]]


def read_data(path: str | Path, split: Split = "all") -> list[Utterance]:
    """The rows of a data set, in an order that depends on the names alone.

    Args:
        path: A folder of labelled folders, or a manifest.
        split: Which part; only a folder with lists or manifests of its parts has any.

    Raises:
        DataError: Nothing there, an unknown format, a faulty row, or no rows at all.
    """
    data = Path(path)
    try:
        if not data.exists():
            raise DataError(
                f"{data}: no such data; expected a folder per label or a .jsonl manifest"
            )
        for candidate in FORMATS.values():
            if candidate.recognises(data):
                rows = candidate.read(data, split)
                break
        else:
            raise DataError(
                f"{data}: unknown kind of data, expected a folder per label or a manifest "
                f"({', '.join(FORMATS)})"
            )
    except OSError as error:
        raise DataError(f"{data}: cannot be read ({error.strerror})") from error
    if not rows:
        part = "" if split == "all" else f" for split {split!r}"
        raise DataError(f"{data}: holds no recordings{part}")
    return rows


def held_out_split(path: str | Path) -> Split:
    """The part to measure on: test, else validation, else everything where there are no parts."""
    held_out: tuple[Split, ...] = ("test", "val")
    for split in held_out:
        names = (SPLIT_LISTS[split], SPLIT_MANIFESTS[split])
        if any(os.path.isfile(Path(path) / name) for name in names):
            return split
    return "all"


def is_manifest(path: Path) -> bool:
    """Whether a path is named as a JSON-lines manifest is."""
    return path.suffix in MANIFEST_SUFFIXES


def find_recordings(path: str | Path) -> list[Path]:
    """The one file, which need not exist, the rows of a manifest, or the files below a folder.

    Raises:
        DataError: A folder without recordings, or a faulty manifest.
    """
    place = Path(path)
    if os.path.isdir(place):  # unlike Path.is_dir, False where one may not look
        found = find_audio(place)
        if not found:
            raise DataError(f"{path}: folder without recordings, expected sound files in it")
        return found
    if is_manifest(place):
        return [row.path for row in read_data(place)]
    return [place]


def has_splits(path: str | Path) -> bool:
    """Whether a folder says itself which recordings train, validate and test."""
    names = (*SPLIT_LISTS.values(), *SPLIT_MANIFESTS.values())
    return any((Path(path) / name).is_file() for name in names)


def split_by_speaker(
    rows: Sequence[Utterance], val_fraction: float
) -> tuple[list[Utterance], list[Utterance]]:
    """Training and validation rows that share no speaker.

    A speaker's side depends on a hash of the name alone, so known speakers do not change sides
    when recordings or other speakers are added. With few speakers all hashes may fall on one side
    of the fraction; then the speaker with the lowest hash validates, or the one with the highest
    trains, until a speaker comes who belongs there.

    Raises:
        DataError: A row without a speaker, or fewer than two speakers.
    """
    speakers = sorted({row.speaker for row in rows}, key=_speaker_hash)
    if "" in speakers:
        unknown = next(row for row in rows if not row.speaker)
        raise DataError(
            f"{unknown.path}: speaker unknown, so no split by speaker can be made; give --val, a "
            "'speaker' in the manifest, label/speaker/clip folders, or names <speaker>_nohash_0.wav"
        )
    if len(speakers) < 2:
        raise DataError(
            f"only one speaker ({speakers[0]}), expected two or more to validate on a new voice; "
            "give --val with another speaker's recordings"
        )
    chosen = {s for s in speakers if _speaker_hash(s) < val_fraction} or {speakers[0]}
    if len(chosen) == len(speakers):
        chosen.remove(speakers[-1])
    train = [row for row in rows if row.speaker not in chosen]
    return train, [row for row in rows if row.speaker in chosen]


def keep_words(rows: Sequence[Utterance], words: Sequence[str]) -> list[Utterance]:
    """Rows whose texts are not among ``words`` become ``_unknown_``; ``_silence_`` stays.

    Raises:
        DataError: A word that no row says.
    """
    wanted = [normalise_text(word) for word in words]
    texts = {row.text for row in rows}
    missing = sorted(set(wanted) - texts)
    if missing:
        raise DataError(
            f"--words: no recording says {missing[0]!r}; "
            f"expected some of {', '.join(sorted(texts))}"
        )
    return with_unknown(rows, wanted)


def with_unknown(rows: Sequence[Utterance], words: Sequence[str]) -> list[Utterance]:
    """As :func:`keep_words`, where nobody needs to say all of the words."""
    kept = {*(normalise_text(word) for word in words), SILENCE}
    return [row if row.text in kept else replace(row, text=UNKNOWN) for row in rows]


def is_word(text: str) -> bool:
    """Whether a recording with this text says something that is known."""
    return text not in ("", SILENCE, UNKNOWN)


def check_disjoint(
    train: Iterable[Utterance], val: Iterable[Utterance], *, name: str = "the training"
) -> None:
    """Refuse training and validation rows that share a speaker or a file.

    ``name`` is what the error calls the training rows.

    Raises:
        DataError: They do, and the result would flatter the model.
    """
    train, val = list(train), list(val)
    both = sorted({row.speaker for row in train} & {row.speaker for row in val} - {""})
    if both:
        raise DataError(
            f"{len(both)} speakers stand in {name} and the validation data ({both[0]} is "
            "one), expected none; accuracy on known voices says nothing about new ones"
        )
    # Unlike Path.resolve, which raises for a link to itself.
    files = {os.path.realpath(r.path) for r in train} & {os.path.realpath(r.path) for r in val}
    if files:
        raise DataError(
            f"{min(files)}: stands in {name} and the validation data, expected in one only"
        )


def _speaker_hash(speaker: str) -> float:
    """A number in 0..1 that is the same for the same name on every machine."""
    # "surrogatepass": the name of a folder need not be UTF-8
    digest = hashlib.sha1(speaker.encode("utf-8", "surrogatepass")).hexdigest()
    return int(digest[:8], 16) / 2**32


def _read_folder(folder: Path, split: Split) -> list[Utterance]:
    listed = {name: _read_list(folder / file) for name, file in SPLIT_LISTS.items()}
    rows = []
    for label in sorted(path for path in folder.iterdir() if path.is_dir()):
        if label.name.startswith(".") or label.name == BACKGROUND_NOISE:
            continue
        for file in find_audio(label):
            key = file.relative_to(folder).as_posix()
            part = next((name for name, files in listed.items() if key in files), "train")
            if split in ("all", part):
                rows.append(Utterance(file, normalise_text(label.name), _speaker_of(file, label)))
    if not rows and split == "all":
        raise DataError(
            f"{folder}: no recordings in label folders, expected {folder.name}/<label>/<clip>.wav"
        )
    return rows


def _read_list(file: Path) -> frozenset[str]:
    if not file.is_file():
        return frozenset()
    return frozenset(line.strip() for line in _read_lines(file) if line.strip())


def _read_lines(file: Path) -> list[str]:
    """The lines of a UTF-8 text, with or without a byte order mark, ended as Unix or Windows do.

    ``str.splitlines`` would also split at U+2028 and its like, which may stand within JSON strings.
    """
    try:
        return file.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: is not UTF-8 text ({error.reason}); save it as UTF-8") from error


def _speaker_of(file: Path, label: Path) -> str:
    """From label/speaker/clip.wav, or from <speaker>_nohash_<take>.wav; else unknown."""
    inner = file.relative_to(label).parts
    if len(inner) > 1:
        return normalise_text(inner[0])
    match = NOHASH.match(file.stem)
    return normalise_text(match["speaker"]) if match else ""


def _read_jsonl(manifest: Path, split: Split) -> list[Utterance]:
    if split != "all":
        raise DataError(f"{manifest}: a manifest has no split {split!r}; name that split's own")
    return [
        _parse_row(line, manifest, number)
        for number, line in enumerate(_read_lines(manifest), start=1)
        if line.strip()
    ]


def _parse_row(line: str, manifest: Path, number: int) -> Utterance:
    where = f"{manifest}:{number}"
    row = json_object(line, where)
    for key in ("audio_filepath", "text"):
        if not isinstance(row.get(key), str):
            got = repr(row[key]) if key in row else f"missing (got {list(row)})"
            raise DataError(f"{where}: {key!r} is {got}, expected a string")
    if not row["audio_filepath"] or "\0" in row["audio_filepath"]:
        got = repr(row["audio_filepath"])
        raise DataError(f"{where}: 'audio_filepath' is {got}, expected the name of a file")
    duration, speaker = row.get("duration"), row.get("speaker")
    if not (duration is None or _is_length(duration)):
        raise DataError(f"{where}: 'duration' is {duration!r}, expected seconds as a number")
    if not (speaker is None or type(speaker) in (int, str)):
        raise DataError(f"{where}: 'speaker' is {speaker!r}, expected a name or a number")
    return Utterance(
        path=manifest.parent / row["audio_filepath"],
        text=normalise_text(row["text"]),
        speaker="" if speaker is None else normalise_text(str(speaker)),
        duration_s=duration,
    )


def _is_length(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and value >= 0


def _has_split_manifests(path: Path) -> bool:
    return any((path / name).is_file() for name in SPLIT_MANIFESTS.values())


def _read_splits(folder: Path, split: Split) -> list[Utterance]:
    chosen = SPLIT_MANIFESTS.values() if split == "all" else [SPLIT_MANIFESTS[split]]
    manifests = [folder / name for name in chosen if (folder / name).is_file()]
    return [row for manifest in manifests for row in _read_jsonl(manifest, "all")]


FORMATS: dict[str, Format] = {
    "splits": Format(_has_split_manifests, _read_splits),
    "folder": Format(lambda path: path.is_dir(), _read_folder),
    "jsonl": Format(is_manifest, _read_jsonl),
}
