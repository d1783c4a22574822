"""A worker that is a process on this machine."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from speechrnn.transcribe.engine import WorkerDied
from speechrnn.transcribe.setup import Setup
from speechrnn.transcribe.tasks import Finished, Task


class Process:
    """A worker that is a process on this machine.

    Raises:
        SpeechRNNError: With the first tasks: the model cannot be opened, or not be guided so.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._process: subprocess.Popen[bytes] | None = None
        self._is_ready = False
        self._start()

    def _start(self) -> None:
        command = [sys.executable, "-m", "speechrnn.transcribe.worker"]
        # What else is computed at once is computed by the other processes.
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
        )
        self._is_ready = False
        self._send(self._setup)

    def _send(self, message: Any) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        try:
            pickle.dump(message, self._process.stdin, pickle.HIGHEST_PROTOCOL)
            self._process.stdin.flush()
        except OSError as error:
            raise WorkerDied(self._how()) from error

    def run(self, tasks: Sequence[Task]) -> Iterator[Finished]:
        """What becomes of each task."""
        if self._process is None:
            self._start()
        assert self._process is not None
        self._send(tasks)
        if not self._is_ready:
            if problem := self._receive():
                kind, text = problem
                raise kind(text)
            self._is_ready = True
        left = len(tasks)
        while left:
            finished = self._receive()
            left -= len(finished)
            yield from finished

    def _receive(self) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            return pickle.load(self._process.stdout)
        except (EOFError, OSError, pickle.UnpicklingError) as error:
            raise WorkerDied(self._how()) from error

    def _how(self) -> str:
        """How it ended; it is forgotten."""
        assert self._process is not None
        status = self._process.wait()
        self.close()
        if status >= 0:
            return f"exit status {status}"
        try:
            return f"killed by {signal.Signals(-status).name}"
        except ValueError:
            return f"killed by signal {-status}"

    def close(self) -> None:
        """Let it end."""
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            if stream:
                with contextlib.suppress(OSError):  # what it did not take any more
                    stream.close()
        process.terminate()
        process.wait()
