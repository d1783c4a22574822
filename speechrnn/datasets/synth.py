"""A small data set of spoken words made from nothing but the words, with espeak-ng.

    words -> speak (espeak-ng, 22050 Hz) -> place_word (position, noise, level) -> FLAC + manifests

It shows that a recipe runs and learns, and mixed with recordings of few people it teaches how
others may say the words; it does not replace recordings. The speaker of a clip is an espeak-ng
voice; accent, speed and pitch are drawn for each clip, and an accent may be that of one who speaks
the language with the sounds of another. Voices with one vocal tract stand in one split.

A clip depends on ``(seed, voice, word, index)``, the settings of the sound and the espeak-ng
version, never on the other words and voices.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import soundfile

from speechrnn.config import to_mapping
from speechrnn.datasets import espeak
from speechrnn.datasets.augment_noise import coloured_noise
from speechrnn.datasets.manifest import Utterance
from speechrnn.datasets.reading import read_own_rate
from speechrnn.errors import ConfigError, DataError, OutputError
from speechrnn.files import json_text
from speechrnn.labels import SILENCE, UNKNOWN, normalise_text
from speechrnn.spread import evenly

SPLIT_SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}
MARKER, PARTIAL_MARKER = "synth.json", "synth.partial.json"
NOISE_EXPONENT = (0.0, 2.0)  # power falls as 1/f^x: 0 is white, 1 pink, 2 brown
MAX_PEAK = 0.99
# How many recordings tell the lengths of the others, and which quantiles stand for them.
LENGTHS_READ, CLIP_QUANTILES = 500, np.linspace(0.05, 0.95, 10)

_BOUNDS = (
    ("num_voices", 4, 1000),  # the fewest that give every split a voice
    ("clips_per_voice", 1, 10_000),
    ("sample_rate_hz", 4000, 192_000),
    ("seed", 0, 2**63),
    ("foreign", 0, 1),
    ("speed_wpm", 80, 450),  # espeak-ng's own limits, as the next two
    ("pitch", 0, 99),
    ("pitch_range", 0, 99),
    ("lead_s", 0, 60),
    ("trail_s", 0, 60),
    ("peak_dbfs", -30, 0),
    ("snr_db", 0, 50),  # beyond these two, 16 bits would hold much of the noise as zeros
)


@dataclass(frozen=True)
class SynthConfig:
    """What to say, by how many voices, and the ranges from which each clip is drawn.

    Words are put in the form of labels (NFC, single spaces); espeak-ng spells a word out in a
    script that ``language`` does not use. Ranges are ``(lowest, highest)``, drawn uniformly.
    Words, voices and clips may be added without a change to any other clip. ``foreign`` is the
    part of the clips in which a native of another language speaks, as far as that language has the
    sounds of the word. A clip is as long as one of ``clip_s``, drawn, unless its word is longer.

    Raises:
        ConfigError: No words, a word twice, empty or unprintable, or a number out of range.
    """

    words: tuple[str, ...]
    language: str = "en"
    num_voices: int = 60
    clips_per_voice: int = 3  # of each word
    sample_rate_hz: int = 16000
    seed: int = 0
    clip_s: tuple[float, ...] = (1.0,)
    speed_wpm: tuple[int, int] = (130, 210)  # espeak-ng's default is 175
    pitch: tuple[int, int] = (30, 70)  # 0 .. 99; 50 is the voice's own
    pitch_range: tuple[int, int] = (30, 70)  # 0 (monotone) .. 99
    lead_s: tuple[float, float] = (0.05, 0.15)  # least silence before and after the word,
    trail_s: tuple[float, float] = (0.05, 0.15)  # as far as clip_s leaves room for it
    peak_dbfs: tuple[float, float] = (-20.0, -3.0)  # of the word
    snr_db: tuple[float, float] = (15.0, 40.0)  # the word's mean power over the noise's
    foreign: float = 0.0

    def __post_init__(self) -> None:
        if isinstance(self.words, str) or not self.words:
            raise ConfigError(f"words: got {self.words!r}, expected a list of one word or more")
        words = tuple(normalise_text(word) for word in self.words)
        object.__setattr__(self, "words", words)
        for word in words:
            if not word or not word.isprintable() or words.count(word) > 1:
                raise ConfigError(f"words: got {word!r}, expected printable text, each word once")
        lengths_s = self.clip_s if isinstance(self.clip_s, tuple) else ()
        if not lengths_s or not all(0.1 <= length_s <= 60 for length_s in lengths_s):
            raise ConfigError(
                f"clip_s: got {self.clip_s}, expected a tuple of seconds from 0.1 to 60"
            )
        for name, low, high in _BOUNDS:
            got = getattr(self, name)
            ends = got if isinstance(got, tuple) else (got, got)
            if len(ends) != 2 or not low <= ends[0] <= ends[1] <= high:
                what = "(low, high)" if isinstance(got, tuple) else "a number"
                raise ConfigError(f"{name}: got {got}, expected {what} from {low} to {high}")


def config_like(rows: Sequence[Utterance]) -> SynthConfig:
    """What a synthesiser would add to recordings: their words, lengths and rate, many accents.

    Args:
        rows: The recordings; at most 500, spread evenly over all, are looked into.

    Raises:
        AudioError: A recording cannot be read.
        DataError: No words but silence and other words.
    """
    words = sorted({row.text for row in rows} - {SILENCE, UNKNOWN})
    if not words:
        raise DataError(f"no words to say beside {SILENCE} and {UNKNOWN}")
    chosen = evenly(sorted(rows, key=lambda row: row.path), LENGTHS_READ)
    found = [read_own_rate(row.path) for row in chosen]
    lengths_s = np.quantile([len(clip) / rate_hz for clip, rate_hz in found], CLIP_QUANTILES)
    rates_hz, counts = np.unique([rate_hz for _, rate_hz in found], return_counts=True)
    return SynthConfig(
        words=tuple(words),
        sample_rate_hz=int(rates_hz[counts.argmax()]),
        clip_s=tuple(float(round(max(length, 0.1), 3)) for length in lengths_s),
        lead_s=(0.0, 0.1),
        trail_s=(0.0, 0.15),
        snr_db=(10.0, 50.0),
        foreign=0.4,
    )


def synthesise(
    config: SynthConfig, out_dir: Path, *, progress: Callable[[int, int], None] | None = None
) -> dict[str, Path]:
    """Write the data set: ``<split>/<word>/<voice>_nohash_<index>.flac`` and three manifests.

    ``synth.json``, written last, marks a complete folder, which is returned as it stands. A folder
    that was left half-written under the same config is done again.

    Args:
        config: What to make; ``<word>`` is ``safe_name(word)``.
        out_dir: A new or empty folder, or one that an earlier call with this config began.
        progress: Called with the number of clips done and the number of all, after each.

    Returns:
        ``train``, ``val`` and ``test`` -> the manifest of the split.

    Raises:
        ConfigError: More voices than there are, or an unknown language.
        DataError: A word gives no sound, or espeak-ng fails.
        MissingExtraError: espeakng-loader is not installed.
        OutputError: The folder holds something else, or cannot be written.
    """
    manifests = {split: out_dir / f"{split}.jsonl" for split in SPLIT_SHARES}
    with _output_errors(out_dir):
        if _is_complete(out_dir, config):
            return manifests
    voices = choose_voices(config.num_voices)
    for word in config.words:  # fail before the first file is written
        make_clip(config, voices[0], word, 0)
    wanted = list(product(voices, config.words, range(config.clips_per_voice)))
    lines: dict[str, list[str]] = {split: [] for split in manifests}
    with _output_errors(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
        (out_dir / PARTIAL_MARKER).write_text(_settings(config), encoding="utf-8")
        for done, (voice, word, index) in enumerate(wanted, start=1):
            row = _write_clip(config, voice, word, index, out_dir)
            lines[split_of(voice)].append(json_text(row, indent=None))
            if progress:
                progress(done, len(wanted))
        for split, manifest in manifests.items():  # sorted by file, which a row begins with
            manifest.write_text("".join(sorted(lines[split])), encoding="utf-8", newline="\n")
        os.replace(out_dir / PARTIAL_MARKER, out_dir / MARKER)
    return manifests


def make_clip(config: SynthConfig, voice: str, word: str, index: int) -> np.ndarray:
    """One clip, the same whatever else is made.

    Returns:
        float32 ``[num_samples]`` at ``config.sample_rate_hz``, within -0.99..0.99.

    Raises:
        ConfigError: An unknown language.
        DataError: The word gives no sound, or espeak-ng fails.
        MissingExtraError: espeakng-loader is not installed.
    """
    import soxr  # only where it is needed, as in speechrnn.audio

    key = json.dumps([config.seed, voice, word, index]).encode()
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(key).digest(), "big"))
    accents = espeak.available_accents(config.language)
    text, accent, foreign = word, accents[rng.integers(len(accents))], False
    if config.foreign and rng.random() < config.foreign:
        others = espeak.foreign_accents(word, accent)
        if others:
            accent, text = others[rng.integers(len(others))]
            foreign = True
    spoken = espeak.speak(
        text,
        voice,
        accent,
        as_phonemes=foreign,
        speed_wpm=int(rng.integers(*config.speed_wpm, endpoint=True)),
        pitch=int(rng.integers(*config.pitch, endpoint=True)),
        pitch_range=int(rng.integers(*config.pitch_range, endpoint=True)),
        seed=int(rng.integers(1, 2**31)),
    )
    if not len(spoken):
        raise DataError(
            f"word {word!r}: gives no sound in language {config.language!r}, expected a word "
            "that can be read aloud"
        )
    return place_word(soxr.resample(spoken, espeak.RATE_HZ, config.sample_rate_hz), config, rng)


def place_word(word: np.ndarray, config: SynthConfig, rng: np.random.Generator) -> np.ndarray:
    """A clip with the word somewhere in it, over quiet coloured noise.

    Args:
        word: float ``[num_samples]`` at ``config.sample_rate_hz``, not silent.
        config: The length, and the ranges of silence, level and noise.
        rng: Draws from them.

    Returns:
        float32 ``[num_samples]`` within -0.99..0.99: a ``clip_s`` long where the word fits.
    """
    lead = round(rng.uniform(*config.lead_s) * config.sample_rate_hz)
    trail = round(rng.uniform(*config.trail_s) * config.sample_rate_hz)
    clip_s = config.clip_s[rng.integers(len(config.clip_s))]
    clip_samples = round(clip_s * config.sample_rate_hz)
    num_samples = clip_samples if len(word) <= clip_samples else lead + len(word) + trail
    slack = num_samples - len(word)
    first = min(lead, slack)
    start = rng.integers(first, max(first, slack - trail), endpoint=True)
    word_peak = 10 ** (rng.uniform(*config.peak_dbfs) / 20)
    noise_gain = 10 ** (-rng.uniform(*config.snr_db) / 20)
    clip = coloured_noise(num_samples, config.sample_rate_hz, rng.uniform(*NOISE_EXPONENT), rng)
    clip *= noise_gain * np.sqrt(np.mean(np.square(word)))
    clip[start : start + len(word)] += word
    clip *= min(word_peak / np.max(np.abs(word)), MAX_PEAK / np.max(np.abs(clip)))
    return clip.astype(np.float32)


def split_of(voice: str) -> str:
    """The split of a voice, from a hash of its speaker's name alone."""
    position = int(hashlib.sha1(espeak.speaker_of(voice).encode()).hexdigest()[:8], 16) / 2**32
    if position < SPLIT_SHARES["train"]:
        return "train"
    return "val" if position < SPLIT_SHARES["train"] + SPLIT_SHARES["val"] else "test"


def choose_voices(num_voices: int) -> list[str]:
    """That many voices, the splits in proportion; a larger number only adds voices.

    Raises:
        ConfigError: There are not so many.
        MissingExtraError: espeakng-loader is not installed.
    """
    voices = espeak.available_voices()
    if num_voices > len(voices):
        raise ConfigError(f"num_voices: got {num_voices}, expected at most {len(voices)}")
    ranked = []
    for split, share in SPLIT_SHARES.items():
        members = [voice for voice in voices if split_of(voice) == split]
        members.sort(key=lambda voice: hashlib.sha1(voice.encode()).hexdigest())
        ranked += [((rank + 0.5) / share, voice) for rank, voice in enumerate(members)]
    return sorted(voice for _, voice in sorted(ranked)[:num_voices])


def safe_name(word: str) -> str:
    """A folder name for a word that no other word has, on any file system.

    Up to 40 of a-z and 0-9 stay as they are. Every other word keeps its letters and digits, gets
    ``_`` for the rest, and a hash after ``-``, which no plain word holds; so do words with capitals
    (some file systems do not tell them apart) and Windows' device names.

    >>> safe_name("go"), safe_name("turn on")
    ('go', 'turn_on-2d1f77d0')
    """
    if re.fullmatch(r"(?!(con|prn|aux|nul|(com|lpt)\d)$)[a-z0-9]{1,40}", word):
        return word
    letters = "".join(letter if letter.isalnum() else "_" for letter in word)
    return f"{letters[:40]}-{hashlib.sha1(word.encode()).hexdigest()[:8]}"


def _write_clip(
    config: SynthConfig, voice: str, word: str, index: int, out_dir: Path
) -> dict[str, str | float]:
    """Write one clip; its row in the manifest."""
    clip = make_clip(config, voice, word, index)
    file = f"{split_of(voice)}/{safe_name(word)}/{voice}_nohash_{index}.flac"
    (out_dir / file).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(out_dir / file, clip, config.sample_rate_hz, subtype="PCM_16")
    duration_s = round(len(clip) / config.sample_rate_hz, 4)
    return {"audio_filepath": file, "duration": duration_s, "text": word, "speaker": voice}


def _settings(config: SynthConfig) -> str:
    """What the marker of a folder holds."""
    return json_text(to_mapping(config))


def _is_complete(out_dir: Path, config: SynthConfig) -> bool:
    """Whether the folder is done already.

    Raises:
        OutputError: It is not, and holds something else than a part of the same data set.
    """
    if not out_dir.exists() or not any(out_dir.iterdir()):
        return False
    for marker in (MARKER, PARTIAL_MARKER):
        if (out_dir / marker).exists():
            found = (out_dir / marker).read_text(encoding="utf-8", errors="replace")
            if found == _settings(config):
                return marker == MARKER
            raise OutputError(
                f"{out_dir}: holds a data set of other settings (see {marker}), expected these; "
                "name a new folder, or remove this one"
            )
    raise OutputError(f"{out_dir}: is not empty and no synthetic data set; name a new folder")


@contextmanager
def _output_errors(folder: Path) -> Iterator[None]:
    """Any failure to write, as one of :class:`OutputError`."""
    try:
        yield
    except (OSError, soundfile.LibsndfileError) as error:
        reason = error.strerror if isinstance(error, OSError) else error.error_string
        raise OutputError(f"{folder}: cannot be written ({reason})") from error
