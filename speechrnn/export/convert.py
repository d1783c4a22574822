"""Bundle -> TFLite flatbuffer, run as ``python -m speechrnn.export.convert BUNDLE OUT``.

It is a process of its own because the converter can crash: then that is an error message of the
parent and not its death (tensorflow#87468). The path through a SavedModel written by Keras'
``ExportArchive`` is the one that keeps the variables: ``from_concrete_functions`` silently drops
their values with Keras 3 (docs/adr/0005-conversion-path.md).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from speechrnn.bundle import load_bundle
from speechrnn.decoding.detect import clip_lengths_s
from speechrnn.extras import require_training
from speechrnn.flatbuffer import Graph

# Recordings that are answered to at once, with ``batch``: each weight is then read for as many.
# More of them gain nothing (docs/adr/0010-export-graph.md).
BATCH_SIZE = 4


def convert(
    bundle: Path,
    out: Path,
    *,
    streaming: bool = False,
    look_ahead_s: float | None = None,
    batch: bool = False,
) -> None:
    """Write the flatbuffer of the bundle's serving graph: ``[1, samples]`` -> ``[1, ...]``.

    With ``streaming`` it has another signature, ``stream``, and its plan stands in ``out`` with
    ``.json`` behind it; a model of both directions then looks ``look_ahead_s`` ahead. With
    ``batch`` it has another that answers to :data:`BATCH_SIZE` recordings of one length at once.
    """
    require_training("export")
    import tensorflow as tf

    from speechrnn.export.graph import answer

    model, info = load_bundle(bundle)

    def serving(name: str, size: int) -> bytes:
        return to_flatbuffer(
            name,
            lambda waveform: model.config.head.exported(answer(model, waveform)),
            [tf.TensorSpec([size, None], tf.float32, name="waveform")],
            [model],
        )

    flatbuffer = serving("serve", 1)
    if batch:
        both = Graph(flatbuffer)
        both.add_signature(Graph(serving("batch", BATCH_SIZE)))
        flatbuffer = both.to_bytes()
    if streaming:
        from speechrnn.export.streaming import LOOK_AHEAD_S, endpoint, plan_stream

        look_ahead_s = LOOK_AHEAD_S if look_ahead_s is None else look_ahead_s
        plan = plan_stream(model, look_ahead_s, pooled_s=clip_lengths_s(info.training)[1])
        both = Graph(flatbuffer)
        both.add_signature(Graph(to_flatbuffer("stream", *endpoint(model, plan), [model])))
        flatbuffer = both.to_bytes()
        about = plan.described(model.config.features.sample_rate_hz)
        Path(f"{out}.json").write_text(json.dumps(about), encoding="utf-8")
    out.write_bytes(flatbuffer)


def to_flatbuffer(
    name: str, function: Callable[..., Any], signature: Sequence[Any], tracked: Sequence[Any]
) -> bytes:
    """The flatbuffer of a function of tensors of this signature, which gets this name.

    ``tracked`` are the Keras objects whose variables it uses.
    """
    import keras
    import tensorflow as tf

    archive = keras.export.ExportArchive()
    for used in tracked:
        archive.track(used)
    archive.add_endpoint(name=name, fn=function, input_signature=signature)
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=[name])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        # Else an output of a loop is put together anew in every iteration (export/graph.py).
        converter._experimental_enable_dynamic_update_slice = True
        return converter.convert()


def reason(error: BaseException) -> str:
    """One line of what is wrong. Keras and autograph put theirs around it."""
    text = str(error)
    inner = re.findall(r"\x1b\[1m(.*?)\x1b\[0m", text, re.DOTALL)
    lines = [line.strip() for line in (inner[-1] if inner else text).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def main() -> None:
    """Convert what the command line names; a failure is one line on standard error."""
    try:
        options = argparse.ArgumentParser()
        options.add_argument("bundle", type=Path)
        options.add_argument("out", type=Path)
        options.add_argument("--streaming", action="store_true")
        options.add_argument("--look-ahead", type=float, dest="look_ahead_s")
        options.add_argument("--batch", action="store_true")
        convert(**vars(options.parse_args()))
    except Exception as error:
        sys.exit(reason(error))


if __name__ == "__main__":
    main()
