"""``export --batch``: several recordings of one length at once, answered to as each alone."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from model_fixtures import folder, noise, shared_bundle, shared_tflite, sweep

from speechrnn.cli import main
from speechrnn.errors import ExportError
from speechrnn.export import export_bundle
from speechrnn.recognize import describe_model
from speechrnn.runtime import Recognizer

FILES = [
    ("two-way", "none"),
    ("wide", "int8"),
    pytest.param("wide", "dynamic", marks=pytest.mark.heavy),
    pytest.param("one-way", "none", marks=pytest.mark.heavy),
    pytest.param("wide", "none", marks=pytest.mark.heavy),
]
LENGTHS = (400, 401, 5000, 16000)


@functools.cache
def batched(name: str, quantize: Any) -> Recognizer:
    out = folder() / f"{name}-{quantize}-batch.tflite"
    heard = [0.3 * noise(n) + sweep(n, n) for n in LENGTHS] if quantize == "int8" else []
    options: dict[str, Any] = {"quantize": quantize, "calibration": heard, "batch": True}
    return Recognizer(export_bundle(shared_bundle(name), out, **options).path)


@pytest.mark.parametrize(("name", "quantize"), FILES)
@settings(max_examples=15, deadline=None)
@given(lengths=st.lists(st.sampled_from(LENGTHS), max_size=12), seed=st.integers(0, 9))
@example(lengths=[400] * 6 + [5000] * 3, seed=8)  # in int8 one of its values is rounded otherwise
def test_answers_to_many_are_those_to_each(
    name: str, quantize: str, lengths: list[int], seed: int
) -> None:
    recognizer = batched(name, quantize)
    waveforms = [sweep(n, seed + i) + 0.1 * noise(n, i) for i, n in enumerate(lengths)]
    together = recognizer.answer_many(waveforms)
    assert len(together) == len(waveforms)
    off = [
        np.abs(answer - recognizer.run(waveform)).max()
        for answer, waveform in zip(together, waveforms, strict=True)
    ]
    if quantize == "int8":
        # What is float adds up in another order; then one answer of a hundred has a value that
        # becomes the next integer, and is .006 off.
        assert sum(one > 1e-6 for one in off) <= len(off) / 4
        assert max(off, default=0) <= 0.02
    else:
        assert not any(off)


def test_a_file_with_batches_says_so_and_another_does_not() -> None:
    about = describe_model(batched("two-way", "none").path)["batch"]
    assert about == {"signature": "batch", "size": 4}
    call = batched("two-way", "none").signature(about["signature"])
    found = call(waveform=np.zeros((4, 5000), np.float32))["probabilities"]
    assert found.shape == (4, 4)
    plain = shared_tflite("two-way")
    assert "batch" not in describe_model(plain)
    assert plain.stat().st_size < batched("two-way", "none").path.stat().st_size


@pytest.mark.heavy
def test_one_signature_shares_the_weights_of_the_other() -> None:
    plain = export_bundle(shared_bundle("wide"), folder() / "wide-plain.tflite").path
    parameters = 4 * describe_model(plain)["num_parameters"]
    assert batched("wide", "none").path.stat().st_size < plain.stat().st_size + parameters


@pytest.mark.parametrize(
    ("name", "said"), [("sequences", "expected one with a classification head")]
)
def test_what_has_no_batches_is_one_line(name: str, said: str, tmp_path: Path, capsys: Any) -> None:
    out = tmp_path / "out.tflite"
    assert main(["export", str(shared_bundle(name)), "--to", str(out), "--batch"]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not out.exists()


def test_a_batch_that_answers_otherwise_is_not_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_many = Recognizer.answer_many

    def wrong(self: Recognizer, waveforms: list[np.ndarray]) -> list[np.ndarray]:
        return [answer + 0.01 for answer in answer_many(self, waveforms)]

    monkeypatch.setattr(Recognizer, "answer_many", wrong)
    with pytest.raises(ExportError, match=r"several recordings at once differ by 0\.01"):
        export_bundle(shared_bundle("two-way"), tmp_path / "out.tflite", batch=True)
    assert not (tmp_path / "out.tflite").exists()
