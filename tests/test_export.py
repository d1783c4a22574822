import errno
import os
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from model_fixtures import (
    ENCODER_SETTINGS,
    HEAD_SETTINGS,
    MODELS,
    converting_to,
    labelled,
    make_model,
    noise,
    save,
    shared_bundle,
    shared_recognizer,
    shared_tflite,
    sweep,
)

from speechrnn.audio import find_audio, load_waveform
from speechrnn.bundle import read_bundle, read_selftest
from speechrnn.decoding.ctc import greedy
from speechrnn.errors import ExportError, ModelError, OutputError
from speechrnn.export import export_bundle, pipeline
from speechrnn.export.front_end import filters_in_order
from speechrnn.export.pipeline import TOLERANCE, check_operators
from speechrnn.features import FeatureConfig
from speechrnn.files import write_atomically
from speechrnn.runtime import Recognizer, read_metadata

# Shorter than a frame, one frame, a second, an odd length, and five times what was trained on.
LENGTHS = (320, 400, 16000, 24001, 80000)
DATA = Path(os.environ.get("SPEECHRNN_DATA", Path(__file__).parents[2] / "shared" / "data"))

each_model = pytest.mark.parametrize("name", sorted(MODELS))


@pytest.fixture
def flatbuffer(monkeypatch: pytest.MonkeyPatch) -> bytes:
    """What the converter made of the bundle "two-way"; from here on it makes it in no time."""
    model = read_metadata(shared_tflite("two-way")).model
    monkeypatch.setattr(pipeline, "_convert_in_subprocess", converting_to(model))
    return model


def largest_difference(name: str, waveforms: list[np.ndarray]) -> float:
    keras_model, exported = shared_recognizer(name), Recognizer(shared_tflite(name))
    return max(
        float(np.abs(exported.run(waveform) - keras_model.answer_many([waveform])[0]).max())
        for waveform in waveforms
    )


def test_different_signals_get_different_answers_so_that_a_comparison_means_something():
    recognizer = Recognizer(shared_tflite("two-way"))
    answers = [recognizer.run(make(16000, seed)) for make in (sweep, noise) for seed in (0, 1)]
    for i, answer in enumerate(answers):
        for other in answers[:i]:
            assert np.abs(answer - other).max() > 10 * TOLERANCE


# ------------------------------------------------------------------ it computes what Keras computes


@each_model
def test_the_file_answers_as_keras_does_at_every_length(name):
    waveforms = [
        make(length, seed) for length in LENGTHS for seed in (0, 1) for make in (sweep, noise)
    ]
    waveforms += [np.zeros(16000, np.float32), np.ones(16000, np.float32)]
    assert largest_difference(name, waveforms) < TOLERANCE


@each_model
def test_the_file_answers_as_keras_does_on_real_recordings(name):
    folder = DATA / "speech_commands_12" / "val"
    if not folder.is_dir():
        pytest.skip(f"no recordings in {folder}; set SPEECHRNN_DATA to a folder that has them")
    paths = find_audio(folder)
    recordings = [load_waveform(path, 16000) for path in paths[:: max(1, len(paths) // 20)]]
    assert largest_difference(name, recordings) < TOLERANCE


def test_a_comparison_is_made_on_the_recordings_it_is_given(flatbuffer, tmp_path):
    check = labelled([sweep(9000), noise(20001), sweep(12000, seed=1)])
    result = export_bundle(str(shared_bundle("two-way")), str(tmp_path / "m.tflite"), check=check)
    assert result.comparison is not None
    assert result.comparison.recordings == 3
    assert result.comparison.disagreements == ()
    file = result.comparison.formats[0]
    assert file.quantization == "none"
    assert 0 < file.largest_difference < TOLERANCE
    assert 0 < result.selftest_difference < TOLERANCE
    assert result.num_bytes == (tmp_path / "m.tflite").stat().st_size


@each_model
def test_the_file_carries_what_the_bundle_says(name):
    info, found = read_bundle(shared_bundle(name)), read_metadata(shared_tflite(name))
    assert found.labels == info.labels
    for section in ("features", "encoder", "head"):
        assert found.metadata[section] == info.sections[section]
    assert found.metadata["front_end"] == info.front_end
    assert found.metadata["bundle_sha256"] == info.sha256
    assert found.metadata["metrics"] == info.metrics
    assert found.metadata["min_samples"] == 400
    expected = [1, "steps", 5] if name == "sequences" else [1, 4]
    assert found.metadata["output"]["shape"] == expected


def test_two_exports_of_a_bundle_are_the_same_bytes(tmp_path):
    again = export_bundle(shared_bundle("two-way"), tmp_path / "again.tflite").path
    assert again.read_bytes() == shared_tflite("two-way").read_bytes()


# ------------------------------------------------------------------ builtin operators only


def with_operator(flatbuffer: bytes, custom_code: str | None) -> bytes:
    """The flatbuffer with one more operator code, a custom one."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAs(flatbuffer, 0))
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
    code.customCode = custom_code
    model.operatorCodes.append(code)
    builder = flatbuffers.Builder(len(flatbuffer))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@each_model
def test_an_exported_file_holds_builtin_operators_only(name):
    operators = check_operators(read_metadata(shared_tflite(name)).model)
    assert {"DYNAMIC_UPDATE_SLICE", "WHILE", "LOG"} <= set(operators)
    assert "CUSTOM" not in operators


@pytest.mark.parametrize("code", ["FlexTensorListReserve", "Mfcc", None])
def test_a_custom_operator_is_caught(flatbuffer, code):
    with pytest.raises(ExportError, match=f"custom operator {code or 'without a name'}, expected"):
        check_operators(with_operator(flatbuffer, code))


def test_a_file_with_a_custom_operator_is_not_written(flatbuffer, tmp_path, monkeypatch):
    custom = with_operator(flatbuffer, "FlexErf")
    monkeypatch.setattr(pipeline, "_convert_in_subprocess", converting_to(custom))
    with pytest.raises(ExportError, match="FlexErf"):
        export_bundle(shared_bundle("two-way"), tmp_path / "m.tflite")
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------ a file that differs is caught


def refused(tmp_path: Path, **options: Any) -> str:
    out = tmp_path / "m.tflite"
    with pytest.raises(ExportError) as caught:
        export_bundle(shared_bundle("two-way"), out, **options)
    assert list(tmp_path.iterdir()) == []
    assert "\n" not in str(caught.value)
    return str(caught.value)


def with_other_front_end(flatbuffer: bytes) -> bytes:
    """The exported model with another mel scale in it, and nothing else changed."""
    found, other = (
        filters_in_order(FeatureConfig(mel_scale=scale), 32) for scale in ("slaney", "htk")
    )
    for order in (np.ascontiguousarray, lambda matrix: np.ascontiguousarray(matrix.T)):
        before, after = order(found).tobytes(), order(other).tobytes()
        if before in flatbuffer:
            return flatbuffer.replace(before, after)
    raise AssertionError("the mel matrix is not in the file as it is; look for it otherwise")


def test_a_front_end_that_differs_from_training_is_caught(flatbuffer, tmp_path, monkeypatch):
    corrupted = with_other_front_end(flatbuffer)
    monkeypatch.setattr(pipeline, "_convert_in_subprocess", converting_to(corrupted))
    message = refused(tmp_path)
    assert re.search(r"differs from the bundle by \S+ on the self-test", message)
    assert "nothing was written" in message


def test_the_file_with_another_front_end_would_have_run(flatbuffer):
    interpreter = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter.Interpreter(model_content=with_other_front_end(flatbuffer)).allocate_tensors()


def test_recordings_catch_what_the_self_test_lets_pass(flatbuffer, tmp_path, monkeypatch):
    corrupted = with_other_front_end(flatbuffer)
    monkeypatch.setattr(pipeline, "_convert_in_subprocess", converting_to(corrupted))
    monkeypatch.setattr(pipeline, "_selftest_difference", lambda recognizer, bundle: 0.0)
    assert "on 2 recordings" in refused(tmp_path, check=labelled([sweep(16000), noise(9000)]))


@pytest.mark.parametrize("answer", [np.full(4, np.nan), np.zeros(3), np.full((4, 1), 0.25)])
def test_an_answer_of_no_use_is_caught(flatbuffer, tmp_path, monkeypatch, answer):
    monkeypatch.setattr(Recognizer, "run", lambda self, waveform: answer.astype(np.float32))
    assert "differs" in refused(tmp_path)


def test_the_self_test_of_the_bundle_is_what_the_file_is_held_against(flatbuffer, tmp_path):
    waveform, expected = read_selftest(shared_bundle("two-way"))
    actual = Recognizer(shared_tflite("two-way")).run(waveform)
    result = export_bundle(shared_bundle("two-way"), tmp_path / "m.tflite")
    assert result.selftest_difference == pytest.approx(np.abs(actual - expected[0]).max())


# ------------------------------------------------------------------ the converter fails


@pytest.mark.parametrize(
    ("script", "words"),
    [
        ("kill -SEGV $$", ["signal 11", "it said nothing"]),
        ("kill -KILL $$", ["signal 9"]),
        ("echo line one >&2; echo 'Error: no kernel for X' >&2; exit 3", ["exit 3", "no kernel"]),
        ("printf 'broken \\377 bytes' >&2; exit 1", ["exit 1", "broken"]),
        ("exit 0", ["exit 0"]),
        ('echo "backend $KERAS_BACKEND" >&2; exit 1', ["backend tensorflow"]),
    ],
)
def test_a_converter_that_dies_is_an_error_and_leaves_no_file(tmp_path, monkeypatch, script, words):
    monkeypatch.setenv("KERAS_BACKEND", os.environ.get("KERAS_BACKEND", "jax"))
    monkeypatch.setattr(pipeline, "CONVERTER", ("/bin/sh", "-c", script))
    message = refused(tmp_path)
    assert all(word in message for word in (*words, "nothing was written")), message


def test_a_converter_that_hangs_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "CONVERTER", ("/bin/sh", "-c", "exec sleep 60"))
    monkeypatch.setattr(pipeline, "CONVERSION_TIMEOUT_S", 0.2)
    assert "took longer than 0.2 s" in refused(tmp_path)


def test_a_broken_bundle_is_refused_before_anything_is_converted(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "CONVERTER", ("/bin/false",))
    with pytest.raises(ModelError, match="no such bundle"):
        export_bundle(tmp_path / "missing", tmp_path / "m.tflite")


# ------------------------------------------------------------------ where it is written


def test_an_existing_file_is_kept_unless_replacing_is_wanted(flatbuffer, tmp_path):
    out = tmp_path / "m.tflite"
    out.write_bytes(b"precious")
    with pytest.raises(OutputError, match=r"m\.tflite: exists; choose another name, or pass --f"):
        export_bundle(shared_bundle("two-way"), out)
    assert out.read_bytes() == b"precious"
    export_bundle(shared_bundle("two-way"), out, overwrite=True)
    assert out.read_bytes() == shared_tflite("two-way").read_bytes()
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]


def test_a_place_that_cannot_be_written_is_refused_before_the_conversion(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "CONVERTER", ("/bin/false",))
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for out, words in (
        (tmp_path, "is a folder, expected a file name"),
        (tmp_path / "file" / "m.tflite", "is no folder that you may write to"),
        (tmp_path / "dangling", "exists; choose another name"),
        (tmp_path / ("x" * 300) / "m.tflite", "cannot be written"),
    ):
        with pytest.raises(OutputError, match=words) as caught:
            export_bundle(shared_bundle("two-way"), out)
        assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_the_old_file(flatbuffer, tmp_path, monkeypatch):
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    out = tmp_path / "m.tflite"
    out.write_bytes(b"precious")
    monkeypatch.setattr("speechrnn.files.os.fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        export_bundle(shared_bundle("two-way"), out, overwrite=True)
    assert out.read_bytes() == b"precious"
    assert [path.name for path in tmp_path.iterdir()] == ["m.tflite"]


def test_a_link_and_a_pipe_are_written_to_and_not_replaced(tmp_path):
    """As /dev/stdout is a link and /dev/null a device: root would replace them by a file."""
    (tmp_path / "file").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    write_atomically(tmp_path / "link", b"new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_bytes() == b"new"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(tmp_path / "pipe", b"through")
    assert os.read(reader, 100) == b"through"
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
    with pytest.raises(OutputError, match="Is a directory"):
        write_atomically(tmp_path, b"")


def test_missing_folders_are_made(flatbuffer, tmp_path):
    assert export_bundle(shared_bundle("two-way"), tmp_path / "a" / "b.tflite").path.is_file()


# ------------------------------------------------------------------ the wide grid, a minute a row

FEATURES: dict[str, dict[str, Any]] = {
    "log-mel": {"num_coefficients": 0, "normalisation": "none"},
    "one-delta": {"deltas": 1, "normalisation": "utterance"},
    "two-deltas": {"deltas": 2, "normalisation": "training"},
    "htk-13": {"mel_scale": "htk", "num_coefficients": 13, "normalisation": "none"},
    "8-kHz": {"sample_rate_hz": 8000, "fft_length": 256, "high_hz": 3800.0, "num_mels": 20,
              "num_coefficients": 12},
    "odd-hop": {"hop_ms": 7.5, "window_ms": 30.0, "window_shape": "rectangular"},
}  # fmt: skip
GRID = [
    *((f"features-{name}", {**MODELS["two-way"], "features": f}) for name, f in FEATURES.items()),
    *(
        (
            f"{encoder}-{case}-{head}-{variant}",
            {
                "features": {"normalisation": "utterance", "num_coefficients": 13},
                "encoder": {"type": encoder, **encoder_settings},
                "head": {"type": head, **head_settings},
            },
        )
        for encoder, cases in ENCODER_SETTINGS.items()
        for case, encoder_settings in cases.items()
        for head, variants in HEAD_SETTINGS.items()
        for variant, head_settings in variants.items()
    ),
]


@pytest.mark.heavy
@pytest.mark.parametrize("sections", [s for _, s in GRID], ids=[name for name, _ in GRID])
def test_every_kind_of_model_exports_and_answers_as_keras_does(tmp_path, sections):
    bundle = save(make_model(sections), tmp_path / "bundle")
    waveforms = [make(length, 3) for length in LENGTHS for make in (sweep, noise)]
    result = export_bundle(bundle, tmp_path / "m.tflite", check=labelled(waveforms))
    assert result.comparison is not None
    assert result.comparison.formats[0].largest_difference < TOLERANCE


@pytest.mark.heavy
def test_the_converter_really_runs_in_a_process_of_its_own(tmp_path):
    command = list(pipeline.CONVERTER)
    assert command[0] == sys.executable
    assert export_bundle(shared_bundle("one-way"), tmp_path / "m.tflite").num_bytes > 10_000


def test_the_tokens_of_an_exported_sequence_model_are_its_best_path():
    file = shared_tflite("sequences")
    interpreter = Interpreter(model_content=read_metadata(file).model)
    for waveform in (sweep(16000), noise(4321), sweep(400)):
        interpreter.resize_tensor_input(
            interpreter.get_input_details()[0]["index"], [1, len(waveform)]
        )
        answer = interpreter.get_signature_runner("serve")(waveform=waveform[None])
        assert answer["tokens"].dtype == np.int32
        assert tuple(answer["tokens"].tolist()) == greedy(answer["log_probs"][0]).ids
    assert len(Recognizer(file).run(sweep(16000))) == 25


def test_bundle_and_file_of_a_sequence_model_hear_the_same():
    ours, theirs = Recognizer(shared_tflite("sequences")), shared_recognizer("sequences")
    waveforms = [sweep(16000), noise(9000), sweep(30000, seed=3)]
    for one, other in zip(
        ours.transcribe_many(waveforms), theirs.transcribe_many(waveforms), strict=True
    ):
        assert one.text == other.text
        assert [w.text for w in one.words] == [w.text for w in other.words]
        assert [w.start for w in one.words] == [w.start for w in other.words]
        assert one.confidence == pytest.approx(other.confidence, abs=1e-4)
