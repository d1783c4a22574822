"""A training in the middle: all that decides how it goes on, in one file beside the bundle."""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from speechrnn.bundle import is_bundle, read_bundle
from speechrnn.errors import ConfigError, ModelError, OutputError
from speechrnn.files import write_atomically

FORMAT_VERSION = 1


@dataclass
class Checkpoint:
    """The state of a training.

    Attributes:
        identity: Nested settings and hashes of what is trained on what; another identity must
            not go on from here.
        progress: Plain values: epoch, step, log.
        arrays: Weights and the like, by name.
    """

    identity: dict[str, Any]
    progress: dict[str, Any]
    arrays: dict[str, np.ndarray] = field(repr=False)


def checkpoint_path(bundle: Path) -> Path:
    """Where the checkpoint of a training towards ``bundle`` lies until it is finished."""
    return bundle.with_name(f"{bundle.name}.checkpoint")


def is_finished(bundle: Path) -> bool:
    """Whether a training towards ``bundle`` came to its end; a damaged bundle says no."""
    try:
        return is_bundle(bundle) and bool(read_bundle(bundle).training.get("finished"))
    except ModelError:
        return False


def save_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Write it; whatever happens meanwhile, the old one or the new one is there, whole.

    Raises:
        OutputError: It cannot be written; the old one is untouched.
    """
    text = json.dumps(
        {
            "format_version": FORMAT_VERSION,
            "identity": checkpoint.identity,
            "progress": checkpoint.progress,
        }
    )
    content = io.BytesIO()
    arrays = {"_json": np.frombuffer(text.encode(), np.uint8), **checkpoint.arrays}
    np.savez(content, **arrays)  # type: ignore[arg-type]  # no name is an argument of savez
    try:
        write_atomically(path, content.getvalue())
    except OutputError as error:
        kept = "the one before is whole: make room, and go on with --resume"
        remedy = kept if path.exists() else "make room, and start again"
        raise OutputError(f"{error}; {remedy}") from error


def load_checkpoint(path: Path, identity: Mapping[str, Any]) -> Checkpoint:
    """Read what :func:`save_checkpoint` wrote.

    Raises:
        ModelError: There is none, or it is damaged.
        ConfigError: It belongs to a training with other settings or data; says which.
    """
    if not path.exists():
        raise ModelError(f"{path}: no such checkpoint, nothing to resume; start without --resume")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        content = json.loads(arrays.pop("_json").tobytes())
        version = content["format_version"]
        found = Checkpoint(content["identity"], content["progress"], arrays)
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise ModelError(
            f"{path}: is no intact checkpoint ({error}); remove it, and start without --resume"
        ) from error
    if version != FORMAT_VERSION:
        raise ModelError(
            f"{path}: has checkpoint version {version}, expected {FORMAT_VERSION}; finish it with "
            "the speechrnn that began it, or start without --resume"
        )
    wanted = json.loads(json.dumps(identity))
    for key, then, now in differences(found.identity, wanted):
        raise ConfigError(
            f"{path}: was begun with {key} = {then}, now it is {now}; resume with what it was "
            "begun with, or start anew with --force"
        )
    return found


def differences(then: Any, now: Any, key: str = "") -> list[tuple[str, Any, Any]]:
    """Where two nested values differ: name, the one, the other."""
    if not (isinstance(then, dict) and isinstance(now, dict)):
        return [] if then == now else [(key, json.dumps(then), json.dumps(now))]
    found = []
    for name in dict.fromkeys([*then, *now]):
        inner = f"{key}.{name}" if key else name
        found += differences(then.get(name), now.get(name), inner)
    return found
