"""The head ``ctc`` against enumeration of all paths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import ops
from reference.ctc import all_sequences

from speechrnn.decoding.ctc import greedy
from speechrnn.errors import ConfigError, LabelError
from speechrnn.heads.ctc import CTC
from speechrnn.labels import GUESSED, Labels

HEAD = CTC()
COLUMNS, STEPS = 4, 5


def padded(rows: list[list[int]]) -> tuple[np.ndarray, np.ndarray]:
    ids = np.zeros((len(rows), max(1, *map(len, rows))), np.int32)
    for target, row in zip(ids, rows, strict=True):
        target[: len(row)] = row
    return ids, np.array([len(row) for row in rows], np.int32)


def log_softmax(logits: np.ndarray) -> np.ndarray:
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


UTTERANCES = st.lists(
    st.tuples(st.lists(st.integers(1, COLUMNS - 1), max_size=3), st.integers(1, STEPS)),
    min_size=2,
    max_size=4,
)


@settings(max_examples=25, deadline=None)
@given(utterances=UTTERANCES, seed=st.integers(0, 1000))
def test_the_loss_is_that_of_all_paths_of_the_true_steps(utterances: list, seed: int):
    logits = 2 * np.random.default_rng(seed).standard_normal((len(utterances), STEPS, COLUMNS))
    targets, num_targets = padded([ids for ids, _ in utterances])
    num_steps = np.array([steps for _, steps in utterances], np.int32)
    found = HEAD.loss(logits.astype(np.float32), num_steps, targets, num_targets)
    for row, (ids, steps) in enumerate(utterances):
        every = all_sequences(log_softmax(logits[row, :steps]))
        # What its steps cannot hold is not learnt: no number, and no gradient.
        expected = -every[tuple(ids)] if tuple(ids) in every else 0.0
        assert float(found[row]) == pytest.approx(expected, abs=1e-4)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), right=st.booleans())
def test_an_utterance_is_correct_where_its_best_path_spells_it(seed: int, right: bool):
    rng = np.random.default_rng(seed)
    logits = rng.standard_normal((3, 9, COLUMNS)).astype(np.float32)
    num_steps = rng.integers(1, 10, 3).astype(np.int32)
    said = [list(greedy(row[:steps]).ids) for row, steps in zip(logits, num_steps, strict=True)]
    if not right:
        said[0] = [*said[0], 1]
        said[1] = [2, *said[1][1:]] if said[1][:1] == [1] else [1, *said[1][1:]]
    targets, num_targets = padded(said)
    found = ops.convert_to_numpy(HEAD.correct(logits, num_steps, targets, num_targets))
    expected = [right, right or said[1] == list(greedy(logits[1][: num_steps[1]]).ids), True]
    assert found.tolist() == expected


def test_where_a_word_is_known_to_be_counts_step_by_step():
    head = CTC(placement=0.5)
    logits = np.random.default_rng(0).standard_normal((1, 4, COLUMNS)).astype(np.float32)
    targets, num_targets = padded([[2]])
    steps = np.array([[0, 2, -1, 3]], np.int32)  # the last one lies behind the true steps
    plain = HEAD.loss(logits, np.array([3], np.int32), targets, num_targets, steps)
    found = head.loss(logits, np.array([3], np.int32), targets, num_targets, steps)
    log_probs = log_softmax(logits[0])
    expected = -0.5 * (log_probs[0, 0] + log_probs[1, 2])
    assert float((found - plain)[0]) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("done", [0.0, 0.25, 1.0])
def test_what_it_counts_may_change_while_training(done):
    logits = np.random.default_rng(0).standard_normal((1, 4, COLUMNS)).astype(np.float32)
    targets, num_targets = padded([[2]])
    rest = (np.array([3], np.int32), targets, num_targets, np.array([[0, 2, -1, 3]], np.int32))
    moving = CTC(placement=0.5, placement_end=0.1).loss(logits, *rest, done)
    still = CTC(placement=0.5 - 0.4 * done).loss(logits, *rest)
    assert float(moving[0]) == pytest.approx(float(still[0]), abs=1e-5)
    same = CTC(placement=0.5).loss(logits, *rest, done)
    assert float(same[0]) == pytest.approx(float(CTC(placement=0.5).loss(logits, *rest)[0]))


@pytest.mark.parametrize(("done", "part"), [(0.0, 1.0), (0.1, 0.5), (0.2, 0.0), (1.0, 0.0)])
def test_a_guess_counts_less_and_less_and_then_nothing(done, part):
    logits = np.random.default_rng(0).standard_normal((1, 4, COLUMNS)).astype(np.float32)
    targets, num_targets = padded([[2]])
    rest = (np.array([4], np.int32), targets, num_targets)
    head, known = CTC(placement=0.5, flat_start=0.2), np.array([[0, 2, -1, 1]], np.int32)
    guessed = np.where(known >= 0, GUESSED - known, known)
    plain, found = HEAD.loss(logits, *rest), head.loss(logits, *rest, guessed, done)
    sure = CTC(placement=0.5).loss(logits, *rest, known)
    assert float((found - plain)[0]) == pytest.approx(part * float((sure - plain)[0]), abs=1e-5)
    assert float(head.loss(logits, *rest, known, done)[0]) == pytest.approx(
        float(sure[0]), abs=1e-5
    )


def test_silence_says_nothing_and_other_texts_must_be_known():
    labels = HEAD.labels(["go", "turn on", "_silence_"], commands=True)
    assert labels.symbols == ("go", "turn on")
    assert HEAD.targets("_silence_", labels) == HEAD.targets("", labels) == []
    assert HEAD.targets("turn on go", labels) == [2, 1]
    assert HEAD.placed("turn on", labels) == 2
    with pytest.raises(LabelError, match="'stop'"):
        HEAD.targets("go stop", labels)
    letters = CTC(symbols="characters")
    assert letters.placed("go", letters.labels(["go"], commands=True)) is None
    assert letters.num_columns(Labels(("|", "g", "o"))) == 4


@pytest.mark.parametrize(
    "wrong",
    [{"symbols": "phones"}, {"dropout": 1.0}, {"placement": -0.1}, {"flat_start": 1.5}],
    ids=str,
)
def test_a_wrong_setting_is_named(wrong: dict):
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        CTC(**wrong)
