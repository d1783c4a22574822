"""The trained artefact: a directory that carries everything a model needs and nothing that runs.

    bundle.json         format, version, and the SHA-256 of every other file
    config.json         model settings, labels, front-end fingerprint, when an answer is one, how
                        it was trained
    weights.npz         one float32 array a variable, by path (no pickle)
    selftest.npz        a waveform and what the model answered when it was saved, at temperature 1
    metrics.json        what was measured on which data
    training_log.jsonl  one line an epoch
    MODEL_CARD.md       the same for a person

Saving is all or nothing, in a power cut too: the files are written beside, flushed to disk, and the
directory is renamed into place.
Loading checks every hash, rebuilds the model, and compares the self-test.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from speechrnn.config import from_mapping, to_mapping
from speechrnn.decoding import Decision
from speechrnn.errors import ConfigError, LabelError, ModelError, OutputError
from speechrnn.files import check_place, encodable, flush_to_disk, json_text, replace_directory
from speechrnn.labels import Labels
from speechrnn.model_card import model_card
from speechrnn.version import __version__

if TYPE_CHECKING:
    from speechrnn.model import ModelConfig, SpeechModel

FORMAT = "speechrnn-bundle"
FORMAT_VERSION = 1
HEADER = "bundle.json"
FILES = (
    "config.json",
    "weights.npz",
    "selftest.npz",
    "metrics.json",
    "training_log.jsonl",
    "MODEL_CARD.md",
)
# Another machine's sums differ in the last bits; a wrong weight or front end differs by far more.
SELFTEST_TOLERANCE = 1e-3
REMEDY = "copy the bundle again, or retrain"


@dataclass(frozen=True)
class BundleInfo:
    """What a bundle says about itself; reading it needs neither Keras nor TensorFlow.

    Attributes:
        path: The directory.
        sections: The model's settings: ``features``, ``encoder``, ``head``.
        labels: The ordered labels.
        front_end: ``version`` and ``fingerprint`` of the front end.
        decision: When an answer is one; bundles made before there was one accept all.
        training: How it was trained: recipe, data, seed, epochs, ``finished``.
        metrics: What was measured, by data split.
        num_parameters: Values in the weights that training changes.
        sha256: Hash over all files, the name of this model's exact state.
    """

    path: Path
    sections: dict[str, Any]
    labels: Labels
    front_end: dict[str, Any]
    decision: Decision
    training: dict[str, Any]
    metrics: dict[str, Any]
    num_parameters: int
    sha256: str
    files: dict[str, str] = field(repr=False)


def save_bundle(
    path: str | Path,
    model: SpeechModel,
    *,
    training: Mapping[str, Any],
    metrics: Mapping[str, Any],
    log: Sequence[Mapping[str, Any]] = (),
    decision: Decision | None = None,
) -> None:
    """Write the model as a bundle; an existing bundle at ``path`` is replaced.

    Without a ``decision`` the bundle keeps the model's temperature and accepts every answer.

    Raises:
        OutputError: The place cannot be written, or holds something that is no bundle.
    """
    check_output(path)
    config = {
        "speechrnn_version": __version__,
        **model.config.to_mapping(),
        "labels": list(model.labels.symbols),
        "front_end": front_end_identity(model.config),
        "decision": to_mapping(decision or Decision(model.temperature)),
        "num_parameters": int(sum(np.prod(v.shape) for v in model.trainable_variables)),
        "training": dict(training),
    }
    with _replacing(path) as staging:
        _write_npz(staging / "weights.npz", _weights(model))
        _write_npz(staging / "selftest.npz", _selftest(model))
        lines = (json_text(entry, indent=None) for entry in log)
        (staging / "training_log.jsonl").write_text("".join(lines), encoding="utf-8")
        _write_texts(staging, config, dict(metrics))


def replace_decision(path: str | Path, decision: Decision) -> None:
    """Give an existing bundle another decision; everything else stays as it is.

    Needs neither Keras nor TensorFlow. The self-test is of temperature 1, and stays true.

    Raises:
        ModelError: The bundle is not intact.
        OutputError: It cannot be written.
    """
    info = read_bundle(path)
    config = {**_read_json(info.path / "config.json"), "decision": to_mapping(decision)}
    with _replacing(path) as staging:
        for name in ("weights.npz", "selftest.npz", "training_log.jsonl"):
            shutil.copyfile(info.path / name, staging / name)
        _write_texts(staging, config, info.metrics)


def _write_texts(staging: Path, config: dict[str, Any], metrics: dict[str, Any]) -> None:
    _write_json(staging / "config.json", config)
    _write_json(staging / "metrics.json", metrics)
    card = encodable(model_card(config, metrics))
    (staging / "MODEL_CARD.md").write_text(card, encoding="utf-8")


@contextmanager
def _replacing(path: str | Path) -> Iterator[Path]:
    """A folder to write FILES into; with their hashes it becomes the bundle, or it vanishes."""
    path = Path(path).resolve()  # a link to a bundle stays a link
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        staging = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    try:
        yield staging
        files = {name: _sha256((staging / name).read_bytes()) for name in FILES}
        header = {"format": FORMAT, "format_version": FORMAT_VERSION, "files": files}
        _write_json(staging / HEADER, header)
        staging.chmod(0o755)
        flush_to_disk(staging)
        replace_directory(staging, path, names=(HEADER, *FILES))
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def check_output(path: str | Path) -> None:
    """Refuse a place that cannot take a bundle, or that holds something else.

    Raises:
        OutputError: ``path`` is a file, a directory with other things in it, the current folder,
            or lies where nothing can be written.
    """
    place = Path(path)
    try:
        replaceable = place.is_dir() and (not any(place.iterdir()) or is_bundle(place))
        if place.exists() and not replaceable:
            raise OutputError(
                f"{path}: exists and is no bundle, expected a new or empty directory; nothing was "
                "overwritten"
            )
        place = place.resolve()
        if place in (Path.cwd(), *Path.cwd().parents):
            raise OutputError(
                f"{path}: is the folder that you are in or one around it, expected one that can "
                "be replaced; name a new directory"
            )
    except OSError as error:
        raise OutputError(f"{path}: cannot be read ({error.strerror})") from error
    check_place(place, folder=True)


def is_bundle(path: Path) -> bool:
    """Whether the path looks like a bundle, intact or not."""
    return os.path.isfile(path / HEADER)  # unlike Path.is_file, False where one may not look


def read_bundle(path: str | Path) -> BundleInfo:
    """Read and verify everything but the weights' values.

    Raises:
        ModelError: Missing, foreign, of a newer format, edited, or truncated.
    """
    path = Path(path)
    if not is_bundle(path):
        what = "no bundle.json in it" if os.path.isdir(path) else "no such bundle"
        raise ModelError(f"{path}: {what}; expected a directory made by speechrnn train")
    header = _read_json(path / HEADER)
    if header.get("format") != FORMAT:
        raise ModelError(
            f"{path}: is no speechrnn bundle (bundle.json says {header.get('format')!r}); "
            "expected a directory made by speechrnn train"
        )
    if header.get("format_version") != FORMAT_VERSION:
        raise ModelError(
            f"{path}: bundle format {header.get('format_version')!r}, this speechrnn {__version__} "
            f"reads {FORMAT_VERSION}; use the speechrnn that wrote it"
        )
    files = header.get("files")
    if not isinstance(files, dict) or set(files) != set(FILES):
        raise ModelError(
            f"{path / HEADER}: was changed after it was saved (it lists other files than a bundle "
            f"has); {REMEDY}"
        )
    for name, expected in files.items():
        _check_hash(path / name, expected)
    config = _read_json(path / "config.json")
    try:
        return BundleInfo(
            path=path,
            sections={name: dict(config[name]) for name in ("features", "encoder", "head")},
            labels=Labels(tuple(config["labels"])),
            front_end=config["front_end"],
            decision=from_mapping(Decision, config.get("decision", {}), "decision"),
            training=config["training"],
            metrics=_read_json(path / "metrics.json"),
            num_parameters=config["num_parameters"],
            sha256=_sha256(json.dumps(files, sort_keys=True).encode()),
            files=files,
        )
    except (KeyError, TypeError, ValueError, ConfigError, LabelError) as error:
        raise ModelError(
            f"{path / 'config.json'}: is not what a bundle holds ({error}); {REMEDY}"
        ) from error


def load_bundle(path: str | Path) -> tuple[SpeechModel, BundleInfo]:
    """Rebuild the model and prove that it still answers what it answered when it was saved.

    Raises:
        ModelError: What :func:`read_bundle` rejects, settings or a front end of another version,
            weights that do not fit, or a self-test that fails.
        MissingExtraError: Keras is not installed.
    """
    info = read_bundle(path)
    from speechrnn.extras import require_training

    require_training("loading a bundle")
    from speechrnn.model import ModelConfig, build_model

    try:
        config = ModelConfig.from_mapping(info.sections)
    except ConfigError as error:
        raise ModelError(
            f"{path}: this speechrnn {__version__} does not know its settings ({error}); use the "
            "speechrnn that wrote it, or retrain"
        ) from error
    if front_end_identity(config) != info.front_end:
        raise ModelError(
            f"{path}: was trained with front end {info.front_end}, this speechrnn {__version__} "
            f"computes {front_end_identity(config)}; use the speechrnn that wrote it, or retrain"
        )
    weights = _read_npz(info.path / "weights.npz")
    model = build_model(config, info.labels)
    _assign(model, weights, info.path)
    check_selftest(model, info.path)
    model.temperature = info.decision.temperature
    return model, info


def check_selftest(model: SpeechModel, path: Path) -> float:
    """The largest difference of its answer from the one that the bundle at ``path`` keeps.

    Raises:
        ModelError: It is too large.
    """
    waveform, expected = read_selftest(path)
    actual = _answer(model, waveform)
    same_shape = actual.shape == expected.shape
    difference = float(np.max(np.abs(actual - expected))) if same_shape else np.inf
    if not difference <= SELFTEST_TOLERANCE:
        raise ModelError(
            f"{path}: self-test differs by {difference:.2g}, expected at most "
            f"{SELFTEST_TOLERANCE:g}; this installation computes something else, use the "
            "speechrnn that wrote it, or retrain"
        )
    return difference


def read_log(path: str | Path) -> list[dict[str, Any]]:
    """The training log of a bundle, one entry an epoch."""
    text = (Path(path) / "training_log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def read_selftest(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """The self-test waveform, float32 ``[samples]``, and the model's answer ``[1, ...]`` to it."""
    arrays = _read_npz(path / "selftest.npz")
    if arrays.keys() != {"waveform", "output"}:
        raise ModelError(f"{path / 'selftest.npz'}: holds other arrays than expected; {REMEDY}")
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
    """At temperature 1: another decision does not change the self-test."""
    from keras import ops

    # Compiled once a model, and used by its recogniser too; step by step it takes half a second.
    num_samples = np.array([len(waveform)], np.int32)
    logits = model.predict_on_batch({"waveform": waveform[None], "num_samples": num_samples})
    return np.asarray(ops.convert_to_numpy(model.config.head.output(logits)))


def front_end_identity(config: ModelConfig) -> dict[str, Any]:
    """What must be equal for a model to get the frames that it was trained with."""
    from speechrnn.features import FRONT_END_VERSION

    return {"version": FRONT_END_VERSION, "fingerprint": config.features.fingerprint()}


def _variables(model: SpeechModel) -> dict[str, Any]:
    """What decides the model's answers, by path; random states and metrics do not."""
    kept = [*model.front_end.weights, *model.encoder.weights, *model.head.weights]
    return {v.path: v for v in kept if "seed_generator" not in v.path}


def _weights(model: SpeechModel) -> dict[str, np.ndarray]:
    return {path: np.asarray(variable) for path, variable in _variables(model).items()}


def _assign(model: SpeechModel, arrays: Mapping[str, np.ndarray], path: Path) -> None:
    variables = _variables(model)
    for name in sorted(variables.keys() ^ arrays.keys()):
        raise ModelError(
            f"{path}: its weights do not fit its settings ({name} has no partner); {REMEDY}"
        )
    for name, variable in variables.items():
        if tuple(variable.shape) != arrays[name].shape:
            raise ModelError(
                f"{path}: {name} has shape {arrays[name].shape}, expected "
                f"{tuple(variable.shape)}; {REMEDY}"
            )
        variable.assign(arrays[name])


def _check_hash(file: Path, expected: str) -> None:
    try:
        actual = _sha256(file.read_bytes())
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror}); {REMEDY}") from error
    if actual != expected:
        raise ModelError(
            f"{file}: was changed or cut short after it was saved (SHA-256 {actual[:8]}, "
            f"expected {str(expected)[:8]}); {REMEDY}"
        )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{file}: cannot be read ({error.strerror}); {REMEDY}") from error
    except ValueError as error:
        raise ModelError(f"{file}: is damaged, expected JSON ({error}); {REMEDY}") from error
    if not isinstance(content, dict):
        raise ModelError(f"{file}: is damaged, expected a JSON object; {REMEDY}")
    return content


def _write_json(file: Path, content: Mapping[str, Any]) -> None:
    file.write_text(json_text(content), encoding="utf-8")


def _write_npz(file: Path, arrays: dict[str, Any]) -> None:
    np.savez(file, **arrays)


def _read_npz(file: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(file, allow_pickle=False) as arrays:
            return {name: arrays[name] for name in arrays.files}
    except (OSError, ValueError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(
            f"{file}: is damaged, expected arrays without pickle ({error}); {REMEDY}"
        ) from error


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
