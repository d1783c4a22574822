"""What a .tflite of ours says about itself: a zip appended to the flatbuffer.

TFLite ignores what follows the flatbuffer, and a zip is read from its end, so one file is both a
model and an archive; official TFLite metadata travels the same way. The archive holds
``speechrnn.json`` (everything) and ``labels.txt`` (one label a line, for other readers).
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speechrnn.errors import ModelError
from speechrnn.labels import Labels

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
    """

    path: Path
    model: bytes
    labels: Labels
    metadata: dict[str, Any]


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
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        text = json.dumps(document, indent=2, ensure_ascii=False)
        for name, content in (
            (METADATA_FILE, text),
            (LABELS_FILE, "".join(f"{symbol}\n" for symbol in labels.symbols)),
        ):
            archive.writestr(zipfile.ZipInfo(name), content.encode())  # dated 1980: no clock
    return buffer.getvalue()


def read_metadata(path: str | Path) -> FileInfo:
    """Read a .tflite, and check that it is ours, whole, and of a format we know.

    Raises:
        ModelError: Missing, not TFLite, without our metadata, of a newer format, or damaged.
    """
    file = Path(path)
    try:
        content = file.read_bytes()
    except OSError as error:
        raise ModelError(f"{path}: cannot be read as a model ({error.strerror})") from error
    if content[4:8] != TFLITE_IDENTIFIER:
        raise ModelError(f"{path}: is no TFLite model; expected a .tflite from speechrnn export")
    document = _read_document(file, content)
    if document.get("format") != FORMAT:
        raise ModelError(f"{path}: is a TFLite model of another program, expected one of speechrnn")
    if document.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"{path}: file format {document.get('format_version')}, this speechrnn reads "
            f"{FORMAT_VERSION}; install a newer speechrnn"
        )
    model = content[: document["model_bytes"]]
    if hashlib.sha256(model).hexdigest() != document["model_sha256"]:
        raise ModelError(f"{path}: was changed after it was exported; export it again")
    return FileInfo(file, model, Labels(tuple(document["labels"])), document)


def _read_document(file: Path, content: bytes) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            document = json.loads(archive.read(METADATA_FILE))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise ModelError(
            f"{file}: carries no metadata of speechrnn; it was cut short, or another program made "
            "it; expected a .tflite from speechrnn export"
        ) from error
    if not isinstance(document, dict):
        raise ModelError(f"{file}: its {METADATA_FILE} is damaged; export it again")
    return document
