"""The web application: a page for people, two interfaces for programs, and metrics."""

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from cifar_models.runtime.text import printable
from cifar_models.server import rest
from cifar_models.server.batching import Overloaded
from cifar_models.server.limits import HEADERS, Limits
from cifar_models.server.metrics import Measured, Metrics
from cifar_models.server.served_model import ServedModel, as_data_url

STATIC = Path(__file__).parent / "static"
MAX_FILES = 64  # of one request of the page
SHOWN_CLASSES = 5


class Endpoints:
    """The answers of the server.

    Args:
        models: Name → loaded model.
    """

    def __init__(self, models: dict[str, ServedModel]):
        self._models = models
        self.metrics = Metrics()

    async def page(self, request: Request) -> Response:
        return FileResponse(STATIC / "index.html")

    async def list_models(self, request: Request) -> Response:
        return JSONResponse(
            [
                {
                    "name": model.name,
                    "classes": model.class_names,
                    "image_shape": list(model.classifier.image_shape),
                    "resize": model.classifier.resize,
                    "has_maps": model.draw_map is not None,
                }
                for model in self._models.values()
            ]
        )

    async def predict(self, request: Request) -> Response:
        """Answer the page: POST files as multipart/form-data to ?model=NAME&maps=1."""
        model = self._model(request.query_params.get("model", ""))
        with_maps = request.query_params.get("maps") == "1"
        try:
            async with request.form(max_files=MAX_FILES, max_fields=0) as form:
                files = [
                    (printable(upload.filename or ""), await upload.read())
                    for _, upload in form.multi_items()
                    if not isinstance(upload, str)
                ]
        except UnicodeError:
            raise HTTPException(400, "a name in the request has an unknown encoding") from None
        if not files:
            raise HTTPException(400, "the request has no files")
        answers = await model.answer([content for _, content in files], with_maps)
        self.metrics.images.labels(model.name).inc(sum(not each.problem for each in answers))
        return JSONResponse(
            [
                {
                    "file": name,
                    "problem": answer.problem,
                    "classes": _top(answer.probabilities, model.class_names),
                    "map": as_data_url(answer.map_png) if answer.map_png else None,
                }
                for (name, _), answer in zip(files, answers, strict=True)
            ]
        )

    async def status(self, request: Request) -> Response:
        self._model(request.path_params["name"])
        return rest.status()

    async def serving_predict(self, request: Request) -> Response:
        model = self._model(request.path_params["name"])
        content, count = await rest.predict(model, await request.body())
        self.metrics.images.labels(model.name).inc(count)
        return JSONResponse(content)

    def _model(self, name: str) -> ServedModel:
        name = name.removesuffix("/versions/1")
        if name not in self._models:
            known = ", ".join(self._models)
            raise HTTPException(404, f"no model {printable(name)!r}; there are: {known}")
        return self._models[name]

    async def failed(self, request: Request, error: Exception) -> Response:
        """Answer a request that failed, in the form of TensorFlow Serving."""
        if isinstance(error, Overloaded):
            return JSONResponse({"error": str(error)}, 503, headers={"Retry-After": "1"})
        if isinstance(error, rest.BadRequest):
            return JSONResponse({"error": str(error)}, 400)
        if isinstance(error, HTTPException):
            headers = dict(error.headers or {})
            return JSONResponse({"error": error.detail}, error.status_code, headers=headers)
        if isinstance(error, ClientDisconnect):
            return JSONResponse({"error": "the client is gone"}, 400)
        # It is sent outside the middleware that adds the headers.
        text = f"{type(error).__name__} in the server"
        return JSONResponse({"error": text}, 500, headers=HEADERS)


def _top(probabilities: np.ndarray | None, names: list[str]) -> list[dict]:
    """Return the most probable classes, the highest first."""
    if probabilities is None:
        return []
    order = np.argsort(-probabilities, kind="stable")[:SHOWN_CLASSES]
    return [{"class": names[index], "probability": float(probabilities[index])} for index in order]


def create_app(models: dict[str, ServedModel]) -> Starlette:
    """Return the application.

    Args:
        models: Name → loaded model.
    """
    endpoints = Endpoints(models)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        try:
            yield
        finally:
            for model in models.values():
                model.close()

    return Starlette(
        routes=[
            Route("/", endpoints.page),
            Mount("/static", StaticFiles(directory=STATIC)),
            Route("/api/models", endpoints.list_models),
            Route("/api/predict", endpoints.predict, methods=["POST"]),
            Route("/v1/models/{name:path}:predict", endpoints.serving_predict, methods=["POST"]),
            Route("/v1/models/{name}", endpoints.status),
            Route("/v1/models/{name}/versions/1", endpoints.status),
            Route("/metrics", endpoints.metrics.answer),
        ],
        middleware=[Middleware(Measured, endpoints.metrics), Middleware(Limits)],
        exception_handlers={
            kind: endpoints.failed
            for kind in (HTTPException, Overloaded, rest.BadRequest, ClientDisconnect, Exception)
        },
        lifespan=lifespan,
    )
