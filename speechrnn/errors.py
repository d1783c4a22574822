"""The exceptions that speechrnn raises for causes a person can remedy.

    SpeechRNNError
    ├── ConfigError         a setting is unknown, of the wrong type, or out of range
    ├── DataError           a manifest, a folder of recordings, or a split is unusable
    │   ├── AudioError      one recording cannot be read as a waveform
    │   └── LabelError      a text names no known label
    ├── ModelError          a bundle or a .tflite is not what it should be
    ├── ExportError         a conversion failed, or its result does not equal the model
    ├── OutputError         a result cannot be written where it was asked for
    └── MissingExtraError   an optional package is not installed

Every message is one line: what, got, expected, remedy. The command line prints it and exits
with status 2; a traceback is shown only with ``--debug``.
"""

from __future__ import annotations

from pathlib import Path


class SpeechRNNError(Exception):
    """Base of every error that speechrnn raises on purpose."""


class ConfigError(SpeechRNNError):
    """A setting is unknown, of the wrong type, or out of range."""


class DataError(SpeechRNNError):
    """A manifest, a folder of recordings, or a split is unusable."""


class AudioError(DataError):
    """One recording cannot be read as a waveform.

    Attributes:
        path: The recording, as the caller named it.
        reason: What is wrong with it, without the path.
    """

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = str(path)
        self.reason = reason


class LabelError(DataError):
    """A text names no label that the model knows."""


class ModelError(SpeechRNNError):
    """A bundle or a .tflite is missing, foreign, edited, truncated, or too new."""


class ExportError(SpeechRNNError):
    """A conversion failed, or the exported file does not compute what the model computes."""


class OutputError(SpeechRNNError):
    """A result cannot be written where it was asked for."""


class MissingExtraError(SpeechRNNError):
    """A feature needs a package that is not installed."""

    def __init__(self, feature: str, extra: str, missing: str) -> None:
        super().__init__(
            f"{feature} needs the package '{missing}', which is not installed; "
            f"run: pip install 'speechrnn[{extra}]'"
        )
