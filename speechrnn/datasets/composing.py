"""Utterances for training: put together from recordings of single commands, new ones each epoch."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speechrnn.datasets.examples import UNKNOWN_SYMBOL, Example, Span
from speechrnn.datasets.manifest import Utterance, is_word
from speechrnn.datasets.sequences import (
    SequenceConfig,
    SequencePlan,
    check_speaker,
    make_sequence,
    plan_sequence,
)
from speechrnn.errors import DataError
from speechrnn.heads import Head
from speechrnn.labels import Labels

# Said so often on average, texts are commands; whole utterances are rarely the same.
COMMAND_REPETITIONS = 2
# Of an epoch, however few recordings there are: they make many more than they are.
LEAST_UTTERANCES = 128


@dataclass(frozen=True)
class SequenceExample:
    """An utterance that is put together each time it is used, the same each time."""

    plan: SequencePlan
    clips: tuple[Example, ...]
    row: Utterance
    targets: list[int]
    symbols: tuple[int, ...]
    sample_rate_hz: int
    guessed: bool = False

    @property
    def num_samples(self) -> int:
        """Its length."""
        return self.plan.num_samples

    @property
    def spans(self) -> list[Span]:
        """Its words."""
        return [
            (word.start, word.end, symbol)
            for word, symbol in zip(self.plan.words, self.symbols, strict=True)
        ]

    @property
    def waveform(self) -> np.ndarray:
        """Its samples."""
        clips = [clip.waveform for clip in self.clips]
        return make_sequence(self.plan, clips, self.sample_rate_hz)


class Composer:
    """Puts utterances together, the speakers in turn.

    Args:
        examples: Recordings of one command each, cut to it.
        config: The ranges from which an utterance is drawn.
        sample_rate_hz: Of the recordings.
        head: Knows the symbols of a text.
        labels: Of the model.

    Raises:
        DataError: The speaker of one is not known, or there is none.
    """

    def __init__(
        self,
        examples: Iterable[Example],
        config: SequenceConfig,
        sample_rate_hz: int,
        head: Head,
        labels: Labels,
    ) -> None:
        self._config, self._rate_hz, self._head, self._labels = config, sample_rate_hz, head, labels
        speakers: dict[str, list[Example]] = defaultdict(list)
        for example in examples:
            if is_word(example.row.text):
                check_speaker(example.row)
                speakers[example.row.speaker].append(example)
        if not speakers:
            raise DataError("no recording says a word to put utterances together from")
        self._speakers = dict(sorted(speakers.items()))
        self._num_clips = sum(map(len, self._speakers.values()))

    def num_utterances(self) -> int:
        """For an epoch: so many say as many words as there are recordings, but some at least."""
        mean_words = sum(self._config.num_words) / 2
        return max(LEAST_UTTERANCES, round(self._num_clips / mean_words))

    def utterances(self, count: int, seed: Sequence[int]) -> list[Example]:
        """``count`` of them, decided by the seed."""
        names = list(self._speakers)
        first = int(np.random.default_rng(seed).integers(len(names)))
        return [
            self._utterance(names[(first + i) % len(names)], np.random.default_rng([*seed, i]))
            for i in range(count)
        ]

    def _utterance(self, speaker: str, rng: np.random.Generator) -> Example:
        clips = self._speakers[speaker]
        lengths = [(clip.row.text, clip.num_samples) for clip in clips]
        plan = plan_sequence(lengths, self._rate_hz, self._config, rng)
        texts = [word.text for word in plan.words]
        placed = [self._head.placed(text, self._labels) for text in texts]
        return SequenceExample(
            plan=plan,
            clips=tuple(clips[i] for i in plan.clips),
            row=Utterance(Path("made"), plan.text, speaker),
            targets=self._head.joined_targets(texts, self._labels),
            symbols=tuple(UNKNOWN_SYMBOL if symbol is None else symbol for symbol in placed),
            sample_rate_hz=self._rate_hz,
        )


def are_commands(rows: Sequence[Utterance]) -> bool:
    """Whether recordings say single commands, each of them many times, and no whole utterances."""
    counts = Counter(row.text for row in rows if is_word(row.text))
    return counts.total() >= COMMAND_REPETITIONS * max(1, len(counts))
