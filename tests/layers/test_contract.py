"""The contract of layers; a new layer is tested by adding one line to CASES."""

import importlib
import inspect
import pkgutil

import keras
import pytest

import cifar_models.layers
import cifar_models.models
from cifar_models.layers.convolution import MirroredGradientConv2D
from cifar_models.layers.encoder_block import CCTEncoderBlock, TransformerEncoderBlock
from cifar_models.layers.feature_projection import FeatureProjection
from cifar_models.layers.gelu import GELU
from cifar_models.layers.normalization import FusedBatchNormalization
from cifar_models.layers.patches import PatchExtraction
from cifar_models.layers.serialization import PACKAGE
from cifar_models.layers.stochastic_depth import StochasticDepth
from cifar_models.layers.tokens import ClassToken, PositionEmbedding, SequencePooling
from cifar_models.layers.whitening import WhiteningConvolution
from cifar_models.models.test_time_augmentation import AugmentedViews, MeanOfViews
from tests.layers.contract import check_layer

CONVOLUTION = {"filters": 5, "kernel_size": 3, "padding": "same"}
BLOCK = {"num_heads": 2, "mlp_dim": 6, "dropout_rate": 0.1, "stochastic_depth_rate": 0.1}

# Class, constructor arguments, input shape, output shape, number of (trainable, other) weights.
CASES = [
    (AugmentedViews, {"views": 6}, (2, 8, 8, 3), (12, 8, 8, 3), (0, 0)),
    (CCTEncoderBlock, BLOCK, (8, 5, 8), (8, 5, 8), (13, 0)),
    (ClassToken, {}, (4, 5, 8), (4, 6, 8), (1, 0)),
    (FeatureProjection, {"height": 3, "width": 2, "channels": 5}, (4, 16, 8), (4, 3, 2, 5), (1, 0)),
    (FusedBatchNormalization, {"momentum": 0.9}, (4, 6, 6, 3), (4, 6, 6, 3), (2, 2)),
    (GELU, {"approximate": True}, (4, 6, 3), (4, 6, 3), (0, 0)),
    (MeanOfViews, {"views": 6}, (12, 5), (2, 5), (0, 0)),
    (MirroredGradientConv2D, CONVOLUTION, (2, 7, 8, 3), (2, 7, 8, 5), (2, 0)),
    (PatchExtraction, {"patch_size": 4}, (2, 8, 12, 3), (2, 6, 48), (0, 0)),
    (PositionEmbedding, {"stddev": 0.5}, (2, 9, 8), (2, 9, 8), (1, 0)),
    (PositionEmbedding, {"sinusoidal": True}, (2, 10, 8), (2, 10, 8), (1, 0)),
    (SequencePooling, {}, (2, 5, 8), (2, 8), (2, 0)),
    (StochasticDepth, {"rate": 0.1, "seed": 3}, (8, 5, 8), (8, 5, 8), (0, 0)),
    (TransformerEncoderBlock, BLOCK, (8, 5, 8), (8, 5, 8), (16, 0)),
    (TransformerEncoderBlock, {**BLOCK, "attention_bias": False}, (8, 5, 8), (8, 5, 8), (12, 0)),
    (WhiteningConvolution, {"kernel_size": 2}, (2, 8, 8, 3), (2, 7, 7, 24), (1, 1)),
]


@pytest.mark.usefixtures("float32_policy")
@pytest.mark.parametrize("policy", ["float32", "mixed_float16", "mixed_bfloat16"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case[0].__name__)
def test_contract(case, policy, tmp_path):
    keras.config.set_dtype_policy(policy)
    check_layer(*case, folder=tmp_path)


def test_every_layer_has_a_line():
    """Registered layers, and layer classes that are not registered, are all in CASES."""
    layers = set()
    for package in (cifar_models.layers, cifar_models.models):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            members = vars(importlib.import_module(module.name)).items()
            layers |= {value for name, value in members if is_layer(value) and name[0] != "_"}
    layers = {layer for layer in layers if layer.__module__.startswith("cifar_models.")}
    for name, value in keras.saving.get_custom_objects().items():
        if name.startswith(f"{PACKAGE}>") and is_layer(value):
            layers.add(value)
    assert layers == {case[0] for case in CASES}


def is_layer(value: object) -> bool:
    return inspect.isclass(value) and issubclass(value, keras.layers.Layer)
