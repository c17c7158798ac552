"""Compare the training step of a recipe with the same network in PyTorch, on one batch.

    .venv/bin/python experiments/pytorch_speed.py --torch-python PYTHON --recipe vit-laptop

PyTorch is not a dependency of this project: PYTHON is the interpreter of an environment that has
torch and timm. The sides alternate, each in a new process, so that none warms the caches of
another and a drift of the speed of the machine affects all equally. The script prints images per
second of this project, of PyTorch in eager mode and of torch.compile, and the ratios of each round.
All sides compute in the same precision.
"""

import argparse
import functools
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

RECIPES = ("cnn", "cnn-laptop", "resnet18", "vit-laptop", "hybrid-laptop")
PRECISIONS = ("float32", "mixed_bfloat16")
SECONDS = 10.0  # of timed steps
WARM_UP_STEPS = 5


def images_per_second(step, batch_size: int) -> float:
    """Return the speed of a step, from the median duration of the calls in SECONDS.

    Args:
        step: Function that takes one training step.
        batch_size: Number of images in a batch.
    """
    for _ in range(WARM_UP_STEPS):
        step()
    seconds = []
    while sum(seconds) < SECONDS:
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return batch_size / statistics.median(seconds)


def measure_keras(name: str, batch_size: int, precision: str) -> float:
    """Measure the step of this project's trainer, without augmentation and Lookahead.

    Args:
        name: Name of the recipe.
        batch_size: Number of images in a batch.
        precision: Keras dtype policy.
    """
    from cifar_models.config.recipe_file import read_recipe
    from cifar_models.runtime.device import configure
    from cifar_models.runtime.onednn import choose_onednn
    from cifar_models.runtime.quiet_tensorflow import import_tensorflow

    overrides = [
        "augmentation.crop_padding=0",
        "augmentation.horizontal_flip=false",
        "augmentation.alternating_flip=false",
        "training.lookahead_steps=0",
        f"runtime.precision={precision}",
    ]
    recipe = read_recipe(name, overrides)
    choose_onednn(recipe.runtime.onednn)
    import_tensorflow()
    import numpy as np
    import tensorflow as tf

    from cifar_models.models.catalog import build_network
    from cifar_models.training.fit import make_trainer

    runtime = configure(recipe.runtime)
    network = build_network(recipe.model, (32, 32, 3), 10)
    trainer = make_trainer(network, recipe, runtime, steps_per_epoch=10**6)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, (batch_size, 32, 32, 3), np.uint8))
    labels = tf.constant(rng.integers(0, 10, batch_size))
    flip_mask = tf.zeros(batch_size, tf.bool)
    batches = iter(tf.data.Dataset.from_tensors((images, labels, flip_mask)).repeat())
    train = trainer.make_train_function() or trainer.train_function
    return images_per_second(lambda: train(batches)["loss"].numpy(), batch_size)


def measure_torch(name: str, batch_size: int, precision: str, compiled: bool = False) -> float:
    """Measure the same layers, loss, regularizer and optimizer, channels last.

    Args:
        name: Name of the recipe.
        batch_size: Number of images in a batch.
        precision: "float32" or "mixed_bfloat16", which is torch.autocast here.
        compiled: Whether torch.compile compiles network and loss.
    """
    import torch
    from torch import nn

    from experiments.pytorch_networks import NETWORKS

    network, optimizer, smoothing = NETWORKS[name]()
    loss_function = nn.CrossEntropyLoss(label_smoothing=smoothing)
    images = torch.randint(0, 256, (batch_size, 3, 32, 32), dtype=torch.uint8)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch_size,))

    is_mixed = precision == "mixed_bfloat16"

    def loss_of(images, labels):
        with torch.autocast("cpu", torch.bfloat16, enabled=is_mixed):
            return loss_function(network(images.float() / 127.5 - 1), labels)

    if compiled:
        loss_of = torch.compile(loss_of)

    def step() -> None:
        optimizer.zero_grad()
        loss = loss_of(images, labels)
        loss.backward()
        optimizer.step()
        loss.item()

    return images_per_second(step, batch_size)


SIDES = {
    "keras": measure_keras,
    "eager": measure_torch,
    "compiled": functools.partial(measure_torch, compiled=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--recipe", choices=RECIPES, default="cnn")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--precision", choices=PRECISIONS, default="float32")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        measure = SIDES[options.side]
        print(json.dumps(measure(options.recipe, options.batch_size, options.precision)))
        return
    rounds = [measure_round(options, number) for number in range(1, options.rounds + 1)]
    print(
        f"{options.recipe}, batch {options.batch_size}, {options.precision}, "
        f"{options.rounds} rounds:"
    )
    for side in ("eager", "compiled"):
        ratios = [speeds["keras"] / speeds[side] for speeds in rounds]
        print(
            f"keras/{side} median {statistics.median(ratios):.2f}, "
            f"from {min(ratios):.2f} to {max(ratios):.2f}"
        )


def measure_round(options: argparse.Namespace, number: int) -> dict[str, float]:
    """Measure every side, print the speeds, and return them in images per second.

    Args:
        options: Command-line options.
        number: Number of the round.
    """
    from cifar_models.errors import RequestError, RunError
    from cifar_models.runtime.subprocesses import run_python

    speeds = {}
    for side in SIDES:
        python = sys.executable if side == "keras" else options.torch_python
        arguments = [__file__, "--side", side, "--recipe", options.recipe]
        arguments += ["--batch-size", str(options.batch_size), "--precision", options.precision]
        try:
            output = run_python(arguments, failure=f"the {side} side failed", python=python)
        except (RequestError, RunError) as error:
            sys.exit(f"error: {error}")
        speeds[side] = float(output.splitlines()[-1])
    print(f"{number}: " + ", ".join(f"{side} {speed:.0f}" for side, speed in speeds.items()))
    return speeds


if __name__ == "__main__":
    main()
