"""Rooms, microphones and lines between a mouth and a recording, as products of spectra.

A filter is one FFT over a whole clip, and back. scipy's, because it takes several rows at once
through the vector unit: 30 us for 1.25 s at 16 kHz, against 130 us with numpy.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from speechrnn.datasets.waveforms import (
    AUGMENTATIONS,
    Waveforms,
    between,
    check_probability,
    check_range,
    draw,
    mean_power,
)

# Rows that are filtered at once: what they need stays in the L2 cache. Four go through the vector
# unit together, and a fifth takes as long as four: what is missing to a multiple is zeros.
ROWS_AT_ONCE, LANES = 8, 4
# Zeros behind a clip, so that a filter that rings does not reach round to its beginning.
RINGING_S = 0.05
# Clips are taken for as long as a multiple of this, so that few sizes of FFT are prepared.
SIZE_STEP_S = 1 / 16

NUM_ROOMS = 64
# Distance of the first echo from the voice: 3 ms is a detour of one metre.
FIRST_ECHO_S = 0.003

# Where the microphone's gain is drawn; between them it is interpolated.
EQUALISER_LOWEST_HZ, EQUALISER_HIGHEST_HZ = 125.0, 8000.0

# ITU-T G.711: 8000 samples a second; G.712: the band of a telephone channel.
TELEPHONE_RATE_HZ = 8000
TELEPHONE_LOW_HZ, TELEPHONE_HIGH_HZ = 300.0, 3400.0
MU = 255.0
# Width of a band's edge, of its frequency: steep, as a resampler's is.
EDGE = 0.1


@AUGMENTATIONS.register("room")
@dataclass(frozen=True)
class Room:
    """Puts the voice into a room: echoes that decay exponentially, by 60 dB in the drawn time.

    One of 64 rooms, made once. The clip keeps its length, its power, and the time of its direct
    sound. Source: Polack 1988, "La transmission de l'energie sonore dans les salles" (a room's
    late response is noise that decays exponentially); Ko et al. 2017, "A study on data
    augmentation of reverberant speech for robust speech recognition".

    Attributes:
        low_rt60_s: Shortest reverberation time; 0.1 s is a car, 0.3 s a furnished room.
        high_rt60_s: Longest; 0.6 s is an empty room.
        low_direct_db: Least energy of the direct sound against that of all echoes.
        high_direct_db: Most.
    """

    probability: float = 0.2
    low_rt60_s: float = 0.1
    high_rt60_s: float = 0.6
    low_direct_db: float = -3.0
    high_direct_db: float = 12.0

    def __post_init__(self) -> None:
        check_probability(self.probability)
        check_range("room.rt60_s", 0.02, self.low_rt60_s, self.high_rt60_s, 5)
        check_range("room.direct_db", -60, self.low_direct_db, self.high_direct_db, 60)

    def prepare(self, sample_rate_hz: int) -> None:
        """Build the rooms."""
        self._rooms(sample_rate_hz)

    def apply(self, batch: Waveforms, rng: np.random.Generator) -> Waveforms:
        """The rows with echoes."""
        import scipy.fft

        rows, (place,) = draw(batch, rng, self.probability, 1)
        chosen = self._rooms(batch.sample_rate_hz)[(place * NUM_ROOMS).astype(int)]

        def response(part: slice, size: int) -> np.ndarray:
            return scipy.fft.rfft(chosen[part], size)

        return _filter(batch, rows, response, chosen.shape[1], keep_power=True)

    def _rooms(self, sample_rate_hz: int) -> np.ndarray:
        return made_rooms(
            sample_rate_hz,
            (self.low_rt60_s, self.high_rt60_s),
            (self.low_direct_db, self.high_direct_db),
        )


@functools.lru_cache(maxsize=4)
def made_rooms(
    sample_rate_hz: int, rt60_s: tuple[float, float], direct_db: tuple[float, float]
) -> np.ndarray:
    """Impulse responses float32 ``[NUM_ROOMS, samples]``, the direct sound 1 at sample 0.

    They end where the longest has fallen by 30 dB: a thousandth of its energy is left out.
    """
    rng = np.random.default_rng(0)
    time_s = np.arange(max(2, round(rt60_s[1] / 2 * sample_rate_hz))) / sample_rate_hz
    decay_s = rng.uniform(*rt60_s, (NUM_ROOMS, 1))
    # 60 dB are a factor of 1000 in amplitude.
    echoes = rng.standard_normal((NUM_ROOMS, len(time_s))) * 1000 ** (-time_s / decay_s)
    echoes[:, : max(1, round(FIRST_ECHO_S * sample_rate_hz))] = 0
    energy = np.square(echoes).sum(axis=1, keepdims=True) + 1e-12
    echoes *= np.sqrt(10 ** (-rng.uniform(*direct_db, (NUM_ROOMS, 1)) / 10) / energy)
    echoes[:, 0] = 1
    return echoes.astype(np.float32)


@AUGMENTATIONS.register("channel")
@dataclass(frozen=True)
class Channel:
    """Records through another microphone: a drawn frequency response, and softly drawn limits.

    Gains within ``max_db`` at every octave from 125 Hz to 8 kHz; a second-order edge below and a
    fourth-order one above. Without a change of phase, which the front end would not see.

    Attributes:
        max_db: Most gain or loss of an octave.
        high_low_cut_hz: Highest lower limit; the lowest is 20 Hz.
        low_high_cut_hz: Lowest upper limit; the highest is half the sample rate.
    """

    probability: float = 0.2
    max_db: float = 8.0
    high_low_cut_hz: float = 200.0
    low_high_cut_hz: float = 4000.0

    def __post_init__(self) -> None:
        check_probability(self.probability)
        check_range("channel.max_db", 0, 0, self.max_db, 40)
        check_range("channel.high_low_cut_hz", 20, 20, self.high_low_cut_hz, 1000)
        check_range("channel.low_high_cut_hz", 1000, 1000, self.low_high_cut_hz, 100_000)

    def apply(self, batch: Waveforms, rng: np.random.Generator) -> Waveforms:
        """The rows as the microphone gives them."""
        octaves = _num_octaves(batch.sample_rate_hz)
        rows, (low, high, *gains) = draw(batch, rng, self.probability, 2 + octaves)
        nyquist_hz = batch.sample_rate_hz / 2
        low_hz = np.exp(between(math.log(20), math.log(self.high_low_cut_hz), low))
        high_hz = np.exp(
            between(math.log(min(self.low_high_cut_hz, nyquist_hz)), math.log(nyquist_hz), high)
        )
        # Powers of frequencies over half the rate: float32 holds the eighth as well.
        low_power = ((low_hz / nyquist_hz) ** 4).astype(np.float32)[:, None]
        high_power = ((high_hz / nyquist_hz) ** -8).astype(np.float32)[:, None]
        # In nepers: the exponential function is the fast one.
        nepers = between(-self.max_db, self.max_db, np.array(gains)) * (math.log(10) / 20)

        def response(part: slice, size: int) -> np.ndarray:
            shapes, power_4, power_8 = _channel_shapes(size, batch.sample_rate_hz)
            gain = nepers.T[part].astype(np.float32) @ shapes
            np.exp(gain, out=gain)
            loss = (1 + low_power[part] * power_4) * (1 + high_power[part] * power_8)
            return np.divide(gain, np.sqrt(loss, out=loss), out=gain)

        return _filter(batch, rows, response, round(RINGING_S * batch.sample_rate_hz))


def _num_octaves(sample_rate_hz: int) -> int:
    highest_hz = min(EQUALISER_HIGHEST_HZ, sample_rate_hz / 2)
    return 1 + max(1, round(math.log2(highest_hz / EQUALISER_LOWEST_HZ)))


@functools.lru_cache(maxsize=16)
def _channel_shapes(size: int, sample_rate_hz: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of an FFT's bins: each octave's share of the gain ``[octaves, bins]``, and two powers."""
    hz = np.fft.rfftfreq(size, 1 / sample_rate_hz)
    hz[0] = hz[1]  # 0 Hz has no logarithm, and is cut off by any microphone
    centres = np.arange(_num_octaves(sample_rate_hz))
    octave = np.clip(np.log2(hz / EQUALISER_LOWEST_HZ), 0, centres[-1])
    distance = np.minimum(1, np.abs(octave - centres[:, None]))
    shapes = 0.5 + 0.5 * np.cos(np.pi * distance)  # of two neighbours they add up to 1
    relative = hz / (sample_rate_hz / 2)
    return (
        shapes.astype(np.float32),
        (relative**-4).astype(np.float32),
        (relative**8).astype(np.float32),
    )


@AUGMENTATIONS.register("band_limit")
@dataclass(frozen=True)
class BandLimit:
    """Leaves nothing above a drawn frequency, as a lower sample rate or a sparing codec does."""

    probability: float = 0.1
    low_hz: float = 3400.0
    high_hz: float = 7000.0

    def __post_init__(self) -> None:
        check_probability(self.probability)
        check_range("band_limit", 500, self.low_hz, self.high_hz, 100_000)

    def apply(self, batch: Waveforms, rng: np.random.Generator) -> Waveforms:
        """The rows with what lies below."""
        rows, (place,) = draw(batch, rng, self.probability, 1)
        limit_hz = between(self.low_hz, self.high_hz, place).astype(np.float32)[:, None]

        def response(part: slice, size: int) -> np.ndarray:
            return _below(_bins_hz(size, batch.sample_rate_hz), limit_hz[part])

        return _filter(batch, rows, response, round(RINGING_S * batch.sample_rate_hz))


@AUGMENTATIONS.register("telephone")
@dataclass(frozen=True)
class Telephone:
    """Calls by telephone: 300 to 3400 Hz, at 8 kHz in 8 bits on a mu-law scale, and back.

    The line is driven to its full scale by the clip's peak. Source: ITU-T G.711 and G.712; the
    scale is the smooth function that G.711 approximates by straight pieces.
    """

    probability: float = 0.1

    def __post_init__(self) -> None:
        check_probability(self.probability)

    def apply(self, batch: Waveforms, rng: np.random.Generator) -> Waveforms:
        """The rows as the other end hears them."""
        rows, _ = draw(batch, rng, self.probability, 0)

        def response(part: slice, size: int) -> np.ndarray:
            return _telephone_band(size, batch.sample_rate_hz)

        tail = round(RINGING_S * batch.sample_rate_hz)
        return _filter(batch, rows, response, tail, line=True)


@functools.lru_cache(maxsize=16)
def _telephone_band(size: int, sample_rate_hz: int) -> np.ndarray:
    hz = _bins_hz(size, sample_rate_hz)
    low, high = (np.float32(edge) for edge in (TELEPHONE_LOW_HZ, TELEPHONE_HIGH_HZ))
    return _below(hz, high) * (1 - _below(hz, low))


@functools.lru_cache(maxsize=1)
def _mu_law_table() -> np.ndarray:
    """What becomes of each 16-bit sample, float32 ``[65536]``, by its bits read as unsigned."""
    samples = np.arange(65536).astype(np.uint16).view(np.int16) / 32767
    compressed = np.sign(samples) * np.log1p(MU * np.abs(samples)) / math.log1p(MU)
    coded = np.clip(np.rint(compressed * 127), -127, 127) / 127
    return (np.sign(coded) * np.expm1(np.abs(coded) * math.log1p(MU)) / MU).astype(np.float32)


def mu_law(waveforms: np.ndarray) -> np.ndarray:
    """float32 ``[rows, samples]`` in 8 bits and back, each row from its own peak to its peak."""
    peak = np.abs(waveforms).max(axis=1, keepdims=True) + np.float32(1e-12)
    samples = (waveforms * (32767 / peak)).astype(np.int16)
    return _mu_law_table().take(samples.view(np.uint16)) * peak


def _filter(
    batch: Waveforms,
    rows: np.ndarray,
    response: Callable[[slice, int], np.ndarray],
    tail: int,
    *,
    keep_power: bool = False,
    line: bool = False,
) -> Waveforms:
    """The batch with some rows' spectra multiplied by ``response(part of rows, FFT size)``.

    Args:
        batch: What is changed in place.
        rows: Which of it.
        response: float32 or complex64 ``[rows of the part, size // 2 + 1]``.
        tail: Samples that the filter rings on at most.
        keep_power: Scale each row to its mean power before.
        line: Send what is left after the filter over a telephone line.
    """
    import scipy.fft

    if not len(rows):
        return batch
    step = max(1, round(SIZE_STEP_S * batch.sample_rate_hz))
    longest = -(-int(batch.num_samples[rows].max()) // step) * step
    size = _fft_size(longest + tail, batch.sample_rate_hz)
    for start in range(0, len(rows), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        chosen = [batch.row(row) for row in rows[part]]
        padded = np.zeros((-(-len(chosen) // LANES) * LANES, size), np.float32)
        for target, waveform in zip(padded, chosen, strict=False):
            target[: len(waveform)] = waveform
        spectrum = scipy.fft.rfft(padded)
        spectrum[: len(chosen)] *= response(part, size)
        if line:
            spectrum = _over_the_line(spectrum, size, batch.sample_rate_hz)
        for waveform, filtered in zip(chosen, scipy.fft.irfft(spectrum, size), strict=False):
            new = filtered[: len(waveform)]
            if keep_power and (power := mean_power(new)) > 0:
                new *= np.float32(math.sqrt(mean_power(waveform) / power))
            waveform[:] = new
    return batch


@functools.lru_cache(maxsize=64)
def _fft_size(least: int, sample_rate_hz: int) -> int:
    """A size that is fast, and whose share of 8 kHz is a whole number and fast too."""
    import scipy.fft

    multiple = sample_rate_hz // math.gcd(sample_rate_hz, TELEPHONE_RATE_HZ)
    return multiple * scipy.fft.next_fast_len(-(-least // multiple), real=True)


def _over_the_line(spectrum: np.ndarray, size: int, sample_rate_hz: int) -> np.ndarray:
    """Spectra after 8 bits at 8 kHz: what the coder adds lies below 4 kHz, as it would."""
    import scipy.fft

    line_size = min(size, size * TELEPHONE_RATE_HZ // sample_rate_hz)
    bins = line_size // 2 + 1
    coded = mu_law(scipy.fft.irfft(spectrum[:, :bins], line_size))
    spectrum[:] = 0
    spectrum[:, :bins] = scipy.fft.rfft(coded)
    return spectrum


@functools.lru_cache(maxsize=16)
def _bins_hz(size: int, sample_rate_hz: int) -> np.ndarray:
    return np.fft.rfftfreq(size, 1 / sample_rate_hz).astype(np.float32)


def _below(hz: np.ndarray, limit_hz: np.ndarray | np.float32) -> np.ndarray:
    """1 below the limit, 0 above it, with an edge as wide as a tenth of it, as a half cosine."""
    place = np.clip((hz - limit_hz) / (EDGE * limit_hz) + np.float32(0.5), 0, 1)
    return np.float32(0.5) + np.float32(0.5) * np.cos(np.float32(np.pi) * place)
