"""Rows -> everything that a training learns from and is measured on, read and checked."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from speechrnn.datasets.composing import Composer, are_commands
from speechrnn.datasets.examples import Example, HeldExample, load_examples, row_targets
from speechrnn.datasets.flat_start import even_spans
from speechrnn.datasets.manifest import Utterance, check_disjoint, is_word
from speechrnn.datasets.sequences import SequenceConfig, check_speaker, trimmed
from speechrnn.decoding.align import least_steps
from speechrnn.errors import AudioError, ConfigError, DataError, LabelError
from speechrnn.heads import Head
from speechrnn.labels import SILENCE, Labels
from speechrnn.recipe import Recipe

# Utterances that are put together for validation, the same for every seed of a training.
MOST_VALIDATION_UTTERANCES, VALIDATION_SEED = 500, (5,)


@dataclass(frozen=True)
class TrainingData:
    """Recordings with their targets.

    Attributes:
        labels: The model's symbols.
        train: What to learn from: commands to make utterances of, where ``compose`` is given.
        val: Other speakers.
        also: Other voices, mixed in.
        compose: The ranges from which utterances are made; None: recordings as they are.
        left_out: The recordings that could not be read.
    """

    labels: Labels
    train: list[Example]
    val: list[Example]
    also: list[Example]
    compose: SequenceConfig | None
    left_out: tuple[AudioError, ...]


def read_training_data(
    recipe: Recipe,
    train_rows: Sequence[Utterance],
    val_rows: Sequence[Utterance],
    also_rows: Sequence[Utterance],
    *,
    data_name: str,
    skip_broken: bool = False,
) -> TrainingData:
    """Read all recordings; everything that rows alone can show is checked before that.

    Where the recipe has ``sequences`` and the recordings are single commands, utterances are made
    of them; whole utterances are taken as they are.

    Raises:
        DataError: Unusable recordings, a shared speaker, a single label, recordings too short for
            what they say.
        LabelError: A text that the labels do not spell.
        ConfigError: ``also_fraction`` leaves nothing for what is mixed in.
    """
    check_disjoint(train_rows, val_rows)
    if also_rows:
        check_disjoint(also_rows, val_rows, name="what is mixed in (--also)")
        if not recipe.train.also_fraction:
            raise ConfigError(
                "train.also_fraction: got 0, so what is mixed in (--also) would never be heard; "
                "expected more, or leave --also out"
            )
    head, commands = recipe.model.head, _says_commands(recipe, train_rows)
    compose = recipe.sequences if commands else None
    compose_val = compose if _says_commands(recipe, val_rows) else None
    if compose:
        _check_composing(recipe)
    parts = [
        _Part("train", train_rows, compose),
        _Part("val", val_rows, compose_val),
        _Part("also", also_rows, compose),
    ]
    labels = labels_of(recipe, train_rows)
    if head.num_columns(labels) < 2:
        raise DataError(
            f"{data_name}: holds only the label {', '.join(labels.symbols)!r}, expected two"
        )
    for part in parts:
        for row in part.rows:  # before minutes of reading
            row_targets(row, labels, head)
            if part.compose:
                check_speaker(row)
                _check_command(row, labels, recipe.model.head)
    found, left_out = _read(recipe, labels, parts, skip_broken)
    train, val, also = found
    if compose_val:
        composer = Composer(val, compose_val, recipe.model.features.sample_rate_hz, head, labels)
        count = min(MOST_VALIDATION_UTTERANCES, max(composer.num_utterances(), len(val)))
        val = composer.utterances(count, VALIDATION_SEED)
    return TrainingData(labels, train, val, also, compose, tuple(left_out))


def labels_of(recipe: Recipe, rows: Sequence[Utterance]) -> Labels:
    """The labels of a model that is trained on these rows."""
    made = (SILENCE,) if recipe.train.silence_fraction else ()
    texts = [*(row.text for row in rows), *made]
    return recipe.model.head.labels(texts, commands=_says_commands(recipe, rows))


def _says_commands(recipe: Recipe, rows: Sequence[Utterance]) -> bool:
    """Whether each recording says one command."""
    said = recipe.train.recordings
    return are_commands(rows) if said == "auto" else said == "commands"


def _check_composing(recipe: Recipe) -> None:
    """Refuse what would have no effect on utterances that are put together."""
    for name in ("class_balance", "unknown_fraction"):
        value = getattr(recipe.train, name)
        if value:
            raise ConfigError(
                f"train.{name}: got {value:g}, which changes nothing where utterances are put "
                "together of single commands; expected 0"
            )


class _Part:
    """Rows of one purpose; of commands that utterances are made of only those that say a word."""

    def __init__(
        self, name: str, rows: Sequence[Utterance], compose: SequenceConfig | None
    ) -> None:
        self.name, self.compose = name, compose
        self.rows = [row for row in rows if is_word(row.text)] if compose else list(rows)


def _read(
    recipe: Recipe, labels: Labels, parts: Sequence[_Part], skip_broken: bool
) -> tuple[list[list[Example]], list[AudioError]]:
    """The examples of each part, within one budget of memory, and what could not be read."""
    model, memory_mb = recipe.model, recipe.train.memory_mb
    guessed = getattr(model.head, "flat_start", 0.0) > 0
    rate_hz = model.features.sample_rate_hz

    def cut(waveform: np.ndarray) -> np.ndarray:
        return trimmed(waveform, rate_hz)

    found: list[list[Example]] = []
    left_out: list[AudioError] = []
    for part in parts:
        examples, errors = load_examples(
            part.rows,
            labels,
            model.head,
            rate_hz,
            model.features.window_length,
            memory_mb=memory_mb,
            prepare=cut if part.compose else None,
            guess=even_spans if guessed and part.name != "val" and not part.compose else None,
            skip_broken=skip_broken,
            purpose=f"reading {part.name}",
        )
        if part.compose:
            silent = [example for example in examples if not example.num_samples]
            left_out += [
                AudioError(example.row.path, "holds nothing but zeros, expected a command")
                for example in silent
            ]
            if silent and not skip_broken:
                raise DataError(
                    f"{left_out[-1]}; {len(silent)} such recordings; remove them, or pass "
                    "--skip-broken"
                )
            examples = [example for example in examples if example.num_samples]
        else:  # an utterance that is made has room around its words
            _check_steps(recipe, examples)
        found.append(examples)
        left_out += errors
        held = (e.waveform.nbytes for e in examples if isinstance(e, HeldExample))
        memory_mb = max(0.0, memory_mb - sum(held) / 1e6)
    return found, left_out


def _check_command(row: Utterance, labels: Labels, head: Head) -> None:
    """Refuse a whole utterance among the commands that utterances are made of."""
    try:
        head.placed(row.text, labels)
    except LabelError as error:
        raise DataError(
            f"{row.path}: says {row.text!r}, which is no single command, but utterances are made "
            "of single ones; give whole utterances alone, or leave them out"
        ) from error


def _check_steps(recipe: Recipe, examples: Sequence[Example]) -> None:
    """Refuse recordings that are too short for what they are to say."""
    short = [
        f"{example.row.path}: {steps} steps for {least} symbols"
        for example in examples
        if (least := least_steps(example.targets))
        > (steps := recipe.model.num_steps(example.num_samples))
    ]
    if short:
        raise DataError(
            f"{len(short)} recordings are too short for their text ({'; '.join(short[:3])}); "
            "correct the text, leave them out, or use an encoder with more steps a second"
        )


def fingerprint(examples: Sequence[Example]) -> str:
    """16 hexadecimal digits of names, texts, speakers and lengths."""
    lines = [
        [example.row.path.name, example.row.text, example.row.speaker, example.num_samples]
        for example in examples
    ]
    return hashlib.sha256(json.dumps(lines).encode()).hexdigest()[:16]
