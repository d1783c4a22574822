"""One .tflite, ready to answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

from speechrnn.decoding import Transcript, make_decoder
from speechrnn.decoding.detect import clip_lengths_s
from speechrnn.decoding.long import transcribe_recording
from speechrnn.errors import ModelError
from speechrnn.quiet import quiet_stderr
from speechrnn.runtime import selftest
from speechrnn.runtime.metadata import read_metadata


class Recognizer:
    """Recognises recordings with an exported model.

    Not safe for use by several threads at once: give each its own. ``threshold``, below which a
    recording is rejected, is the file's; it may be set to another, and so may ``decoder``, which
    says what an answer means.

    Args:
        path: A .tflite made by ``speechrnn export``.
        num_threads: Threads of the interpreter.

    Raises:
        ModelError: The file is missing, foreign, damaged, or cannot be run.

    Example::

        recognizer = Recognizer("words.tflite")
        print(recognizer.transcribe("clip.wav").text)
    """

    def __init__(self, path: str | Path, *, num_threads: int = 1) -> None:
        info = read_metadata(path)
        self.path, self._model, self._num_threads = info.path, info.model, num_threads
        self.metadata = info.metadata
        self.labels = info.labels
        self.sample_rate_hz: int = info.metadata["features"]["sample_rate_hz"]
        self.min_samples: int = info.metadata["min_samples"]
        self.temperature, self.threshold = info.decision.temperature, info.decision.threshold
        self.grammar_margin = info.decision.margin
        try:
            with quiet_stderr():  # it announces its delegate
                self._interpreter = Interpreter(model_content=info.model, num_threads=num_threads)
                self._interpreter.allocate_tensors()
            self._input = self._interpreter.get_input_details()[0]["index"]
            runner = self._interpreter.get_signature_runner(info.metadata["signature"])
            output = info.metadata["output"]["name"]
            self._output = runner.get_output_details()[output]["index"]
        except (KeyError, ValueError, RuntimeError) as error:
            raise ModelError(f"{path}: LiteRT cannot run it ({error})") from error
        self.decoder = make_decoder(
            output, info.metadata["head"], info.labels, info.clock, info.decision
        )
        self.clip_s = clip_lengths_s(info.metadata.get("training"))
        self._num_samples = 0
        self._batch: Callable[..., dict[str, np.ndarray]] | None = None  # opened when needed

    def run(self, waveform: np.ndarray) -> np.ndarray:
        """The model's answer to float32 ``[samples]``.

        Probabilities ``[labels]``, or natural logarithms ``[steps, columns]``.

        Raises:
            ModelError: LiteRT cannot run the model, for want of memory for example.
        """
        try:
            if len(waveform) != self._num_samples:
                self._num_samples = 0  # until the new length is allocated
                self._interpreter.resize_tensor_input(self._input, [1, len(waveform)])
                self._interpreter.allocate_tensors()
                self._num_samples = len(waveform)
            self._interpreter.set_tensor(self._input, waveform[None])
            self._interpreter.invoke()
        except RuntimeError as error:
            raise ModelError(
                f"{self.path}: LiteRT failed on {len(waveform)} samples ({error}); try a shorter "
                "recording, or export the model again"
            ) from error
        return self._interpreter.get_tensor(self._output)[0]

    def selftest(self) -> float:
        """The largest difference of a probability from the device that exported the file.

        Raises:
            ModelError: It is too large: this device computes something else; or the file is of an
                older speechrnn and has no self-test.
        """
        recorded = self.metadata.get("selftest")
        samples = recorded["samples"] if recorded else selftest.NUM_SAMPLES
        answer = self.run(selftest.selftest_waveform(samples))
        try:
            return selftest.difference(recorded, self.metadata["output"]["name"], answer)
        except ModelError as error:
            raise ModelError(f"{self.path}: {error}") from error

    def signature(self, name: str) -> Callable[..., dict[str, np.ndarray]]:
        """Another signature of the file, called with arrays by name, by an interpreter of its own.

        Raises:
            ModelError: It has none of this name.
        """
        try:
            with quiet_stderr():
                own = Interpreter(model_content=self._model, num_threads=self._num_threads)
            return own.get_signature_runner(name)
        except (ValueError, RuntimeError) as error:
            raise ModelError(f"{self.path}: LiteRT cannot run {name!r} of it ({error})") from error

    def answer_many(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The answers to float32 ``[samples]`` waveforms: ``[labels]``, or ``[steps, columns]``.

        A file exported with ``--batch`` answers to several of one length at once.
        """
        about = self.metadata.get("batch")
        if not about or len(waveforms) < 2:
            return [self.run(waveform) for waveform in waveforms]
        if self._batch is None:
            self._batch = self.signature(about["signature"])
        lengths: dict[int, list[int]] = {}
        for place, waveform in enumerate(waveforms):
            lengths.setdefault(len(waveform), []).append(place)
        answers: dict[int, np.ndarray] = {}
        for places in lengths.values():
            for first in range(0, len(places), about["size"]):
                chosen = places[first : first + about["size"]]
                answers.update(zip(chosen, self._together(waveforms, chosen), strict=True))
        return [answers[place] for place in range(len(waveforms))]

    def _together(self, waveforms: Sequence[np.ndarray], chosen: Sequence[int]) -> np.ndarray:
        """The answers to waveforms of one length, at most as many as fit into a batch."""
        assert self._batch is not None
        size = self.metadata["batch"]["size"]
        if 2 * len(chosen) <= size:  # mostly filled up, a batch takes longer
            return np.array([self.run(waveforms[place]) for place in chosen])
        rows = np.zeros((size, len(waveforms[chosen[0]])), np.float32)
        rows[: len(chosen)] = [waveforms[place] for place in chosen]
        try:
            found = self._batch(waveform=rows)
        except RuntimeError as error:
            raise ModelError(
                f"{self.path}: LiteRT failed on {rows.shape[1]} samples ({error}); try shorter "
                "recordings, or export the model again"
            ) from error
        return found[self.metadata["output"]["name"]][: len(chosen)].copy()

    def transcribe(self, recording: str | Path | np.ndarray) -> Transcript:
        """Recognise a file of any rate, or a float waveform at ``sample_rate_hz``, of any length.

        Raises:
            AudioError: The recording is unusable.
            ModelError: The model answers nonsense.
        """
        return transcribe_recording(self, recording)

    def transcribe_many(self, waveforms: Sequence[np.ndarray]) -> list[Transcript]:
        """Recognise checked waveforms at the model's rate, in their order."""
        return [
            self.decoder.decode(
                self.run(waveform), len(waveform) / self.sample_rate_hz, threshold=self.threshold
            )
            for waveform in waveforms
        ]
