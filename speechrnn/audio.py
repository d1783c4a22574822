"""Any audio file -> mono float32 waveform at one rate. Every check of audio lives here.

A waveform is float32 ``[num_samples]``, nominally within -1..1, at a rate that the caller names.
Files are read with libsndfile (WAV, FLAC, OGG, MP3, AIFF, ...), channels are averaged, and rates
are converted with soxr (quality HQ), block by block, so that memory is bounded by the result.
"""

from __future__ import annotations

import io
import math
import os
import re
from pathlib import Path
from typing import NoReturn

import numpy as np
import soundfile

from speechrnn.errors import AudioError

# What libsndfile 1.2 opens, by suffix; used only to find recordings inside a folder.
AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf"}
    | {".w64", ".rf64"}
)
# 4 s of 44.1 kHz: large enough for speed, small enough that an hour of stereo needs few MB.
BLOCK_SAMPLES = 176_400
# Float files may overshoot full scale a little; values far beyond it are unscaled integers.
MAX_ABS_SAMPLE = 8.0
# Speech is recorded at 8 kHz and more, and the fastest converters run at 768 kHz. A rate outside
# comes from a damaged header; at 1 Hz a minute of it would become hours.
LOWEST_RATE_HZ, HIGHEST_RATE_HZ = 1000, 1_000_000
# A recording that gets one answer is one command. Beyond a minute an exported recurrent loop
# takes seconds, and twice the length takes four times as long: an hour would take an hour.
LONGEST_COMMAND_S = 60.0

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


def load_waveform(
    path: str | Path, sample_rate_hz: int, *, min_samples: int = 1, max_s: float = math.inf
) -> np.ndarray:
    """Read a recording as a mono waveform.

    Args:
        path: Any file that libsndfile reads, at any rate, with any number of channels.
        sample_rate_hz: The rate of the result.
        min_samples: The fewest samples, at that rate, that are of use to the caller.
        max_s: The longest recording that is; a longer one is refused before it is read.

    Returns:
        float32 ``[num_samples]``, the mean of the channels.

    Raises:
        AudioError: The file is missing, a folder, unreadable, empty, not audio, shorter than
            ``min_samples``, longer than ``max_s``, cut short, or holds NaN, infinity or unscaled
            values.
    """
    file = Path(path)
    _check_file(file)
    try:
        with file.open("rb", buffering=0) as stream:
            waveform = _read_stream(stream, path, sample_rate_hz, max_s)
    except OSError as error:
        raise AudioError(path, f"cannot be opened ({error.strerror})") from error
    return check_waveform(waveform, path, sample_rate_hz, min_samples=min_samples, max_s=max_s)


def check_waveform(
    waveform: np.ndarray,
    name: str | Path,
    sample_rate_hz: int,
    *,
    min_samples: int = 1,
    max_s: float = math.inf,
) -> np.ndarray:
    """The waveform as float32, or an error that says what is wrong with it.

    Raises:
        AudioError: Not one-dimensional, empty, too short or long, not finite, not within -1..1.
    """
    samples = np.asarray(waveform)
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise AudioError(
            name, f"got {samples.dtype} {list(samples.shape)}, expected a float [num_samples] array"
        )
    if samples.size < max(1, min_samples):
        raise AudioError(name, _too_short(samples.size, min_samples, sample_rate_hz))
    if samples.size > max_s * sample_rate_hz:
        raise AudioError(name, _too_long(samples.size / sample_rate_hz, max_s))
    peak = max(float(samples.max()), -float(samples.min()))  # as NaN, whichever is first
    if not np.isfinite(peak):
        raise AudioError(name, "holds NaN or infinite samples; export it again from its source")
    if peak > MAX_ABS_SAMPLE:
        raise AudioError(
            name, f"reaches {peak:g}, expected samples within -1..1; divide integers by 32768"
        )
    return np.ascontiguousarray(samples, dtype=np.float32)


def as_command(
    recording: str | Path | np.ndarray, sample_rate_hz: int, *, min_samples: int
) -> np.ndarray:
    """One command: a file as :func:`load_waveform` reads it, or an array that is checked.

    Raises:
        AudioError: As there; also a recording of more than ``LONGEST_COMMAND_S``.
    """
    if isinstance(recording, np.ndarray):
        return check_waveform(
            recording,
            "waveform",
            sample_rate_hz,
            min_samples=min_samples,
            max_s=LONGEST_COMMAND_S,
        )
    return load_waveform(
        recording, sample_rate_hz, min_samples=min_samples, max_s=LONGEST_COMMAND_S
    )


def find_audio(folder: Path) -> list[Path]:
    """Every audio file below a folder, sorted by path; hidden files and folders are left out.

    Links to folders are followed, each folder once. A link to a file that is missing is in the
    list, so that reading it says so.

    Raises:
        AudioError: A folder cannot be read.
    """
    found, seen = [], set()
    for parent, folders, names in os.walk(folder, onerror=_unreadable_folder, followlinks=True):
        place = os.path.realpath(parent)
        if place in seen:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        found += [Path(parent, name) for name in names if not name.startswith(".")]
    return sorted(file for file in found if file.suffix.lower() in AUDIO_SUFFIXES)


def _unreadable_folder(error: OSError) -> NoReturn:
    raise AudioError(error.filename, f"folder cannot be read ({error.strerror})") from error


def _check_file(file: Path) -> None:
    try:
        if file.is_dir():
            raise AudioError(file, "is a folder, expected a sound file")
        if not file.exists():
            target = " (a link to a missing file)" if file.is_symlink() else ""
            raise AudioError(file, f"no such file{target}")
        if not file.is_file():  # opening a pipe would wait for its other end
            raise AudioError(file, "is a device or a pipe, expected a sound file")
        if file.stat().st_size == 0:
            raise AudioError(file, "is empty (0 bytes)")
    except OSError as error:
        raise AudioError(file, f"cannot be opened ({error.strerror})") from error


def _read_stream(
    stream: io.FileIO, path: str | Path, sample_rate_hz: int, max_s: float
) -> np.ndarray:
    """The whole file, mono, at the wanted rate; an error if a part of it is missing."""
    # By number, because soundfile takes no name that is not UTF-8; Windows' libsndfile cannot.
    source = stream.fileno() if os.name == "posix" else str(path)
    try:
        sound = soundfile.SoundFile(source, closefd=False)
    except (soundfile.LibsndfileError, RuntimeError, TypeError) as error:
        raise AudioError(
            path, f"cannot be read as audio ({_libsndfile_reason(error)}); is it a sound file?"
        ) from error
    with sound:
        if not LOWEST_RATE_HZ <= sound.samplerate <= HIGHEST_RATE_HZ:
            raise AudioError(
                path,
                f"has a rate of {sound.samplerate} Hz, expected {LOWEST_RATE_HZ} to "
                f"{HIGHEST_RATE_HZ} Hz; its header is damaged",
            )
        # libsndfile reports the largest count for streams whose length it cannot know.
        too_long = max_s * sound.samplerate < sound.frames < 2**62
        if too_long and not _length_is_guessed(sound, stream):
            raise AudioError(path, _too_long(sound.frames / sound.samplerate, max_s))
        try:
            waveform, frames_read = _read_mono(sound, sample_rate_hz)
        except (soundfile.LibsndfileError, RuntimeError) as error:
            raise AudioError(
                path, f"is damaged or cut short ({_libsndfile_reason(error)}); copy it again"
            ) from error
        _check_whole(sound, stream, frames_read, path)
    return waveform


def _read_mono(sound: soundfile.SoundFile, sample_rate_hz: int) -> tuple[np.ndarray, int]:
    """Mono audio at the wanted rate, and the number of frames read from the file."""
    resampler = None
    if sound.samplerate != sample_rate_hz:
        import soxr  # only where it is needed: a file at the model's rate starts faster

        resampler = soxr.ResampleStream(sound.samplerate, sample_rate_hz, 1, dtype="float32")
    samples = bytearray()  # grows in place: the result is never held twice
    frames_read = 0
    block_frames = max(1, BLOCK_SAMPLES // sound.channels)
    while len(block := sound.read(block_frames, dtype="float32", always_2d=True)):
        frames_read += len(block)
        with np.errstate(all="ignore"):  # NaN and infinity are refused later, in one line
            mono = block.mean(axis=1, dtype=np.float32)
        samples += resampler.resample_chunk(mono).data if resampler else mono.data
    if resampler and frames_read:
        samples += resampler.resample_chunk(np.zeros(0, np.float32), last=True).data
    return np.frombuffer(samples, np.float32), frames_read


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


def _too_short(num_samples: int, min_samples: int, sample_rate_hz: int) -> str:
    if num_samples == 0:
        return "holds no samples"
    return (
        f"is too short: {1000 * num_samples / sample_rate_hz:.1f} ms, "
        f"expected at least {1000 * min_samples / sample_rate_hz:.1f} ms"
    )


def _too_long(duration_s: float, max_s: float) -> str:
    return f"is too long: {duration_s:.1f} s, expected one command of at most {max_s:g} s; cut it"


def _libsndfile_reason(error: Exception) -> str:
    text = str(getattr(error, "error_string", None) or error).strip().rstrip(".")
    # What libsndfile says of some broken MP3 and AIFF headers; the file was found and opened.
    if text.startswith(("File does not exist", "Unspecified internal error")):
        return "its header is damaged"
    return text
