"""Recordings -> bundle: one recipe, seeded, saved whenever validation improves."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from speechrnn.bundle import check_output, save_bundle
from speechrnn.datasets.augment import WaveformAugmentation, augmentations_from_mapping
from speechrnn.datasets.augment_mel import change_log_mel
from speechrnn.datasets.batches import (
    Example,
    evaluation_batches,
    make_examples,
    num_training_batches,
    prefetch,
    row_targets,
    training_batches,
)
from speechrnn.datasets.manifest import Utterance, check_disjoint
from speechrnn.datasets.reading import load_waveforms
from speechrnn.errors import AudioError, DataError
from speechrnn.labels import Labels
from speechrnn.model import ModelConfig, SpeechModel, build_model
from speechrnn.optimizer import (
    WeightAverage,
    assign_weights,
    make_optimizer,
    trainable_weights,
)
from speechrnn.progress import progress
from speechrnn.recipe import Recipe

EVALUATION_BATCH = 128
# Recordings whose frames decide the stored means and deviations; more change them by under 1 %.
STATISTICS_EXAMPLES = 1000


@dataclass(frozen=True)
class TrainResult:
    """What a training left behind; ``left_out`` are the recordings that could not be read."""

    bundle: Path
    val_accuracy: float
    best_epoch: int
    epochs_done: int
    seconds: float
    interrupted: bool
    left_out: tuple[AudioError, ...] = ()


def train_model(
    recipe: Recipe,
    train_rows: Sequence[Utterance],
    val_rows: Sequence[Utterance],
    out: Path,
    *,
    data_name: str,
    val_name: str,
    skip_broken: bool = False,
) -> TrainResult:
    """Train a model and keep the epoch that recognises the validation recordings best.

    The bundle is saved after every epoch that improves, so that Ctrl-C, or worse, loses at most
    what came after the last one.

    Args:
        recipe: Model, training and augmentation settings.
        train_rows: Recordings to learn from.
        val_rows: Recordings of other speakers to choose the epoch by.
        out: The bundle to write.
        data_name: What the training data is called in the bundle.
        val_name: What the validation data is called in the bundle.
        skip_broken: Whether unreadable recordings are left out instead of refused.

    Raises:
        DataError: Unusable recordings, a shared speaker, a single label.
        OutputError: ``out`` cannot be written.
    """
    check_output(out)
    check_disjoint(train_rows, val_rows)
    labels = Labels.from_texts(row.text for row in train_rows)
    if len(labels) < 2:
        raise DataError(f"{data_name}: holds only the label {labels.symbols[0]!r}, expected two")
    for row in [*train_rows, *val_rows]:  # before minutes of reading
        row_targets(row, labels, recipe.model.head)
    train_examples, left_out = _load(train_rows, labels, recipe.model, skip_broken, "train")
    val_examples, left_out_of_val = _load(val_rows, labels, recipe.model, skip_broken, "val")
    session = _Session(recipe, labels, train_examples, val_examples, out)
    session.description = {
        "data": data_name,
        "val_data": val_name,
        "utterances": len(train_examples),
        "speakers": len({example.row.speaker for example in train_examples}),
        "seed": recipe.train.seed,
        "recipe": recipe.to_mapping(),
    }
    result = session.run()
    return dataclasses.replace(result, left_out=(*left_out, *left_out_of_val))


class _Session:
    """One training: its model, its optimiser, and what it has found so far."""

    def __init__(
        self,
        recipe: Recipe,
        labels: Labels,
        train_examples: Sequence[Example],
        val_examples: Sequence[Example],
        out: Path,
    ) -> None:
        self.recipe, self.config, self.out = recipe, recipe.train, out
        self.rate_hz = recipe.model.features.sample_rate_hz
        self.train_examples, self.val_examples = train_examples, val_examples
        self.description: dict[str, Any] = {}
        self.log: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.model = build_model(recipe.model, labels, seed=self.config.seed)
        if recipe.model.features.normalisation == "training":
            self.model.front_end.set_statistics(*feature_statistics(self.model, train_examples))
        augmentations = augmentations_from_mapping(recipe.augment)
        self.waveform_augmentations = [
            a for a in augmentations if isinstance(a, WaveformAugmentation)
        ]
        self.model.change_log_mel = change_log_mel(augmentations, recipe.model.features.hop_ms)
        steps = num_training_batches(len(train_examples), self.config.batch_size)
        optimizer = make_optimizer(self.config, steps * self.config.epochs)
        # XLA makes TensorFlow's recurrent loops slower; JAX without it would not compile at all.
        jit_compile = False if keras.backend.backend() == "tensorflow" else "auto"
        self.model.compile(optimizer=optimizer, jit_compile=jit_compile)
        self.average = WeightAverage(self.model, self.config.weight_average)

    def run(self) -> TrainResult:
        started, interrupted = time.perf_counter(), False
        steps = num_training_batches(len(self.train_examples), self.config.batch_size)
        bar = progress(None, "training", unit="step", total=steps * self.config.epochs)
        try:
            for epoch in range(1, self.config.epochs + 1):
                self._epoch(epoch, bar)
        except KeyboardInterrupt:
            interrupted = True
            if not self.best:  # not even one epoch: keep what there is
                self._validate_and_save({"epoch": 0})
        finally:
            bar.close()
        self._save(finished=not interrupted)
        return TrainResult(
            bundle=self.out,
            val_accuracy=self.best["metrics"]["accuracy"],
            best_epoch=self.best["epoch"],
            epochs_done=len(self.log),
            seconds=time.perf_counter() - started,
            interrupted=interrupted,
        )

    def _epoch(self, epoch: int, bar: Any) -> None:
        started = time.perf_counter()
        rng = np.random.default_rng([self.config.seed, epoch])
        batches = training_batches(
            self.train_examples,
            self.config.batch_size,
            self.rate_hz,
            rng,
            self.waveform_augmentations,
        )
        seen: list[dict[str, float]] = []
        clips = 0
        for batch in prefetch(batches):
            clips += len(batch.x["num_samples"])
            seen.append(self.model.train_on_batch(batch.x, batch.y, return_dict=True))
            if not math.isfinite(seen[-1]["loss"]):
                raise DataError(
                    f"the loss became {seen[-1]['loss']} in epoch {epoch}; expected a number; "
                    "lower train.learning_rate, or keep train.gradient_clip_norm at 1"
                )
            self.average.update()
            bar.update()
        seconds = time.perf_counter() - started
        entry = {
            "epoch": epoch,
            "loss": round(float(np.mean([step["loss"] for step in seen])), 5),
            "accuracy": round(float(np.mean([step["accuracy"] for step in seen])), 5),
            "seconds": round(seconds, 2),
            "clips_per_second": round(clips / seconds, 1),
        }
        self._validate_and_save(entry)
        best = self.best["metrics"]["accuracy"]
        bar.set_postfix_str(
            f"epoch {epoch}/{self.config.epochs}, loss {entry['loss']:.3f}, "
            f"val {100 * self.log[-1]['val_accuracy']:.1f} % (best {100 * best:.1f} %)"
        )

    def _validate_and_save(self, entry: dict[str, Any]) -> None:
        """Evaluate the averaged weights, and save them if they are the best so far."""
        with self.average.applied():
            metrics = evaluate_examples(self.model, self.val_examples)
            self.log.append(
                {**entry, "val_loss": metrics["loss"], "val_accuracy": metrics["accuracy"]}
            )
            key = (metrics["accuracy"], -metrics["loss"])
            if not self.best or key > self.best["key"]:
                weights = trainable_weights(self.model)
                self.best = {
                    "epoch": entry["epoch"],
                    "metrics": metrics,
                    "key": key,
                    "weights": weights,
                }
                self._save(finished=False)

    def _save(self, *, finished: bool) -> None:
        """Write the best weights so far as the bundle."""
        kept = trainable_weights(self.model)
        assign_weights(self.model, self.best["weights"])
        save_bundle(
            self.out,
            self.model,
            training={
                **self.description,
                "epochs_done": len(self.log),
                "best_epoch": self.best["epoch"],
                "finished": finished,
            },
            metrics={"val": {**self.best["metrics"], "data": self.description["val_data"]}},
            log=self.log,
        )
        assign_weights(self.model, kept)


def feature_statistics(
    model: SpeechModel, examples: Sequence[Example]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each value of a true frame, float32 ``[features]``.

    Taken from at most ``STATISTICS_EXAMPLES`` recordings, spread evenly over all.
    """
    config = model.config.features
    chosen = examples[:: -(-len(examples) // STATISTICS_EXAMPLES)]
    total, squares, count = np.zeros(config.num_features), np.zeros(config.num_features), 0
    for batch in evaluation_batches(chosen, EVALUATION_BATCH, config.sample_rate_hz):
        frames = ops.convert_to_numpy(
            model.front_end.unnormalised(batch.x["waveform"], batch.x["num_samples"])
        )
        for row, num_samples in zip(frames, batch.x["num_samples"], strict=True):
            true = np.asarray(row[: config.num_frames(int(num_samples))], np.float64)
            total += true.sum(axis=0)
            squares += np.square(true).sum(axis=0)
            count += len(true)
    mean = total / count
    return mean.astype(np.float32), np.sqrt(squares / count - mean**2).astype(np.float32)


def evaluate_examples(model: SpeechModel, examples: Sequence[Example]) -> dict[str, Any]:
    """Accuracy and mean loss over examples, each counted once."""
    correct = loss = 0.0
    rate_hz = model.config.features.sample_rate_hz
    for batch in evaluation_batches(examples, EVALUATION_BATCH, rate_hz):
        found = model.test_on_batch(batch.x, batch.y, return_dict=True)
        size = len(batch.x["num_samples"])
        correct += found["accuracy"] * size
        loss += found["loss"] * size
    return {
        "accuracy": round(correct / len(examples), 6),
        "loss": round(loss / len(examples), 6),
        "utterances": len(examples),
        "speakers": len({example.row.speaker for example in examples}),
    }


def _load(
    rows: Sequence[Utterance], labels: Labels, config: ModelConfig, skip_broken: bool, name: str
) -> tuple[list[Example], list[AudioError]]:
    """The readable rows as examples, and the errors of the others."""
    loaded, broken = load_waveforms(
        rows,
        config.features.sample_rate_hz,
        config.features.window_length,
        skip_broken=skip_broken,
        purpose=f"reading {name}",
    )
    return make_examples(loaded, labels, config.head), broken
