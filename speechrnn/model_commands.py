"""The commands about one model: what it is, and writing it as a file for devices."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from speechrnn.commands import OK, write_json
from speechrnn.errors import ConfigError

if TYPE_CHECKING:
    from speechrnn.export.check import Comparison, Labelled


# Recordings to calibrate integers on: ranges hardly widen beyond.
MOST_CALIBRATION = 200
# A file that is called so is for a C compiler, and has its array beside it.
C_HEADER = ".h"


def export(options: argparse.Namespace) -> int:
    """Write a bundle as a .tflite, or as C."""
    from speechrnn.bundle import read_bundle
    from speechrnn.datasets.reading import read_some
    from speechrnn.export.pipeline import MOST_LOSS, check_out, export_bundle

    if options.calibrate and options.quantize != "int8" and not options.check:
        raise ConfigError(
            f"--calibrate {options.calibrate}: --quantize {options.quantize} needs none; expected "
            "--quantize int8, --check DATA, or no --calibrate"
        )
    if options.max_loss is not None and not options.check:
        raise ConfigError("--max-loss: is of the recordings of --check DATA; expected these too")
    if options.to.suffix == C_HEADER:
        return _export_c(options)
    check_out(options.to, options.force)
    rate_hz = read_bundle(options.model).sections["features"]["sample_rate_hz"]

    def recordings(data: str | None, most: int | None = None) -> list[Labelled]:
        return read_some(data, rate_hz, most) if data else []

    result = export_bundle(
        options.model,
        options.to,
        quantize=options.quantize,
        calibration=[w for _, w in recordings(options.calibrate, MOST_CALIBRATION)],
        streaming=options.streaming,
        look_ahead_s=options.look_ahead,
        batch=options.batch,
        check=recordings(options.check),
        max_loss=MOST_LOSS if options.max_loss is None else options.max_loss / 100,
        show=_print_comparison,
        about={
            name: text
            for name in ("licence", "attribution")
            if (text := getattr(options, name)) is not None
        },
        log=options.log,
        overwrite=options.force,
    )
    print(
        f"{result.path}: {result.num_bytes / 1e6:.2f} MB, {len(result.operators)} kinds of builtin "
        f"operators, self-test within {result.selftest_difference:.1e} of the bundle"
    )
    return OK


def _export_c(options: argparse.Namespace) -> int:
    """Write the step of a stream as C, for microcontrollers."""
    import tempfile

    from speechrnn.bundle import read_bundle
    from speechrnn.export.microcontroller import ONE_STEP, write_c
    from speechrnn.export.pipeline import check_out, export_bundle
    from speechrnn.runtime import read_metadata

    if not options.streaming:
        raise ConfigError(
            f"{options.to}: a microcontroller takes sound chunk by chunk; add --streaming"
        )
    if options.quantize != "none" or options.batch or options.check:
        raise ConfigError(
            f"{options.to}: TFLite Micro runs the step of a stream in float32; expected no "
            "--quantize, no --batch, no --check"
        )
    for place in (options.to, options.to.with_suffix(".c")):
        check_out(place, options.force)
    encoder = read_bundle(options.model).sections["encoder"]
    if options.look_ahead is not None or encoder.get("bidirectional"):
        raise ConfigError(f"{options.to}: {ONE_STEP}")
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as folder:
        file = Path(folder) / "model.tflite"
        export_bundle(options.model, file, streaming=True, log=options.log)
        step = write_c(read_metadata(file), options.to)
    print(
        f"{options.to}, {options.to.with_suffix('.c')}: {len(step.model) / 1e3:.0f} kB of "
        f"constants, an arena of some {step.arena_bytes / 1e3:.0f} kB, "
        f"{len(step.operators)} kinds of operators"
    )
    return OK


def _print_comparison(comparison: Comparison) -> None:
    from speechrnn.export.check import describe

    for line in describe(comparison):
        print(line)


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
        if "streaming" in found:
            print(f"  stream      {_stream(found['streaming'], features['sample_rate_hz'])}")
        for kind, count in found["weights_bytes"].items():
            print(f"  constants   {kind}: {count / 1e3:,.1f} kB")
        for arithmetic, counts in found["operators"].items():
            print(f"  computes    {arithmetic}: {_settings(counts)}")
    for name in ("licence", "attribution"):
        if name in found:
            print(f"  {name:11} {found[name]}")
    training = {key: value for key, value in found["training"].items() if key != "recipe"}
    print(f"  training    {_settings(training) or 'not recorded'}")
    for split, figures in found["metrics"].items():
        print(f"  {split:11} {_settings(figures)}")


def _stream(about: dict, rate_hz: int) -> str:
    """How a file's stream is cut."""
    found = f"chunks of {about['chunk'] / rate_hz:g} s"
    if "look_ahead_s" in about:
        found += f", {about['look_ahead_s']:g} s of look-ahead"
    return found


def _settings(settings: dict) -> str:
    return ", ".join(f"{key}={value}" for key, value in settings.items())
