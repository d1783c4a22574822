"""What once went wrong with ``transcribe`` and ``listen``: hangs, false errors, lost work."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Run, in_each_worker, spawn

import speechrnn
from speechrnn.audio import read_blocks
from speechrnn.errors import AudioError, ConfigError, MissingExtraError, ModelError
from speechrnn.transcribe import work
from speechrnn.transcribe.engine import run_by
from speechrnn.transcribe.inputs import Source
from speechrnn.transcribe.process import Process
from speechrnn.transcribe.ray_engine import _RayWorker
from speechrnn.transcribe.setup import Setup
from speechrnn.transcribe.tasks import Finished, Task

SLOW_S = 30


def task(name: object) -> Task:
    return Task(Source(str(name), str(name), str(name)))


@pytest.fixture
def folder(tiny_data: Path, tmp_path: Path) -> Path:
    """A folder of twelve recordings."""
    clip = (tiny_data / "go" / "ann_nohash_0.wav").read_bytes()
    (tmp_path / "in").mkdir()
    for number in range(12):
        (tmp_path / "in" / f"{number:02}.wav").write_bytes(clip)
    return tmp_path / "in"


# ------------------------------------------------------------------ stopping


def test_a_run_that_is_left_does_not_wait_for_the_recording_that_is_being_read(
    tiny_tflite: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = f"import time\nfrom speechrnn.transcribe.work import Transcriber\n\
Transcriber._hear = lambda self, job: job.task.source.name == 'b' and time.sleep({SLOW_S})"
    in_each_worker(monkeypatch, tmp_path / "site", code)
    results = run_by(
        [lambda: Process(Setup(str(tiny_tflite)))], ((task(name), None) for name in "abc")
    )
    next(results)
    time.sleep(0.3)
    started = time.monotonic()
    results.close()  # type: ignore[attr-defined]
    assert time.monotonic() - started < SLOW_S / 3


def test_what_keeps_a_process_from_opening_the_model_is_said(
    tiny_tflite: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = "from speechrnn.transcribe.setup import Setup\nSetup.transcriber = lambda self: {}['it']"
    in_each_worker(monkeypatch, tmp_path / "site", code)
    worker = Process(Setup(str(tiny_tflite)))
    with pytest.raises(ModelError, match=r"tflite: KeyError: 'it'"):
        list(worker.run([task(folder / "00.wav")]))
    worker.close()


def test_a_process_that_was_closed_is_not_started_again(tiny_tflite: Path, folder: Path) -> None:
    worker = Process(Setup(str(tiny_tflite)))
    list(worker.run([task(folder / "00.wav")]))
    worker.close()
    with pytest.raises(Exception):  # noqa: B017, PT011 - but no record
        list(worker.run([task(folder / "00.wav")]))


def test_ctrl_c_while_a_process_starts_is_left_to_who_started_it(
    tiny_tflite: Path, folder: Path
) -> None:
    worker = Process(Setup(str(tiny_tflite)))
    assert worker._process is not None
    for _ in range(20):
        os.kill(worker._process.pid, signal.SIGINT)
        time.sleep(0.01)
    (done,) = worker.run([task(folder / "00.wav")])
    worker.close()
    assert done.error is None


def test_a_worker_that_never_comes_does_not_hold_up_the_end() -> None:
    class Quick:
        def run(self, tasks: list[Task]) -> Iterator[Finished]:
            yield from (Finished(one.source.name) for one in tasks)

        def close(self) -> None:
            pass

    in_the_end = threading.Event()

    def never() -> Quick:
        in_the_end.wait(SLOW_S)
        return Quick()

    started = time.monotonic()
    found = list(run_by([Quick, never], ((task(name), None) for name in "abc")))
    assert [done.line for _, done in found] == ["a", "b", "c"]
    assert time.monotonic() - started < SLOW_S / 3
    in_the_end.set()


def test_what_is_done_is_kept_while_it_waits_for_what_stands_before_it(
    tiny_tflite: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Run
) -> None:
    heard = tmp_path / "heard"
    code = f"""import time
from speechrnn.transcribe.work import Transcriber
real = Transcriber._hear
def slow(self, job):
    time.sleep({SLOW_S} if job.task.source.name.endswith('00.wav') else 0)
    real(self, job)
    with open({str(heard)!r}, "a") as file:
        file.write(".")
Transcriber._hear = slow"""
    in_each_worker(monkeypatch, tmp_path / "site", code)
    asked = ("transcribe", tiny_tflite, folder, "--to", tmp_path / "result.jsonl")
    process = spawn(*asked, "--jobs", 2)
    while process.poll() is None and not (heard.exists() and heard.stat().st_size == 11):
        time.sleep(0.05)
    time.sleep(0.5)  # it is told so
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=SLOW_S / 2)
    assert process.returncode == 130, err
    assert "(11 were done before)" in run_cli(*asked, "--resume", "--jobs", 1).err


def test_no_jobs_are_refused(tiny_tflite: Path, folder: Path) -> None:
    with pytest.raises(ConfigError, match="jobs=0"):
        next(speechrnn.transcribe_files(tiny_tflite, folder, jobs=0))


# ------------------------------------------------------------------ workers that cannot start


def test_a_process_that_cannot_start_ends_the_run_and_is_no_recordings_fault(
    tiny_tflite: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Run
) -> None:
    in_each_worker(monkeypatch, tmp_path / "site", "import os\nos._exit(3)")
    result = run_cli("transcribe", tiny_tflite, folder, "--jobs", 2)
    assert result.status == 2
    assert result.out == ""
    assert f"error: {tiny_tflite}: each process that was to open it ended (exit s" in result.err


def test_too_many_jobs_are_one_line(
    tiny_tflite: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Run
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(subprocess, "Popen", refuse)
    result = run_cli("transcribe", tiny_tflite, folder, "--jobs", 2)
    assert result.status == 2
    assert "error: --jobs: no more processes can be started (Resource" in result.err


def test_an_extra_that_is_missing_is_said_by_processes_too(
    tiny_tflite: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = """from speechrnn.errors import MissingExtraError
from speechrnn.transcribe.setup import Setup
def missing(self):
    raise MissingExtraError('a bundle', 'train', 'keras')
Setup.transcriber = missing"""
    in_each_worker(monkeypatch, tmp_path / "site", code)
    worker = Process(Setup(str(tiny_tflite)))
    with pytest.raises(MissingExtraError, match=r"speechrnn\[train\]"):
        list(worker.run([task(folder / "00.wav")]))
    worker.close()


def test_a_module_that_lies_where_the_command_is_called_is_not_imported(
    tiny_tflite: Path, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "soundfile.py").write_text("raise RuntimeError('not mine')", encoding="utf-8")
    code = (
        f"import sys; sys.path[:] = [{os.getcwd()!r}, *sys.path[1:]]; from speechrnn import cli;"
        f"sys.exit(cli.main(['transcribe', {str(tiny_tflite)!r}, 'in', '--jobs', '2']))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('"status": "ok"') == 12


def test_a_worker_of_ray_that_cannot_open_the_model_says_so() -> None:
    class RayError(Exception):
        pass

    def get(reference: object) -> None:
        raise RayError("The actor died\nModelError: m.tflite: no such model")

    ray = types.SimpleNamespace(
        wait=lambda waiting, timeout: (waiting, []),
        get=get,
        exceptions=types.SimpleNamespace(RayError=RayError),
    )
    ready = types.SimpleNamespace(is_ready=types.SimpleNamespace(remote=object))
    with pytest.raises(ModelError, match=r"of Ray .* \(ModelError: m.tflite: no such model\)"):
        _RayWorker(ray, ready, lambda line: None)


# ------------------------------------------------------------------ what was done before


def test_a_dry_run_leaves_what_was_done_by_another_model_and_makes_no_folder(
    tiny_tflite: Path, folder: Path, tmp_path: Path, run_cli: Run
) -> None:
    asked = ("transcribe", tiny_tflite, folder, "--to", tmp_path / "result.jsonl")
    assert run_cli(*asked).status == 0
    planned = run_cli(*asked, "--resume", "--threshold", 0.9, "--dry-run").err
    assert "12 to transcribe; nothing was done" in planned
    assert "(12 were done before)" in run_cli(*asked, "--resume").err
    new = tmp_path / "new" / "deep"
    result = run_cli("transcribe", tiny_tflite, folder, "--to", new / "r.jsonl", "--dry-run")
    assert result.status == 0
    assert not new.parent.exists()


def test_a_call_that_comes_to_nothing_leaves_what_was_done(
    tiny_tflite: Path, folder: Path, tmp_path: Path, run_cli: Run
) -> None:
    to = ("--to", tmp_path / "result.jsonl")
    assert run_cli("transcribe", tiny_tflite, folder, *to).status == 0
    (tmp_path / "bad.tflite").write_bytes(b"no model" * 100)
    (tmp_path / "empty").mkdir()
    for option in ("--force", "--resume"):
        for call in ((tmp_path / "bad.tflite", folder), (tiny_tflite, tmp_path / "empty")):
            assert run_cli("transcribe", *call, *to, option).status == 2
            again = run_cli("transcribe", tiny_tflite, folder, *to, "--resume")
            assert "(12 were done before)" in again.err


@pytest.mark.parametrize("to", ["result.jsonl", "tree/"])
def test_a_call_that_comes_to_nothing_leaves_nothing(
    to: str, tiny_tflite: Path, folder: Path, tmp_path: Path, run_cli: Run
) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"no model" * 100)
    asked = ("--to", f"{tmp_path}/{to}")
    assert run_cli("transcribe", tmp_path / "bad.tflite", folder, *asked).status == 2
    assert run_cli("transcribe", tiny_tflite, folder, *asked).status == 0


def test_force_does_not_take_the_ledger_from_a_run_that_goes_on(
    tiny_tflite: Path, folder: Path, tmp_path: Path, run_cli: Run
) -> None:
    from speechrnn.transcribe.ledger import Ledger

    to = tmp_path / "result.jsonl"
    other = Ledger(tmp_path / ".result.jsonl.ledger", "other")
    result = run_cli("transcribe", tiny_tflite, folder, "--to", to, "--force")
    other.close()
    assert result.status == 2
    assert "is another run writing there?" in result.err
    assert run_cli("transcribe", tiny_tflite, folder, "--to", to, "--force").status == 0


def test_a_recording_that_grew_while_it_was_read_is_done_again(
    tiny_tflite: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run_cli: Run
) -> None:
    file = folder / "growing.wav"
    whole = (folder / "00.wav").read_bytes()
    file.write_bytes(whole[:-1000])
    real = work.content_hash

    def grown(*arguments: Any) -> str:  # the hash is of what it has become
        file.write_bytes(whole)
        with file.open("rb", buffering=0) as stream:
            return real(stream)

    with monkeypatch.context() as patched:
        patched.setattr(work, "content_hash", grown)
        patched.setattr(work, "SMALL_BYTES", 0)
        asked = ("transcribe", tiny_tflite, file, "--to", tmp_path / "result.jsonl")
        run_cli(*asked, "--jobs", 1)
    (record,) = map(json.loads, (tmp_path / "result.jsonl").read_text("utf-8").splitlines())
    assert record["error"] == "changed while it was read; transcribe it again"
    assert run_cli(*asked, "--resume").status == 0


# ------------------------------------------------------------------ streams that are closed


@pytest.mark.skipif(os.name != "posix", reason="closes descriptors in a shell")
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_closed_streams_cost_no_record(
    closed: str, jobs: int, tiny_tflite: Path, folder: Path, tmp_path: Path
) -> None:
    to = tmp_path / "result.jsonl"
    command = f'exec "$0" -m speechrnn transcribe "$@" {closed}'
    arguments = [sys.executable, tiny_tflite, folder, "--to", to, "--jobs", str(jobs)]
    done = subprocess.run(["sh", "-c", command, *arguments], check=False)
    assert done.returncode == 0
    assert to.read_text("utf-8").count('"status": "ok"') == 12


@pytest.mark.skipif(os.name != "posix", reason="closes descriptors in a shell")
def test_closed_standard_output_is_one_line(tiny_tflite: Path, folder: Path) -> None:
    command = 'exec "$0" -m speechrnn transcribe "$@" >&-'
    done = subprocess.run(
        ["sh", "-c", command, sys.executable, tiny_tflite, folder],
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "error: standard output: is closed" in done.stderr


def test_figures_for_a_closed_standard_output_are_one_line(tiny_tflite: Path) -> None:
    command = 'exec "$0" -m speechrnn info "$1" --json - >&-'
    arguments = ["sh", "-c", command, sys.executable, tiny_tflite]
    done = subprocess.run(arguments, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert "error: standard output: is closed" in done.stderr


@pytest.mark.parametrize("jobs", [1, 2])
def test_complaints_that_nobody_reads_do_not_end_a_run(
    jobs: int, tiny_tflite: Path, folder: Path, tmp_path: Path
) -> None:
    (folder / "03.wav").write_bytes(b"")
    to = tmp_path / "result.jsonl"
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "speechrnn", "transcribe", tiny_tflite, folder, "--to", to]
    done = subprocess.run([*command, "--jobs", str(jobs)], stderr=write, check=False)
    os.close(write)
    assert done.returncode == 1
    assert len(to.read_text("utf-8").splitlines()) == 12


# ------------------------------------------------------------------ ffmpeg, microphones


@pytest.mark.skipif(os.name != "posix", reason="the fake is a shell script")
def test_ffmpeg_is_gone_when_what_it_says_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "ffmpeg"
    header = (
        r"\056snd\000\000\000\030\377\377\377\377\000\000\000\006\000\000\000\001\000\000\000\001"
    )
    program.write_text(f"#!/bin/sh\nprintf '{header}'\nexec sleep {SLOW_S}\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    (tmp_path / "film.mp4").write_bytes(b"a film")
    started: list[subprocess.Popen] = []
    real = subprocess.Popen.__init__

    def note(self: subprocess.Popen, *arguments: Any, **options: Any) -> None:
        started.append(self)
        real(self, *arguments, **options)

    monkeypatch.setattr(subprocess.Popen, "__init__", note)
    with pytest.raises(AudioError, match="has a rate of 1 Hz"):
        list(read_blocks(tmp_path / "film.mp4", 8000))
    assert started[0].returncode is not None


def test_a_microphone_that_is_unplugged_is_one_line(
    tiny_tflite: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Unplugged:
        def __init__(self, **settings: Any) -> None:
            self.gone = settings.get("finished_callback")

        def start(self) -> None:
            if self.gone is None:
                pytest.fail("nobody would be told")
            self.gone()

        def close(self) -> None:
            pass

    fake = types.ModuleType("sounddevice")
    vars(fake).update(InputStream=Unplugged, PortAudioError=OSError)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    monkeypatch.setattr("sys.stdin", types.SimpleNamespace(isatty=lambda: True))
    result = run_cli("listen", tiny_tflite, "--threshold", 0.5)
    assert result.status == 2
    assert "the microphone: stopped by itself" in result.err
