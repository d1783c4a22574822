"""What a model answers -> what was said: :class:`Transcript`."""

from speechrnn.decoding.classify import classify as classify
from speechrnn.decoding.transcript import Transcript as Transcript
from speechrnn.decoding.transcript import Word as Word

__all__ = ["Transcript", "Word", "classify"]
