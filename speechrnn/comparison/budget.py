"""The size at which an encoder costs what all may cost."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
from keras import ops

from speechrnn.encoders import ENCODERS, Encoder
from speechrnn.errors import ConfigError, ExportError
from speechrnn.labels import Labels
from speechrnn.model import ModelConfig, build_model

Match = Literal["parameters", "macs"]
# What is counted, in words, and the option that asks for another budget of it.
COUNTED: dict[Match, str] = {"parameters": "parameters", "macs": "multiply-adds of a second"}
TOLERANCE = 0.1
FIRST_SIZE, LARGEST_SIZE = 16, 1 << 14


def fitted(
    encoder: Encoder, budget: int, count: Callable[[Encoder], int], counted: str
) -> tuple[Encoder, int]:
    """The encoder at the size that comes nearest to a budget, and what it costs there.

    Args:
        encoder: Settings that stay, but for the size.
        budget: What it may cost.
        count: What an encoder costs.
        counted: What that is, for messages.

    Raises:
        ConfigError: No size comes within :data:`TOLERANCE` of the budget; says what the nearest
            ones give.
    """
    found = search_size(lambda size: count(encoder.resized(size)), budget)
    size = nearest(found, budget)
    if abs(found[size] - budget) > TOLERANCE * budget:
        sides = [
            max((s for s in found if found[s] < budget), default=None),
            min((s for s in found if found[s] > budget), default=None),
        ]
        given = " and ".join(
            f"{describe_size(encoder, s)} gives {found[s]:,}" for s in sides if s is not None
        )
        raise ConfigError(
            f"no size comes within {100 * TOLERANCE:g} % of {budget:,} {counted}: {given}; "
            "expected another budget, or other settings of this encoder"
        )
    return encoder.resized(size), found[size]


def search_size(count: Callable[[int], int], budget: int) -> dict[int, int]:
    """Sizes that were tried, with what they cost; the one nearest to the budget is among them.

    ``count`` never falls with the size. It is mostly a polynomial of second degree, so that the
    next size to try is where a parabola through the two nearest would meet the budget.
    """
    found: dict[int, int] = {}
    low, high = 0, LARGEST_SIZE + 1  # too small, and large enough
    size = FIRST_SIZE
    while high - low > 1:
        found[size] = count(size)
        low, high = (size, high) if found[size] < budget else (low, size)
        size = min(max(_next_size(found, budget), low + 1), high - 1)
    return found


def _next_size(found: Mapping[int, int], budget: int) -> int:
    two = sorted(found, key=lambda size: abs(found[size] - budget))[:2]
    one, other = two[0], two[-1]
    if found[one] == found[other]:  # one alone, or two that are equal
        return 2 * max(found) if found[one] < budget else min(found) // 2
    slope = (found[other] - found[one]) / (other**2 - one**2)
    where = math.sqrt(max(0.0, one**2 + (budget - found[one]) / slope))
    return min(round(where), 4 * max(found))  # what is too large takes long to count


def nearest(found: Mapping[int, int], budget: int) -> int:
    """The size whose cost is nearest to the budget, the smaller of two that are."""
    return min(found, key=lambda size: (abs(found[size] - budget), size))


def size_settings(encoder: Encoder) -> list[str]:
    """Names of the settings that the size decides."""
    one, two = (ENCODERS.to_mapping(encoder.resized(size)) for size in (1, 2))
    return [name for name in one if one[name] != two[name]]


def describe_size(encoder: Encoder, size: int | None = None) -> str:
    """``units=112``: what the size decides, of the encoder at a size, or as it is."""
    settings = ENCODERS.to_mapping(encoder if size is None else encoder.resized(size))
    return ", ".join(f"{name}={settings[name]}" for name in size_settings(encoder))


def counter(config: ModelConfig, labels: Labels, match: Match) -> Callable[[Encoder], int]:
    """What a whole model costs with another encoder: its head may grow with what it is given."""
    count = {"parameters": count_parameters, "macs": count_multiply_adds}[match]
    return lambda encoder: count(dataclasses.replace(config, encoder=encoder), labels)


def count_parameters(config: ModelConfig, labels: Labels) -> int:
    """Values that training changes, as a bundle counts them; the front end has none."""
    encoder, head = config.encoder.build_layer(), config.head.build_layer(labels)
    encoded, _ = encoder(ops.zeros((1, 1, config.features.num_features)))
    head(encoded)
    variables = [*encoder.trainable_variables, *head.trainable_variables]
    return int(sum(np.prod(variable.shape) for variable in variables))


def count_multiply_adds(config: ModelConfig, labels: Labels) -> int:
    """Multiply-adds of a second of sound, counted in the exported float32 graph.

    Raises:
        ExportError: The model cannot be converted.
    """
    import tensorflow as tf

    from speechrnn.export.arithmetic import multiply_adds
    from speechrnn.export.convert import reason, to_flatbuffer
    from speechrnn.export.graph import answer
    from speechrnn.quiet import quiet_stderr

    model = build_model(config, labels)
    signature = tf.TensorSpec([1, None], tf.float32, name="waveform")
    try:
        with quiet_stderr():
            content = to_flatbuffer(
                "serve", lambda w: config.head.exported(answer(model, w)), [signature], [model]
            )
            return multiply_adds(content, config.features.sample_rate_hz)
    except Exception as error:  # Keras, TensorFlow and LiteRT each have theirs
        raise ExportError(f"its multiply-adds cannot be counted: {reason(error)}") from error
