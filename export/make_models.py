"""Make export/models: the ready models and their cards, from real recordings.

    python export/make_models.py [--bundles FOLDER]

Run by ``make models``; an hour. The recordings are looked for in $SPEECHRNN_DATA, or in
../shared/data. Each model is the preset ``commands`` as it is, seed 0, the weights of its last
epoch: its validation recordings chose nothing but the temperature. With --bundles, what was trained
before in FOLDER/NAME is taken as it is, and what was not is kept there.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from speechrnn.bundle import is_bundle
from speechrnn.runtime import read_metadata

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))
from runs import recordings

MODELS = Path(__file__).parent / "models"
MODEL_LICENCE = "CC BY 4.0"


@dataclass(frozen=True)
class ReadyModel:
    """What a ready model is made of, and what its card says."""

    name: str
    data: str
    what: str
    spoken: str
    attribution: str
    source: str
    not_on: str


READY = (
    ReadyModel(
        name="commands-en",
        data="speech_commands_12",
        what="ten English commands, `_unknown_` for other words, `_silence_` for none",
        spoken="English, of many accents",
        attribution="Speech Commands v0.02, Pete Warden, Google, 2018 (CC BY 4.0)",
        source="https://arxiv.org/abs/1804.03209",
        not_on=(
            "It learnt from some of the speakers of the official **test** archive of Speech "
            "Commands v0.02 (`speech_commands_test_set_v0.02`). Do not measure it on that archive "
            "or on the test list of the whole data set without leaving these speakers out (they "
            "are named in the file names); the official training and validation lists are of "
            "other speakers."
        ),
    ),
    ReadyModel(
        name="commands-ar",
        data="arabic_speech_commands",
        what="forty commands spoken in Arabic; the labels are their English names",
        spoken="Arabic",
        attribution=(
            "Arabic Speech Commands, Abdulkader Ghandoura, Farouk Hjabo, Oumayma Al Dakkak, 2021 "
            "(CC BY 4.0)"
        ),
        source="https://github.com/abdulkaderghandoura/arabic-speech-commands-dataset",
        not_on=(
            "It learnt from rounds 1 to 8 of the 18 training speakers of the official split. Do "
            "not measure it on any recording of these speakers; the official test speakers are "
            "others."
        ),
    ),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bundles", type=Path, metavar="FOLDER")
    options = parser.parse_args()
    data = recordings()
    MODELS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as folder:
        bundles = options.bundles or Path(folder)
        for ready in READY:
            make(ready, data / ready.data, bundles / ready.name)


def make(ready: ReadyModel, data: Path, bundle: Path) -> None:
    """Train where that was not done, export, and write the card."""
    train, val = data / "train.jsonl", data / "val.jsonl"
    if not is_bundle(bundle):
        speechrnn(
            *("train", "--data", train, "--val", val, "--out", bundle),
            *("--preset", "commands", "--set", "train.keep=last"),
        )
    file = MODELS / f"{ready.name}.tflite"
    table = speechrnn(
        *("export", bundle, "--to", file, "--force", "--quantize", "dynamic"),
        *("--calibrate", train, "--check", val, "--max-loss", "0.1"),
        *("--licence", MODEL_LICENCE, "--attribution", ready.attribution),
    )
    (MODELS / f"{ready.name}.md").write_text(card(ready, file, table), encoding="utf-8")
    print(f"{file}: {file.stat().st_size:,} bytes")


def speechrnn(*arguments: object) -> str:
    """What the command prints; where the data lies on this machine is no part of it."""
    command = [sys.executable, "-m", "speechrnn", *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def card(ready: ReadyModel, file: Path, table: str) -> str:
    """Markdown: what it is, whose voices, how good, and on what it is not to be measured."""
    about = read_metadata(file).metadata
    training, measured = about["training"], about["metrics"]["val"]
    lines = [line for line in table.splitlines() if line.startswith(("on ", "  ", "* "))]
    figures = "\n".join(line for line in lines if "heard" not in line)
    labels = ", ".join(f"`{label}`" for label in about["labels"])
    return f"""# {ready.name}

A recogniser of {ready.what}. Language of the voices: {ready.spoken}.
One TFLite file, waveform (mono, {about["features"]["sample_rate_hz"]} Hz) in, probabilities out;
`{about["encoder"]["type"]}`, {about["num_parameters"]:,} parameters, weights in int8 (`dynamic`).

    speechrnn transcribe {ready.name} clip.wav

Labels, in order: {labels}

## Licence and attribution

The model: {MODEL_LICENCE}. Learnt from: {ready.attribution}, <{ready.source}>.

## Trained on

{training["utterances"]:,} recordings of {training["speakers"]} speakers (`{training["data"]}`), a
second each; preset `commands`, seed {training["seed"]}, last epoch. Made by `make models`.

## Must not be measured on

{ready.not_on}
Its `val` recordings chose none of its weights, but the temperature of its confidences is fitted on
them.

## Measured

On `{measured["data"]}`: {measured["utterances"]:,} recordings of {measured["speakers"]} speakers
that it never heard, all formats of the same weights, one thread (the file here is marked `*`; time
and memory are those of the machine that made it):

```
{figures}
```

## Limits

No threshold was picked: whatever it hears gets one of its labels; pass `--threshold`, or pick one
on your own background (`docs/evaluation.md`). Not tested on children, on far microphones, or on
other languages.
"""


if __name__ == "__main__":
    main()
