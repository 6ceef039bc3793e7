"""Errors as OpenAI's API writes them, whatever went wrong and wherever it did."""

from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from reftune.server.errors import BadRequest, NotFound, ServerError

KINDS = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
NO_JSON = "the body is not a JSON object; expected one, with Content-Type: application/json"
UNREADABLE = "the body cannot be read; expected JSON in UTF-8, or a form where a file is sent"
METHOD = "there is no {} {}; see the header Allow for what there is"
# Codes of what is refused before it reaches an endpoint.
CODES = {404: "unknown_url", 405: "method_not_allowed", 408: "too_slow", 413: "too_large"}


class Unauthorized(ServerError):
    """No key, or none that is valid."""

    def __init__(self, message: str):
        super().__init__("invalid_api_key", message, 401)


class Forbidden(ServerError):
    """The key is valid, but not for this."""

    def __init__(self, message: str, code: str = "insufficient_permissions"):
        super().__init__(code, message, 403)


class TooMany(ServerError):
    """More than a limit allows; ``retry_after`` says after how many seconds it may do."""

    def __init__(self, message: str, code: str, retry_after: int | None = None):
        super().__init__(code, message, 429)
        self.retry_after = retry_after


def error_body(error: ServerError) -> dict[str, Any]:
    """Write an error as OpenAI does."""
    other = "server_error" if error.status >= 500 else "invalid_request_error"
    kind = KINDS.get(error.status, other)
    facts = {"message": error.message, "type": kind, "param": error.param, "code": error.code}
    return {"error": facts}


def error_response(error: ServerError) -> JSONResponse:
    """Answer with an error."""
    headers = {}
    if isinstance(error, TooMany) and error.retry_after is not None:
        headers["retry-after"] = str(error.retry_after)
    elif error.status == 503:
        headers["retry-after"] = "1"
    elif error.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(error_body(error), status_code=error.status, headers=headers)


def internal_error() -> ServerError:
    """Say that it is our fault, and no more: what went wrong is in the log."""
    return ServerError("internal_error", "the server had an error; it is in its log", 500)


def add_error_handlers(app: FastAPI) -> None:
    """Make the app answer every error in this form."""
    app.add_exception_handler(ServerError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)


async def _refused(_: Request, error: Exception) -> JSONResponse:
    return error_response(error if isinstance(error, ServerError) else internal_error())


async def _invalid(_: Request, error: Exception) -> JSONResponse:
    faults = error.errors() if isinstance(error, RequestValidationError) else []
    return error_response(_from_faults(faults))


async def _http(request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        return error_response(internal_error())
    path = request.url.path
    if error.status_code == 404:
        return error_response(NotFound(f"there is no {request.method} {path}", code=CODES[404]))
    if error.status_code == 400:  # said by the framework, which says no more
        return error_response(BadRequest(UNREADABLE, code="invalid_body"))
    code = CODES.get(error.status_code, "invalid_request")
    message = METHOD.format(request.method, path) if error.status_code == 405 else error.detail
    response = error_response(ServerError(code, message, error.status_code))
    response.headers.update(error.headers or {})
    return response


def _from_faults(faults: Sequence[dict[str, Any]]) -> ServerError:
    """Say the first of what pydantic found wrong."""
    fault = faults[0] if faults else {"type": "", "loc": (), "msg": "the request is not valid"}
    where, kind = fault["loc"], fault["type"]
    if kind == "json_invalid":
        at = where[-1] if where else 0
        reason = fault.get("ctx", {}).get("error", "")
        return BadRequest(f"the body is not JSON ({reason} at character {at})", code="invalid_json")
    param = param_name(where[1:])
    if not param:
        return BadRequest(NO_JSON, code="invalid_json")
    if kind == "missing":
        return BadRequest(f"{param} is missing", param, "missing_required_parameter")
    message = fault["msg"][:1].lower() + fault["msg"][1:]
    return BadRequest(f"{param}: {_shown(fault.get('input'))}{message}", param)


def _shown(value: Any) -> str:
    return f"{value!r:.60}: " if isinstance(value, str | int | float) else ""


def param_name(where: Sequence[str | int]) -> str:
    """Write a place in the body as OpenAI does, such as ``messages[0].content``."""
    name = ""
    for part in where:
        name += f"[{part}]" if isinstance(part, int) else f".{part}" if name else part
    return name
