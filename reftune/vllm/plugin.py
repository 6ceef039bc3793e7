# The types are checked without vLLM.
# pyright: reportMissingImports=false
"""What vLLM loads in each of its processes, as the entry point `vllm.general_plugins`.

Requests are admitted where vLLM makes them of what its callers gave, in
`InputProcessor.process_inputs`, for which vLLM has no hook of its own: it is wrapped here. Where
vLLM drops what a request asked for, as in beam search, the request is refused. An engine that was
started without reftune's worker behaves as without this plug-in.
"""

import functools
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from vllm.entrypoints.generate.beam_search.offline import BeamSearchOfflineMixin
from vllm.entrypoints.generate.beam_search.online import BeamSearchOnlineMixin
from vllm.exceptions import VLLMValidationError
from vllm.sampling_params import SamplingParams
from vllm.v1.engine.input_processor import InputProcessor

from reftune.vllm.frontend import Frontend, pass_plain
from reftune.vllm.resolver import offer_folder

_frontends: WeakKeyDictionary[Any, Frontend] = WeakKeyDictionary()
_registered: list[type] = []


def frontend_of(processor: InputProcessor) -> Frontend:
    """Return the front end of an engine by its input processor."""
    return _frontends[processor]


def is_registered() -> bool:
    """Whether vLLM in this process admits requests for adapters."""
    return bool(_registered)


def register() -> None:
    """Have vLLM serve adapters; safe to call again.

    Raises:
        ImportError: this version of vLLM lacks what is wrapped here; nothing is changed.
    """
    if is_registered():
        return
    offline = _without_adapters(lambda llm: llm.llm_engine.input_processor)
    online = _without_adapters(lambda api: api.engine_client.input_processor)
    wraps: list[tuple[type, str, Callable[[Any], Any]]] = [
        (InputProcessor, "__init__", _with_frontend),
        (InputProcessor, "process_inputs", _admitting),
        (BeamSearchOfflineMixin, "beam_search", offline),
        (BeamSearchOnlineMixin, "beam_search", online),
    ]
    for owner, name, _ in wraps:
        if name not in vars(owner):
            raise ImportError(f"vLLM's {owner.__name__} has no {name}: expected one")
    known = inspect.signature(InputProcessor.process_inputs).parameters
    if not {"params", "lora_request"} <= known.keys():
        raise ImportError(
            f"vLLM's process_inputs takes {', '.join(known)}: expected params and lora_request"
        )
    for owner, name, wrap in wraps:
        old = vars(owner)[name]
        setattr(owner, name, functools.wraps(old)(wrap(old)))
    _registered.append(InputProcessor)


def _with_frontend(initialize: Any) -> Any:
    def __init__(self: Any, vllm_config: Any, *args: Any, **kwargs: Any) -> None:
        frontend = Frontend(vllm_config)  # before anything that takes long
        initialize(self, vllm_config, *args, **kwargs)
        _frontends[self] = frontend
        if frontend.settings is not None and frontend.settings.adapters is not None:
            offer_folder(frontend.settings)

    return __init__


def _admitting(process: Any) -> Any:
    signature = inspect.signature(process)

    def process_inputs(self: Any, *args: Any, **kwargs: Any) -> Any:
        frontend = _frontends[self]
        given = signature.bind(self, *args, **kwargs)
        params = given.arguments["params"]
        extra = params.extra_args if isinstance(params, SamplingParams) else None
        with _refusals():
            folder = frontend.folder(given.arguments.get("lora_request"), extra)
        if folder is not None:
            given.arguments["lora_request"] = None  # vLLM would refuse it, as LoRA is off
        request = process(*given.args, **given.kwargs)
        with _refusals():
            if folder is None:
                pass_plain(request)
            else:
                frontend.admit(folder, request)
        return request

    return process_inputs


@contextmanager
def _refusals() -> Iterator[None]:
    """Refuse in vLLM's words, which its server takes for its client's fault."""
    try:
        yield
    except ValueError as error:
        raise VLLMValidationError(str(error)) from error


def _without_adapters(processor_of: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def wrap(search: Any) -> Any:
        def beam_search(self: Any, *args: Any, **kwargs: Any) -> Any:
            if _frontends[processor_of(self)].is_on:
                # Every step of it is a prompt of its own there, one token longer than the last.
                raise VLLMValidationError(
                    "beam search: expected none on an engine that serves adapters"
                )
            return search(self, *args, **kwargs)

        return beam_search

    return wrap
