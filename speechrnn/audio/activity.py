"""Where in a recording something is said: cut to its word, or to pieces between pauses.

By level alone: what stands out from the quietest moments of its surroundings, with high
frequencies raised too, for "s" and "f" have nothing else. A model decides what was said; here only
what is plainly nothing is left out, and no word is cut in two.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

FRAME_S = 0.01
# What is this far below the loudest 10 ms of a recording, at its ends, is not the word, ...
TRIM_DB = 35.0
# ... unless it is not so far below with high frequencies raised, as those of "s" and "f", ...
EMPHASIS, EMPHASISED_TRIM_DB = 0.97, 45.0
# ... nor, in a noisy one, what stands out from its quietest tenth by less than this; ...
NOISE_PERCENTILE, LEAST_RISE_DB = 10, 6.0
# ... but whatever is nearer to the loudest is, for a recording may be nothing but its word.
MOST_TRIM_DB = 15.0
# Weak consonants are the word too: so much is kept around what is loud.
TRIM_MARGIN_S = 0.03

# Pauses are found by tiles of so many frames: a tile's surroundings are REACH tiles on each side.
TILE_FRAMES, REACH = 50, 6
# Over the quietest smoothed frames of its surroundings, which lie below the mean of their noise.
RISE_DB = 9.0
SMOOTHED_FRAMES = 5
# Nothing below is speech, mean power against full scale: 16 bits end at -98 dB.
LEAST_POWER = 10 ** (-75 / 10)
# Shorter than this is a click.
LEAST_ACTIVE_FRAMES = 4


def word_extent(waveform: np.ndarray, sample_rate_hz: int) -> tuple[int, int]:
    """First sample of the word in a recording, float32 ``[samples]``, and the one behind its last.

    Both are 0 where the recording holds nothing but zeros.
    """
    if not waveform.any():
        return 0, 0
    frame = max(1, round(FRAME_S * sample_rate_hz))
    power, raised = _frame_power(waveform, frame), _frame_power(_emphasised(waveform), frame)
    loud = power >= min(_least(power, TRIM_DB), power.max() * 10 ** (-MOST_TRIM_DB / 10))
    loud |= raised >= _least(raised, EMPHASISED_TRIM_DB)
    places = np.flatnonzero(loud)
    margin = round(TRIM_MARGIN_S * sample_rate_hz)
    first, last = places[0] * frame - margin, (places[-1] + 1) * frame + margin
    return int(max(0, first)), int(min(last, len(waveform)))


def _emphasised(waveform: np.ndarray) -> np.ndarray:
    # As if it had stood still before: an offset is no step.
    return waveform - EMPHASIS * np.append(waveform[:1], waveform[:-1])


def _frame_power(waveform: np.ndarray, frame: int) -> np.ndarray:
    """Mean power of each frame, the last one filled up with zeros."""
    whole = np.pad(waveform, (0, -len(waveform) % frame)).reshape(-1, frame)
    return np.mean(np.square(whole), axis=1)


def _least(power: np.ndarray, trim_db: float) -> float:
    """Power that stands out from silence, so far below the loudest, and from noise."""
    floor = np.percentile(power, NOISE_PERCENTILE)
    return max(power.max() * 10 ** (-trim_db / 10), float(floor) * 10 ** (LEAST_RISE_DB / 10))


@dataclass(frozen=True)
class Cutting:
    """How a long recording is cut to pieces.

    Attributes:
        pause_s: The shortest pause that ends a piece.
        longest_s: What is spoken without such a pause is cut where it is quietest.
        context_s: What is kept on both sides of a piece.
    """

    pause_s: float
    longest_s: float
    context_s: float


@dataclass(frozen=True)
class Piece:
    """A part of a recording in which something is said; all places are samples of the recording.

    Attributes:
        samples: float32 ``[samples]``, with what is around it.
        offset: The first of ``samples``.
        start: Where something is said, ...
        end: ... and what is behind it.
        before: The end of the piece before, or as far back as ``samples`` go.
        after: The start of the piece behind, or as far as ``samples`` go.
        cut_before: Whether no pause, but its length, separates it from the piece before.
        cut_after: The same of the piece behind.
    """

    samples: np.ndarray
    offset: int
    start: int
    end: int
    before: int
    after: int
    cut_before: bool
    cut_after: bool

    def part(self, first: int, last: int) -> np.ndarray:
        """Samples of the recording, as far as they are there."""
        return self.samples[max(0, first - self.offset) : max(0, last - self.offset)]

    def joined(self, other: Piece) -> Piece:
        """This piece and the one behind it as one."""
        samples = np.concatenate([self.samples[: other.offset - self.offset], other.samples])
        return replace(
            self, samples=samples, end=other.end, after=other.after, cut_after=other.cut_after
        )


@dataclass
class _Open:
    """A piece in the making, in frames."""

    start: int
    end: int
    active: int
    cut_before: bool = False
    cut_after: bool = False


def cut_pieces(
    blocks: Iterable[np.ndarray], sample_rate_hz: int, cutting: Cutting
) -> Iterator[Piece]:
    """The pieces of a recording, in order; how it is cut into blocks makes no difference.

    Args:
        blocks: float32 ``[samples]`` each; no more than some seconds beyond a piece are kept.
        sample_rate_hz: Their rate.
        cutting: What ends a piece.
    """
    cutter = _Cutter(sample_rate_hz, cutting)
    for block in blocks:
        for part in cutter.split(block):
            if cutter.add(part):
                yield from cutter.pieces(at_end=False)
    yield from cutter.pieces(at_end=True)


class _Cutter:
    def __init__(self, sample_rate_hz: int, cutting: Cutting) -> None:
        self._frame = max(1, round(FRAME_S * sample_rate_hz))
        self._tile = TILE_FRAMES * self._frame

        def frames(seconds: float) -> int:
            return max(1, round(seconds / FRAME_S))

        self._pause, self._longest = frames(cutting.pause_s), frames(cutting.longest_s)
        self._context = frames(cutting.context_s)
        self._waiting: list[np.ndarray] = []  # samples that were added, not yet looked at
        self._num_waiting = 0
        self._samples = np.zeros(0, np.float32)  # from self._offset on
        self._offset = self._levelled = 0  # samples; frames of whole tiles are levelled
        self._levels: deque[tuple[np.ndarray, np.ndarray, np.ndarray]] = deque()
        self._first_level = self._decided = 0  # tiles
        self._open: _Open | None = None
        self._closed: deque[_Open] = deque()
        self._behind = 0  # the end of the last piece that was given away, in frames

    def split(self, block: np.ndarray) -> Iterator[np.ndarray]:
        """Parts of at most a tile: of a block of hours too, only what a piece needs is copied."""
        return (block[first : first + self._tile] for first in range(0, len(block), self._tile))

    def add(self, block: np.ndarray) -> bool:
        """Whether there is more to look at now: a tile or more."""
        self._waiting.append(block)
        self._num_waiting += len(block)
        if self._num_waiting < self._tile:
            return False
        self._take()
        return True

    def _take(self) -> None:
        self._samples = np.concatenate([self._samples, *self._waiting])
        self._waiting, self._num_waiting = [], 0
        while self._offset + len(self._samples) >= self._levelled + self._tile:
            self._level(self._tile)

    def _level(self, count: int) -> None:
        first = self._levelled - self._offset
        tile = self._samples[first : first + count]
        before = self._samples[first - 1 : first] if first else tile[:1]
        raised = tile - EMPHASIS * np.append(before, tile[:-1])
        power, raised_power = _frame_power(tile, self._frame), _frame_power(raised, self._frame)
        # A last tile of few frames, or a last frame of few samples, is quiet by chance.
        whole = count // self._frame
        if whole >= SMOOTHED_FRAMES:
            quiet = _smoothed(power[:whole]).min(), _smoothed(raised_power[:whole]).min()
        else:
            quiet = (np.inf, np.inf) if self._levelled else (power.mean(), raised_power.mean())
        self._levels.append((power, raised_power, np.array([*quiet, power.max()])))
        self._levelled += count

    def pieces(self, *, at_end: bool) -> Iterator[Piece]:
        if at_end:
            self._take()
            rest = self._offset + len(self._samples) - self._levelled
            if rest:
                self._level(rest)
        known = self._first_level + len(self._levels)
        while self._decided < known and (at_end or self._decided + REACH < known):
            self._decide(self._decided)
            self._decided += 1
            while self._first_level < self._decided - REACH:
                self._levels.popleft()
                self._first_level += 1
        if at_end and self._open:
            self._close()
        yield from self._ready(at_end)
        self._forget()

    def _decide(self, tile: int) -> None:
        """Which frames of a tile are active, and what that opens and closes."""
        here = tile - self._first_level
        power, raised, _ = self._levels[here]
        reach = islice(self._levels, max(0, here - REACH), here + REACH + 1)
        around = np.array([summary for _, _, summary in reach])
        quiet, raised_quiet = around[:, 0].min(), around[:, 1].min()
        loudest, rise = around[:, 2].max(), 10 ** (RISE_DB / 10)
        least = max(LEAST_POWER, loudest * 10 ** (-TRIM_DB / 10))
        active = power >= max(least, quiet * rise)
        least = max(LEAST_POWER, loudest * 10 ** (-EMPHASISED_TRIM_DB / 10))
        active |= raised >= max(least, raised_quiet * rise)
        edges = np.flatnonzero(np.diff(np.concatenate([[0], active.astype(np.int8), [0]])))
        first = tile * TILE_FRAMES
        for start, end in zip(edges[::2] + first, edges[1::2] + first, strict=True):
            self._extend(int(start), int(end))
        if self._open and first + len(power) - self._open.end >= self._pause:
            self._close()

    def _extend(self, start: int, end: int) -> None:
        if self._open and start - self._open.end >= self._pause:
            self._close()
        if self._open is None:
            self._open = _Open(start, end, 0)
        self._open.end = end
        self._open.active += end - start
        while self._open.end - self._open.start > self._longest:
            cut = self._quietest(self._open.start + self._longest // 2, self._longest // 2)
            rest = _Open(cut, self._open.end, self._open.active, cut_before=True)
            self._open.end, self._open.cut_after = cut, True
            self._closed.append(self._open)
            self._open = rest

    def _quietest(self, first: int, count: int) -> int:
        """The middle of what is quietest among some frames."""
        start = first * self._frame - self._offset
        power = _frame_power(self._samples[start : start + count * self._frame], self._frame)
        return first + int(_smoothed(power).argmin()) + min(SMOOTHED_FRAMES, count) // 2

    def _close(self) -> None:
        assert self._open is not None
        if self._open.active >= LEAST_ACTIVE_FRAMES:
            self._closed.append(self._open)
        self._open = None

    def _ready(self, at_end: bool) -> Iterator[Piece]:
        """Pieces of which all that is around them is known."""
        while self._closed:
            piece = self._closed[0]
            behind = self._closed[1] if len(self._closed) > 1 else self._open
            known = (self._offset + len(self._samples)) // self._frame
            if behind is None:
                known = self._decided * TILE_FRAMES
            elif behind.active < LEAST_ACTIVE_FRAMES:  # it may be a click
                known = behind.start
            if not at_end and known < piece.end + self._context:
                return
            self._closed.popleft()
            yield self._piece(piece, behind)
            self._behind = piece.end

    def _piece(self, piece: _Open, behind: _Open | None) -> Piece:
        first = max(0, (piece.start - self._context) * self._frame - self._offset)
        last = (piece.end + self._context) * self._frame - self._offset
        samples = self._samples[first:last].copy()
        offset, end = self._offset + first, self._offset + first + len(samples)
        return Piece(
            samples,
            offset,
            piece.start * self._frame,
            min(piece.end * self._frame, end),
            max(offset, self._behind * self._frame),
            min(end, behind.start * self._frame) if behind else end,
            piece.cut_before,
            piece.cut_after,
        )

    def _forget(self) -> None:
        """Samples that no piece will have."""
        opened = self._closed[0] if self._closed else self._open
        frame = min(opened.start, self._decided * TILE_FRAMES) if opened else None
        frame = self._decided * TILE_FRAMES if frame is None else frame
        keep = max(0, frame - self._context - 1) * self._frame
        if keep - self._offset > self._tile:
            self._samples = self._samples[keep - self._offset :]
            self._offset = keep


def _smoothed(power: np.ndarray) -> np.ndarray:
    """Means over neighbours; where there are too few, the mean of all."""
    if len(power) < SMOOTHED_FRAMES:
        return power.mean(keepdims=True)
    return np.convolve(power, np.full(SMOOTHED_FRAMES, 1 / SMOOTHED_FRAMES), "valid")
