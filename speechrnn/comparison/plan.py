"""What is compared: data, recipe, seeds, and encoders brought to one budget."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from speechrnn.checkpoint import differences
from speechrnn.comparison.budget import (
    COUNTED,
    Match,
    count_parameters,
    counter,
    describe_size,
    fitted,
    size_settings,
)
from speechrnn.config import apply_overrides, toml_text
from speechrnn.encoders import ENCODERS, Encoder
from speechrnn.errors import ConfigError, OutputError, SpeechRNNError
from speechrnn.files import check_place, json_text, write_atomically
from speechrnn.labels import Labels
from speechrnn.recipe import Recipe

PLAN = "plan.json"
FORMAT_VERSION = 1


@dataclass(frozen=True)
class Contender:
    """An encoder of the comparison.

    Attributes:
        name: The encoder's.
        settings: What it was given, before its size was looked for.
        encoder: The section of its recipe; None where no size keeps to the budget.
        size: ``units=112``: what was found.
        parameters: Of the whole model.
        error: Why it takes no part.
    """

    name: str
    settings: dict[str, Any]
    encoder: dict[str, Any] | None = None
    size: str = ""
    parameters: int | None = None
    error: str | None = None


@dataclass(frozen=True)
class Question:
    """What a person asks for.

    Attributes:
        train: Manifest or folder to learn from, all of it.
        val: Manifest or folder to be measured on, all of it.
        names: What the two are called in the results.
        hashes: Of the recordings of the two.
        recipe: What all share; its encoder decides the budget where ``parameters`` is None.
        encoders: Names of encoders.
        seeds: Of the trainings of each.
        match: What is equal.
        parameters: The budget of parameters.
        own: Overrides of one encoder's settings, by its name: ``{"gru": ["num_layers=3"]}``.
    """

    train: str
    val: str
    names: tuple[str, str]
    hashes: tuple[str, str]
    recipe: Recipe
    encoders: tuple[str, ...]
    seeds: tuple[int, ...]
    match: Match = "parameters"
    parameters: int | None = None
    own: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def identity(self) -> dict[str, Any]:
        """What must be the same for a comparison to go on; encoders and seeds may be added."""
        recipe = self.recipe.to_mapping()
        del recipe["train"]["seed"]
        return {
            "training recordings": self.hashes[0],
            "validation recordings": self.hashes[1],
            "match": self.match,
            "params": self.parameters,
            "recipe": recipe,
        }


@dataclass(frozen=True)
class Plan:
    """Where everything of a comparison lies, and what is in it."""

    folder: Path
    question: Question
    budget: int
    contenders: tuple[Contender, ...]

    def recipe_file(self, encoder: str) -> Path:
        """The recipe of an encoder."""
        return self.folder / "recipes" / f"{encoder}.toml"

    def cell(self, encoder: str, seed: int) -> Path:
        """The folder of an encoder with a seed."""
        return self.folder / "cells" / f"{encoder}-{seed}"

    def file(self, encoder: str, kind: str) -> Path:
        """An exported file."""
        return self.folder / "files" / f"{encoder}-{kind}.tflite"


def check_folder(folder: Path) -> None:
    """Refuse a place that holds something else, or where nothing can be written.

    Raises:
        OutputError: Says so.
    """
    try:
        # A lock is all that a comparison leaves which was stopped before it had a plan.
        others = [entry for entry in folder.iterdir() if not entry.name.startswith(".")]
    except FileNotFoundError:
        others = []
    except OSError as error:
        raise OutputError(f"{folder}: cannot be used ({error.strerror})") from error
    if others and not (folder / PLAN).is_file():
        raise OutputError(
            f"{folder}: exists and holds no comparison, expected a new or an empty folder"
        )
    check_place(folder / PLAN)


def make_plan(
    question: Question,
    folder: Path,
    labels: Labels,
    *,
    retry_errors: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> Plan:
    """Bring every encoder to the budget, but for those that the folder knows the size of.

    Args:
        question: What is compared.
        folder: Where it lies; made where there is none.
        labels: Of the models.
        retry_errors: Whether sizes that were not found are looked for again.
        tell: Told what is looked for, for it takes a while.

    Raises:
        ConfigError: The folder holds another comparison, a setting that an encoder does not know,
            or not one of the encoders keeps to the budget.
        OutputError: The folder cannot be written.
    """
    known = _read(folder, question)
    unsized = {name: unsized_encoder(question, name) for name in question.encoders}
    kept = {
        name: contender
        for name, contender in known.get("encoders", {}).items()
        if not (retry_errors and contender["error"])
    }
    for name, encoder in unsized.items():
        settings = ENCODERS.to_mapping(encoder)
        _check_same(folder, kept.get(name, {}).get("settings", settings), settings, name)
    model, match = question.recipe.model, question.match
    budget = known.get("budget") or question.parameters
    if budget is None:
        tell(f"counting the {COUNTED[match]} of the recipe's own {_type(model.encoder)}")
        budget = counter(model, labels, match)(model.encoder)
    found: dict[str, Any] = dict(kept)
    for name, encoder in unsized.items():
        if name not in found:
            tell(f"looking for the size of {name} with {budget:,} {COUNTED[match]}")
            contender = _contender(question, name, encoder, budget, labels)
            found[name] = dataclasses.asdict(contender)
            _write(folder, question, budget, found)
    contenders = tuple(Contender(**found[name]) for name in question.encoders)
    if all(contender.error for contender in contenders):
        first = contenders[0]
        raise ConfigError(f"no encoder can be compared; {first.name}: {first.error}")
    plan = Plan(folder, question, budget, contenders)
    _write_recipes(plan)
    return plan


def unsized_encoder(question: Question, name: str) -> Encoder:
    """An encoder with what it shares with the recipe's, its own overrides, and else its defaults.

    It shares the settings that both inherit: the convolutions that every encoder may begin with,
    and among recurrent ones all.

    Raises:
        ConfigError: An override that the encoder does not know, or that the budget decides.
    """
    given, default = question.recipe.model.encoder, ENCODERS.from_mapping({"type": name})
    inherited = [
        cls
        for cls in type(default).__mro__
        if dataclasses.is_dataclass(cls) and isinstance(given, cls)
    ]
    shared = {setting.name for cls in inherited for setting in dataclasses.fields(cls)}
    settings = {key: value for key, value in ENCODERS.to_mapping(given).items() if key in shared}
    overrides = [f"encoder.{setting}" for setting in question.own.get(name, ())]
    sections = apply_overrides({"encoder": {**settings, "type": name}}, overrides)
    try:
        encoder = ENCODERS.from_mapping(sections["encoder"])
    except ConfigError as error:
        raise ConfigError(f"{name}: {error}") from error
    decided = {f"encoder.{key}" for key in size_settings(encoder)}
    for override in overrides:
        key = override.partition("=")[0].strip()
        if key in decided:
            raise ConfigError(
                f"--set {override.replace('encoder', name, 1)}: the budget decides this setting; "
                "expected --params, or another setting"
            )
    return encoder


def _contender(
    question: Question, name: str, encoder: Encoder, budget: int, labels: Labels
) -> Contender:
    model, match = question.recipe.model, question.match
    settings = ENCODERS.to_mapping(encoder)
    try:
        sized, count = fitted(encoder, budget, counter(model, labels, match), COUNTED[match])
        if match != "parameters":
            count = count_parameters(dataclasses.replace(model, encoder=sized), labels)
    except SpeechRNNError as error:
        return Contender(name, settings, error=str(error))
    return Contender(name, settings, ENCODERS.to_mapping(sized), describe_size(sized), count)


def _type(encoder: Encoder) -> str:
    return ENCODERS.to_mapping(encoder)["type"]


def _read(folder: Path, question: Question) -> dict[str, Any]:
    """What the folder knows, nothing where it is new."""
    file = folder / PLAN
    if not file.exists():
        return {}
    try:
        known = json.loads(file.read_text(encoding="utf-8"))
        version = known["format_version"]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ConfigError(f"{file}: is damaged ({error}); choose another --output") from error
    if version != FORMAT_VERSION:
        raise ConfigError(
            f"{file}: has version {version}, expected {FORMAT_VERSION}; go on with the speechrnn "
            "that began it, or choose another --output"
        )
    _check_same(folder, known["identity"], question.identity(), "")
    return known


def _check_same(folder: Path, then: Any, now: Any, name: str) -> None:
    for key, before, after in differences(then, json.loads(json.dumps(now)), name):
        raise ConfigError(
            f"{folder}: holds a comparison that was begun with {key} = {before}, now it is "
            f"{after}; go on with what it was begun with, or choose another --output"
        )


def _write(folder: Path, question: Question, budget: int, encoders: Mapping[str, Any]) -> None:
    content = {
        "format_version": FORMAT_VERSION,
        "identity": question.identity(),
        "budget": budget,
        "encoders": encoders,
    }
    write_atomically(folder / PLAN, json_text(content).encode())


def _write_recipes(plan: Plan) -> None:
    sections = plan.question.recipe.to_mapping()
    for contender in plan.contenders:
        if contender.encoder:
            text = toml_text({**sections, "encoder": contender.encoder})
            write_atomically(plan.recipe_file(contender.name), text.encode())
