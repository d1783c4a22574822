"""A bundle in words, for the person who receives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Slope and offset of log-odds that change nothing.
PLAIN = [1.0, 0.0]


def _decision(decision: Mapping[str, Any]) -> str:
    temperature, threshold = decision["temperature"], decision["threshold"]
    confidence = "Confidences are those of training: nobody has calibrated them."
    if temperature != 1:
        confidence = f"Confidences are calibrated: the logits are divided by {temperature:.4g}."
    elif decision.get("utterance_confidence", PLAIN) != PLAIN:
        confidence = "Confidences of utterances and of words are calibrated, by lines of log-odds."
    if not threshold:
        return f"{confidence} Every answer is accepted."
    budget = decision.get("threshold_budget")
    origin = (
        f", picked for {budget:g} false alarms an hour on {decision['threshold_hours']:.3g} hours "
        "of background"
        if budget is not None and decision.get("threshold_hours") is not None
        else ""
    )
    return f"{confidence} An answer of a confidence below {threshold:g} is none{origin}."


def model_card(config: Mapping[str, Any], metrics: Mapping[str, Any]) -> str:
    """Markdown from what a bundle holds in ``config.json`` and ``metrics.json``."""
    features, training = config["features"], config["training"]
    measured = "\n".join(
        f"- {split}: accuracy {100 * values['accuracy']:.2f} % on {values['utterances']} "
        f"recordings of {values['speakers'] or 'unknown'} speakers ({values['data']})"
        for split, values in metrics.items()
    )
    speakers = training.get("speakers", "?") or "unknown"
    return f"""# Model card

A recogniser of spoken commands: {_answers(config["head"])}.
Waveform (mono, {features["sample_rate_hz"]} Hz) -> MFCC -> encoder `{config["encoder"]["type"]}` ->
head `{config["head"]["type"]}`; {config["num_parameters"]:,} trainable parameters.

Labels, in order: {", ".join(f"`{label}`" for label in config["labels"])}

## Training
Data: {training.get("data", "not recorded")}; {training.get("utterances", "?")} recordings of
{speakers} speakers{_mixed_in(training)}. Seed {training.get("seed", "?")},
{training.get("epochs_done", "?")} epochs{"" if training.get("finished") else " (stopped early)"}.
speechrnn {config["speechrnn_version"]}.

## Measured
{measured or "- nothing"}

{_chosen(training)} Measure on other voices with
`speechrnn evaluate`.

## Decision
{_decision(config["decision"])}

## Limits
It knows only its labels; without a threshold it may answer with them whatever it hears. It was
not tested on voices, rooms, microphones or languages other than those of its data.
"""


def _chosen(training: Mapping[str, Any]) -> str:
    """What the validation recordings had a part in."""
    if training.get("recipe", {}).get("train", {}).get("keep") == "last":
        return "The validation recordings chose nothing but what confidences are worth."
    return "The validation recordings chose the best epoch, so the figure is a little kind."


def _answers(head: Mapping[str, Any]) -> str:
    if "symbols" not in head:
        return "one label for a recording"
    return f"{head['symbols']} in a row, each with its place in the recording"


def _mixed_in(training: Mapping[str, Any]) -> str:
    count = training.get("mixed_in", 0)
    return f", and {count} of other voices mixed in" if count else ""
