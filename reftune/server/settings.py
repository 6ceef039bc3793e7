"""What the server allows; every limit has a default that suits a small machine."""

import ipaddress
from dataclasses import dataclass, fields
from pathlib import Path

MEGABYTE = 2**20
NUMBERS = ("max_", "requests_", "receive_", "stop_")  # what names of limits begin with


@dataclass(frozen=True)
class Settings:
    """Where the server keeps things, and its limits.

    Attributes:
        state: folder of the database, the uploaded files and the trained adapters.
        host: address that is listened on; only a loopback address may be served without keys.
        port: 0 for any that is free.
        max_body_bytes: of a request that is no upload.
        max_file_bytes: of an uploaded file.
        max_files: that a tenant may have.
        max_jobs: that a tenant may have waiting or running.
        max_examples: in a training file.
        max_prompt_tokens: `None` for as many as the model takes.
        max_tokens: of one answer; `None` for as many as the model has room for.
        max_choices: answers to one request, over all its prompts.
        max_waiting: requests that wait for the model; beyond, new ones are told to come later.
        requests_per_minute: of one key; without keys there is no limit.
        receive_seconds: for the head of a request; for its body too, but one that keeps coming has
            longer.
        stop_seconds: how long running answers may go on when the server is told to stop.
        trains: whether fine-tuning jobs are taken.

    Raises:
        ValueError: a limit is below 1, or the port is none.
    """

    state: Path
    host: str = "127.0.0.1"
    port: int = 8000
    max_body_bytes: int = 4 * MEGABYTE
    max_file_bytes: int = 64 * MEGABYTE
    max_files: int = 1000
    max_jobs: int = 20
    max_examples: int = 50_000
    max_prompt_tokens: int | None = None
    max_tokens: int | None = None
    max_choices: int = 128
    max_waiting: int = 1000
    requests_per_minute: int = 3000
    receive_seconds: int = 20
    stop_seconds: int = 60
    trains: bool = True

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.startswith(NUMBERS) and value is not None:
                if value < 1:
                    raise ValueError(f"{field.name} {value}: expected 1 or more")
        if not 0 <= self.port < 2**16:  # other ones are taken modulo that, silently
            raise ValueError(f"port {self.port}: expected a number from 0 to 65535")

    @property
    def files(self) -> Path:
        """Folder of the uploaded files."""
        return self.state / "files"

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the server."""
        return is_loopback(self.host)


def is_loopback(host: str) -> bool:
    """Tell whether an address or a name is that of the machine itself."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:  # a name; others may lead anywhere, such as 127.example.org
        return host == "localhost"
