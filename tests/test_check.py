"""``speechrnn data check`` counts everything, and names what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from speechrnn.cli import main
from speechrnn.config import PRESETS
from speechrnn.datasets.check import DOUBTFUL, WRONG, check_data, describe_report, is_clipped

RATE_HZ = 16000


def clip(seed: int, seconds: float = 0.5) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal(round(seconds * RATE_HZ))


def write(folder: Path, name: str, waveform: np.ndarray, rate_hz: int = RATE_HZ) -> str:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, waveform, rate_hz)
    return str(path)


@pytest.fixture
def good(tmp_path: Path) -> Path:
    for seed, (label, speaker) in enumerate(
        [("yes", "anna"), ("yes", "ben"), ("no", "anna"), ("no", "ben"), ("no", "carl")]
    ):
        write(tmp_path / "data", f"{label}/{speaker}/{seed}.wav", clip(seed))
    return tmp_path / "data"


def test_good_data_is_counted_and_nothing_is_wrong(good: Path):
    report = check_data(good)
    assert report["recordings"] == 5
    assert report["audio_seconds"] == pytest.approx(2.5)
    assert report["labels"] == {
        "no": {"count": 3, "seconds": 1.5, "speakers": 3},
        "yes": {"count": 2, "seconds": 1.0, "speakers": 2},
    }
    assert report["speakers"]["anna"] == {"count": 2, "seconds": 1.0}
    assert report["duration_s"] == {"min": 0.5, "median": 0.5, "max": 0.5}
    assert report["sample_rates_hz"] == {"16000": 5}
    assert report["wrong"] == 0
    assert not any(report[key] for key in [*WRONG, *DOUBTFUL])
    text = "\n".join(describe_report(report))
    assert "5 recordings, 2 s, 2 labels, 3 speakers" in text
    assert "anna 2" in text
    assert "nothing is wrong" in text


def test_what_is_wrong_is_named(good: Path):
    (good / "yes" / "broken.wav").write_bytes(b"RIFF and no more")
    silent = write(good, "yes/silent.wav", np.zeros(8000))
    write(good, "_silence_/quiet.wav", np.zeros(8000))  # where silence is right
    pair = [write(good, f"{label}/same.wav", clip(99)) for label in ("no", "yes")]
    report = check_data(good)
    assert [entry["audio_filepath"] for entry in report["broken"]] == [
        str(good / "yes" / "broken.wav")
    ]
    assert "sound file" in report["broken"][0]["error"]
    assert report["silent"] == [silent]
    assert [sorted(names) for names in report["contradictions"]] == [pair]
    assert report["wrong"] == 3
    text = "\n".join(describe_report(report))
    assert "wrong: 1 cannot be read" in text
    assert silent in text
    assert "nothing is wrong" not in text


def test_what_is_doubtful_is_listed_and_no_error(good: Path):
    short = write(good, "yes/short.wav", clip(10, 0.05))
    long = write(good, "yes/long.wav", clip(11, 5.0))
    clipped = write(good, "yes/clipped.wav", np.clip(5 * clip(12), -0.5, 0.5))
    twice = [write(good, f"no/twice{i}.wav", clip(13)) for i in range(2)]
    alone = write(good, "maybe/alone.wav", clip(14, 0.5), 8000)
    report = check_data(good)
    assert report["too_short"] == [short]
    assert report["too_long"] == [long]
    assert report["clipped"] == [clipped]
    assert report["duplicates"] == [twice]
    assert report["labels_with_one_clip"] == ["maybe"]
    assert report["sample_rates_hz"] == {"16000": 10, "8000": 1}
    assert report["wrong"] == 0
    assert alone not in str({key: report[key] for key in WRONG})


def test_speakers_in_several_splits_are_wrong(tmp_path: Path):
    for split, speakers in (("train", "ab"), ("val", "bc")):
        rows = []
        for number, speaker in enumerate(speakers):
            name = f"{split}{number}.wav"
            write(tmp_path, name, clip(ord(speaker) + number))
            rows.append({"audio_filepath": name, "text": "yes", "speaker": speaker})
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{split}.jsonl").write_text(lines)
    report = check_data(tmp_path)
    assert report["shared_speakers"] == ["b"]
    assert report["wrong"] == 1


def test_clipping_is_told_from_loudness():
    time_s = np.arange(RATE_HZ) / RATE_HZ
    loud = np.sin(2 * np.pi * 200 * time_s).astype(np.float32)
    assert not is_clipped(loud * np.float32(0.7) + clip(0, 1.0).astype(np.float32))
    assert is_clipped(np.clip(loud, -0.8, 0.8))
    assert not is_clipped(np.zeros(8000, np.float32))
    assert not is_clipped(loud[:2])


def test_the_command_s_status_and_figures(good: Path, tmp_path: Path, capsys):
    assert main(["data", "check", str(good), "--json", str(tmp_path / "f.json")]) == 0
    assert json.loads((tmp_path / "f.json").read_text())["recordings"] == 5
    assert "2 labels" in capsys.readouterr().out
    (good / "yes" / "empty.wav").touch()
    assert main(["data", "check", str(good), "--json", "-"]) == 1
    assert json.loads(capsys.readouterr().out)["wrong"] == 1
    assert main(["data", "check", str(tmp_path / "missing")]) == 2
    assert "no such data" in capsys.readouterr().err


def test_only_broken_recordings_are_a_report_too(tmp_path: Path, capsys):
    (tmp_path / "yes").mkdir()
    (tmp_path / "yes" / "empty.wav").touch()
    assert main(["data", "check", str(tmp_path)]) == 1
    assert "1 cannot be read" in capsys.readouterr().out


def test_checking_needs_no_training_packages(good: Path):
    code = (
        "import sys; from speechrnn.cli import main; main(['data', 'check', sys.argv[1]]); "
        "print(*{'keras', 'tensorflow', 'scipy', 'librosa', 'matplotlib'} & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code, str(good)], capture_output=True, text=True, check=True
    )
    assert run.stdout.splitlines()[-1] == ""


# ------------------------------------------------------------------ examples of augmentation

EVERYTHING = "\n".join(
    f"[augment.{name}]"
    for name in (
        *("time_shift", "speed", "gain", "clipping", "coloured_noise", "background_noise"),
        *("room", "channel", "band_limit", "telephone", "vocal_tract", "spec_augment", "mixup"),
    )
)


def write_recipe(path: Path, augmentations: str) -> str:
    """The default preset with other augmentations."""
    sections, _, _ = (PRESETS / "commands.toml").read_text(encoding="utf-8").partition("[augment.")
    path.write_text(f"{sections}\n{augmentations}\n", encoding="utf-8")
    return str(path)


def test_every_augmentation_of_a_recipe_is_written_as_sound_and_picture(
    good: Path, tmp_path: Path, capsys
):
    recipe = write_recipe(tmp_path / "r.toml", EVERYTHING)
    to = tmp_path / "listen"
    arguments = ["data", "check", str(good), "--listen-to-augmentation", str(to)]
    assert main([*arguments, "--config", recipe]) == 0
    assert str(to / "index.html") in capsys.readouterr().out
    page = (to / "index.html").read_text()
    sounds = sorted(to.glob("*.wav"))
    assert len(sounds) == 3 * (1 + 3 * 10 + 3)
    assert len(list(to.glob("*.png"))) == 3
    for file in sounds:
        waveform, rate_hz = soundfile.read(file, dtype="float32")
        assert rate_hz == RATE_HZ
        assert np.isfinite(waveform).all()
        assert waveform.any()
        assert f'src="{file.name}"' in page
    original, _ = soundfile.read(to / "1_original.wav", dtype="float32")
    telephone, _ = soundfile.read(to / "1_telephone_1.wav", dtype="float32")
    assert len(original) == len(telephone)
    assert not np.array_equal(original, telephone)
    for name in EVERYTHING.replace("[augment.", "").replace("]", "").split():
        assert name in page


def test_the_same_examples_come_twice(good: Path, tmp_path: Path):
    recipe = write_recipe(tmp_path / "r.toml", "[augment.coloured_noise]\n[augment.speed]")
    for name in ("a", "b"):
        arguments = ["--listen-to-augmentation", str(tmp_path / name)]
        assert main(["data", "check", str(good), *arguments, "--config", recipe]) == 0
    files = list((tmp_path / "a").glob("*.wav"))
    assert len(files) == 3 * (1 + 3 * 2 + 3)
    for file in files:
        first, again = (soundfile.read(tmp_path / name / file.name)[0] for name in "ab")
        np.testing.assert_array_equal(first, again)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--set", "augment.gain.loudness=1"), "augment.loudness: unknown setting"),
        (("--noise", "nowhere"), "nowhere: no such folder"),
    ],
)
def test_a_wrong_recipe_is_an_error_and_no_page(
    good: Path, tmp_path: Path, capsys, arguments: tuple[str, ...], named: str
):
    to = tmp_path / "listen"
    call = ["data", "check", str(good), "--listen-to-augmentation", str(to), *arguments]
    assert main(call) == 2
    assert named in capsys.readouterr().err
    assert not to.exists()
