"""What ``speechrnn serve`` does: the browser client on this machine, with a model of yours."""

from __future__ import annotations

import argparse
from pathlib import Path

from speechrnn.commands import OK, complain, refuse_folder
from speechrnn.errors import ModelError

# Where a checkout has the page once it is built.
PAGE = Path(__file__).parents[1] / "export" / "browser" / "dist"
LOOPBACK = ("127.", "localhost")


def add_options(serve: argparse.ArgumentParser) -> None:
    """What the command takes."""
    serve.add_argument("model", metavar="MODEL", help="a .tflite, or a ready model's name")
    serve.add_argument("--port", type=int, default=8017, metavar="N", help="0: any; default: 8017")
    serve.add_argument(
        "--host", default="127.0.0.1", help="default: 127.0.0.1, which this machine alone reaches"
    )
    serve.add_argument(
        "--page", type=Path, metavar="DIR", help="the built page; default: export/browser/dist"
    )


def serve(options: argparse.Namespace) -> int:
    """Serve the page until Ctrl-C."""
    refuse_folder(options.model)
    from speechrnn.page_server import make_server, url_of
    from speechrnn.runtime.metadata import read_metadata

    info = read_metadata(options.model)
    if info.metadata["output"]["name"] == "log_probs" and "streaming" not in info.metadata:
        raise ModelError(
            f"{options.model}: answers with sequences and carries no state, and the page hears "
            "those that do; export it with --streaming"
        )
    with make_server(info.path, options.page or PAGE, options.host, options.port) as server:
        print(url_of(server), flush=True)
        complain(f"{info.path.name} in the browser; Ctrl-C ends it")
        if not options.host.startswith(LOOPBACK):
            complain(
                f"--host {options.host}: others may reach it; their browsers give the microphone "
                "to https alone"
            )
        server.serve_forever()
    return OK
