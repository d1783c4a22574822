"""Temperature and threshold: stored in the bundle, carried by the .tflite, obeyed by both."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_fixtures import (
    LABELS,
    LOG,
    METRICS,
    TRAINING,
    labelled,
    make_model,
    noise,
    shared_bundle,
    shared_model,
    shared_tflite,
    sweep,
)

from speechrnn.bundle import (
    FILES,
    HEADER,
    load_bundle,
    read_bundle,
    read_log,
    replace_decision,
    save_bundle,
)
from speechrnn.calibrate import calibrate_bundle, model_decision, store_threshold
from speechrnn.decoding import Decision
from speechrnn.decoding.calibration import apply_temperature, fit_temperature
from speechrnn.decoding.classify import classify
from speechrnn.errors import ConfigError, LabelError, ModelError
from speechrnn.export import export_bundle
from speechrnn.recognize import describe_model, load_model
from speechrnn.runtime import Recognizer, read_metadata
from speechrnn.runtime.metadata import pack

CALIBRATED = Decision(temperature=2.5, threshold=0.25, threshold_budget=0.5, threshold_hours=12.0)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy that may be changed."""
    return Path(shutil.copytree(shared_bundle("two-way"), tmp_path / "bundle"))


def edit_config(bundle: Path, decision: Any) -> None:
    """Change the stored decision, ``...`` to remove it, and make the hash fit."""
    config = {**json.loads((bundle / "config.json").read_text()), "decision": decision}
    kept = {key: value for key, value in config.items() if value is not ...}
    (bundle / "config.json").write_text(json.dumps(kept))
    header = json.loads((bundle / HEADER).read_text())
    digest = hashlib.sha256((bundle / "config.json").read_bytes()).hexdigest()
    header["files"]["config.json"] = digest
    (bundle / HEADER).write_text(json.dumps(header))


def edited_tflite(path: Path, decision: Any) -> Path:
    """``two-way.tflite`` with another decision in its metadata; ``...`` for none."""
    found = read_metadata(shared_tflite("two-way"))
    ours = {"format", "format_version", "model_bytes", "model_sha256", "labels"}
    metadata = {key: value for key, value in found.metadata.items() if key not in ours}
    metadata["decision"] = decision
    kept = {key: value for key, value in metadata.items() if value is not ...}
    path.write_bytes(pack(found.model, kept, found.labels))
    return path


# ------------------------------------------------------------------ the values


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": 0.0},
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"temperature": "warm"},
        {"temperature": None},
        {"threshold": 1.01},
        {"threshold": -0.1},
        {"threshold": True},
        {"threshold_budget": -1.0},
        {"threshold_hours": [1]},
    ],
)
def test_values_of_no_use_are_refused(settings):
    (name,) = settings
    with pytest.raises(ConfigError, match=rf"decision\.{name}: got .*, expected"):
        Decision(**settings)


# ------------------------------------------------------------------ in the bundle


def test_a_bundle_without_a_decision_accepts_every_answer(bundle):
    edit_config(bundle, ...)
    model, info = load_bundle(bundle)
    assert info.decision == Decision() == Decision(1.0, 0.0, None, None)
    assert model.temperature == 1


@pytest.mark.parametrize(
    "decision", [None, 3, [], {"colour": 1}, {"temperature": "1"}, {"threshold": 2.0}]
)
def test_a_decision_that_is_none_is_refused(bundle, decision):
    edit_config(bundle, decision)
    with pytest.raises(ModelError, match=r"config\.json: is not what a bundle holds \(decision"):
        read_bundle(bundle)


def test_a_decision_survives_saving_and_loading(tmp_path):
    place, model = tmp_path / "b", shared_model("two-way")
    save_bundle(place, model, training={}, metrics={}, decision=CALIBRATED)
    loaded, info = load_bundle(place)
    assert info.decision == CALIBRATED
    assert loaded.temperature == 2.5
    assert describe_model(place)["decision"]["threshold"] == 0.25
    save_bundle(tmp_path / "again", loaded, training={}, metrics={})
    assert read_bundle(tmp_path / "again").decision == Decision(temperature=2.5)


def test_replacing_the_decision_leaves_the_rest_as_it_is(bundle):
    (bundle / "notes.txt").write_text("mine")
    before = {name: (bundle / name).read_bytes() for name in FILES}
    old = read_bundle(bundle)
    replace_decision(bundle, CALIBRATED)
    model, info = load_bundle(bundle)  # the hashes fit, and the self-test is still true
    assert info.decision == CALIBRATED
    assert model.temperature == 2.5
    assert (info.training, info.metrics, read_log(bundle)) == (TRAINING, METRICS, LOG)
    changed = {name for name in FILES if (bundle / name).read_bytes() != before[name]}
    assert changed == {"config.json", "MODEL_CARD.md"}
    assert info.sha256 != old.sha256
    assert (bundle / "notes.txt").read_text() == "mine"
    assert [path.name for path in bundle.parent.iterdir()] == ["bundle"]
    replace_decision(bundle, old.decision)
    assert {name: (bundle / name).read_bytes() for name in FILES} == before


def test_the_model_card_names_the_decision(bundle):
    card = bundle / "MODEL_CARD.md"
    assert "nobody has calibrated them. Every answer is accepted." in card.read_text("utf-8")
    replace_decision(bundle, CALIBRATED)
    assert (
        "logits are divided by 2.5. An answer of a confidence below 0.25 is none, picked for 0.5 "
        "false alarms an hour on 12 hours of background."
    ) in card.read_text("utf-8")


# ------------------------------------------------------------------ what it does to answers


def test_temperature_changes_how_sure_a_bundle_is_and_not_of_what(bundle):
    waveforms = [sweep(16000), noise(9000), sweep(12345, seed=2)]
    plain = np.stack(load_model(bundle).answer_many(waveforms))
    replace_decision(bundle, Decision(temperature=2.5))
    warm = np.stack(load_model(bundle).answer_many(waveforms))
    np.testing.assert_allclose(warm, apply_temperature("probabilities", plain, 2.5), atol=1e-6)
    np.testing.assert_array_equal(warm.argmax(axis=1), plain.argmax(axis=1))
    assert (warm.max(axis=1) < plain.max(axis=1)).all()


def test_an_exported_file_answers_with_the_temperature_and_the_threshold_of_its_bundle(bundle):
    replace_decision(bundle, CALIBRATED)
    file = export_bundle(bundle, bundle.parent / "m.tflite", check=labelled([sweep(9000)])).path
    ours, theirs = Recognizer(file), load_model(bundle)
    for waveform in (sweep(16000), noise(9000)):
        np.testing.assert_allclose(ours.run(waveform), theirs.answer_many([waveform])[0], atol=1e-4)
    plain = Recognizer(shared_tflite("two-way")).run(sweep(16000))
    assert np.abs(ours.run(sweep(16000)) - plain).max() > 0.01
    assert (ours.temperature, ours.threshold) == (2.5, 0.25)
    assert read_metadata(file).decision == CALIBRATED


@pytest.mark.parametrize("kind", ["bundle", "tflite"])
def test_an_answer_below_the_threshold_is_none_and_keeps_its_confidence(bundle, tmp_path, kind):
    path = bundle if kind == "bundle" else shared_tflite("two-way")
    plain = load_model(path).transcribe(sweep(16000))
    assert plain.text in LABELS.symbols
    for threshold, accepted in ((plain.confidence - 1e-3, True), (plain.confidence + 1e-3, False)):
        decision = {"temperature": 1.0, "threshold": threshold}
        if kind == "bundle":
            replace_decision(bundle, Decision(**decision))
        else:
            path = edited_tflite(tmp_path / "m.tflite", decision)
        found = load_model(path).transcribe(sweep(16000))
        assert found.text == (plain.text if accepted else "")
        assert len(found.words) == accepted
        assert found.confidence == pytest.approx(plain.confidence, abs=1e-6)
        assert found.duration == plain.duration


def test_classify_accepts_the_threshold_itself():
    answer = np.array([0.1, 0.5, 0.2, 0.2], np.float32)
    assert classify(answer, LABELS, 1.0, threshold=0.5).text == "no"
    assert classify(answer, LABELS, 1.0, threshold=0.51).text == ""
    assert classify(answer, LABELS, 1.0).text == "no"


def test_an_older_file_without_a_decision_accepts_every_answer(tmp_path):
    recognizer = Recognizer(edited_tflite(tmp_path / "m.tflite", ...))
    assert (recognizer.temperature, recognizer.threshold) == (1, 0)


def test_keys_of_newer_versions_are_ignored_in_a_file(tmp_path):
    decision = {"threshold": 0.5, "colour": "blue"}
    assert Recognizer(edited_tflite(tmp_path / "m.tflite", decision)).threshold == 0.5


@pytest.mark.parametrize("decision", [None, [], 3, {"threshold": "0.5"}, {"threshold": 2}])
def test_a_file_with_a_decision_of_no_use_is_refused(tmp_path, decision):
    with pytest.raises(ModelError, match="is not what an export holds"):
        read_metadata(edited_tflite(tmp_path / "m.tflite", decision))


# ------------------------------------------------------------------ fitted after training


def some_answers() -> tuple[list[np.ndarray], list[str]]:
    waveforms = [sweep(8000 + 300 * i, seed=i) for i in range(12)]
    texts = [LABELS.symbols[i % len(LABELS)] for i in range(12)]
    return waveforms, texts


def test_the_temperature_of_a_bundle_is_that_of_its_answers(bundle):
    waveforms, texts = some_answers()
    answers = load_model(bundle).answer_many(waveforms)
    targets = np.array([LABELS.id_of(text) - 1 for text in texts])
    expected = fit_temperature(np.log(answers), targets)
    assert expected != pytest.approx(1, abs=0.05)
    assert calibrate_bundle(bundle, waveforms, texts).temperature == pytest.approx(
        expected, rel=1e-4
    )
    assert read_bundle(bundle).decision.temperature == pytest.approx(expected, rel=1e-4)
    in_memory = model_decision(shared_model("two-way"), waveforms, texts).temperature
    assert in_memory == pytest.approx(expected, rel=1e-4)
    assert shared_model("two-way").temperature == 1


def test_calibrating_twice_changes_nothing_and_takes_the_threshold_back(bundle):
    waveforms, texts = some_answers()
    once = calibrate_bundle(bundle, waveforms, texts)
    store_threshold(bundle, 0.7, budget=0.5, hours=3.0)
    assert read_bundle(bundle).decision == Decision(once.temperature, 0.7, 0.5, 3.0)
    twice = calibrate_bundle(bundle, waveforms, texts)
    assert twice.temperature == pytest.approx(once.temperature, rel=1e-3)
    assert twice.threshold == 0


def test_a_text_that_is_no_label_is_refused_and_nothing_to_fit_on_is_one(bundle):
    with pytest.raises(LabelError, match="unknown label 'jump'"):
        calibrate_bundle(bundle, [sweep(8000)], ["jump"])
    assert read_bundle(bundle).decision == Decision()
    assert model_decision(make_model({**read_bundle(bundle).sections}), [], []) == Decision()
