"""Make data/sample: recordings of six words in eight voices, and a small model that knows them.

Run by ``make sample``; takes some minutes. The model learns from other voices than those of the
recordings: the synthetic voices are split by name, and the sample is taken from the test voices.
"""

from __future__ import annotations

import itertools
import shutil
import tempfile
from pathlib import Path

from speechrnn.config import apply_overrides, read_preset
from speechrnn.datasets.espeak import speaker_of
from speechrnn.datasets.manifest import read_data
from speechrnn.datasets.synth import SynthConfig, synthesise
from speechrnn.export import export_bundle
from speechrnn.extras import require_training

WORDS = ("go", "left", "no", "right", "stop", "yes")
NUM_SAMPLE_VOICES = 8
SETTINGS = ("train.epochs=60",)


def choose_voices(voices: set[str]) -> list[str]:
    """Voices of as many different vocal tracts as there are, then others."""
    tracts: dict[str, list[str]] = {}
    for voice in sorted(voices):
        tracts.setdefault(speaker_of(voice), []).append(voice)
    rounds = itertools.zip_longest(*tracts.values())
    return [voice for turn in rounds for voice in turn if voice][:NUM_SAMPLE_VOICES]


def main() -> None:
    require_training("making the sample")
    from speechrnn.recipe import Recipe
    from speechrnn.train import train_model

    sample = Path(__file__).parent / "sample"
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as name:
        folder = Path(name)
        config = SynthConfig(words=WORDS, num_voices=84, clips_per_voice=3, seed=1)
        manifests = synthesise(config, folder / "data")
        rows = {split: read_data(manifest) for split, manifest in manifests.items()}
        recipe = Recipe.from_mapping(apply_overrides(read_preset("commands-tiny"), SETTINGS))
        train_model(
            recipe,
            rows["train"],
            rows["val"],
            folder / "bundle",
            data_name="synthetic voices of espeak-ng (speechrnn data synth)",
            val_name="other synthetic voices of espeak-ng",
        )
        shutil.rmtree(sample, ignore_errors=True)
        export_bundle(folder / "bundle", sample / "words.tflite")
        voices = choose_voices({row.speaker for row in rows["test"]})
        for row in rows["test"]:
            if row.speaker in voices and row.path.stem.endswith("_nohash_0"):
                target = sample / row.text / row.path.name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(row.path, target)


if __name__ == "__main__":
    main()
