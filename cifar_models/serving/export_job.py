"""What the function of an export format is given, and what an export results in."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras
    import numpy as np

    from cifar_models.run.load import FinishedRun


@dataclass(frozen=True)
class ExportJob:
    """An export to be written.

    Attributes:
        run: The finished run.
        network: Its network, which computes in float32 on the CPU, with the temperature of the
            export: uint8 images (B, H, W, C) → logits (B, K).
        out: Path of the new folder of the export.
        precision: A precision of the format.
        calibration: Training images by which int8 ranges are chosen, uint8 (N, H, W, C). None: the
            precision needs none.
        temperature: By which the logits of the network are divided.
    """

    run: "FinishedRun"
    network: "keras.Model"
    out: Path
    precision: str
    calibration: "np.ndarray | None"
    temperature: float = 1.0


@dataclass(frozen=True)
class ExportReport:
    """The result of an export.

    Attributes:
        path: Path of the exported model.
        format: Name of the format.
        precision: Precision of the weights.
        temperature: By which the logits are divided.
        largest_difference: Largest difference of any probability from the network of the run.
        agreement: Fraction of the compared images that get the same class from both.
        images: Number of compared images.
        source: What they are, such as "digits test" or "noise".
    """

    path: Path
    format: str
    precision: str
    temperature: float
    largest_difference: float
    agreement: float
    images: int
    source: str
