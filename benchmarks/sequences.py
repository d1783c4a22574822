"""Word error rates, times, a grammar and spelling, on voices never heard in training.

    python benchmarks/sequences.py [--only TASK ...] [--seeds 0 1 2] [--bundles DIR] [--table]

Each task trains a preset and measures it on utterances that are put together from recordings of
speakers left out, or on whole recordings (yesno). What is done stands in results/sequences.jsonl
and is not done again; the table goes to results/sequences.md. With --bundles what was trained
stays in that folder, and is measured without training where it lies there already. The
recordings are looked for in $SPEECHRNN_DATA, or in ../shared/data. TF_NUM_INTRAOP_THREADS and
TF_NUM_INTEROP_THREADS say how many threads a training has.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from provenance import commit
from runs import Row, read_rows, recordings, speechrnn

DIGITS, ARABIC, YESNO = "free_spoken_digits", "arabic_speech_commands", "yesno"
LEFT_OUT = "yweweler"
UTTERANCES = 500
PHRASES = 200
WITH_GRAMMAR = 2000
# What the margin is fitted for, so that other utterances keep to 2 %.
FALSE_ACCEPTS = 0.015
RESULTS = Path(__file__).parent / "results" / "sequences.jsonl"


@dataclasses.dataclass(frozen=True)
class Task:
    """A training and what it is measured on."""

    name: str
    data: str
    preset: str
    most_words: int
    settings: tuple[str, ...] = ()
    voices: bool = False
    grammar: bool = False


TASKS = (
    Task("digit strings", DIGITS, "sequences", 7, voices=True),
    Task("command sequences", ARABIC, "sequences", 5, grammar=True),
    Task("yesno", YESNO, "sequences", 8, ("train.steps=600",)),
    Task("digit strings, spelled", DIGITS, "characters", 7, voices=True),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", metavar="TASK", choices=[t.name for t in TASKS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--bundles", type=Path, metavar="DIR", help="keep the bundles in a folder")
    parser.add_argument("--table", action="store_true", help="write the table of what is done")
    options = parser.parse_args()
    data, done = recordings(), read_rows(RESULTS)
    for seed in [] if options.table else options.seeds:
        for task in TASKS:
            key = f"{task.name} {seed}"
            if key in done or (options.only and task.name not in options.only):
                continue
            row = {
                "key": key,
                "task": task.name,
                "seed": seed,
                **train_and_measure(task, data, seed, options.bundles),
            }
            with RESULTS.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
            print(f"{key}: WER {100 * row['wer']:.2f} %, CER {100 * row['cer']:.2f} %", flush=True)
    table = make_table(list(read_rows(RESULTS).values()))
    RESULTS.with_suffix(".md").write_text(table, encoding="utf-8")
    print(table)


def train_and_measure(task: Task, data: Path, seed: int, kept: Path | None) -> Row:
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as temporary:
        folder = Path(temporary)
        train, val = manifests(task, data, folder)
        bundle = (kept or folder) / f"{task.name} {seed}"
        training = bundle.with_suffix(".json")
        if not training.exists():
            training.parent.mkdir(parents=True, exist_ok=True)
            started = time.perf_counter()
            trained = {"commit": commit(), "settings": [f"train.seed={seed}", *task.settings]}
            train_task(task, train, val, bundle, trained["settings"], folder / "voices")
            trained["minutes"] = round((time.perf_counter() - started) / 60, 1)
            training.write_text(json.dumps(trained), encoding="utf-8")
        test, figures = val, folder / "figures.json"
        if task.data != YESNO:
            test = put_together(
                val, folder / "test", UTTERANCES, ("--num-words", 1, task.most_words)
            )
        speechrnn("evaluate", bundle, "--data", test, "--json", figures, environment=os.environ)
        found = json.loads(figures.read_text())
        row = {
            **{key: found[key] for key in ("utterances", "accuracy", "wer", "cer")},
            "ece": found["calibration"]["ece"],
            "parameters": json.loads((bundle / "config.json").read_text())["num_parameters"],
            **json.loads(training.read_text(encoding="utf-8")),
        }
        if task.data != YESNO:
            row |= start_errors(bundle, test, folder / "records.jsonl")
        if task.grammar:
            row["grammar"] = with_grammar(bundle, val, folder)
        return row


def train_task(
    task: Task, train: Path, val: Path, bundle: Path, settings: list[str], voices: Path
) -> None:
    """Train in a process of its own; the last epoch counts, so that nothing is chosen on val."""
    command = ["train", "--data", train, "--val", val, "--out", bundle, "--preset", task.preset]
    command += [f"--set={setting}" for setting in ('train.keep="last"', *settings)]
    if task.voices:
        size = ("--voices", 84, "--clips", 8, "--out", voices)
        speechrnn("data", "synth", "--like", train, *size, environment=os.environ)
        command += ["--also", voices]
    speechrnn(*command, environment=os.environ)


def manifests(task: Task, data: Path, folder: Path) -> tuple[Path, Path]:
    """Training and validation manifest: a speaker left out; of one alone, every other recording."""
    source = data / task.data
    if task.data == ARABIC:
        return source / "train.jsonl", source / "val.jsonl"
    parts: tuple[list[Row], list[Row]] = ([], [])
    for number, line in enumerate((source / "all.jsonl").read_text("utf-8").splitlines()):
        row = json.loads(line)
        row["audio_filepath"] = str(source / row["audio_filepath"])
        if task.data == YESNO:
            del row["speaker"]  # one person: this is no test of new voices, and says so
        parts[number % 2 if task.data == YESNO else row["speaker"] == LEFT_OUT].append(row)
    files = folder / "train.jsonl", folder / "val.jsonl"
    for file, rows in zip(files, parts, strict=True):
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return files


def put_together(
    rows: Path, out: Path, count: int, what: tuple[object, ...], seed: int = 1
) -> Path:
    """Utterances of the validation speakers, the same for every seed of a training."""
    size = ("--out", out, "--count", count, "--seed", seed)
    speechrnn("data", "sequences", rows, *size, *what, environment=os.environ)
    return out / "sequences.jsonl"


def start_errors(bundle: Path, test: Path, records: Path) -> Row:
    """How far the starts of words are off, where the words are right, in seconds."""
    speechrnn("transcribe", bundle, test, "--to", records, environment=os.environ)
    errors = []
    for true, found in zip(lines_of(test), lines_of(records), strict=True):
        if true["text"] == found["text"]:
            pairs = zip(true["words"], found["words"], strict=True)
            errors += [abs(one["start"] - other["start"]) for one, other in pairs]
    return {
        "start_median_s": float(np.median(errors)),
        "start_95_s": float(np.percentile(errors, 95)),
    }


def with_grammar(bundle: Path, val: Path, folder: Path) -> Row:
    """Two hundred phrases; half of the utterances are other words.

    Twice: what the margin is fitted on the one time is counted the other time (cross-validation).
    ``near_accepts`` is the share of phrases with one word changed that is taken for a phrase, with
    margins that were fitted on any words.
    """
    words = sorted({row["text"] for row in lines_of(val)})
    rng = np.random.default_rng(0)
    phrases = {tuple(rng.choice(words, rng.integers(2, 6))) for _ in range(2 * PHRASES)}
    ordered = sorted(phrases)
    chosen = [ordered[i] for i in rng.permutation(len(ordered))[:PHRASES]]
    grammar = write_phrases(folder / "phrases.txt", chosen)
    changed = {with_one_changed(phrase, words, rng) for phrase in chosen} - set(chosen)
    near = write_phrases(folder / "near.txt", sorted(changed))
    half, figures = WITH_GRAMMAR // 2, folder / "grammar.json"
    mixed = [
        one_manifest(
            put_together(val, folder / f"in{seed}", half, ("--phrases", grammar), seed),
            put_together(val, folder / f"out{seed}", half, ("--num-words", 2, 5), seed),
        )
        for seed in (2, 3)
    ]
    nearly = put_together(val, folder / "near", half, ("--phrases", near), 4)

    def counted(data: Path, *fit: object) -> Row:
        beam = ("--grammar", grammar, "--beam", 16, "--json", figures)
        speechrnn("evaluate", bundle, "--data", data, *beam, *fit, environment=os.environ)
        found: Row = json.loads(figures.read_text(encoding="utf-8"))["grammar"]
        return found

    folds = []
    for fitting, test in (mixed, mixed[::-1]):
        counted(fitting, "--false-accepts", FALSE_ACCEPTS)  # the bundle keeps the margin
        found, near_accepts = counted(test), counted(nearly)["false_accepts"]
        folds.append({**found, "near_accepts": near_accepts})
    shares = ("right", "false_accepts", "near_accepts")
    return {
        **{key: [fold[key] for fold in folds] for key in ("margin", "margin_per_symbol")},
        **{key: sum(fold[key] for fold in folds) for key in ("inside", "outside")},
        **{key: statistics.fmean(fold[key] for fold in folds) for key in shares},
    }


def with_one_changed(
    phrase: tuple[str, ...], words: Sequence[str], rng: np.random.Generator
) -> tuple[str, ...]:
    place = rng.integers(len(phrase))
    other = rng.choice([word for word in words if word != phrase[place]])
    return (*phrase[:place], str(other), *phrase[place + 1 :])


def write_phrases(file: Path, phrases: Iterable[tuple[str, ...]]) -> Path:
    file.write_text("".join(" ".join(phrase) + "\n" for phrase in phrases), encoding="utf-8")
    return file


def one_manifest(*manifests: Path) -> Path:
    """All their rows in a new manifest, beside the folder of the first."""
    rows = [
        {**row, "audio_filepath": str(file.parent / row["audio_filepath"])}
        for file in manifests
        for row in lines_of(file)
    ]
    joined = manifests[0].parent.with_suffix(".jsonl")
    joined.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return joined


def lines_of(file: Path) -> Iterator[Row]:
    return map(json.loads, file.read_text(encoding="utf-8").splitlines())


def make_table(rows: list[Row]) -> str:
    """Markdown: a line for each task, the mean over its seeds and the spread."""
    lines = [
        "| task | seeds | WER % | lowest to highest | CER % | exact % | ECE % "
        "| start error, median / 95 % in ms | grammar: right / false accepts / near % "
        "| parameters | minutes |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for task in TASKS:
        runs = [row for row in rows if row["task"] == task.name]
        if runs:
            lines.append(f"| {task.name} | {' | '.join(cells(runs))} |")
    return "\n".join(lines) + "\n"


def cells(runs: list[Row]) -> Iterator[str]:
    def mean(*keys: str, scale: float = 100.0) -> float:
        values = []
        for row in runs:
            for key in keys:
                row = row[key]
            values.append(scale * float(row))  # type: ignore[arg-type]
        return statistics.fmean(values)

    wers = [100 * row["wer"] for row in runs]
    yield str(len(runs))
    yield f"{mean('wer'):.2f}"
    yield f"{min(wers):.2f} to {max(wers):.2f}"
    for key in ("cer", "accuracy", "ece"):
        yield f"{mean(key):.2f}"
    timed = "start_median_s" in runs[0]
    median, most = ("start_median_s", "start_95_s")
    yield f"{mean(median, scale=1000):.0f} / {mean(most, scale=1000):.0f}" if timed else "-"
    grammar = "grammar" in runs[0]
    shares = ("right", "false_accepts", "near_accepts")
    yield " / ".join(f"{mean('grammar', share):.2f}" for share in shares) if grammar else "-"
    yield f"{runs[0]['parameters']:,}"
    yield f"{mean('minutes', scale=1.0):.1f}"


if __name__ == "__main__":
    main()
