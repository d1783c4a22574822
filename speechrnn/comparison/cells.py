"""A cell of a comparison: an encoder trained with a seed, and what was found out about it."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

from speechrnn.bundle import HEADER, read_bundle, read_log
from speechrnn.checkpoint import checkpoint_path, is_finished
from speechrnn.comparison.plan import Plan
from speechrnn.comparison.process import Commands, printed
from speechrnn.errors import SpeechRNNError
from speechrnn.files import json_text, write_atomically

RECORD, BUNDLE, EVALUATION = "cell.json", "bundle", "evaluation.json"
# Where a record says what failed, and what that was: without the first there are no figures at all.
ERRORS = {"error": "", "gradient_error": ", gradient flow", "reach_error": ", reach"}


def read_cell(plan: Plan, encoder: str, seed: int) -> dict[str, Any] | None:
    """What is known of a cell, None where it is still to be done.

    ``encoder``, ``seed``, ``command``, and ``error`` or the figures of :data:`FIGURES`.
    """
    return read_record(plan.cell(encoder, seed) / RECORD)


def read_record(file: Path) -> dict[str, Any] | None:
    """What a JSON file holds, None where there is none that can be read."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def do_cell(plan: Plan, encoder: str, seed: int, commands: Commands) -> dict[str, Any]:
    """Train, measure, and keep the record; a cell that fails says so in its record."""
    folder = plan.cell(encoder, seed)
    arguments = training_command(plan, encoder, seed)
    record = {"encoder": encoder, "seed": seed, "command": printed(*arguments)}
    try:
        _train(folder / BUNDLE, arguments, commands)
        for figures in FIGURES:
            record |= figures(plan, folder, commands)
    except SpeechRNNError as error:
        record["error"] = str(error)
    write_atomically(folder / RECORD, json_text(record).encode())
    return record


def training_command(plan: Plan, encoder: str, seed: int) -> list[str]:
    """What ``speechrnn`` is called with: it gives the cell's bundle again, anywhere."""
    question = plan.question
    return [
        *("train", "--data", question.train, "--val", question.val),
        *("--config", str(plan.recipe_file(encoder)), "--set", f"train.seed={seed}"),
        *("--out", str(plan.cell(encoder, seed) / BUNDLE)),
    ]


def _train(bundle: Path, arguments: list[str], commands: Commands) -> None:
    """Train, or go on where a training was stopped."""
    if is_finished(bundle):
        return
    # Without a checkpoint there may be the bundle of a first epoch.
    begun = checkpoint_path(bundle).exists()
    commands.speechrnn(*arguments, "--resume" if begun else "--force")


def _training_figures(plan: Plan, folder: Path, commands: Commands) -> dict[str, Any]:
    """Time, speed and course of the training, from the bundle's log.

    ``train_s`` is the time that batches took, without the validations between them; ``course`` is
    ``[seconds, accuracy]`` of each validation.
    """
    del plan, commands
    log, seconds = read_log(folder / BUNDLE), 0.0
    course = []
    for entry in log:
        seconds += entry.get("seconds", 0.0)
        if "val_accuracy" in entry:
            course.append([round(seconds, 2), entry["val_accuracy"]])
    info = read_bundle(folder / BUNDLE)
    return {
        "parameters": info.num_parameters,
        "train_s": round(seconds, 2),
        "clips_per_second": statistics.median(entry["clips_per_second"] for entry in log),
        "best_epoch": info.training["best_epoch"],
        "epochs": len(log),
        "course": course,
    }


def _evaluation_figures(plan: Plan, folder: Path, commands: Commands) -> dict[str, Any]:
    """Accuracy and error rates on the validation data."""
    out = folder / EVALUATION
    arguments = ("evaluate", folder / BUNDLE, "--data", plan.question.val, "--split", "all")
    commands.speechrnn(*arguments, "--json", out)
    found = json.loads(out.read_text(encoding="utf-8"))
    return {key: found[key] for key in ("accuracy", "interval", "wer", "cer", "utterances")}


def _gradient_figures(plan: Plan, folder: Path, commands: Commands) -> dict[str, Any]:
    """How an error changes on its way back through the layer that loses most of it.

    ``gradient_rate``, in decades a second of sound, with the trained weights on made sound;
    ``gradient_error`` where it cannot be measured.
    """
    file = folder / "gradients.json"
    try:
        commands.speechrnn("diagnose", "gradients", str(folder / BUNDLE), "--json", str(file))
        found = json.loads(file.read_text(encoding="utf-8"))["measurements"]
    except (SpeechRNNError, OSError, ValueError) as error:
        return {"gradient_error": str(error)}
    rates = [
        layer["decades_per_second"]
        for one in found
        if one["weights"] == "trained"
        for layer in one["layers"]
        if layer["decades_per_second"] is not None  # as of convolutions
    ]
    return {"gradient_rate": min(rates)} if rates else {}


def _reach_figures(plan: Plan, folder: Path, commands: Commands) -> dict[str, Any]:
    """``reach_s``: how far back the last encoded step depends on what was heard.

    Of the validation recordings, joined; ``reach_error`` where it cannot be measured.
    """
    file = folder / "reach.json"
    arguments = ("diagnose", "reach", folder / BUNDLE, "--data", plan.question.val)
    try:
        commands.speechrnn(*arguments, "--json", file)
        return {"reach_s": json.loads(file.read_text(encoding="utf-8"))["reach_s"]}
    except (SpeechRNNError, OSError, ValueError) as error:
        return {"reach_error": str(error)}


# What is found out about a trained cell, each from (plan, folder of the cell, commands); another
# figure is another function here, and a column in ``table.COLUMNS``.
FIGURES: tuple[Callable[[Plan, Path, Commands], dict[str, Any]], ...] = (
    _training_figures,
    _evaluation_figures,
    _gradient_figures,
    _reach_figures,
)


def progress_of(plan: Plan, encoder: str, seed: int) -> str:
    """How far the training of a cell is, in words."""
    bundle = plan.cell(encoder, seed) / BUNDLE
    if not (bundle / HEADER).exists():
        return ""
    try:
        log = read_log(bundle)
    except (OSError, ValueError):  # it is just being replaced
        return ""
    validated = [entry["val_accuracy"] for entry in log if "val_accuracy" in entry]
    return f"epoch {log[-1]['epoch']}, val {100 * validated[-1]:.1f} %" if validated else ""
