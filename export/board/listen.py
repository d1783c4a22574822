#!/usr/bin/env python3
"""Spoken commands on a board: a .tflite of speechrnn, numpy and ai-edge-litert, nothing else.

    python listen.py commands.tflite clip.wav ...            one answer a recording
    python listen.py commands.tflite --stream long.wav       what is heard in it, and when
    arecord -q -f S16_LE -r 16000 -c 1 -t raw | python listen.py commands.tflite -
    python listen.py commands.tflite --microphone            with the package sounddevice

WAV files are mono, of 16 bits, at the model's rate; "-" is standard input, raw 16-bit samples at
that rate. A line is name or second, text, confidence, with tabs between; with --json an object.
Nothing is printed for an answer of less confidence than the file's threshold, or --threshold.
"""

import argparse
import hashlib
import json
import math
import os
import queue
import sys
import wave
import zipfile

import numpy as np

FORMAT, FORMAT_VERSION = "speechrnn-tflite", 1
LONGEST_S, LONGEST_STREAMED_S, MOST_WAITING_S = 60, 600, 30


class Refused(Exception):
    """What is wrong, in one line: what, got, expected."""


# ------------------------------------------------------------------ files


def read_model(path):
    """The flatbuffer, and what the file says about itself."""
    try:
        with open(path, "rb") as file:
            content = file.read()
    except OSError as error:
        raise Refused(f"{path}: cannot be read ({error.strerror})") from error
    if content[4:8] != b"TFL3":
        raise Refused(f"{path}: is no TFLite model; expected a .tflite from speechrnn export")
    try:
        with zipfile.ZipFile(path) as archive:
            about = json.loads(archive.read("speechrnn.json"))
    except Exception as error:  # zipfile lets through whatever a decompressor raises
        raise Refused(f"{path}: carries no metadata of speechrnn; was it cut short?") from error
    if not isinstance(about, dict):
        raise Refused(f"{path}: speechrnn.json in it is damaged; export it again")
    if about.get("format") != FORMAT or about.get("format_version") != FORMAT_VERSION:
        got = f"{about.get('format')} {about.get('format_version')}"
        raise Refused(f"{path}: is of format {got}, expected {FORMAT} {FORMAT_VERSION}")
    model = content[: about.get("model_bytes", 0)]
    if hashlib.sha256(model).hexdigest() != about.get("model_sha256"):
        raise Refused(f"{path}: was changed after it was exported; export it again")
    return model, about


def read_wav(path, rate_hz, longest_s):
    """float32 [samples] within -1..1."""
    try:
        with wave.open(path) as sound:
            channels, width, rate = sound.getparams()[:3]
            if (channels, width, rate) != (1, 2, rate_hz):
                got = f"{channels} channels, {8 * width} bits, {rate} Hz"
                raise Refused(f"{path}: {got}; expected 1 channel, 16 bits, {rate_hz} Hz")
            seconds = sound.getnframes() / rate_hz
            if seconds > longest_s:
                raise Refused(f"{path}: {seconds:.0f} s, expected at most {longest_s}; cut it")
            content = sound.readframes(sound.getnframes())
    except OSError as error:
        raise Refused(f"{path}: cannot be read ({error.strerror})") from error
    except (wave.Error, EOFError) as error:
        raise Refused(f"{path}: is no WAV file of integers ({error})") from error
    return np.frombuffer(content[: len(content) // 2 * 2], "<i2").astype(np.float32) / 32768


def longest_clip_s(about):
    """Length of the longest recordings that a model learnt from; a second where it is not said."""
    training = about.get("training")
    lengths = training.get("clip_s") if isinstance(training, dict) else None
    if not isinstance(lengths, list) or len(lengths) != 2:
        return 1.0
    if not all(type(length) in (int, float) for length in lengths):
        return 1.0
    low, high = lengths
    return float(high) if 0 < low <= high <= 10 else 1.0


class Model:
    """Waveform -> probabilities [labels], or log_probs [steps, 1 + labels] of sequences."""

    def __init__(self, path):
        self.path = path
        self.model, self.about = read_model(path)
        self.labels = self.about["labels"]
        self.rate_hz = self.about["features"]["sample_rate_hz"]
        self.output = self.about["output"]["name"]
        self.threshold = self.about.get("decision", {}).get("threshold", 0.0)
        self.window_s = longest_clip_s(self.about)
        self.hop_s = min(0.2, self.window_s / 5)
        self.serve = self.signature(self.about["signature"])

    def signature(self, name):
        """Its function; LiteRT announces itself on standard error, which goes nowhere."""
        saved, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 2)
        try:
            from ai_edge_litert.interpreter import Interpreter

            interpreter = Interpreter(model_content=self.model)
            interpreter.allocate_tensors()
            return interpreter.get_signature_runner(name)
        except (ValueError, RuntimeError) as error:
            raise Refused(f"{self.path}: LiteRT cannot run it ({error})") from error
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            os.close(nowhere)

    def answer(self, waveform):
        return self.serve(waveform=waveform[None])[self.output][0].copy()


# ------------------------------------------------------------------ sound -> answers


class Windows:
    """Answers to overlapping windows, as they fill."""

    smoothing, first_s, unfilled = 2, 0.0, 0

    def __init__(self, model):
        self.window_s, self.hop_s = model.window_s, model.hop_s
        self.model, self.length = model, round(self.window_s * model.rate_hz)
        self.samples, self.dropped, self.count = np.zeros(0, np.float32), 0, 0

    def feed(self, samples):
        self.samples = np.concatenate([self.samples, samples])
        while True:
            start = round(self.count * self.hop_s * self.model.rate_hz) - self.dropped
            if start + self.length > len(self.samples):
                break
            yield self.model.answer(self.samples[start : start + self.length])
            self.count += 1
        done = min(start, len(self.samples))
        self.samples, self.dropped = self.samples[done:], self.dropped + done

    def finish(self):
        return ()


class Carried:
    """Answers of a file exported with --streaming, whose state goes from call to call."""

    ENDLESS, MOST_CALLS = 2**30, 2**16

    def __init__(self, model):
        self.model, self.how = model, model.about["streaming"]
        self.call = model.signature(self.how["signature"])
        self.hop_s = self.how["chunk"] / self.how["steps"] / model.rate_hz
        pooled = self.how["pooled"]
        self.window_s, self.unfilled = max(1, pooled) * self.hop_s, max(0, pooled - 1)
        self.smoothing = max(1, round(Windows.smoothing * model.hop_s / self.hop_s))
        self.first_s = model.about["steps"]["first_s"] - self.hop_s / 2
        self.states = {
            f"state_{n}": np.zeros(shape, np.float32) for n, shape in enumerate(self.how["states"])
        }
        self.waiting, self.before = np.zeros(0, np.float32), None
        self.heard = self.position = self.forgotten = 0

    def feed(self, samples, frames=ENDLESS):
        self.heard += len(samples)
        self.waiting = np.concatenate([self.waiting, samples])
        context, chunk = self.how["context"], self.how["chunk"]
        if self.before is None and len(self.waiting) >= context:
            self.before, self.waiting = self.waiting[None, :context], self.waiting[context:]
        while self.before is not None and len(self.waiting) >= chunk:
            if frames != self.ENDLESS and self.step() >= self.steps(frames):
                return
            yield from self.next(self.waiting[:chunk], frames)
            self.waiting = self.waiting[chunk:]

    def finish(self):
        """What lags behind at the end: zeros until the last step is answered to."""
        if self.heard:
            hop = self.how["chunk"] // self.how["frames"]
            frames = 1 + max(0, self.heard - self.how["context"] - hop) // hop
            frames -= self.forgotten * self.how["frames"]
            needed = max(0, self.steps(frames) - self.step()) * self.how["chunk"]
            zeros = np.zeros(self.how["context"] + needed + self.how["chunk"], np.float32)
            yield from self.feed(zeros, frames)

    def step(self):
        return self.position * self.how["steps"] + self.how["first_step"]

    def steps(self, frames):
        return -(-frames * self.how["steps"] // self.how["frames"])

    def next(self, chunk, frames):
        first = self.step()
        found = self.call(
            waveform=chunk[None],
            position=np.array(self.position, np.int32),
            num_frames=np.array(frames, np.int32),
            samples=self.before,
            **self.states,
        )
        if frames == self.ENDLESS and self.position >= self.MOST_CALLS:
            self.forgotten += 1
        else:
            self.position += 1
        self.before = found["samples"].copy()
        self.states = {name: found[name].copy() for name in self.states}
        answers = found[self.model.output].copy().reshape(self.how["steps"], -1)
        last = self.how["steps"] if frames == self.ENDLESS else self.steps(frames) - first
        return list(answers[max(0, -first) : last])


# ------------------------------------------------------------------ answers -> events


class Commands:
    """A command where the mean of the last answers reaches the threshold; then a rest."""

    def __init__(self, model, source, threshold):
        self.refractory_s = model.window_s + model.hop_s  # in which a mean may hold the same word
        self.labels, self.threshold, self.source = model.labels, threshold, source
        self.recent, self.unfilled, self.window, self.rest = [], source.unfilled, 0, 0

    def hear(self, answer):
        if self.unfilled:
            self.unfilled -= 1
            return None
        self.recent = [*self.recent, answer.astype(np.float64)][-self.source.smoothing :]
        mean = np.mean(self.recent, axis=0)
        best, window = int(mean.argmax()), self.window
        self.window += 1
        label, sure = self.labels[best], mean[best] >= self.threshold
        if window < self.rest or not sure or (label.startswith("_") and label.endswith("_")):
            return None
        hop_s = self.source.hop_s
        self.rest = window + max(1, math.ceil(self.refractory_s / hop_s - 1e-9))
        time_s = self.source.first_s + window * hop_s + self.source.window_s / 2
        return {"text": label, "time_s": max(0.0, time_s), "confidence": float(mean[best])}

    def end(self):
        return None


class Utterances:
    """Words between two pauses of a second, of a model of sequences."""

    PAUSE_S, LONGEST_S = 1.0, 60.0

    def __init__(self, model, source, threshold):
        self.model, self.threshold, self.step_s = model, threshold, source.hop_s
        self.steps, self.blanks, self.said, self.before = [], 0, False, 0

    def hear(self, step):
        self.steps.append(step)
        blank = step.argmax() == 0
        self.said, self.blanks = self.said or not blank, self.blanks + 1 if blank else 0
        pause = round(self.PAUSE_S / self.step_s)
        if not self.said:
            if len(self.steps) > pause:
                del self.steps[0]
                self.before += 1
            return None
        full = len(self.steps) >= round(self.LONGEST_S / self.step_s)
        return self.end() if full or self.blanks >= pause else None

    def end(self):
        steps, said, before = self.steps, self.said, self.before
        self.before += len(steps)
        self.steps, self.blanks, self.said = [], 0, False
        if not said:
            return None
        text, confidence, first = read_sequence(self.model, np.array(steps))
        if not text or confidence < self.threshold:
            return None
        begins_s = self.model.about["steps"]["first_s"] + (first - 0.5) * self.step_s
        begins_s += self.model.about.get("decision", {}).get("word_edges", (0.0, 0.0))[0]
        time_s = before * self.step_s + max(0.0, begins_s)
        return {"text": text, "time_s": time_s, "confidence": confidence}


def read_sequence(model, log_probs):
    """Text, confidence, and the step at which it begins."""
    log_probs = log_probs.astype(np.float64)
    decision = model.about.get("decision", {})
    path = best_path(log_probs, decision.get("symbol_cost", 0.0))
    begins = [n for n, k in enumerate(path) if k and (n == 0 or path[n - 1] != k)]
    symbols = [path[n] for n in begins]
    letters = model.about["head"].get("symbols") == "characters"
    text = ("" if letters else " ").join(model.labels[k - 1] for k in symbols)
    if letters:
        text = " ".join(text.replace("|", " ").split())
    slope, offset = decision.get("utterance_confidence", (1.0, 0.0))
    likely = min(log_likelihood(log_probs, symbols), -1e-13)
    odds = min(max(likely - math.log(-math.expm1(likely)), -30.0), 30.0)
    confidence = 1 / (1 + math.exp(-(slope * odds + offset)))
    return text, confidence, begins[0] if begins else 0


def best_path(log_probs, cost):
    """The likeliest column of each step, where each symbol costs as it begins (Viterbi)."""
    entry = np.full(log_probs.shape[1], cost)
    entry[0] = 0.0
    score, came_from = log_probs[0] - entry, []
    for row in log_probs[1:]:
        before = int(score.argmax())
        changed = score[before] - entry
        came_from.append(np.where(score >= changed, np.arange(len(row)), before))
        score = np.maximum(score, changed) + row
    path = [int(score.argmax())]
    for origins in reversed(came_from):
        path.append(int(origins[path[-1]]))
    return path[::-1]


def log_likelihood(log_probs, symbols):
    """Of the symbols over all paths: the CTC forward algorithm (Graves et al. 2006)."""
    columns = np.zeros(2 * len(symbols) + 1, int)
    columns[1::2] = symbols
    skip = np.zeros(len(columns), bool)
    skip[3::2] = columns[3::2] != columns[1:-2:2]
    forward = np.full(len(columns), -np.inf)
    forward[0] = 0.0
    for row in log_probs:
        one, two = np.roll(forward, 1), np.roll(forward, 2)
        one[0], two[~skip] = -np.inf, -np.inf
        forward = np.logaddexp(np.logaddexp(forward, one), two) + row[columns]
    return float(np.logaddexp(forward[-1], forward[-2])) if symbols else float(forward[-1])


def listen(model, chunks, threshold):
    """The events of sound that comes in chunks, float32 [samples] each, as they come."""
    sequences = model.output == "log_probs"
    if sequences and "streaming" not in model.about:
        raise Refused(f"{model.path}: answers with sequences; export it with --streaming")
    source = (Carried if "streaming" in model.about else Windows)(model)
    heard = (Utterances if sequences else Commands)(model, source, threshold)
    try:
        for samples in chunks:
            yield from filter(None, map(heard.hear, source.feed(samples)))
    except KeyboardInterrupt:  # how a microphone ends
        pass
    yield from filter(None, [*map(heard.hear, source.finish()), heard.end()])


# ------------------------------------------------------------------ the command line


def transcribe(model, waveform, threshold):
    """What is said in a recording of one command, or of one utterance."""
    answer = model.answer(waveform)
    if model.output == "log_probs":
        text, confidence, _ = read_sequence(model, answer)
    else:
        best = int(answer.argmax())
        text, confidence = model.labels[best], float(answer[best])
    text = text if confidence >= threshold else ""
    return {"text": text, "confidence": confidence, model.output: answer.tolist()}


def pieces(waveform, size):
    return (waveform[first : first + size] for first in range(0, len(waveform), size))


def piped(rate_hz):
    """Raw 16-bit samples of standard input, 40 chunks a second."""
    rest = b""
    while content := sys.stdin.buffer.read1(rate_hz // 20):
        content = rest + content
        whole = len(content) // 2 * 2
        rest = content[whole:]
        yield np.frombuffer(content[:whole], "<i2").astype(np.float32) / 32768


def microphone(rate_hz):
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise Refused(f"--microphone: {error}; pip install sounddevice, or pipe arecord") from error
    coming = queue.Queue()

    def hear(samples, *_):
        if coming.qsize() < 40 * MOST_WAITING_S:  # a board that does not keep up leaves sound out
            coming.put(samples[:, 0].copy())

    try:
        stream = sounddevice.InputStream(
            rate_hz, rate_hz // 40, channels=1, dtype="float32", callback=hear
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise Refused(f"--microphone: cannot be opened at {rate_hz} Hz ({error})") from error
    with stream:
        while True:
            yield coming.get()


def run(options):
    model = Model(options.model)
    threshold = model.threshold if options.threshold is None else options.threshold

    def show(name, found):
        if options.json:
            print(json.dumps({"sound": name, **found}, ensure_ascii=False), flush=True)
        elif found["text"]:
            where = f"{found['time_s']:.2f}" if "time_s" in found else name
            print(f"{where}\t{found['text']}\t{found['confidence']:.4f}", flush=True)

    if options.microphone:
        options.sounds = ["microphone"]
    for name in options.sounds:
        if options.microphone or name == "-":
            chunks = microphone(model.rate_hz) if options.microphone else piped(model.rate_hz)
        elif options.stream:
            waveform = read_wav(name, model.rate_hz, LONGEST_STREAMED_S)
            chunks = pieces(waveform, options.chunk)
        else:
            waveform = read_wav(name, model.rate_hz, LONGEST_S)
            if len(waveform) < model.about["min_samples"]:
                least = model.about["min_samples"]
                raise Refused(f"{name}: {len(waveform)} samples, expected at least {least}")
            show(name, transcribe(model, waveform, threshold))
            continue
        for event in listen(model, chunks, threshold):
            show(name, event)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a .tflite from speechrnn export")
    parser.add_argument("sounds", nargs="*", help="WAV files, or - for raw samples")
    parser.add_argument("--stream", action="store_true", help="listen to the files as they pass")
    parser.add_argument("--microphone", action="store_true")
    parser.add_argument("--threshold", type=float, help="least confidence, instead of the file's")
    parser.add_argument("--chunk", type=int, default=400, help="samples handed over at a time")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_intermixed_args()
    if options.chunk < 1:
        parser.error(f"--chunk {options.chunk}: expected 1 or more")
    if not (options.sounds or options.microphone):
        parser.error("nothing to listen to: pass WAV files, -, or --microphone")
    try:
        run(options)
    except Refused as error:
        print(f"listen: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
