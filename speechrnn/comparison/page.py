"""A comparison as one HTML page that needs nothing beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from speechrnn.comparison.budget import COUNTED
from speechrnn.comparison.pictures import (
    plot_accuracy,
    plot_costs,
    plot_courses,
    plot_files,
    plot_lengths,
)
from speechrnn.comparison.table import columns_of, describe, percent
from speechrnn.html_page import escaped, make_page, make_picture, make_section, make_table


def render(summary: Mapping[str, Any]) -> str:
    """The page of a summary (:func:`table.summarise`) as text."""
    return make_page(_title(summary), list(_sections(summary)))


def _title(summary: Mapping[str, Any]) -> str:
    names = ", ".join(row["encoder"] for row in summary["encoders"])
    return f"{names} with {summary['budget']:,} {COUNTED[summary['match']]}"


def _sections(summary: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"<header><h1>{escaped(_title(summary))}</h1>"
        f'<p class="soft">{escaped(describe(summary))}</p></header>'
    )
    titles, rows = columns_of(summary)
    cells = [tuple(map(escaped, row)) for row in rows]
    numbers = tuple(range(2, len(titles)))
    yield make_section("The table", make_table(tuple(titles), cells, numbers=numbers))
    if summary["errors"]:
        lines = "".join(f"<li>{escaped(line)}</li>" for line in summary["errors"])
        yield make_section("What did not work", f"<ul>{lines}</ul>")
    yield from _pictures(summary)
    rows_of_cells = [
        (
            escaped(record["encoder"]),
            str(record["seed"]),
            escaped(record.get("error") or f"{100 * record['accuracy']:.2f} %"),
            f"<code>{escaped(record['command'])}</code>",
        )
        for record in summary["cells"]
    ]
    header = ("encoder", "seed", "accuracy", "command")
    yield make_section("Every training again", make_table(header, rows_of_cells, name="Commands"))


def _pictures(summary: Mapping[str, Any]) -> Iterator[str]:
    rows = summary["encoders"]
    accuracies = "; ".join(f"{r['encoder']} {percent(r['accuracy'])} %" for r in rows)
    if any(row["accuracy"] for row in rows):
        yield make_section(
            "Accuracy", make_picture("accuracy", plot_accuracy, summary, f"Accuracy: {accuracies}")
        )
        yield make_section(
            "Accuracy against training time",
            "<p>On the validation recordings while training, a line a seed; the time is that of "
            "the batches, without the validations between them.</p>",
            make_picture("courses", plot_courses, summary, "Accuracy against minutes of training"),
        )
        yield make_section(
            "Accuracy against what it costs",
            make_picture(
                "costs", plot_costs, summary, "Accuracy against multiply-adds and training speed"
            ),
        )
    if any(row["files"] for row in rows):
        yield make_section(
            "As a file",
            make_picture("files", plot_files, summary, "Size and latency of each exported file"),
        )
    if any(row["lengths_ms"] for row in rows):
        yield make_section(
            "Longer utterances",
            "<p>Of the float32 files. On the left both axes are logarithmic: a line of slope 1 "
            "grows as the utterance does, one of slope 2 as its square. The memory begins with "
            "that of Python, numpy and the interpreter.</p>",
            make_picture(
                "lengths", plot_lengths, summary, "Latency and memory against utterance length"
            ),
        )
