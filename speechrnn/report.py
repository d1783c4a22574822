"""Pictures of a training and of an evaluation."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from speechrnn.evaluate import wilson_interval

# Beyond this many labels cells and letters are small, and beyond the second they hold no numbers.
MOST_LARGE_LABELS, MOST_LABELS_WITH_NUMBERS = 20, 60
# Speakers in one picture; those beyond are understood better.
MOST_SPEAKERS = 30
DOTS_PER_INCH = 120
# What is heard where nothing was said, or a recording rejected; words that are no labels.
NOTHING, OTHER = "(nothing)", "(other)"

INK, GREY, BLUE, ORANGE = "ink", "grey", "blue", "orange"
Theme = Mapping[str, str]
LIGHT: Theme = {
    INK: "#1a1a19",
    GREY: "#8a897f",
    BLUE: "#2a78d6",
    ORANGE: "#c9580c",
    "map": "#ffffff #7fb2ea #0b4a94",
    "on map": "white",
}
DARK: Theme = {
    INK: "#e8e8e4",
    GREY: "#7f7e76",
    BLUE: "#5ba0ee",
    ORANGE: "#f0924f",
    "map": "#1f1f1d #2a5c96 #8cc0ff",
    "on map": "#10243c",
}

Result = Mapping[str, Any]
Plot = Callable[[Result, Theme], Any]


def draw_training(log: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Loss and accuracy by epoch, for training and validation recordings, as a PNG file."""
    figure, (left, right) = new_figure(1, 2, (9, 3.4))
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
    figure.savefig(path, dpi=DOTS_PER_INCH)


def draw_gradients(found: Mapping[str, Any], path: Path) -> None:
    """What arrives of an error at each step, a panel for each length, from a description that
    ``speechrnn diagnose gradients`` writes: a PNG file."""
    lengths = sorted({one["frames"] for one in found["measurements"]})
    figure, panels = new_figure(1, len(lengths), (1 + 4.4 * len(lengths), 4.2), squeeze=False)
    for axes, length in zip(panels[0], lengths, strict=True):
        for one in found["measurements"]:
            if one["frames"] != length:
                continue
            line = "-" if one["weights"] == "trained" else "--"
            for place, layer in enumerate(one["layers"]):
                rate = layer["decades_per_step"]
                said = layer["verdict"] if rate is None else f"{rate:+.3f}"
                label = f"{layer['layer']}, {one['weights']}: {said}"
                norms = np.array(layer["norms"])
                steps = -np.arange(len(norms))
                axes.plot(
                    steps[norms > 0], norms[norms > 0], line, color=f"C{place % 10}", label=label
                )
            axes.set_xlim(1 - one["steps"], 0)
        axes.set_yscale("log")
        axes.set_xlabel(f"steps before the last ({1000 * found['step_s']:g} ms each)")
        axes.set_title(f"{length} frames; decades a step", fontsize=10)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    panels[0][0].set_ylabel("norm of the gradient of the loss at the last step")
    figure.savefig(path, dpi=DOTS_PER_INCH)


def draw_confusions(result: Result, path: Path) -> None:
    """What was said against what was heard, counts, from a result of ``evaluate_model``: a PNG."""
    path.write_bytes(png(plot_confusions, result, LIGHT, transparent=False))


def png(plot: Plot, result: Result, theme: Theme, *, transparent: bool = True) -> bytes:
    """A picture in the colours of a theme."""
    buffer = io.BytesIO()
    with _colours(theme):
        figure = plot(result, theme)
        figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH, transparent=transparent)
    return buffer.getvalue()


def plot_confusions(result: Result, theme: Theme) -> Any:
    """Counts of what was heard (columns) for what was said (rows).

    Colour is the square root of the share in the row: one in a hundred can still be seen.
    """
    labels = list(result["labels"])
    # Of sequences, what was heard where nothing was said, and words that no model of letters lists.
    heard = {said for _, said, _ in result["confusions"]} - {*labels, ""}
    rows = [*labels, *([""] if any(not truth for truth, _, _ in result["confusions"]) else [])]
    columns = [*labels, *([OTHER] if heard else [])]
    columns += [""] if any(not said for _, said, _ in result["confusions"]) else []
    counts = np.zeros((len(rows), len(columns)), int)
    for truth, said, count in result["confusions"]:
        counts[rows.index(truth), columns.index(OTHER if said in heard else said)] += count
    for i, label in enumerate(labels):
        counts[i, i] = result["labels"][label]["count"] - counts[i].sum()
    large = len(rows) <= MOST_LARGE_LABELS
    size = 2.4 + (0.45 if large else 0.26) * len(rows)
    figure, axes = new_figure(1, 1, (size, size))
    depth = np.sqrt(counts / np.maximum(counts.sum(axis=1, keepdims=True), 1))
    axes.imshow(depth, cmap=_colour_map(theme), vmin=0, vmax=1)
    names = [label or NOTHING for label in columns]
    turned = {"rotation": 60, "ha": "right"} if large else {"rotation": 90}
    axes.set_xticks(range(len(columns)), names, **turned)
    axes.set_yticks(range(len(rows)), [label or NOTHING for label in rows])
    axes.tick_params(labelsize=10 if large else 8)
    axes.set_xticks(np.arange(len(columns) + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(len(rows) + 1) - 0.5, minor=True)
    axes.grid(which="minor", color=theme[GREY], alpha=0.25, linewidth=0.5)
    axes.tick_params(which="minor", length=0)
    axes.set_xlabel("heard as")
    axes.set_ylabel("said")
    axes.set_title(f"{100 * result['accuracy']:.1f} % of {result['utterances']} recordings")
    if len(rows) <= MOST_LABELS_WITH_NUMBERS:
        for i, j in zip(*np.nonzero(counts), strict=True):
            colour = theme["on map"] if depth[i, j] > 0.6 else theme[INK]
            axes.text(
                j,
                i,
                counts[i, j],
                ha="center",
                va="center",
                color=colour,
                fontsize=8 if large else 6,
            )
    return figure


def plot_labels(result: Result, theme: Theme) -> Any:
    """Recall and precision of each label that occurs, the hardest first."""
    found = [
        (label, figures["recall"], figures["precision"], figures["count"])
        for label, figures in result["labels"].items()
        if figures["count"]
    ]
    found.sort(key=lambda entry: entry[1])
    figure, axes = _bars(
        [f"{label} ({count})" for label, _, _, count in found],
        [recall for _, recall, _, _ in found],
        [count for _, _, _, count in found],
        theme,
    )
    places = [i for i, entry in enumerate(found) if entry[2] is not None]
    precisions = [100 * entry[2] for entry in found if entry[2] is not None]
    axes.plot(precisions, places, "D", color=theme[ORANGE], markersize=5, label="precision")
    axes.set_xlabel("recall in % with its 95 % interval; diamonds: precision")
    return figure


def plot_speakers(result: Result, theme: Theme) -> Any:
    """Accuracy of each known speaker, the one least understood first."""
    found = sorted(result["speakers_detail"].items(), key=lambda item: item[1]["accuracy"])
    shown = found[:MOST_SPEAKERS]
    figure, axes = _bars(
        [f"{speaker} ({figures['count']})" for speaker, figures in shown],
        [figures["accuracy"] for _, figures in shown],
        [figures["count"] for _, figures in shown],
        theme,
    )
    axes.axvline(
        100 * result["speaker_spread"]["mean"], color=theme[ORANGE], linestyle="--", linewidth=1
    )
    axes.set_xlabel("accuracy in % with its 95 % interval; dashed: mean of all speakers")
    if len(found) > len(shown):
        axes.set_title(f"the {len(shown)} least understood of {len(found)} speakers")
    return figure


def plot_reliability(result: Result, theme: Theme) -> Any:
    """Accuracy against confidence, by bins of confidence, over the number of answers in each."""
    bins = result["calibration"]["bins"]
    middles = [50 * (b["low"] + b["high"]) for b in bins]
    width = 100 / len(bins)
    figure, (upper, lower) = new_figure(
        2, 1, (5.4, 5.6), sharex=True, gridspec_kw={"height_ratios": (3, 1)}
    )
    upper.plot([0, 100], [0, 100], "--", color=theme[GREY], label="confidence = accuracy")
    kept = [(m, b) for m, b in zip(middles, bins, strict=True) if b["count"]]
    upper.bar(
        [m for m, _ in kept],
        [100 * b["accuracy"] for _, b in kept],
        0.92 * width,
        color=theme[BLUE],
        alpha=0.45,
        label="accuracy",
    )
    upper.plot(
        [100 * b["confidence"] for _, b in kept],
        [100 * b["accuracy"] for _, b in kept],
        "o",
        color=theme[ORANGE],
        label="at the mean confidence",
    )
    upper.set_ylabel("accuracy in %")
    upper.set_ylim(0, 105)
    upper.legend(loc="upper left", frameon=False)
    upper.set_title(f"ECE {100 * result['calibration']['ece']:.1f} %, {len(bins)} bins")
    lower.bar(middles, [b["count"] for b in bins], 0.92 * width, color=theme[GREY])
    lower.set_xlim(0, 100)
    lower.set_xlabel("confidence in %")
    lower.set_ylabel("answers")
    return figure


def plot_noise(result: Result, theme: Theme) -> Any:
    """Accuracy against the ratio of signal to noise, from clean to drowned."""
    points, count = result["noise"], result["utterances"]
    names = ["clean" if p["snr_db"] is None else f"{p['snr_db']:g}" for p in points]
    accuracy = [100 * p["accuracy"] for p in points]
    intervals = [wilson_interval(round(p["accuracy"] * count), count) for p in points]
    figure, axes = new_figure(1, 1, (6, 3.8))
    axes.fill_between(
        range(len(points)),
        [100 * low for low, _ in intervals],
        [100 * high for _, high in intervals],
        color=theme[BLUE],
        alpha=0.2,
        linewidth=0,
    )
    axes.plot(range(len(points)), accuracy, "o-", color=theme[BLUE])
    for i, value in enumerate(accuracy):
        axes.annotate(
            f"{value:.1f}", (i, value), (0, 7), textcoords="offset points", ha="center", fontsize=9
        )
    if any(p["rejected"] for p in points):
        rejected = [100 * p["rejected"] / count for p in points]
        axes.plot(range(len(points)), rejected, "s:", color=theme[ORANGE], label="rejected")
        axes.legend(frameon=False)
    axes.set_xticks(range(len(points)), names)
    axes.set_ylim(0, 108)
    axes.set_xlabel("signal to noise in dB")
    axes.set_ylabel("% of the recordings")
    axes.grid(axis="y", alpha=0.3)
    return figure


def plot_detection(result: Result, theme: Theme) -> Any:
    """False alarms an hour against missed commands, a point for each threshold."""
    found = result["detection"]
    figure, axes = new_figure(1, 1, (6, 4.4))
    rates = [p["false_alarms_per_hour"] for p in found["curve"]]
    missed = [100 * p["missed"] for p in found["curve"]]
    axes.plot(rates, missed, ".-", color=theme[BLUE], linewidth=1, markersize=4)
    # Linear up to what one alarm in the background would be, logarithmic beyond.
    one = 1 / found["background_hours"]
    axes.set_xscale("symlog", linthresh=one)
    highest = max(*rates, found["budget"] or 0, one)
    powers = np.arange(np.ceil(np.log10(one)), np.ceil(np.log10(highest)) + 1)
    axes.set_xticks([0, *10**powers], ["0", *(f"{10**power:g}" for power in powers)])
    axes.minorticks_off()
    axes.set_xlim(0, 1.3 * highest)
    axes.set_ylim(0, 103)
    if found["budget"] is not None:
        axes.axvline(found["budget"], color=theme[GREY], linestyle="--", linewidth=1)
        axes.annotate(
            f" budget {found['budget']:g}",
            (found["budget"], 0.98),
            xycoords=axes.get_xaxis_transform(),
            va="top",
            color=theme[GREY],
        )
    if found["threshold"] is not None:
        point = (found["false_alarms_per_hour"], 100 * found["missed"])
        axes.plot(*point, "o", color=theme[ORANGE], markersize=9, clip_on=False)
        axes.annotate(
            f"threshold {found['threshold']:g}",
            point,
            (9, 9),
            textcoords="offset points",
            color=theme[ORANGE],
        )
    axes.set_xlabel(f"false alarms an hour, on {found['background_hours']:.3g} h of background")
    axes.set_ylabel(f"% missed of {found['commands']} commands")
    axes.grid(alpha=0.3)
    return figure


def _bars(
    names: Sequence[str], shares: Sequence[float], counts: Sequence[int], theme: Theme
) -> tuple[Any, Any]:
    """Shares from 0 to 1 as bars from the top down, with Wilson's intervals."""
    figure, axes = new_figure(1, 1, (6.4, 1.2 + 0.26 * len(names)))
    percent = [100 * share for share in shares]
    axes.barh(range(len(names)), percent, 0.7, color=theme[BLUE], alpha=0.5)
    intervals = [
        wilson_interval(round(share * count), count)
        for share, count in zip(shares, counts, strict=True)
    ]
    below = [p - 100 * low for p, (low, _) in zip(percent, intervals, strict=True)]
    above = [100 * high - p for p, (_, high) in zip(percent, intervals, strict=True)]
    axes.errorbar(
        percent,
        range(len(names)),
        xerr=np.maximum([below, above], 0),
        fmt="none",
        ecolor=theme[INK],
        elinewidth=0.8,
        capsize=2,
    )
    axes.set_yticks(range(len(names)), names, fontsize=9)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_xlim(0, 102)
    axes.grid(axis="x", alpha=0.3)
    return figure, axes


def new_figure(
    rows: int, columns: int, size: tuple[float, float], **options: Any
) -> tuple[Any, Any]:
    """A figure that needs no screen, and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=size, layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


def _colour_map(theme: Theme) -> Any:
    from matplotlib.colors import LinearSegmentedColormap

    return LinearSegmentedColormap.from_list("share", theme["map"].split())


@contextmanager
def _colours(theme: Theme) -> Iterator[None]:
    """Everything that is drawn and saved here has the ink of the theme."""
    import matplotlib

    names = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    # A label may hold a dollar sign, which would begin a formula.
    settings: Any = {**dict.fromkeys(names, theme[INK]), "text.parse_math": False}
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        # A label in letters that the font does not have is drawn as boxes; the page has its text.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        warnings.filterwarnings("ignore", message="Matplotlib currently does not support")
        yield
