"""A worker that is a process on this machine."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from speechrnn.errors import ConfigError, ModelError
from speechrnn.transcribe.engine import WorkerClosed, WorkerDied
from speechrnn.transcribe.setup import Setup
from speechrnn.transcribe.tasks import Finished, Task

# A process that ends before it could open the model is started again so often.
STARTS = 2


class Process:
    """A worker that is a process on this machine.

    Raises:
        ConfigError: No more processes can be started.
        SpeechRNNError: With the first tasks: the model cannot be opened, or not be guided so.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._is_closed, self._starting = False, threading.Lock()
        with contextlib.suppress(WorkerDied):  # the first tasks start another
            self._start()

    def _start(self) -> None:
        # It imports what this process would: nothing that lies where it was called (-P).
        command = [sys.executable, "-P", "-m", "speechrnn.transcribe.worker"]
        folders = [os.path.abspath(name) for name in sys.path]
        if already := os.environ.get("PYTHONPATH"):
            folders.insert(0, already)
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(folders),
            # What else is computed at once is computed by the other processes.
            **{"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        }
        with self._starting:
            if self._is_closed:
                raise WorkerClosed
            try:
                with _without_ctrl_c():
                    self._process = subprocess.Popen(
                        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
                    )
            except OSError as error:
                raise ConfigError(
                    f"--jobs: no more processes can be started ({error.strerror}); pass fewer"
                ) from error
        self._is_ready = False
        self._send(self._setup)

    def _send(self, message: Any) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            pickle.dump(message, self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
        except OSError as error:
            raise self._ended() from error

    def run(self, tasks: Sequence[Task]) -> Iterator[Finished]:
        """What becomes of each task."""
        self._make_ready()
        self._send(tasks)
        left = len(tasks)
        while left:
            finished = self._receive()
            left -= len(finished)
            yield from finished

    def _make_ready(self) -> None:
        """Wait until the model is open; what ends a process before that is no recording's fault."""
        how = ""
        for _ in range(STARTS):
            try:
                if self._process is None:
                    self._start()
                if not self._is_ready and (problem := self._receive()):
                    kind, text = problem
                    raise kind.__new__(kind, text)  # not every kind is made of its text alone
                self._is_ready = True
                return
            except WorkerDied as died:
                how = died.how
        raise ModelError(
            f"{self._setup.model}: each process that was to open it ended ({how}); --jobs 1 does "
            "without"
        )

    def _receive(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            return pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise self._ended() from error

    def _ended(self) -> WorkerDied | WorkerClosed:
        """How it ended; it is forgotten."""
        process, self._process = self._process, None
        assert process is not None
        # By itself, or what came from it made no sense.
        status = _end(process, patience_s=1.0)
        if self._is_closed:
            return WorkerClosed()
        if status >= 0:
            return WorkerDied(f"exit status {status}")
        try:
            return WorkerDied(f"killed by {signal.Signals(-status).name}")
        except ValueError:
            return WorkerDied(f"killed by signal {-status}")

    def close(self) -> None:
        """Let it end, whatever it does just now; another thread may wait for it in ``run``."""
        with self._starting:
            self._is_closed = True
            process = self._process
        if process is not None:
            _end(process)


def _end(process: subprocess.Popen[bytes], *, patience_s: float = 0.0) -> int:
    """Its exit status. Its streams are closed behind it: who reads holds a lock on them."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        return _closed(process, patience_s)
    process.terminate()
    return _closed(process, None)


def _closed(process: subprocess.Popen[bytes], patience_s: float | None) -> int:
    status = process.wait(patience_s)
    for stream in (process.stdin, process.stdout):
        if stream:
            with contextlib.suppress(OSError):  # what it did not take any more
                stream.close()
    return status


@contextlib.contextmanager
def _without_ctrl_c() -> Iterator[None]:
    """Until it can say so itself, a process that is started within is not interrupted."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
