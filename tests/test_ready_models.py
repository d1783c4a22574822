"""The models that come with speechrnn, by name."""

import os
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Run

from speechrnn import ready_models as ready
from speechrnn.errors import ModelError
from speechrnn.flatbuffer import Graph
from speechrnn.recognize import describe_model, load_model
from speechrnn.runtime import Recognizer, read_metadata

MODELS = Path(__file__).parents[1] / "export" / "models"
LABELS = {"commands-en": 12, "commands-ar": 40}
DATA = Path(os.environ.get("SPEECHRNN_DATA", Path(__file__).parents[2] / "shared" / "data"))
VAL = {"commands-en": "speech_commands_12", "commands-ar": "arabic_speech_commands"}

each_model = pytest.mark.parametrize("name", sorted(LABELS))


def test_there_are_the_models_that_the_folder_has():
    assert ready.ready_models() == {name: MODELS / f"{name}.tflite" for name in sorted(LABELS)}


@each_model
def test_a_ready_model_is_small_plain_and_computes_here_what_it_should(name):
    file = read_metadata(name)
    assert file.path.stat().st_size < 1e6
    assert len(file.labels) == LABELS[name]
    assert Graph(file.model).custom_operators() == []
    assert load_model(name).selftest() < 1e-3
    assert file.metadata["licence"] == "CC BY 4.0"
    assert "CC BY 4.0" in file.metadata["attribution"]


@each_model
def test_the_card_of_a_ready_model_says_what_the_file_says(name):
    card, about = (MODELS / f"{name}.md").read_text("utf-8"), describe_model(name)
    for heading in ("Licence and attribution", "Trained on", "Must not be measured on", "Measured"):
        assert f"## {heading}\n" in card
    assert about["attribution"] in card
    assert ", ".join(f"`{label}`" for label in about["labels"]) in card
    assert f"accuracy {100 * about['metrics']['val']['accuracy']:.2f} %" in card
    size_kb = re.search(r"^\* dynamic +(\d+) ", card, re.MULTILINE)
    assert size_kb is not None
    assert int(size_kb[1]) == pytest.approx(about["bytes"] / 1e3, abs=2)  # its self-test is added


@each_model
def test_a_ready_model_recognises_voices_it_never_heard(name):
    manifest = DATA / VAL[name] / "val.jsonl"
    if not manifest.is_file():
        pytest.skip(f"no recordings in {manifest.parent}; set SPEECHRNN_DATA to a folder with them")
    from speechrnn.datasets.manifest import read_data

    rows = read_data(manifest)[::20]
    model = load_model(name)
    right = sum(model.transcribe(row.path).text == row.text for row in rows)
    assert right / len(rows) > 0.85


def test_a_recording_is_transcribed_with_a_model_called_by_name(tmp_path, run_cli: Run):
    noise = 0.01 * np.random.default_rng(0).standard_normal(16000)
    soundfile.write(tmp_path / "a.wav", noise, 16000)
    for jobs in (1, 2):
        result = run_cli("transcribe", "commands-en", tmp_path / "a.wav", "--jobs", jobs)
        assert result.status == 0
        assert '"text": "_silence_"' in result.out
    size_mb = (MODELS / "commands-en.tflite").stat().st_size / 1e6
    assert f"commands-en.tflite: tflite, {size_mb:.2f} MB" in run_cli("info", "commands-en").out


def test_what_lies_there_comes_before_a_ready_model(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ready.model_path("commands-en") == MODELS / "commands-en.tflite"
    (tmp_path / "commands-en").write_bytes(b"mine")
    assert ready.model_path("commands-en") == Path("commands-en")
    with pytest.raises(ModelError, match="commands-en: is no TFLite model"):
        Recognizer("commands-en")
    assert ready.model_path("./commands-ar") == Path("commands-ar")
    assert ready.model_path(tmp_path / "commands-ar") == tmp_path / "commands-ar"


@pytest.mark.parametrize("rest", [("transcribe", "a.wav"), ("info",), ("listen",)])
def test_an_unknown_name_is_told_which_are_known(rest, run_cli: Run):
    result = run_cli(rest[0], "commands-xx", *rest[1:])
    assert result.status == 2
    assert "commands-xx: no such model; expected a bundle directory or a .tflite" in result.err
    assert "or the name of a ready model (commands-ar, commands-en)" in result.err


def test_an_installed_package_brings_the_models(tmp_path, monkeypatch):
    """In a wheel they are data, which land where sysconfig says."""
    share = tmp_path / "share" / "speechrnn" / "models"
    share.mkdir(parents=True)
    monkeypatch.setattr(ready, "folders", lambda: (tmp_path / "no checkout", share))
    assert ready.ready_models() == {}
    (share / "commands-en.tflite").write_bytes((MODELS / "commands-en.tflite").read_bytes())
    assert load_model("commands-en").path == share / "commands-en.tflite"


@pytest.mark.heavy
def test_a_wheel_holds_them(tmp_path):
    """Built without a network, with the setuptools that is here."""
    import subprocess
    import sys

    options = ("--no-deps", "--no-build-isolation", "-q", "-w", str(tmp_path))
    subprocess.run(
        [sys.executable, "-m", "pip", "wheel", *options, str(MODELS.parents[1])], check=True
    )
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for name in LABELS:
        assert any(n.endswith(f"data/share/speechrnn/models/{name}.tflite") for n in names)
