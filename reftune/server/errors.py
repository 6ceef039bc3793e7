"""What a request can be refused for, in the terms of OpenAI's API."""


class ServerError(Exception):
    """A request that is refused; the client is told all that is in here.

    Attributes:
        code: a word for programs, such as ``"model_not_found"``.
        message: one sentence for people.
        status: of the HTTP answer.
        param: the part of the request that is wrong, if it is one.
    """

    def __init__(self, code: str, message: str, status: int, param: str | None = None):
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status
        self.param = param


class BadRequest(ServerError):
    """A value that has no meaning here."""

    def __init__(self, message: str, param: str | None = None, code: str = "invalid_value"):
        super().__init__(code, message, 400, param)


class NotFound(ServerError):
    """There is no such thing, or none that this tenant may know of: both look the same."""

    def __init__(self, message: str, param: str | None = None, code: str = "not_found"):
        super().__init__(code, message, 404, param)


class Conflict(ServerError):
    """The thing is in a state that does not allow it.

    The status is 400, as OpenAI's is: its clients send a request again after a 409, in vain here.
    """

    def __init__(self, message: str, param: str | None = None, code: str = "conflict"):
        super().__init__(code, message, 400, param)


class TooLarge(ServerError):
    """A body or a file has more bytes than are allowed."""

    def __init__(self, message: str, param: str | None = None, code: str = "too_large"):
        super().__init__(code, message, 413, param)


class Unavailable(ServerError):
    """The database or the disk does not answer; later it may."""

    def __init__(self, message: str, param: str | None = None, code: str = "unavailable"):
        super().__init__(code, message, 503, param)
