"""The command ``transcribe``: one record for each input, in order, whatever happens to one."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import TINY_LABELS, Run, Write, in_each_worker, spawn

import speechrnn
from speechrnn.decoding.long import hear
from speechrnn.errors import AudioError, ConfigError, ModelError
from speechrnn.export import export_bundle
from speechrnn.recognize import load_model
from speechrnn.transcribe import work
from speechrnn.transcribe.engine import WorkerDied, run_by
from speechrnn.transcribe.formats import FILES
from speechrnn.transcribe.inputs import Source
from speechrnn.transcribe.process import Process
from speechrnn.transcribe.setup import Setup
from speechrnn.transcribe.tasks import Finished, Task
from speechrnn.transcribe.work import Transcriber

KEYS = ["audio_filepath", "status", "text", "confidence", "duration", "words", "error"]
EMPTY = {"text": None, "confidence": None, "duration": None, "words": []}
JOBS = pytest.mark.parametrize("jobs", [1, 2], ids=["here", "processes"])


def records_of(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def many(folder: Path, clip: Path, count: int) -> Path:
    """A folder of so many recordings, some of them broken in different ways."""
    folder.mkdir()
    content = clip.read_bytes()
    for number in range(count):
        file = folder / f"{number:03}.wav"
        if number % 7 == 3:
            file.write_bytes([b"", b"no sound", content[:100], content[:-1000]][number % 4])
        else:
            file.write_bytes(content)
    return folder


# ------------------------------------------------------------------ records


def test_one_good_file_is_one_record_on_standard_output(
    tiny_tflite: Path, tiny_data: Path, run_cli: Run
) -> None:
    file = tiny_data / "go" / "ann_nohash_0.wav"
    result = run_cli("transcribe", tiny_tflite, file)
    assert result.status == 0
    assert result.err == ""
    record = json.loads(result.out)
    assert list(record) == KEYS
    assert record["audio_filepath"] == str(file)
    assert record["status"] == "ok"
    assert record["text"] in TINY_LABELS
    assert 1 / 3 <= record["confidence"] <= 1
    assert record["duration"] == 0.4
    (word,) = record["words"]
    assert word == {
        "text": record["text"],
        "start": 0.0,
        "end": 0.4,
        "confidence": record["confidence"],
    }


def test_a_bundle_and_its_tflite_write_the_same_records(
    tiny_bundle: Path, tiny_tflite: Path, tiny_data: Path, run_cli: Run
) -> None:
    by_model = [
        records_of(run_cli("transcribe", m, tiny_data).out) for m in (tiny_bundle, tiny_tflite)
    ]
    assert len(by_model[0]) == 24
    for one, other in zip(*by_model, strict=True):
        assert one["text"] == other["text"]
        assert one["confidence"] == pytest.approx(other["confidence"], abs=1e-4)
        assert one["audio_filepath"] == other["audio_filepath"]


@JOBS
def test_the_command_says_what_the_library_says(
    jobs: int, tiny_tflite: Path, tiny_data: Path, run_cli: Run
) -> None:
    model = load_model(tiny_tflite)
    result = run_cli("transcribe", tiny_tflite, tiny_data, "--jobs", jobs)
    records = records_of(result.out)
    assert records == list(speechrnn.transcribe_files(tiny_tflite, tiny_data, jobs=jobs))
    assert records == list(speechrnn.transcribe_files(model, [tiny_data]))
    for record in records:
        transcript = model.transcribe(record["audio_filepath"])
        assert record["text"] == transcript.text
        assert record["confidence"] == pytest.approx(transcript.confidence, abs=1e-6)


def test_a_model_that_is_loaded_is_for_one_process(tiny_tflite: Path, tiny_data: Path) -> None:
    with pytest.raises(ConfigError, match="expected jobs=1"):
        next(speechrnn.transcribe_files(load_model(tiny_tflite), tiny_data, jobs=2))


@JOBS
def test_a_run_with_failures_ends_with_status_1_and_loses_nothing(
    jobs: int, tiny_tflite: Path, tiny_data: Path, tmp_path: Path, run_cli: Run
) -> None:
    good = tiny_data / "go" / "ann_nohash_0.wav"
    (tmp_path / "broken.wav").touch()
    inputs = [good, tmp_path / "gone.wav", good, tmp_path / "broken.wav", good]
    result = run_cli("transcribe", tiny_tflite, *inputs, "--jobs", jobs)
    records = records_of(result.out)
    assert result.status == 1
    assert [record["audio_filepath"] for record in records] == [str(path) for path in inputs]
    assert [record["status"] for record in records] == ["ok", "error", "ok", "error", "ok"]
    assert {key: records[1][key] for key in EMPTY} == EMPTY
    lines = result.err.splitlines()
    assert lines[:2] == [
        f"{tmp_path}/gone.wav: no such file",
        f"{tmp_path}/broken.wav: is empty (0 bytes)",
    ]
    assert lines[2].startswith("speechrnn transcribe: 5 recordings, 2 failed; ")
    assert "speechrnn transcribe:   1 x no such file" in lines


@pytest.mark.parametrize("jobs", [1, 2, 5])
@pytest.mark.parametrize("format_name", sorted(FILES))
def test_a_file_gets_what_standard_output_gets_whatever_the_number_of_jobs(
    format_name: str, jobs: int, tiny_tflite: Path, tiny_data: Path, tmp_path: Path, run_cli: Run
) -> None:
    inputs = (tiny_data / "نعم", tmp_path / "gone.wav")
    asked = ("transcribe", tiny_tflite, *inputs, "--format", format_name)
    out = run_cli(*asked).out
    to = tmp_path / "result"
    result = run_cli(*asked, "--to", to, "--jobs", jobs)
    assert result.status == 1
    assert result.out == ""
    assert to.read_bytes().decode() == out
    assert out.count("\n") == 9 + (format_name in ("csv", "tsv"))  # and a header


@JOBS
def test_a_tree_mirrors_the_inputs_and_accounts_for_all_of_them(
    jobs: int, tiny_tflite: Path, tiny_data: Path, tmp_path: Path, run_cli: Run
) -> None:
    shutil.copytree(tiny_data, tmp_path / "in")
    (tmp_path / "in" / "go" / "broken.wav").touch()
    out = tmp_path / "out"
    result = run_cli(
        *("transcribe", tiny_tflite, tmp_path / "in", "--to", out, "--jobs", jobs),
        *("--format", "srt,txt,textgrid"),
    )
    assert result.status == 1
    records = records_of((out / "records.jsonl").read_text(encoding="utf-8"))
    assert len(records) == 25
    for record in records:
        inner = Path(record["audio_filepath"]).relative_to(tmp_path / "in")
        for suffix in (".srt", ".txt", ".TextGrid"):
            written = out / f"{inner}{suffix}"
            assert written.exists() == (record["status"] == "ok")
    text = (out / "go" / "ann_nohash_0.wav.txt").read_text(encoding="utf-8")
    assert text.strip() in TINY_LABELS


def test_a_name_that_is_not_utf8_costs_no_record(
    tiny_tflite: Path, tiny_data: Path, tmp_path: Path, run_cli: Run
) -> None:
    clip = (tiny_data / "go" / "ann_nohash_0.wav").read_bytes()
    folder = tmp_path / "in"
    folder.mkdir()
    for name in (b"a.wav", b"caf\xe9.wav", b"z.wav"):
        Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes(clip)
    for to in (tmp_path / "result", tmp_path / "tree/"):
        formats = ("--format", "jsonl,srt") if to.name == "tree" else ()
        result = run_cli("transcribe", tiny_tflite, folder, "--to", to, "--jobs", 2, *formats)
        assert result.status == 0, result.err
    for written in (tmp_path / "result", tmp_path / "tree" / "records.jsonl"):
        records = records_of(written.read_text(encoding="utf-8"))
        name = records[1]["audio_filepath"]
        assert os.fsencode(name) == os.fsencode(folder) + b"/caf\xe9.wav"
    again = run_cli("transcribe", tiny_tflite, folder, "--to", tmp_path / "result", "--resume")
    assert again.status == 0, again.err
    assert "(3 were done before)" in again.err


def test_a_long_recording_gives_its_commands_with_times(
    tiny_tflite: Path, tiny_data: Path, write_audio: Write, run_cli: Run
) -> None:
    clip = soundfile.read(tiny_data / "go" / "ann_nohash_0.wav")[0]
    pause = np.zeros(8000)
    file = write_audio("long.wav", np.concatenate([*[pause, clip] * 6, pause]), 8000)
    (record,) = records_of(run_cli("transcribe", tiny_tflite, file).out)
    assert record["duration"] == pytest.approx(6 * 1.4 + 1)
    assert record["text"] == " ".join(["go"] * 6)
    for number, word in enumerate(record["words"]):
        assert word["start"] == pytest.approx(1 + 1.4 * number, abs=0.1)


def test_a_recording_piped_in_is_transcribed(tiny_tflite: Path, tiny_data: Path) -> None:
    clip = tiny_data / "go" / "ann_nohash_0.wav"
    with clip.open("rb") as sound:
        process = spawn("transcribe", tiny_tflite, "-", stdin=sound)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert json.loads(out)["audio_filepath"] == "-"
    assert json.loads(out)["duration"] == 0.4


# ------------------------------------------------------------------ what is there already


def test_an_existing_result_is_replaced_with_force_alone(
    tiny_tflite: Path, tiny_data: Path, tmp_path: Path, run_cli: Run
) -> None:
    to = tmp_path / "result.jsonl"
    to.write_text("precious", encoding="utf-8")
    arguments = ("transcribe", tiny_tflite, tiny_data / "go", "--to", to)
    refused = run_cli(*arguments)
    assert refused.status == 2
    assert refused.err.startswith(f"speechrnn transcribe: error: {to}: exists; ")
    assert to.read_text(encoding="utf-8") == "precious"
    assert run_cli(*arguments, "--force").status == 0
    assert len(to.read_text(encoding="utf-8").splitlines()) == 8


def test_a_wrong_call_does_not_touch_an_existing_result(
    tiny_tflite: Path, tmp_path: Path, run_cli: Run
) -> None:
    to = tmp_path / "result.jsonl"
    to.write_text("precious", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for model, given in ((tiny_tflite, tmp_path / "empty"), (tmp_path / "no.tflite", to)):
        assert run_cli("transcribe", model, given, "--to", to, "--force").status == 2
        assert to.read_text(encoding="utf-8") == "precious"


@JOBS
def test_a_model_that_is_none_is_one_line(
    jobs: int, tmp_path: Path, tiny_data: Path, run_cli: Run
) -> None:
    model = tmp_path / "model.tflite"
    model.write_bytes(b"no model" * 100)
    result = run_cli("transcribe", model, tiny_data, "--jobs", jobs)
    assert result.status == 2
    assert result.err.count("\n") == 1
    assert str(model) in result.err


@pytest.mark.parametrize(
    "options",
    [
        ("--jobs", 0),
        ("--format", "mp3"),
        ("--format", "srt"),
        ("--resume",),
        ("--retry-errors",),
    ],
    ids=str,
)
def test_options_that_make_no_sense_are_refused(
    options: tuple, tiny_tflite: Path, tiny_data: Path, run_cli: Run
) -> None:
    result = run_cli("transcribe", tiny_tflite, tiny_data, *options)
    assert result.status == 2
    assert result.out == ""
    assert result.err.count("\n") == 1
    assert "expected" in result.err or "give" in result.err or "add" in result.err


def test_a_dry_run_says_what_would_be_done_and_does_nothing(
    tiny_tflite: Path, tiny_data: Path, tmp_path: Path, run_cli: Run
) -> None:
    folder = many(tmp_path / "in", tiny_data / "go" / "ann_nohash_0.wav", 8)
    to = tmp_path / "out" / "result.jsonl"
    asked = ("transcribe", tiny_tflite, folder, "--to", to)
    result = run_cli(*asked, "--dry-run")
    assert result.status == 0
    assert result.out.splitlines() == [f"transcribe\t{folder}/{i:03}.wav" for i in range(8)]
    assert not to.exists()
    run_cli(*asked)
    os.utime(folder / "001.wav", ns=(1, 1))
    (folder / "008.wav").write_bytes((folder / "000.wav").read_bytes())
    planned = dict(
        reversed(line.split("\t"))
        for line in run_cli(*asked, "--resume", "--dry-run").out.splitlines()
    )
    assert planned[f"{folder}/008.wav"] == "transcribe"
    assert planned[f"{folder}/001.wav"] == "check"


def test_fail_fast_stops_at_the_first_error(
    tiny_tflite: Path, tiny_data: Path, tmp_path: Path, run_cli: Run
) -> None:
    folder = many(tmp_path / "in", tiny_data / "go" / "ann_nohash_0.wav", 20)
    result = run_cli("transcribe", tiny_tflite, folder, "--fail-fast", "--jobs", 2)
    assert result.status == 1
    assert [record["status"] for record in records_of(result.out)] == ["ok"] * 3 + ["error"]


# ------------------------------------------------------------------ going on


@pytest.fixture
def pile(tiny_tflite: Path, tiny_data: Path, tmp_path: Path, run_cli: Run) -> tuple[Path, bytes]:
    """A folder of recordings, and the records of an undisturbed run."""
    folder = many(tmp_path / "in", tiny_data / "go" / "ann_nohash_0.wav", 60)
    whole = tmp_path / "whole.jsonl"
    assert run_cli("transcribe", tiny_tflite, folder, "--to", whole, "--jobs", 1).status == 1
    return folder, whole.read_bytes()


def test_resuming_a_finished_run_does_nothing_again(
    pile: tuple[Path, bytes], tiny_tflite: Path, tmp_path: Path, run_cli: Run
) -> None:
    folder, whole = pile
    to = tmp_path / "whole.jsonl"
    result = run_cli("transcribe", tiny_tflite, folder, "--to", to, "--resume")
    assert result.status == 1  # some are still broken
    assert "60 recordings (60 were done before), 9 failed" in result.err
    assert to.read_bytes() == whole


def test_what_changed_is_done_again_and_nothing_else(
    pile: tuple[Path, bytes], tiny_tflite: Path, tiny_data: Path, tmp_path: Path, run_cli: Run
) -> None:
    folder, whole = pile
    to = tmp_path / "whole.jsonl"
    other = (tiny_data / "turn on" / "bob_nohash_1.wav").read_bytes()
    before = (folder / "005.wav").stat()
    (folder / "005.wav").write_bytes(other)
    assert len(other) == before.st_size
    os.utime(folder / "005.wav", ns=(before.st_atime_ns, before.st_mtime_ns))
    (folder / "003.wav").write_bytes(other)  # was broken
    (folder / "007.wav").unlink()
    (folder / "0041.wav").write_bytes(other)  # new, in the middle
    result = run_cli("transcribe", tiny_tflite, folder, "--to", to, "--resume")
    assert "60 recordings (57 were done before)" in result.err
    changed = {Path(r["audio_filepath"]).name: r for r in records_of(to.read_text("utf-8"))}
    unchanged = {Path(r["audio_filepath"]).name: r for r in records_of(whole.decode())}
    assert changed["005.wav"]["text"] == "turn on"
    assert changed["003.wav"]["status"] == "ok"
    assert "007.wav" not in changed
    assert list(changed) == sorted(changed)
    for name in set(changed) - {"003.wav", "005.wav", "0041.wav"}:
        assert changed[name] == unchanged[name]
    fresh = tmp_path / "fresh.jsonl"
    run_cli("transcribe", tiny_tflite, folder, "--to", fresh)
    assert fresh.read_bytes() == to.read_bytes()


def test_another_model_or_other_options_do_everything_again(
    pile: tuple[Path, bytes], tiny_tflite: Path, tmp_path: Path, run_cli: Run
) -> None:
    folder, _ = pile
    to = tmp_path / "whole.jsonl"
    result = run_cli(
        "transcribe", tiny_tflite, folder, "--to", to, "--resume", "--threshold", 0.999999
    )
    assert "is of another model or of other options; everything is done again" in result.err
    assert "were done before" not in result.err
    texts = {record["text"] for record in records_of(to.read_text("utf-8"))}
    assert texts <= {"", None}


def test_errors_are_kept_unless_they_are_to_be_tried_again(
    pile: tuple[Path, bytes], tiny_tflite: Path, tmp_path: Path, run_cli: Run
) -> None:
    folder, whole = pile
    asked = ("transcribe", tiny_tflite, folder, "--to", tmp_path / "whole.jsonl", "--resume")
    assert "(60 were done before)" in run_cli(*asked).err
    assert "(51 were done before)" in run_cli(*asked, "--retry-errors").err
    assert (tmp_path / "whole.jsonl").read_bytes() == whole


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_is_killed_goes_on_to_the_same_records(
    jobs: int, pile: tuple[Path, bytes], tiny_tflite: Path, tmp_path: Path, run_cli: Run
) -> None:
    folder, whole = pile
    to = tmp_path / "killed.jsonl"
    asked = ("transcribe", tiny_tflite, folder, "--to", to, "--jobs", jobs)
    for attempt in range(3):
        process = spawn(*asked, *(("--resume",) if attempt else ()))
        deadline = time.monotonic() + 60
        partial = to.with_name(f"{to.name}.partial")
        while not partial.exists() and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        time.sleep(0.1 * attempt)
        process.kill()
        process.communicate()
        partial.unlink(missing_ok=True)
    if not to.exists():
        refused = run_cli(*asked)
        assert refused.status == 2
        assert "pass --resume to go on" in refused.err
    assert run_cli(*asked, "--resume").status == 1
    assert to.read_bytes() == whole
    assert not to.with_name(f"{to.name}.partial").exists()


def test_a_torn_ledger_is_one_line(
    pile: tuple[Path, bytes], tiny_tflite: Path, tmp_path: Path, run_cli: Run
) -> None:
    folder, _ = pile
    to = tmp_path / "whole.jsonl"
    ledger = tmp_path / ".whole.jsonl.ledger"
    content = bytearray(ledger.read_bytes())
    content[: len(content) // 2] = bytes(len(content) // 2)
    ledger.write_bytes(content)
    result = run_cli("transcribe", tiny_tflite, folder, "--to", to, "--resume")
    assert result.status == 2
    assert "start anew with --force" in result.err
    assert run_cli("transcribe", tiny_tflite, folder, "--to", to, "--force").status == 1


def test_two_runs_do_not_write_one_result(
    pile: tuple[Path, bytes], tiny_tflite: Path, tmp_path: Path, run_cli: Run
) -> None:
    from speechrnn.transcribe.ledger import Ledger

    folder, _ = pile
    ledger = Ledger(tmp_path / ".whole.jsonl.ledger", "other")
    result = run_cli(
        "transcribe", tiny_tflite, folder, "--to", tmp_path / "whole.jsonl", "--resume"
    )
    ledger.close()
    assert result.status == 2
    assert "is another run writing there?" in result.err


@pytest.mark.skipif(not hasattr(os, "setsid"), reason="signals to a group of processes")
def test_ctrl_c_keeps_what_is_done_and_leaves_no_process(
    tiny_tflite: Path,
    tiny_data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    run_cli: Run,
) -> None:
    code = """import time
from speechrnn.transcribe.work import Transcriber
real = Transcriber._hear
Transcriber._hear = lambda self, job: (time.sleep(0.02), real(self, job))"""
    in_each_worker(monkeypatch, tmp_path / "site", code)
    clip = (tiny_data / "go" / "ann_nohash_0.wav").read_bytes()
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(600):
        (folder / f"{number:04}.wav").write_bytes(clip)
    to = tmp_path / "result.jsonl"
    process = spawn(
        "transcribe", tiny_tflite, folder, "--to", to, "--jobs", 2, start_new_session=True
    )
    partial = to.with_name(f"{to.name}.partial")
    while process.poll() is None and not (partial.exists() and partial.stat().st_size):
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert "--resume" in err
    assert subprocess.run(["pgrep", "-g", str(process.pid)], check=False).returncode == 1
    monkeypatch.delenv("PYTHONPATH")
    result = run_cli("transcribe", tiny_tflite, folder, "--to", to, "--resume")
    assert result.status == 0
    assert "were done before)" in result.err
    assert len(to.read_text("utf-8").splitlines()) == 600


# ------------------------------------------------------------------ workers


def task(name: str) -> Task:
    return Task(Source(name, name, name))


class Fake:
    """A worker that answers with names, and dies of some."""

    def __init__(self, deadly: dict[str, int] | None = None) -> None:
        self.deadly = deadly or {}
        self.closed = False

    def run(self, tasks: list[Task]) -> Iterator[Finished]:
        for one in tasks:
            if self.deadly.get(one.source.name, 0) > 0:
                self.deadly[one.source.name] -= 1
                raise WorkerDied("killed by SIGSEGV")
            time.sleep(0.0001 * (len(one.source.name) % 3))
            yield Finished(one.source.name)

    def close(self) -> None:
        self.closed = True


@pytest.mark.parametrize("workers", [1, 2, 7])
def test_results_come_in_the_order_of_the_items_each_once(workers: int) -> None:
    names = ["x" * (1 + number * 37 % 11) + str(number) for number in range(3000)]
    known = Finished("known")
    items = [(task(name), known if i % 5 == 0 else None) for i, name in enumerate(names)]
    found = list(run_by([Fake] * workers, iter(items)))
    assert [one.source.name for one, _ in found] == names
    for place, (name, (_, done)) in enumerate(zip(names, found, strict=True)):
        assert done.line == ("known" if place % 5 == 0 else name)


def test_what_kills_a_worker_once_is_tried_again_and_twice_is_an_error() -> None:
    names = [str(number) for number in range(200)]
    fakes = [Fake({"50": 1, "120": 2, "121": 5}) for _ in range(1)]
    found = {
        one.source.name: done
        for one, done in run_by([lambda: fakes[0]], ((task(n), None) for n in names))
    }
    assert list(found) == names
    assert found["50"].line == "50"
    for name in ("121",):
        assert "ended the process that read it (killed by SIGSEGV)" in (found[name].error or "")
        assert json.loads(found[name].line or "")["status"] == "error"
    assert fakes[0].closed


def test_an_error_in_the_list_of_inputs_ends_the_run() -> None:
    def items() -> Iterator[tuple[Task, None]]:
        for number in range(100):
            yield task(str(number)), None
        raise ModelError("the list ends badly")

    results = run_by([Fake, Fake], items())
    assert [next(results)[0].source.name for _ in range(100)] == [str(n) for n in range(100)]
    with pytest.raises(ModelError, match="ends badly"):
        next(results)


def test_a_run_can_be_left_early() -> None:
    fakes = [Fake(), Fake()]
    results = run_by(
        [lambda: fakes[0], lambda: fakes[1]], ((task(str(n)), None) for n in range(10**9))
    )
    assert [next(results)[0].source.name for _ in range(3)] == ["0", "1", "2"]
    results.close()  # type: ignore[attr-defined]
    assert all(fake.closed for fake in fakes)


def test_a_process_that_is_killed_is_replaced(tiny_tflite: Path, tiny_data: Path) -> None:
    worker = Process(Setup(str(tiny_tflite)))
    good = task(str(tiny_data / "go" / "ann_nohash_0.wav"))
    (first,) = worker.run([good])
    assert worker._process is not None
    worker._process.kill()
    worker._process.wait()
    with pytest.raises(WorkerDied, match="SIGKILL"):
        list(worker.run([good]))
    (again,) = worker.run([good])
    assert again.line == first.line
    worker.close()


def test_what_a_library_prints_does_not_disturb_a_worker(
    tiny_tflite: Path, tiny_data: Path, tmp_path: Path
) -> None:
    site = tmp_path / "sitecustomize.py"
    site.write_text(
        "import atexit, os, sys\n"
        "import builtins\n"
        "real = builtins.open\n"
        "os.register_at_fork\n"
        "def noisy():\n"
        "    os.write(1, b'noise on standard output')\n"
        "import threading\n"
        "threading.Timer(0.3, noisy).start()\n",
        encoding="utf-8",
    )
    code = (
        "from speechrnn.transcribe import transcribe_files\n"
        f"print(len(list(transcribe_files({str(tiny_tflite)!r}, {str(tiny_data)!r}, jobs=2))))\n"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{os.getcwd()}"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "24" in done.stdout


def test_a_bug_costs_one_record(tiny_tflite: Path, tiny_data: Path) -> None:
    class Broken:
        def __init__(self) -> None:
            vars(self).update(vars(load_model(tiny_tflite)))

        def answer_many(self, waveforms: list[np.ndarray]) -> list[np.ndarray]:
            raise ZeroDivisionError("by zero")

    done = Transcriber(Broken()).finish(task(str(tiny_data / "go" / "ann_nohash_0.wav")))  # type: ignore[arg-type]
    assert done.error == "internal error (ZeroDivisionError: by zero); please report it"


def test_a_file_that_changes_while_it_is_read_is_an_error(
    tiny_tflite: Path, tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "growing.wav"
    file.write_bytes((tiny_data / "go" / "ann_nohash_0.wav").read_bytes())

    def growing(*arguments: Any) -> Any:
        with file.open("ab") as stream:
            stream.write(b"more")
        return hear(*arguments)

    monkeypatch.setattr(work, "hear", growing)
    done = Transcriber(load_model(tiny_tflite)).finish(task(str(file)))
    assert done.error == "changed while it was read; transcribe it again"


def test_recordings_that_are_answered_to_together_get_what_each_gets_alone(
    tiny_bundle: Path, tiny_data: Path, tmp_path: Path
) -> None:
    batched = export_bundle(tiny_bundle, tmp_path / "batched.tflite", batch=True).path
    names = [str(path) for path in sorted(tiny_data.rglob("*.wav"))]
    names.insert(5, str(tmp_path / "gone.wav"))
    together = Transcriber(load_model(batched))
    found = [done.line for done in together.finish_many([task(name) for name in names])]
    assert found == [together.finish(task(name)).line for name in names]


def test_content_that_is_known_is_not_recognised_again(tiny_tflite: Path, tiny_data: Path) -> None:
    transcriber = Transcriber(load_model(tiny_tflite))
    one = task(str(tiny_data / "go" / "ann_nohash_0.wav"))
    first = transcriber.finish(one)
    again = transcriber.finish(Task(one.source, known_sha256=first.sha256))
    assert again.line is None
    assert again.sha256 == first.sha256
    other = transcriber.finish(Task(one.source, known_sha256="0" * 64))
    assert other.line == first.line


def test_transcribing_here_and_by_the_command_never_imports_tensorflow(
    tiny_tflite: Path, tiny_data: Path
) -> None:
    code = (
        "import sys\nfrom speechrnn import cli\n"
        f"status = cli.main(['transcribe', {str(tiny_tflite)!r}, {str(tiny_data)!r}])\n"
        "assert not {'tensorflow', 'keras', 'scipy'} & set(sys.modules)\nsys.exit(status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_audio_errors_have_a_reason_of_their_own() -> None:
    assert AudioError("a.wav", "is empty").reason == "is empty"
