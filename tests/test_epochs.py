"""What an epoch shows: its own recordings once, others by their share, made silence."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from speechrnn.config import apply_overrides, read_preset
from speechrnn.datasets.examples import HeldExample
from speechrnn.datasets.manifest import Utterance
from speechrnn.epochs import Epochs
from speechrnn.labels import Labels
from speechrnn.recipe import Recipe

LABELS = Labels(("_silence_", "own", "other"))


def examples(text: str, count: int) -> list[HeldExample]:
    row = Utterance(Path("x.wav"), text)
    return [HeldExample(row, np.ones(400, np.float32), [LABELS.id_of(text)])] * count


def epochs(own: int, also: int, *settings: str) -> Epochs:
    sections = apply_overrides(read_preset("commands"), ["train.batch_size=5", *settings])
    recipe = Recipe.from_mapping({**sections, "augment": {}})
    return Epochs(recipe, LABELS, examples("own", own), examples("other", also), [])


def shown(chosen: Epochs, epoch: int = 1) -> Counter[str]:
    return Counter(
        LABELS.symbols[int(target) - 1]
        for batch in chosen.batches(epoch)
        for target in batch.y["targets"][:, 0]
    )


def test_an_epoch_shows_each_recording_once():
    assert shown(epochs(20, 0)) == {"own": 20}


@pytest.mark.parametrize("there_are", [3, 20, 500])
def test_what_is_mixed_in_has_its_share_however_much_there_is(there_are: int):
    chosen = epochs(20, there_are, "train.also_fraction=0.5")
    assert shown(chosen) == {"own": 20, "other": 20}
    assert chosen.num_batches() == 8


def test_nothing_is_mixed_in_at_a_share_of_zero():
    assert shown(epochs(20, 9, "train.also_fraction=0")) == {"own": 20}


def test_silence_is_a_part_of_all():
    chosen = epochs(20, 9, "train.also_fraction=0.5", "train.silence_fraction=0.2")
    assert shown(chosen) == {"own": 20, "other": 20, "_silence_": 10}


def test_an_epoch_can_be_entered_in_its_middle():
    chosen = epochs(20, 9)
    whole = [batch.x["waveform"] for batch in chosen.batches(3)]
    rest = [batch.x["waveform"] for batch in chosen.batches(3, first=5)]
    np.testing.assert_array_equal(whole[5:], rest)
