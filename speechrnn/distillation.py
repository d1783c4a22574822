"""Learning from a trained model as well: how sure it is of every label, not of the true one alone.

Source: Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network",
arXiv:1503.02531.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras import ops

from speechrnn.bundle import load_bundle
from speechrnn.errors import ConfigError
from speechrnn.labels import Labels
from speechrnn.model import ModelConfig


@dataclass(frozen=True)
class Teacher:
    """A trained classifier.

    Attributes:
        logits: Its logits ``[batch, labels]`` for a batch of a training, in the pupil's order.
        sha256: Its bundle's.
    """

    logits: Callable[[Mapping[str, Any]], Any]
    sha256: str


def load_teacher(path: str | Path, pupil: ModelConfig, labels: Labels) -> Teacher:
    """The teacher in a bundle.

    Raises:
        ModelError: The bundle is not intact.
        ConfigError: It is no classifier of the same labels at the same rate, or the pupil is none.
    """
    model, info = load_bundle(path)
    for name, config in (("the teacher", model.config), ("the recipe", pupil)):
        if config.head.output_name != "probabilities":
            raise ConfigError(
                f"--teacher {path}: {name} answers with sequences, expected a classifier"
            )
    rates = model.config.features.sample_rate_hz, pupil.features.sample_rate_hz
    if rates[0] != rates[1]:
        raise ConfigError(
            f"--teacher {path}: hears {rates[0]} Hz, expected {rates[1]} Hz as the recipe"
        )
    if set(info.labels.symbols) != set(labels.symbols):
        odd = sorted(set(info.labels.symbols) ^ set(labels.symbols))
        raise ConfigError(
            f"--teacher {path}: knows other labels than the training data ({', '.join(odd[:5])} "
            "only on one side); expected a teacher of the same labels"
        )
    columns = [info.labels.id_of(symbol) - 1 for symbol in labels.symbols]

    def logits(inputs: Mapping[str, Any]) -> Any:
        return ops.take(model(inputs, training=False), columns, axis=-1)

    return Teacher(logits, info.sha256)


def imitation_loss(logits: Any, wanted: Any, temperature: float) -> Any:
    """How far a pupil's answers are from its teacher's, float32 ``[batch]``.

    The Kullback-Leibler divergence of both softened by the temperature, times its square, which
    keeps gradients as large as those of the true labels.

    Args:
        logits: The pupil's, ``[batch, labels]``.
        wanted: The teacher's.
        temperature: 1 or more.
    """
    wanted = ops.stop_gradient(ops.log_softmax(wanted / temperature))
    own = ops.log_softmax(logits / temperature)
    return temperature**2 * ops.sum(ops.exp(wanted) * (wanted - own), axis=-1)
