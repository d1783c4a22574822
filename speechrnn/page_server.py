"""A server of the browser client: the files of its page, and a model as one of them."""

from __future__ import annotations

import io
import json
import os
import socket
import urllib.parse
from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import BinaryIO

from speechrnn.errors import ConfigError

# The list that the page's model picker reads: name, file beside the list, size.
MODEL_LIST = "/models/index.json"
# What browsers insist on.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript",
    ".css": "text/css",
    ".json": "application/json",
    ".svg": "image/svg+xml",
    ".wasm": "application/wasm",
    ".tflite": "application/octet-stream",
}


def make_server(model: Path, page: Path, host: str, port: int) -> ThreadingHTTPServer:
    """A server of the built page whose first model is this .tflite; port 0 takes a free one.

    Raises:
        ConfigError: The page is not built, or the address cannot be taken.
    """
    if not (page / "index.html").is_file():
        raise ConfigError(
            f"{page}: holds no page, expected index.html; build it with npm ci && npm run build "
            "in export/browser of a checkout, or pass --page"
        )
    handler = partial(_Handler, model=model, directory=str(page))
    try:
        return ThreadingHTTPServer((host, port), handler)
    except (OSError, OverflowError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(
            f"--host {host} --port {port}: cannot be taken ({reason}); pass another port, or 0 "
            "for a free one"
        ) from error


def url_of(server: ThreadingHTTPServer) -> str:
    """The address to open."""
    host, port = server.server_address[:2]
    host = host.decode() if isinstance(host, bytes) else host
    return f"http://{host}:{port}/"


class _Handler(SimpleHTTPRequestHandler):
    """The files of the page, and the model as one of them."""

    def __init__(
        self,
        request: socket.socket,
        client_address: tuple[str, int],
        server: ThreadingHTTPServer,
        *,
        model: Path,
        directory: str,
    ) -> None:
        self._model = model
        super().__init__(request, client_address, server, directory=directory)

    def translate_path(self, path: str) -> str:
        """The file of an address."""
        asked = urllib.parse.unquote(urllib.parse.urlsplit(path).path, errors="surrogateescape")
        if asked == f"/models/{self._model.name}":
            return str(self._model)
        return super().translate_path(path)

    def send_head(self) -> io.BytesIO | BinaryIO | None:
        """The head of the answer, and what follows it."""
        if urllib.parse.urlsplit(self.path).path != MODEL_LIST:
            return super().send_head()
        content = json.dumps(self._models()).encode()
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", TYPES[".json"])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        return io.BytesIO(content)

    def _models(self) -> list[dict[str, object]]:
        """The model, and behind it those that were built into the page."""
        file = self._model
        mine = {"name": file.stem, "file": file.name, "bytes": file.stat().st_size}
        built = Path(self.directory) / MODEL_LIST[1:]
        ready = json.loads(built.read_text(encoding="utf-8")) if built.is_file() else []
        return [mine, *(one for one in ready if one["file"] != file.name)]

    def guess_type(self, path: str | os.PathLike[str]) -> str:
        """The type of a file, whatever this machine's table of types says."""
        return TYPES.get(Path(path).suffix) or super().guess_type(path)

    def list_directory(self, path: str | os.PathLike[str]) -> None:
        """A folder without an index.html is none of the page's."""
        self.send_error(HTTPStatus.NOT_FOUND, "File not found")

    def end_headers(self) -> None:
        """Nothing is kept without asking again: the page and the model may be made anew."""
        self.send_header("Cache-Control", "no-cache")
        self.send_header("X-Content-Type-Options", "nosniff")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: who opened the page sees it."""
