"""Why the engine refuses."""


class AdapterError(ValueError):
    """A folder holds no adapter, or one that cannot be served on this model."""


class PromptTooLong(ValueError):
    """Prompt and answer do not fit into the model or the cache."""


class EngineError(RuntimeError):
    """The engine cannot serve this model."""


class EngineStopped(EngineError):
    """The engine takes no requests: it was stopped, or has failed."""
