"""Rows -> waveforms: every recording is read once, at the model's rate or at its own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import soundfile

from speechrnn.audio import LONGEST_COMMAND_S, as_command, load_waveform
from speechrnn.audio.blocks import open_sound
from speechrnn.datasets.manifest import Utterance, read_data
from speechrnn.errors import AudioError, DataError
from speechrnn.progress import progress
from speechrnn.spread import evenly


def read_own_rate(path: Path) -> tuple[np.ndarray, int]:
    """A recording as it is: mono float32 ``[num_samples]``, and its rate in Hz.

    Raises:
        AudioError: As ``load_waveform``; also longer than any command may be.
    """
    try:
        with open_sound(path) as stream:
            rate_hz = int(soundfile.info(stream).samplerate)
    except (AudioError, OSError, soundfile.LibsndfileError, RuntimeError, TypeError):
        rate_hz = 16000  # load_waveform says better what is wrong
    return load_waveform(path, rate_hz, max_s=LONGEST_COMMAND_S), rate_hz


def load_waveforms(
    rows: Sequence[Utterance],
    sample_rate_hz: int,
    min_samples: int,
    *,
    skip_broken: bool = False,
    purpose: str = "reading",
) -> tuple[list[tuple[Utterance, np.ndarray]], list[AudioError]]:
    """Read every recording once, at the model's rate, and hold it in memory.

    Returns:
        The readable rows with their waveforms, and the errors of the others.

    Raises:
        DataError: As :func:`read_each`.
    """
    broken: list[AudioError] = []
    good = list(
        read_each(
            rows, sample_rate_hz, min_samples, broken, skip_broken=skip_broken, purpose=purpose
        )
    )
    return good, broken


def read_some(
    data: str | Path, sample_rate_hz: int, most: int | None = None
) -> list[tuple[Utterance, np.ndarray]]:
    """Recordings of a data set at the model's rate: all of them, or at most so many, spread evenly.

    Raises:
        DataError: As :func:`read_data` and :func:`read_each`.
    """
    rows = read_data(data)
    chosen = evenly(rows, most) if most else rows
    return load_waveforms(chosen, sample_rate_hz, 1)[0]


def read_each(
    rows: Sequence[Utterance],
    sample_rate_hz: int,
    min_samples: int,
    broken: list[AudioError],
    *,
    skip_broken: bool = False,
    purpose: str = "reading",
) -> Iterator[tuple[Utterance, np.ndarray]]:
    """Read every recording once, at the model's rate; those that cannot be go into ``broken``.

    Raises:
        DataError: At the end, if any recording is broken and ``skip_broken`` is off, or all are.
    """
    for row in progress(rows, purpose, unit="clip"):
        try:
            waveform = as_command(row.path, sample_rate_hz, min_samples=min_samples)
        except AudioError as error:
            broken.append(error)
            continue
        yield row, waveform
    all_broken = len(broken) == len(rows)
    if broken and (all_broken or not skip_broken):
        first = "; ".join(str(error) for error in broken[:3])
        more = f"; and {len(broken) - 3} more" if len(broken) > 3 else ""
        remedy = "give other data" if all_broken else "repair or remove them, or pass --skip-broken"
        raise DataError(
            f"{len(broken)} of {len(rows)} recordings are broken ({first}{more}); {remedy}"
        )
