"""Make export/vectors: short recordings, and what the models answer to them, for every client.

    python export/make_vectors.py [--keep-models]

Run by ``make vectors``; two minutes. The words are those of data/sample. Two small models of tones
are trained here, at another rate and with labels of two words and of other letters: a classifier
with a threshold of its own, that streams and that is asked about windows of its own length, and a
model of sequences that streams. With --keep-models those that are there stay. What the file says:
export/README.md.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from speechrnn.audio import load_waveform
from speechrnn.calibrate import store_threshold
from speechrnn.decoding import Transcript
from speechrnn.decoding.detect import Detection, DetectorConfig
from speechrnn.runtime import Recognizer, StreamingRecognizer
from speechrnn.runtime.selftest import selftest_waveform

EXPORT = Path(__file__).parent
VECTORS, MODELS = EXPORT / "vectors", EXPORT / "models"
SAMPLE = EXPORT.parent / "data" / "sample"
FORMAT_VERSION = 1
RATE_HZ, TONES_RATE_HZ = 16000, 8000
# Names of the words' recordings and whose voice says them.
WORDS = {"stop": "Henrique", "go": "Gene2", "yes": "Gene2"}
# What is said in the stream: word, voice, second.
COMMANDS = (("right", "Henrique", 0.4), ("no", "aunty", 2.1), ("left", "Diogo", 3.3))
COMMANDS_S = 5.2
TONES_HZ = {"go": 400, "turn on": 850, "نعم": 1700}
# Tones of the stream, each with its second; the pause before the last ends an utterance.
STREAM_TONES = (("turn on", 0.3), ("go", 0.9), ("نعم", 3.0))
STREAM_TONES_S = 4.6
NUM_SPEAKERS, NUM_TAKES = 6, 3
THRESHOLD, TONES_THRESHOLD = 0.7, 0.6
CHUNKS = (400, 160, 4096, 1, 25000)

TONES_RECIPE = f"""
[features]
sample_rate_hz = {TONES_RATE_HZ}
fft_length = 256
num_mels = 16
high_hz = 3800.0
num_coefficients = 12
normalisation = "training"
[encoder]
type = "gru"
units = 24
num_layers = 1
bidirectional = false
conv_filters = 16
conv_kernel = 3
conv_stride = 4
[train]
batch_size = 8
learning_rate = 0.01
weight_average = 0.0
val_fraction = 0.3
steps = 400
validations = 2
keep = "last"
"""
TONES_HEADS = {
    "tones": "[head]\ntype = 'classification'\nattention_units = 16\n",
    "tones-sequences": (
        "[head]\ntype = 'ctc'\nplacement = 0.5\n[sequences]\nnum_words = [1, 4]\n"
        "snr_db = [30.0, 50.0]\n"
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep-models", action="store_true", help="those of the tones")
    if not parser.parse_args().keep_models:
        train_tones()
    for name, samples in sounds():
        rate_hz = TONES_RATE_HZ if name.startswith("tone") else RATE_HZ
        soundfile.write(VECTORS / name, samples, rate_hz, "PCM_16")
    files = {
        "commands-en": MODELS / "commands-en.tflite",
        "commands-ar": MODELS / "commands-ar.tflite",
        "tones": VECTORS / "tones.tflite",
        "tones-windows": VECTORS / "tones-windows.tflite",
        "tones-sequences": VECTORS / "tones-sequences.tflite",
    }
    models = {
        name: {
            "file": Path(os.path.relpath(file, VECTORS)).as_posix(),
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for name, file in files.items()
    }
    vectors = [vector(model, files[model], sound) for model, sound in chosen()]
    document = {"format_version": FORMAT_VERSION, "models": models, "vectors": vectors}
    (VECTORS / "vectors.json").write_text(as_text(document), encoding="utf-8")
    print(f"{VECTORS}: {len(vectors)} vectors of {len(models)} models")


def as_text(document: dict[str, Any]) -> str:
    """JSON, each list of numbers on a line."""
    text = json.dumps(document, indent=1, ensure_ascii=False)
    numbers = re.compile(r"\[\s*(-?\d[^][{}\"]*?)\s*\]")
    return numbers.sub(lambda found: f"[{' '.join(found[1].split())}]", text) + "\n"


# ------------------------------------------------------------------ sounds


def sounds() -> Iterator[tuple[str, np.ndarray]]:
    """Name and samples, float within -1..1, of each recording."""
    yield "noise.wav", selftest_waveform(RATE_HZ)
    yield "silence.wav", np.zeros(RATE_HZ // 2)
    spoken = {word: word_of(word, voice) for word, voice in WORDS.items()}
    for word, samples in spoken.items():
        yield f"{word}.wav", samples
    yield "short.wav", spoken["yes"][round(0.3 * RATE_HZ) : round(0.6 * RATE_HZ)]
    placed = [(word_of(word, voice), at_s) for word, voice, at_s in COMMANDS]
    yield "commands.wav", mixed(placed, COMMANDS_S, RATE_HZ)
    yield "tone.wav", mixed([(tone(TONES_HZ["turn on"]), 0.1)], 0.6, TONES_RATE_HZ)
    placed = [(tone(TONES_HZ[label]), at_s) for label, at_s in STREAM_TONES]
    yield "tones.wav", mixed(placed, STREAM_TONES_S, TONES_RATE_HZ)


def word_of(word: str, voice: str) -> np.ndarray:
    """A recording of data/sample: a second."""
    return load_waveform(SAMPLE / word / f"{voice}_nohash_0.flac", RATE_HZ)


def tone(frequency_hz: float, duration_s: float = 0.4) -> np.ndarray:
    time_s = np.arange(round(duration_s * TONES_RATE_HZ)) / TONES_RATE_HZ
    return 0.3 * np.sin(2 * np.pi * frequency_hz * time_s)


def mixed(
    placed: Sequence[tuple[np.ndarray, float]], duration_s: float, rate_hz: int
) -> np.ndarray:
    """Samples, each from its second on, over faint noise."""
    samples = 0.02 * selftest_waveform(round(duration_s * rate_hz)).astype(np.float64)
    for waveform, at_s in placed:
        first = round(at_s * rate_hz)
        samples[first : first + len(waveform)] += waveform
    return samples


# ------------------------------------------------------------------ models of tones


def train_tones() -> None:
    """Train, pick a threshold, and export, with the command that everybody uses."""
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as name:
        folder = Path(name)
        write_tones(folder / "made_tones")
        for model, head in TONES_HEADS.items():
            recipe, bundle = folder / f"{model}.toml", folder / model
            recipe.write_text(TONES_RECIPE + head, encoding="utf-8")
            speechrnn(
                *("train", "--data", "made_tones", "--out", bundle, "--config", recipe),
                *(("--set", "train.silence_fraction=0.1") if model != "tones" else ()),
                folder=folder,
            )
            if model == "tones":
                store_threshold(bundle, TONES_THRESHOLD)
                export(bundle, "tones-windows")
            export(bundle, model, "--streaming")


def export(bundle: Path, name: str, *options: str) -> None:
    to = VECTORS / f"{name}.tflite"
    kind = ("--quantize", "dynamic", "--force", *options)
    speechrnn("export", bundle, "--to", to, *kind, folder=bundle.parent)


def write_tones(folder: Path) -> None:
    """label/<speaker>_nohash_<take>.wav: each speaker's tone a bit off; and one label of noise."""
    rng = np.random.default_rng(0)
    for label, frequency_hz in (*TONES_HZ.items(), ("_silence_", 0)):
        (folder / label).mkdir(parents=True)
        for speaker, take in itertools.product(range(NUM_SPEAKERS), range(NUM_TAKES)):
            clip = tone(frequency_hz * (1 + 0.01 * speaker), rng.uniform(0.35, 0.6))
            before, behind = rng.integers(0, TONES_RATE_HZ // 4, 2)
            clip = np.pad(clip * rng.uniform(0.3, 1), (before, behind))
            clip += 10 ** rng.uniform(-4, -2) * rng.standard_normal(len(clip))
            file = folder / label / f"{speaker}_nohash_{take}.wav"
            soundfile.write(file, clip, TONES_RATE_HZ)


def speechrnn(*arguments: object, folder: Path) -> None:
    """Run a command there: what it is given is kept in the model."""
    command = [sys.executable, "-m", "speechrnn", *map(str, arguments)]
    subprocess.run(command, check=True, cwd=folder)


# ------------------------------------------------------------------ answers


def chosen() -> Iterator[tuple[str, str]]:
    """Which model answers to which recordings."""
    words = [f"{word}.wav" for word in WORDS]
    for sound in ("noise.wav", "silence.wav", "short.wav", *words, "commands.wav"):
        yield "commands-en", sound
    for sound in ("noise.wav", "go.wav", "commands.wav"):
        yield "commands-ar", sound
    for model in ("tones", "tones-windows", "tones-sequences"):
        yield model, "tone.wav"
        yield model, "tones.wav"


def vector(model: str, file: Path, sound: str) -> dict[str, Any]:
    """A recording, and what the Python runtime answers to it as a whole, and as it comes."""
    recognizer = Recognizer(file)
    waveform = load_waveform(VECTORS / sound, recognizer.sample_rate_hz)
    answer = recognizer.run(waveform)
    duration_s = len(waveform) / recognizer.sample_rate_hz
    said = recognizer.decoder.decode(answer, duration_s, threshold=recognizer.threshold)
    of_sequences = recognizer.metadata["output"]["name"] == "log_probs"
    found: dict[str, Any] = {"model": model, "sound": sound, "samples": len(waveform)}
    if of_sequences:
        found["log_probs"] = rounded(answer)
        found["tokens"] = tokens(recognizer, waveform)
    else:
        found["probabilities"] = rounded(answer)
    found |= {"text": said.text, "confidence": round(said.confidence, 8)}
    if sound in ("commands.wav", "tones.wav"):
        found |= streamed(file, waveform, recognizer.threshold or THRESHOLD, of_sequences)
    return found


def rounded(answer: np.ndarray) -> list[Any]:
    return np.round(answer.astype(float), 8).tolist()


def tokens(recognizer: Recognizer, waveform: np.ndarray) -> list[int]:
    """The model's other answer."""
    answered = recognizer.signature(recognizer.metadata["signature"])(waveform=waveform[None])
    return answered["tokens"].tolist()


def streamed(
    file: Path, waveform: np.ndarray, threshold: float, of_sequences: bool
) -> dict[str, Any]:
    """The events of a recording that comes in chunks."""
    sizes = itertools.cycle(CHUNKS)
    found: dict[str, Any] = {"threshold": threshold, "chunks": list(CHUNKS)}
    heard = StreamingRecognizer(file, threshold=threshold)
    if not heard.carries_state:
        config = DetectorConfig.of_clips(heard.recognizer.clip_s)
        found["windows"] = {"window_s": config.window_s, "hop_s": config.hop_s}
    answers = remember_answers(heard)
    feed, finish = (
        (heard.feed_utterances, heard.finish_utterances)
        if of_sequences
        else (heard.feed, heard.finish)
    )
    events: list[Detection | Transcript] = []
    place = 0
    while place < len(waveform):
        size = next(sizes)
        events += feed(waveform[place : place + size])
        place += size
    events += finish()
    records = map(event_of, events)
    found["events"] = [record for record in records if record["text"]]
    return found | {"answers": [rounded(answer) for answer in answers]}


def remember_answers(heard: StreamingRecognizer) -> list[np.ndarray]:
    """The answers that events are raised from, as they come: of windows, or of steps."""
    answers: list[np.ndarray] = []
    source = heard._source

    class Remembering:
        def feed(self, samples: np.ndarray) -> list[np.ndarray]:
            return remember(source.feed(samples))

        def finish(self) -> list[np.ndarray]:
            return remember(source.finish())

    def remember(found: list[np.ndarray]) -> list[np.ndarray]:
        answers.extend(found)
        return found

    heard._source = Remembering()
    return answers


def event_of(event: Detection | Transcript) -> dict[str, Any]:
    """Of an utterance the time is that of its first word's beginning; one in doubt has no text."""
    if isinstance(event, Detection):
        text, time_s = event.label, event.time_s
    else:
        text, time_s = event.text, event.words[0].start if event.words else 0.0
    return {"text": text, "time_s": round(time_s, 6), "confidence": round(event.confidence, 8)}


if __name__ == "__main__":
    main()
