"""CTC decoding against every path, one after another."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference.ctc import all_sequences, best_alignment, path_score, spelled

from speechrnn.decoding.align import align, least_steps
from speechrnn.decoding.ctc import beam_search, collapse, greedy
from speechrnn.decoding.likelihood import log_likelihood, log_likelihoods
from speechrnn.decoding.scorers import HotWords, Together
from speechrnn.errors import ConfigError, ModelError


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


@settings(max_examples=60, deadline=None)
@given(cost=st.sampled_from([0.5, 2.0, 5.0]), **SMALL)
def test_with_a_cost_greedy_is_the_best_of_all_paths_less_their_symbols(
    cost: float, seed: int, steps: int, columns: int, sharpness: float
):
    log_probs = matrix(seed, steps, columns, sharpness)
    paths = itertools.product(range(columns), repeat=steps)
    best = max(
        sum(log_probs[t, c] for t, c in enumerate(path)) - cost * len(spelled(path))
        for path in paths
    )
    found = greedy(log_probs, cost)
    assert found.log_score == pytest.approx(best, abs=1e-9)
    assert greedy(log_probs, 0.0).ids == greedy(log_probs).ids


def test_with_a_cost_a_doubt_is_one_word_and_not_three():
    sure, less = math.log(0.55), math.log(0.44)
    log_probs = np.full((4, 3), math.log(0.01))
    for step, (first, second) in enumerate(
        [(sure, less), (less, sure), (sure, less), (sure, less)]
    ):
        log_probs[step, 1:] = first, second
    assert greedy(log_probs).ids == (1, 2, 1)
    assert greedy(log_probs, 1.0).ids == (1,)


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


# ------------------------------------------------------------------ likelihood


@settings(max_examples=40, deadline=None)
@given(
    utterances=st.lists(
        st.tuples(st.lists(st.integers(1, 2), max_size=3), st.integers(1, 5)),
        min_size=1,
        max_size=4,
    ),
    seed=st.integers(0, 1000),
)
def test_a_likelihood_is_that_of_all_paths_and_not_of_the_padding(utterances: list, seed: int):
    batch = np.stack([matrix(seed + i, 5, 3) for i in range(len(utterances))])
    num_steps = np.array([steps for _, steps in utterances])
    found = log_likelihoods(batch, num_steps, [ids for ids, _ in utterances])
    for row, (ids, steps) in enumerate(utterances):
        expected = all_sequences(batch[row, :steps]).get(tuple(ids), -math.inf)
        assert found[row] == pytest.approx(expected, abs=1e-9)
        assert log_likelihood(batch[row, :steps], ids) == pytest.approx(expected, abs=1e-9)


@given(ids=st.lists(st.integers(1, 3), max_size=6))
def test_the_least_steps_hold_the_symbols_and_fewer_do_not(ids: list[int]):
    least = least_steps(ids)
    assert (align(matrix(0, least, 4), ids) is not None) or not ids
    assert not ids or align(matrix(0, least - 1, 4), ids) is None


# ------------------------------------------------------------------ scorers

PHRASES = st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=3), min_size=1, max_size=3)


@given(phrases=PHRASES, said=st.lists(st.integers(1, 4), max_size=8))
def test_hot_words_add_for_each_time_that_they_are_said(phrases: list, said: list[int]):
    whole = {tuple(phrase) for phrase in phrases}
    times = {
        phrase: sum(
            tuple(said[start : start + len(phrase)]) == phrase for start in range(len(said))
        )
        for phrase in whole
    }
    expected = sum(1.5 * len(phrase) * count for phrase, count in times.items())
    assert path_score(HotWords(phrases, 5, 1.5), said) == pytest.approx(expected)


@given(
    words=st.lists(st.lists(st.integers(2, 3), min_size=1, max_size=2), max_size=5),
    phrase=st.lists(st.lists(st.integers(2, 3), min_size=1, max_size=2), min_size=1, max_size=2),
)
def test_hot_words_that_are_spelled_count_as_whole_words_only(words: list, phrase: list):
    def spelled_out(some: list[list[int]]) -> list[int]:
        return [symbol for word in some for symbol in [1, *word]][1:]

    times = sum(words[n : n + len(phrase)] == phrase for n in range(len(words)))
    expected = 2.0 * times * sum(map(len, phrase))
    scorer = HotWords([spelled_out(phrase)], 4, 2.0, boundary=1)
    assert path_score(scorer, spelled_out(words)) == pytest.approx(expected)


def test_a_hot_word_is_paid_once_and_at_once():
    scorer = HotWords([[1]], 3, 2.0)
    assert scorer.scores(scorer.start()).tolist() == [0, 2, 0]
    assert scorer.scores(scorer.advance(scorer.start(), 1)).tolist() == [0, 2, 0]


def test_a_hot_word_turns_what_is_nearly_heard():
    log_probs = np.log([[0.1, 0.5, 0.4], [0.98, 0.01, 0.01]])
    assert beam_search(log_probs)[0].ids == (1,)
    assert beam_search(log_probs, scorer=HotWords([[2]], 3, 1.0))[0].ids == (2,)


@settings(max_examples=30, deadline=None)
@given(said=st.lists(st.integers(1, 4), max_size=5), seed=st.integers(0, 100))
def test_scorers_together_add_what_each_adds(said: list[int], seed: int):
    rng = np.random.default_rng(seed)
    one, other = (
        HotWords([list(rng.integers(1, 5, 2))], 5, boost) for boost in (float(rng.random()), 2.0)
    )
    assert path_score(Together([one, other]), said) == pytest.approx(
        path_score(one, said) + path_score(other, said)
    )


@pytest.mark.parametrize(
    ("phrases", "boost", "named"), [([[]], 1.0, "says nothing"), ([[1]], math.inf, "boost of inf")]
)
def test_hot_words_of_no_use_are_refused(phrases: list, boost: float, named: str):
    with pytest.raises(ConfigError, match=named):
        HotWords(phrases, 3, boost)


@pytest.mark.parametrize(("ids", "steps"), [((1, 1), 2), ((1, 2, 1), 2), ((1,), 0)])
def test_too_few_steps_align_with_nothing(ids: tuple[int, ...], steps: int):
    assert align(matrix(0, steps, 3), ids) is None
