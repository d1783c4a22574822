"""Start and speed of the clients in export, beside the Python runtime.

    python benchmarks/clients.py [--model F.tflite] [--write]

``start``: a new process, from its begin to its end, that answers to a recording of a second.
``answer``: the same recording again in the same process. Medians of rounds in which all take turns.
With --write the table is kept in results/clients.md.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1] / "export")]
from check_clients import VECTORS, Skipped, build_cpp
from provenance import append_table

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "clients.md"
SOUND = VECTORS / "stop.wav"
ROUNDS, MANY = 11, 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default=str(ROOT / "export" / "models" / "commands-en.tflite"))
    parser.add_argument("--write", action="store_true", help=f"append to {RESULTS.name}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as folder:
        table = measure(commands(options.model, Path(folder)), Path(options.model).name)
    print(table)
    if options.write:
        append_table(RESULTS, table, ("numpy", "ai-edge-litert"))


def commands(model: str, folder: Path) -> dict[str, list[str]]:
    """Programs that answer to the recordings named behind."""
    board = [sys.executable, str(ROOT / "export" / "board" / "listen.py"), model]
    runtime = (
        "import sys; from speechrnn import Recognizer; r = Recognizer(sys.argv[1]);"
        "[print(r.transcribe(name).text) for name in sys.argv[2:]]"
    )
    found = {
        "Python runtime: `speechrnn.Recognizer`": [sys.executable, "-c", runtime, model],
        "export/board, Python": board,
    }
    try:
        found["export/cpp, C++"] = [str(build_cpp(folder)), model]
    except Skipped as why:
        print(f"export/cpp: {why}", file=sys.stderr)
    return found


def measure(programs: dict[str, list[str]], model: str) -> str:
    starts: dict[str, list[float]] = {name: [] for name in programs}
    answers: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, command in programs.items():
            one, many = seconds(command, 1), seconds(command, 1 + MANY)
            starts[name].append(one)
            answers[name].append((many - one) / MANY)
    lines = [
        "| client | start to first result, ms | an answer to a second of sound, ms |",
        "|---|---|---|",
        *(
            f"| {name} | {milliseconds(starts[name])} | {milliseconds(answers[name])} |"
            for name in programs
        ),
        "",
        f"`{model}`, one thread, medians (lowest to highest) of {ROUNDS} rounds in turns; an "
        f"answer includes reading the file, mean of {MANY} in one process.",
    ]
    return "\n".join(lines)


def seconds(command: Sequence[str], count: int) -> float:
    started = time.perf_counter()
    subprocess.run([*command, *[str(SOUND)] * count], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def milliseconds(values: Sequence[float]) -> str:
    low, middle, high = (1000 * v for v in (min(values), statistics.median(values), max(values)))
    return f"{middle:.1f} ({low:.1f} to {high:.1f})"


if __name__ == "__main__":
    main()
