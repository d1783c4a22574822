"""Latency and size of exported files, against the stock conversion of the same weights.

    python benchmarks/export.py [--rounds 25] [--accuracy BUNDLE DATA CALIBRATION] [--write]

One thread, a second of sound, waveform to probabilities, files in turn, medians over the rounds.
Models: the preset `commands` with 40 labels, and two layers of 64 and of 128 units in both
directions on all 98 frames; untrained, for time does not depend on the weights. Stock is
TensorFlow's converter on `model.serve` as Keras has it (batch 1, builtins only), once plain and
once with `Optimize.DEFAULT`; it has no int8 for loops. "Arithmetic" is how many times longer a file
takes than its multiply-adds would at the rate at which this machine multiplies matrices of
512 x 512 in float32 with one thread, measured in the same rounds.

Streaming: the preset reading in one direction, a chunk of 40 ms a call, by the signature that
carries its state, and the whole of StreamingRecognizer.

With --accuracy, instead: how often each file of a trained bundle is right.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from provenance import append_table

from speechrnn.config import read_preset
from speechrnn.datasets.reading import read_some
from speechrnn.export.arithmetic import multiply_adds
from speechrnn.export.quantise import Quantization, quantised
from speechrnn.model import SECTIONS
from speechrnn.speed import in_turn, opened, sounds

RATE_HZ, LABELS = 16000, 40
RESULTS = Path(__file__).parent / "results" / "export.md"
SMALLER: tuple[Quantization, ...] = ("float16", "dynamic", "int8", "int4")
CALIBRATION = 200


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--accuracy", nargs=3, metavar=("BUNDLE", "DATA", "CALIBRATION"))
    parser.add_argument("--write", action="store_true", help=f"append to {RESULTS.name}")
    options = parser.parse_args()
    table = accuracy(*options.accuracy) if options.accuracy else latency(options.rounds)
    print(table)
    if options.write:
        append_table(RESULTS, table, ["tensorflow", "keras", "ai-edge-litert"])


# ------------------------------------------------------------------ latency and size


def latency(rounds: int) -> str:
    lines = [
        "| model | file | ms | times faster than stock | size kB | of stock | arithmetic |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, model in models().items():
        files = convert(model, sounds(20, RATE_HZ))
        product = matrix_product()
        runs: dict[str, Callable[[], None]] = {kind: runner(file) for kind, file in files.items()}
        times = in_turn({**runs, "product": product}, rounds)
        rate = 2 * 512**3 / times.pop("product")
        least_s = 2 * multiply_adds(files["float32"], RATE_HZ) / rate
        for kind, taken in times.items():
            stock = "stock" if kind in ("stock", "float32", "float16") else "stock dynamic"
            lines.append(
                f"| {name} | {kind} | {1e3 * taken:.2f} | {times[stock] / taken:.2f} "
                f"| {len(files[kind]) / 1e3:.0f} | {len(files[kind]) / len(files[stock]):.2f} "
                f"| {taken / least_s:.1f} |"
            )
        alone = f"multiply-adds alone, {rate / 1e9:.0f} GFLOP/s"
        lines.append(f"| {name} | {alone} | {1e3 * least_s:.2f} | | | | |")
    return "\n".join([*lines, "", *streaming(rounds)])


def streaming(rounds: int) -> list[str]:
    """Milliseconds of a chunk of a stream, and the share of the time that it lasts."""
    from speechrnn.bundle import save_bundle
    from speechrnn.export import export_bundle
    from speechrnn.labels import Labels
    from speechrnn.model import ModelConfig, build_model
    from speechrnn.runtime import StreamingRecognizer

    sections = {name: dict(read_preset("commands")[name]) for name in SECTIONS}
    sections["encoder"]["bidirectional"] = False
    sections["features"]["normalisation"] = "training"
    labels = Labels(tuple(f"word {n}" for n in range(LABELS)))
    model = build_model(ModelConfig.from_mapping(sections), labels)
    lines = ["| stream | ms a chunk of 40 ms | of real time |", "|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        save_bundle(Path(folder) / "bundle", model, training={"finished": True}, metrics={})
        for kind in ("none", "dynamic"):
            file = Path(folder) / f"{kind}.tflite"
            export_bundle(Path(folder) / "bundle", file, quantize=kind, streaming=True)
            heard = StreamingRecognizer(file, threshold=1.0)
            (chunk,) = sounds(1, RATE_HZ)
            chunk = chunk[: heard.sample_rate_hz // 25]
            heard.feed(np.zeros(300, np.float32))
            taken = in_turn({"": lambda heard=heard, chunk=chunk: heard.feed(chunk)}, rounds, 25)[
                ""
            ]
            lines.append(f"| one way, {kind} | {1e3 * taken:.2f} | 1/{0.04 / taken:.0f} |")
    return lines


def models() -> dict[str, Any]:
    from speechrnn.labels import Labels
    from speechrnn.model import ModelConfig, build_model

    labels = Labels(tuple(f"word {n}" for n in range(LABELS)))
    preset = ModelConfig.from_mapping(read_preset("commands"))
    found = {"commands": build_model(preset, labels)}
    for units in (64, 128):
        sections = preset.to_mapping()
        sections["encoder"] = {"type": "gru", "units": units, "num_layers": 2}
        found[f"2 x BiGRU-{units}"] = build_model(ModelConfig.from_mapping(sections), labels)
    return found


def convert(model: Any, calibration: list[np.ndarray]) -> dict[str, bytes]:
    """Every file of a model, as it would be exported but for its metadata."""
    import tensorflow as tf

    from speechrnn.export.convert import to_flatbuffer
    from speechrnn.export.graph import answer

    signature = tf.TensorSpec([1, None], tf.float32, name="waveform")
    ours = to_flatbuffer(
        "serve", lambda w: {"probabilities": answer(model, w)}, [signature], [model]
    )
    return {
        "stock": stock(model, signature),
        "stock dynamic": stock(model, signature, True),
        "float32": quantised(ours, "none"),
        **{kind: quantised(ours, kind, calibration) for kind in SMALLER},
    }


def stock(model: Any, signature: Any, smaller: bool = False) -> bytes:
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint("serve", model.serve, [signature])
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serve"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        if smaller:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        return converter.convert()


def runner(content: bytes) -> Callable[[], None]:
    interpreter = opened(content, RATE_HZ)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], sounds(1, RATE_HZ)[0][None])
    return interpreter.invoke


def matrix_product() -> Callable[[], None]:
    """512 x 512 by 512 x 512 by the same interpreter: one FULLY_CONNECTED."""
    import tensorflow as tf

    from speechrnn.export.convert import to_flatbuffer

    rng = np.random.default_rng(0)
    matrix = tf.Variable(rng.standard_normal((512, 512)).astype(np.float32))
    signature = tf.TensorSpec([512, 512], tf.float32, name="waveform")
    content = to_flatbuffer(
        "serve", lambda x: {"y": tf.matmul(x, matrix)}, [signature], [tf_module(matrix)]
    )
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_content=content, num_threads=1)
    interpreter.allocate_tensors()
    interpreter.set_tensor(
        interpreter.get_input_details()[0]["index"],
        rng.standard_normal((512, 512)).astype(np.float32),
    )
    return interpreter.invoke


def tf_module(variable: Any) -> Any:
    import tensorflow as tf

    module = tf.Module()
    module.variable = variable
    return module


# ------------------------------------------------------------------ accuracy


def accuracy(bundle: str, data: str, calibration: str) -> str:
    from speechrnn.bundle import load_bundle

    model, info = load_bundle(bundle)
    rate_hz = info.sections["features"]["sample_rate_hz"]
    seen = read_some(calibration, rate_hz, CALIBRATION)
    loaded = read_some(data, rate_hz)
    lines = [
        "| file | accuracy % | against float32 | other answers | size kB |",
        "|---|---|---|---|---|",
    ]
    files = convert(model, [waveform for _, waveform in seen])
    answers = {kind: answered(file, [w for _, w in loaded]) for kind, file in files.items()}
    wanted = np.array([info.labels.id_of(row.text) - 1 for row, _ in loaded])
    for kind, said in answers.items():
        right, whole = 100 * np.mean(said == wanted), 100 * np.mean(answers["float32"] == wanted)
        lines.append(
            f"| {kind} | {right:.2f} | {right - whole:+.2f} "
            f"| {int((said != answers['float32']).sum())} of {len(said)} "
            f"| {len(files[kind]) / 1e3:.0f} |"
        )
    return "\n".join(lines)


def answered(content: bytes, waveforms: list[np.ndarray]) -> np.ndarray:
    found = []
    interpreter, samples = None, 0
    for waveform in waveforms:
        if interpreter is None or len(waveform) != samples:
            interpreter, samples = opened(content, len(waveform)), len(waveform)
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], waveform[None])
        interpreter.invoke()
        output = interpreter.get_output_details()[0]["index"]
        found.append(int(interpreter.get_tensor(output)[0].argmax()))
    return np.array(found)


if __name__ == "__main__":
    main()
