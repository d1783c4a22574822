"""Run an exported .tflite with numpy and LiteRT alone; imports no Keras and no TensorFlow."""

from speechrnn.runtime.metadata import FileInfo as FileInfo
from speechrnn.runtime.metadata import read_metadata as read_metadata
from speechrnn.runtime.recognizer import Recognizer as Recognizer
from speechrnn.runtime.streaming import StreamingRecognizer as StreamingRecognizer

__all__ = ["FileInfo", "Recognizer", "StreamingRecognizer", "read_metadata"]
