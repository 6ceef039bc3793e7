"""The files that come with reftune: a tiny chat model and the emoji data of the tutorial."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent

#: Folder of a small chat model, for ``AutoModelForCausalLM.from_pretrained``. Its data, size and
#: limits are in ``MODEL_CARD.md`` beside it.
TINY_CHAT = _HERE / "tiny-chat"

#: The ten examples of the emoji tutorial, one JSON object per line.
EMOJI_TRAIN = _HERE / "emoji" / "train.jsonl"

#: Prompts that the ten examples do not contain, one JSON object per line.
EMOJI_UNSEEN = _HERE / "emoji" / "unseen.jsonl"
