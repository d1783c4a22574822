"""Models for the tests of encoders, heads, bundles, export and runtime: built, not trained.

Their weights are random everywhere, biases included: with zero biases and zero padding a forgotten
mask would show a difference of exactly 0.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechrnn.datasets.manifest import Utterance
from speechrnn.labels import Labels
from speechrnn.runtime import Recognizer
from speechrnn.runtime.streaming import Stream

LABELS = Labels(("yes", "no", "العربية", "go"))  # an order that no sorting gives

# Settings with which every shared test runs. A registered name without an entry fails
# test_architecture.py.
ENCODER_SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "bc_resnet": {
        "plain": {"tau": 0.5, "blocks": [1, 2, 1, 1], "num_bands": 16, "sub_bands": 2},
        "strided": {
            "tau": 0.75,
            "blocks": [1, 1, 1, 1],
            "num_bands": 8,
            "sub_bands": 1,
            "stride": 2,
            "dropout": 0.4,
        },
    },
    "ds_cnn": {
        "bands": {"num_bands": 6, "width": 5, "num_layers": 2, "dropout": 0.4},
        "coefficients": {
            "num_bands": 0,
            "width": 8,
            "num_layers": 1,
            "frame_stride": 3,
            "band_stride": 1,
            "block_stride": 2,
        },
    },
    "gru": {
        "one-way": {"units": 6, "num_layers": 1, "bidirectional": False},
        "two-way": {"units": 5, "num_layers": 2},
        "conv": {"units": 5, "num_layers": 1, "conv_filters": 6, "conv_stride": 2, "dropout": 0.4},
        "conv-twice": {
            "units": 5,
            "num_layers": 1,
            "conv_filters": 6,
            "conv_layers": 2,
            "conv_stride": 2,
        },
        "spectral": {
            "units": 5,
            "num_layers": 1,
            "spectral_filters": 3,
            "spectral_channels": 5,
            "spectral_blocks": 2,
            "spectral_width": 7,
        },
        "conv-one-way": {
            "units": 6,
            "num_layers": 2,
            "bidirectional": False,
            "conv_filters": 6,
            "conv_kernel": 3,
            "conv_stride": 3,
        },
        "conv-wide-steps": {
            "units": 5,
            "num_layers": 1,
            "conv_filters": 6,
            "conv_kernel": 1,
            "conv_stride": 4,
        },
        "deep": {"units": 5, "num_layers": 3, "residual": True, "layer_norm": True},
    },
    "hybrid": {
        "plain": {"width": 8, "num_blocks": 1, "num_heads": 2, "units": 5, "dropout": 0.4},
        "conv-one-way": {
            "width": 12,
            "num_blocks": 2,
            "num_heads": 3,
            "kernel": 3,
            "units": 6,
            "two_way": False,
            "conv_filters": 6,
            "conv_stride": 2,
        },
    },
    "lstm": {
        "two-way": {"units": 5, "num_layers": 2},
        "one-way": {"units": 6, "num_layers": 1, "bidirectional": False, "layer_norm": True},
        "spectral": {
            "units": 5,
            "num_layers": 1,
            "spectral_filters": 3,
            "spectral_channels": 4,
            "spectral_width": 7,
        },
    },
    "mhatt_rnn": {
        "each": {"units": 4, "num_layers": 2, "num_heads": 2, "width": 5, "dropout": 0.4},
        "middle": {"units": 4, "num_layers": 1, "width": 5, "query": "middle", "stride": 2},
    },
    "transformer": {
        "plain": {"width": 8, "num_layers": 2, "num_heads": 2, "feed_forward": 1},
        "spectral": {
            "width": 12,
            "num_layers": 1,
            "num_heads": 3,
            "spectral_filters": 3,
            "spectral_channels": 5,
            "spectral_blocks": 1,
            "spectral_width": 7,
            "dropout": 0.4,
        },
    },
    "simple_rnn": {
        "two-way": {"units": 5, "num_layers": 2, "residual": True},
        "one-way": {"units": 6, "num_layers": 2, "bidirectional": False},
    },
}
HEAD_SETTINGS: dict[str, dict[str, dict[str, Any]]] = {
    "classification": {
        "both": {"attention_units": 7, "dropout": 0.4, "label_smoothing": 0.1},
        "average": {"attention_pooling": False},
        "attention": {"average_pooling": False, "attention_units": 7},
    },
    "ctc": {
        "words": {"dropout": 0.4, "placement": 0.2},
        "plain": {},
    },
}
# Texts that a head of this name can be trained towards, with LABELS.
HEAD_TEXTS = {
    "classification": ("no", "go", "yes", "العربية"),
    "ctc": ("no go no", "go", "", "yes العربية"),
}


def encoder_cases(**required: Any) -> list[Any]:
    """One parameter for each entry of ENCODER_SETTINGS whose encoder has the required fields."""
    from speechrnn.encoders import ENCODERS

    return _cases(ENCODERS, ENCODER_SETTINGS, required)


def head_cases(**required: Any) -> list[Any]:
    """One parameter for each entry of HEAD_SETTINGS whose head has the required fields."""
    from speechrnn.heads import HEADS

    return _cases(HEADS, HEAD_SETTINGS, required)


def _cases(
    registry: Any, table: dict[str, dict[str, dict[str, Any]]], required: dict[str, Any]
) -> list[Any]:
    built = [
        (f"{name}-{case}", registry.from_mapping({"type": name, **settings}))
        for name, cases in table.items()
        for case, settings in cases.items()
    ]
    return [
        pytest.param(config, id=key)
        for key, config in built
        if all(getattr(config, field, None) == value for field, value in required.items())
    ]


def randomise(layer: Any, seed: int = 0, scale: float = 0.4) -> Any:
    """Random values for every variable, biases, gains and running statistics included."""
    rng = np.random.default_rng(seed)
    for variable in layer.trainable_variables:
        variable.assign(rng.normal(0, scale, variable.shape).astype(np.float32))
    for variable in layer.non_trainable_variables:
        if variable.path.endswith("running_mean"):
            variable.assign(rng.normal(0, scale, variable.shape).astype(np.float32))
        elif variable.path.endswith("running_variance"):
            variable.assign(rng.uniform(0.5, 2, variable.shape).astype(np.float32))
    return layer


def graph(function: Any, *signature: tuple[Any, str]) -> Any:
    """The function compiled for tensors of (shape, dtype): tens of times faster than eager steps.

    Other backends than TensorFlow run it as it is.
    """
    import keras

    if keras.backend.backend() != "tensorflow":
        return function
    import tensorflow as tf

    return tf.function(function, input_signature=[tf.TensorSpec(*spec) for spec in signature])


# Models that between them use most of what can be exported.
MODELS: dict[str, dict[str, Any]] = {
    "two-way": {
        "features": {"normalisation": "utterance"},
        "encoder": {
            "type": "gru",
            "units": 8,
            "num_layers": 1,
            "conv_filters": 12,
            "conv_stride": 2,
        },
        "head": {"type": "classification", "attention_units": 8},
    },
    "one-way": {
        "features": {
            "normalisation": "training",
            "num_coefficients": 13,
            "deltas": 2,
            "mel_scale": "htk",
            "pre_emphasis": 0.97,
            "lifter": 22,
            "window_shape": "hamming",
            "spectrum": "magnitude",
        },
        "encoder": {"type": "gru", "units": 8, "num_layers": 2, "bidirectional": False},
        "head": {"type": "classification", "attention_pooling": False},
    },
    # Weights large enough to be quantised.
    "wide": {
        "features": {"normalisation": "utterance", "num_coefficients": 20},
        "encoder": {
            "type": "gru",
            "units": 24,
            "num_layers": 2,
            "spectral_filters": 4,
            "spectral_channels": 8,
            "spectral_blocks": 1,
            "spectral_width": 48,
        },
        "head": {"type": "classification", "attention_units": 24},
    },
    "sequences": {
        "features": {},
        "encoder": {
            "type": "gru",
            "units": 8,
            "num_layers": 1,
            "spectral_filters": 3,
            "spectral_channels": 6,
            "spectral_blocks": 1,
            "spectral_width": 7,
        },
        "head": {"type": "ctc"},
    },
}
METRICS = {
    "val": {
        "accuracy": 0.875,
        "loss": 0.5,
        "utterances": 80,
        "speakers": 7,
        "data": "words/val.jsonl",
    }
}
TRAINING = {
    "data": "words/train.jsonl",
    "utterances": 320,
    "speakers": 21,
    "seed": 3,
    "epochs_done": 12,
    "best_epoch": 9,
    "finished": True,
}
LOG = [{"epoch": 1, "loss": 1.5}, {"epoch": 2, "loss": 1.25}]


def make_model(sections: dict[str, Any], seed: int = 0) -> Any:
    """A model with random weights and, where it stores them, random statistics."""
    from speechrnn.model import ModelConfig, build_model

    model = build_model(ModelConfig.from_mapping(sections), LABELS)
    randomise(model, seed)
    if model.config.features.normalisation == "training":
        rng = np.random.default_rng(seed)
        size = model.config.features.num_features
        model.front_end.set_statistics(
            rng.normal(0, 2, size).astype(np.float32), rng.uniform(1, 5, size).astype(np.float32)
        )
    return model


def save(model: Any, path: Path) -> Path:
    from speechrnn.bundle import save_bundle

    save_bundle(path, model, training=TRAINING, metrics=METRICS, log=LOG)
    return path


@functools.cache
def folder() -> Path:
    """A folder for what the tests share, removed when Python ends."""
    path = Path(tempfile.mkdtemp(prefix="speechrnn-tests-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@functools.cache
def shared_model(name: str) -> Any:
    """The model of ``MODELS[name]``; leave it as it is."""
    return make_model(MODELS[name])


@functools.cache
def shared_serve(name: str) -> Any:
    """``serve`` of the shared model, compiled: float32 ``[batch, samples]`` -> numpy."""
    from keras import ops

    serve = graph(shared_model(name).serve, ([None, None], "float32"))
    return lambda waveform: ops.convert_to_numpy(serve(waveform))


@functools.cache
def shared_recognizer(name: str) -> Any:
    """The Keras recogniser of ``shared_bundle(name)``."""
    from speechrnn.keras_recognizer import KerasRecognizer

    return KerasRecognizer(shared_bundle(name))


@functools.cache
def shared_bundle(name: str) -> Path:
    """A bundle of ``MODELS[name]``; copy it before changing it."""
    return save(shared_model(name), folder() / name)


@functools.cache
def shared_tflite(name: str) -> Path:
    """The .tflite of ``shared_bundle(name)``: a conversion of some 10 s, once a session."""
    from speechrnn.export import export_bundle

    return export_bundle(shared_bundle(name), folder() / f"{name}.tflite").path


def converting_to(flatbuffer: bytes) -> Callable[..., tuple[bytes, None]]:
    """In the place of the converter: it makes this of every bundle."""
    return lambda bundle, *asked: (flatbuffer, None)


def sweep(num_samples: int, seed: int = 0) -> np.ndarray:
    """A voice-like test signal: a swept harmonic tone that swells and fades, over faint noise."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(num_samples) / 16000
    pitch_hz = rng.uniform(90, 240)
    phase = 2 * np.pi * (pitch_hz * time_s + 40 * np.sin(2 * np.pi * 1.7 * time_s))
    harmonics = sum(np.sin(k * phase) / k for k in range(1, 12))
    envelope = 0.2 * np.abs(np.sin(2 * np.pi * 2.3 * time_s + seed))
    return (envelope * harmonics + 0.002 * rng.standard_normal(num_samples)).astype(np.float32)


def noise(num_samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(num_samples)).astype(np.float32)


def cut(waveform: np.ndarray, sizes: Sequence[int]) -> list[np.ndarray]:
    """Chunks of these sizes, in turn, to the end."""
    chunks, place = [], 0
    while place < len(waveform):
        chunks.append(waveform[place : place + sizes[len(chunks) % len(sizes)]])
        place += len(chunks[-1])
    return chunks


def streamed(recognizer: Recognizer, waveform: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """All answers of a file's stream to sound that comes in such chunks, to its end."""
    stream = Stream(recognizer)
    answers = [answer for chunk in cut(waveform, sizes) for answer in stream.feed(chunk)]
    return np.array([*answers, *stream.finish()])


def labelled(
    waveforms: Sequence[np.ndarray], texts: Sequence[str] = ()
) -> list[tuple[Utterance, np.ndarray]]:
    """Recordings with texts, of one label unless others are given."""
    texts = texts or [LABELS.symbols[0]] * len(waveforms)
    rows = [Utterance(Path(f"{n}.wav"), text) for n, text in enumerate(texts)]
    return list(zip(rows, waveforms, strict=True))
