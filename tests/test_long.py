"""Recordings of any length with models that know tones: every word once, and where it was said."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import pytest
from conftest import tone
from hypothesis import given, settings
from hypothesis import strategies as st

from speechrnn.clock import StepClock
from speechrnn.decoding import Transcript
from speechrnn.decoding.decoder import Decoder, LabelDecoder
from speechrnn.decoding.long import hear, transcribe_blocks, transcribe_waveform
from speechrnn.decoding.sequence import SequenceDecoder
from speechrnn.errors import AudioError, ModelError
from speechrnn.labels import SILENCE, UNKNOWN, Labels
from speechrnn.spelling import BOUNDARY, Spelling

RATE_HZ = 8000
# Each word is a tone, all of them whole multiples of what 20 ms can tell apart.
TONES_HZ = {"go": 500, "left": 900, "right": 1400, "stop": 2000}
WORDS = tuple(TONES_HZ)
COMMANDS = Labels((SILENCE, UNKNOWN, *WORDS))
SYMBOLS = Labels(WORDS)
LETTERS = Labels((BOUNDARY, *(word[0] for word in WORDS)))
OTHER_HZ = 3000  # what is none of the words
FRAME = RATE_HZ // 50
STEP_S = 0.04
STEP = round(STEP_S * RATE_HZ)
# Where a model of steps can say that a word begins: to half a step, and a step that it half fills.
NEAR_S = 0.1


class Said(NamedTuple):
    text: str
    start_s: float
    end_s: float


def heard(samples: np.ndarray, frame: int) -> np.ndarray:
    """What each frame holds: 0 for nothing, from 1 on the words in their order, -1 for another."""
    whole = samples[: len(samples) // frame * frame].reshape(-1, frame)
    highest = np.abs(np.fft.rfft(whole * np.hanning(frame), axis=1)).argmax(axis=1)
    hz = highest * RATE_HZ / frame
    found = np.full(len(whole), -1)
    for place, tone_hz in enumerate(TONES_HZ.values(), 1):
        found[np.abs(hz - tone_hz) <= RATE_HZ / frame] = place
    half_full = 0.3 / np.sqrt(2) / np.sqrt(2)
    found[np.sqrt(np.mean(whole**2, axis=1)) < half_full] = 0
    return found


@dataclass
class Commands:
    """A classifier: the surer of a word, the more of what it hears is that.

    Of what begins before what it is given, or ends behind, it is less sure.
    """

    threshold: float = 0.0
    clip_s: tuple[float, float] = (1.0, 1.0)
    labels: Labels = COMMANDS
    sample_rate_hz: int = RATE_HZ
    min_samples: int = 400
    asked: list[int] = field(default_factory=list)

    @property
    def decoder(self) -> Decoder:
        return LabelDecoder(self.labels)

    def answer_many(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self.answer(waveform) for waveform in waveforms]

    def answer(self, waveform: np.ndarray) -> np.ndarray:
        assert waveform.dtype == np.float32
        assert len(waveform) >= self.min_samples
        self.asked.append(len(waveform))
        frames = heard(waveform, FRAME)
        loud = int(np.sum(frames != 0))
        if not loud:
            return np.array([1, 0, *np.zeros(len(WORDS))], np.float32)
        sure = np.zeros(len(WORDS))
        for first, last in runs(frames):
            if frames[first] > 0:
                whole = first > 0 and last < len(frames)
                sure[frames[first] - 1] += (1 if whole else 0.4) * (last - first) / loud
        return np.array([0, 1 - sure.sum(), *sure], np.float32)


@dataclass
class Sequences:
    """A CTC model of words; each is a symbol for as long as it lasts.

    With ``peaks`` it is one step of it, the middle or one beside that, and the first and last 200
    ms of what the model is given are too little to hear a word in.
    """

    peaks: bool = False
    threshold: float = 0.0
    clip_s: tuple[float, float] = (1.0, 1.0)
    labels: Labels = SYMBOLS
    sample_rate_hz: int = RATE_HZ
    min_samples: int = 400
    asked: list[int] = field(default_factory=list)

    @property
    def decoder(self) -> Decoder:
        return SequenceDecoder(Spelling(self.labels, "words"), StepClock(STEP_S / 2, STEP_S))

    def answer_many(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [self.answer(waveform) for waveform in waveforms]

    def answer(self, waveform: np.ndarray) -> np.ndarray:
        assert waveform.dtype == np.float32
        assert len(waveform) >= self.min_samples
        self.asked.append(len(waveform))
        steps = np.maximum(0, heard(waveform, STEP))
        if self.peaks:
            steps = self._peaks(steps, np.random.default_rng(len(waveform)))
        return log_probs(steps, len(WORDS))

    def _peaks(self, steps: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        found, edge = np.zeros_like(steps), 5
        for first, last in runs(steps):
            middle = (first + last) // 2 + rng.integers(-1, 2)
            if edge <= middle < len(steps) - edge:
                found[middle] = steps[first]
        return found


@dataclass
class Letters(Sequences):
    """A CTC model of characters: each tone is a letter, and 160 ms of nothing end a word."""

    labels: Labels = LETTERS

    @property
    def decoder(self) -> Decoder:
        return SequenceDecoder(Spelling(self.labels, "characters"), StepClock(STEP_S / 2, STEP_S))

    def answer(self, waveform: np.ndarray) -> np.ndarray:
        assert waveform.dtype == np.float32
        self.asked.append(len(waveform))
        steps = np.maximum(0, heard(waveform, STEP))
        letters = np.where(steps, steps + 1, 0)
        shift = len(waveform) // STEP % 2
        for (_, last), (first, _) in itertools.pairwise(runs(steps)):
            if first - last >= 4:
                letters[last + shift] = 1
        return log_probs(letters, 1 + len(WORDS))


def runs(steps: np.ndarray) -> list[tuple[int, int]]:
    """The first and the one behind the last of each run of one word."""
    edges = np.flatnonzero(np.diff(steps, prepend=0))
    ends = [*edges.tolist(), len(steps)]
    return [(i, j) for i, j in itertools.pairwise(ends) if i < j and steps[i]]


def log_probs(steps: np.ndarray, symbols: int) -> np.ndarray:
    found = np.full((len(steps), 1 + symbols), 0.02 / symbols)
    found[np.arange(len(steps)), steps] = 0.98
    return np.log(found).astype(np.float32)


def recording(parts: Iterable[tuple[str, float]]) -> tuple[np.ndarray, list[Said]]:
    """Words and, under the name "", pauses, of so many seconds each; what was said when."""
    waves, said, samples = [np.zeros(0)], [], 0
    for text, duration_s in parts:
        hz = TONES_HZ.get(text, OTHER_HZ)
        wave = tone(hz, duration_s, RATE_HZ) if text else np.zeros(round(duration_s * RATE_HZ))
        waves.append(wave)
        if text in TONES_HZ:
            said.append(Said(text, samples / RATE_HZ, (samples + len(wave)) / RATE_HZ))
        samples += len(wave)
    return np.concatenate(waves).astype(np.float32), said


def sentence(
    rng: np.random.Generator,
    count: int,
    *,
    said_s: tuple[float, float] = (0.25, 0.45),
    gap_s: tuple[float, float] = (0.12, 0.4),
    lead_s: float = 0.5,
) -> tuple[np.ndarray, list[Said]]:
    """Words at random, with gaps between, and silence around them."""
    parts = [("", lead_s)]
    for _ in range(count):
        parts += [(str(rng.choice(WORDS)), rng.uniform(*said_s)), ("", rng.uniform(*gap_s))]
    return recording([*parts, ("", lead_s)])


def blocks_of(waveform: np.ndarray, sizes: Iterable[int]) -> Iterator[np.ndarray]:
    first = 0
    for size in itertools.cycle(sizes):
        if first >= len(waveform):
            return
        yield waveform[first : first + size]
        first += size


def assert_heard(found: Transcript, said: Sequence[Said], waveform: np.ndarray) -> None:
    assert [word.text for word in found.words] == [word.text for word in said]
    assert found.text == " ".join(word.text for word in said)
    assert found.duration == len(waveform) / RATE_HZ
    starts_s = [word.start for word in found.words]
    np.testing.assert_allclose(starts_s, [word.start_s for word in said], atol=NEAR_S)
    for one, other in itertools.pairwise(found.words):
        assert one.start <= one.end <= other.start <= other.end


MODELS = (Commands, Sequences)


# --- of any length, whatever the model


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("duration_s", [0.05, 0.7, 2.9])
@pytest.mark.parametrize("blocks", [1, 3, 50])
def test_a_short_recording_is_answered_to_as_a_whole(make, duration_s: float, blocks: int) -> None:
    model = make()
    waveform, _ = sentence(np.random.default_rng(2), 5, lead_s=0.0)
    waveform = waveform[: round(duration_s * RATE_HZ)]
    found = transcribe_blocks(model, np.array_split(waveform, blocks), "clip.wav")
    assert model.asked == [len(waveform)]
    whole = model.decoder.decode(model.answer(waveform), len(waveform) / RATE_HZ)
    assert found == whole == transcribe_waveform(make(), waveform)


@pytest.mark.parametrize("make", MODELS)
def test_who_hears_a_short_recording_gets_it_and_of_a_long_one_what_it_says(make) -> None:
    model = make()
    waveform, _ = sentence(np.random.default_rng(9), 60)
    short = waveform[: 2 * RATE_HZ]
    heard_whole = hear(model, blocks_of(short, [900]), "clip.wav")
    assert isinstance(heard_whole, np.ndarray)
    np.testing.assert_array_equal(heard_whole, short)
    assert model.asked == []
    assert hear(model, [waveform], "clip.wav") == transcribe_waveform(make(), waveform)


def test_a_sequence_of_twenty_seconds_is_still_answered_to_as_a_whole() -> None:
    model = Sequences()
    waveform, said = sentence(np.random.default_rng(3), 30)
    waveform = waveform[: 20 * RATE_HZ]
    assert len(transcribe_waveform(model, waveform).words) == pytest.approx(len(said), abs=2)
    assert model.asked == [len(waveform)]


@pytest.mark.parametrize("make", MODELS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), sizes=st.lists(st.integers(1, 50_000), min_size=1, max_size=5))
def test_how_a_recording_is_cut_into_blocks_makes_no_difference(
    make, seed: int, sizes: list[int]
) -> None:
    waveform, _ = sentence(np.random.default_rng(seed), 40, gap_s=(0.05, 1.2))
    found = transcribe_blocks(make(), blocks_of(waveform, [*sizes, 2000]), "clip.wav")
    assert found == transcribe_waveform(make(), waveform)
    assert found.text


@pytest.mark.parametrize("make", MODELS)
def test_ten_minutes_of_silence_say_nothing_and_no_model_is_asked(make) -> None:
    model = make()
    found = transcribe_blocks(model, itertools.repeat(np.zeros(RATE_HZ, np.float32), 600), "clip")
    assert found == Transcript("", 0.0, 600.0, ())
    assert model.asked == []


@pytest.mark.parametrize("make", MODELS)
def test_no_model_is_asked_about_more_than_an_utterance(make) -> None:
    model, rng = make(), np.random.default_rng(4)
    block, _ = sentence(rng, 50, gap_s=(0.05, 0.1), lead_s=0.0)
    transcribe_blocks(model, itertools.repeat(block, 10), "clip.wav")
    assert max(model.asked) <= (22.1 if make is Sequences else 1.1) * RATE_HZ


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("blocks", [[], [np.zeros(0, np.float32)] * 3])
def test_no_samples_are_refused(make, blocks: list[np.ndarray]) -> None:
    with pytest.raises(AudioError, match=r"clip\.wav: holds no samples"):
        transcribe_blocks(make(), blocks, "clip.wav")
    with pytest.raises(AudioError, match="waveform: holds no samples"):
        transcribe_waveform(make(), np.concatenate([np.zeros(0), *blocks]))


@pytest.mark.parametrize("make", MODELS)
def test_what_is_too_short_for_the_model_is_refused(make) -> None:
    short = np.zeros(399, np.float32)
    with pytest.raises(AudioError, match=r"clip\.wav: is too short: 49\.9 ms, .* 50\.0 ms"):
        transcribe_blocks(make(), np.array_split(short, 7), "clip.wav")
    with pytest.raises(AudioError, match="waveform: is too short"):
        transcribe_waveform(make(), short)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize(
    ("value", "reason"),
    [(np.nan, "NaN"), (np.inf, "NaN or infinite"), (-np.inf, "NaN"), (20_000.0, "divide integers")],
)
def test_samples_that_are_no_sound_are_refused_wherever_they_are(
    make, value: float, reason: str
) -> None:
    waveform = np.zeros(180 * RATE_HZ, np.float32)
    for second in (0, 1, 150):
        bad = waveform.copy()
        bad[second * RATE_HZ + 5] = value
        for given_s in {second + 1, 180}:
            cut = bad[: given_s * RATE_HZ]
            with pytest.raises(AudioError, match=rf"clip\.wav: .*{reason}"):
                transcribe_blocks(make(), blocks_of(cut, [4000]), "clip.wav")
            with pytest.raises(AudioError, match=rf"waveform: .*{reason}"):
                transcribe_waveform(make(), cut)


@pytest.mark.parametrize("make", MODELS)
@pytest.mark.parametrize("length_s", [1, 30])
def test_numbers_too_large_for_float32_are_refused(make, length_s: int) -> None:
    with pytest.raises(AudioError, match="divide integers"):
        transcribe_waveform(make(), np.full(length_s * RATE_HZ, 1e300))


@pytest.mark.parametrize(
    "waveform", [np.zeros(50_000, np.int16), np.zeros((30_000, 2)), np.float32(0.1), "clip.wav"]
)
def test_arrays_that_are_no_waveform_are_refused(waveform) -> None:
    with pytest.raises(AudioError, match=r"expected a float \[num_samples\] array"):
        transcribe_waveform(Commands(), waveform)


@pytest.mark.parametrize("make", MODELS)
def test_a_waveform_of_any_floats_says_the_same(make) -> None:
    waveform, _ = sentence(np.random.default_rng(5), 60)
    expected = transcribe_waveform(make(), waveform)
    assert transcribe_waveform(make(), waveform.astype(np.float64)) == expected
    twice = np.repeat(waveform, 2)[::2]
    assert not twice.flags.c_contiguous
    assert transcribe_waveform(make(), twice) == expected


@pytest.mark.parametrize("make", MODELS)
def test_what_is_wrong_with_a_file_is_said_when_its_blocks_end(make) -> None:
    def cut_short() -> Iterator[np.ndarray]:
        yield from blocks_of(sentence(np.random.default_rng(6), 60)[0], [4000])
        raise AudioError("clip.wav", "is cut short")

    with pytest.raises(AudioError, match="cut short"):
        transcribe_blocks(make(), cut_short(), "clip.wav")


# --- a classifier


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("clip_s", [(1.0, 1.0), (0.4, 0.6), (1.0, 2.0)])
def test_commands_with_pauses_are_each_found_once(seed: int, clip_s: tuple[float, float]) -> None:
    rng = np.random.default_rng(seed)
    waveform, said = sentence(rng, 40, said_s=(0.25, 0.5), gap_s=(0.3, 3.0))
    found = transcribe_waveform(Commands(clip_s=clip_s), waveform)
    assert_heard(found, said, waveform)
    ends_s = [word.end for word in found.words]
    np.testing.assert_allclose(ends_s, [word.end_s for word in said], atol=NEAR_S)
    assert found.confidence == pytest.approx(np.mean([word.confidence for word in found.words]))


def test_commands_in_noise_are_each_found_once() -> None:
    rng = np.random.default_rng(7)
    waveform, said = sentence(rng, 60, gap_s=(0.4, 2.0))
    noisy = waveform + np.float32(0.01) * rng.standard_normal(len(waveform)).astype(np.float32)
    assert_heard(transcribe_waveform(Commands(), noisy), said, noisy)


@dataclass
class Short(Commands):
    """Sure of a word in every window that holds all of it, whatever else it holds."""

    def answer(self, waveform: np.ndarray) -> np.ndarray:
        frames = heard(waveform, FRAME)
        for first, last in runs(frames):
            if frames[first] > 0 and first > 0 and last < len(frames):
                return np.eye(len(COMMANDS), dtype=np.float32)[1 + frames[first]]
        return np.eye(len(COMMANDS), dtype=np.float32)[1]


@pytest.mark.parametrize("said_s", [0.2, 0.4, 0.6])
def test_a_short_command_in_noise_without_a_pause_is_found_once(said_s: float) -> None:
    sounds = [("?", 1.8), ("go", said_s), ("?", 1.8)]
    waveform, (said,) = recording([("", 1.5), *sounds, ("", 1.5)])
    (word,) = transcribe_waveform(Short(), waveform).words
    assert word.text == said.text
    assert word.start < said.end_s
    assert word.end > said.start_s


def test_labels_of_silence_and_of_other_sounds_are_no_words() -> None:
    waveform, said = recording([("", 1), ("?", 0.4), ("", 1), ("go", 0.4), ("", 1), ("?", 3)])
    found = transcribe_waveform(Commands(), waveform)
    assert_heard(found, said, waveform)
    nothing, _ = recording([("", 1), ("?", 0.4), ("", 1), ("?", 0.4), ("", 1)])
    assert transcribe_waveform(Commands(), nothing) == Transcript("", 0.0, 3.8, ())


@pytest.mark.parametrize("said_s", [0.4, 1.3])
def test_less_than_the_threshold_is_no_word(said_s: float) -> None:
    parts: list[tuple[str, float]] = [("", 1.0)]
    for _ in range(3):
        parts += [("go", 0.6 * said_s), ("?", 0.4 * said_s), ("", 1.0)]
    waveform, _ = recording(parts)
    low = transcribe_waveform(Commands(threshold=0.3), waveform)
    assert {word.text for word in low.words} == {"go"}
    assert all(word.confidence >= 0.3 for word in low.words)
    high = transcribe_waveform(Commands(threshold=0.999), waveform)
    assert high == Transcript("", 0.0, low.duration, ())


@pytest.mark.parametrize("seed", range(6))
def test_commands_without_pauses_are_found_along_the_piece(seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = [WORDS[i] for i in np.cumsum(rng.integers(1, len(WORDS), 6)) % len(WORDS)]
    parts = [(word, rng.uniform(0.6, 0.8)) for word in words]
    with_gaps = [part for word in parts for part in (word, ("", 0.06))]
    waveform, said = recording([("", 1.5), *with_gaps, ("", 1.5)])
    found = transcribe_waveform(Commands(), waveform)
    assert found.text.split() == words
    for word, truth in zip(found.words, said, strict=True):
        assert word.start < truth.end_s
        assert word.end > truth.start_s


@pytest.mark.parametrize("seed", range(8))
def test_a_command_where_a_piece_is_cut_for_its_length_is_found_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    words = [WORDS[i] for i in np.cumsum(rng.integers(1, len(WORDS), 90)) % len(WORDS)]
    # What is quietest, where a piece is cut, lies within a word as well as between two.
    parts = [p for w in words for p in ((w, 0.3), ("", 0.05), (w, 0.35), ("", 0.05))]
    waveform, _ = recording([("", 1), *parts, ("", 1)])
    assert transcribe_waveform(Commands(), waveform).text.split() == words


def test_a_command_within_which_a_piece_is_cut_is_found_once_though_little_is_left_behind() -> None:
    words = [("go", "stop")[i % 2] for i in range(27)]
    parts = [part for word in words[:-1] for part in ((word, 0.7), ("", 0.05))]
    waveform, _ = recording([("", 1), *parts, ("go", 0.3), ("", 0.06), ("go", 0.35), ("", 1)])
    hum = tone(OTHER_HZ, len(waveform) / RATE_HZ, RATE_HZ, 0.01)
    hum[[*range(RATE_HZ), *range(len(hum) - RATE_HZ, len(hum))]] = 0
    gap = round((1 + 26 * 0.75 + 0.3) * RATE_HZ)
    hum[gap : gap + round(0.06 * RATE_HZ)] = 0  # nowhere else is it as quiet
    found = transcribe_waveform(Commands(), waveform + hum)
    assert found.text.split() == words


def test_a_command_behind_a_pause_is_not_heard_in_the_piece_before_it_too() -> None:
    breaths = [("", 0.19), ("?", 0.025)] * 3
    waveform, _ = recording([("", 1.5), ("go", 0.56), *breaths, ("", 0.22), ("left", 0.2), ("", 1)])
    assert transcribe_waveform(Commands(), waveform).text == "go left"


def test_a_short_command_between_other_sounds_is_heard_alone() -> None:
    near = [("?", 0.5), ("", 0.22), ("go", 0.18), ("", 0.22), ("?", 0.5)]
    waveform, said = recording([("", 1), *near, ("", 1)])
    assert_heard(transcribe_waveform(Commands(), waveform), said, waveform)


@pytest.mark.parametrize("fragment_first", [False, True])
def test_a_fragment_near_a_word_is_a_part_of_it(fragment_first: bool) -> None:
    word = [("go", 0.4), ("", 0.3), ("go", 0.1)]
    parts = word[::-1] if fragment_first else word
    waveform, _ = recording([("", 2.0), *parts, ("", 2.0), ("stop", 0.4), ("", 1.0)])
    found = transcribe_waveform(Commands(), waveform)
    assert found.text == "go stop"
    assert found.words[0].start == pytest.approx(2.0, abs=NEAR_S)
    assert found.words[0].end == pytest.approx(2.8, abs=NEAR_S)


@pytest.mark.parametrize("said_s", [0.4, 2.0])
@pytest.mark.parametrize("answer", [np.full(6, np.nan), np.ones(7) / 7, np.ones(5) / 5])
def test_answers_that_are_nonsense_are_the_model_s_fault(
    answer: np.ndarray, said_s: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Commands, "answer", lambda self, waveform: answer)
    waveform, _ = recording([("", 2), ("go", said_s / 2), ("", 0.1), ("go", said_s / 2), ("", 2)])
    with pytest.raises(ModelError, match="the model answered"):
        transcribe_waveform(Commands(), waveform)


# --- a model of sequences


@pytest.mark.parametrize("seed", range(8))
def test_words_of_utterances_between_pauses_are_each_found_once(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts: list[tuple[str, float]] = [("", 1.0)]
    for _ in range(12):
        for _ in range(rng.integers(1, 8)):
            parts += [(str(rng.choice(WORDS)), rng.uniform(0.25, 0.4)), ("", rng.uniform(0.1, 0.5))]
        parts += [("", rng.uniform(0.7, 3.0))]
    waveform, said = recording(parts)
    model = Sequences()
    assert_heard(transcribe_waveform(model, waveform), said, waveform)
    assert len(model.asked) >= 12


@pytest.mark.parametrize("gap_s", [(0.1, 0.15), (0.1, 0.5)])
@pytest.mark.parametrize("seed", range(25))
def test_a_minute_of_words_without_a_pause_has_each_of_them_once(
    seed: int, gap_s: tuple[float, float]
) -> None:
    rng = np.random.default_rng(seed)
    waveform, said = sentence(rng, round(60 / (0.35 + sum(gap_s) / 2)), gap_s=gap_s)
    model = Sequences()
    assert_heard(transcribe_waveform(model, waveform), said, waveform)
    assert 3 <= len(model.asked) <= 7


@pytest.mark.parametrize("seed", range(25))
def test_a_model_unsure_of_its_steps_and_deaf_at_its_ends_still_says_each_word_once(
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    waveform, said = sentence(rng, 130, gap_s=(0.1, 0.3))
    found = transcribe_waveform(Sequences(peaks=True), waveform)
    assert found.text.split() == [word.text for word in said]
    middles_s = [(word.start_s + word.end_s) / 2 for word in said]
    found_s = [(word.start + word.end) / 2 for word in found.words]
    np.testing.assert_allclose(found_s, middles_s, atol=NEAR_S)


@pytest.mark.parametrize("seed", range(25))
def test_no_word_of_letters_is_cut_in_two_where_pieces_are_joined(seed: int) -> None:
    rng = np.random.default_rng(seed)
    parts, words = [("", 0.5)], []
    for _ in range(80):
        spoken = [WORDS[i] for i in rng.integers(0, len(WORDS), rng.integers(2, 7))]
        parts += [part for letter in spoken for part in ((letter, 0.09), ("", 0.08))]
        parts[-1] = ("", rng.uniform(0.24, 0.34))
        words.append("".join(letter[0] for letter in spoken))
    waveform, _ = recording([*parts, ("", 0.5)])
    model = Letters()
    found = transcribe_waveform(model, waveform)
    assert len(model.asked) > 3
    assert found.text.split() == words
    assert [word.text for word in found.words] == words


def test_an_utterance_below_the_threshold_is_left_out() -> None:
    waveform, said = sentence(np.random.default_rng(8), 40, gap_s=(0.7, 1.0))
    assert_heard(transcribe_waveform(Sequences(threshold=0.05), waveform), said, waveform)
    high = transcribe_waveform(Sequences(threshold=1.0), waveform)
    assert (high.text, high.words, high.duration) == ("", (), len(waveform) / RATE_HZ)
    assert 0 < high.confidence < 1
