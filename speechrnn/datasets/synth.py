"""A small data set of spoken words made from nothing but the words, with espeak-ng.

    words -> speak (espeak-ng, 22050 Hz) -> place_word (position, noise, level) -> FLAC + manifests

It shows that a recipe runs and learns; it does not replace recordings, because espeak-ng is a
formant synthesiser whose voices share their pronunciation. A *voice*, the speaker of a clip, is an
espeak-ng variant (``voices/!v``); its accent, speed and pitch are drawn for each clip. Voices with
one vocal tract (``SAME_SPEAKER``) stand in one split.

A clip depends on ``(seed, voice, word, index)``, the settings of the sound and the espeak-ng
version, never on the other words and voices. Source: espeak-ng 1.52 (``speak_lib.h``), as packed
by espeakng-loader 0.2.4.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile

from speechrnn.config import to_mapping
from speechrnn.errors import ConfigError, DataError, MissingExtraError, OutputError
from speechrnn.labels import normalise_text

SPLIT_SHARES = {"train": 0.70, "val": 0.15, "test": 0.15}
MARKER, PARTIAL_MARKER = "synth.json", "synth.partial.json"
NOISE_EXPONENT = (0.0, 2.0)  # power falls as 1/f^x: 0 is white, 1 pink, 2 brown
MAX_PEAK = 0.99

# Voices left out, with the reason. "n %": a linear classifier of log-mel, trained on 20 words of
# the other voices, knew n % of this voice's (all other voices: 82 % and more; chance: 5 %).
EXCLUDED_VOICES = {
    "Alicia": "70 %, formants raised by a third",
    "RicishayMax2": "68 %, every vowel cut to the same length",
    "RicishayMax3": "77 %, as RicishayMax2",
    "zac": "72 %, formants raised by half",
    "Reed": "its noise is the C library's rand(): no two runs are equal",
    "caleb": "a whisper, and as Reed",
    **dict.fromkeys(("whisper", "whisperf"), "no voicing"),
    "croak": "a creak",
    **dict.fromkeys(("Demonic", "UniRobot", "anikaRobot"), "a robot's echo"),
    **{f"robosoft{n}": "a robot's echo" for n in ("", *range(2, 9))},
}
# No two voices give equal waveforms, but these have equal frequencies of formants 1 to 3, or
# differ in a few lines of a copied file. The first of a row stands for all of it in the hash.
SAME_SPEAKER = (
    "john RicishayMax adam benjamin fast grandpa klatt klatt2 klatt3 klatt4 klatt5 klatt6 "
    "m6 m7 max Mr-serious Tweaky norbert",
    "Diogo Henrique Hugo anika michel miguel",
    "iven iven2 iven3 iven4",
    "steph steph2 steph3",
    "Andy AnxiousAndy",
    "Gene Gene2",
    "Mario Michael",
    "Nguyen m8",
    "aunty f4",
    "edward edward2",
    "f2 f5",
    "rob robert",
)
_LEADER = {voice: row.split()[0] for row in SAME_SPEAKER for voice in row.split()}

_BOUNDS = (
    ("num_voices", 4, 1000),  # the fewest that give every split a voice
    ("clips_per_voice", 1, 10_000),
    ("sample_rate_hz", 4000, 192_000),
    ("seed", 0, 2**63),
    ("clip_s", 0.1, 60),
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
    Words, voices and clips may be added without a change to any other clip.

    Raises:
        ConfigError: No words, a word twice, empty or unprintable, or a number out of range.
    """

    words: tuple[str, ...]
    language: str = "en"
    num_voices: int = 60
    clips_per_voice: int = 3  # of each word
    sample_rate_hz: int = 16000
    seed: int = 0
    clip_s: float = 1.0  # exact, unless the word is longer
    speed_wpm: tuple[int, int] = (130, 210)  # espeak-ng's default is 175
    pitch: tuple[int, int] = (30, 70)  # 0 .. 99; 50 is the voice's own
    pitch_range: tuple[int, int] = (30, 70)  # 0 (monotone) .. 99
    lead_s: tuple[float, float] = (0.05, 0.15)  # least silence before and after the word,
    trail_s: tuple[float, float] = (0.05, 0.15)  # as far as clip_s leaves room for it
    peak_dbfs: tuple[float, float] = (-20.0, -3.0)  # of the word
    snr_db: tuple[float, float] = (15.0, 40.0)  # the word's mean power over the noise's

    def __post_init__(self) -> None:
        """Put the words in the form of labels, then check every setting."""
        if isinstance(self.words, str):
            raise ConfigError(f"words: got the text {self.words!r}, expected a list of words")
        words = tuple(normalise_text(word) for word in self.words)
        object.__setattr__(self, "words", words)
        if not words:
            raise ConfigError("words: got none, expected one or more")
        for word in words:
            if not word or not word.isprintable():
                raise ConfigError(f"words: got {word!r}, expected printable text")
            if words.count(word) > 1:
                raise ConfigError(f"words: {word!r} stands twice, expected each word once")
        for name, low, high in _BOUNDS:
            got = getattr(self, name)
            ends = got if isinstance(got, tuple) else (got, got)
            if len(ends) != 2 or not low <= ends[0] <= ends[1] <= high:
                what = "(low, high)" if isinstance(got, tuple) else "a number"
                raise ConfigError(f"{name}: got {got}, expected {what} from {low} to {high}")


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
    with _output_errors(out_dir):
        out_dir.mkdir(parents=True, exist_ok=True)
        settings = json.dumps(to_mapping(config), ensure_ascii=False, indent=2)
        (out_dir / PARTIAL_MARKER).write_text(settings + "\n", encoding="utf-8")
        rows = _write_clips(config, voices, out_dir, progress or (lambda done, total: None))
        for split, manifest in manifests.items():
            part = [row for row in rows if row["audio_filepath"].startswith(f"{split}/")]
            lines = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in part)
            manifest.write_text(lines, encoding="utf-8", newline="\n")
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
    accents = available_accents(config.language)
    spoken = speak(
        word,
        voice,
        accents[rng.integers(len(accents))],
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
    return place_word(soxr.resample(spoken, ESPEAK_RATE_HZ, config.sample_rate_hz), config, rng)


def place_word(word: np.ndarray, config: SynthConfig, rng: np.random.Generator) -> np.ndarray:
    """A clip with the word somewhere in it, over quiet coloured noise.

    Args:
        word: float ``[num_samples]`` at ``config.sample_rate_hz``, not silent.
        config: The length, and the ranges of silence, level and noise.
        rng: Draws from them.

    Returns:
        float32 ``[num_samples]`` within -0.99..0.99: ``clip_s`` long where the word fits.
    """
    lead = round(rng.uniform(*config.lead_s) * config.sample_rate_hz)
    trail = round(rng.uniform(*config.trail_s) * config.sample_rate_hz)
    clip_samples = round(config.clip_s * config.sample_rate_hz)
    num_samples = clip_samples if len(word) <= clip_samples else lead + len(word) + trail
    slack = num_samples - len(word)
    first = min(lead, slack)
    start = rng.integers(first, max(first, slack - trail), endpoint=True)
    word_peak = 10 ** (rng.uniform(*config.peak_dbfs) / 20)
    noise_gain = 10 ** (-rng.uniform(*config.snr_db) / 20)
    clip = coloured_noise(num_samples, rng.uniform(*NOISE_EXPONENT), rng)
    clip *= noise_gain * np.sqrt(np.mean(np.square(word)))
    clip[start : start + len(word)] += word
    clip *= min(word_peak / np.max(np.abs(word)), MAX_PEAK / np.max(np.abs(clip)))
    return clip.astype(np.float32)


def coloured_noise(num_samples: int, exponent: float, rng: np.random.Generator) -> np.ndarray:
    """float64 ``[num_samples]``, root mean square 1, mean 0, power falling as 1/f^exponent."""
    spectrum = np.fft.rfft(rng.standard_normal(num_samples))
    spectrum[0] = 0
    spectrum[1:] *= np.arange(1, len(spectrum)) ** (-exponent / 2)
    noise: np.ndarray = np.fft.irfft(spectrum, num_samples)
    noise /= np.sqrt(np.mean(np.square(noise)))
    return noise


def split_of(voice: str) -> str:
    """The split in which a voice stands: a hash of its name, or of its look-alikes' first."""
    position = int(hashlib.sha1(_LEADER.get(voice, voice).encode()).hexdigest()[:8], 16) / 2**32
    if position < SPLIT_SHARES["train"]:
        return "train"
    return "val" if position < SPLIT_SHARES["train"] + SPLIT_SHARES["val"] else "test"


def choose_voices(num_voices: int) -> list[str]:
    """That many voices, the splits in proportion; a larger number only adds voices.

    Raises:
        ConfigError: There are not so many.
        MissingExtraError: espeakng-loader is not installed.
    """
    voices = available_voices()
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
    ``_`` for the rest, and a hash after ``-``, which no plain word holds. So do words with capitals
    (some file systems do not tell them apart) and Windows' device names.

    >>> safe_name("go"), safe_name("turn on")
    ('go', 'turn_on-2d1f77d0')
    """
    if re.fullmatch(r"(?!(con|prn|aux|nul|(com|lpt)\d)$)[a-z0-9]{1,40}", word):
        return word
    letters = "".join(letter if letter.isalnum() else "_" for letter in word)
    return f"{letters[:40]}-{hashlib.sha1(word.encode()).hexdigest()[:8]}"


def _write_clips(
    config: SynthConfig, voices: list[str], out_dir: Path, progress: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    """Write every clip; the rows of all manifests, sorted by file."""
    wanted = [
        (voice, word, index)
        for voice in voices
        for word in config.words
        for index in range(config.clips_per_voice)
    ]
    rows = []
    for done, (voice, word, index) in enumerate(wanted, start=1):
        clip = make_clip(config, voice, word, index)
        file = f"{split_of(voice)}/{safe_name(word)}/{voice}_nohash_{index}.flac"
        (out_dir / file).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(out_dir / file, clip, config.sample_rate_hz, subtype="PCM_16")
        duration_s = round(len(clip) / config.sample_rate_hz, 4)
        rows.append(
            {"audio_filepath": file, "duration": duration_s, "text": word, "speaker": voice}
        )
        progress(done, len(wanted))
    return sorted(rows, key=lambda row: str(row["audio_filepath"]))


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
            if found == json.dumps(to_mapping(config), ensure_ascii=False, indent=2) + "\n":
                return marker == MARKER
            raise OutputError(
                f"{out_dir}: holds a data set of other settings (see {marker}), expected these; "
                "name a new folder, or remove this one"
            )
    raise OutputError(f"{out_dir}: is not empty and no synthetic data set; name a new folder")


@contextmanager
def _output_errors(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written ({error.strerror})") from error
    except soundfile.LibsndfileError as error:
        raise OutputError(f"{folder}: cannot be written ({error.error_string})") from error


# --- espeak-ng -----------------------------------------------------------------------------------

ESPEAK_RATE_HZ = 22050
TRIM_LEVEL = 0.005  # of the peak (-46 dB): below the end of an "s", above espeak-ng's pauses
MIN_PEAK = 0.005  # espeak-ng gives zeros for a lone full stop, and far more for any word
# speak_lib.h: AUDIO_OUTPUT_SYNCHRONOUS, espeakINITIALIZE_DONT_EXIT, espeakCHARS_UTF8, ...
_SYNCHRONOUS, _DONT_EXIT, _CHARS_UTF8 = 2, 0x8000, 1
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4  # espeak_PARAMETER
_LOW_VOLUME = 25  # at the default, 100, a fifth of the voices run into espeak-ng's limiter
_SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_one_at_a_time = threading.Lock()


class _Espeak(NamedTuple):
    """A private copy of espeak-ng, removed at the end of the process."""

    folder: tempfile.TemporaryDirectory[str]
    library: Path
    data: Path


@functools.cache
def _espeak() -> _Espeak:
    """Copy espeak-ng aside, with a flat, lower-case ``lang`` folder and plain voice names.

    It then finds a voice by its file name, where it would read all 240 voice files for each clip
    (3 ms), and whoever else uses the library in this process is not disturbed.
    """
    try:
        import espeakng_loader
    except ImportError as error:
        raise MissingExtraError("data synth", "demo", "espeakng-loader") from error
    source = Path(espeakng_loader.get_data_path())
    with _output_errors(Path(tempfile.gettempdir())):
        folder = tempfile.TemporaryDirectory(prefix="speechrnn-")
        library = Path(folder.name, Path(espeakng_loader.get_library_path()).name)
        data = Path(folder.name, "espeak-ng-data")
        (data / "lang").mkdir(parents=True)
        (data / "voices" / "!v").mkdir(parents=True)
        shutil.copyfile(espeakng_loader.get_library_path(), library)
        for file in filter(Path.is_file, source.iterdir()):
            shutil.copyfile(file, data / file.name)
        for file in filter(Path.is_file, (source / "lang").rglob("*")):
            shutil.copyfile(file, data / "lang" / file.name.lower())
        for file in (source / "voices" / "!v").iterdir():
            shutil.copyfile(file, data / "voices/!v" / re.sub("[^A-Za-z0-9]", "-", file.name))
    return _Espeak(folder, library, data)


def available_voices() -> list[str]:
    """Every usable voice, sorted; the same for all languages.

    Raises:
        MissingExtraError: espeakng-loader is not installed.
    """
    names = (file.name for file in (_espeak().data / "voices" / "!v").iterdir())
    return sorted(name for name in names if name not in EXCLUDED_VOICES)


@functools.cache
def available_accents(language: str) -> tuple[str, ...]:
    """The language and its accents, as ``en``, ``en-gb-scotland``, ``en-us``; sorted.

    Those that only read another script (``en-shaw``, ``fa-latn``) are left out.

    Raises:
        ConfigError: espeak-ng does not have the language.
        MissingExtraError: espeakng-loader is not installed.
    """
    known = sorted(file.name for file in (_espeak().data / "lang").iterdir())
    # In a language tag a part of four letters is a script (RFC 5646, section 2.2.3).
    accent = re.compile(re.escape(language.lower()) + r"(?!-[a-z]{4}\b)(-.*)?")
    found = tuple(name for name in known if accent.fullmatch(name))
    if not found:
        raise ConfigError(f"language: got {language!r}, espeak-ng knows {', '.join(known)}")
    return found


def speak(
    text: str, voice: str, accent: str, *, speed_wpm: int, pitch: int, pitch_range: int, seed: int
) -> np.ndarray:
    """What espeak-ng says, without the silence around it.

    Returns:
        float32 ``[num_samples]`` at 22050 Hz, within -1..1; empty if the text gives no sound.

    Raises:
        DataError: espeak-ng fails.
        MissingExtraError: espeakng-loader is not installed.
    """
    chunks: list[bytes] = []

    def collect(samples: int | None, num_samples: int, _events: int | None) -> int:
        if samples:
            chunks.append(ctypes.string_at(samples, 2 * num_samples))
        return 0

    callback = _SYNTH_CALLBACK(collect)  # held by this name until the call is over
    encoded = text.encode()
    with _one_at_a_time, _fresh_library() as library:
        library.espeak_SetSynthCallback(callback)
        _check(library.espeak_SetVoiceByName(f"{accent}+{voice}".encode()), f"voice {voice!r}")
        settings = {_RATE: speed_wpm, _VOLUME: _LOW_VOLUME, _PITCH: pitch, _RANGE: pitch_range}
        for parameter, value in settings.items():
            _check(library.espeak_SetParameter(parameter, value, 0), f"a setting of {value}")
        _check(library.espeak_ng_SetRandSeed(ctypes.c_long(seed)), f"seed {seed}")
        size = ctypes.c_size_t(len(encoded) + 1)
        _check(library.espeak_Synth(encoded, size, 0, 0, 0, _CHARS_UTF8, None, None), repr(text))
        _check(library.espeak_Synchronize(), repr(text))
    waveform = np.frombuffer(b"".join(chunks), np.int16).astype(np.float32) / 32768
    level = np.abs(waveform)
    peak = level.max(initial=0.0)
    loud = np.flatnonzero(level > TRIM_LEVEL * peak)
    return waveform[loud[0] : loud[-1] + 1] if peak > MIN_PEAK else waveform[:0]


@contextmanager
def _fresh_library() -> Iterator[Any]:
    """espeak-ng, loaded for one utterance.

    It keeps the phase of its pitch flutter, its gain control and more from one call to the next,
    and no call resets them, not even espeak_Terminate. Loaded anew (1 ms) it is in its first state.
    """
    espeak = _espeak()
    try:
        library = ctypes.CDLL(str(espeak.library))
    except OSError as error:
        raise DataError(
            f"espeak-ng: cannot be loaded ({error}); set TMPDIR to a folder that may hold programs"
        ) from error
    try:
        # espeak_Initialize sets the rate: if it is set already, the old state is still there.
        if library.espeak_ng_GetSampleRate() != 0:
            raise DataError("espeak-ng: cannot be unloaded here, so clips would not be repeatable")
        path = os.fsencode(espeak.data)
        rate_hz = library.espeak_Initialize(_SYNCHRONOUS, 0, path, _DONT_EXIT)
        if rate_hz != ESPEAK_RATE_HZ:
            raise DataError(  # it keeps the path in 160 bytes
                f"espeak-ng: starts from {espeak.data} with {rate_hz} Hz, expected "
                f"{ESPEAK_RATE_HZ} Hz; set TMPDIR to a shorter path"
            )
        yield library
        library.espeak_Terminate()
    finally:
        _unload(library._handle)


def _unload(handle: int) -> None:
    import _ctypes  # ctypes has no public way to unload a library

    if sys.platform == "win32":
        _ctypes.FreeLibrary(handle)
    else:
        _ctypes.dlclose(handle)


def _check(status: int, what: str) -> None:
    if status != 0:
        raise DataError(f"espeak-ng: refuses {what} (status {status})")
