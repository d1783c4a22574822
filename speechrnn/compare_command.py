"""``speechrnn compare``: encoders of one budget, trained alike, in one table and on one page."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from speechrnn.cli_options import add_recipe, count
from speechrnn.commands import INTERRUPTED, OK, SOME_FAILED, complain
from speechrnn.errors import ConfigError
from speechrnn.options import MOST_SEED

if TYPE_CHECKING:
    from speechrnn.comparison.plan import Question
    from speechrnn.datasets.manifest import Utterance

JSON, MARKDOWN, PAGE = "comparison.json", "comparison.md", "comparison.html"


def add_options(compare: argparse.ArgumentParser) -> None:
    """What the command takes."""
    compare.add_argument("--data", required=True, help="a folder per label, or a .jsonl manifest")
    compare.add_argument("--val", metavar="DATA", help="other speakers; default: split by speaker")
    compare.add_argument("--encoders", metavar="A,B,C", help="default: every encoder there is")
    add_recipe(compare, example="train.steps=500 for all, lstm.num_layers=3 for one of them")
    compare.add_argument("--seeds", default="0,1,2", metavar="N,N", help="default: 0,1,2")
    budget = compare.add_mutually_exclusive_group()
    budget.add_argument(
        "--params",
        type=count,
        metavar="N",
        help="parameters of each model; default: those of the recipe as it is",
    )
    budget.add_argument(
        "--match",
        choices=("parameters", "macs"),
        default="parameters",
        help="what all have as much of as the recipe as it is; default: parameters",
    )
    compare.add_argument(
        "--output",
        type=Path,
        required=True,
        metavar="DIR",
        help="of everything; what is done in it is not done again",
    )
    compare.add_argument(
        "--retry-errors", action="store_true", help="what failed before is done again"
    )
    compare.set_defaults(words=None)


def compare(options: argparse.Namespace) -> int:
    """Train encoders of one budget, export them, measure, and put everything together."""
    from speechrnn.extras import require_packages, require_training
    from speechrnn.training_options import training_rows

    rows = training_rows(options)
    require_training("compare")
    require_packages("compare", "train", "jiwer", "matplotlib", "scipy")
    from speechrnn.comparison.page import render
    from speechrnn.comparison.plan import check_folder, make_plan
    from speechrnn.comparison.process import locked
    from speechrnn.comparison.run import run_comparison
    from speechrnn.comparison.table import markdown
    from speechrnn.files import encodable, json_text, write_atomically
    from speechrnn.training_data import labels_of

    folder, retry = options.output, options.retry_errors
    check_folder(folder)
    question, train, val = _question(options, rows)
    labels = labels_of(question.recipe, train)
    with locked(folder) as lock:
        plan = make_plan(question, folder, labels, retry_errors=retry, tell=_tell)
        for data, part in ((question.train, train), (question.val, val)):
            if data not in (options.data, options.val):
                _write_manifest(Path(data), part)
        try:
            summary = run_comparison(plan, lock=lock, retry_errors=retry, tell=_tell)
        except KeyboardInterrupt:
            complain("speechrnn compare: interrupted; what is done is kept, the same call goes on")
            return INTERRUPTED
        table = encodable(markdown(summary))
        write_atomically(folder / JSON, json_text(summary).encode())
        write_atomically(folder / MARKDOWN, table.encode())
        write_atomically(folder / PAGE, encodable(render(summary)).encode())
    print(table, end="")
    print(f"\n{folder / PAGE}: the page")
    for line in summary["errors"]:
        complain(f"did not work: {line}")
    return SOME_FAILED if summary["errors"] else OK


def _tell(line: str) -> None:
    print(line, flush=True)


def _question(
    options: argparse.Namespace, rows: tuple[list[Utterance], list[Utterance]]
) -> tuple[Question, list[Utterance], list[Utterance]]:
    """What the options ask for, and the rows to learn from and to be measured on."""
    from speechrnn.comparison.plan import Question
    from speechrnn.datasets.manifest import check_disjoint, has_splits, split_by_speaker
    from speechrnn.encoders import ENCODERS
    from speechrnn.training_options import public_name, recipe_of

    encoders = names_of(options.encoders, ENCODERS.names())
    shared, own = _overrides(options.set, encoders, ENCODERS.names())
    recipe = recipe_of(argparse.Namespace(**{**vars(options), "set": shared}))
    train, val = rows
    if not val:
        train, val = split_by_speaker(train, recipe.train.val_fraction)
    check_disjoint(train, val)
    # Parts that no name of the caller's stands for get manifests of their own.
    own_parts = not options.val or has_splits(options.data)
    parts = options.output / "data"
    val_name = public_name(options.val or options.data) + ("" if options.val else ", held out")
    question = Question(
        train=str(parts / "train.jsonl") if own_parts else options.data,
        val=str(parts / "val.jsonl") if own_parts else options.val,
        names=(public_name(options.data), val_name),
        hashes=(hash_of(train), hash_of(val)),
        recipe=recipe,
        encoders=encoders,
        seeds=seeds_of(options.seeds),
        match=options.match,
        parameters=options.params,
        own=own,
    )
    return question, train, val


def names_of(text: str | None, known: Sequence[str]) -> tuple[str, ...]:
    """The encoders that --encoders names; all of them where it is not given."""
    names = [name.strip() for name in text.split(",")] if text else list(known)
    for name in names:
        if name not in known:
            raise ConfigError(
                f"--encoders {text}: unknown encoder {name!r}, expected some of {', '.join(known)}"
            )
    return tuple(dict.fromkeys(names))


def seeds_of(text: str) -> tuple[int, ...]:
    """The seeds that --seeds names."""
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) <= MOST_SEED for part in parts):
        expected = f"whole numbers from 0 to {MOST_SEED}, as in 0,1,2"
        raise ConfigError(f"--seeds {text}: expected {expected}")
    return tuple(dict.fromkeys(map(int, parts)))


def _overrides(
    overrides: Sequence[str], encoders: Sequence[str], known: Sequence[str]
) -> tuple[list[str], dict[str, list[str]]]:
    """What all share, and what is one encoder's own: ``--set lstm.num_layers=3``."""
    shared: list[str] = []
    own: dict[str, list[str]] = {}
    for override in overrides:
        section, _, rest = override.partition(".")
        if section.strip() in set(known).difference(encoders):
            raise ConfigError(
                f"--set {override}: {section.strip()} is not compared, expected one of "
                f"{', '.join(encoders)}; or add it to --encoders"
            )
        if section.strip() in encoders:
            own.setdefault(section.strip(), []).append(rest)
        elif override.partition("=")[0].strip() == "train.seed":
            raise ConfigError(f"--set {override}: expected --seeds {override.partition('=')[2]}")
        else:
            shared.append(override)
    return shared, own


def hash_of(rows: Sequence[Utterance]) -> str:
    """Of what is said where by whom, wherever the folder lies."""
    import hashlib  # with OpenSSL: what other commands need not wait for

    said = [[*row.path.parts[-2:], row.text, row.speaker] for row in rows]
    return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16]


def _write_manifest(file: Path, rows: Sequence[Utterance]) -> None:
    """A part of a data set as a manifest of its own."""
    from speechrnn.files import json_text, write_atomically

    lines = []
    for row in rows:
        settings = {
            "audio_filepath": str(row.path.absolute()),
            "text": row.text,
            "speaker": row.speaker or None,
            "duration": row.duration_s,
        }
        known = {key: value for key, value in settings.items() if value is not None}
        lines.append(json_text(known, indent=None))
    write_atomically(file, "".join(lines).encode())
