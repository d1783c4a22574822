"""Workers on a Ray cluster: the same records, from piles that outgrow one machine.

Recordings and the model lie where every node sees them under the same path. What was done is kept
by who started the run, so that it is gone on with in the same way, by whichever engine.
"""

from __future__ import annotations

import contextlib
import dataclasses
import importlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from speechrnn.errors import ConfigError, MissingExtraError, ModelError
from speechrnn.options import FILES, Guidance
from speechrnn.transcribe.engine import Worker, WorkerDied
from speechrnn.transcribe.setup import Setup
from speechrnn.transcribe.tasks import Finished, Task

# After so long without a worker it is said what is waited for, and again as often.
PATIENCE_S = 10.0
# A worker that ends before it has opened the model is waited for again so often.
STARTS = 2


@contextlib.contextmanager
def ray_workers(
    setup: Setup, jobs: int | None, address: str | None, tell: Callable[[str], None]
) -> Iterator[list[Callable[[], Worker]]]:
    """Workers of a cluster, one for each of its CPUs, or as many as ``jobs``.

    Args:
        setup: The model and what guides it.
        jobs: Workers; None: as many as the cluster has CPUs.
        address: Of a cluster; None: that of ``RAY_ADDRESS``, or one that is started here.
        tell: Is told what is waited for.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: There is no cluster at the address.
    """
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError as error:
        raise MissingExtraError("--engine ray", "ray", "ray") from error
    setup.transcriber()  # what is wrong with the model is wrong here too
    address = address or os.environ.get("RAY_ADDRESS")
    options: dict[str, Any] = {"address": address} if address else {"include_dashboard": False}
    started = not ray.is_initialized()
    if started:
        try:
            _check_address(address)
            ray.init(logging_level="ERROR", log_to_driver=False, **options)
        except (OSError, RuntimeError, ValueError) as error:
            reason = str(error).strip().splitlines()[0]
            raise ConfigError(
                f"--ray-address {address}: no cluster answers ({reason}); start one with ray start"
                " --head, or leave the address out to use this machine"
            ) from error
    actor = ray.remote(num_cpus=1, max_restarts=-1, max_concurrency=1)(_Transcribing)
    count = jobs or max(1, int(ray.cluster_resources().get("CPU", 1)))
    actors = [actor.remote(_everywhere(setup)) for _ in range(count)]

    def worker(handle: Any) -> Callable[[], Worker]:
        return lambda: _RayWorker(ray, handle, tell)

    try:
        yield [worker(handle) for handle in actors]
    finally:
        for handle in actors:
            ray.kill(handle)
        if started:
            ray.shutdown()


def _check_address(address: str | None) -> None:
    """Ray itself tries for a minute where nobody listens."""
    host, _, port = (address or "").rpartition(":")
    if port.isdigit() and "://" not in host:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE_S).close()


class _Transcribing:
    """What runs on the cluster."""

    def __init__(self, setup: Setup) -> None:
        self._transcriber = setup.transcriber()

    def is_ready(self) -> bool:
        return True

    def run(self, tasks: Sequence[Task]) -> list[Finished]:
        return list(self._transcriber.finish_many(tasks))


class _RayWorker:
    def __init__(self, ray: Any, handle: Any, tell: Callable[[str], None]) -> None:
        self._ray, self._handle = ray, handle
        for _ in range(STARTS):
            problem = self._start(tell)
            if problem is None:
                return
        reason = str(problem).strip().splitlines()[-1]
        raise ModelError(f"a worker of Ray could not open the model ({reason})") from problem

    def _start(self, tell: Callable[[str], None]) -> Exception | None:
        """Wait until the actor is there; why it is not."""
        ray = self._ray
        ready = self._handle.is_ready.remote()
        while not ray.wait([ready], timeout=PATIENCE_S)[0]:
            whole = ray.cluster_resources().get("CPU", 0)
            free = ray.available_resources().get("CPU", 0)
            tell(f"waiting for 1 CPU of Ray: the cluster has {whole:g}, of which {free:g} are free")
        try:
            ray.get(ready)
        except ray.exceptions.RayError as error:
            return error
        return None

    def run(self, tasks: Sequence[Task]) -> Iterator[Finished]:
        there = [
            task._replace(source=task.source._replace(path=os.path.abspath(task.source.path)))
            for task in tasks
        ]
        try:
            yield from self._ray.get(self._handle.run.remote(there))
        except self._ray.exceptions.RayError as error:
            raise WorkerDied(type(error).__name__) from error

    def close(self) -> None:
        """It ends with the run."""


def _everywhere(setup: Setup) -> Setup:
    """The same with names that mean the same in any folder."""
    guidance: Guidance = setup.guidance
    files = {name: os.path.abspath(found) for name in FILES if (found := getattr(guidance, name))}
    guidance = dataclasses.replace(guidance, **files)
    return dataclasses.replace(setup, model=os.path.abspath(setup.model), guidance=guidance)
