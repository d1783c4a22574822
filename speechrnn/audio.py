"""Any audio file -> mono float32 waveform at one rate. Every check of audio lives here.

A waveform is float32 ``[num_samples]``, nominally within -1..1, at a rate that the caller names.
Files are read with libsndfile (WAV, FLAC, OGG, MP3, AIFF, ...), channels are averaged, and rates
are converted with soxr (quality HQ), block by block, so that memory is bounded by the result.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soundfile

from speechrnn.errors import AudioError

# What libsndfile 1.2 opens, by suffix; used only to find recordings inside a folder.
AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf"}
    | {".w64", ".rf64"}
)
# 4 s of 44.1 kHz: large enough for speed, small enough that an hour of stereo needs few MB.
BLOCK_FRAMES = 176_400
# Float files may overshoot full scale a little; values far beyond it are unscaled integers.
MAX_ABS_SAMPLE = 8.0


def load_waveform(path: str | Path, sample_rate_hz: int, *, min_samples: int = 1) -> np.ndarray:
    """Read a recording as a mono waveform.

    Args:
        path: Any file that libsndfile reads, at any rate, with any number of channels.
        sample_rate_hz: The rate of the result.
        min_samples: The fewest samples, at that rate, that are of use to the caller.

    Returns:
        float32 ``[num_samples]``, the mean of the channels.

    Raises:
        AudioError: The file is missing, a folder, unreadable, empty, not audio, shorter than
            ``min_samples``, cut short, or holds NaN, infinity or unscaled values.
    """
    file = Path(path)
    _check_file(file)
    try:
        with soundfile.SoundFile(file) as sound:
            blocks, frames_read = _read_mono(sound, sample_rate_hz)
            frames_promised = sound.frames
    except (soundfile.LibsndfileError, RuntimeError) as error:
        raise AudioError(
            path, f"cannot be read as audio ({_libsndfile_reason(error)}); is it a sound file?"
        ) from error
    # libsndfile reports the largest count for streams whose length it cannot know.
    if frames_read < frames_promised < 2**62:
        raise AudioError(
            path, f"is cut short: {frames_read} of {frames_promised} samples; copy it again"
        )
    return check_waveform(np.concatenate(blocks), path, sample_rate_hz, min_samples=min_samples)


def check_waveform(
    waveform: np.ndarray, name: str | Path, sample_rate_hz: int, *, min_samples: int = 1
) -> np.ndarray:
    """The waveform as float32, or an error that says what is wrong with it.

    Raises:
        AudioError: Not one-dimensional, empty, too short, not finite, or not within -1..1.
    """
    samples = np.asarray(waveform)
    if samples.ndim != 1 or samples.dtype.kind != "f":
        raise AudioError(
            name, f"got {samples.dtype} {list(samples.shape)}, expected a float [num_samples] array"
        )
    if samples.size < max(1, min_samples):
        raise AudioError(name, _too_short(samples.size, min_samples, sample_rate_hz))
    peak = float(np.max(np.abs(samples)))
    if not np.isfinite(peak):
        raise AudioError(name, "holds NaN or infinite samples; export it again from its source")
    if peak > MAX_ABS_SAMPLE:
        raise AudioError(
            name, f"reaches {peak:g}, expected samples within -1..1; divide integers by 32768"
        )
    return np.ascontiguousarray(samples, dtype=np.float32)


def as_waveform(
    recording: str | Path | np.ndarray, sample_rate_hz: int, *, min_samples: int = 1
) -> np.ndarray:
    """A file as :func:`load_waveform` reads it, or an array as :func:`check_waveform` passes it."""
    if isinstance(recording, np.ndarray):
        return check_waveform(recording, "waveform", sample_rate_hz, min_samples=min_samples)
    return load_waveform(recording, sample_rate_hz, min_samples=min_samples)


def find_audio(folder: Path) -> list[Path]:
    """Every audio file below a folder, sorted by path; hidden files and folders are left out."""
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix.lower() in AUDIO_SUFFIXES
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
        and file.is_file()
    )


def _check_file(file: Path) -> None:
    try:
        if file.is_dir():
            raise AudioError(file, "is a folder, expected a sound file")
        if not file.exists():
            raise AudioError(file, "no such file")
        if file.stat().st_size == 0:
            raise AudioError(file, "is empty (0 bytes)")
        with file.open("rb"):
            pass
    except OSError as error:
        raise AudioError(file, f"cannot be opened ({error.strerror})") from error


def _read_mono(sound: soundfile.SoundFile, sample_rate_hz: int) -> tuple[list[np.ndarray], int]:
    """Blocks of mono audio at the wanted rate, and the number of frames read from the file."""
    stream = None
    if sound.samplerate != sample_rate_hz:
        import soxr  # only where it is needed: a file at the model's rate starts faster

        stream = soxr.ResampleStream(sound.samplerate, sample_rate_hz, 1, dtype="float32")
    blocks, frames_read = [np.zeros(0, np.float32)], 0
    while len(block := sound.read(BLOCK_FRAMES, dtype="float32", always_2d=True)):
        frames_read += len(block)
        mono = block.mean(axis=1, dtype=np.float32)
        blocks.append(stream.resample_chunk(mono) if stream else mono)
    if stream and frames_read:
        blocks.append(stream.resample_chunk(np.zeros(0, np.float32), last=True))
    return blocks, frames_read


def _too_short(num_samples: int, min_samples: int, sample_rate_hz: int) -> str:
    if num_samples == 0:
        return "holds no samples"
    return (
        f"is too short: {1000 * num_samples / sample_rate_hz:.1f} ms, "
        f"expected at least {1000 * min_samples / sample_rate_hz:.1f} ms"
    )


def _libsndfile_reason(error: Exception) -> str:
    text = getattr(error, "error_string", None) or str(error)
    return str(text).strip().rstrip(".")
