"""Write a folder of photographs with three classes, to try out image folders without a download.

    python experiments/make_photographs.py FOLDER

The pictures are cut at random places and sizes out of three photographs that come with scikit-learn
and matplotlib, mirrored at random and made darker or brighter. All pictures of a class show parts
of one photograph, so the task is easier than one with different photographs.
"""

import argparse
from pathlib import Path

import matplotlib.cbook
import numpy as np
from PIL import Image, ImageEnhance, ImageOps
from sklearn.datasets import load_sample_image

PICTURES = 60  # of each class
SIDES = (120, 400)  # smallest and largest side of a picture, pixels


def photographs() -> dict[str, Image.Image]:
    """Return the name of a class → its photograph."""
    with matplotlib.cbook.get_sample_data("grace_hopper.jpg") as file:
        portrait = Image.open(file).convert("RGB")
    return {
        "flower": Image.fromarray(load_sample_image("flower.jpg")),
        "portrait": portrait,
        "temple": Image.fromarray(load_sample_image("china.jpg")),
    }


def picture(photograph: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Return a random part of a photograph."""
    width, height = rng.integers(*SIDES, 2)
    left = rng.integers(photograph.width - width)
    top = rng.integers(photograph.height - height)
    part = photograph.crop((left, top, left + width, top + height))
    if rng.random() < 0.5:
        part = ImageOps.mirror(part)
    return ImageEnhance.Brightness(part).enhance(rng.uniform(0.7, 1.3))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    rng = np.random.default_rng(0)
    for name, photograph in photographs().items():
        (folder / name).mkdir(parents=True)
        for number in range(1, PICTURES + 1):
            picture(photograph, rng).save(folder / name / f"{number:02}.jpg", quality=90)


if __name__ == "__main__":
    main()
