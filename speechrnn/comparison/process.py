"""The commands of a comparison: each a process of its own, of which one is at work at a time."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from speechrnn.errors import OutputError, SpeechRNNError

LOCK = ".lock"
INTERRUPTED = 130  # the exit status of a command that keeps what it has
LOOK_EVERY_S = 1.0


class CommandError(SpeechRNNError):
    """A command failed; the message is what it said."""


@dataclass(frozen=True)
class Commands:
    """Runs commands; they hold the lock as long as they live, even if this process is killed.

    ``look`` is called every second while one is at work.
    """

    lock: int | None = None
    look: Callable[[], None] = lambda: None

    def speechrnn(self, *arguments: object) -> None:
        """A command of ours, whose output is of no interest.

        Raises:
            CommandError: It failed; its last line says why.
            KeyboardInterrupt: It was interrupted, and has kept what it had.
        """
        self.python("-m", "speechrnn", *arguments)

    def python(self, *arguments: object) -> str:
        """A program of this Python; its standard output. Raises as :meth:`speechrnn`."""
        process = subprocess.Popen(
            [sys.executable, *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            # Ctrl-C reaches this process alone, which passes it on, once.
            start_new_session=True,
            pass_fds=() if self.lock is None else (self.lock,),
        )
        try:
            out, err = self._wait(process)
        except BaseException:
            self._stop(process)
            raise
        if process.returncode == INTERRUPTED:
            raise KeyboardInterrupt
        if process.returncode:
            raise CommandError(_reason(process.returncode, err))
        return out

    def _wait(self, process: subprocess.Popen[str]) -> tuple[str, str]:
        while True:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return process.communicate(timeout=LOOK_EVERY_S)
            self.look()

    def _stop(self, process: subprocess.Popen[str]) -> None:
        """Let it keep what it has; at a second Ctrl-C, not even that."""
        process.send_signal(signal.SIGINT)
        try:
            process.communicate()
        except BaseException:
            process.kill()
            process.communicate()
            raise


def printed(*arguments: object) -> str:
    """A command as a person types it."""
    return shlex.join(["speechrnn", *map(str, arguments)])


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[int | None]:
    """Be alone in a folder, with the commands that the lock is passed to.

    Raises:
        OutputError: Another comparison is at work in it, or what a killed one has begun; or the
            folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error
    try:
        import fcntl
    except ModuleNotFoundError:  # Windows: two at once are not noticed
        os.close(handle)
        yield None
        return
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise OutputError(
                f"{folder}: another comparison, or a training that one began, is at work in it; "
                "wait for it, or stop it"
            ) from error
        yield handle
    finally:
        os.close(handle)


def _reason(status: int, said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    if status < 0 or not lines:
        how = f"ended by signal {-status}" if status < 0 else f"exit status {status}"
        return f"{how}; {lines[-1]}" if lines else how
    return lines[-1].partition(": error: ")[2] or lines[-1]
