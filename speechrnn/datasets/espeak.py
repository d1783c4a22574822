"""Words as espeak-ng says them: its voices, its accents of a language, and one utterance.

espeak-ng is a formant synthesiser. A *voice* is one of its variants (``voices/!v``) and speaks
every language; an *accent* is a language or a regional form of one. What is heard depends on the
arguments of :func:`speak` alone, never on earlier calls. Source: espeak-ng 1.52 (``speak_lib.h``),
as packed by espeakng-loader 0.2.4.
"""

from __future__ import annotations

import ctypes
import functools
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from speechrnn.errors import ConfigError, DataError, MissingExtraError, OutputError

RATE_HZ = 22050
TRIM_LEVEL = 0.005  # of the peak (-46 dB): below the end of an "s", above espeak-ng's pauses
MIN_PEAK = 0.005  # espeak-ng gives zeros for a lone full stop, and far more for any word
# speak_lib.h: AUDIO_OUTPUT_SYNCHRONOUS, espeakINITIALIZE_DONT_EXIT, espeakCHARS_UTF8, ...
_SYNCHRONOUS, _DONT_EXIT, _CHARS_UTF8, _PHONEMES = 2, 0x8000, 1, 0x100
_RATE, _VOLUME, _PITCH, _RANGE = 1, 2, 3, 4  # espeak_PARAMETER
_LOW_VOLUME = 25  # at the default, 100, a fifth of the voices run into espeak-ng's limiter
_SYNTH_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
_one_at_a_time = threading.Lock()

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
# differ in a few lines of a copied file. The first of a row stands for all of it.
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
# Languages whose sounds a foreign accent is made of: many learners of other languages, and far
# enough from one another.
FOREIGN = (
    "ar", "ca", "cs", "da", "de", "el", "es", "fa", "fi", "fr", "he", "hi", "hu", "id", "it",
    "ja", "ko", "nb", "nl", "pl", "pt", "ro", "ru", "sv", "sw", "ta", "tr", "uk",
)  # fmt: skip
# What learners say for sounds that their language does not have, in espeak-ng's notation, in this
# order: first five plain vowels (and an English t between them as any t), then nearer consonants
# too. A schwa after a vowel is nothing.
PLAIN_VOWELS = (
    ("t2", "t"), ("(?<=[aeiouAEIOUV03])@", ""), ("[@E3]", "e"), ("[AV]", "a"), ("[O0]", "o"),
    ("I", "i"), ("U", "u"), (":", ""),
)  # fmt: skip
PLAIN_CONSONANTS = (("T", "t"), ("D", "d"), ("w", "u"))
# A syllable that is heard behind a word if all of the word is: of these the first that is.
PROBES = ("t'a", "t'A", "t'e")
# A word whose vowels a language has is about as long in it.
LEAST_FOREIGN_LENGTH = 0.7
_SPEAKERS = {voice: row.split()[0] for row in SAME_SPEAKER for voice in row.split()}


def available_voices() -> list[str]:
    """Every usable voice, sorted; the same for all languages.

    Raises:
        MissingExtraError: espeakng-loader is not installed.
    """
    names = (file.name for file in (_espeak().data / "voices" / "!v").iterdir())
    return sorted(name for name in names if name not in EXCLUDED_VOICES)


def speaker_of(voice: str) -> str:
    """The voice that stands for all those with its vocal tract: often the voice itself."""
    return _SPEAKERS.get(voice, voice)


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


@functools.cache
def phonemes(text: str, accent: str) -> str:
    """How an accent pronounces a text, in espeak-ng's own notation.

    Raises:
        DataError, MissingExtraError, OutputError: As :func:`speak`.
    """
    found: list[str] = []
    buffer = ctypes.create_string_buffer(text.encode())
    rest = ctypes.c_void_p(ctypes.addressof(buffer))  # moves on, and is null at the end
    with _one_at_a_time, _fresh_library() as library:
        _check(library.espeak_SetVoiceByName(accent.encode()), f"accent {accent!r}")
        library.espeak_TextToPhonemes.restype = ctypes.c_char_p
        while rest.value:
            found.append(library.espeak_TextToPhonemes(ctypes.byref(rest), _CHARS_UTF8, 0).decode())
    return " ".join(found)


@functools.cache
def foreign_accents(text: str, accent: str) -> tuple[tuple[str, str], ...]:
    """How natives of other languages say a text that an accent pronounces in its way.

    With the sounds of their language where it has them, else with plainer ones. espeak-ng falls
    silent at the first sound that a language does not have: then nothing behind it is heard.

    Returns:
        Those of ``FOREIGN`` that have the sounds, each with the phonemes.

    Raises:
        DataError, MissingExtraError, OutputError: As :func:`speak`.
    """
    manner = {"speed_wpm": 175, "pitch": 50, "pitch_range": 50, "seed": 1}
    voice, exact = available_voices()[0], phonemes(text, accent)
    sounds = [exact]
    for changes in (PLAIN_VOWELS, PLAIN_CONSONANTS):
        plainer = sounds[-1]
        for sound, nearest in changes:
            plainer = re.sub(sound, nearest, plainer)
        sounds.append(plainer)

    def length(notation: str, said_by: str) -> int:
        return len(speak(notation, voice, said_by, **manner, as_phonemes=True))

    def is_said(notation: str, said_by: str) -> bool:
        heard = length(notation, said_by)
        return heard > least and any(length(notation + p, said_by) > heard for p in PROBES)

    least = LEAST_FOREIGN_LENGTH * length(exact, accent)
    found = []
    for other in FOREIGN:
        if accent.partition("-")[0] != other:
            said = next((sound for sound in sounds if is_said(sound, other)), None)
            found += [(other, said)] if said is not None else []
    return tuple(found)


def speak(
    text: str,
    voice: str,
    accent: str,
    *,
    speed_wpm: int,
    pitch: int,
    pitch_range: int,
    seed: int,
    as_phonemes: bool = False,
) -> np.ndarray:
    """What espeak-ng says, without the silence around it.

    The text may be given :func:`as phonemes <phonemes>`, of another language than the accent's
    too: each is then said as the accent says it.

    Returns:
        float32 ``[num_samples]`` at ``RATE_HZ``, within -1..1; empty if the text gives no sound.

    Raises:
        DataError: espeak-ng fails.
        MissingExtraError: espeakng-loader is not installed.
        OutputError: The folder for temporary files, where its copy lies, cannot be written.
    """
    chunks: list[bytes] = []

    def collect(samples: int | None, num_samples: int, _events: int | None) -> int:
        if samples:
            chunks.append(ctypes.string_at(samples, 2 * num_samples))
        return 0

    callback = _SYNTH_CALLBACK(collect)  # held by this name until the call is over
    encoded = f"[[{text}]]".encode() if as_phonemes else text.encode()
    flags = _CHARS_UTF8 | (_PHONEMES if as_phonemes else 0)
    with _one_at_a_time, _fresh_library() as library:
        library.espeak_SetSynthCallback(callback)
        _check(library.espeak_SetVoiceByName(f"{accent}+{voice}".encode()), f"voice {voice!r}")
        settings = {_RATE: speed_wpm, _VOLUME: _LOW_VOLUME, _PITCH: pitch, _RANGE: pitch_range}
        for parameter, value in settings.items():
            _check(library.espeak_SetParameter(parameter, value, 0), f"a setting of {value}")
        _check(library.espeak_ng_SetRandSeed(ctypes.c_long(seed)), f"seed {seed}")
        size = ctypes.c_size_t(len(encoded) + 1)
        _check(library.espeak_Synth(encoded, size, 0, 0, 0, flags, None, None), repr(text))
        _check(library.espeak_Synchronize(), repr(text))
    waveform = np.frombuffer(b"".join(chunks), np.int16).astype(np.float32) / 32768
    level = np.abs(waveform)
    peak = level.max(initial=0.0)
    loud = np.flatnonzero(level > TRIM_LEVEL * peak)
    return waveform[loud[0] : loud[-1] + 1] if peak > MIN_PEAK else waveform[:0]


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
    try:
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
    except OSError as error:
        temporary = tempfile.gettempdir()
        raise OutputError(f"{temporary}: cannot be written ({error.strerror})") from error
    return _Espeak(folder, library, data)


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
        if rate_hz != RATE_HZ:
            raise DataError(  # it keeps the path in 160 bytes
                f"espeak-ng: starts from {espeak.data} with {rate_hz} Hz, expected "
                f"{RATE_HZ} Hz; set TMPDIR to a shorter path"
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
