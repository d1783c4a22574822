"""The cells of a comparison put together: figures by encoder, and a table of them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from datetime import date
from typing import Any

from speechrnn.comparison.budget import COUNTED
from speechrnn.comparison.cells import ERRORS
from speechrnn.comparison.exported import KINDS
from speechrnn.comparison.plan import Plan
from speechrnn.reach import LONGEST_S
from speechrnn.version import __version__

Row = Mapping[str, Any]


def summarise(
    plan: Plan,
    records: Sequence[Row],
    exported: Mapping[str, Row],
    speeds: Mapping[str, Any],
) -> dict[str, Any]:
    """Everything as plain values.

    Returns:
        ``speechrnn_version``, ``date``, ``data``, ``val``, ``utterances`` (of ``val``), ``keep``
        (which epoch was), ``sequences`` (whether answers are several words), ``match``, ``budget``,
        ``seeds``, ``machine``, ``encoders`` (a row each, see :func:`_row`), ``cells`` (the records
        of every training), ``errors`` (what did not work, in lines).
    """
    question = plan.question
    rows = [
        _row(plan, contender.name, [r for r in records if r["encoder"] == contender.name], files)
        for contender in plan.contenders
        for files in [_files(contender.name, exported.get(contender.name), speeds)]
    ]
    return {
        "speechrnn_version": __version__,
        "date": str(date.today()),
        "data": question.names[0],
        "val": question.names[1],
        "utterances": max((r["utterances"] for r in records if "error" not in r), default=0),
        "keep": question.recipe.train.keep,
        "sequences": question.recipe.model.head.output_name == "log_probs",
        "match": question.match,
        "budget": plan.budget,
        "seeds": list(question.seeds),
        "machine": speeds.get("machine"),
        "encoders": rows,
        "cells": list(records),
        "errors": _errors(plan, records, exported, speeds),
    }


def _row(plan: Plan, name: str, records: Sequence[Row], files: Row) -> dict[str, Any]:
    """An encoder: ``settings``, ``size``, ``parameters``, ``multiply_adds``, and over its seeds

    ``accuracy``, ``wer``, ``train_s``, ``clips_per_second``, ``gradient_rate``, ``reach_s`` as
    :func:`mean_interval` has them, and ``courses``; of one seed's files ``files`` (by kind
    ``bytes``, ``latency_ms``, ``memory_mb``) and ``lengths_ms``. Unknown is None or empty.
    """
    contender = next(c for c in plan.contenders if c.name == name)
    trained = [record for record in records if "error" not in record]
    over_seeds = {
        key: mean_interval([record[key] for record in trained if key in record])
        for key in ("accuracy", "wer", "train_s", "clips_per_second", "gradient_rate", "reach_s")
    }
    return {
        "encoder": name,
        "settings": contender.encoder,
        "size": contender.size,
        "parameters": contender.parameters,
        **over_seeds,
        "trained": len(trained),
        "courses": [record["course"] for record in trained],
        **files,
    }


def _files(name: str, exported: Row | None, speeds: Mapping[str, Any]) -> dict[str, Any]:
    def of(key: str, kind: str) -> Any:
        return speeds.get(key, {}).get(f"{name}-{kind}.tflite")

    kinds = (exported or {}).get("kinds", {})
    return {
        "multiply_adds": (exported or {}).get("multiply_adds"),
        "files": {
            kind: {
                "bytes": kinds[kind]["bytes"],
                "latency_ms": of("latency_ms", kind),
                "memory_mb": of("memory_mb", kind) or [],
            }
            for kind in KINDS
            if kind in kinds and "error" not in kinds[kind]
        },
        "lengths_ms": of("lengths_ms", "float32") or [],
    }


def _errors(
    plan: Plan,
    records: Sequence[Row],
    exported: Mapping[str, Row],
    speeds: Mapping[str, Any],
) -> list[str]:
    lines = [f"{c.name}: {c.error}" for c in plan.contenders if c.error]
    lines += [
        f"{record['encoder']}, seed {record['seed']}{what}: {record[key]}"
        for record in records
        for key, what in ERRORS.items()
        if key in record
    ]
    for name, record in exported.items():
        failed = {k: found for k, found in record["kinds"].items() if "error" in found}
        lines += [f"{name}, {kind}: {found['error']}" for kind, found in failed.items()]
        if "multiply_adds_error" in record:
            lines.append(f"{name}, multiply-adds: {record['multiply_adds_error']}")
    return [*lines, *speeds.get("errors", [])]


def mean_interval(values: Sequence[float]) -> dict[str, Any] | None:
    """``mean``, ``values``, and ``low`` and ``high``: its 95 % interval over the values.

    Student's t with one degree of freedom less than there are values; of one value there is no
    interval, of none nothing at all. Source: Student 1908, "The probable error of a mean".
    """
    if not values:
        return None
    mean, low, high = statistics.fmean(values), None, None
    if len(values) > 1:
        from scipy.stats import t

        error = statistics.stdev(values) / math.sqrt(len(values))
        half = float(t.ppf(0.975, len(values) - 1)) * error
        low, high = mean - half, mean + half
    return {"mean": mean, "low": low, "high": high, "values": list(values)}


# ------------------------------------------------------------------ cells of the table

NOTHING = "-"


def percent(found: Row | None) -> str:
    """``99.12 ± 0.30``, in percent."""
    if found is None:
        return NOTHING
    mean = f"{100 * found['mean']:.2f}"
    return mean if found["low"] is None else f"{mean} ± {100 * (found['high'] - found['mean']):.2f}"


def _file_cell(kind: str) -> Callable[[Row], str]:
    def cell(row: Row) -> str:
        found = row["files"].get(kind)
        if not found:
            return NOTHING
        latency = found["latency_ms"]
        taken = NOTHING if latency is None else f"{latency:.2f} ms"
        return f"{found['bytes'] / 1e3:.0f} kB, {taken}"

    return cell


def _memory(row: Row) -> str:
    peaks = row["files"].get("float32", {}).get("memory_mb", [])
    if not peaks:
        return NOTHING
    (_, first), (longest, last) = peaks[0], peaks[-1]
    return f"{first:.0f}, {longest} s: {last:.0f}" if len(peaks) > 1 else f"{first:.0f}"


def _reach(row: Row) -> str:
    found = row["reach_s"]
    if found is None:
        return NOTHING
    if min(found["values"]) >= LONGEST_S:
        return f"over {LONGEST_S:g}"
    # A mean with a value that is but a bound is one too.
    return f"{'over ' * (max(found['values']) >= LONGEST_S)}{found['mean']:.2f}"


def _rounded(value: float | None, unit: float = 1.0, digits: int = 0) -> str:
    return NOTHING if value is None else f"{value / unit:,.{digits}f}"


# Title, and what stands below it. A column of dashes alone is left out.
COLUMNS: tuple[tuple[str, Callable[[Row], str]], ...] = (
    ("encoder", lambda row: row["encoder"]),
    ("size", lambda row: row["size"] or NOTHING),
    ("accuracy %", lambda row: percent(row["accuracy"])),
    ("WER %", lambda row: percent(row["wer"])),
    ("seeds", lambda row: str(row["trained"])),
    ("parameters", lambda row: _rounded(row["parameters"])),
    ("multiply-adds of 1 s, M", lambda row: _rounded(row["multiply_adds"], 1e6, 2)),
    ("training min", lambda row: _rounded((row["train_s"] or {}).get("mean"), 60, 1)),
    ("training clips/s", lambda row: _rounded((row["clips_per_second"] or {}).get("mean"))),
    *((f"{kind}, 1 s", _file_cell(kind)) for kind in KINDS),
    ("peak memory MB", _memory),
    ("gradient, decades/s", lambda row: _rounded((row["gradient_rate"] or {}).get("mean"), 1, 1)),
    ("reach s", _reach),
)


def columns_of(summary: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The titles and rows of the table, without columns of which nothing is known."""
    kept = [
        (title, cells)
        for title, cell in COLUMNS
        for cells in [[cell(row) for row in summary["encoders"]]]
        if any(text != NOTHING for text in cells) and (title != "WER %" or summary["sequences"])
    ]
    titles = [title for title, _ in kept]
    return titles, [list(row) for row in zip(*(cells for _, cells in kept), strict=True)]


def describe(summary: Mapping[str, Any]) -> str:
    """What was compared how, in a sentence or two."""
    chosen = (
        "the epoch chosen on them"
        if summary["keep"] == "best"
        else "the last epoch, which none chose"
    )
    seeds = f"seed {summary['seeds'][0]}"
    if len(summary["seeds"]) > 1:
        listed = ", ".join(map(str, summary["seeds"]))
        seeds = f"seeds {listed}: mean, and its 95 % interval over the seeds (Student's t)"
    machine = summary["machine"]
    measured = (
        f" Latency: one thread of {machine['processor']}, {machine['cores']} cores, load average "
        f"{machine['load_average']}, files in turn, medians."
        if machine
        else ""
    )
    return (
        f"{summary['budget']:,} {COUNTED[summary['match']]} each, within 10 %; trained on "
        f"{summary['data']}, measured on {summary['utterances']} recordings of {summary['val']}, "
        f"{chosen}; {seeds}.{measured} Multiply-adds, sizes and memory are those of the exported "
        "files, the front end included; memory is the peak of a process that does nothing else. "
        "Reach: sound that far back still makes a tenth of what the last encoded step says, as "
        f"far as {LONGEST_S:g} s."
    )


def markdown(summary: Mapping[str, Any]) -> str:
    """The table, what did not work, and the commands."""
    titles, rows = columns_of(summary)
    lines = [
        f"speechrnn {summary['speechrnn_version']}, {summary['date']}. {describe(summary)}",
        "",
        f"| {' | '.join(titles)} |",
        f"|{'|'.join(['---', '---', *['---:'] * (len(titles) - 2)])}|",
        *(f"| {' | '.join(row)} |" for row in rows),
    ]
    if summary["errors"]:
        lines += ["", "What did not work:", "", *(f"- {line}" for line in summary["errors"])]
    if summary["cells"]:
        commands = [record["command"] for record in summary["cells"]]
        lines += ["", "Every training again:", "", "```sh", *commands, "```"]
    return "\n".join(lines) + "\n"
