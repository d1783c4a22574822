"""The converter, forked off a process that has TensorFlow already, which takes seconds to import.

A conversion is a process of its own, here as there, and writes the same bytes in half the time.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from speechrnn.export import pipeline

CONTEXT = multiprocessing.get_context("forkserver")
# What a conversion imports; none of it computes anything yet, so that it may be forked.
CONTEXT.set_forkserver_preload(["tensorflow", "speechrnn.export.convert", "speechrnn.export.graph"])
CONVERTER, as_a_command = pipeline.CONVERTER, pipeline._run_converter


def _work(arguments: Sequence[str], noise: Path) -> None:
    handle = os.open(noise, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(handle, stream)
    sys.argv = ["convert", *arguments]
    importlib.import_module("speechrnn.export.convert").main()


def run_converter(command: Sequence[str], noise: Path) -> str | None:
    """In the place of ``pipeline._run_converter``, which does again what fails, and says why."""
    size = len(CONVERTER)
    if tuple(command[:size]) != CONVERTER:
        return as_a_command(command, noise)
    process = CONTEXT.Process(target=_work, args=(list(command[size:]), noise))
    process.start()
    process.join(pipeline.CONVERSION_TIMEOUT_S)
    if process.exitcode is None:
        process.kill()
    return None if process.exitcode == 0 else as_a_command(command, noise)
