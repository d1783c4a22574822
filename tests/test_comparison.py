"""``speechrnn compare``: what is trained, what is kept, what is done again, what is shown."""

from __future__ import annotations

import dataclasses
import itertools
import json
import os
import re
import shutil
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import TINY_RECIPE, Run

from speechrnn.compare_command import hash_of, names_of, seeds_of
from speechrnn.comparison import measure, process, run
from speechrnn.comparison.cells import read_cell
from speechrnn.comparison.exported import KINDS
from speechrnn.comparison.page import render
from speechrnn.comparison.plan import (
    Plan,
    Question,
    check_folder,
    make_plan,
    unsized_encoder,
)
from speechrnn.comparison.process import CommandError, Commands, locked
from speechrnn.comparison.table import COLUMNS, columns_of, markdown, mean_interval
from speechrnn.config import read_toml
from speechrnn.datasets.manifest import Utterance, read_data
from speechrnn.errors import ConfigError, OutputError
from speechrnn.labels import Labels
from speechrnn.recipe import Recipe

LABELS = Labels(("go", "no"))
NAN = "the loss became nan in epoch 1; expected a number; lower train.learning_rate"


@pytest.fixture(scope="module")
def recipe() -> Recipe:
    return Recipe.from_mapping(tomllib.loads(TINY_RECIPE))


def question(recipe: Recipe, **changes: Any) -> Question:
    settings = {
        "train": "train.jsonl",
        "val": "val.jsonl",
        "names": ("words/train.jsonl", "words/val.jsonl"),
        "hashes": ("a", "b"),
        "recipe": recipe,
        "encoders": ("gru", "simple_rnn"),
        "seeds": (0, 1),
        "parameters": 3000,
        **changes,
    }
    return Question(**settings)


class Pretended(Commands):
    """Commands that take no time: a training copies a bundle, an export a file."""

    bundle: Path
    tflite: Path
    called: list[tuple[str, ...]]
    fails: Callable[[tuple[str, ...]], str | None]

    def speechrnn(self, *arguments: object) -> None:
        words = tuple(map(str, arguments))
        type(self).called.append(words)
        if (reason := type(self).fails(words)) is not None:
            raise CommandError(reason)
        value = dict(itertools.pairwise(words))
        if words[0] == "train":
            shutil.copytree(self.bundle, value["--out"])
        elif words[0] == "evaluate":
            share = 0.9 if "gru" in words[1] else 0.7 + 0.01 * int(Path(words[1]).parts[-2][-1])
            figures = {"interval": [0, 1], "wer": 1 - share, "cer": 0.1, "utterances": 40}
            Path(value["--json"]).write_text(json.dumps({"accuracy": share, **figures}))
        elif words[:2] == ("diagnose", "reach"):
            reach_s = 10.0 if "gru" in words[2] else 0.25
            Path(value["--json"]).write_text(json.dumps({"reach_s": reach_s}))
        elif words[0] == "diagnose":
            layers = [
                {"decades_per_second": rate}
                for rate in (-1.5, -0.5, None)  # in the last an error ends
            ]
            one = {"weights": "trained", "layers": layers}
            other = {"weights": "initial", "layers": [{**layers[0], "decades_per_second": -9.0}]}
            Path(value["--json"]).write_text(json.dumps({"measurements": [one, other]}))
        else:
            Path(value["--to"]).parent.mkdir(exist_ok=True)
            shutil.copyfile(self.tflite, value["--to"])

    def python(self, *arguments: object) -> str:
        what, files = str(arguments[2]), [Path(str(a)).name for a in arguments[3:]]
        type(self).called.append((what, *files))
        if what == "memory":
            return json.dumps([[1, 50.0], [60, 80.0]])
        times = dict.fromkeys(files, 1.5)
        lengths = {name: [[1, 1.5], [60, 90.0]] for name in files if "float32" in name}
        machine = {"processor": "X", "cores": 2, "load_average": 0.5}
        return json.dumps({"latency_ms": times, "lengths_ms": lengths, "machine": machine})


@pytest.fixture
def pretended(
    monkeypatch: pytest.MonkeyPatch, tiny_bundle: Path, tiny_tflite: Path
) -> type[Pretended]:
    Pretended.bundle, Pretended.tflite, Pretended.called = tiny_bundle, tiny_tflite, []
    Pretended.fails = staticmethod(lambda words: None)
    monkeypatch.setattr(run, "Commands", Pretended)
    return Pretended


@pytest.fixture(scope="module")
def first_plan(recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return make_plan(question(recipe), tmp_path_factory.mktemp("plan") / "out", LABELS)


@pytest.fixture
def plan(first_plan: Plan, tmp_path: Path) -> Plan:
    """A plan of real sizes, of which nothing is done."""
    folder = shutil.copytree(first_plan.folder, tmp_path / "out")
    return dataclasses.replace(first_plan, folder=folder)


def pretend_costs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred parameters for each step of a size."""

    def counter(*_: Any) -> Callable[[Any], int]:
        return lambda encoder: 100 * getattr(encoder, "units", getattr(encoder, "width", 0))

    monkeypatch.setattr("speechrnn.comparison.plan.counter", counter)


def trainings(commands: type[Pretended]) -> list[str]:
    return [Path(w[w.index("--out") + 1]).parent.name for w in commands.called if w[0] == "train"]


# ------------------------------------------------------------------ the plan


def test_every_encoder_gets_the_budget_and_a_recipe_that_can_be_trained(plan: Plan) -> None:
    assert [c.name for c in plan.contenders] == ["gru", "simple_rnn"]
    for contender in plan.contenders:
        assert contender.parameters == pytest.approx(3000, rel=0.1)
        written = Recipe.from_mapping(read_toml(plan.recipe_file(contender.name))).to_mapping()
        assert written["encoder"] == contender.encoder
        expected = plan.question.recipe.to_mapping()
        assert {**written, "encoder": 0} == {**expected, "encoder": 0}


def test_a_plan_is_not_made_twice_and_takes_more_encoders_and_seeds(
    plan: Plan, recipe: Recipe, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_costs(monkeypatch)
    again = make_plan(question(recipe, seeds=(0, 1, 2)), plan.folder, LABELS)
    assert again.contenders == plan.contenders
    more = make_plan(question(recipe, encoders=("gru", "lstm")), plan.folder, LABELS)
    assert more.contenders[0] == plan.contenders[0]
    assert more.contenders[1].size == "units=30"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"hashes": ("a", "c")}, 'validation recordings = "b", now it is "c"'),
        ({"parameters": 4000}, "params = 3000, now it is 4000"),
        ({"own": {"gru": ["num_layers=3"]}}, "gru.num_layers = 1, now it is 3"),
    ],
)
def test_another_comparison_does_not_go_on_in_the_folder(
    changes: dict[str, Any], said: str, plan: Plan, recipe: Recipe
) -> None:
    with pytest.raises(ConfigError, match=f"was begun with {said}; .*another --output"):
        make_plan(question(recipe, **changes), plan.folder, LABELS)


def test_an_encoder_takes_over_what_both_inherit_and_its_own_settings(recipe: Recipe) -> None:
    sections = recipe.to_mapping()
    sections["encoder"] |= {"num_layers": 3, "residual": True, "dropout": 0.25}
    asked = question(Recipe.from_mapping(sections), own={"transformer": ["num_heads=2"]})
    lstm, transformer = (unsized_encoder(asked, name) for name in ("lstm", "transformer"))
    assert (lstm.num_layers, lstm.residual, lstm.dropout) == (3, True, 0.25)
    assert (transformer.dropout, transformer.num_heads) == (0.25, 2)
    assert transformer.num_layers == type(transformer)().num_layers, "layers of another kind"


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ("units=5", "--set gru.units=5: the budget decides this setting"),
        ("width=5", "gru: encoder.width: unknown setting; encoder knows"),
    ],
)
def test_settings_of_an_encoder_that_cannot_be_are_refused(
    own: str, said: str, recipe: Recipe
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        unsized_encoder(question(recipe, own={"gru": [own]}), "gru")


def test_one_encoder_without_a_size_says_so_and_all_without_are_refused(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_costs(monkeypatch)
    asked = question(recipe, encoders=("gru", "transformer"), parameters=1200)
    gru, transformer = make_plan(asked, tmp_path / "one", LABELS).contenders
    assert (gru.size, gru.error) == ("units=12", None)
    assert "width=8 gives 800 and width=16 gives 1,600" in (transformer.error or "")
    alone = question(recipe, encoders=("transformer",), parameters=1200)
    with pytest.raises(ConfigError, match="no encoder can be compared; transformer: no size"):
        make_plan(alone, tmp_path / "two", LABELS)


def test_multiply_adds_are_matched_with_those_of_the_recipe(
    recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend_costs(monkeypatch)
    asked = question(recipe, encoders=("simple_rnn",), match="macs", parameters=None)
    plan = make_plan(asked, tmp_path / "out", LABELS)
    units = recipe.model.to_mapping()["encoder"]["units"]
    assert plan.budget == 100 * units
    (found,) = plan.contenders
    assert found.size == f"units={units}"
    assert found.parameters not in (None, plan.budget), "they are counted, whatever is matched"


@pytest.mark.parametrize("entry", ["notes.txt", "plan.json/x"])
def test_a_folder_with_something_else_is_refused(entry: str, tmp_path: Path) -> None:
    (tmp_path / entry).parent.mkdir(exist_ok=True)
    (tmp_path / entry).touch()
    with pytest.raises(OutputError, match="holds no comparison"):
        check_folder(tmp_path)
    with pytest.raises(OutputError, match="cannot be used"):
        check_folder(tmp_path / entry)
    check_folder(tmp_path / "new")


# ------------------------------------------------------------------ cells


def test_what_is_done_is_not_done_again(plan: Plan, pretended: type[Pretended]) -> None:
    first = run.run_comparison(plan)
    assert trainings(pretended) == ["gru-0", "simple_rnn-0", "gru-1", "simple_rnn-1"]
    pretended.called.clear()
    assert run.run_comparison(plan) == first
    assert pretended.called == []


def test_a_comparison_that_was_stopped_goes_on(plan: Plan, pretended: type[Pretended]) -> None:
    def stopped(words: tuple[str, ...]) -> None:
        if words[0] == "train" and "gru-1" in words[-2]:
            raise KeyboardInterrupt

    pretended.fails = staticmethod(stopped)
    with pytest.raises(KeyboardInterrupt):
        run.run_comparison(plan)
    assert read_cell(plan, "gru", 1) is None
    pretended.fails = staticmethod(lambda words: None)
    pretended.called.clear()
    checkpoint = plan.cell("gru", 1) / "bundle.checkpoint"
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    checkpoint.touch()  # what an interrupted training leaves
    assert run.run_comparison(plan)["errors"] == []
    assert trainings(pretended) == ["gru-1", "simple_rnn-1"]
    assert [words[-1] for words in pretended.called if words[0] == "train"] == [
        "--resume",
        "--force",
    ]


def test_a_finished_training_without_a_record_is_measured_alone(
    plan: Plan, pretended: type[Pretended]
) -> None:
    run.run_comparison(plan)
    (plan.cell("gru", 0) / "cell.json").unlink()
    pretended.called.clear()
    run.run_comparison(plan)
    assert [words[0] for words in pretended.called] == ["evaluate", "diagnose", "diagnose"]


def test_a_cell_whose_loss_is_no_number_says_so_and_the_others_go_on(
    plan: Plan, pretended: type[Pretended]
) -> None:
    def nan(words: tuple[str, ...]) -> str | None:
        return NAN if words[0] == "train" and "simple_rnn-0" in words[-2] else None

    pretended.fails = staticmethod(nan)
    told: list[str] = []
    summary = run.run_comparison(plan, tell=told.append)
    assert f"simple_rnn, seed 0: failed: {NAN}" in told
    assert summary["errors"] == [f"simple_rnn, seed 0: {NAN}"]
    assert [row["trained"] for row in summary["encoders"]] == [2, 1]
    # Another seed's bundle is exported, and this one's failure shown.
    assert "int8" in summary["encoders"][1]["files"]
    assert NAN in markdown(summary)
    assert NAN in render(summary)

    pretended.called.clear()
    run.run_comparison(plan)
    assert trainings(pretended) == [], "an error is a result until it is asked for again"
    pretended.fails = staticmethod(lambda words: None)
    again = run.run_comparison(plan, retry_errors=True)
    assert trainings(pretended) == ["simple_rnn-0"]
    assert again["errors"] == []


def test_a_file_that_cannot_be_exported_says_so_and_the_others_are_there(
    plan: Plan, pretended: type[Pretended]
) -> None:
    pretended.fails = staticmethod(
        lambda words: "no int8" if "int8" in words and "gru" in words[1] else None
    )
    summary = run.run_comparison(plan)
    gru, other = summary["encoders"]
    assert set(gru["files"]) == {"float32", "dynamic"}
    assert set(other["files"]) == set(KINDS)
    assert summary["errors"] == ["gru, int8: no int8"]
    titles, rows = columns_of(summary)
    assert rows[0][titles.index("int8, 1 s")] == "-"


def test_measurements_that_failed_are_said_and_done_again_where_asked_for(
    plan: Plan, pretended: type[Pretended], monkeypatch: pytest.MonkeyPatch
) -> None:
    pretended.fails = staticmethod(
        lambda words: "no memory" if words[0] == "diagnose" and "gru-1" in words[2] else None
    )

    def killed(self: Pretended, *arguments: object) -> str:
        raise CommandError("ended by signal 9")

    with monkeypatch.context() as patched:
        patched.setattr(pretended, "python", killed)
        summary = run.run_comparison(plan)
    assert summary["errors"][:3] == [
        "gru, seed 1, gradient flow: no memory",
        "gru, seed 1, reach: no memory",
        "times: ended by signal 9",
    ]
    assert summary["encoders"][0]["trained"] == 2, "its accuracy counts"
    pretended.fails = staticmethod(lambda words: None)
    pretended.called.clear()
    assert run.run_comparison(plan)["errors"] == summary["errors"]
    assert pretended.called == []
    again = run.run_comparison(plan, retry_errors=True)
    assert again["errors"] == []
    assert trainings(pretended) == []
    assert again["encoders"][0]["files"]["float32"]["latency_ms"] == 1.5
    assert len(again["encoders"][0]["reach_s"]["values"]) == 2


def test_the_mean_of_a_reach_that_was_not_seen_to_its_end_is_a_bound() -> None:
    (reach,) = [cell for title, cell in COLUMNS if title == "reach s"]
    assert reach({"reach_s": mean_interval([10.0, 10.0, 2.5])}) == "over 7.50"
    assert reach({"reach_s": mean_interval([9.0, 2.0])}) == "5.50"


def test_a_damaged_bundle_of_a_cell_is_trained_again(
    plan: Plan, pretended: type[Pretended]
) -> None:
    bundle = shutil.copytree(pretended.bundle, plan.cell("gru", 0) / "bundle")
    (bundle / "config.json").write_text("")  # a power cut
    checkpoint = bundle.with_name("bundle.checkpoint")
    checkpoint.touch()
    pretended.fails = staticmethod(lambda words: "stop" if words[0] == "train" else None)
    run.run_comparison(plan)
    assert trainings(pretended)[0] == "gru-0"
    assert pretended.called[0][-1] == "--resume"


def test_int8_is_calibrated_on_the_training_data(plan: Plan, pretended: type[Pretended]) -> None:
    run.run_comparison(plan)
    exports = [words for words in pretended.called if words[0] == "export"]
    assert len(exports) == 2 * len(KINDS)
    for words in exports:
        assert ("--calibrate" in words) == ("int8" in words)
        if "int8" in words:
            assert words[words.index("--calibrate") + 1] == plan.question.train


# ------------------------------------------------------------------ the table and the page


def test_the_table_holds_what_was_measured(plan: Plan, pretended: type[Pretended]) -> None:
    summary = run.run_comparison(plan)
    titles, rows = columns_of(summary)
    found = [dict(zip(titles, row, strict=True)) for row in rows]
    assert found[0]["accuracy %"] == "90.00 ± 0.00"
    # Two seeds, 0.70 and 0.71: t(0.975, 1) = 12.7062 times 0.005.
    assert found[1]["accuracy %"] == "70.50 ± 6.35"
    assert [row["reach s"] for row in found] == ["over 10", "0.25"]
    assert "WER %" not in titles, "of classifiers accuracy says it"
    for row, contender in zip(found, plan.contenders, strict=True):
        assert row["size"] == contender.size
        assert row["parameters"] == f"{contender.parameters:,}"
        assert row["int8, 1 s"].endswith("kB, 1.50 ms")
        assert row["peak memory MB"] == "50, 60 s: 80"
        assert row["gradient, decades/s"] == "-1.5"
        assert float(row["multiply-adds of 1 s, M"]) > 0
    text = markdown(summary)
    for record in summary["cells"]:
        assert record["command"] in text
    assert "words/train.jsonl" in text


def test_a_printed_command_trains_the_cell_again(plan: Plan, pretended: type[Pretended]) -> None:
    from speechrnn.cli import make_parser

    record = run.run_comparison(plan)["cells"][-1]
    words = record["command"].split()
    assert words[0] == "speechrnn"
    options = make_parser().parse_args(words[1:])
    assert options.config == plan.recipe_file("simple_rnn")
    assert options.set == ["train.seed=1"]
    assert (options.data, options.val) == (plan.question.train, plan.question.val)


def test_the_page_needs_nothing_beside_it(plan: Plan, pretended: type[Pretended]) -> None:
    page = render(run.run_comparison(plan))
    sources = re.findall(r'(?:src|srcset|href)="([^"]*)"', page)
    assert len(sources) == 2 * len(re.findall("<picture>", page)) == 10
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    for picture in ("accuracy", "courses", "costs", "files", "lengths"):
        assert f'id="{picture}"' in page


def test_the_page_of_a_comparison_in_which_nothing_worked_has_no_pictures(
    plan: Plan, pretended: type[Pretended]
) -> None:
    pretended.fails = staticmethod(lambda words: "no <room>")
    summary = run.run_comparison(plan)
    assert len(summary["errors"]) == 4
    page = render(summary)
    assert "<picture>" not in page
    assert "no &lt;room&gt;" in page


def test_the_interval_is_that_of_the_mean() -> None:
    # t(0.975, 2) = 4.30265, standard deviation 1, of three.
    found = mean_interval([1.0, 2.0, 3.0])
    assert found is not None
    assert found["mean"] == 2.0
    assert found["high"] - 2.0 == pytest.approx(4.302653 / 3**0.5)
    assert 2.0 - found["low"] == pytest.approx(found["high"] - 2.0)
    assert mean_interval([5.0]) == {"mean": 5.0, "low": None, "high": None, "values": [5.0]}
    assert mean_interval([]) is None


# ------------------------------------------------------------------ files, processes


def test_a_file_is_measured_at_every_length(
    tiny_tflite: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "LENGTHS_S", (1, 3))
    monkeypatch.setattr(measure, "ROUNDS", 2)
    found = measure.times([tiny_tflite])
    assert found["latency_ms"][tiny_tflite.name] > 0
    assert [seconds for seconds, _ in found["lengths_ms"][tiny_tflite.name]] == [1, 3]
    assert found["machine"]["cores"] == os.cpu_count()
    (_, first), (_, last) = measure.memory(tiny_tflite)
    assert 10 < first <= last


def test_an_interrupted_command_is_told_once_and_may_keep_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, kept = tmp_path / "begun", tmp_path / "kept"
    program = (
        "import pathlib, sys, time\n"
        "try:\n    pathlib.Path(sys.argv[1]).touch(); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    time.sleep(0.2); pathlib.Path(sys.argv[2]).touch()\n"
    )

    def look() -> None:
        if begun.exists():
            raise KeyboardInterrupt

    monkeypatch.setattr(process, "LOOK_EVERY_S", 0.02)
    with pytest.raises(KeyboardInterrupt):
        Commands(look=look).python("-c", program, begun, kept)
    assert kept.exists()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import sys; sys.exit('speechrnn train: error: no room')", "no room"),
        ("import sys; sys.exit(3)", "exit status 3"),
        ("import os; os.kill(os.getpid(), 9)", "ended by signal 9"),
    ],
)
def test_a_failed_command_says_why(program: str, said: str) -> None:
    with pytest.raises(CommandError, match=f"^{said}$"):
        Commands().python("-c", program)


def test_two_comparisons_do_not_work_in_one_folder(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(OutputError, match="is at work in it"), locked(tmp_path):
        pass
    with locked(tmp_path) as lock:
        assert lock is not None


def test_the_lock_is_held_by_what_a_killed_comparison_began(tmp_path: Path) -> None:
    import subprocess

    with locked(tmp_path) as lock:
        assert lock is not None
        sleeping = [sys.executable, "-c", "input()"]
        orphan = subprocess.Popen(sleeping, stdin=subprocess.PIPE, pass_fds=(lock,))
    try:
        with pytest.raises(OutputError, match="a training that one began"), locked(tmp_path):
            pass
    finally:
        orphan.communicate(b"\n")
    with locked(tmp_path):
        pass


# ------------------------------------------------------------------ the command line


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--encoders", "gru,lstn"), "unknown encoder 'lstn', expected some of"),
        (("--seeds", "0,x"), "--seeds 0,x: expected whole numbers"),
        (("--set", "train.seed=4"), "--set train.seed=4: expected --seeds 4"),
        (("--params", "0"), "expected a whole number from 1 to"),
        (("--params", "9", "--match", "macs"), "not allowed with argument"),
        (("--encoders", "gru", "--set", "gru.uints=4"), "gru: encoder.uints: unknown setting"),
        (("--encoders", "gru", "--set", "lstm.num_layers=3"), "lstm is not compared, expected one"),
    ],
)
def test_a_wrong_call_is_refused_before_anything_is_made(
    options: tuple[str, ...], said: str, tiny_data: Path, tmp_path: Path, run_cli: Run
) -> None:
    out = tmp_path / "out"
    found = run_cli("compare", "--data", tiny_data, "--output", out, *options)
    assert found.status == 2
    assert said in found.err
    assert not (out / "plan.json").exists()


def test_names_and_seeds_are_taken_once() -> None:
    assert names_of("gru, lstm,gru", ["gru", "lstm"]) == ("gru", "lstm")
    assert names_of(None, ["a", "b"]) == ("a", "b")
    assert seeds_of("2, 0,2") == (2, 0)


def test_recordings_are_the_same_wherever_they_lie(tiny_data: Path, tmp_path: Path) -> None:
    rows = read_data(tiny_data)
    moved = [Utterance(tmp_path / row.path.relative_to(tiny_data), row.text) for row in rows]
    with_speakers = [Utterance(m.path, m.text, r.speaker) for m, r in zip(moved, rows, strict=True)]
    assert hash_of(rows) == hash_of(with_speakers)
    assert len({hash_of(rows), hash_of(moved), hash_of(rows[1:])}) == 3


@pytest.mark.heavy
def test_a_comparison_from_recordings_to_a_page(
    tiny_data: Path, tiny_recipe: Path, tmp_path: Path, run_cli: Run
) -> None:
    out = tmp_path / "out"
    options = ("--config", tiny_recipe, "--set", "train.epochs=2", "--seeds", "0")
    call = ("compare", "--data", tiny_data, "--encoders", "gru,simple_rnn", "--output", out)
    found = run_cli(*call, *options)
    assert found.status == 0, found.err
    assert found.err == "", "no progress where no terminal is"
    summary = json.loads((out / "comparison.json").read_text(encoding="utf-8"))
    assert [set(row["files"]) for row in summary["encoders"]] == 2 * [set(KINDS)]
    assert (out / "comparison.html").stat().st_size > 50_000
    again = run_cli(*call, *options)
    assert "$ speechrnn train" in found.out
    assert "$ speechrnn train" not in again.out


@pytest.mark.heavy
def test_a_training_without_a_number_for_its_loss_is_a_line_of_the_table(
    tiny_data: Path, tiny_recipe: Path, tmp_path: Path, run_cli: Run
) -> None:
    out = tmp_path / "out"
    wild = ("train.learning_rate=1e30", "train.gradient_clip_norm=0", "train.epochs=3")
    options = [part for setting in wild for part in ("--set", setting)]
    call = ("compare", "--data", tiny_data, "--encoders", "gru", "--output", out, "--seeds", "0")
    found = run_cli(*call, "--config", tiny_recipe, *options)
    assert found.status == 1
    assert "gru, seed 0: the loss became nan" in found.err
    assert "the loss became nan" in (out / "comparison.md").read_text(encoding="utf-8")
