"""What a person names -> the recordings, one after another, in an order of the names alone.

Nothing is kept of what was listed but the folders that were seen and the names in the one that is
gone through, so that a million files need little more memory than a hundred.
"""

from __future__ import annotations

import os
import stat
import sys
import tempfile
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, BinaryIO, NamedTuple, TypeGuard

from speechrnn.errors import ConfigError, DataError
from speechrnn.files import json_object
from speechrnn.suffixes import AUDIO_SUFFIXES, FFMPEG_SUFFIXES, MANIFEST_SUFFIXES

STANDARD_INPUT = "-"
# In the mirrored tree: what lies outside the folder that it mirrors.
OUTSIDE = "_outside"
_SUFFIXES = AUDIO_SUFFIXES | FFMPEG_SUFFIXES
# Control characters that no list of names begins with, and sounds do.
_BINARY = frozenset(range(32)) - frozenset(b"\0\t\n\r\x1b")
_PEEKED = 512


class Source(NamedTuple):
    """One input.

    Attributes:
        name: What its record calls it.
        path: Where it lies.
        place: Where what is written of it lies in a mirrored tree, without a suffix for the format.
        error: Why it is none, of a folder that cannot be read.
    """

    name: str
    path: str
    place: str
    error: str | None = None


@dataclass(frozen=True)
class Selection:
    """Which files of a folder are recordings.

    Attributes:
        include: Shell patterns; a file is taken if its name, or its path in the folder, matches
            one. None: files with the suffix of a sound or film.
        exclude: What matches one of these is left out; of a folder with all that is in it.
        skip: Folders that are left out: what is written does not become an input.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    skip: frozenset[str] = frozenset()

    def takes(self, inner: str, name: str) -> bool:
        """Whether the file at this path in the folder is a recording."""
        if _matches(self.exclude, inner, name):
            return False
        if self.include:
            return _matches(self.include, inner, name)
        return os.path.splitext(name)[1].lower() in _SUFFIXES

    def enters(self, inner: str, name: str, real: str) -> bool:
        """Whether the folder at this path is looked into."""
        return real not in self.skip and not _matches(self.exclude, inner, name)


def _matches(patterns: Sequence[str], inner: str, name: str) -> bool:
    return any(fnmatchcase(inner, one) or fnmatchcase(name, one) for one in patterns)


@dataclass
class Inputs:
    """Everything that was named; each :meth:`sources` goes through all of it.

    Args:
        names: Files, folders, manifests (``.jsonl``), or ``-``: a list of names on standard input,
            separated by newlines or NULs, or one recording itself.
        selection: Which files of a folder are taken.

    Raises:
        DataError: A folder without recordings, a faulty manifest, nothing on standard input.
    """

    names: Sequence[str]
    selection: Selection = field(default_factory=Selection)

    def __post_init__(self) -> None:
        if list(self.names).count(STANDARD_INPUT) > 1:
            raise ConfigError("-: standard input was named twice, expected once")
        self._spooled: tempfile._TemporaryFileWrapper | None = None
        self._is_sound = False
        if STANDARD_INPUT in self.names:
            self._spool(sys.stdin.buffer if sys.stdin else None)
        for name in self.names:
            self._check(name)

    def sources(self) -> Iterator[Source]:
        """The recordings, in the order of the names; within a folder sorted by path."""
        prefixes = _prefixes([_root(name) for name in self.names])
        for name, prefix in zip(self.names, prefixes, strict=True):
            for source in self._sources_of(name):
                if prefix:
                    place = os.path.normpath(os.path.join(prefix, source.place))
                    source = source._replace(place=place)
                yield source

    def _sources_of(self, name: str) -> Iterator[Source]:
        if name == STANDARD_INPUT:
            yield from self._standard_input()
        elif os.path.isdir(name):
            yield from _below(name, self.selection)
        elif _is_manifest(name):
            folder = os.path.dirname(name)
            for inner in _manifest_rows(name):
                path = os.path.join(folder, inner)
                yield Source(path, path, _inner(path, folder or "."))
        else:
            yield Source(name, name, os.path.basename(os.path.abspath(name)))

    def _check(self, name: str) -> None:
        if name == STANDARD_INPUT:
            return
        if os.path.isdir(name):
            if next(_below(name, self.selection), None) is None:
                wanted = f" that match {', '.join(self.selection.include)}"
                raise DataError(
                    f"{name}: folder without recordings"
                    f"{wanted if self.selection.include else ''}, expected sound files in it"
                )
        elif _is_manifest(name):
            count = sum(1 for _ in _manifest_rows(name))
            if not count:
                raise DataError(f"{name}: holds no recordings")

    def _spool(self, stream: BinaryIO | None) -> None:
        """Keep what standard input brings in a file: a list is gone through more than once."""
        if stream is None or stream.isatty():
            raise DataError(
                "-: standard input is a terminal or closed, expected a list of files, as of "
                "find . -name '*.wav' |, or a recording"
            )
        first = b""
        try:
            self._spooled = tempfile.NamedTemporaryFile(prefix="speechrnn-")  # noqa: SIM115
            weakref.finalize(self, self._spooled.close)
            while block := stream.read(1 << 20):
                first = first or block[:_PEEKED]
                self._spooled.write(block)
            self._spooled.flush()
        except OSError as error:
            reason = error.strerror or error
            raise DataError(
                f"-: standard input cannot be read and kept in a file ({reason})"
            ) from error
        name = next(_listed(self._spooled.name), None)
        if name is None:
            raise DataError("-: standard input is empty, expected a list of files or a recording")
        # A control character in a name that there is does not make a sound of a list.
        self._is_sound = any(byte in _BINARY for byte in first) and not os.path.lexists(name)

    def _standard_input(self) -> Iterator[Source]:
        assert self._spooled is not None
        if self._is_sound:
            yield Source(STANDARD_INPUT, self._spooled.name, "stdin")
            return
        for name in _listed(self._spooled.name):
            yield Source(name, name, _inner(name, "."))


def _is_manifest(name: str) -> bool:
    return os.path.splitext(name)[1] in MANIFEST_SUFFIXES


def _listed(path: str) -> Iterator[str]:
    """The names in a list."""
    with open(path, "rb") as file:
        separator = b"\0" if b"\0" in file.read(1 << 16) else b"\n"
        file.seek(0)
        yield from _split(file, separator)


def _split(file: BinaryIO, separator: bytes) -> Iterator[str]:
    rest = b""
    while block := file.read(1 << 16):
        *whole, rest = (rest + block).split(separator)
        for name in whole:
            yield from _name(name, separator)
    yield from _name(rest, separator)


def _name(name: bytes, separator: bytes) -> Iterator[str]:
    if separator == b"\n":
        name = name.removesuffix(b"\r")
    if name:
        yield os.fsdecode(name)


def _below(top: str, selection: Selection) -> Iterator[Source]:
    """The recordings of a folder, hidden ones left out, links to folders followed, each once."""
    seen: set[str] = set()
    # Of each folder on the way down, of which there may be more than Python has frames, what is
    # left in it: paths below the top, and where a folder really lies.
    levels: list[Iterator[tuple[str, str | None]]] = [iter([("", os.path.realpath(top))])]
    while levels:
        inner, real = next(levels[-1], (None, None))
        if inner is None:
            levels.pop()
            continue
        path = os.path.join(top, inner) if inner else top
        if real is None:
            yield Source(path, path, inner)
        elif real not in seen:
            seen.add(real)
            try:
                with os.scandir(path) as found:
                    entries = sorted(_Entry.of(entry) for entry in found)
            except OSError as error:
                reason = f"folder cannot be read ({error.strerror})"
                yield Source(path, path, inner or ".", reason)
            else:
                levels.append(_chosen(entries, top, inner, real, selection))


class _Entry(NamedTuple):
    name: str
    is_folder: bool
    is_link: bool

    @classmethod
    def of(cls, entry: os.DirEntry) -> _Entry:
        try:
            return cls(entry.name, entry.is_dir(), entry.is_symlink())
        except OSError:  # a loop of links; it is reported when it is read
            return cls(entry.name, False, True)


def _chosen(
    entries: Sequence[_Entry], top: str, inner: str, real: str, selection: Selection
) -> Iterator[tuple[str, str | None]]:
    """What is taken of a folder's entries, and what is looked into, as ``levels`` has it."""
    for name, is_folder, is_link in entries:
        if name.startswith("."):
            continue
        place = os.path.join(inner, name)
        posix = place.replace(os.sep, "/")
        if is_folder:
            # Asked of the disk for each folder, the depth of all would count to the third power.
            path = os.path.join(top, place)
            lies = os.path.realpath(path) if is_link else os.path.join(real, name)
            if selection.enters(posix, name, lies):
                yield place, lies
        elif selection.takes(posix, name):
            yield place, None


def _manifest_rows(manifest: str) -> Iterator[str]:
    """What ``audio_filepath`` says in each row; a text is not asked for.

    Raises:
        DataError: The manifest cannot be read, or a row names no file.
    """
    try:
        with open(manifest, "rb") as lines:
            for number, line in enumerate(lines, start=1):
                where = f"{manifest}:{number}"
                if text := _decoded(line, where, "utf-8-sig" if number == 1 else "utf-8").strip():
                    yield _audio_filepath(text, where)
    except OSError as error:
        reason = "no such manifest" if isinstance(error, FileNotFoundError) else error.strerror
        raise DataError(f"{manifest}: cannot be read ({reason})") from error


def _decoded(line: bytes, where: str, encoding: str) -> str:
    try:
        return line.decode(encoding)
    except UnicodeDecodeError as error:
        raise DataError(
            f"{where}: is not UTF-8 text ({error.reason}); save the manifest as UTF-8"
        ) from error


def _audio_filepath(line: str, where: str) -> str:
    row = json_object(line, where)
    found = row.get("audio_filepath")
    if not _can_be_called(found):
        got = repr(found) if "audio_filepath" in row else f"missing (got {list(row)})"
        raise DataError(f"{where}: 'audio_filepath' is {got}, expected the name of a file")
    return found


def _can_be_called(name: Any) -> TypeGuard[str]:
    """Whether a file can have this name."""
    try:
        return isinstance(name, str) and name != "" and b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:  # half a surrogate pair, which JSON can say
        return False


def _root(name: str) -> str:
    """The folder that is mirrored where this is named."""
    if name == STANDARD_INPUT:
        return os.path.abspath(".")
    absolute = os.path.abspath(name)
    return absolute if os.path.isdir(name) else os.path.dirname(absolute)


def _prefixes(roots: Sequence[str]) -> list[str]:
    """Where each root lies in the mirrored tree: of one nowhere, else below what all share."""
    if len(set(roots)) < 2:
        return ["" for _ in roots]
    try:
        shared = os.path.commonpath(roots)
    except ValueError:  # drives of Windows
        return [_outside(root) for root in roots]
    return [os.path.relpath(root, shared) for root in roots]


def _inner(path: str, root: str) -> str:
    """A path as it lies below a root; what does not is put into a folder of its own."""
    absolute = os.path.abspath(path)
    inner = os.path.relpath(absolute, os.path.abspath(root))
    if inner == os.pardir or inner.startswith(os.pardir + os.sep):
        return _outside(absolute)
    return inner


def _outside(absolute: str) -> str:
    drive, path = os.path.splitdrive(absolute)
    inner = os.path.join(OUTSIDE, drive.replace(":", "").strip("\\/"), path.lstrip(os.sep))
    return os.path.normpath(inner)


def stamp_of(path: str) -> tuple[int, int, int] | None:
    """Size, time of change of the content, and of anything, in ns; None where there is no file."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return stamp(found) if stat.S_ISREG(found.st_mode) else None


def stamp(found: os.stat_result) -> tuple[int, int, int]:
    """What tells that a file was not touched."""
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns
