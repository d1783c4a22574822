"""The commands about one model: what it is, and writing it as a file for devices."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, cast

from speechrnn.commands import OK, complain, write_json
from speechrnn.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np

    from speechrnn.decoding import Transcript
    from speechrnn.decoding.detect import Detection

# Recordings to calibrate integers on: ranges hardly widen beyond.
MOST_CALIBRATION = 200


def export(options: argparse.Namespace) -> int:
    """Write a bundle as a .tflite."""
    from speechrnn.bundle import read_bundle
    from speechrnn.datasets.manifest import read_data
    from speechrnn.datasets.reading import load_waveforms
    from speechrnn.export.pipeline import check_out, export_bundle

    if options.calibrate and options.quantize != "int8":
        raise ConfigError(
            f"--calibrate {options.calibrate}: --quantize {options.quantize} needs none; expected "
            "--quantize int8, or no --calibrate"
        )
    check_out(options.to, options.force)
    rate_hz = read_bundle(options.model).sections["features"]["sample_rate_hz"]

    def recordings(data: str | None, most: int | None = None) -> list[np.ndarray]:
        if not data:
            return []
        rows = read_data(data)
        loaded, _ = load_waveforms(rows[:: -(-len(rows) // most) if most else 1], rate_hz, 1)
        return [waveform for _, waveform in loaded]

    result = export_bundle(
        options.model,
        options.to,
        quantize=options.quantize,
        calibration=recordings(options.calibrate, MOST_CALIBRATION),
        streaming=options.streaming,
        waveforms=recordings(options.check),
        overwrite=options.force,
    )
    print(
        f"{result.path}: {result.num_bytes / 1e6:.2f} MB, {len(result.operators)} kinds of builtin "
        f"operators, self-test within {result.selftest_difference:.1e} of the bundle"
    )
    if result.comparison:
        print(
            f"on {result.comparison.recordings} recordings: largest difference of a probability "
            f"{result.comparison.largest_difference:.1e}, "
            f"{result.comparison.disagreements} other answers"
        )
    return OK


def info(options: argparse.Namespace) -> int:
    """Print what a model says about itself."""
    from speechrnn.recognize import describe_model, load_model

    found = describe_model(options.model)
    if options.selftest:
        found["selftest_difference"] = load_model(options.model).selftest()
    if options.json:
        write_json(options.json, found)
    if options.json == "-":
        return OK
    _print_description(found)
    if options.selftest:
        print(f"  self-test   within {found['selftest_difference']:.1e}")
    return OK


def listen(options: argparse.Namespace) -> int:
    """Hear commands in sound that comes on standard input, a line for each."""
    from speechrnn.runtime import StreamingRecognizer

    if os.path.isdir(options.model):
        raise ConfigError(
            f"{options.model}: is a folder, expected a .tflite; of a bundle, "
            f"speechrnn export {options.model} --to F.tflite"
        )
    heard = StreamingRecognizer(options.model, threshold=options.threshold)
    if sys.stdin is None or sys.stdin.isatty():
        raise ConfigError(
            "standard input: is closed or a terminal, expected mono sound of 16-bit samples at "
            f"{heard.sample_rate_hz} Hz, for example from "
            f"arecord -q -f S16_LE -r {heard.sample_rate_hz} -c 1 -t raw |"
        )
    if not heard.of_sequences and heard.recognizer.threshold == 0:
        complain(
            f"{options.model}: no threshold was picked, so everything is taken for a command; pass "
            "--threshold 0.9, or pick one with speechrnn evaluate --false-alarms-per-hour"
        )
    feed: Callable[[np.ndarray], Sequence[Detection | Transcript]] = heard.feed
    finish: Callable[[], Sequence[Detection | Transcript]] = heard.finish
    if heard.of_sequences:
        feed, finish = heard.feed_utterances, heard.finish_utterances
    try:
        for samples in _chunks(cast(io.BufferedReader, sys.stdin.buffer), heard.sample_rate_hz):
            _print_heard(feed(samples))
    finally:  # Ctrl-C is how a microphone ends
        _print_heard(finish())
    return OK


def _chunks(stream: io.BufferedReader, rate_hz: int) -> Iterator[np.ndarray]:
    """16-bit samples as they come, as floats; at most a fortieth of a second at once."""
    import numpy as np

    rest = b""
    while content := stream.read1(rate_hz // 40 * 2):
        content = rest + content
        whole = len(content) // 2 * 2
        yield np.frombuffer(content[:whole], "<i2").astype(np.float32) / 32768
        rest = content[whole:]


def _print_heard(found: Sequence[Detection | Transcript]) -> None:
    from speechrnn.decoding.detect import Detection

    for one in found:
        if isinstance(one, Detection):
            _print_line({"label": one.label, "time": one.time_s, "confidence": one.confidence})
        else:
            words = [dataclasses.asdict(word) for word in one.words]
            _print_line({"text": one.text, "confidence": one.confidence, "words": words})


def _print_line(record: dict) -> None:
    print(json.dumps(record, ensure_ascii=False), flush=True)


def _print_description(found: dict) -> None:
    """What training and measuring recorded may be anything that a caller of save_bundle chose."""
    features = found["features"]
    print(f"{found['path']}: {found['kind']}, {found['bytes'] / 1e6:.2f} MB")
    print(f"  labels      {', '.join(found['labels'])}")
    print(
        f"  front end   {features['sample_rate_hz']} Hz, {features['window_ms']:g} ms window, "
        f"{features['hop_ms']:g} ms hop, {features['num_mels']} mel bands, "
        f"{features['num_coefficients']} coefficients; {found['front_end']['fingerprint']}"
    )
    for name in ("encoder", "head"):
        settings = {key: value for key, value in found[name].items() if key != "type"}
        print(f"  {name:11} {found[name]['type']} ({_settings(settings)})")
    decision = {key: value for key, value in found.get("decision", {}).items() if value is not None}
    print(f"  decision    {_settings(decision) or 'every answer is accepted'}")
    print(f"  parameters  {found['num_parameters']:,}")
    if "operators" in found:
        print(f"  quantised   {found['quantization']}")
        for kind, count in found["weights_bytes"].items():
            print(f"  constants   {kind}: {count / 1e3:,.1f} kB")
        for arithmetic, counts in found["operators"].items():
            print(f"  computes    {arithmetic}: {_settings(counts)}")
    training = {key: value for key, value in found["training"].items() if key != "recipe"}
    print(f"  training    {_settings(training) or 'not recorded'}")
    for split, figures in found["metrics"].items():
        print(f"  {split:11} {_settings(figures)}")


def _settings(settings: dict) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())
