"""What the HTML pages share: their style, their escaping and their images."""

import base64
import io

import numpy as np
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, Template
from PIL import Image

from cifar_models.runtime.text import printable


def page_template(package: str, name: str) -> Template:
    """Return a template of a package, which can include style.css of this one.

    Args:
        package: Name of a package with a folder `templates`.
        name: Name of the template.
    """
    environment = Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("cifar_models.evaluation")]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: printable(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name)


def page_bytes(text: str) -> bytes:
    """Encode a page, with escapes for the bytes of a file name that is not UTF-8."""
    return text.encode(errors="backslashreplace")


def png_base64(image: np.ndarray) -> str:
    """Return an image, uint8 (H, W, C), as PNG in base64."""
    content = io.BytesIO()
    Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image).save(content, "PNG")
    return base64.b64encode(content.getvalue()).decode()
