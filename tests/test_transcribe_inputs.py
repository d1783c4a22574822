"""What a person names -> recordings: each once, in an order of the names, whatever they hold."""

from __future__ import annotations

import io
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from conftest import Write, tone
from hypothesis import given, settings
from hypothesis import strategies as st

from speechrnn.errors import ConfigError, DataError
from speechrnn.suffixes import AUDIO_SUFFIXES, FFMPEG_SUFFIXES
from speechrnn.transcribe.inputs import Inputs, Selection, Source, stamp, stamp_of

# Names that shells, lists and tables stumble over; as bytes, since one is no UTF-8.
HOSTILE = [
    b"new\nline.wav",
    b"carriage\rreturn.wav",
    b"tab\tand space .wav",
    b" in front.wav",
    b"'quo\"tes`.wav",
    b"-rf.wav",
    b"caf\xe9.wav",
    b"*?[a].wav",
    b"back\\slash.wav",
    b"a:b.wav",
    "نعم\u2028.wav".encode(),
]


def make(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


def listed(*names: object, **selection: object) -> list[Source]:
    chosen = Selection(**selection)  # type: ignore[arg-type]
    return list(Inputs([os.fspath(name) for name in names], chosen).sources())  # type: ignore[call-overload]


def inner(sources: Sequence[Source], folder: Path) -> list[str]:
    return [os.path.relpath(source.path, folder) for source in sources]


def refused(*names: object, **selection: object) -> str:
    with pytest.raises(DataError) as caught:
        listed(*names, **selection)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- files and folders


def test_files_folders_and_manifests_come_in_the_order_given(tmp_path: Path) -> None:
    make(tmp_path / "folder", "b.wav", "a.flac", "sub/c.ogg", "notes.txt")
    rows = [{"audio_filepath": name} for name in ("z.wav", "folder/b.wav")]
    manifest = tmp_path / "m.jsonl"
    manifest.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    last = tmp_path / "last.wav"
    found = listed(last, tmp_path / "folder", manifest, last)
    assert inner(found, tmp_path) == [
        *("last.wav", "folder/a.flac", "folder/b.wav", "folder/sub/c.ogg"),
        *("z.wav", "folder/b.wav", "last.wav"),
    ]
    assert [source.name for source in found] == [source.path for source in found]
    assert not any(source.error for source in found)


@pytest.mark.parametrize("name", ["gone.wav", "notes.txt", ".hidden", "none"])
def test_a_file_that_is_named_is_an_input_whatever_it_is(name: str, tmp_path: Path) -> None:
    make(tmp_path, "notes.txt", ".hidden")
    file = str(tmp_path / name)
    assert listed(file) == [Source(file, file, name)]


@pytest.mark.parametrize("suffix", sorted(AUDIO_SUFFIXES | FFMPEG_SUFFIXES))
def test_recordings_of_a_folder_are_told_by_suffix_of_any_case(suffix: str, tmp_path: Path) -> None:
    make(tmp_path, f"a{suffix}", f"b{suffix.upper()}", f"c{suffix}x", f"d{suffix}.txt", suffix[1:])
    assert inner(listed(tmp_path), tmp_path) == [f"a{suffix}", f"b{suffix.upper()}"]


PARTS = st.text(st.sampled_from("aAb-. _é~0"), min_size=1, max_size=3).filter(
    lambda part: not part.startswith(".")
)


@settings(max_examples=50, deadline=None)
@given(paths=st.lists(st.lists(PARTS, min_size=1, max_size=3), min_size=1, max_size=12))
def test_a_folder_is_in_the_order_that_pathlib_sorts_it(paths: list[list[str]]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        top = Path(temporary)
        make(top, *("/".join([*folders, f"{name}.wav"]) for *folders, name in paths))
        found = [source.path for source in listed(top)]
        assert found == [str(file) for file in sorted(top.rglob("*")) if file.is_file()]


def test_what_is_hidden_is_left_out(tmp_path: Path) -> None:
    make(tmp_path, "a.wav", ".b.wav", "._a.wav", ".git/c.wav", "sub/.d.wav", "sub/..wav")
    assert inner(listed(tmp_path), tmp_path) == ["a.wav"]
    assert len(listed(tmp_path / ".git")) == 1  # named, it is meant


def test_a_folder_named_as_a_recording_or_manifest_is_looked_into(tmp_path: Path) -> None:
    make(tmp_path, "x.wav/a.wav", "m.jsonl/b.wav")
    assert inner(listed(tmp_path), tmp_path) == ["m.jsonl/b.wav", "x.wav/a.wav"]
    assert inner(listed(tmp_path / "m.jsonl"), tmp_path) == ["m.jsonl/b.wav"]


def test_hostile_names_of_a_folder_are_listed_as_they_are(tmp_path: Path) -> None:
    for name in HOSTILE:
        Path(os.fsdecode(os.path.join(os.fsencode(tmp_path), name))).touch()
    found = {os.path.basename(os.fsencode(source.path)) for source in listed(tmp_path)}
    assert found == set(HOSTILE)


def test_links_to_files_are_files_even_where_they_lead_nowhere(tmp_path: Path) -> None:
    make(tmp_path / "data", "a.wav")
    (tmp_path / "data" / "b.wav").symlink_to("a.wav")
    (tmp_path / "data" / "gone.wav").symlink_to("nowhere.wav")
    (tmp_path / "data" / "loop.wav").symlink_to("loop.wav")
    names = ["a.wav", "b.wav", "gone.wav", "loop.wav"]
    assert inner(listed(tmp_path / "data"), tmp_path / "data") == names


def test_links_to_folders_are_followed_once(tmp_path: Path) -> None:
    make(tmp_path / "disk", "a.wav")
    (tmp_path / "data").mkdir()
    for name in ("one", "two"):
        (tmp_path / "data" / name).symlink_to(tmp_path / "disk")
    assert inner(listed(tmp_path / "data"), tmp_path / "data") == ["one/a.wav"]


def test_a_circle_of_links_ends(tmp_path: Path) -> None:
    make(tmp_path / "data", "a.wav", "sub/b.wav")
    (tmp_path / "data" / "sub" / "up").symlink_to(tmp_path / "data")
    (tmp_path / "data" / "self").symlink_to("self")
    assert inner(listed(tmp_path / "data"), tmp_path / "data") == ["a.wav", "sub/b.wav"]


def test_folders_may_be_deeper_than_python_recurses(tmp_path: Path) -> None:
    depth = sys.getrecursionlimit() + 100
    folders = [tmp_path]
    for _ in range(depth):
        folders.append(folders[-1] / "d")
        folders[-1].mkdir()
    try:
        (folders[-1] / "a.wav").touch()
        (source,) = listed(tmp_path)
        assert source.place == "d/" * depth + "a.wav"
    finally:  # pytest, which removes the folder, recurses
        (folders[-1] / "a.wav").unlink()
        for folder in reversed(folders[1:]):
            folder.rmdir()


def test_a_folder_that_cannot_be_read_is_an_input_with_an_error_among_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a/1.wav", "b/2.wav", "b/sub/3.wav", "c/4.wav")
    scandir = os.scandir

    def locked(folder: str) -> object:
        if os.path.basename(folder) == "b":
            raise PermissionError(13, "Permission denied", folder)
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", locked)
    reason = "folder cannot be read (Permission denied)"
    folder = str(tmp_path / "b")
    one, two, three = listed(tmp_path)
    assert two == Source(folder, folder, "b", reason)
    assert [one.error, three.error] == [None, None]
    assert listed(folder) == [Source(folder, folder, ".", reason)]  # and is not an empty one


def test_a_folder_without_recordings_is_refused(tmp_path: Path) -> None:
    make(tmp_path, "notes.txt", "sub/.hidden.wav")
    said = f"{tmp_path}: folder without recordings, expected sound files in it"
    assert refused(tmp_path) == said
    assert "that match *.foo, x/*, expected" in refused(tmp_path, include=("*.foo", "x/*"))


# --- which files of a folder


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ((), (), ["a.wav", "b/a.wav", "b/c.FLAC", "b/d/e.wav"]),
        (("*.FLAC",), (), ["b/c.FLAC"]),
        (("*.txt", "a.*"), (), ["a.wav", "b/a.wav", "b/n.txt"]),
        (("b/*",), (), ["b/a.wav", "b/c.FLAC", "b/d/e.wav", "b/n.txt"]),
        (("?.wav",), ("a*",), ["b/d/e.wav"]),
        ((), ("d",), ["a.wav", "b/a.wav", "b/c.FLAC"]),
        ((), ("b",), ["a.wav"]),
        ((), ("b/a.wav",), ["a.wav", "b/c.FLAC", "b/d/e.wav"]),
        ((), ("*.flac",), ["a.wav", "b/a.wav", "b/c.FLAC", "b/d/e.wav"]),  # letters have a case
    ],
)
def test_patterns_choose_by_name_and_by_path(
    include: tuple[str, ...], exclude: tuple[str, ...], expected: list[str], tmp_path: Path
) -> None:
    make(tmp_path, "a.wav", "b/a.wav", "b/c.FLAC", "b/n.txt", "b/d/e.wav")
    assert inner(listed(tmp_path, include=include, exclude=exclude), tmp_path) == expected


def test_patterns_do_not_choose_among_what_is_named(tmp_path: Path) -> None:
    make(tmp_path, "a.wav")
    assert len(listed(tmp_path / "a.wav", include=("*.mp3",), exclude=("a*",))) == 1


def test_a_folder_that_is_written_to_is_left_out_by_whatever_name(tmp_path: Path) -> None:
    make(tmp_path, "a.wav", "out/b.wav")
    (tmp_path / "link").symlink_to("out")
    skip = frozenset({os.path.realpath(tmp_path / "out")})
    assert inner(listed(tmp_path, skip=skip), tmp_path) == ["a.wav"]


# --- going through them


def test_inputs_are_gone_through_any_number_of_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a/1.wav", "a/2.wav", "3.wav")
    (tmp_path / "m.json").write_text('{"audio_filepath": "3.wav"}', encoding="utf-8")
    pipe(monkeypatch, b"x.wav\ny.wav\n")
    inputs = Inputs([str(tmp_path / "a"), "-", str(tmp_path / "m.json")])
    first = list(inputs.sources())
    started = inputs.sources()
    next(started)
    assert len(first) == 5
    assert list(inputs.sources()) == first
    assert list(started) == first[1:]


def test_folders_are_listed_no_earlier_than_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "a/1.wav", "b/2.wav", "c/3.wav")
    seen: list[str] = []
    scandir = os.scandir

    def spied(folder: str) -> object:
        seen.append(os.path.basename(folder))
        return scandir(folder)

    monkeypatch.setattr(os, "scandir", spied)
    inputs = Inputs([str(tmp_path)])
    assert seen == [tmp_path.name, "a"]  # enough to know that it is not empty
    seen.clear()
    sources = inputs.sources()
    assert seen == []
    next(sources)
    assert seen == [tmp_path.name, "a"]
    next(sources)
    assert seen == [tmp_path.name, "a", "b"]


# --- manifests


def write_manifest(folder: Path, *lines: str, encoding: str = "utf-8", end: str = "\n") -> Path:
    file = folder / "data.jsonl"
    file.write_bytes(end.join(lines).encode(encoding))
    return file


@pytest.mark.parametrize("name", ["m.jsonl", "m.json"])
def test_a_manifest_needs_nothing_but_the_names_of_files(name: str, tmp_path: Path) -> None:
    rows = ({"audio_filepath": "clips/a.wav"}, {"audio_filepath": "/b.wav", "text": 3})
    (tmp_path / name).write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    beside = str(tmp_path / "clips" / "a.wav")
    assert listed(tmp_path / name) == [
        Source(beside, beside, "clips/a.wav"),
        Source("/b.wav", "/b.wav", "_outside/b.wav"),
    ]


def test_a_manifest_in_this_folder_gives_names_as_it_has_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_manifest(tmp_path, '{"audio_filepath": "clips/a.wav"}')
    monkeypatch.chdir(tmp_path)
    assert listed("data.jsonl") == [Source("clips/a.wav", "clips/a.wav", "clips/a.wav")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_marks_blank_lines_and_windows_line_ends_do_not_matter(
    encoding: str, end: str, tmp_path: Path
) -> None:
    row = '{"audio_filepath": "\u2028نعم.wav"}'
    file = write_manifest(tmp_path, row, "", " \t", row, "", encoding=encoding, end=end)
    assert inner(listed(file), tmp_path) == ["\u2028نعم.wav"] * 2


def test_a_manifest_keeps_bytes_of_names_that_are_no_utf8(tmp_path: Path) -> None:
    row = json.dumps({"audio_filepath": os.fsdecode(b"caf\xe9\n.wav")})
    (source,) = listed(write_manifest(tmp_path, row))
    assert os.path.basename(os.fsencode(source.path)) == b"caf\xe9\n.wav"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "is not a JSON object (Expecting property name enclosed in double quotes)"),
        ("a.wav|go", "is not a JSON object (Expecting value)"),
        ("[" * 100_000, "is not a JSON object (maximum recursion depth exceeded"),
        ('["a.wav"]', "got '[\"a.wav\"]', expected a JSON object"),
        ('{"text": "go"}', "'audio_filepath' is missing (got ['text']), expected the name of"),
        ('{"audio_filepath": null}', "'audio_filepath' is None, expected the name of a file"),
        ('{"audio_filepath": 7}', "'audio_filepath' is 7, expected the name of a file"),
        ('{"audio_filepath": ""}', "'audio_filepath' is '', expected the name of a file"),
        (r'{"audio_filepath": "a\u0000b"}', r"'audio_filepath' is 'a\x00b', expected the name"),
        (r'{"audio_filepath": "\ud800.wav"}', r"'audio_filepath' is '\ud800.wav', expected the"),
    ],
    ids=lambda text: text[:20],
)
def test_a_faulty_row_is_refused_with_its_line(line: str, said: str, tmp_path: Path) -> None:
    file = write_manifest(tmp_path, '{"audio_filepath": "a.wav"}', "", line)
    assert refused(file).startswith(f"{file}:3: {said}")


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_manifest_that_is_not_utf8_is_refused_with_its_line(
    encoding: str, tmp_path: Path
) -> None:
    file = write_manifest(tmp_path, '{"audio_filepath": "caf\u00e9.wav"}', encoding=encoding)
    assert refused(file).startswith(f"{file}:1: is not UTF-8 text (")


def test_a_manifest_that_is_missing_or_without_rows_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "no.json") == f"{tmp_path}/no.json: cannot be read (no such manifest)"
    for lines in ((), ("", "  ")):
        file = write_manifest(tmp_path, *lines)
        assert refused(file) == f"{file}: holds no recordings"


# --- places in a mirrored tree


@pytest.mark.parametrize("given", ["in", "in/", "./in", "in/sub/..", "in/a.wav"])
def test_one_root_is_mirrored_without_its_own_name(
    given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "in/a.wav", "in/sub/b.wav")
    monkeypatch.chdir(tmp_path)
    places = [source.place for source in listed(given)]
    assert places == ["a.wav", "sub/b.wav"][: len(places)]


def test_files_of_one_folder_are_mirrored_side_by_side(tmp_path: Path) -> None:
    found = listed(tmp_path / "a.wav", tmp_path / "b.wav", tmp_path / "x" / ".." / "c.wav")
    assert [source.place for source in found] == ["a.wav", "b.wav", "c.wav"]


def test_several_roots_are_mirrored_below_what_they_share(tmp_path: Path) -> None:
    make(tmp_path, "one/a.wav", "two/sub/a.wav", "b.wav")
    found = listed(tmp_path / "one", tmp_path / "two" / "sub", tmp_path / "b.wav")
    assert [source.place for source in found] == ["one/a.wav", "two/sub/a.wav", "b.wav"]


def test_a_folder_and_one_within_it_are_mirrored_in_the_same_places(tmp_path: Path) -> None:
    make(tmp_path, "in/a.wav", "in/sub/b.wav")
    places = [source.place for source in listed(tmp_path / "in", tmp_path / "in" / "sub")]
    assert places == ["a.wav", "sub/b.wav", "sub/b.wav"]


def test_what_lies_outside_is_mirrored_in_a_folder_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    rows = ("../a:b.wav", "/etc/c.wav", "sub/../d.wav", "..wav")
    lines = [json.dumps({"audio_filepath": row}) for row in rows]
    places = [source.place for source in listed(write_manifest(tmp_path / "in", *lines))]
    assert places == [f"_outside{tmp_path}/a:b.wav", "_outside/etc/c.wav", "d.wav", "..wav"]


ODD_PATHS = st.lists(st.sampled_from(["a", "..", ".", "", "~", "\\", "é", "-"]), min_size=1)


@settings(max_examples=100, deadline=None)
@given(paths=st.lists(ODD_PATHS.map("/".join).filter(bool), min_size=1, max_size=5))
def test_no_place_leads_out_of_the_tree(paths: list[str]) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        rows = [json.dumps({"audio_filepath": path}) for path in paths]
        manifest = write_manifest(Path(temporary), *rows)
        files = [f"/gone/{path}/gone" for path in paths]
        for named in ([manifest], [manifest, "/gone/a.wav"], ["/gone/b/", *files, manifest]):
            for source in listed(*named):
                assert not os.path.isabs(source.place)
                assert source.place == os.path.normpath(source.place)
                assert not source.place.startswith("../")
                assert source.place != ".."


# --- standard input


def pipe(patched: pytest.MonkeyPatch, content: bytes) -> None:
    patched.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(content)))


@pytest.mark.parametrize("end", ["\n", "\0", "\r\n"])
@pytest.mark.parametrize("is_closed", [True, False], ids=["ended", "open"])
def test_names_are_read_from_standard_input(
    end: str, is_closed: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["a.wav", "sub/b c.wav", "../d.wav", "/e.wav", "-", "نعم"]
    pipe(monkeypatch, end.join([*names[:3], "", *names[3:], *[""] * is_closed]).encode())
    found = listed("-")
    assert [source.name for source in found] == [source.path for source in found] == names
    outside = f"_outside{Path.cwd().parent}/d.wav"
    assert [source.place for source in found] == [
        *("a.wav", "sub/b c.wav", outside, "_outside/e.wav", "-", "نعم")
    ]


@pytest.mark.parametrize("separator", [b"\0", b"\n"])
def test_hostile_names_are_read_from_standard_input(
    separator: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [name for name in HOSTILE if separator not in name]
    pipe(monkeypatch, separator.join(names))
    assert [os.fsencode(source.path) for source in listed("-")] == names


@pytest.mark.parametrize("separator", [b"\0", b"\n"])
def test_a_list_longer_than_what_is_read_at_once_is_whole(
    separator: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [b"%d/" % number + b"x" * (number % 301) for number in range(9000)]
    content = separator.join(names)
    assert len(content) > 1 << 20
    pipe(monkeypatch, content)
    assert [os.fsencode(source.path) for source in listed("-")] == names


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "w64"])
def test_a_recording_on_standard_input_is_one_input(
    suffix: str, write_audio: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = write_audio(f"clip.{suffix}", tone(440, 0.5, 16000)).read_bytes()
    pipe(monkeypatch, content)
    inputs = Inputs(["-"])
    (source,) = inputs.sources()
    assert (source.name, source.place, source.error) == ("-", "stdin", None)
    assert Path(source.path).read_bytes() == content
    assert len(soundfile.read(source.path)[0]) >= 8000
    assert list(inputs.sources()) == [source]
    del inputs
    assert not os.path.exists(source.path)  # nothing is left behind


@pytest.mark.parametrize("control", [b"\x01", b"\x07", b"\x1f"])
@pytest.mark.parametrize("separator", [b"\0", b"\n"])
def test_a_name_with_a_control_character_does_not_make_a_sound_of_a_list(
    control: bytes, separator: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [os.fsencode(tmp_path) + b"/" + name for name in (b"a%s.wav" % control, b"b.wav")]
    for name in names:
        Path(os.fsdecode(name)).touch()
    pipe(monkeypatch, separator.join(names))
    assert [os.fsencode(source.path) for source in listed("-")] == names


def test_standard_input_is_mirrored_with_what_else_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "here/a.wav", "there/b.wav")
    monkeypatch.chdir(tmp_path / "here")
    pipe(monkeypatch, b"a.wav\n../there/b.wav")
    found = listed("-", tmp_path / "there")
    outside = f"here/_outside{tmp_path}/there/b.wav"
    assert [source.place for source in found] == ["here/a.wav", outside, "there/b.wav"]


@pytest.mark.parametrize("content", [b"", b"\n", b"\r\n\n", b"\0\0"])
def test_standard_input_without_a_name_is_refused(
    content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    pipe(monkeypatch, content)
    assert refused("-").startswith("-: standard input is empty, expected a list of files or a")


def test_a_terminal_or_nothing_as_standard_input_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal = SimpleNamespace(buffer=SimpleNamespace(isatty=lambda: True))
    for found in (terminal, None):
        monkeypatch.setattr(sys, "stdin", found)
        assert refused("-").startswith("-: standard input is a terminal or closed, expected")


def test_standard_input_that_cannot_be_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read(size: int) -> bytes:
        raise IsADirectoryError(21, "Is a directory")  # as of: speechrnn transcribe M - < folder

    folder = SimpleNamespace(isatty=lambda: False, read=read)
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=folder))
    said = "-: standard input cannot be read and kept in a file (Is a directory)"
    assert refused("-") == said


def test_standard_input_named_twice_is_refused() -> None:
    with pytest.raises(ConfigError, match="standard input was named twice, expected once"):
        Inputs(["-", "a.wav", "-"])


# --- whether a file was touched


def test_a_stamp_tells_that_a_file_was_changed(tmp_path: Path) -> None:
    file = tmp_path / "a.wav"
    np.zeros(10, np.int16).tofile(file)
    first = stamp_of(str(file))
    assert first == stamp(file.stat()) == stamp_of(str(file))
    os.utime(file, ns=(1, 1))
    touched = stamp_of(str(file))
    assert touched is not None
    assert touched[:2] == (20, 1)
    file.write_bytes(b"x" * 20)
    os.utime(file, ns=(1, 1))  # of the same length and time, it is still told
    assert touched != stamp_of(str(file))


def test_what_is_no_file_has_no_stamp(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    for name in (tmp_path, tmp_path / "gone.wav", tmp_path / "pipe.wav", "nul\0.wav", "\ud800"):
        assert stamp_of(str(name)) is None
