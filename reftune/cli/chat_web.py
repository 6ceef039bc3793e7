"""`reftune chat --web`: the page of `reftune serve`, with a state that ends with the command."""

import argparse
import logging
import re
import shutil
import socket
import tempfile
import threading
import time
import urllib.request
import webbrowser
from dataclasses import fields
from pathlib import Path
from urllib.parse import quote

from reftune.cli import serve
from reftune.cli.console import note
from reftune.cli.loading import adapter_folder, resolve_model

HOST = "127.0.0.1"
# Reads no proxy from the environment: the server is on this machine.
LOCAL = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def run_web(args: argparse.Namespace) -> int:
    """Serve the model, open the page in the browser, and go on until Ctrl-C.

    Args:
        args: of `reftune chat`.

    Raises:
        ValueError: an option is given that the page would not heed.
    """
    _refuse_settings(args)
    folder = adapter_folder(args.adapter) if args.adapter else None
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    served = parser.parse_args([])
    served.model, served.dtype = resolve_model(args.model, folder), args.dtype
    served.host, served.port = HOST, _free_port()
    page = f"http://{HOST}:{served.port}/"
    with tempfile.TemporaryDirectory(prefix="reftune-chat-") as temporary:
        served.state = str(Path(temporary) / "state")
        if folder is not None:
            served.adapters = str(Path(temporary) / "adapters")
            page += f"#adapter={quote(_copy_adapter(folder, Path(served.adapters)))}"
        # A line for every request would hide the address.
        logging.getLogger("reftune.server").setLevel(logging.WARNING)
        threading.Thread(target=_open_when_ready, args=(page,), daemon=True).start()
        return serve.run(served)


def _refuse_settings(args: argparse.Namespace) -> None:
    from reftune.generation import GenerationSettings

    names = ("system", *(field.name for field in fields(GenerationSettings)))
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(args, name) is not None]
    if given:
        raise ValueError(f"--web with {', '.join(given)}: expected neither, the page has its own")


def _free_port() -> int:
    with socket.socket() as tried:
        tried.bind((HOST, 0))
        return tried.getsockname()[1]


def _copy_adapter(folder: Path, adapters: Path) -> str:
    """Copy an adapter to where the server looks for some; return the name that it gets there."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", folder.resolve().name).strip(".-")[:128] or "adapter"
    (adapters / name).mkdir(parents=True)
    for file in ("adapter_config.json", "adapter_model.safetensors"):
        shutil.copyfile(folder / file, adapters / name / file)
    return name


def _open_when_ready(page: str) -> None:
    """Wait until the server answers; it ends by itself if it cannot."""
    health = page.partition("#")[0] + "healthz"
    while True:
        try:
            LOCAL.open(health, timeout=5).close()
            break
        except OSError:  # also what urllib raises
            time.sleep(0.1)
    note(f"the page: {page}")
    if not webbrowser.open(page):
        note("no browser was found here; open this address in one")
