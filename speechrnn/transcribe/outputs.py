"""Where records go: standard output, one file, or a tree of files that mirrors the inputs.

A file appears under its name when it is whole, and not before; until then it is ``NAME.partial``.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import os
import sys
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TextIO

from speechrnn.errors import ConfigError, OutputError
from speechrnn.transcribe.formats import FILES, TREES

# In a tree, the file of all records.
RECORDS = "records.jsonl"
# Longer names are cut; file systems take 255 bytes, and a suffix is added.
LONGEST_NAME = 200
# Longer paths of folders too; a whole path is at most 4096 bytes, and os.makedirs recurses.
LONGEST_FOLDER = 1000
# What the names of files end with that are written here; no folder's name does.
_ENDINGS = (
    *(form.suffix.lower() for form in TREES.values()),
    *(".jsonl", ".partial", ".ledger", "-journal"),
)


@dataclass(frozen=True)
class Target:
    """What is to be written, and where.

    Attributes:
        path: A file or the folder of a tree; None: standard output.
        formats: Of the one file, or of each recording's files.
        is_tree: Whether ``path`` is a folder.
    """

    path: Path | None
    formats: tuple[str, ...]
    is_tree: bool = False

    @classmethod
    def of(cls, to: str | None, formats: Sequence[str]) -> Target:
        """What ``--to`` and ``--format`` ask for.

        Raises:
            ConfigError: They do not go together.
        """
        known = sorted({*FILES, *TREES})
        for name in formats:
            if name not in known:
                raise ConfigError(f"--format {name}: expected {', '.join(known)}")
        if to == "":
            raise ConfigError("--to '': is empty, expected a file or a folder")
        single = len(formats) == 1 and formats[0] in FILES
        if to is None:
            if not single:
                raise ConfigError(
                    f"--format {','.join(formats)}: is a file for each recording; give --to DIR"
                )
            return cls(None, tuple(formats))
        is_tree = to.endswith(("/", os.sep)) or os.path.isdir(to) or not single
        if is_tree and os.path.lexists(to.rstrip("/" + os.sep)) and not os.path.isdir(to):
            raise ConfigError(
                f"--to {to}: is a file, expected a folder for --format {','.join(formats)}"
            )
        if os.path.islink(to) and not is_tree:  # a link stays one: what it leads to is written
            to = os.path.realpath(to)
        return cls(Path(to), tuple(formats), is_tree)

    @property
    def records(self) -> Path | None:
        """The file of all records, where there is one."""
        return self.path / RECORDS if self.path and self.is_tree else self.path

    @property
    def ledger(self) -> Path | None:
        """The file that keeps what was done; None where what is written cannot be gone on with."""
        if self.path is None or self.records is None:
            return None
        if not self.is_tree and os.path.exists(self.path) and not os.path.isfile(self.path):
            return None  # a device
        return self.records.with_name(f".{self.records.name}.ledger")

    def check(self, *, resume: bool, force: bool) -> None:
        """Find out before long work that it would be lost, or would destroy something.

        Raises:
            OutputError: There is something already, or nothing can be written there.
        """
        if resume and self.ledger is None:
            raise ConfigError(
                "--resume: nothing is kept of what goes to standard output; give --to"
            )
        if self.path is None or self.ledger is None or self.records is None:
            return
        if os.path.isdir(self.records):
            raise OutputError(f"{self.records}: is a folder; choose another --to")
        try:
            if not force:
                self._check_free(self.path, self.records, self.ledger, resume=resume)
            self.records.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.records.parent):
                pass
        except OSError as error:
            raise OutputError(f"{self.path}: cannot be written ({error.strerror})") from error

    def _check_free(self, path: Path, records: Path, ledger: Path, *, resume: bool) -> None:
        if os.path.exists(ledger):
            if resume:
                return
            if not os.path.exists(records):
                raise OutputError(
                    f"{records}: an earlier run was stopped here; pass --resume to go on with it, "
                    "or --force to start anew"
                )
        if os.path.exists(records):
            if resume:  # it may be anybody's
                raise OutputError(
                    f"{records}: exists, but not {ledger.name}, which keeps what was done; choose "
                    "another --to, or pass --force to start anew"
                )
            raise OutputError(
                f"{records}: exists; choose another --to, pass --resume to do what is not done "
                "yet, or --force to start anew"
            )
        if self.is_tree and path.is_dir() and any(path.iterdir()):
            raise OutputError(
                f"{path}: holds other files; choose an empty folder, or pass --force to write "
                "into it"
            )


class Output(Protocol):
    """Takes records in the order of the inputs."""

    def write(self, place: str, line: str) -> None:
        """Add the record, one line of JSON, of the input at this place in the tree."""

    def flush(self) -> None:
        """Show what was added."""

    def finish(self) -> None:
        """Everything was added."""


@contextlib.contextmanager
def open_output(target: Target) -> Iterator[Output]:
    """Somewhere to write records; what is not finished stays partial.

    Raises:
        OutputError: It cannot be written; from its methods too.
    """
    hint = "; what is done is kept, go on with --resume" if target.ledger else ""
    writing = functools.partial(_writing, str(target.path or "standard output"), hint)
    with writing():
        output, stream = _output_of(target)
    try:
        yield _Guarded(output, writing)
    except BaseException:
        with contextlib.suppress(OSError):  # the first error is the one to tell
            stream.close()
        raise
    with writing():
        stream.close()


def _output_of(target: Target) -> tuple[Output, TextIO]:
    """An output, and what is to be closed in the end."""
    if target.path is None or target.records is None:
        return _Stream(sys.stdout, target.formats[0]), io.StringIO()  # it stays open
    if target.ledger is None:
        stream = _opened(target.records)
        return _Stream(stream, target.formats[0]), stream
    partial = target.records.with_name(f"{target.records.name}.partial")
    stream = _opened(partial)
    if not target.is_tree:
        return _File(stream, target.formats[0], partial, target.records), stream
    formats = [name for name in target.formats if name in TREES]
    return _Tree(_File(stream, "jsonl", partial, target.records), target.path, formats), stream


@contextlib.contextmanager
def _writing(name: str, hint: str) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"{name}: cannot be written ({error.strerror or error}){hint}") from error


class _Guarded:
    """An output whose errors, and no others, say that it cannot be written."""

    def __init__(
        self, output: Output, writing: Callable[[], contextlib.AbstractContextManager[None]]
    ) -> None:
        self._output, self._writing = output, writing

    def write(self, place: str, line: str) -> None:
        with self._writing():
            self._output.write(place, line)

    def flush(self) -> None:
        with self._writing():
            self._output.flush()

    def finish(self) -> None:
        with self._writing():
            self._output.finish()


def _opened(path: Path) -> TextIO:
    return path.open("w", encoding="utf-8", errors="backslashreplace", newline="")


class _Stream:
    def __init__(self, stream: TextIO, kind: str) -> None:
        self._stream, self._writer = stream, FILES[kind](stream)

    def write(self, place: str, line: str) -> None:
        del place
        self._writer.write(line)

    def flush(self) -> None:
        self._stream.flush()

    def finish(self) -> None:
        self._stream.flush()


class _File(_Stream):
    def __init__(self, stream: TextIO, kind: str, partial: Path, path: Path) -> None:
        super().__init__(stream, kind)
        self._partial, self._path = partial, path

    def finish(self) -> None:
        self._stream.flush()
        os.fsync(self._stream.fileno())
        os.replace(self._partial, self._path)


class _Tree:
    """A file of each format for each recording, beside the file of all records."""

    def __init__(self, records: Output, folder: Path, formats: Sequence[str]) -> None:
        self._records, self._folder, self._formats = records, folder, formats
        self._taken: set[int] = set()
        self._numbers: dict[int, int] = {}  # of places that were asked for more than once
        self._made: set[str] = set()

    def write(self, place: str, line: str) -> None:
        self._records.write(place, line)
        if not self._formats:
            return
        place = self._free(place)
        record = json.loads(line)
        for name in self._formats:
            path = os.path.join(self._folder, place + TREES[name].suffix)
            if record["status"] == "ok":
                self._put(path, TREES[name].text(record).encode("utf-8", "backslashreplace"))
            else:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    os.unlink(path)  # what an earlier run said of a recording that broke

    def _free(self, place: str) -> str:
        """The place, or one that no other has, on a disk that does not tell cases apart either."""
        place = free = _within(place)
        first = key = _key(place)
        while key in self._taken:
            number = self._numbers[first] = self._numbers.get(first, 1) + 1
            free = f"{place}~{number}"
            key = _key(free)
        self._taken.add(key)
        return free

    def _put(self, path: str, content: bytes) -> None:
        with contextlib.suppress(OSError):
            if os.stat(path).st_size == len(content):
                with open(path, "rb") as file:
                    if file.read() == content:
                        return
        folder = os.path.dirname(path)
        if folder not in self._made:
            os.makedirs(folder, exist_ok=True)
            self._made.add(folder)
        staging = os.path.join(folder, ".speechrnn.partial")  # one at a time, of one run
        try:
            with open(staging, "wb") as file:
                file.write(content)
            os.replace(staging, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(staging)
            raise

    def flush(self) -> None:
        self._records.flush()

    def finish(self) -> None:
        self._records.finish()


def _within(place: str) -> str:
    """A place as it can be in a tree: below its top, of names that a disk takes."""
    parts = [part for part in place.replace("\0", "_").split(os.sep) if part not in ("", os.curdir)]
    *folders, name = ["_" if part == os.pardir else part for part in parts] or ["_"]
    folder = os.path.join("", *(_cut(_not_ours(part)) for part in folders))
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        folder = f"_deep~{_digest(folder)}"
    return os.path.join(folder, _cut(name))


def _not_ours(folder: str) -> str:
    """A folder's name, of which no file's is the same: not "a.wav.txt", which "a.wav" may need."""
    return f"{folder}~" if _folded(folder).endswith(_ENDINGS) else folder


def _cut(name: str) -> str:
    if len(os.fsencode(name)) <= LONGEST_NAME:
        return name
    digest = _digest(name)
    while len(os.fsencode(name)) > LONGEST_NAME:  # between two letters
        name = name[:-1]
    return f"{name}~{digest}"


def _digest(name: str) -> str:
    return hashlib.sha256(os.fsencode(name)).hexdigest()[:12]


def _folded(name: str) -> str:
    """The same for names that some disk takes for the same (Unicode 3.13, D145)."""
    return unicodedata.normalize("NFD", unicodedata.normalize("NFD", name).casefold())


def _key(place: str) -> int:
    """A number of such names, smaller than they are."""
    name = _folded(place)
    digest = hashlib.blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")
