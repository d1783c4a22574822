"""What a model answers -> what was said: :class:`Transcript`."""

from speechrnn.decoding.classify import classify as classify
from speechrnn.decoding.decision import Decision as Decision
from speechrnn.decoding.transcript import Transcript as Transcript
from speechrnn.decoding.transcript import Word as Word

__all__ = ["Decision", "Transcript", "Word", "classify"]
