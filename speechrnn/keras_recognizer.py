"""A bundle, ready to answer, with the same calls as :class:`speechrnn.runtime.Recognizer`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from keras import ops

from speechrnn.bundle import check_selftest, load_bundle
from speechrnn.datasets.waveforms import Waveforms
from speechrnn.decoding import Decision, Transcript, make_decoder
from speechrnn.decoding.detect import clip_lengths_s
from speechrnn.decoding.long import transcribe_recording
from speechrnn.model import SpeechModel


class KerasRecognizer:
    """Recognises recordings with a bundle; batches are padded and masked by true lengths.

    ``threshold``, below which a recording is rejected, is the bundle's; it may be set to another,
    and so may ``decoder``, which says what an answer means.

    Raises:
        ModelError: The bundle is not intact.
    """

    def __init__(self, path: str | Path) -> None:
        model, info = load_bundle(path)
        self._take(model, info.decision, info.path)
        self.clip_s = clip_lengths_s(info.training)

    @classmethod
    def of(cls, model: SpeechModel, decision: Decision) -> KerasRecognizer:
        """A model that is in no bundle yet."""
        recognizer = cls.__new__(cls)
        recognizer._take(model, decision, Path("model"))
        return recognizer

    def _take(self, model: SpeechModel, decision: Decision, path: Path) -> None:
        config, self._model = model.config, model
        self.path, self.labels = path, model.labels
        self.sample_rate_hz = config.features.sample_rate_hz
        self.min_samples = config.features.window_length
        self.temperature, self.threshold = decision.temperature, decision.threshold
        self.grammar_margin = decision.margin
        self.clip_s = clip_lengths_s(None)
        head = config.to_mapping()["head"]
        self.decoder = make_decoder(
            config.head.output_name, head, model.labels, config.clock, decision
        )

    def selftest(self) -> float:
        """The largest difference from the self-test that the bundle keeps.

        Raises:
            ModelError: It is too large.
        """
        return check_selftest(self._model, self.path)

    def answer_many(self, waveforms: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The answers to float32 ``[samples]`` waveforms: ``[labels]``, or ``[steps, columns]``."""
        answers = ops.convert_to_numpy(self._model.answer(logits_of(self._model, waveforms)))
        if answers.ndim == 2:
            return list(answers)
        steps = [self._model.config.num_steps(len(waveform)) for waveform in waveforms]
        return [answer[:n] for answer, n in zip(answers, steps, strict=True)]

    def transcribe(self, recording: str | Path | np.ndarray) -> Transcript:
        """Recognise a file of any rate and length, or a float waveform at ``sample_rate_hz``."""
        return transcribe_recording(self, recording)

    def transcribe_many(self, waveforms: Sequence[np.ndarray]) -> list[Transcript]:
        """Recognise checked waveforms at the model's rate, in their order."""
        if not waveforms:
            return []
        return [
            self.decoder.decode(
                answer, len(waveform) / self.sample_rate_hz, threshold=self.threshold
            )
            for answer, waveform in zip(self.answer_many(waveforms), waveforms, strict=True)
        ]


def logits_of(model: SpeechModel, waveforms: Sequence[np.ndarray]) -> np.ndarray:
    """The model's logits, ``[batch, ...]``, of float32 ``[samples]`` waveforms, as one batch."""
    batch = Waveforms.stack(waveforms, model.config.features.sample_rate_hz)
    inputs = {"waveform": batch.waveform, "num_samples": batch.num_samples}
    return model.predict_on_batch(inputs)
