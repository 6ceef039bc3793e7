"""Full load with everything that goes wrong: `python -m benchmarks.serving.soak --minutes 20`.

Clients ask, break off streams, close connections, send nonsense and post jobs, while an adapter is
replaced all the time. Every whole answer is held against `generate` of that adapter alone.
"""

import argparse
import asyncio
import json
import random
import shutil
import socket
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx
import psutil
from datasets import Dataset
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from benchmarks.machine import describe_machine
from benchmarks.serving.load import PROMPTS, post_job
from benchmarks.serving.server import serving, write_adapters
from reftune.assets import EMOJI_TRAIN, TINY_CHAT
from reftune.data import load_rows
from reftune.generation import GenerationSettings, encode_prompts, generate_answers

CLIENTS, ADAPTERS, LENGTH, SLOTS, STRENGTH = 32, 24, 48, 8, 0.3
REPLACED = "replaced"
NONSENSE = (
    b"{",
    b'{"model": "base"}',
    b'{"model": "nobody", "messages": [{"role": "user", "content": "x"}]}',
    b'{"model": "base", "messages": [{"role": "user", "content": "x"}], "temperature": "hot"}',
)


def expected_answers(adapters: Path, names: list[str]) -> dict[tuple[str, str], str]:
    """Return the greedy answer of the base model and of each adapter, one prompt at a time."""
    model = AutoModelForCausalLM.from_pretrained(TINY_CHAT).eval()
    tokenizer = AutoTokenizer.from_pretrained(TINY_CHAT)
    rows = Dataset.from_list([{"messages": [{"role": "user", "content": p}]} for p in PROMPTS])
    settings = GenerationSettings(max_new_tokens=LENGTH, batch_size=1)
    encoded = encode_prompts(rows, tokenizer)
    found = {}
    for name in ["base", *names]:
        peft = model if name == "base" else PeftModel.from_pretrained(model, adapters / name)
        batches = generate_answers(peft, tokenizer, encoded, settings)
        answers = [answer for batch in batches for answer in batch]
        found |= {(name, p): answer for p, answer in zip(PROMPTS, answers, strict=True)}
        if name != "base":
            model = peft.unload()
    return found


class Soak:
    """What clients do, and what came of it."""

    def __init__(
        self, address: str, expected: dict[tuple[str, str], str], names: list[str], until: float
    ) -> None:
        self.address, self.expected, self.names, self.until = address, expected, names, until
        self.counts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self.jobs: list[str] = []

    async def client(self, number: int) -> None:
        """Do something, again and again, until the time is over."""
        draws = random.Random(number)
        async with httpx.AsyncClient(base_url=self.address, timeout=600) as http:
            while time.monotonic() < self.until:
                model = draws.choice([*self.names, "base", REPLACED])
                prompt, what = draws.choice(PROMPTS), draws.random()
                if what < 0.7:
                    await self._ask(http, model, prompt)
                elif what < 0.8:
                    await self._break_off(http, model, prompt, draws.randint(0, 5))
                elif what < 0.9:
                    await self._nonsense(http, draws.choice(NONSENSE))
                elif what < 0.99:
                    self._hang_up()
                else:
                    await self._teach(http)

    def _body(self, model: str, prompt: str, **more: object) -> dict[str, object]:
        messages = [{"role": "user", "content": prompt}]
        return {"model": model, "messages": messages, "temperature": 0, "max_tokens": LENGTH} | more

    async def _ask(self, http: httpx.AsyncClient, model: str, prompt: str) -> None:
        response = await http.post("/v1/chat/completions", json=self._body(model, prompt))
        self.counts[f"answers, {response.status_code}"] += 1
        versions = self.names[:2] if model == REPLACED else [model]
        right = [self.expected[one, prompt] for one in versions]
        if response.status_code == 200:
            said = response.json()["choices"][0]["message"]["content"]
            if said not in right:
                self.wrong.append(f"{model}: {prompt!r}: {said!r}, expected one of {right}")
        elif model != REPLACED:  # which is not there for a moment
            self.wrong.append(f"{model}: {response.status_code} {response.text[:200]}")

    async def _break_off(
        self, http: httpx.AsyncClient, model: str, prompt: str, after: int
    ) -> None:
        body = self._body(model, prompt, stream=True)
        async with http.stream("POST", "/v1/chat/completions", json=body) as response:
            lines = response.aiter_lines()
            for _ in range(2 * after):
                if await anext(lines, None) is None:
                    break
        self.counts["streams broken off"] += 1

    async def _nonsense(self, http: httpx.AsyncClient, body: bytes) -> None:
        headers = {"content-type": "application/json"}
        response = await http.post("/v1/chat/completions", content=body, headers=headers)
        self.counts["nonsense refused"] += 1
        if response.status_code not in (400, 404) or "message" not in response.json()["error"]:
            self.wrong.append(f"nonsense {body!r}: {response.status_code} {response.text[:200]}")

    def _hang_up(self) -> None:
        """Send half a request, and be gone."""
        host, port = self.address.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nContent-Length: 999\r\n\r\n{"
            )
        self.counts["connections closed"] += 1

    async def _teach(self, http: httpx.AsyncClient) -> None:
        rows = [dict(row) for row in load_rows(EMOJI_TRAIN)]
        job = await asyncio.to_thread(post_job, self.address, rows)
        if "id" in job:
            self.jobs.append(job["id"])
        self.counts["jobs posted" if "id" in job else "jobs over the limit"] += 1

    async def replace(self, adapters: Path) -> None:
        """Put one adapter in the place of another, in one move, again and again."""
        turn = 0
        while time.monotonic() < self.until:
            new = adapters / f".new{turn % 2}"
            shutil.copytree(adapters / self.names[turn % 2], new)
            if (adapters / REPLACED).exists():
                (adapters / REPLACED).rename(adapters / ".old")
            new.rename(adapters / REPLACED)
            shutil.rmtree(adapters / ".old", ignore_errors=True)
            self.counts["replacements"] += 1
            turn += 1
            await asyncio.sleep(0.5)

    async def everything(self, adapters: Path) -> None:
        """Run all clients to the end, and wait for the jobs."""
        clients = [self.client(number) for number in range(CLIENTS)]
        await asyncio.gather(self.replace(adapters), *clients)
        async with httpx.AsyncClient(base_url=self.address, timeout=60) as http:
            for job in self.jobs:
                status = "queued"
                while status in ("queued", "running"):
                    await asyncio.sleep(0.1)
                    status = (await http.get(f"/v1/fine_tuning/jobs/{job}")).json()["status"]
                self.counts[f"jobs {status}"] += 1


def server_memory(port: int) -> float:
    """Return what the server that listens on a port holds, in MB."""
    for process in psutil.process_iter():
        try:
            if any(
                c.laddr.port == port and c.status == "LISTEN" for c in process.net_connections()
            ):
                return process.memory_info().rss / 1e6
        except psutil.Error:
            continue
    raise SystemExit(f"nobody listens on port {port}")


def main() -> None:
    """Soak, and say what came of it; the exit status is 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.serving.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20)
    parser.add_argument("--threads", type=int, default=2, help="of the server (2)")
    parser.add_argument("--port", type=int, default=8766)
    parser.add_argument("--out", type=Path, help="a JSON for what came of it")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder, adapters = Path(place), Path(place) / "adapters"
        names = write_adapters(adapters, ADAPTERS, STRENGTH)
        expected = expected_answers(adapters, names)
        shutil.copytree(adapters / names[0], adapters / REPLACED)
        with serving(folder, adapters, args.port, SLOTS, args.threads) as address:
            warm = Soak(address, expected, names, time.monotonic() + 6 * args.minutes)
            asyncio.run(warm.everything(adapters))
            before = server_memory(args.port)
            soak = Soak(address, expected, names, time.monotonic() + 54 * args.minutes)
            asyncio.run(soak.everything(adapters))
            after = server_memory(args.port)
    wrong = warm.wrong + soak.wrong
    counts = warm.counts + soak.counts
    lost = counts["jobs posted"] - counts["jobs succeeded"]
    memory = {"after a tenth": before, "at the end": after}
    found = {"counts": counts, "memory, MB": memory, "wrong": wrong[:20]}
    print(json.dumps(found, indent=1))
    if args.out:
        told = {"machine": describe_machine(), "minutes": args.minutes, **found}
        args.out.write_text(json.dumps(told, indent=1) + "\n", encoding="utf-8")
    raise SystemExit(1 if wrong or lost else 0)


if __name__ == "__main__":
    main()
