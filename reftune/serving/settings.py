"""How much the engine holds, and what it has done."""

from dataclasses import dataclass


@dataclass(frozen=True)
class EngineSettings:
    """How much the engine holds.

    Attributes:
        slots: adapters that can be in use at once.
        batch_tokens: of a step, at most; longer prompts are read in several steps.
        cache_tokens: keys and values that are kept, for all running requests together.
        page_tokens: in which they are given out.
        adapter_bytes: of the adapters that are kept in memory besides those in slots.
        requests: of a step, at most.

    Raises:
        ValueError: a value is too small to run anything.
    """

    slots: int = 64
    batch_tokens: int = 256
    cache_tokens: int = 16384
    page_tokens: int = 32
    adapter_bytes: int = 1 << 30
    requests: int = 64

    def __post_init__(self) -> None:
        least = {"slots": 1, "batch_tokens": 1, "page_tokens": 4, "adapter_bytes": 0, "requests": 1}
        least["cache_tokens"] = 4 * self.page_tokens
        for name, value in least.items():
            if getattr(self, name) < value:
                raise ValueError(f"{name}={getattr(self, name)}: expected {value} or more")


@dataclass
class EngineStats:
    """What happened since the start.

    Attributes:
        slots: how many there are.
        slots_used: how many hold an adapter.
        slot_loads: how often an adapter was written into a slot.
        evictions: how often one had to make room.
        prompt_tokens, generated_tokens: of all answers.
    """

    slots: int
    slots_used: int = 0
    slot_loads: int = 0
    evictions: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
