"""``speechrnn demo``, whole: minutes, so marked heavy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from speechrnn.demo import NUM_TRANSCRIBED
from speechrnn.runtime import Recognizer


@pytest.mark.heavy
def test_the_demo_reaches_95_percent_on_voices_it_never_heard(tmp_path: Path):
    run = subprocess.run(
        [sys.executable, "-m", "speechrnn", "demo", "--out", tmp_path / "demo"],
        capture_output=True,
        text=True,
        check=True,
    )
    accuracy = re.search(r"accuracy +([\d.]+) %", run.stdout)
    assert accuracy is not None
    assert float(accuracy[1]) >= 95
    clips = sorted((tmp_path / "demo" / "clips").glob("*.wav"))
    assert len(clips) == NUM_TRANSCRIBED
    assert Recognizer(tmp_path / "demo" / "words.tflite").transcribe(clips[0]).text
    for picture in ("training.png", "confusions.png"):
        assert (tmp_path / "demo" / picture).stat().st_size > 5000
