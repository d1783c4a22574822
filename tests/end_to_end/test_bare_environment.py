"""Exported files where there is nothing but numpy and LiteRT: an environment built for it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from pathlib import Path

import numpy as np
import pytest
import soundfile
from model_fixtures import noise, shared_bundle

from speechrnn.export import export_bundle
from speechrnn.export.quantise import Quantization
from speechrnn.ready_models import model_path
from speechrnn.runtime import Recognizer

pytestmark = pytest.mark.heavy
ROOT = Path(__file__).parents[2]
SECONDS = (0.02, 1, 60)
RUN = """
import json, sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter

path, threads, *lengths = sys.argv[1:]
interpreter = Interpreter(path, num_threads=int(threads))
serve = interpreter.get_signature_runner("serve")
found = {}
for length in map(int, lengths):
    waveform = np.random.default_rng(1).standard_normal((1, length)).astype(np.float32) / 10
    (name,) = [n for n in serve.get_output_details() if n in ("probabilities", "log_probs")]
    found[length] = serve(waveform=waveform)[name][0].tolist()
assert not {"tensorflow", "keras", "speechrnn", "soundfile", "scipy"} & set(sys.modules)
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of an environment with numpy and LiteRT, in the versions of the lock file."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    interpreter = folder / ("Scripts" if os.name == "nt" else "bin") / "python"
    lock = ROOT / "constraints.txt"
    command = [interpreter, "-m", "pip", "install", "-q", "-c", lock, "numpy", "ai-edge-litert"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip(f"no package index: {run.stderr.strip().splitlines()[-1]}")
    listed = [interpreter, "-m", "pip", "list", "--format=json"]
    there = json.loads(subprocess.run(listed, capture_output=True, check=True).stdout)
    names = {package["name"].lower() for package in there}
    assert not names & {"tensorflow", "keras", "speechrnn", "soundfile", "scipy", "librosa"}
    return interpreter


def run_bare(python: Path, *arguments: object) -> str:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [str(python), *map(str, arguments)]
    run = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout


def answers(python: Path, file: Path, threads: int) -> dict[int, np.ndarray]:
    lengths = [round(16000 * seconds) for seconds in SECONDS]
    found = json.loads(run_bare(python, "-c", RUN, file, threads, *lengths))
    return {int(length): np.array(answer) for length, answer in found.items()}


@pytest.mark.parametrize("quantize", ["none", "float16", "dynamic", "int8", "int4"])
@pytest.mark.parametrize("name", ["wide", "sequences"])
def test_a_file_runs_at_every_length_and_with_any_number_of_threads(
    python: Path, tmp_path: Path, name: str, quantize: Quantization
) -> None:
    calibration = [noise(16000, seed) for seed in range(4)] if quantize == "int8" else []
    file = export_bundle(
        shared_bundle(name), tmp_path / "m.tflite", quantize=quantize, calibration=calibration
    ).path
    ours = Recognizer(file)
    one, two = answers(python, file, 1), answers(python, file, 2)
    for length, answer in one.items():
        waveform = np.random.default_rng(1).standard_normal(length).astype(np.float32) / 10
        np.testing.assert_allclose(answer, ours.run(waveform), atol=1e-5)
        np.testing.assert_allclose(two[length], answer, atol=1e-4)


@pytest.mark.parametrize("model", ["commands-en", "commands-ar"])
def test_a_ready_model_runs_there(python: Path, model: str) -> None:
    for answer in answers(python, model_path(model), 1).values():
        assert answer.sum() == pytest.approx(1, abs=1e-4)


def test_the_client_in_the_documentation_answers_as_we_do(python: Path, tmp_path: Path) -> None:
    text = (ROOT / "export" / "README.md").read_text("utf-8")
    (client,) = re.findall(r"## A complete client.*?```python\n(.*?)```", text, re.DOTALL)
    (tmp_path / "client.py").write_text(client, encoding="utf-8")
    samples, rate_hz = soundfile.read(
        next((ROOT / "data" / "sample" / "stop").glob("*.flac")), dtype="int16"
    )
    soundfile.write(tmp_path / "a.wav", samples, rate_hz)
    said, confidence = run_bare(
        python, tmp_path / "client.py", model_path("commands-en"), tmp_path / "a.wav"
    ).split("\t")
    ours = Recognizer("commands-en").transcribe(tmp_path / "a.wav")
    assert said == ours.text
    assert float(confidence) == pytest.approx(ours.confidence, abs=1e-4)


def test_it_is_not_this_interpreter(python: Path) -> None:
    assert run_bare(python, "-c", "import sys; print(sys.prefix)").strip() != sys.prefix
