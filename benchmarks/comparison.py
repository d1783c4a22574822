"""Every encoder at one number of parameters, on two sets of real commands, with three seeds.

    python benchmarks/comparison.py [--only ENCODER ...] [--data SET ...] [--seeds 0 1 2]

Calls `speechrnn compare` for one encoder and one seed at a time, so that what is done stands in
results/comparison-500k.jsonl, is not done again, and may come from another machine; the table goes
to results/comparison-500k.md. A quarter of the recipe's steps, the last epoch: nothing is chosen on
the voices that are measured on. Files are timed in turn with export/models/commands-ar.tflite. The
recordings are looked for in $SPEECHRNN_DATA, or in ../shared/data. TF_NUM_INTRAOP_THREADS and
TF_NUM_INTEROP_THREADS say how many threads a training has.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from provenance import commit
from runs import Row, read_rows, recordings, speechrnn

from speechrnn.comparison.cells import read_record
from speechrnn.encoders import ENCODERS
from speechrnn.machine import processor
from speechrnn.runtime import Recognizer, read_metadata
from speechrnn.speed import in_turn, sounds

PARAMETERS = 500_000
SETTINGS = ("train.steps=1500", 'train.keep="last"')
DATA = {"arabic_speech_commands": "Arabic", "speech_commands_12": "English"}
# An hour for each where others take minutes: steps of 10 ms, or wide and thin convolutions.
SLOW = ("mhatt_rnn", "bc_resnet")
OWN = {"bc_resnet": ("bc_resnet.stride=2",)}
REFERENCE = Path(__file__).parent.parent / "export" / "models" / "commands-ar.tflite"
RATE_HZ, ROUNDS = 16000, 15
RESULTS = Path(__file__).parent / "results" / "comparison-500k.jsonl"


def main() -> None:
    encoders = sorted(ENCODERS.names(), key=lambda name: name in SLOW)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="ENCODER", choices=encoders, default=encoders)
    parser.add_argument("--data", nargs="+", metavar="SET", choices=DATA, default=list(DATA))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--table", action="store_true", help="write the table of what is done")
    options = parser.parse_args()
    cells = itertools.product(options.seeds, options.data, options.only)
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as work:
        for seed, data, encoder in () if options.table else cells:
            key = f"{data} {encoder} {seed}"
            if key in read_rows(RESULTS):  # another run beside this one may have done it
                continue
            row = {"key": key, "data": data, "encoder": encoder, "seed": seed}
            row |= compared(recordings() / data, encoder, seed, Path(work) / f"{data}-{encoder}")
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(f"{key}: {row.get('error') or format(row['accuracy'], '.2%')}", flush=True)
    table = make_table(list(read_rows(RESULTS).values()))
    RESULTS.with_suffix(".md").write_text(table, encoding="utf-8")
    print(table)


def compared(data: Path, encoder: str, seed: int, folder: Path) -> Row:
    """An encoder with a seed, as `speechrnn compare` has it, and how long its files take.

    Seeds that are in the folder already are compared again without being done again.
    """
    settings = (*SETTINGS, *OWN.get(encoder, ()))
    found_in = folder / "comparison.json"
    before = [cell["seed"] for cell in (read_record(found_in) or {"cells": []})["cells"]]
    what = ("--data", data / "train.jsonl", "--val", data / "val.jsonl", "--output", folder)
    size = ("--params", PARAMETERS, "--encoders", encoder)
    seeds = ("--seeds", ",".join(map(str, [*before, seed])))
    trained_by, failure = commit(), ""
    try:
        asked = [f"--set={setting}" for setting in settings]
        speechrnn("compare", *what, *size, *seeds, *asked, environment=os.environ)
    except RuntimeError as error:
        failure = str(error).splitlines()[-1]
    found = read_record(found_in) or {"cells": []}
    cell = next((c for c in found["cells"] if c["seed"] == seed), {"error": failure})
    if "error" in cell:
        return {"error": cell["error"], "commit": trained_by}
    (row,) = found["encoders"]
    files = {file.stem.split("-")[-1]: file for file in (folder / "files").glob("*.tflite")}
    return {
        **{key: cell[key] for key in ("accuracy", "utterances", "parameters", "train_s")},
        **{key: cell.get(key) for key in ("clips_per_second", "gradient_rate", "reach_s")},
        "size": row["size"],
        "multiply_adds": row["multiply_adds"],
        "bytes": {kind: row["files"][kind]["bytes"] for kind in row["files"]},
        "times_reference": times_reference(files),
        "reference_parameters": read_metadata(REFERENCE).metadata["num_parameters"],
        "settings": list(settings),
        "commit": trained_by,
        "machine": processor(),
        "errors": found["errors"],
    }


def times_reference(files: dict[str, Path]) -> Row:
    """How long a second of sound takes, against the reference's, all of them in turn."""
    (sound,) = sounds(1, RATE_HZ)
    named = {"reference": REFERENCE, **files}
    seconds = in_turn({n: partial(Recognizer(f).run, sound) for n, f in named.items()}, ROUNDS)
    return {kind: round(seconds[kind] / seconds["reference"], 3) for kind in files}


def make_table(rows: list[Row]) -> str:
    """Markdown: for each set of data its encoders, best first; means over the seeds."""
    references = {f"{row['reference_parameters']:,}" for row in rows if "error" not in row}
    lines = [
        f"`python benchmarks/comparison.py`: {PARAMETERS:,} parameters each, preset `commands` "
        f"with {', '.join(f'`{setting}`' for setting in SETTINGS)}, measured on `val`; times of "
        f"training, and of a second of sound against `{REFERENCE.name}` (with "
        f"{' or '.join(sorted(references))} parameters, as it was then), in turn with it, are "
        "those of the first seed: seeds may be of several machines.",
        "",
        "| data | encoder | size | accuracy %, mean: each seed | parameters "
        "| multiply-adds of 1 s, M | dynamic kB | dynamic, float32 / reference | training s |",
        "|---|---|---|---|---:|---:|---:|---:|---:|",
    ]
    for data, name in DATA.items():
        trained: dict[str, list[Row]] = defaultdict(list)
        for row in sorted(rows, key=lambda row: row["seed"]):
            if row["data"] == data and "error" not in row:
                trained[row["encoder"]].append(row)
        best_first = sorted(trained.items(), key=lambda item: -mean_of(item[1], "accuracy"))
        lines += [
            f"| {name} | {encoder} | {' | '.join(cells(runs))} |" for encoder, runs in best_first
        ]
        lines += [
            f"| {name} | {row['encoder']}, seed {row['seed']} | {row['error']} |" + " |" * 6
            for row in rows
            if row["data"] == data and "error" in row
        ]
    return "\n".join(lines) + "\n"


def mean_of(runs: list[Row], key: str) -> float:
    return statistics.fmean(row[key] for row in runs)


def cells(runs: list[Row]) -> Iterator[str]:
    first = runs[0]
    each = ", ".join(f"{100 * row['accuracy']:.2f}" for row in runs)
    yield str(first["size"])
    yield f"{100 * mean_of(runs, 'accuracy'):.2f}: {each}"
    yield f"{first['parameters']:,}"
    yield f"{first['multiply_adds'] / 1e6:.1f}" if first["multiply_adds"] else "-"
    yield f"{first['bytes']['dynamic'] / 1e3:.0f}" if "dynamic" in first["bytes"] else "-"
    times = [first["times_reference"].get(kind) for kind in ("dynamic", "float32")]
    yield ", ".join("-" if found is None else f"{found:.2f}" for found in times)
    yield f"{first['train_s']:.0f}"


if __name__ == "__main__":
    main()
