"""Draw docs/pipeline.png: one recording on its way through a trained bundle, with real numbers.

Run after ``make demo``: ``python docs/draw_pipeline.py demo/bundle demo/data/test/stop/*_0.flac``
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from speechrnn.extras import require_training

require_training("drawing the pipeline")

from keras import ops

from speechrnn.audio import load_waveform
from speechrnn.bundle import load_bundle


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("recording", type=Path, nargs="+", help="the first one is drawn")
    parser.add_argument("--out", type=Path, default=Path("docs/pipeline.png"))
    options = parser.parse_args()
    model, info = load_bundle(options.bundle)
    rate_hz = info.sections["features"]["sample_rate_hz"]
    waveform = load_waveform(options.recording[0], rate_hz)
    frames = model.front_end(waveform[None])
    encoded, _ = model.encoder(frames)
    probabilities = ops.convert_to_numpy(model.serve(waveform[None]))[0]
    frames, encoded = (ops.convert_to_numpy(x)[0] for x in (frames, encoded))

    figure = Figure(figsize=(13, 3.1), layout="constrained")
    wave, mfcc, gru, head = figure.subplots(1, 4, width_ratios=[1.1, 1.1, 1.1, 0.9])
    seconds = len(waveform) / rate_hz
    wave.plot(np.arange(len(waveform)) / rate_hz, waveform, linewidth=0.4, color="#1f4e79")
    wave.set_xlim(0, seconds)
    wave.set_title(f"waveform\n{len(waveform):,} samples at {rate_hz:,} Hz")
    for axes, values, title in (
        (mfcc, frames, f"MFCC frames\n{frames.shape[0]} x {frames.shape[1]}"),
        (gru, encoded, f"bidirectional GRU\n{encoded.shape[0]} steps x {encoded.shape[1]}"),
    ):
        limit = np.percentile(np.abs(values), 99)
        axes.imshow(
            values.T, aspect="auto", origin="lower", cmap="RdBu_r", vmin=-limit, vmax=limit,
            extent=(0, seconds, 0, values.shape[1]), interpolation="nearest",
        )  # fmt: skip
        axes.set_title(title)
    for axes in (wave, mfcc, gru):
        axes.set_xlabel("seconds")
    labels = list(info.labels.symbols)
    best = int(np.argmax(probabilities))
    colours = ["#c0504d" if i == best else "#9db7d5" for i in range(len(labels))]
    head.barh(labels, probabilities, color=colours)
    head.invert_yaxis()
    head.set_xlim(0, 1)
    head.set_xlabel("probability")
    head.set_title(f"classification head\n{labels[best]!r}, {100 * probabilities[best]:.0f} %")
    for left in (wave, mfcc, gru):
        left.annotate(
            "", xy=(1.12, 1.08), xytext=(1.0, 1.08), xycoords="axes fraction",
            arrowprops={"arrowstyle": "-|>", "color": "#444444", "lw": 2},
        )  # fmt: skip
    figure.savefig(options.out, dpi=110)
    print(options.out)


if __name__ == "__main__":
    main()
