"""Optional packages: a clear error where one is missing, and TensorFlow without its noise."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys

from speechrnn.errors import MissingExtraError
from speechrnn.quiet import quiet_stderr


def require_training(feature: str) -> None:
    """Import Keras and its backend, without the notes that they print on standard error.

    Raises:
        MissingExtraError: One of them is not installed; the message names ``feature``.
    """
    if "keras" in sys.modules:
        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    backend = os.environ.get("KERAS_BACKEND", "tensorflow")
    try:
        with quiet_stderr():
            importlib.import_module(backend)
            keras = importlib.import_module("keras")
            keras.ops.zeros(1)  # the first operation looks for a GPU and talks about it
    except ModuleNotFoundError as error:
        raise MissingExtraError(feature, "train", error.name or backend) from error


def require_packages(feature: str, extra: str, *names: str) -> None:
    """Find out before long work that something is missing for what comes after it.

    Raises:
        MissingExtraError: One of them is not installed; the message names ``feature``.
    """
    for name in names:
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(feature, extra, name)
