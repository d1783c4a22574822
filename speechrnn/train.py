"""Recordings -> bundle: one recipe, seeded, saved whenever validation improves."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops

from speechrnn.bundle import check_output, save_bundle
from speechrnn.calibrate import model_decision
from speechrnn.checkpoint import Checkpoint, checkpoint_path, load_checkpoint, save_checkpoint
from speechrnn.datasets.augment import augmentations_from_mapping, prepare_augmentations
from speechrnn.datasets.augment_mel import change_log_mel
from speechrnn.datasets.batches import prefetch
from speechrnn.datasets.examples import Example
from speechrnn.datasets.manifest import Utterance
from speechrnn.decoding import Decision
from speechrnn.distillation import Teachers, imitation_loss, load_teachers
from speechrnn.encoders.truncation import truncate
from speechrnn.epochs import Epochs
from speechrnn.errors import AudioError, DataError
from speechrnn.gradient_monitor import GradientMonitor
from speechrnn.model import build_model
from speechrnn.optimizer import (
    WeightAverage,
    learnt_weights,
    make_optimizer,
    swapped_weights,
)
from speechrnn.progress import progress
from speechrnn.recipe import Recipe
from speechrnn.spread import evenly
from speechrnn.tensorboard import TensorBoardLog
from speechrnn.training_data import TrainingData, fingerprint, read_training_data
from speechrnn.validation import evaluate_examples, feature_statistics

# Validation recordings that confidences are fitted on, all in memory at once.
CALIBRATION_EXAMPLES = 4000
# Settings that change no weight.
IRRELEVANT = ("checkpoint_s", "memory_mb", "gradient_flow_steps")


@dataclass(frozen=True)
class TrainResult:
    """What a training left behind.

    ``learnt_from`` recordings were single commands, ``composed`` to utterances, or whole; those
    in ``left_out`` could not be read.
    """

    bundle: Path
    val_accuracy: float
    val_utterances: int
    learnt_from: int
    composed: bool
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
    also_rows: Sequence[Utterance] = (),
    data_name: str,
    val_name: str,
    skip_broken: bool = False,
    resume: bool = False,
    tensorboard: Path | None = None,
    teachers: Sequence[Path] = (),
) -> TrainResult:
    """Train a model and keep the epoch that recognises the validation recordings best.

    The bundle is saved after every validation that improves. Beside it lies a checkpoint until
    the training is finished: ``resume`` goes on from there to the same bundle, bit for bit but for
    the seconds in its log, as if nothing had come between.

    Args:
        recipe: Model, training and augmentation settings.
        train_rows: Recordings to learn from.
        val_rows: Recordings of other speakers to choose the epoch by.
        out: The bundle to write.
        also_rows: Recordings of other voices to mix in, as ``also_fraction`` of each epoch.
        data_name: What the training data is called in the bundle.
        val_name: What the validation data is called in the bundle.
        skip_broken: Whether unreadable recordings are left out instead of refused.
        resume: Whether to go on from the checkpoint beside ``out``.
        tensorboard: Folder for the curves as TensorBoard reads them.
        teachers: Bundles of the same labels to learn from as well (``teacher_weight``).

    Raises:
        DataError: Unusable recordings, a shared speaker, a single label.
        ConfigError: The checkpoint is of another recipe or of other data, ``also_fraction`` leaves
            nothing for what is mixed in, or a teacher is none for this.
        ModelError: There is no checkpoint to resume from, or it is damaged.
        OutputError: ``out`` cannot be written.
    """
    check_output(out)
    data = read_training_data(
        recipe, train_rows, val_rows, also_rows, data_name=data_name, skip_broken=skip_broken
    )
    session = _Session(recipe, data, out)
    if teachers:
        session.teachers = load_teachers(teachers, recipe.model, data.labels)
    session.description = {
        "data": data_name,
        "val_data": val_name,
        "utterances": len(data.train),
        "composed": data.compose is not None,
        "data_fingerprint": fingerprint(data.train),
        "mixed_in": len(data.also),
        "speakers": len({example.row.speaker for example in data.train} - {""}),
        "clip_s": _usual_lengths_s(data.train, recipe.model.features.sample_rate_hz),
        "seed": recipe.train.seed,
        "recipe": _public(recipe.to_mapping()),
        **({"teachers": list(session.teachers.sha256)} if session.teachers else {}),
    }
    session.build()
    if resume:
        session.restore()
    else:
        checkpoint_path(out).unlink(missing_ok=True)  # of an earlier training
    if tensorboard:
        session.tensorboard = TensorBoardLog(tensorboard)
    return dataclasses.replace(session.run(), left_out=data.left_out)


class _Session:
    """One training: its model, its optimiser, and what it has found so far."""

    def __init__(self, recipe: Recipe, data: TrainingData, out: Path) -> None:
        self.recipe, self.config, self.data, self.out = recipe, recipe.train, data, out
        self.augmentations = augmentations_from_mapping(recipe.augment)
        prepare_augmentations(self.augmentations, recipe.model.features.sample_rate_hz)
        self.description: dict[str, Any] = {}
        self.tensorboard: TensorBoardLog | None = None
        self.teachers: Teachers | None = None
        # Where the training stands; all of it is in the checkpoint.
        self.epoch, self.step, self.sums = 1, 0, _no_sums()
        self.log: list[dict[str, Any]] = []
        self.best: dict[str, Any] = {}
        self.best_weights: list[np.ndarray] = []

    def build(self) -> None:
        """The model with its first weights, the optimiser, and the plan."""
        self.shown = Epochs(
            self.recipe,
            self.data.labels,
            self.data.train,
            self.data.also,
            self.augmentations,
            compose=self.data.compose,
        )
        self.epoch_steps = self.shown.num_batches()
        self.epochs = self.config.epochs or max(1, round(self.config.steps / self.epoch_steps))
        self.model = build_model(self.recipe.model, self.data.labels, seed=self.config.seed)
        features = self.recipe.model.features
        if features.normalisation == "training":
            statistics = feature_statistics(self.model, self.shown.typical())
            self.model.front_end.set_statistics(*statistics)
        self.model.change_log_mel = change_log_mel(self.augmentations, features.hop_ms)
        if self.teachers:
            self.model.imitate, self.model.imitation = self._imitate, self.config.teacher_weight
        self.model.training_steps = self.epoch_steps * self.epochs
        optimizer = make_optimizer(self.config, self.model.training_steps)
        if self.config.truncation_s:
            step_s = self.model.config.clock.step_s
            truncate(self.model.encoder, math.ceil(self.config.truncation_s / step_s))
        # XLA makes TensorFlow's recurrent loops slower; JAX without it would not compile at all.
        jit_compile = False if keras.backend.backend() == "tensorflow" else "auto"
        self.model.compile(optimizer=optimizer, jit_compile=jit_compile)
        optimizer.build(self.model.trainable_variables)
        self.average = WeightAverage(self.model, self.config.weight_average)
        self.monitor = GradientMonitor(self.model, self.config, self.data.val)
        self.identity = self._identity()

    def _imitate(self, inputs: Any, logits: Any) -> Any:
        assert self.teachers is not None
        wanted = self.teachers.logits(inputs)
        return imitation_loss(logits, wanted, self.config.teacher_temperature)

    def run(self) -> TrainResult:
        started, interrupted = time.perf_counter(), False
        self.saved_at = started
        total = self.epoch_steps * self.epochs
        done = self.epoch_steps * (self.epoch - 1) + self.step
        bar = progress(None, "training", unit="step", total=total, initial=done)
        try:
            while self.epoch <= self.epochs and not self._is_stuck():
                self._run_epoch(bar)
        except KeyboardInterrupt:
            interrupted = True  # in the middle of a step: the last checkpoint is what is whole
            if not self.best:  # not even one epoch: keep what there is
                self._validate_and_save({"epoch": 0})
        finally:
            bar.close()
            if self.tensorboard:
                self.tensorboard.close()
        self._save(finished=not interrupted)
        if not interrupted:
            checkpoint_path(self.out).unlink(missing_ok=True)
        return TrainResult(
            bundle=self.out,
            val_accuracy=self.best["metrics"]["accuracy"],
            val_utterances=len(self.data.val),
            learnt_from=len(self.data.train),
            composed=self.data.compose is not None,
            best_epoch=self.best["epoch"],
            epochs_done=len(self.log),
            seconds=time.perf_counter() - started,
            interrupted=interrupted,
        )

    def _is_stuck(self) -> bool:
        """Whether the best validation, kept or not, is as far back as the patience goes."""
        validated = [
            (entry["val_accuracy"], -entry["val_loss"]) for entry in self.log if "val_loss" in entry
        ]
        since = len(validated) - 1 - validated.index(max(validated)) if validated else 0
        return bool(self.config.patience) and since >= self.config.patience

    def _run_epoch(self, bar: Any) -> None:
        started = time.perf_counter()
        for batch in prefetch(self.shown.batches(self.epoch, first=self.step)):
            found = self.model.train_on_batch(batch.x, batch.y, return_dict=True)
            if not math.isfinite(found["loss"]):
                raise DataError(
                    f"the loss became {found['loss']} in epoch {self.epoch}; expected a number; "
                    "lower train.learning_rate, or keep train.gradient_clip_norm at 1"
                )
            self.average.update()
            self.step += 1
            self.sums["loss"] += found["loss"]
            self.sums["accuracy"] += found["accuracy"]
            self.sums["clips"] += len(batch.x["num_samples"])
            self.sums["samples"] += int(batch.x["num_samples"].sum())
            self.sums["room"] += batch.x["waveform"].size
            bar.update()
            if time.perf_counter() - self.saved_at >= self.config.checkpoint_s:
                self.sums["seconds"] += time.perf_counter() - started
                started = time.perf_counter()
                self._save_checkpoint()
        self.sums["seconds"] += time.perf_counter() - started
        self._end_epoch(bar)

    def _end_epoch(self, bar: Any) -> None:
        sums, epoch = self.sums, self.epoch
        entry = {
            "epoch": epoch,
            "loss": round(sums["loss"] / self.step, 5),
            "accuracy": round(sums["accuracy"] / self.step, 5),
            "learning_rate": float(f"{float(self.model.optimizer.learning_rate):.4g}"),
            "seconds": round(sums["seconds"], 2),
            "clips_per_second": round(sums["clips"] / sums["seconds"], 1),
            "padding": round(1 - sums["samples"] / sums["room"], 4),
        }
        self.epoch, self.step, self.sums = epoch + 1, 0, _no_sums()
        wanted = min(self.config.validations, self.epochs)
        # And after the first one, so that there is a bundle soon.
        if epoch == 1 or epoch * wanted // self.epochs > (epoch - 1) * wanted // self.epochs:
            self._validate_and_save(entry)
        else:
            self.log.append(entry)
        if self.tensorboard:
            self.tensorboard.add(self.log[-1])
        if warning := self.monitor.warning(self.log):
            bar.write(f"speechrnn train: warning: {warning}", file=sys.stderr)
        validated = [entry["val_accuracy"] for entry in self.log if "val_accuracy" in entry]
        if validated:
            bar.set_postfix_str(
                f"epoch {epoch}/{self.epochs}, loss {entry['loss']:.3f}, "
                f"val {100 * validated[-1]:.1f} % (best {100 * max(validated):.1f} %)"
            )

    def _validate_and_save(self, entry: dict[str, Any]) -> None:
        """Evaluate the averaged weights, and save them if they are the ones to keep."""
        with self.average.applied():
            metrics = evaluate_examples(self.model, self.data.val)
            self.log.append(
                {
                    **entry,
                    "val_loss": metrics["loss"],
                    "val_accuracy": metrics["accuracy"],
                    **self.monitor.measured(self.log, entry["epoch"], self.epoch_steps),
                }
            )
            if self.config.keep == "last" or _is_better(metrics, self.best.get("metrics")):
                weights = learnt_weights(self.model)  # copied first: Ctrl-C may come between
                self.best = {"epoch": entry["epoch"], "metrics": metrics}
                self.best_weights = weights
                self._save_bundle(finished=False)

    def _save(self, *, finished: bool) -> None:
        """Write the weights to keep as the bundle, with honest confidences."""
        with swapped_weights(self.model, self.best_weights):
            chosen = evenly(self.data.val, CALIBRATION_EXAMPLES)
            waveforms = [example.waveform for example in chosen]
            texts = [example.row.text for example in chosen]
            rate_hz = self.model.config.features.sample_rate_hz
            places = [
                [(start / rate_hz, end / rate_hz) for start, end, _ in example.spans or ()]
                for example in chosen
            ]
            decision = model_decision(self.model, waveforms, texts, places)
            self.model.temperature = decision.temperature
            self._save_bundle(finished=finished, decision=decision)

    def _save_bundle(self, *, finished: bool, decision: Decision | None = None) -> None:
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
            decision=decision,
        )

    def _identity(self) -> dict[str, Any]:
        """What must be the same for a training to go on where another stopped."""
        recipe = self.recipe.to_mapping()
        for name in IRRELEVANT:
            del recipe["train"][name]
        return {
            **recipe,
            "labels": list(self.data.labels.symbols),
            "training recordings": fingerprint(self.data.train),
            "validation recordings": fingerprint(self.data.val),
            "recordings mixed in": fingerprint(self.data.also),
            "keras backend": keras.backend.backend(),
            **({"teachers": list(self.teachers.sha256)} if self.teachers else {}),
        }

    def _save_checkpoint(self) -> None:
        groups = {
            "model": [ops.convert_to_numpy(v) for v in self.model.variables],
            "optimizer": [ops.convert_to_numpy(v) for v in self.model.optimizer.variables],
            "average": self.average.weights,
            "best": self.best_weights,
        }
        arrays = {
            f"{group}/{i}": array
            for group, found in groups.items()
            for i, array in enumerate(found)
        }
        progress_made = {
            "epoch": self.epoch,
            "step": self.step,
            "sums": self.sums,
            "log": self.log,
            "best": self.best,
            "average_updates": self.average.updates,
        }
        checkpoint = Checkpoint(self.identity, progress_made, arrays)
        save_checkpoint(checkpoint_path(self.out), checkpoint)
        self.saved_at = time.perf_counter()

    def restore(self) -> None:
        """Stand where the checkpoint stood."""
        found = load_checkpoint(checkpoint_path(self.out), self.identity)
        for group, variables in (
            ("model", self.model.variables),
            ("optimizer", self.model.optimizer.variables),
        ):
            for i, variable in enumerate(variables):
                variable.assign(found.arrays[f"{group}/{i}"])
        weights = len(self.model.learnt_variables)
        self.average.weights = [found.arrays[f"average/{i}"] for i in range(weights)]
        self.average.updates = found.progress["average_updates"]
        self.epoch, self.step = found.progress["epoch"], found.progress["step"]
        self.sums = {**_no_sums(), **found.progress["sums"]}
        self.log = found.progress["log"]
        self.best = found.progress["best"]
        if self.best:
            self.best_weights = [found.arrays[f"best/{i}"] for i in range(weights)]


def _usual_lengths_s(examples: Sequence[Example], rate_hz: int) -> list[float]:
    """Between which lengths nine of ten recordings lie."""
    lengths = [example.num_samples / rate_hz for example in examples]
    return [round(float(length), 3) for length in np.percentile(lengths, [5, 95])]


def _public(recipe: dict[str, Any]) -> dict[str, Any]:
    """A recipe without where folders lie here: a model is passed on."""
    augment = {
        name: {**settings, "folder": Path(settings["folder"]).name}
        if settings.get("folder")
        else settings
        for name, settings in recipe["augment"].items()
    }
    return {**recipe, "augment": augment}


def _is_better(metrics: dict[str, float], best: dict[str, float] | None) -> bool:
    """More accurate, or as accurate with less loss."""
    if best is None:
        return True
    return (metrics["accuracy"], -metrics["loss"]) > (best["accuracy"], -best["loss"])


def _no_sums() -> dict[str, float]:
    return {"loss": 0.0, "accuracy": 0.0, "clips": 0, "seconds": 0.0, "samples": 0, "room": 0}
