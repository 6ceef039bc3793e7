"""How much of a body is read, and how long is waited for it."""

import time

import anyio
from starlette.exceptions import HTTPException
from starlette.types import Message, Receive

# Slower than any line that is in use; whoever sends less wants to keep the connection.
BYTES_PER_SECOND = 16_384
TOO_SLOW = (
    f"the body came too slowly; expected all of it at once, or {BYTES_PER_SECOND} bytes a second"
)


def limited(receive: Receive, most: int, seconds: float) -> Receive:
    """Stop reading a body that is too long, also one that does not say its length, or too slow.

    Args:
        receive: gives its parts.
        most: bytes that it may have.
        seconds: that it may take, beside a second for every `BYTES_PER_SECOND` that have come.
    """
    read, whole, began = 0, False, time.monotonic()

    async def receive_limited() -> Message:
        nonlocal read, whole
        if whole:  # what comes then is the end of the connection, at any time
            return await receive()
        left = began + seconds + read / BYTES_PER_SECOND - time.monotonic()
        try:
            with anyio.fail_after(left):
                message = await receive()
        except TimeoutError:
            # Closed, or the rest of the body could keep it open.
            raise HTTPException(408, TOO_SLOW, {"connection": "close"}) from None
        read += len(message.get("body", b""))
        if read > most:
            raise HTTPException(413, too_long(most))
        whole = not message.get("more_body", False)
        return message

    return receive_limited


def too_long(most: int) -> str:
    """Say that a body is too long."""
    return f"the body has more bytes than are allowed; expected {most} at most"
