"""One recording -> its record, whatever is wrong with it."""

from __future__ import annotations

import hashlib
import io
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from speechrnn.audio import SMALL_BYTES, open_sound, stream_blocks
from speechrnn.decoding import Transcript
from speechrnn.decoding.long import hear
from speechrnn.errors import AudioError, ModelError
from speechrnn.recognize import Model
from speechrnn.transcribe.inputs import stamp, stamp_of
from speechrnn.transcribe.records import error_record, ok_record, to_line
from speechrnn.transcribe.tasks import Finished, Task

_BLOCK_BYTES = 1 << 20
# Recordings that are read before they are answered to.
TOGETHER = 16


class Transcriber:
    """Makes records, and measures what takes its time.

    Args:
        model: Answers to waveforms.
        slots: Whether records have those of a grammar.
    """

    def __init__(self, model: Model, *, slots: bool = False) -> None:
        self._model = _Timed(model)
        self._slots = slots
        # A bundle pads what it answers to together, which changes the last digits.
        self._together = 1 if os.path.isdir(model.path) else TOGETHER

    def finish(self, task: Task) -> Finished:
        """The record of an input."""
        (done,) = self.finish_many([task])
        return done

    def finish_many(self, tasks: Sequence[Task]) -> Iterator[Finished]:
        """The record of each input; short recordings are answered to together."""
        for first in range(0, len(tasks), self._together):
            jobs = [_Job(task) for task in tasks[first : first + self._together]]
            for job in jobs:
                job.attempt(self._hear)
            self._answer([job for job in jobs if job.waveform is not None])
            for job in jobs:
                job.attempt(self._decode)
                yield job.done

    def _hear(self, job: _Job) -> None:
        """Read a recording; recognise it if it is long."""
        source, seconds = job.task.source, job.done.seconds
        if source.error:
            raise AudioError(source.name, source.error)
        started = time.perf_counter()
        with open_sound(source.path) as stream:
            before = os.fstat(stream.fileno())
            job.done.stamp, job.done.read_ns = stamp(before), time.time_ns()
            # Of a small file once for both the hash and the sound.
            small = before.st_size <= SMALL_BYTES
            content = stream.read(before.st_size + 1) if small else b""
            job.done.sha256 = content_hash(stream, content)
            hashed = time.perf_counter()
            seconds[0] = hashed - started
            if job.done.sha256 == job.task.known_sha256:
                job.is_known = True
                return
            self._model.seconds = 0.0
            rate_hz = self._model.sample_rate_hz
            if not content:
                stream.seek(0)
            blocks = stream_blocks(stream, source.name, rate_hz, content=content or None)
            heard = hear(self._model, _timed(blocks, seconds), source.name)
            after = os.fstat(stream.fileno())
        if stamp(after)[:2] != stamp(before)[:2]:
            job.done.sha256 = None  # which may be of what it has become
            raise AudioError(source.name, "changed while it was read; transcribe it again")
        seconds[2] = self._model.seconds
        seconds[3] = time.perf_counter() - hashed - seconds[1] - seconds[2]
        if isinstance(heard, Transcript):
            job.transcript = heard
        else:
            job.waveform = heard

    def _answer(self, jobs: Sequence[_Job]) -> None:
        """What the model answers to recordings that are to be answered to as a whole."""
        waveforms = [job.waveform for job in jobs if job.waveform is not None]
        try:
            self._model.seconds = 0.0
            answers = self._model.answer_many(waveforms) if waveforms else []
        except Exception:  # each by itself, to see whose fault it is
            return
        for job, answer in zip(jobs, answers, strict=True):
            job.answer = answer
            job.done.seconds[2] += self._model.seconds / len(jobs)

    def _decode(self, job: _Job) -> None:
        """The record of what was answered."""
        started = time.perf_counter()
        if job.waveform is not None:
            if job.answer is None:
                (job.answer,) = self._model.answer_many([job.waveform])
            model = self._model
            duration_s = len(job.waveform) / model.sample_rate_hz
            job.transcript = model.decoder.decode(job.answer, duration_s, threshold=model.threshold)
        if job.transcript is not None:
            record = ok_record(job.task.source.name, job.transcript, slots=self._slots)
            job.done.line = to_line(record)
            job.done.duration_s = job.transcript.duration
            job.done.seconds[3] += time.perf_counter() - started


@dataclass
class _Job:
    """A task on its way."""

    task: Task
    done: Finished = field(default_factory=lambda: Finished(None))
    is_known: bool = False
    waveform: np.ndarray | None = None
    answer: np.ndarray | None = None
    transcript: Transcript | None = None

    def attempt(self, step: Callable[[_Job], None]) -> None:
        """Do a step, unless it is over; what goes wrong is its result."""
        if self.is_known or self.done.line is not None:
            return
        source = self.task.source
        try:
            step(self)
            return
        except AudioError as error:
            reason = error.reason
        except ModelError as error:
            reason = str(error)
        except MemoryError:
            reason = "needs more memory than there is"
        except Exception as error:  # a bug of ours or of a library's is no reason to stop
            reason = f"internal error ({type(error).__name__}: {error}); please report it"
        if self.done.stamp is None:  # it could not even be opened
            self.done.stamp = stamp_of(source.path)
        self.done.error = reason
        self.done.line = to_line(error_record(source.name, reason))


class _Timed:
    """A model that knows how long it took to answer."""

    def __init__(self, model: Model) -> None:
        self._model, self.seconds = model, 0.0
        self.labels, self.decoder, self.threshold = model.labels, model.decoder, model.threshold
        self.sample_rate_hz, self.min_samples = model.sample_rate_hz, model.min_samples
        self.clip_s = model.clip_s

    def answer_many(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        started = time.perf_counter()
        answers = self._model.answer_many(waveforms)
        self.seconds += time.perf_counter() - started
        return answers


def _timed(blocks: Iterable[np.ndarray], seconds: list[float]) -> Iterator[np.ndarray]:
    """Blocks, of which reading counts as the second stage."""
    coming = iter(blocks)
    while True:
        started = time.perf_counter()
        block = next(coming, None)
        seconds[1] += time.perf_counter() - started
        if block is None:
            return
        yield block


def content_hash(stream: io.FileIO, content: bytes = b"") -> str:
    """SHA-256 of what was read of a file and of what is left of it, as hexadecimal digits."""
    digest = hashlib.sha256(content)
    if not content:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()
