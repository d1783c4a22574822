"""What an epoch shows: balance, other words, silence."""

from __future__ import annotations

import itertools
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from speechrnn.datasets.examples import HeldExample
from speechrnn.datasets.manifest import Utterance, keep_words
from speechrnn.datasets.sampling import SILENCE_DB, bucketed, epoch_order, silence_examples
from speechrnn.errors import DataError
from speechrnn.spread import evenly

ROW = Utterance(Path("x.wav"), "a")


def examples(*counts: int) -> list[HeldExample]:
    """As many of label 1, 2, ... as asked for."""
    return [
        HeldExample(ROW, np.zeros(1, np.float32), [label])
        for label, count in enumerate(counts, start=1)
        for _ in range(count)
    ]


def shown(chosen: list[HeldExample], **settings) -> Counter[int]:
    order = epoch_order(chosen, np.random.default_rng(0), **settings)
    return Counter(chosen[i].targets[0] for i in order)


def test_without_balance_everyone_is_shown_once():
    order = epoch_order(examples(30, 5), np.random.default_rng(0))
    assert sorted(order) == list(range(35))


def test_full_balance_shows_each_label_equally_often():
    assert shown(examples(90, 9, 1), balance=1.0) == {1: 33, 2: 33, 3: 33}


def test_half_balance_is_the_square_root():
    assert shown(examples(64, 16), balance=0.5) == {1: 53, 2: 27}


@given(counts=st.lists(st.integers(1, 30), min_size=2, max_size=5), balance=st.floats(0, 1))
def test_within_a_label_nobody_is_shown_twice_more_than_another(counts: list[int], balance: float):
    chosen = examples(*counts)
    times = Counter(epoch_order(chosen, np.random.default_rng(1), balance=balance).tolist())
    for label in range(1, len(counts) + 1):
        own = [times[i] for i, example in enumerate(chosen) if example.targets == [label]]
        assert max(own) - min(own) <= 1


def test_other_words_are_cut_down_and_drawn_anew():
    chosen = examples(80, 1000)
    assert shown(chosen, unknown=(2, 0.2)) == {1: 80, 2: 20}
    one, other = (
        {i for i in epoch_order(chosen, np.random.default_rng(seed), unknown=(2, 0.2)) if i >= 80}
        for seed in (0, 1)
    )
    assert one != other


def test_the_same_seed_gives_the_same_order():
    one, other = (epoch_order(examples(9, 4), np.random.default_rng(7)) for _ in range(2))
    assert one.tolist() == other.tolist()


def test_silence_has_a_level_within_its_range_and_is_the_same_each_time():
    made = silence_examples([1000, 4000, 700], 8000, [3], seed=(0, 1))
    assert [example.num_samples for example in made] == [1000, 4000, 700]
    assert [len(example.waveform) for example in made] == [1000, 4000, 700]
    for example in made:
        level_db = 10 * np.log10(np.mean(np.square(example.waveform, dtype=np.float64)))
        assert SILENCE_DB[0] - 0.1 <= level_db <= SILENCE_DB[1] + 0.1
        np.testing.assert_array_equal(example.waveform, example.waveform)
    assert not np.array_equal(made[0].waveform[:700], made[2].waveform)


def test_words_that_are_not_wanted_become_unknown():
    rows = [Utterance(Path(f"{i}"), text) for i, text in enumerate(("yes", "cat", "_silence_"))]
    assert [row.text for row in keep_words(rows, ["yes"])] == ["yes", "_unknown_", "_silence_"]


def test_a_wanted_word_that_nobody_says_is_named():
    with pytest.raises(DataError, match=r"'no'.*yes"):
        keep_words([Utterance(Path("x"), "yes")], ["yes", "no"])


@given(
    num_samples=st.lists(st.integers(1, 9), min_size=1, max_size=60),
    batch_size=st.integers(1, 9),
    batches=st.integers(1, 5),
)
def test_buckets_keep_the_order_but_for_what_is_filled_together(
    num_samples: list[int], batch_size: int, batches: int
):
    lengths, rng = np.array(num_samples), np.random.default_rng(0)
    order = rng.permutation(len(lengths))
    found = bucketed(order, lengths, batch_size, rng, bucket_batches=batches)
    size = min(batch_size, len(order))
    assert len(found) == len(order) // size * size
    for start in range(0, len(found), batches * size):
        part = found[start : start + batches * size]
        assert set(part) == set(order[: len(found)][start : start + batches * size])
        spans = sorted((lengths[b].min(), lengths[b].max()) for b in part.reshape(-1, size))
        if batches > 1:  # no batch reaches into the next one's lengths
            assert all(high <= low for (_, high), (low, _) in itertools.pairwise(spans))
    if batches == 1:
        np.testing.assert_array_equal(found, order[: len(found)])


def test_recordings_of_one_length_are_shuffled_all_the_same():
    rng = np.random.default_rng(0)
    first, second = (
        bucketed(rng.permutation(64), np.full(64, 5), 4, rng, bucket_batches=4) for _ in range(2)
    )
    assert sorted(first) == sorted(second) == list(range(64))
    assert (first != second).any()


@given(st.integers(0, 200), st.integers(1, 50))
def test_some_of_many_are_spread_evenly(size: int, most: int):
    chosen = evenly(range(size), most)
    assert len(chosen) <= most
    assert list(chosen[:1]) == list(range(size))[:1]
    assert len({after - before for before, after in itertools.pairwise(chosen)}) <= 1
    assert list(chosen) == list(range(size)) or len(chosen) > most // 2
