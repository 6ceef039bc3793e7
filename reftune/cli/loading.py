"""Finding models and adapters by what the user typed."""

import argparse
import json
from pathlib import Path
from typing import Any

from reftune.assets import TINY_CHAT

BUNDLED = "tiny-chat"
DTYPES = ("auto", "float32", "bfloat16", "float16")


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that `load_base` reads."""
    parser.add_argument(
        "--model",
        metavar="M",
        help="base model: a folder, a hub id, or tiny-chat, the one that comes with reftune "
        "(default: the adapter's own base, else tiny-chat)",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help="of the base model")


def adapter_folder(name: str) -> Path:
    """Return the folder of an adapter, fetched from the hub if there is no such folder.

    Raises:
        FileNotFoundError: neither a folder nor on the hub.
        ValueError: the folder holds no adapter of ours.
    """
    folder = Path(name)
    if not folder.exists():
        folder = _from_hub(name)
    read_adapter_config(folder)
    return folder


def _from_hub(name: str) -> Path:
    if not _is_hub_id(name):
        raise FileNotFoundError(f'adapter "{name}": no such folder')
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return Path(snapshot_download(name, allow_patterns=["adapter_*"]))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise FileNotFoundError(
            f'adapter "{name}": no such folder, and the hub gave no such adapter '
            f"({type(error).__name__})"
        ) from error


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and all(name.split("/")) and not name.startswith((".", "~"))


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """Read ``adapter_config.json``.

    Raises:
        ValueError: there is none, it is torn, or it belongs to another method.
    """
    file = folder / "adapter_config.json"
    if not file.is_file():
        raise ValueError(f'adapter "{folder}": expected a folder with {file.name}')
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f'"{file}" is not JSON ({error})') from None
    method = config.get("peft_type") if isinstance(config, dict) else None
    if method != "REFTUNE":
        raise ValueError(f'adapter "{folder}" is of the method {method}; expected REFTUNE')
    return config


def resolve_model(name: str | None, adapter: Path | None = None) -> str:
    """Decide which base model is meant: the one named, the adapter's own, or the bundled one.

    Raises:
        FileNotFoundError: the adapter's own base model is a folder that is not there.
    """
    own = read_adapter_config(adapter).get("base_model_name_or_path") if adapter else None
    if name is None and own and tuple(Path(own).parts[-2:]) != tuple(TINY_CHAT.parts[-2:]):
        if Path(own).is_absolute() and not Path(own).exists():
            raise FileNotFoundError(
                f'the base model of "{adapter}" was "{own}", which is not there; say --model'
            )
        return own
    return str(TINY_CHAT) if name in (None, BUNDLED) else name


def load_base(name: str, dtype: str = "auto") -> tuple[Any, Any]:
    """Load a causal language model and its tokenizer.

    Raises:
        FileNotFoundError: neither a folder nor on the hub.
        ValueError: the folder holds no such model.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from reftune.device import pick_device

    folder = Path(name)
    if folder.exists() and not (folder / "config.json").is_file():
        raise ValueError(f'model "{name}": expected a folder with config.json and weights')
    if not folder.exists() and (name.count("/") > 1 or name.startswith((".", "/", "~"))):
        raise FileNotFoundError(f'model "{name}": no such folder')
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(name, dtype=dtype)
        tokenizer = AutoTokenizer.from_pretrained(name)
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        if folder.exists():
            raise ValueError(f'model "{name}" cannot be loaded ({reason})') from error
        raise FileNotFoundError(
            f'model "{name}": no such folder, and the hub gave no such model ({reason})'
        ) from error
    model.to(pick_device()).eval()
    return model, tokenizer


def load_adapter(model: Any, folder: Path) -> Any:
    """Put an adapter on its base model.

    Raises:
        ValueError: it was made for another model.
    """
    from peft import PeftModel

    from reftune import ReftConfig  # makes PEFT know the method  # noqa: F401

    try:
        return PeftModel.from_pretrained(model, str(folder)).eval()
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f'adapter "{folder}" does not fit the model ({reason})') from error
