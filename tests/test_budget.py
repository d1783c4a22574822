"""Sizes of encoders that keep to a budget, and what is counted for it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from model_fixtures import LABELS, encoder_cases

from speechrnn.comparison.budget import (
    LARGEST_SIZE,
    TOLERANCE,
    counter,
    describe_size,
    fitted,
    nearest,
    search_size,
    size_settings,
)
from speechrnn.config import to_mapping
from speechrnn.encoders import ENCODERS
from speechrnn.encoders.recurrent import GRU
from speechrnn.encoders.transformer import Transformer
from speechrnn.errors import ConfigError, ExportError
from speechrnn.export.arithmetic import multiply_adds
from speechrnn.model import ModelConfig, build_model
from speechrnn.runtime.peak_memory import peak_bytes

BUDGET = 100_000


def model_config(encoder: Any) -> ModelConfig:
    head = {"type": "classification", "attention_units": 16}
    sections = {"features": {}, "encoder": {"type": "gru"}, "head": head}
    return dataclasses.replace(ModelConfig.from_mapping(sections), encoder=encoder)


# ------------------------------------------------------------------ the search


@given(
    square=st.integers(0, 50),
    linear=st.integers(1, 5000),
    constant=st.integers(0, 200_000),
    budget=st.integers(1, 5_000_000),
)
@example(square=1, linear=1, constant=0, budget=1)
@example(square=50, linear=5000, constant=200_000, budget=1)
def test_the_nearest_size_is_found_in_few_steps(
    square: int, linear: int, constant: int, budget: int
) -> None:
    def count(size: int) -> int:
        return square * size**2 + linear * size + constant

    found = search_size(count, budget)
    sizes = np.arange(1, LARGEST_SIZE + 1)
    costs = square * sizes**2 + linear * sizes + constant
    assert nearest(found, budget) == sizes[np.argmin(np.abs(costs - budget))]
    assert len(found) <= 20  # of a real model each takes half a second


def test_a_cost_that_never_reaches_the_budget_ends_the_search() -> None:
    assert len(search_size(lambda size: 7, 1000)) < 40


def test_a_budget_that_no_size_meets_says_what_sizes_give() -> None:
    encoder = Transformer(num_heads=4, num_layers=1)
    with pytest.raises(
        ConfigError,
        match=r"within 10 % of 1,000 things: width=16 gives 512 and width=24 gives 1,152;",
    ):
        fitted(encoder, 1000, lambda encoder: 2 * encoder.width**2, "things")
    with pytest.raises(ConfigError, match=r"of 1,000 things: width=8 gives 5,000; expected"):
        fitted(encoder, 1000, lambda encoder: 5000, "things")


# ------------------------------------------------------------------ every encoder


# To be built takes these a second or two, a dozen times.
SLOW = {"bc_resnet", "hybrid"}


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.heavy] if n in SLOW else []) for n in ENCODERS.names()],
)
def test_some_size_of_every_encoder_keeps_to_a_budget(name: str) -> None:
    encoder = ENCODERS.from_mapping({"type": name})
    config = model_config(encoder)
    sized, cost = fitted(encoder, BUDGET, counter(config, LABELS, "parameters"), "parameters")
    assert abs(cost - BUDGET) <= TOLERANCE * BUDGET
    model = build_model(dataclasses.replace(config, encoder=sized), LABELS)
    assert cost == sum(int(np.prod(v.shape)) for v in model.trainable_variables)


@pytest.mark.parametrize("encoder", encoder_cases())
def test_a_size_changes_what_it_says_and_nothing_else(encoder: Any) -> None:
    small, large = encoder.resized(1), encoder.resized(3)
    assert type(small) is type(large) is type(encoder)
    changed = set(size_settings(encoder))
    assert changed
    for other in (small, large):
        theirs = to_mapping(other)
        differing = {name for name, value in to_mapping(encoder).items() if theirs[name] != value}
        assert differing <= changed
    assert small.resized(3) == large
    assert describe_size(encoder, 3) == describe_size(large)


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.heavy] if n in SLOW else []) for n in ENCODERS.names()],
)
def test_a_larger_size_has_more_parameters(name: str) -> None:
    encoder = ENCODERS.from_mapping({"type": name})
    costs = []
    for size in (1, 2, 5):
        layer = encoder.resized(size).build_layer()
        layer(np.zeros((1, 1, 12), np.float32))
        costs.append(layer.count_params())
    assert costs[0] < costs[1] < costs[2]


# ------------------------------------------------------------------ multiply-adds, memory


def test_multiply_adds_are_those_of_products_loops_and_attention() -> None:
    """Steps times a GRU's two products, and all steps times all for what attends."""
    import tensorflow as tf
    from keras import layers

    from speechrnn.export.convert import to_flatbuffer
    from speechrnn.export.graph import run_in_loop

    size, units, steps = 8, 5, 24  # a multiple of the steps that an iteration takes
    layer = layers.GRU(units, return_sequences=True)
    layer(np.zeros((1, 2, size), np.float32))

    def attending(waveform: tf.Tensor) -> dict[str, tf.Tensor]:
        found = run_in_loop(layer, tf.reshape(waveform, [1, -1, size]), None, False)
        return {"y": tf.matmul(found, found, transpose_b=True)}

    signature = [tf.TensorSpec([1, None], tf.float32, name="waveform")]
    content = to_flatbuffer("serve", attending, signature, [layer])
    products = steps * (size * 3 * units + units * 3 * units)
    assert multiply_adds(content, steps * size) == products + steps * steps * units


def test_what_cannot_be_exported_cannot_be_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("x")

    monkeypatch.setattr("speechrnn.export.convert.to_flatbuffer", fail)
    count = counter(model_config(GRU(units=4, num_layers=1)), LABELS, "macs")
    with pytest.raises(ExportError, match="multiply-adds cannot be counted: x"):
        count(GRU(units=4, num_layers=1))


def test_peak_memory_is_that_of_the_process_not_of_the_one_that_started_it() -> None:
    held = np.ones(40_000_000)  # 320 MB
    program = "from speechrnn.runtime.peak_memory import peak_bytes; print(peak_bytes())"
    done = subprocess.run(
        [sys.executable, "-c", program], check=True, capture_output=True, text=True
    )
    assert 1e6 < int(done.stdout) < held.nbytes < (peak_bytes() or 0)
