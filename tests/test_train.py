"""Training: seeded, guarded, and saved whenever it improves."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import stop_training
from keras import ops

from speechrnn import train
from speechrnn.bundle import load_bundle, read_bundle, read_log
from speechrnn.config import read_preset
from speechrnn.datasets.augment_mixup import Mixup
from speechrnn.datasets.batches import prefetch, training_batches
from speechrnn.datasets.examples import HeldExample
from speechrnn.datasets.manifest import Utterance, read_data, split_by_speaker
from speechrnn.errors import ConfigError, DataError
from speechrnn.labels import Labels
from speechrnn.model import build_model
from speechrnn.optimizer import WeightAverage, make_optimizer
from speechrnn.recipe import Recipe, TrainConfig
from speechrnn.train import TrainResult, train_model
from speechrnn.validation import feature_statistics

TINY = {
    "features": {"sample_rate_hz": 8000, "fft_length": 256, "num_mels": 16, "high_hz": 3800.0,
                 "num_coefficients": 12},
    "encoder": {"type": "gru", "units": 8, "num_layers": 1},
    "head": {"type": "classification"},
    "train": {"epochs": 2, "batch_size": 6},
}  # fmt: skip


def recipe(**train: Any) -> Recipe:
    return Recipe.from_mapping({**TINY, "train": {**TINY["train"], **train}})


LEARNING_SETTINGS = {"epochs": 20, "learning_rate": 0.02, "seed": 3}
LEARNING = recipe(**LEARNING_SETTINGS)


def fit(data: Path, out: Path, chosen: Recipe) -> TrainResult:
    train_rows, val_rows = split_by_speaker(read_data(data), 0.3)
    return train_model(chosen, train_rows, val_rows, out, data_name="tones", val_name="others")


def weights(result: TrainResult) -> dict[str, str]:
    """Hashes of what the network knows."""
    files = read_bundle(result.bundle).files
    return {name: files[name] for name in ("weights.npz", "selftest.npz")}


def example(num_samples: int = 400, target: int = 1) -> HeldExample:
    return HeldExample(Utterance(Path("x.wav"), "a"), np.ones(num_samples, np.float32), [target])


@pytest.fixture(scope="module")
def trained(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> TrainResult:
    """One training that several tests look at."""
    return fit(tiny_data, tmp_path_factory.mktemp("trained") / "b", LEARNING)


def test_the_same_seed_gives_the_same_model(trained: TrainResult, tiny_data: Path, tmp_path: Path):
    again = fit(tiny_data, tmp_path / "b", LEARNING)
    kept = ("loss", "accuracy", "val_loss", "val_accuracy")
    for one, other in zip(read_log(trained.bundle), read_log(again.bundle), strict=True):
        assert [one[k] for k in kept] == pytest.approx([other[k] for k in kept], abs=1e-5)


def test_training_learns(trained: TrainResult):
    log = read_log(trained.bundle)
    assert log[-1]["loss"] < 0.3 * log[0]["loss"]
    assert log[-1]["accuracy"] > 0.9


def test_the_bundle_is_the_best_epoch(trained: TrainResult):
    log = read_log(trained.bundle)
    best = max(log, key=lambda entry: (entry["val_accuracy"], -entry["val_loss"]))
    assert trained.best_epoch == best["epoch"]
    assert read_bundle(trained.bundle).metrics["val"]["accuracy"] == best["val_accuracy"]


def test_a_finished_training_says_so(trained: TrainResult):
    info = read_bundle(trained.bundle)
    assert info.training["finished"] is True
    assert info.training["epochs_done"] == LEARNING.train.epochs
    assert info.training["recipe"] == LEARNING.to_mapping()
    assert info.labels.symbols == ("go", "turn on", "نعم")


def test_interruption_keeps_the_best_model(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stop_training(monkeypatch, after=5)
    result = fit(tiny_data, tmp_path / "b", recipe(epochs=50))
    assert result.interrupted
    model, info = load_bundle(result.bundle)
    assert info.training["finished"] is False
    assert len(model.labels) == 3


def test_interruption_in_the_first_epoch_keeps_what_there_is(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stop_training(monkeypatch, after=0)
    result = fit(tiny_data, tmp_path / "b", recipe())
    assert result.best_epoch == 0
    assert read_bundle(result.bundle).training["finished"] is False


def test_a_loss_that_is_no_number_stops_with_a_remedy(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from speechrnn.model import SpeechModel

    def broken(*_: Any, **__: Any) -> dict[str, float]:
        return {"loss": math.nan, "accuracy": 0.0}

    monkeypatch.setattr(SpeechModel, "train_on_batch", broken)
    with pytest.raises(DataError, match="learning_rate"):
        fit(tiny_data, tmp_path / "b", recipe())


def test_one_label_only_is_refused(tiny_data: Path, tmp_path: Path):
    rows = [row for row in read_data(tiny_data) if row.text == "go"]
    train_rows, val_rows = split_by_speaker(rows, 0.3)
    with pytest.raises(DataError, match="only the label 'go'"):
        train_model(recipe(), train_rows, val_rows, tmp_path / "b", data_name="d", val_name="v")
    assert not (tmp_path / "b").exists()


def test_a_speaker_on_both_sides_is_refused(tiny_data: Path, tmp_path: Path):
    rows = read_data(tiny_data)
    with pytest.raises(DataError, match="ann"):
        train_model(recipe(), rows, rows[:3], tmp_path / "b", data_name="d", val_name="v")


def test_gradients_are_clipped_by_default():
    assert make_optimizer(TrainConfig(), 100).global_clipnorm == 1.0
    assert make_optimizer(TrainConfig(gradient_clip_norm=0.0), 100).global_clipnorm is None
    assert read_preset("commands")["train"]["gradient_clip_norm"] == 1.0


def test_the_learning_rate_rises_and_falls_to_zero():
    config = TrainConfig(learning_rate=0.01, warmup_fraction=0.1)
    schedule = make_optimizer(config, 200)._learning_rate
    rates = [float(schedule(step)) for step in range(201)]
    assert rates[0] == 0.0
    assert int(np.argmax(rates)) == 20
    assert max(rates) == pytest.approx(0.01)
    assert rates[200] == pytest.approx(0.0, abs=1e-8)
    assert (np.diff(rates[:21]) > 0).all()
    assert (np.diff(rates[20:]) < 0).all()


def test_weight_average_is_the_mean_that_its_formula_says():
    model = build_model(recipe().model, Labels(("a", "b")))
    average = WeightAverage(model, 0.9)
    variable = model.trainable_variables[0]
    expected = ops.convert_to_numpy(variable).copy()
    for step in range(1, 30):
        variable.assign(np.full(variable.shape, float(step), np.float32))
        average.update()
        decay = min(0.9, step / (9 + step))
        expected = decay * expected + (1 - decay) * step
    last = ops.convert_to_numpy(variable).copy()
    with average.applied():
        np.testing.assert_allclose(ops.convert_to_numpy(variable), expected, rtol=1e-5)
    np.testing.assert_array_equal(ops.convert_to_numpy(variable), last)


def test_stored_statistics_are_those_of_true_frames():
    chosen = recipe()
    model = build_model(chosen.model, Labels(("a", "b")))
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal(n).astype(np.float32) * 0.1 for n in (900, 4000, 2500)]
    examples = [HeldExample(Utterance(Path("x"), "a"), clip, [1]) for clip in clips]
    mean, std = feature_statistics(model, examples)
    alone = [ops.convert_to_numpy(model.front_end.unnormalised(c[None]))[0] for c in clips]
    frames = np.concatenate(alone).astype(np.float64)
    np.testing.assert_allclose(mean, frames.mean(axis=0), atol=1e-4)
    np.testing.assert_allclose(std, frames.std(axis=0), rtol=1e-4)


def test_a_feature_that_never_changes_has_a_deviation_of_zero(monkeypatch: pytest.MonkeyPatch):
    # Bands without energy are the log of the floor: as float32, whose square is rounded.
    chosen = recipe()
    model = build_model(chosen.model, Labels(("a", "b")))
    constants = np.log(np.logspace(-10, -5, chosen.model.features.num_features)).astype(np.float32)

    def constant(waveforms: Any, _: Any) -> Any:
        frames = chosen.model.features.num_frames(waveforms.shape[1])
        return np.broadcast_to(constants, (len(waveforms), frames, len(constants)))

    monkeypatch.setattr(model.front_end, "unnormalised", constant)
    examples = [
        HeldExample(Utterance(Path("x"), "a"), np.zeros(900 + 100 * i, np.float32), [1])
        for i in range(60)
    ]
    mean, std = feature_statistics(model, examples)
    np.testing.assert_allclose(mean, constants, rtol=1e-6)
    np.testing.assert_allclose(std, 0, atol=1e-5)


def test_an_epoch_holds_every_example_once_but_for_the_rest():
    examples = [example(100 + i, i) for i in range(23)]
    order = np.random.default_rng(0).permutation(23)
    batches = list(training_batches(examples, order, 5, 8000, (0,)))
    seen = [int(t) for batch in batches for t in batch.y["targets"][:, 0]]
    assert len(batches) == 4
    assert len(seen) == len(set(seen)) == 20


def test_padding_is_zero_and_lengths_are_true():
    examples = [example(100), example(300)]
    (batch,) = training_batches(examples, np.arange(2), 2, 8000, (0,))
    for row, length in zip(batch.x["waveform"], batch.x["num_samples"], strict=True):
        assert (row[:length] == 1).all()
        assert (row[length:] == 0).all()


def test_prefetch_keeps_order_and_passes_errors_on():
    assert list(prefetch(iter(range(20)))) == list(range(20))

    def failing() -> Any:
        yield 1
        raise DataError("broken")

    with pytest.raises(DataError, match="broken"):
        list(prefetch(failing()))


@pytest.mark.parametrize(
    ("sections", "named"),
    [
        ({"trian": {}}, "unknown section"),
        ({"train": {"steps": 0}}, "at least 1"),
        ({"train": {"epochs": -1}}, "0 or more"),
        ({"train": {"keep": "first"}}, "'best'"),
        ({"train": {"class_balance": 2}}, "0 to 1"),
        ({"augment": {"mixup": {"alpha": 0}}}, "more than 0"),
        ({"train": {"epoch": 3}}, "epochs"),
        ({"train": {"learning_rate": -1.0}}, "more than 0"),
        ({"augment": {"echo": {}}}, "expected one of"),
        ({"encoder": {"type": "lstmm"}}, "expected one of"),
    ],
)
def test_wrong_settings_are_named(sections: dict, named: str):
    with pytest.raises(ConfigError, match=named):
        Recipe.from_mapping({**TINY, **sections})


def test_recipe_survives_json():
    sections = read_preset("commands")
    kept = json.loads(json.dumps(Recipe.from_mapping(sections).to_mapping()))
    assert Recipe.from_mapping(kept) == Recipe.from_mapping(sections)


def test_the_seed_decides_the_mel_augmentation_too():
    states = [
        ops.convert_to_numpy(
            build_model(recipe().model, Labels(("a", "b")), seed=seed).augmentation_seed.state
        ).tolist()
        for seed in (1, 1, 2)
    ]
    assert states[0] == states[1] != states[2]


def test_steps_make_as_many_epochs_as_they_fill(tiny_data: Path, tmp_path: Path):
    result = fit(tiny_data, tmp_path / "b", recipe(epochs=0, steps=9))
    steps_an_epoch = read_bundle(result.bundle).training["utterances"] // 6
    assert result.epochs_done == round(9 / steps_an_epoch)


def test_validations_are_spread_and_the_last_epoch_has_one(tiny_data: Path, tmp_path: Path):
    result = fit(tiny_data, tmp_path / "b", recipe(epochs=7, validations=3))
    log = read_log(result.bundle)
    assert [entry["epoch"] for entry in log] == [1, 2, 3, 4, 5, 6, 7]
    assert [entry["epoch"] for entry in log if "val_accuracy" in entry] == [1, 3, 5, 7]


def test_patience_stops_a_training_that_no_longer_improves(tiny_data: Path, tmp_path: Path):
    stuck = recipe(epochs=30, learning_rate=1e-12, warmup_fraction=0.0, patience=2)
    result = fit(tiny_data, tmp_path / "b", stuck)
    assert result.epochs_done < 10
    assert result.epochs_done == result.best_epoch + 2
    assert read_bundle(result.bundle).training["finished"] is True


def test_patience_is_with_the_best_epoch_where_the_last_is_kept(tiny_data: Path, tmp_path: Path):
    stuck = recipe(epochs=30, learning_rate=1e-12, warmup_fraction=0.0, patience=2, keep="last")
    result = fit(tiny_data, tmp_path / "b", stuck)
    assert result.epochs_done < 10
    assert result.best_epoch == result.epochs_done
    found = [(entry["val_accuracy"], -entry["val_loss"]) for entry in read_log(result.bundle)]
    assert found.index(max(found)) == len(found) - 3


def test_the_last_weights_are_kept_where_asked_for(tiny_data: Path, tmp_path: Path):
    result = fit(tiny_data, tmp_path / "b", recipe(epochs=5, keep="last"))
    assert result.best_epoch == 5
    assert result.val_accuracy == read_log(result.bundle)[-1]["val_accuracy"]


def test_what_is_learnt_does_not_depend_on_the_memory(
    trained: TrainResult, tiny_data: Path, tmp_path: Path
):
    from_disk = fit(tiny_data, tmp_path / "b", recipe(**{**LEARNING_SETTINGS, "memory_mb": 0.01}))
    assert weights(from_disk) == weights(trained)


def test_a_recording_that_changes_while_it_is_streamed_is_named(
    tiny_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    built = train._Session.build

    def build(self: Any) -> None:
        built(self)
        for file in sorted(data.rglob("*.wav")):
            samples, rate = soundfile.read(file)
            soundfile.write(file, samples[:-7], rate)

    monkeypatch.setattr(train._Session, "build", build)
    with pytest.raises(DataError, match="leave recordings alone"):
        fit(data, tmp_path / "b", recipe(memory_mb=0.0))


def test_made_silence_becomes_a_label(tiny_data: Path, tmp_path: Path):
    result = fit(tiny_data, tmp_path / "b", recipe(epochs=1, silence_fraction=0.2))
    assert "_silence_" in read_bundle(result.bundle).labels.symbols


def test_mixed_rows_lose_as_their_shares_say():
    model = build_model(recipe().model, Labels(("a", "b", "c")))
    rng = np.random.default_rng(0)
    waveform = rng.standard_normal((4, 2000)).astype(np.float32)
    num_samples = np.array([2000, 1500, 1000, 700], np.int32)
    targets = np.array([[1], [2], [3], [1]], np.int32)
    y = {"targets": targets, "num_targets": np.ones(4, np.int32)}
    x = {"waveform": waveform, "num_samples": num_samples}
    logits = rng.standard_normal((4, 3)).astype(np.float32)

    def loss(shares: list[float], wanted: np.ndarray) -> float:
        shared = {**x, "share": np.array(shares, np.float32)}
        return float(model.compute_loss(shared, {**y, "targets": wanted}, logits))

    own, other = loss([1] * 4, targets), loss([1] * 4, np.roll(targets, 1, axis=0))
    assert loss([0] * 4, targets) == pytest.approx(other, rel=1e-6)
    assert loss([0.75] * 4, targets) == pytest.approx(0.75 * own + 0.25 * other, rel=1e-6)
    whole = ops.convert_to_numpy(model({**x, "share": np.ones(4, np.float32)}))
    np.testing.assert_allclose(whole[0], ops.convert_to_numpy(model(x))[0], atol=1e-5)


def test_shares_are_the_larger_half_of_a_beta_distribution():
    shares = Mixup(probability=0.5, alpha=1.0).shares(20_000, np.random.default_rng(0))
    assert shares.dtype == np.float32
    assert shares.min() >= 0.5
    assert np.mean(shares == 1) == pytest.approx(0.5, abs=0.02)
    assert shares[shares < 1].mean() == pytest.approx(0.75, abs=0.01)  # uniform between 0.5 and 1
