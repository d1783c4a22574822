"""What each command does with its options; the exit status is the result.

Nothing that takes time to import is imported before it is known to be needed: ``transcribe`` with
a .tflite never sees Keras or TensorFlow.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

from speechrnn.errors import ConfigError, OutputError

if TYPE_CHECKING:
    from speechrnn.background import BackgroundTest
    from speechrnn.datasets.manifest import Split
    from speechrnn.options import Guidance

OK, SOME_FAILED, WRONG_CALL, INTERRUPTED = 0, 1, 2, 130


def complain(text: str) -> None:
    """One line on standard error, whatever names and messages of others it quotes."""
    line = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
    if sys.stderr is not None:  # closed: there is nobody to tell
        try:
            print(line, file=sys.stderr, flush=True)
        except OSError:  # a full disk
            forget(sys.stderr)


def forget(stream: TextIO) -> None:
    """What a stream still holds goes nowhere: nobody reads it, or nothing takes it."""
    with contextlib.suppress(io.UnsupportedOperation):  # of a test, it is no file
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def refuse_folder(model: str) -> None:
    """Raise a ConfigError where a bundle, or another folder, is given for a .tflite."""
    if os.path.isdir(model):
        raise ConfigError(
            f"{model}: is a folder, expected a .tflite; of a bundle, "
            f"speechrnn export {model} --to F.tflite"
        )


def demo(options: argparse.Namespace) -> int:
    """Every stage for ten synthetic words."""
    from speechrnn.demo import run_demo

    run_demo(options.out)
    return OK


def train(options: argparse.Namespace) -> int:
    """Train a model and save it as a bundle."""
    from speechrnn.bundle import HEADER, check_output, read_log
    from speechrnn.extras import require_training
    from speechrnn.training_options import public_name, recipe_of, rows_mixed_in, training_rows

    check_output(options.out)
    if (options.out / HEADER).exists() and not options.force and not options.resume:
        raise OutputError(
            f"{options.out}: holds a bundle; choose another --out, pass --force to replace it, or "
            "--resume to go on with a training that was stopped"
        )
    from speechrnn.checkpoint import checkpoint_path, is_finished

    # A checkpoint beside it is of a training that was to replace it.
    unfinished = checkpoint_path(options.out).exists()
    if options.resume and is_finished(options.out) and not unfinished:
        print(f"{options.out}: is finished, nothing to resume")
        return OK
    train_rows, val_rows = training_rows(options)
    also_rows = rows_mixed_in(options)
    require_training("train")
    from speechrnn.report import draw_training
    from speechrnn.train import train_model

    recipe = recipe_of(options)
    if not val_rows:
        from speechrnn.datasets.manifest import split_by_speaker

        train_rows, val_rows = split_by_speaker(train_rows, recipe.train.val_fraction)
    result = train_model(
        recipe,
        train_rows,
        val_rows,
        options.out,
        also_rows=also_rows,
        data_name=" + ".join(map(public_name, [options.data, *options.also])),
        val_name=public_name(options.val or options.data) + ("" if options.val else ", held out"),
        skip_broken=options.skip_broken,
        resume=options.resume,
        tensorboard=options.tensorboard,
        teachers=options.teacher,
    )
    try:
        draw_training(read_log(result.bundle), result.bundle / "training.png")
    except OSError as failure:  # the bundle is whole
        complain(f"{result.bundle / 'training.png'}: cannot be written ({failure.strerror})")
    if result.composed:
        print(
            f"{result.bundle}: learnt from utterances put together from {result.learnt_from} "
            f"recordings of single commands ({len(train_rows)} were given)"
        )
    print(
        f"{result.bundle}: {100 * result.val_accuracy:.2f} % on {result.val_utterances} recordings "
        f"of validation speakers, epoch {result.best_epoch} of {result.epochs_done}, "
        f"{result.seconds:.0f} s"
    )
    for error in result.left_out:
        complain(f"left out: {error}")
    if result.interrupted:
        goes_on = checkpoint_path(options.out).exists()
        complain(
            "speechrnn train: interrupted; the best model so far is kept"
            + ("; --resume goes on" if goes_on else "")
        )
        return INTERRUPTED
    return OK


def evaluate(options: argparse.Namespace) -> int:
    """Recognise labelled recordings and count."""
    from speechrnn.datasets.manifest import held_out_split, read_data
    from speechrnn.evaluate import describe_tests, evaluate_model
    from speechrnn.guidance import guide
    from speechrnn.recognize import load_model

    split: Split = options.split or held_out_split(options.data)
    background = _background_test(options)
    rows = read_data(options.data, split)
    check_json(options.json)
    if options.report:
        from speechrnn.report_page import check_folder

        check_folder(options.report)
    model = load_model(options.model)
    guide(model, guidance_of(options))
    adopt = bool(background and background.budget is not None and model.path.is_dir())
    if adopt or (options.false_accepts is not None and model.path.is_dir()):
        from speechrnn.bundle import check_output

        check_output(model.path)
    result = evaluate_model(
        model,
        rows,
        data_name=options.data,
        skip_broken=options.skip_broken,
        noise=options.noise,
        background=background,
        adopt_threshold=adopt,
        false_accepts=options.false_accepts,
        seed=options.seed,
    )
    detection = result["detection"]
    if adopt and detection["threshold"] is not None:
        from speechrnn.calibrate import store_threshold

        store_threshold(
            model.path, detection["threshold"], detection["budget"], detection["background_hours"]
        )
    if options.json:
        write_json(options.json, result)
    if options.false_accepts is not None:
        _keep_margin(model.path, result["grammar"], options)
    if options.report:
        from speechrnn.report_page import write_report

        page = write_report(result, options.report)
    if options.json != "-":
        print(
            f"{options.model} on {options.data} ({split}): accuracy "
            f"{100 * result['accuracy']:.2f} % of {result['utterances']} recordings of "
            f"{result['speakers'] or 'unknown'} speakers, WER {100 * result['wer']:.2f} %, "
            f"real-time factor {result['real_time_factor']:.4f}"
        )
        _print_labels(result["labels"])
        for truth, said, count in result["confusions"][:5]:
            print(f"  {count} x {truth!r} heard as {said!r}")
        for line in describe_tests(result):
            print(f"  {line}")
        if options.report:
            print(f"{page}: the report")
    if background and background.budget is not None:
        _tell_threshold(model.path, detection["threshold"], adopt, quiet=options.json == "-")
    for record in result["errors"]:
        complain(f"left out: {record['audio_filepath']}: {record['error']}")
    return SOME_FAILED if result["errors"] else OK


def _background_test(options: argparse.Namespace) -> BackgroundTest | None:
    budget = options.false_alarms_per_hour
    needs = {"--false-alarms-per-hour": budget, "--command-snr": options.command_snr}
    for name, value in needs.items():
        if value is not None and options.background is None:
            raise ConfigError(
                f"{name} {value:g}: there is nothing to count false alarms on; give --background "
                "with long recordings that hold no command"
            )
    if options.background is None:
        return None
    from speechrnn.background import BackgroundTest

    return BackgroundTest(
        options.background, budget, command_snr_db=options.command_snr, seed=options.seed
    )


def _tell_threshold(model: Path, threshold: float | None, stored: bool, *, quiet: bool) -> None:
    if threshold is None:
        line = "keeps its threshold"
    elif stored:
        line = f"threshold {threshold:g} stored; export again to have it in a .tflite"
    else:
        line = (
            f"a .tflite is not changed; to store threshold {threshold:g}, give the bundle that it "
            "was exported from, and export again"
        )
    (complain if quiet else print)(f"{model}: {line}")


def _keep_margin(model: Path, found: dict, options: argparse.Namespace) -> None:
    from speechrnn.command_grammar import fitted_margin

    margin = fitted_margin(found)
    if not found["kept"]:
        line = "keeps its grammar margin: none keeps to the budget"
    elif not model.is_dir():
        line = (
            f"a .tflite is not changed; to store grammar margin {margin}, give the bundle that it "
            "was exported from, and export again"
        )
    else:
        from speechrnn.calibrate import store_grammar_margin

        store_grammar_margin(model, margin, options.false_accepts)
        line = f"grammar margin {margin} stored; export again to have it in a .tflite"
    (complain if options.json == "-" else print)(f"{model}: {line}")


def _print_labels(labels: dict) -> None:
    width = max((len(label) for label in labels), default=0)
    print(f"  {'label':{width}}  precision  recall  count")
    for label, figures in labels.items():
        precision, recall = (
            "-" if figures[key] is None else f"{100 * figures[key]:.1f} %"
            for key in ("precision", "recall")
        )
        print(f"  {label:{width}}  {precision:>9}  {recall:>6}  {figures['count']:>5}")


def guidance_of(options: argparse.Namespace) -> Guidance:
    """What --beam, --grammar, --lm, --hot-words and their settings ask for."""
    from speechrnn.options import Guidance

    hot_words = options.hot_words.split(",") if options.hot_words else ()
    return Guidance(
        beam=options.beam,
        grammar=options.grammar,
        grammar_margin=options.grammar_margin,
        grammar_margin_per_symbol=options.grammar_margin_per_symbol,
        lm=options.lm,
        lm_weight=options.lm_weight,
        word_bonus=options.word_bonus,
        rescore=options.rescore,
        rescore_weight=options.rescore_weight,
        hot_words=tuple(word.strip() for word in hot_words),
        boost=options.boost,
    )


def lm(options: argparse.Namespace) -> int:
    """Learn a language model from text."""
    from speechrnn.decoding.ngram import arpa_text
    from speechrnn.files import check_place, write_atomically
    from speechrnn.language_model import read_sentences, train_ngrams

    if options.to.exists() and not options.force:
        raise OutputError(f"{options.to}: exists; choose another name, or pass --force")
    check_place(options.to)
    sentences = read_sentences(options.text)
    if options.kind == "gru":
        from speechrnn.decoding.recurrent_lm import recurrent_bytes
        from speechrnn.extras import require_training

        require_training("lm --kind gru")
        from speechrnn.recurrent_language_model import RecurrentConfig, train_recurrent

        settings = {"units": options.units, "epochs": options.epochs, "seed": options.seed}
        recurrent, perplexity = train_recurrent(sentences, RecurrentConfig(**settings))
        write_atomically(options.to, recurrent_bytes(recurrent))
        print(
            f"{options.to}: {len(recurrent.words)} words, perplexity {perplexity:.1f} on every "
            "tenth sentence"
        )
        return OK
    model = train_ngrams(sentences, options.order)
    write_atomically(options.to, arpa_text(model).encode())
    print(f"{options.to}: {len(model.log10)} n-grams of {len(model.words)} words")
    return OK


def check_json(target: str | None) -> None:
    """Refuse a place for figures before they are computed."""
    if target and target != "-":
        from speechrnn.files import check_place

        check_place(Path(target))


def write_json(target: str, content: dict) -> None:
    """Write figures to a file, or to standard output for ``-``."""
    from speechrnn.files import json_text, write_atomically

    text = json_text(content)
    if target == "-":
        if sys.stdout is None:
            raise OutputError("standard output: is closed; give the name of a file")
        sys.stdout.write(text)
        return
    write_atomically(Path(target), text.encode())
