"""The main job in minutes, from nothing but ten words: every stage, for real, in one folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from speechrnn.bundle import read_log
from speechrnn.datasets.manifest import Utterance, read_data
from speechrnn.datasets.synth import SynthConfig, synthesise
from speechrnn.evaluate import evaluate_model
from speechrnn.export import export_bundle
from speechrnn.extras import require_training
from speechrnn.progress import bar
from speechrnn.recognize import load_model

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
# Every usable voice of espeak-ng; more voices teach more than more clips of each.
NUM_VOICES = 84
CLIPS_PER_VOICE = 2
SETTINGS = ("train.epochs=30",)  # a minute or two, not the best there is
NUM_TRANSCRIBED = 4
STAGES = 5


def run_demo(out: Path) -> None:
    """Synthesise, train, evaluate, export, transcribe; then say where everything lies.

    Raises:
        OutputError: ``out`` cannot be written, or its ``data`` is of another making.
        MissingExtraError: TensorFlow or espeak-ng is not installed.
    """
    require_training("demo")
    bundle, tflite, clips = out / "bundle", out / "words.tflite", out / "clips"
    with _stage(1, f"synthesising {len(WORDS)} words in {NUM_VOICES} voices"):
        manifests = _synthesise(out / "data")
    rows = {split: read_data(manifest) for split, manifest in manifests.items()}
    print(f"    {_counts(rows)}; no voice in two of them")
    with _stage(2, "training a bidirectional GRU"):
        result = _train(rows, bundle, manifests)
    print(f"    {100 * result.val_accuracy:.1f} % on the validation voices")
    with _stage(3, "exporting to TFLite"):
        exported = export_bundle(bundle, tflite, overwrite=True)
    print(f"    self-test within {exported.selftest_difference:.0e} of the bundle")
    with _stage(4, "evaluating the .tflite on voices it never heard"):
        model = load_model(tflite)
        figures = evaluate_model(model, rows["test"], data_name=str(manifests["test"]))
    _draw(bundle, figures, out)
    with _stage(5, "transcribing wav files in a process without TensorFlow"):
        chosen = _write_wavs(rows["test"], clips)
        command = ["transcribe", str(tflite), *map(str, chosen)]
        run = [sys.executable, "-m", "speechrnn", *command, "--format", "tsv"]
        said = subprocess.run(run, capture_output=True, text=True, check=True).stdout
    print(f"    $ {_program()} transcribe {tflite} {clips}/*.wav --format tsv")
    print("".join(f"    {line}\n" for line in said.splitlines()), end="")
    print(_summary(out, figures, exported.num_bytes))


def _synthesise(folder: Path) -> dict[str, Path]:
    config = SynthConfig(
        words=WORDS, num_voices=NUM_VOICES, clips_per_voice=CLIPS_PER_VOICE, seed=0
    )
    with bar("synthesising", unit="clip") as show:
        return synthesise(config, folder, progress=show)


def _train(rows: dict[str, list[Utterance]], bundle: Path, manifests: dict[str, Path]) -> Any:
    from speechrnn.config import apply_overrides, read_preset
    from speechrnn.recipe import Recipe
    from speechrnn.train import train_model

    sections = apply_overrides(read_preset("commands"), SETTINGS)
    result = train_model(
        Recipe.from_mapping(sections),
        rows["train"],
        rows["val"],
        bundle,
        data_name="synthetic voices, train",
        val_name="synthetic voices, val",
    )
    if result.interrupted:
        raise KeyboardInterrupt
    return result


def _draw(bundle: Path, figures: dict[str, Any], out: Path) -> None:
    from speechrnn.report import draw_confusions, draw_training

    draw_training(read_log(bundle), out / "training.png")
    draw_confusions(figures, out / "confusions.png")


def _write_wavs(rows: Sequence[Utterance], folder: Path) -> list[Path]:
    """Some recordings of different words and voices, as 16-bit WAV."""
    import soundfile

    from speechrnn.audio import load_waveform

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    written = []
    for row in [rows[i] for i in np.linspace(0, len(rows) - 1, NUM_TRANSCRIBED).astype(int)]:
        path = folder / f"{row.text}_{row.speaker}.wav"
        rate_hz = soundfile.info(row.path).samplerate
        soundfile.write(path, load_waveform(row.path, rate_hz), rate_hz, "PCM_16")
        written.append(path)
    return written


def _counts(rows: dict[str, list[Utterance]]) -> str:
    return ", ".join(
        f"{split}: {len(part)} clips of {len({row.speaker for row in part})} voices"
        for split, part in rows.items()
    )


def _summary(out: Path, figures: dict[str, Any], num_bytes: int) -> str:
    clip_ms = 1000 * figures["real_time_factor"] * figures["audio_seconds"] / figures["utterances"]
    tflite, program = out / "words.tflite", _program()
    return f"""
  accuracy     {100 * figures["accuracy"]:.1f} % of {figures["utterances"]} clips
               of {figures["speakers"]} voices that it never heard before
  model size   {num_bytes / 1e6:.2f} MB, one file: waveform in, command out
  speed        {clip_ms:.1f} ms for a clip of a second, one thread

  {tflite!s:24} the model for a device
  {out / "bundle"!s:24} the trained bundle, with its model card
  {out / "data"!s:24} the recordings and their manifests
  {out / "clips"!s:24} the wav files above
  {out / "training.png"!s:24} loss and accuracy by epoch
  {out / "confusions.png"!s:24} what was taken for what

  Try next:
    {program} info {tflite}
    {program} transcribe {tflite} YOUR.wav
    {program} evaluate {tflite} --data {out / "data" / "test.jsonl"}
    {program} data synth --words "lights on,lights off,help" --out words
    {program} train --data YOUR_FOLDER_PER_WORD --out my_bundle"""


def _program() -> str:
    """How to call this program again: by its name, or by its path where that is not on PATH."""
    return "speechrnn" if shutil.which("speechrnn") else os.path.relpath(sys.argv[0])


@contextmanager
def _stage(number: int, what: str) -> Iterator[None]:
    print(f"[{number}/{STAGES}] {what} ...", flush=True)
    started = time.perf_counter()
    yield
    print(f"    done in {time.perf_counter() - started:.0f} s", flush=True)
