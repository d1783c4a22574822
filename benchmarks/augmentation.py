"""Clips a second through each augmentation alone, and through a whole chain, on one core.

    python benchmarks/augmentation.py            prints a table
    python benchmarks/augmentation.py --write    and appends it to its file in benchmarks/results

Batches of 64 clips of 1 s at 16 kHz, from waveforms in memory to a padded batch, as training makes
them in its prefetch thread; "alone" at probability 1. The chain has every kind of augmentation with
the probabilities that the table shows. A round times every contender once, one after the other, and
a figure is the median over the rounds; the time of padding alone, the first line, is in all others.
Time is the thread's own, so that other programs cost only what they take of caches and memory.
Augmentations of mel energies run in the training graph: their lines are the time of a compiled
function of log mel energies, 98 frames of 40 bands a clip.
"""

from __future__ import annotations

import os

# Before the libraries load, which read these: one thread for each of them, and no GPU.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from provenance import append_table

from speechrnn.datasets.augment import augmentations_from_mapping
from speechrnn.datasets.augment_mel import MelAugmentation, change_log_mel
from speechrnn.datasets.waveforms import AUGMENTATIONS, WaveformAugmentation, Waveforms

RESULTS = Path(__file__).parent / "results" / "augmentation.md"
PACKAGES = ("numpy", "scipy", "tensorflow", "keras")
RATE_HZ, BATCH_SIZE = 16000, 64
FRAMES, MELS, HOP_MS = 98, 40, 10.0
SECONDS_PER_TIMING = 0.1
# A clip may cost this much of one core: a quarter of what two cores train 1,700 clips a second in.
BUDGET_MS = 0.15

CHAIN = {
    "time_shift": 1.0,
    "speed": 0.5,
    "gain": 1.0,
    "clipping": 0.05,
    "background_noise": 0.5,
    "room": 0.2,
    "channel": 0.2,
    "band_limit": 0.05,
    "telephone": 0.05,
}

Contender = Callable[[], Any]


def on_waveforms(augmentations: Sequence[Any], clips: list[np.ndarray]) -> Contender:
    rng = np.random.default_rng(0)

    def compute() -> Any:
        batch = Waveforms.stack(clips, RATE_HZ)
        for augmentation in augmentations:
            batch = augmentation.apply(batch, rng)
        return batch.trimmed()

    return compute


def on_mel(augmentation: Any) -> Contender:
    change = change_log_mel([augmentation], HOP_MS)
    assert change is not None
    seed = keras.random.SeedGenerator(0)
    log_mel = tf.random.stateless_normal((BATCH_SIZE, FRAMES, MELS), seed=(0, 0))
    compiled = tf.function(lambda values: change(values, seed)).get_concrete_function(log_mel)
    return lambda: np.asarray(compiled(log_mel))


def contenders() -> dict[str, Contender]:
    rng = np.random.default_rng(0)
    clips = [0.1 * rng.standard_normal(RATE_HZ, np.float32) for _ in range(BATCH_SIZE)]
    found: dict[str, Contender] = {"padding alone": on_waveforms([], clips)}
    chain = augmentations_from_mapping({n: {"probability": p} for n, p in CHAIN.items()})
    found["the chain"] = on_waveforms(chain, clips)
    for name in AUGMENTATIONS.names():
        augmentation = AUGMENTATIONS.from_mapping({"type": name, "probability": 1.0})
        if isinstance(augmentation, WaveformAugmentation):
            found[name] = on_waveforms([augmentation], clips)
        elif isinstance(augmentation, MelAugmentation):
            found[f"{name} (mel)"] = on_mel(augmentation)
    return found


def clips_per_second(compute: Contender) -> float:
    calls, started = 0, time.thread_time()
    while (seconds := time.thread_time() - started) < SECONDS_PER_TIMING:
        compute()
        calls += 1
    return calls * BATCH_SIZE / seconds


def measure(found: dict[str, Contender], rounds: int) -> dict[str, float]:
    """Median clips a second, by name."""
    for compute in found.values():  # make noise and rooms, trace, fill caches
        clips_per_second(compute)
    rates: dict[str, list[float]] = {name: [] for name in found}
    for _ in range(rounds):
        for name, compute in found.items():
            rates[name].append(clips_per_second(compute))
    return {name: float(np.median(values)) for name, values in rates.items()}


def table(rates: dict[str, float]) -> str:
    lines = ["augmentation | in the chain | clips/s | ms a clip", "--- | ---: | ---: | ---:"]
    for name, rate in rates.items():
        probability = f"{CHAIN[name]:g}" if name in CHAIN else ""
        lines.append(f"{name} | {probability} | {rate:,.0f} | {1000 / rate:.4f}")
    share = 1000 / rates["the chain"] / BUDGET_MS
    note = f"\n\nThe chain takes {100 * share:.0f} % of the {BUDGET_MS} ms that a clip may cost."
    return "\n".join(f"| {line} |" for line in lines) + note


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help=f"append the table to {RESULTS}")
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(-1)  # the caller's own thread
    text = table(measure(contenders(), options.rounds))
    print(text)
    if options.write:
        append_table(RESULTS, text, PACKAGES)


if __name__ == "__main__":
    main()
