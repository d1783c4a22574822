"""A comparison from its plan to its page: what is done is kept, what is not is done."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from speechrnn.comparison.cells import ERRORS, do_cell, progress_of, read_cell, training_command
from speechrnn.comparison.exported import export_all, measure_all
from speechrnn.comparison.plan import Plan
from speechrnn.comparison.process import Commands, printed
from speechrnn.comparison.table import summarise
from speechrnn.progress import progress


class Line:
    """The progress line, which makes room for what is printed for good."""

    def __init__(self, bar: Any, print_line: Callable[[str], None]) -> None:
        self._bar, self._print = bar, print_line
        self.say: Callable[[], str] = lambda: ""

    def tell(self, text: str) -> None:
        """Print a line."""
        self._bar.clear()
        self._print(text)
        self._bar.refresh()

    def now(self, what: str, how_far: Callable[[], str] = lambda: "") -> None:
        """What is being done, and how far it is whenever one looks."""
        self.say = lambda: ", ".join(part for part in (what, how_far()) if part)
        self.look()

    def look(self) -> None:
        """Show how far it is."""
        if not self._bar.disable:
            self._bar.set_postfix_str(self.say())

    def done(self) -> None:
        """A step is done."""
        self._bar.update()


def run_comparison(
    plan: Plan,
    *,
    lock: int | None = None,
    retry_errors: bool = False,
    tell: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Do what is not done, and put everything together; see :func:`table.summarise`.

    Args:
        plan: What is compared.
        lock: Of the folder; commands hold it too.
        retry_errors: Whether what failed is done again.
        tell: Told what is begun and done, a line each.
    """
    able = [contender.name for contender in plan.contenders if contender.encoder]
    # A seed of each first: something of everything soon.
    cells = [(name, seed) for seed in plan.question.seeds for name in able]
    with _line(len(cells) + len(able) + 1, tell) as line:
        commands = Commands(lock, line.look)
        records = [_cell(plan, name, seed, commands, line, retry_errors) for name, seed in cells]
        exported = {}
        for name in able:
            trained = [r["seed"] for r in records if r["encoder"] == name and "error" not in r]
            if trained:
                line.now(f"exporting {name}")
                exported[name] = export_all(
                    plan, name, trained[0], commands, retry_errors=retry_errors
                )
            line.done()
        line.now("measuring the files")
        speeds = measure_all(plan, exported, commands, retry_errors=retry_errors)
        line.done()
    return summarise(plan, records, exported, speeds)


def _cell(
    plan: Plan, name: str, seed: int, commands: Commands, line: Line, retry_errors: bool
) -> dict[str, Any]:
    record = read_cell(plan, name, seed)
    if record is None or (retry_errors and not ERRORS.keys().isdisjoint(record)):
        line.tell(f"$ {printed(*training_command(plan, name, seed))}")
        line.now(f"{name}, seed {seed}", lambda: progress_of(plan, name, seed))
        record = do_cell(plan, name, seed, commands)
        line.tell(f"{name}, seed {seed}: {_result(record)}")
    line.done()
    return record


def _result(record: dict[str, Any]) -> str:
    if "error" in record:
        return f"failed: {record['error']}"
    return (
        f"accuracy {100 * record['accuracy']:.2f} %, WER {100 * record['wer']:.2f} %, "
        f"{record['train_s']:.0f} s"
    )


@contextmanager
def _line(total: int, tell: Callable[[str], None]) -> Iterator[Line]:
    with progress(None, "comparing", unit="step", total=total) as bar:
        yield Line(bar, tell)
