"""`/`, the web page: files that come with the package and use the public API alone.

Nothing on it comes from elsewhere, and its policy makes browsers refuse whatever would. It holds no
secret and shows nothing by itself, so everybody may have it; the API behind it asks for the key.
"""

from pathlib import Path

from fastapi import APIRouter
from starlette.responses import FileResponse

from reftune.assets import EMOJI_TRAIN
from reftune.server.errors import NotFound

router = APIRouter()

FOLDER = Path(__file__).resolve().parent.parent / "page"
EXAMPLE = "example.jsonl"
# Not left to the operating system, whose table may call a script plain text.
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jsonl": "application/jsonl",
}
FILES = {path.name: path for path in FOLDER.iterdir() if path.suffix in TYPES}
FILES[EXAMPLE] = EMOJI_TRAIN
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for "
    "'script'; trusted-types 'none'"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-cache",  # after an update, old scripts must not meet a new page
}


@router.get("/")
def index() -> FileResponse:
    """Give the page."""
    return _file("index.html")


@router.get("/page/{name}")
def part(name: str) -> FileResponse:
    """Give a file that the page asks for."""
    if name not in FILES:
        raise NotFound(f"there is no GET /page/{name:.60}", code="unknown_url")
    return _file(name)


def _file(name: str) -> FileResponse:
    path = FILES[name]
    return FileResponse(path, headers=HEADERS, media_type=TYPES[path.suffix])
