"""Tasks -> what became of them, in their order: here, or by several processes at once.

Each process takes the next few tasks when it has done its last ones, so that one long recording
keeps nobody waiting; what is done early waits for what stands before it. A process that dies is
replaced, and the file that killed it twice is an error.
"""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from typing import Protocol

from speechrnn.transcribe.records import error_record, to_line
from speechrnn.transcribe.tasks import Finished, Task

# Handed over at once: so many, or of so many seconds of work, as far as that can be told.
MOST_TASKS, CHUNK_S = 64, 0.2
# How far the first may run ahead of the last, in chunks.
MOST_CHUNKS_AHEAD = 256
# In the end a worker that is not there yet is waited for so long.
STARTING_S = 1.0


class WorkerDied(Exception):
    """A worker is gone; ``how`` it ended."""

    def __init__(self, how: str) -> None:
        super().__init__(how)
        self.how = how


class WorkerClosed(Exception):
    """A worker was closed while it worked: the run is over."""


class Worker(Protocol):
    """Somebody who transcribes, elsewhere."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Finished]:
        """What becomes of each task.

        Raises:
            WorkerDied: It is gone; the next call starts another.
            WorkerClosed: It was closed.
        """

    def close(self) -> None:
        """Let it end, in the middle of ``run`` in another thread too."""


# A task and what is known of it already, and what became of it.
Item = tuple[Task, Finished | None]
Result = tuple[Task, Finished]


class Finishing(Protocol):
    """See :class:`speechrnn.transcribe.work.Transcriber`."""

    def finish_many(self, tasks: Sequence[Task]) -> Iterator[Finished]:
        """The record of each input."""


def run_here(transcriber: Finishing, items: Iterable[Item]) -> Iterator[Result]:
    """In this process: the first by itself, so that something is seen soon, then some together."""
    coming = iter(items)
    most = 1
    while chunk := list(itertools.islice(coming, most)):
        found = transcriber.finish_many([task for task, done in chunk if done is None])
        for task, done in chunk:
            yield task, done or next(found)
        most = min(MOST_TASKS, 2 * most)


def run_by(
    workers: Sequence[Callable[[], Worker]],
    items: Iterable[Item],
    settle: Callable[[Task, Finished], Result] = lambda task, done: (task, done),
) -> Iterator[Result]:
    """By workers, in the order of the items; close the iterator to stop early.

    Args:
        workers: Make one each, which may take long.
        items: What is to be done.
        settle: Is called, in any thread, as soon as something is done, whatever it waits for.
    """
    crew = _Crew(iter(items), settle)
    threads = [threading.Thread(target=crew.work, args=(make,), daemon=True) for make in workers]
    try:
        for thread in threads:
            thread.start()
        yield from crew.results()
    finally:
        crew.stop()
        for thread in threads:
            if thread.ident is not None:
                # A worker that is still waited for, as of a cluster, may never come.
                thread.join(None if thread in crew.at_work else STARTING_S)


class _Crew:
    """The items that are left, shared by all who work on them."""

    def __init__(self, items: Iterator[Item], settle: Callable[[Task, Finished], Result]) -> None:
        self._items, self._taking, self._settle = items, threading.Lock(), settle
        self.at_work: set[threading.Thread] = set()
        self._ordered: queue.Queue[Future[list[Result]] | None] = queue.Queue(MOST_CHUNKS_AHEAD)
        self._over = threading.Event()
        self._taken = 0
        self._problem: Exception | None = None
        self._workers: set[Worker] = set()

    def results(self) -> Iterator[Result]:
        while (future := self._ordered.get()) is not None:
            yield from future.result()

    def stop(self) -> None:
        self._over.set()
        for worker in list(self._workers):
            worker.close()  # in the middle of a file, if need be

    def work(self, make: Callable[[], Worker]) -> None:
        try:
            worker = make()
        except Exception as error:
            self._put(_failed(error))
            return
        self._workers.add(worker)
        self.at_work.add(threading.current_thread())
        seconds_each = CHUNK_S
        try:
            while not self._over.is_set():
                chunk, future = self._take(seconds_each)
                if not chunk:
                    return
                started, new = time.perf_counter(), sum(done is None for _, done in chunk)
                try:
                    done = _work_through(worker, chunk)
                    future.set_result([self._settle(*result) for result in done])
                except Exception as error:
                    future.set_exception(error)
                    return
                if new:
                    seconds_each = (time.perf_counter() - started) / new
        finally:
            self._workers.discard(worker)
            worker.close()

    def _put(self, what: Future[list[Result]] | None) -> None:
        while not self._over.is_set():
            try:
                return self._ordered.put(what, timeout=0.2)
            except queue.Full:
                continue

    def _take(self, seconds_each: float) -> tuple[list[Item], Future[list[Result]]]:
        """The next items; the first ones one by one, so that something is seen soon.

        None are left for who comes after the last.
        """
        future: Future[list[Result]] = Future()
        with self._taking:
            if self._over.is_set():
                return [], future
            most = max(1, min(MOST_TASKS, int(CHUNK_S / max(seconds_each, 1e-6)), self._taken))
            chunk = self._next_items(most)
            self._taken += len(chunk)
            if chunk:
                self._put(future)
            else:
                self._put(_failed(self._problem) if self._problem else None)
            return chunk, future

    def _next_items(self, most: int) -> list[Item]:
        """The next so many that are to be done, and what is done already between them."""
        found: list[Item] = []
        new = 0
        try:
            while new < most and len(found) < 8 * MOST_TASKS and not self._problem:
                item = next(self._items, None)
                if item is None:
                    break
                found.append(item)
                new += item[1] is None
        except Exception as error:  # told behind what came before it
            self._problem = error
        return found


def _failed(error: Exception) -> Future[list[Result]]:
    future: Future[list[Result]] = Future()
    future.set_exception(error)
    return future


def _work_through(worker: Worker, chunk: Sequence[Item]) -> list[Result]:
    """What becomes of a chunk, whatever becomes of the worker."""
    tasks = [task for task, done in chunk if done is None]
    results: list[Finished] = []
    try:
        if tasks:
            for done in worker.run(tasks):
                results.append(done)  # noqa: PERF402 - kept when the next one fails
    except WorkerDied:
        results += [_alone(worker, task) for task in tasks[len(results) :]]
    found = iter(results)
    return [(task, done or next(found)) for task, done in chunk]


def _alone(worker: Worker, task: Task) -> Finished:
    """A task that may have killed a worker, by itself; a second death is its fault."""
    how = ""
    for _ in range(2):
        try:
            (done,) = worker.run([task])
            return done
        except WorkerDied as died:
            how = died.how
    reason = f"ended the process that read it ({how}); is it a sound file?"
    return Finished(to_line(error_record(task.source.name, reason)), error=reason)
