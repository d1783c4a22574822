"""Recordings of any length -> one transcript, piece by piece, in bounded memory. numpy alone.

What is as short as what a model was trained on is answered to as a whole. A longer recording is cut
at its pauses (:mod:`speechrnn.audio.activity`):

- a classifier is asked about windows: around a piece that is as short as a command, and along a
  longer one, where each command is looked for where its answer is surest;
- a model of sequences is asked about each piece. Pieces without a pause between them overlap, and
  are joined at the step in the overlap that is surest to hold nothing: every step is answered to
  once, so that no word is lost or said twice.

Times are those of the whole recording.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Protocol

import numpy as np

from speechrnn.audio import check_values, check_waveform, read_blocks
from speechrnn.audio.activity import Cutting, Piece, cut_pieces, word_extent
from speechrnn.decoding.decoder import Decoder
from speechrnn.decoding.detect import is_command
from speechrnn.decoding.sequence import SequenceDecoder
from speechrnn.decoding.transcript import Transcript, Word
from speechrnn.labels import BLANK_ID, Labels

# Longer than these, a recording is taken for one with pauses in it: of a classifier, of sequences.
LONGEST_CLIP_S, LONGEST_UTTERANCE_S = 3.0, 20.0
# Of a classifier: a pause between two commands is longer than the closure before a "p" or "t", ...
COMMAND_PAUSE_S = 0.2
# ... and what is longer than a window by this is more than one command.
SLACK_S = 0.15
# Shorter and so near to another piece, a piece is a part of its word: the "x" of "six".
FRAGMENT_S, FRAGMENT_NEAR_S = 0.16, 0.4
# Windows around a command: its answer is their mean.
SHIFTS_S = (-0.1, 0.0, 0.1)
# Kept on both sides of a command that is shorter than a window.
COMMAND_MARGIN_S = 0.05
# Along a longer piece: from a window to the next, and the least confidence, if the model's
# threshold is no higher; commands are no closer than half a window, and where all windows between
# say the same no closer than so much of one.
HOP_S, LEAST_CONFIDENCE, SAME_WORD = 0.1, 0.5, 0.65

# Of sequences: a pause that ends an utterance, and what is kept around one.
UTTERANCE_PAUSE_S, UTTERANCE_MARGIN_S = 0.6, 0.25
# Pieces without a pause between them have so much in common on both sides of the cut.
OVERLAP_S = 1.0
# How much the steps around one in which nothing is said count: a word is not always at the same.
CALM = (1, 2, 3, 2, 1)
# A boundary between two words of letters is one if both pieces hold it to be as likely.
LEAST_BOUNDARY = 0.1


class Answering(Protocol):
    """What is needed of a model: see :class:`speechrnn.recognize.Model`."""

    labels: Labels
    sample_rate_hz: int
    min_samples: int
    threshold: float
    decoder: Decoder
    clip_s: tuple[float, float]

    def answer_many(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The answers to checked waveforms."""


@dataclass
class _Counted:
    """Blocks on their way, checked and counted."""

    blocks: Iterator[np.ndarray]
    name: str
    samples: int = 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for block in self.blocks:
            if len(block):
                check_values(block, self.name)
                self.samples += len(block)
                yield block


def transcribe_recording(model: Answering, recording: str | Path | np.ndarray) -> Transcript:
    """What is said in a file of any rate, or in a float waveform at the model's rate.

    Raises:
        AudioError: The file cannot be read, or as :func:`transcribe_blocks`.
        ModelError: As there.
    """
    if isinstance(recording, np.ndarray):
        return transcribe_waveform(model, recording)
    blocks = read_blocks(recording, model.sample_rate_hz)
    return transcribe_blocks(model, blocks, str(recording))


def transcribe_waveform(model: Answering, waveform: np.ndarray) -> Transcript:
    """What is said in a float waveform of any length, at the model's rate.

    Raises:
        AudioError: As :func:`transcribe_blocks`.
    """
    samples = check_waveform(
        waveform, "waveform", model.sample_rate_hz, min_samples=model.min_samples
    )
    return transcribe_blocks(model, [samples], "waveform")


def transcribe_blocks(model: Answering, blocks: Iterable[np.ndarray], name: str) -> Transcript:
    """What is said in a recording of any length.

    Args:
        model: Answers to waveforms.
        blocks: The recording, float32 ``[samples]`` each, at the model's rate.
        name: Of the recording, for errors.

    Raises:
        AudioError: It holds no samples, too few, or such as are no sound; and what ``blocks``
            raises.
        ModelError: The model answers nonsense.
    """
    heard = hear(model, blocks, name)
    if isinstance(heard, Transcript):
        return heard
    (answer,) = model.answer_many([heard])
    duration_s = len(heard) / model.sample_rate_hz
    return model.decoder.decode(answer, duration_s, threshold=model.threshold)


def hear(model: Answering, blocks: Iterable[np.ndarray], name: str) -> np.ndarray | Transcript:
    """The waveform of a recording that is answered to as a whole, of a longer one the transcript.

    For who has several recordings answered to at once.

    Raises:
        AudioError: As :func:`transcribe_blocks`.
        ModelError: As there.
    """
    rate_hz, of_sequences = model.sample_rate_hz, isinstance(model.decoder, SequenceDecoder)
    longest_s = LONGEST_UTTERANCE_S if of_sequences else max(LONGEST_CLIP_S, 2 * model.clip_s[1])
    counted = _Counted(iter(blocks), name)
    first, waiting = [], 0
    coming = iter(counted)
    for block in coming:
        first.append(block)
        waiting += len(block)
        if waiting > longest_s * rate_hz:
            break
    else:
        waveform = (
            first[0] if len(first) == 1 else np.concatenate([np.zeros(0, np.float32), *first])
        )
        return check_waveform(waveform, name, rate_hz, min_samples=model.min_samples)
    whole = chain(first, coming)
    found = list((_sequences if of_sequences else _commands)(model, whole))
    return _together(found, counted.samples / rate_hz)


def _together(found: Sequence[Transcript], duration_s: float) -> Transcript:
    """One transcript of all; its confidence is the mean over its words."""
    words = tuple(word for one in found for word in one.words)
    counts = [max(1, len(one.words)) for one in found]
    confidence = (
        float(np.average([one.confidence for one in found], weights=counts)) if found else 0.0
    )
    text = " ".join(one.text for one in found if one.text)
    slots = tuple(slot for one in found for slot in one.slots)
    return Transcript(text, confidence, duration_s, words, slots)


# ------------------------------------------------------------------ classifiers


def _commands(model: Answering, blocks: Iterable[np.ndarray]) -> Iterator[Transcript]:
    """The commands of a recording, one transcript each."""
    rate_hz = model.sample_rate_hz
    width_s, free_from = model.clip_s[1], 0
    cutting = Cutting(COMMAND_PAUSE_S, LONGEST_UTTERANCE_S, width_s)
    for piece in _whole_words(cut_pieces(blocks, rate_hz, cutting), rate_hz, width_s):
        is_short = piece.end - piece.start <= (width_s + SLACK_S) * rate_hz
        if is_short and not (piece.cut_before or piece.cut_after):
            found = _command(model, piece)
        else:
            free_from = free_from if piece.cut_before else 0
            found, free_from = _commands_within(model, piece, free_from)
        for word in found:
            yield Transcript(word.text, word.confidence, 0.0, (word,))


def _whole_words(pieces: Iterable[Piece], rate_hz: int, width_s: float) -> Iterator[Piece]:
    """Pieces too short to be a word, put to the neighbour that they are a part of."""
    fragment, near = round(FRAGMENT_S * rate_hz), round(FRAGMENT_NEAR_S * rate_hz)
    held: Piece | None = None
    for piece in pieces:
        if held and (
            piece.start - held.end <= near
            and piece.end - held.start <= width_s * rate_hz
            and min(held.end - held.start, piece.end - piece.start) < fragment
        ):
            held = held.joined(piece)
            continue
        if held:
            yield held
        held = piece
    if held:
        yield held


def _command(model: Answering, piece: Piece) -> list[Word]:
    """The one command of a short piece, if it is one."""
    rate_hz = model.sample_rate_hz
    length = piece.end - piece.start
    low, high = (round(seconds * rate_hz) for seconds in model.clip_s)
    width = min(max(length + 2 * round(COMMAND_MARGIN_S * rate_hz), low), max(high, length))
    first = (piece.start + piece.end - width) // 2
    shifts = [round(shift * rate_hz) for shift in SHIFTS_S]
    most = max(0, (width - length) // 2)  # else the command would be cut
    windows = [
        piece.part(max(piece.before, first + shift), min(piece.after, first + shift + width))
        for shift in sorted({min(max(shift, -most), most) for shift in shifts})
    ]
    windows = [_filled(window, model.min_samples) for window in windows]
    answer = np.mean(model.answer_many(windows), axis=0)
    heard = model.decoder.decode(answer, length / rate_hz, threshold=model.threshold)
    if not heard.words or not is_command(heard.text):
        return []
    margin = round(2 * COMMAND_MARGIN_S * rate_hz)
    first = max(piece.before, piece.start - margin)
    said = piece.part(first, min(piece.after, piece.end + margin))
    return [_word(heard.text, heard.confidence, said, first, rate_hz)]


def _commands_within(model: Answering, piece: Piece, free_from: int) -> tuple[list[Word], int]:
    """The commands of a long piece: windows that are surer than those around them.

    The middle of each lies in the piece. Where no pause separates it from the piece before, none
    begins before ``free_from``, a sample that is returned for the piece behind.
    """
    rate_hz = model.sample_rate_hz
    width = round(max(model.clip_s) * rate_hz)
    first = piece.start - width // (2 if piece.cut_before else 4)
    starts = list(range(first, max(first + 1, piece.end - width // 2), round(HOP_S * rate_hz)))
    # What is behind a pause has its own piece; behind a cut is more of this one's.
    low = piece.offset if piece.cut_before else piece.before
    high = piece.end + width if piece.cut_after else piece.after
    windows = [piece.part(max(low, start), min(high, start + width)) for start in starts]
    windows = [_filled(window, model.min_samples) for window in windows]
    answers = np.array(model.answer_many(windows), np.float64)
    around = np.pad(answers, ((1, 1), (0, 0)), mode="edge")
    mean = (around[:-2] + 2 * around[1:-1] + around[2:]) / 4
    least = max(model.threshold, LEAST_CONFIDENCE)
    heard = [model.decoder.decode(answer, 0.0, threshold=least) for answer in mean]
    sure = [i for i, one in enumerate(heard) if one.words and is_command(one.text)]
    found: list[int] = []
    for place in sorted(sure, key=lambda i: -heard[i].confidence):
        if starts[place] >= free_from and all(
            abs(starts[place] - starts[other]) >= _apart(heard, place, other, width)
            for other in found
        ):
            found.append(place)
    words = [
        _word(heard[i].text, heard[i].confidence, windows[i], max(low, starts[i]), rate_hz)
        for i in sorted(found)
    ]
    return words, starts[max(found)] + width // 2 if found else free_from


def _apart(heard: Sequence[Transcript], one: int, other: int, width: int) -> int:
    """Least samples between windows that say two commands.

    A short word lies whole in windows over much of their width, and is as sure in the last as in
    the first: where all between two say the same, they are one word unless they are far apart.
    """
    between = heard[min(one, other) : max(one, other) + 1]
    is_one = all(window.text == between[0].text for window in between)
    return round(SAME_WORD * width) if is_one else width // 2


def _filled(window: np.ndarray, min_samples: int) -> np.ndarray:
    """Zeros behind a window that is too short to be answered to."""
    return np.pad(window, (0, max(0, min_samples - len(window))))


def _word(text: str, confidence: float, samples: np.ndarray, first: int, rate_hz: int) -> Word:
    """A command that lies in samples of which the first is this one of the recording."""
    start, end = word_extent(samples, rate_hz)
    return Word(text, (first + start) / rate_hz, (first + max(start, end)) / rate_hz, confidence)


# ------------------------------------------------------------------ sequences


@dataclass
class _Answered:
    """A piece's answer, and from which sample of the recording on it counts."""

    piece: Piece
    answer: np.ndarray
    first: int  # sample of the recording that the answer begins with
    samples: int
    step: int = 0  # the first that counts


def _sequences(model: Answering, blocks: Iterable[np.ndarray]) -> Iterator[Transcript]:
    """The utterances of a recording."""
    rate_hz = model.sample_rate_hz
    context_s = max(UTTERANCE_MARGIN_S, OVERLAP_S)
    cutting = Cutting(UTTERANCE_PAUSE_S, LONGEST_UTTERANCE_S, context_s)
    margin, overlap = round(UTTERANCE_MARGIN_S * rate_hz), round(OVERLAP_S * rate_hz)
    held: _Answered | None = None
    for piece in cut_pieces(blocks, rate_hz, cutting):
        first = (
            piece.start - overlap if piece.cut_before else max(piece.before, piece.start - margin)
        )
        last = piece.end + overlap if piece.cut_after else min(piece.after, piece.end + margin)
        first = max(first, piece.offset)
        samples = _filled(piece.part(first, last), model.min_samples)
        (answer,) = model.answer_many([samples])
        here = _Answered(piece, answer, first, len(samples))
        if held:
            yield _utterance(model, held, _join(model, held, here) if piece.cut_before else None)
        held = here
    if held:
        yield _utterance(model, held, None)


def _join(model: Answering, one: _Answered, other: _Answered) -> int:
    """The step of the first answer with which the second takes over, which is told its own."""
    decoder, rate_hz = model.decoder, model.sample_rate_hz
    assert isinstance(decoder, SequenceDecoder)
    step = decoder.clock.step_s * rate_hz
    lag = round((other.first - one.first) / step)  # the other's step 0 is this one of the first
    first, last = max(lag, one.step), min(len(one.answer), lag + len(other.answer))
    if last <= first:
        return len(one.answer)
    # Neither knows what is beyond its end: near it, it is the less to be believed.
    edge = (last - first) // 4
    first, last = first + edge, last - edge
    before, behind = one.answer[first:last], other.answer[first - lag : last - lag]
    ends, begins = _between(before, behind, decoder.spelling.boundary)
    other.step = first - lag + begins
    return first + ends


def _between(before: np.ndarray, behind: np.ndarray, boundary: int | None) -> tuple[int, int]:
    """Of two answers to the same: where the first ends, and where the second takes over."""
    if boundary is not None:  # between two letters of a word is nothing either
        one, other = before[:, boundary], np.pad(behind[:, boundary], 1, constant_values=-np.inf)
        near = np.lib.stride_tricks.sliding_window_view(other, 3)  # from the step before on
        ends = int(np.argmax(one + near.max(axis=1)))
        if min(one[ends], near[ends].max()) >= np.log(LEAST_BOUNDARY):
            return ends, ends - 1 + int(near[ends].argmax())
    nothing = before[:, BLANK_ID] + behind[:, BLANK_ID]
    calm = np.convolve(np.pad(nothing, len(CALM) // 2, mode="edge"), CALM, "valid")
    seam = int(np.argmax(calm))
    return seam, seam


def _utterance(model: Answering, one: _Answered, until: int | None) -> Transcript:
    decoder, rate_hz = model.decoder, model.sample_rate_hz
    assert isinstance(decoder, SequenceDecoder)
    answer = one.answer[one.step : until]
    if not len(answer):
        return Transcript("", 1.0, 0.0, ())
    # Its own clock begins with the first step that counts.
    begin_s = one.first / rate_hz + one.step * decoder.clock.step_s
    length_s = one.samples / rate_hz - one.step * decoder.clock.step_s
    return decoder.decode(answer, length_s, threshold=model.threshold).later(begin_s)
