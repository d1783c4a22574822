"""Batch transcription: one record for each input, in order, whatever happens to single ones."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TINY_LABELS, Run, Write, tone

from speechrnn.decoding import Transcript, Word
from speechrnn.errors import AudioError, DataError
from speechrnn.recognize import load_model
from speechrnn.transcribe import WRITERS, find_inputs, transcribe_files

KEYS = ["audio_filepath", "status", "text", "confidence", "duration", "words", "error"]
EMPTY = {"text": None, "confidence": None, "duration": None, "words": []}


class Parrot:
    """A model that says two words about every recording but broken ones."""

    def transcribe(self, path: Path) -> Transcript:
        if "broken" in path.name:
            raise AudioError(path, "is broken")
        words = (Word("turn", 0.0, 1 / 3, 0.123456789), Word("on", 1 / 3, 0.5, 1.0))
        return Transcript("turn on", 0.123456789, 0.5, words)


# --- records


def test_a_record_has_the_promised_keys_and_rounded_values() -> None:
    (record,) = transcribe_files(Parrot(), [Path("a/b.wav")])  # type: ignore[arg-type]
    assert list(record) == KEYS
    assert record == {
        "audio_filepath": "a/b.wav",
        "status": "ok",
        "text": "turn on",
        "confidence": 0.123457,
        "duration": 0.5,
        "words": [
            {"text": "turn", "start": 0.0, "end": 0.3333, "confidence": 0.123457},
            {"text": "on", "start": 0.3333, "end": 0.5, "confidence": 1.0},
        ],
        "error": None,
    }


def test_a_broken_recording_is_a_record_among_the_others() -> None:
    paths = [Path("a.wav"), Path("broken.wav"), Path("a.wav")]
    records = list(transcribe_files(Parrot(), paths))  # type: ignore[arg-type]
    assert [record["status"] for record in records] == ["ok", "error", "ok"]
    assert [record["audio_filepath"] for record in records] == list(map(str, paths))
    assert records[1] == {
        "audio_filepath": "broken.wav",
        "status": "error",
        "error": "is broken",
        **EMPTY,
    }


def test_records_come_one_by_one() -> None:
    seen = []

    def paths() -> Iterator[Path]:
        for name in ("a.wav", "b.wav"):
            seen.append(name)
            yield Path(name)

    records = transcribe_files(Parrot(), paths())  # type: ignore[arg-type]
    next(records)
    assert seen == ["a.wav"]


# --- inputs


def test_inputs_are_files_folders_and_manifests_in_the_order_given(tmp_path: Path) -> None:
    (tmp_path / "folder" / "sub").mkdir(parents=True)
    for name in ("folder/b.wav", "folder/a.flac", "folder/sub/c.ogg", "folder/notes.txt"):
        (tmp_path / name).touch()
    rows = [{"audio_filepath": name, "text": "go"} for name in ("z.wav", "folder/b.wav")]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    inputs = [tmp_path / "last.wav", tmp_path / "folder", manifest, tmp_path / "last.wav"]
    found = find_inputs([str(path) for path in inputs])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "last.wav",
        "folder/a.flac",
        "folder/b.wav",
        "folder/sub/c.ogg",
        "z.wav",
        "folder/b.wav",
        "last.wav",
    ]


@pytest.mark.parametrize("name", ["m.jsonl", "m.json"])
def test_every_manifest_that_evaluate_takes_is_taken(name: str, tmp_path: Path) -> None:
    row = json.dumps({"audio_filepath": "a.wav", "text": "go"})
    (tmp_path / name).write_text(row, encoding="utf-8")
    assert find_inputs([str(tmp_path / name)]) == [tmp_path / "a.wav"]


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DataError, match="folder without recordings, expected sound files in it"):
        find_inputs([str(tmp_path)])


# --- formats

RECORDS = [
    {"audio_filepath": 'a,"b".wav', "status": "ok", "text": "turn on", "confidence": 0.5},
    {"audio_filepath": "line\nbreak\tand tab.wav", "status": "ok", "text": "نعم", "confidence": 1},
    {"audio_filepath": "c.wav", "status": "error", "error": "is empty (0 bytes)"},
]


def written(format_name: str) -> str:
    stream = io.StringIO(newline="")
    writer = WRITERS[format_name](stream)
    for record in RECORDS:
        writer.write({**dict.fromkeys(KEYS), "words": [], **record})
    return stream.getvalue()


def test_jsonl_is_one_object_a_line_with_letters_as_they_are() -> None:
    lines = written("jsonl").splitlines()
    assert [json.loads(line)["audio_filepath"] for line in lines] == [
        record["audio_filepath"] for record in RECORDS
    ]
    assert "نعم" in lines[1]


@pytest.mark.parametrize(("format_name", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_tables_give_back_every_name_and_text(format_name: str, delimiter: str) -> None:
    found = list(csv.DictReader(io.StringIO(written(format_name)), delimiter=delimiter))
    assert list(found[0]) == [key for key in KEYS if key != "words"]
    for row, record in zip(found, RECORDS, strict=True):
        for key in ("audio_filepath", "status", "text", "error"):
            assert row[key] == record.get(key, "")


def test_txt_is_one_line_a_recording_even_if_broken() -> None:
    assert written("txt") == "turn on\nنعم\n\n"


# --- the command


def test_one_good_file_is_one_record_on_standard_output(
    tiny_tflite: Path, tiny_data: Path, run_cli: Run
) -> None:
    file = tiny_data / "go" / "ann_nohash_0.wav"
    result = run_cli("transcribe", tiny_tflite, file)
    assert result.status == 0
    assert result.err == ""
    record = json.loads(result.out)
    assert list(record) == KEYS
    assert record["audio_filepath"] == str(file)
    assert record["status"] == "ok"
    assert record["text"] in TINY_LABELS
    assert 1 / 3 <= record["confidence"] <= 1
    assert record["duration"] == 0.4
    (word,) = record["words"]
    assert word == {
        "text": record["text"],
        "start": 0.0,
        "end": 0.4,
        "confidence": record["confidence"],
    }


def test_a_bundle_and_its_tflite_write_the_same_records(
    tiny_bundle: Path, tiny_tflite: Path, tiny_data: Path, run_cli: Run
) -> None:
    outputs = [run_cli("transcribe", m, tiny_data).out for m in (tiny_bundle, tiny_tflite)]
    by_model = [[json.loads(line) for line in out.splitlines()] for out in outputs]
    assert len(by_model[0]) == 24
    for one, other in zip(*by_model, strict=True):
        for record in (one, other):
            record["words"][0]["confidence"] = record["confidence"] = pytest.approx(
                record["confidence"], abs=1e-4
            )
        assert one["text"] == other["text"]
        assert one["confidence"].expected == other["confidence"]
        assert one["audio_filepath"] == other["audio_filepath"]


def test_the_command_says_what_the_library_says(
    tiny_tflite: Path, tiny_data: Path, run_cli: Run
) -> None:
    model = load_model(tiny_tflite)
    records = [
        json.loads(line) for line in run_cli("transcribe", tiny_tflite, tiny_data).out.splitlines()
    ]
    for record in records:
        transcript = model.transcribe(record["audio_filepath"])
        assert record["text"] == transcript.text
        assert record["confidence"] == pytest.approx(transcript.confidence, abs=1e-6)


def test_a_run_with_failures_ends_with_status_1_and_loses_nothing(
    tiny_tflite: Path, tiny_data: Path, tmp_path: Path, run_cli: Run
) -> None:
    good = tiny_data / "go" / "ann_nohash_0.wav"
    (tmp_path / "broken.wav").touch()
    inputs = [good, tmp_path / "gone.wav", good, tmp_path / "broken.wav", good]
    result = run_cli("transcribe", tiny_tflite, *inputs)
    records = [json.loads(line) for line in result.out.splitlines()]
    assert result.status == 1
    assert [record["audio_filepath"] for record in records] == [str(path) for path in inputs]
    assert [record["status"] for record in records] == ["ok", "error", "ok", "error", "ok"]
    assert {key: records[1][key] for key in EMPTY} == EMPTY
    assert result.err.splitlines() == [
        f"{tmp_path}/gone.wav: no such file",
        f"{tmp_path}/broken.wav: is empty (0 bytes)",
        "speechrnn transcribe: 2 of 5 recordings failed",
    ]


@pytest.mark.parametrize("format_name", sorted(WRITERS))
def test_a_file_gets_what_standard_output_gets(
    format_name: str, tiny_tflite: Path, tiny_data: Path, tmp_path: Path, run_cli: Run
) -> None:
    inputs = (tiny_data / "نعم", tmp_path / "gone.wav")
    out = run_cli("transcribe", tiny_tflite, *inputs, "--format", format_name).out
    to = tmp_path / "result"
    result = run_cli("transcribe", tiny_tflite, *inputs, "--format", format_name, "--to", to)
    assert result.status == 1
    assert result.out == ""
    assert to.read_bytes().decode() == out
    assert out.count("\n") == 9 + (format_name in ("csv", "tsv"))  # and a header


def test_an_existing_result_is_replaced_with_force_alone(
    tiny_tflite: Path, tiny_data: Path, tmp_path: Path, run_cli: Run
) -> None:
    to = tmp_path / "result.jsonl"
    to.write_text("precious", encoding="utf-8")
    arguments = ("transcribe", tiny_tflite, tiny_data / "go", "--to", to)
    refused = run_cli(*arguments)
    assert refused.status == 2
    assert refused.err == (
        f"speechrnn transcribe: error: {to}: exists; "
        "choose another name, or pass --force to replace it\n"
    )
    assert to.read_text(encoding="utf-8") == "precious"
    assert run_cli(*arguments, "--force").status == 0
    assert len(to.read_text(encoding="utf-8").splitlines()) == 8


def test_a_wrong_call_does_not_touch_an_existing_result(
    tiny_tflite: Path, tmp_path: Path, run_cli: Run
) -> None:
    to = tmp_path / "result.jsonl"
    to.write_text("precious", encoding="utf-8")
    (tmp_path / "empty").mkdir()
    for model, given in ((tiny_tflite, tmp_path / "empty"), (tmp_path / "no.tflite", to)):
        assert run_cli("transcribe", model, given, "--to", to, "--force").status == 2
        assert to.read_text(encoding="utf-8") == "precious"


def test_two_recordings_of_one_name_are_two_records(
    tiny_tflite: Path, write_audio: Write, tmp_path: Path, run_cli: Run
) -> None:
    for i, folder in enumerate(("a", "b")):
        write_audio(f"in/{folder}/clip.wav", tone(440, 0.4 + 0.1 * i, 8000), 8000)
    result = run_cli("transcribe", tiny_tflite, tmp_path / "in")
    records = [json.loads(line) for line in result.out.splitlines()]
    assert [record["audio_filepath"] for record in records] == [
        f"{tmp_path}/in/a/clip.wav",
        f"{tmp_path}/in/b/clip.wav",
    ]
    assert [record["duration"] for record in records] == [0.4, 0.5]


@pytest.mark.parametrize("format_name", sorted(WRITERS))
@pytest.mark.parametrize("to_file", [True, False], ids=["file", "stdout"])
def test_a_name_that_is_not_utf8_costs_no_record(
    format_name: str,
    to_file: bool,
    tiny_tflite: Path,
    tiny_data: Path,
    tmp_path: Path,
    run_cli: Run,
) -> None:
    clip = (tiny_data / "go" / "ann_nohash_0.wav").read_bytes()
    folder = tmp_path / "in"
    folder.mkdir()
    for name in (b"a.wav", b"caf\xe9.wav", b"z.wav"):
        Path(os.fsdecode(os.path.join(os.fsencode(folder), name))).write_bytes(clip)
    to = tmp_path / "result"
    chosen = ("--to", to) if to_file else ()
    result = run_cli("transcribe", tiny_tflite, folder, "--format", format_name, *chosen)
    assert result.status == 0, result.err
    written = to.read_bytes().decode() if to_file else result.out
    lines = written.splitlines()
    assert len(lines) == 3 + (format_name in ("csv", "tsv"))
    if format_name == "jsonl" and to_file:
        name = json.loads(lines[1])["audio_filepath"]
        assert os.fsencode(name) == os.fsencode(folder) + b"/caf\xe9.wav"
