"""Convert, describe, verify, and only then put the file in place."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from speechrnn.bundle import BundleInfo, read_bundle, read_selftest
from speechrnn.config import to_mapping
from speechrnn.decoding.calibration import apply_temperature
from speechrnn.errors import ExportError, OutputError
from speechrnn.extras import require_training
from speechrnn.files import check_place, write_atomically
from speechrnn.recognize import batches_by_length
from speechrnn.runtime import Recognizer
from speechrnn.runtime.metadata import pack
from speechrnn.version import __version__

# Keras against LiteRT, largest difference of a probability; float32 sums in another order
# differ by some 1e-6.
TOLERANCE = 1e-4
CONVERSION_TIMEOUT_S = 600
# The second output of a model that answers with a sequence: its best path, collapsed.
TOKENS = {"name": "tokens", "dtype": "int32", "shape": ["tokens"]}
# A process of its own, with TensorFlow whatever this one trains with: only TensorFlow converts.
CONVERTER = (sys.executable, "-m", "speechrnn.export.convert")


@dataclass(frozen=True)
class Comparison:
    """Keras against the exported file on the same recordings."""

    recordings: int
    largest_difference: float
    disagreements: int


@dataclass(frozen=True)
class ExportResult:
    """The exported file and what was found out about it."""

    path: Path
    num_bytes: int
    operators: tuple[str, ...]
    selftest_difference: float
    comparison: Comparison | None


def export_bundle(
    bundle: str | Path,
    out: str | Path,
    *,
    waveforms: Sequence[np.ndarray] = (),
    overwrite: bool = False,
) -> ExportResult:
    """Write a bundle as one .tflite: ``waveform`` float32 ``[1, samples]`` -> the head's output.

    Args:
        bundle: A bundle made by training.
        out: The file; it appears only when every check has passed.
        waveforms: Recordings at the model's rate on which to compare Keras with the file.
        overwrite: Whether an existing file may be replaced.

    Raises:
        ModelError: The bundle is not intact.
        OutputError: ``out`` exists, is a folder, or cannot be written.
        ExportError: The converter failed, or the file is not what the bundle is.
    """
    bundle, out = Path(bundle), Path(out)
    info = read_bundle(bundle)
    _check_output(out, overwrite)
    require_training("export")
    flatbuffer = _convert_in_subprocess(bundle)
    operators = check_operators(flatbuffer)
    content = pack(flatbuffer, _metadata(info), info.labels)
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as folder:
        candidate = Path(folder) / "candidate.tflite"
        candidate.write_bytes(content)
        recognizer = Recognizer(candidate)
        difference = _selftest_difference(recognizer, info)
        comparison = _compare(recognizer, bundle, waveforms) if waveforms else None
    write_atomically(out, content)
    return ExportResult(out, len(content), operators, difference, comparison)


def _check_output(out: Path, overwrite: bool) -> None:
    if os.path.isdir(out):
        raise OutputError(f"{out}: is a folder, expected a file name such as {out}/model.tflite")
    if os.path.lexists(out) and not overwrite:
        raise OutputError(f"{out}: exists; choose another name, or pass --force to replace it")
    check_place(out)


def check_operators(flatbuffer: bytes) -> tuple[str, ...]:
    """Names of the operators in a TFLite flatbuffer, sorted.

    Raises:
        ExportError: One of them is custom (Flex included), so a plain interpreter cannot run it.
    """
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items()}
    codes = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0)).operatorCodes
    used = {names[max(code.builtinCode, code.deprecatedBuiltinCode)] for code in codes}
    custom = [code.customCode.decode() for code in codes if code.customCode]
    if custom or "CUSTOM" in used:
        raise ExportError(
            f"the converter produced the custom operator {', '.join(custom) or 'without a name'}, "
            "expected builtin ones only; the encoder or head uses an operation that TFLite does "
            "not have"
        )
    return tuple(sorted(used))


def _convert_in_subprocess(bundle: Path) -> bytes:
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as folder:
        out = Path(folder) / "model.tflite"
        command = [*CONVERTER, str(bundle), str(out)]
        try:
            run = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                timeout=CONVERSION_TIMEOUT_S,
                check=False,
                env={**os.environ, "KERAS_BACKEND": "tensorflow"},
            )
        except subprocess.TimeoutExpired as error:
            raise ExportError(
                f"{bundle}: the TFLite converter took longer than {CONVERSION_TIMEOUT_S} s; "
                "nothing was written"
            ) from error
        if run.returncode != 0 or not out.is_file():
            reason = _last_line(run.stderr) or "it said nothing"
            how = f"signal {-run.returncode}" if run.returncode < 0 else f"exit {run.returncode}"
            raise ExportError(
                f"{bundle}: the TFLite converter failed ({how}): {reason}; nothing was written"
            )
        return out.read_bytes()


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _metadata(info: BundleInfo) -> dict:
    from speechrnn.model import ModelConfig

    config = ModelConfig.from_mapping(info.sections)
    head, sequence = config.head, config.head.output_name == "log_probs"
    return {
        "speechrnn_version": __version__,
        "quantization": "none",
        "signature": "serve",
        "input": {"name": "waveform", "dtype": "float32", "shape": [1, "samples"]},
        "output": {
            "name": head.output_name,
            "dtype": "float32",
            "shape": [1, *(["steps"] if sequence else []), head.num_columns(info.labels)],
        },
        **({"tokens": TOKENS} if sequence else {}),
        "steps": asdict(config.clock),
        "min_samples": config.features.window_length,
        **info.sections,
        "front_end": info.front_end,
        "decision": to_mapping(info.decision),
        "num_parameters": info.num_parameters,
        "bundle_sha256": info.sha256,
        "training": info.training,
        "metrics": info.metrics,
    }


def _selftest_difference(recognizer: Recognizer, info: BundleInfo) -> float:
    waveform, stored = read_selftest(info.path)
    kind = recognizer.metadata["output"]["name"]
    expected = apply_temperature(kind, stored[0], info.decision.temperature)
    actual = recognizer.run(waveform)
    same_shape = actual.shape == expected.shape
    difference = float(np.max(np.abs(actual - expected))) if same_shape else np.inf
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{info.path}: the exported file differs from the bundle by {difference:.2g} on the "
            f"self-test, expected at most {TOLERANCE:g}; nothing was written"
        )
    return difference


def _compare(recognizer: Recognizer, bundle: Path, waveforms: Sequence[np.ndarray]) -> Comparison:
    """Keras against the file on real recordings.

    Raises:
        ExportError: A probability differs by more than the tolerance.
    """
    require_training("comparing with a bundle")
    from speechrnn.keras_recognizer import KerasRecognizer

    keras_recognizer = KerasRecognizer(bundle)
    largest, disagreements = 0.0, 0
    for chosen in batches_by_length(waveforms):
        answers = keras_recognizer.answer_many([waveforms[i] for i in chosen])
        for i, expected in zip(chosen, answers, strict=True):
            actual = recognizer.run(waveforms[i])
            largest = max(largest, float(np.max(np.abs(actual - expected))))
            said, wanted = np.argmax(actual, axis=-1), np.argmax(expected, axis=-1)
            disagreements += not np.array_equal(said, wanted)
    if not largest <= TOLERANCE:
        raise ExportError(
            f"{bundle}: the exported file differs from the bundle by {largest:.2g} on "
            f"{len(waveforms)} recordings, expected at most {TOLERANCE:g}; nothing was written"
        )
    return Comparison(len(waveforms), largest, disagreements)
