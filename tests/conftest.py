"""What several test modules share: recordings of every kind, a tiny trained model, the commands."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple
from unittest import mock

import numpy as np
import pytest
import soundfile

from speechrnn import cli

# Commands are to be tested as people run them: what they print waits until it is flushed.
os.environ.pop("PYTHONUNBUFFERED", None)

# A shell ignores Ctrl-C for what it starts in the background, and so would all that tests start.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# The tiny model's rate, and its labels: one plain, one with a space, one in Arabic letters.
TINY_RATE_HZ = 8000
TINY_LABELS = ("go", "turn on", "نعم")
TINY_SPEAKERS = ("ann", "bob", "eve", "mia")
TINY_RECIPE = """
[features]
sample_rate_hz = 8000
fft_length = 256
num_mels = 16
high_hz = 3800.0
num_coefficients = 12
[encoder]
type = "gru"
units = 16
num_layers = 1
[head]
type = "classification"
attention_pooling = false
[train]
batch_size = 8
learning_rate = 0.02
weight_average = 0.0
val_fraction = 0.3
"""


def pytest_configure(config: pytest.Config) -> None:
    # keras.Variable.__array__ has no ``copy`` yet, so numpy 2 warns at np.array(variable).
    config.addinivalue_line(
        "filterwarnings", "ignore:__array__ implementation doesn't accept:DeprecationWarning"
    )


class Result(NamedTuple):
    """What a command left: its exit status, standard output, and standard error."""

    status: int
    out: str
    err: str


Run = Callable[..., Result]
Write = Callable[..., Path]


def tone(frequency_hz: float, duration_s: float, rate_hz: int, level: float = 0.3) -> np.ndarray:
    """float64 ``[num_samples]``: a sine of that level."""
    time_s = np.arange(round(duration_s * rate_hz)) / rate_hz
    return level * np.sin(2 * np.pi * frequency_hz * time_s)


def write_tiny_data(folder: Path, labels: Sequence[str] = TINY_LABELS, rate_hz: int = 8000) -> Path:
    """label/<speaker>_nohash_<take>.wav: each label a tone of its own, each speaker's a bit off."""
    rng = np.random.default_rng(7)
    for place, label in enumerate(labels):
        (folder / label).mkdir(parents=True)
        for shift, speaker in enumerate(TINY_SPEAKERS):
            for take in range(2):
                clip = tone(400 * 2**place * (1 + 0.04 * shift), 0.4, rate_hz)
                clip += 0.01 * rng.standard_normal(len(clip))
                soundfile.write(folder / label / f"{speaker}_nohash_{take}.wav", clip, rate_hz)
    return folder


def call(*arguments: object) -> Result:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = _main(arguments)
    return Result(status, out.getvalue(), err.getvalue())


def _main(arguments: Sequence[object]) -> int:
    try:
        return cli.main([os.fspath(a) if isinstance(a, Path) else str(a) for a in arguments])
    except SystemExit as stop:  # argparse: --help, --version, and calls that it refuses
        return int(stop.code or 0)


def spawn(*arguments: object, **options: object) -> subprocess.Popen[str]:
    """Start ``python -m speechrnn`` as a process of its own."""
    return subprocess.Popen(
        [sys.executable, "-m", "speechrnn", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def in_each_worker(monkeypatch: pytest.MonkeyPatch, folder: Path, code: str) -> None:
    """Have workers, and no other process, run this when they start."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "if 'speechrnn.transcribe.worker' in sys.orig_argv:\n"
        + "".join(f"    {line}\n" for line in code.splitlines()),
        encoding="utf-8",
    )
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.getcwd()}")


def stop_training(
    patched: pytest.MonkeyPatch, *, after: int, error: type[BaseException] = KeyboardInterrupt
) -> None:
    """Let the next training stop within the step that follows so many whole ones."""
    from speechrnn.optimizer import WeightAverage

    update, steps = WeightAverage.update, iter(range(1000))

    def update_or_stop(average: WeightAverage) -> None:
        if next(steps) == after:
            raise error("stopped by the test")
        update(average)

    patched.setattr(WeightAverage, "update", update_or_stop)


@pytest.fixture(scope="session", autouse=True)
def quick_conversions() -> Iterator[None]:
    """Without importing TensorFlow for each: dozens of conversions are a third of all tests."""
    from quick_converter import run_converter

    with mock.patch("speechrnn.export.pipeline._run_converter", run_converter):
        yield


@pytest.fixture
def run_cli(capfd: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; what C libraries print is in ``err`` and ``out`` too."""

    def run(*arguments: object) -> Result:
        capfd.readouterr()
        status = _main(arguments)
        return Result(status, *capfd.readouterr())

    return run


@pytest.fixture
def write_audio(tmp_path: Path) -> Write:
    """Write samples ``[num_samples]`` or ``[num_samples, channels]`` below ``tmp_path``."""

    def write(
        name: str, samples: np.ndarray, rate_hz: int = 16000, subtype: str | None = None
    ) -> Path:
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, samples, rate_hz, subtype=subtype)
        return file

    return write


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set of three labels and four speakers; do not change it."""
    return write_tiny_data(tmp_path_factory.mktemp("tiny") / "data")


@pytest.fixture(scope="session")
def tiny_recipe(tiny_data: Path) -> Path:
    """A settings file for --config that trains in seconds."""
    file = tiny_data.with_name("tiny.toml")
    file.write_text(TINY_RECIPE, encoding="utf-8")
    return file


@pytest.fixture(scope="session")
def tiny_bundle(tiny_data: Path, tiny_recipe: Path) -> Path:
    """A model trained on ``tiny_data``; do not change it."""
    bundle = tiny_data.with_name("tiny.bundle")
    settings = ("--config", tiny_recipe, "--set", "train.epochs=6")
    result = call("train", "--data", tiny_data, "--out", bundle, *settings)
    assert result.status == 0, result.err
    return bundle


@pytest.fixture(scope="session")
def tiny_tflite(tiny_bundle: Path) -> Path:
    """``tiny_bundle`` as a .tflite; do not change it."""
    file = tiny_bundle.with_name("tiny.tflite")
    result = call("export", tiny_bundle, "--to", file)
    assert result.status == 0, result.err
    return file
