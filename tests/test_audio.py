"""Any file -> mono float32 at one rate: right samples, bounded memory, and one line when broken."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
import wave
from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr
from conftest import Write, tone
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from speechrnn.audio import (
    LONGEST_COMMAND_S,
    as_command,
    blocks,
    check_waveform,
    find_audio,
    load_waveform,
)
from speechrnn.errors import AudioError

RATE_HZ = 16000
# Formats that libsndfile writes, and the largest error of a sample that each may bring.
LOSSLESS = {
    ("wav", "PCM_U8"): 1 / 128,
    ("wav", "PCM_16"): 1 / 32768,
    ("wav", "PCM_24"): 2**-23,
    ("wav", "PCM_32"): 2**-23,  # float32 holds 24 bits
    ("wav", "FLOAT"): 2**-24,
    ("wav", "DOUBLE"): 2**-24,
    ("flac", "PCM_16"): 1 / 32768,
    ("flac", "PCM_24"): 2**-23,
    ("aiff", "PCM_16"): 1 / 32768,
    ("au", "PCM_16"): 1 / 32768,
    ("caf", "PCM_16"): 1 / 32768,
    ("w64", "PCM_16"): 1 / 32768,
    ("rf64", "PCM_16"): 1 / 32768,
}
LOSSY = {("ogg", "VORBIS"), ("ogg", "OPUS"), ("mp3", "MPEG_LAYER_III"), ("wav", "ULAW")}
KINDS = [*LOSSLESS, *sorted(LOSSY)]


def speech_like(duration_s: float = 1.0, rate_hz: int = RATE_HZ) -> np.ndarray:
    rng = np.random.default_rng(3)
    return tone(440, duration_s, rate_hz) + 0.05 * rng.standard_normal(round(duration_s * rate_hz))


def dominant_hz(waveform: np.ndarray, rate_hz: int) -> float:
    """Frequency of the highest peak, refined by a parabola through it and its neighbours."""
    power = np.log(np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)))) + 1e-12)
    k = int(np.argmax(power[1:-1])) + 1
    left, top, right = power[k - 1 : k + 2]
    return float((k + 0.5 * (left - right) / (left - 2 * top + right)) * rate_hz / len(waveform))


# --- what is read


@pytest.mark.parametrize(("suffix", "subtype"), LOSSLESS)
def test_lossless_formats_keep_every_sample(
    suffix: str, subtype: str, write_audio: Write, tmp_path: Path
) -> None:
    samples = speech_like()
    file = write_audio(f"clip.{suffix}", samples, subtype=subtype)
    found = load_waveform(file, RATE_HZ)
    assert found.dtype == np.float32
    assert found.shape == samples.shape
    # Half a step for rounding and half because full scale is 2^n - 1, not 2^n.
    np.testing.assert_allclose(found, samples, atol=LOSSLESS[suffix, subtype])


@pytest.mark.parametrize(("suffix", "subtype"), sorted(LOSSY))
def test_lossy_formats_keep_length_pitch_and_level(
    suffix: str, subtype: str, write_audio: Write
) -> None:
    file = write_audio(f"clip.{suffix}", tone(440, 1.0, RATE_HZ), subtype=subtype)
    found = load_waveform(file, RATE_HZ)
    assert len(found) == RATE_HZ
    assert dominant_hz(found, RATE_HZ) == pytest.approx(440, abs=1)
    # A few percent: the codecs ring at the hard start and end of the tone.
    assert np.std(found[2000:-2000]) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize(
    ("codes", "width", "expected"),
    [
        (b"\x00\x80\xff", 1, [-1.0, 0.0, 127 / 128]),  # 8 bit WAV is unsigned
        (struct.pack("<3h", -32768, 0, 32767), 2, [-1.0, 0.0, 32767 / 32768]),
        (b"\x00\x00\x80" + b"\x00\x00\x00" + b"\xff\xff\x7f", 3, [-1.0, 0.0, 1 - 2**-23]),
        (struct.pack("<3i", -(2**31), 0, 2**30), 4, [-1.0, 0.0, 0.5]),
    ],
)
def test_integers_become_fractions_of_full_scale(
    codes: bytes, width: int, expected: list[float], tmp_path: Path
) -> None:
    with wave.open(str(tmp_path / "clip.wav"), "wb") as file:  # another writer than libsndfile
        file.setnchannels(1)
        file.setsampwidth(width)
        file.setframerate(RATE_HZ)
        file.writeframes(codes)
    np.testing.assert_array_equal(
        load_waveform(tmp_path / "clip.wav", RATE_HZ), np.float32(expected)
    )


@pytest.mark.parametrize("num_channels", [1, 2, 6])
def test_channels_are_averaged(num_channels: int, write_audio: Write) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (4000, num_channels)).astype(np.float32)
    found = load_waveform(write_audio("clip.wav", samples, subtype="FLOAT"), RATE_HZ)
    np.testing.assert_allclose(found, samples.mean(axis=1), atol=1e-7)  # order of float32 sums


def test_opposite_channels_cancel(write_audio: Write) -> None:
    left = speech_like(0.1)
    file = write_audio("clip.wav", np.stack([left, -left], axis=1), subtype="FLOAT")
    assert np.max(np.abs(load_waveform(file, RATE_HZ))) == 0


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rate_hz=st.sampled_from([8000, 11025, 22050, 32000, 44100, 48000, 96000]),
    frequency_hz=st.floats(100, 3500),
    level=st.floats(0.01, 0.9),
)
def test_resampling_keeps_frequency_level_and_length(
    rate_hz: int, frequency_hz: float, level: float, tmp_path: Path
) -> None:
    samples = tone(frequency_hz, 0.5, rate_hz, level)
    soundfile.write(tmp_path / "clip.wav", samples, rate_hz, subtype="FLOAT")
    found = load_waveform(tmp_path / "clip.wav", RATE_HZ)
    assert abs(len(found) - len(samples) * RATE_HZ / rate_hz) <= 1
    assert dominant_hz(found, RATE_HZ) == pytest.approx(frequency_hz, abs=0.5)
    middle = found[len(found) // 4 : -len(found) // 4]  # the edges ring
    assert np.max(np.abs(middle)) == pytest.approx(level, rel=0.02)  # a peak between two samples


@pytest.mark.parametrize("rate_hz", [44100, 48000, 96000])
def test_what_lies_above_half_the_rate_is_removed(rate_hz: int, write_audio: Write) -> None:
    file = write_audio("clip.wav", tone(12000, 0.5, rate_hz), rate_hz, subtype="FLOAT")
    found = load_waveform(file, RATE_HZ)
    assert np.max(np.abs(found[1000:-1000])) < 1e-3  # -50 dB; folded down it would be at 4 kHz


@pytest.mark.parametrize("rate_hz", [8000, 44100])
@pytest.mark.parametrize("block_samples", [1, 1000, 1_000_000])
def test_reading_in_blocks_equals_one_shot(
    rate_hz: int, block_samples: int, write_audio: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples = speech_like(0.2, rate_hz).astype(np.float32)
    file = write_audio("clip.wav", samples, rate_hz, subtype="FLOAT")
    monkeypatch.setattr(blocks, "BLOCK_SAMPLES", block_samples)
    expected = soxr.resample(samples, rate_hz, RATE_HZ)
    np.testing.assert_allclose(load_waveform(file, RATE_HZ), expected, atol=1e-6)  # float32


def test_the_model_s_own_rate_is_not_touched(write_audio: Write) -> None:
    samples = speech_like().astype(np.float32)
    found = load_waveform(write_audio("clip.wav", samples, subtype="FLOAT"), RATE_HZ)
    np.testing.assert_array_equal(found, samples)


def test_the_result_is_the_caller_s_to_change(write_audio: Write) -> None:
    found = load_waveform(write_audio("clip.wav", speech_like(0.1)), RATE_HZ)
    found[:] = 0
    assert found.flags.c_contiguous
    assert not found.any()


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/status")
def test_an_hour_at_8_khz_needs_little_more_memory_than_its_result(tmp_path: Path) -> None:
    file = tmp_path / "hour.wav"
    block = (1000 * np.random.default_rng(0).standard_normal(8000 * 60)).astype(np.int16)
    with soundfile.SoundFile(file, "w", 8000, 1, subtype="PCM_16") as sound:
        for _ in range(60):
            sound.write(block)
    script = f"""
import re, soxr, numpy as np
from pathlib import Path
from speechrnn.audio import load_waveform
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
soxr.resample(np.zeros(8000, np.float32), 8000, 16000)
before = peak()
waveform = load_waveform({str(file)!r}, 16000)
print(len(waveform), (peak() - before) / waveform.nbytes)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    num_samples, ratio = done.stdout.split()
    assert int(num_samples) == 3600 * 16000
    assert float(ratio) < 1.25  # 1.0 is the result itself; it grows by eighths


# --- what is refused


def refused(file: str | Path, **options: int) -> str:
    with pytest.raises(AudioError) as caught:
        load_waveform(file, RATE_HZ, **options)
    assert caught.value.path == str(file)
    assert str(caught.value) == f"{file}: {caught.value.reason}"
    assert "\n" not in caught.value.reason
    return caught.value.reason


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "none.wav") == "no such file"


def test_a_link_to_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link.wav").symlink_to("gone.wav")
    assert refused(tmp_path / "link.wav") == "no such file (a link to a missing file)"


def test_a_folder_named_as_a_recording_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.wav").mkdir()
    assert "is a folder" in refused(tmp_path / "x.wav")


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    assert "pipe" in refused(tmp_path / "pipe.wav")


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty.wav").touch()
    assert refused(tmp_path / "empty.wav") == "is empty (0 bytes)"


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "raw"])
def test_text_is_refused_whatever_its_suffix(suffix: str, tmp_path: Path) -> None:
    file = tmp_path / f"notes.{suffix}"
    file.write_text("not a recording, but a shopping list\n" * 20, encoding="utf-8")
    assert "cannot be read as audio" in refused(file)


def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, write_audio: Write) -> None:
    file = write_audio("secret.wav", speech_like(0.1))
    file.chmod(0)
    tmp_path.chmod(0o755)
    script = (
        "import os, sys\n"
        "from speechrnn.audio import load_waveform\n"
        "from speechrnn.errors import AudioError\n"
        "if os.getuid() == 0:\n"
        "    os.setgid(65534); os.setuid(65534)\n"
        "try:\n"
        "    load_waveform(sys.argv[1], 16000)\n"
        "except AudioError as error:\n"
        "    print(error.reason)\n"
    )
    for folder in tmp_path.parents[:2]:  # pytest's own are for the owner alone
        folder.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", script, str(file)], capture_output=True, text=True, cwd="/"
    )
    assert done.stdout == "cannot be opened (Permission denied)\n", done.stderr


@pytest.mark.parametrize(("suffix", "subtype"), KINDS)
@pytest.mark.parametrize("num_bytes", [1, 12, 30, 43])
def test_a_cut_header_is_refused(
    suffix: str, subtype: str, num_bytes: int, write_audio: Write
) -> None:
    file = write_audio(f"clip.{suffix}", speech_like(), subtype=subtype)
    file.write_bytes(file.read_bytes()[:num_bytes])
    assert refused(file, min_samples=400)


@pytest.mark.parametrize(("suffix", "subtype"), KINDS)
@pytest.mark.parametrize("part", [0.3, 0.5, 0.9])
def test_a_recording_cut_short_is_refused(
    suffix: str, subtype: str, part: float, write_audio: Write
) -> None:
    file = write_audio(f"clip.{suffix}", speech_like(3), subtype=subtype)
    content = file.read_bytes()
    file.write_bytes(content[: int(part * len(content))])
    reason = refused(file)
    assert re.search("cut short|damaged|malformed|cannot be read", reason)


@pytest.mark.parametrize("announced", [0x7FFFFFFF, 0x7FFFF000, 0x80000000, 0xFFFFFFFF])
def test_a_wav_written_to_a_pipe_is_read_to_its_end(announced: int, write_audio: Write) -> None:
    file = write_audio("clip.wav", speech_like())
    content = bytearray(file.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", announced)  # as ffmpeg, sox and arecord leave it
    file.write_bytes(content)
    assert len(load_waveform(file, RATE_HZ)) == RATE_HZ


def test_a_wav_that_counts_its_header_as_samples_is_read(write_audio: Write) -> None:
    file = write_audio("clip.wav", speech_like())
    content = bytearray(file.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", len(content))
    file.write_bytes(content)
    assert len(load_waveform(file, RATE_HZ)) == RATE_HZ


def write_mp3_without_length(file: Path, samples: np.ndarray, bitrate_mode: str) -> None:
    """An MP3 without its first frame, which holds no audio but the Xing or Info header."""
    with soundfile.SoundFile(
        file, "w", RATE_HZ, 1, bitrate_mode=bitrate_mode, compression_level=0.5
    ) as sound:
        sound.write(samples)
    content = file.read_bytes()
    header = max(content.find(b"Xing"), content.find(b"Info"))
    assert header > 0
    file.write_bytes(content[content.index(content[:2], header) :])


def test_a_constant_rate_mp3_without_its_length_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp3"
    write_mp3_without_length(file, speech_like(3), "CONSTANT")
    file.write_bytes(file.read_bytes() + b"TAG" + bytes(125))  # and with an old tag behind it
    assert len(load_waveform(file, RATE_HZ)) >= 3 * RATE_HZ


def test_a_variable_rate_mp3_whose_length_is_guessed_too_long_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp3"
    growing = speech_like(25) * np.linspace(0, 1, 25 * RATE_HZ) ** 4
    write_mp3_without_length(file, growing, "VARIABLE")
    assert soundfile.info(file).frames > LONGEST_COMMAND_S * RATE_HZ
    for read in (load_waveform, as_command):
        found = read(file, RATE_HZ, min_samples=1)
        assert len(found) == pytest.approx(25 * RATE_HZ, abs=2000)


def test_a_variable_rate_mp3_whose_length_is_guessed_too_short_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp3"
    fading = speech_like(20) * np.linspace(1, 0, 20 * RATE_HZ) ** 4
    write_mp3_without_length(file, fading, "VARIABLE")
    assert soundfile.info(file).frames < 19 * RATE_HZ
    assert "MP3 without its length" in refused(file)


@pytest.mark.parametrize("rate_hz", [1, 999, 1_000_001, 2**31 - 1])
def test_a_rate_that_no_recorder_has_is_refused(rate_hz: int, write_audio: Write) -> None:
    file = write_audio("clip.wav", speech_like(0.1))
    content = bytearray(file.read_bytes())
    content[24:28] = struct.pack("<I", rate_hz)
    file.write_bytes(content)
    assert f"rate of {rate_hz} Hz" in refused(file)


@pytest.mark.parametrize("suffix", ["wav", "aiff", "au", "caf"])
def test_no_samples_are_refused(suffix: str, write_audio: Write) -> None:
    file = write_audio(f"none.{suffix}", np.zeros(0), subtype="PCM_16")
    assert refused(file) == "holds no samples"


@pytest.mark.parametrize("rate_hz", [8000, 16000, 44100])
def test_less_than_the_caller_needs_is_refused_in_milliseconds(
    rate_hz: int, write_audio: Write
) -> None:
    file = write_audio("short.wav", tone(440, 0.02, rate_hz), rate_hz)
    assert refused(file, min_samples=400) == "is too short: 20.0 ms, expected at least 25.0 ms"
    assert len(load_waveform(file, RATE_HZ, min_samples=320)) == 320


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("rate_hz", [16000, 44100])
def test_samples_that_are_no_numbers_are_refused(
    value: float, rate_hz: int, write_audio: Write
) -> None:
    samples = speech_like(0.2, rate_hz)
    samples[100] = value
    file = write_audio("nan.wav", samples, rate_hz, subtype="FLOAT")
    assert "NaN or infinite" in refused(file)


def test_channels_of_opposite_infinity_are_refused_without_a_warning(write_audio: Write) -> None:
    samples = np.tile([np.inf, -np.inf], (1000, 1))
    assert "NaN or infinite" in refused(write_audio("inf.wav", samples, subtype="FLOAT"))


def test_floats_that_were_never_scaled_are_refused(write_audio: Write) -> None:
    file = write_audio("loud.wav", 32768 * speech_like(0.1), subtype="FLOAT")
    assert "expected samples within -1..1" in refused(file)


def test_a_little_overshoot_is_kept(write_audio: Write) -> None:
    file = write_audio("hot.wav", tone(440, 0.1, RATE_HZ, level=1.5), subtype="FLOAT")
    assert np.max(load_waveform(file, RATE_HZ)) == pytest.approx(1.5, rel=0.01)


# --- arrays


@pytest.mark.parametrize(
    ("samples", "said"),
    [
        (np.zeros((10, 2), np.float32), r"got float32 \[10, 2\], expected a float \[num_samples\]"),
        (np.zeros(10, np.int16), "got int16"),
        (np.zeros(10, complex), "got complex128"),
        (np.zeros(0), "holds no samples"),
        (np.full(10, np.nan), "NaN"),
        (np.array([0, -9.0]), "reaches 9, expected samples within -1..1"),
    ],
)
def test_arrays_are_checked_as_files_are(samples: np.ndarray, said: str) -> None:
    with pytest.raises(AudioError, match=f"^waveform: .*{said}"):
        as_command(samples, RATE_HZ, min_samples=1)


def test_arrays_of_other_floats_become_float32() -> None:
    found = check_waveform(np.array([0.5, 9, -0.5])[::2], "x", RATE_HZ)
    assert found.dtype == np.float32
    assert found.tolist() == [0.5, -0.5]


def test_a_command_is_at_most_a_minute_long() -> None:
    minute = np.zeros(int(LONGEST_COMMAND_S * 1000) + 1, np.float32)
    assert len(as_command(minute[:-1], 1000, min_samples=1)) == 60_000
    with pytest.raises(AudioError, match=r"^waveform: is too long: 60\.0 s, .* at most 60 s"):
        as_command(minute, 1000, min_samples=1)


def test_a_recording_that_is_too_long_is_refused_before_it_is_read(
    write_audio: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write_audio("long.wav", np.zeros(8000 * 61), 8000)
    monkeypatch.setattr(blocks, "_converter", None)
    with pytest.raises(AudioError, match=r"is too long: 61\.0 s"):
        as_command(file, RATE_HZ, min_samples=1)


def test_a_tag_before_an_mp3_does_not_hide_its_length(tmp_path: Path) -> None:
    file = tmp_path / "clip.mp3"
    soundfile.write(file, speech_like(3), RATE_HZ)
    tag = b"ID3\x03\x00\x00" + bytes([0, 0, 16, 0]) + bytes(16 * 128)
    file.write_bytes(tag + file.read_bytes())
    assert len(load_waveform(file, RATE_HZ)) == 3 * RATE_HZ
    content = file.read_bytes()
    file.write_bytes(content[: len(tag) + (len(content) - len(tag)) // 2])
    assert "is cut short" in refused(file)


# --- folders


def test_recordings_are_found_by_suffix_in_order_of_name(tmp_path: Path) -> None:
    names = ["b.wav", "a/z.FLAC", "a/b/c.mp3", "a.ogg", "x.wav/inner.opus"]
    hidden = [".hidden.wav", "._b.wav", ".git/x.wav", "notes.txt", "wav"]
    for name in (*names, *hidden):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_audio(tmp_path)
    assert found == sorted(tmp_path / name for name in names)


def test_a_dangling_link_is_found_so_that_it_can_be_reported(tmp_path: Path) -> None:
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    assert find_audio(tmp_path) == [tmp_path / "gone.wav"]


def test_linked_folders_are_searched_once_even_in_a_circle(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.wav").touch()
    (tmp_path / "data" / "linked").symlink_to(tmp_path / "disk")
    (tmp_path / "disk" / "circle").symlink_to(tmp_path / "data")
    assert find_audio(tmp_path / "data") == [tmp_path / "data" / "linked" / "a.wav"]


def test_a_folder_that_cannot_be_listed_is_no_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def walk(folder: Path, *, onerror, followlinks: bool):  # type: ignore[no-untyped-def]
        onerror(PermissionError(13, "Permission denied", str(folder)))
        return iter(())

    monkeypatch.setattr(os, "walk", walk)
    with pytest.raises(AudioError, match=r"folder cannot be read \(Permission denied\)"):
        find_audio(tmp_path)


# --- what libsndfile does not read


FAKE_FFMPEG = """#!{python}
import struct, sys
import numpy as np, soundfile
assert "-nostdin" in sys.argv
source = sys.argv[sys.argv.index("-i") + 1].removeprefix("file:")
content = open(source, "rb").read()
if not content.startswith(b"ftyp"):
    sys.exit("file:/dev/fd/3: Invalid data found when processing input")
samples = np.frombuffer(content[4:], "<f4").reshape(-1, 2)
out = struct.pack(">4sIIIII", b".snd", 28, 0xFFFFFFFF, 6, 8000, 2) + b"note"
out += samples.astype(">f4").tobytes()
cut = len(out) // 2 if content.startswith(b"ftypcut") else len(out)
sys.stdout.buffer.write(out[:cut])
if cut < len(out):
    sys.exit("file:/dev/fd/3: Packet corrupt")
"""


@pytest.fixture
def fake_ffmpeg(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program of that name that reads a format of the test's own."""
    program = tmp_path / "bin" / "ffmpeg"
    program.parent.mkdir()
    program.write_text(FAKE_FFMPEG.format(python=sys.executable), encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))


def film(path: Path, samples: np.ndarray, head: bytes = b"ftyp") -> Path:
    path.write_bytes(head + samples.astype("<f4").tobytes())
    return path


@pytest.mark.usefixtures("fake_ffmpeg")
def test_what_ffmpeg_reads_is_mixed_and_converted_as_everything_else(
    tmp_path: Path, write_audio: Write
) -> None:
    both = np.stack([tone(440, 1, 8000), tone(700, 1, 8000)], axis=1).astype(np.float32)
    expected = load_waveform(write_audio("clip.wav", both, 8000, subtype="FLOAT"), RATE_HZ)
    for name in ("film.mp4", "-i.webm", "no suffix"):
        np.testing.assert_array_equal(load_waveform(film(tmp_path / name, both), RATE_HZ), expected)


@pytest.mark.usefixtures("fake_ffmpeg")
def test_what_ffmpeg_complains_about_is_the_reason(tmp_path: Path) -> None:
    both = np.zeros((100_000, 2), np.float32)
    with pytest.raises(AudioError, match=r"damaged or cut short \(ffmpeg: Packet corrupt\)"):
        load_waveform(film(tmp_path / "cut.mp4", both, b"ftypcut.cut."), RATE_HZ)
    (tmp_path / "text.mp4").write_text("no film", encoding="utf-8")
    with pytest.raises(AudioError, match=r"\(ffmpeg: Invalid data found when processing input\)"):
        load_waveform(tmp_path / "text.mp4", RATE_HZ)
    with pytest.raises(AudioError, match=r"is too long: .* at most 2 s"):
        load_waveform(film(tmp_path / "long.mp4", both), RATE_HZ, max_s=2)


@pytest.mark.usefixtures("fake_ffmpeg")
def test_a_damaged_file_that_libsndfile_should_read_is_not_mended_by_ffmpeg(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="Format not recognised"):
        load_waveform(film(tmp_path / "film.wav", np.zeros((100, 2))), RATE_HZ)


def test_without_ffmpeg_it_is_said_that_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioError, match=r"\.mp4 needs ffmpeg, which is not installed"):
        load_waveform(film(tmp_path / "film.mp4", np.zeros((100, 2))), RATE_HZ)


# --- small WAV files, read without libsndfile


@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    frames=st.integers(0, 400),
    channels=st.integers(1, 3),
    rate_hz=st.sampled_from([8000, 16000, 44100]),
    before=st.binary(max_size=9),
    behind=st.binary(max_size=9),
    changed=st.one_of(st.none(), st.tuples(st.integers(0, 60), st.binary(min_size=1, max_size=2))),
)
def test_a_small_wav_is_what_libsndfile_makes_of_it(
    frames: int,
    channels: int,
    rate_hz: int,
    before: bytes,
    behind: bytes,
    changed: tuple[int, bytes] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    samples = np.random.default_rng(frames).integers(-32768, 32768, frames * channels).astype("<i2")

    def chunk(name: bytes, content: bytes) -> bytes:
        return name + struct.pack("<I", len(content)) + content + bytes(len(content) % 2)

    form = struct.pack("<HHIIHH", 1, channels, rate_hz, 2 * channels * rate_hz, 2 * channels, 16)
    content = b"WAVE" + chunk(b"fmt ", form) + (chunk(b"LIST", before) if before else b"")
    content += chunk(b"data", samples.tobytes()) + (chunk(b"LIST", behind) if behind else b"")
    content = bytearray(chunk(b"RIFF", content))
    if changed:
        content[changed[0] : changed[0] + len(changed[1])] = changed[1]
    file = tmp_path / "small.wav"
    file.write_bytes(content)

    def found() -> object:
        try:
            return load_waveform(file, RATE_HZ).tolist()
        except AudioError as error:
            return str(error)

    fast = found()
    with monkeypatch.context() as patched:
        patched.setattr(blocks, "SMALL_BYTES", 0)
        slow = found()
    assert fast == slow
