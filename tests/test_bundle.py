import errno
import hashlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_fixtures import (
    LABELS,
    LOG,
    METRICS,
    MODELS,
    TRAINING,
    make_model,
    save,
    shared_bundle,
    shared_model,
)

from speechrnn import bundle as bundles
from speechrnn import files
from speechrnn.bundle import (
    FILES,
    HEADER,
    check_output,
    load_bundle,
    read_bundle,
    read_log,
    read_selftest,
    save_bundle,
)
from speechrnn.errors import ModelError, OutputError

ALL_FILES = (HEADER, *FILES)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(shared_bundle("two-way"), tmp_path / "bundle"))


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {
        str(file.relative_to(folder)): file.read_bytes()
        for file in sorted(folder.rglob("*"))
        if file.is_file()
    }


def one_line(error: Exception) -> str:
    message = str(error)
    assert "\n" not in message
    assert ";" in message or "expected" in message, "a remedy is missing"
    return message


def refused(path: Path, function: Any = read_bundle) -> str:
    with pytest.raises(ModelError) as caught:
        function(path)
    return one_line(caught.value)


def forge(bundle: Path, name: str, content: bytes) -> None:
    """Change a file and make the hashes fit, as somebody who means harm would."""
    (bundle / name).write_bytes(content)
    header = json.loads((bundle / HEADER).read_text())
    header["files"][name] = hashlib.sha256(content).hexdigest()
    (bundle / HEADER).write_text(json.dumps(header))


def forge_json(bundle: Path, name: str, **changes: Any) -> None:
    config = {**json.loads((bundle / name).read_text()), **changes}
    kept = {key: value for key, value in config.items() if value is not ...}
    forge(bundle, name, json.dumps(kept).encode())


def forge_arrays(bundle: Path, name: str, change: Any) -> None:
    with np.load(bundle / name) as arrays:
        changed = change(dict(arrays))
    np.savez(bundle / "forged.npz", **changed)
    forge(bundle, name, (bundle / "forged.npz").read_bytes())
    (bundle / "forged.npz").unlink()


# ------------------------------------------------------------------ what goes in comes out


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_value_of_the_model_survives_bit_for_bit(name):
    model = shared_model(name)
    loaded, info = load_bundle(str(shared_bundle(name)))
    before = {v.path: np.asarray(v) for v in model.weights if "seed" not in v.path}
    after = {v.path: np.asarray(v) for v in loaded.weights if "seed" not in v.path}
    assert before.keys() == after.keys()
    for path, value in before.items():
        assert value.dtype == after[path].dtype == np.float32
        np.testing.assert_array_equal(value, after[path])
    assert loaded.config == model.config
    waveform, output = read_selftest(shared_bundle(name))
    for answering in (model, loaded):
        batch = {"waveform": waveform[None], "num_samples": np.array([len(waveform)], np.int32)}
        logits = answering.predict_on_batch(batch)
        np.testing.assert_array_equal(model.config.head.output(logits), output)
    assert info.sections == model.config.to_mapping()


def test_what_is_not_weights_survives(bundle):
    info = read_bundle(bundle)
    assert info.labels == LABELS  # in an order that sorting would destroy
    assert info.training == TRAINING
    assert info.metrics == METRICS
    assert read_log(bundle) == LOG
    model = shared_model("two-way")
    assert info.num_parameters == sum(v.numpy().size for v in model.trainable_variables)
    assert info.front_end["fingerprint"] == model.config.features.fingerprint()


def test_labels_keep_their_order(bundle):
    model, _ = load_bundle(bundle)
    assert model.labels == LABELS
    config = json.loads((bundle / "config.json").read_text(encoding="utf-8"))
    assert config["labels"] == list(LABELS.symbols)


def test_the_same_model_saved_twice_is_the_same_bytes(tmp_path):
    model = shared_model("two-way")
    assert contents(save(model, tmp_path / "a")) == contents(save(model, tmp_path / "b"))
    assert read_bundle(tmp_path / "a").sha256 == read_bundle(tmp_path / "b").sha256


def test_another_weight_gives_another_hash(tmp_path):
    other = save(make_model(MODELS["two-way"], seed=1), tmp_path / "other")
    assert read_bundle(other).sha256 != read_bundle(shared_bundle("two-way")).sha256


def test_the_model_card_says_what_it_knows_how_well_and_from_which_data(bundle):
    card = (bundle / "MODEL_CARD.md").read_text(encoding="utf-8")
    for text in (
        *LABELS.symbols,
        TRAINING["data"],
        "320 recordings of\n21 speakers",
        "Seed 3",
        "accuracy 87.50 % on 80 recordings of 7 speakers",
        METRICS["val"]["data"],
        "16000 Hz",
        "gru",
        f"{read_bundle(bundle).num_parameters:,} trainable parameters",
    ):
        assert text in card


def test_reading_a_bundle_imports_neither_keras_nor_tensorflow(bundle):
    program = """
import sys
from speechrnn.bundle import read_bundle
from speechrnn.recognize import describe_model
print(read_bundle(sys.argv[1]).num_parameters, describe_model(sys.argv[1])["kind"])
sys.exit(bool({"keras", "tensorflow", "librosa"} & sys.modules.keys()))
"""
    command = [sys.executable, "-c", program, str(bundle)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    assert run.stdout.split() == [str(read_bundle(bundle).num_parameters), "bundle"]


# ------------------------------------------------------------------ saving


def full_disk(*_: Any, **__: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupted(*_: Any, **__: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (bundles, "_write_json"),
        (bundles.np, "savez"),
        (bundles, "model_card"),
        (bundles, "_selftest"),
        (bundles, "replace_directory"),
    ],
)
@pytest.mark.parametrize(
    ("failure", "error"), [(full_disk, OutputError), (interrupted, KeyboardInterrupt)]
)
def test_a_save_that_fails_leaves_the_old_bundle_and_nothing_else(
    bundle, monkeypatch, where, what, failure, error
):
    before = contents(bundle.parent)
    with monkeypatch.context() as patched:
        patched.setattr(where, what, failure)
        with pytest.raises(error) as caught:
            save(shared_model("one-way"), bundle)
    if error is OutputError:
        assert re.fullmatch(r".*bundle: cannot be written \(No space left.*\)", str(caught.value))
    assert contents(bundle.parent) == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


@pytest.mark.parametrize("failure", [full_disk, interrupted])
@pytest.mark.parametrize("which", [1, 2])
def test_a_failing_rename_leaves_the_old_bundle_and_nothing_else(
    bundle, monkeypatch, which, failure
):
    before, rename, count = contents(bundle.parent), os.rename, [0]

    def fail_once(*paths: Any) -> None:
        count[0] += 1
        (failure if count[0] == which else rename)(*paths)

    with monkeypatch.context() as patched:
        patched.setattr(files.os, "rename", fail_once)
        with pytest.raises((OutputError, KeyboardInterrupt)):
            save(shared_model("one-way"), bundle)
    assert contents(bundle.parent) == before
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/self/fd")
def test_a_bundle_is_on_the_disk_before_it_takes_its_place(tmp_path, monkeypatch):
    flushed: set[str] = set()
    seen_by_rename: list[set[str]] = []
    fsync, rename = os.fsync, os.rename

    def noted(handle: int) -> None:
        flushed.add(os.path.basename(os.readlink(f"/proc/self/fd/{handle}")))
        fsync(handle)

    def looked(*paths: Any) -> None:
        seen_by_rename.append(set(flushed))
        rename(*paths)

    monkeypatch.setattr(files.os, "fsync", noted)
    monkeypatch.setattr(files.os, "rename", looked)
    save(shared_model("one-way"), tmp_path / "b")
    assert {HEADER, *FILES} < seen_by_rename[0], "and the folder itself"


def test_a_new_bundle_replaces_the_old_one_and_leaves_nothing_beside(bundle):
    save(shared_model("one-way"), bundle)
    assert read_bundle(bundle).sha256 == read_bundle(shared_bundle("one-way")).sha256
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]
    assert sorted(path.name for path in bundle.iterdir()) == sorted(ALL_FILES)


def test_what_a_person_put_into_the_bundle_stays_when_it_is_replaced(bundle):
    (bundle / "notes.txt").write_text("mine")
    (bundle / "exports").mkdir()
    (bundle / "exports" / "words.tflite").write_bytes(b"mine too")
    save(shared_model("one-way"), bundle)
    assert (bundle / "notes.txt").read_text() == "mine"
    assert (bundle / "exports" / "words.tflite").read_bytes() == b"mine too"
    assert read_bundle(bundle).sections["encoder"]["bidirectional"] is False


def test_a_link_to_a_bundle_stays_a_link(bundle, tmp_path):
    link = tmp_path / "latest"
    link.symlink_to(bundle)
    save(shared_model("one-way"), link)
    assert link.is_symlink()
    assert read_bundle(bundle).sections["encoder"]["bidirectional"] is False
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundle", "latest"]


def test_missing_folders_above_are_made_and_an_empty_one_is_taken(tmp_path):
    read_bundle(save(shared_model("two-way"), tmp_path / "a" / "b" / "bundle"))
    (tmp_path / "empty").mkdir()
    read_bundle(save(shared_model("two-way"), tmp_path / "empty"))


def test_a_saved_bundle_can_be_read_by_others(bundle):
    saved = save(shared_model("two-way"), bundle.parent / "new")
    assert saved.stat().st_mode & 0o777 == 0o755
    assert all(file.stat().st_mode & 0o444 == 0o444 for file in saved.iterdir())


def foreign_folder(tmp_path: Path) -> Path:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years")
    return tmp_path / "thesis"


def foreign_file(tmp_path: Path) -> Path:
    (tmp_path / "thesis.tex").write_text("years")
    return tmp_path / "thesis.tex"


@pytest.mark.parametrize("make", [foreign_folder, foreign_file])
def test_what_is_no_bundle_is_never_replaced(tmp_path, make):
    path = make(tmp_path)
    before = contents(tmp_path)
    for function in (check_output, lambda place: save(shared_model("two-way"), place)):
        with pytest.raises(OutputError, match="is no bundle, expected a new or empty") as caught:
            function(path)
        assert str(path) in one_line(caught.value)
    assert contents(tmp_path) == before


def test_a_place_that_can_never_be_written_is_refused_before_the_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot be written; .*file is no folder"):
        check_output(tmp_path / "file" / "bundle")
    with pytest.raises(OutputError, match="cannot be"):
        check_output(tmp_path / ("x" * 300) / "bundle")
    monkeypatch.chdir(tmp_path / "..")
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    with pytest.raises(OutputError, match="is the folder that you are in"):
        check_output(Path())
    if os.geteuid():  # root may write everywhere
        (tmp_path / "empty").chmod(0o500)
        with pytest.raises(OutputError, match="is no folder that you may write to"):
            check_output(tmp_path / "empty" / "bundle")


# ------------------------------------------------------------------ broken bundles


@pytest.mark.parametrize("name", ALL_FILES)
def test_a_removed_file_is_named(bundle, name):
    (bundle / name).unlink()
    message = refused(bundle)
    assert str(bundle) in message
    assert name in message


@pytest.mark.parametrize("name", ALL_FILES)
@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_a_truncated_file_is_named(bundle, name, keep):
    content = (bundle / name).read_bytes()
    (bundle / name).write_bytes(content[: int(keep * len(content))])
    message = refused(bundle)
    assert str(bundle / name) in message
    assert "copy the bundle again, or retrain" in message


@pytest.mark.parametrize("name", FILES)
def test_an_edited_file_is_named(bundle, name):
    content = bytearray((bundle / name).read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / name).write_bytes(content)
    message = refused(bundle)
    assert str(bundle / name) in message
    assert "was changed" in message
    assert "copy the bundle again, or retrain" in message


@pytest.mark.parametrize(
    "change",
    [
        {"files": ...},
        {"files": []},
        {"files": {}},
        {"files": dict.fromkeys(FILES[1:], "0")},
        {"files": dict.fromkeys((*FILES, "../../secret"), "0")},
        {"files": dict.fromkeys(FILES)},
        {"format": ...},
        {"format": "zip"},
        {"format_version": ...},
    ],
)
def test_an_edited_header_is_refused(bundle, change):
    header = {**json.loads((bundle / HEADER).read_text()), **change}
    kept = {key: value for key, value in header.items() if value is not ...}
    (bundle / HEADER).write_text(json.dumps(kept))
    assert str(bundle) in refused(bundle)


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff\xfe", b"{", b'"a"'])
@pytest.mark.parametrize("name", [HEADER, "config.json", "metrics.json"])
def test_json_that_is_none_of_ours_is_refused(bundle, name, content):
    (forge if name != HEADER else lambda b, n, c: (b / n).write_bytes(c))(bundle, name, content)
    assert str(bundle / name) in refused(bundle)


@pytest.mark.parametrize(
    "change",
    [
        {"labels": ...},
        {"labels": 3},
        {"labels": ["a", "a"]},
        {"labels": ["a", 3]},
        {"encoder": ...},
        {"encoder": "gru"},
        {"front_end": ...},
        {"num_parameters": ...},
    ],
)
def test_settings_that_are_no_settings_are_refused(bundle, change):
    forge_json(bundle, "config.json", **change)
    assert str(bundle / "config.json") in refused(bundle)


def test_a_folder_of_something_else_is_no_bundle(tmp_path):
    assert "no bundle.json" in refused(foreign_folder(tmp_path))
    assert "no such bundle" in refused(tmp_path / "missing")
    assert "no such bundle" in refused(foreign_file(tmp_path))


def test_a_newer_format_is_refused_with_its_number(bundle):
    header = json.loads((bundle / HEADER).read_text())
    (bundle / HEADER).write_text(json.dumps({**header, "format_version": 7}))
    assert "bundle format 7" in refused(bundle)


# ------------------------------------------------------------------ what only loading can find


class Harm:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.touch, (self.path,))


def pickled_array(file: Path, harm: Harm) -> None:
    np.savez(file, weights=np.array([harm], dtype=object))


def plain_pickle(file: Path, harm: Harm) -> None:
    file.write_bytes(pickle.dumps(harm))


def pickled_npy(file: Path, harm: Harm) -> None:
    with file.open("wb") as stream:
        np.save(stream, np.array([harm], dtype=object))


@pytest.mark.parametrize("name", ["weights.npz", "selftest.npz"])
@pytest.mark.parametrize("write", [pickled_array, plain_pickle, pickled_npy])
def test_a_pickle_in_place_of_the_arrays_is_refused_and_never_run(bundle, tmp_path, name, write):
    touched = tmp_path / "touched"
    write(bundle / name, Harm(touched))
    forge(bundle, name, (bundle / name).read_bytes())
    message = refused(bundle, load_bundle)
    assert str(bundle / name) in message
    assert "without pickle" in message
    assert not touched.exists()
    loaded = np.load(bundle / name, allow_pickle=True)  # the trap would have worked
    if write is pickled_array:
        loaded["weights"]
        loaded.close()
    assert touched.exists()


@pytest.mark.parametrize("content", [b"", b"PK", b"\x93NUMPY"])
def test_arrays_that_are_none_are_refused(bundle, content):
    forge(bundle, "weights.npz", content)
    assert str(bundle / "weights.npz") in refused(bundle, load_bundle)


def test_one_array_in_place_of_a_set_is_refused(bundle):
    np.save(bundle / "one.npy", np.zeros(3))
    forge(bundle, "weights.npz", (bundle / "one.npy").read_bytes())
    assert str(bundle / "weights.npz") in refused(bundle, load_bundle)


def test_weights_that_do_not_fit_are_named(bundle):
    path = "speech_model/head/logits/bias"
    forge_arrays(bundle, "weights.npz", lambda a: {k: v for k, v in a.items() if k != path})
    assert path in refused(bundle, load_bundle)
    forge_arrays(bundle, "weights.npz", lambda a: {**a, path: np.zeros(7, np.float32)})
    message = refused(bundle, load_bundle)
    assert path in message
    assert "(7,), expected (4,)" in message


@pytest.mark.parametrize("value", [lambda v: v + 0.5, lambda v: v * np.nan])
def test_weights_that_answer_otherwise_fail_the_self_test(bundle, value):
    path = "speech_model/encoder/bidirectional_0/forward_gru_0/gru_cell/recurrent_kernel"
    forge_arrays(bundle, "weights.npz", lambda a: {**a, path: value(a[path])})
    assert "self-test differs by" in refused(bundle, load_bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda a: {"waveform": a["waveform"]},
        lambda a: {**a, "output": a["output"][0, :1]},
        lambda a: {**a, "output": a["output"][:, ::-1]},
    ],
)
def test_a_changed_self_test_is_refused(bundle, change):
    forge_arrays(bundle, "selftest.npz", change)
    assert "self" in refused(bundle, load_bundle)


def test_fewer_labels_than_answers_are_refused(bundle):
    forge_json(bundle, "config.json", labels=list(LABELS.symbols)[:3])
    assert "expected (32, 3)" in refused(bundle, load_bundle)


@pytest.mark.parametrize(
    "front_end", [{"version": 0, "fingerprint": "0" * 16}, {}, {"version": 1}, "one"]
)
def test_another_front_end_is_refused(bundle, front_end):
    forge_json(bundle, "config.json", front_end=front_end)
    message = refused(bundle, load_bundle)
    assert "front end" in message
    assert "retrain" in message


def test_settings_of_the_front_end_cannot_be_edited_past_the_fingerprint(bundle):
    sections = dict(read_bundle(bundle).sections)
    forge_json(bundle, "config.json", features={**sections["features"], "mel_scale": "htk"})
    assert "front end" in refused(bundle, load_bundle)


@pytest.mark.parametrize("change", [{"colour": 1}, {"units": 0}, {"type": "mamba"}])
def test_settings_that_this_version_does_not_know_are_a_matter_of_version(bundle, change):
    sections = read_bundle(bundle).sections
    forge_json(bundle, "config.json", encoder={**sections["encoder"], **change})
    message = refused(bundle, load_bundle)
    assert str(bundle) in message
    assert "use the speechrnn that wrote it" in message


def test_saving_needs_no_training_to_have_happened(tmp_path):
    save_bundle(str(tmp_path / "fresh"), shared_model("two-way"), training={}, metrics={})
    assert read_bundle(tmp_path / "fresh").metrics == {}
    assert "nothing" in (tmp_path / "fresh" / "MODEL_CARD.md").read_text(encoding="utf-8")
