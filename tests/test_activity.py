"""A recording cut to its word, and a long one to pieces between pauses: nothing said is lost."""

from __future__ import annotations

import dataclasses
import itertools
import tracemalloc
from collections.abc import Iterable, Iterator

import numpy as np
import pytest
from conftest import tone
from hypothesis import given, settings
from hypothesis import strategies as st

from speechrnn.audio.activity import Cutting, Piece, cut_pieces, word_extent

RATE_HZ = 8000
FRAME = RATE_HZ // 100
PLAIN = Cutting(pause_s=0.3, longest_s=5.0, context_s=0.5)
# How far start and end may lie from the truth: a frame of 10 ms, and two of noise mixed with sound.
NEAR_S = 0.03
RATES_HZ = (8000, 11025, 16000, 22050, 44100)  # 11025 and 22050: frames are no whole 10 ms


def silence(duration_s: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    return np.zeros(round(duration_s * rate_hz))


def noise(duration_s: float, rate_hz: int = RATE_HZ, *, level_db: float = -50.0) -> np.ndarray:
    """White, from the same seed each time, of that level against full scale."""
    rng = np.random.default_rng(5)
    return 10 ** (level_db / 20) * rng.standard_normal(round(duration_s * rate_hz))


def beep(duration_s: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    return tone(700, duration_s, rate_hz)


def hiss(duration_s: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    """As an "s": weak, and of high frequencies alone."""
    rng = np.random.default_rng(6)
    return 0.03 * np.diff(rng.standard_normal(round(duration_s * rate_hz) + 1))


def syllables(
    count: int, said_s: float = 0.3, gap_s: float = 0.1, rate_hz: int = RATE_HZ
) -> np.ndarray:
    """Speech without a pause: what is said for so long, and a gap that ends no piece."""
    return np.tile(np.append(beep(said_s, rate_hz), silence(gap_s, rate_hz)), count)


def joined(*parts: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros(0), *parts]).astype(np.float32)


def blocks_of(waveform: np.ndarray, sizes: Iterable[int]) -> Iterator[np.ndarray]:
    """The waveform in blocks of these sizes, over and over."""
    first = 0
    for size in itertools.cycle(sizes):
        if first >= len(waveform):
            return
        yield waveform[first : first + size]
        first += size


def cut(
    waveform: np.ndarray, cutting: Cutting = PLAIN, rate_hz: int = RATE_HZ, size: int = 4000
) -> list[Piece]:
    return list(cut_pieces(blocks_of(waveform, [size]), rate_hz, cutting))


def places(pieces: Iterable[Piece]) -> list[tuple[int, int]]:
    return [(piece.start, piece.end) for piece in pieces]


def same(one: list[Piece], other: list[Piece]) -> bool:
    def values(piece: Piece) -> dict[str, object]:
        return {**dataclasses.asdict(piece), "samples": piece.samples.tobytes()}

    return [values(piece) for piece in one] == [values(piece) for piece in other]


def anything(seed: int) -> np.ndarray:
    """Sounds, clicks, hiss, noise and silence of random lengths, in random order."""
    rng = np.random.default_rng(seed)
    makers = [
        lambda s: beep(s),
        lambda s: hiss(s),
        lambda s: syllables(1 + int(4 * s)),
        lambda s: beep(0.01 + s / 50),
        lambda s: noise(s),
        lambda s: noise(2 * s, level_db=-40.0),
        lambda s: silence(s),
    ]
    return joined(*(makers[rng.integers(len(makers))](rng.uniform(0.05, 1.2)) for _ in range(16)))


# --- a long recording


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    sizes=st.lists(st.integers(1, 9000), min_size=1, max_size=8),
    pause_s=st.sampled_from([0.1, 0.3, 0.6]),
    longest_s=st.sampled_from([2.5, 4.0, 20.0]),
    context_s=st.sampled_from([0.05, 1.0, 7.0]),
)
def test_how_a_recording_is_cut_into_blocks_makes_no_difference(
    seed: int, sizes: list[int], pause_s: float, longest_s: float, context_s: float
) -> None:
    waveform, cutting = anything(seed), Cutting(pause_s, longest_s, context_s)
    at_once = list(cut_pieces([waveform], RATE_HZ, cutting))
    assert same(list(cut_pieces(blocks_of(waveform, sizes), RATE_HZ, cutting)), at_once)


def test_blocks_of_one_sample_and_empty_ones_make_no_difference() -> None:
    waveform = joined(silence(0.4), beep(0.3), silence(0.5), beep(0.3))
    by_sample = [block for one in blocks_of(waveform, [1]) for block in (one, one[:0])]
    assert same(list(cut_pieces(by_sample, RATE_HZ, PLAIN)), cut(waveform))
    assert len(cut(waveform)) == 2


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    pause_s=st.sampled_from([0.1, 0.3, 0.6]),
    longest_s=st.sampled_from([2.5, 4.0, 20.0]),
    context_s=st.sampled_from([0.05, 1.0, 7.0]),
)
def test_pieces_are_in_order_and_what_is_around_them_is_nobody_elses(
    seed: int, pause_s: float, longest_s: float, context_s: float
) -> None:
    waveform = anything(seed)
    context = round(context_s * RATE_HZ)
    pieces = cut(waveform, Cutting(pause_s, longest_s, context_s))
    for piece in pieces:
        end = piece.offset + len(piece.samples)
        np.testing.assert_array_equal(piece.samples, waveform[piece.offset : end])
        assert piece.offset == max(0, piece.start - context)
        assert end == min(len(waveform), -(-piece.end // FRAME) * FRAME + context)
        assert piece.offset <= piece.before <= piece.start < piece.end <= piece.after <= end
        assert piece.end - piece.start <= longest_s * RATE_HZ
    for one, other in itertools.pairwise(pieces):
        assert other.before == max(other.offset, one.end)
        assert one.after == min(one.offset + len(one.samples), other.start)
        assert one.cut_after == other.cut_before
        if one.cut_after:
            assert one.end == other.start
        else:
            assert other.start - one.end >= pause_s * RATE_HZ
    assert not pieces or not (pieces[0].cut_before or pieces[-1].cut_after)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("between", [silence, noise])
@pytest.mark.parametrize("sound", [beep, hiss])
def test_bursts_are_found_once_each_where_they_are(sound, between, rate_hz: int) -> None:
    parts, expected, now_s = [between(1.003, rate_hz)], [], 1.003
    for said_s, pause_s in [(0.5, 0.4), (0.1, 0.9), (0.25, 2.0), (1.3, 0.55), (0.33, 0.4)]:
        parts += [sound(said_s, rate_hz), between(pause_s, rate_hz)]
        expected.append((now_s, now_s + said_s))
        now_s += said_s + pause_s
    found = places(cut(joined(*parts), rate_hz=rate_hz))
    assert len(found) == len(expected)
    np.testing.assert_allclose(np.array(found) / rate_hz, expected, atol=NEAR_S)


def test_bursts_at_the_very_ends_are_found() -> None:
    waveform = joined(beep(0.3), silence(1.0), beep(0.3))
    (start, end), (again, last) = places(cut(waveform))
    assert (start, last) == (0, len(waveform))
    assert (end / RATE_HZ, again / RATE_HZ) == pytest.approx((0.3, 1.3), abs=NEAR_S)


@pytest.mark.parametrize("between", [silence, noise])
@pytest.mark.parametrize("pause_s", [0.15, 0.3, 0.6])
def test_a_pause_cuts_from_its_length_on(pause_s: float, between) -> None:
    cutting = Cutting(pause_s, 5.0, 0.5)
    for length_s, count in [(pause_s - NEAR_S, 1), (pause_s + NEAR_S, 2)]:
        said = joined(between(1.0), beep(0.4), between(length_s), beep(0.4), between(1.0))
        assert len(cut(said, cutting)) == count


def test_a_pause_cuts_wherever_it_lies_among_the_tiles() -> None:
    for shift_s in np.arange(0, 0.5, 0.03):
        said = joined(silence(shift_s), beep(0.4), silence(0.35), beep(0.4), silence(1.0))
        assert len(cut(said)) == 2


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_speech_without_a_pause_is_cut_where_it_is_quiet_and_its_pieces_touch(rate_hz: int) -> None:
    speech = joined(silence(1.0, rate_hz), syllables(75, rate_hz=rate_hz), silence(1.0, rate_hz))
    pieces = cut(speech, rate_hz=rate_hz)
    length_s = np.array([piece.end - piece.start for piece in pieces]) / rate_hz
    assert length_s.max() <= PLAIN.longest_s
    assert length_s[:-1].min() >= PLAIN.longest_s / 2 - 0.01
    assert [piece.cut_before for piece in pieces] == [False, *[True] * (len(pieces) - 1)]
    assert [piece.cut_after for piece in pieces] == [*[True] * (len(pieces) - 1), False]
    for one, other in itertools.pairwise(pieces):
        assert one.end == one.after == other.start == other.before
        around = round(0.02 * rate_hz)
        assert not one.part(one.end - around, one.end + around).any()
    assert pieces[0].start / rate_hz == pytest.approx(1.0, abs=NEAR_S)
    assert pieces[-1].end / rate_hz == pytest.approx(1.0 + 75 * 0.4 - 0.1, abs=NEAR_S)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    level_db=st.sampled_from([-200.0, -60.0, -45.0]),
    longest_s=st.sampled_from([1.0, 20.0]),
)
def test_no_sample_of_speech_lies_outside_of_all_pieces(
    seed: int, level_db: float, longest_s: float
) -> None:
    rng = np.random.default_rng(seed)
    parts, said = [], []
    for _ in range(12):
        quiet, loud = silence(rng.uniform(0.05, 0.9)), beep(rng.uniform(0.06, 0.7))
        parts += [quiet, loud * 10 ** (rng.uniform(-12, 0) / 20)]
        # A frame that is only in part speech may be lost.
        said += [np.zeros(len(quiet), bool), np.ones(len(loud), bool)]
        said[-1][:FRAME] = said[-1][-FRAME:] = False
    waveform = joined(*parts)
    waveform += noise(len(waveform) / RATE_HZ, level_db=level_db)[: len(waveform)]
    covered = np.zeros(len(waveform), bool)
    for start, end in places(cut(waveform, Cutting(0.3, longest_s, 0.1))):
        covered[start:end] = True
    assert covered[np.concatenate(said)].all()


@pytest.mark.parametrize("duration_s", [0.005, 0.03, 0.4, 0.51, 9.0, 20.0])
@pytest.mark.parametrize("rest", [0, 1, 3, 79, 80, 399, 401])
def test_silence_and_steady_noise_give_no_pieces(duration_s: float, rest: int) -> None:
    count = round(duration_s * RATE_HZ) + rest
    assert cut(np.zeros(count, np.float32)) == []
    assert cut(np.full(count, 0.1, np.float32)) == []
    for level_db in (-90.0, -50.0, -20.0):
        assert cut(noise(60, level_db=level_db)[:count].astype(np.float32)) == []


def test_an_empty_recording_has_no_pieces() -> None:
    assert list(cut_pieces([], RATE_HZ, PLAIN)) == []
    assert list(cut_pieces([np.zeros(0, np.float32)], RATE_HZ, PLAIN)) == []


@pytest.mark.parametrize("rest", [0, 1, 77])
def test_a_recording_shorter_than_a_tile_has_its_piece(rest: int) -> None:
    waveform = joined(noise(0.11), beep(0.12), noise(0.11), np.zeros(rest))
    (piece,) = cut(waveform)
    assert piece.start / RATE_HZ == pytest.approx(0.11, abs=NEAR_S)
    assert piece.end / RATE_HZ == pytest.approx(0.23, abs=NEAR_S)
    np.testing.assert_array_equal(piece.samples, waveform)
    assert (piece.before, piece.after) == (0, len(waveform))


@pytest.mark.parametrize("lead_s", [0.6, 0.7, 0.8, 0.9, 1.0])
def test_a_click_is_no_piece_and_no_neighbour_of_one(lead_s: float) -> None:
    lead, click = silence(lead_s), beep(0.02)
    assert cut(joined(lead, click, silence(1))) == []
    (piece,) = cut(joined(lead, beep(0.3), silence(0.35), click, silence(5)))
    assert piece.after == piece.end + 0.5 * RATE_HZ
    (piece,) = cut(joined(lead, click, silence(0.35), beep(0.3), silence(2)))
    assert piece.before == piece.start - 0.5 * RATE_HZ


def test_what_16_bits_can_hardly_hold_is_silence() -> None:
    assert cut(joined(silence(1), noise(1, level_db=-85.0), silence(1))) == []
    assert len(cut(joined(silence(1), noise(1, level_db=-65.0), silence(1)))) == 1


def test_a_piece_keeps_the_weak_consonants_of_its_word() -> None:
    waveform = joined(silence(1.0), 0.05 * hiss(0.15), beep(0.3), 0.05 * hiss(0.15), silence(1.0))
    ((start, end),) = places(cut(waveform))
    assert (start / RATE_HZ, end / RATE_HZ) == pytest.approx((1.0, 1.6), abs=NEAR_S)


SECONDS = {
    "silence": silence(1),
    "noise": noise(1),
    "words": np.append(beep(0.7), silence(0.3)),
    "speech without a pause": syllables(5, 0.15, 0.05),
}


@pytest.mark.parametrize(
    ("kind", "in_one"), [*((kind, False) for kind in SECONDS), ("words", True)]
)
def test_half_an_hour_needs_the_memory_of_some_seconds(kind: str, in_one: bool) -> None:
    second, count = SECONDS[kind].astype(np.float32), 1800
    word = joined(silence(0.5), beep(0.5))
    blocks: Iterable[np.ndarray] = itertools.chain([word], itertools.repeat(second, count))
    if in_one:
        blocks = [np.concatenate(list(blocks))]
    longest = 0
    tracemalloc.start()
    for piece in cut_pieces(blocks, RATE_HZ, Cutting(0.2, 5.0, 1.0)):
        longest = max(longest, len(piece.samples))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert longest <= 7.5 * RATE_HZ
    assert peak < 45 * second.nbytes  # three times the 15 s at most that are kept: copies of them


# --- a piece


def piece_at(start: int, end: int, offset: int, samples: np.ndarray, **cuts: bool) -> Piece:
    either = {"cut_before": False, "cut_after": False, **cuts}
    last = offset + len(samples)
    return Piece(samples, offset, start, end, before=offset, after=last, **either)


def test_a_part_of_a_piece_is_as_much_of_the_recording_as_it_holds() -> None:
    waveform = np.arange(100, dtype=np.float32)
    piece = piece_at(30, 40, 20, waveform[20:50])
    np.testing.assert_array_equal(piece.part(25, 31), waveform[25:31])
    np.testing.assert_array_equal(piece.part(-5, 23), waveform[20:23])
    np.testing.assert_array_equal(piece.part(45, 90), waveform[45:50])
    assert not piece.part(0, 20).size
    assert not piece.part(50, 60).size
    assert not piece.part(40, 30).size


@pytest.mark.parametrize("starts", [(0, 10), (5, 25), (20, 28)])
def test_two_pieces_joined_are_one_from_the_first_to_the_second(starts: tuple[int, int]) -> None:
    waveform = np.arange(100, dtype=np.float32)
    one = piece_at(20, 28, starts[0], waveform[starts[0] : 38], cut_before=True)
    other = piece_at(30, 40, starts[1], waveform[starts[1] : 50], cut_after=True)
    both = one.joined(other)
    np.testing.assert_array_equal(both.samples, waveform[starts[0] : 50])
    assert (both.offset, both.start, both.end) == (starts[0], 20, 40)
    assert (both.before, both.after) == (one.before, other.after)
    assert (both.cut_before, both.cut_after) == (True, True)


# --- a short recording


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("around", [silence, noise])
@pytest.mark.parametrize("sound", [beep, hiss])
def test_the_word_is_what_stands_out_with_a_margin_around_it(sound, around, rate_hz: int) -> None:
    waveform = joined(around(0.4, rate_hz), sound(0.3, rate_hz), around(0.3, rate_hz))
    start, end = np.array(word_extent(waveform, rate_hz)) / rate_hz
    assert start == pytest.approx(0.4 - 0.03, abs=0.015)
    assert end == pytest.approx(0.7 + 0.03, abs=0.015)


def test_a_word_keeps_its_weak_consonants() -> None:
    waveform = joined(silence(0.4), 0.05 * hiss(0.15), beep(0.3), 0.05 * hiss(0.15), silence(0.4))
    start, end = np.array(word_extent(waveform, RATE_HZ)) / RATE_HZ
    assert (start, end) == pytest.approx((0.37, 1.03), abs=0.015)


def test_an_offset_is_no_word() -> None:
    waveform = joined(silence(0.4), beep(0.3), silence(0.4)) + np.float32(0.01)
    start, end = np.array(word_extent(waveform, RATE_HZ)) / RATE_HZ
    assert (start, end) == pytest.approx((0.37, 0.73), abs=0.015)


@pytest.mark.parametrize("count", [1, 7, FRAME, 801])
def test_a_recording_that_is_nothing_but_its_word_is_kept_whole(count: int) -> None:
    assert word_extent(np.full(count, 0.3, np.float32), RATE_HZ) == (0, count)
    assert word_extent(tone(333, 1.0, RATE_HZ)[1 : count + 1].astype(np.float32), RATE_HZ) == (
        0,
        count,
    )


@pytest.mark.parametrize("count", [0, 1, 12345])
def test_zeros_hold_no_word(count: int) -> None:
    assert word_extent(np.zeros(count, np.float32), RATE_HZ) == (0, 0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10**6), gain_db=st.floats(-60, 12))
def test_a_word_is_where_it_is_at_any_level(seed: int, gain_db: float) -> None:
    waveform = anything(seed)
    start, end = word_extent(waveform, RATE_HZ)
    assert 0 <= start < end <= len(waveform)
    assert word_extent(waveform * np.float32(2 ** round(gain_db / 6)), RATE_HZ) == (start, end)
