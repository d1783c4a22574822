"""Build and test every client that can be built here, against export/vectors.

    python export/check_clients.py [NAME ...]

Run by ``make clients``; a minute or two. What cannot be built here is skipped, and why is said.
Exit status 1 where a client failed. The names: board, cpp, android, browser, ios.
"""

from __future__ import annotations

import argparse
import importlib.util
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import wave
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

EXPORT = Path(__file__).parent
VECTORS = EXPORT / "vectors"
# The vectors may be another processor's, whose kernels round smaller weights' sums differently: by
# up to 3.7e-3 without AVX2, not at all with it.
TOLERANCE = 5e-3
RATE_HZ = 16000
# In which a client has started, and has heard a few seconds of sound.
HEARD_S = 10


class Skipped(Exception):
    """Why a client was not built here."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(CLIENTS))
    names = parser.parse_args().names or list(CLIENTS)
    if unknown := set(names) - set(CLIENTS):
        sys.exit(f"{', '.join(sorted(unknown))}: no client; expected {', '.join(CLIENTS)}")
    failed = False
    for name in names:
        try:
            with tempfile.TemporaryDirectory(prefix="speechrnn-") as folder:
                print(f"{name}: {CLIENTS[name](Path(folder))}", flush=True)
        except Skipped as why:
            print(f"{name}: skipped: {why}", flush=True)
        except (AssertionError, subprocess.CalledProcessError) as error:
            failed = True
            print(f"{name}: FAILED: {error}", flush=True)
            print(getattr(error, "stderr", None) or getattr(error, "output", None) or "", end="")
    sys.exit(failed)


# ------------------------------------------------------------------ the clients


def check_board(folder: Path) -> str:
    """The script runs with numpy and LiteRT alone: what else is imported is not to be found."""
    blocked = "import sys; sys.modules.update(dict.fromkeys(('speechrnn', 'soundfile')))"
    script = f"{blocked}; import runpy; runpy.run_path(sys.argv[0], run_name='__main__')"
    program = f"import sys; sys.argv = sys.argv[1:]; {script}"
    command = [sys.executable, "-I", "-c", program, EXPORT / "board" / "listen.py"]
    check_interrupt(command, folder)
    return check_program(command, folder)


def check_cpp(folder: Path) -> str:
    """Built by CMake against the library that the package of LiteRT carries."""
    return check_program([build_cpp(folder)], folder)


def build_cpp(folder: Path) -> Path:
    """The program.

    Raises:
        Skipped: No compiler, or no library.
    """
    require("cmake", "c++")
    package = importlib.util.find_spec("ai_edge_litert")
    library = Path(str(package and package.origin)).with_name("libLiteRt.so")
    if not library.exists():
        raise Skipped(f"{library.name}: not in the package ai-edge-litert of this platform")
    build = folder / "build"
    run("cmake", "-S", EXPORT / "cpp", "-B", build, f"-DLITERT_LIBRARY={library}")
    run("cmake", "--build", build)
    return build / "listen"


def check_android(folder: Path) -> str:
    """The plain Java of the app: metadata, windows, events; not what needs Android or LiteRT."""
    require("javac", "java")
    sources = sorted((EXPORT / "android").rglob("*.java"))
    run("javac", "-Xlint:all", "-Werror", "-d", folder, *sources)
    said = run("java", "-cp", folder, "speechrnn.CheckVectors", VECTORS)
    return f"{said.strip()}; the Kotlin of the app needs Android's tools, which are not here"


def check_browser(folder: Path) -> str:
    """Its own tests, in a headless browser."""
    del folder
    browser = EXPORT / "browser"
    if not (browser / "package.json").exists():
        raise Skipped("export/browser is not there")
    require("npm", "node")
    chromium = Path(os.environ.get("CHROMIUM", "/usr/bin/chromium"))
    if not chromium.exists():
        raise Skipped(f"{chromium}: no Chromium; set CHROMIUM to where it is")
    run("npm", "ci", cwd=browser)
    said = run("npm", "test", cwd=browser)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", said)
    counted = re.search(r"^\s*Tests\s+(.*)$", plain, re.MULTILINE)
    return f"npm test: {counted[1] if counted else 'passed'}"


def check_ios(folder: Path) -> str:
    """Swift's own tests."""
    del folder
    if sys.platform != "darwin":
        raise Skipped("Xcode is for macOS alone")
    require("swift")
    run("swift", "test", cwd=EXPORT / "ios")
    return "swift test passed"


CLIENTS: dict[str, Callable[[Path], str]] = {
    "board": check_board,
    "cpp": check_cpp,
    "android": check_android,
    "browser": check_browser,
    "ios": check_ios,
}


def require(*programs: str) -> None:
    """Raise Skipped where one is missing."""
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        raise Skipped(f"{', '.join(missing)} not found")


def run(*command: object, cwd: Path | None = None) -> str:
    words = [str(word) for word in command]
    return subprocess.run(words, check=True, capture_output=True, text=True, cwd=cwd).stdout


# ------------------------------------------------------------------ what they must do


def read_vectors() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((VECTORS / "vectors.json").read_text(encoding="utf-8"))
    return document


def check_program(command: Sequence[object], folder: Path) -> str:
    """A program that takes MODEL and recordings, and prints JSON; what it says at the end."""
    document, worst, events = read_vectors(), 0.0, 0
    for vector in document["vectors"]:
        model = VECTORS / document["models"][vector["model"]]["file"]
        words = [*command, "--json", model, VECTORS / vector["sound"]]
        worst = max(worst, compare_answer(vector, *map(json.loads, run(*words).splitlines())))
        for chunk in {size for size in vector.get("chunks", ()) if size > 1}:
            streamed = ("--stream", "--threshold", vector["threshold"], "--chunk", chunk)
            heard = [json.loads(line) for line in run(*words, *streamed).splitlines()]
            worst = max(worst, compare_events(vector, heard))
            events += len(heard)
    assert worst <= TOLERANCE, f"differs by {worst:.1e}, expected at most {TOLERANCE:g}"
    refused = check_refusals(command, folder)
    return (
        f"{len(document['vectors'])} vectors and {events} events within {worst:.0e}, "
        f"{refused} bad inputs refused"
    )


def check_interrupt(command: Sequence[object], folder: Path) -> None:
    """What is heard when Ctrl-C ends a microphone is what is heard when a recording ends there."""
    words = [*command, "--json", VECTORS / "tones-sequences.tflite"]
    with wave.open(str(VECTORS / "tones.wav")) as sound:
        content = sound.readframes(round(3.6 * sound.getframerate()))  # no pause behind its end
        with wave.open(str(folder / "cut.wav"), "wb") as cut:
            cut.setparams(sound.getparams())
            cut.writeframes(content)
    expected = run(*words, "--stream", folder / "cut.wav").splitlines()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*map(str, words), "-"], **pipes) as listening:
        assert listening.stdin
        assert listening.stdout
        listening.stdin.write(content)
        listening.stdin.flush()
        time.sleep(HEARD_S)
        listening.send_signal(signal.SIGINT)
        heard = [json.loads(line) for line in listening.stdout]
    texts = [json.loads(line)["text"] for line in expected]
    assert [event["text"] for event in heard] == texts, f"Ctrl-C: heard {heard}, expected {texts}"


def compare_answer(vector: dict[str, Any], answer: dict[str, Any]) -> float:
    """The largest difference."""
    assert answer["text"] == vector["text"], f"{vector['sound']}: heard {answer['text']!r}"
    kind = "probabilities" if "probabilities" in vector else "log_probs"
    differences = np.abs(np.array(answer[kind]) - np.array(vector[kind]))
    return max(float(differences.max()), abs(answer["confidence"] - vector["confidence"]))


def compare_events(vector: dict[str, Any], heard: Sequence[dict[str, Any]]) -> float:
    """The largest difference of a time or a confidence."""
    expected = vector["events"]
    texts = [event["text"] for event in heard]
    assert texts == [event["text"] for event in expected], f"{vector['sound']}: heard {texts}"
    return max(
        (
            abs(event[key] - other[key])
            for event, other in zip(heard, expected, strict=True)
            for key in ("time_s", "confidence")
        ),
        default=0.0,
    )


def check_refusals(command: Sequence[object], folder: Path) -> int:
    """Each bad input gets one line on standard error and exit status 2; their number."""
    count = 0
    for words in bad_inputs(folder / "bad"):
        done = subprocess.run(
            [*map(str, command), *map(str, words)], capture_output=True, text=True
        )
        called = " ".join(Path(str(word)).name for word in words)
        assert done.returncode == 2, f"{called}: exit status {done.returncode}, expected 2"
        assert not done.stdout, f"{called}: printed {done.stdout!r}"
        assert done.stderr.count("\n") == 1, f"{called}: said {done.stderr!r}, expected one line"
        bad = [str(word) for word in words if folder / "bad" in Path(str(word)).parents]
        assert all(file in done.stderr for file in bad), f"{called}: {done.stderr!r} names no file"
        count += 1
    return count


def bad_inputs(folder: Path) -> Iterator[tuple[object, ...]]:
    """What comes behind the program's name."""
    folder.mkdir(parents=True)
    model, sound = EXPORT / "models" / "commands-en.tflite", VECTORS / "stop.wav"
    content = model.read_bytes()
    for name, changed in {
        "empty.tflite": b"",
        "text.tflite": b"hello, world",
        "cut.tflite": content[:300000],
        "bare.tflite": content[: content.rindex(b"PK\5\6")],
        "edited.tflite": content[:5000] + b"x" + content[5001:],
        "newer.tflite": with_metadata(content, format_version=2),
        "other.tflite": with_metadata(content, format="other"),
    }.items():
        (folder / name).write_bytes(changed)
        yield folder / name, sound
    yield folder / "missing.tflite", sound
    yield folder, sound
    for name, seconds, rate_hz, channels, width in (
        ("long.wav", 1800, RATE_HZ, 1, 2),
        ("rate.wav", 1, 44100, 1, 2),
        ("stereo.wav", 1, RATE_HZ, 2, 2),
        ("narrow.wav", 1, RATE_HZ, 1, 1),
        ("short.wav", 0.01, RATE_HZ, 1, 2),
        ("none.wav", 0, RATE_HZ, 1, 2),
    ):
        with wave.open(str(folder / name), "wb") as file:
            file.setparams((channels, width, rate_hz, 0, "NONE", ""))
            file.writeframes(bytes(round(seconds * rate_hz) * channels * width))
        yield model, folder / name
    yield model, "--stream", folder / "long.wav"
    for name, bytes_ in {"no.wav": b"nonsense", "empty.wav": b"", "cut.wav": b"RIFF"}.items():
        (folder / name).write_bytes(bytes_)
        yield model, folder / name
    yield model, folder / "missing.wav"


def with_metadata(content: bytes, **changes: object) -> bytes:
    """The file with other entries in its speechrnn.json."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    about = json.loads(entries["speechrnn.json"]) | changes
    entries["speechrnn.json"] = json.dumps(about).encode()
    changed = io.BytesIO(content[: about["model_bytes"]])
    changed.seek(0, io.SEEK_END)
    with zipfile.ZipFile(changed, "a") as archive:
        for name, entry in entries.items():
            archive.writestr(name, entry)
    return changed.getvalue()


if __name__ == "__main__":
    main()
