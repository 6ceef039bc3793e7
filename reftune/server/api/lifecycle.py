"""Whether the server takes requests, and how many it is answering."""


class Lifecycle:
    """Written by the gate and by who stops the server; used from the event loop's thread alone.

    Attributes:
        draining: running answers go on, new requests are refused.
        active: requests of the API that are being answered.
    """

    def __init__(self) -> None:
        self.draining = False
        self.active = 0

    def drain(self) -> None:
        """Refuse new requests from now on."""
        self.draining = True

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be answered."""
        return self.draining and self.active == 0
