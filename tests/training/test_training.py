"""Learning-rate schedules, optimizers, the train step, its input and its callbacks."""

import dataclasses
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf

from cifar_models.config.architectures import ARCHITECTURES
from cifar_models.config.recipe import AugmentationConfig, TrainingConfig
from cifar_models.config.recipe_file import read_recipe
from cifar_models.data.pipeline import make_training_batches
from cifar_models.data.splits import ArraySplit
from cifar_models.errors import RequestError
from cifar_models.models.catalog import build_network
from cifar_models.optimizers.optimizers import make_optimizer, variables_without_decay
from cifar_models.optimizers.schedules import make_schedule
from cifar_models.runtime import device
from cifar_models.runtime.device import choose_precision, configure
from cifar_models.runtime.signals import StopRequest
from cifar_models.training.augmented_images import log_augmented_images, mosaic
from cifar_models.training.callbacks import ProgressBar
from cifar_models.training.checkpoints import Checkpointer
from cifar_models.training.fit import make_batches, make_trainer, resident_images
from cifar_models.training.progress import Progress
from cifar_models.training.stopwatch import Stopwatch
from cifar_models.training.time_budget import TimeBudget
from cifar_models.training.trainer import Trainer


def learning_rates(recipe: TrainingConfig, total_steps: int) -> np.ndarray:
    """Return the learning rate of every step."""
    schedule = make_schedule(recipe, total_steps)
    return np.array([float(schedule(step)) for step in range(total_steps + 1)])


def test_the_warm_up_is_linear_and_the_decay_a_cosine():
    recipe = TrainingConfig(
        peak_learning_rate=0.4, warmup_fraction=0.2, final_learning_rate_fraction=0.1
    )
    rates = learning_rates(recipe, 100)
    np.testing.assert_allclose(rates[:21], np.linspace(0, 0.4, 21), atol=1e-6)
    half = 0.5 * (1 + np.cos(np.pi * np.linspace(0, 1, 81)))
    np.testing.assert_allclose(rates[20:], 0.4 * (0.1 + 0.9 * half), atol=1e-6)


def test_without_warm_up_the_first_learning_rate_is_the_peak():
    rates = learning_rates(TrainingConfig(peak_learning_rate=0.4, warmup_fraction=0), 50)
    assert rates[0] == pytest.approx(0.4)
    assert rates[-1] == pytest.approx(0, abs=1e-7)
    assert (np.diff(rates) <= 0).all()


@pytest.mark.parametrize("name", ["residual_cnn", "vit", "cct2_3x2"])
def test_only_kernels_have_weight_decay(name):
    network = build_network(ARCHITECTURES[name].config, (32, 32, 3), 10)
    without_decay = {variable.path for variable in variables_without_decay(network)}
    decayed = {variable.path for variable in network.trainable_variables} - without_decay
    assert all(path.endswith("kernel") for path in decayed)
    assert not any(path.endswith("kernel") for path in without_decay)
    suffixes = {"residual_cnn": ("gamma", "beta", "bias")}.get(
        name, ("gamma", "beta", "bias", "position_embedding")
    )
    for suffix in suffixes:
        assert any(path.endswith(suffix) for path in without_decay), suffix


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_step_without_gradients_only_shrinks_kernels(optimizer):
    network = build_network(ARCHITECTURES["cct2_3x2"].config, (32, 32, 3), 10)
    recipe = TrainingConfig(
        optimizer=optimizer, peak_learning_rate=0.5, warmup_fraction=0, weight_decay=0.1
    )
    before = [v.numpy() for v in network.trainable_variables]
    zeros = [tf.zeros(v.shape) for v in network.trainable_variables]
    make_optimizer(recipe, network, 100).apply(zeros, network.trainable_variables)
    for variable, old in zip(network.trainable_variables, before, strict=True):
        factor = 1 - 0.5 * 0.1 if variable.name == "kernel" else 1
        np.testing.assert_allclose(variable.numpy(), factor * old, rtol=1e-5, atol=1e-8)


def test_sgd_with_nesterov_momentum_by_hand():
    variable = keras.Variable([1.0, 2.0])
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    recipe = TrainingConfig(peak_learning_rate=0.1, warmup_fraction=0, momentum=0.9)
    optimizer = make_optimizer(recipe, network, total_steps=10**9)  # a constant rate
    weights, velocity = np.array([1.0, 2.0]), np.zeros(2)
    for gradient in ([0.5, -1.0], [0.25, 2.0], [1.0, 0.0]):
        optimizer.apply([tf.constant(gradient)], [variable])
        velocity = 0.9 * velocity - 0.1 * np.array(gradient)
        weights = weights + 0.9 * velocity - 0.1 * np.array(gradient)
    np.testing.assert_allclose(variable.numpy(), weights, rtol=1e-5)


def test_gradients_are_clipped_by_their_global_norm():
    network = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    recipe = TrainingConfig(
        peak_learning_rate=1.0, warmup_fraction=0, momentum=0.0, gradient_clip_norm=1.0
    )
    variables = [keras.Variable([0.0]), keras.Variable([0.0])]
    make_optimizer(recipe, network, 10**9).apply(
        [tf.constant([3.0]), tf.constant([4.0])], variables
    )
    assert [float(v.numpy()[0]) for v in variables] == pytest.approx([-0.6, -0.8])


NONE_FLIPPED = np.zeros(20, bool)


def linear_trainer(**values: object) -> Trainer:
    """Return a trainer of a linear network, for one epoch of 100 steps without augmentation.

    Args:
        values: Values of `label_smoothing` and of keys of `AugmentationConfig`.
    """
    inputs = keras.Input((4, 4, 1), dtype="uint8")
    x = keras.layers.Flatten()(keras.layers.Rescaling(1 / 255)(inputs))
    network = keras.Model(inputs, keras.layers.Dense(3, kernel_initializer="zeros")(x))
    recipe = dataclasses.replace(
        read_recipe("digits-cnn"),
        training=TrainingConfig(epochs=1, label_smoothing=values.pop("label_smoothing", 0.0)),
        augmentation=AugmentationConfig(**values),
    )
    trainer = Trainer(network, recipe, steps_per_epoch=100)
    trainer.compile(
        keras.optimizers.SGD(0.0),
        keras.losses.CategoricalCrossentropy(from_logits=True),
    )
    return trainer


def test_labels_are_smoothed_in_training():
    trainer = linear_trainer(label_smoothing=0.3)
    trainer.network.layers[-1].bias.assign([2.0, 0.0, -1.0])
    images, labels = tf.zeros((2, 4, 4, 1), tf.uint8), tf.constant([0, 2], tf.int64)
    log_probabilities = np.array([2.0, 0, -1]) - np.log(np.exp([2.0, 0, -1]).sum())
    plain = -(log_probabilities[0] + log_probabilities[2]) / 2
    smoothed = 0.7 * plain - 0.3 * log_probabilities.mean()
    history = trainer.fit(
        tf.data.Dataset.from_tensors((images, labels, NONE_FLIPPED[:2])), verbose=0
    ).history
    assert history["loss"][0] == pytest.approx(smoothed, rel=1e-5)
    assert history["accuracy"][0] == 0.5


def test_augmentation_is_a_function_of_the_seed_and_the_step(images):
    trainer = linear_trainer(crop_padding=4, mixup_alpha=1.0)
    labels = tf.constant([0, 1, 2, 0, 1, 2, 0, 1], tf.int64)

    def augmented(step):
        augmented_images, targets = trainer.augmented(
            tf.constant(images), labels, NONE_FLIPPED[:8], tf.constant(step)
        )
        return augmented_images.numpy().tobytes() + targets.numpy().tobytes()

    assert augmented(5) == augmented(5) != augmented(6)
    trainer.seed.assign(1)
    other = augmented(5)
    trainer.seed.assign(0)
    assert other != augmented(5)


def test_alternating_flip_flips_the_images_of_the_flip_mask(images):
    trainer = linear_trainer(alternating_flip=True)
    flip_mask = np.arange(8) % 3 == 0
    labels = tf.zeros(8, tf.int64)
    result, _ = trainer.augmented(
        tf.constant(images), labels, tf.constant(flip_mask), tf.constant(0)
    )
    np.testing.assert_array_equal(result[flip_mask], images[flip_mask][:, :, ::-1])
    np.testing.assert_array_equal(result[~flip_mask], images[~flip_mask])


@pytest.mark.parametrize(
    ("precision", "xla"),
    [
        ("float32", "off"),
        pytest.param("float32", "on", marks=pytest.mark.slow),  # compiles for half a minute
        ("mixed_float16", "off"),
        pytest.param("mixed_float16", "on", marks=pytest.mark.slow),
        # With XLA on a CPU, bfloat16 takes minutes to compile.
        pytest.param("mixed_bfloat16", "off", marks=pytest.mark.slow),
    ],
)
def test_the_loss_falls_with_every_precision_and_compiler(precision, xla, float32_policy):
    recipe = read_recipe(
        "digits-hybrid",
        [
            f"runtime.precision={precision}",
            f"runtime.xla={xla}",
            "training.warmup_fraction=0",
            "model.num_layers=1",
        ],
    )
    runtime = configure(recipe.runtime)
    assert (runtime.precision, runtime.xla) == (precision, xla == "on")
    network = build_network(recipe.model, (8, 8, 1), 10)
    trainer = make_trainer(network, recipe, runtime, steps_per_epoch=15)
    images = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 1), np.uint8)
    batches = tf.data.Dataset.from_tensors((images, np.arange(20) % 10, NONE_FLIPPED)).repeat(30)
    losses = trainer.fit(batches, epochs=2, steps_per_epoch=15, verbose=0, shuffle=False)
    assert losses.history["loss"][1] < losses.history["loss"][0]


def test_the_device_decides_precision_and_xla(float32_policy):
    recipe = read_recipe("cnn").runtime
    runtime = configure(recipe)
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    assert (runtime.precision != "float32") == has_gpu
    assert runtime.xla == has_gpu
    assert not configure(dataclasses.replace(recipe, xla="off")).xla


@pytest.mark.parametrize(
    ("flags", "setting", "expected"),
    [
        ("fpu amx_bf16 amx_tile", {}, "mixed_bfloat16"),
        ("fpu amx_bf16", {"precision": "float32"}, "float32"),
        ("fpu amx_bf16", {"precision": "mixed_float16"}, "mixed_float16"),
        ("fpu amx_bf16", {"xla": "on"}, "float32"),
        ("fpu amx_bf16", {"deterministic": True}, "float32"),
        ("fpu avx512_bf16", {}, "mixed_bfloat16"),  # AMD Zen 4
        ("fpu avx512f amx_tile", {}, "float32"),
        ("", {}, "float32"),  # not Linux
    ],
)
def test_bfloat16_instructions_decide_the_precision_on_a_cpu(flags, setting, expected, monkeypatch):
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setattr(device, "_cpu_info", lambda key: flags)
    monkeypatch.setattr(device, "onednn_is_on", lambda: True)
    recipe = dataclasses.replace(read_recipe("cnn").runtime, **setting)
    assert choose_precision(recipe) == expected
    monkeypatch.setattr(device, "onednn_is_on", lambda: False)
    assert choose_precision(recipe) == setting.get("precision", "float32")


@pytest.fixture
def simulated_gpu(monkeypatch, float32_policy):
    """Make TensorFlow report an H100. Tests must not run operations on it."""
    details = {"compute_capability": (9, 0), "device_name": "NVIDIA H100"}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["GPU:0"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda *arguments: None)
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)


def test_the_defaults_on_a_gpu(simulated_gpu):
    recipe = read_recipe("cnn").runtime
    runtime = configure(recipe)
    assert (runtime.precision, runtime.xla) == ("mixed_bfloat16", True)
    assert runtime.resident_bytes == 2**30
    assert runtime.steps_per_execution == 32
    assert configure(dataclasses.replace(recipe, steps_per_execution=1)).steps_per_execution == 1
    assert configure(dataclasses.replace(recipe, xla="off")).resident_bytes == 0
    assert configure(dataclasses.replace(recipe, data_on_device="off")).resident_bytes == 0


def test_images_on_the_device_need_xla(simulated_gpu):
    recipe = read_recipe("cnn", ["runtime.data_on_device=on", "runtime.xla=off"])
    split = ArraySplit(np.zeros((8, 4, 4, 1), np.uint8), np.zeros(8, np.int64))
    with pytest.raises(RequestError, match=r"runtime\.data_on_device = \"on\" needs XLA"):
        resident_images(split, configure(recipe.runtime))


@pytest.mark.parametrize(("setting", "dtype"), [("on", tf.int64), ("off", tf.uint8)])
def test_batches_hold_indices_if_the_images_are_on_the_device(setting, dtype, float32_policy):
    recipe = read_recipe(
        "digits-cnn", [f"runtime.data_on_device={setting}", "training.batch_size=8"]
    )
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 8, 8, 1), np.uint8)
    split = ArraySplit(images, np.arange(20) % 10)
    runtime = configure(recipe.runtime)
    network, resident = build_network(recipe.model, (8, 8, 1), 10), resident_images(split, runtime)
    trainer = make_trainer(network, recipe, runtime, steps_per_epoch=2, resident=resident)
    batches = make_batches(trainer, split, 3, 6)  # from the middle of an epoch
    assert batches.element_spec[0].dtype == dtype
    from_device = [trainer.resident(*batch) if trainer.resident else batch for batch in batches]
    from_host = list(make_training_batches(split, 8, recipe.runtime.seed, 3, 6))
    assert len(from_device) == len(from_host) == 3
    for one, other in zip(from_device, from_host, strict=True):
        for left, right in zip(one, other, strict=True):
            np.testing.assert_array_equal(left, right)


def test_the_program_does_not_depend_on_the_seed():
    """XLA finds compiled programs by their hash, so they can be used again for other seeds."""
    programs = []
    for seed in (0, 1):
        recipe = read_recipe("cnn", [f"runtime.seed={seed}"])
        network = build_network(recipe.model, (8, 8, 3), 10)
        trainer = make_trainer(network, recipe, configure(recipe.runtime), steps_per_epoch=3)
        batch = tf.zeros((2, 8, 8, 3), tf.uint8), tf.zeros(2, tf.int64), tf.zeros(2, tf.bool)
        function = tf.function(trainer.augmented).get_concrete_function(*batch, tf.constant(0))
        programs.append(function.graph.as_graph_def().SerializeToString(deterministic=True))
    assert programs[0] == programs[1]


def test_the_progress_bar_counts_every_step_of_an_execution():
    progress = Progress()
    budget = TimeBudget(0, progress, Stopwatch(progress))
    bar, trainer = ProgressBar(10, 40, budget), linear_trainer()
    trainer.steps_per_execution = 5
    bar.set_model(trainer)
    for last_step in (4, 9):
        bar.on_train_batch_end(last_step)
    assert bar._bar.tasks[0].completed == 20


def test_the_steps_of_the_first_execution_count_as_training():
    """The first execution compiles and takes 20 of 60 steps.

    The other 40 steps took 8 s, so 4 s of the first execution count as training.
    """
    progress = Progress(step=60, timed_steps=40, stepping=8.0, compiling=30.0, validating=1.0)
    assert progress.training_seconds == pytest.approx(13.0)
    assert progress.compiling - progress.untimed_seconds == pytest.approx(26.0)
    assert progress.images_per_second(batch_size=10) == pytest.approx(50.0)
    assert Progress(step=20, compiling=30.0).training_seconds == 0


def test_the_first_checkpoint_waits_until_it_costs_at_most_two_percent():
    """A million weights are estimated to take 4 MB / 200 MB/s = 0.02 s, which is 2 % of 1 s."""
    saved, progress = [], Progress(step=1, timed_steps=1)

    class State:
        def __init__(self):
            self.progress = progress

        def num_bytes(self):
            return 4_000_000

        def encoded(self):
            return b"a checkpoint"

    class Folder:
        def write_checkpoint(self, step, content):
            saved.append((step, content))

    trainer = linear_trainer()
    context = SimpleNamespace(recipe=trainer.recipe, folder=Folder(), stop=StopRequest())
    checkpointer = Checkpointer(context, State(), Stopwatch(progress))
    checkpointer.set_model(trainer)
    for progress.stepping, count in ((0.9, 0), (1.1, 1)):
        checkpointer.on_epoch_end(0)
        assert len(saved) == count
    assert saved == [(1, b"a checkpoint")]


class FakeTensorBoard:
    """Record the images that would be written to TensorBoard, by step."""

    def __init__(self):
        self.images_by_step = {}

    def images(self, name, step, images):
        assert name == "augmented"
        self.images_by_step[step] = images


@pytest.mark.parametrize("padding", [0, 2])
def test_tensorboard_shows_the_augmented_images_of_the_steps(padding, float32_policy):
    images = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3), np.uint8)
    split = ArraySplit(images, np.arange(70) % 10)
    options = ["training.batch_size=20", "training.epochs=9", "augmentation.cutout_size=0"]
    options += [f"augmentation.crop_padding={padding}", "augmentation.alternating_flip=false"]
    recipe = read_recipe("cnn", options)
    network = build_network(recipe.model, (8, 8, 3), 10)
    trainer = make_trainer(network, recipe, configure(recipe.runtime), steps_per_epoch=3)
    log = FakeTensorBoard()
    log_augmented_images(trainer, split, log)
    assert list(log.images_by_step) == [0, 6, 12, 18]  # at the ends of epochs, out of 27 steps
    stream = list(make_training_batches(split, 20, recipe.runtime.seed, 0, 27))
    for step, mosaics in log.images_by_step.items():
        augmented, _ = trainer.augmented(*stream[step], tf.constant(step))
        np.testing.assert_array_equal(mosaics[0, :8, :8], augmented[0])
        np.testing.assert_array_equal(mosaics[0, 27:35, 27:35], augmented[15])
        if not padding:
            np.testing.assert_array_equal(mosaics[0, :8, 9:17], stream[step][0][1])


def test_the_mosaic_has_four_images_per_row():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 1), np.uint8)
    result = mosaic(images)
    assert result.shape == (4 * 3, 4 * 4, 1)
    assert result[0, ::4, 0].tolist() == [0, 1, 2, 3]
    assert result[3, 0, 0] == 4
    assert (result[2] == 128).all() and (result[:, 3] == 128).all()  # the gaps are gray
