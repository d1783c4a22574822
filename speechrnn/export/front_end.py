"""Log mel energies as TFLite computes them fast: the same definition, another order of the sums.

TFLite's RFFT2D takes nine tenths of the front end's time. A real Fourier transform of
``fft_length = runs * run`` samples factors into two small ones (Cooley and Tukey 1965): over every
``run``-th sample, then over the ``run`` neighbours. Framing, the window, the first transform and
the factors between the two are one depthwise convolution over runs of samples; the second is a
matrix product, and so is the mel filterbank, which takes the bins in the order in which they lie.

Nothing here computes a shape, so that the interpreter knows all sizes before it starts.
"""

from __future__ import annotations

import math

import numpy as np
import tensorflow as tf

from speechrnn.features import LEAST_RUN, FeatureConfig, mel_filterbank, window

MOST_RUN = 32


def can_factor(config: FeatureConfig) -> bool:
    """Whether frames begin at whole runs of enough samples."""
    return LEAST_RUN <= _run(config) <= config.fft_length // 4


def _run(config: FeatureConfig) -> int:
    """Samples of a run: longer ones make larger matrices."""
    return min(math.gcd(config.hop_length, config.fft_length), MOST_RUN)


def _rows(config: FeatureConfig, run: int) -> int:
    """Runs of a frame: the others of the transform lie behind the window, and are zeros."""
    return -(-config.window_length // run)


def log_mel(config: FeatureConfig, waveform: tf.Tensor) -> tf.Tensor:
    """As ``MFCC`` has them: float32 ``[batch, samples]`` -> ``[batch, frames, num_mels]``."""
    batch = waveform.shape[0]  # known
    run = _run(config)
    runs = config.fft_length // run
    samples = _filled(config, waveform)
    if config.pre_emphasis:
        before = tf.pad(samples, [[0, 0], [1, 0]])[:, :-1]
        samples = samples - config.pre_emphasis * before
    # A convolution that copies: rows of `run` samples, and what fills no row is left out.
    rows = tf.nn.conv2d(
        tf.reshape(samples, [batch, -1, 1, 1]),
        np.eye(run, dtype=np.float32).reshape(run, 1, 1, run),
        strides=[run, 1],
        padding="VALID",
    )
    stride = config.hop_length // run
    found = tf.nn.depthwise_conv2d(
        rows, _first_transform(config, run), strides=[1, stride, stride, 1], padding="VALID"
    )
    found = tf.transpose(tf.reshape(found, [-1, run, runs + 2]), [0, 2, 1])
    found = tf.matmul(tf.reshape(found, [-1, 2 * run]), _second_transform(run))
    real, imaginary = tf.split(tf.square(found), 2, axis=1)
    spectrum = real + imaginary
    if config.spectrum == "magnitude":
        spectrum = tf.sqrt(spectrum)
    filters = filters_in_order(config, run)
    energies = tf.matmul(tf.reshape(spectrum, [-1, filters.shape[0]]), filters)
    energies = tf.math.log(tf.maximum(energies, config.log_floor))
    return tf.reshape(energies, [batch, -1, config.num_mels]) if batch > 1 else energies[None]


def _filled(config: FeatureConfig, waveform: tf.Tensor) -> tf.Tensor:
    """Zeros up to one window at least, and behind it as many as fill its last run."""
    length, run = config.window_length, _run(config)
    longer = _rows(config, run) * run - length
    first = tf.pad(waveform, [[0, 0], [0, length]])[:, :length]
    return tf.concat([first, waveform[:, length:], tf.zeros([waveform.shape[0], longer])], axis=1)


def _turns(a: np.ndarray, b: np.ndarray, period: int) -> np.ndarray:
    return np.exp(-2j * np.pi * (np.multiply.outer(a, b) % period) / period)


def _first_transform(config: FeatureConfig, run: int) -> np.ndarray:
    """Float32 ``[rows, 1, run, runs + 2]``: row, -, place in it, real and imaginary by residue."""
    length, runs = config.fft_length, config.fft_length // run
    shape = np.pad(window(config), (0, length - config.window_length)).reshape(runs, run, 1)
    residues = np.arange(runs // 2 + 1)  # the others are their mirror images
    turned = shape * _turns(np.arange(length), residues, length).reshape(runs, run, -1)
    parts = np.stack([turned.real, turned.imag], axis=-1)[: _rows(config, run)]
    return parts.reshape(-1, 1, run, runs + 2).astype(np.float32)


def _second_transform(run: int) -> np.ndarray:
    """Float32 ``[2 * run, 2 * run]``, real parts before imaginary ones on both sides."""
    turned = _turns(np.arange(run), np.arange(run), run)
    return np.block([[turned.real, turned.imag], [-turned.imag, turned.real]]).astype(np.float32)


def filters_in_order(config: FeatureConfig, run: int) -> np.ndarray:
    """The mel filterbank, float32 ``[residues * run, num_mels]``, for bins as they lie.

    Some lie there twice, as their own mirror images: one of the two counts nothing.
    """
    length, runs = config.fft_length, config.fft_length // run
    residue = np.arange(runs // 2 + 1)[:, None]
    bins = residue + runs * np.arange(run)[None]
    mirrored = bins > length // 2
    twice = mirrored & ((residue == 0) | (residue == runs // 2))
    filters = mel_filterbank(config)[np.where(mirrored, length - bins, bins)]
    filters[twice] = 0.0
    return filters.reshape(-1, config.num_mels).astype(np.float32)
