"""Where a figure comes from: the heading under which a benchmark's table is kept."""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from speechrnn.machine import processor


def printed(rows: Iterable[str]) -> str:
    """The rows of a table, each printed as soon as it is measured; all of them as one text."""
    kept = []
    for row in rows:
        print(row, flush=True)
        kept.append(row)
    return "\n".join(kept)


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
