"""Any sound file -> mono float32 samples at one rate. Every check of audio lives here."""

from speechrnn.audio.blocks import SMALL_BYTES as SMALL_BYTES
from speechrnn.audio.blocks import open_sound as open_sound
from speechrnn.audio.blocks import read_blocks as read_blocks
from speechrnn.audio.blocks import stream_blocks as stream_blocks
from speechrnn.audio.waveform import LONGEST_COMMAND_S as LONGEST_COMMAND_S
from speechrnn.audio.waveform import as_command as as_command
from speechrnn.audio.waveform import check_values as check_values
from speechrnn.audio.waveform import check_waveform as check_waveform
from speechrnn.audio.waveform import find_audio as find_audio
from speechrnn.audio.waveform import load_waveform as load_waveform
