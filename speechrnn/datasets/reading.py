"""Rows -> waveforms: every recording is read once, at the model's rate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from speechrnn.audio import as_command
from speechrnn.datasets.manifest import Utterance
from speechrnn.errors import AudioError, DataError
from speechrnn.progress import progress


def load_waveforms(
    rows: Sequence[Utterance],
    sample_rate_hz: int,
    min_samples: int,
    *,
    skip_broken: bool = False,
    purpose: str = "reading",
) -> tuple[list[tuple[Utterance, np.ndarray]], list[AudioError]]:
    """Read every recording once, at the model's rate.

    Returns:
        The readable rows with their waveforms, and the errors of the others.

    Raises:
        DataError: Any recording is broken and ``skip_broken`` is off, or all are broken.
    """
    good, broken = [], []
    for row in progress(rows, purpose, unit="clip"):
        try:
            waveform = as_command(row.path, sample_rate_hz, min_samples=min_samples)
            good.append((row, waveform))
        except AudioError as error:
            broken.append(error)
    if broken and not (skip_broken and good):
        first = "; ".join(str(error) for error in broken[:3])
        more = f"; and {len(broken) - 3} more" if len(broken) > 3 else ""
        remedy = "repair or remove them, or pass --skip-broken" if good else "give other data"
        raise DataError(
            f"{len(broken)} of {len(rows)} recordings are broken ({first}{more}); {remedy}"
        )
    return good, broken
