"""Sound as it comes, in chunks of any size: answers, commands and utterances as they come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from speechrnn.audio import check_values
from speechrnn.decoding import Transcript
from speechrnn.decoding.detect import Detection, Detector, DetectorConfig
from speechrnn.decoding.sequence import SequenceDecoder
from speechrnn.errors import AudioError, ConfigError, ModelError
from speechrnn.labels import BLANK_ID
from speechrnn.runtime.recognizer import Recognizer

# More frames than are counted: the end of a stream is not known before it comes.
ENDLESS = 2**30
# Beyond its begin, how far a stream has come makes no difference; so it is counted to here.
MOST_CALLS = 2**16
# An utterance ends after so long a pause, or when it becomes as long as that.
PAUSE_S, LONGEST_UTTERANCE_S = 1.0, 60.0


class Source(Protocol):
    """What turns sound into answers as it comes."""

    def feed(self, samples: np.ndarray) -> list[np.ndarray]:
        """The answers that these samples, float32 ``[samples]``, complete."""

    def finish(self) -> list[np.ndarray]:
        """The answers that the end of the stream completes; it begins anew."""


class Carrying(Protocol):
    """A recogniser whose signature carries a state, as a stream asks it."""

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What its file says about itself."""

    @property
    def sample_rate_hz(self) -> int:
        """Of the sound that it hears."""

    def signature(self, name: str) -> Callable[..., dict[str, np.ndarray]]:
        """The function that this signature calls."""


class Windows:
    """Answers of a model that needs the whole: to overlapping windows, as they fill.

    A command is answered to at the end of a window that holds it: this is the look-ahead of a
    model that reads in both directions.

    Raises:
        ConfigError: A window is shorter than what the model can answer to.
    """

    def __init__(self, recognizer: Recognizer, config: DetectorConfig) -> None:
        self._recognizer, self._config = recognizer, config
        self._rate_hz = recognizer.sample_rate_hz
        self._length = config.window_samples(self._rate_hz)
        if self._length < recognizer.min_samples:
            raise ConfigError(
                f"detector.window_s: got {config.window_s:g}, expected at least "
                f"{recognizer.min_samples / self._rate_hz:g}, the least that the model answers to"
            )
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
    """Answers of a file exported with ``--streaming``: its state is carried from chunk to chunk.

    There is an answer for each step: of a model of sequences the step's, float32 ``[columns]``; of
    a classifier that to the ``pooled`` steps that end there, ``[labels]``. A model of both
    directions answers ``look_ahead_s`` later, and to several steps at once.
    """

    def __init__(self, recognizer: Carrying) -> None:
        self._about: dict[str, Any] = recognizer.metadata["streaming"]
        self._call = recognizer.signature(self._about["signature"])
        self._output = recognizer.metadata["output"]["name"]
        self._chunk, self._context = self._about["chunk"], self._about["context"]
        self.hop_s: float = self._chunk / self._about["steps"] / recognizer.sample_rate_hz
        self._begin()

    def _begin(self) -> None:
        self._waiting = np.zeros(0, np.float32)
        self._samples: np.ndarray | None = None
        self._states = {
            f"state_{number}": np.zeros(shape, np.float32)
            for number, shape in enumerate(self._about["states"])
        }
        self._position = self._heard = self._forgotten = 0

    def feed(self, samples: np.ndarray) -> list[np.ndarray]:
        """The answers that these samples complete."""
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
        hop = self._chunk // self._about["frames"]
        frames = 1 + max(0, self._heard - self._context - hop) // hop
        frames -= self._forgotten * self._about["frames"]
        steps = -(-frames * self._about["steps"] // self._about["frames"])
        answers = []
        self._waiting = np.pad(self._waiting, (0, self._context + self._chunk))
        if self._samples is None:
            self._take_context()
        while self._first_step() < steps:
            rest = self._waiting[: self._chunk]
            self._waiting = self._waiting[self._chunk :]
            made = self._answer(np.pad(rest, (0, self._chunk - len(rest))), frames)
            answers += made[: len(made) - max(0, self._first_step() - steps)]
        self._begin()
        return answers

    def _first_step(self) -> int:
        """The step that the next call begins with."""
        return self._position * self._about["steps"] + self._about["first_step"]

    def _answer(self, chunk: np.ndarray, frames: int) -> list[np.ndarray]:
        first = self._first_step()
        found = self._call(
            waveform=chunk[None].astype(np.float32),
            position=np.array(self._position, np.int32),
            num_frames=np.array(frames, np.int32),
            samples=self._samples,
            **self._states,
        )
        if frames == ENDLESS and self._position >= MOST_CALLS:
            self._forgotten += 1
        else:
            self._position += 1
        self._samples = found["samples"].copy()
        self._states = {name: found[name].copy() for name in self._states}
        answers = found[self._output].copy()
        return list(answers.reshape(self._about["steps"], -1)[max(0, -first) :])


class StreamingRecognizer:
    """Hears commands, or utterances of several words, in sound as it comes.

    Of a file exported with ``--streaming`` the state is carried; a classifier without it is asked
    about overlapping windows. A classifier's answers are averaged, held against the file's
    threshold, and silent for a moment after an event (:class:`speechrnn.decoding.detect.Detector`).
    An utterance ends after a pause of a second, or after a minute.

    Args:
        path: A .tflite made by ``speechrnn export``.
        num_threads: Threads of the interpreter.
        config: How windows lie, what is averaged, and how long it is silent after an event; by
            default as the recordings that the model learnt from ask for. Of a file exported with
            ``--streaming``, ``hop_s`` and ``window_s`` are the file's, and as much time is
            averaged.
        threshold: The least confidence of an event, instead of the file's.

    Raises:
        ConfigError: A window is shorter than what the model can answer to.
        ModelError: The file is missing, foreign, damaged, or cannot be run, or answers with
            sequences and carries no state.

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
        self._config = config or DetectorConfig.of_clips(self.recognizer.clip_s)
        self._first_s, self._unfilled = 0.0, 0
        self._source: Source
        if self.carries_state:
            self._source = stream = Stream(self.recognizer)
            self._carry(stream.hop_s)
        elif self.of_sequences:
            raise ModelError(
                f"{path}: answers with sequences and carries no state; export it with --streaming, "
                "or transcribe whole recordings"
            )
        else:
            self._source = Windows(self.recognizer, self._config)
        self._begin()

    def _carry(self, hop_s: float) -> None:
        """Windows are what the file pools over, and reach back from each answer's step."""
        pooled, before = self.recognizer.metadata["streaming"]["pooled"], self._config
        smoothing = max(1, round(before.smoothing * before.hop_s / hop_s))
        window_s = max(1, pooled) * hop_s
        self._config = DetectorConfig(window_s, hop_s, smoothing, before.refractory_s)
        # The first answer that has all of its window is of so many steps.
        self._unfilled = max(0, pooled - 1)
        self._first_s = self.recognizer.metadata["steps"]["first_s"] - hop_s / 2

    def _begin(self) -> None:
        self._detector = Detector(
            self.labels, self.recognizer.threshold, self._config, first_s=self._first_s
        )
        self._answers = 0
        self._utterance: _Utterance | None = None
        decoder = self.recognizer.decoder
        if isinstance(decoder, SequenceDecoder):
            self._utterance = _Utterance(decoder, self._config.hop_s, self.recognizer.threshold)

    def feed(self, samples: np.ndarray) -> list[Detection]:
        """The events that these samples complete, of a classifier.

        Args:
            samples: float ``[samples]``, any number, mono, at ``sample_rate_hz``, within -1..1.

        Raises:
            AudioError: They are no sound.
            ModelError: The model answers with sequences: :meth:`feed_utterances`.
        """
        if self.of_sequences:
            raise ModelError("the model answers with sequences; expected feed_utterances")
        return self._events(self._source.feed(_checked(samples)))

    def feed_utterances(self, samples: np.ndarray) -> list[Transcript]:
        """The utterances that these samples end, of a model of sequences; times are the stream's.

        Raises:
            AudioError: They are no sound.
            ModelError: The model answers with single commands: :meth:`feed`.
        """
        if self._utterance is None:
            raise ModelError("the model answers with single commands; expected feed")
        steps = self._source.feed(_checked(samples))
        return [found for step in steps if (found := self._utterance.hear(step))]

    @property
    def text(self) -> str:
        """The utterance so far, of a model of sequences."""
        return self._utterance.text if self._utterance else ""

    def finish(self) -> list[Detection]:
        """The events that the end completes, of a classifier; the next samples begin anew.

        Raises:
            ModelError: The model answers with sequences: :meth:`finish_utterances`.
        """
        if self.of_sequences:
            raise ModelError("the model answers with sequences; expected finish_utterances")
        events = self._events(self._source.finish())
        self._begin()
        return events

    def finish_utterances(self) -> list[Transcript]:
        """The utterances that the end completes; the next samples begin anew.

        Raises:
            ModelError: The model answers with single commands: :meth:`finish`.
        """
        if self._utterance is None:
            raise ModelError("the model answers with single commands; expected finish")
        heard = [*map(self._utterance.hear, self._source.finish()), self._utterance.end()]
        self._begin()
        return [transcript for transcript in heard if transcript]

    def _events(self, answers: list[np.ndarray]) -> list[Detection]:
        events = []
        for answer in answers:
            self._answers += 1
            if self._answers > self._unfilled:
                events.append(self._detector.push(answer))
        return [event for event in events if event is not None]


class _Utterance:
    """Steps of a sequence until a pause ends it; what is no speech before it is forgotten."""

    def __init__(self, decoder: SequenceDecoder, step_s: float, threshold: float) -> None:
        self._decoder, self._step_s, self._threshold = decoder, step_s, threshold
        self._pause, self._longest = round(PAUSE_S / step_s), round(LONGEST_UTTERANCE_S / step_s)
        self._before = 0  # steps of the stream before the utterance's
        self._forget()

    def _forget(self) -> None:
        self._steps: list[np.ndarray] = []
        self._ids: list[int] = []
        self._last, self._blanks = BLANK_ID, 0

    @property
    def text(self) -> str:
        """What the best path says."""
        return self._decoder.spelling.text(self._ids)

    def hear(self, step: np.ndarray) -> Transcript | None:
        """The utterance, if this step ends it."""
        self._steps.append(step)
        best = int(step.argmax())
        if best not in (BLANK_ID, self._last):
            self._ids.append(best)
        self._last, self._blanks = best, self._blanks + 1 if best == BLANK_ID else 0
        if not self._ids:
            if len(self._steps) > self._pause:
                del self._steps[0]
                self._before += 1
            return None
        if self._blanks >= self._pause or len(self._steps) >= self._longest:
            return self.end()
        return None

    def end(self) -> Transcript | None:
        """The utterance so far, if anything was said that is sure enough."""
        steps, said, first_s = self._steps, bool(self._ids), self._before * self._step_s
        self._before += len(steps)
        self._forget()
        if not said:
            return None
        duration_s = (len(steps) + 1) * self._step_s
        found = self._decoder.decode(np.array(steps), duration_s, threshold=self._threshold)
        return found.later(first_s) if found.text else None


def _checked(samples: np.ndarray) -> np.ndarray:
    """Float32 samples; refused as whole recordings would be."""
    samples = np.asarray(samples)
    if samples.ndim != 1 or samples.dtype.kind != "f" or not np.isfinite(samples).all():
        raise AudioError(
            "a chunk of sound",
            f"got {samples.dtype} {list(samples.shape)}, expected finite floats [samples] within "
            "-1..1; divide 16-bit integers by 32768",
        )
    if samples.size:
        check_values(samples, "a chunk of sound")
    return samples.astype(np.float32)
