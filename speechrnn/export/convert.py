"""Bundle -> TFLite flatbuffer, run as ``python -m speechrnn.export.convert BUNDLE OUT``.

It is a process of its own because the converter can crash: then that is an error message of the
parent and not its death (tensorflow#87468). The path through a SavedModel written by Keras'
``ExportArchive`` is the one that keeps the variables: ``from_concrete_functions`` silently drops
their values with Keras 3 (docs/adr/0005-conversion-path.md).
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from speechrnn.bundle import load_bundle
from speechrnn.extras import require_training


def convert(bundle: Path, out: Path) -> None:
    """Write the flatbuffer of the bundle's serving graph: ``[1, samples]`` -> ``[1, ...]``."""
    require_training("export")
    import keras
    import tensorflow as tf

    model, _ = load_bundle(bundle)
    archive = keras.export.ExportArchive()
    archive.track(model)
    archive.add_endpoint(
        name="serve",
        fn=lambda waveform: model.config.head.exported(model.serve(waveform)),
        input_signature=[tf.TensorSpec([1, None], tf.float32, name="waveform")],
    )
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as folder:
        archive.write_out(folder, verbose=False)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder, signature_keys=["serve"])
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        out.write_bytes(converter.convert())


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
