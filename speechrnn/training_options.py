"""What the options of ``train`` and ``data check`` name: recordings and a recipe."""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

from speechrnn.datasets.manifest import (
    BACKGROUND_NOISE,
    Utterance,
    has_splits,
    keep_words,
    read_data,
    with_unknown,
)

if TYPE_CHECKING:
    from speechrnn.recipe import Recipe


def training_rows(options: argparse.Namespace) -> tuple[list[Utterance], list[Utterance]]:
    """What --data, --val and --words name; no validation rows where they are still to be split."""
    if options.val:
        train = read_data(options.data, "train" if has_splits(options.data) else "all")
        val = read_data(options.val)
    elif has_splits(options.data):
        train, val = read_data(options.data, "train"), read_data(options.data, "val")
    else:
        train, val = read_data(options.data), []
    if options.words:
        words = options.words.split(",")
        train = keep_words(train, words)
        val = keep_words(val, words) if val else []
    return train, val


def rows_mixed_in(options: argparse.Namespace) -> list[Utterance]:
    """What --also names, every split of it; other words than those of --words are unknown."""
    found = [row for data in options.also for row in read_data(data)]
    return with_unknown(found, options.words.split(",")) if options.words else found


def recipe_of(options: argparse.Namespace) -> Recipe:
    """The recipe that --preset or --config, --set and --noise ask for.

    The folder of noise is the one that is given, else the recipe's, else the one that the data
    brings, where the recipe asks for recorded noise at all.
    """
    from speechrnn.config import apply_overrides, read_preset, read_toml
    from speechrnn.recipe import Recipe

    sections = read_toml(options.config) if options.config else read_preset(options.preset)
    recipe = Recipe.from_mapping(apply_overrides(sections, options.set))
    settings = recipe.augment.get("background_noise", {})
    folder = options.noise or settings.get("folder")
    own = Path(options.data) / BACKGROUND_NOISE
    if not folder and "background_noise" in recipe.augment and own.is_dir():
        folder = own
    if not folder:
        return recipe
    settings = {**settings, "folder": str(folder)}
    return dataclasses.replace(recipe, augment={**recipe.augment, "background_noise": settings})


def public_name(data: str) -> str:
    """The data's last folder and name: a model is passed on, and says no more than it must."""
    return "/".join(Path(data).resolve().parts[-2:])
