import io
import json
import os
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from model_fixtures import LABELS, noise, shared_bundle, shared_tflite, sweep

from speechrnn.bundle import read_bundle
from speechrnn.errors import AudioError, ModelError
from speechrnn.quiet import quiet_stderr
from speechrnn.recognize import describe_model, load_model
from speechrnn.runtime import Recognizer, read_metadata
from speechrnn.runtime.metadata import pack

# A flatbuffer as far as its metadata is concerned, and the least that a file says.
FLATBUFFER = b"\x20\x00\x00\x00TFL3" + bytes(range(256)) * 20
LEAST = {"features": {"sample_rate_hz": 16000}, "min_samples": 400}


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def repack(entries: dict[str, bytes], model: bytes = FLATBUFFER) -> bytes:
    """A flatbuffer with an archive that any zip program could have written."""
    buffer = io.BytesIO(model)
    buffer.seek(0, io.SEEK_END)
    with zipfile.ZipFile(buffer, "a", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def entries_of(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def edited(**changes: Any) -> bytes:
    """A packed file whose speechrnn.json was edited with a zip program; ``...`` removes a key."""
    entries = entries_of(pack(FLATBUFFER, LEAST, LABELS))
    document = {**json.loads(entries["speechrnn.json"]), **changes}
    kept = {key: value for key, value in document.items() if value is not ...}
    return repack({**entries, "speechrnn.json": json.dumps(kept).encode()})


def refused(path: Path, function: Any = read_metadata) -> str:
    with pytest.raises(ModelError) as caught:
        function(path)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


# ------------------------------------------------------------------ the file


def test_what_is_packed_is_read_again(tmp_path):
    metadata = {**LEAST, "metrics": {"val": {"accuracy": 0.9}}, "name": "العربية"}
    found = read_metadata(str(write(tmp_path / "m.tflite", pack(FLATBUFFER, metadata, LABELS))))
    assert found.model == FLATBUFFER
    assert found.labels == LABELS
    assert {key: found.metadata[key] for key in metadata} == metadata


def test_the_same_model_packs_to_the_same_bytes():
    assert pack(FLATBUFFER, LEAST, LABELS) == pack(FLATBUFFER, LEAST, LABELS)


def test_the_file_is_a_flatbuffer_and_a_zip_for_programs_of_others(tmp_path):
    path = write(tmp_path / "m.tflite", pack(FLATBUFFER, LEAST, LABELS))
    assert path.read_bytes().startswith(FLATBUFFER)
    with zipfile.ZipFile(path) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["labels.txt", "speechrnn.json"]
        lines = archive.read("labels.txt").decode().splitlines()
        assert json.loads(archive.read("speechrnn.json"))["labels"] == lines
        # Stored, not deflated: a client in C finds the text with a search.
        assert {entry.compress_type for entry in archive.infolist()} == {zipfile.ZIP_STORED}
    assert lines == list(LABELS.symbols)


def test_an_exported_file_is_a_zip_and_says_what_it_takes_and_gives():
    with zipfile.ZipFile(shared_tflite("two-way")) as archive:
        document = json.loads(archive.read("speechrnn.json"))
    assert document["input"] == {"name": "waveform", "dtype": "float32", "shape": [1, "samples"]}
    assert document["output"]["name"] == "probabilities"
    assert document["features"]["sample_rate_hz"] == 16000
    assert document["labels"] == list(LABELS.symbols)


# ------------------------------------------------------------------ files that are no model


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "missing.tflite: no such model" in refused(tmp_path / "missing.tflite")
    assert "cannot be read as a model (Is a directory" in refused(tmp_path)


@pytest.mark.parametrize(
    "content", [b"", b"TFL3", b"RIFF\x00\x00\x00\x00WAVEfmt ", b"PK\x03\x04", b"hello" * 100]
)
def test_a_file_that_is_no_tflite_is_refused(tmp_path, content):
    assert "is no TFLite model" in refused(write(tmp_path / "m.tflite", content))


@pytest.mark.parametrize("keep", [8, 100, 0.5, 0.9, 0.99, 0.9999])
def test_a_truncated_file_is_refused(tmp_path, keep):
    content = pack(FLATBUFFER, LEAST, LABELS)
    size = keep if keep > 1 else int(keep * len(content))
    assert "cut short" in refused(write(tmp_path / "m.tflite", content[:size]))


@pytest.mark.parametrize(
    "content",
    [
        FLATBUFFER,
        repack({"labels.txt": b"yes\nno\n"}),
        repack({"speechrnn.json": b"{}"}),
        edited(format="somebody-else"),
        edited(format=...),
        repack({"speechrnn.json": b"[]", "labels.txt": b""}),
        repack({"speechrnn.json": b"\xff", "labels.txt": b""}),
        repack({"speechrnn.json": b"{", "labels.txt": b""}),
    ],
)
def test_a_model_of_another_program_is_refused(tmp_path, content):
    refused(write(tmp_path / "m.tflite", content))


def test_a_newer_file_is_refused_with_its_number(tmp_path):
    message = refused(write(tmp_path / "m.tflite", edited(format_version=7)))
    assert "file format 7, this speechrnn reads 1" in message


@pytest.mark.parametrize("place", [8, 1000, len(FLATBUFFER) - 1])
def test_an_edited_flatbuffer_is_refused(tmp_path, place):
    content = bytearray(pack(FLATBUFFER, LEAST, LABELS))
    content[place] ^= 1
    assert "was changed after it was exported" in refused(write(tmp_path / "m.tflite", content))


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": ["no", "yes", "العربية", "go"]},
        {"labels": ["yes", "no"]},
        {"labels": ["yes", "yes"]},
        {"labels": 4},
        {"labels": ...},
        {"features": {}},
        {"features": {"sample_rate_hz": "16000"}},
        {"features": {"sample_rate_hz": -1}},
        {"features": ...},
        {"min_samples": ...},
        {"min_samples": None},
        {"min_samples": 0},
        {"model_bytes": 100},
        {"model_bytes": "all"},
        {"model_bytes": ...},
        {"model_sha256": ...},
    ],
)
def test_edited_metadata_is_refused(tmp_path, changes):
    assert "export it again" in refused(write(tmp_path / "m.tflite", edited(**changes)))


def test_edited_labels_are_refused(tmp_path):
    entries = entries_of(pack(FLATBUFFER, LEAST, LABELS))
    content = repack({**entries, "labels.txt": b"go\nstop\n"})
    assert "was changed" in refused(write(tmp_path / "m.tflite", content))


def test_no_flipped_bit_changes_what_is_read_or_ends_in_a_traceback(tmp_path):
    content = pack(FLATBUFFER, LEAST, LABELS)
    path = write(tmp_path / "m.tflite", content)
    whole, rejected = read_metadata(path), 0
    for place in range(len(FLATBUFFER), len(content)):
        for bit in (0, 3, 7):
            damaged = bytearray(content)
            damaged[place] ^= 1 << bit
            path.write_bytes(damaged)
            try:
                found = read_metadata(path)
            except ModelError:
                rejected += 1
            else:
                assert found == whole
    assert rejected > 1000  # dates and other fields of a zip may change without harm


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA, 99])
def test_an_entry_that_is_not_compressed_as_it_says_is_a_model_error(tmp_path, method):
    content = bytearray(pack(FLATBUFFER, LEAST, LABELS))
    for signature, place in ((b"PK\3\4", 8), (b"PK\1\2", 10)):
        at = content.index(signature) + place
        content[at : at + 2] = method.to_bytes(2, "little")
    said = refused(write(tmp_path / "m.tflite", bytes(content)))
    assert "carries no metadata of speechrnn" in said


def test_a_flatbuffer_that_litert_refuses_is_a_model_error(tmp_path):
    path = write(tmp_path / "m.tflite", pack(b"\xff\xff\xff\x7fTFL3", LEAST, LABELS))
    assert "LiteRT cannot run it" in refused(path, Recognizer)


# ------------------------------------------------------------------ recognising


@pytest.fixture
def recognizer() -> Recognizer:
    return Recognizer(shared_tflite("two-way"))


def test_a_file_and_its_samples_get_the_same_transcript(recognizer, tmp_path):
    waveform = sweep(12345)
    soundfile.write(tmp_path / "clip.wav", waveform, 16000, subtype="FLOAT")
    from_file = recognizer.transcribe(tmp_path / "clip.wav")
    assert from_file == recognizer.transcribe(str(tmp_path / "clip.wav"))
    assert from_file == recognizer.transcribe(waveform)
    assert from_file == recognizer.transcribe(waveform.astype(np.float64))


def test_a_transcript_is_the_most_probable_label_over_the_whole_recording(recognizer):
    waveform = sweep(12345)
    probabilities = recognizer.run(waveform)
    transcript = recognizer.transcribe(waveform)
    assert transcript.text == LABELS.symbols[int(np.argmax(probabilities))]
    assert transcript.confidence == pytest.approx(probabilities.max())
    assert transcript.duration == 12345 / 16000
    (word,) = transcript.words
    assert (word.text, word.start, word.end) == (transcript.text, 0.0, transcript.duration)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_recordings_of_any_lengths_in_a_row_get_the_answers_of_fresh_interpreters(recognizer):
    lengths = (16000, 400, 48000, 401, 16000, 16000, 24001, 400)
    waveforms = [sweep(length, seed=i) for i, length in enumerate(lengths)]
    fresh = [Recognizer(shared_tflite("two-way")).run(waveform) for waveform in waveforms]
    np.testing.assert_array_equal([recognizer.run(waveform) for waveform in waveforms], fresh)
    # And without a memory of what came before.
    np.testing.assert_array_equal([recognizer.run(w) for w in waveforms[::-1]], fresh[::-1])


def test_many_recordings_get_their_transcripts_in_their_order(recognizer):
    waveforms = [sweep(9000), noise(16000), sweep(400)]
    assert recognizer.transcribe_many(waveforms) == [recognizer.transcribe(w) for w in waveforms]
    assert recognizer.transcribe_many([]) == []


def test_more_threads_answer_the_same(recognizer):
    several = Recognizer(shared_tflite("two-way"), num_threads=2)
    np.testing.assert_allclose(several.run(sweep(16000)), recognizer.run(sweep(16000)), atol=1e-6)


@pytest.mark.parametrize(
    "waveform",
    [
        np.zeros(0, np.float32),
        np.zeros(399, np.float32),
        np.zeros((2, 16000), np.float32),
        np.zeros(16000, np.int16),
        np.full(16000, np.nan, np.float32),
        1000 * np.ones(16000, np.float32),
    ],
)
def test_an_unusable_recording_is_refused_and_the_next_one_answered(recognizer, waveform):
    before = recognizer.transcribe(sweep(8000))
    with pytest.raises(AudioError):
        recognizer.transcribe(waveform)
    assert recognizer.transcribe(sweep(8000)) == before


class OutOfMemory:
    def __init__(self, interpreter: Any) -> None:
        self.interpreter, self.failing = interpreter, True

    def __getattr__(self, name: str) -> Any:
        return getattr(self.interpreter, name)

    def allocate_tensors(self) -> None:
        if self.failing:
            raise RuntimeError("failed to allocate memory")
        self.interpreter.allocate_tensors()


def test_a_recording_that_litert_cannot_take_is_an_error_and_the_next_one_is_answered(recognizer):
    before = recognizer.run(sweep(8000))
    recognizer._interpreter = OutOfMemory(recognizer._interpreter)
    with pytest.raises(ModelError, match=r"LiteRT failed on 9000 samples \(failed to allocate"):
        recognizer.run(sweep(9000))
    recognizer._interpreter.failing = False
    np.testing.assert_array_equal(recognizer.run(sweep(8000)), before)


def test_an_answer_that_is_no_number_is_an_error(recognizer, monkeypatch):
    monkeypatch.setattr(recognizer, "run", lambda waveform: np.full(4, np.nan, np.float32))
    with pytest.raises(ModelError, match="NaN"):
        recognizer.transcribe(sweep(8000))
    monkeypatch.setattr(recognizer, "run", lambda waveform: np.zeros(3, np.float32))
    with pytest.raises(ModelError, match=r"answered \[3\] values, expected \[4\]"):
        recognizer.transcribe(sweep(8000))


# ------------------------------------------------------------------ bundle and .tflite alike


def test_a_bundle_and_its_tflite_are_interchangeable(tmp_path):
    models = [load_model(path) for path in (shared_bundle("two-way"), shared_tflite("two-way"))]
    assert [type(model).__name__ for model in models] == ["KerasRecognizer", "Recognizer"]
    soundfile.write(tmp_path / "clip.flac", sweep(9000), 8000)
    for recording in (sweep(16000), noise(9001), tmp_path / "clip.flac"):
        first, second = (model.transcribe(recording) for model in models)
        assert (first.text, first.duration) == (second.text, second.duration)
        assert first.confidence == pytest.approx(second.confidence, abs=1e-4)
    for attribute in ("labels", "sample_rate_hz", "min_samples"):
        assert getattr(models[0], attribute) == getattr(models[1], attribute)


def test_both_describe_themselves_alike():
    bundle, tflite = (
        describe_model(path) for path in (shared_bundle("two-way"), shared_tflite("two-way"))
    )
    assert (bundle["kind"], tflite["kind"]) == ("bundle", "tflite")
    for key in ("labels", "features", "encoder", "head", "front_end", "num_parameters", "metrics"):
        assert bundle[key] == tflite[key]
    assert tflite["bundle_sha256"] == bundle["sha256"] == read_bundle(bundle["path"]).sha256


def test_what_is_no_model_is_refused_with_what_was_expected(tmp_path):
    (tmp_path / "folder").mkdir()
    for function in (load_model, describe_model):
        assert "bundle" in refused(tmp_path / "folder", function)
        refused(tmp_path / "missing", function)
        refused(tmp_path / ("x" * 300), function)
        refused(write(tmp_path / "note.txt", b"hello"), function)


# ------------------------------------------------------------------ light where it runs

BANNED = ("tensorflow", "keras", "librosa", "matplotlib", "jiwer", "scipy")
GUARD = f"""
import sys
class Guard:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {BANNED}:
            raise ImportError(name + " is not for here")
sys.meta_path.insert(0, Guard())
"""


def python(program: str, *arguments: Any, **options: Any) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    options = {"capture_output": True, "text": True, "check": False, **options}
    return subprocess.run(command, **options)


def recordings(folder: Path) -> list[Path]:
    soundfile.write(folder / "a.wav", sweep(16000), 16000)
    soundfile.write(folder / "b.flac", sweep(22050), 44100)
    return [folder / "a.wav", folder / "b.flac"]


def test_recognising_in_python_needs_neither_keras_nor_tensorflow(tmp_path):
    program = f"""{GUARD}
import numpy as np
import speechrnn
recognizer = speechrnn.Recognizer(sys.argv[1])
for path in sys.argv[2:]:
    print(recognizer.transcribe(path).text)
print(speechrnn.load_model(sys.argv[1]).transcribe(np.zeros(16000, np.float32)).text)
assert not [name for name in {BANNED} if name in sys.modules]
"""
    run = python(program, shared_tflite("two-way"), *recordings(tmp_path))
    assert (run.returncode, run.stderr) == (0, "")
    assert len(run.stdout.split()) == 3
    assert set(run.stdout.split()) <= set(LABELS.symbols)


def test_the_command_line_recognises_without_keras_or_tensorflow_and_says_no_more(tmp_path):
    program = f"""{GUARD}
from speechrnn.cli import main
status = main(["transcribe", *sys.argv[1:], "--format", "jsonl"])
assert main(["info", sys.argv[1]]) == 0
assert not [name for name in {BANNED} if name in sys.modules]
sys.exit(status)
"""
    paths = recordings(tmp_path)
    run = python(program, shared_tflite("two-way"), *paths)
    assert (run.returncode, run.stderr) == (0, "")
    records = [json.loads(line) for line in run.stdout.splitlines()[: len(paths)]]
    assert [record["audio_filepath"] for record in records] == list(map(str, paths))
    recognizer = Recognizer(shared_tflite("two-way"))
    assert [r["text"] for r in records] == [recognizer.transcribe(path).text for path in paths]


def test_help_and_version_import_no_numpy():
    program = """
import sys
from speechrnn.cli import main
try:
    main([sys.argv[1]])
except SystemExit as end:
    assert end.code in (0, None)
heavy = {"numpy", "soundfile", "soxr", "ai_edge_litert", "tqdm", "keras", "tensorflow"}
sys.exit(sorted(heavy & sys.modules.keys()) or 0)
"""
    for argument, expected in (("--help", "transcribe"), ("--version", "speechrnn 0")):
        run = python(program, argument)
        assert (run.returncode, run.stderr) == (0, "")
        assert expected in run.stdout


def test_it_works_where_standard_error_is_closed(tmp_path):
    program = "import sys, speechrnn; print(speechrnn.Recognizer(sys.argv[1]).labels.symbols[0])"
    arguments = [sys.executable, "-c", program, str(shared_tflite("two-way"))]
    shell = ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *arguments]
    run = subprocess.run(shell, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "yes\n")


# ------------------------------------------------------------------ silence


def stderr_target() -> str:
    return os.readlink("/proc/self/fd/2")


needs_proc = pytest.mark.skipif(
    not os.path.exists("/proc/self/fd/2"), reason="looks at file descriptors through /proc"
)


@needs_proc
def test_silence_ends_also_after_an_error_and_within_another_silence():
    before = stderr_target()
    with quiet_stderr():
        assert stderr_target() == os.devnull
        with pytest.raises(ZeroDivisionError), quiet_stderr():
            raise ZeroDivisionError
        assert stderr_target() == os.devnull
    assert stderr_target() == before
    with pytest.raises(ZeroDivisionError), quiet_stderr():
        raise ZeroDivisionError
    assert stderr_target() == before


@needs_proc
def test_threads_that_open_models_at_once_leave_standard_error_as_it_was():
    before, path, errors = stderr_target(), shared_tflite("two-way"), []

    def work() -> None:
        try:
            for _ in range(10):
                Recognizer(path)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert stderr_target() == before
