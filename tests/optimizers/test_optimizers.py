"""Optimizers, Lookahead and schedules against numpy and Keras."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

from cifar_models.config.architectures import ARCHITECTURES, AirbenchConfig
from cifar_models.config.training import OPTIMIZERS, TrainingConfig
from cifar_models.models.catalog import build_network
from cifar_models.optimizers.lookahead import Lookahead
from cifar_models.optimizers.optimizers import make_optimizer, variables_without_decay
from cifar_models.optimizers.schedules import make_schedule


def test_the_linear_schedule_rises_and_decays_linearly():
    recipe = TrainingConfig(
        schedule="linear",
        peak_learning_rate=2.0,
        warmup_fraction=0.25,
        initial_learning_rate_fraction=0.2,
        final_learning_rate_fraction=0.07,
    )
    schedule = make_schedule(recipe, 80)
    rates = [float(schedule(step)) for step in range(81)]
    expected = np.interp(range(81), [0, 20, 80], [0.4, 2.0, 0.14])
    np.testing.assert_allclose(rates, expected, rtol=1e-5)


def test_the_linear_schedule_without_warm_up_only_decays():
    recipe = TrainingConfig(schedule="linear", peak_learning_rate=2.0, warmup_fraction=0)
    schedule = make_schedule(recipe, 10)
    rates = [float(schedule(step)) for step in range(11)]
    np.testing.assert_allclose(rates, np.linspace(2, 0, 11), atol=1e-6)


def test_the_warm_up_of_a_cosine_can_begin_above_zero():
    recipe = TrainingConfig(
        peak_learning_rate=2.0, warmup_fraction=0.5, initial_learning_rate_fraction=0.1
    )
    schedule = make_schedule(recipe, 10)
    rates = [float(schedule(step)) for step in range(6)]
    np.testing.assert_allclose(rates, np.linspace(0.2, 2, 6), rtol=1e-5)


def test_normalization_layers_have_their_own_learning_rate():
    network = build_network(ARCHITECTURES["residual_cnn"].config, (32, 32, 3), 10)
    before = [v.numpy() for v in network.trainable_variables]
    recipe = TrainingConfig(
        peak_learning_rate=0.5, warmup_fraction=0, momentum=0.0, norm_learning_rate_factor=8
    )
    ones = [tf.ones(v.shape) for v in network.trainable_variables]
    make_optimizer(recipe, network, 100).apply(ones, network.trainable_variables)
    for variable, old in zip(network.trainable_variables, before, strict=True):
        rate = 0.5 * (8 if variable.name in ("gamma", "beta") else 1)
        np.testing.assert_allclose(variable.numpy(), old - rate, rtol=1e-4, atol=1e-4)


def two_optimizers(name: str, network: keras.Model) -> list[keras.optimizers.Optimizer]:
    """Return our optimizer and that of Keras with the same settings."""
    recipe = TrainingConfig(
        optimizer=name,
        peak_learning_rate=0.01,
        momentum_form="keras",
        weight_decay=0.1,
        gradient_clip_norm=1.0,
    )
    shared = {"weight_decay": 0.1, "global_clipnorm": 1.0}
    rate = make_schedule(recipe, 8)
    theirs = {
        "sgd": lambda: keras.optimizers.SGD(rate, recipe.momentum, nesterov=True, **shared),
        "adamw": lambda: keras.optimizers.AdamW(
            rate, beta_1=recipe.beta_1, beta_2=recipe.beta_2, **shared
        ),
        "muon": lambda: keras.optimizers.Muon(
            rate,
            momentum=recipe.momentum,
            adam_beta_1=recipe.beta_1,
            adam_beta_2=recipe.beta_2,
            adam_lr_ratio=recipe.adamw_learning_rate_factor,
            adam_weight_decay=0.1 * recipe.adamw_learning_rate_factor,
            exclude_layers=["classifier"],
            **shared,
        ),
    }[name]()
    theirs.exclude_from_weight_decay(var_list=variables_without_decay(network))
    return [make_optimizer(recipe, network, 8), theirs]


@pytest.mark.parametrize("name", ["sgd", "adamw", "muon"])
def test_a_step_equals_that_of_keras_and_evaluates_the_schedule_once(name, monkeypatch):
    inputs = keras.Input((12,))
    x = keras.layers.LayerNormalization()(keras.layers.Dense(8)(inputs))
    network = keras.Model(inputs, keras.layers.Dense(3, name="classifier")(x))
    variables, begin = network.trainable_variables, network.get_weights()
    calls = []
    schedule = keras.optimizers.schedules.CosineDecay
    call = schedule.__call__
    monkeypatch.setattr(schedule, "__call__", lambda *args: calls.append(1) or call(*args))
    found, counts = [], []
    for optimizer in two_optimizers(name, network):
        network.set_weights(begin)
        calls.clear()
        for seed in range(6):  # of 8: in the warm-up and after it
            rng = np.random.default_rng(seed)
            gradients = [tf.constant(rng.normal(size=v.shape), tf.float32) for v in variables]
            optimizer.apply(gradients, variables)
        found.append([*network.get_weights(), *(v.numpy() for v in optimizer.variables)])
        counts.append(len(calls))
    assert counts[0] == 6 < counts[1]
    # Our Muon adds in another order; the others equal those of Keras to the last bit.
    tolerance = {"rtol": 1e-4, "atol": 1e-5} if name == "muon" else {"rtol": 0}
    for ours, theirs in zip(*found, strict=True):
        np.testing.assert_allclose(ours, theirs, **tolerance)


def test_the_learning_rate_of_a_trace_is_not_used_in_another():
    variable = keras.Variable([1.0, 2.0])
    optimizer = make_optimizer(TrainingConfig(optimizer="adamw"), keras.Model(), 8)
    optimizer.build([variable])
    for _ in range(2):
        apply = tf.function(lambda: optimizer.apply([tf.ones(2)], [variable]))
        apply.get_concrete_function()
    assert float(optimizer.learning_rate) == 0  # at the start of warm-up


MUON = TrainingConfig(
    optimizer="muon",
    peak_learning_rate=0.5,
    warmup_fraction=0,
    momentum=0.9,
    adamw_learning_rate_factor=0.1,
)


def muon_step(name: str, seed: int = 0) -> tuple[keras.Model, list, list, list]:
    """Return a network after one step, its weights before, its gradients and its changes."""
    network = build_network(ARCHITECTURES[name].config, (32, 32, 3), 10)
    rng = np.random.default_rng(seed)
    before = [v.numpy() for v in network.trainable_variables]
    gradients = [rng.normal(size=v.shape).astype(np.float32) for v in network.trainable_variables]
    variables = network.trainable_variables
    make_optimizer(MUON, network, 10**9).apply([tf.constant(g) for g in gradients], variables)
    moved = [v.numpy() - old for v, old in zip(variables, before, strict=True)]
    return network, before, gradients, moved


@pytest.mark.parametrize("name", ["residual_cnn", "cct2_3x2"])
def test_a_step_of_muon_is_an_orthogonal_matrix_for_every_kernel(name):
    network, _, gradients, moved = muon_step(name)
    for variable, gradient, step in zip(network.trainable_variables, gradients, moved, strict=True):
        if variable.name != "kernel" or "classifier" in variable.path:
            # The first step of AdamW is the learning rate times the sign of the gradient.
            np.testing.assert_allclose(step, -0.05 * np.sign(gradient), rtol=1e-2, atol=1e-3)
            continue
        shape = variable.shape
        is_projection = len(shape) == 3 and "attention_output" not in variable.path
        as_matrix = (shape[0], -1) if is_projection else (-1, shape[-1])
        matrix = step.reshape(as_matrix)
        scale = 0.5 * 0.2 * np.sqrt(max(matrix.shape))  # rate, and the factor of Liu et al.
        singular = np.linalg.svd(matrix / scale, compute_uv=False)
        # Five iterations bring all but the very smallest singular values near 1.
        assert np.quantile(singular, 0.05) > 0.5 and singular.max() < 1.4, variable.path
        u, _, v = np.linalg.svd(gradient.reshape(as_matrix), full_matrices=False)
        direction = -(u @ v) * scale
        cosine = (matrix * direction).sum() / np.linalg.norm(matrix) / np.linalg.norm(direction)
        assert cosine > 0.97, variable.path


def test_muon_equals_that_of_keras_on_a_matrix():
    weights = np.random.default_rng(0).normal(size=(12, 8)).astype(np.float32)
    results = []
    for ours in (True, False):
        inputs = keras.Input((12,))
        network = keras.Model(inputs, keras.layers.Dense(8, use_bias=False)(inputs))
        network.set_weights([weights])
        optimizer = (
            make_optimizer(MUON, network, 10**9)
            if ours
            else keras.optimizers.Muon(learning_rate=0.5, momentum=0.9, weight_decay=0)
        )
        for seed in range(3):
            gradient = np.random.default_rng(seed).normal(size=(12, 8)).astype(np.float32)
            optimizer.apply([tf.constant(gradient)], network.trainable_variables)
        results.append(network.get_weights()[0])
    np.testing.assert_allclose(*results, rtol=1e-4, atol=1e-5)


def test_kernels_of_one_shape_share_the_trace_of_their_update(monkeypatch):
    kernels = [keras.Variable(tf.ones(shape), name="kernel") for shape in 3 * [(4, 8)] + [(8, 4)]]
    optimizer = make_optimizer(MUON, keras.Model(), 8)
    traced = []

    def orthogonal(matrix, steps):
        traced.append(tuple(matrix.shape))
        return matrix

    monkeypatch.setattr(optimizer, "zeropower_via_newtonschulz5", orthogonal)
    optimizer.build(kernels)
    gradients = [tf.ones(kernel.shape) for kernel in kernels]
    tf.function(lambda: optimizer.apply(gradients, kernels)).get_concrete_function()
    assert traced == [(4, 8), (8, 4)]


def test_weights_left_to_adamw_decay_at_its_learning_rate():
    network = build_network(ARCHITECTURES["residual_cnn"].config, (32, 32, 3), 10)
    before = [v.numpy() for v in network.trainable_variables]
    zeros = [tf.zeros(v.shape) for v in network.trainable_variables]
    recipe = dataclasses.replace(MUON, weight_decay=0.1)
    make_optimizer(recipe, network, 10**9).apply(zeros, network.trainable_variables)
    for variable, old in zip(network.trainable_variables, before, strict=True):
        rate = 0.05 if "classifier" in variable.path else 0.5
        factor = 1 - rate * 0.1 if variable.name == "kernel" else 1
        np.testing.assert_allclose(variable.numpy(), factor * old, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("total_steps", "decay_at_last"), [(10, 1.0), (9, 0.9**3)])
def test_lookahead_equals_its_formula(total_steps, decay_at_last):
    inputs = keras.Input((3,))
    x = keras.layers.BatchNormalization()(keras.layers.Dense(2)(inputs))
    network = keras.Model(inputs, x)
    lookahead = Lookahead(network, steps=3, decay=0.9, total_steps=total_steps)
    slow = [weight.numpy() for weight in network.weights]
    fast = [weight.copy() for weight in slow]
    update = tf.function(lookahead.update)
    rng = np.random.default_rng(0)
    for step in range(total_steps):
        fast = [weight + rng.normal(size=weight.shape).astype(np.float32) for weight in fast]
        network.set_weights(fast)
        update(tf.constant(step))
        if step in (2, 5, 8, 9):
            decay = 0.9**3 * ((step + 1) / total_steps) ** 3
            decay = decay_at_last if step == total_steps - 1 else decay
            slow = [decay * s + (1 - decay) * w for s, w in zip(slow, fast, strict=True)]
            fast = [weight.copy() for weight in slow]
        for ours, expected in zip(network.get_weights(), fast, strict=True):
            np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)
    assert len(network.weights) == 6  # with the statistics of batch norm


def orthogonal_by_hand(matrix: np.ndarray) -> np.ndarray:
    """Take three steps of the quintic iteration of Jordan et al. (2024)."""
    wide = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = wide / np.linalg.norm(wide)
    for _ in range(3):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return x.T if matrix.shape[0] > matrix.shape[1] else x


@pytest.mark.parametrize("form", ["torch", "keras"])
def test_muon_sgd_equals_its_formula(form):
    recipe = TrainingConfig(
        optimizer="muon_sgd",
        peak_learning_rate=0.25,
        schedule="linear",
        warmup_fraction=0,
        momentum_form=form,
        momentum=0.6,
        sgd_momentum=0.85,
        sgd_learning_rate_factor=0.5,
        norm_learning_rate_factor=8,
        weight_decay=0.1,
    )
    shape = AirbenchConfig(stage_filters=(8, 12, 8))
    network = build_network(shape, (32, 32, 3), 10)
    optimizer = make_optimizer(recipe, network, 4)
    variables = network.trainable_variables
    weights = [v.numpy().astype(np.float64) for v in variables]
    momenta = [np.zeros_like(weight) for weight in weights]
    rng = np.random.default_rng(0)
    for peak in (0.25, 0.1875, 0.125):  # a quarter less in each step
        gradients = [rng.normal(size=v.shape).astype(np.float32) for v in variables]
        optimizer.apply([tf.constant(g) for g in gradients], variables)
        for i, (variable, gradient) in enumerate(zip(variables, gradients, strict=True)):
            if variable.name == "kernel" and "classifier" not in variable.path:
                filters = variable.shape[-1]
                momenta[i] = 0.6 * momenta[i] + gradient
                direction = (gradient + 0.6 * momenta[i]).reshape(-1, filters).T
                step = orthogonal_by_hand(direction).T.reshape(variable.shape)
                size = np.sqrt(filters) / np.linalg.norm(weights[i])
                weights[i] = weights[i] * size - peak * step
                continue
            rate = peak * 0.5
            if "classifier" in variable.path:
                weights[i] = weights[i] * (1 - rate * 0.1)
            rate *= 8 if variable.name == "beta" else 1
            if form == "torch":
                momenta[i] = 0.85 * momenta[i] + gradient
                weights[i] = weights[i] - rate * (gradient + 0.85 * momenta[i])
                continue
            momenta[i] = 0.85 * momenta[i] - rate * gradient
            weights[i] = weights[i] + 0.85 * momenta[i] - rate * gradient
    for variable, weight in zip(variables, weights, strict=True):
        np.testing.assert_allclose(variable.numpy(), weight, atol=1e-4, err_msg=variable.path)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_reads_only_keys_of_the_table_and_can_train(name):
    spec = OPTIMIZERS[name]
    assert set(spec.reads) <= set(vars(TrainingConfig()))
    network = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    before = network.get_weights()[0]
    optimizer = make_optimizer(TrainingConfig(optimizer=name, warmup_fraction=0), network, 8)
    ones = [tf.ones(variable.shape) for variable in network.trainable_variables]
    optimizer.apply(ones, network.trainable_variables)
    assert np.abs(network.get_weights()[0] - before).max() > 0
