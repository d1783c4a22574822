"""``python -m speechrnn.runtime.peak_memory F.tflite SAMPLES``: bytes at most, or "unknown"."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import numpy as np


def peak_bytes() -> int | None:
    """Largest resident memory of this process so far; None where the system does not say.

    Linux' ``getrusage`` counts what the parent held when it started this one; ``VmHWM`` does not.
    """
    try:
        found = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    except OSError:
        try:
            import resource
        except ImportError:  # Windows
            return None
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes, on macOS
    return int(found[1]) * 1024 if found else None


def main() -> None:
    """Answer to noise of that length, and print."""
    from speechrnn.runtime import Recognizer
    from speechrnn.runtime.selftest import selftest_waveform

    recognizer = Recognizer(sys.argv[1])
    recognizer.run(np.asarray(selftest_waveform(int(sys.argv[2]))))
    print(peak_bytes() or "unknown")


if __name__ == "__main__":
    main()
