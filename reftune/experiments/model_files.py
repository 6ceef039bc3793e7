"""Which base model was used: a name alone does not say, as its files may change."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

from transformers import AutoConfig

from reftune.assets import TINY_CHAT
from reftune.experiments.loading import BUNDLED

WEIGHTS = ("*.safetensors", "*.bin", "config.json")
CHUNK = 2**24


def version_of(model: str) -> str | None:
    """Return what tells the files of a base model from others.

    Args:
        model: a folder, a hub id, or `tiny-chat`.

    Returns:
        Of a folder the SHA-256 of weights and configuration, of a model of the hub the commit; or
        `None` if nothing tells.
    """
    folder = TINY_CHAT if model == BUNDLED else Path(model)
    if folder.is_dir():
        return files_digest(folder, WEIGHTS)
    try:
        return AutoConfig.from_pretrained(model)._commit_hash
    except (OSError, ValueError):  # whoever loads it says what is wrong
        return None


def files_digest(folder: Path, patterns: Sequence[str]) -> str:
    """Return the SHA-256 of some files of a folder, with their names."""
    digest = hashlib.sha256()
    for file in sorted({file for pattern in patterns for file in folder.glob(pattern)}):
        digest.update(file.name.encode())
        with file.open("rb") as content:
            while chunk := content.read(CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
