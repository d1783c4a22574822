"""What an epoch shows: its own recordings once, others by their share, made silence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from speechrnn.config import apply_overrides, read_preset
from speechrnn.datasets.augment import Gain
from speechrnn.datasets.examples import HeldExample
from speechrnn.datasets.manifest import Utterance
from speechrnn.epochs import Epochs
from speechrnn.labels import Labels
from speechrnn.recipe import Recipe

LABELS = Labels(("_silence_", "own", "other"))


def examples(text: str, count: int, first: int) -> list[HeldExample]:
    """Recordings of different lengths that hold nothing but their own number."""
    row = Utterance(Path("x.wav"), text)
    return [
        HeldExample(row, np.full(400 + 10 * i, first + i, np.float32), [LABELS.id_of(text)])
        for i in range(count)
    ]


def epochs(own: int, also: int, *settings: str, augmentations: Sequence[Any] = ()) -> Epochs:
    sections = apply_overrides(read_preset("commands"), ["train.batch_size=5", *settings])
    recipe = Recipe.from_mapping({**sections, "augment": {}})
    return Epochs(
        recipe, LABELS, examples("own", own, 1), examples("other", also, 1001), augmentations
    )


def numbers(chosen: Epochs, epoch: int = 1) -> list[int]:
    """Which recordings an epoch shows, in its order; made silence is 0."""
    return [round(float(row[0])) for batch in chosen.batches(epoch) for row in batch.x["waveform"]]


def shown(chosen: Epochs, epoch: int = 1) -> Counter[str]:
    return Counter(
        LABELS.symbols[int(target) - 1]
        for batch in chosen.batches(epoch)
        for target in batch.y["targets"][:, 0]
    )


def test_an_epoch_shows_each_recording_once_and_another_order_next_time():
    chosen = epochs(20, 0)
    first, second = numbers(chosen, 1), numbers(chosen, 2)
    assert sorted(first) == sorted(second) == list(range(1, 21))
    assert first != second
    assert numbers(chosen, 1) == first
    assert shown(chosen) == {"own": 20}


def test_what_is_mixed_in_is_drawn_anew():
    chosen = epochs(20, 500)
    drawn = [{number for number in numbers(chosen, epoch) if number > 1000} for epoch in (1, 2)]
    assert len(drawn[0]) == len(drawn[1]) == 20  # nobody twice
    assert drawn[0] != drawn[1]


def test_recordings_of_like_length_share_a_batch():
    def padding(*settings: str) -> int:
        return sum(
            int((batch.x["waveform"].shape[1] - batch.x["num_samples"]).sum())
            for batch in epochs(400, 0, *settings).batches(1)
        )

    assert padding("train.bucket_batches=20") < 0.5 * padding("train.bucket_batches=1")


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
    chosen = epochs(20, 9, augmentations=[Gain()])
    whole, rest = list(chosen.batches(3)), list(chosen.batches(3, first=5))
    assert len(rest) == len(whole) - 5 > 0
    for one, other in zip(whole[5:], rest, strict=True):
        for values, others in ((one.x, other.x), (one.y, other.y)):
            assert values.keys() == others.keys()
            for key in values:
                np.testing.assert_array_equal(values[key], others[key])
