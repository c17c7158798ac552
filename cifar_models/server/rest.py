"""TensorFlow Serving's REST interface: model status, and predictions in row and column format.

Source: https://www.tensorflow.org/tfx/serving/api_rest
"""

import base64
import itertools
import json
import math
from typing import Any

import numpy as np
from starlette.responses import JSONResponse

from cifar_models.server.served_model import ServedModel, UnreadableImage

PIXELS, FILES = "serving_default", "image_files"  # signatures
INPUT_OF = {PIXELS: "images", FILES: "image_bytes"}  # signature → its input
MAX_IMAGES = 256  # of one request
MAX_COMMAS = 4 * MAX_IMAGES  # of a request with files
BYTES_OF_NUMBER = 8  # of JSON: a pixel with its comma, brackets and spaces


class BadRequest(Exception):
    """A request that cannot be answered, with the reason."""


def status() -> JSONResponse:
    """Return the answer to GET /v1/models/NAME."""
    version = {
        "version": "1",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    return JSONResponse({"model_version_status": [version]})


async def predict(model: ServedModel, body: bytes) -> tuple[dict[str, Any], int]:
    """Return the answer to POST /v1/models/NAME:predict, and the number of images.

    Args:
        model: The model.
        body: Body of the request.

    Raises:
        BadRequest: The body is not as the interface says, or an image cannot be read.
        Overloaded: Too many images are waiting.
    """
    pixel_bytes = MAX_IMAGES * math.prod(model.classifier.image_shape) * BYTES_OF_NUMBER
    has_files = FILES.encode() in body  # whose text has no commas
    if body.count(b",") > MAX_COMMAS if has_files else len(body) > pixel_bytes + 10_000:
        raise BadRequest(
            f"the body is too long for {MAX_IMAGES} images; send fewer, or write no spaces"
        )
    signature, is_row, inputs = await model.in_thread(lambda: _inputs(_parsed(body)))
    if signature == PIXELS:
        images = await model.in_thread(lambda: _pixels(model, inputs))
    else:
        images = await _decoded(model, inputs)
    rows = await model.predicting.results_of(images)
    names = model.class_names
    outputs = [
        {"probabilities": row.astype(float).tolist(), "label": names[int(row.argmax())]}
        for row in rows
    ]
    if is_row:
        return {"predictions": outputs}, len(rows)
    columns = {key: [each[key] for each in outputs] for key in ("probabilities", "label")}
    return {"outputs": columns}, len(rows)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is no JSON: {error}") from None
    if not isinstance(content, dict):
        raise BadRequest("the body must be a JSON object")
    return content


def _inputs(content: dict[str, Any]) -> tuple[str, bool, list[Any]]:
    """Return the signature, whether the format is that of rows, and the inputs as a list."""
    if ("instances" in content) == ("inputs" in content):
        raise BadRequest("the body must have either instances or inputs")
    is_row = "instances" in content
    given = content["instances" if is_row else "inputs"]
    signature = content.get("signature_name", PIXELS)
    if signature in ("", None):
        signature = PIXELS
    if not isinstance(signature, str) or signature not in INPUT_OF:
        raise BadRequest(f"signature_name must be {PIXELS} or {FILES}")
    name = INPUT_OF[signature]
    if is_row:
        if not isinstance(given, list):
            raise BadRequest("instances must be a list")
        rows = [each[name] if _is_named(each, name) else each for each in given]
    else:
        rows = given[name] if _is_named(given, name) else given
        if not isinstance(rows, list):
            raise BadRequest(f"inputs must be a list, or an object with a list {name}")
    if not 1 <= len(rows) <= MAX_IMAGES:
        raise BadRequest(f"a request must have 1 to {MAX_IMAGES} images")
    return signature, is_row, rows


def _is_named(value: Any, name: str) -> bool:
    return isinstance(value, dict) and set(value) == {name}


def _pixels(model: ServedModel, rows: list[Any]) -> list[np.ndarray]:
    """Return images of lists, which are checked before NumPy takes memory for them."""
    shape = model.classifier.image_shape
    values = rows
    for size in shape:
        if not all(type(each) is list and len(each) == size for each in values):
            raise BadRequest(f"an image must be a list of whole numbers of shape {list(shape)}")
        values = list(itertools.chain.from_iterable(values))
    if set(map(type, values)) != {int} or min(values) < 0 or max(values) > 255:
        raise BadRequest("the values of an image must be whole numbers from 0 to 255")
    return list(np.array(values, np.uint8).reshape(-1, *shape))


async def _decoded(model: ServedModel, rows: list[Any]) -> list[np.ndarray]:
    contents = await model.in_thread(lambda: _contents(rows))
    images = []
    for number, image in enumerate(await model.reading.results_of(contents)):
        if isinstance(image, UnreadableImage):
            raise BadRequest(f"image {number}: {image.problem}")
        images.append(image)
    return images


def _contents(rows: list[Any]) -> list[bytes]:
    """Return the contents of files in base64."""
    contents = []
    for number, row in enumerate(rows):
        if not (_is_named(row, "b64") and isinstance(row["b64"], str)):
            raise BadRequest(f'image {number}: must be {{"b64": "…"}}')
        try:
            contents.append(base64.b64decode(row["b64"], validate=True))
        except ValueError:
            raise BadRequest(f"image {number}: b64 is no base64") from None
    return contents
