"""A whole run: inputs -> workers -> records, with a ledger of what is done."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import os
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from speechrnn.errors import ConfigError, ModelError, OutputError
from speechrnn.files import reading_text
from speechrnn.options import FILES
from speechrnn.ready_models import no_such_model
from speechrnn.transcribe.engine import Item, Result, Worker, run_by, run_here
from speechrnn.transcribe.inputs import Inputs, Selection, stamp_of
from speechrnn.transcribe.ledger import Entry, Ledger
from speechrnn.transcribe.outputs import Target, open_output
from speechrnn.transcribe.process import Process
from speechrnn.transcribe.setup import Setup
from speechrnn.transcribe.status import Status, Summary
from speechrnn.transcribe.tasks import Finished, Task

# With fewer inputs than these, and less in them, other processes would start for nothing.
FEW_INPUTS, FEW_BYTES = 9, 20_000_000
# Written again when what a record says of the same sound changes.
RECORDS_VERSION = 1


@dataclass(frozen=True)
class Plan:
    """What to transcribe, with what, and where to.

    Attributes:
        setup: The model and what guides it.
        inputs: Files, folders, manifests, ``-``.
        target: Where records go.
        selection: Which files of folders are taken.
        jobs: Processes; None: as many as there are cores, where that pays.
        resume: Keep what an earlier run did and is still true.
        retry_errors: Of this, do again what failed.
        force: Replace what an earlier run wrote.
        fail_fast: Stop at the first error.
        engine: "local", or "ray".
        address: Of a Ray cluster; None: one that is started here.
    """

    setup: Setup
    inputs: Sequence[str]
    target: Target
    selection: Selection = field(default_factory=Selection)
    jobs: int | None = None
    resume: bool = False
    retry_errors: bool = False
    force: bool = False
    fail_fast: bool = False
    engine: str = "local"
    address: str | None = None


@dataclass(frozen=True)
class Planned:
    """What a run would do with an input: "transcribe", "check" its content, or "keep"."""

    action: str
    name: str


def run(plan: Plan, *, tell: Callable[[str], None] = lambda line: None) -> Summary:
    """Transcribe everything.

    Args:
        plan: What, with what, and where to.
        tell: Is told each error, and what else a person should know.

    Raises:
        SpeechRNNError: The run cannot start, or its output not be written; what is wrong with a
            recording is in its record.
    """
    _check(plan)
    inputs = Inputs(plan.inputs, _selection(plan))
    with _ledger(plan, tell) as ledger, contextlib.ExitStack() as stack:
        items = _items(plan, inputs, ledger)

        def settle(task: Task, done: Finished) -> Result:
            return _settled(ledger, task, done)

        results = _results(plan, inputs, items, tell, settle)
        stack.enter_context(contextlib.closing(results))
        shown = plan.target.path is not None
        status = Status(lambda: sum(1 for _ in inputs.sources()), shown=shown)
        try:
            # What is wrong with the model is told before anything is written.
            first = list(itertools.islice(results, 1))
            output = stack.enter_context(open_output(plan.target))
            for task, known in itertools.chain(first, results):
                output.write(task.source.place, known.line or "")
                status.add(known, kept=task.kept)
                if known.error is not None:
                    status.make_room()
                    tell(f"{task.source.name}: {known.error}")
                    if plan.fail_fast:
                        output.flush()
                        return status.close()
                if not shown:
                    output.flush()
            output.finish()
        finally:
            summary = status.close()
    return summary


def dry_run(plan: Plan) -> Iterator[Planned]:
    """What :func:`run` would do with each input."""
    folder = plan.target.records.parent if plan.target.records else Path()
    made = [parent for parent in (folder, *folder.parents) if not parent.exists()]
    try:
        _check(plan)
    finally:
        for parent in made:  # to see whether it can be
            with contextlib.suppress(OSError):
                parent.rmdir()
    inputs = Inputs(plan.inputs, _selection(plan))
    existing = plan.target.ledger is not None and plan.target.ledger.exists()
    with _ledger(plan) if plan.resume and existing else contextlib.nullcontext() as ledger:
        for task, done in _items(plan, inputs, ledger):
            action = "keep" if done else "check" if task.known_sha256 else "transcribe"
            yield Planned(action, task.source.name)


def _check(plan: Plan) -> None:
    if plan.jobs is not None and plan.jobs < 1:
        raise ConfigError(f"--jobs {plan.jobs}: expected at least 1")
    if plan.retry_errors and not plan.resume:
        raise ConfigError("--retry-errors: nothing is kept that could be done again; add --resume")
    if plan.resume and plan.force:
        raise ConfigError("--resume keeps what is there and --force replaces it; pass one of them")
    plan.target.check(resume=plan.resume, force=plan.force)
    written = plan.target.records
    if written and written.is_file():
        for name in filter(os.path.isfile, plan.inputs):
            if os.path.samefile(name, written):
                raise OutputError(f"{written}: is an input; choose another --to")
    if not os.path.exists(plan.setup.model):
        raise no_such_model(plan.setup.model)


def _selection(plan: Plan) -> Selection:
    """What is written is no input."""
    if not (plan.target.is_tree and plan.target.path):
        return plan.selection
    skip = frozenset({os.path.realpath(plan.target.path)})
    # Written beside the recordings, it lies in the folder that is looked into.
    skip -= {os.path.realpath(name) for name in plan.inputs}
    return Selection(plan.selection.include, plan.selection.exclude, skip)


@contextlib.contextmanager
def _ledger(plan: Plan, tell: Callable[[str], None] = lambda line: None) -> Iterator[Ledger | None]:
    path = plan.target.ledger
    if path is None:
        yield None
        return
    ledger = Ledger(path, config_hash(plan.setup), anew=not plan.resume)
    try:
        if ledger.was_of_other_options:
            tell(f"{path}: is of another model or of other options; everything is done again")
        yield ledger
    except BaseException:
        with contextlib.suppress(Exception):  # the first error is the one to tell
            ledger.close()
        raise
    ledger.close()


def config_hash(setup: Setup) -> str:
    """What decides a record, besides the recording: the model's content and the options."""
    guidance = asdict(setup.guidance)
    for name in FILES:
        if guidance[name]:
            with reading_text(guidance[name]):
                guidance[name] = hashlib.sha256(Path(guidance[name]).read_bytes()).hexdigest()
    about = {
        "version": RECORDS_VERSION,
        "model": _model_hash(setup.model),
        "threshold": setup.threshold,
        "guidance": guidance,
    }
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _model_hash(model: str) -> str:
    if os.path.isdir(model):
        from speechrnn.bundle import read_bundle

        return read_bundle(model).sha256
    try:
        return hashlib.sha256(Path(model).read_bytes()).hexdigest()
    except OSError as error:
        raise ModelError(f"{model}: cannot be read ({error.strerror})") from error


def _items(plan: Plan, inputs: Inputs, ledger: Ledger | None) -> Iterator[Item]:
    """Each input, with what is known of it."""
    for source in inputs.sources():
        entry = ledger.find(source.name) if ledger is not None and plan.resume else None
        if entry is None or (entry.error is not None and plan.retry_errors):
            yield Task(source), None
        elif _is_kept(entry, source.error, source.path):
            yield Task(source, kept=True), entry.finished()
        else:
            yield Task(source, entry.sha256), None


def _is_kept(entry: Entry, folder_error: str | None, path: str) -> bool:
    if folder_error:
        return entry.error == folder_error
    return entry.is_untouched(stamp_of(path))


def _settled(ledger: Ledger | None, task: Task, done: Finished) -> Result:
    """What became of an input, kept in the ledger; a task that was done before is kept, too."""
    if ledger is None or task.kept:
        return task, done
    if done.line is None:  # it was touched, and is what it was
        entry = ledger.find(task.source.name)
        assert entry is not None
        before = entry.finished()
        done = Finished(
            before.line, before.duration_s, before.error, done.stamp, done.sha256, done.read_ns
        )
        task = task._replace(kept=True)
    ledger.add(task.source.name, done)
    return task, done


def _results(
    plan: Plan,
    inputs: Inputs,
    items: Iterator[Item],
    tell: Callable[[str], None],
    settle: Callable[[Task, Finished], Result],
) -> Generator[Result, None, None]:
    if plan.engine == "ray":
        from speechrnn.transcribe.ray_engine import ray_workers

        with ray_workers(plan.setup, plan.jobs, plan.address, tell) as workers:
            yield from run_by(workers, items, settle)
        return
    jobs = _jobs(plan, inputs)
    if jobs == 1:
        for result in run_here(plan.setup.transcriber(), items):
            yield settle(*result)
        return

    def start() -> Worker:
        return Process(plan.setup)

    yield from run_by([start] * jobs, items, settle)


def _jobs(plan: Plan, inputs: Inputs) -> int:
    """How many processes."""
    if plan.jobs is not None:
        return plan.jobs
    if os.path.isdir(plan.setup.model):
        return 1  # Keras' backend takes all cores by itself
    cores = available_cores()
    if cores == 1:
        return 1
    size = 0
    for count, source in enumerate(inputs.sources(), start=1):
        stamp = stamp_of(source.path)
        size += stamp[0] if stamp else 0
        if count >= FEW_INPUTS or size >= FEW_BYTES:
            return cores
    return 1


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
