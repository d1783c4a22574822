"""What was done, kept on disk so that nothing is done twice and nothing is lost.

SQLite keeps it: a process that is killed, a machine that goes down in the middle of a line, or a
full disk loses at most the last moments before it. A ledger belongs to one model and one set of
options; what others did counts as not done.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from speechrnn.errors import OutputError
from speechrnn.transcribe.tasks import Finished

# So much work is not yet kept when the process is killed or the machine goes down.
COMMIT_S = 0.25
VERSION = 1
# A file that was changed so shortly before it was read may be changed again within the same tick
# of the file system's clock.
RACY_NS = 2_000_000_000

_SCHEMA = """
CREATE TABLE IF NOT EXISTS about (key TEXT PRIMARY KEY, value TEXT);
CREATE TABLE IF NOT EXISTS done (
    name BLOB PRIMARY KEY, size INTEGER, changed_ns INTEGER, touched_ns INTEGER, read_ns INTEGER,
    sha256 TEXT, duration REAL, error TEXT, line BLOB
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Entry:
    """What became of an input when it was last read."""

    stamp: tuple[int, int, int] | None
    read_ns: int
    sha256: str | None
    duration_s: float
    error: str | None
    line: str

    def is_untouched(self, stamp: tuple[int, int, int] | None) -> bool:
        """Whether the file is surely what it was, as its stamp alone can say."""
        return self.stamp == stamp and (
            stamp is None or max(stamp[1:]) + RACY_NS < self.read_ns or self.sha256 is None
        )

    def finished(self) -> Finished:
        """As if it had been done just now."""
        return Finished(
            self.line, self.duration_s, self.error, self.stamp, self.sha256, self.read_ns
        )


class Ledger:
    """The ledger of one output.

    Args:
        path: Its file.
        config: A hash of the model and the options.
        anew: Nothing of what it holds counts.

    What it held stays until something is added: a run that comes to nothing costs nothing.

    Raises:
        OutputError: It cannot be opened, or another run writes it.
    """

    def __init__(self, path: Path, config: str, *, anew: bool = False) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._existed, self._was_added_to = path.exists(), False
        self._new: list[tuple] = []
        try:
            try:
                self._open(config, anew=anew)
            except sqlite3.DatabaseError as error:
                if not anew or _is_locked(error):
                    raise
                for old in (path, path.with_name(f"{path.name}-journal")):  # it is damaged
                    old.unlink(missing_ok=True)
                self._open(config, anew=anew)
        except sqlite3.Error as error:
            raise OutputError(f"{path}: {_reason(error)}") from error
        self._committed = time.monotonic()

    def _open(self, config: str, *, anew: bool) -> None:
        self._base = sqlite3.connect(
            self.path, timeout=1.0, isolation_level=None, check_same_thread=False
        )
        try:
            # Until the end nobody else writes it; the journal then needs no second file.
            self._base.execute("PRAGMA locking_mode=EXCLUSIVE")
            self._base.execute("BEGIN EXCLUSIVE")
            if anew:
                self._base.execute("DROP TABLE IF EXISTS about")
                self._base.execute("DROP TABLE IF EXISTS done")
            for statement in _SCHEMA.split(";"):
                self._base.execute(statement)
            about = dict(self._base.execute("SELECT key, value FROM about"))
            self.was_of_other_options = bool(about) and about != self._about(config)
            if self.was_of_other_options:
                self._base.execute("DELETE FROM done")
                self._base.execute("DELETE FROM about")
            rows = self._about(config).items()
            self._base.executemany("INSERT OR IGNORE INTO about VALUES (?, ?)", rows)
        except BaseException:
            self._base.close()
            raise

    @staticmethod
    def _about(config: str) -> dict[str, str]:
        return {"version": str(VERSION), "config": config}

    def find(self, name: str) -> Entry | None:
        """What is known of an input."""
        query = "SELECT size, changed_ns, touched_ns, read_ns, sha256, duration, error, line"
        with self._lock:
            try:
                self._insert()
                row = self._base.execute(
                    f"{query} FROM done WHERE name = ?", (os.fsencode(name),)
                ).fetchone()
            except sqlite3.Error as problem:
                raise OutputError(f"{self.path}: {_reason(problem)}") from problem
        if row is None:
            return None
        stamp = None if row[0] is None else (row[0], row[1], row[2])
        read_ns, sha256, duration_s, error, line = row[3:]
        text = line.decode("utf-8", "surrogatepass")
        return Entry(stamp, read_ns, sha256, duration_s, error, text)

    def add(self, name: str, done: Finished) -> None:
        """Keep what became of an input.

        Raises:
            OutputError: The disk is full, or the like.
        """
        assert done.line is not None
        row = (
            os.fsencode(name),
            *(done.stamp or (None, None, None)),
            done.read_ns,
            done.sha256,
            done.duration_s,
            done.error,
            done.line.encode("utf-8", "surrogatepass"),
        )
        with self._lock:
            self._new.append(row)
            self._was_added_to = True
            try:
                if time.monotonic() - self._committed > COMMIT_S:
                    self._insert()
                    self._base.execute("COMMIT")
                    self._base.execute("BEGIN")
                    self._committed = time.monotonic()
            except sqlite3.Error as error:
                raise OutputError(f"{self.path}: {_reason(error)}") from error

    def _insert(self) -> None:
        """Hand over what was added; together that is several times as fast."""
        if self._new:
            self._base.executemany(
                "INSERT OR REPLACE INTO done VALUES (?,?,?,?,?,?,?,?,?)", self._new
            )
            self._new = []

    def close(self) -> None:
        """Keep everything.

        Raises:
            OutputError: The disk is full, or the like.
        """
        try:
            self._insert()
            if self._was_added_to and self._base.in_transaction:
                self._base.execute("COMMIT")
        except sqlite3.Error as error:
            raise OutputError(f"{self.path}: {_reason(error)}") from error
        finally:
            self._base.close()
            if not (self._existed or self._was_added_to):
                self.path.unlink(missing_ok=True)


def _is_locked(error: sqlite3.Error) -> bool:
    return "locked" in str(error)


def _reason(error: sqlite3.Error) -> str:
    text = str(error)
    if _is_locked(error):
        return "is in use; is another run writing there? wait for it, or choose another --to"
    if "full" in text:
        return "cannot be written (the disk is full); make space, and go on with --resume"
    if "not a database" in text or "malformed" in text:
        return f"is damaged ({text}); start anew with --force"
    return f"cannot be written ({text}; is the folder read-only?)"
