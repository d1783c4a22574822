"""Draw docs/stream.png: what a client does with sound as it comes, with real numbers.

python docs/draw_stream.py [--model commands-en] [--sound export/vectors/commands.wav]
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from speechrnn.audio import load_waveform
from speechrnn.decoding.detect import Detector, DetectorConfig
from speechrnn.runtime import Recognizer

ROOT = Path(__file__).parents[1]
BLUE, RED, GREY = "#1f4e79", "#c0504d", "#888888"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="commands-en")
    parser.add_argument("--sound", type=Path, default=ROOT / "export" / "vectors" / "commands.wav")
    parser.add_argument("--threshold", type=float, default=0.7)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "stream.png")
    options = parser.parse_args()
    recognizer = Recognizer(options.model)
    config = DetectorConfig.of_clips(recognizer.clip_s)
    rate_hz = recognizer.sample_rate_hz
    waveform = load_waveform(options.sound, rate_hz)
    starts = config.starts(len(waveform), rate_hz)
    length = config.window_samples(rate_hz)
    recognizer.run(waveform[:length])
    started = time.perf_counter()
    answers = np.array([recognizer.run(waveform[start : start + length]) for start in starts])
    answer_ms = 1e3 * (time.perf_counter() - started) / len(starts)
    detector = Detector(recognizer.labels, options.threshold, config)
    raised = [(window, detector.push(answer)) for window, answer in enumerate(answers)]
    events = [(window, event) for window, event in raised if event]

    figure = Figure(figsize=(11, 7.4), layout="constrained")
    sound, heat, score = figure.subplots(3, 1, sharex=True, height_ratios=[1, 1.5, 1])
    seconds = len(waveform) / rate_hz
    sound.plot(np.arange(len(waveform)) / rate_hz, waveform, linewidth=0.4, color=BLUE)
    top = 1.1 * np.abs(waveform).max()
    for window, start in enumerate(starts[:4]):
        place = top * (1.1 + 0.18 * window)
        sound.annotate(
            "", (start / rate_hz, place), ((start + length) / rate_hz, place),
            arrowprops={"arrowstyle": "<->", "color": GREY, "lw": 0.8},
        )  # fmt: skip
    sound.text(1.75, top * 1.2, f"and so on: {len(starts)} windows", color=GREY, fontsize=9)
    sound.set_ylim(-top, top * 1.8)
    sound.set_title(
        f"1. sound, mono, {rate_hz:,} samples a second, -1..1; every {1e3 * config.hop_s:.0f} ms a "
        f"window of {config.window_s:g} s: float32 [1, {length:,}]",
        loc="left", fontsize=10,
    )  # fmt: skip
    # An answer is known when its window has ended.
    ends = (starts + length) / rate_hz
    heat.pcolormesh(
        np.append(ends, ends[-1] + config.hop_s) - config.hop_s / 2,
        np.arange(len(recognizer.labels) + 1), answers.T, cmap="Blues", vmin=0, vmax=1,
    )  # fmt: skip
    heat.set_yticks(np.arange(len(recognizer.labels)) + 0.5, recognizer.labels.symbols, fontsize=8)
    heat.set_title(
        f"2. {recognizer.path.name}, {recognizer.path.stat().st_size / 1e6:.2f} MB, "
        f"{answer_ms:.1f} ms a window, one thread: probabilities, float32 [1, {answers.shape[1]}], "
        "at the window's end", loc="left", fontsize=10,
    )  # fmt: skip
    means = np.array(
        [answers[max(0, n + 1 - config.smoothing) : n + 1].mean(axis=0) for n in range(len(ends))]
    )
    score.plot(ends, means.max(axis=1), color=BLUE, marker=".", label="the highest mean")
    score.axhline(options.threshold, color=RED, linewidth=0.8)
    score.text(0.02, options.threshold + 0.02, f"threshold {options.threshold:g}", color=RED)
    for window, event in events:
        score.annotate(
            f"{event.label}\n{event.confidence:.2f}", (ends[window], event.confidence),
            (ends[window], 1.06), ha="center", fontsize=9, color=RED,
        )  # fmt: skip
        score.axvspan(ends[window], ends[window] + config.refractory_s, color=RED, alpha=0.08)
    score.set_ylim(0, 1.4)
    score.set_yticks(np.linspace(0, 1, 6))
    score.set_xlim(0, seconds)
    score.set_xlabel("seconds")
    score.set_title(
        f"3. mean of {config.smoothing} answers; where it reaches the threshold, an event, none "
        f"for {config.refractory_s:g} s (shaded)", loc="left", fontsize=10,
    )  # fmt: skip
    figure.savefig(options.out, dpi=90)
    print(f"{options.out}: {[event.label for _, event in events]}")


if __name__ == "__main__":
    main()
