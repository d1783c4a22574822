"""Transcribing from a program: records as they come."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from speechrnn.errors import ConfigError
from speechrnn.options import Guidance
from speechrnn.ready_models import model_path
from speechrnn.transcribe.engine import Worker, run_by, run_here
from speechrnn.transcribe.inputs import Inputs, Selection
from speechrnn.transcribe.process import Process
from speechrnn.transcribe.records import Record
from speechrnn.transcribe.setup import Setup
from speechrnn.transcribe.tasks import Task

if TYPE_CHECKING:
    from speechrnn.recognize import Model


def transcribe_files(
    model: str | os.PathLike[str] | Model,
    inputs: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    *,
    jobs: int = 1,
    include: Iterable[str] = (),
    exclude: Iterable[str] = (),
    guidance: Guidance | None = None,
) -> Iterator[Record]:
    """A record for each recording, in order, whatever is wrong with it.

    Args:
        model: A bundle or a .tflite, or one that is loaded (:func:`speechrnn.load_model`), as it
            is guided.
        inputs: Files, folders, manifests; one, or several.
        jobs: Processes, each with a model of its own.
        include: Shell patterns of the files of folders that are taken; none: sound files.
        exclude: Shell patterns of what is left out.
        guidance: A grammar, language models and hot words, for a model of sequences.

    Yields:
        ``audio_filepath``, ``status`` ("ok" or "error"), ``text``, ``confidence``, ``duration``,
        ``words`` (``text``, ``start``, ``end``, ``confidence``; seconds), ``error``, and, with a
        grammar, ``slots``.

    Raises:
        SpeechRNNError: The model cannot be opened, a folder without recordings, a faulty manifest,
            a model that is loaded with several jobs.

    Example::

        for record in speechrnn.transcribe_files("words.tflite", "recordings", jobs=2):
            print(record["audio_filepath"], record["text"])
    """
    if jobs < 1:
        raise ConfigError(f"jobs={jobs}: expected at least 1")
    names = [inputs] if isinstance(inputs, str | os.PathLike) else list(inputs)
    listed = Inputs([os.fspath(name) for name in names], Selection(tuple(include), tuple(exclude)))
    items = ((Task(source), None) for source in listed.sources())
    if not isinstance(model, str | os.PathLike):
        from speechrnn.transcribe.work import Transcriber

        if jobs != 1 or guidance is not None:
            raise ConfigError(
                "a model that is loaded: expected jobs=1 and no guidance; pass a path"
            )
        decoder = model.decoder
        results = run_here(Transcriber(model, slots=decoder.has_grammar), items)
    else:
        setup = Setup(os.fspath(model_path(model)), guidance or Guidance())

        def start() -> Worker:
            return Process(setup)

        if jobs == 1:
            results = run_here(setup.transcriber(), items)
        else:
            results = run_by([start] * jobs, items)
    for _, done in results:
        assert done.line is not None
        yield json.loads(done.line)
