"""Clips a second through the front end on one thread, beside five other ways to compute it.

    python benchmarks/front_end.py            prints a table
    python benchmarks/front_end.py --write    and appends it to benchmarks/results/front_end.md

Every contender computes the same thing, the default FeatureConfig without normalisation, from
float32 waveforms in memory; how far each is from librosa in float64 is in the table. A round
times every contender once, one after the other, and a figure is the median over the rounds, a
ratio that of the rounds' ratios: what else the machine does meanwhile hits all of them alike.
Best on an idle machine all the same: what does not fit the L2 cache shares the next one with
others. TensorFlow's are concrete functions: choosing one by its arguments takes 80 us a call.
"""

from __future__ import annotations

import os

# Before the libraries load, which read these: one thread for each of them, and no GPU.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = "-1"
os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kaldi_native_fbank as knf
import librosa
import numpy as np
import scipy.fft
import tensorflow as tf
from provenance import append_table

from speechrnn.features import MFCC, FeatureConfig, dct_matrix, mel_filterbank, window

RESULTS = Path(__file__).parent / "results" / "front_end.md"
PACKAGES = ("tensorflow", "keras", "numpy", "scipy", "librosa", "kaldi-native-fbank")
CONFIG = FeatureConfig(normalisation="none")
BATCH_SIZES = (1, 4, 8, 16, 32)
# Long enough that the clock's step does not matter, short enough that a round stays one moment.
SECONDS_PER_TIMING = 0.1
OURS = "ours"

WINDOW = window(CONFIG).astype(np.float32)
MEL = mel_filterbank(CONFIG).astype(np.float32)
DCT = dct_matrix(CONFIG).astype(np.float32)
FLOOR = np.float32(CONFIG.log_floor)
# tf.signal scales c0 as HTK does, sqrt(2) times the orthonormal one.
ORTHONORMAL = np.array([2**-0.5] + [1.0] * (CONFIG.num_coefficients - 1), np.float32)


Rates = dict[tuple[str, int], list[float]]


@dataclass(frozen=True)
class Contender:
    """One way to compute the features of a batch ``[clips, samples]``."""

    name: str
    compute: Callable[[Any], Any]
    batch_sizes: tuple[int, ...] = BATCH_SIZES
    takes_tensors: bool = False


def librosa_one_by_one(waveforms: np.ndarray) -> np.ndarray:
    return np.stack([librosa_batched(waveform) for waveform in waveforms])


def librosa_batched(waveforms: np.ndarray) -> np.ndarray:
    pad = (CONFIG.fft_length - CONFIG.window_length) // 2
    width = [(0, 0)] * (waveforms.ndim - 1) + [(pad, pad)]
    mel = librosa.feature.melspectrogram(
        y=np.pad(waveforms, width),
        sr=CONFIG.sample_rate_hz,
        n_fft=CONFIG.fft_length,
        win_length=CONFIG.window_length,
        hop_length=CONFIG.hop_length,
        center=False,
        n_mels=CONFIG.num_mels,
        fmin=CONFIG.low_hz,
        fmax=CONFIG.high_hz,
    )
    coefficients = librosa.feature.mfcc(
        S=np.log(np.maximum(mel, FLOOR)), n_mfcc=CONFIG.num_coefficients
    )
    return np.swapaxes(coefficients, -1, -2)


def numpy_and_scipy(waveforms: np.ndarray) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(waveforms, CONFIG.window_length, axis=-1)
    frames = frames[:, :: CONFIG.hop_length] * WINDOW
    spectrum = scipy.fft.rfft(frames, CONFIG.fft_length, workers=1)
    power = np.square(spectrum.real)
    power += np.square(spectrum.imag)
    mel = power @ MEL
    return np.log(np.maximum(mel, FLOOR, out=mel), out=mel) @ DCT


def tf_signal(waveforms: Any) -> Any:
    spectrum = tf.signal.stft(waveforms, CONFIG.window_length, CONFIG.hop_length, CONFIG.fft_length)
    mel = tf.matmul(tf.square(tf.abs(spectrum)), MEL)
    log_mel = tf.math.log(tf.maximum(mel, FLOOR))
    return tf.signal.mfccs_from_log_mel_spectrograms(log_mel) * ORTHONORMAL


def kaldi_options() -> knf.MfccOptions:
    """The settings that equal ours (docs/front_end.md)."""
    options = knf.MfccOptions()
    options.frame_opts.samp_freq = CONFIG.sample_rate_hz
    options.frame_opts.dither = 0.0
    options.frame_opts.preemph_coeff = 0.0
    options.frame_opts.remove_dc_offset = False
    options.frame_opts.window_type = "hann"
    options.mel_opts.num_bins = CONFIG.num_mels
    options.mel_opts.low_freq = CONFIG.low_hz
    options.mel_opts.high_freq = CONFIG.high_hz
    options.mel_opts.is_librosa = True
    options.num_ceps = CONFIG.num_coefficients
    options.use_energy = False
    options.cepstral_lifter = 0
    return options


KALDI_OPTIONS = kaldi_options()


def kaldi(waveforms: np.ndarray) -> np.ndarray:
    results = []
    for waveform in waveforms:
        extractor = knf.OnlineMfcc(KALDI_OPTIONS)
        extractor.accept_waveform(CONFIG.sample_rate_hz, waveform.tolist())
        extractor.input_finished()
        results.append([extractor.get_frame(i) for i in range(extractor.num_frames_ready)])
    return np.array(results)


def ours(**options: Any) -> Any:
    layer = MFCC(CONFIG)
    return tf.function(lambda waveforms: layer(waveforms), **options)


def ours_with_lengths() -> Any:
    layer = MFCC(CONFIG)

    def compute(waveforms: Any) -> Any:
        return layer(waveforms, tf.fill([waveforms.shape[0]], CONFIG.sample_rate_hz))

    return tf.function(compute)


def contenders() -> list[Contender]:
    return [
        Contender("kaldi-native-fbank, from Python", kaldi, (1,)),
        Contender("librosa, one by one", librosa_one_by_one, (1,)),
        Contender("librosa, batched", librosa_batched),
        Contender("numpy + scipy.fft, batched", numpy_and_scipy),
        Contender("tf.signal", tf.function(tf_signal), takes_tensors=True),
        Contender("ours, XLA", ours(jit_compile=True), takes_tensors=True),
        Contender("ours, true lengths given", ours_with_lengths(), takes_tensors=True),
        Contender(OURS, ours(), takes_tensors=True),
    ]


def clips_per_second(compute: Callable[[Any], Any], waveforms: Any) -> float:
    calls, started = 0, time.perf_counter()
    while (seconds := time.perf_counter() - started) < SECONDS_PER_TIMING:
        np.asarray(compute(waveforms))
        calls += 1
    return calls * len(waveforms) / seconds


def measure(found: list[Contender], clips: np.ndarray, rounds: int) -> Rates:
    """Clips a second in each round, by name and batch size."""
    runs = {(one.name, size): _run(one, clips[:size]) for one in found for size in one.batch_sizes}
    for run in runs.values():  # trace, compile, fill caches
        clips_per_second(*run)
    rates: Rates = {key: [] for key in runs}
    for _ in range(rounds):
        for key, run in runs.items():
            rates[key].append(clips_per_second(*run))
    return rates


def _run(one: Contender, clips: np.ndarray) -> tuple[Callable[[Any], Any], Any]:
    if not one.takes_tensors:
        return one.compute, clips
    tensor = tf.constant(clips)
    return one.compute.get_concrete_function(tensor), tensor  # type: ignore[attr-defined]


def differences(found: list[Contender], clips: np.ndarray) -> dict[str, float]:
    """Largest difference from librosa one by one, in standard deviations of its features."""
    expected = librosa_one_by_one(clips.astype(np.float64))
    found_by_name = {one.name: np.asarray(one.compute(clips)) for one in found}
    return {
        name: float(np.abs(features - expected).max() / expected.std())
        for name, features in found_by_name.items()
    }


def table(found: list[Contender], rates: Rates, clips: np.ndarray) -> str:
    """Markdown: clips a second by batch size, ours against it each at its best, its error."""
    apart = differences(found, clips[:4])
    median = {key: np.median(values) for key, values in rates.items()}
    best = {
        one.name: max((median[one.name, size], size) for size in one.batch_sizes)[1]
        for one in found
    }
    ours_best = np.array(rates[OURS, best[OURS]])
    header = ["front end", *(f"batch {size}" for size in BATCH_SIZES), "ours / it", "difference"]
    lines = [" | ".join(header), " | ".join(["---", *["---:"] * (len(header) - 1)])]
    for one in found:
        cells = [f"{median[one.name, s]:,.0f}" if s in one.batch_sizes else "" for s in BATCH_SIZES]
        ratio = np.median(ours_best / rates[one.name, best[one.name]])
        lines.append(" | ".join([one.name, *cells, f"{ratio:.2f}", f"{apart[one.name]:.0e}"]))
    return "\n".join(f"| {line} |" for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--write", action="store_true", help=f"append the table to {RESULTS}")
    options = parser.parse_args()
    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(-1)  # the caller's own thread
    rng = np.random.default_rng(0)
    clips = 0.1 * rng.standard_normal((max(BATCH_SIZES), CONFIG.sample_rate_hz), np.float32)
    found = contenders()
    text = table(found, measure(found, clips, options.rounds), clips)
    print(text)
    if options.write:
        append_table(RESULTS, text, PACKAGES)


if __name__ == "__main__":
    main()
