import ast
import importlib
import inspect
import io
import sys
import tokenize
import types
from collections.abc import Iterator
from pathlib import Path

import pytest
from model_fixtures import ENCODER_SETTINGS, HEAD_SETTINGS, HEAD_TEXTS

import speechrnn
from speechrnn.encoders import ENCODERS
from speechrnn.heads import HEADS

PACKAGE = Path(speechrnn.__file__).parent

# A module may import what stands above it and nothing else. An entry stands for the modules below
# it that have no entry of their own. A new module fails here until it has found its place.
LAYERS = [
    "version",
    "errors",
    "ready_models",
    "suffixes",
    "spread",
    "options",
    "quiet",
    "extras",
    "files",
    "progress",
    "config",
    "audio",
    "features",
    "clock",
    "labels",
    "spelling",
    "gradient_rates",
    "datasets",
    "datasets.manifest",
    "datasets.reading",
    "datasets.check",
    "datasets.waveforms",
    "datasets.augment_noise",
    "datasets.augment_filter",
    "datasets.augment",
    "datasets.augment_mel",
    "datasets.augment_mixup",
    "datasets.espeak",
    "datasets.synth",
    "datasets.sequences",
    "encoders",
    "heads",
    "datasets.examples",  # a head knows the targets of a text
    "datasets.flat_start",
    "datasets.sampling",
    "datasets.composing",
    "datasets.batches",
    "model",
    "gradient_flow",
    "reach",
    "model_card",
    "decoding",
    "bundle",
    "runtime",
    "flatbuffer",
    "machine",
    "speed",
    "keras_recognizer",
    "recognize",
    "guidance",
    "counting",
    "calibrate",
    "export",
    "recipe",
    "gradient_monitor",
    "augmentation_examples",
    "language_model",
    "recurrent_language_model",
    "optimizer",
    "distillation",
    "checkpoint",
    "tensorboard",
    "validation",
    "epochs",
    "training_data",
    "train",
    "noise",
    "background",
    "command_grammar",
    "evaluate",
    "diagnose",
    "report",
    "html_page",
    "report_page",
    "comparison",
    "transcribe",
    "demo",
    "page_server",
    "training_options",
    "commands",
    "cli_options",
    "data_commands",
    "model_commands",
    "diagnose_commands",
    "transcribe_command",
    "listen_command",
    "compare_command",
    "serve_command",
    "cli",
    "__init__",  # the public names
    "__main__",
]

RUNTIME_MAY_USE = {
    *("errors", "labels", "audio", "decoding", "quiet", "clock", "spelling", "suffixes"),
    "ready_models",
}
RUNTIME_THIRD_PARTY = {"numpy", "soundfile", "soxr", "ai_edge_litert"}

# Lines of code in a module, without blank lines, comments and docstrings, which nobody should
# shorten to pass a test. 300 is where the house asks which question a module answers; what is
# larger by a sixth has had its answer.
MOST_LINES = 350

PUBLIC = {
    "MFCC",
    "FeatureConfig",
    "Labels",
    "ModelConfig",
    "Recipe",
    "Recognizer",
    "SpeechModel",
    "SpeechRNNError",
    "StreamingRecognizer",
    "Transcript",
    "Word",
    "__version__",
    "build_model",
    "evaluate_model",
    "export_bundle",
    "load_bundle",
    "load_model",
    "read_bundle",
    "save_bundle",
    "train_model",
    "transcribe_files",
}


def module_name(file: Path) -> str:
    """``audio``, ``datasets.manifest``; ``encoders`` for encoders/__init__.py."""
    parts = file.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


FILES = {module_name(file): file for file in sorted(PACKAGE.rglob("*.py"))}


def layer_of(module: str) -> str | None:
    """The most specific entry of LAYERS that stands for the module."""
    while module:
        if module in LAYERS:
            return module
        module = module.rpartition(".")[0]
    return None


def imported(source: str) -> Iterator[str]:
    """Full names of the modules that a source imports anywhere, inside functions too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative import"
            base = node.module or ""
            for alias in node.names:
                full = f"{base}.{alias.name}"
                yield full if full.removeprefix("speechrnn.") in FILES else base


def uses(module: str) -> set[str]:
    """Layers of our own that the module imports, without its own."""
    names = (name for name in imported(FILES[module].read_text()) if name.startswith("speechrnn"))
    inner = {name.removeprefix("speechrnn").lstrip(".") or "__init__" for name in names}
    return {layer_of(name) or name for name in inner} - {layer_of(module)}


def third_party(module: str) -> set[str]:
    roots = {name.partition(".")[0] for name in imported(FILES[module].read_text())}
    return roots - set(sys.stdlib_module_names) - {"speechrnn"}


every_module = pytest.mark.parametrize("module", FILES)


# ------------------------------------------------------------------ arrows point one way


@every_module
def test_a_module_has_its_place(module):
    assert layer_of(module), f"put {module} into LAYERS: below what it uses, above what uses it"


def test_every_place_is_taken_by_a_module():
    assert [layer for layer in LAYERS if layer not in FILES] == []
    assert len(set(LAYERS)) == len(LAYERS)


@every_module
def test_a_module_imports_only_what_stands_above_it(module):
    place = LAYERS.index(layer_of(module))
    assert uses(module) <= set(LAYERS[:place])


def test_the_import_finder_sees_imports_inside_functions_and_of_submodules(tmp_path):
    source = """
import os.path
def late():
    from speechrnn.datasets import synth
    from speechrnn.bundle import load_bundle
    if True:
        import keras.ops as ops
"""
    assert sorted(imported(source)) == [
        "keras.ops", "os.path", "speechrnn.bundle", "speechrnn.datasets.synth",
    ]  # fmt: skip
    assert "model" in uses("bundle")  # which imports it inside a function only
    assert "keras" in third_party("keras_recognizer")


def test_the_runtime_uses_next_to_nothing():
    modules = [module for module in FILES if layer_of(module) == "runtime"]
    assert len(modules) == 6
    seen, waiting = set(), list(modules)
    while waiting:  # and what it uses uses no more
        module = waiting.pop()
        if module in seen:
            continue
        seen.add(module)
        used = uses(module)
        assert used <= RUNTIME_MAY_USE, module
        assert third_party(module) <= RUNTIME_THIRD_PARTY, module
        waiting += [name for name in FILES if layer_of(name) in used]


def test_encoders_and_heads_meet_in_the_model_only():
    meeting = {module for module in FILES if {"encoders", "heads"} <= uses(module)}
    assert meeting == {"model"}
    for one, other in (("encoders", "heads"), ("heads", "encoders")):
        assert all(other not in uses(module) for module in FILES if layer_of(module) == one)


def test_what_needs_training_packages_is_not_imported_on_the_way_to_the_command_line():
    """cli.py may name such modules inside functions; at its top, numpy already is too much."""
    top = ast.parse(FILES["cli"].read_text()).body
    names = {
        (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name).partition(".")[0]
        for node in top
        if isinstance(node, ast.Import | ast.ImportFrom)
    }
    assert names - set(sys.stdlib_module_names) == {"speechrnn"}


# ------------------------------------------------------------------ the public surface


def test_the_public_names_are_these():
    assert set(speechrnn.__all__) == PUBLIC
    assert len(speechrnn.__all__) == len(PUBLIC)
    helpers = {"annotations", "importlib", "TYPE_CHECKING", "Any"}
    others = {
        name
        for name, value in vars(speechrnn).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert others - helpers <= PUBLIC


def test_a_name_that_is_not_public_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'train_modle'"):
        speechrnn.train_modle  # noqa: B018


def test_every_public_name_is_what_its_module_defines_also_after_all_modules_are_imported():
    modules = {
        name: importlib.import_module(f"speechrnn.{name}")
        for name in FILES
        if name not in ("__init__", "__main__")
    }
    for name in PUBLIC - {"__version__"}:
        found = getattr(speechrnn, name)
        assert not isinstance(found, types.ModuleType), name
        home = found.__module__.removeprefix("speechrnn.")
        assert getattr(modules[home], name) is found


@pytest.mark.parametrize("package", [n for n in FILES if FILES[n].parent.name == n])
def test_what_a_package_offers_is_no_module_of_the_same_name(package):
    module = importlib.import_module(f"speechrnn.{package}")
    for name in getattr(module, "__all__", ()):
        assert not isinstance(getattr(module, name), types.ModuleType)


@pytest.mark.parametrize("name", sorted(PUBLIC - {"__version__"}))
def test_a_public_name_is_explained(name):
    explanation = inspect.getdoc(getattr(speechrnn, name)) or ""
    assert len(explanation) > 20
    assert not explanation.startswith(f"{name}("), "what dataclass writes explains nothing"


# ------------------------------------------------------------------ the shared tests' tables


def test_every_registered_encoder_and_head_is_in_the_tables_of_the_shared_tests():
    remedy = "give it settings in tests/model_fixtures.py, and all shared tests run with it"
    assert sorted(ENCODER_SETTINGS) == ENCODERS.names(), remedy
    assert sorted(HEAD_SETTINGS) == HEADS.names(), remedy
    assert sorted(HEAD_TEXTS) == HEADS.names(), remedy
    assert all([*ENCODER_SETTINGS.values(), *HEAD_SETTINGS.values(), *HEAD_TEXTS.values()])


# ------------------------------------------------------------------ size


def lines_of_code(source: str) -> int:
    """Lines with something on them besides comments and docstrings."""
    documented = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    left_out: set[int] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            text = node.body[0]
            left_out |= set(range(text.lineno, (text.end_lineno or 0) + 1))
    empty = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT}
    lines: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type not in empty | {tokenize.ENDMARKER}:
            lines |= set(range(token.start[0], token.end[0] + 1))
    return len(lines - left_out)


def test_lines_of_code_leave_out_what_explains():
    source = (
        '"""Doc\nmore."""\n\n# why\nx = [\n    1,\n]\n\n\ndef f():\n    """Doc."""\n    return x\n'
    )
    assert lines_of_code(source) == 5


@every_module
def test_a_module_is_not_too_long(module):
    assert lines_of_code(FILES[module].read_text()) <= MOST_LINES
