"""How long a window should be: commands missed in front of noise, by the length of the windows.

    python benchmarks/listening.py MODEL --data DATA --background NOISE [--write]

What ``speechrnn evaluate --background`` measures, with windows of so many times the longest
recordings that the model learnt from (nine of ten are no longer), each a fifth further, at most
0.2 s, and no second event for as long as a window. The threshold of each is the lowest that keeps
to the budget of false alarms, so that missed commands compare.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from provenance import model_options, show_table

from speechrnn.background import BackgroundTest, load_background, measure_background
from speechrnn.datasets.reading import read_some
from speechrnn.decoding.detect import DetectorConfig
from speechrnn.recognize import load_model

FACTORS = (0.5, 0.75, 1.0, 1.5, 2.0)
RESULTS = Path(__file__).parent / "results" / "listening.md"


def main() -> None:
    parser = model_options(__doc__.splitlines()[0], RESULTS)
    parser.add_argument("--background", required=True, metavar="NOISE", help="without commands")
    parser.add_argument("--false-alarms-per-hour", type=float, default=0.0, metavar="N")
    options = parser.parse_args()
    results = RESULTS if options.write else None
    show_table(table(options), results, ["ai-edge-litert", "numpy"])


def table(options: argparse.Namespace) -> Iterator[str]:
    """The rows as they are measured."""
    model = load_model(options.model)
    commands = [
        (row.text, waveform)
        for row, waveform in read_some(options.data, model.sample_rate_hz, options.most)
    ]
    shortest_s, longest_s = model.clip_s
    yield f"Learnt from recordings of {shortest_s:g} to {longest_s:g} s.\n"
    yield "| of the longest | window s | threshold | false alarms | missed % |"
    yield "|---:|---:|---:|---:|---:|"
    tests = [
        BackgroundTest(
            options.background,
            options.false_alarms_per_hour,
            detector=DetectorConfig.of_clips((shortest_s, factor * longest_s)),
        )
        for factor in FACTORS
    ]
    background = load_background(tests[-1], model)  # of the longest windows
    for factor, test in zip(FACTORS, tests, strict=True):
        found = measure_background(model, background, commands, test)
        sure = found["threshold"] is not None
        yield f"| {factor:g} | {found['detector']['window_s']:.2f} | " + (
            f"{found['threshold']:g} | {found['false_alarms']} | {100 * found['missed']:.1f} |"
            if sure
            else "none keeps to the budget | | |"
        )


if __name__ == "__main__":
    main()
