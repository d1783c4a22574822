"""Learning from trained models as well: how sure they are of every label, not of one alone.

Source: Hinton, Vinyals and Dean 2015, "Distilling the knowledge in a neural network",
arXiv:1503.02531.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keras import ops

from speechrnn.bundle import load_bundle
from speechrnn.errors import ConfigError
from speechrnn.labels import Labels
from speechrnn.model import ModelConfig, SpeechModel


@dataclass(frozen=True)
class Teachers:
    """Trained classifiers, of which the mean is learnt from.

    Attributes:
        logits: The mean of their logits ``[batch, labels]`` for a batch of a training, in the
            pupil's order: the geometric mean of what they say.
        sha256: Their bundles'.
    """

    logits: Callable[[Mapping[str, Any]], Any]
    sha256: tuple[str, ...]


def load_teachers(paths: Sequence[str | Path], pupil: ModelConfig, labels: Labels) -> Teachers:
    """The teachers in bundles, at least one.

    Raises:
        ModelError: A bundle is not intact.
        ConfigError: One is no classifier of the same labels at the same rate, or the pupil is none.
    """
    found = [_load(path, pupil, labels) for path in paths]

    def logits(inputs: Mapping[str, Any]) -> Any:
        each = [ops.take(model(inputs, training=False), columns, -1) for model, columns, _ in found]
        return sum(each) / len(each)

    return Teachers(logits, tuple(sha256 for _, _, sha256 in found))


def _load(
    path: str | Path, pupil: ModelConfig, labels: Labels
) -> tuple[SpeechModel, list[int], str]:
    """A model, which of its columns are those of the pupil's labels, and its bundle's hash."""
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
    return model, [info.labels.id_of(symbol) - 1 for symbol in labels.symbols], info.sha256


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
