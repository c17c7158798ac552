"""The order of training images, and the flip mask, as functions of the seed and the step."""

import numpy as np

from cifar_models.data.pipeline import make_training_batches
from cifar_models.data.splits import ArraySplit


def numbered_images(count: int) -> ArraySplit:
    """Return images whose only pixel, and whose label, is their number."""
    numbers = np.arange(count)
    return ArraySplit(numbers.astype(np.uint8)[:, None, None, None], numbers)


def batches(
    split: ArraySplit, batch_size: int, seed: int, first: int, total: int
) -> list[list[int]]:
    """Return the numbers of the images in every batch."""
    dataset = make_training_batches(split, batch_size, seed, first, total)
    assert dataset.cardinality() == total - first
    result = []
    for images, labels, _ in dataset:
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)  # still paired
        result.append(labels.numpy().tolist())
    return result


def test_each_epoch_is_another_permutation():
    split, steps = numbered_images(60), 6  # of 10 images
    epochs = np.array(batches(split, 10, seed=1, first=0, total=3 * steps)).reshape(3, 60)
    for epoch in epochs:
        assert sorted(epoch) == list(range(60))
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_alternating_flip_flips_each_image_in_every_other_epoch():
    dataset = make_training_batches(numbered_images(60), 10, seed=1, first_step=0, end_step=4 * 6)
    is_flipped = np.zeros((4, 60), bool)
    for step, (_, labels, flip_mask) in enumerate(dataset):
        is_flipped[step // 6, labels] = flip_mask
    np.testing.assert_array_equal(is_flipped[0], ~is_flipped[1])
    np.testing.assert_array_equal(is_flipped[::2], np.repeat(is_flipped[:1], 2, axis=0))
    np.testing.assert_array_equal(is_flipped[1::2], np.repeat(is_flipped[1:2], 2, axis=0))
    assert 15 < is_flipped[0].sum() < 45


def test_the_dropped_images_differ_between_epochs():
    epochs = np.array(batches(numbered_images(64), 10, seed=1, first=0, total=60)).reshape(10, 60)
    for epoch in epochs:
        assert len(set(epoch)) == 60
    assert len({tuple(set(range(64)) - set(epoch)) for epoch in epochs}) > 5


def test_the_batches_can_begin_at_any_step():
    all_batches = batches(numbered_images(64), 10, seed=5, first=0, total=20)
    for first in (1, 6, 13):
        assert (
            batches(numbered_images(64), 10, seed=5, first=first, total=20) == all_batches[first:]
        )


def test_the_order_depends_on_the_seed():
    first, again, other = (batches(numbered_images(64), 10, s, 0, 6) for s in (0, 0, 1))
    assert first == again != other


def test_shuffling_is_uniform():
    """The mean position of each image is the middle, and neighbors are not correlated."""
    epochs = np.array(batches(numbered_images(20), 20, seed=0, first=0, total=2000)).reshape(
        2000, 20
    )
    positions = np.argsort(epochs, axis=1).mean(axis=0)
    standard_error = np.sqrt((20**2 - 1) / 12 / 2000)
    assert np.abs(positions - 9.5).max() < 4 * standard_error
    correlations = [np.corrcoef(epoch[:-1], epoch[1:])[0, 1] for epoch in epochs]
    assert abs(np.mean(correlations) + 1 / 20) < 4 / np.sqrt(
        19 * 2000
    )  # without replacement, it is -1/N
