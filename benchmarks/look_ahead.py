"""What a stream of a model of both directions loses against the whole, by its look-ahead.

    python benchmarks/look_ahead.py BUNDLE DATA [--most N] [--quantize KIND] [--write]

Each recording is a stream of its own, in pieces of 20 ms. Of a model of sequences all answers are
decoded together, and word errors counted; of a classifier the last one counts, which is to as much
as it pools over. Late is how long after a step its answer comes at most, because chunks are as long
as the look-ahead; what the convolutions see ahead is not in it. Times are of one thread, for a
second of sound, whole and stream in turn, each recording once.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from provenance import show_table

from speechrnn.counting import error_rates
from speechrnn.datasets.manifest import Utterance
from speechrnn.datasets.reading import read_some
from speechrnn.export import export_bundle
from speechrnn.recognize import expected_answers
from speechrnn.runtime import Recognizer
from speechrnn.runtime.streaming import Stream

LOOK_AHEADS_S = (0.12, 0.24, 0.48, 0.96)
PIECE_S = 0.02
RESULTS = Path(__file__).parent / "results" / "look_ahead.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("bundle", type=Path, metavar="BUNDLE")
    parser.add_argument("data", metavar="DATA")
    parser.add_argument("--most", type=int, metavar="N", help="recordings, spread evenly")
    parser.add_argument("--quantize", default="none", metavar="KIND", help="default: none")
    parser.add_argument("--write", action="store_true", help=f"append to {RESULTS.name}")
    options = parser.parse_args()
    rows = table(options.bundle, options.data, options.most, options.quantize)
    results = RESULTS if options.write else None
    show_table(rows, results, ["tensorflow", "keras", "ai-edge-litert"])


def table(bundle: Path, data: str, most: int | None, quantize: str) -> Iterator[str]:
    """The rows as they are measured."""
    recordings: list[tuple[Utterance, np.ndarray]] = []
    for look_ahead_s in LOOK_AHEADS_S:
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "model.tflite"
            asked = {"quantize": quantize, "streaming": True, "look_ahead_s": look_ahead_s}
            recognizer = Recognizer(export_bundle(bundle, out, **asked).path)
        recordings = recordings or read_some(data, recognizer.sample_rate_hz, most)
        truths = expected_answers(recognizer, [row for row, _ in recordings])
        by_whole, by_stream, whole_ms, stream_ms = answered(
            recognizer, [waveform for _, waveform in recordings]
        )
        sequences = recognizer.metadata["output"]["name"] == "log_probs"
        if look_ahead_s == LOOK_AHEADS_S[0]:
            counted = "WER %" if sequences else "accuracy %"
            yield f"| sees ahead s | late s | {counted} | other texts | ms a second of sound |"
            yield "|---|---|---|---|---|"
            yield (
                f"| the whole, {len(recordings)} recordings | | "
                f"{percent(truths, by_whole, sequences)} | | {whole_ms:.2f} |"
            )
        others = sum(a != b for a, b in zip(by_whole, by_stream, strict=True))
        seen_s = recognizer.metadata["streaming"]["look_ahead_s"]
        yield (
            f"| {seen_s:g} | {2 * seen_s:g} | {percent(truths, by_stream, sequences)} "
            f"| {others} of {len(truths)} | {stream_ms:.2f} |"
        )


def answered(
    recognizer: Recognizer, waveforms: Sequence[np.ndarray]
) -> tuple[list[str], list[str], float, float]:
    """What is said by the whole and by the stream; ms that each takes for a second of sound."""
    stream, piece = Stream(recognizer), round(PIECE_S * recognizer.sample_rate_hz)
    by_whole, by_stream, whole_s, stream_s = [], [], 0.0, 0.0
    list_of_pieces = [
        [waveform[at : at + piece] for at in range(0, len(waveform), piece)]
        for waveform in waveforms
    ]
    for waveform, pieces in zip(waveforms, list_of_pieces, strict=True):
        started = time.perf_counter()
        whole = recognizer.run(waveform)
        between = time.perf_counter()
        answers = [answer for one in pieces for answer in stream.feed(one)] + stream.finish()
        whole_s, stream_s = whole_s + between - started, stream_s + time.perf_counter() - between
        found = np.array(answers) if whole.ndim == 2 else answers[-1]
        for texts, answer in ((by_whole, whole), (by_stream, found)):
            duration_s = len(waveform) / recognizer.sample_rate_hz
            texts.append(recognizer.decoder.decode(answer, duration_s, threshold=0.0).text)
    seconds = sum(map(len, waveforms)) / recognizer.sample_rate_hz
    return by_whole, by_stream, 1e3 * whole_s / seconds, 1e3 * stream_s / seconds


def percent(truths: Sequence[str], said: Sequence[str], sequences: bool) -> str:
    if sequences:
        return f"{100 * error_rates(truths, said)['wer']:.2f}"
    return f"{100 * np.mean([a == b for a, b in zip(truths, said, strict=True)]):.2f}"


if __name__ == "__main__":
    main()
