"""Gradient flow and reach of a model, untrained and trained, over short and long sequences."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from speechrnn.bundle import BundleInfo, load_bundle
from speechrnn.encoders.normalisation import MOMENTUM, BatchNorm
from speechrnn.errors import ConfigError, ModelError
from speechrnn.gradient_flow import GradientFlow
from speechrnn.gradient_rates import FEWEST_STEPS, Flow, verdict
from speechrnn.labels import Labels
from speechrnn.model import ModelConfig, SpeechModel, build_model
from speechrnn.progress import progress
from speechrnn.reach import LONGEST_S, SOUND_S, measure_reach

# Sequences that a rate is the median of.
NUM_ROWS = 4
MOST_FRAMES = 1000
INITIAL, TRAINED = "initial", "trained"
# Of a model that was never trained: how many there are does not matter to its recurrence.
MADE_LABELS = Labels(tuple(f"word {i}" for i in range(10)))


@dataclass(frozen=True)
class Measurement:
    """Of one set of weights over sequences of one length."""

    weights: str
    frames: int
    steps: int
    flows: list[Flow]


def untrained(config: ModelConfig, seed: int) -> dict[str, SpeechModel]:
    """A model with its first weights, by what they are."""
    return {INITIAL: build_model(config, MADE_LABELS, seed=seed)}


def before_and_after(bundle: Path) -> dict[str, SpeechModel]:
    """A bundle's model, and the one that its training began with.

    Raises:
        ModelError: It is a .tflite, or no intact bundle.
    """
    trained, info = _load(bundle, "gradients need")
    first = build_model(trained.config, trained.labels, seed=int(info.training.get("seed", 0)))
    for own, other in zip(first.front_end.weights, trained.front_end.weights, strict=True):
        own.assign(other)
    return {INITIAL: first, TRAINED: trained}


def _load(bundle: Path, what: str) -> tuple[SpeechModel, BundleInfo]:
    if bundle.is_file():
        raise ModelError(
            f"{bundle}: is a file, and {what} what was trained; expected the bundle (a "
            "directory made by speechrnn train) that it was exported from"
        )
    return load_bundle(bundle)


def reach(
    bundle: Path, sounds: Callable[[ModelConfig, int], tuple[np.ndarray, np.ndarray]]
) -> dict[str, Any]:
    """How far back a bundle's encoder remembers (:mod:`speechrnn.reach`), as plain values.

    Args:
        bundle: A trained model.
        sounds: From a model's config and a number of samples to two sounds, float32
            ``[rows, samples]``: what is heard, and what is heard in place of its beginning.

    Returns:
        ``model``, ``encoder``, ``step_s``, ``reach_s``, ``longest_s`` (how far was looked), and
        ``shares`` (``[[distance_s, share], ...]``).

    Raises:
        ModelError: It is a .tflite, or no intact bundle.
    """
    model, _ = _load(bundle, "the reach is of")
    config = model.config
    hop_s, rate_hz = config.features.hop_ms / 1000, config.features.sample_rate_hz
    found = measure_reach(model, *sounds(config, round(SOUND_S * rate_hz)))
    return {
        "model": str(bundle),
        "encoder": config.to_mapping()["encoder"],
        "step_s": config.clock.step_s,
        "reach_s": round(found.frames * hop_s, 6),
        "longest_s": LONGEST_S,
        "shares": [[round(d * hop_s, 6), round(s, 6)] for d, s in found.shares.items()],
    }


def measure(
    models: Mapping[str, SpeechModel], frames: Sequence[int], waveforms: np.ndarray
) -> list[Measurement]:
    """Every model over the beginnings of waveforms, so many frames of them.

    A batch normalisation of first weights gets the statistics of the waveforms, as the first batch
    of a training gives it: with those that it is made with, zeros and ones, no network learns.

    Args:
        models: Of one config, by what their weights are.
        frames: Lengths; see :func:`check_frames`.
        waveforms: float32 ``[rows, samples]``, at least :func:`num_samples` of the longest.
    """
    found = []
    config = next(iter(models.values())).config
    if INITIAL in models:
        settle(models[INITIAL], waveforms)
    flows = {weights: GradientFlow(model) for weights, model in models.items()}
    for weights, length in progress(
        [(weights, length) for weights in models for length in frames],
        "measuring",
        unit="length",
    ):
        size = num_samples(config, length)
        lengths = np.full(len(waveforms), size, np.int32)
        flow = flows[weights].measure({"waveform": waveforms[:, :size], "num_samples": lengths})
        if not flow:
            raise ConfigError(
                "encoder.type: no layer of it sees as many steps as it gives; expected an encoder "
                "with layers that keep the steps"
            )
        found.append(Measurement(weights, length, config.num_steps(size), flow))
    return found


def settle(model: SpeechModel, waveforms: np.ndarray) -> None:
    """Give every batch normalisation of the encoder the statistics that it sees in waveforms."""
    layers = [one for one in model.encoder._flatten_layers() if isinstance(one, BatchNorm)]
    for layer in layers:
        layer.momentum = 0.0
    if layers:
        model.encoder(model.front_end(waveforms), training=True)
    for layer in layers:
        layer.momentum = MOMENTUM


def check_frames(config: ModelConfig, frames: Sequence[int]) -> None:
    """Refuse lengths that no rate can be fitted to, or beyond what is looked at.

    Raises:
        ConfigError: Less than three steps of the encoder, or more than ``MOST_FRAMES``.
    """
    least = 1
    while config.encoder.output_frames(least) < FEWEST_STEPS:
        least += 1
    for length in frames:
        if not least <= length <= MOST_FRAMES:
            raise ConfigError(
                f"--frames {length}: expected {least} to {MOST_FRAMES}; a rate takes "
                f"{FEWEST_STEPS} steps of the encoder"
            )


def num_samples(config: ModelConfig, frames: int) -> int:
    """Samples of so many frames."""
    return config.features.window_length + (frames - 1) * config.features.hop_length


def made_sound(config: ModelConfig, size: int, seed: int) -> np.ndarray:
    """Voices that glide, swell and fade over faint noise, float32 ``[NUM_ROWS, size]``."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(size) / config.features.sample_rate_hz
    rows = []
    for pitch_hz in rng.uniform(90, 240, NUM_ROWS):
        phase = 2 * np.pi * (pitch_hz * time_s + 4 * np.sin(2 * np.pi * 1.7 * time_s))
        harmonics = sum(np.sin(k * phase) / k for k in range(1, 12))
        envelope = 0.2 * np.abs(np.sin(2 * np.pi * rng.uniform(1.5, 3) * time_s))
        rows.append(envelope * harmonics + 0.002 * rng.standard_normal(size))
    return np.stack(rows).astype(np.float32)


def joined(recordings: Sequence[np.ndarray], size: int) -> np.ndarray:
    """Recordings one after another, dealt to the rows in turn, float32 ``[NUM_ROWS, size]``."""
    rows = [list(recordings[row::NUM_ROWS]) or list(recordings) for row in range(NUM_ROWS)]
    return np.stack([np.resize(np.concatenate(row), size) for row in rows])


def describe(config: ModelConfig, source: str, found: Sequence[Measurement]) -> dict[str, Any]:
    """Everything that was measured, as plain values."""
    step_s = config.clock.step_s
    return {
        "model": source,
        "encoder": config.to_mapping()["encoder"],
        "step_s": step_s,
        "measurements": [
            {
                "weights": one.weights,
                "frames": one.frames,
                "steps": one.steps,
                "layers": [_described(flow, step_s, one.steps) for flow in one.flows],
            }
            for one in found
        ],
    }


def _described(flow: Flow, step_s: float, num_steps: int) -> dict[str, Any]:
    """A layer; without rates where an error ends."""
    found = verdict(flow.rate, num_steps - 1)
    rate = None if found == "ends" else flow.rate
    return {
        "layer": flow.layer,
        "decades_per_step": rate,
        "decades_per_second": None if rate is None else rate / step_s,
        "verdict": found,
        "norms": [float(norm) for norm in flow.norms],
    }
