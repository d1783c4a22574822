"""How long exported files take: one thread, files in turn, medians."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np


def opened(content: bytes, num_samples: int, **options: Any) -> Any:
    """A LiteRT interpreter of one thread, ready for a waveform of so many samples."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1, **options)
    interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], [1, num_samples])
    interpreter.allocate_tensors()
    return interpreter


def sounds(count: int, num_samples: int) -> list[np.ndarray]:
    """Noise of drawn loudness, float32 ``[num_samples]`` each; the same ones each time."""
    rng = np.random.default_rng(0)
    return [
        (10 ** rng.uniform(-3, -0.5) * rng.standard_normal(num_samples)).astype(np.float32)
        for _ in range(count)
    ]


def in_turn(
    runs: Mapping[str, Callable[[], Any]], rounds: int, times: int = 10
) -> dict[str, float]:
    """Median seconds of each, which take turns: what else the machine does, all of them feel.

    Args:
        runs: What to time, by name.
        rounds: Turns of each.
        times: Runs in a turn, behind one that does not count.
    """
    found: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            run()
            started = time.perf_counter()
            for _ in range(times):
                run()
            found[name].append((time.perf_counter() - started) / times)
    return {name: statistics.median(values) for name, values in found.items()}
