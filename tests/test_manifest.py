"""Folders and manifests -> rows; splits that share no speaker; recordings read once."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from random import Random

import numpy as np
import pytest
from conftest import Write, tone
from hypothesis import assume, example, given
from hypothesis import strategies as st

from speechrnn.datasets.manifest import (
    Utterance,
    check_disjoint,
    has_splits,
    held_out_split,
    read_data,
    split_by_speaker,
)
from speechrnn.datasets.reading import load_waveforms
from speechrnn.errors import DataError

# --- folders of labels


def make_files(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return folder


def names_of(rows: list[Utterance], folder: Path) -> list[str]:
    return [row.path.relative_to(folder).as_posix() for row in rows]


def test_a_label_folder_gives_its_name_and_the_speakers_of_its_clips(tmp_path: Path) -> None:
    make_files(tmp_path, "go/ann_nohash_0.wav", "go/bob/1.wav", "stop/x.flac", "turn on/a/b/c.ogg")
    found = [(row.path.name, row.text, row.speaker) for row in read_data(tmp_path)]
    assert found == [
        ("ann_nohash_0.wav", "go", "ann"),
        ("1.wav", "go", "bob"),
        ("x.flac", "stop", ""),
        ("c.ogg", "turn on", "a"),
    ]


def test_rows_stand_in_order_of_their_names(tmp_path: Path) -> None:
    make_files(tmp_path, "b/2.wav", "a/2.wav", "a/10.wav", "نعم/1.wav", "b/1.wav")
    assert names_of(read_data(tmp_path), tmp_path) == [
        "a/10.wav",
        "a/2.wav",
        "b/1.wav",
        "b/2.wav",
        "نعم/1.wav",
    ]


def test_noise_hidden_folders_and_loose_files_are_no_labels(tmp_path: Path) -> None:
    make_files(tmp_path, "go/a.wav", "_background_noise_/hum.wav", ".git/a.wav", "loose.wav")
    make_files(tmp_path, "go/.a.wav", "go/notes.txt", "go/._a.wav")
    assert names_of(read_data(tmp_path), tmp_path) == ["go/a.wav"]


def test_both_unicode_forms_of_a_folder_name_are_one_label(tmp_path: Path) -> None:
    make_files(tmp_path, "caf\u00e9/a.wav", "cafe\u0301/b.wav")
    assert {row.text for row in read_data(tmp_path)} == {"caf\u00e9"}


def test_both_unicode_forms_of_a_speakers_name_are_one_speaker(tmp_path: Path) -> None:
    make_files(tmp_path, "go/Jos\u00e9/a.wav", "no/Jose\u0301/b.wav", "no/Jose\u0301_nohash_1.wav")
    assert {row.speaker for row in read_data(tmp_path)} == {"Jos\u00e9"}


def test_a_name_that_no_file_can_have_is_refused_by_line(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"audio_filepath": "a\\u0000.wav", "text": "go"}\n')
    with pytest.raises(DataError, match=r"m\.jsonl:1: 'audio_filepath' is 'a\\x00\.wav', expected"):
        read_data(manifest)


def test_a_link_to_itself_is_a_recording_like_others(tmp_path: Path) -> None:
    loop = tmp_path / "a.wav"
    loop.symlink_to("a.wav")
    check_disjoint([Utterance(loop, "go")], [Utterance(tmp_path / "b.wav", "go")])
    with pytest.raises(DataError, match=r"a\.wav: stands in"):
        check_disjoint([Utterance(loop, "go")], [Utterance(loop, "go")])


def test_a_name_that_is_too_long_has_no_parts() -> None:
    assert held_out_split("a" * 5000) == "all"


def test_two_recordings_of_one_name_are_two_rows(tmp_path: Path) -> None:
    make_files(tmp_path, "go/ann/0.wav", "go/bob/0.wav", "stop/ann/0.wav")
    assert len({row.path for row in read_data(tmp_path)}) == 3


def test_names_that_are_not_utf8_are_read(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path / "go") + b"/sp\xff_nohash_0.wav"
    (tmp_path / "go").mkdir()
    Path(os.fsdecode(raw)).touch()
    rows = read_data(tmp_path)
    train, val = split_by_speaker([*rows, Utterance(Path("b.wav"), "go", "bob")], 0.5)
    assert [os.fsencode(row.path) for row in rows] == [raw]
    assert len(train) == len(val) == 1


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_lists_of_speech_commands_decide_the_split(
    encoding: str, newline: str, tmp_path: Path
) -> None:
    clips = [f"{word}/{who}_nohash_0.wav" for word in ("go", "no") for who in ("a", "b", "c", "d")]
    make_files(tmp_path, *clips, "_background_noise_/hum.wav")
    lists = {"validation_list.txt": "b", "testing_list.txt": "c"}
    for name, who in lists.items():
        lines = [clip for clip in clips if f"/{who}_" in clip]
        (tmp_path / name).write_text("\n".join(lines) + "\n", encoding, newline=newline)
    assert has_splits(tmp_path)
    found = {
        split: [row.speaker for row in read_data(tmp_path, split)]  # type: ignore[arg-type]
        for split in ("train", "val", "test", "all")
    }
    assert found == {
        "train": ["a", "d", "a", "d"],
        "val": ["b", "b"],
        "test": ["c", "c"],
        "all": list("abcdabcd"),
    }


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    make_files(tmp_path, "go/a.wav")
    (tmp_path / "testing_list.txt").write_bytes(b"go/\xff.wav\n")
    with pytest.raises(DataError, match=r"testing_list.txt: is not UTF-8 text"):
        read_data(tmp_path)


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_split_that_a_folder_does_not_have_is_refused(split: str, tmp_path: Path) -> None:
    make_files(tmp_path, "go/a.wav")
    with pytest.raises(DataError, match=f"holds no recordings for split '{split}'"):
        read_data(tmp_path, split)  # type: ignore[arg-type]


# --- JSON lines


def write_manifest(folder: Path, *lines: str | dict, **options: str) -> Path:
    file = folder / "data.jsonl"
    texts = (line if isinstance(line, str) else json.dumps(line) for line in lines)
    file.write_text("\n".join(texts), **{"encoding": "utf-8", **options})  # type: ignore[arg-type]
    return file


ROW = {"audio_filepath": "clips/a.wav", "text": "go", "speaker": "ann", "duration": 1.5}


def test_a_manifest_s_rows_are_found_beside_it(tmp_path: Path) -> None:
    other = {"audio_filepath": "/elsewhere/b.wav", "text": " turn  on "}
    assert read_data(write_manifest(tmp_path, ROW, other)) == [
        Utterance(tmp_path / "clips" / "a.wav", "go", "ann", 1.5),
        Utterance(Path("/elsewhere/b.wav"), "turn on", "", None),
    ]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_marks_blank_lines_and_windows_line_ends_do_not_matter(
    encoding: str, newline: str, tmp_path: Path
) -> None:
    file = write_manifest(tmp_path, "", ROW, "  ", ROW, "", encoding=encoding, newline=newline)
    assert len(read_data(file)) == 2


def test_unicode_line_separators_within_a_text_do_not_end_a_line(tmp_path: Path) -> None:
    row = json.dumps({**ROW, "text": "نعم\u2028\u0085go"}, ensure_ascii=False)
    assert [found.text for found in read_data(write_manifest(tmp_path, row))] == ["نعم go"]


@pytest.mark.parametrize(
    ("speaker", "expected"), [(0, "0"), (7, "7"), ("", ""), (None, ""), ("cafe\u0301", "caf\u00e9")]
)
def test_a_speaker_is_a_name_or_a_number(speaker: object, expected: str, tmp_path: Path) -> None:
    (row,) = read_data(write_manifest(tmp_path, {**ROW, "speaker": speaker}))
    assert row.speaker == expected


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is not a JSON object (Expecting property name enclosed in double quotes)"),
        ("[" * 100_000, "is not a JSON object (maximum recursion depth exceeded"),
        ('{"audio_filepath": "a.wav", "text": "go"} x', "is not a JSON object (Extra data)"),
        ("a.wav|go", "is not a JSON object (Expecting value)"),
        ('["a.wav", "go"]', 'got \'["a.wav", "go"]\', expected a JSON object'),
        ({"text": "go"}, "'audio_filepath' is missing (got ['text']), expected a string"),
        ({"audio_filepath": "a.wav"}, "'text' is missing (got ['audio_filepath']), expected a"),
        ({**ROW, "text": None}, "'text' is None, expected a string"),
        ({**ROW, "text": 5}, "'text' is 5, expected a string"),
        ({**ROW, "audio_filepath": ""}, "'audio_filepath' is '', expected the name of a file"),
        ({**ROW, "duration": "1"}, "'duration' is '1', expected seconds as a number"),
        ({**ROW, "duration": True}, "'duration' is True, expected seconds as a number"),
        ({**ROW, "duration": -1}, "'duration' is -1, expected seconds as a number"),
        ({**ROW, "duration": float("nan")}, "'duration' is nan, expected seconds as a number"),
        ({**ROW, "speaker": ["ann"]}, "'speaker' is ['ann'], expected a name or a number"),
        ({**ROW, "speaker": True}, "'speaker' is True, expected a name or a number"),
    ],
)
def test_a_faulty_row_is_refused_with_its_line(line: str | dict, said: str, tmp_path: Path) -> None:
    file = write_manifest(tmp_path, ROW, "", line)
    with pytest.raises(DataError) as caught:
        read_data(file)
    assert str(caught.value).startswith(f"{file}:3: {said}")
    assert "\n" not in str(caught.value)


def test_a_manifest_of_another_encoding_is_refused(tmp_path: Path) -> None:
    file = write_manifest(tmp_path, ROW, encoding="utf-16")
    with pytest.raises(DataError, match=r"is not UTF-8 text .*; save it as UTF-8"):
        read_data(file)


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_manifest_has_no_parts(split: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f"a manifest has no split '{split}'"):
        read_data(write_manifest(tmp_path, ROW), split)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none", "no such data; expected a folder per label or a .jsonl manifest"),
        ("empty.jsonl", "holds no recordings"),
        ("notes.txt", r"unknown kind of data, expected .* \(splits, folder, jsonl\)"),
        ("folder", "no recordings in label folders, expected folder/<label>/<clip>.wav"),
        ("loose", "no recordings in label folders"),
        ("notes.txt/x", "no such data"),
        ("x" * 300, r"cannot be read \(File name too long\)"),
    ],
)
def test_what_is_no_data_is_refused(name: str, said: str, tmp_path: Path) -> None:
    make_files(tmp_path, "notes.txt", "loose/a.wav", "folder/label/notes.txt")
    (tmp_path / "empty.jsonl").write_text("\n\n", encoding="utf-8")
    with pytest.raises(DataError, match=said):
        read_data(tmp_path / name)


# --- splits by speaker

# Any text but lone surrogates, which are no characters.
NAME = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
SPEAKERS = st.lists(NAME, min_size=2, unique=True)


def rows_of(speakers: list[str], takes: int = 1) -> list[Utterance]:
    return [Utterance(Path(f"{s!r}/{i}.wav"), "go", s) for s in speakers for i in range(takes)]


@given(SPEAKERS, st.floats(0, 0.99), st.integers(1, 3))
def test_a_split_shares_no_speaker_and_loses_no_row(
    speakers: list[str], val_fraction: float, takes: int
) -> None:
    rows = rows_of(speakers, takes)
    train, val = split_by_speaker(rows, val_fraction)
    check_disjoint(train, val)
    assert train
    assert val
    assert sorted(train + val, key=str) == sorted(rows, key=str)


@given(SPEAKERS, st.floats(0.05, 0.95), st.randoms())
def test_a_split_depends_on_the_names_alone(
    speakers: list[str], val_fraction: float, random: Random
) -> None:
    rows = rows_of(speakers, takes=2)
    shuffled = list(rows)
    random.shuffle(shuffled)
    expected = {row.speaker for row in split_by_speaker(rows, val_fraction)[1]}
    assert {row.speaker for row in split_by_speaker(shuffled, val_fraction)[1]} == expected
    assert {row.speaker for row in split_by_speaker(rows[::2], val_fraction)[1]} == expected


def in_fraction(name: str, val_fraction: float) -> bool:
    return int(hashlib.sha1(name.encode()).hexdigest()[:8], 16) < val_fraction * 2**32


@given(SPEAKERS, SPEAKERS)
@example(["ann", "bob", "eve", "mia"], ["ann2", "zoe"])
def test_new_speakers_do_not_move_the_others(known: list[str], new: list[str]) -> None:
    val_fraction = 0.5
    train, val = split_by_speaker(rows_of(known), val_fraction)
    # Where all fall on one side, one is moved to the other until better ones come.
    belongs_to_val = [in_fraction(name, val_fraction) for name in known]
    assume(any(belongs_to_val) and not all(belongs_to_val))
    more_train, more_val = split_by_speaker(rows_of(sorted({*known, *new})), val_fraction)
    assert set(train) <= set(more_train)
    assert set(val) <= set(more_val)


def test_the_split_of_a_name_is_the_same_in_every_version() -> None:
    rows = rows_of([f"speaker{i}" for i in range(20)])
    val = {row.speaker for row in split_by_speaker(rows, 0.15)[1]}
    # SHA-1 of the name, first 32 bits, below 0.15: computed with sha1sum, not with this code.
    assert val == {"speaker5", "speaker9", "speaker11"}


def test_the_fraction_is_about_that_of_the_speakers() -> None:
    rows = rows_of([f"s{i}" for i in range(2000)])
    share = len(split_by_speaker(rows, 0.15)[1]) / len(rows)
    assert share == pytest.approx(0.15, abs=0.024)  # three standard deviations of 2000 draws


def test_rows_without_a_speaker_are_not_split(tmp_path: Path) -> None:
    rows = [*rows_of(["ann", "bob"]), Utterance(Path("x.wav"), "go")]
    with pytest.raises(DataError, match=r"^x.wav: speaker unknown, .* give --val"):
        split_by_speaker(rows, 0.2)


def test_one_speaker_is_not_split() -> None:
    with pytest.raises(DataError, match=r"only one speaker \(ann\), expected two or more"):
        split_by_speaker(rows_of(["ann"], takes=5), 0.2)


def test_a_shared_speaker_is_refused_unless_unknown() -> None:
    train, val = rows_of(["ann", "bob"]), [Utterance(Path("v.wav"), "go", "bob")]
    with pytest.raises(DataError, match=r"1 speakers .* \(bob is one\)"):
        check_disjoint(train, val)
    check_disjoint([Utterance(Path("t.wav"), "go")], [Utterance(Path("v.wav"), "go")])
    assert train[1].speaker == val[0].speaker


def test_a_shared_file_is_refused_even_under_another_name(tmp_path: Path) -> None:
    make_files(tmp_path, "a.wav")
    (tmp_path / "b.wav").symlink_to("a.wav")
    with pytest.raises(DataError, match=r"a\.wav: stands in the training and the validation data"):
        check_disjoint([Utterance(tmp_path / "a.wav", "go")], [Utterance(tmp_path / "b.wav", "go")])


# --- reading the recordings


@pytest.fixture
def rows(write_audio: Write, tmp_path: Path) -> list[Utterance]:
    good = [write_audio(f"{i}.wav", tone(440, 0.1 * (i + 1), 8000), 8000) for i in range(3)]
    (tmp_path / "broken.wav").write_text("no audio", encoding="utf-8")
    paths = [good[0], tmp_path / "broken.wav", good[1], tmp_path / "gone.wav", good[2]]
    return [Utterance(path, "go") for path in paths]


def test_readable_recordings_keep_their_order_and_the_others_are_told(
    rows: list[Utterance],
) -> None:
    good, broken = load_waveforms(rows, 8000, 1, skip_broken=True)
    assert [row for row, _ in good] == [rows[0], rows[2], rows[4]]
    assert [len(waveform) for _, waveform in good] == [800, 1600, 2400]
    assert [error.path for error in broken] == [str(rows[1].path), str(rows[3].path)]


def test_broken_recordings_are_refused_with_a_way_out(rows: list[Utterance]) -> None:
    with pytest.raises(DataError) as caught:
        load_waveforms(rows, 8000, 1)
    assert str(caught.value).startswith(f"2 of 5 recordings are broken ({rows[1].path}: cannot be")
    assert str(caught.value).endswith("; repair or remove them, or pass --skip-broken")


def test_nothing_but_broken_recordings_cannot_be_skipped(rows: list[Utterance]) -> None:
    with pytest.raises(DataError, match=r"5 of 5 recordings are broken .*; and 2 more"):
        load_waveforms([rows[1]] * 5, 8000, 1, skip_broken=True)


def test_recordings_of_another_rate_come_at_the_model_s(rows: list[Utterance]) -> None:
    ((_, waveform),), _ = load_waveforms(rows[:1], 16000, 1)
    assert waveform.dtype == np.float32
    assert abs(len(waveform) - 1600) <= 1


def test_a_folder_with_a_manifest_per_split_is_those_splits(tmp_path: Path) -> None:
    for split in ("train", "val", "test"):
        row = {"audio_filepath": f"{split}/go.wav", "text": "go", "speaker": split}
        (tmp_path / f"{split}.jsonl").write_text(json.dumps(row) + "\n", encoding="utf-8")
        make_files(tmp_path, f"{split}/go/a.wav")
    assert has_splits(tmp_path)
    for split in ("train", "val", "test"):
        assert [row.speaker for row in read_data(tmp_path, split)] == [split]
    assert [row.text for row in read_data(tmp_path)] == ["go"] * 3
    (tmp_path / "val.jsonl").unlink()
    with pytest.raises(DataError, match="holds no recordings for split 'val'"):
        read_data(tmp_path, "val")


@pytest.mark.parametrize(
    ("names", "split"),
    [
        (("train.jsonl", "val.jsonl", "test.jsonl"), "test"),
        (("train.jsonl", "val.jsonl"), "val"),
        (("validation_list.txt", "testing_list.txt"), "test"),
        (("go/a.wav",), "all"),
    ],
)
def test_what_is_measured_on_is_the_part_that_was_held_out_longest(
    names: tuple[str, ...], split: str, tmp_path: Path
) -> None:
    make_files(tmp_path, *names)
    assert held_out_split(tmp_path) == split
