"""How far back errors reach in a model while it learns: for its log, and a warning where needed."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import keras

from speechrnn.datasets.batches import evaluation_batches
from speechrnn.datasets.examples import Example
from speechrnn.gradient_rates import FEWEST_STEPS, STEEPEST_FALL, Verdict, verdict
from speechrnn.model import SpeechModel
from speechrnn.recipe import TrainConfig
from speechrnn.spread import evenly

# Validation recordings that are measured on: the rates of one model differ little between them.
NUM_EXAMPLES = 4
# An error that does not reach back so far links no two sounds of a word.
NEEDED_S = 1.0
# Settings that make fewer steps of a recording; every encoder has some of them.
FEWER_STEPS = ("spectral_filters", "conv_stride", "stride", "frame_stride")
# Of a layer's rate in the log.
PREFIX = "gradient_rate/"

Log = Sequence[Mapping[str, Any]]


class GradientMonitor:
    """Measures at some validations; what it finds depends on the weights and the log alone.

    Args:
        model: Whose weights are measured, as they are at the time.
        config: Says how often, and what could be changed.
        examples: Of which a few are measured on, always the same.
    """

    def __init__(
        self, model: SpeechModel, config: TrainConfig, examples: Sequence[Example]
    ) -> None:
        self._model, self._config = model, config
        self._examples = evenly(examples, NUM_EXAMPLES)
        lengths = [example.num_samples for example in self._examples]
        self._num_steps = max(int(model.config.num_steps(length)) for length in lengths)
        self._flow: Any = None

    def measured(self, log: Log, epoch: int, epoch_steps: int) -> dict[str, float]:
        """At the validation after an epoch: rates by their keys in the log; none if too early.

        Nor of layers in which an error ends: they look back as far as they were made to.
        """
        every = self._config.gradient_flow_steps
        if not every or keras.backend.backend() != "tensorflow" or self._num_steps < FEWEST_STEPS:
            return {}
        before = max((entry["epoch"] for entry in log if "val_accuracy" in entry), default=0)
        if epoch * epoch_steps // every == before * epoch_steps // every:
            return {}
        from speechrnn.gradient_flow import GradientFlow  # imports TensorFlow

        self._flow = self._flow or GradientFlow(self._model)
        rate_hz = self._model.config.features.sample_rate_hz
        (batch,) = evaluation_batches(self._examples, NUM_EXAMPLES, rate_hz)
        flows = [flow for flow in self._flow.measure(batch.x) if flow.rate > STEEPEST_FALL]
        return {PREFIX + flow.layer: round(flow.rate, 4) for flow in flows}

    def warning(self, log: Log) -> str | None:
        """A line if the newest two measurements are the first two to find the same fault."""
        measured = [entry for entry in log if any(key.startswith(PREFIX) for key in entry)]
        if not measured or measured[-1] is not log[-1]:
            return None
        faults = [self._faults(entry) for entry in measured]
        lasting = [dict(old.items() & new.items()) for old, new in itertools.pairwise(faults)]
        if not lasting or not lasting[-1] or any(lasting[:-1]):
            return None
        layer, fault = min(lasting[-1].items())
        rate = measured[-1][PREFIX + layer]
        effect = (
            f"is lost within {NEEDED_S:g} s"
            if fault == "vanishes"
            else f"grows by {rate * self._num_steps:.0f} decades over {self._num_steps} steps"
        )
        return (
            f"gradients: an error {fault} in {layer}: {rate:+.2f} decades a step back, it {effect};"
            f" try {', '.join(self._remedies(fault))}"
        )

    def _faults(self, entry: Mapping[str, Any]) -> dict[str, Verdict]:
        """By layer; one in which errors hold has none."""
        needed = min(self._num_steps, round(NEEDED_S / self._model.config.clock.step_s))
        rates = {key[len(PREFIX) :]: v for key, v in entry.items() if key.startswith(PREFIX)}
        found = {
            layer: verdict(rate, needed if rate < 0 else self._num_steps)
            for layer, rate in rates.items()
        }
        return {layer: said for layer, said in found.items() if said != "holds"}

    def _remedies(self, fault: Verdict) -> list[str]:
        """Settings that help, of those that are not set."""
        encoder, found = self._model.config.encoder, []
        recurrent = hasattr(self._model.encoder, "run_layer")
        if fault == "explodes" and not self._config.gradient_clip_norm:
            found.append("clipping (train.gradient_clip_norm=1)")
        if recurrent and getattr(encoder, "prefix", "") == "simple_rnn":
            found.append("gating (encoder.type=gru or lstm)")
        if getattr(encoder, "layer_norm", None) is False:
            found.append("normalisation (encoder.layer_norm=true)")
        if fault == "explodes" and recurrent:
            found.append("shorter truncation (train.truncation_s)")
        if fault == "explodes":
            found.append("a lower train.learning_rate")
        if fault == "vanishes":
            fewer = [f"encoder.{name}" for name in FEWER_STEPS if hasattr(encoder, name)]
            found.append(f"fewer steps ({' or '.join(fewer)})")
        return found
