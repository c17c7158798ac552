"""The networks and optimizers of some recipes in PyTorch, for pytorch_speed.py."""

import itertools


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
        *convolution(3, 32, 3, 1),
        nn.MaxPool2d(2),
        nn.ReLU(),
        Block(32, 64, 1),
        Block(64, 128, 2),
        Block(128, 256, 2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(256, 10),
    ).to(memory_format=torch.channels_last)
    assert sum(p.numel() for p in network.parameters()) == 1_210_410  # as in cnn.toml
    rest = [p for p in network.parameters() if p.ndim != 4]
    adamw = torch.optim.AdamW(rest, lr=5e-3, betas=(0.9, 0.95))
    kernels = [p for p in network.parameters() if p.ndim == 4]
    return network, TorchMuon(kernels, adamw, steps=5, l2=5e-5), 0.1


def torch_cnn_laptop():
    """Return the network, the optimizer and the label smoothing of cnn-laptop.toml."""
    import torch
    from torch import nn

    widths = (24, 32, 192, 192)

    network = nn.Sequential(
        nn.Conv2d(3, widths[0], 2),
        nn.GELU(),
        *(layer for pair in itertools.pairwise(widths) for layer in convolutional_stage(*pair)),
        nn.AdaptiveMaxPool2d(1),
        nn.Flatten(),
        nn.Linear(widths[-1], 10, bias=False),
    ).to(memory_format=torch.channels_last)
    network[0].weight.requires_grad = False  # the whitening layer
    for module in network:
        if isinstance(module, nn.BatchNorm2d):
            module.weight.requires_grad = False
    trained = [p for p in network.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == 1_069_528  # as in cnn-laptop.toml
    shifts = [p for p in trained if p.ndim == 1 and p is not network[0].bias]
    groups = [
        {"params": [network[-1].weight], "weight_decay": 0.0161},
        {"params": [network[0].bias]},
        {"params": shifts, "lr": 64 * 0.414},
    ]
    rest = torch.optim.SGD(groups, lr=0.414, momentum=0.85, nesterov=True)
    return network, TorchMuon([p for p in trained if p.ndim == 4], rest), 0.1


def torch_resnet18():
    """Return the network, the optimizer and the label smoothing of resnet18.toml."""
    import torch
    from torch import nn
    from torchvision.models import resnet18

    network = resnet18(num_classes=10)
    network.conv1 = nn.Conv2d(3, 64, 3, padding=1, bias=False)
    network.maxpool = nn.Identity()
    network = network.to(memory_format=torch.channels_last)
    assert sum(p.numel() for p in network.parameters()) == 11_173_962  # as in resnet18.toml
    return network, regularized_sgd(network), 0.1


def regularized_sgd(network):
    """Return SGD with an L2 penalty of 2.5e-4 on the kernels of a network."""
    import torch

    kernels = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim == 1]
    # Coupled weight decay d is the gradient of an L2 penalty with factor d / 2.
    groups = [{"params": kernels, "weight_decay": 5e-4}, {"params": rest}]
    return torch.optim.SGD(groups, lr=0.1, momentum=0.9, nesterov=True)


def torch_vit_laptop():
    """Return timm's ViT of the size, the optimizer and the label smoothing of vit-laptop.toml."""
    from timm.models.vision_transformer import VisionTransformer

    network = VisionTransformer(
        img_size=32,
        patch_size=8,
        embed_dim=128,
        depth=6,
        num_heads=4,
        mlp_ratio=2,
        num_classes=10,
        class_token=False,
        global_pool="avg",
        fc_norm=False,
    )
    assert sum(p.numel() for p in network.parameters()) == 823_178  # as in vit-laptop.toml
    return network, muon_beside_adamw(network), 0.1


def torch_hybrid_laptop():
    """Return the network, the optimizer and the label smoothing of hybrid-laptop.toml."""
    import torch
    from timm.models.vision_transformer import Block
    from torch import nn

    widths = (24, 32, 128)

    class Hybrid(nn.Module):
        def __init__(self):
            super().__init__()
            self.whitening = nn.Conv2d(3, widths[0], 2)
            self.whitening.weight.requires_grad = False
            stages = (convolutional_stage(*pair) for pair in itertools.pairwise(widths))
            self.stages = nn.Sequential(*(layer for stage in stages for layer in stage))
            self.positions = nn.Parameter(torch.zeros(1, 49, 128))
            self.blocks = nn.Sequential(
                *(Block(128, 4, mlp_ratio=2, qkv_bias=True) for _ in range(3))
            )
            self.norm, self.classifier = nn.LayerNorm(128), nn.Linear(128, 10)

        def forward(self, x):
            x = self.stages(nn.functional.gelu(self.whitening(x)))
            x = x.flatten(2).transpose(1, 2) + self.positions
            return self.classifier(self.norm(self.blocks(x)).mean(1))

    network = Hybrid().to(memory_format=torch.channels_last)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.weight.requires_grad = False
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    assert trained == 606_050  # as in hybrid-laptop.toml
    return network, muon_beside_adamw(network), 0.1


def muon_beside_adamw(network):
    """Return Muon for the kernels of a network, as in torch.optim, and AdamW for the rest."""
    import torch

    named = [(name, p) for name, p in network.named_parameters() if p.requires_grad]
    names = ("blocks", "stages")
    kernels = [p for name, p in named if p.ndim > 1 and name.startswith(names)]
    rest = [p for name, p in named if not (p.ndim > 1 and name.startswith(names))]
    return TorchMuon(kernels, torch.optim.AdamW(rest, lr=1e-3, betas=(0.9, 0.98)), steps=5)


def convolutional_stage(inputs: int, outputs: int):
    """Yield the layers of a stage of airbench."""
    from torch import nn

    yield nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
    yield nn.MaxPool2d(2)
    for number in range(2):
        if number:
            yield nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        yield nn.BatchNorm2d(outputs)
        yield nn.GELU()


class TorchMuon:
    """Muon for kernels, which keep their norm, as in cifar_models/optimizers/muon.py.

    Args:
        kernels: Kernels, (F, C, P, Q).
        others: Optimizer of the other weights.
        steps: Number of Newton-Schulz steps.
        l2: Factor of the L2 penalty on the kernels.
    """

    RATE, MOMENTUM, FACTORS = 0.12, 0.6, (3.4445, -4.7750, 2.0315)

    def __init__(self, kernels: list, others, steps: int = 3, l2: float = 0.0):
        import torch

        self._steps, self._l2 = steps, l2
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
                gradient = kernel.grad
                if self._l2:
                    gradient = gradient + 2 * self._l2 * kernel
                momentum.mul_(self.MOMENTUM).add_(gradient)
                direction = gradient + self.MOMENTUM * momentum
                matrix = self._orthogonal(direction.flatten(1)).view(kernel.shape)  # (F, C P Q)
                kernel.mul_(len(kernel) ** 0.5 / kernel.norm()).add_(matrix, alpha=-self.RATE)
        self._others.step()

    def _orthogonal(self, matrix):
        a, b, c = self.FACTORS
        matrix = matrix / matrix.norm()  # (F, N)
        is_tall = matrix.shape[0] > matrix.shape[1]
        matrix = matrix.T if is_tall else matrix
        for _ in range(self._steps):
            gram = matrix @ matrix.T
            matrix = a * matrix + (b * gram + c * gram @ gram) @ matrix
        return matrix.T if is_tall else matrix


# Recipe → function that returns the network, the optimizer and the label smoothing.
NETWORKS = {
    "cnn": torch_cnn,
    "cnn-laptop": torch_cnn_laptop,
    "resnet18": torch_resnet18,
    "vit-laptop": torch_vit_laptop,
    "hybrid-laptop": torch_hybrid_laptop,
}
