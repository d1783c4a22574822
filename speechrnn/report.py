"""Pictures of a training and of an evaluation, as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

# Beyond this many labels the numbers in the cells would not be readable.
MOST_LABELS_WITH_NUMBERS = 20


def draw_training(log: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss and accuracy by epoch, for training and validation recordings."""
    figure, (left, right) = _figure(1, 2, (9, 3.4))
    epochs = [entry["epoch"] for entry in log]
    for axes, name in ((left, "loss"), (right, "accuracy")):
        scale = 100 if name == "accuracy" else 1
        for key, label in ((name, "training (augmented)"), (f"val_{name}", "validation")):
            points = [(e["epoch"], scale * e[key]) for e in log if key in e]
            axes.plot(*zip(*points, strict=True), label=label)
        axes.set_xlabel("epoch")
        axes.set_ylabel("accuracy in %" if name == "accuracy" else "loss")
        axes.set_xlim(min(epochs), max(max(epochs), min(epochs) + 1))
        axes.grid(alpha=0.3)
        axes.legend()
    figure.savefig(path, dpi=120)


def draw_confusions(result: Mapping[str, Any], path: Path) -> None:
    """What was said against what was heard, counts, from a result of ``evaluate_model``."""
    labels = list(result["labels"])
    counts = np.zeros((len(labels), len(labels)), int)
    for truth, said, count in result["confusions"]:
        counts[labels.index(truth), labels.index(said)] = count
    for i, label in enumerate(labels):
        counts[i, i] = result["labels"][label]["count"] - counts[i].sum()
    size = 2.2 + 0.45 * len(labels)
    figure, axes = _figure(1, 1, (size, size))
    share = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(labels)), labels, rotation=60, ha="right")
    axes.set_yticks(range(len(labels)), labels)
    axes.set_xlabel("heard as")
    axes.set_ylabel("said")
    axes.set_title(f"{100 * result['accuracy']:.1f} % of {result['utterances']} recordings")
    if len(labels) <= MOST_LABELS_WITH_NUMBERS:
        for i, j in zip(*np.nonzero(counts), strict=True):
            colour = "white" if share[i, j] > 0.5 else "black"
            axes.text(j, i, counts[i, j], ha="center", va="center", color=colour, fontsize=8)
    figure.savefig(path, dpi=120)


def _figure(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, Any]:
    """A figure that needs no screen, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns)
