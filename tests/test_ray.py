"""``transcribe --engine ray``: the same records from a cluster, here one of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Run, spawn

PATIENCE_S = 120


@pytest.fixture
def pile(tiny_data: Path, tmp_path: Path) -> Path:
    """Many recordings, some of them broken."""
    folder = tmp_path / "in"
    folder.mkdir()
    clips = sorted(tiny_data.rglob("*.wav"))
    for number in range(3000):
        content = b"broken" if number % 50 == 7 else clips[number % len(clips)].read_bytes()
        (folder / f"{number:04}.wav").write_bytes(content)
    return folder


def workers_of(cluster_of: subprocess.Popen[str]) -> list[int]:
    """Processes of the Ray actors that a run has started."""
    listed = subprocess.run(
        ["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1:]
    parents, names = {}, {}
    for line in listed:
        pid, parent, name = line.split(None, 2)
        parents[int(pid)], names[int(pid)] = int(parent), name

    def is_below(pid: int) -> bool:
        while pid in parents:
            if pid == cluster_of.pid:
                return True
            pid = parents[pid]
        return False

    return [pid for pid, name in names.items() if "ray::_Transcribing" in name and is_below(pid)]


@pytest.mark.heavy
def test_a_cluster_of_which_a_worker_is_killed_gives_the_same_records(
    pile: Path, tiny_tflite: Path, tmp_path: Path, run_cli: Run
) -> None:
    here, there = tmp_path / "here.jsonl", tmp_path / "there.jsonl"
    assert run_cli("transcribe", tiny_tflite, pile, "--to", here).status == 1
    asked = ("transcribe", tiny_tflite, pile, "--to", there, "--jobs", 2)
    process = spawn(*asked, "--engine", "ray")
    partial = there.with_name(f"{there.name}.partial")
    deadline = time.monotonic() + PATIENCE_S
    while not (partial.exists() and partial.stat().st_size) and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    found = workers_of(process)
    assert len(found) == 2
    os.kill(found[0], signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1, err
    assert there.read_bytes() == here.read_bytes()
    again = run_cli("transcribe", tiny_tflite, pile, "--to", there, "--resume")
    assert "(3,000 were done before)" in again.err  # by whichever engine


@pytest.mark.heavy
def test_it_is_said_what_is_waited_for(tiny_tflite: Path, tiny_data: Path, tmp_path: Path) -> None:
    code = f"""
import ray
from speechrnn import cli
from speechrnn.transcribe import ray_engine
ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR")

@ray.remote(num_cpus=1)
class Occupying:
    def sleep(self, seconds):
        import time
        time.sleep(seconds)

occupying = Occupying.remote()
busy = occupying.sleep.remote(6)
import threading
threading.Timer(6, lambda: ray.kill(occupying)).start()
ray_engine.PATIENCE_S = 2
status = cli.main(["transcribe", {str(tiny_tflite)!r}, {str(tiny_data)!r}, "--engine", "ray"])
raise SystemExit(status)
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "waiting for 1 CPU of Ray: the cluster has 1, of which 0 are free" in done.stderr
    assert len(done.stdout.splitlines()) == 24


@pytest.mark.heavy
def test_an_address_where_no_cluster_answers_is_one_line(
    tiny_tflite: Path, tiny_data: Path
) -> None:
    process = spawn(
        *("transcribe", tiny_tflite, tiny_data, "--engine", "ray"),
        *("--ray-address", "127.0.0.1:1"),
    )
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 2
    assert out == ""
    assert "no cluster answers" in err.splitlines()[-1]


def test_without_ray_it_is_said_how_to_get_it(
    tiny_tflite: Path, tiny_data: Path, run_cli: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    result = run_cli("transcribe", tiny_tflite, tiny_data, "--engine", "ray")
    assert result.status == 2
    assert "pip install 'speechrnn[ray]'" in result.err
