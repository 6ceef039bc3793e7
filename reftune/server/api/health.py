"""`/healthz`, for whoever starts and stops the server, and `/metrics`, for Prometheus."""

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import JSONResponse, Response

from reftune.server.api.authentication import Administering
from reftune.server.api.context import Parts

router = APIRouter()


@router.get("/healthz")
async def health(context: Parts) -> Response:
    """Say whether requests are taken."""
    status = "ok" if context.engine.alive else "failed"
    status = "stopping" if context.lifecycle.draining else status
    body = {"status": status, "model": context.registry.base_name}
    return JSONResponse(body, status_code=200 if status == "ok" else 503)


@router.get("/metrics")
def metrics(context: Parts, who: Administering) -> Response:
    """Give all figures."""
    return Response(generate_latest(context.metrics.registry), media_type=CONTENT_TYPE_LATEST)
