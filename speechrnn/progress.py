"""A progress line on a terminal, and nothing where standard error is not one."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any


def progress(
    items: Iterable | None,
    purpose: str,
    *,
    unit: str,
    total: int | None = None,
    initial: int = 0,
) -> Any:
    """``items`` as a tqdm bar on standard error, with rate and time left."""
    from tqdm import tqdm  # 20 ms that a single transcription need not pay

    return tqdm(
        items,
        desc=purpose,
        unit=unit,
        total=total,
        initial=initial,
        file=sys.stderr,
        disable=None,
        leave=False,
        dynamic_ncols=True,
        mininterval=0.2,
    )


@contextmanager
def bar(purpose: str, *, unit: str) -> Iterator[Callable[[int, int], None]]:
    """A bar to be told what is done: yields a function of (done, total)."""
    with progress(None, purpose, unit=unit) as line:

        def show(done: int, total: int) -> None:
            line.total = total
            line.update(done - line.n)

        yield show
