"""What ``speechrnn transcribe`` does with its options. Nothing here imports numpy."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from typing import TYPE_CHECKING

from speechrnn.commands import INTERRUPTED, OK, SOME_FAILED, complain, guidance_of
from speechrnn.errors import OutputError
from speechrnn.ready_models import model_path

if TYPE_CHECKING:
    from speechrnn.transcribe.run import Plan

# So many errors are shown as they come; all are in the records.
SHOWN_ERRORS = 20


def transcribe(options: argparse.Namespace) -> int:
    """Recognise recordings, a record each."""
    from speechrnn.transcribe.inputs import Selection
    from speechrnn.transcribe.outputs import Target
    from speechrnn.transcribe.run import Plan, run
    from speechrnn.transcribe.setup import Setup

    _open_standard_streams()
    plan = Plan(
        setup=Setup(str(model_path(options.model)), guidance_of(options), options.threshold),
        inputs=options.inputs,
        target=Target.of(options.to, options.format.split(",")),
        selection=Selection(tuple(options.include), tuple(options.exclude)),
        jobs=options.jobs,
        resume=options.resume,
        retry_errors=options.retry_errors,
        force=options.force,
        fail_fast=options.fail_fast,
        engine=options.engine,
        address=options.ray_address,
    )
    if options.dry_run:
        return _dry_run(plan)
    if sys.stdout is None and plan.target.path is None:
        raise OutputError("standard output: is closed, expected somewhere to write; give --to")
    complaints = _Complaints()
    try:
        summary = run(plan, tell=complaints.add)
    except KeyboardInterrupt:
        kept = "; what is done is kept, --resume goes on" if plan.target.ledger else ""
        _tell(f"speechrnn transcribe: interrupted{kept}")
        return INTERRUPTED
    if complaints.hidden:
        _tell(f"and {complaints.hidden} more; all are in the records")
    # Records on standard output speak for themselves, unless something is wrong.
    if plan.target.path or (summary.failed and summary.inputs > 1) or options.profile:
        for line in summary.lines(profile=options.profile):
            _tell(f"speechrnn transcribe: {line}")
    return SOME_FAILED if summary.failed else OK


def _open_standard_streams() -> None:
    """What is closed is not to be the number of a file that is written, or of the ledger."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - to the end


def _tell(text: str) -> None:
    """A line on standard error; that nobody reads it any more is no reason to stop."""
    with contextlib.suppress(OSError):
        complain(text)


class _Complaints:
    """The first errors, one line each, and how many more there were."""

    def __init__(self) -> None:
        self._shown = self.hidden = 0

    def add(self, text: str) -> None:
        if self._shown < SHOWN_ERRORS:
            _tell(text)
            self._shown += 1
        else:
            self.hidden += 1


def _dry_run(plan: Plan) -> int:
    """A line for each input: what would be done."""
    from speechrnn.transcribe.run import dry_run

    counts: dict[str, int] = {}
    for planned in dry_run(plan):
        counts[planned.action] = counts.get(planned.action, 0) + 1
        print(f"{planned.action}\t{planned.name}")
    told = ", ".join(f"{count:,} to {action}" for action, count in sorted(counts.items()))
    complain(f"speechrnn transcribe: {told}; nothing was done")
    return OK
