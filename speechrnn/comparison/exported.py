"""An encoder's files for devices: how large, how fast, and how much they multiply."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from speechrnn.comparison.cells import BUNDLE, read_record
from speechrnn.comparison.plan import Plan
from speechrnn.comparison.process import Commands, printed
from speechrnn.errors import SpeechRNNError
from speechrnn.export.arithmetic import multiply_adds
from speechrnn.files import json_text, write_atomically

# Names in the table, and what `speechrnn export --quantize` calls them.
KINDS = {"float32": "none", "dynamic": "dynamic", "int8": "int8"}
SPEEDS = "speeds.json"
MEASURE = ("-m", "speechrnn.comparison.measure")


def export_all(
    plan: Plan, encoder: str, seed: int, commands: Commands, *, retry_errors: bool
) -> dict[str, Any]:
    """Export the bundle of a cell in every kind that is not there yet; the record of it.

    ``seed``, ``multiply_adds`` of a second (None where there is no float32 file), and ``kinds``:
    by name ``command``, and ``error`` or ``bytes`` and ``sha256``.
    """
    record_file = plan.folder / "files" / f"{encoder}.json"
    record = read_record(record_file) or {}
    if record.get("seed") != seed:
        record = {"seed": seed, "multiply_adds": None, "kinds": {}}
    for kind in KINDS:
        known = record["kinds"].get(kind)
        if not known or (retry_errors and "error" in known):
            record["kinds"][kind] = _export(plan, encoder, seed, kind, commands)
        elif kind != "float32" or not (retry_errors and "multiply_adds_error" in record):
            continue
        if kind == "float32" and "error" not in record["kinds"][kind]:
            record.pop("multiply_adds_error", None)
            record |= _multiply_adds(plan, encoder)
        write_atomically(record_file, json_text(record).encode())
    return record


def _multiply_adds(plan: Plan, encoder: str) -> dict[str, Any]:
    content = plan.file(encoder, "float32").read_bytes()
    rate_hz = plan.question.recipe.model.features.sample_rate_hz
    try:
        return {"multiply_adds": multiply_adds(content, rate_hz)}
    except (RuntimeError, ValueError) as error:  # of LiteRT, or a loop of another make
        return {"multiply_adds": None, "multiply_adds_error": str(error)}


def _export(plan: Plan, encoder: str, seed: int, kind: str, commands: Commands) -> dict[str, Any]:
    out = plan.file(encoder, kind)
    arguments = [
        *("export", str(plan.cell(encoder, seed) / BUNDLE), "--to", str(out)),
        *("--quantize", KINDS[kind]),
        *(("--calibrate", plan.question.train) if kind == "int8" else ()),
    ]
    record: dict[str, Any] = {"command": printed(*arguments)}
    try:
        commands.speechrnn(*arguments, "--force")
        content = out.read_bytes()
    except SpeechRNNError as error:
        return {**record, "error": str(error)}
    return {**record, "bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def measure_all(
    plan: Plan, exported: dict[str, dict[str, Any]], commands: Commands, *, retry_errors: bool
) -> dict[str, Any]:
    """Latency and memory of every file, measured anew where there are other files than before.

    Or, with ``retry_errors``, where some could not be measured.

    Returns:
        ``files`` (SHA-256 by name), ``machine``, ``latency_ms`` of a second and ``lengths_ms``
        (``[[seconds, ms], ...]``) by file, measured in turn; ``memory_mb`` (``[[seconds, MB],
        ...]``) by file, each in a process of its own; ``errors``.
    """
    hashes = {
        plan.file(encoder, kind).name: found["sha256"]
        for encoder, record in exported.items()
        for kind, found in record["kinds"].items()
        if "error" not in found
    }
    known = read_record(plan.folder / SPEEDS) or {}
    if known.get("files") == hashes and not (retry_errors and known["errors"]):
        return known
    found: dict[str, Any] = {"files": hashes, "memory_mb": {}, "errors": []}
    names = [plan.folder / "files" / name for name in hashes]
    try:
        found |= json.loads(commands.python(*MEASURE, "times", *names)) if names else {}
    except SpeechRNNError as error:
        found["errors"].append(f"times: {error}")
    for name in names:
        try:
            found["memory_mb"][name.name] = json.loads(commands.python(*MEASURE, "memory", name))
        except SpeechRNNError as error:
            found["errors"].append(f"memory of {name.name}: {error}")
    write_atomically(plan.folder / SPEEDS, json_text(found).encode())
    return found
