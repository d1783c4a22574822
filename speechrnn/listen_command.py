"""What ``speechrnn listen`` does: commands in sound as it comes, from wherever it comes."""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import math
import queue
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, cast

from speechrnn.cli_options import amount, share
from speechrnn.commands import OK, complain, refuse_folder
from speechrnn.errors import ConfigError, MissingExtraError, OutputError

if TYPE_CHECKING:
    import numpy as np

    from speechrnn.decoding import Transcript
    from speechrnn.decoding.detect import Detection

# Sound is handed over in chunks of so many a second.
CHUNKS_PER_S = 40
# How much sound of a microphone may wait for the model; what comes then is left out.
MOST_WAITING_S = 30
# The level meter: from silence to full scale, and how often it is drawn.
METER_CELLS, METER_FLOOR_DB, METER_S = 30, -60.0, 0.1


def add_options(listen: argparse.ArgumentParser) -> None:
    """What the command takes."""
    listen.add_argument("model", metavar="F.tflite", help="from speechrnn export")
    listen.add_argument(
        "--threshold", type=share, metavar="P", help="least confidence; default: the model's"
    )
    listen.add_argument(
        "--from-file",
        metavar="F",
        help="play a recording; default: standard input, where it is "
        "no terminal, as 16-bit samples at the model's rate, else the microphone",
    )
    listen.add_argument(
        "--speed", type=amount, metavar="X", help="of the file: 1 as it was, 0 at once; default: 1"
    )
    listen.add_argument("--device", metavar="NAME", help="the microphone; default: the system's")


def listen(options: argparse.Namespace) -> int:
    """Hear commands in sound as it comes, a line for each."""
    if options.speed is not None and options.from_file is None:
        raise ConfigError(
            f"--speed {options.speed:g}: only a file can be played at it; add --from-file"
        )
    if options.device is not None and options.from_file is not None:
        raise ConfigError("--device is a microphone and --from-file a recording; pass one of them")
    if sys.stdout is None:
        raise OutputError("standard output: is closed, expected somewhere to write events")
    refuse_folder(options.model)
    from speechrnn.runtime import StreamingRecognizer

    heard = StreamingRecognizer(options.model, threshold=options.threshold)
    chunks = _sound(options, heard.sample_rate_hz)
    if not heard.of_sequences and heard.recognizer.threshold == 0:
        complain(
            f"{options.model}: no threshold was picked, so everything is taken for a command; pass "
            "--threshold 0.9, or pick one with speechrnn evaluate --false-alarms-per-hour"
        )
    feed: Callable[[np.ndarray], Sequence[Detection | Transcript]] = heard.feed
    finish: Callable[[], Sequence[Detection | Transcript]] = heard.finish
    if heard.of_sequences:
        feed, finish = heard.feed_utterances, heard.finish_utterances
    with _Meter() as meter:
        try:
            for samples in chunks:
                found = feed(samples)
                if found:
                    meter.clear()
                _print_heard(found)
                meter.show(samples)
        finally:  # Ctrl-C is how a microphone ends
            meter.clear()
            _print_heard(finish())
    return OK


def _sound(options: argparse.Namespace, rate_hz: int) -> Iterable[np.ndarray]:
    """Chunks of float32 samples from a file, from standard input, or from a microphone."""
    if options.from_file is not None:
        speed = 1.0 if options.speed is None else options.speed
        return _played(_file_chunks(options.from_file, rate_hz), rate_hz, speed)
    if sys.stdin is None and options.device is None:
        raise ConfigError(
            "standard input: is closed, expected sound, or a terminal to use the microphone; pass "
            "--device or --from-file"
        )
    if options.device is None and not sys.stdin.isatty():
        return _piped(cast(io.BufferedReader, sys.stdin.buffer), rate_hz)
    return _microphone(options.device, rate_hz)


def _file_chunks(path: str, rate_hz: int) -> Iterator[np.ndarray]:
    import numpy as np

    from speechrnn.audio import check_values, read_blocks

    size, rest = rate_hz // CHUNKS_PER_S, np.zeros(0, np.float32)
    for block in read_blocks(path, rate_hz):
        check_values(block, path)
        rest = np.concatenate([rest, block])
        whole = len(rest) // size * size
        yield from rest[:whole].reshape(-1, size)
        rest = rest[whole:]
    if len(rest):
        yield rest


def _played(chunks: Iterable[np.ndarray], rate_hz: int, speed: float) -> Iterator[np.ndarray]:
    """Chunks when they are over, as from a microphone; at speed 0 at once."""
    started, heard_s = time.monotonic(), 0.0
    for samples in chunks:
        if speed:
            heard_s += len(samples) / rate_hz / speed
            time.sleep(max(0.0, started + heard_s - time.monotonic()))
        yield samples


def _piped(stream: io.BufferedReader, rate_hz: int) -> Iterator[np.ndarray]:
    """16-bit samples as they come, as floats."""
    import numpy as np

    rest = b""
    while content := stream.read1(rate_hz // CHUNKS_PER_S * 2):
        content = rest + content
        whole = len(content) // 2 * 2
        yield np.frombuffer(content[:whole], "<i2").astype(np.float32) / 32768
        rest = content[whole:]


def _microphone(device: str | None, rate_hz: int) -> Iterator[np.ndarray]:
    """What a microphone hears, until Ctrl-C."""
    try:
        import sounddevice
    except ImportError as error:
        raise MissingExtraError("the microphone", "listen", "sounddevice") from error
    except OSError as error:  # on Linux PortAudio is no part of it
        raise ConfigError(
            f"the microphone: PortAudio is missing ({error}); install libportaudio2, or pipe: "
            f"arecord -q -f S16_LE -r {rate_hz} -c 1 -t raw | speechrnn listen F.tflite"
        ) from error
    coming: queue.Queue[Any] = queue.Queue()
    is_behind = False
    chosen = int(device) if device is not None and device.isdigit() else device

    def hear(samples: Any, frames: int, times: Any, status: Any) -> None:
        nonlocal is_behind
        del frames, times
        if status:
            complain(f"the microphone: {status}")  # what was lost in between
        waiting = coming.qsize()
        if not is_behind and waiting >= MOST_WAITING_S * CHUNKS_PER_S:
            complain(
                f"the microphone: {MOST_WAITING_S} s of sound wait, so what it hears is left out "
                "until they are done; expected a model that keeps up, or fewer other programs"
            )
            is_behind = True
        is_behind = is_behind and waiting > 0
        if not is_behind:
            coming.put(samples[:, 0].copy())

    try:
        stream = sounddevice.InputStream(
            samplerate=rate_hz,
            channels=1,
            dtype="float32",
            blocksize=rate_hz // CHUNKS_PER_S,
            device=chosen,
            callback=hear,
            finished_callback=lambda: coming.put(None),
        )
        stream.start()  # here, because another program may hold it
    except (sounddevice.PortAudioError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ConfigError(
            f"the microphone: cannot be opened at {rate_hz} Hz ({reason}); python -m sounddevice "
            "lists what there is, --device chooses, --from-file plays a recording"
        ) from error

    def chunks() -> Iterator[np.ndarray]:
        try:
            while True:
                if (samples := coming.get()) is None:
                    raise ConfigError("the microphone: stopped by itself; is it still connected?")
                yield samples
        finally:
            stream.close()

    return chunks()


class _Meter:
    """How loud it is, on a terminal."""

    def __init__(self) -> None:
        self._is_shown = sys.stderr is not None and sys.stderr.isatty()
        self._next, self._peak = 0.0, 0.0

    def __enter__(self) -> _Meter:
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def show(self, samples: np.ndarray) -> None:
        """Draw it, now and then, with the loudest since."""
        if not self._is_shown:
            return
        self._peak = max(self._peak, float(abs(samples).max(initial=0.0)))
        if time.monotonic() < self._next:
            return
        level_db = 20 * math.log10(max(self._peak, 1e-6))
        share = min(1.0, max(0.0, 1 - level_db / METER_FLOOR_DB))
        cells = round(METER_CELLS * share)
        sys.stderr.write(f"\r{level_db:6.1f} dB |{'#' * cells}{' ' * (METER_CELLS - cells)}|")
        sys.stderr.flush()
        self._next, self._peak = time.monotonic() + METER_S, 0.0

    def clear(self) -> None:
        """Make room for a line."""
        if self._is_shown:
            sys.stderr.write("\r" + " " * (METER_CELLS + 13) + "\r")
            sys.stderr.flush()


def _print_heard(found: Sequence[Detection | Transcript]) -> None:
    from speechrnn.decoding.detect import Detection

    for one in found:
        if isinstance(one, Detection):
            _print_line({"label": one.label, "time": one.time_s, "confidence": one.confidence})
        else:
            words = [dataclasses.asdict(word) for word in one.words]
            _print_line({"text": one.text, "confidence": one.confidence, "words": words})


def _print_line(record: dict) -> None:
    print(json.dumps(record, ensure_ascii=False), flush=True)
