"""The commands that look into a model: why it learns, or why not."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from speechrnn.cli_options import DEFAULT_PRESET, seed
from speechrnn.commands import OK, check_json, write_json
from speechrnn.errors import ConfigError, DataError, MissingExtraError, OutputError

if TYPE_CHECKING:
    import numpy as np

    from speechrnn.model import ModelConfig, SpeechModel

# Recordings that sequences are made of.
MOST_RECORDINGS = 200
PICTURE, FIGURES = "gradients.png", "gradients.json"


def add_options(gradients: argparse.ArgumentParser) -> None:
    """What the command takes."""
    gradients.add_argument("model", nargs="?", type=Path, metavar="BUNDLE", help="trained")
    gradients.add_argument("--encoder", metavar="NAME", help="instead: with its first weights")
    recipe = gradients.add_mutually_exclusive_group()
    recipe.add_argument(
        "--preset",
        default=DEFAULT_PRESET,
        help=f"of all else, and of what the encoder knows of it; default: {DEFAULT_PRESET}",
    )
    recipe.add_argument("--config", type=Path, metavar="F.toml", help="a recipe of your own")
    gradients.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="as in encoder.units=128"
    )
    gradients.add_argument(
        "--frames",
        type=int,
        nargs="+",
        default=[100, 1000],
        metavar="N",
        help="lengths of sequences, up to 1000; default: 100 1000",
    )
    gradients.add_argument(
        "--data", metavar="DATA", help="recordings, joined to be long; default: made sound"
    )
    gradients.add_argument("--json", metavar="F", help="write the figures; - is standard output")
    gradients.add_argument(
        "--output", type=Path, metavar="DIR", help="write DIR/gradients.png and DIR/gradients.json"
    )
    gradients.add_argument("--seed", type=seed, default=0, help="of first weights and made sound")


def add_reach_options(reach: argparse.ArgumentParser) -> None:
    """What the other command takes."""
    reach.add_argument("model", type=Path, metavar="BUNDLE", help="trained")
    reach.add_argument("--data", metavar="DATA", help="recordings, joined; default: made sound")
    reach.add_argument("--json", metavar="F", help="write the figures; - is standard output")
    reach.add_argument("--seed", type=seed, default=0, help="of made sound")


def reach(options: argparse.Namespace) -> int:
    """How far back the encoder remembers."""
    check_json(options.json)
    from speechrnn.extras import require_training

    require_training("diagnose reach")
    _check_backend()
    from speechrnn import diagnose

    found = diagnose.reach(options.model, lambda config, size: _two_sounds(options, config, size))
    if options.json:
        write_json(options.json, found)
    if options.json != "-":
        end = " or more" if found["reach_s"] >= found["longest_s"] else ""
        print(f"{found['model']}: {found['encoder']['type']} remembers {found['reach_s']:g} s{end}")
        for distance_s, share in found["shares"]:
            print(f"  before the last {distance_s:7.3f} s: {100 * share:5.1f} % of what it answers")
    return OK


def _two_sounds(
    options: argparse.Namespace, config: ModelConfig, size: int
) -> tuple[np.ndarray, np.ndarray]:
    """What is heard, and what is heard instead."""
    from speechrnn import diagnose

    if not options.data:
        one, other = (diagnose.made_sound(config, size, options.seed + i) for i in range(2))
        return one, other
    from speechrnn.datasets.reading import read_some

    loaded = read_some(options.data, config.features.sample_rate_hz, MOST_RECORDINGS)
    waveforms = [waveform for _, waveform in loaded]
    if len(waveforms) < 2:
        raise DataError(
            f"{options.data}: has 1 recording, expected 2 or more: one is put in another's place"
        )
    return diagnose.joined(waveforms[::2], size), diagnose.joined(waveforms[1::2], size)


def gradients(options: argparse.Namespace) -> int:
    """How far back an error reaches in each layer."""
    if (options.model is None) == (options.encoder is None):
        got = "neither" if options.model is None else "both"
        raise ConfigError(f"got {got}, expected a BUNDLE or --encoder NAME")
    check_json(options.json)
    _check_output(options)
    from speechrnn.extras import require_training

    require_training("diagnose gradients")
    _check_backend()
    from speechrnn import diagnose

    models = _models(options)
    config = next(iter(models.values())).config
    frames = sorted(set(options.frames))
    diagnose.check_frames(config, frames)
    size = diagnose.num_samples(config, frames[-1])
    waveforms = _waveforms(options, config, size)
    source = str(options.model or f"--encoder {options.encoder}")
    found = diagnose.describe(config, source, diagnose.measure(models, frames, waveforms))
    if options.json:
        write_json(options.json, found)
    if options.output:
        _write(options, found)
    if options.json != "-":
        _print_rates(found)
    return OK


def _check_output(options: argparse.Namespace) -> None:
    if not options.output:
        return
    from speechrnn.files import check_place

    if options.output.exists() and not options.output.is_dir():
        raise OutputError(f"{options.output}: is a file, expected a folder for {PICTURE}")
    check_place(options.output / PICTURE)
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingExtraError("diagnose gradients --output", "train", "matplotlib") from error


def _check_backend() -> None:
    import keras

    if keras.backend.backend() != "tensorflow":
        raise ConfigError(
            f"KERAS_BACKEND={keras.backend.backend()}: models are looked into with TensorFlow; "
            "unset it for this command"
        )


def _models(options: argparse.Namespace) -> dict[str, SpeechModel]:
    from speechrnn import diagnose

    if options.encoder is None:
        if options.set or options.config:
            raise ConfigError(
                f"{options.model}: a bundle brings its settings; expected no --set or --config"
            )
        return diagnose.before_and_after(options.model)
    from speechrnn.config import apply_overrides, read_preset, read_toml, to_mapping
    from speechrnn.encoders import ENCODERS
    from speechrnn.model import SECTIONS, ModelConfig

    sections = read_toml(options.config) if options.config else read_preset(options.preset)
    known = to_mapping(ENCODERS.from_mapping({"type": options.encoder}))
    own = sections.get("encoder", {})
    sections["encoder"] = {key: value for key, value in own.items() if key in known}
    sections["encoder"]["type"] = options.encoder
    sections = apply_overrides(sections, options.set)
    kept = {name: section for name, section in sections.items() if name in SECTIONS}
    return diagnose.untrained(ModelConfig.from_mapping(kept), options.seed)


def _waveforms(options: argparse.Namespace, config: ModelConfig, size: int) -> np.ndarray:
    from speechrnn import diagnose

    if not options.data:
        return diagnose.made_sound(config, size, options.seed)
    from speechrnn.datasets.reading import read_some

    loaded = read_some(options.data, config.features.sample_rate_hz, MOST_RECORDINGS)
    return diagnose.joined([waveform for _, waveform in loaded], size)


def _write(options: argparse.Namespace, found: dict[str, Any]) -> None:
    from speechrnn.report import draw_gradients

    options.output.mkdir(parents=True, exist_ok=True)
    write_json(str(options.output / FIGURES), found)
    draw_gradients(found, options.output / PICTURE)


def _print_rates(found: dict[str, Any]) -> None:
    print(
        f"{found['model']}: {found['encoder']['type']}, a step is {1000 * found['step_s']:g} ms; "
        "the error at the last step, further and further back"
    )
    names = [layer["layer"] for one in found["measurements"] for layer in one["layers"]]
    width = max(map(len, ["layer", *names]))
    print(f"  frames  steps  weights  {'layer':{width}}  decades a step   of 10, 1 is left after")
    for one in found["measurements"]:
        for layer in one["layers"]:
            if (rate := layer["decades_per_step"]) is None:
                arrived = [place for place, norm in enumerate(layer["norms"]) if norm]
                said, steps = f"{'-':>14}", f"none of it beyond {max(arrived, default=0)}"
            else:
                said, steps = f"{rate:+14.4f}", f"{-1 / rate:.0f} steps" if rate < 0 else "-"
            print(
                f"  {one['frames']:6}  {one['steps']:5}  {one['weights']:7}  "
                f"{layer['layer']:{width}}  {said}   {steps:22}  {layer['verdict']}"
            )
