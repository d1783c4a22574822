"""Train the default recipe on real recordings and evaluate bundle and .tflite on other voices.

    python benchmarks/accuracy.py [--only speech_commands_12] [--seeds 0 1 2] [--set KEY=VALUE]

Prints a markdown table; --write appends it to benchmarks/results/accuracy.md. The recordings are
looked for in $SPEECHRNN_DATA, or in ../shared/data.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "accuracy.md"
LEFT_OUT_SPEAKER = "yweweler"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=sorted(SETS), default=sorted(SETS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--write", action="store_true", help=f"append to {RESULTS}")
    options = parser.parse_args()
    data = Path(os.environ.get("SPEECHRNN_DATA", "../shared/data")).resolve()
    if not data.is_dir():
        sys.exit(f"{data}: no recordings; set SPEECHRNN_DATA to where they are")
    rows = [_row(name, data, seed, options.set) for name in options.only for seed in options.seeds]
    table = "\n".join([_heading(options.set), *rows])
    print(table)
    if options.write:
        RESULTS.parent.mkdir(exist_ok=True)
        with RESULTS.open("a", encoding="utf-8") as file:
            file.write(table + "\n\n")


def _speech_commands(data: Path, folder: Path) -> tuple[Path, Path, str]:
    del folder
    source = data / "speech_commands_12"
    return source / "train.jsonl", source / "val.jsonl", "val (other speakers)"


def _arabic(data: Path, folder: Path) -> tuple[Path, Path, str]:
    del folder
    source = data / "arabic_speech_commands"
    return source / "train.jsonl", source / "val.jsonl", "val (other speakers)"


def _digits(data: Path, folder: Path) -> tuple[Path, Path, str]:
    """All speakers but one to learn from, that one to be recognised."""
    source = data / "free_spoken_digits"
    train, val = folder / "train.jsonl", folder / "val.jsonl"
    with train.open("w") as known, val.open("w") as new:
        for line in (source / "all.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            row["audio_filepath"] = str(source / row["audio_filepath"])
            target = new if row["speaker"] == LEFT_OUT_SPEAKER else known
            target.write(json.dumps(row) + "\n")
    return train, val, f"speaker {LEFT_OUT_SPEAKER}, left out"


SETS: dict[str, Callable[[Path, Path], tuple[Path, Path, str]]] = {
    "arabic_speech_commands": _arabic,
    "free_spoken_digits": _digits,
    "speech_commands_12": _speech_commands,
}


def _row(name: str, data: Path, seed: int, settings: list[str]) -> str:
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as temporary:
        folder = Path(temporary)
        train, val, split = SETS[name](data, folder)
        bundle, tflite = folder / "bundle", folder / "model.tflite"
        overrides = [f"--set={setting}" for setting in [f"train.seed={seed}", *settings]]
        started = time.perf_counter()
        _speechrnn("train", "--data", train, "--val", val, "--out", bundle, *overrides)
        minutes = (time.perf_counter() - started) / 60
        _speechrnn("export", bundle, "--to", tflite, "--check", val)
        found = {}
        for model in (bundle, tflite):
            _speechrnn("evaluate", model, "--data", val, "--json", folder / "figures.json")
            found[model] = json.loads((folder / "figures.json").read_text())
        info = json.loads((bundle / "config.json").read_text())
        size_mb = tflite.stat().st_size / 1e6
    return (
        f"| {name} | {split} | {found[bundle]['utterances']} | {seed} | "
        f"{100 * found[bundle]['accuracy']:.2f} | {100 * found[tflite]['accuracy']:.2f} | "
        f"{info['num_parameters']:,} | {minutes:.1f} | {size_mb:.2f} | "
        f"{found[tflite]['real_time_factor']:.4f} |"
    )


def _speechrnn(*arguments: object) -> None:
    subprocess.run([sys.executable, "-m", "speechrnn", *map(str, arguments)], check=True)


def _heading(settings: list[str]) -> str:
    run = ["git", "describe", "--always", "--dirty"]
    commit = subprocess.run(run, capture_output=True, text=True, check=False).stdout.strip()
    return f"""## {date.today()}, commit {commit}, {_processor()}, {os.cpu_count()} cores

Preset `commands`{"".join(f", `{s}`" for s in settings)}; the same recordings choose the epoch.

| data | evaluated on | clips | seed | bundle % | .tflite % | parameters | minutes | MB | RTF |
|---|---|---|---|---|---|---|---|---|---|"""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))


if __name__ == "__main__":
    main()
