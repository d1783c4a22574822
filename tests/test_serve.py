"""``speechrnn serve``: the browser client's page, and a model as its first."""

from __future__ import annotations

import contextlib
import json
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from email.message import Message
from pathlib import Path

import pytest
from conftest import Run

from speechrnn.page_server import make_server, url_of
from speechrnn.ready_models import ready_models
from speechrnn.runtime.metadata import pack, read_metadata

MODEL = ready_models()["commands-ar"]
READY = {"name": "commands-en", "file": "commands-en.tflite", "bytes": 5}


@pytest.fixture
def page(tmp_path: Path) -> Path:
    """A page as the build of export/browser lays it out."""
    page = tmp_path / "dist"
    for name, content in {
        "index.html": "<!doctype html>",
        "assets/page.js": "export {}",
        "wasm/litert.wasm": "\0asm",
        "models/commands-en.tflite": "ready",
        "models/index.json": json.dumps([READY]),
    }.items():
        (page / name).parent.mkdir(parents=True, exist_ok=True)
        (page / name).write_text(content)
    return page


@contextlib.contextmanager
def serving(model: Path, page: Path) -> Iterator[str]:
    """The address of a server that runs."""
    with make_server(model, page, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield url_of(server)
        finally:
            server.shutdown()
            thread.join()


def get(url: str) -> tuple[bytes, Message]:
    with urllib.request.urlopen(url, timeout=10) as response:
        return response.read(), response.headers


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("", "text/html; charset=utf-8"),
        ("assets/page.js", "text/javascript"),
        ("wasm/litert.wasm", "application/wasm"),
        ("models/index.json", "application/json"),
        ("models/commands-en.tflite", "application/octet-stream"),
    ],
)
def test_what_the_page_is_made_of_is_served_with_the_types_that_browsers_insist_on(
    page: Path, path: str, kind: str
) -> None:
    with serving(MODEL, page) as url:
        content, head = get(url + path)
    assert head["Content-Type"] == kind
    assert int(head["Content-Length"]) == len(content) > 0
    assert head["Cache-Control"] == "no-cache"
    assert head["X-Content-Type-Options"] == "nosniff"


def test_the_model_is_the_first_of_the_list_and_served_as_it_is(page: Path, tmp_path: Path) -> None:
    model = tmp_path / "my words #1 نعم.tflite"
    model.write_bytes(MODEL.read_bytes())
    with serving(model, page) as url:
        listed = json.loads(get(f"{url}models/index.json")[0])
        served, _ = get(f"{url}models/{urllib.request.quote(model.name)}")
    size = model.stat().st_size
    assert listed == [{"name": model.stem, "file": model.name, "bytes": size}, READY]
    assert served == model.read_bytes()


def test_a_model_with_the_name_of_one_in_the_page_takes_its_place(
    page: Path, tmp_path: Path
) -> None:
    model = tmp_path / READY["file"]
    model.write_bytes(MODEL.read_bytes())
    with serving(model, page) as url:
        listed = json.loads(get(f"{url}models/index.json")[0])
        served, _ = get(f"{url}models/{model.name}")
    assert [one["file"] for one in listed] == [model.name]
    assert served == model.read_bytes()


@pytest.mark.parametrize("path", ["nothing", "assets/", "../dist.txt", "%2e%2e/dist.txt"])
def test_nothing_but_the_page_and_the_model_is_served(page: Path, path: str) -> None:
    (page.parent / "dist.txt").write_text("beside the page")
    with serving(MODEL, page) as url, pytest.raises(urllib.error.HTTPError) as refused:
        get(url + path)
    with refused.value as answer:
        assert answer.code == 404


def test_ctrl_c_ends_it_as_every_command(page: Path) -> None:
    asked = ["serve", "commands-en", "--page", str(page), "--port", "0"]
    with subprocess.Popen(
        [sys.executable, "-m", "speechrnn", *asked], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().decode().strip()
        assert url.startswith("http://127.0.0.1:")
        content, _ = get(url)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=10)
    assert content == b"<!doctype html>"
    assert process.returncode == 130
    assert err.decode().splitlines() == [
        "commands-en.tflite in the browser; Ctrl-C ends it",
        "speechrnn serve: interrupted",
    ]


def test_a_page_that_is_not_built_is_refused_with_how_to_build_it(
    tmp_path: Path, run_cli: Run
) -> None:
    result = run_cli("serve", MODEL, "--page", tmp_path)
    assert result.status == 2
    assert "holds no page" in result.err
    assert "npm ci && npm run build in export/browser" in result.err
    assert len(result.err.splitlines()) == 1


def test_an_address_that_is_taken_is_refused(page: Path, run_cli: Run) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run_cli("serve", MODEL, "--page", page, "--port", port)
    assert result.status == 2
    assert f"--port {port}: cannot be taken" in result.err


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_there_is_not_is_refused(page: Path, run_cli: Run, port: int) -> None:
    result = run_cli("serve", MODEL, "--page", page, f"--port={port}")
    assert result.status == 2
    assert "cannot be taken" in result.err


def test_a_bundle_is_refused_with_how_to_export_it(page: Path, run_cli: Run) -> None:
    result = run_cli("serve", page, "--page", page)
    assert result.status == 2
    assert f"speechrnn export {page}" in result.err


def test_a_model_that_the_page_cannot_run_is_refused(
    page: Path, tmp_path: Path, run_cli: Run
) -> None:
    info = read_metadata(MODEL)
    of_sequences = {**info.metadata, "output": {"name": "log_probs"}}
    model = tmp_path / "words.tflite"
    model.write_bytes(pack(info.model, of_sequences, info.labels))
    result = run_cli("serve", model, "--page", page)
    assert result.status == 2
    assert "export it with --streaming" in result.err
