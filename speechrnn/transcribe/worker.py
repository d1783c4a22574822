"""A process of its own that transcribes: tasks come on standard input, results go out.

Run as ``python -m speechrnn.transcribe.worker``. A file that kills it, through a bug of a library,
kills nothing else.
"""

from __future__ import annotations

import os
import pickle
import signal
import sys
import time
from typing import BinaryIO

from speechrnn.errors import ModelError, SpeechRNNError
from speechrnn.transcribe.setup import Setup
from speechrnn.transcribe.tasks import Finished

# Answers are handed over at least so often.
FLUSH_S = 0.05


def serve(incoming: BinaryIO, outgoing: BinaryIO) -> None:
    """Answer every list of tasks with lists of a :class:`Finished` each, until there are no more.

    Before that it is said whether the model could be opened: None, or the kind of error and its
    text.
    """
    try:
        setup: Setup = pickle.load(incoming)
    except EOFError:  # who started this was stopped
        return
    try:
        transcriber = setup.transcriber()
    except Exception as error:  # else all that is known of it is that this process ended
        known = isinstance(error, SpeechRNNError)
        said = str(error) if known else f"{setup.model}: {type(error).__name__}: {error}"
        pickle.dump((type(error) if known else ModelError, said), outgoing)
        outgoing.flush()
        return
    pickle.dump(None, outgoing)
    outgoing.flush()
    while True:
        try:
            tasks = pickle.load(incoming)
        except EOFError:
            return
        flushed, finished = time.monotonic(), []
        for done in transcriber.finish_many(tasks):
            finished.append(done)
            if time.monotonic() - flushed > FLUSH_S:
                _send(finished, outgoing)
                flushed, finished = time.monotonic(), []
        if finished:
            _send(finished, outgoing)


def _send(finished: list[Finished], outgoing: BinaryIO) -> None:
    pickle.dump(finished, outgoing, pickle.HIGHEST_PROTOCOL)
    outgoing.flush()


def main() -> None:
    """Serve on the standard streams; what libraries print there goes to standard error."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for who started this
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    try:
        os.fstat(2)
    except OSError:  # closed; what is opened next would take its number, and what is printed there
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    with os.fdopen(os.dup(1), "wb") as outgoing:
        os.dup2(2, 1)
        try:
            serve(sys.stdin.buffer, outgoing)
        except BrokenPipeError:  # nobody listens any more
            os._exit(0)


if __name__ == "__main__":
    main()
