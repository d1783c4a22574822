"""A bundle in words, for the person who receives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def model_card(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Markdown from what a bundle holds in ``config.json`` and ``metrics.json``."""
    features, training = config["features"], config["training"]
    measured = "\n".join(
        f"- {split}: accuracy {100 * values['accuracy']:.2f} % on {values['utterances']} "
        f"recordings of {values['speakers']} speakers ({values['data']})"
        for split, values in metrics.items()
    )
    return f"""# Model card

A recogniser of spoken commands: one label for a recording.
Waveform (mono, {features["sample_rate_hz"]} Hz) -> MFCC -> encoder `{config["encoder"]["type"]}` ->
head `{config["head"]["type"]}`; {config["num_parameters"]:,} trainable parameters.

Labels, in order: {", ".join(f"`{label}`" for label in config["labels"])}

## Training
Data: {training.get("data", "not recorded")}; {training.get("utterances", "?")} recordings of
{training.get("speakers", "?")} speakers. Seed {training.get("seed", "?")},
{training.get("epochs_done", "?")} epochs{"" if training.get("finished") else " (stopped early)"}.
speechrnn {config["speechrnn_version"]}.

## Measured
{measured or "- nothing"}

The validation recordings chose the best epoch, so the figure is a little kind; measure on other
voices with `speechrnn evaluate`.

## Limits
It knows only its labels and answers with one of them whatever it hears. It was not tested on
voices, rooms, microphones or languages other than those of its data.
"""
