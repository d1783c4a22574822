"""The command line: its options, and what becomes of an error; the work is in ``commands``."""

from __future__ import annotations

import argparse
import errno
import io
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from speechrnn import (
    commands,
    compare_command,
    data_commands,
    diagnose_commands,
    listen_command,
    model_commands,
    serve_command,
    transcribe_command,
)
from speechrnn.cli_options import (
    add,
    add_guidance,
    add_model,
    add_recipe,
    add_skip_broken,
    amount,
    seed,
    share,
)
from speechrnn.commands import INTERRUPTED, OK, WRONG_CALL, complain, forget
from speechrnn.errors import SpeechRNNError
from speechrnn.version import __version__

SPLITS = ("train", "val", "test", "all")
# A full disk, a full quota, a broken disk.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EIO)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit status: 0 all fine, 1 some inputs failed, 2 the call is wrong."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    command: Callable[[argparse.Namespace], int] = getattr(options.module, options.name)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as gentle as Ctrl-C
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal shows its own letters; elsewhere JSON is UTF-8. Names of files need not be.
        encoding = None if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
    try:
        status = command(options)
        if sys.stdout is not None:
            sys.stdout.flush()  # a full disk is not to be passed over
        return status
    except SpeechRNNError as error:
        if options.debug:
            raise
        complain(f"{options.program}: error: {error}")
        return _ended(WRONG_CALL)
    except KeyboardInterrupt:
        if options.debug:
            raise
        complain(f"{options.program}: interrupted")
        return _ended(INTERRUPTED)
    except BrokenPipeError:  # the reader of our output, head for example, has seen enough
        forget(sys.stdout)
        return OK
    except Exception as error:
        if options.debug:
            raise
        if isinstance(error, OSError) and error.errno in NO_ROOM:
            where = error.filename or "standard output, or a temporary file,"
            reason = f"{where} cannot be written ({error.strerror}); make room, and run it again"
            complain(f"{options.program}: error: {reason}")
        else:
            complain(
                f"{options.program}: internal error: {type(error).__name__}: {error}; this is "
                "a bug of speechrnn; run again with --debug for its traceback"
            )
        return _ended(WRONG_CALL)


def _ended(status: int) -> int:
    """What was printed before goes out, if it can: why it ended is said already."""
    if sys.stdout is not None:  # closed
        try:
            sys.stdout.flush()
        except OSError:
            forget(sys.stdout)
    return status


def make_parser() -> argparse.ArgumentParser:
    """The parser of every command."""
    parser = argparse.ArgumentParser(
        prog="speechrnn",
        description="Train a recogniser of spoken commands; put it on a device as one TFLite file.",
    )
    parser.add_argument("--version", action="version", version=f"speechrnn {__version__}")
    choices = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    demo = add(choices, "demo", "make words, train, evaluate, export, transcribe", commands)
    demo.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="default: demo")

    data = choices.add_parser("data", help="make and check data sets")
    data_choices = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    synth = add(data_choices, "synth", "speak words with many synthetic voices", data_commands)
    said = synth.add_mutually_exclusive_group(required=True)
    said.add_argument("--words", metavar="A,B,C", help="separated by commas")
    said.add_argument(
        "--like",
        metavar="DATA",
        help="the words of these recordings, and as long",
    )
    synth.add_argument("--out", type=Path, required=True, metavar="DIR")
    synth.add_argument("--language", default="en", help="of espeak-ng; default: en")
    synth.add_argument("--voices", type=int, default=60, metavar="N", help="default: 60")
    synth.add_argument("--clips", type=int, default=3, metavar="N", help="per word and voice: 3")
    synth.add_argument(
        "--foreign",
        type=float,
        metavar="SHARE",
        help="of clips in which a native of another language speaks; default: 0, with --like 0.4",
    )
    synth.add_argument(
        "--sample-rate", type=int, metavar="HZ", help="default: 16000, or that of --like"
    )
    synth.add_argument("--seed", type=seed, default=0)

    check = add(
        data_choices,
        "check",
        "count what a data set holds, say what is wrong with it",
        data_commands,
    )
    check.add_argument("data", metavar="DATA", help="a folder per label, or a .jsonl manifest")
    check.add_argument("--json", metavar="F", help="write the figures; - is standard output")
    check.add_argument(
        "--listen-to-augmentation",
        type=Path,
        metavar="DIR",
        help="write recordings before and after the recipe's augmentations, sounds and pictures",
    )
    add_recipe(check, example="augment.speed.low=1")

    sequences = add(
        data_choices, "sequences", "put single words together to utterances", data_commands
    )
    sequences.add_argument("data", metavar="DATA", help="a folder per label, or a manifest")
    sequences.add_argument("--out", type=Path, required=True, metavar="DIR")
    sequences.add_argument(
        "--phrases", metavar="F", help="say these, one a line, drawn at random; default: any words"
    )
    sequences.add_argument("--count", type=int, default=500, metavar="N", help="default: 500")
    sequences.add_argument(
        "--num-words", type=int, nargs=2, default=(1, 5), metavar=("LOW", "HIGH"), help="1 to 5"
    )
    sequences.add_argument(
        "--gap",
        type=float,
        nargs=2,
        default=(-0.05, 0.4),
        metavar=("LOW", "HIGH"),
        help="seconds between two words, negative where they overlap; default: -0.05 to 0.4",
    )
    sequences.add_argument("--split", choices=SPLITS, default="all")
    sequences.add_argument("--sample-rate", type=int, default=16000, metavar="HZ")
    sequences.add_argument("--seed", type=seed, default=0)
    add_skip_broken(sequences)

    train = add(choices, "train", "train a model and save it as a bundle", commands)
    train.add_argument("--data", required=True, help="a folder per label, or a .jsonl manifest")
    train.add_argument("--val", metavar="DATA", help="other speakers; default: split by speaker")
    train.add_argument(
        "--also",
        action="append",
        default=[],
        metavar="DATA",
        help="more recordings of the same words to mix in, as of data synth; may be repeated",
    )
    train.add_argument("--out", type=Path, required=True, metavar="BUNDLE")
    add_recipe(train, example="train.epochs=5")
    train.add_argument(
        "--words", metavar="A,B,C", help="the commands; everything else becomes _unknown_"
    )
    train.add_argument(
        "--teacher",
        action="append",
        default=[],
        type=Path,
        metavar="BUNDLE",
        help="learn from a trained model of these labels too; may be repeated: from their mean",
    )
    train.add_argument("--tensorboard", type=Path, metavar="DIR", help="write curves for it")
    existing = train.add_mutually_exclusive_group()
    existing.add_argument("--force", action="store_true", help="replace an existing bundle")
    existing.add_argument(
        "--resume", action="store_true", help="go on with a training that was stopped"
    )
    add_skip_broken(train)

    evaluate = add(choices, "evaluate", "count how well a model recognises", commands)
    add_model(evaluate)
    evaluate.add_argument("--data", required=True, help="a folder per label, or a .jsonl manifest")
    evaluate.add_argument(
        "--split",
        choices=SPLITS,
        help="of a folder that says which is which; default: test, else val, else all",
    )
    evaluate.add_argument("--json", metavar="F", help="write the figures; - is standard output")
    evaluate.add_argument("--report", type=Path, metavar="DIR", help="write DIR/report.html")
    evaluate.add_argument("--noise", metavar="PATH", help="measure again with this noise added")
    evaluate.add_argument(
        "--background", metavar="DATA", help="long recordings without commands: false alarms"
    )
    evaluate.add_argument(
        "--false-alarms-per-hour",
        type=float,
        metavar="N",
        help="pick the threshold for this many on the background; a bundle keeps it",
    )
    evaluate.add_argument(
        "--command-snr", type=float, metavar="DB", help="of commands in the background"
    )
    evaluate.add_argument("--seed", type=seed, default=0, help="of noise and places; default: 0")
    add_skip_broken(evaluate)
    add_guidance(evaluate)
    evaluate.add_argument(
        "--false-accepts",
        type=float,
        metavar="SHARE",
        help="with --grammar: pick its margin for this share of utterances outside it; a bundle "
        "keeps it",
    )

    _add_diagnose(choices)

    export = add(choices, "export", "write a bundle as one .tflite", model_commands)
    export.add_argument("model", type=Path, metavar="BUNDLE")
    export.add_argument("--to", type=Path, required=True, metavar="F.tflite", help="or F.h, as C")
    export.add_argument(
        "--quantize",
        choices=("none", "float16", "dynamic", "int8", "int4"),
        default="none",
        help="smaller numbers behind the front end; default: none",
    )
    export.add_argument(
        "--calibrate", metavar="DATA", help="for int8: recordings that show how large values become"
    )
    export.add_argument(
        "--streaming",
        action="store_true",
        help="also chunk by chunk; for recurrent encoders",
    )
    export.add_argument(
        "--look-ahead",
        type=float,
        metavar="SECONDS",
        help="that a stream of both directions sees beyond what it answers to; default: 0.48",
    )
    export.add_argument(
        "--batch",
        action="store_true",
        help="also several recordings of one length at once: faster on piles of them",
    )
    export.add_argument(
        "--check",
        metavar="DATA",
        help="hold the file against the bundle on these, and every other format beside it",
    )
    export.add_argument(
        "--max-loss",
        type=amount,
        metavar="POINTS",
        help="of accuracy, or of word error rate, that it may lose there; default: 1",
    )
    export.add_argument("--licence", metavar="TEXT", help="of the model, kept in the file")
    export.add_argument("--attribution", metavar="TEXT", help="whose recordings, kept in the file")
    export.add_argument("--log", type=Path, metavar="F", help="what the converter says")
    export.add_argument("--force", action="store_true", help="replace an existing file")

    _add_transcribe(choices)

    lm = add(choices, "lm", "learn a language model from text", commands)
    lm.add_argument("text", metavar="TEXT", help="a sentence a line; - is standard input")
    lm.add_argument("--to", type=Path, required=True, metavar="F", help="F.arpa, of a GRU F.npz")
    lm.add_argument("--kind", choices=("ngram", "gru"), default="ngram", help="default: ngram")
    lm.add_argument("--order", type=int, default=3, metavar="N", help="words of an n-gram: 3")
    lm.add_argument("--units", type=int, default=128, metavar="N", help="of a GRU: 128")
    lm.add_argument("--epochs", type=int, default=20, metavar="N", help="of a GRU: 20")
    lm.add_argument("--seed", type=seed, default=0, help="of a GRU")
    lm.add_argument("--force", action="store_true", help="replace an existing file")

    listen = add(choices, "listen", "hear commands in sound as it comes", listen_command)
    listen_command.add_options(listen)

    compare = add(choices, "compare", "train encoders of one budget alike", compare_command)
    compare_command.add_options(compare)

    serve = add(choices, "serve", "open the page that hears commands in the browser", serve_command)
    serve_command.add_options(serve)

    info = add(choices, "info", "what a model says about itself", model_commands)
    add_model(info)
    info.add_argument("--json", metavar="F", help="write everything; - is standard output")
    info.add_argument("--selftest", action="store_true", help="does it compute here what it should")
    return parser


def _add_diagnose(choices: argparse._SubParsersAction) -> None:
    diagnose = choices.add_parser("diagnose", help="look into a model")
    diagnose_choices = diagnose.add_subparsers(title="commands", metavar="COMMAND", required=True)
    gradients = add(
        diagnose_choices,
        "gradients",
        "how far back through time an error reaches in each layer",
        diagnose_commands,
    )
    diagnose_commands.add_options(gradients)
    about = "how far back the encoder of a trained model remembers"
    diagnose_commands.add_reach_options(add(diagnose_choices, "reach", about, diagnose_commands))


def _add_transcribe(choices: argparse._SubParsersAction) -> None:
    transcribe = add(choices, "transcribe", "recognise recordings", transcribe_command)
    add_model(transcribe)
    transcribe.add_argument(
        "inputs",
        nargs="+",
        metavar="INPUT",
        help="file, folder, manifest (.jsonl), or -: a list of names, or a recording, on standard "
        "input",
    )
    transcribe.add_argument(
        "--to",
        metavar="F|DIR",
        help="a file of all records, or DIR/ of a file each; default: standard output",
    )
    transcribe.add_argument(
        "--format",
        default="jsonl",
        metavar="A,B",
        help="of one file jsonl, csv, tsv, txt; of a file each txt, srt, vtt, csv, tsv, textgrid; "
        "default: jsonl",
    )
    transcribe.add_argument(
        "--include", action="append", default=[], metavar="GLOB", help="of folders take these only"
    )
    transcribe.add_argument(
        "--exclude", action="append", default=[], metavar="GLOB", help="of folders leave these out"
    )
    transcribe.add_argument(
        "--threshold", type=share, metavar="P", help="least confidence; default: the model's"
    )
    transcribe.add_argument("--jobs", type=int, metavar="N", help="processes; default: all cores")
    transcribe.add_argument("--engine", choices=("local", "ray"), default="local")
    transcribe.add_argument(
        "--ray-address", metavar="HOST:PORT", help="of a cluster; default: one on this machine"
    )
    existing = transcribe.add_mutually_exclusive_group()
    existing.add_argument("--force", action="store_true", help="replace what is there")
    existing.add_argument(
        "--resume", action="store_true", help="keep what is done, and still true; do the rest"
    )
    transcribe.add_argument(
        "--retry-errors", action="store_true", help="with --resume: what failed is done again"
    )
    transcribe.add_argument("--fail-fast", action="store_true", help="stop at the first error")
    transcribe.add_argument("--dry-run", action="store_true", help="say what would be done")
    transcribe.add_argument("--profile", action="store_true", help="say what takes the time")
    add_guidance(transcribe)
