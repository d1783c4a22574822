"""CTC decoding against every path, one after another."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.ctc import all_sequences, best_alignment, spelled

from speechrnn.decoding.align import align
from speechrnn.decoding.ctc import beam_search, collapse, greedy
from speechrnn.errors import ModelError


def matrix(seed: int, steps: int, columns: int, sharpness: float = 1.5) -> np.ndarray:
    """Log probabilities of random logits, float64 ``[steps, columns]``."""
    logits = sharpness * np.random.default_rng(seed).standard_normal((steps, columns))
    return logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)


SMALL = {
    "seed": st.integers(0, 10_000),
    "steps": st.integers(1, 5),
    "columns": st.integers(2, 4),
    "sharpness": st.sampled_from([0.1, 1.0, 3.0, 8.0]),
}


@given(path=st.lists(st.integers(0, 3), max_size=9))
def test_collapse_takes_repeats_out_and_then_blanks(path: list[int]):
    assert collapse(path) == spelled(tuple(path))


@settings(max_examples=60, deadline=None)
@given(**SMALL)
def test_a_beam_wide_enough_is_exact(seed: int, steps: int, columns: int, sharpness: float):
    log_probs = matrix(seed, steps, columns, sharpness)
    expected = all_sequences(log_probs)
    found = beam_search(log_probs, width=10_000)
    assert {h.ids for h in found} == set(expected)
    for hypothesis in found:
        assert hypothesis.log_probability == pytest.approx(expected[hypothesis.ids], abs=1e-9)
    best = max(expected.values())
    assert found[0].log_probability == pytest.approx(best, abs=1e-9)


@settings(max_examples=100, deadline=None)
@given(width=st.integers(1, 6), **SMALL)
def test_a_narrow_beam_overstates_nothing_and_is_never_below_greedy(
    width: int, seed: int, steps: int, columns: int, sharpness: float
):
    log_probs = matrix(seed, steps, columns, sharpness)
    expected = all_sequences(log_probs)
    found = beam_search(log_probs, width=width)
    assert 1 <= len(found) <= width
    for hypothesis in found:
        assert hypothesis.log_probability <= expected[hypothesis.ids] + 1e-9
    scores = [hypothesis.log_score for hypothesis in found]
    assert scores == sorted(scores, reverse=True)
    assert scores[0] >= greedy(log_probs).log_score - 1e-9


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 1000), steps=st.integers(1, 30), width=st.integers(1, 4))
def test_where_every_step_is_sure_greedy_and_any_beam_agree(seed: int, steps: int, width: int):
    log_probs = matrix(seed, steps, 6, 60.0)
    assert beam_search(log_probs, width=width)[0].ids == greedy(log_probs).ids


def test_greedy_is_the_best_path():
    log_probs = matrix(3, 5, 3)
    found = greedy(log_probs)
    assert found.log_probability == pytest.approx(log_probs.max(axis=1).sum())
    assert found.ids == spelled(tuple(log_probs.argmax(axis=1)))


def test_the_beam_prefers_what_many_paths_spell():
    # The best path is blank, blank; but the three paths of "1" are together more probable.
    log_probs = np.log([[0.6, 0.4], [0.6, 0.4]])
    assert greedy(log_probs).ids == ()
    assert beam_search(log_probs, width=2)[0].ids == (1,)


class Rules:
    """A scorer that allows what a table of sequences allows, with a bonus for each symbol."""

    def __init__(self, allowed: set[tuple[int, ...]], columns: int, bonus: float) -> None:
        self.allowed, self.columns, self.bonus = allowed, columns, bonus

    def start(self) -> tuple[int, ...]:
        return ()

    def scores(self, state: tuple[int, ...]) -> np.ndarray:
        found = np.full(self.columns, -np.inf)
        for symbol in range(1, self.columns):
            longer = (*state, symbol)
            if any(ids[: len(longer)] == longer for ids in self.allowed):
                found[symbol] = self.bonus
        return found

    def advance(self, state: tuple[int, ...], symbol: int) -> tuple[int, ...]:
        return (*state, symbol)

    def final(self, state: tuple[int, ...]) -> float:
        return 0.5 if state in self.allowed else -math.inf


@settings(max_examples=60, deadline=None)
@given(
    allowed=st.sets(st.lists(st.integers(1, 3), max_size=3).map(tuple), max_size=5),
    bonus=st.sampled_from([0.0, -1.0, 2.0]),
    seed=st.integers(0, 1000),
)
def test_a_scorer_decides_what_may_be_said(allowed: set[Any], bonus: float, seed: int):
    log_probs = matrix(seed, 4, 4)
    expected = {
        ids: score + 0.5 + bonus * len(ids)
        for ids, score in all_sequences(log_probs).items()
        if ids in allowed
    }
    found = beam_search(log_probs, width=1000, scorer=Rules(allowed, 4, bonus))
    assert {h.ids for h in found} == set(expected)
    for hypothesis in found:
        assert hypothesis.log_score == pytest.approx(expected[hypothesis.ids], abs=1e-9)
        assert hypothesis.state == hypothesis.ids
    if found:
        assert found[0].log_score == pytest.approx(max(expected.values()), abs=1e-9)


@pytest.mark.parametrize("shape", [(5,), (5, 1), (2, 3, 4)])
def test_a_wrong_shape_is_named(shape: tuple[int, ...]):
    with pytest.raises(ModelError, match="expected \\[steps"):
        greedy(np.zeros(shape))


def test_nan_is_refused():
    with pytest.raises(ModelError, match="NaN"):
        beam_search(np.full((3, 3), np.nan))


def test_no_steps_say_nothing():
    assert greedy(np.zeros((0, 3))).ids == ()
    assert [h.ids for h in beam_search(np.zeros((0, 3)))] == [()]


# ------------------------------------------------------------------ alignment


@settings(max_examples=80, deadline=None)
@given(ids=st.lists(st.integers(1, 3), max_size=4).map(tuple), **SMALL)
def test_an_alignment_is_the_best_of_all_paths(
    ids: tuple[int, ...], seed: int, steps: int, columns: int, sharpness: float
):
    ids = tuple(1 + (i - 1) % (columns - 1) for i in ids)
    log_probs = matrix(seed, steps, columns, sharpness)
    best = best_alignment(log_probs, ids)
    found = align(log_probs, ids)
    if best == -math.inf:
        assert found is None
        return
    assert found is not None
    assert found.log_probability == pytest.approx(best, abs=1e-9)
    assert spelled(tuple(found.path)) == ids
    assert sum(log_probs[t, c] for t, c in enumerate(found.path)) == pytest.approx(best, abs=1e-9)
    assert len(found.spans) == len(ids)
    for symbol, (start, end) in zip(ids, found.spans, strict=True):
        assert set(found.path[start:end]) == {symbol}
    assert all(end <= start for (_, end), (start, _) in itertools.pairwise(found.spans))


@pytest.mark.parametrize(("ids", "steps"), [((1, 1), 2), ((1, 2, 1), 2), ((1,), 0)])
def test_too_few_steps_align_with_nothing(ids: tuple[int, ...], steps: int):
    assert align(matrix(0, steps, 3), ids) is None
