"""What a model answers -> what was said: :class:`Transcript`."""

from speechrnn.decoding.decision import Decision as Decision
from speechrnn.decoding.decoder import Decoder as Decoder
from speechrnn.decoding.decoder import make_decoder as make_decoder
from speechrnn.decoding.transcript import Transcript as Transcript
from speechrnn.decoding.transcript import Word as Word

__all__ = ["Decision", "Decoder", "Transcript", "Word", "make_decoder"]
