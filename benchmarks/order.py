"""What a classifier loses when its recordings are out of order: shuffled in pieces, or backwards.

    python benchmarks/order.py MODEL --data DATA [--write]

Pieces of 100 ms, shuffled by seed 0; what is left behind the last whole piece stays at the end.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from provenance import model_options, show_table

from speechrnn.datasets.reading import read_some
from speechrnn.recognize import load_model

PIECE_S = 0.1
RESULTS = Path(__file__).parent / "results" / "order.md"


def main() -> None:
    parser = model_options(__doc__.splitlines()[0], RESULTS)
    options = parser.parse_args()
    results = RESULTS if options.write else None
    show_table(table(options), results, ["ai-edge-litert", "numpy"])


def table(options: argparse.Namespace) -> Iterator[str]:
    """The rows."""
    model = load_model(options.model)
    recordings = read_some(options.data, model.sample_rate_hz, options.most)
    texts, waveforms = [row.text for row, _ in recordings], [sound for _, sound in recordings]
    rng = np.random.default_rng(0)
    heard = {
        "as they are": waveforms,
        "shuffled": [shuffled(sound, model.sample_rate_hz, rng) for sound in waveforms],
        "backwards": [sound[::-1].copy() for sound in waveforms],
    }
    yield f"| {len(recordings)} recordings | accuracy % |"
    yield "|---|---:|"
    for name, sounds in heard.items():
        found = model.transcribe_many(sounds)
        right = [said.text == text for said, text in zip(found, texts, strict=True)]
        yield f"| {name} | {100 * np.mean(right):.2f} |"


def shuffled(waveform: np.ndarray, rate_hz: int, rng: np.random.Generator) -> np.ndarray:
    size = round(PIECE_S * rate_hz)
    whole = len(waveform) // size * size
    pieces = rng.permutation(waveform[:whole].reshape(-1, size))
    return np.concatenate([pieces.ravel(), waveform[whole:]])


if __name__ == "__main__":
    main()
