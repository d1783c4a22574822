"""The trained artefact: a directory that carries everything a model needs and nothing that runs.

    bundle.json         format, version, and the SHA-256 of every other file
    config.json         model settings, labels, front-end fingerprint, how it was trained
    weights.npz         one float32 array a variable, by path (no pickle)
    selftest.npz        a waveform and what the model answered when it was saved
    metrics.json        what was measured on which data
    training_log.jsonl  one line an epoch
    MODEL_CARD.md       the same for a person

Saving is atomic: the directory appears, or is replaced, in one rename. Loading checks every hash,
rebuilds the model, and compares the self-test.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from speechrnn.errors import ModelError, OutputError
from speechrnn.labels import Labels
from speechrnn.version import __version__

if TYPE_CHECKING:
    from speechrnn.model import SpeechModel

FORMAT = "speechrnn-bundle"
FORMAT_VERSION = 1
HEADER = "bundle.json"
# Another machine's sums differ in the last bits; a wrong weight or front end differs by far more.
SELFTEST_TOLERANCE = 1e-3


@dataclass(frozen=True)
class BundleInfo:
    """What a bundle says about itself; reading it needs neither Keras nor TensorFlow.

    Attributes:
        path: The directory.
        sections: The model's settings: ``features``, ``encoder``, ``head``.
        labels: The ordered labels.
        front_end: ``version`` and ``fingerprint`` of the front end.
        training: How it was trained: recipe, data, seed, epochs, ``finished``.
        metrics: What was measured, by data split.
        num_parameters: Values in the weights that training changes.
        sha256: Hash over all files, the name of this model's exact state.
    """

    path: Path
    sections: dict[str, Any]
    labels: Labels
    front_end: dict[str, Any]
    training: dict[str, Any]
    metrics: dict[str, Any]
    num_parameters: int
    sha256: str
    files: dict[str, str] = field(repr=False)


def save_bundle(
    path: Path,
    model: SpeechModel,
    *,
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
    log: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Write the model as a bundle; an existing bundle at ``path`` is replaced in one step.

    Raises:
        OutputError: The place cannot be written, or holds something that is no bundle.
    """
    check_output(path)
    config = {
        "speechrnn_version": __version__,
        **model.config.to_mapping(),
        "labels": list(model.labels.symbols),
        "front_end": _front_end_identity(model),
        "num_parameters": int(sum(np.prod(v.shape) for v in model.trainable_variables)),
        "training": dict(training),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        _write_json(staging / "config.json", config)
        _write_json(staging / "metrics.json", dict(metrics))
        _write_npz(staging / "weights.npz", _weights(model))
        _write_npz(staging / "selftest.npz", _selftest(model))
        lines = (json.dumps(entry, ensure_ascii=False) + "\n" for entry in log)
        (staging / "training_log.jsonl").write_text("".join(lines), encoding="utf-8")
        (staging / "MODEL_CARD.md").write_text(_model_card(config, metrics), encoding="utf-8")
        files = {file.name: _sha256(file.read_bytes()) for file in sorted(staging.iterdir())}
        header = {"format": FORMAT, "format_version": FORMAT_VERSION, "files": files}
        _write_json(staging / HEADER, header)
        staging.chmod(0o755)
        _replace_directory(staging, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_output(path: Path) -> None:
    """Refuse to replace anything that is not a bundle.

    Raises:
        OutputError: ``path`` is a file, or a directory with other things in it.
    """
    try:
        if path.is_dir() and (not any(path.iterdir()) or (path / HEADER).is_file()):
            return
        exists = path.exists()
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror})") from error
    if exists:
        raise OutputError(
            f"{path}: exists and is no bundle, expected a new or empty directory; nothing was "
            "overwritten"
        )


def is_bundle(path: Path) -> bool:
    """Whether the path looks like a bundle, intact or not."""
    return (path / HEADER).is_file()


def read_bundle(path: Path) -> BundleInfo:
    """Read and verify everything but the weights' values.

    Raises:
        ModelError: Missing, foreign, of a newer format, edited, or truncated.
    """
    if not path.is_dir():
        raise ModelError(f"{path}: no such bundle; expected a directory made by speechrnn train")
    header = _read_json(path / HEADER)
    if header.get("format") != FORMAT:
        raise ModelError(
            f"{path}: is no speechrnn bundle (bundle.json says {header.get('format')})"
        )
    if header.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"{path}: bundle format {header.get('format_version')}, this speechrnn {__version__} "
            f"reads {FORMAT_VERSION}; use the speechrnn that wrote it"
        )
    for name, expected in header["files"].items():
        try:
            actual = _sha256((path / name).read_bytes())
        except OSError as error:
            raise ModelError(f"{path}: {name} cannot be read ({error.strerror})") from error
        if actual != expected:
            raise ModelError(
                f"{path}: {name} was changed or cut short after it was saved "
                f"(SHA-256 {actual[:8]}, expected {expected[:8]}); copy the bundle again or retrain"
            )
    config = _read_json(path / "config.json")
    return BundleInfo(
        path=path,
        sections={name: config[name] for name in ("features", "encoder", "head")},
        labels=Labels(tuple(config["labels"])),
        front_end=config["front_end"],
        training=config["training"],
        metrics=_read_json(path / "metrics.json"),
        num_parameters=config["num_parameters"],
        sha256=_sha256(json.dumps(header["files"], sort_keys=True).encode()),
        files=header["files"],
    )


def load_bundle(path: Path) -> tuple[SpeechModel, BundleInfo]:
    """Rebuild the model and prove that it still answers what it answered when it was saved.

    Raises:
        ModelError: What :func:`read_bundle` rejects, a front end of another version, weights
            that do not fit, or a self-test that fails.
        MissingExtraError: Keras is not installed.
    """
    info = read_bundle(path)
    from speechrnn.extras import require_training

    require_training("loading a bundle")
    from speechrnn.model import ModelConfig, build_model

    model = build_model(ModelConfig.from_mapping(info.sections), info.labels)
    if _front_end_identity(model) != info.front_end:
        raise ModelError(
            f"{path}: was trained with front end {info.front_end}, this speechrnn {__version__} "
            f"computes {_front_end_identity(model)}; use the speechrnn that wrote it, or retrain"
        )
    _assign(model, _read_npz(path / "weights.npz"), path)
    selftest = _read_npz(path / "selftest.npz")
    difference = float(np.max(np.abs(_answer(model, selftest["waveform"]) - selftest["output"])))
    if not difference <= SELFTEST_TOLERANCE:
        raise ModelError(
            f"{path}: self-test differs by {difference:.2g}, expected at most "
            f"{SELFTEST_TOLERANCE:g}; this installation computes something else"
        )
    return model, info


def read_log(path: Path) -> list[dict[str, Any]]:
    """The training log of a bundle, one entry an epoch."""
    text = (path / "training_log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def read_selftest(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The self-test waveform, float32 ``[samples]``, and the model's answer to it."""
    arrays = _read_npz(path / "selftest.npz")
    return arrays["waveform"], arrays["output"]


def _selftest(model: SpeechModel) -> dict[str, np.ndarray]:
    """A second that sweeps the band, swells and fades, over faint noise; and the answer."""
    rate = model.config.features.sample_rate_hz
    time_s = np.arange(rate) / rate
    sweep = np.sin(2 * np.pi * (100 * time_s + 0.5 * (0.4 * rate) * time_s**2))
    noise = np.random.default_rng(0).standard_normal(rate)
    waveform = (0.3 * np.sin(np.pi * time_s) ** 2 * sweep + 0.003 * noise).astype(np.float32)
    return {"waveform": waveform, "output": _answer(model, waveform)}


def _answer(model: SpeechModel, waveform: np.ndarray) -> np.ndarray:
    from keras import ops

    return np.asarray(ops.convert_to_numpy(model.serve(waveform[None])))


def _front_end_identity(model: SpeechModel) -> dict[str, Any]:
    from speechrnn.features import FRONT_END_VERSION

    return {"version": FRONT_END_VERSION, "fingerprint": model.config.features.fingerprint()}


def _variables(model: SpeechModel) -> dict[str, Any]:
    """What decides the model's answers, by path; random states and metrics do not."""
    kept = [*model.front_end.weights, *model.encoder.weights, *model.head.weights]
    return {v.path: v for v in kept if "seed_generator" not in v.path}


def _weights(model: SpeechModel) -> dict[str, np.ndarray]:
    return {path: np.asarray(variable) for path, variable in _variables(model).items()}


def _assign(model: SpeechModel, arrays: Mapping[str, np.ndarray], path: Path) -> None:
    variables = _variables(model)
    for name in variables.keys() ^ arrays.keys():
        raise ModelError(f"{path}: weights do not fit the configuration ({name} has no partner)")
    for name, variable in variables.items():
        if tuple(variable.shape) != arrays[name].shape:
            raise ModelError(
                f"{path}: {name} has shape {arrays[name].shape}, expected {tuple(variable.shape)}"
            )
        variable.assign(arrays[name])


def _replace_directory(new: Path, path: Path) -> None:
    """Put ``new`` where ``path`` is; a crash leaves the old or the new one, under some name."""
    if not path.exists():
        os.rename(new, path)
        return
    old = path.with_name(f".{path.name}.old-{os.getpid()}")
    os.rename(path, old)
    try:
        os.rename(new, path)
    except OSError:
        os.rename(old, path)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror})") from error
    except ValueError as error:
        raise ModelError(f"{file}: is damaged, expected JSON ({error})") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file}: is damaged, expected a JSON object")
    return content


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False, sort_keys=False)
    file.write_text(text + "\n", encoding="utf-8")


def _write_npz(file: Path, arrays: dict[str, Any]) -> None:
    np.savez(file, allow_pickle=False, **arrays)


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(f"{file}: is damaged, expected arrays without pickle ({error})") from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _model_card(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    features, training = config["features"], config["training"]
    measured = "\n".join(
        f"- {split}: accuracy {100 * values['accuracy']:.2f} % on {values['utterances']} "
        f"recordings of {values['speakers']} speakers ({values['data']})"
        for split, values in metrics.items()
    )
    return f"""# Model card

A recogniser of spoken commands: one label for a recording.
Waveform (mono, {features["sample_rate_hz"]} Hz) -> MFCC -> encoder `{config["encoder"]["type"]}` ->
head `{config["head"]["type"]}`; {config["num_parameters"]:,} trainable parameters.

Labels, in order: {", ".join(f"`{label}`" for label in config["labels"])}

## Training
Data: {training.get("data", "not recorded")}; {training.get("utterances", "?")} recordings of
{training.get("speakers", "?")} speakers. Seed {training.get("seed", "?")},
{training.get("epochs_done", "?")} epochs{"" if training.get("finished") else " (stopped early)"}.
speechrnn {config["speechrnn_version"]}.

## Measured
{measured or "- nothing"}

The validation recordings chose the best epoch, so the figure is a little kind; measure on other
voices with `speechrnn evaluate`.

## Limits
It knows only its labels and answers with one of them whatever it hears. It was not tested on
voices, rooms, microphones or languages other than those of its data.
"""
