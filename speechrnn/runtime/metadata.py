"""What a .tflite of ours says about itself: a zip appended to the flatbuffer.

TFLite ignores what follows the flatbuffer, and a zip is read from its end, so one file is both a
model and an archive; official TFLite metadata travels the same way. The archive holds
``speechrnn.json`` (everything) and ``labels.txt`` (one label a line, for other readers).
"""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechrnn.clock import StepClock
from speechrnn.decoding import Decision
from speechrnn.errors import ConfigError, LabelError, ModelError
from speechrnn.labels import Labels
from speechrnn.ready_models import model_path, no_such_model

FORMAT = "speechrnn-tflite"
FORMAT_VERSION = 1
METADATA_FILE = "speechrnn.json"
LABELS_FILE = "labels.txt"
# Bytes 4 to 8 of every TFLite flatbuffer.
TFLITE_IDENTIFIER = b"TFL3"


@dataclass(frozen=True)
class FileInfo:
    """A verified .tflite of ours: its flatbuffer and what the file says about it.

    Attributes:
        path: The file.
        model: The flatbuffer, which the interpreter takes.
        labels: The ordered labels.
        metadata: The whole of ``speechrnn.json``.
        decision: Its ``decision``: when an answer is one. Older files have none, and accept all.
        clock: Its ``steps``: where the model's steps lie. A model of one label needs none.
    """

    path: Path
    model: bytes
    labels: Labels
    metadata: dict[str, Any]
    decision: Decision
    clock: StepClock


def pack(model: bytes, metadata: dict[str, Any], labels: Labels) -> bytes:
    """The flatbuffer with its metadata appended; the same input gives the same bytes."""
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "model_bytes": len(model),
        "model_sha256": hashlib.sha256(model).hexdigest(),
        "labels": list(labels.symbols),
        **metadata,
    }
    buffer = io.BytesIO(model)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a") as archive:  # stored as it is: readable without inflating
        # Half a surrogate pair, of a name that is not UTF-8, becomes JSON's escape.
        text = json.dumps(document, indent=2, ensure_ascii=False).encode(
            "utf-8", "backslashreplace"
        )
        for name, entry in ((METADATA_FILE, text), (LABELS_FILE, _label_lines(labels))):
            archive.writestr(zipfile.ZipInfo(name), entry)  # dated 1980: no clock
    return buffer.getvalue()


def read_metadata(path: str | Path) -> FileInfo:
    """Read a .tflite, and check that it is ours, whole, and of a format we know.

    A ready model is found by its name.

    Raises:
        ModelError: Missing, not TFLite, without our metadata, of a newer format, or damaged.
    """
    file = model_path(path)
    try:
        content = file.read_bytes()
    except FileNotFoundError as error:
        raise no_such_model(path) from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read as a model ({error.strerror})") from error
    if content[4:8] != TFLITE_IDENTIFIER:
        raise ModelError(f"{path}: is no TFLite model; expected a .tflite from speechrnn export")
    entries = _read_archive(file, content)
    document = _read_document(file, entries)
    try:
        model = content[: document["model_bytes"]]
        labels = Labels(tuple(document["labels"]))
        decision = Decision.read(document.get("decision", {}))
        clock = StepClock(**document.get("steps", {"first_s": 0.0, "step_s": 0.0}))
        intact = (
            hashlib.sha256(model).hexdigest() == document["model_sha256"]
            and entries[LABELS_FILE] == _label_lines(labels)
            and document["features"]["sample_rate_hz"] > 0
            and document["min_samples"] > 0
        )
    except (KeyError, TypeError, ValueError, ConfigError, LabelError) as error:
        raise ModelError(
            f"{file}: {METADATA_FILE} in it is not what an export holds ({error}); export it again"
        ) from error
    if not intact:
        raise ModelError(f"{file}: was changed after it was exported; export it again")
    return FileInfo(file, model, labels, document, decision, clock)


def _label_lines(labels: Labels) -> bytes:
    return "".join(f"{symbol}\n" for symbol in labels.symbols).encode()


def _read_archive(file: Path, content: bytes) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return {name: archive.read(name) for name in (METADATA_FILE, LABELS_FILE)}
    # zipfile raises RuntimeError for what it takes for encryption or unknown compression, bz2 an
    # OSError, and lzma its own.
    except (
        *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, OSError),
        *(KeyError, ValueError, RuntimeError, EOFError),
    ) as error:
        raise ModelError(
            f"{file}: carries no metadata of speechrnn; it was cut short, or another program made "
            "it; expected a .tflite from speechrnn export"
        ) from error


def _read_document(file: Path, entries: dict[str, bytes]) -> dict[str, Any]:
    try:
        document = json.loads(entries[METADATA_FILE])
    except ValueError as error:
        raise ModelError(f"{file}: {METADATA_FILE} in it is damaged; export it again") from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ModelError(f"{file}: is a TFLite model of another program, expected one of speechrnn")
    if document.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"{file}: file format {document.get('format_version')!r}, this speechrnn reads "
            f"{FORMAT_VERSION}; install the speechrnn that wrote it, or export it again"
        )
    return document
