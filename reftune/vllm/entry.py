"""The entry point that vLLM calls in each of its processes, wherever reftune is installed."""

import logging

LOG = logging.getLogger(__name__)


def register() -> None:
    """Have vLLM serve adapters; safe to call again.

    A version of vLLM that does not fit goes on as if reftune were not there. Its engines can then
    not be started with reftune's worker, which makes sure of the plug-in.
    """
    try:
        from reftune.vllm.plugin import register as register_plugin  # imports parts of vLLM

        register_plugin()
    except ImportError as error:
        LOG.warning("reftune serves no adapters in this version of vLLM: %s", error)
