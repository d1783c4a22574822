"""What each epoch of a training shows, in augmented batches.

Its own recordings, those of other voices that are mixed in, and made silence.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence, Sized
from typing import Any

import numpy as np

from speechrnn.datasets.augment_mixup import Mixup
from speechrnn.datasets.batches import Batch, num_training_batches, training_batches
from speechrnn.datasets.composing import Composer
from speechrnn.datasets.examples import Example
from speechrnn.datasets.sampling import bucketed, draw_from, epoch_order, silence_examples
from speechrnn.datasets.sequences import SequenceConfig
from speechrnn.datasets.waveforms import WaveformAugmentation
from speechrnn.labels import SILENCE, UNKNOWN, Labels
from speechrnn.recipe import Recipe

# First number of a seed: what is drawn with it (3 is silence).
ORDER, BATCH, COMPOSED = 1, 2, 4


class Epochs:
    """The batches of every epoch, decided by the recipe's seed and the epoch's number alone.

    Args:
        recipe: Training and augmentation settings.
        labels: Of the model.
        examples: The recordings that an epoch goes through.
        also: Those that are mixed in, drawn anew for each epoch.
        augmentations: Those of the recipe, prepared.
        compose: The ranges from which utterances are made of the recordings, which are single
            commands then; None shows the recordings themselves.
    """

    def __init__(
        self,
        recipe: Recipe,
        labels: Labels,
        examples: Sequence[Example],
        also: Sequence[Example],
        augmentations: Sequence[Any],
        *,
        compose: SequenceConfig | None = None,
    ) -> None:
        self._config, self._head, self._labels = recipe.train, recipe.model.head, labels
        placed = compose or any(example.guessed for example in (*examples, *also))
        self._layout = recipe.model if placed else None
        self._rate_hz = recipe.model.features.sample_rate_hz
        self._noise_folder = recipe.augment.get("background_noise", {}).get("folder", "")
        self._examples, self._also = examples, also
        self._composers: list[Composer] = []
        if compose:
            self._composers = [
                Composer(found, compose, self._rate_hz, self._head, labels)
                for found in (examples, also)
                if found
            ]
        self._of_waveforms = [a for a in augmentations if isinstance(a, WaveformAugmentation)]
        self._mixup = next((a for a in augmentations if isinstance(a, Mixup)), None)

    def typical(self) -> Sequence[Example]:
        """What an epoch shows before it is augmented, without other voices: for statistics."""
        if not self._composers:
            return self._examples
        composer = self._composers[0]
        return composer.utterances(composer.num_utterances(), (COMPOSED, self._config.seed))

    def num_batches(self) -> int:
        """Batches of an epoch, the same for each."""
        return num_training_batches(len(self._shown(1)[1]), self._config.batch_size)

    def batches(self, epoch: int, *, first: int = 0) -> Iterator[Batch]:
        """An epoch's augmented batches, from number ``first`` on."""
        shown, order = self._shown(epoch)
        return training_batches(
            shown,
            order,
            self._config.batch_size,
            self._rate_hz,
            (BATCH, self._config.seed, epoch),
            self._of_waveforms,
            self._mixup,
            self._layout,
            first=first,
        )

    def _shown(self, epoch: int) -> tuple[Sequence[Example], np.ndarray]:
        """All that there is for an epoch, and which of it in which order."""
        config = self._config
        rng = np.random.default_rng([ORDER, config.seed, epoch])
        examples, order = self._composed(epoch, rng) if self._composers else self._recordings(rng)
        if config.silence_fraction:
            silence = self._silence(examples, order, epoch)
            order = np.concatenate([order, len(examples) + np.arange(len(silence))])
            order, examples = rng.permutation(order), [*examples, *silence]
        num_samples = np.array([example.num_samples for example in examples])
        order = bucketed(
            order, num_samples, config.batch_size, rng, bucket_batches=config.bucket_batches
        )
        return examples, order

    def _recordings(self, rng: np.random.Generator) -> tuple[Sequence[Example], np.ndarray]:
        """The recordings themselves, and those of other voices."""
        config, examples = self._config, self._examples
        unknown = None
        if config.unknown_fraction and UNKNOWN in self._labels.symbols:
            unknown = (self._labels.id_of(UNKNOWN), config.unknown_fraction)
        order = epoch_order(examples, rng, balance=config.class_balance, unknown=unknown)
        if not self._also:
            return examples, order
        drawn = draw_from(len(examples) + np.arange(len(self._also)), self._num_also(order), rng)
        return [*examples, *self._also], rng.permutation(np.concatenate([order, drawn]))

    def _composed(
        self, epoch: int, rng: np.random.Generator
    ) -> tuple[Sequence[Example], np.ndarray]:
        """Utterances put together for this epoch, of each kind of voices by themselves."""
        found: list[Example] = []
        count = self._composers[0].num_utterances()
        for kind, composer in enumerate(self._composers):
            found += composer.utterances(count, (COMPOSED, self._config.seed, epoch, kind))
            count = self._num_also(found)
        return found, rng.permutation(len(found))

    def _num_also(self, own: Sized) -> int:
        """How many recordings of other voices make up their part of an epoch."""
        fraction = self._config.also_fraction
        return round(len(own) * fraction / (1 - fraction))

    def _silence(self, examples: Sequence[Example], order: np.ndarray, epoch: int) -> list[Example]:
        """Made silence for an epoch, as long as the recordings are."""
        fraction = self._config.silence_fraction
        count = round(len(order) * fraction / (1 - fraction))
        lengths = [examples[i].num_samples for i in order[:count]]
        return silence_examples(
            [lengths[i % len(lengths)] for i in range(count)],
            self._rate_hz,
            self._head.targets(SILENCE, self._labels),
            seed=(self._config.seed, epoch),
            folder=self._noise_folder,
        )
