"""A stream's step as C: what is in the array, and what the header says of it."""

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from conftest import call
from model_fixtures import folder, make_model, save, shared_tflite, sweep

from speechrnn.errors import ExportError
from speechrnn.export import export_bundle, pipeline
from speechrnn.export.microcontroller import MICRO_OPERATORS, _method, _text, step_of, write_c
from speechrnn.flatbuffer import Graph
from speechrnn.runtime import FileInfo, read_metadata
from speechrnn.runtime.streaming import MOST_CALLS

SECTIONS = {
    "features": {"normalisation": "training", "num_coefficients": 13},
    "encoder": {
        "type": "gru",
        "bidirectional": False,
        "units": 6,
        "num_layers": 1,
        "spectral_filters": 3,
        "spectral_channels": 6,
        "spectral_blocks": 1,
        "spectral_width": 7,
    },
    "head": {"type": "classification", "attention_units": 7},
}


@pytest.fixture(scope="module")
def bundle() -> Path:
    return save(make_model(SECTIONS), folder() / "microcontroller")


@pytest.fixture(scope="module")
def info(bundle: Path) -> FileInfo:
    return read_metadata(
        export_bundle(bundle, folder() / "microcontroller.tflite", streaming=True).path
    )


def test_the_step_alone_answers_as_the_signature_of_the_file(info):
    step, how = step_of(info), info.metadata["streaming"]
    whole = Interpreter(model_content=info.model).get_signature_runner(how["signature"])
    alone = Interpreter(model_content=step.model)
    alone.allocate_tensors()
    samples = sweep(how["context"] + 5 * how["chunk"])[None]
    states = {f"state_{n}": np.zeros(s, np.float32) for n, s in enumerate(how["states"])}
    for position in range(5):
        at = how["context"] + position * how["chunk"]
        given = {
            **states,
            "samples": samples[:, at - how["context"] : at],
            "waveform": samples[:, at : at + how["chunk"]],
            "position": np.array(position, np.int32),
            "num_frames": np.array(2**30, np.int32),
        }
        expected = whole(**given)
        for name, detail in zip(step.inputs, alone.get_input_details(), strict=True):
            alone.set_tensor(detail["index"], given[name])
        alone.invoke()
        for name, detail in zip(step.outputs, alone.get_output_details(), strict=True):
            np.testing.assert_allclose(alone.get_tensor(detail["index"]), expected[name], atol=1e-6)
        states = {name: expected[name].copy() for name in states}


def test_the_step_has_no_loop_no_open_shape_and_no_division_of_integers(info):
    step = step_of(info)
    graph = Graph(step.model)
    assert len(graph.subgraphs) == 1
    assert set(step.operators) <= set(MICRO_OPERATORS)
    for tensor in graph.subgraphs[0].tensors:
        assert tensor.shapeSignature is None or min(tensor.shapeSignature, default=0) >= 0


def test_the_arena_holds_what_one_operator_needs_and_less_than_all_together(info):
    step = step_of(info)
    (main,) = Graph(step.model).subgraphs

    def size(places):
        shapes = [main.tensors[int(i)].shape for i in places if i >= 0]
        return sum(4 * int(np.prod([] if shape is None else shape)) for shape in shapes)

    one = max(size(operator.outputs) for operator in main.operators) + size(main.inputs)
    every = sum(size(operator.outputs) for operator in main.operators)
    assert one < step.arena_bytes < every + 4096 + 200 * len(main.tensors)


def test_the_array_is_the_model_and_the_header_numbers_its_interface(info, tmp_path):
    header = tmp_path / "my words-2.h"
    step = write_c(info, header)
    source, text = header.with_suffix(".c").read_text(), header.read_text()
    array = source.partition("{")[2].partition("}")[0]
    assert bytes(int(byte, 16) for byte in array.replace(",", " ").split()) == step.model
    assert '"\\330\\247' in source  # an Arabic label
    for number, name in enumerate(step.inputs):
        assert f"#define MY_WORDS_2_INPUT_{name.upper()} {number}\n" in text
    for key, number in (
        ("FRAMES", info.metadata["streaming"]["frames"]),
        ("MOST_CALLS", MOST_CALLS),
    ):
        assert f"#define MY_WORDS_2_{key} {number}\n" in text
    added = re.findall(r"resolver\.Add(\w+)\(\);", text)
    assert len(added) == len(step.operators)
    assert {"Conv2D", "FullyConnected", "StridedSlice"} <= set(added)


def test_a_c_and_a_cpp_compiler_take_them(info, tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler")
    write_c(info, tmp_path / "words.h")
    strict = [compiler, "-std=c99", "-Wall", "-Wextra", "-Werror", "-fsyntax-only"]
    subprocess.run([*strict, tmp_path / "words.c"], check=True)


def test_the_command_writes_both_and_replaces_neither(bundle, info, tmp_path, monkeypatch):
    monkeypatch.setattr(
        pipeline, "export_bundle", lambda _, out, **options: shutil.copyfile(info.path, out)
    )
    place = tmp_path / "words.h"
    done = call("export", bundle, "--to", place, "--streaming")
    assert done.status == 0, done.err
    assert "kB" in done.out
    assert place.with_suffix(".c").stat().st_size > 100_000
    place.unlink()
    again = call("export", bundle, "--to", place, "--streaming")
    assert again.status == 2
    assert "words.c: exists" in again.err


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "add --streaming"),
        (("--streaming", "--quantize", "dynamic"), "in float32"),
        (("--streaming", "--batch"), "no --batch"),
    ],
)
def test_the_command_refuses_what_a_microcontroller_cannot_run(bundle, tmp_path, words, reason):
    done = call("export", bundle, "--to", tmp_path / "words.h", *words)
    assert done.status == 2
    assert reason in done.err
    assert not list(tmp_path.iterdir())


def test_a_file_without_a_step_is_refused():
    with pytest.raises(ExportError, match="--streaming"):
        step_of(read_metadata(shared_tflite("two-way")))


def test_texts_and_names_in_c():
    assert _text('a"\\?1') == '"a\\042\\134\\0771"'
    assert [_method(kind) for kind in ("CONV_2D", "SELECT_V2", "ADD")] == [
        "Conv2D",
        "SelectV2",
        "Add",
    ]
