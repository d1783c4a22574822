"""A sound file -> blocks of mono float32 samples at one rate, and an error if a part is missing.

Files are read with libsndfile (WAV, FLAC, OGG, MP3, AIFF, ...) and, what it does not know, with
ffmpeg where that is installed. Channels are averaged, and rates are converted with soxr (quality
HQ), block by block, so that an hour needs no more memory than a minute.
"""

from __future__ import annotations

import io
import math
import os
import re
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import soundfile

from speechrnn.audio.ffmpeg import ffmpeg_blocks, find_ffmpeg
from speechrnn.errors import AudioError
from speechrnn.suffixes import AUDIO_SUFFIXES, FFMPEG_SUFFIXES

# 4 s of 44.1 kHz: large enough for speed, small enough that an hour of stereo needs few MB.
BLOCK_SAMPLES = 176_400
# Speech is recorded at 8 kHz and more, and the fastest converters run at 768 kHz. A rate outside
# comes from a damaged header; at 1 Hz a minute of it would become hours.
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1000, 1_000_000
# Smaller WAV files of 16 bits, which most recordings of commands are, are read without libsndfile:
# to set that up takes longer than to read them.
SMALL_BYTES = 1_000_000

# How libsndfile's log states that a header announces more bytes of samples than the file holds:
# WAV and WAVEX, AIFF, AU, W64, RF64. A RIFF size alone is often wrong in files that are whole.
_ANNOUNCED = re.compile(
    r"^ *(?:data|SSND|Data Size|riff|Riff size) *: (\d+) \(should be (\d+)\)", re.MULTILINE
)
# Programs that write to a pipe announce one of the largest 31 or 32 bit numbers.
_UNKNOWN_SIZE = 2**31 - 2**16
# Some programs count the header as samples: 44 bytes of WAV, 54 of AIFF.
_SIZE_SLACK = 64
_LARGEST_OGG_PAGE = 65_307  # RFC 3533, section 6
# Without a header an MP3's length is a guess from its first frame; tags may follow the audio.
_MP3_UNREAD = 0.1


def read_blocks(
    path: str | Path, sample_rate_hz: int, *, max_s: float = math.inf
) -> Iterator[np.ndarray]:
    """Read a recording as mono blocks, float32 ``[num_samples]``, none of them empty.

    The values are as they stand in the file: NaN, infinity and unscaled integers are for
    :func:`speechrnn.audio.check_values` to refuse.

    Args:
        path: Any file that libsndfile reads, or ffmpeg where that is installed, at any rate, with
            any number of channels.
        sample_rate_hz: The rate of the result.
        max_s: The longest recording that is of use; a longer one is refused before it is read.

    Raises:
        AudioError: The file is missing, a folder, unreadable, empty, not audio, longer than
            ``max_s`` by its own account, or, behind its last block, cut short.
    """
    with open_sound(path) as stream:
        yield from stream_blocks(stream, path, sample_rate_hz, max_s=max_s)


def open_sound(path: str | Path) -> io.FileIO:
    """The file, opened to read.

    Raises:
        AudioError: It is missing, a folder, a device, empty, or cannot be opened.
    """
    try:
        # A pipe is not waited for, until it is known to be none.
        handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | _O_BINARY)
    except OSError as error:
        raise AudioError(path, _why_not(path, error)) from error
    except ValueError as error:  # a NUL in its name
        raise AudioError(path, f"cannot be opened ({error})") from error
    stream = None
    try:
        found = os.fstat(handle)
        if stat.S_ISDIR(found.st_mode):
            raise AudioError(path, "is a folder, expected a sound file")
        if not stat.S_ISREG(found.st_mode):
            raise AudioError(path, "is a device or a pipe, expected a sound file")
        if found.st_size == 0:
            raise AudioError(path, "is empty (0 bytes)")
        stream = io.FileIO(handle)
    finally:
        if stream is None:
            os.close(handle)
    return stream


_O_BINARY = getattr(os, "O_BINARY", 0)  # of Windows


def _why_not(path: str | Path, error: OSError) -> str:
    if isinstance(error, FileNotFoundError):
        target = " (a link to a missing file)" if os.path.islink(path) else ""
        return f"no such file{target}"
    if os.path.isdir(path):  # Windows opens none
        return "is a folder, expected a sound file"
    return f"cannot be opened ({error.strerror})"


def stream_blocks(
    stream: io.FileIO,
    path: str | Path,
    sample_rate_hz: int,
    *,
    max_s: float = math.inf,
    content: bytes | None = None,
) -> Iterator[np.ndarray]:
    """As :func:`read_blocks`, of a file that is open; ``path`` is its name.

    ``content`` is all of it, where it was read already; else the file stands at its begin.
    """
    try:
        if content is None and os.fstat(stream.fileno()).st_size <= SMALL_BYTES:
            content = stream.read()
        small = _small_wav(content) if content and len(content) <= SMALL_BYTES else None
        if small:
            yield from _small_blocks(*small, path, sample_rate_hz, max_s)
            return
        stream.seek(0)
        # By number, because soundfile takes no name that is not UTF-8; Windows' libsndfile cannot.
        source = stream.fileno() if os.name == "posix" else str(path)
        try:
            sound = soundfile.SoundFile(source, closefd=False)
        except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
            yield from _other_blocks(stream, path, sample_rate_hz, max_s, _libsndfile_reason(error))
            return
        with sound:
            yield from _sound_blocks(sound, stream, path, sample_rate_hz, max_s)
    except OSError as error:
        raise AudioError(path, f"cannot be read ({error.strerror})") from error


_USUAL_CHUNKS = frozenset({b"LIST", b"fact", b"bext", b"JUNK", b"junk", b"PAD ", b"id3 "})


def _small_wav(content: bytes) -> tuple[int, np.ndarray] | None:
    """Rate and samples ``[frames, channels]`` of a small, plain, whole WAV of 16 bits.

    None where anything is unusual: libsndfile knows more about that.
    """
    if content[:4] != b"RIFF" or content[8:16] != b"WAVEfmt " or len(content) < 44:
        return None
    (announced,) = struct.unpack_from("<I", content, 4)
    form = struct.unpack_from("<IHHIIHH", content, 16)
    size, tag, channels, rate_hz, _, frame_bytes, bits = form
    if size != 16 or (tag, bits) != (1, 16) or not channels or frame_bytes != 2 * channels:
        return None
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        return None
    place = 36
    while (name := content[place : place + 4]) != b"data":
        if place + 8 > len(content) or name not in _USUAL_CHUNKS:
            return None
        (size,) = struct.unpack_from("<I", content, place + 4)
        place += 8 + size + size % 2
    if place + 8 > len(content):
        return None
    (size,) = struct.unpack_from("<I", content, place + 4)
    end = place + 8 + size
    if not size or end > len(content) or end > announced + 8 or size % frame_bytes:
        return None
    samples = np.frombuffer(content, "<i2", size // 2, place + 8)
    return rate_hz, samples.reshape(-1, channels)


def _small_blocks(
    rate_hz: int, samples: np.ndarray, path: str | Path, sample_rate_hz: int, max_s: float
) -> Iterator[np.ndarray]:
    if len(samples) > max_s * rate_hz:
        raise AudioError(path, too_long(len(samples) / rate_hz, max_s))
    # As libsndfile scales; a power of two, so that nothing is rounded.
    block = samples.astype(np.float32)
    block *= np.float32(1 / 32768)
    yield from _mono([block], rate_hz, sample_rate_hz)


def _sound_blocks(
    sound: soundfile.SoundFile,
    stream: io.FileIO,
    path: str | Path,
    sample_rate_hz: int,
    max_s: float,
) -> Iterator[np.ndarray]:
    _check_rate(sound.samplerate, path)
    # libsndfile reports the largest count for streams whose length it cannot know.
    longer = max_s * sound.samplerate < sound.frames < 2**62
    if longer and not _length_is_guessed(sound, stream):
        raise AudioError(path, too_long(sound.frames / sound.samplerate, max_s))
    yield from _mono(_frames(sound, stream, path), sound.samplerate, sample_rate_hz)


def _frames(
    sound: soundfile.SoundFile, stream: io.FileIO, path: str | Path
) -> Iterator[np.ndarray]:
    """Float32 ``[frames, channels]`` each, to the end, if that is there."""
    frames_read, block_frames = 0, max(1, BLOCK_SAMPLES // sound.channels)
    try:
        while len(block := sound.read(block_frames, dtype="float32", always_2d=True)):
            frames_read += len(block)
            yield block
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(
            path, f"is damaged or cut short ({_libsndfile_reason(error)}); copy it again"
        ) from error
    _check_whole(sound, stream, frames_read, path)


def _other_blocks(
    stream: io.FileIO, path: str | Path, sample_rate_hz: int, max_s: float, reason: str
) -> Iterator[np.ndarray]:
    """What ffmpeg makes of a file that libsndfile does not read."""
    suffix = os.path.splitext(path)[1].lower()
    # Not of what libsndfile should have read: ffmpeg would mend what is damaged.
    program = None if suffix in AUDIO_SUFFIXES else find_ffmpeg()
    if program is None:
        if suffix in FFMPEG_SUFFIXES:
            reason = f"{suffix} needs ffmpeg, which is not installed"
        raise AudioError(path, f"cannot be read as audio ({reason}); is it a sound file?")
    with ffmpeg_blocks(program, stream, path, BLOCK_SAMPLES) as (rate_hz, blocks):
        _check_rate(rate_hz, path)
        yield from _mono(_no_longer(blocks, path, rate_hz, max_s), rate_hz, sample_rate_hz)


def _no_longer(
    blocks: Iterable[np.ndarray], path: str | Path, rate_hz: int, max_s: float
) -> Iterator[np.ndarray]:
    """Blocks of what does not say beforehand how long it is."""
    frames_read = 0
    for block in blocks:
        frames_read += len(block)
        if frames_read > max_s * rate_hz:
            raise AudioError(path, too_long(frames_read / rate_hz, max_s))
        yield block


def _mono(blocks: Iterable[np.ndarray], rate_hz: int, wanted_hz: int) -> Iterator[np.ndarray]:
    """Blocks ``[frames, channels]`` -> their means over the channels, at the wanted rate."""
    convert, finish = _converter(rate_hz, wanted_hz)
    is_empty = True
    for block in blocks:
        is_empty = False
        with np.errstate(all="ignore"):  # NaN and infinity are refused later, in one line
            mono = block[:, 0] if block.shape[1] == 1 else block.mean(axis=1, dtype=np.float32)
        if len(found := convert(mono)):
            yield found
    if not is_empty and len(found := finish()):
        yield found


def _check_rate(rate_hz: int, path: str | Path) -> None:
    if not LOWEST_RATE_HZ <= rate_hz <= HIGHEST_RATE_HZ:
        raise AudioError(
            path,
            f"has a rate of {rate_hz} Hz, expected {LOWEST_RATE_HZ} to {HIGHEST_RATE_HZ} Hz; its "
            "header is damaged",
        )


def _converter(
    rate_hz: int, wanted_hz: int
) -> tuple[Callable[[np.ndarray], np.ndarray], Callable[[], np.ndarray]]:
    """What converts blocks from one rate to the other, and what comes behind the last."""
    if rate_hz == wanted_hz:
        return (lambda block: block), (lambda: np.zeros(0, np.float32))
    import soxr  # only where it is needed: a file at the model's rate starts faster

    resampler = soxr.ResampleStream(rate_hz, wanted_hz, 1, dtype="float32")
    return resampler.resample_chunk, lambda: resampler.resample_chunk(
        np.zeros(0, np.float32), last=True
    )


def too_long(duration_s: float, max_s: float) -> str:
    """Why a recording of that length is refused."""
    return f"is too long: {duration_s:.1f} s, expected one command of at most {max_s:g} s; cut it"


def _check_whole(
    sound: soundfile.SoundFile, stream: io.FileIO, frames_read: int, path: str | Path
) -> None:
    """Raise if the file announces, or holds, more audio than was read."""
    position, size = stream.tell(), os.fstat(stream.fileno()).st_size
    guessed = _length_is_guessed(sound, stream)
    # libsndfile reports the largest count for streams whose length it cannot know.
    if frames_read < sound.frames < 2**62 and not guessed:
        raise AudioError(
            path, f"is cut short: {frames_read} of {sound.frames} samples; copy it again"
        )
    for announced, held in _ANNOUNCED.findall(sound.extra_info):
        if int(held) + _SIZE_SLACK < int(announced) < _UNKNOWN_SIZE:
            raise AudioError(path, f"is cut short: {held} of {announced} bytes; copy it again")
    if guessed and 0 < position < (1 - _MP3_UNREAD) * size:
        raise AudioError(
            path,
            f"is an MP3 without its length, of which {position} of {size} bytes can be read; "
            "convert it to WAV or FLAC",
        )
    if sound.format == "OGG" and _last_page_is_cut(stream, size):
        raise AudioError(path, f"is cut short: its last page ends beyond {size} bytes")


def _length_is_guessed(sound: soundfile.SoundFile, stream: io.FileIO) -> bool:
    """Whether this is an MP3 whose first frame is no header with the number of frames."""
    if sound.format != "MP3":
        return False
    position = stream.tell()  # libsndfile reads on from here
    stream.seek(0)
    head = stream.read(10)  # of an ID3v2 tag, where there is one
    if head.startswith(b"ID3"):  # its size: 4 x 7 bits, without these ten bytes
        stream.seek(10 + sum(byte << 7 * (3 - i) for i, byte in enumerate(head[6:10])))
    else:
        stream.seek(0)
    frame = stream.read(64)  # side information of at most 38 bytes stands before the name
    stream.seek(position)
    return not any(name in frame for name in (b"Xing", b"Info", b"VBRI"))


def _last_page_is_cut(stream: io.FileIO, size: int) -> bool:
    """Whether an Ogg file ends inside a page; libsndfile leaves such a page out and says nothing.

    A page is 27 bytes, the last of them N, then N lengths, then as many bytes as these add up to
    (RFC 3533, section 6).
    """
    stream.seek(max(0, size - _LARGEST_OGG_PAGE))
    tail = stream.read()
    start = tail.rfind(b"OggS")
    if start < 0:
        return False  # something else stands behind the last page
    page = tail[start:]
    if len(page) < 27:
        return True
    lengths = page[27 : 27 + page[26]]
    return len(lengths) < page[26] or len(page) < 27 + len(lengths) + sum(lengths)


def _libsndfile_reason(error: Exception) -> str:
    text = str(getattr(error, "error_string", None) or error).strip().rstrip(".")
    # What libsndfile says of some broken MP3 and AIFF headers; the file was found and opened.
    if text.startswith(("File does not exist", "Unspecified internal error")):
        return "its header is damaged"
    return text
