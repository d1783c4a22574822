"""Where words are said: from steps to seconds, and by how much a model is off."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_fixtures import LABELS, shared_bundle, sweep

from speechrnn.bundle import read_bundle, replace_decision
from speechrnn.calibrate import FEWEST_PLACES, _word_edges, calibrate_bundle
from speechrnn.clock import StepClock
from speechrnn.decoding import Decision, Transcript, make_decoder
from speechrnn.decoding.transcript import Word

CLOCK = StepClock(0.02, 0.04)


def words(path: list[int], edges: tuple[float, float], duration_s: float = 10.0) -> list[Word]:
    """What a path of columns says, with words moved."""
    decision = Decision(word_edges=edges)
    decoder = make_decoder("log_probs", {"symbols": "words"}, LABELS, CLOCK, decision)
    probabilities = np.full((len(path), 1 + len(LABELS)), 0.01)
    probabilities[np.arange(len(path)), path] = 1 - 0.01 * len(LABELS)
    return list(decoder.decode(np.log(probabilities).astype(np.float32), duration_s).words)


def test_starts_and_ends_are_moved():
    path = [0, 0, 0, 1, 1, 0, 0, 0, 2, 0, 0]
    plain, moved = words(path, (0.0, 0.0)), words(path, (-0.03, 0.02))
    times = [time for word in plain for time in (word.start, word.end)]
    assert times == pytest.approx([0.12, 0.2, 0.32, 0.36])
    for before, after in zip(plain, moved, strict=True):
        assert after.start == pytest.approx(before.start - 0.03)
        assert after.end == pytest.approx(before.end + 0.02)
        assert (after.text, after.confidence) == (before.text, before.confidence)


def test_words_that_overlap_meet_half_way():
    first, second = words([0, 0, 1, 1, 0, 2, 0], (-0.04, 0.08))
    # 0.08 to 0.16, and 0.2 to 0.24 as they are.
    assert first.end == second.start == pytest.approx((0.16 + 0.08 + 0.2 - 0.04) / 2)


@given(
    st.lists(st.integers(0, len(LABELS)), min_size=1, max_size=30),
    st.tuples(st.floats(-0.5, 0.5), st.floats(-0.5, 0.5)),
)
def test_words_stay_in_order_and_within_the_recording(path: list[int], edges: tuple[float, float]):
    duration_s = 0.04 * len(path)
    found = words(path, edges, duration_s)
    times = [time for word in found for time in (word.start, word.end)]
    assert times == sorted(times)
    assert all(0 <= time <= duration_s for time in times)


def transcript(text: str, *places: tuple[float, float]) -> Transcript:
    return Transcript(text, 0.9, 2.0, tuple(Word("yes", *place, 0.9) for place in places))


def test_how_far_words_are_off_is_the_median_of_those_that_are_right():
    count = FEWEST_PLACES
    found = [transcript("yes", (0.5, 0.7))] * count + [transcript("no", (1.0, 1.5))] * 9 * count
    places = [[(0.42, 0.78)]] * count + [[(0.0, 0.1)]] * 9 * count
    expected = ["yes"] * (10 * count)
    assert _word_edges(found, expected, places) == (-0.08, 0.08)
    assert _word_edges(found[1:], expected[1:], places[1:]) == (0.0, 0.0)  # too few to say
    assert _word_edges(found, expected, [()] * len(found)) == (0.0, 0.0)


def test_calibrating_anew_keeps_how_far_words_are_moved_where_nothing_is_known(tmp_path: Path):
    bundle = Path(shutil.copytree(shared_bundle("sequences"), tmp_path / "bundle"))
    replace_decision(bundle, Decision(word_edges=(-0.05, 0.04)))
    calibrate_bundle(bundle, [sweep(16000)], ["yes"])
    assert read_bundle(bundle).decision.word_edges == (-0.05, 0.04)
    calibrate_bundle(bundle, [sweep(16000)], ["yes"], [()])
    assert read_bundle(bundle).decision.word_edges == (0.0, 0.0)
