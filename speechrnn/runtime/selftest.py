"""A sound that any language can make, and what a file answered to it where it was made."""

from __future__ import annotations

from typing import Any

import numpy as np

from speechrnn.errors import ModelError

NUM_SAMPLES = 4000
# Another device sums in another order; a wrong kernel or a damaged weight differs by more.
TOLERANCE = 0.01
_MULTIPLIER, _INCREMENT, _MODULUS = 1664525, 1013904223, 2**32


def selftest_waveform(num_samples: int) -> np.ndarray:
    """Noise, float32 ``[num_samples]``, within -0.1..0.1: the same bits everywhere.

    ``x = (1664525 * x + 1013904223) mod 2**32`` from ``x = 1`` on (Numerical Recipes, "quick and
    dirty generators"); a sample is ``((x >> 16) - 32768) / 327680``.
    """
    states, state = np.empty(num_samples, np.int64), 1
    for place in range(num_samples):
        state = (_MULTIPLIER * state + _INCREMENT) % _MODULUS
        states[place] = state
    return (((states >> 16) - 32768) / 327680).astype(np.float32)


def record(output: str, answer: np.ndarray) -> dict[str, Any]:
    """What a file says about its self-test: ``answer`` of the output of this name."""
    probabilities = np.exp(answer) if output == "log_probs" else answer
    return {
        "samples": NUM_SAMPLES,
        "probabilities": np.round(probabilities.astype(float), 6).tolist(),
        "tolerance": TOLERANCE,
    }


def difference(recorded: dict[str, Any] | None, output: str, answer: np.ndarray) -> float:
    """The largest difference of a probability from what is recorded.

    Raises:
        ModelError: Nothing is recorded, or the answer is of another shape, or differs too much.
    """
    if recorded is None:
        raise ModelError("the file carries no self-test, an older speechrnn made it; export again")
    probabilities = np.exp(answer) if output == "log_probs" else answer
    expected = np.array(recorded["probabilities"])
    same_shape = expected.shape == probabilities.shape
    found = float(np.abs(expected - probabilities).max()) if same_shape else np.inf
    if not found <= recorded["tolerance"]:
        raise ModelError(
            f"the self-test differs by {found:.2g} from where the file was made, expected at most "
            f"{recorded['tolerance']:g}: this device or its LiteRT computes something "
            "else; export again with this LiteRT, or use another"
        )
    return found
