"""Utterances of several commands, put together from recordings of single ones.

    one speaker's recordings -> cut to the word -> level -> gaps or crossfades -> noise -> waveform

Nobody says "set timer four five" into a data set of single words; this is as near as it comes. All
words of an utterance are one speaker's. Where each of them begins and ends is known to the sample.
An utterance depends on ``(seed, index)``, the settings and the recordings, never on the others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from speechrnn.audio.activity import word_extent
from speechrnn.config import to_mapping
from speechrnn.datasets.augment_noise import coloured_noise
from speechrnn.datasets.manifest import Utterance, is_word
from speechrnn.datasets.waveforms import mean_power
from speechrnn.errors import ConfigError, DataError, OutputError
from speechrnn.files import check_place, json_text, write_atomically

MAX_PEAK = 0.99

_BOUNDS = (
    ("num_words", 1, 1000),
    ("gap_s", -0.5, 60),
    ("lead_s", 0, 60),
    ("trail_s", 0, 60),
    ("level_dbfs", -60, -6),
    ("word_gain_db", -20, 20),
    ("snr_db", -20, 100),
    ("noise_exponent", 0, 2),
)


@dataclass(frozen=True)
class SequenceConfig:
    """The ranges from which each utterance is drawn, uniformly, as ``(lowest, highest)``.

    Attributes:
        num_words: Words of an utterance.
        gap_s: Between two words; where it is negative they overlap, one fading into the other.
        lead_s: Before the first word.
        trail_s: Behind the last.
        level_dbfs: Mean power of the words together, against full scale.
        word_gain_db: Of a word against the others.
        snr_db: The words' mean power over the noise's.
        noise_exponent: Its power falls as ``1 / f ** x``: 0 is white, 1 pink, 2 brown.

    Raises:
        ConfigError: A range out of bounds, or the wrong way round.
    """

    num_words: tuple[int, int] = (1, 5)
    gap_s: tuple[float, float] = (-0.05, 0.4)
    lead_s: tuple[float, float] = (0.1, 0.4)
    trail_s: tuple[float, float] = (0.1, 0.4)
    level_dbfs: tuple[float, float] = (-35.0, -20.0)
    word_gain_db: tuple[float, float] = (-3.0, 3.0)
    snr_db: tuple[float, float] = (15.0, 50.0)
    noise_exponent: tuple[float, float] = (0.0, 2.0)

    def __post_init__(self) -> None:
        for name, least, most in _BOUNDS:
            got = getattr(self, name)
            if not (len(got) == 2 and least <= got[0] <= got[1] <= most):
                raise ConfigError(
                    f"sequences.{name}: got {got}, expected (low, high) from {least} to {most}"
                )


@dataclass(frozen=True)
class SpokenWord:
    """A word of a made utterance, and where it is, in samples."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class SequencePlan:
    """An utterance that can be made from recordings: everything that was drawn for it.

    Attributes:
        clips: Which recordings, in order.
        words: What they say, and where.
        gains: Amplitude of each, for a recording of mean power 1.
        num_samples: Of the utterance.
        level: Root of the mean power of its words.
        noise_level: Root of the mean power of the noise.
        noise_exponent: Its colour.
        noise_seed: Decides it.
    """

    clips: tuple[int, ...]
    words: tuple[SpokenWord, ...]
    gains: tuple[float, ...]
    num_samples: int
    level: float
    noise_level: float
    noise_exponent: float
    noise_seed: int

    @property
    def text(self) -> str:
        """The words, with spaces between them."""
        return " ".join(word.text for word in self.words)


def plan_sequence(
    clips: Sequence[tuple[str, int]],
    sample_rate_hz: int,
    config: SequenceConfig,
    rng: np.random.Generator,
    words: Sequence[str] = (),
) -> SequencePlan:
    """Draw an utterance from one speaker's recordings.

    Args:
        clips: Text and length in samples of each recording, cut to the word by :func:`trimmed`.
        sample_rate_hz: Of the recordings.
        config: The ranges.
        rng: Draws from them.
        words: What it says, each the text of a recording; none draws them too.
    """
    if words:
        said = [[i for i, (text, _) in enumerate(clips) if text == word] for word in words]
        chosen = [same[int(rng.integers(len(same)))] for same in said]
    else:
        count = int(rng.integers(*config.num_words, endpoint=True))
        chosen = rng.integers(len(clips), size=count).tolist()
    count = len(chosen)
    gaps = np.rint(rng.uniform(*config.gap_s, count) * sample_rate_hz).astype(int).tolist()
    place = round(rng.uniform(*config.lead_s) * sample_rate_hz)
    spoken: list[SpokenWord] = []
    for index, gap in zip(chosen, gaps, strict=True):
        text, size = clips[index]
        if spoken:  # neither fades for longer than half of itself, so each word has a middle
            place += max(gap, -(size // 2), -((spoken[-1].end - spoken[-1].start) // 2))
        spoken.append(SpokenWord(text, place, place + size))
        place += size
    level = 10 ** (rng.uniform(*config.level_dbfs) / 20)
    return SequencePlan(
        clips=tuple(chosen),
        words=tuple(spoken),
        gains=tuple(10 ** (rng.uniform(*config.word_gain_db, count) / 20)),
        num_samples=place + round(rng.uniform(*config.trail_s) * sample_rate_hz),
        level=level,
        noise_level=level * 10 ** (-rng.uniform(*config.snr_db) / 20),
        noise_exponent=rng.uniform(*config.noise_exponent),
        noise_seed=int(rng.integers(2**31)),
    )


def make_sequence(
    plan: SequencePlan, clips: Sequence[np.ndarray], sample_rate_hz: int
) -> np.ndarray:
    """The utterance, float32 ``[num_samples]`` within -0.99..0.99.

    Args:
        plan: What was drawn.
        clips: The recording of each of its words, float32 ``[samples]``, none of them silent.
        sample_rate_hz: Of the recordings.
    """
    pieces = [
        np.float32(gain / np.sqrt(mean_power(clip))) * clip
        for gain, clip in zip(plan.gains, clips, strict=True)
    ]
    for n in range(1, len(pieces)):
        overlap = plan.words[n - 1].end - plan.words[n].start
        if overlap > 0:
            fade = np.sin(np.linspace(0, np.pi / 2, overlap, dtype=np.float32))
            pieces[n][:overlap] *= fade
            pieces[n - 1][-overlap:] *= fade[::-1]
    waveform = np.zeros(plan.num_samples, np.float32)
    for word, piece in zip(plan.words, pieces, strict=True):
        waveform[word.start : word.end] += piece
    speech = np.concatenate([waveform[word.start : word.end] for word in plan.words])
    waveform *= np.float32(plan.level / np.sqrt(mean_power(speech)))
    rng = np.random.default_rng(plan.noise_seed)
    noise = coloured_noise(plan.num_samples, sample_rate_hz, plan.noise_exponent, rng)
    waveform += np.float32(plan.noise_level) * noise
    waveform *= np.float32(min(1.0, MAX_PEAK / max(np.abs(waveform).max(), 1e-9)))
    return waveform


def trimmed(waveform: np.ndarray, sample_rate_hz: int) -> np.ndarray:
    """The word in a recording, float32 ``[samples]``, without the silence around it.

    Empty where the recording holds nothing but zeros.
    """
    first, last = word_extent(waveform, sample_rate_hz)
    return waveform[first:last]


def clips_by_speaker(
    loaded: Sequence[tuple[Utterance, np.ndarray]], sample_rate_hz: int
) -> dict[str, list[tuple[str, np.ndarray]]]:
    """Speaker -> texts and trimmed waveforms of the recordings that say a word, sorted.

    Raises:
        DataError: None of them does, or the speaker of one is not known.
    """
    found: dict[str, list[tuple[str, np.ndarray]]] = defaultdict(list)
    for row, waveform in loaded:
        if not is_word(row.text):
            continue
        check_speaker(row)
        clip = trimmed(waveform, sample_rate_hz)
        if len(clip):
            found[row.speaker].append((row.text, clip))
    if not found:
        raise DataError("no recording says a word; expected labels other than those of silence")
    return dict(sorted(found.items()))


def check_speaker(row: Utterance) -> None:
    """Raise DataError for a recording whose speaker is not known."""
    if not row.speaker:
        raise DataError(
            f"{row.path}: nobody is named as its speaker, expected one; an utterance is put "
            "together from recordings of one person"
        )


def write_sequences(
    speakers: Mapping[str, Sequence[tuple[str, np.ndarray]]],
    sample_rate_hz: int,
    config: SequenceConfig,
    count: int,
    out_dir: Path,
    *,
    phrases: Sequence[Sequence[str]] = (),
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Path:
    """Write utterances, the speakers in turn, as ``audio/<index>.flac``, and their manifest.

    A row has what every manifest has, and ``words``: ``text``, ``start``, ``end`` in seconds.

    Args:
        speakers: What :func:`clips_by_speaker` gives.
        sample_rate_hz: Of the recordings, and of the utterances.
        config: The ranges.
        count: Utterances.
        out_dir: A new or empty folder.
        phrases: The words of what is said, of which each utterance draws one; none draws words.
        seed: Decides everything that is drawn.
        progress: Called with the number of utterances done and of all, after each.

    Returns:
        ``out_dir / "sequences.jsonl"``, written last.

    Raises:
        DataError: A speaker whose turn it is does not say a word of a phrase.
        OutputError: The folder holds something, or cannot be written.
    """
    _check_phrases(speakers, phrases)
    manifest = out_dir / "sequences.jsonl"
    check_place(manifest)
    try:
        if out_dir.exists() and any(out_dir.iterdir()):
            raise OutputError(f"{out_dir}: is not empty; name a new folder")
        (out_dir / "audio").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"{out_dir}: cannot be written ({error.strerror})") from error
    names, lines = list(speakers), []
    for index in range(count):
        speaker = names[index % len(names)]
        clips = speakers[speaker]
        lengths = [(text, len(waveform)) for text, waveform in clips]
        rng = np.random.default_rng([seed, index])
        words = phrases[int(rng.integers(len(phrases)))] if phrases else ()
        plan = plan_sequence(lengths, sample_rate_hz, config, rng, words)
        waveform = make_sequence(plan, [clips[i][1] for i in plan.clips], sample_rate_hz)
        file = f"audio/{index:06}.flac"
        try:
            soundfile.write(out_dir / file, waveform, sample_rate_hz, subtype="PCM_16")
        except (OSError, soundfile.LibsndfileError) as error:
            raise OutputError(f"{out_dir / file}: cannot be written ({error})") from error
        row = {
            "audio_filepath": file,
            "duration": round(len(waveform) / sample_rate_hz, 4),
            "text": plan.text,
            "speaker": speaker,
            "words": [
                {
                    "text": word.text,
                    "start": round(word.start / sample_rate_hz, 4),
                    "end": round(word.end / sample_rate_hz, 4),
                }
                for word in plan.words
            ],
        }
        lines.append(json_text(row, indent=None))
        if progress:
            progress(index + 1, count)
    about = {**to_mapping(config), "count": count, "seed": seed, "phrases": [*map(list, phrases)]}
    write_atomically(out_dir / "sequences.json", json_text(about).encode())
    write_atomically(manifest, "".join(lines).encode())
    return manifest


def _check_phrases(
    speakers: Mapping[str, Sequence[tuple[str, np.ndarray]]], phrases: Sequence[Sequence[str]]
) -> None:
    wanted = {word for phrase in phrases for word in phrase}
    for speaker, clips in speakers.items():
        missing = sorted(wanted - {text for text, _ in clips})
        if missing:
            raise DataError(
                f"speaker {speaker}: no recording says {missing[0]!r}, which is in a phrase; leave "
                "the phrase out, or give other recordings"
            )
