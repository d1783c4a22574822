"""What a run tells: a progress line while it goes on, and a summary at its end."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from speechrnn.progress import progress
from speechrnn.transcribe.tasks import STAGES, Finished

# Where nobody sees a progress line, a plain line so often.
PLAIN_S = 60.0
# Of errors the most frequent reasons are shown at the end; all are in the records.
SHOWN_REASONS = 8


@dataclass
class Summary:
    """What a run did.

    Attributes:
        inputs: Records written.
        failed: Of these without a transcript.
        kept: Of these done by an earlier run.
        audio_s: Length of what was transcribed now.
        seconds: How long it took.
        reasons: Errors by reason, numbers left out.
        stages: What each of ``STAGES`` took, of all workers together.
    """

    inputs: int = 0
    failed: int = 0
    kept: int = 0
    audio_s: float = 0.0
    seconds: float = 0.0
    reasons: Counter[str] = field(default_factory=Counter)
    stages: list[float] = field(default_factory=lambda: [0.0] * len(STAGES))

    def lines(self, *, profile: bool = False) -> list[str]:
        """It in words."""
        new = self.inputs - self.kept
        rate = f", {self.audio_s / self.seconds:,.0f} times real time" if self.seconds else ""
        kept = f" ({self.kept:,} were done before)" if self.kept else ""
        plural = "" if self.inputs == 1 else "s"
        found = [
            f"{self.inputs:,} recording{plural}{kept}, {self.failed:,} failed; "
            f"{self.audio_s / 3600:.3g} h of sound in {self.seconds:.1f} s, "
            f"{new / max(self.seconds, 1e-9):,.0f} recordings a second{rate}"
        ]
        for reason, count in self.reasons.most_common(SHOWN_REASONS):
            found.append(f"  {count:,} x {reason}")
        if len(self.reasons) > SHOWN_REASONS:
            found.append(f"  and {len(self.reasons) - SHOWN_REASONS} other reasons")
        if profile:
            total = sum(self.stages) or 1.0
            parts = (
                f"{stage} {seconds:.2f} s ({100 * seconds / total:.0f} %)"
                for stage, seconds in zip(STAGES, self.stages, strict=True)
            )
            found.append(f"  of all workers together: {', '.join(parts)}")
        return found


class Status:
    """Counts what is done, and shows it."""

    def __init__(self, count: Callable[[], int], *, shown: bool) -> None:
        self.summary = Summary()
        self._count, self._started = count, time.perf_counter()
        self._total: int | None = None  # counted when somebody looks
        self._plain_at = self._started + PLAIN_S
        self._bar: Any = None
        if shown and sys.stderr is not None and sys.stderr.isatty():
            self._bar = progress(None, "transcribing", unit="file", total=count())

    def add(self, done: Finished, *, kept: bool) -> None:
        """An input is done."""
        summary = self.summary
        summary.inputs += 1
        if kept:
            summary.kept += 1
        else:
            summary.audio_s += done.duration_s
            for place, seconds in enumerate(done.seconds):
                summary.stages[place] += seconds
        if done.error is not None:
            summary.failed += 1
            summary.reasons[re.sub(r"\d+(\.\d+)?", "N", done.error)] += 1
        if self._bar is not None:
            self._bar.update()
            if summary.inputs % 64 == 0:
                self._bar.set_postfix_str(self._rate(), refresh=False)
        if time.perf_counter() > self._plain_at:
            self._plain_at = time.perf_counter() + PLAIN_S
            if self._bar is None:
                if self._total is None:
                    self._total = self._count()
                with contextlib.suppress(OSError):  # nobody reads it any more
                    print(f"speechrnn transcribe: {self._line()}", file=sys.stderr, flush=True)

    def _rate(self) -> str:
        spent = time.perf_counter() - self._started
        return f"{self.summary.audio_s / spent:,.0f} x real time, {self.summary.failed:,} failed"

    def _line(self) -> str:
        done, spent = self.summary.inputs, time.perf_counter() - self._started
        total = max(done, self._total or 0)
        seconds = int((total - done) * spent / done)
        left = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02} left"
        each = f"{done / spent:,.0f} a second"
        return f"{done:,} of {total:,} recordings, {each}, {self._rate()}, {left}"

    def make_room(self) -> None:
        """A line is about to be printed where the bar is."""
        if self._bar is not None:
            self._bar.clear()

    def close(self) -> Summary:
        """The end."""
        self.summary.seconds = time.perf_counter() - self._started
        if self._bar is not None:
            self._bar.close()
        return self.summary
