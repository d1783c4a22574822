"""What libsndfile does not read, through ffmpeg, a program that may be installed or not."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from speechrnn.errors import AudioError

# A file of AU begins with ".snd", the size of its header, that of its samples, the encoding, the
# rate and the channels, all big-endian (NeXT/Sun); 6 is float32. It tells all that is needed, and,
# unlike a WAV, does so in a pipe too.
_AU_HEADER, _AU_FLOAT32 = struct.Struct(">4sIIIII"), 6


def find_ffmpeg() -> str | None:
    """Where the program is, if anywhere."""
    return shutil.which("ffmpeg")


@contextlib.contextmanager
def ffmpeg_blocks(
    program: str, stream: io.FileIO, path: str | Path, block_samples: int
) -> Iterator[tuple[int, Iterator[np.ndarray]]]:
    """The rate of a file's first sound track, and its samples.

    Args:
        program: ffmpeg.
        stream: The file, open.
        path: Its name, for errors.
        block_samples: Samples of all channels together in a block.

    Yields:
        The rate in Hz, and float32 blocks ``[frames, channels]``; behind it the program is gone.

    Raises:
        AudioError: ffmpeg finds no sound in it; from the blocks: it is damaged.
    """
    # By number, so that no name can mislead it.
    posix = os.name == "posix"
    source = f"file:/dev/fd/{stream.fileno()}" if posix else f"file:{path}"
    command = [program, "-v", "error", "-nostdin", "-i", source, "-map", "0:a:0", "-vn"]
    command += ["-c:a", "pcm_f32be", "-f", "au", "pipe:1"]
    stream.seek(0)
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            pass_fds=(stream.fileno(),) if posix else (),
        ) as process,
    ):
        try:
            rate_hz, channels = _header(process, complaints, path)
            size = max(1, block_samples // channels) * 4 * channels
            yield rate_hz, _blocks(process, complaints, path, channels, size)
        finally:
            process.kill()


def _header(
    process: subprocess.Popen[bytes], complaints: BinaryIO, path: str | Path
) -> tuple[int, int]:
    """Rate and channels."""
    assert process.stdout is not None
    header = process.stdout.read(_AU_HEADER.size)
    if len(header) < _AU_HEADER.size:
        process.wait()
        what = _last_line(complaints) or "no sound in it"
        raise AudioError(path, f"cannot be read as audio (ffmpeg: {what}); is it a sound file?")
    _, header_bytes, _, encoding, rate_hz, channels = _AU_HEADER.unpack(header)
    if encoding != _AU_FLOAT32 or not channels:
        raise AudioError(
            path, "cannot be read as audio (ffmpeg: another format than was asked for)"
        )
    process.stdout.read(header_bytes - _AU_HEADER.size)
    return rate_hz, channels


def _blocks(
    process: subprocess.Popen[bytes],
    complaints: BinaryIO,
    path: str | Path,
    channels: int,
    size: int,
) -> Iterator[np.ndarray]:
    assert process.stdout is not None
    frame_bytes = 4 * channels
    while content := process.stdout.read(size):
        whole = len(content) // frame_bytes * frame_bytes
        samples = np.frombuffer(content[:whole], ">f4").astype(np.float32)
        yield samples.reshape(-1, channels)
    status, what = process.wait(), _last_line(complaints)
    if status or what:
        what = what or f"exit status {status}"
        raise AudioError(path, f"is damaged or cut short (ffmpeg: {what}); copy it again")


def _last_line(complaints: BinaryIO) -> str:
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").split("\n")
    found = [line.strip() for line in lines if line.strip()]
    return found[-1].removeprefix("file:").split(": ", 1)[-1] if found else ""
