"""Pictures of a comparison; each of a summary (:func:`table.summarise`) and a theme."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from speechrnn.comparison.exported import KINDS
from speechrnn.report import DARK, GREY, INK, Theme, new_figure

Row = Mapping[str, Any]

# Told apart by most who see colours otherwise, after Okabe and Ito 2008, lighter for the night;
# with a mark each for who sees none.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#b0578d", "#a07d00", "#3a9bd9", "#6a51a3", "#7a4a21")
NIGHT = ("#4da6e0", "#f58a4b", "#35c79c", "#e08cc0", "#e0bf4a", "#9bd3f5", "#a99be0", "#c49a6c")
MARKS = "osD^vPX*"
WIDE = (7.4, 4.2)


def plot_accuracy(summary: Row, theme: Theme) -> Any:
    """Each encoder's mean accuracy with its interval over the seeds, and every seed."""
    rows = [row for row in summary["encoders"] if row["accuracy"]]
    rows.sort(key=lambda row: row["accuracy"]["mean"])
    figure, axes = new_figure(1, 1, (WIDE[0], 1.2 + 0.42 * len(rows)))
    for place, row in enumerate(rows):
        colour, mark = _style(summary, row, theme)
        found = row["accuracy"]
        for value in found["values"]:
            axes.plot(100 * value, place, "|", color=theme[GREY], markersize=11)
        if found["low"] is not None:
            # Of few seeds it may be wider than what an accuracy can be.
            span = [max(0, 100 * found["low"]), min(100, 100 * found["high"])]
            axes.plot(span, [place, place], "-", color=colour, linewidth=2)
        axes.plot(100 * found["mean"], place, mark, color=colour, markersize=8)
    axes.set_yticks(range(len(rows)), [row["encoder"] for row in rows])
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.set_xlabel("accuracy in %; line: 95 % interval of the mean; strokes: seeds")
    axes.grid(axis="x", alpha=0.3)
    return figure


def plot_courses(summary: Row, theme: Theme) -> Any:
    """Accuracy against training time: a line for each seed."""
    figure, axes = new_figure(1, 1, WIDE)
    for row in summary["encoders"]:
        colour, mark = _style(summary, row, theme)
        for number, course in enumerate(row["courses"]):
            axes.plot(
                [seconds / 60 for seconds, _ in course],
                [100 * accuracy for _, accuracy in course],
                color=colour,
                marker=mark,
                markevery=[len(course) - 1],
                linewidth=1.3,
                label=None if number else row["encoder"],
            )
    axes.set_xlabel("minutes of training")
    axes.set_ylabel("accuracy in %")
    axes.set_xlim(0)
    axes.grid(alpha=0.3)
    _legend(axes)
    return figure


def plot_costs(summary: Row, theme: Theme) -> Any:
    """Accuracy against multiply-adds, and against clips learnt from in a second."""
    figure, both = new_figure(1, 2, WIDE, sharey=True)
    costs: tuple[tuple[str, Callable[[Row], float | None]], ...] = (
        ("million multiply-adds of a second", lambda row: _scaled(row["multiply_adds"], 1e6)),
        ("clips a second in training", lambda row: (row["clips_per_second"] or {}).get("mean")),
    )
    for axes, (name, cost) in zip(both, costs, strict=True):
        highest = 0.0
        for row in summary["encoders"]:
            what = cost(row)
            if row["accuracy"] and what is not None:
                colour, mark = _style(summary, row, theme)
                accuracy = 100 * row["accuracy"]["mean"]
                axes.plot(what, accuracy, mark, color=colour, markersize=9, label=row["encoder"])
                highest = max(highest, what)
        axes.set_xlabel(name)
        axes.set_xlim(0, 1.1 * highest or 1)
        axes.grid(alpha=0.3)
    both[0].set_ylabel("accuracy in %")
    _legend(both[0])
    return figure


def plot_files(summary: Row, theme: Theme) -> Any:
    """Size and latency of each encoder's files."""
    rows = [row for row in summary["encoders"] if row["files"]]
    figure, both = new_figure(1, 2, (WIDE[0], 1.4 + 0.55 * len(rows)), sharey=True)
    what: tuple[tuple[str, Callable[[Row], float | None]], ...] = (
        ("size in kB", lambda file: file["bytes"] / 1e3),
        ("ms for a second of sound", lambda file: file["latency_ms"]),
    )
    strength = dict(zip(KINDS, (1.0, 0.6, 0.3), strict=True))
    for axes, (name, value) in zip(both, what, strict=True):
        for place, row in enumerate(rows):
            colour, _ = _style(summary, row, theme)
            for shift, kind in enumerate(KINDS):
                height = place + 0.26 * (shift - 1)
                length = value(row["files"][kind]) if kind in row["files"] else None
                if length is None:
                    axes.text(0, height, " none", va="center", color=theme[GREY], fontsize=7)
                    continue
                axes.barh(height, length, 0.24, color=colour, alpha=strength[kind])
                text = f" {kind} {length:.3g}" if length < 1000 else f" {kind} {length:,.0f}"
                axes.text(length, height, text, va="center", color=theme[INK], fontsize=7)
        axes.set_xlabel(name)
        axes.margins(x=0.4)
        axes.set_axisbelow(True)
        axes.grid(axis="x", alpha=0.3)
    both[0].set_yticks(range(len(rows)), [row["encoder"] for row in rows])
    both[0].invert_yaxis()
    return figure


def plot_lengths(summary: Row, theme: Theme) -> Any:
    """Latency and peak memory of the float32 files against the length of an utterance."""
    figure, both = new_figure(1, 2, WIDE)
    what: tuple[tuple[str, Callable[[Row], Sequence[Sequence[float]]]], ...] = (
        ("ms for an utterance", lambda row: row["lengths_ms"]),
        ("peak memory in MB", lambda row: row["files"].get("float32", {}).get("memory_mb", [])),
    )
    for axes, (name, points) in zip(both, what, strict=True):
        lengths: set[float] = set()
        for row in summary["encoders"]:
            if points(row):
                colour, mark = _style(summary, row, theme)
                seconds, values = zip(*points(row), strict=True)
                axes.plot(
                    seconds, values, color=colour, marker=mark, markersize=5, label=row["encoder"]
                )
                lengths |= set(seconds)
        axes.set_xscale("log")
        axes.set_xticks(sorted(lengths), [f"{length:g}" for length in sorted(lengths)])
        axes.set_xticks([], minor=True)
        axes.set_xlabel("seconds of the utterance")
        axes.set_ylabel(name)
        axes.grid(alpha=0.3)
    both[0].set_yscale("log")
    both[0].yaxis.set_major_formatter("{x:g}")
    both[1].set_ylim(0)
    _legend(both[0])
    return figure


def _style(summary: Row, row: Row, theme: Theme) -> tuple[str, str]:
    """Colour and mark of an encoder, the same in every picture."""
    place = [other["encoder"] for other in summary["encoders"]].index(row["encoder"])
    colours = NIGHT if theme is DARK else COLOURS
    return colours[place % len(colours)], MARKS[place % len(MARKS)]


def _scaled(value: float | None, unit: float) -> float | None:
    return None if value is None else value / unit


def _legend(axes: Any) -> None:
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8)
