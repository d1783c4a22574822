"""Streams of models that read in both directions: chunks, and a look-ahead behind them."""

import functools
import importlib.util
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import call
from hypothesis import given, settings
from hypothesis import strategies as st
from model_fixtures import (
    LABELS,
    cut,
    folder,
    make_model,
    save,
    shared_bundle,
    streamed,
    sweep,
)

from speechrnn.decoding.detect import Detector, DetectorConfig
from speechrnn.encoders.subsampling import subsampled
from speechrnn.errors import ExportError
from speechrnn.export import export_bundle, pipeline
from speechrnn.export.microcontroller import step_of
from speechrnn.export.streaming import Plan, endpoint, plan_stream
from speechrnn.model import SpeechModel
from speechrnn.recognize import describe_model
from speechrnn.runtime import Recognizer, StreamingRecognizer
from speechrnn.runtime.metadata import read_metadata
from speechrnn.runtime.streaming import ENDLESS

BOARD = Path(__file__).parents[1] / "export" / "board" / "listen.py"
ENCODERS: dict[str, dict[str, Any]] = {
    "plain": {"num_layers": 1},
    "stacked": {"num_layers": 2},
    "narrow": {
        "num_layers": 1,
        "spectral_filters": 3,
        "spectral_channels": 6,
        "spectral_blocks": 1,
        "spectral_width": 24,
        "units": 24,
    },
    "conv": {"num_layers": 1, "conv_filters": 6, "conv_kernel": 9, "conv_stride": 3},
    "lstm": {"type": "lstm", "num_layers": 2, "layer_norm": True, "residual": True},
    "simple-rnn": {"type": "simple_rnn", "num_layers": 2},
}
HEADS: dict[str, dict[str, Any]] = {
    "classification": {"type": "classification", "attention_units": 7},
    "ctc": {"type": "ctc"},
}
STEPS = 3  # of look-ahead
HEAVY = {"stacked", "simple-rnn"}  # two layers, and another cell, are in "lstm" too
# Each encoder with one head, and the other head with one more.
CASES = [
    *(
        pytest.param(encoder, "ctc", marks=pytest.mark.heavy if encoder in HEAVY else ())
        for encoder in ENCODERS
    ),
    ("narrow", "classification"),
]
SIZES = st.lists(st.integers(1, 3000), min_size=1, max_size=6)


@functools.cache
def model(encoder: str, head: str) -> SpeechModel:
    sections = {
        "features": {"normalisation": "training", "num_coefficients": 13},
        "encoder": {"type": "gru", "units": 5, **ENCODERS[encoder]},
        "head": HEADS[head],
    }
    return make_model(sections)


@functools.cache
def planned(made: SpeechModel, steps: int = STEPS) -> Plan:
    """With so few steps that recordings of a test have many chunks."""
    return plan_stream(made, steps * made.config.clock.step_s)


@functools.cache
def stream_of(made: SpeechModel, steps: int) -> Any:
    function, signature = endpoint(made, planned(made, steps))
    return tf.function(function, input_signature=signature)


def in_chunks(made: SpeechModel, waveform: np.ndarray, look_ahead: int = STEPS) -> np.ndarray:
    """The answers to all steps, by the graph of a chunk, call by call: ``[steps, columns]``."""
    plan, stream = planned(made, look_ahead), stream_of(made, look_ahead)
    frames = made.config.features.num_frames(len(waveform))
    steps = made.config.encoder.output_frames(frames)
    padded = np.pad(waveform, (0, plan.context + plan.chunk * (steps + 20)))
    names = ["samples", *(f"state_{number}" for number in range(len(plan.states)))]
    carried = [tf.constant(padded[None, : plan.context]), *map(tf.zeros, plan.states)]
    answers, position = [], 0
    while position * plan.steps + plan.first_step < steps:
        begin = plan.context + position * plan.chunk
        known = begin + plan.chunk > len(waveform)
        found = stream(
            tf.constant(padded[None, begin : begin + plan.chunk]),
            tf.constant(position),
            tf.constant(frames if known else ENDLESS),
            *carried,
        )
        carried = [found[name] for name in names]
        answers.append(np.reshape(found[made.config.head.output_name], [plan.steps, -1]))
        position += 1
    return np.concatenate(answers)[-plan.first_step :][:steps]


def whole(made: SpeechModel, waveform: np.ndarray) -> np.ndarray:
    return np.asarray(made.serve(tf.constant(waveform[None])))[0]


def samples_of(made: SpeechModel, steps: int) -> int:
    """The longest recording of so many steps."""
    features, stride = made.config.features, planned(made).frames // planned(made).steps
    return features.window_length + (steps * stride - 1) * features.hop_length


def window_by_window(made: SpeechModel, waveform: np.ndarray) -> np.ndarray:
    """What the stream is meant to answer, by Keras' own layers on each window of the encoded rows.

    Each reads its window forwards from its state behind the rows that were answered to before, and
    backwards from zeros.
    """
    encoder, plan = made.encoder, planned(made)
    rows, _ = subsampled(encoder.convolutions, made.front_end(waveform[None]), None, False)
    num_steps = rows.shape[1]
    states: list[Any] = [None] * len(encoder.recurrent)
    found = []
    for begin in range(plan.first_step, num_steps, plan.steps):
        window = rows[:, max(0, begin) : begin + plan.steps + plan.look_ahead]
        answered = max(0, min(begin + plan.steps, num_steps) - max(0, begin))
        if answered == 0:
            continue
        for index, layer in enumerate(encoder.recurrent):
            entering = encoder.norms[index](window) if encoder.norms else window
            states[index], leaving = both_ways(layer, entering, states[index], answered)
            added = encoder.config.residual and window.shape[2] == leaving.shape[2]
            window = window + leaving if added else leaving
        found.append(window[:, :answered])
    encoded = tf.concat(found, axis=1)
    if not plan.pooled:
        return np.asarray(made.answer(made.head(encoded)))[0]
    ends = range(1, num_steps + 1)
    pooled = [made.head(encoded[:, max(0, end - plan.pooled) : end]) for end in ends]
    return np.asarray(made.answer(tf.concat(pooled, axis=0)))


def both_ways(layer: Any, window: Any, before: Any, answered: int) -> tuple[Any, Any]:
    def read(cell: Any, rows: Any, states: Any) -> tuple[Any, Any]:
        run = keras.layers.RNN(cell, return_sequences=True, return_state=True)
        found, *after = run(rows, initial_state=states)
        return found, after

    cell = layer.forward_layer.cell
    first, after = read(cell, window[:, :answered], before)
    rest = window[:, answered:]
    parts = [first] if rest.shape[1] == 0 else [first, read(cell, rest, after)[0]]
    backwards, _ = read(layer.backward_layer.cell, window[:, ::-1], None)
    return after, tf.concat([tf.concat(parts, axis=1), backwards[:, ::-1]], axis=2)


# ------------------------------------------------------------------ what is answered


@pytest.mark.parametrize(("encoder", "head"), CASES)
def test_a_stream_answers_as_keras_does_window_by_window(encoder, head):
    made = model(encoder, head)
    for steps in (2, 3 * STEPS + 1):
        waveform = sweep(samples_of(made, steps) - 7, seed=steps)
        found, expected = in_chunks(made, waveform), window_by_window(made, waveform)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize(("encoder", "head"), CASES)
def test_a_recording_that_is_seen_at_once_is_answered_as_the_whole(encoder, head):
    made = model(encoder, head)
    for length in (1, 400, samples_of(made, STEPS), samples_of(made, STEPS + 1)):
        waveform = sweep(length, seed=length)
        found, expected = in_chunks(made, waveform), whole(made, waveform)
        if planned(made).pooled:
            found = found[-1]
        np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("encoder", ["plain", "conv"])
@given(steps=st.integers(1, 8 * STEPS))
@settings(max_examples=6, deadline=None)
def test_of_one_layer_the_last_answers_are_those_to_the_whole(encoder, steps):
    made = model(encoder, "ctc")
    waveform = sweep(samples_of(made, steps), seed=steps)
    found, expected = in_chunks(made, waveform), whole(made, waveform)
    np.testing.assert_allclose(found[-STEPS - 1 :], expected[-STEPS - 1 :], atol=1e-5)


def test_what_reads_forwards_is_exact_however_long_it_takes():
    made = make_model(model("lstm", "ctc").config.to_mapping())
    for layer in made.encoder.recurrent:
        for weight in layer.backward_layer.weights:
            weight.assign(keras.ops.zeros_like(weight))
    waveform = sweep(samples_of(made, 5 * STEPS))
    np.testing.assert_allclose(in_chunks(made, waveform), whole(made, waveform), atol=1e-5)


def test_an_answer_does_not_depend_on_what_lies_behind_its_look_ahead():
    made = model("stacked", "ctc")
    plan, waveform = planned(made), sweep(samples_of(made, 6 * STEPS))
    other = waveform.copy()
    other[plan.context + 3 * plan.chunk :] *= -0.5
    found, changed = in_chunks(made, waveform), in_chunks(made, other)
    same = 3 * plan.steps + plan.first_step
    np.testing.assert_array_equal(found[:same], changed[:same])
    assert np.abs(found - changed)[same:].max() > 1e-3


def test_a_longer_look_ahead_comes_nearer_to_the_whole():
    made = model("narrow", "ctc")
    waveform, far = sweep(16000), []
    expected = np.exp(whole(made, waveform))
    for steps in (1, STEPS, 8):
        found = np.exp(in_chunks(made, waveform, steps))
        far.append(np.abs(found - expected).mean())
    assert far[0] > far[1] > far[2] > 0


# ------------------------------------------------------------------ files


@functools.cache
def converted(head: str) -> tuple[Path, Any]:
    """A bundle, and what the converter makes of it: once for all formats."""
    bundle = save(model("narrow", head), folder() / f"look-ahead-{head}")
    return bundle, pipeline._convert_in_subprocess(bundle, True, False, None, 0.12)


@functools.cache
def streaming_file(head: str, quantize: Any = "none") -> Path:
    bundle, made = converted(head)
    out = folder() / f"look-ahead-{head}-{quantize}.tflite"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(pipeline, "_convert_in_subprocess", lambda *_: made)
        asked: Any = {"quantize": quantize, "streaming": True, "look_ahead_s": 0.12}
        if quantize == "int8":
            asked["calibration"] = [sweep(16000, seed) for seed in range(6)]
        return export_bundle(bundle, out, **asked).path


@pytest.fixture(scope="module", autouse=True)
def files():
    """Made before a drawn example needs them: else a failure would make them again and again."""
    for head in HEADS:
        streaming_file(head)


@pytest.mark.parametrize("head", HEADS)
@given(length=st.integers(1, 12000), sizes=SIZES)
@settings(max_examples=12, deadline=None)
def test_whatever_the_chunks_a_file_gives_the_same_answer_to_each_step(head, length, sizes):
    recognizer, made = Recognizer(streaming_file(head)), model("narrow", head)
    waveform = sweep(length, seed=length)
    found = streamed(recognizer, waveform, sizes)
    frames = made.config.features.num_frames(length)
    assert len(found) == made.config.encoder.output_frames(frames)
    np.testing.assert_allclose(found, streamed(recognizer, waveform, [length]), atol=1e-6)
    if length <= 1920:  # the look-ahead
        expected = recognizer.run(waveform)
        last = found[-1] if head == "classification" else found
        np.testing.assert_allclose(last, expected, atol=1e-5)


def test_a_file_says_how_far_ahead_it_sees(capsys):
    found = describe_model(streaming_file("ctc"))["streaming"]
    assert (found["steps"], found["look_ahead"], found["look_ahead_s"]) == (3, 3, 0.12)
    assert (found["chunk"], found["first_step"]) == (1920, -5)
    assert "chunks of 0.12 s, 0.12 s of look-ahead" in call("info", streaming_file("ctc")).out


@pytest.mark.parametrize(
    "quantize",
    ["dynamic", "int8", *(pytest.param(k, marks=pytest.mark.heavy) for k in ("float16", "int4"))],
)
def test_smaller_weights_stream_too(quantize):
    waveform = sweep(9000)
    found, expected = (
        streamed(Recognizer(file), waveform, [700])
        for file in (streaming_file("ctc", quantize), streaming_file("ctc"))
    )
    assert 0 < np.abs(np.exp(found) - np.exp(expected)).max() < 0.1


def test_weights_are_stored_once():
    stored = describe_model(streaming_file("ctc", "dynamic"))["weights_bytes"]
    products = 2 * 2 * 3 * 24 * 24  # of the GRU, which has as many units as inputs
    assert products <= stored["int8"] < 1.2 * products


def test_words_lie_where_they_lie_in_the_whole():
    heard, waveform = StreamingRecognizer(streaming_file("ctc")), sweep(1900, seed=3)
    whole_one = heard.recognizer.transcribe(waveform)
    found = [u for chunk in cut(waveform, [700]) for u in heard.feed_utterances(chunk)]
    found += heard.finish_utterances()
    assert [one.text for one in found] == [whole_one.text] != [""]
    assert [word.start for word in found[0].words] == [word.start for word in whole_one.words]


def test_events_are_those_of_a_second_that_ends_at_each_step():
    file, waveform = streaming_file("classification"), sweep(40000)
    heard = StreamingRecognizer(file, threshold=0.3)
    found = [event for chunk in cut(waveform, [333]) for event in heard.feed(chunk)]
    found += heard.finish()
    answers = streamed(heard.recognizer, waveform, [len(waveform)])
    config = DetectorConfig(window_s=1.0, hop_s=0.04, smoothing=10, refractory_s=1.2)
    detector = Detector(LABELS, 0.3, config, first_s=0.0125 - 0.02)
    expected = [event for answer in answers[24:] if (event := detector.push(answer))]
    assert found == expected
    assert found[0].time_s == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("head", HEADS)
def test_the_client_of_a_board_hears_the_same(head):
    spec = importlib.util.spec_from_file_location("board_listen", BOARD)
    assert spec
    assert spec.loader
    board: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(board)
    recognizer, waveform = Recognizer(streaming_file(head)), sweep(20000)
    source = board.Carried(board.Model(str(recognizer.path)))
    found = [answer for chunk in cut(waveform, [900]) for answer in source.feed(chunk)]
    found += source.finish()
    np.testing.assert_allclose(np.array(found), streamed(recognizer, waveform, [20000]), atol=1e-6)
    assert source.hop_s == pytest.approx(0.04)


# ------------------------------------------------------------------ what is refused


def one_way() -> SpeechModel:
    sections = model("plain", "ctc").config.to_mapping()
    sections["encoder"]["bidirectional"] = False
    return make_model(sections)


@pytest.mark.parametrize("seconds", [0, -0.5, 0.004, 100, float("nan"), float("inf")])
def test_a_look_ahead_of_no_steps_or_too_many_is_refused(tmp_path, seconds):
    bundle = save(model("plain", "ctc"), tmp_path / "bundle")
    with pytest.raises(ExportError, match=r"expected 0\.01 to .* s, which is 1 to") as caught:
        export_bundle(bundle, tmp_path / "m.tflite", streaming=True, look_ahead_s=seconds)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m.tflite").exists()


def test_of_one_direction_there_is_no_look_ahead(tmp_path):
    made = one_way()
    plan = plan_stream(made)
    assert (plan.look_ahead, plan.steps) == (0, 1)
    assert plan.described(16000).keys() == Plan.__dataclass_fields__.keys() - {"look_ahead"}
    bundle = save(made, tmp_path / "bundle")
    with pytest.raises(ExportError, match=r"encoder\.bidirectional is false"):
        export_bundle(bundle, tmp_path / "m.tflite", streaming=True, look_ahead_s=0.3)


@pytest.mark.parametrize(
    ("to", "words", "reason"),
    [
        ("m.tflite", ("--look-ahead", "0.3"), "is of streams; expected --streaming too"),
        ("m.tflite", ("--streaming",), 'features.normalisation: got "utterance"'),
        ("m.h", ("--streaming",), "expected encoder.bidirectional = false"),
    ],
)
def test_on_the_command_line_it_is_one_line(tmp_path, to, words, reason):
    done = call("export", shared_bundle("two-way"), "--to", tmp_path / to, *words)
    assert done.status == 2
    assert reason in done.err
    assert done.err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_a_microcontroller_has_no_room_for_it():
    with pytest.raises(ExportError, match="takes one step at a time"):
        step_of(read_metadata(streaming_file("ctc")))
