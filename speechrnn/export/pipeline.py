"""Convert, describe, verify, and only then put the file in place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from speechrnn.bundle import BundleInfo, read_bundle, read_selftest
from speechrnn.config import to_mapping
from speechrnn.decoding.calibration import apply_temperature
from speechrnn.decoding.ctc import greedy
from speechrnn.errors import ExportError, OutputError
from speechrnn.export.convert import BATCH_SIZE
from speechrnn.export.integer import with_integers
from speechrnn.export.ranges import find_ranges
from speechrnn.export.weights import with_smaller_weights
from speechrnn.extras import require_training
from speechrnn.files import check_place, write_atomically
from speechrnn.flatbuffer import Graph
from speechrnn.recognize import batches_by_length
from speechrnn.runtime import Recognizer, selftest
from speechrnn.runtime.metadata import pack
from speechrnn.version import __version__

if TYPE_CHECKING:
    from speechrnn.model import ModelConfig

Quantization = Literal["none", "float16", "dynamic", "int8", "int4"]
# Keras against LiteRT on the self-test, largest difference of a probability. Sums of float32 in
# another order differ by some 1e-6; what smaller numbers cost is a few times less than this.
TOLERANCES: dict[Quantization, float] = {
    "none": 1e-4,
    "float16": 0.01,
    "dynamic": 0.1,
    "int8": 0.1,
    "int4": 0.25,
}
TOLERANCE = TOLERANCES["none"]
# Of recordings that a quantised file is compared on, at most so many may get another answer.
MOST_OTHER_ANSWERS = 0.05
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
    quantize: Quantization = "none",
    calibration: Sequence[np.ndarray] = (),
    streaming: bool = False,
    batch: bool = False,
    waveforms: Sequence[np.ndarray] = (),
    overwrite: bool = False,
) -> ExportResult:
    """Write a bundle as one .tflite: ``waveform`` float32 ``[1, samples]`` -> the head's output.

    Args:
        bundle: A bundle made by training.
        out: The file; it appears only when every check has passed.
        quantize: "none"; "float16" or "int4": weights alone; "dynamic": weights in int8, products
            with what comes in quantised as it comes; "int8": the recurrent layers and all products
            in integers, states too. The front end is always in float32.
        calibration: For "int8", some hundred recordings at the model's rate, to see how large the
            values become.
        streaming: Whether the file also has a signature that takes a chunk and the state before it;
            for encoders that read in one direction.
        batch: Whether the file also has a signature that answers to several recordings of one
            length at once, for piles of them.
        waveforms: Recordings at the model's rate on which to compare Keras with the file.
        overwrite: Whether an existing file may be replaced.

    Raises:
        ModelError: The bundle is not intact.
        OutputError: ``out`` exists, is a folder, or cannot be written.
        ExportError: The converter failed, the file is not what the bundle is, or "int8" was asked
            for without recordings.
    """
    bundle, out = Path(bundle), Path(out)
    info = read_bundle(bundle)
    if quantize not in get_args(Quantization):
        known = ", ".join(get_args(Quantization))
        raise ExportError(f"quantize: got {quantize!r}, expected one of {known}")
    if quantize == "int8" and not calibration:
        raise ExportError(
            "int8 needs recordings to see how large values become; expected --calibrate DATA, for "
            "example what the model was trained on"
        )
    if quantize == "int8" and streaming:
        raise ExportError(
            "int8 with --streaming is not known yet; expected --quantize dynamic, or no --streaming"
        )
    if quantize == "int8" and batch:
        raise ExportError(
            "int8 with --batch is not known yet; expected --quantize dynamic, or no --batch"
        )
    if batch and info.sections["head"]["type"] != "classification":
        raise ExportError(
            "--batch: the model answers with sequences; expected one with a classification head"
        )
    check_out(out, overwrite)
    require_training("export")
    if streaming:
        from speechrnn.model import ModelConfig

        check_streaming(ModelConfig.from_mapping(info.sections))
    converted, plan = _convert_in_subprocess(bundle, streaming, batch)
    flatbuffer = _quantised(converted, quantize, calibration)
    operators = check_operators(flatbuffer)
    metadata = {**_metadata(info), "quantization": quantize}
    if batch:
        metadata["batch"] = {"signature": "batch", "size": BATCH_SIZE}
    if plan:
        metadata["streaming"] = {"signature": "stream", **plan}
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as folder:
        candidate = Path(folder) / "candidate.tflite"
        candidate.write_bytes(pack(flatbuffer, metadata, info.labels))
        recognizer = Recognizer(candidate)
        difference = _selftest_difference(recognizer, info)
        if streaming:
            _check_stream(recognizer, info)
        if batch:
            _check_batch(recognizer, info)
        comparison = _compare(recognizer, bundle, waveforms) if waveforms else None
        answer = recognizer.run(selftest.selftest_waveform(selftest.NUM_SAMPLES))
    metadata["selftest"] = selftest.record(metadata["output"]["name"], answer)
    content = pack(flatbuffer, metadata, info.labels)
    write_atomically(out, content)
    return ExportResult(out, len(content), operators, difference, comparison)


def check_out(out: Path, overwrite: bool) -> None:
    """Refuse a place where no file can be written, or where there is one.

    Raises:
        OutputError: Says why.
    """
    if os.path.isdir(out):
        raise OutputError(f"{out}: is a folder, expected a file name such as {out}/model.tflite")
    if os.path.lexists(out) and not overwrite:
        raise OutputError(f"{out}: exists; choose another name, or pass --force to replace it")
    check_place(out)


def check_streaming(config: ModelConfig) -> None:
    """Refuse what cannot stream.

    Raises:
        ExportError: Says which setting stands in the way.
    """
    features, reason = config.features, ""
    if features.normalisation == "utterance":
        reason = 'features.normalisation: got "utterance", which needs the end; expected "training"'
    elif features.deltas or features.pre_emphasis:
        reason = (
            f"features.deltas, features.pre_emphasis: got {features.deltas}, "
            f"{features.pre_emphasis:g}, which are not streamed; expected 0, 0"
        )
    elif features.window_length < features.hop_length:
        reason = (
            f"features.hop_ms: got {features.hop_ms:g}, expected at most features.window_ms "
            f"({features.window_ms:g}) to stream"
        )
    elif "bidirectional" not in (encoder := config.to_mapping()["encoder"]):
        reason = (
            f"encoder.type: got {encoder['type']!r}, of which every step sees the end; expected a "
            "recurrent one"
        )
    elif encoder["bidirectional"]:
        reason = "encoder.bidirectional: got true, half of which begins at the end; expected false"
    if reason:
        raise ExportError(
            f"{reason}; train such a model, with --preset streaming for one, or leave out "
            "--streaming: speechrnn listen asks any classifier window by window"
        )


def check_operators(flatbuffer: bytes) -> tuple[str, ...]:
    """Names of the operators in a TFLite flatbuffer, sorted.

    Raises:
        ExportError: One of them is custom (Flex included), so a plain interpreter cannot run it.
    """
    graph = Graph(flatbuffer)
    custom = graph.custom_operators()
    if custom:
        raise ExportError(
            f"the converter produced the custom operator {', '.join(custom)}, "
            "expected builtin ones only; the encoder or head uses an operation that TFLite does "
            "not have"
        )
    return tuple(sorted({graph.kind(operator) for _, operator in graph.operators()}))


def _quantised(
    flatbuffer: bytes, quantize: Quantization, calibration: Sequence[np.ndarray]
) -> bytes:
    if quantize == "int8":
        flatbuffer = with_integers(flatbuffer, find_ranges(flatbuffer, calibration))
    elif quantize != "none":
        flatbuffer = with_smaller_weights(flatbuffer, quantize)
    graph = Graph(flatbuffer)
    graph.compact()
    return graph.to_bytes()


def _convert_in_subprocess(
    bundle: Path, streaming: bool, batch: bool
) -> tuple[bytes, dict[str, Any] | None]:
    """The flatbuffer in float32; how a stream is cut, where it is to be one."""
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as folder:
        out = Path(folder) / "model.tflite"
        flags = [*(["--streaming"] if streaming else []), *(["--batch"] if batch else [])]
        command = [*CONVERTER, str(bundle), str(out), *flags]
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
        plan = Path(f"{out}.json")
        return out.read_bytes(), json.loads(plan.read_bytes()) if streaming else None


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""


def _metadata(info: BundleInfo) -> dict:
    from speechrnn.model import ModelConfig

    config = ModelConfig.from_mapping(info.sections)
    head, sequence = config.head, config.head.output_name == "log_probs"
    return {
        "speechrnn_version": __version__,
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
    difference = _largest_difference(recognizer, actual, expected)
    tolerance = TOLERANCES[recognizer.metadata["quantization"]]
    if not difference <= tolerance:
        raise ExportError(
            f"{info.path}: the exported file differs from the bundle by {difference:.2g} on the "
            f"self-test, expected at most {tolerance:g}; nothing was written"
        )
    return difference


def _check_stream(recognizer: Recognizer, info: BundleInfo) -> None:
    """Hold the answers to chunks against those to the whole, which is no longer than is pooled."""
    from speechrnn.runtime.streaming import Stream

    waveform, _ = read_selftest(info.path)
    stream = Stream(recognizer)
    answers = [*stream.feed(waveform), *stream.finish()]
    found = answers[-1] if recognizer.metadata["streaming"]["pooled"] else np.array(answers)
    difference = _largest_difference(recognizer, found, recognizer.run(waveform))
    tolerance = TOLERANCES[recognizer.metadata["quantization"]]
    if not difference <= tolerance:
        raise ExportError(
            f"{info.path}: answers to chunks differ by {difference:.2g} from those to the whole of "
            f"the self-test, expected at most {tolerance:g}; nothing was written"
        )


def _check_batch(recognizer: Recognizer, info: BundleInfo) -> None:
    """Hold the answers to several recordings at once against those to each alone."""
    waveform, _ = read_selftest(info.path)
    waveforms = [waveform * np.float32(level) for level in (1.0, 0.5, 0.1, 0.02, 0.3)]
    together, alone = recognizer.answer_many(waveforms), [recognizer.run(w) for w in waveforms]
    difference = float(np.max(np.abs(np.array(together) - np.array(alone))))
    if not difference <= TOLERANCE:
        raise ExportError(
            f"{info.path}: answers to several recordings at once differ by {difference:.2g} from "
            f"those to each alone, expected at most {TOLERANCE:g}; nothing was written"
        )


def _largest_difference(recognizer: Recognizer, actual: np.ndarray, expected: np.ndarray) -> float:
    """Of probabilities; in float32 of their logarithms, where the model answers with these."""
    if actual.shape != expected.shape:
        return np.inf
    logarithms = recognizer.metadata["output"]["name"] == "log_probs"
    if logarithms and recognizer.metadata["quantization"] != "none":
        actual, expected = np.exp(actual), np.exp(expected)
    return float(np.max(np.abs(actual - expected)))


def _said(recognizer: Recognizer, answer: np.ndarray) -> tuple[int, ...]:
    """The symbols of the best path, or the one label."""
    if recognizer.metadata["output"]["name"] == "log_probs":
        return greedy(answer).ids
    return (int(answer.argmax()),)


def _compare(recognizer: Recognizer, bundle: Path, waveforms: Sequence[np.ndarray]) -> Comparison:
    """Keras against the file on real recordings.

    Raises:
        ExportError: A probability differs by more than the tolerance; of quantised files, too many
            answers are others.
    """
    require_training("comparing with a bundle")
    from speechrnn.keras_recognizer import KerasRecognizer

    keras_recognizer = KerasRecognizer(bundle)
    largest, disagreements = 0.0, 0
    for chosen in batches_by_length(waveforms):
        answers = keras_recognizer.answer_many([waveforms[i] for i in chosen])
        for i, expected in zip(chosen, answers, strict=True):
            actual = recognizer.run(waveforms[i])
            largest = max(largest, _largest_difference(recognizer, actual, expected))
            disagreements += _said(recognizer, actual) != _said(recognizer, expected)
    quantised = recognizer.metadata["quantization"] != "none"
    if quantised and disagreements > MOST_OTHER_ANSWERS * len(waveforms):
        raise ExportError(
            f"{bundle}: the exported file gives another answer to {disagreements} of "
            f"{len(waveforms)} recordings, expected at most {100 * MOST_OTHER_ANSWERS:g} %; "
            "nothing was written; quantise less, or calibrate int8 on more recordings like them"
        )
    if not quantised and not largest <= TOLERANCE:
        raise ExportError(
            f"{bundle}: the exported file differs from the bundle by {largest:.2g} on "
            f"{len(waveforms)} recordings, expected at most {TOLERANCE:g}; nothing was written"
        )
    return Comparison(len(waveforms), largest, disagreements)
