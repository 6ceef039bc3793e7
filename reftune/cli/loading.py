"""Finding models and adapters by what the user typed."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from reftune.assets import TINY_CHAT
from reftune.dtypes import DTYPES, FLOATING, QUANTIZED, check_extra, loading_options
from reftune.hub import fetch_from_hub, is_hub_id

BUNDLED = "tiny-chat"
DTYPE_HELP = "of the base model; nf4 and int8 quantize it while it is loaded"


def add_model_options(parser: argparse.ArgumentParser) -> None:
    """Declare the options that `load_base` reads."""
    parser.add_argument(
        "--model",
        metavar="M",
        help="base model: a folder, a hub id, or tiny-chat, the one that comes with reftune "
        "(default: the adapter's own base, else tiny-chat)",
    )
    parser.add_argument("--dtype", choices=DTYPES, default="auto", help=DTYPE_HELP)


def adapter_folder(name: str) -> Path:
    """Return the folder of an adapter, fetched from the hub if there is no such folder.

    Raises:
        FileNotFoundError: neither a folder nor on the hub.
        ValueError: the folder holds no adapter of ours.
    """
    folder = Path(name)
    if not folder.exists():
        if not is_hub_id(name):
            raise FileNotFoundError(f'adapter "{name}": no such folder')
        folder = fetch_from_hub(name, ["adapter_*"], "adapter")
    read_adapter_config(folder)
    return folder


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

    Args:
        name: a folder, or a hub id.
        dtype: of `reftune.dtypes.DTYPES`.

    Raises:
        FileNotFoundError: neither a folder nor on the hub.
        ModuleNotFoundError: an extra is missing.
        ValueError: the folder holds no such model, or it is to be quantized and divided.
    """
    from transformers import AutoModelForCausalLM

    from reftune import processes
    from reftune.device import pick_device

    if dtype in QUANTIZED and processes.divide_the_model():
        raise ValueError(
            f"dtype {dtype}: expected one of {', '.join(FLOATING)} with FSDP and DeepSpeed"
        )
    check_extra(dtype)

    def load(path: str) -> Any:
        options = loading_options(AutoModelForCausalLM, path, dtype)
        return AutoModelForCausalLM.from_pretrained(path, **options)

    model, tokenizer = _with_tokenizer(name, load)
    if not processes.divide_the_model():
        model.to(pick_device())
    return model.eval(), tokenizer


def load_config(name: str) -> tuple[Any, Any]:
    """Load the configuration of a model and its tokenizer; raises as `load_base` does."""
    from transformers import AutoConfig

    return _with_tokenizer(name, AutoConfig.from_pretrained)


def _with_tokenizer(name: str, load: Callable[[str], Any]) -> tuple[Any, Any]:
    from transformers import AutoTokenizer

    folder = Path(name)
    if folder.exists() and not (folder / "config.json").is_file():
        raise ValueError(f'model "{name}": expected a folder with config.json and weights')
    if not folder.exists() and (name.count("/") > 1 or name.startswith((".", "/", "~"))):
        raise FileNotFoundError(f'model "{name}": no such folder')
    try:
        return load(name), AutoTokenizer.from_pretrained(name)
    except ImportError as error:
        reason = " ".join(str(error).split())[:160]
        raise ValueError(
            f'model "{name}" needs a library that is not here ({reason}); if it is bitsandbytes: '
            "pip install 'reftune[quantized]'"
        ) from error
    except (OSError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split())[:160]
        if folder.exists():
            raise ValueError(f'model "{name}" cannot be loaded ({reason})') from error
        raise FileNotFoundError(
            f'model "{name}": no such folder, and the hub gave no such model ({reason})'
        ) from error


def load_adapter(model: Any, folder: Path) -> Any:
    """Put an adapter on its base model.

    Raises:
        ValueError: it was made for another model.
    """
    from reftune.shelf import attach

    return attach(model, folder)
