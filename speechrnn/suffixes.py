"""How files of sound and of names are called; used only to find them inside a folder."""

from __future__ import annotations

# What libsndfile 1.2 opens, ...
AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".opus", ".oga", ".mp3", ".aif", ".aiff", ".aifc", ".au", ".caf"}
    | {".w64", ".rf64"}
)
# ... and what ffmpeg opens besides.
FFMPEG_SUFFIXES = frozenset(
    {".m4a", ".mp4", ".m4v", ".mov", ".webm", ".mkv", ".mka", ".avi", ".aac", ".wma", ".wmv"}
    | {".amr", ".3gp", ".ac3", ".ape", ".wv", ".mpg", ".mpeg", ".ts", ".flv"}
)
# Lists of recordings, a JSON object a line.
MANIFEST_SUFFIXES = frozenset({".jsonl", ".json"})
