"""A bundle -> one verified .tflite: waveform in, the head's output out, builtin operations only."""

from speechrnn.export.pipeline import export_bundle as export_bundle

__all__ = ["export_bundle"]
