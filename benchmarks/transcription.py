"""What ``speechrnn transcribe`` keeps: of the interpreter's speed, and of a run that is killed.

    python benchmarks/transcription.py speed MODEL DATA [BATCHED]  clips a second against the bare
                                                                  interpreter; Kaldi's front end
    python benchmarks/transcription.py hour MODEL DATA            an hour of commands with pauses
    python benchmarks/transcription.py kills MODEL DATA           10,000 files, killed 20 times
    python benchmarks/transcription.py full MODEL DATA            a disk that becomes full
    python benchmarks/transcription.py many MODEL DATA            100,000 tiny files

MODEL is a .tflite, BATCHED the same exported with --batch, DATA a manifest of recordings of single
commands. Every table says what it was measured on; --write keeps it in results/transcription.md.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import soundfile

sys.path.insert(0, str(Path(__file__).parent))
from provenance import append_table

from speechrnn.audio import load_waveform
from speechrnn.audio.activity import word_extent
from speechrnn.datasets.manifest import read_data
from speechrnn.runtime import Recognizer

RESULTS = Path(__file__).parent / "results" / "transcription.md"
CLIPS, ROUNDS, KILLS, BROKEN_SHARE = 10_000, 3, 20, 0.03


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("speed", "hour", "kills", "full", "many"))
    parser.add_argument("model")
    parser.add_argument("data")
    parser.add_argument("batched", nargs="?")
    parser.add_argument("--count", type=int, help="files, or commands")
    parser.add_argument("--write", action="store_true", help=f"append to {RESULTS.name}")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="speechrnn-") as folder:
        table = globals()[f"measure_{options.what}"](options, Path(folder))
    print(table)
    if options.write:
        append_table(RESULTS, table, ("numpy", "soundfile", "ai-edge-litert"))


# ------------------------------------------------------------------ speed


def measure_speed(options: argparse.Namespace, folder: Path) -> str:
    """Medians of rounds in which everything takes its turn."""
    count = options.count or CLIPS
    pile = make_pile(options.data, folder / "pile", count)
    cores = len(os.sched_getaffinity(0))
    files = sorted(pile.rglob("*.wav"))

    def bare(processes: int) -> Callable[[], float]:
        return lambda: bare_rate(options.model, files[:2000], processes)

    def ours(model: str, jobs: int) -> Callable[[], float]:
        return lambda: count / timed(model, pile, "--jobs", jobs, "--to", folder / "out", "--force")

    measured = {
        "bare interpreter, 1 process": bare(1),
        f"bare interpreter, {cores} processes": bare(cores),
        "soundfile.read and interpreter in a Python loop": lambda: loop_rate(
            options.model, files[:2000]
        ),
        "Kaldi's MFCC alone (kaldi-native-fbank), 1 process": lambda: kaldi_rate(files[:2000]),
        "speechrnn transcribe --jobs 1": ours(options.model, 1),
        f"speechrnn transcribe --jobs {cores}": ours(options.model, cores),
    }
    if options.batched:
        measured["speechrnn transcribe --jobs 1, exported with --batch"] = ours(options.batched, 1)
        measured[f"speechrnn transcribe --jobs {cores}, exported with --batch"] = ours(
            options.batched, cores
        )
    rates: dict[str, list[float]] = {name: [] for name in measured}
    for _ in range(ROUNDS):
        for name, measure in measured.items():
            rates[name].append(measure())
    medians = {name: float(np.median(found)) for name, found in rates.items()}
    whole = medians[f"bare interpreter, {cores} processes"]
    lines = [
        "| what | recordings a second | of the bare interpreter on all cores |",
        "|---|---|---|",
        *(
            f"| {name} | {rate:,.0f} | {100 * rate / whole:.0f} % |"
            for name, rate in medians.items()
        ),
        "",
        f"{count:,} recordings of {soundfile.info(files[0]).duration:g} s, {cores} cores, medians "
        f"of {ROUNDS} rounds. First record after {first_record_ms(options.model, files[0]):.0f} "
        f"ms, of the pile after {first_record_ms(options.model, pile):.0f} ms.",
    ]
    return "\n".join(lines)


def make_pile(data: str, folder: Path, count: int) -> Path:
    """So many recordings as WAV files, 500 in a folder."""
    rows = read_data(data)
    for number in range(count):
        file = folder / f"{number // 500:03}" / f"{number:06}.wav"
        if number < len(rows):
            file.parent.mkdir(parents=True, exist_ok=True)
            samples, rate_hz = soundfile.read(rows[number].path, dtype="int16")
            soundfile.write(file, samples, rate_hz)
        else:
            file.parent.mkdir(parents=True, exist_ok=True)
            other = number % len(rows)
            shutil.copy(folder / f"{other // 500:03}" / f"{other:06}.wav", file)
    return folder


def bare_rate(model: str, files: list[Path], processes: int) -> float:
    """Recordings a second of interpreters on arrays in memory, one in each process."""
    context = multiprocessing.get_context("spawn")
    start, found = context.Barrier(processes), context.Queue()
    arguments = (model, files, start, found)
    crew = [context.Process(target=_bare, args=arguments) for _ in range(processes)]
    for one in crew:
        one.start()
    rates = [len(files) / found.get() for _ in crew]
    for one in crew:
        one.join()
    return sum(rates)


def _bare(model: str, files: list[Path], start: object, found: object) -> None:
    recognizer = Recognizer(model)
    waveforms = [load_waveform(file, recognizer.sample_rate_hz) for file in files]
    recognizer.run(waveforms[0])
    start.wait()
    started = time.perf_counter()
    for waveform in waveforms:
        recognizer.run(waveform)
    found.put(time.perf_counter() - started)


def loop_rate(model: str, files: list[Path]) -> float:
    """What a person writes first."""
    recognizer = Recognizer(model)
    started = time.perf_counter()
    for file in files:
        samples, _ = soundfile.read(file, dtype="float32")
        int(recognizer.run(samples).argmax())
    return len(files) / (time.perf_counter() - started)


def kaldi_rate(files: list[Path]) -> float:
    """Kaldi's front end, which vosk and sherpa-onnx begin with."""
    import kaldi_native_fbank as knf

    config = knf.MfccOptions()
    config.frame_opts.samp_freq, config.num_ceps = 16000, 40
    config.mel_opts.num_bins = 40
    waveforms = [load_waveform(file, 16000) for file in files]
    started = time.perf_counter()
    for waveform in waveforms:
        online = knf.OnlineMfcc(config)
        online.accept_waveform(16000, waveform.tolist())
        online.input_finished()
        np.array([online.get_frame(i) for i in range(online.num_frames_ready)])
    return len(files) / (time.perf_counter() - started)


def command_of(model: str, *arguments: object) -> list[str]:
    return [sys.executable, "-m", "speechrnn", "transcribe", model, *map(str, arguments)]


def timed(model: str, *arguments: object) -> float:
    started = time.perf_counter()
    subprocess.run(command_of(model, *arguments), check=False, capture_output=True)
    return time.perf_counter() - started


def first_record_ms(model: str, source: Path) -> float:
    found = []
    for _ in range(5):
        started = time.perf_counter()
        with subprocess.Popen(
            command_of(model, source), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            assert process.stdout is not None
            process.stdout.readline()
            found.append(time.perf_counter() - started)
            process.kill()
    return 1000 * float(np.median(found))


# ------------------------------------------------------------------ an hour


def measure_hour(options: argparse.Namespace, folder: Path) -> str:
    """Words of the isolated recordings that are found again in one recording of all of them."""
    recognizer = Recognizer(options.model)
    rng = np.random.default_rng(3)
    rows = [row for row in read_data(options.data) if not row.text.startswith("_")]
    lines = [
        "| background | length | commands | same as alone | start: median, 95 %, within 100 ms | "
        "words too many | real time | peak RSS over a 1-s clip |",
        "|---|---|---|---|---|---|---|---|",
    ]
    alone_kb = peak_kb(options.model, rows[0].path)
    for noise_db in (None, -50.0):
        file, expected = make_hour(rows, recognizer, rng, options.count, folder, noise_db)
        started = time.perf_counter()
        kilobytes = peak_kb(options.model, file, "--to", folder / "hour.jsonl", "--force")
        spent = time.perf_counter() - started
        record = json.loads((folder / "hour.jsonl").read_text(encoding="utf-8"))
        found, errors = match(expected, record["words"])
        late = 1000 * np.abs(errors)
        background = "silence" if noise_db is None else f"noise of {noise_db:g} dBFS"
        lines.append(
            f"| {background} | {record['duration'] / 60:.1f} min | {len(expected)} | "
            f"{100 * found / len(expected):.2f} % | {np.median(late):.0f} ms, "
            f"{np.percentile(late, 95):.0f} ms, {100 * np.mean(late <= 100):.1f} % | "
            f"{len(record['words']) - found} | {record['duration'] / spent:,.0f} x | "
            f"{(kilobytes - alone_kb) / 1024:.0f} MB |"
        )
    return "\n".join(lines)


def make_hour(
    rows: list,
    recognizer: Recognizer,
    rng: np.random.Generator,
    count: int | None,
    folder: Path,
    noise_db: float | None,
) -> tuple[Path, list[tuple[str, float, float]]]:
    """Recordings in a drawn order with 0.3 to 2.5 s between them; what each is alone, and where."""
    rate_hz, expected, place = recognizer.sample_rate_hz, [], 0
    file = folder / "hour.wav"
    with soundfile.SoundFile(file, "w", rate_hz, 1) as sound:
        for number in rng.permutation(len(rows))[:count]:
            waveform = load_waveform(rows[number].path, rate_hz)
            first, last = word_extent(waveform, rate_hz)
            text = recognizer.transcribe(waveform).text
            expected.append((text, (place + first) / rate_hz, (place + last) / rate_hz))
            gap = np.zeros(round(rng.uniform(0.3, 2.5) * rate_hz), np.float32)
            part = np.concatenate([waveform, gap])
            if noise_db is not None:
                part += 10 ** (noise_db / 20) * rng.standard_normal(len(part)).astype(np.float32)
            sound.write(np.clip(part, -1, 1))
            place += len(part)
    return file, expected


def match(expected: list[tuple[str, float, float]], words: list[dict]) -> tuple[int, list[float]]:
    """How many words are found at their place, each word once, and how far their starts are off."""
    taken: set[int] = set()
    errors = []
    for text, start, end in expected:
        for number, word in enumerate(words):
            near = word["end"] > start - 0.2 and word["start"] < end + 0.2
            if near and word["text"] == text and number not in taken:
                taken.add(number)
                errors.append(word["start"] - start)
                break
    return len(taken), errors


def peak_kb(model: str, *arguments: object) -> int:
    """Peak resident memory of a run in this process, in kB."""
    code = (
        "import resource, sys\nfrom speechrnn import cli\ncli.main(sys.argv[1:])\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)\n"
    )
    command = [sys.executable, "-c", code, "transcribe", model, *map(str, arguments)]
    done = subprocess.run([*command, "--jobs", "1"], capture_output=True, text=True, check=True)
    return int(done.stdout.splitlines()[-1])


# ------------------------------------------------------------------ nothing is lost


def measure_kills(options: argparse.Namespace, folder: Path) -> str:
    """Killed with -9 at drawn moments and resumed, against a run that nothing disturbed."""
    count, rng = options.count or CLIPS, random.Random(5)
    pile = make_pile(options.data, folder / "pile", count)
    broken = break_some(pile, rng)
    undisturbed, killed = folder / "undisturbed.jsonl", folder / "killed.jsonl"
    whole_s = timed(options.model, pile, "--to", undisturbed)
    moments, done = [], 0
    while done < KILLS:
        resume = ("--resume",) if done else ()
        process = subprocess.Popen(
            command_of(options.model, pile, "--to", killed, *resume),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        moment = rng.uniform(0.1, 0.5 + 1.6 * whole_s / KILLS)
        try:
            process.wait(moment)
            break  # it came to its end before
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            moments.append(moment)
            done += 1
    process = subprocess.run(
        command_of(options.model, pile, "--to", killed, "--resume"), capture_output=True, text=True
    )
    before = re.search(r"\(([\d,]+) were done before\)", process.stderr)
    records = [json.loads(line) for line in killed.read_text(encoding="utf-8").splitlines()]
    names = [record["audio_filepath"] for record in records]
    failed = sum(record["status"] == "error" for record in records)
    return "\n".join(
        [
            f"{count:,} files, {broken} of them broken in {len(BREAK)} ways, killed {len(moments)} "
            f"times after {min(moments):.2f} to {max(moments):.2f} s, then resumed to the end "
            f"({before[1] if before else 'none'} were done by then; exit status "
            f"{process.returncode}):",
            "",
            "| records | each once | failed | equal to an undisturbed run, byte for byte |",
            "|---|---|---|---|",
            f"| {len(records):,} | {len(set(names)) == len(names)} | {failed} | "
            f"{killed.read_bytes() == undisturbed.read_bytes()} |",
        ]
    )


def _cut(share: float) -> Callable[[bytes], bytes]:
    return lambda content: content[: int(share * len(content))]


def _patched(place: int, value: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content[:place] + value + content[place + len(value) :]


def _float_wav(value: float) -> Callable[[bytes], bytes]:
    def write(content: bytes) -> bytes:
        import io

        samples = np.full(16000, 0.1, np.float32)
        samples[8000] = value
        buffer = io.BytesIO()
        soundfile.write(buffer, samples, 16000, "FLOAT", format="WAV")
        return buffer.getvalue()

    return write


# Content of a good WAV file -> of one that is not.
BREAK: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda content: b"",
    "one byte": lambda content: b"R",
    "header alone": lambda content: content[:44],
    "half a header": lambda content: content[:20],
    "half": _cut(0.5),
    "nearly all": _cut(0.97),
    "text": lambda content: b"this is no sound\n" * 100,
    "zeros": lambda content: bytes(len(content)),
    "noise": lambda content: random.Random(1).randbytes(len(content)),
    "a picture": lambda content: b"\x89PNG\r\n\x1a\n" + content,
    "a page": lambda content: b"<!DOCTYPE html><title>404</title>" + content,
    "JSON": lambda content: b'{"error": "not found"}',
    "no RIFF": _patched(0, b"RIFX"),
    "no WAVE": _patched(8, b"WAVX"),
    "no format": _patched(12, b"xxxx"),
    "rate 0": _patched(24, b"\0\0\0\0"),
    "0 channels": _patched(22, b"\0\0"),
    "not a number": _float_wav(np.nan),
    "infinite": _float_wav(np.inf),
    "unscaled": _float_wav(12345.0),
}


def break_some(pile: Path, rng: random.Random) -> int:
    files = sorted(pile.rglob("*.wav"))
    chosen = rng.sample(files, round(BROKEN_SHARE * len(files)))
    for number, file in enumerate(chosen):
        ways = list(BREAK.values())
        file.write_bytes(ways[number % len(ways)](file.read_bytes()))
    return len(chosen)


def measure_full(options: argparse.Namespace, folder: Path) -> str:
    """A file system of its own becomes full in the middle; after space is made it is gone on."""
    count = options.count or CLIPS
    pile = make_pile(options.data, folder / "pile", count)
    undisturbed = folder / "undisturbed.jsonl"
    timed(options.model, pile, "--to", undisturbed)
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", disk], check=True)
    try:
        to = disk / "out.jsonl"
        first = subprocess.run(
            command_of(options.model, pile, "--to", to), capture_output=True, text=True
        )
        subprocess.run(["mount", "-o", "remount,size=100m", disk], check=True)
        second = subprocess.run(
            command_of(options.model, pile, "--to", to, "--resume"), capture_output=True, text=True
        )
        same = to.read_bytes() == undisturbed.read_bytes()
    finally:
        subprocess.run(["umount", disk], check=True)
    before = re.search(r"\(([\d,]+) were done before\)", second.stderr)
    said = first.stderr.strip().splitlines()[-1].replace(str(folder), "")
    return "\n".join(
        [
            f"{count:,} files onto a disk of 3 MB: exit status {first.returncode}, `{said}`. "
            f"After the disk was made larger, --resume: exit status {second.returncode}, "
            f"{before[1] if before else 'none'} were done before; equal to an undisturbed run, "
            f"byte for byte: {same}.",
        ]
    )


# ------------------------------------------------------------------ very many


def measure_many(options: argparse.Namespace, folder: Path) -> str:
    """Memory and time of very many tiny files: listing, the first run, and going on."""
    count = options.count or 100_000
    recognizer = Recognizer(options.model)
    samples = load_waveform(read_data(options.data)[0].path, recognizer.sample_rate_hz)
    lines = ["| files | dry run | run | resumed | peak RSS of the run |", "|---|---|---|---|---|"]
    peaks = []
    for some in (count // 10, count):
        pile = folder / f"pile-{some}"
        for number in range(some):
            file = pile / f"{number // 1000:03}" / f"{number:06}.wav"
            if number % 1000 == 0:
                file.parent.mkdir(parents=True)
            if number == 0:
                soundfile.write(file, samples[4000:6000], recognizer.sample_rate_hz)
                content = file.read_bytes()
            else:
                file.write_bytes(content)
        to = folder / f"{some}.jsonl"
        dry_s = timed(options.model, pile, "--to", to, "--dry-run")
        started = time.perf_counter()
        code = (
            "import resource, sys\nfrom speechrnn import cli\ncli.main(sys.argv[1:])\n"
            "for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):\n"
            "    print(resource.getrusage(who).ru_maxrss)\n"
        )
        command = [sys.executable, "-c", code, "transcribe", options.model, str(pile)]
        done = subprocess.run(
            [*command, "--to", str(to)], capture_output=True, text=True, check=True
        )
        spent = time.perf_counter() - started
        own, workers = map(int, done.stdout.splitlines()[-2:])
        peaks.append((own, workers))
        resumed_s = timed(options.model, pile, "--to", to, "--resume")
        lines.append(
            f"| {some:,} | {dry_s:.1f} s | {spent:.1f} s | {resumed_s:.1f} s | "
            f"{own / 1024:.0f} MB, its workers {workers / 1024:.0f} MB each |"
        )
    slope = 1024 * (peaks[1][0] - peaks[0][0]) / (count - count // 10)
    lines += ["", f"{slope:.0f} bytes a file more."]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
