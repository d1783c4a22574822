"""Train what a list of experiments says, on every data set and seed, and write their table.

    python benchmarks/quality/sweep.py benchmarks/quality/final.toml [--jobs 2] [--only NAME ...]

One training after another, or two at once with one thread each (--jobs). What is done stands in
the list's .jsonl file and is not done again, so that a sweep can be stopped and started as one
likes; the .md file beside it is the table of all that is done. The recordings are looked for in
$SPEECHRNN_DATA, or in ../shared/data.

A list is a TOML file of [[experiment]] sections: name, preset ("commands"), set (overrides),
data (names below), seeds ([0]), synthetic (true), note. Unless synthetic is false, espeak-ng's
voices are mixed in where people to learn from are few, and their labels are the words they speak.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import statistics
import sys
import tempfile
import threading
import time
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from provenance import commit
from runs import Row, read_rows, recordings, speechrnn

DIGITS = "free_spoken_digits"
SPEAKERS = ("george", "jackson", "lucas", "nicolas", "theo", "yweweler")
DATA = ("arabic_speech_commands", "speech_commands_12", DIGITS)
NOISE = "background_noise"
# Where synthetic voices are mixed in, and in which language: four people are few. The 18 of the
# Arabic set are few too, but its labels are translations of what they say.
SPOKEN = {DIGITS: "en"}
SYNTHETIC = ("--voices", "84", "--clips", "8")

# What tells one run from another.
KEY = ("preset", "set", "synthetic", "data", "part", "seed")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("experiments", type=Path, metavar="LIST.toml")
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--jobs", type=int, default=1, help="trainings at once; default: 1")
    parser.add_argument("--bundles", type=Path, help="keep what is trained in this folder")
    parser.add_argument("--table", action="store_true", help="write the table of what is done")
    options = parser.parse_args()
    data = recordings()
    experiments = tomllib.loads(options.experiments.read_text(encoding="utf-8"))["experiment"]
    done_file = options.experiments.with_suffix(".jsonl")
    done = read_rows(done_file)
    wanted = [run for experiment in experiments for run in runs_of(experiment, data)]
    chosen = [
        run
        for run in wanted
        if run["key"] not in done and (not options.only or run["name"] in options.only)
    ]
    chosen.sort(key=lambda run: run["seed"])  # something of everything first
    lock = threading.Lock()

    failed = []

    def train(run: Row) -> None:
        try:
            threads = 1 if options.jobs > 1 else None
            found = train_and_measure(run, data, threads, options.bundles)
        except RuntimeError as error:  # the others go on; this one is done when started again
            failed.append(run)
            print(f"{run['name']} {run['data']} {run['part']} {run['seed']}: {error}")
            return
        row = {**run, **found}
        with lock, done_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        what = f"{run['name']} {run['data']} {run['part']} {run['seed']}"
        print(f"{what}: {row['accuracy']:.4f}", flush=True)

    if not options.table:
        print(f"{len(wanted) - len(chosen)} runs are done or left out, {len(chosen)} to do")
        with ThreadPoolExecutor(options.jobs) as pool:
            list(pool.map(train, chosen))
    table = make_table(experiments, read_rows(done_file).values())
    options.experiments.with_suffix(".md").write_text(table, encoding="utf-8")
    print(table)
    sys.exit(1 if failed else 0)


def runs_of(experiment: Row, data: Path) -> Iterator[Row]:
    """A run for each data set, left-out speaker, and seed."""
    for name in experiment.get("data", DATA):
        parts = digit_speakers(data) if name == DIGITS else ["val"]
        for part in experiment.get("speakers", parts) if name == DIGITS else parts:
            for seed in experiment.get("seeds", [0]):
                run = {
                    "name": experiment["name"],
                    "preset": experiment.get("preset", "commands"),
                    "set": experiment.get("set", []),
                    "synthetic": experiment.get("synthetic", True) and name in SPOKEN,
                    "data": name,
                    "part": part,
                    "seed": seed,
                }
                text = json.dumps([run[key] for key in KEY])
                yield {**run, "key": f"{run['name']} {hashlib.sha1(text.encode()).hexdigest()[:8]}"}


def digit_speakers(data: Path) -> list[str]:
    lines = (data / DIGITS / "all.jsonl").read_text(encoding="utf-8").splitlines()
    found = {json.loads(line)["speaker"] for line in lines}
    return [speaker for speaker in SPEAKERS if speaker in found]


def manifests(run: Row, data: Path, folder: Path) -> tuple[Path, Path]:
    """Training and validation manifest; of the digits, all speakers but one and that one."""
    source = data / run["data"]
    if run["data"] != DIGITS:
        return source / "train.jsonl", source / "val.jsonl"
    train, val = folder / "train.jsonl", folder / "val.jsonl"
    with train.open("w") as known, val.open("w") as new:
        for line in (source / "all.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            row["audio_filepath"] = str(source / row["audio_filepath"])
            target = new if row["speaker"] == run["part"] else known
            target.write(json.dumps(row) + "\n")
    return train, val


def train_and_measure(run: Row, data: Path, threads: int | None, bundles: Path | None) -> Row:
    """Train in a process of its own; nothing is chosen on the validation recordings.

    Accuracy is that of the last epoch; best is what choosing the epoch on the validation
    recordings would have shown. Only the temperature, one number, is fitted on the recordings that
    the calibration error is measured on.
    """
    environment, trained_by = dict(os.environ), commit()
    if threads:
        environment["TF_NUM_INTRAOP_THREADS"] = environment["TF_NUM_INTEROP_THREADS"] = str(threads)
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as temporary:
        folder = Path(temporary)
        train, val = manifests(run, data, folder)
        bundle, figures = folder / "bundle", folder / "figures.json"
        settings = [f"train.seed={run['seed']}", 'train.keep="last"', *run["set"]]
        command = ["train", "--data", train, "--val", val, "--out", bundle, "--preset"]
        command += [run["preset"], *(f"--set={setting}" for setting in settings)]
        if run["synthetic"]:
            voices = folder / "voices"
            speak = ("data", "synth", "--like", train, "--language", SPOKEN[run["data"]])
            speechrnn(*speak, *SYNTHETIC, "--out", voices, environment=environment)
            command += ["--also", voices]
        started = time.perf_counter()
        speechrnn(*command, environment=environment)
        minutes = (time.perf_counter() - started) / 60
        speechrnn(
            *("evaluate", bundle, "--data", val, "--json", figures, "--noise", data / NOISE),
            environment=environment,
        )
        found = json.loads(figures.read_text())
        log = [json.loads(line) for line in (bundle / "training_log.jsonl").open()]
        info = json.loads((bundle / "config.json").read_text())
        if bundles:
            parts = (run["name"], run["data"], run["part"], run["seed"])
            shutil.copytree(bundle, bundles / "-".join(map(str, parts)), dirs_exist_ok=True)
    validated = [entry["val_accuracy"] for entry in log if "val_accuracy" in entry]
    return {
        "accuracy": validated[-1],
        "best": max(validated),
        "loss": [entry["val_loss"] for entry in log if "val_loss" in entry][-1],
        "ece": found["calibration"]["ece"],
        "noise": {
            "clean" if row["snr_db"] is None else f"{row['snr_db']:g}": row["accuracy"]
            for row in found["noise"]
        },
        "clips": found["utterances"],
        "parameters": info["num_parameters"],
        "minutes": round(minutes, 1),
        "clips_per_second": statistics.median(entry["clips_per_second"] for entry in log),
        "commit": trained_by,
    }


def make_table(experiments: list[Row], rows: Any) -> str:
    """Markdown: a line for each experiment and data set, the mean over its runs and the spread."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        groups[row["name"], row["data"]].append(row)
    lines = [
        "| experiment | what | data | runs | accuracy % | lowest to highest | chosen on val % "
        "| loss | 0 dB % | ECE % | parameters | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for experiment in experiments:
        what = experiment.get("note") or " ".join(experiment.get("set", [])) or "the preset"
        for data in experiment.get("data", DATA):
            runs = groups[experiment["name"], data]
            if runs:
                lines.append(f"| {experiment['name']} | {what} | {data} | {table_cells(runs)} |")
    return "\n".join(lines) + "\n"


def table_cells(runs: list[Row]) -> str:
    def mean(values: list[float]) -> float:
        return statistics.fmean(values)

    # Of the digits a seed's figure is the mean over the speakers; spread is over seeds.
    seeds: dict[int, list[float]] = defaultdict(list)
    for row in runs:
        seeds[row["seed"]].append(100 * row["accuracy"])
    means = [mean(values) for values in seeds.values()]
    at_0_db = [100 * row["noise"]["0"] for row in runs if "0" in row.get("noise", {})]
    ece = [100 * row["ece"] for row in runs if row.get("ece") is not None]
    return " | ".join(
        [
            str(len(runs)),
            f"{mean(means):.2f}",
            f"{min(means):.2f} to {max(means):.2f}",
            f"{100 * mean([row['best'] for row in runs]):.2f}",
            f"{mean([row['loss'] for row in runs]):.3f}",
            f"{mean(at_0_db):.1f}" if at_0_db else "-",
            f"{mean(ece):.2f}" if ece else "-",
            f"{runs[0]['parameters']:,}" if "parameters" in runs[0] else "-",
            f"{mean([row['minutes'] for row in runs]):.1f}",
        ]
    )


if __name__ == "__main__":
    main()
