"""Write the logits of torch for weights of our residual networks: NAME WEIGHTS → logits.npy."""

import re
import sys

import numpy as np
import torch
import torchvision
from torch.nn import functional

NAMES = {"kernel": "weight", "gamma": "weight", "beta": "bias", "bias": "bias"}
NAMES |= {"moving_mean": "running_mean", "moving_variance": "running_var"}


def tensor(array: np.ndarray) -> torch.Tensor:
    """Return a kernel (P, Q, C, F) as (F, C, P, Q), a matrix transposed, or a vector."""
    axes = {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[array.ndim]
    return torch.tensor(np.ascontiguousarray(array.transpose(axes)))


def torchvision_name(layer: str) -> str:
    """Return the name of a layer of torchvision's ResNet-18."""
    if layer in ("stem", "stem_norm", "classifier"):
        return {"stem": "conv1", "stem_norm": "bn1", "classifier": "fc"}[layer]
    stage, block, rest = re.fullmatch(r"stage(\d)_block(\d)_(.*)", layer).groups()
    parts = {"conv1_norm": "bn1", "conv2_norm": "bn2"}
    parts |= {"shortcut": "downsample.0", "shortcut_norm": "downsample.1"}
    return f"layer{stage}.{int(block) - 1}.{parts.get(rest, rest)}"


def resnet18_logits(weights: dict[str, np.ndarray], images: torch.Tensor) -> torch.Tensor:
    """Return the logits of torchvision's ResNet-18 with the stem of kuangliu/pytorch-cifar."""
    network = torchvision.models.resnet18(num_classes=10)
    network.conv1 = torch.nn.Conv2d(3, 64, 3, 1, 1, bias=False)
    network.maxpool = torch.nn.Identity()
    state = network.state_dict()
    for key, array in weights.items():
        layer, name = key.split("/")
        state[f"{torchvision_name(layer)}.{NAMES[name]}"] = tensor(array)
    network.load_state_dict(state)
    return network.eval()(images)


def wide_resnet_logits(weights: dict[str, np.ndarray], images: torch.Tensor) -> torch.Tensor:
    """Return the logits of a WRN (arXiv:1605.07146) in the operations of torch."""
    w = {key: tensor(array) for key, array in weights.items()}

    def convolve(x, layer, stride=1):
        kernel = w[f"{layer}/kernel"]
        return functional.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)

    def activate(x, layer):
        names = ("moving_mean", "moving_variance", "gamma", "beta")
        return functional.relu(
            functional.batch_norm(x, *(w[f"{layer}_norm/{name}"] for name in names), eps=1e-5)
        )

    x = convolve(images, "stem")
    for stage in (1, 2, 3):
        for block in (1, 2, 3, 4):
            name, stride = f"stage{stage}_block{block}", 2 if stage > 1 and block == 1 else 1
            before = activate(x, name)
            y = convolve(
                activate(convolve(before, f"{name}_conv1", stride), f"{name}_conv1"),
                f"{name}_conv2",
            )
            x = y + (convolve(before, f"{name}_shortcut", stride) if block == 1 else x)
    x = activate(x, "last").mean(dim=(2, 3))
    return functional.linear(x, w["classifier/kernel"], w["classifier/bias"])


if __name__ == "__main__":
    name, path = sys.argv[1:]
    with np.load(path) as file:
        weights = dict(file)
    images = torch.tensor(weights.pop("images").transpose(0, 3, 1, 2))
    logits = {"resnet18": resnet18_logits, "wide_resnet28_10": wide_resnet_logits}[name]
    with torch.no_grad():
        np.save("logits.npy", logits(weights, images).numpy())
