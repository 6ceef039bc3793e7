"""Whether the extras `serve` and `vllm` are installed."""

import importlib.util

NEEDED = ("fastapi", "uvicorn", "sqlalchemy", "alembic", "prometheus_client", "python_multipart")


def need_serve() -> None:
    """Make sure that the extra is installed.

    Raises:
        ImportError: it is not; says how to install it.
    """
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(f"the server needs {', '.join(missing)}: pip install 'reftune[serve]'")


def need_vllm() -> None:
    """Make sure that vLLM is installed.

    Raises:
        ImportError: it is not; says how to install it.
    """
    if importlib.util.find_spec("vllm") is None:
        raise ImportError("--engine vllm needs vllm: pip install 'reftune[serve,vllm]'")
