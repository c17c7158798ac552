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
from cifar_models.runtime.device import configure
from cifar_models.runtime.signals import StopRequest
from cifar_models.training.augmented_images import log_augmented_images, mosaic
from cifar_models.training.callbacks import ProgressBar, Stopwatch
from cifar_models.training.checkpoints import Checkpointer
from cifar_models.training.fit import make_batches, make_trainer, resident_images
from cifar_models.training.progress import Progress
from cifar_models.training.trainer import Trainer


def learning_rates(recipe: TrainingConfig, total_steps: int) -> np.ndarray:
    schedule = make_schedule(recipe, total_steps)
    return np.array([float(schedule(step)) for step in range(total_steps + 1)])


def test_warm_up_is_linear_and_the_rest_a_cosine():
    recipe = TrainingConfig(
        peak_learning_rate=0.4, warmup_fraction=0.2, final_learning_rate_fraction=0.1
    )
    rates = learning_rates(recipe, 100)
    np.testing.assert_allclose(rates[:21], np.linspace(0, 0.4, 21), atol=1e-6)
    half = 0.5 * (1 + np.cos(np.pi * np.linspace(0, 1, 81)))
    np.testing.assert_allclose(rates[20:], 0.4 * (0.1 + 0.9 * half), atol=1e-6)


def test_without_warm_up_the_peak_comes_first():
    rates = learning_rates(TrainingConfig(peak_learning_rate=0.4, warmup_fraction=0), 50)
    assert rates[0] == pytest.approx(0.4)
    assert rates[-1] == pytest.approx(0, abs=1e-7)
    assert (np.diff(rates) <= 0).all()


@pytest.mark.parametrize("name", ["residual_cnn", "vit", "cct2_3x2"])
def test_weight_decay_spares_norms_biases_and_positions(name):
    network = build_network(ARCHITECTURES[name].config, (32, 32, 3), 10)
    spared = {variable.path for variable in variables_without_decay(network)}
    decayed = {variable.path for variable in network.trainable_variables} - spared
    assert all(path.endswith("kernel") for path in decayed)
    assert not any(path.endswith("kernel") for path in spared)
    words = {"residual_cnn": ("gamma", "beta", "bias")}.get(
        name, ("gamma", "beta", "bias", "position_embedding")
    )
    for word in words:
        assert any(path.endswith(word) for path in spared), word


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_a_step_without_gradient_shrinks_kernels_alone(optimizer):
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


def test_sgd_is_nesterovs_by_hand():
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
    """A linear network in a run of one epoch of 100 steps, without any augmentation by default."""
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
    smooth = 0.7 * plain - 0.3 * log_probabilities.mean()
    history = trainer.fit(
        tf.data.Dataset.from_tensors((images, labels, NONE_FLIPPED[:2])), verbose=0
    ).history
    assert history["loss"][0] == pytest.approx(smooth, rel=1e-5)
    assert history["accuracy"][0] == 0.5


def test_a_steps_random_numbers_depend_on_seed_and_step_alone(images):
    trainer = linear_trainer(crop_padding=4, mixup_alpha=1.0)
    labels = tf.constant([0, 1, 2, 0, 1, 2, 0, 1], tf.int64)

    def augmented(step):
        pictures, targets = trainer.augmented(
            tf.constant(images), labels, NONE_FLIPPED[:8], tf.constant(step)
        )
        return pictures.numpy().tobytes() + targets.numpy().tobytes()

    assert augmented(5) == augmented(5) != augmented(6)
    trainer.seed.assign(1)
    other = augmented(5)
    trainer.seed.assign(0)
    assert other != augmented(5)


def test_alternating_flip_flips_the_images_of_the_flip_mask(images):
    trainer = linear_trainer(alternating_flip=True)
    flip_mask = np.arange(8) % 3 == 0
    labels = tf.zeros(8, tf.int64)
    pictures, _ = trainer.augmented(
        tf.constant(images), labels, tf.constant(flip_mask), tf.constant(0)
    )
    np.testing.assert_array_equal(pictures[flip_mask], images[flip_mask][:, :, ::-1])
    np.testing.assert_array_equal(pictures[~flip_mask], images[~flip_mask])


@pytest.mark.parametrize(
    ("precision", "xla"),
    [
        ("float32", "off"),
        ("float32", "on"),
        ("mixed_float16", "off"),
        ("mixed_float16", "on"),
        ("mixed_bfloat16", "off"),  # XLA compiles emulated bfloat16 for minutes on a CPU
    ],
)
def test_a_step_learns_under_every_precision_and_compiler(precision, xla, float32_policy):
    recipe = read_recipe(
        "digits-hybrid",
        [
            *(f"runtime.precision={precision}", f"runtime.xla={xla}"),
            *("training.warmup_fraction=0", "model.num_layers=1"),
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


@pytest.fixture
def supposed_gpu(monkeypatch, float32_policy):
    """What TensorFlow tells of an H100; nothing may run on it."""
    details = {"compute_capability": (9, 0), "device_name": "NVIDIA H100"}
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: ["one"])
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda *arguments: None)
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda gpu: details)


def test_a_gpu_holds_up_to_a_gibibyte_of_images(supposed_gpu):
    recipe = read_recipe("cnn").runtime
    runtime = configure(recipe)
    assert (runtime.precision, runtime.xla) == ("mixed_bfloat16", True)
    assert runtime.resident_bytes == 2**30
    assert runtime.steps_per_execution == 32
    assert configure(dataclasses.replace(recipe, steps_per_execution=1)).steps_per_execution == 1
    assert configure(dataclasses.replace(recipe, xla="off")).resident_bytes == 0
    assert configure(dataclasses.replace(recipe, data_on_device="off")).resident_bytes == 0


def test_images_on_a_gpu_want_xla(supposed_gpu):
    recipe = read_recipe("cnn", ["runtime.data_on_device=on", "runtime.xla=off"])
    split = ArraySplit(np.zeros((8, 4, 4, 1), np.uint8), np.zeros(8, np.int64))
    with pytest.raises(RequestError, match=r"runtime\.data_on_device = \"on\" needs XLA"):
        resident_images(split, configure(recipe.runtime))


@pytest.mark.parametrize(("where", "fed"), [("on", tf.int64), ("off", tf.uint8)])
def test_steps_are_fed_indices_where_the_images_are_on_the_device(where, fed, float32_policy):
    recipe = read_recipe("digits-cnn", [f"runtime.data_on_device={where}", "training.batch_size=8"])
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 8, 8, 1), np.uint8)
    split = ArraySplit(images, np.arange(20) % 10)
    runtime = configure(recipe.runtime)
    network, resident = build_network(recipe.model, (8, 8, 1), 10), resident_images(split, runtime)
    trainer = make_trainer(network, recipe, runtime, steps_per_epoch=2, resident=resident)
    batches = make_batches(trainer, split, 3, 6)  # from the middle of an epoch
    assert batches.element_spec[0].dtype == fed
    there = [trainer.resident(*batch) if trainer.resident else batch for batch in batches]
    here = list(make_training_batches(split, 8, recipe.runtime.seed, 3, 6))
    assert len(there) == len(here) == 3
    for one, other in zip(there, here, strict=True):
        for part, same in zip(one, other, strict=True):
            np.testing.assert_array_equal(part, same)


def test_another_seed_is_the_same_program():
    """So what XLA compiled for one seed serves every other: it is found by the program's hash."""
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
    bar, trainer = ProgressBar(first_step=10, total_steps=40), linear_trainer()
    trainer.steps_per_execution = 5
    bar.set_model(trainer)
    for last_step in (4, 9):
        bar.on_train_batch_end(last_step)
    assert bar._bar.tasks[0].completed == 20


def test_steps_of_the_first_execution_count_as_training():
    """20 of 60 steps came with the compiling; the other 40 took 8 s, so those 20 took 4 s of it."""
    progress = Progress(step=60, timed_steps=40, stepping=8.0, compiling=30.0, validating=1.0)
    assert progress.training_seconds == pytest.approx(13.0)
    assert progress.compiling - progress.untimed_seconds == pytest.approx(26.0)
    assert progress.images_per_second(batch_size=10) == pytest.approx(50.0)
    assert Progress(step=20, compiling=30.0).training_seconds == 0


def test_the_first_checkpoint_waits_until_it_is_cheap():
    """A million numbers are guessed to take 4 MB / 200 MB/s = 0.02 s, which is 2 % of 1 s."""
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


class PictureLog:
    """Takes the pictures that TensorBoard would show."""

    def __init__(self):
        self.pictures = {}

    def images(self, name, step, images):
        assert name == "augmented"
        self.pictures[step] = images


@pytest.mark.parametrize("padding", [0, 2])
def test_pictures_show_what_the_steps_will_see(padding, float32_policy):
    images = np.random.default_rng(0).integers(0, 256, (70, 8, 8, 3), np.uint8)
    split = ArraySplit(images, np.arange(70) % 10)
    options = ["training.batch_size=20", "training.epochs=9", "augmentation.cutout_size=0"]
    options += [f"augmentation.crop_padding={padding}", "augmentation.horizontal_flip=false"]
    recipe = read_recipe("cnn", options)
    network = build_network(recipe.model, (8, 8, 3), 10)
    trainer = make_trainer(network, recipe, configure(recipe.runtime), steps_per_epoch=3)
    log = PictureLog()
    log_augmented_images(trainer, split, log)
    assert list(log.pictures) == [0, 6, 12, 18]  # of 27 steps, at the ends of epochs
    stream = list(make_training_batches(split, 20, recipe.runtime.seed, 0, 27))
    for step, pictures in log.pictures.items():
        seen, _ = trainer.augmented(*stream[step], tf.constant(step))
        np.testing.assert_array_equal(pictures[0, :8, :8], seen[0])
        np.testing.assert_array_equal(pictures[0, 27:35, 27:35], seen[15])
        if not padding:
            np.testing.assert_array_equal(pictures[0, :8, 9:17], stream[step][0][1])


def test_the_mosaic_lays_four_images_a_row():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 3, 1), np.uint8)
    picture = mosaic(images)
    assert picture.shape == (4 * 3, 4 * 4, 1)
    assert picture[0, ::4, 0].tolist() == [0, 1, 2, 3]
    assert picture[3, 0, 0] == 4
    assert (picture[2] == 128).all() and (picture[:, 3] == 128).all()  # the gaps
