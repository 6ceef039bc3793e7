"""Reading files that somebody else made: tensors and JSON, and nothing that runs or grows."""

import json
import pickle
import stat
import struct
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

GIB, MIB = 2**30, 2**20
STATE_LIMIT = GIB
# Trained parameters of the model itself may be all of them.
MODEL_LIMIT = 1024 * GIB
JSON_LIMIT = 10 * MIB
# The pickle within a file of tensors holds their names and shapes only.
PICKLE_LIMIT = 10 * MIB
FLOATS = (torch.float32, torch.bfloat16, torch.float16, torch.float64)
PLAIN = (*FLOATS, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool)


def read_tensors(file: Path, limit: int = STATE_LIMIT) -> dict[str, Tensor]:
    """Read a dict of tensors that `torch.save` wrote, onto the CPU.

    Nothing is unpickled but tensors (`weights_only=True`), and nothing is read that takes more
    memory than the file has bytes.

    Args:
        file: the file; links must have been checked (`checked_file`).
        limit: largest size in bytes.

    Returns:
        The tensors by their names, detached, in the dtypes of the file; floats are finite.

    Raises:
        ValueError: the file is something else, torn, too large, or has values that are not finite.
    """
    size = _size(file, limit)
    _check_archive(file, size)
    try:
        loaded = torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f'"{file}" holds more than tensors, such as code, and is not read: expected a state '
            "that pyreft saved"
        ) from None
    # Not only what torch documents: the file decides what is called with what, and how it fails.
    except Exception as error:
        raise ValueError(
            f'"{file}" cannot be read ({type(error).__name__}): expected a state that pyreft saved'
        ) from None
    return _checked_tensors(file, loaded, size)


def _check_archive(file: Path, size: int) -> None:
    """Hold the table of contents against what torch writes: members that are not compressed."""
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
    except (
        zipfile.BadZipFile,
        NotImplementedError,
        ValueError,
        EOFError,
        OverflowError,
        struct.error,
    ):
        raise ValueError(
            f'"{file}" is torn, or not written by torch.save: expected a state that pyreft saved'
        ) from None
    whole = sum(member.file_size for member in members)
    pickles = [member.file_size for member in members if member.filename.endswith("data.pkl")]
    packed = any(member.compress_type != zipfile.ZIP_STORED for member in members)
    if packed or whole > size or len(pickles) != 1 or pickles[0] > PICKLE_LIMIT:
        raise ValueError(
            f'"{file}" is not as torch.save writes it: expected tensors that are not compressed, '
            "and one list of their names"
        )


def _checked_tensors(file: Path, loaded: Any, size: int) -> dict[str, Tensor]:
    """Refuse what is no dict of finite tensors that fit into the file they come from."""
    if not isinstance(loaded, dict):
        raise ValueError(f'"{file}" holds {type(loaded).__name__}: expected a dict of tensors')
    room = size
    for name, tensor in loaded.items():
        if not isinstance(name, str) or type(tensor) not in (Tensor, nn.Parameter):
            raise ValueError(
                f'"{file}" holds {name!r}, which is {type(tensor).__name__}: expected tensors by '
                "their names"
            )
        dense = tensor.layout == torch.strided and tensor.device.type == "cpu"
        if not dense or tensor.dtype not in PLAIN:
            raise ValueError(
                f'"{file}" holds {name!r} as {tensor.dtype}, {tensor.layout} on {tensor.device}: '
                "expected a dense tensor of floats"
            )
        room -= tensor.numel() * tensor.element_size()
        if room < 0:
            raise ValueError(
                f'"{file}" of {size} bytes holds {name!r} of shape {tuple(tensor.shape)}: expected '
                "tensors that fit into it"
            )
    for name, tensor in loaded.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f'"{file}": {name!r} has values that are not finite')
    return {name: tensor.detach() for name, tensor in loaded.items()}


def read_json(file: Path) -> Any:
    """Read a JSON file.

    Raises:
        ValueError: it is too large, or no JSON.
    """
    _size(file, JSON_LIMIT)
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f'"{file}" is not JSON ({" ".join(str(error).split())})') from None


def checked_file(file: Path) -> Path:
    """Return a file as it is, if it is a plain file that lies where it seems to lie.

    A link must stay within its folder, but for the hub's cache, in which a snapshot is links to the
    blobs beside it.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is a folder or a device, or a link that leads out of its folder.
    """
    try:
        real = file.resolve(strict=True)
    except (OSError, RuntimeError):
        raise FileNotFoundError(f'"{file}": no such file') from None
    folder = file.parent.resolve()
    places = [folder, *(p.parent / "blobs" for p in folder.parents if p.name == "snapshots")]
    if not any(real.is_relative_to(place) for place in places):
        raise ValueError(f'"{file}" leads out of its folder, to "{real}"; it is not read')
    if not stat.S_ISREG(real.stat().st_mode):
        raise ValueError(f'"{file}" is not a plain file')
    return file


def _size(file: Path, limit: int) -> int:
    size = file.stat().st_size
    if size > limit:
        raise ValueError(f'"{file}" has {size} bytes: expected at most {limit}')
    return size
