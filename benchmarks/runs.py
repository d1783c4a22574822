"""What benchmarks that train share: recordings, finished runs, a command in its process."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from speechrnn.commands import INTERRUPTED

Row = dict[str, Any]
# Exit statuses of what Ctrl-C or SIGTERM ended.
STOPPED = (INTERRUPTED, -signal.SIGINT, -signal.SIGTERM)


def recordings() -> Path:
    """The folder of the data sets: $SPEECHRNN_DATA, or ../shared/data."""
    data = Path(os.environ.get("SPEECHRNN_DATA", "../shared/data")).resolve()
    if not data.is_dir():
        sys.exit(f"{data}: no recordings; set SPEECHRNN_DATA to where they are")
    return data


def read_rows(file: Path) -> dict[str, Row]:
    """The finished runs, by key."""
    if not file.exists():
        return {}
    rows = map(json.loads, file.read_text(encoding="utf-8").splitlines())
    return {row["key"]: row for row in rows}


def speechrnn(*arguments: object, environment: Mapping[str, str]) -> None:
    command = [sys.executable, "-m", "speechrnn", *map(str, arguments)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    if done.returncode in STOPPED:  # no result: it is to be done again
        sys.exit("interrupted; what is done is kept, the same call goes on")
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}\n{done.stderr}")
