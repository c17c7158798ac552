"""The training step of a recipe against the same network in PyTorch, in turn, on one batch.

    .venv/bin/python experiments/pytorch_speed.py --torch-python /path/to/python/with/torch

PyTorch is no dependency of this project: give the interpreter of an environment that has it.
Each side runs in a process of its own, one after the other, so that neither warms the other's
caches and a machine whose speed drifts treats both alike. Printed are images per second and the
ratio pair by pair.
"""

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

SECONDS = 10.0
WARM_UP_STEPS = 5


def images_per_second(step, batch_size: int) -> float:
    """Times a step for some seconds; the median of the single steps counts."""
    for _ in range(WARM_UP_STEPS):
        step()
    seconds = []
    while sum(seconds) < SECONDS:
        began = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - began)
    return batch_size / statistics.median(seconds)


def measure_keras(name: str, batch_size: int) -> float:
    """One step of the project's own trainer, without augmentation and Lookahead."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from cifar_models.config.recipe_file import read_recipe
    from cifar_models.runtime.device import configure
    from cifar_models.runtime.quiet_tensorflow import import_tensorflow

    import_tensorflow()
    import numpy as np
    import tensorflow as tf

    from cifar_models.models.catalog import build_network
    from cifar_models.training.fit import make_trainer

    off = ["augmentation.crop_padding=0", "training.lookahead_steps=0"]
    off += [f"augmentation.{flip}_flip=false" for flip in ("horizontal", "alternating")]
    recipe = read_recipe(name, off)
    runtime = configure(recipe.runtime)
    network = build_network(recipe.model, (32, 32, 3), 10)
    trainer = make_trainer(network, recipe, runtime, steps_per_epoch=10**6)
    rng = np.random.default_rng(0)
    images = tf.constant(rng.integers(0, 256, (batch_size, 32, 32, 3), np.uint8))
    labels = tf.constant(rng.integers(0, 10, batch_size))
    mirrored = tf.zeros(batch_size, tf.bool)
    batches = iter(tf.data.Dataset.from_tensors((images, labels, mirrored)).repeat())
    train = trainer.make_train_function() or trainer.train_function
    return images_per_second(lambda: train(batches)["loss"].numpy(), batch_size)


def measure_torch(name: str, batch_size: int) -> float:
    """The same layers, loss, regulariser and optimizer, channels last, eager."""
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
    """cnn.toml's network, its optimizer and its label smoothing."""
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
    assert sum(p.numel() for p in network.parameters()) == 310_186  # as cnn.toml's
    kernels = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim == 1]
    # Coupled decay d is the gradient of L2 with factor d / 2.
    groups = [{"params": kernels, "weight_decay": 5e-4}, {"params": rest}]
    return network, torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True), 0.1


def torch_cnn_laptop():
    """cnn-laptop.toml's network, its optimizer and its label smoothing."""
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
    network[0].weight.requires_grad = False  # the whitening
    for module in network:
        if isinstance(module, nn.BatchNorm2d):
            module.weight.requires_grad = False
    trained = [p for p in network.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == 497_240  # as cnn-laptop.toml's
    shifts = [p for p in trained if p.ndim == 1 and p is not network[0].bias]
    groups = [
        {"params": [network[-1].weight], "weight_decay": 0.0161},
        {"params": [network[0].bias]},
        {"params": shifts, "lr": 64 * 0.414},
    ]
    rest = torch.optim.SGD(groups, lr=0.414, momentum=0.85, nesterov=True)
    return network, TorchMuon([p for p in trained if p.ndim == 4], rest), 0.1


class TorchMuon:
    """training/muon.py's MuonBesideSGD: kernels that keep their norm, and an optimizer beside."""

    RATE, MOMENTUM, STEPS, FACTORS = 0.12, 0.6, 3, (3.4445, -4.7750, 2.0315)

    def __init__(self, kernels: list, beside):
        import torch

        self._kernels, self._beside = kernels, beside
        self._momenta = [torch.zeros_like(kernel) for kernel in kernels]

    def zero_grad(self) -> None:
        for kernel in self._kernels:
            kernel.grad = None
        self._beside.zero_grad()

    def step(self) -> None:
        import torch

        with torch.no_grad():
            for kernel, momentum in zip(self._kernels, self._momenta, strict=True):
                momentum.mul_(self.MOMENTUM).add_(kernel.grad)
                direction = kernel.grad + self.MOMENTUM * momentum
                matrix = self._orthogonal(direction.flatten(1)).view(kernel.shape)  # (F, C P Q)
                kernel.mul_(len(kernel) ** 0.5 / kernel.norm()).add_(matrix, alpha=-self.RATE)
        self._beside.step()

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
    pairs = []
    for number in range(options.rounds):
        pair = {}
        for side, python in (("keras", sys.executable), ("torch", options.torch_python)):
            command = [python, __file__, "--side", side, "--recipe", options.recipe]
            command += ["--batch-size", str(options.batch_size)]
            result = subprocess.run(command, capture_output=True, text=True)
            if result.returncode:
                sys.exit(f"error: the {side} side failed: {result.stderr.strip()[-500:]}")
            pair[side] = float(result.stdout.splitlines()[-1])
        pairs.append(pair)
        ratio = pair["keras"] / pair["torch"]
        print(
            f"{number + 1}: keras {pair['keras']:.0f}, torch {pair['torch']:.0f}, ratio {ratio:.2f}"
        )
    ratios = sorted(pair["keras"] / pair["torch"] for pair in pairs)
    print(
        f"batch {options.batch_size}, {options.rounds} pairs: keras/torch median "
        f"{statistics.median(ratios):.2f}, from {ratios[0]:.2f} to {ratios[-1]:.2f}"
    )


if __name__ == "__main__":
    main()
