"""Convert, describe, verify, and only then put the file in place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from speechrnn.bundle import BundleInfo, read_bundle, read_selftest
from speechrnn.config import to_mapping
from speechrnn.decoding.calibration import apply_temperature
from speechrnn.errors import ExportError, OutputError
from speechrnn.export.check import Comparison, Labelled, compare, largest_difference
from speechrnn.export.convert import BATCH_SIZE
from speechrnn.export.quantise import Quantization, quantised
from speechrnn.extras import require_training
from speechrnn.files import check_place, write_atomically
from speechrnn.flatbuffer import Graph
from speechrnn.runtime import Recognizer, selftest
from speechrnn.runtime.metadata import pack
from speechrnn.version import __version__

if TYPE_CHECKING:
    from speechrnn.model import ModelConfig

# Keras against LiteRT on the self-test, largest difference of a probability. Sums of float32 in
# another order differ by some 1e-6. What smaller numbers cost one sound in 200 is half of this or
# more, most a tenth of it: integers of trained networks 0.06 to 0.13, int4 up to 0.42.
TOLERANCES: dict[Quantization, float] = {
    "none": 1e-4,
    "float16": 0.01,
    "dynamic": 0.1,
    "int8": 0.25,
    "int4": 0.6,
}
TOLERANCE = TOLERANCES["none"]
# Accuracy, or word error rate, that a file may lose against the bundle.
MOST_LOSS = 0.01
CONVERSION_TIMEOUT_S = 600
# Steps: each is a piece of the graph, and so are as many that are answered to.
MOST_LOOK_AHEAD = 100
_NO_INT8 = (
    "needs recordings to see how large values become; expected --calibrate DATA, for example what "
    "the model was trained on"
)
# The second output of a model that answers with a sequence: its best path, collapsed.
TOKENS = {"name": "tokens", "dtype": "int32", "shape": ["tokens"]}
# A process of its own, with TensorFlow whatever this one trains with: only TensorFlow converts.
CONVERTER = (sys.executable, "-m", "speechrnn.export.convert")


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
    look_ahead_s: float | None = None,
    batch: bool = False,
    check: Sequence[Labelled] = (),
    max_loss: float = MOST_LOSS,
    show: Callable[[Comparison], None] | None = None,
    about: Mapping[str, str] | None = None,
    log: Path | None = None,
    overwrite: bool = False,
) -> ExportResult:
    """Write a bundle as one .tflite: ``waveform`` float32 ``[1, samples]`` -> the head's output.

    Args:
        bundle: A bundle made by training.
        out: The file; it appears only when every check has passed.
        quantize: "none"; "float16" or "int4": weights alone; "dynamic": weights in int8, products
            with what comes in quantised as it comes; "int8": the recurrent layers and all products
            in integers, states too. The front end always computes in float32.
        calibration: For "int8", some hundred recordings at the model's rate, to see how large the
            values become.
        streaming: Whether the file also has a signature that takes a chunk and the state before it;
            for recurrent encoders.
        look_ahead_s: What a stream of a model of both directions sees beyond the steps that it
            answers to, instead of the end; default: 0.48. Its chunks are as long: an answer comes
            that much to twice that much later, and computing it takes twice as long as within a
            whole recording.
        batch: Whether the file also has a signature that answers to several recordings of one
            length at once, for piles of them.
        check: Labelled recordings at the model's rate, on which to hold the file against the
            bundle, and beside it every other format.
        max_loss: Accuracy, or word error rate of a model of sequences, that it may lose there.
        show: Called with what the check found, before the file is refused or written.
        about: What else the file is to say about itself: ``licence``, ``attribution``.
        log: Where to write what the converter says; else it is kept only where it fails.
        overwrite: Whether an existing file may be replaced.

    Raises:
        ModelError: The bundle is not intact.
        OutputError: ``out`` exists, is a folder, or cannot be written.
        ExportError: The converter failed, the file is not what the bundle is, it loses more than
            ``max_loss``, or "int8" was asked for without recordings.
        LabelError: A recording's text is no label of the model.
    """
    bundle, out = Path(bundle), Path(out)
    info = read_bundle(bundle)
    if quantize not in get_args(Quantization):
        known = ", ".join(get_args(Quantization))
        raise ExportError(f"quantize: got {quantize!r}, expected one of {known}")
    no_int8 = "" if calibration else _NO_INT8
    if quantize == "int8" and no_int8:
        raise ExportError(f"int8 {no_int8}")
    if batch and info.sections["head"]["type"] != "classification":
        raise ExportError(
            "--batch: the model answers with sequences; expected one with a classification head"
        )
    if look_ahead_s is not None and not streaming:
        raise ExportError(f"--look-ahead {look_ahead_s:g}: is of streams; expected --streaming too")
    check_out(out, overwrite)
    require_training("export")
    if streaming:
        from speechrnn.model import ModelConfig

        check_streaming(ModelConfig.from_mapping(info.sections), look_ahead_s)
    converted, plan = _convert_in_subprocess(bundle, streaming, batch, log, look_ahead_s)
    metadata = {**_metadata(info), **(about or {}), "quantization": quantize}
    if batch:
        metadata["batch"] = {"signature": "batch", "size": BATCH_SIZE}
    if plan:
        metadata["streaming"] = {"signature": "stream", **plan}
    flatbuffer = quantised(converted, quantize, calibration, metadata)
    operators = check_operators(flatbuffer)
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as folder:
        candidate = Path(folder) / "candidate.tflite"
        candidate.write_bytes(pack(flatbuffer, metadata, info.labels))
        recognizer = Recognizer(candidate)
        difference = _selftest_difference(recognizer, info)
        if streaming:
            _check_stream(recognizer, info)
        if batch:
            _check_batch(recognizer, info)
        comparison = None
        if check:
            kinds = [q for q in get_args(Quantization) if q not in (quantize, no_int8 and "int8")]
            others = _other_formats(converted, kinds, calibration, metadata, info, Path(folder))
            comparison = _compare(
                bundle, [recognizer, *others], {"int8": no_int8} if no_int8 else {}, check
            )
            if show:
                show(comparison)
            _refuse_losses(comparison, bundle, max_loss)
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


def check_streaming(config: ModelConfig, look_ahead_s: float | None = None) -> None:
    """Refuse what cannot stream, or cannot with this look-ahead.

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
        why = "of which every step sees the end"
        if not getattr(config.encoder, "bidirectional", False):
            why = "which is not streamed"
        reason = f"encoder.type: got {encoder['type']!r}, {why}; expected a recurrent one"
    elif look_ahead_s is not None:
        step_s = config.clock.step_s
        most_s = MOST_LOOK_AHEAD * step_s
        if not encoder["bidirectional"]:
            raise ExportError(
                f"--look-ahead {look_ahead_s:g}: encoder.bidirectional is false, and answers "
                "depend on nothing ahead; leave it out"
            )
        if not step_s <= look_ahead_s <= most_s:
            raise ExportError(
                f"--look-ahead {look_ahead_s:g}: expected {step_s:g} to {most_s:g} s, which is 1 "
                f"to {MOST_LOOK_AHEAD} steps of this encoder"
            )
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


def _convert_in_subprocess(
    bundle: Path,
    streaming: bool,
    batch: bool,
    log: Path | None,
    look_ahead_s: float | None = None,
) -> tuple[bytes, dict[str, Any] | None]:
    """The flatbuffer in float32; how a stream is cut, where it is to be one."""
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as folder:
        out, noise = Path(folder) / "model.tflite", Path(folder) / "converter.log"
        flags = [*(["--streaming"] if streaming else []), *(["--batch"] if batch else [])]
        if look_ahead_s is not None:
            flags.append(f"--look-ahead={look_ahead_s!r}")
        failure = _run_converter([*CONVERTER, str(bundle), str(out), *flags], noise)
        said = noise.read_bytes()
        if failure is None and not out.is_file():
            failure = f"failed (exit 0): {_last_line(said)}"
        if log:
            write_atomically(log, said)
        if failure is not None:
            kept = log or _kept(said)
            raise ExportError(
                f"{bundle}: the TFLite converter {failure}; nothing was written; what it said is "
                f"in {kept}"
            )
        plan = Path(f"{out}.json")
        return out.read_bytes(), json.loads(plan.read_bytes()) if streaming else None


def _run_converter(command: Sequence[str], noise: Path) -> str | None:
    """What went wrong; what it says goes to a file."""
    environment = {**os.environ, "KERAS_BACKEND": "tensorflow"}
    try:
        with noise.open("wb") as file:
            status = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=CONVERSION_TIMEOUT_S,
                check=False,
                env=environment,
            ).returncode
    except subprocess.TimeoutExpired:
        return f"took longer than {CONVERSION_TIMEOUT_S} s"
    if status == 0:
        return None
    how = f"signal {-status}" if status < 0 else f"exit {status}"
    return f"failed ({how}): {_last_line(noise.read_bytes())}"


def _kept(noise: bytes) -> Path:
    """A file for what a failed converter said, which outlives this process."""
    handle, name = tempfile.mkstemp(prefix="speechrnn-export-", suffix=".log")
    with os.fdopen(handle, "wb") as file:
        file.write(noise)
    return Path(name)


def _last_line(noise: bytes) -> str:
    text = noise.decode(errors="replace")
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "it said nothing"


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
    difference = largest_difference(recognizer, actual, expected)
    quantization = recognizer.metadata["quantization"]
    tolerance = TOLERANCES[quantization]
    if not difference <= tolerance:
        larger = "" if quantization == "none" else "; export with larger numbers (--quantize)"
        raise ExportError(
            f"{info.path}: the exported file differs from the bundle by {difference:.2g} on the "
            f"self-test, expected at most {tolerance:g}; nothing was written{larger}"
        )
    return difference


def _check_stream(recognizer: Recognizer, info: BundleInfo) -> None:
    """Hold the answers to chunks against those to the whole.

    It is no longer than is pooled, nor than is seen ahead where a model reads in both directions.
    """
    from speechrnn.runtime.streaming import Stream

    waveform, _ = read_selftest(info.path)
    about = recognizer.metadata["streaming"]
    steps = [about[name] for name in ("pooled", "look_ahead") if about.get(name)]
    if steps:
        waveform = waveform[: min(steps) * about["chunk"] // about["steps"] + about["context"]]
    stream = Stream(recognizer)
    answers = [*stream.feed(waveform), *stream.finish()]
    found = answers[-1] if about["pooled"] else np.array(answers)
    difference = largest_difference(recognizer, found, recognizer.run(waveform))
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
    tolerance = TOLERANCES[recognizer.metadata["quantization"]]
    if not difference <= tolerance:
        raise ExportError(
            f"{info.path}: answers to several recordings at once differ by {difference:.2g} from "
            f"those to each alone, expected at most {tolerance:g}; nothing was written"
        )


def _other_formats(
    converted: bytes,
    kinds: Sequence[Quantization],
    calibration: Sequence[np.ndarray],
    metadata: Mapping[str, Any],
    info: BundleInfo,
    folder: Path,
) -> Iterator[Recognizer]:
    """The same model in other numbers, in files of their own."""
    for kind in kinds:
        file = folder / f"{kind}.tflite"
        content = quantised(converted, kind, calibration, metadata)
        file.write_bytes(pack(content, {**metadata, "quantization": kind}, info.labels))
        yield Recognizer(file)


def _compare(
    bundle: Path,
    recognizers: Iterable[Recognizer],
    left_out: Mapping[str, str],
    check: Sequence[Labelled],
) -> Comparison:
    """Hold files against their bundle; the first is the one that is asked for."""
    require_training("comparing with a bundle")
    from speechrnn.keras_recognizer import KerasRecognizer

    return compare(KerasRecognizer(bundle), recognizers, check, left_out)


def _refuse_losses(comparison: Comparison, bundle: Path, max_loss: float) -> None:
    """Raise an ExportError if the file that is asked for is not what the bundle is."""
    file, count = comparison.formats[0], comparison.recordings
    exact = file.quantization == "none"
    if exact and not file.largest_difference <= TOLERANCE:
        raise ExportError(
            f"{bundle}: the exported file differs from the bundle by {file.largest_difference:.2g} "
            f"on {count} recordings, expected at most {TOLERANCE:g}; nothing was written"
        )
    loss = comparison.loss(file)
    if loss > max_loss:
        remedy = "quantise less, calibrate int8 on more recordings, or raise --max-loss"
        raise ExportError(
            f"{bundle}: the exported file loses {100 * loss:.2f} points of {comparison.counted} on "
            f"{count} recordings, expected at most {100 * max_loss:g}; nothing was written; "
            f"{remedy}"
        )
