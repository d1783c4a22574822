"""Any audio file -> mono float32 waveform at one rate, and what makes one unusable.

A waveform is float32 ``[num_samples]``, nominally within -1..1, at a rate that the caller names.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NoReturn

import numpy as np

from speechrnn.audio.blocks import read_blocks, too_long
from speechrnn.errors import AudioError
from speechrnn.suffixes import AUDIO_SUFFIXES

# Float files may overshoot full scale a little; values far beyond it are unscaled integers.
MAX_ABS_SAMPLE = 8.0
# What is taken for one command, or one utterance, is at most so long. Longer recordings are
# transcribed piece by piece (speechrnn.decoding.long).
LONGEST_COMMAND_S = 60.0


def load_waveform(
    path: str | Path, sample_rate_hz: int, *, min_samples: int = 1, max_s: float = math.inf
) -> np.ndarray:
    """Read a recording as a mono waveform.

    Args:
        path: Any file that libsndfile reads, at any rate, with any number of channels.
        sample_rate_hz: The rate of the result.
        min_samples: The fewest samples, at that rate, that are of use to the caller.
        max_s: The longest recording that is; a longer one is refused before it is read.

    Returns:
        float32 ``[num_samples]``, the mean of the channels.

    Raises:
        AudioError: The file is missing, a folder, unreadable, empty, not audio, shorter than
            ``min_samples``, longer than ``max_s``, cut short, or holds NaN, infinity or unscaled
            values.
    """
    samples = bytearray()  # grows in place: the result is never held twice
    for block in read_blocks(path, sample_rate_hz, max_s=max_s):
        samples += block.data
    waveform = np.frombuffer(samples, np.float32)
    return check_waveform(waveform, path, sample_rate_hz, min_samples=min_samples, max_s=max_s)


def check_waveform(
    waveform: np.ndarray,
    name: str | Path,
    sample_rate_hz: int,
    *,
    min_samples: int = 1,
    max_s: float = math.inf,
) -> np.ndarray:
    """The waveform as float32, or an error that says what is wrong with it.

    Raises:
        AudioError: Not one-dimensional, empty, too short or long, not finite, not within -1..1.
    """
    samples = np.asarray(waveform)
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise AudioError(
            name, f"got {samples.dtype} {list(samples.shape)}, expected a float [num_samples] array"
        )
    if samples.size < max(1, min_samples):
        raise AudioError(name, _too_short(samples.size, min_samples, sample_rate_hz))
    if samples.size > max_s * sample_rate_hz:
        raise AudioError(name, too_long(samples.size / sample_rate_hz, max_s))
    check_values(samples, name)
    return np.ascontiguousarray(samples, dtype=np.float32)


def check_values(samples: np.ndarray, name: str | Path) -> None:
    """Refuse samples, float ``[num_samples]``, at least one, that are no sound.

    Raises:
        AudioError: Not finite, or not within -1..1 by far.
    """
    peak = max(float(samples.max()), -float(samples.min()))  # as NaN, whichever is first
    if not np.isfinite(peak):
        raise AudioError(name, "holds NaN or infinite samples; export it again from its source")
    if peak > MAX_ABS_SAMPLE:
        raise AudioError(
            name, f"reaches {peak:g}, expected samples within -1..1; divide integers by 32768"
        )


def as_command(
    recording: str | Path | np.ndarray, sample_rate_hz: int, *, min_samples: int
) -> np.ndarray:
    """One command: a file as :func:`load_waveform` reads it, or an array that is checked.

    Raises:
        AudioError: As there; also a recording of more than ``LONGEST_COMMAND_S``.
    """
    if isinstance(recording, np.ndarray):
        return check_waveform(
            recording,
            "waveform",
            sample_rate_hz,
            min_samples=min_samples,
            max_s=LONGEST_COMMAND_S,
        )
    return load_waveform(
        recording, sample_rate_hz, min_samples=min_samples, max_s=LONGEST_COMMAND_S
    )


def find_audio(folder: Path) -> list[Path]:
    """Every audio file below a folder, sorted by path; hidden files and folders are left out.

    Links to folders are followed, each folder once. A link to a file that is missing is in the
    list, so that reading it says so.

    Raises:
        AudioError: A folder cannot be read.
    """
    found, seen = [], set()
    for parent, folders, names in os.walk(folder, onerror=_unreadable_folder, followlinks=True):
        place = os.path.realpath(parent)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(file for file in found if file.suffix.lower() in AUDIO_SUFFIXES)


def _unreadable_folder(error: OSError) -> NoReturn:
    raise AudioError(error.filename, f"folder cannot be read ({error.strerror})") from error


def _too_short(num_samples: int, min_samples: int, sample_rate_hz: int) -> str:
    if num_samples == 0:
        return "holds no samples"
    return (
        f"is too short: {1000 * num_samples / sample_rate_hz:.1f} ms, "
        f"expected at least {1000 * min_samples / sample_rate_hz:.1f} ms"
    )
