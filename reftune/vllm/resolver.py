# The types are checked without vLLM.
# pyright: reportMissingImports=false
"""The folder of adapters as model names of vLLM's own server.

vLLM asks its resolvers for a model name that it does not know, where
`VLLM_ALLOW_RUNTIME_LORA_UPDATING` is set.
"""

from vllm.lora.request import LoRARequest
from vllm.lora.resolver import LoRAResolver, LoRAResolverRegistry

from reftune.vllm.frontend import Frontend
from reftune.vllm.settings import KEY, VllmSettings


class FolderResolver(LoRAResolver):
    """Finds adapters in the folder of an engine's settings.

    Args:
        settings: with a folder of adapters.
    """

    def __init__(self, settings: VllmSettings) -> None:
        self._settings = settings

    async def resolve_lora(self, base_model_name: str, lora_name: str) -> LoRARequest | None:
        """Return what vLLM is to load for a model name; `None` if there is no such folder."""
        try:
            folder = Frontend.named(lora_name, self._settings)
        except ValueError:  # a name that another resolver may know
            return None
        return LoRARequest(lora_name, 1, str(folder))  # vLLM numbers it anew


def offer_folder(settings: VllmSettings) -> None:
    """Have vLLM's server look for model names among the adapters of an engine."""
    LoRAResolverRegistry.register_resolver(KEY, FolderResolver(settings))
