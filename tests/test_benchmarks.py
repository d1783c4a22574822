"""Every command under ``benchmarks/`` starts, and what it imports while it runs is there."""

from __future__ import annotations

import ast
import importlib
import os
import runpy
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

FOLDER = Path(__file__).parent.parent / "benchmarks"
FILES = sorted(FOLDER.rglob("*.py"))
COMMANDS = [file for file in FILES if "__main__" in file.read_text(encoding="utf-8")]
# Peers that are measured beside ours, of the extra "benchmarks" or of no extra at all.
PEERS = ("fast_ctc_decode", "flashlight", "kaldi_native_fbank", "torch")


def named(file: Path) -> str:
    return file.relative_to(FOLDER).as_posix()


def imports(file: Path) -> list[tuple[str, str | None]]:
    """Modules, and what is taken out of them, in functions too."""
    found: list[tuple[str, str | None]] = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module != "__future__":
            found += [(str(node.module), alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            found += [(alias.name, None) for alias in node.names]
    return found


@pytest.fixture(autouse=True)
def as_a_command(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Modules are found as from a command line; what is set for libraries is set back."""
    for folder in (FOLDER, FOLDER.parent / "export"):
        monkeypatch.syspath_prepend(str(folder))
    with mock.patch.dict(os.environ):
        yield


def test_there_are_commands():
    assert {"memory.py", "training_speed.py", "quality/sweep.py"} <= set(map(named, COMMANDS))


@pytest.mark.parametrize("file", COMMANDS, ids=named)
def test_it_says_what_it_takes(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", [str(file), "--help"])
    monkeypatch.syspath_prepend(str(file.parent))
    try:
        runpy.run_path(str(file), run_name="__main__")
    except SystemExit as ended:
        status = ended.code
    except ModuleNotFoundError as error:
        if error.name not in PEERS:
            raise
        pytest.skip(f"{error.name} is of the extra benchmarks, not installed")
    assert status == 0
    assert capsys.readouterr().out.startswith(f"usage: {file.name}")


@pytest.mark.parametrize("file", FILES, ids=named)
def test_what_it_imports_is_there(file: Path):
    for module, name in imports(file):
        if module.partition(".")[0] in PEERS:
            continue
        found = importlib.import_module(module)
        if name is not None and not hasattr(found, name):
            importlib.import_module(f"{module}.{name}")
