"""Train a recogniser of spoken commands; put it on a device as one TFLite file.

``import speechrnn`` is quick: a name is imported when it is first used, so that recognising with
a .tflite never imports Keras or TensorFlow.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from speechrnn.version import __version__

if TYPE_CHECKING:
    from speechrnn.bundle import load_bundle, read_bundle, save_bundle
    from speechrnn.decoding import Transcript, Word
    from speechrnn.errors import SpeechRNNError
    from speechrnn.evaluate import evaluate_model
    from speechrnn.export import export_bundle
    from speechrnn.features import MFCC, FeatureConfig
    from speechrnn.labels import Labels
    from speechrnn.model import ModelConfig, SpeechModel, build_model
    from speechrnn.recipe import Recipe
    from speechrnn.recognize import load_model
    from speechrnn.runtime import Recognizer, StreamingRecognizer
    from speechrnn.train import train_model
    from speechrnn.transcribe.library import transcribe_files

_HOMES = {
    "FeatureConfig": "features",
    "Labels": "labels",
    "MFCC": "features",
    "ModelConfig": "model",
    "Recipe": "recipe",
    "Recognizer": "runtime",
    "SpeechModel": "model",
    "SpeechRNNError": "errors",
    "StreamingRecognizer": "runtime",
    "Transcript": "decoding",
    "Word": "decoding",
    "build_model": "model",
    "evaluate_model": "evaluate",
    "export_bundle": "export",
    "load_bundle": "bundle",
    "load_model": "recognize",
    "read_bundle": "bundle",
    "save_bundle": "bundle",
    "train_model": "train",
    "transcribe_files": "transcribe.library",
}

__all__ = [
    "MFCC",
    "FeatureConfig",
    "Labels",
    "ModelConfig",
    "Recipe",
    "Recognizer",
    "SpeechModel",
    "SpeechRNNError",
    "StreamingRecognizer",
    "Transcript",
    "Word",
    "__version__",
    "build_model",
    "evaluate_model",
    "export_bundle",
    "load_bundle",
    "load_model",
    "read_bundle",
    "save_bundle",
    "train_model",
    "transcribe_files",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'speechrnn' has no attribute {name!r}")
    return getattr(importlib.import_module(f"speechrnn.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
