"""export/vectors and the clients in export: what runs in seconds; the rest is `make clients`."""

import hashlib
import importlib.util
import itertools
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechrnn.audio import load_waveform
from speechrnn.decoding.detect import clip_lengths_s
from speechrnn.runtime import Recognizer, StreamingRecognizer

EXPORT = Path(__file__).parents[1] / "export"


def module_of(file: Path) -> Any:
    """A script, as a module."""
    spec = importlib.util.spec_from_file_location(file.stem, file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_clients = module_of(EXPORT / "check_clients.py")
VECTORS = check_clients.VECTORS
DOCUMENT = check_clients.read_vectors()
BOARD = EXPORT / "board" / "listen.py"
# One process for all vectors: the script of the board as a module, without what it must not need.
ANSWER = """
import importlib.util, json, sys
sys.modules.update(dict.fromkeys(("speechrnn", "soundfile", "sounddevice", "tensorflow")))
spec = importlib.util.spec_from_file_location("listen", sys.argv[1])
listen = importlib.util.module_from_spec(spec)
spec.loader.exec_module(listen)
for line in sys.stdin:
    model, sound, threshold, chunk = json.loads(line)
    model = listen.Model(model)
    waveform = listen.read_wav(sound, model.rate_hz, 60)
    if chunk:
        found = list(listen.listen(model, listen.pieces(waveform, chunk), threshold))
    else:
        found = listen.transcribe(model, waveform, model.threshold)
    print(json.dumps(found))
loaded = {name.partition(".")[0] for name in sys.modules if sys.modules[name] is not None}
print(json.dumps(sorted(loaded & {"scipy", "tqdm", "soxr", "keras"})))
"""
PROGRAMS_PATH = (  # of each client, what lies between sound and event
    (BOARD, r"-- sound -> answers\n(.*?)-- the command line"),
    (EXPORT / "cpp" / "speech.cpp", r"(.*)"),
)

each_vector = pytest.mark.parametrize(
    "vector", DOCUMENT["vectors"], ids=lambda vector: f"{vector['model']}-{vector['sound']}"
)


def model_of(vector: dict[str, Any]) -> Path:
    return VECTORS / DOCUMENT["models"][vector["model"]]["file"]


def test_the_vectors_are_of_the_models_that_are_there():
    for name, model in DOCUMENT["models"].items():
        found = hashlib.sha256((VECTORS / model["file"]).read_bytes()).hexdigest()
        assert found == model["sha256"], f"{name} is another; run make vectors"
        assert any(vector["model"] == name for vector in DOCUMENT["vectors"])
    assert sum(file.stat().st_size for file in VECTORS.iterdir()) < 700_000


@each_vector
def test_the_python_runtime_reproduces_the_vectors(vector):
    recognizer = Recognizer(model_of(vector))
    waveform = load_waveform(VECTORS / vector["sound"], recognizer.sample_rate_hz)
    assert len(waveform) == vector["samples"]
    answer = recognizer.run(waveform)
    kind = recognizer.metadata["output"]["name"]
    found = {"text": "", "confidence": 0.0, kind: answer}
    said = recognizer.decoder.decode(answer, 1.0, threshold=recognizer.threshold)
    found |= {"text": said.text, "confidence": said.confidence}
    assert check_clients.compare_answer(vector, found) < check_clients.TOLERANCE
    if "tokens" in vector:
        tokens = recognizer.signature("serve")(waveform=waveform[None])["tokens"]
        assert tokens.tolist() == vector["tokens"]


@pytest.mark.parametrize(
    "vector",
    [vector for vector in DOCUMENT["vectors"] if "events" in vector],
    ids=lambda vector: vector["model"],
)
def test_the_python_runtime_raises_the_events_of_the_vectors(vector):
    heard = StreamingRecognizer(model_of(vector), threshold=vector["threshold"])
    waveform = load_waveform(VECTORS / vector["sound"], heard.sample_rate_hz)
    feed, finish = heard.feed, heard.finish
    if heard.of_sequences:
        feed, finish = heard.feed_utterances, heard.finish_utterances  # type: ignore[assignment]
    events, start, sizes = [], 0, itertools.cycle(vector["chunks"])
    while start < len(waveform):
        end = start + next(sizes)
        events += feed(waveform[start:end])
        start = end
    events += finish()
    found = [
        {"text": event.text, "time_s": event.words[0].start, "confidence": event.confidence}
        if heard.of_sequences
        else {"text": event.label, "time_s": event.time_s, "confidence": event.confidence}
        for event in events
    ]
    assert found
    assert check_clients.compare_events(vector, found) < check_clients.TOLERANCE


def test_a_threshold_of_the_file_is_used_where_it_has_one():
    (vector,) = (v for v in DOCUMENT["vectors"] if v["model"] == "tones" and "events" in v)
    assert Recognizer(model_of(vector)).threshold == vector["threshold"]
    assert vector["text"] == ""  # as a whole it is in doubt


def test_the_script_for_boards_answers_alike_without_speechrnn():
    asked, expected = [], []
    for vector in DOCUMENT["vectors"]:
        paths = (str(model_of(vector)), str(VECTORS / vector["sound"]))
        for chunk in (0, *(size for size in vector.get("chunks", ()) if size > 1)):
            asked.append((*paths, vector.get("threshold", 0), chunk))
            expected.append((vector, chunk))
    done = subprocess.run(
        [sys.executable, "-I", "-c", ANSWER, str(BOARD)],
        input="".join(f"{json.dumps(one)}\n" for one in asked),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    *lines, loaded = map(json.loads, done.stdout.splitlines())
    assert loaded == []
    for (vector, chunk), found in zip(expected, lines, strict=True):
        compare = check_clients.compare_events if chunk else check_clients.compare_answer
        assert compare(vector, found) < check_clients.TOLERANCE


def test_the_script_for_boards_listens_to_what_is_piped():
    (vector,) = (v for v in DOCUMENT["vectors"] if v["model"] == "tones" and "events" in v)
    samples = load_waveform(VECTORS / vector["sound"], 8000)
    raw = np.round(samples * 32768).astype("<i2").tobytes() + b"\0"  # half a sample more
    done = subprocess.run(
        [sys.executable, str(BOARD), str(model_of(vector)), "-"],
        input=raw,
        capture_output=True,
        check=True,
    )
    heard = [line.split("\t") for line in done.stdout.decode().splitlines()]
    assert [text for _, text, _ in heard] == [event["text"] for event in vector["events"]]


def test_the_script_for_boards_refuses_what_is_wrong(tmp_path):
    assert check_clients.check_refusals([sys.executable, BOARD], tmp_path) >= 20


@pytest.mark.parametrize(
    "training",
    [
        *({"clip_s": pair} for pair in ([0.4, 0.9], [1, 2], [0.5, 10.0])),
        *({"clip_s": wrong} for wrong in (None, 2.0, "12", [], [2.0], [1.0, 2.0, 3.0])),
        *({"clip_s": wrong} for wrong in (["1.0", "2.0"], [True, True], [0.0, 2.0], [2.0, 1.0])),
        *({"clip_s": wrong} for wrong in ([math.nan, 2.0], [0.5, math.inf], {"0": 1.0, "1": 2.0})),
        *({}, None, "clip_s"),
    ],
)
def test_windows_of_the_script_for_boards_are_as_long_as_ours(training):
    longest_s = module_of(BOARD).longest_clip_s({"training": training})
    assert longest_s == clip_lengths_s(training)[1]


@pytest.mark.parametrize(
    ("file", "part"), PROGRAMS_PATH, ids=lambda case: getattr(case, "name", "")
)
def test_a_client_is_short_enough_to_be_copied(file, part):
    found = re.search(part, file.read_text(encoding="utf-8"), re.DOTALL)
    assert found
    assert 100 < sum(bool(line.strip()) for line in found[1].splitlines()) <= 200


@pytest.mark.heavy
@pytest.mark.parametrize("name", ["cpp", "android"])
def test_a_client_that_is_compiled_answers_alike(name, tmp_path):
    try:
        print(check_clients.CLIENTS[name](tmp_path))
    except check_clients.Skipped as why:
        pytest.skip(str(why))
