"""The formats in which a finished run can be exported."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING

from cifar_models.errors import RequestError
from cifar_models.serving.export_job import ExportJob

if TYPE_CHECKING:
    import numpy as np

FLOAT32, BFLOAT16, FLOAT16, INT8 = PRECISIONS = "float32", "bfloat16", "float16", "int8"


@dataclass(frozen=True)
class ExportFormat:
    """An export format.

    Attributes:
        module: Name of a module, which is imported when it is used. It has `write_model`, a
            function of an ExportJob; `load_model`, a function of the folder of an export that
            returns a function from images, uint8 (B, H, W, C), to probabilities, float32 (B, K);
            and READ_SCRIPT, a program that knows only the runtime of the format. Its arguments are
            the folder, a .npy file of images and an .npz file, to which it writes "probabilities".
        description: One phrase for `export --help`.
        precisions: Those in which it can be written.
        packages: Packages that predicting needs beside those of this project.
        export_packages: Packages that exporting needs too.
        extra: Extra of this project that installs them.
    """

    module: str
    description: str
    precisions: tuple[str, ...] = (FLOAT32,)
    packages: tuple[str, ...] = ()
    export_packages: tuple[str, ...] = ()
    extra: str = ""

    @property
    def write_model(self) -> Callable[[ExportJob], None]:
        return resolve_name(f"{self.module}:write_model")

    @property
    def load_model(self) -> "Callable[[Path], Callable[[np.ndarray], np.ndarray]]":
        return resolve_name(f"{self.module}:load_model")

    @property
    def read_script(self) -> str:
        return resolve_name(f"{self.module}:READ_SCRIPT")


# Name → format. The first one is the default.
EXPORT_FORMATS: dict[str, ExportFormat] = {
    "saved_model": ExportFormat(
        "cifar_models.serving.saved_model",
        "TensorFlow SavedModel, from images or JPEG and PNG files to probabilities and a label",
        precisions=(FLOAT32, BFLOAT16),
    ),
    "onnx": ExportFormat(
        "cifar_models.serving.onnx_file",
        "ONNX file, from images to probabilities",
        precisions=(FLOAT32, FLOAT16, INT8),
        packages=("onnxruntime",),
        export_packages=("tf2onnx",),
        extra="onnx",
    ),
    "litert": ExportFormat(
        "cifar_models.serving.litert_file",
        "LiteRT (TensorFlow Lite) file, from images to probabilities",
        precisions=(FLOAT32, FLOAT16, INT8),
        packages=("ai_edge_litert",),
        extra="litert",
    ),
    "openvino": ExportFormat(
        "cifar_models.serving.openvino_file",
        "OpenVINO files, from images to probabilities, for processors of Intel and AMD",
        # Of onnxruntime's int8 transformers, it makes networks that classify at random.
        precisions=(FLOAT32, BFLOAT16, FLOAT16),
        packages=("openvino",),
        export_packages=("tf2onnx", "onnxruntime"),
        extra="openvino",
    ),
}


def find_format(name: str, precision: str | None = None) -> ExportFormat:
    """Return a format that can be used here.

    Args:
        name: Name of the format.
        precision: Precision in which a model is to be written. None: a model is to be read.

    Raises:
        RequestError: There is no such format, it has no such precision, or a package is missing.
    """
    if name not in EXPORT_FORMATS:
        raise RequestError(f"format {name!r}: must be one of {', '.join(EXPORT_FORMATS)}")
    found = EXPORT_FORMATS[name]
    if precision and precision not in found.precisions:
        raise RequestError(
            f"--precision {precision}: {name} can be {', '.join(found.precisions)}; choose another"
        )
    needed = (*found.packages, *(found.export_packages if precision else ()))
    if missing := [package for package in needed if not find_spec(package)]:
        raise RequestError(
            f"{name}: needs {', '.join(missing)}; install it: "
            f"pip install '.[{found.extra}]' in the folder of the project"
        )
    return found
