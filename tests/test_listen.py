"""``speechrnn listen``: commands in sound as it comes, from a pipe, a file, or a microphone."""

from __future__ import annotations

import io
import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import TINY_LABELS, TINY_RATE_HZ, Run

from speechrnn import listen_command


@pytest.fixture
def recording(tiny_data: Path, tmp_path: Path) -> Path:
    """Three commands with pauses of over a second between them."""
    clips = [
        soundfile.read(tiny_data / label / "ann_nohash_0.wav")[0]
        for label in ("go", "turn on", "go")
    ]
    pause = 0.001 * np.random.default_rng(0).standard_normal(int(1.3 * TINY_RATE_HZ))
    file = tmp_path / "talk.wav"
    parts = [pause, *(part for clip in clips for part in (clip, pause))]
    soundfile.write(file, np.concatenate(parts), TINY_RATE_HZ)
    return file


def pipe(monkeypatch: pytest.MonkeyPatch, content: bytes) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(content)))


def events_of(out: str) -> list[dict]:
    return [json.loads(line) for line in out.splitlines()]


def test_a_file_is_heard_as_the_same_sound_in_a_pipe(
    tiny_tflite: Path, recording: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("listen", tiny_tflite, "--threshold", 0.5)
    played = run_cli(*asked, "--from-file", recording, "--speed", 0)
    assert played.status == 0, played.err
    pipe(monkeypatch, soundfile.read(recording, dtype="int16")[0].astype("<i2").tobytes())
    assert run_cli(*asked).out == played.out
    events = events_of(played.out)
    assert events
    for event in events:
        assert list(event) == ["label", "time", "confidence"]
        assert event["label"] in TINY_LABELS
        assert 0.5 <= event["confidence"] <= 1
    assert [event["time"] for event in events] == sorted(event["time"] for event in events)


@pytest.mark.parametrize(("speed", "lasting_s"), [(1, 6.4), (4, 1.6), (0, 0)])
def test_a_file_takes_its_time(
    speed: float,
    lasting_s: float,
    tiny_tflite: Path,
    recording: Path,
    run_cli: Run,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = [100.0]
    clock = types.SimpleNamespace(
        monotonic=lambda: now[0], sleep=lambda seconds: now.__setitem__(0, now[0] + seconds)
    )
    monkeypatch.setattr(listen_command, "time", clock)
    asked = ("listen", tiny_tflite, "--threshold", 0.5, "--from-file", recording)
    assert run_cli(*asked, "--speed", speed).status == 0
    assert now[0] - 100 == pytest.approx(lasting_s, abs=0.03)


class FakeSoundDevice(types.ModuleType):
    """A microphone that hears a recording, and then is switched off by Ctrl-C."""

    class PortAudioError(Exception):
        pass

    def __init__(self, samples: np.ndarray, wrong: str = "", held: str = "") -> None:
        super().__init__("sounddevice")
        self.asked: dict[str, Any] = {}
        self.hear: Callable[..., None]
        self.is_closed = False
        outer = self

        class InputStream:
            def __init__(self, *, callback: Callable[..., None], **settings: Any) -> None:
                if wrong:
                    raise outer.PortAudioError(wrong)
                outer.asked, outer.hear = settings, callback

            def start(self) -> None:
                if held:
                    raise outer.PortAudioError(held)
                size = outer.asked["blocksize"]
                for first in range(0, len(samples), size):
                    block = samples[first : first + size, None].astype(np.float32)
                    outer.hear(block, len(block), None, "")

            def close(self) -> None:
                outer.is_closed = True

        self.InputStream = InputStream


def use_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = types.SimpleNamespace(isatty=lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)


def until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C when everything was heard."""
    import queue

    class Ending(queue.Queue):
        def get(self) -> Any:  # type: ignore[override]
            if self.empty():
                raise KeyboardInterrupt
            return super().get()

    monkeypatch.setattr(listen_command.queue, "Queue", Ending)


def test_a_microphone_is_heard_until_ctrl_c(
    tiny_tflite: Path, recording: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = ("listen", tiny_tflite, "--threshold", 0.5)
    expected = run_cli(*asked, "--from-file", recording, "--speed", 0).out
    samples = soundfile.read(recording, dtype="float32")[0]
    fake = FakeSoundDevice(samples)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    use_terminal(monkeypatch)
    until_the_end(monkeypatch)
    result = run_cli(*asked)
    assert result.status == 130
    assert result.out == expected
    assert fake.asked["samplerate"] == TINY_RATE_HZ
    assert fake.asked["channels"] == 1
    assert fake.asked["device"] is None
    chosen = FakeSoundDevice(samples)
    monkeypatch.setitem(sys.modules, "sounddevice", chosen)
    run_cli(*asked, "--device", "3")
    assert chosen.asked["device"] == 3


def test_a_model_that_falls_behind_a_microphone_leaves_sound_out_and_says_so(
    tiny_tflite: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    fed: list[float] = []

    class Heard:
        def __init__(self, *_: object, **__: object) -> None:
            self.sample_rate_hz, self.of_sequences = TINY_RATE_HZ, False
            self.recognizer = types.SimpleNamespace(threshold=0.5)

        def feed(self, samples: np.ndarray) -> list[Any]:
            fed.append(float(samples[0]))
            if len(fed) == most:  # nothing waits any more
                fake.hear(np.full((size, 1), -1.0), size, None, "")
            return []

        def finish(self) -> list[Any]:
            return []

    size = TINY_RATE_HZ // listen_command.CHUNKS_PER_S
    most = listen_command.MOST_WAITING_S * listen_command.CHUNKS_PER_S
    chunks = np.arange(most + 5, dtype=np.float32)
    fake = FakeSoundDevice(np.repeat(chunks, size))
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    monkeypatch.setattr("speechrnn.runtime.StreamingRecognizer", Heard)
    use_terminal(monkeypatch)
    until_the_end(monkeypatch)
    result = run_cli("listen", tiny_tflite)
    assert fed == [*range(most), -1]
    assert fake.is_closed
    assert result.err.count("30 s of sound wait") == 1


def test_a_microphone_that_cannot_be_opened_is_one_line(
    tiny_tflite: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_terminal(monkeypatch)
    wrong = "Error querying device -1"
    monkeypatch.setitem(sys.modules, "sounddevice", FakeSoundDevice(np.zeros(0), wrong))
    result = run_cli("listen", tiny_tflite, "--threshold", 0.5)
    assert result.status == 2
    assert f"cannot be opened at {TINY_RATE_HZ} Hz ({wrong})" in result.err
    assert "--from-file" in result.err
    held = FakeSoundDevice(np.zeros(0), held="Device unavailable")
    monkeypatch.setitem(sys.modules, "sounddevice", held)
    result = run_cli("listen", tiny_tflite, "--threshold", 0.5)
    assert result.status == 2
    assert f"cannot be opened at {TINY_RATE_HZ} Hz (Device unavailable)" in result.err
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    result = run_cli("listen", tiny_tflite, "--threshold", 0.5)
    assert result.status == 2
    assert "pip install 'speechrnn[listen]'" in result.err


def test_a_closed_standard_output_is_refused_before_anything_is_heard(
    tiny_tflite: Path, recording: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdout", None)
    result = run_cli("listen", tiny_tflite, "--from-file", recording)
    assert result.status == 2
    assert "standard output: is closed" in result.err


def test_a_level_meter_is_drawn_on_a_terminal_alone(
    recording: Path, tiny_tflite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn = io.StringIO()
    drawn.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr("sys.stderr", drawn)
    meter = listen_command._Meter()
    meter.show(np.array([0.1, -0.5], np.float32))
    assert drawn.getvalue() == f"\r  -6.0 dB |{'#' * 27}{' ' * 3}|"
    meter.show(np.array([0.1], np.float32))  # too soon
    meter.clear()
    assert drawn.getvalue().endswith("\r" + " " * 43 + "\r")
    quiet = io.StringIO()
    monkeypatch.setattr("sys.stderr", quiet)
    with listen_command._Meter() as unseen:
        unseen.show(np.ones(3, np.float32))
    assert quiet.getvalue() == ""


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--speed", 2), "add --from-file"),
        (("--from-file", "no.wav", "--device", 1), "pass one of them"),
        (("--from-file", "no.wav", "--speed", 0), "no.wav: no such file"),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_one_line(
    options: tuple, said: str, tiny_tflite: Path, run_cli: Run
) -> None:
    result = run_cli("listen", tiny_tflite, "--threshold", 0.5, *options)
    assert result.status == 2
    assert said in result.err
    assert result.err.count("\n") == 1


@pytest.mark.parametrize("speed", ["-1", "inf", "nan", "fast"])
def test_a_speed_that_is_none_is_refused(speed: str, tiny_tflite: Path, run_cli: Run) -> None:
    result = run_cli("listen", tiny_tflite, "--from-file", "a.wav", f"--speed={speed}")
    assert result.status == 2
    assert "expected a number, 0 or more" in result.err


def test_closed_standard_input_is_one_line(
    tiny_tflite: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", None)
    result = run_cli("listen", tiny_tflite, "--threshold", 0.5)
    assert result.status == 2
    assert "standard input: is closed" in result.err
