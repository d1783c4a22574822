"""Writing files so that a reader sees the old content or the new, never a part of it; texts."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from speechrnn.errors import ConfigError, DataError, OutputError


@contextmanager
def reading_text(path: str | Path) -> Iterator[None]:
    """What cannot be read as UTF-8 text within is a ConfigError that names the file."""
    try:
        yield
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 text ({error.reason}); save it as UTF-8"
        raise ConfigError(f"{path}: {reason}") from error


def json_object(line: str, where: str) -> dict[str, Any]:
    """A row of JSON lines.

    Raises:
        DataError: It is none; ``where`` says which.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", error)
        raise DataError(f"{where}: is not a JSON object ({reason})") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: got {line.strip()[:40]!r}, expected a JSON object")
    return row


def write_atomically(path: Path, content: bytes) -> None:
    """Write ``content`` beside ``path`` and rename it into place.

    A link, a pipe or a device such as ``/dev/stdout`` is written to, not replaced.

    Raises:
        OutputError: The folder is missing or cannot be written, or the disk is full.
    """
    try:
        if path.is_symlink() or (path.exists() and not path.is_file()):
            path.write_bytes(content)
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        staging = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            staging.chmod(0o644)
            os.replace(staging, path)
        finally:
            staging.unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error


def json_text(content: Any, *, indent: int | None = 2) -> str:
    """Plain values as JSON for people and programs, without ``indent`` as one line.

    Half a surrogate pair, which a file name that is not UTF-8 becomes, is written as JSON's escape.
    """
    return encodable(json.dumps(content, indent=indent, ensure_ascii=False)) + "\n"


def encodable(text: str) -> str:
    r"""The text with what UTF-8 cannot say, half a surrogate pair, as ``\udce9``."""
    return text.encode("utf-8", "backslashreplace").decode()


def flush_to_disk(folder: Path) -> None:
    """Wait until a power cut would leave the files of a folder as they are.

    Raises:
        OSError: The disk is full, or broken.
    """
    for place in (*folder.iterdir(), folder):
        if os.name == "nt" and place.is_dir():  # Windows opens no folder, and needs none
            continue
        handle = os.open(place, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def check_place(path: Path, *, folder: bool = False) -> None:
    """Find out before long work that no file, or ``folder``, can be written at ``path`` after it.

    Raises:
        OutputError: The folder that ``path`` would lie in cannot be made, or not be written to; or
            what shall be a file is a folder.
    """
    if not folder and os.path.isdir(path):
        raise OutputError(f"{path}: is a folder, expected the name of a file")
    try:
        nearest = next(above for above in path.absolute().parents if above.exists())
        usable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror})") from error
    if not usable:
        raise OutputError(
            f"{path}: cannot be written; {nearest} is no folder that you may write to"
        )


def replace_directory(new: Path, path: Path, *, names: Collection[str]) -> None:
    """Put the directory ``new`` where ``path`` is, be there an old one or none.

    What a person added to the old one, entries other than ``names``, moves into the new one. No
    portable call swaps two directories, so there are two renames: a process that is killed
    between them leaves the old one whole, beside, in ``.NAME.old-*``.

    Raises:
        OSError: A rename failed; the old directory is where it was.
    """
    if not path.exists():
        os.rename(new, path)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{path.name}.old-", dir=path.parent))
    old = aside / path.name
    try:
        os.rename(path, old)
        os.rename(new, path)
    except BaseException:  # Ctrl-C too
        if old.exists() and not path.exists():
            os.rename(old, path)
        if not old.exists():
            aside.rmdir()
        raise
    for entry in old.iterdir():
        if entry.name not in names:
            os.rename(entry, path / entry.name)
    shutil.rmtree(aside, ignore_errors=True)
