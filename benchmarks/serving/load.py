"""Clients that ask a server at once, and what they get."""

import asyncio
import json
import random
import time
from dataclasses import dataclass
from typing import Any

import httpx

PROMPTS = (
    "Where do whales go in winter?",
    "Tell me a story about a small red boat that wanted to see the sea.",
    "What is the capital of France, and what should one see there?",
    "Write three tips for staying healthy.",
)


@dataclass(frozen=True)
class Load:
    """What came of a load.

    Attributes:
        tokens: that were answered.
        seconds: it took.
        answers: by prompt and model, every different one.
    """

    tokens: int
    seconds: float
    answers: dict[tuple[str, str], set[str]]

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds


async def _client(
    http: httpx.AsyncClient, models: list[str], number: int, requests: int, length: int, out: Load
) -> int:
    draws = random.Random(number)
    tokens = 0
    for turn in range(requests):
        model = draws.choice(models) if len(models) > 64 else models[number % len(models)]
        prompt = PROMPTS[(number + turn) % len(PROMPTS)]
        body = {
            "model": model,
            "messages": [{"role": "user", "content": prompt}],
            "temperature": 0,
            "max_tokens": length,
        }
        response = await http.post("/v1/chat/completions", json=body)
        if response.status_code != 200:
            raise SystemExit(f"{response.status_code}: {response.text[:300]}")
        said = response.json()
        tokens += said["usage"]["completion_tokens"]
        out.answers.setdefault((model, prompt), set()).add(said["choices"][0]["message"]["content"])
    return tokens


def run_load(address: str, models: list[str], clients: int, requests: int, length: int) -> Load:
    """Let clients ask one after the other, each with a model of its own or with any of many."""

    async def everyone() -> Load:
        out = Load(0, 1.0, {})
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=address, timeout=600, limits=limits) as http:
            begun = time.perf_counter()
            each = [
                _client(http, models, number, requests, length, out) for number in range(clients)
            ]
            tokens = sum(await asyncio.gather(*each))
            return Load(tokens, time.perf_counter() - begun, out.answers)

    return asyncio.run(everyone())


def post_job(address: str, rows: list[dict[str, str]]) -> dict[str, Any]:
    """Post examples and a job to learn from them; return the job, or what is wrong with it."""
    lines = [
        {
            "messages": [
                {"role": "user", "content": row["prompt"]},
                {"role": "assistant", "content": row["completion"]},
            ]
        }
        for row in rows
    ]
    data = "\n".join(json.dumps(line) for line in lines).encode()
    with httpx.Client(base_url=address, timeout=600) as http:
        posted = http.post(
            "/v1/files", files={"file": ("rows.jsonl", data)}, data={"purpose": "fine-tune"}
        )
        wanted = {"model": "base", "training_file": posted.json()["id"], "seed": 1}
        return http.post("/v1/fine_tuning/jobs", json=wanted).json()


def teach(address: str, rows: list[dict[str, str]]) -> float:
    """Return the seconds from posting examples to the first answer of the adapter."""
    begun = time.perf_counter()
    job = post_job(address, rows)
    with httpx.Client(base_url=address, timeout=600) as http:
        while job["status"] not in ("succeeded", "failed", "cancelled"):
            time.sleep(0.05)
            job = http.get(f"/v1/fine_tuning/jobs/{job['id']}").json()
        body = {
            "model": job["fine_tuned_model"],
            "messages": [{"role": "user", "content": "Do you like the sea?"}],
            "max_tokens": 16,
        }
        http.post("/v1/chat/completions", json=body).raise_for_status()
    return time.perf_counter() - begun
