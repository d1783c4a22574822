"""Times and memory of exported files, run as ``python -m speechrnn.comparison.measure``.

``times FILE ...`` and ``memory FILE`` print JSON. It is a process of its own so that nothing but
the files takes time and memory: no Keras, no TensorFlow, one thread.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from speechrnn.errors import ModelError, SpeechRNNError
from speechrnn.machine import processor
from speechrnn.runtime import Recognizer
from speechrnn.runtime.peak_memory import peak_bytes
from speechrnn.speed import in_turn, sounds

# Utterances up to a minute. Those of a second are what most are compared by.
LENGTHS_S = (1, 2, 5, 10, 20, 30, 60)
ROUNDS, ROUNDS_OF_LENGTHS = 15, 5


def times(files: Sequence[Path]) -> dict[str, Any]:
    """Medians, files in turn: ``latency_ms`` of a second and ``lengths_ms``, by file name.

    Of lengths, the files in float32 alone; those that a file cannot answer to are left out.
    """
    recognizers = {file.name: Recognizer(file) for file in files}
    latency = _latency(recognizers, 1, ROUNDS)
    whole = {
        name: recognizer
        for name, recognizer in recognizers.items()
        if recognizer.metadata["quantization"] == "none"
    }
    lengths: dict[str, list[list[float]]] = {name: [] for name in whole}
    for seconds in LENGTHS_S:
        able = {name: found for name, found in whole.items() if _can_answer(found, seconds)}
        for name, taken in _latency(able, seconds, ROUNDS_OF_LENGTHS).items():
            lengths[name].append([seconds, taken])
    return {"latency_ms": latency, "lengths_ms": lengths, "machine": machine()}


def _latency(recognizers: dict[str, Recognizer], seconds: int, rounds: int) -> dict[str, float]:
    """Milliseconds of an answer by name."""
    runs = {}
    for name, recognizer in recognizers.items():
        (waveform,) = sounds(1, seconds * recognizer.sample_rate_hz)
        runs[name] = lambda run=recognizer.run, waveform=waveform: run(waveform)
    taken = in_turn(runs, rounds, max(1, 10 // seconds))
    return {name: round(1000 * each, 4) for name, each in taken.items()}


def _can_answer(recognizer: Recognizer, seconds: int) -> bool:
    try:
        recognizer.run(sounds(1, seconds * recognizer.sample_rate_hz)[0])
    except ModelError:
        return False
    return True


def memory(file: Path) -> list[list[float]]:
    """``[[seconds, MB], ...]``: the peak of this process after utterances of growing length."""
    recognizer = Recognizer(file)
    found = []
    for seconds in LENGTHS_S:
        if not _can_answer(recognizer, seconds):
            break
        peak = peak_bytes()
        if peak is not None:
            found.append([seconds, round(peak / 1e6, 1)])
    return found


def machine() -> dict[str, Any]:
    """What the times were taken on."""
    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "load_average": round(os.getloadavg()[0], 1) if hasattr(os, "getloadavg") else None,
        "python": platform.python_version(),
    }


def main() -> None:
    """Print what the command line asks for; a failure is one line on standard error."""
    what, files = sys.argv[1], [Path(name) for name in sys.argv[2:]]
    try:
        print(json.dumps(times(files) if what == "times" else memory(files[0])))
    except SpeechRNNError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
