"""Compare the training step of a recipe with the same network in PyTorch, on one batch.

    .venv/bin/python experiments/pytorch_speed.py --torch-python PYTHON

PyTorch is not a dependency of this project: PYTHON is the interpreter of an environment that has
it. The two sides alternate, each in a new process, so that neither warms the caches of the other
and a drift of the speed of the machine affects both equally. The script prints images per second
and the ratio of each pair.
"""

import argparse
import itertools
import json
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

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


def measure_keras(name: str, batch_size: int) -> float:
    """Measure the step of this project's trainer, without augmentation and Lookahead.

    Args:
        name: Name of the recipe.
        batch_size: Number of images in a batch.
    """
    from cifar_models.config.recipe_file import read_recipe
    from cifar_models.runtime.device import configure
    from cifar_models.runtime.quiet_tensorflow import import_tensorflow

    import_tensorflow()
    import numpy as np
    import tensorflow as tf

    from cifar_models.models.catalog import build_network
    from cifar_models.training.fit import make_trainer

    overrides = [
        "augmentation.crop_padding=0",
        "augmentation.horizontal_flip=false",
        "augmentation.alternating_flip=false",
        "training.lookahead_steps=0",
    ]
    recipe = read_recipe(name, overrides)
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


def measure_torch(name: str, batch_size: int) -> float:
    """Measure the same layers, loss, regularizer and optimizer in eager mode, channels last.

    Args:
        name: Name of the recipe.
        batch_size: Number of images in a batch.
    """
    import torch
    from torch import nn

    network, optimizer, smoothing = {"cnn": torch_cnn, "cnn-laptop": torch_cnn_laptop}[name]()
    loss_function = nn.CrossEntropyLoss(label_smoothing=smoothing)
    images = torch.randint(0, 256, (batch_size, 3, 32, 32), dtype=torch.uint8)
    images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(0, 10, (batch_size,))

    def step() -> None:
        optimizer.zero_grad()
        loss = loss_function(network(images.float() / 127.5 - 1), labels)
        loss.backward()
        optimizer.step()
        loss.item()

    return images_per_second(step, batch_size)


def torch_cnn():
    """Return the network, the optimizer and the label smoothing of cnn.toml."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, inputs: int, outputs: int, stride: int):
            super().__init__()
            self.body = nn.Sequential(
                *convolution(inputs, outputs, 3, stride),
                nn.ReLU(),
                *convolution(outputs, outputs, 3, 1),
            )
            self.shortcut = nn.Sequential()
            if stride > 1 or inputs != outputs:
                self.shortcut = nn.Sequential(*convolution(inputs, outputs, 1, stride))

        def forward(self, x):
            return torch.relu(self.body(x) + self.shortcut(x))

    def convolution(inputs: int, outputs: int, kernel: int, stride: int):
        padding = kernel // 2
        yield nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False)
        yield nn.BatchNorm2d(outputs)

    network = nn.Sequential(
        *convolution(3, 32, 5, 2),
        nn.ReLU(),
        Block(32, 32, 1),
        Block(32, 64, 2),
        Block(64, 128, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(128, 10),
    ).to(memory_format=torch.channels_last)
    assert sum(p.numel() for p in network.parameters()) == 310_186  # as in cnn.toml
    kernels = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim == 1]
    # Coupled weight decay d is the gradient of an L2 penalty with factor d / 2.
    groups = [{"params": kernels, "weight_decay": 5e-4}, {"params": rest}]
    return network, torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True), 0.1


def torch_cnn_laptop():
    """Return the network, the optimizer and the label smoothing of cnn-laptop.toml."""
    import torch
    from torch import nn

    widths = (24, 32, 128, 128)

    def stage(inputs: int, outputs: int):
        yield nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        yield nn.MaxPool2d(2)
        for number in range(2):
            if number:
                yield nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
            yield nn.BatchNorm2d(outputs)
            yield nn.GELU()

    network = nn.Sequential(
        nn.Conv2d(3, widths[0], 2),
        nn.GELU(),
        *(layer for pair in itertools.pairwise(widths) for layer in stage(*pair)),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(widths[-1], 10, bias=False),
    ).to(memory_format=torch.channels_last)
    network[0].weight.requires_grad = False  # the whitening layer
    for module in network:
        if isinstance(module, nn.BatchNorm2d):
            module.weight.requires_grad = False
    trained = [p for p in network.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == 497_240  # as in cnn-laptop.toml
    shifts = [p for p in trained if p.ndim == 1 and p is not network[0].bias]
    groups = [
        {"params": [network[-1].weight], "weight_decay": 0.0161},
        {"params": [network[0].bias]},
        {"params": shifts, "lr": 64 * 0.414},
    ]
    rest = torch.optim.SGD(groups, lr=0.414, momentum=0.85, nesterov=True)
    return network, TorchMuon([p for p in trained if p.ndim == 4], rest), 0.1


class TorchMuon:
    """Muon for kernels, which keep their norm, as in cifar_models/optimizers/muon.py.

    Args:
        kernels: Kernels, (F, C, P, Q).
        others: Optimizer of the other weights.
    """

    RATE, MOMENTUM, STEPS, FACTORS = 0.12, 0.6, 3, (3.4445, -4.7750, 2.0315)

    def __init__(self, kernels: list, others):
        import torch

        self._kernels, self._others = kernels, others
        self._momenta = [torch.zeros_like(kernel) for kernel in kernels]

    def zero_grad(self) -> None:
        for kernel in self._kernels:
            kernel.grad = None
        self._others.zero_grad()

    def step(self) -> None:
        import torch

        with torch.no_grad():
            for kernel, momentum in zip(self._kernels, self._momenta, strict=True):
                momentum.mul_(self.MOMENTUM).add_(kernel.grad)
                direction = kernel.grad + self.MOMENTUM * momentum
                matrix = self._orthogonal(direction.flatten(1)).view(kernel.shape)  # (F, C P Q)
                kernel.mul_(len(kernel) ** 0.5 / kernel.norm()).add_(matrix, alpha=-self.RATE)
        self._others.step()

    def _orthogonal(self, matrix):
        a, b, c = self.FACTORS
        matrix = matrix / matrix.norm()  # (F, N), F at most N in every layer
        for _ in range(self.STEPS):
            gram = matrix @ matrix.T
            matrix = a * matrix + (b * gram + c * gram @ gram) @ matrix
        return matrix


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--torch-python", default=sys.executable)
    parser.add_argument("--recipe", choices=["cnn", "cnn-laptop"], default="cnn")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--side", choices=["keras", "torch"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        measure = {"keras": measure_keras, "torch": measure_torch}[options.side]
        print(json.dumps(measure(options.recipe, options.batch_size)))
        return
    ratios = [measure_pair(options, number) for number in range(1, options.rounds + 1)]
    print(
        f"batch {options.batch_size}, {options.rounds} pairs: keras/torch median "
        f"{statistics.median(ratios):.2f}, from {min(ratios):.2f} to {max(ratios):.2f}"
    )


def measure_pair(options: argparse.Namespace, number: int) -> float:
    """Measure both sides, print their speeds, and return the ratio of Keras to PyTorch.

    Args:
        options: Command-line options.
        number: Number of the pair.
    """
    from cifar_models.errors import RequestError, RunError
    from cifar_models.runtime.subprocesses import run_python

    speeds = []
    for side, python in (("keras", sys.executable), ("torch", options.torch_python)):
        arguments = [__file__, "--side", side, "--recipe", options.recipe]
        arguments += ["--batch-size", str(options.batch_size)]
        try:
            output = run_python(arguments, failure=f"the {side} side failed", python=python)
        except (RequestError, RunError) as error:
            sys.exit(f"error: {error}")
        speeds.append(float(output.splitlines()[-1]))
    keras, torch = speeds
    print(f"{number}: keras {keras:.0f}, torch {torch:.0f}, ratio {keras / torch:.2f}")
    return keras / torch


if __name__ == "__main__":
    main()
