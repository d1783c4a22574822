"""Records -> files of every format: whole or not there, each under a name of its own."""

from __future__ import annotations

import csv
import errno
import html
import io
import itertools
import json
import os
import re
import sys
import tempfile
import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speechrnn.errors import ConfigError, OutputError
from speechrnn.labels import normalise_text
from speechrnn.transcribe import formats, outputs
from speechrnn.transcribe.formats import (
    CUE_PAUSE_S,
    FILES,
    LONGEST_CUE_S,
    MOST_CUE_LETTERS,
    TREES,
    Cue,
    cues,
)
from speechrnn.transcribe.outputs import RECORDS, Target, open_output
from speechrnn.transcribe.records import error_record

KEYS = ("audio_filepath", "status", "text", "confidence", "duration", "error")


def record(*words: tuple[str, float, float], duration: float | None = None) -> dict[str, Any]:
    """The record of a recording in which these words are said: text, start, end."""
    return {
        "audio_filepath": "a.wav",
        "status": "ok",
        "text": " ".join(text for text, _, _ in words),
        "confidence": 0.5,
        "duration": max([end for _, _, end in words], default=1.0)
        if duration is None
        else duration,
        "words": [
            {"text": text, "start": start, "end": end, "confidence": 0.25}
            for text, start, end in words
        ],
        "error": None,
    }


def line_of(content: Mapping[str, Any]) -> str:
    return json.dumps(content, ensure_ascii=False)


TURN_ON = record(("turn", 0.0, 0.5), ("on", 0.5, 1.25))
SAID = st.text(min_size=1, max_size=30).map(normalise_text).filter(bool)
TIME = st.integers(0, 50_000_000).map(lambda ticks: ticks / 10_000)  # as records round it
LENGTH = st.integers(1, 80_000).map(lambda ticks: ticks / 10_000)


@st.composite
def spoken(draw: st.DrawFn) -> dict[str, Any]:
    """A record of words in order of their beginnings, which may overlap."""
    starts = sorted(draw(st.lists(TIME | st.integers(0, 20).map(float), max_size=12)))
    words = [(draw(SAID), start, round(start + draw(LENGTH), 4)) for start in starts]
    end = max([end for _, _, end in words], default=0.0)
    return record(*words, duration=round(end + draw(LENGTH), 4))


# --- a file of all records

NAMED = [
    {"audio_filepath": 'a,"b".wav', "text": "turn on", "confidence": 0.5, "duration": 1.25},
    {"audio_filepath": "line\nbreak\tand tab.wav", "text": "نعم", "confidence": 1},
    {"audio_filepath": "carriage\rreturn.wav", "text": "a;b|c'd"},
    {"audio_filepath": "c.wav", "status": "error", "error": 'is, "empty" (0 bytes)'},
    {"audio_filepath": "d.wav", "text": ""},
]


def written(format_name: str) -> str:
    stream = io.StringIO(newline="")
    writer = FILES[format_name](stream)
    for row in NAMED:
        writer.write(line_of({**dict.fromkeys(KEYS), "status": "ok", "words": [], **row}))
    return stream.getvalue()


def test_jsonl_is_one_object_a_line_with_letters_as_they_are() -> None:
    lines = written("jsonl").removesuffix("\n").split("\n")
    found = [json.loads(line)["audio_filepath"] for line in lines]
    assert found == [row["audio_filepath"] for row in NAMED]
    assert "نعم" in lines[1]


def rows_of(text: str, delimiter: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter))


@pytest.mark.parametrize(("format_name", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_tables_give_back_every_name_and_text(format_name: str, delimiter: str) -> None:
    found = rows_of(written(format_name), delimiter)
    assert list(found[0]) == list(KEYS)
    for row, given_row in zip(found, NAMED, strict=True):
        for key in ("audio_filepath", "text", "error", "confidence", "duration"):
            assert row[key] == str(given_row.get(key, ""))
    assert [row["status"] for row in found] == ["ok", "ok", "ok", "error", "ok"]


def test_a_row_of_a_table_ends_with_a_line_feed_alone() -> None:
    for name in ("csv", "tsv"):
        assert "\r\n" not in written(name)
        assert "\r\n" not in TREES[name].text(TURN_ON)


def test_txt_is_one_line_a_recording_even_if_broken() -> None:
    assert written("txt") == "turn on\nنعم\na;b|c'd\n\n\n"


@pytest.mark.parametrize("format_name", FILES)
def test_what_is_there_before_the_first_record_is_a_header_at_most(format_name: str) -> None:
    stream = io.StringIO(newline="")
    FILES[format_name](stream)
    assert stream.getvalue().count("\n") == (format_name in ("csv", "tsv"))


# --- subtitles


def seconds_of(clock: str, point: str) -> float:
    found = re.fullmatch(rf"(\d\d+):([0-5]\d):([0-5]\d){re.escape(point)}(\d\d\d)", clock)
    assert found, clock
    hours, minutes, seconds, thousandths = map(int, found.groups())
    return 3600 * hours + 60 * minutes + seconds + thousandths / 1000


def parsed_cues(blocks: Sequence[str], point: str) -> list[Cue]:
    found = []
    for block in blocks:
        times, text = block.split("\n")
        start, end = times.split(" --> ")
        found.append(Cue(seconds_of(start, point), seconds_of(end, point), text))
    return found


def parsed_srt(text: str) -> list[Cue]:
    blocks = text.removesuffix("\n").split("\n\n") if text else []
    numbered = [block.split("\n", 1) for block in blocks]
    assert [number for number, _ in numbered] == [str(n + 1) for n in range(len(blocks))]
    return parsed_cues([block for _, block in numbered], ",")


def parsed_vtt(text: str) -> list[Cue]:
    header, *blocks = text.removesuffix("\n").split("\n\n")
    assert header.removesuffix("\n") == "WEBVTT"
    for block in blocks:  # what would begin a tag, a character reference, or another cue
        assert not re.search("<|&(?!amp;|lt;|gt;)|-->.*-->", block.split("\n")[1])
    return [Cue(cue.start, cue.end, html.unescape(cue.text)) for cue in parsed_cues(blocks, ".")]


PARSERS = {"srt": parsed_srt, "vtt": parsed_vtt}


def test_srt_is_numbered_blocks_with_commas() -> None:
    expected = "1\n00:00:00,000 --> 00:00:01,250\nturn on\n"
    assert TREES["srt"].text(TURN_ON) == expected
    two = record(("turn", 0.0, 0.5), ("on", 3661.5, 3662))
    assert TREES["srt"].text(two) == (
        "1\n00:00:00,000 --> 00:00:00,500\nturn\n\n2\n01:01:01,500 --> 01:01:02,000\non\n"
    )


def test_vtt_is_a_header_and_blocks_with_points() -> None:
    assert TREES["vtt"].text(record(("a<b>&c", 0.0, 0.5), ("-->", 9, 10))) == (
        "WEBVTT\n\n00:00:00.000 --> 00:00:00.500\na&lt;b&gt;&amp;c\n\n"
        "00:00:09.000 --> 00:00:10.000\n--&gt;\n"
    )


def test_subtitles_of_no_words_are_an_empty_file_of_their_kind() -> None:
    assert TREES["srt"].text(record()) == ""
    assert TREES["vtt"].text(record()) == "WEBVTT\n"


@pytest.mark.parametrize(
    ("seconds", "clock"),
    [
        (0, "00:00:00,000"),
        (0.0004, "00:00:00,000"),
        (59.9994, "00:00:59,999"),
        (59.9996, "00:01:00,000"),
        (3599.9996, "01:00:00,000"),
        (3600, "01:00:00,000"),
        (35_999.999, "09:59:59,999"),
        (360_000, "100:00:00,000"),
    ],
)
def test_times_are_rounded_before_they_are_split(seconds: float, clock: str) -> None:
    text = TREES["srt"].text(record(("go", seconds, seconds + 1)))
    assert text.split("\n")[1].split(" --> ")[0] == clock


@pytest.mark.parametrize("format_name", PARSERS)
@settings(max_examples=100, deadline=None)
@given(said=spoken())
def test_subtitles_give_back_every_word_in_order_without_an_overlap(
    format_name: str, said: dict[str, Any]
) -> None:
    found = PARSERS[format_name](TREES[format_name].text(said))
    assert " ".join(cue.text for cue in found) == said["text"]
    for cue in found:
        assert cue.start < cue.end
    for one, other in itertools.pairwise(found):
        assert one.end <= other.start
    expected = cues(said)
    assert [cue.text for cue in found] == [cue.text for cue in expected]
    for cue, exact in zip(found, expected, strict=True):
        assert cue.start == pytest.approx(exact.start, abs=0.0005001)  # half a thousandth
        assert cue.end == pytest.approx(exact.end, abs=0.0005001)


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(SAID, max_size=40), length=st.floats(0.01, 7), gap=st.floats(0, 2))
def test_a_subtitle_can_be_read_unless_it_is_one_word(
    texts: list[str], length: float, gap: float
) -> None:
    starts = [number * (length + gap) for number in range(len(texts))]
    words = [(text, start, start + length) for text, start in zip(texts, starts, strict=True)]
    number = 0
    for cue in cues(record(*words)):
        count = 1
        while " ".join(texts[number : number + count]) != cue.text:
            count += 1
            assert number + count <= len(texts)
        assert cue.start == pytest.approx(words[number][1])
        assert cue.end == pytest.approx(words[number + count - 1][2])
        if count > 1:
            assert gap < CUE_PAUSE_S + 1e-6  # the sums of times are rounded
            assert cue.end - cue.start <= LONGEST_CUE_S
            assert len(cue.text) <= MOST_CUE_LETTERS
        number += count
    assert number == len(texts)


def test_a_subtitle_ends_at_a_pause_and_before_it_is_too_long() -> None:
    paused = record(("a", 0, 1), ("b", 1.79, 2), ("c", 2.81, 3))
    assert [cue.text for cue in cues(paused)] == ["a b", "c"]
    slow = record(*((str(number), number, number + 0.9) for number in range(8)))
    assert [cue.text for cue in cues(slow)] == ["0 1 2 3 4 5", "6 7"]
    wordy = record(*(("x" * 19, number / 10, number / 10 + 0.1) for number in range(6)))
    assert [len(cue.text) for cue in cues(wordy)] == [79, 39]


def test_a_word_within_another_is_said_with_it() -> None:
    found = cues(record(("long", 0, 9), ("within", 1, 2), ("over", 8, 12)))
    assert found == [Cue(0, 9, "long within"), Cue(9, 12, "over")]


def test_a_word_of_no_length_is_seen() -> None:
    (cue,) = cues(record(("go", 1.0, 1.0)))
    assert cue.start == 1.0
    assert 0.001 <= cue.end - cue.start < 0.01


# --- words as tables


@pytest.mark.parametrize(("format_name", "delimiter"), [("csv", ","), ("tsv", "\t")])
@settings(max_examples=50, deadline=None)
@given(said=spoken())
def test_tables_of_words_give_back_every_word(
    format_name: str, delimiter: str, said: dict[str, Any]
) -> None:
    found = rows_of(TREES[format_name].text(said), delimiter)
    words = [{key: str(value) for key, value in word.items()} for word in said["words"]]
    assert found == words


def test_tables_of_no_words_are_their_header() -> None:
    assert TREES["csv"].text(record()) == "text,start,end,confidence\n"


# --- TextGrid


def parsed_textgrid(text: str) -> tuple[float, list[Cue]]:
    """The end, and every interval."""
    number = r"(\d+(?:\.\d+)?)"
    intervals = re.findall(
        rf'intervals \[(\d+)\]:\n +xmin = {number}\n +xmax = {number}\n +text = "((?:[^"]|"")*)"\n',
        text,
    )
    (size,) = re.findall(r"intervals: size = (\d+)\n", text)
    assert [int(row[0]) for row in intervals] == list(range(1, int(size) + 1))
    ends = re.findall(rf"^ *xmax = {number}\n", text[: text.index("intervals:")], re.MULTILINE)
    assert len(ends) == 2
    assert ends[0] == ends[1]
    found = [
        Cue(float(start), float(end), said.replace('""', '"')) for _, start, end, said in intervals
    ]
    return float(ends[0]), found


def test_a_textgrid_is_one_tier_as_praat_writes_it() -> None:
    assert TREES["textgrid"].text(record(('say "go"', 0.25, 0.5), duration=0.75)) == (
        'File type = "ooTextFile"\nObject class = "TextGrid"\n\n'
        "xmin = 0\nxmax = 0.75\ntiers? <exists>\nsize = 1\nitem []:\n    item [1]:\n"
        '        class = "IntervalTier"\n        name = "words"\n'
        "        xmin = 0\n        xmax = 0.75\n        intervals: size = 3\n"
        "        intervals [1]:\n            xmin = 0\n            xmax = 0.25\n"
        '            text = ""\n'
        "        intervals [2]:\n            xmin = 0.25\n            xmax = 0.5\n"
        '            text = "say ""go"""\n'
        "        intervals [3]:\n            xmin = 0.5\n            xmax = 0.75\n"
        '            text = ""\n'
    )


@settings(max_examples=200, deadline=None)
@given(said=spoken())
def test_intervals_have_no_gap_and_lose_no_word(said: dict[str, Any]) -> None:
    end, found = parsed_textgrid(TREES["textgrid"].text(said))
    assert found[0].start == 0
    assert found[-1].end == end == said["duration"]
    for one, other in itertools.pairwise(found):
        assert one.end == other.start
        assert one.text or other.text  # what is between two words is one interval
    for cue in found:
        assert cue.start < cue.end
    assert " ".join(cue.text for cue in found if cue.text) == said["text"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], [(0, 4, "")]),
        ([("a", 0, 4)], [(0, 4, "a")]),
        ([("a", 0, 2), ("b", 2, 4)], [(0, 2, "a"), (2, 4, "b")]),
        ([("a", 0, 3), ("b", 1, 4)], [(0, 3, "a"), (3, 4, "b")]),
        ([("a", 0, 3), ("b", 1, 2)], [(0, 3, "a b"), (3, 4, "")]),
        ([("a", 2, 3), ("b", 1, 2.5)], [(0, 2, ""), (2, 3, "a b"), (3, 4, "")]),
        ([("a", 1, 5)], [(0, 1, ""), (1, 4, "a")]),
    ],
)
def test_overlapping_words_share_what_there_is(words: list, expected: list) -> None:
    _, found = parsed_textgrid(TREES["textgrid"].text(record(*words, duration=4.0)))
    assert found == [Cue(*row) for row in expected]


def test_a_recording_of_no_length_has_one_interval() -> None:
    assert parsed_textgrid(TREES["textgrid"].text(record(duration=0.0))) == (0, [Cue(0, 0, "")])


@pytest.mark.parametrize("format_name", TREES)
def test_a_format_of_trees_ends_with_a_line_end_or_is_empty(format_name: str) -> None:
    for said in (TURN_ON, record()):
        assert TREES[format_name].text(said)[-1:] in ("\n", "")


def test_a_tree_s_txt_is_the_text() -> None:
    assert TREES["txt"].text(TURN_ON) == "turn on\n"
    assert TREES["txt"].text(record()) == "\n"


# --- what --to and --format ask for


def test_without_a_place_records_go_to_standard_output() -> None:
    target = Target.of(None, ["csv"])
    assert target == Target(None, ("csv",))
    assert target.records is None
    assert target.ledger is None


@pytest.mark.parametrize("format_name", FILES)
def test_one_format_of_all_records_is_a_file(format_name: str, tmp_path: Path) -> None:
    target = Target.of(f"{tmp_path}/out", [format_name])
    assert target == Target(tmp_path / "out", (format_name,))
    assert target.records == tmp_path / "out"
    assert target.ledger == tmp_path / ".out.ledger"


@pytest.mark.parametrize(
    ("to", "asked"),
    [
        ("new", ["srt"]),
        ("new", ["jsonl", "txt"]),
        ("new", ["txt", "csv"]),
        ("new/", ["jsonl"]),
        ("new/", ["txt"]),
        ("old", ["jsonl"]),
        ("old", ["csv"]),
        ("link", ["csv"]),
    ],
)
def test_a_folder_or_a_format_of_each_or_several_are_a_tree(
    to: str, asked: list[str], tmp_path: Path
) -> None:
    (tmp_path / "old").mkdir()
    (tmp_path / "link").symlink_to("old")
    target = Target.of(f"{tmp_path}/{to}", asked)
    assert target == Target(tmp_path / to, tuple(asked), is_tree=True)
    assert target.records == tmp_path / to / "records.jsonl"
    assert target.ledger == tmp_path / to / ".records.jsonl.ledger"


@pytest.mark.parametrize(
    ("to", "asked", "said"),
    [
        (None, ["mp3"], "--format mp3: expected csv, jsonl, srt, textgrid, tsv, txt, vtt"),
        (None, [""], "--format : expected csv, "),
        (None, ["txt", "doc"], "--format doc: expected csv, "),
        (None, ["srt"], "--format srt: is a file for each recording; give --to DIR"),
        (None, ["csv", "jsonl"], "--format csv,jsonl: is a file for each recording; give --to"),
        ("", ["csv"], "--to '': is empty, expected a file or a folder"),
        ("file", ["srt"], "--to file: is a file, expected a folder for --format srt"),
        ("file/", ["csv"], "--to file/: is a file, expected a folder for --format csv"),
        ("gone", ["csv", "txt"], "--to gone: is a file, expected a folder for --format csv,txt"),
    ],
)
def test_what_does_not_go_together_is_refused(
    to: str | None,
    asked: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "gone").symlink_to("nowhere")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        Target.of(to, asked)
    assert str(caught.value).startswith(said)


# --- what is there already

ASKED = {
    "fresh": {"resume": False, "force": False},
    "resume": {"resume": True, "force": False},
    "force": {"resume": False, "force": True},
}
FINE = ""


@pytest.mark.parametrize("kind", ["file", "tree"])
@pytest.mark.parametrize(
    ("there", "expected"),
    [
        ("", {"fresh": FINE, "resume": FINE, "force": FINE}),
        ("records ledger", {"fresh": "exists; choose", "resume": FINE, "force": FINE}),
        ("ledger", {"fresh": "earlier run was stopped here", "resume": FINE, "force": FINE}),
        ("partial ledger", {"fresh": "earlier run was stopped", "resume": FINE, "force": FINE}),
        # Without a ledger nobody knows whose it is.
        ("records", {"fresh": "exists; choose", "resume": "exists, but not ", "force": FINE}),
    ],
    ids=lambda value: value.replace(" ", "+") or "nothing" if isinstance(value, str) else "",
)
@pytest.mark.parametrize("asked", ASKED)
def test_nothing_is_replaced_that_was_not_meant(
    asked: str, there: str, expected: dict[str, str], kind: str, tmp_path: Path
) -> None:
    target = Target.of(str(tmp_path / "out") + "/" * (kind == "tree"), ["jsonl"])
    assert target.records is not None
    assert target.ledger is not None
    partial = target.records.with_name(f"{target.records.name}.partial")
    files = {"records": target.records, "ledger": target.ledger, "partial": partial}
    for name in there.split():
        files[name].parent.mkdir(exist_ok=True)
        files[name].write_text("precious", encoding="utf-8")
    if expected[asked]:
        with pytest.raises(OutputError, match=expected[asked]) as caught:
            target.check(**ASKED[asked])
        assert str(caught.value).startswith(f"{target.records}: ")
    else:
        target.check(**ASKED[asked])
    assert target.records.parent.is_dir()
    for name in there.split():
        assert files[name].read_text(encoding="utf-8") == "precious"


@pytest.mark.parametrize("asked", ASKED)
def test_a_folder_of_other_files_is_written_into_with_force_alone(
    asked: str, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").touch()
    target = Target.of(str(tmp_path), ["txt"])
    if asked == "force":
        target.check(**ASKED[asked])
        return
    with pytest.raises(OutputError, match="holds other files; choose an empty folder, or pass"):
        target.check(**ASKED[asked])


def test_an_empty_folder_is_free(tmp_path: Path) -> None:
    for asked in ASKED.values():
        Target.of(str(tmp_path), ["srt"]).check(**asked)
    assert list(tmp_path.iterdir()) == []


def test_other_files_beside_a_file_do_not_matter(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").touch()
    Target.of(str(tmp_path / "out.csv"), ["csv"]).check(resume=False, force=False)


def test_folders_above_a_result_are_made(tmp_path: Path) -> None:
    Target.of(str(tmp_path / "a" / "b" / "out.csv"), ["csv"]).check(resume=False, force=False)
    Target.of(str(tmp_path / "c" / "d"), ["srt"]).check(resume=True, force=False)
    assert (tmp_path / "a" / "b").is_dir()
    assert (tmp_path / "c" / "d").is_dir()


@pytest.mark.parametrize("force", [False, True])
def test_where_nothing_can_be_written_is_told_before_long_work(force: bool, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot be written"):
        Target.of(str(tmp_path / "file" / "out.csv"), ["csv"]).check(resume=False, force=force)
    (tmp_path / "tree" / RECORDS).mkdir(parents=True)
    with pytest.raises(OutputError, match=r"records\.jsonl: is a folder; choose another --to"):
        Target.of(str(tmp_path / "tree"), ["txt"]).check(resume=False, force=force)


@pytest.mark.skipif(not os.path.exists("/proc/version"), reason="a file system of the kernel's")
def test_a_disk_that_takes_no_files_is_told_before_long_work() -> None:
    with pytest.raises(OutputError, match=r"^/proc/out: cannot be written \("):
        Target.of("/proc/out", ["csv"]).check(resume=False, force=False)


@pytest.mark.parametrize("to", [None, "/dev/null"])
def test_what_is_not_kept_cannot_be_gone_on_with(to: str | None) -> None:
    target = Target.of(to, ["csv"])
    target.check(resume=False, force=False)
    assert target.ledger is None
    with pytest.raises(ConfigError, match=r"--resume: nothing is kept of what .*; give --to"):
        target.check(resume=True, force=False)


# --- writing


def write(target: Target, *written: tuple[str, Mapping[str, Any]]) -> None:
    with open_output(target) as output:
        for place, content in written:
            output.write(place, line_of(content))
        output.finish()


def tree(folder: Path, *asked: str) -> Target:
    return Target.of(f"{folder}/", asked or ("txt",))


def speech(text: str) -> dict[str, Any]:
    return record((text, 0.0, 1.0))


def texts_of(folder: Path) -> dict[str, str]:
    """What each file of a tree says, by its name in it, without its suffix."""
    found = {}
    for parent, _, names in os.walk(folder):
        for name in names:
            if name.endswith(".txt"):
                file = Path(parent, name)
                inner = os.path.relpath(file, folder).removesuffix(".txt")
                found[inner] = file.read_text(encoding="utf-8").removesuffix("\n")
    return found


def test_standard_output_gets_each_record(capsys: pytest.CaptureFixture[str]) -> None:
    write(Target.of(None, ["txt"]), ("a", speech("go")), ("b", speech("نعم")))
    assert capsys.readouterr().out == "go\nنعم\n"
    assert not sys.stdout.closed


@pytest.mark.parametrize("format_name", FILES)
def test_a_file_gets_what_standard_output_gets(
    format_name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    records = (("a", TURN_ON), ("b", error_record("b.wav", "is empty")))
    write(Target.of(None, [format_name]), *records)
    write(Target.of(str(tmp_path / "out"), [format_name]), *records)
    assert (tmp_path / "out").read_bytes().decode() == capsys.readouterr().out


def test_a_device_is_written_to_directly() -> None:
    write(Target.of("/dev/null", ["jsonl"]), ("a", TURN_ON))


@pytest.mark.parametrize("kind", ["file", "tree"])
def test_records_appear_when_they_are_whole(kind: str, tmp_path: Path) -> None:
    target = Target.of(str(tmp_path / "out.jsonl"), ["jsonl"])
    if kind == "tree":
        target = tree(tmp_path)
    assert target.records is not None
    partial = target.records.with_name(f"{target.records.name}.partial")
    target.records.write_text("earlier", encoding="utf-8")
    with open_output(target) as output:
        output.write("a.wav", line_of(TURN_ON))
        output.flush()
        assert partial.read_text(encoding="utf-8") == line_of(TURN_ON) + "\n"
        assert target.records.read_text(encoding="utf-8") == "earlier"
        output.finish()
        assert target.records.read_text(encoding="utf-8") == line_of(TURN_ON) + "\n"
    assert not partial.exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt, ConnectionError])
def test_a_run_that_stops_leaves_what_is_partial_and_its_own_error(
    error: type[BaseException], tmp_path: Path
) -> None:
    target = Target.of(str(tmp_path / "out.jsonl"), ["jsonl"])

    def stop() -> None:
        with open_output(target) as output:
            output.write("a.wav", line_of(TURN_ON))
            raise error("of a worker")  # not of the output, though some are OSErrors

    with pytest.raises(error, match="of a worker"):
        stop()
    assert os.listdir(tmp_path) == ["out.jsonl.partial"]
    assert (tmp_path / "out.jsonl.partial").read_text(encoding="utf-8") == line_of(TURN_ON) + "\n"


def test_names_that_are_no_utf8_come_back_from_json(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.wav")
    write(tree(tmp_path), (name, {**TURN_ON, "audio_filepath": name}))
    (line,) = (tmp_path / RECORDS).read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["audio_filepath"] == name
    assert sorted(os.listdir(os.fsencode(tmp_path))) == [b"caf\xe9.wav.txt", b"records.jsonl"]


# --- a tree


def test_a_tree_holds_a_file_of_each_format_and_all_records(tmp_path: Path) -> None:
    asked = ("jsonl", *TREES)
    write(tree(tmp_path, *asked), ("sub/a.wav", TURN_ON), ("b.wav", speech("go")))
    names = sorted(str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*.*"))
    suffixes = [form.suffix for form in TREES.values()]
    expected = [name + suffix for name in ("sub/a.wav", "b.wav") for suffix in suffixes]
    assert names == sorted([*expected, RECORDS])
    for name, form in TREES.items():
        file = tmp_path / f"sub/a.wav{form.suffix}"
        assert file.read_bytes().decode() == TREES[name].text(TURN_ON)


def test_errors_write_no_file(tmp_path: Path) -> None:
    broken = error_record("x/a.wav", "is empty")
    write(tree(tmp_path, *TREES), ("x/a.wav", broken), (".", broken))
    assert os.listdir(tmp_path) == [RECORDS]
    assert (tmp_path / RECORDS).read_text(encoding="utf-8").count("\n") == 2


def test_what_was_said_of_a_recording_that_broke_since_is_removed(tmp_path: Path) -> None:
    write(tree(tmp_path), ("a.wav", speech("one")), ("b.wav", speech("two")))
    write(tree(tmp_path), ("a.wav", error_record("a.wav", "is empty")), ("b.wav", speech("two")))
    assert texts_of(tmp_path) == {"b.wav": "two"}


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (["x/a.wav", "y/a.wav"], ["x/a.wav", "y/a.wav"]),
        (["a.wav", "a.flac"], ["a.wav", "a.flac"]),
        (["a.wav", "a.wav", "a.wav"], ["a.wav", "a.wav~2", "a.wav~3"]),
        (["a.wav~2", "a.wav", "a.wav"], ["a.wav~2", "a.wav", "a.wav~3"]),
        (["a.wav", "a.wav", "a.wav~2"], ["a.wav", "a.wav~2", "a.wav~2~2"]),
        (["x/a.wav", "X/A.WAV"], ["x/a.wav", "X/A.WAV~2"]),
        (["stra\u00dfe.wav", "STRASSE.wav"], ["stra\u00dfe.wav", "STRASSE.wav~2"]),
        (["caf\u00e9.wav", "cafe\u0301.wav"], ["caf\u00e9.wav", "cafe\u0301.wav~2"]),
        # Only after the letters are folded do the accents come to stand in one order.
        (["\u0390", "\u03aa\u0301"], ["\u0390", "\u03aa\u0301~2"]),
        (["a.wav", "a.wav.txt/b"], ["a.wav", "a.wav.txt~/b"]),
        (["a.wav.TXT/b", "a.wav"], ["a.wav.TXT~/b", "a.wav"]),
        (["records.jsonl/a", "records.jsonl"], ["records.jsonl~/a", "records.jsonl"]),
        ([".records.jsonl.ledger/a"], [".records.jsonl.ledger~/a"]),
        (["records.jsonl.partial/a"], ["records.jsonl.partial~/a"]),
        ([".speechrnn.partial/a", "b"], [".speechrnn.partial~/a", "b"]),
        (["../../a.wav", "_/_/a.wav"], ["_/_/a.wav", "_/_/a.wav~2"]),
        (["/etc/passwd", "etc//./passwd"], ["etc/passwd", "etc/passwd~2"]),
        (["", ".", "..", "/"], ["_", "_~2", "_~3", "_~4"]),
        (["a\0b"], ["a_b"]),
    ],
    ids=lambda names: "+".join(names).encode("unicode_escape").decode() or "empty",
)
def test_each_recording_of_a_tree_has_a_name_of_its_own(
    places: list[str], expected: list[str], tmp_path: Path
) -> None:
    written = {name: str(number) for number, name in enumerate(expected)}
    write(tree(tmp_path), *((place, speech(str(n))) for n, place in enumerate(places)))
    assert texts_of(tmp_path) == written
    write(tree(tmp_path), *((place, speech(str(n))) for n, place in enumerate(places)))
    assert texts_of(tmp_path) == written  # and the same one again


PART = st.sampled_from(
    [
        *("a", "A", "é", "e\u0301", "", ".", "..", "~", "a~2", "a.txt", "A.TXT", "records.jsonl"),
        *(".records.jsonl.ledger", "records.jsonl.partial"),
        *("x" * 255, "x" * 254 + "y", "ﷺ" * 85),
    ]
)
PLACES = st.lists(st.lists(PART, min_size=1, max_size=4).map("/".join), min_size=1, max_size=12)


@settings(max_examples=60, deadline=None)
@given(places=PLACES)
def test_whatever_the_places_nothing_is_lost_or_written_outside(places: list[str]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary, "around", "tree")
        top.mkdir(parents=True)
        texts = [f"said {number}" for number in range(len(places))]
        write(
            tree(top), *((place, speech(text)) for place, text in zip(places, texts, strict=True))
        )
        found = texts_of(Path(temporary))
        assert sorted(found.values()) == sorted(texts)
        assert all(name.startswith("around/tree/") for name in found)
        folded = {unicodedata.normalize("NFC", name).casefold() for name in found}
        assert len(folded) == len(texts)
        assert (top / RECORDS).read_text(encoding="utf-8").count("\n") == len(texts)
        assert not list(Path(temporary).rglob("*.partial"))


@pytest.mark.parametrize("letter", ["x", "é", "ﷺ", "\U0001f600", "\udce9"], ids=ascii)
def test_a_name_as_long_as_a_disk_takes_is_cut_between_letters(letter: str, tmp_path: Path) -> None:
    name = letter * (255 // len(os.fsencode(letter)))
    write(tree(tmp_path, *TREES), (name, speech("one")), (name, speech("two")))
    first, second = sorted(
        os.fsencode(file).decode("utf-8", "surrogateescape") for file in tmp_path.glob("*.TextGrid")
    )
    for file in (first, second):
        cut = os.path.basename(file).split("~")[0]
        assert set(cut) == {letter}
        assert len(cut) > 40


def test_a_place_deeper_than_a_disk_takes_is_shortened(tmp_path: Path) -> None:
    places = ["d/" * 1500 + "a.wav", "d/" * 1501 + "a.wav", ("d" * 250 + "/") * 16 + "a.wav"]
    write(tree(tmp_path), *((place, speech(place[:20])) for place in places))
    found = texts_of(tmp_path)
    assert sorted(found.values()) == sorted(place[:20] for place in places)
    assert all(re.fullmatch(r"_deep~\w{12}/a\.wav", name) for name in found)


def test_many_records_of_one_recording_have_names_of_their_own(tmp_path: Path) -> None:
    free = outputs._Tree(None, tmp_path, ["txt"])._free  # type: ignore[arg-type]
    found = [free("a.wav") for _ in range(20_000)]  # not in time to the square
    assert found[-1] == "a.wav~20000"
    assert len(set(found)) == 20_000


def test_an_unchanged_file_of_a_tree_is_not_written_again(tmp_path: Path) -> None:
    write(tree(tmp_path), ("a.wav", speech("one")), ("b.wav", speech("two")))
    before = {name: (tmp_path / f"{name}.txt").stat() for name in ("a.wav", "b.wav")}
    write(tree(tmp_path), ("a.wav", speech("one")), ("b.wav", speech("owt")))
    after = {name: (tmp_path / f"{name}.txt").stat() for name in ("a.wav", "b.wav")}
    assert after["a.wav"] == before["a.wav"]
    assert after["b.wav"].st_size == before["b.wav"].st_size
    assert texts_of(tmp_path) == {"a.wav": "one", "b.wav": "owt"}


def test_a_link_in_a_tree_is_replaced_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("precious", encoding="utf-8")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.wav.txt").symlink_to(tmp_path / "precious")
    write(tree(tmp_path / "out"), ("a.wav", speech("one")))
    assert (tmp_path / "precious").read_text(encoding="utf-8") == "precious"
    assert texts_of(tmp_path / "out") == {"a.wav": "one"}


# --- disks


def full(*arguments: object, **options: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


FULL = r"cannot be written \(No space left on device\); what is done is kept, go on with --resume$"


@pytest.mark.parametrize("where", ["open", "replace"])
def test_a_full_disk_is_one_line_and_leaves_no_piece_of_a_file(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run() -> None:
        with open_output(tree(tmp_path)) as output:
            output.write("a.wav", line_of(speech("one")))
            if where == "open":
                monkeypatch.setattr(outputs, "open", full, raising=False)
            else:
                monkeypatch.setattr(os, "replace", full)
            output.write("b.wav", line_of(speech("two")))

    with pytest.raises(OutputError, match=f"^{re.escape(str(tmp_path))}: {FULL}"):
        run()
    assert sorted(os.listdir(tmp_path)) == ["a.wav.txt", "records.jsonl.partial"]


def test_a_disk_that_is_full_at_the_end_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Target.of(str(tmp_path / "out.jsonl"), ["jsonl"])
    with open_output(target) as output:
        output.write("a.wav", line_of(TURN_ON))
        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(OutputError, match=FULL):
            output.finish()
    assert os.listdir(tmp_path) == ["out.jsonl.partial"]


def test_a_file_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    (tmp_path / "out.jsonl.partial").mkdir()
    target = Target.of(str(tmp_path / "out.jsonl"), ["jsonl"])
    with pytest.raises(OutputError, match=r"out\.jsonl: cannot be written"), open_output(target):
        pass


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="a disk that is always full")
@pytest.mark.parametrize("method", ["flush", "finish", "write", None])
def test_a_full_device_is_told_whenever_it_is_noticed(method: str | None) -> None:
    target = Target.of("/dev/full", ["jsonl"])
    line = line_of(TURN_ON) if method != "write" else "x" * 100_000
    said = r"^/dev/full: cannot be written \(No space left on device\)$"  # nothing is kept of it

    def run() -> None:
        with open_output(target) as output:
            output.write("a.wav", line)
            if method in ("flush", "finish"):
                getattr(output, method)()

    with pytest.raises(OutputError, match=said):
        run()


def test_standard_output_that_is_full_is_told_and_a_closed_pipe_passed_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stream(io.StringIO):
        error: OSError = OSError(errno.ENOSPC, "No space left on device")

        def flush(self) -> None:
            raise self.error

    stream = Stream()
    monkeypatch.setattr(sys, "stdout", stream)
    told = r"^standard output: cannot be written \(No space left on device\)$"
    with pytest.raises(OutputError, match=told):
        write(Target.of(None, ["jsonl"]), ("a.wav", TURN_ON))
    stream.error = BrokenPipeError(errno.EPIPE, "Broken pipe")  # the reader has seen enough
    with pytest.raises(BrokenPipeError):
        write(Target.of(None, ["jsonl"]), ("a.wav", TURN_ON))


def test_every_tree_format_is_named_as_its_files_end() -> None:
    for name, form in formats.TREES.items():
        assert form.suffix.lower() == f".{name}"
