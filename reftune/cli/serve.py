"""`reftune serve`: one base model and any number of adapters, behind OpenAI's API."""

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from reftune.cli.console import note
from reftune.cli.loading import add_model_options, load_base, resolve_model

EXAMPLES = """\
examples:
  reftune serve                                     # the bundled model on http://127.0.0.1:8000/v1
  reftune serve --model meta-llama/Llama-3.2-1B-Instruct --dtype bfloat16 --adapters adapters
  reftune keys create --tenant ada && reftune serve --host 0.0.0.0

  curl http://127.0.0.1:8000/v1/chat/completions -H 'Content-Type: application/json' \\
      -d '{"model": "tiny-chat", "messages": [{"role": "user", "content": "Where do whales go?"}]}'

models: the base model under its name, every folder of --adapters under its own, and what
/v1/fine_tuning/jobs has trained, which is seen with its tenant's keys alone.
keys: without any (`reftune keys`), only this machine is served, and every program on it; from the
first one on, every request needs one.
state: database, uploaded files and trained adapters, in $XDG_STATE_HOME/reftune or
~/.local/state/reftune unless --state names a folder. One server at a time uses it.
vLLM: `--engine vllm` answers with vLLM (`pip install 'reftune[serve,vllm]'`) and takes no training
jobs; train with `reftune train` and put the folder below --adapters.
The first Ctrl-C, or SIGTERM, lets running answers finish; the second does not. The log is JSON, a
line for each request, without prompts and answers.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    add_model_options(parser)
    parser.add_argument("--adapters", metavar="DIR", help="folder of adapters for everybody")
    parser.add_argument(
        "--allow-hub",
        nargs="+",
        metavar="ID",
        help="adapters of the hub that requests may name: owner/name, owner/*, or * for all",
    )
    parser.add_argument("--model-name", metavar="N", help="of the base (last part of --model)")
    parser.add_argument("--state", metavar="DIR", help="what the server remembers, see below")
    parser.add_argument("--database", metavar="URL", help="instead of the state's own SQLite file")
    parser.add_argument("--host", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, help="0: any that is free (8000)")
    # The defaults are those of EngineSettings and Settings, not imported for the help's sake.
    group = parser.add_argument_group("the engine")
    group.add_argument("--engine", choices=("transformers", "vllm"), default="transformers")
    group.add_argument("--vllm", metavar="JSON", help="more arguments of vLLM's engine")
    group.add_argument("--slots", type=int, help="adapters in use at once (64)")
    group.add_argument("--adapter-bytes", type=int, metavar="N", help="of the others kept (1 GiB)")
    group.add_argument("--max-batch-tokens", type=int, metavar="N", help="of a step (256)")
    group.add_argument("--cache-tokens", type=int, metavar="N", help="kept for all (16384)")
    group.add_argument("--max-batch-requests", type=int, metavar="N", help="of a step (64)")
    group = parser.add_argument_group("limits")
    group.add_argument("--max-body-bytes", type=int, metavar="N", help="no upload (4 MiB)")
    group.add_argument("--max-file-bytes", type=int, metavar="N", help="of an upload (64 MiB)")
    group.add_argument("--max-files", type=int, metavar="N", help="of a tenant (1000)")
    group.add_argument("--max-jobs", type=int, metavar="N", help="of a tenant, not over (20)")
    group.add_argument("--max-prompt-tokens", type=int, metavar="N", help="(the model's own)")
    group.add_argument("--max-tokens", type=int, metavar="N", help="of an answer (the model's)")
    group.add_argument("--max-waiting", type=int, metavar="N", help="requests (1000)")
    group.add_argument("--requests-per-minute", type=int, metavar="N", help="of a key (3000)")
    group.add_argument("--receive-seconds", type=int, metavar="N", help="for a request (20)")
    group.add_argument("--stop-seconds", type=int, metavar="N", help="for running answers (60)")


# Options of the engine that its settings call otherwise.
ENGINE = {
    "slots": "slots",
    "adapter_bytes": "adapter_bytes",
    "max_batch_tokens": "batch_tokens",
    "cache_tokens": "cache_tokens",
    "max_batch_requests": "requests",
}


def run(args: argparse.Namespace) -> int:
    """Serve until told to stop."""
    from reftune.server.extras import need_serve, need_vllm

    need_serve()
    if args.engine == "vllm":
        need_vllm()
    elif args.vllm is not None:
        raise ValueError("--vllm: expected --engine vllm with it")
    from reftune.server.running import listening_socket
    from reftune.server.state import StateLock, make_state

    settings, engine_settings = _settings(args), _engine_settings(args)
    make_state(settings.state)
    with ExitStack() as cleanup:
        cleanup.callback(StateLock(settings.state).release)
        store = _open_store(args, settings)
        cleanup.callback(store.close)
        store.keep_alone()
        socket = listening_socket(settings.host, settings.port)
        cleanup.callback(socket.close)
        _serve(args, settings, engine_settings, store, socket, cleanup)
    note("stopped")
    return 0


def _settings(args: argparse.Namespace) -> Any:
    from dataclasses import fields

    from reftune.server.settings import Settings
    from reftune.server.state import default_state

    given = {f.name: getattr(args, f.name, None) for f in fields(Settings) if f.name != "state"}
    given["trains"] = args.engine != "vllm"
    state = default_state() if args.state is None else Path(args.state)
    return Settings(state=state, **{name: v for name, v in given.items() if v is not None})


def _engine_settings(args: argparse.Namespace) -> dict[str, int]:
    """Return what was said about the engine, by the names of its settings."""
    given = {theirs: getattr(args, ours) for ours, theirs in ENGINE.items()}
    for ours, theirs in ENGINE.items():
        if given[theirs] is not None and given[theirs] < 1:
            option = ours.replace("_", "-")
            raise ValueError(f"--{option} {given[theirs]}: expected 1 or more")
    return {name: value for name, value in given.items() if value is not None}


def _open_store(args: argparse.Namespace, settings: Any) -> Any:
    """Open the database, and make sure that nobody else can come in without a key."""
    from reftune.server.database.store import Store
    from reftune.server.state import database_url

    store = Store(database_url(settings.state, args.database))
    if not settings.is_loopback and not store.has_keys():
        store.close()
        raise ValueError(
            f'host "{settings.host}" can be reached from other machines, and there is no key yet; '
            "expected one (`reftune keys create --tenant NAME`), or a loopback address"
        )
    return store


def _serve(
    args: argparse.Namespace,
    settings: Any,
    engine_settings: dict[str, int],
    store: Any,
    socket: Any,
    cleanup: ExitStack,
) -> None:
    from reftune.server.api.app import create_app
    from reftune.server.api.lifecycle import Lifecycle
    from reftune.server.hub_adapters import HubAdapters
    from reftune.server.logs import write_json_lines
    from reftune.server.registry import Registry
    from reftune.server.running import make_server
    from reftune.serving.errors import EngineError

    path = resolve_model(args.model)
    name = args.model_name or Path(path).name
    hub = HubAdapters(args.allow_hub) if args.allow_hub else None
    registry = Registry(store, Path(args.adapters) if args.adapters else None, name, hub)
    try:
        engine = _make_engine(args, path, name, engine_settings)
        engine.start()
    except EngineError as error:
        raise ValueError(f'model "{name}" cannot be served: {error}') from error
    cleanup.callback(engine.stop, drain=False)  # the server has waited for running answers
    lifecycle = Lifecycle()
    app = create_app(settings, engine, store, registry, lifecycle)
    _tidy_and_train(settings, engine, store, app.state.context.files, cleanup)
    host, port = socket.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    note(f"serving {name} and {len(registry.names('local')) - 1} adapters")
    note(f"listening on http://{shown}:{port}/v1 (Ctrl-C stops)")
    write_json_lines()
    make_server(app, settings, lifecycle).run(sockets=[socket])


def _tidy_and_train(settings: Any, engine: Any, store: Any, files: Any, cleanup: ExitStack) -> None:
    """Clear up after an earlier server, and train jobs, if this one does."""
    from reftune.server.trained_folders import ADAPTERS, sweep_adapters
    from reftune.server.worker import Worker

    files.sweep()
    if not settings.trains:
        sweep_adapters(store, settings.state.resolve() / ADAPTERS)
        return
    worker = Worker(engine, store, files, settings.state)
    worker.begin()
    cleanup.callback(worker.end)


def _make_engine(args: argparse.Namespace, path: str, name: str, settings: dict[str, int]) -> Any:
    if args.engine == "vllm":
        from reftune.cli.serve_vllm import make_vllm_engine

        return make_vllm_engine(args, path, name, settings)
    from reftune.serving.engine import Engine
    from reftune.serving.settings import EngineSettings

    checked = EngineSettings(**settings)  # before anything that takes long
    return Engine(*load_base(path, args.dtype), checked, name)
