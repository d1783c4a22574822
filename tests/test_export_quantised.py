"""Exporting with smaller numbers, and the self-test that a file carries."""

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from model_fixtures import (
    LABELS,
    labelled,
    noise,
    save,
    shared_bundle,
    shared_recognizer,
    shared_tflite,
    sweep,
)

from speechrnn.cli import main
from speechrnn.encoders import ENCODERS
from speechrnn.errors import ExportError, LabelError, ModelError
from speechrnn.export import export_bundle, pipeline, quantise
from speechrnn.export.check import Comparison, describe
from speechrnn.heads import HEADS
from speechrnn.model import ModelConfig, build_model
from speechrnn.recognize import describe_model, load_model
from speechrnn.runtime import Recognizer, read_metadata
from speechrnn.runtime.metadata import pack
from speechrnn.runtime.selftest import selftest_waveform

CONVERT = pipeline._convert_in_subprocess
RECORDINGS = [make(9000 + 1000 * n, n) for n in range(4) for make in (sweep, noise)]
# Mean over all probabilities of what smaller numbers change.
LARGEST_MEAN = {"float16": 0.003, "dynamic": 0.03, "int8": 0.03, "int4": 0.075}
SMALLER = tuple(LARGEST_MEAN)


@pytest.fixture(scope="module", autouse=True)
def converted():
    """The bundle "wide", converted once; from here on in no time."""
    bundle = shared_bundle("wide")
    made = CONVERT(bundle, False, False, None)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            pipeline,
            "_convert_in_subprocess",
            lambda b, *flags: made if b == bundle else CONVERT(b, *flags),
        )
        yield


def exported(
    folder: Path, quantize: pipeline.Quantization, **options: Any
) -> pipeline.ExportResult:
    return export_bundle(
        shared_bundle("wide"),
        folder / f"{quantize}.tflite",
        quantize=quantize,
        calibration=RECORDINGS if quantize == "int8" else (),
        **options,
    )


@pytest.mark.parametrize("quantize", SMALLER)
def test_a_quantised_file_answers_nearly_as_the_bundle_and_says_what_it_is(tmp_path, quantize):
    result = exported(tmp_path, quantize)
    assert 0 < result.selftest_difference < pipeline.TOLERANCES[quantize]
    assert read_metadata(result.path).metadata["quantization"] == quantize
    expected = shared_recognizer("wide").answer_many(RECORDINGS)
    found = load_model(result.path).answer_many(RECORDINGS)
    mean = np.abs(np.array(found) - np.array(expected)).mean()
    assert mean < LARGEST_MEAN[quantize]


@pytest.mark.heavy
@pytest.mark.parametrize("head", HEADS.names())
@pytest.mark.parametrize("encoder", ENCODERS.names())
def test_every_encoder_and_head_answers_nearly_as_the_bundle_in_every_quantisation(
    tmp_path, encoder, head, monkeypatch
):
    sections = {
        "features": {"normalisation": "utterance"},
        "encoder": {"type": encoder},
        "head": {"type": head},
    }
    # Weights as at the beginning: where all are large, what attention picks is a matter of luck.
    # Then all labels are nearly alike, so that probabilities are compared and not what is said.
    model = build_model(ModelConfig.from_mapping(sections), LABELS, seed=1)
    bundle = save(model, tmp_path / "bundle")
    made = CONVERT(bundle, False, False, None)
    monkeypatch.setattr(pipeline, "_convert_in_subprocess", lambda *_: made)
    for quantize in ("none", *SMALLER):
        calibration = RECORDINGS if quantize == "int8" else ()
        out = tmp_path / f"{quantize}.tflite"
        result = export_bundle(bundle, out, quantize=quantize, calibration=calibration)
        assert result.selftest_difference < pipeline.TOLERANCES[quantize]
        assert np.isfinite(Recognizer(out).run(noise(20000))).all()


def test_smaller_numbers_make_smaller_files(tmp_path):
    sizes = {q: weights_of(exported(tmp_path, q).path) for q in ("none", *SMALLER)}
    assert sizes["int4"] < sizes["dynamic"] < sizes["float16"] < sizes["none"]
    assert sizes["int8"] < 1.2 * sizes["dynamic"]


def weights_of(file: Path) -> int:
    return sum(describe_model(file)["weights_bytes"].values())


@pytest.mark.parametrize("quantize", SMALLER)
@pytest.mark.parametrize("seconds", [0.02, 1, 60])
def test_a_quantised_file_runs_at_every_length(tmp_path, quantize, seconds):
    recognizer = Recognizer(exported(tmp_path, quantize).path)
    answer = recognizer.run(noise(round(16000 * seconds)))
    assert answer.sum() == pytest.approx(1, abs=1e-3)


def test_the_front_end_is_the_same_in_every_file(tmp_path):
    whole = describe_model(exported(tmp_path, "none").path)
    for quantize in SMALLER:
        found = describe_model(exported(tmp_path, quantize).path)
        for kind in ("DEPTHWISE_CONV_2D", "LOG", "MAXIMUM"):
            assert found["operators"]["float32"][kind] == whole["operators"]["float32"][kind]


def test_what_is_integer_in_an_int8_file_can_be_read_off(tmp_path, capsys):
    file = exported(tmp_path, "int8").path
    assert main(["info", str(file), "--selftest"]) == 0
    shown = capsys.readouterr().out
    assert "quantised   int8" in shown
    assert "computes    int8: ADD=" in shown
    assert "self-test   within" in shown


def test_int8_without_recordings_is_refused(tmp_path):
    with pytest.raises(ExportError, match=r"int8 needs recordings .* expected --calibrate DATA"):
        export_bundle(shared_bundle("wide"), tmp_path / "m.tflite", quantize="int8")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_quantisation_is_refused(tmp_path):
    with pytest.raises(ExportError, match="got 'int2', expected one of none, float16, dynamic"):
        export_bundle(shared_bundle("wide"), tmp_path / "m.tflite", quantize="int2")  # type: ignore[arg-type]


def test_a_check_measures_every_format_beside_the_one_that_is_asked_for(tmp_path):
    shown: list[Comparison] = []
    texts = [found.text for found in shared_recognizer("wide").transcribe_many(RECORDINGS)]
    texts[0] = "go" if texts[0] == "no" else "no"
    result = exported(tmp_path, "int8", check=labelled(RECORDINGS, texts), show=shown.append)
    assert shown == [result.comparison]
    comparison = shown[0]
    assert comparison.accuracy == 7 / 8
    assert [row.quantization for row in comparison.formats] == [
        "int8", "none", "float16", "dynamic", "int4"
    ]  # fmt: skip
    sizes = {row.quantization: row.num_bytes for row in comparison.formats}
    assert sizes["int4"] < sizes["dynamic"] < sizes["float16"] < sizes["none"]
    for row in comparison.formats:
        assert 0 < row.largest_difference < pipeline.TOLERANCES[row.quantization]
        assert row.clip_ms > 0
        assert row.real_time_factor > 0
        assert row.peak_mb is None or 20 < row.peak_mb < 500
        assert comparison.loss(row) == pytest.approx(comparison.accuracy - row.accuracy)
    lines = list(describe(comparison))
    assert lines[0] == "on 8 recordings; the bundle: accuracy 87.50 %"
    assert [line.split()[0] for line in lines[2:7]] == ["*", "none", "float16", "dynamic", "int4"]


def test_what_a_check_cannot_make_is_said(tmp_path):
    result = exported(tmp_path, "dynamic", check=labelled(RECORDINGS[:2]))
    assert result.comparison is not None
    assert "int8" not in [row.quantization for row in result.comparison.formats]
    assert list(result.comparison.left_out) == ["int8"]
    assert "  int8     not made: needs recordings" in "\n".join(describe(result.comparison))


def test_a_file_that_loses_too_much_is_not_written(tmp_path, monkeypatch):
    ruin = lambda content, width: ruined(content)  # noqa: E731
    monkeypatch.setattr(quantise, "with_smaller_weights", ruin)
    monkeypatch.setattr(pipeline, "_selftest_difference", lambda recognizer, bundle: 0.0)
    texts = [found.text for found in shared_recognizer("wide").transcribe_many(RECORDINGS)]
    shown: list[Comparison] = []
    check = labelled(RECORDINGS, texts)
    with pytest.raises(ExportError, match=r"loses \S+ points of accuracy on 8 .* at most 1; noth"):
        exported(tmp_path, "dynamic", check=check, show=shown.append)
    assert list(tmp_path.iterdir()) == []
    (comparison,) = shown
    assert len(comparison.disagreements) == comparison.formats[0].disagreements > 0
    other = comparison.disagreements[0]
    assert other.truth == other.bundle != other.file
    assert f"the bundle heard {other.bundle!r}, the file {other.file!r}" in str(
        list(describe(comparison))
    )
    assert exported(tmp_path, "dynamic", check=check, max_loss=1.0).path.is_file()


def test_a_check_on_a_text_that_is_no_label_is_refused(tmp_path):
    with pytest.raises(LabelError, match=r"0\.wav: unknown label 'perhaps'"):
        exported(tmp_path, "dynamic", check=labelled(RECORDINGS[:1], ["perhaps"]))
    assert list(tmp_path.iterdir()) == []


def test_a_licence_and_an_attribution_stand_in_the_file(tmp_path, capsys):
    about = {"licence": "CC BY 4.0", "attribution": "Warden 2018"}
    file = exported(tmp_path, "dynamic", about=about).path
    assert main(["info", str(file)]) == 0
    shown = capsys.readouterr().out
    assert "  licence     CC BY 4.0\n  attribution Warden 2018\n" in shown


def test_what_the_converter_says_goes_to_a_log(tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline, "_convert_in_subprocess", CONVERT)
    monkeypatch.setattr(pipeline, "CONVERTER", ("/bin/sh", "-c", "echo noise; echo no >&2; exit 3"))
    with pytest.raises(ExportError, match=r"\(exit 3\): no; nothing .* is in .*c\.log"):
        exported(tmp_path, "none", log=tmp_path / "c.log")
    assert (tmp_path / "c.log").read_text() == "noise\nno\n"
    with pytest.raises(ExportError, match="is in") as caught:
        exported(tmp_path, "none")
    kept = Path(str(caught.value).split(" is in ")[1])
    assert kept.read_text() == "noise\nno\n"
    kept.unlink()


def test_ruined_weights_fail_the_self_test(tmp_path, monkeypatch):
    monkeypatch.setattr(quantise, "with_smaller_weights", lambda content, width: ruined(content))
    with pytest.raises(ExportError, match=r"differs .* on the self-test.*\(--quantize\)$"):
        exported(tmp_path, "int4")


def ruined(content: bytes) -> bytes:
    """Every large weight ten times as large."""
    from speechrnn.export.weights import weights
    from speechrnn.flatbuffer import Graph

    graph = Graph(content)
    for subgraph, index, _ in weights(graph):
        tensor = subgraph.tensors[index]
        graph.set_constant(tensor, -10 * graph.constant(tensor), tensor.type)
    return graph.to_bytes()


# ------------------------------------------------------------------ on the command line


@pytest.fixture
def recordings(tmp_path: Path) -> Path:
    """A folder per label, at another rate than the model's."""
    for n, label in enumerate(("yes", "no", "go")):
        (tmp_path / "data" / label).mkdir(parents=True)
        sound = sweep(9000, n)
        soundfile.write(tmp_path / "data" / label / "a.wav", sound, 22050)
    return tmp_path / "data"


def test_recordings_of_another_rate_calibrate(tmp_path, recordings, capsys):
    out = tmp_path / "m.tflite"
    call = ["export", str(shared_bundle("wide")), "--to", str(out), "--quantize", "int8"]
    assert main([*call, "--calibrate", str(recordings), "--check", str(recordings)]) == 0
    assert "on 3 recordings" in capsys.readouterr().out
    assert read_metadata(out).metadata["quantization"] == "int8"


def test_int8_without_calibration_is_one_line(tmp_path, capsys):
    out = tmp_path / "m.tflite"
    call = ["export", str(shared_bundle("wide")), "--to", str(out), "--quantize", "int8"]
    assert main(call) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "--calibrate DATA" in error
    assert not out.exists()


def test_calibration_data_without_audio_is_one_line(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    out = tmp_path / "m.tflite"
    call = ["export", str(shared_bundle("wide")), "--to", str(out), "--quantize", "int8"]
    assert main([*call, "--calibrate", str(tmp_path / "empty")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not out.exists()


# ------------------------------------------------------------------ the self-test in the file


def test_the_self_test_s_sound_is_the_documented_one():
    states, state = [], 1
    for _ in range(4):
        state = (1664525 * state + 1013904223) % 2**32
        states.append(state)
    assert states[0] == 1015568748
    expected = [((state >> 16) - 32768) / 327680 for state in states]
    np.testing.assert_array_equal(selftest_waveform(4), np.array(expected, np.float32))


@pytest.mark.parametrize("name", ["two-way", "sequences"])
def test_a_file_passes_its_own_self_test(name):
    assert Recognizer(shared_tflite(name)).selftest() < 1e-5
    assert load_model(shared_bundle(name)).selftest() < 1e-5


def edited(path: Path, **changes: object) -> Path:
    """``two-way.tflite`` with other metadata; None takes a key away."""
    found = read_metadata(shared_tflite("two-way"))
    ours = {"format", "format_version", "model_bytes", "model_sha256", "labels"}
    kept = {key: value for key, value in found.metadata.items() if key not in ours}
    kept = {key: value for key, value in {**kept, **changes}.items() if value is not None}
    path.write_bytes(pack(found.model, kept, found.labels))
    return path


def test_a_device_that_computes_something_else_is_told(tmp_path, capsys):
    recorded = read_metadata(shared_tflite("two-way")).metadata["selftest"]
    probabilities = list(reversed(recorded["probabilities"]))
    file = edited(tmp_path / "m.tflite", selftest={**recorded, "probabilities": probabilities})
    with pytest.raises(ModelError, match="self-test differs by"):
        Recognizer(file).selftest()
    assert main(["info", str(file), "--selftest"]) == 2
    assert "computes something else" in capsys.readouterr().err


def test_a_file_of_an_older_speechrnn_has_none(tmp_path):
    with pytest.raises(ModelError, match="carries no self-test"):
        Recognizer(edited(tmp_path / "m.tflite", selftest=None)).selftest()


def test_another_decision_keeps_the_self_test_true(tmp_path):
    found = read_metadata(shared_tflite("two-way"))
    decision = dataclasses.asdict(dataclasses.replace(found.decision, threshold=0.9))
    file = edited(tmp_path / "m.tflite", decision=json.loads(json.dumps(decision)))
    assert Recognizer(file).selftest() < 1e-5


# ------------------------------------------------------------------ numpy and LiteRT, nothing else

CLIENT = Path(__file__).parents[1] / "export" / "README.md"
# What numpy and ai-edge-litert import of their own accord.
ALONE = ("numpy", "numpy.libs", "ai_edge_litert", "flatbuffers", "backports", "ml_dtypes")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of installed packages with little in it."""
    site = tmp_path_factory.mktemp("site")
    installed = Path(np.__file__).parents[1]
    for name in ALONE:
        if (installed / name).exists():
            (site / name).symlink_to(installed / name)
    return site


def in_bare(site: Path, program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """A program in a Python that knows its own library and ``site`` alone."""
    start = f"import sys; sys.path.append({str(site)!r})\n"
    command = [sys.executable, "-I", "-S", "-c", start + program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_the_bare_environment_has_neither_speechrnn_nor_tensorflow(bare):
    for name in ("speechrnn", "tensorflow", "keras", "soundfile", "scipy"):
        done = in_bare(bare, f"import {name}")
        assert f"No module named {name!r}" in done.stderr
    assert in_bare(bare, "import numpy, ai_edge_litert.interpreter").returncode == 0


@pytest.mark.parametrize("quantize", ["none", *SMALLER])
def test_the_client_of_the_documents_runs_every_file_with_numpy_and_litert_alone(
    tmp_path, bare, quantize
):
    (program,) = re.findall(r"```python\n(.*?)```", CLIENT.read_text("utf-8"), re.DOTALL)
    file, sound = exported(tmp_path, quantize).path, tmp_path / "a.wav"
    waveform = np.round(sweep(16000) * 32767).astype(np.int16)
    soundfile.write(sound, waveform, 16000, subtype="PCM_16")
    done = in_bare(bare, program, file, sound)
    assert done.returncode == 0, done.stderr
    label, confidence = done.stdout.split("\t")
    found = load_model(file).transcribe(sound)
    assert (label, float(confidence)) == (found.text, pytest.approx(found.confidence, abs=1e-3))
