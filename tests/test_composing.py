"""Utterances made for training: what they say, where, and that batches know it too."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from conftest import tone

from speechrnn.clock import StepClock
from speechrnn.datasets.augment import Speed, TimeShift
from speechrnn.datasets.batches import training_batches
from speechrnn.datasets.composing import Composer, are_commands
from speechrnn.datasets.examples import HeldExample
from speechrnn.datasets.flat_start import even_spans
from speechrnn.datasets.manifest import Utterance
from speechrnn.datasets.sequences import SequenceConfig
from speechrnn.errors import DataError
from speechrnn.heads.ctc import CTC
from speechrnn.labels import GUESSED, SILENCE, UNKNOWN, Labels

RATE_HZ = 8000
LABELS = Labels(("one", "three", "two"))
HEARD_HZ = {"one": 400, "two": 900, "three": 1700}
CLEAN = SequenceConfig(num_words=(2, 4), gap_s=(-0.1, 0.2), snr_db=(100.0, 100.0))


def recording(text: str, speaker: str, duration_s: float = 0.3) -> HeldExample:
    waveform = tone(HEARD_HZ.get(text, 100), duration_s, RATE_HZ).astype(np.float32)
    return HeldExample(Utterance(Path(f"{text}.wav"), text, speaker), waveform, [])


CLIPS = [recording(text, speaker) for text in HEARD_HZ for speaker in ("ann", "bob")]


def composer(head: CTC | None = None, labels: Labels = LABELS, **changes: object) -> Composer:
    config = SequenceConfig(**{**vars(CLEAN), **changes})  # type: ignore[arg-type]
    return Composer(CLIPS, config, RATE_HZ, head or CTC(), labels)


class Layout:
    """Steps of 10 ms, the first in the middle of 25 ms."""

    clock = StepClock(0.0125, 0.01)

    def num_steps(self, num_samples: int) -> int:
        return 1 + max(0, num_samples - 200) // 80


def test_an_utterance_says_its_targets_and_is_the_same_each_time():
    made = composer().utterances(12, (7,))
    assert len({example.row.text for example in made}) > 6
    assert {example.row.speaker for example in made} == {"ann", "bob"}
    for example, again in zip(made, composer().utterances(12, (7,)), strict=True):
        assert len(example.waveform) == example.num_samples
        assert np.array_equal(example.waveform, again.waveform)
        assert [LABELS.text_of(i) for i in example.targets] == example.row.text.split()
    other = [example.row.text for example in composer().utterances(12, (8,))]
    assert other != [example.row.text for example in made]


def test_an_epoch_has_as_many_words_as_there_are_recordings():
    assert composer().num_utterances() == 128
    many = Composer(CLIPS * 100, CLEAN, RATE_HZ, CTC(), LABELS)
    assert many.num_utterances() == round(100 * len(CLIPS) / 3)


def test_what_is_no_word_is_in_no_utterance_and_speakers_must_be_known():
    noises = [recording(SILENCE, "ann"), recording(UNKNOWN, "ann")]
    with pytest.raises(DataError, match="no recording says a word"):
        Composer(noises, CLEAN, RATE_HZ, CTC(), LABELS)
    with pytest.raises(DataError, match="nobody is named"):
        Composer([recording("one", "")], CLEAN, RATE_HZ, CTC(), LABELS)


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["go", "stop"] * 8 + [SILENCE] * 20, True),
        (["turn on"] * 2, True),
        (["no yes no", "yes yes no", "no no yes", "yes yes no"], False),
        ([""], False),
    ],
)
def test_commands_are_told_from_whole_utterances(texts: list[str], expected: bool):
    assert are_commands([Utterance(Path("a"), text) for text in texts]) == expected


@pytest.mark.parametrize(
    "augmentations",
    [[], [TimeShift(max_ms=150.0)], [Speed(low=0.7, high=1.4)], [TimeShift(), Speed()]],
    ids=["plain", "shifted", "faster and slower", "both"],
)
def test_a_batch_knows_what_is_said_at_each_step_whatever_moved_it(augmentations: list):
    made = composer().utterances(24, (3,))
    (batch,) = training_batches(
        made, np.arange(24), 24, RATE_HZ, (0,), augmentations, layout=Layout()
    )
    assert batch.y["steps"].dtype == np.int32
    assert batch.y["steps"].shape[1] == Layout().num_steps(batch.x["waveform"].shape[1])
    right = wrong = 0
    for row, waveform, num_samples in zip(
        batch.y["steps"], batch.x["waveform"], batch.x["num_samples"], strict=True
    ):
        for step in range(2, Layout().num_steps(int(num_samples)) - 2):
            if len(set(row[step - 2 : step + 3])) > 1:
                continue  # within two steps of where something begins or ends
            piece = waveform[step * 80 : step * 80 + 200] * np.hanning(200)
            if row[step] == 0:
                continue  # a shift fills its gap with a reflection, which may say something
            spectrum = np.abs(np.fft.rfft(piece, 8000))
            expected_hz = HEARD_HZ[LABELS.text_of(int(row[step]))]
            # A speed moves the tones by up to 1.4, and they lie further apart than that.
            near = abs(np.log(np.argmax(spectrum) / expected_hz)) < np.log(1.5)
            right, wrong = right + near, wrong + (not near)
    assert right > 500
    assert wrong == 0


def test_the_same_word_twice_has_a_blank_step_between():
    once = [clip for clip in CLIPS if clip.row.text == "one"]
    ranges = SequenceConfig(num_words=(3, 3), gap_s=(-0.05, -0.05))
    made = Composer(once, ranges, RATE_HZ, CTC(), LABELS).utterances(4, (1,))
    (batch,) = training_batches(made, np.arange(4), 4, RATE_HZ, (0,), layout=Layout())
    for row in batch.y["steps"]:
        said = [int(row[0])] + [int(b) for a, b in itertools.pairwise(row) if a != b]
        assert said in ([0, 1, 0, 1, 0, 1, 0], [0, 1, 0, 1, 0, 1])


def test_of_a_spelled_word_only_where_it_stands_is_known():
    head = CTC(symbols="characters")
    labels = head.labels(HEARD_HZ, commands=True)
    made = composer(head, labels).utterances(4, (1,))
    (batch,) = training_batches(made, np.arange(4), 4, RATE_HZ, (0,), layout=Layout())
    assert set(np.unique(batch.y["steps"])) == {-1, 0}
    assert batch.y["num_targets"].tolist() == [len(example.row.text) for example in made]


def test_of_an_utterance_as_it_is_each_symbol_is_guessed_to_be_in_its_share():
    heard = tone(900, 9000 / RATE_HZ, RATE_HZ)
    sound = np.concatenate([np.zeros(3000), heard, np.zeros(5000)]).astype(np.float32)
    spans = even_spans(sound, RATE_HZ, [3, 1, 1])
    starts, ends, symbols = map(list, zip(*spans, strict=True))
    assert symbols == [3, 1, 1]
    assert starts[1:] == ends[:-1]
    assert np.ptp(np.subtract(ends, starts)) <= 1
    np.testing.assert_allclose([starts[0], ends[-1]], [3000, 12000], atol=0.06 * RATE_HZ)
    assert even_spans(np.zeros(4000, np.float32), RATE_HZ, [2]) == ((0, 0, 2),)
    assert even_spans(sound, RATE_HZ, []) == ()
    row = Utterance(Path("a.wav"), "three one one", "s")
    made = [HeldExample(row, sound, [3, 1, 1], spans)] * 2
    (batch,) = training_batches(made, np.arange(2), 2, RATE_HZ, (0,), layout=Layout())
    steps = GUESSED - batch.y["steps"][0]
    assert [int(s) for s, _ in itertools.groupby(steps)] == [0, 3, 1, 0, 1, 0]


def test_of_a_recording_as_it_is_nothing_is_known():
    (batch,) = training_batches(CLIPS, np.arange(2), 2, RATE_HZ, (0,), layout=Layout())
    assert (batch.y["steps"] == -1).all()
