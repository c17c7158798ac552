import numpy as np

from cifar_models.data.pipeline import make_training_batches
from cifar_models.data.splits import ArraySplit


def numbered(count: int) -> ArraySplit:
    """Images whose one pixel is their number."""
    numbers = np.arange(count)
    return ArraySplit(numbers.astype(np.uint8)[:, None, None, None], numbers)


def batches(
    split: ArraySplit, batch_size: int, seed: int, first: int, total: int
) -> list[list[int]]:
    dataset = make_training_batches(split, batch_size, seed, first, total)
    assert dataset.cardinality() == total - first
    result = []
    for images, labels, _ in dataset:
        np.testing.assert_array_equal(images[:, 0, 0, 0], labels)  # pairs stay together
        result.append(labels.numpy().tolist())
    return result


def test_an_epoch_is_a_permutation_and_each_epoch_another():
    split, steps = numbered(60), 6  # of 10 images
    epochs = np.array(batches(split, 10, seed=1, first=0, total=3 * steps)).reshape(3, 60)
    for epoch in epochs:
        assert sorted(epoch) == list(range(60))
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_alternating_flip_turns_each_image_in_every_other_epoch():
    dataset = make_training_batches(numbered(60), 10, seed=1, first_step=0, end_step=4 * 6)
    turned = np.zeros((4, 60), bool)
    for step, (_, labels, mirrored) in enumerate(dataset):
        turned[step // 6, labels] = mirrored
    np.testing.assert_array_equal(turned[0], ~turned[1])
    np.testing.assert_array_equal(turned[::2], np.repeat(turned[:1], 2, axis=0))
    np.testing.assert_array_equal(turned[1::2], np.repeat(turned[1:2], 2, axis=0))
    assert 15 < turned[0].sum() < 45


def test_what_is_left_over_differs_between_epochs():
    epochs = np.array(batches(numbered(64), 10, seed=1, first=0, total=60)).reshape(10, 60)
    for epoch in epochs:
        assert len(set(epoch)) == 60
    assert len({tuple(set(range(64)) - set(epoch)) for epoch in epochs}) > 5


def test_the_range_can_begin_at_any_step():
    whole = batches(numbered(64), 10, seed=5, first=0, total=20)
    for first in (1, 6, 13):
        assert batches(numbered(64), 10, seed=5, first=first, total=20) == whole[first:]


def test_the_seed_decides_the_order():
    first, again, other = (batches(numbered(64), 10, s, 0, 6) for s in (0, 0, 1))
    assert first == again != other


def test_shuffling_is_uniform_enough():
    """Each image's place in the epoch averages to the middle, over many epochs."""
    epochs = np.array(batches(numbered(20), 20, seed=0, first=0, total=2000)).reshape(2000, 20)
    places = np.argsort(epochs, axis=1).mean(axis=0)
    standard_error = np.sqrt((20**2 - 1) / 12 / 2000)
    assert np.abs(places - 9.5).max() < 4 * standard_error
    neighbours = [np.corrcoef(epoch[:-1], epoch[1:])[0, 1] for epoch in epochs]
    assert abs(np.mean(neighbours) + 1 / 20) < 4 / np.sqrt(19 * 2000)  # -1/N without replacement
