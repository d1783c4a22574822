"""Sound as it comes, in chunks of any size: answers and commands as they come."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

import numpy as np

from speechrnn.decoding import Transcript
from speechrnn.decoding.detect import Detection, Detector, DetectorConfig
from speechrnn.errors import AudioError, ModelError
from speechrnn.runtime.recognizer import Recognizer

# More frames than any stream has: its end is not known yet.
ENDLESS = 2**30


class Source(Protocol):
    """What turns sound into answers as it comes."""

    hop_samples: int

    def feed(self, samples: np.ndarray) -> list[np.ndarray]:
        """The answers that these samples, float32 ``[samples]``, complete."""

    def finish(self) -> list[np.ndarray]:
        """The answers that the end of the stream completes; it begins anew."""


class Windows:
    """Answers of a model that needs the whole: to overlapping windows, as they fill.

    A command is answered to at the end of a window that holds it: this is the look-ahead of a
    model that reads in both directions.
    """

    def __init__(self, recognizer: Recognizer, config: DetectorConfig) -> None:
        self._recognizer, self._config = recognizer, config
        self._rate_hz = recognizer.sample_rate_hz
        self._length = config.window_samples(self._rate_hz)
        self.hop_samples = round(config.hop_s * self._rate_hz)
        self._begin()

    def _begin(self) -> None:
        self._samples = np.zeros(0, np.float32)
        self._dropped = self._windows = 0

    def feed(self, samples: np.ndarray) -> list[np.ndarray]:
        """The answers that these samples complete, float32 ``[labels]`` each."""
        self._samples = np.concatenate([self._samples, samples])
        answers = []
        while True:
            # As DetectorConfig.starts has them: rounding does not add up.
            start = round(self._windows * self._config.hop_s * self._rate_hz) - self._dropped
            if start + self._length > len(self._samples):
                break
            answers.append(self._recognizer.run(self._samples[start : start + self._length]))
            self._windows += 1
        done = min(max(start, 0), len(self._samples))
        self._samples, self._dropped = self._samples[done:], self._dropped + done
        return answers

    def finish(self) -> list[np.ndarray]:
        """None: what fills no window is not answered to."""
        self._begin()
        return []


class Stream:
    """Answers of a file exported with ``--streaming``: its state is carried from chunk to chunk."""

    def __init__(self, recognizer: Recognizer) -> None:
        self._about: dict[str, Any] = recognizer.metadata["streaming"]
        self._call = recognizer.signature(self._about["signature"])
        self._output = recognizer.metadata["output"]["name"]
        self._chunk, self._context = self._about["chunk"], self._about["context"]
        self._per_step = not self._about["pooled"]
        self.hop_samples: int = self._chunk
        self._begin()

    def _begin(self) -> None:
        self._waiting = np.zeros(0, np.float32)
        self._samples: np.ndarray | None = None
        self._states = {
            f"state_{number}": np.zeros(shape, np.float32)
            for number, shape in enumerate(self._about["states"])
        }
        self._position = self._heard = 0

    def feed(self, samples: np.ndarray) -> list[np.ndarray]:
        """The answers that these samples complete: float32 ``[columns]`` or ``[labels]`` each."""
        self._heard += len(samples)
        self._waiting = np.concatenate([self._waiting, samples])
        if self._samples is None:
            if len(self._waiting) < self._context:
                return []
            self._take_context()
        answers = []
        while len(self._waiting) >= self._chunk:
            answers += self._answer(self._waiting[: self._chunk], ENDLESS)
            self._waiting = self._waiting[self._chunk :]
        return answers

    def _take_context(self) -> None:
        self._samples = self._waiting[None, : self._context]
        self._waiting = self._waiting[self._context :]

    def finish(self) -> list[np.ndarray]:
        """The answers that lag behind at the end; the next samples begin a stream anew."""
        if not self._heard:
            return []
        frames, steps = self._size()
        answers = []
        self._waiting = np.pad(self._waiting, (0, self._context + self._chunk))
        if self._samples is None:
            self._take_context()
        while self._position * self._about["steps"] + self._about["first_step"] < steps:
            rest = self._waiting[: self._chunk]
            self._waiting = self._waiting[self._chunk :]
            answers += self._answer(np.pad(rest, (0, self._chunk - len(rest))), frames)
        self._begin()
        return answers[:steps] if self._per_step else answers

    def _size(self) -> tuple[int, int]:
        """Frames and encoded steps of what was heard."""
        hop = self._chunk // self._about["frames"]
        frames = 1 + max(0, self._heard - self._context - hop) // hop
        return frames, -(-frames * self._about["steps"] // self._about["frames"])

    def _answer(self, chunk: np.ndarray, frames: int) -> list[np.ndarray]:
        found = self._call(
            waveform=chunk[None].astype(np.float32),
            position=np.array(self._position, np.int32),
            num_frames=np.array(frames, np.int32),
            samples=self._samples,
            **self._states,
        )
        first = self._position * self._about["steps"] + self._about["first_step"]
        self._position += 1
        self._samples = found["samples"].copy()
        self._states = {name: found[name].copy() for name in self._states}
        answer = found[self._output][0].copy()
        if not self._per_step:
            return [answer] if first + self._about["steps"] > 0 else []
        return list(answer[max(0, -first) :])


class StreamingRecognizer:
    """Hears commands in sound as it comes, one event for each that is said.

    Of a file exported with ``--streaming`` the state is carried; of any other, overlapping windows
    are answered to. Answers are averaged, held against the file's threshold, and silent for a
    moment after an event (:class:`speechrnn.decoding.detect.Detector`).

    Args:
        path: A .tflite made by ``speechrnn export``.
        num_threads: Threads of the interpreter.
        config: How windows lie, what is averaged, and how long it is silent after an event. Of a
            file exported with ``--streaming``, ``hop_s`` and ``window_s`` are the file's.
        threshold: The least confidence of an event, instead of the file's.

    Raises:
        ModelError: The file is missing, foreign, damaged, or cannot be run.

    Example::

        recognizer = StreamingRecognizer("words.tflite")
        for chunk in microphone():  # float32, at recognizer.sample_rate_hz
            for event in recognizer.feed(chunk):
                print(event.label, event.time_s, event.confidence)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        num_threads: int = 1,
        config: DetectorConfig | None = None,
        threshold: float | None = None,
    ) -> None:
        self.recognizer = Recognizer(path, num_threads=num_threads)
        if threshold is not None:
            self.recognizer.threshold = threshold
        self.labels, self.sample_rate_hz = self.recognizer.labels, self.recognizer.sample_rate_hz
        self.carries_state = "streaming" in self.recognizer.metadata
        self.of_sequences = self.recognizer.metadata["output"]["name"] == "log_probs"
        if self.of_sequences and not self.carries_state:
            raise ModelError(
                f"{path}: answers with sequences and carries no state; export it with --streaming, "
                "or transcribe whole recordings"
            )
        config = config or DetectorConfig()
        self._source: Source
        if self.carries_state:
            self._source = Stream(self.recognizer)
            config = self._carried(config)
        else:
            self._source = Windows(self.recognizer, config)
        self._config = config
        self._begin()

    def _carried(self, config: DetectorConfig) -> DetectorConfig:
        """The same with the file's own hop and what it pools over as the window."""
        hop_s = self._source.hop_samples / self.sample_rate_hz
        pooled = self.recognizer.metadata["streaming"]["pooled"]
        return DetectorConfig(max(1, pooled) * hop_s, hop_s, config.smoothing, config.refractory_s)

    def _begin(self) -> None:
        self._detector = Detector(self.labels, self.recognizer.threshold, self._config)
        self._heard = 0
        self._steps: list[np.ndarray] = []

    def feed(self, samples: np.ndarray) -> list[Detection]:
        """The events that these samples, float ``[samples]`` at the model's rate, complete.

        Of a model of sequences there are none: :meth:`text` is what was heard so far.

        Raises:
            AudioError: They are no row of finite numbers.
        """
        samples = np.asarray(samples)
        if samples.ndim != 1 or samples.dtype.kind != "f" or not np.isfinite(samples).all():
            raise AudioError(
                "a chunk of sound",
                f"got {samples.dtype} {list(samples.shape)}, expected finite floats [samples] "
                "within -1..1; divide 16-bit integers by 32768",
            )
        self._heard += len(samples)
        return self._events(self._source.feed(samples.astype(np.float32)))

    def finish(self) -> list[Detection]:
        """The events that the end of the stream completes; the next samples begin anew."""
        events = self._events(self._source.finish())
        self._begin()
        return events

    def finish_transcript(self) -> Transcript:
        """Of a model of sequences: what was said since the stream began, which ends here.

        Raises:
            ModelError: The model answers with single commands.
        """
        if not self.of_sequences:
            raise ModelError("the model answers with single commands: their events are what it has")
        duration_s = self._heard / self.sample_rate_hz
        self._steps += self._source.finish()
        steps = self._steps
        self._begin()
        if not steps:
            return Transcript("", 0.0, duration_s, ())
        return self.recognizer.decoder.decode(
            np.array(steps), duration_s, threshold=self.recognizer.threshold
        )

    @property
    def text(self) -> str:
        """Of a model of sequences: what was said so far."""
        if not self._steps:
            return ""
        found = self.recognizer.decoder.decode(np.array(self._steps), 0.0, threshold=0.0)
        return found.text

    def _events(self, answers: list[np.ndarray]) -> list[Detection]:
        if self.of_sequences:
            self._steps += answers
            return []
        found = map(self._detector.push, answers)
        return [event for event in found if event is not None]
