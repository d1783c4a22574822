"""Sound in chunks of any size: the same answers as to the whole."""

import functools
import io
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema
from hypothesis import given, settings
from hypothesis import strategies as st
from model_fixtures import (
    LABELS,
    cut,
    folder,
    make_model,
    noise,
    save,
    shared_bundle,
    streamed,
    sweep,
)

from speechrnn.cli import main
from speechrnn.decoding.detect import Detector, DetectorConfig, detect
from speechrnn.decoding.sequence import SequenceDecoder
from speechrnn.errors import AudioError, ConfigError, ExportError, ModelError
from speechrnn.export import export_bundle
from speechrnn.export.streaming import Plan, answer_chunk, plan_stream
from speechrnn.flatbuffer import Graph
from speechrnn.model import SpeechModel
from speechrnn.recognize import describe_model
from speechrnn.runtime import Recognizer, StreamingRecognizer, streaming
from speechrnn.runtime.streaming import ENDLESS, Stream, Windows, _Utterance

ONE_WAY = {"type": "gru", "bidirectional": False, "units": 6}
ENCODERS: dict[str, dict[str, Any]] = {
    "plain": {"num_layers": 2},
    "spectral": {
        "num_layers": 1,
        "spectral_filters": 3,
        "spectral_channels": 6,
        "spectral_width": 7,
    },
    "conv": {"num_layers": 2, "conv_filters": 6, "conv_kernel": 3, "conv_stride": 3},
    "conv-twice": {"num_layers": 1, "conv_filters": 6, "conv_layers": 2, "conv_stride": 2},
    "wide-steps": {"num_layers": 1, "conv_filters": 6, "conv_kernel": 1, "conv_stride": 4},
    "narrow": {
        "num_layers": 1,
        "spectral_filters": 3,
        "spectral_channels": 5,
        "spectral_blocks": 2,
        "spectral_width": 7,
        "conv_filters": 4,
        "conv_kernel": 1,
        "conv_stride": 2,
    },
    "wide": {"num_layers": 1, "conv_filters": 32, "conv_kernel": 1, "units": 32},
    "lstm": {"type": "lstm", "num_layers": 2, "layer_norm": True, "residual": True},
    "simple-rnn": {"type": "simple_rnn", "num_layers": 2},
    "long-kernel": {"num_layers": 1, "conv_filters": 4, "conv_kernel": 9, "conv_stride": 1},
}
HEADS: dict[str, dict[str, Any]] = {
    "classification": {"type": "classification", "attention_units": 7},
    "ctc": {"type": "ctc"},
}
LENGTHS = (1, 400, 1000, 1040, 7777)


@functools.cache
def model(encoder: str, head: str) -> SpeechModel:
    sections = {
        "features": {"normalisation": "training", "num_coefficients": 13},
        "encoder": {**ONE_WAY, **ENCODERS[encoder]},
        "head": HEADS[head],
    }
    return make_model(sections)


def in_chunks(made: SpeechModel, plan: Plan, waveform: np.ndarray) -> np.ndarray:
    """What the graph of a chunk answers, call by call, to its end: what a runtime does, plainly."""
    frames = made.config.features.num_frames(len(waveform))
    steps = made.config.encoder.output_frames(frames)
    padded = np.pad(waveform, (0, plan.context + plan.chunk * (steps + 20)))
    samples, rest = padded[None, : plan.context], padded[plan.context :]
    states: Any = [tf.zeros(shape) for shape in plan.states]
    answers, position = [], 0
    while position * plan.steps + plan.first_step < steps:
        chunk = rest[None, position * plan.chunk : (position + 1) * plan.chunk]
        true = (position + 1) * plan.chunk + plan.context <= len(waveform)
        answer, samples, states = answer_chunk(
            made,
            plan,
            tf.constant(chunk),
            tf.constant(position),
            tf.constant(ENDLESS if true else frames),
            samples,
            states,
        )
        answers.append(np.asarray(answer)[0])
        position += 1
    if plan.pooled:
        return answers[-1]
    return np.concatenate(answers)[-plan.first_step :][:steps]


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("encoder", ENCODERS)
def test_a_stream_answers_as_the_whole_is_answered(encoder, head):
    made = model(encoder, head)
    plan = plan_stream(made)
    assert plan.chunk == plan.frames * made.config.features.hop_length
    assert all(0 not in shape for shape in plan.states), "LiteRT in C takes no empty tensor"
    for length in LENGTHS:
        waveform = sweep(length, seed=length)
        expected = np.asarray(made.serve(tf.constant(waveform[None])))[0]
        found = in_chunks(made, plan, waveform)
        assert found.shape == expected.shape
        np.testing.assert_allclose(found, expected, atol=1e-5)


def test_what_a_classifier_pools_over_is_a_second():
    made = model("spectral", "classification")
    plan = plan_stream(made)
    assert plan.pooled == 25
    assert plan_stream(made, pooled_s=1.5).pooled == round(1.5 / 0.04)
    long = sweep(40000)
    found, last = in_chunks(made, plan, long), in_chunks(made, plan, long[-16000:])
    assert np.abs(found - last).max() < 0.2  # the same second, with and without what came before


# ------------------------------------------------------------------ files


@functools.cache
def streaming_file(encoder: str, head: str, quantize: Any = "none") -> Path:
    name = f"stream-{encoder}-{head}"
    bundle = save(model(encoder, head), folder() / name)
    out = folder() / f"{name}-{quantize}.tflite"
    return export_bundle(bundle, out, quantize=quantize, streaming=True).path


@pytest.fixture(scope="module", autouse=True)
def files():
    """Made before a drawn example needs them: else a failure would make them again and again."""
    for head in HEADS:
        streaming_file("spectral", head)


SIZES = st.lists(st.integers(1, 3000), min_size=1, max_size=6)


@given(length=st.integers(1, 12000), sizes=SIZES)
@settings(max_examples=25, deadline=None)
def test_whatever_the_chunks_a_file_answers_to_a_sequence_as_to_the_whole(length, sizes):
    recognizer = Recognizer(streaming_file("spectral", "ctc"))
    waveform = sweep(length, seed=length)
    answers = streamed(recognizer, waveform, sizes)
    np.testing.assert_allclose(answers, recognizer.run(waveform), atol=1e-5)


@given(length=st.integers(1, 16000), sizes=SIZES)
@settings(max_examples=25, deadline=None)
def test_whatever_the_chunks_a_classifier_ends_with_the_answer_to_the_whole(length, sizes):
    recognizer = Recognizer(streaming_file("spectral", "classification"))
    waveform = sweep(length, seed=length)
    answers = streamed(recognizer, waveform, sizes)
    np.testing.assert_allclose(answers[-1], recognizer.run(waveform), atol=1e-5)


def test_after_the_end_a_stream_begins_anew():
    recognizer = Recognizer(streaming_file("spectral", "ctc"))
    stream, first, second = Stream(recognizer), sweep(9000), noise(5000)
    stream.feed(first)
    stream.finish()
    answers = [*stream.feed(second), *stream.finish()]
    np.testing.assert_allclose(np.array(answers), recognizer.run(second), atol=1e-5)
    assert stream.finish() == []


def test_a_streaming_file_says_how_it_is_cut():
    found = describe_model(streaming_file("spectral", "ctc"))["streaming"]
    assert (found["signature"], found["chunk"], found["context"]) == ("stream", 640, 240)


@pytest.mark.heavy
def test_a_streaming_file_with_smaller_weights_stores_them_once():
    whole, smaller = (streaming_file("wide", "ctc", kind) for kind in ("none", "dynamic"))
    stored = describe_model(smaller)["weights_bytes"]
    products = 2 * 3 * 32 * 32  # of the GRU: it has as many units as inputs
    assert products <= stored["int8"] < 1.3 * products
    assert whole.stat().st_size - smaller.stat().st_size > 2 * products
    recognizer = Recognizer(smaller)
    stream, waveform = Stream(recognizer), sweep(9000)
    answers = [*stream.feed(waveform), *stream.finish()]
    assert 0 < np.abs(np.exp(answers) - np.exp(recognizer.run(waveform))).max() < 0.03


def test_an_utterance_is_what_the_whole_would_have_been():
    file = streaming_file("spectral", "ctc")
    heard, waveform = StreamingRecognizer(file), sweep(14000, seed=3)
    found = [u for chunk in cut(waveform, [700]) for u in heard.feed_utterances(chunk)]
    said = heard.text
    found += heard.finish_utterances()
    whole = heard.recognizer.transcribe(waveform)
    assert whole.text
    assert len(found) == 1
    assert found[0].text == whole.text
    assert whole.text.startswith(said)
    assert [word.start for word in found[0].words] == [word.start for word in whole.words]
    assert heard.text == ""
    assert heard.finish_utterances() == []


def steps_saying(*symbols: int) -> list[np.ndarray]:
    """A step for each symbol, sure of it."""
    rows = np.full((len(symbols), 5), np.log(0.01), np.float32)
    rows[np.arange(len(symbols)), list(symbols)] = np.log(0.96)
    return list(rows)


def utterance(threshold: float = 0.0) -> _Utterance:
    recognizer = Recognizer(streaming_file("spectral", "ctc"))
    decoder = recognizer.decoder
    assert isinstance(decoder, SequenceDecoder)
    return _Utterance(decoder, 0.04, threshold)


def test_a_pause_of_a_second_ends_an_utterance_and_times_are_the_stream_s():
    hearing = utterance()
    pause = [0] * 25
    first = [*[0] * 50, 1, 1, 0, 2, *pause]
    ends = [hearing.hear(step) for step in steps_saying(*first, *[0] * 10, 3, *pause)]
    found = {place: one for place, one in enumerate(ends) if one}
    assert list(found) == [len(first) - 1, len(first) + 10 + 25]
    assert [one.text for one in found.values()] == ["yes no", "العربية"]
    assert found[len(first) - 1].words[0].start == pytest.approx(50 * 0.04, abs=0.05)
    later = found[len(first) + 35].words[0]
    assert later.start == pytest.approx((len(first) + 10) * 0.04, abs=0.05)
    assert hearing.end() is None


def test_an_utterance_in_doubt_is_none():
    hearing = utterance(threshold=1.0)
    assert not any(hearing.hear(step) for step in steps_saying(1, 1, 0, 2, *[0] * 25))
    list(map(hearing.hear, steps_saying(1, 1)))
    assert hearing.end() is None


def test_an_utterance_without_a_pause_ends_after_a_minute():
    hearing = utterance()
    ends = [bool(hearing.hear(step)) for step in steps_saying(*[1, 2] * 1600)]
    assert [place for place, end in enumerate(ends) if end] == [1499, 2999]


def test_silence_is_forgotten():
    hearing = utterance()
    for step in steps_saying(*[0] * 3000):
        assert hearing.hear(step) is None
    assert len(hearing._steps) <= 25


def test_a_stream_of_months_answers_as_a_young_one(monkeypatch):
    recognizer = Recognizer(streaming_file("spectral", "ctc"))
    monkeypatch.setattr(streaming, "MOST_CALLS", 3)
    stream, waveform = Stream(recognizer), sweep(20000)
    answers = [answer for chunk in cut(waveform, [900]) for answer in stream.feed(chunk)]
    answers += stream.finish()
    np.testing.assert_allclose(np.array(answers), recognizer.run(waveform), atol=1e-5)


# ------------------------------------------------------------------ events


@given(sizes=SIZES, smoothing=st.integers(1, 3), hop_s=st.sampled_from([0.05, 0.1, 0.13]))
@settings(max_examples=15, deadline=None)
def test_a_model_of_both_directions_raises_the_events_of_its_windows(sizes, smoothing, hop_s):
    config = DetectorConfig(0.5, hop_s, smoothing, 0.3)
    file = two_way_file()
    heard = StreamingRecognizer(file, config=config, threshold=0.3)
    waveform = np.concatenate([sweep(9000, 1), noise(7000), sweep(8000, 2)])
    found = [event for chunk in cut(waveform, sizes) for event in heard.feed(chunk)]
    recognizer = Recognizer(file)
    starts = config.starts(len(waveform), 16000)
    answers = [recognizer.run(waveform[s : s + config.window_samples(16000)]) for s in starts]
    assert found == detect(np.array(answers), LABELS, 0.3, config)
    assert found


@functools.cache
def two_way_file() -> Path:
    return export_bundle(shared_bundle("two-way"), folder() / "windows.tflite").path


def test_sound_that_was_answered_to_is_forgotten():
    windows = Windows(Recognizer(two_way_file()), DetectorConfig())
    for _ in range(20):
        windows.feed(noise(16000))
    assert len(windows._samples) <= 16000


def test_a_stream_of_a_classifier_raises_events():
    heard = StreamingRecognizer(
        streaming_file("spectral", "classification"),
        config=DetectorConfig(refractory_s=0.5),
        threshold=0.0,
    )
    assert heard.carries_state
    events = [event for chunk in cut(sweep(48000), [333]) for event in heard.feed(chunk)]
    events += heard.finish()
    times = [event.time_s for event in events]
    assert len(events) == 4
    assert times[0] == pytest.approx(0.5, abs=0.05)  # the middle of the first second
    assert all(later - earlier >= 0.5 - 1e-6 for earlier, later in itertools.pairwise(times))


# ------------------------------------------------------------------ on the command line


def listened(monkeypatch, capsys, file: Path, waveform: np.ndarray, *options: str) -> list[Any]:
    """What ``speechrnn listen`` prints of a waveform that comes as 16-bit samples."""
    sound = np.round(waveform * 32767).astype("<i2").tobytes()
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(sound)))
    assert main(["listen", str(file), *options]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_listening_prints_an_event_a_line(monkeypatch, capsys):
    waveform = np.concatenate([sweep(20000, 1), noise(9000)])
    found = listened(monkeypatch, capsys, two_way_file(), waveform, "--threshold", "0.3")
    assert found
    assert found[0].keys() == {"label", "time", "confidence"}
    assert found[0]["label"] in LABELS.symbols
    assert found[0]["confidence"] >= 0.3
    assert listened(monkeypatch, capsys, two_way_file(), waveform, "--threshold", "1") == []


def test_listening_to_sequences_prints_utterances(monkeypatch, capsys):
    file = streaming_file("spectral", "ctc")
    found = listened(monkeypatch, capsys, file, sweep(14000, seed=3))
    assert [line.keys() for line in found] == [{"text", "confidence", "words"}]


def test_the_end_of_a_stream_is_heard(monkeypatch, capsys):
    file = streaming_file("spectral", "classification")
    found = listened(monkeypatch, capsys, file, sweep(16400), "--threshold", "0")
    assert len(found) == 1


def test_a_bundle_is_told_to_be_exported(capsys):
    assert main(["listen", str(shared_bundle("two-way"))]) == 2
    assert "expected a .tflite; of a bundle, speechrnn export" in capsys.readouterr().err


@pytest.mark.parametrize("threshold", ["-0.1", "1.1", "nan", "loud"])
def test_a_threshold_that_is_none_is_refused(monkeypatch, capsys, threshold):
    with pytest.raises(SystemExit) as stopped:
        main(["listen", str(two_way_file()), f"--threshold={threshold}"])
    assert stopped.value.code == 2
    assert "expected a number from 0 to 1" in capsys.readouterr().err


# ------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("sections", "words"),
    [
        ({"features": {"normalisation": "utterance"}}, "features.normalisation"),
        ({"features": {"normalisation": "none", "deltas": 1}}, "features.deltas"),
        ({"features": {"normalisation": "none", "pre_emphasis": 0.97}}, "pre_emphasis"),
    ],
)
def test_what_cannot_stream_is_told_why(tmp_path, sections, words):
    whole = {
        "features": {"normalisation": "none"},
        "encoder": {**ONE_WAY, "num_layers": 1},
        "head": HEADS["ctc"],
        **sections,
    }
    bundle = save(make_model(whole), tmp_path / "bundle")
    with pytest.raises(ExportError, match=words) as caught:
        export_bundle(bundle, tmp_path / "m.tflite", streaming=True)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "m.tflite").exists()


@pytest.mark.heavy
@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_a_stream_in_int8_steps_in_integers_and_answers_nearly_the_same(kind, tmp_path):
    made = make_model(
        {
            "features": {"normalisation": "training", "num_coefficients": 13},
            "encoder": {**ONE_WAY, **ENCODERS["wide"], "type": kind},
            "head": HEADS["classification"],
        }
    )
    bundle = save(made, tmp_path / "bundle")
    heard = [sweep(16000, seed) + 0.1 * noise(16000, seed) for seed in range(8)]
    out = tmp_path / "m.tflite"
    export_bundle(bundle, out, quantize="int8", calibration=heard, streaming=True)
    recognizer, plain = (
        Recognizer(out),
        Recognizer(export_bundle(bundle, tmp_path / "f.tflite", streaming=True).path),
    )
    waveform = sweep(16000, 9)
    found, expected = (streamed(one, waveform, [len(waveform)]) for one in (recognizer, plain))
    np.testing.assert_allclose(found, expected, atol=0.05)
    counts = describe_model(out)["operators"]
    assert {"FULLY_CONNECTED", "LOGISTIC", "TANH", "MUL", "ADD"} <= counts["int8"].keys()
    assert ("int16" in counts) == (kind == "lstm")  # the cells
    graph = Graph(out.read_bytes())
    stream = graph.subgraphs[graph.entries()[-1]]
    types = {stream.tensors[index].type for index in [*stream.inputs, *stream.outputs]}
    assert types == {schema.TensorType.FLOAT32, schema.TensorType.INT32}


def test_on_the_command_line_it_is_one_line(tmp_path, capsys):
    out = tmp_path / "m.tflite"
    assert main(["export", str(shared_bundle("two-way")), "--to", str(out), "--streaming"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize(
    "chunk", [np.zeros((2, 100)), np.full(10, np.nan), np.zeros(10, np.int16), np.array("text")]
)
def test_a_chunk_that_is_no_sound_is_refused(chunk):
    with pytest.raises(AudioError, match="expected finite floats"):
        StreamingRecognizer(two_way_file()).feed(chunk)


def test_samples_that_are_unscaled_integers_are_refused():
    with pytest.raises(AudioError, match="reaches 3000, expected"):
        StreamingRecognizer(two_way_file()).feed(np.full(100, 3000.0))


def test_windows_too_short_for_the_model_are_refused():
    with pytest.raises(ConfigError, match=r"got 0\.01, expected at least 0\.025"):
        StreamingRecognizer(two_way_file(), config=DetectorConfig(0.01, 0.01))


def test_an_answer_that_is_no_number_raises_no_event():
    detector = Detector(LABELS, 0.9)
    assert detector.push(np.full(4, np.nan)) is None


def test_a_sequence_model_without_a_state_is_refused():
    from model_fixtures import shared_tflite

    with pytest.raises(ModelError, match="carries no state; export it with --streaming"):
        StreamingRecognizer(shared_tflite("sequences"))


def test_each_kind_has_a_call_of_its_own():
    with pytest.raises(ModelError, match=r"expected feed$"):
        StreamingRecognizer(two_way_file()).feed_utterances(noise(100))
    with pytest.raises(ModelError, match="expected feed_utterances"):
        StreamingRecognizer(streaming_file("spectral", "ctc")).feed(noise(100))
    with pytest.raises(ModelError, match=r"expected finish$"):
        StreamingRecognizer(two_way_file()).finish_utterances()
    with pytest.raises(ModelError, match="expected finish_utterances"):
        StreamingRecognizer(streaming_file("spectral", "ctc")).finish()


def test_a_transformer_cannot_stream_and_says_why(tmp_path):
    sections = {
        "features": {"normalisation": "training"},
        "encoder": {"type": "transformer", "width": 16},
        "head": {"type": "classification"},
    }
    bundle = save(make_model(sections), tmp_path / "bundle")
    with pytest.raises(ExportError, match=r"encoder\.type: got 'transformer', of which every step"):
        export_bundle(bundle, tmp_path / "out.tflite", streaming=True)
