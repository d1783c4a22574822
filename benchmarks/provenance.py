"""How benchmarks are asked, and where a figure comes from: the heading of a table that is kept."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from speechrnn.machine import processor


def model_options(description: str, results: Path) -> argparse.ArgumentParser:
    """What a benchmark of a model takes: the model, recordings, and whether to keep the table."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("model", metavar="MODEL")
    parser.add_argument("--data", required=True, metavar="DATA", help="commands")
    parser.add_argument("--most", type=int, metavar="N", help="recordings, spread evenly")
    parser.add_argument("--write", action="store_true", help=f"append to {results.name}")
    return parser


def show_table(rows: Iterable[str], results: Path | None, packages: Sequence[str]) -> None:
    """Print each row as soon as it is measured, and add the table to a file of results, if any."""
    kept = []
    for row in rows:
        print(row, flush=True)
        kept.append(row)
    if results:
        append_table(results, "\n".join(kept), packages)


def append_table(file: Path, table: str, packages: Sequence[str]) -> None:
    """Add a table to a file of results, under when, where, on what, and by which command."""
    file.parent.mkdir(exist_ok=True)
    with file.open("a", encoding="utf-8") as stream:
        stream.write(f"\n## {provenance(packages)}\n\n{table.strip()}\n")


def provenance(packages: Sequence[str]) -> str:
    """Date, commit and command of this program; machine and versions."""
    command = " ".join([f"benchmarks/{Path(sys.argv[0]).name}", *map(_public, sys.argv[1:])])
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in packages)
    return (
        f"{datetime.date.today()}, commit {commit()}: `python {command}`\n\n{processor()}, "
        f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f} (this run included); "
        f"Python {platform.python_version()}, {versions}."
    )


def _public(argument: str) -> str:
    """A path without where it lies on this machine: its last folder and name."""
    return "/".join(Path(argument).parts[-2:]) if Path(argument).is_absolute() else argument


def commit() -> str:
    """What git calls this checkout, ``-dirty`` where more than results changed; empty outside."""
    named = _git("describe", "--always")
    changed = _git("diff", "--name-only", "HEAD", "--", ":/", ":(exclude)results")
    return f"{named}-dirty" if named and changed else named


def _git(*arguments: str) -> str:
    folder = Path(__file__).parent
    done = subprocess.run(
        ["git", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
