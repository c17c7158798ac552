"""A checkpoint file is read back unchanged, and a damaged one is refused."""

import contextlib
import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as numpy_strategies

from cifar_models.cli.main import main
from cifar_models.storage.checkpoint_file import (
    DamagedCheckpoint,
    decode_checkpoint,
    encode_checkpoint,
)
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import SAVE_EVERY_STEP, TINY_CNN, outcome_of, run_until_killed

ARRAYS = {
    "network/00000": np.arange(12, dtype=np.float32).reshape(3, 4),
    "network/00001": np.array(7, np.int64),
    "optimizer/00000": np.array([1, 2**31], np.uint32),
    "empty": np.zeros((0, 3), np.float32),
}
RECORD = {"step": 12, "rows": [{"loss": 0.1, "seconds": 1e-300}], "best_epoch": 1}
CONTENT = encode_checkpoint(ARRAYS, RECORD)
EXAMPLES = settings(max_examples=300, deadline=None)


def is_unchanged(content: bytes) -> bool:
    """Return whether a file holds ARRAYS and RECORD."""
    arrays, record = decode_checkpoint(content)
    return record == RECORD and {
        name: (array.dtype, array.shape, array.tobytes()) for name, array in arrays.items()
    } == {name: (array.dtype, array.shape, array.tobytes()) for name, array in ARRAYS.items()}


@EXAMPLES
@given(
    numpy_strategies.arrays(
        st.sampled_from([np.float32, np.float16, np.int64, np.uint32, np.bool_]),
        numpy_strategies.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5),
    )
)
def test_every_array_is_restored(array):
    arrays, record = decode_checkpoint(encode_checkpoint({"a": array, "b": array.T}, RECORD))
    for name, expected in (("a", array), ("b", array.T)):
        assert arrays[name].dtype == expected.dtype
        np.testing.assert_array_equal(arrays[name], expected)
    assert record == RECORD


def test_the_same_content_gives_the_same_bytes():
    assert encode_checkpoint(ARRAYS, RECORD) == CONTENT
    assert is_unchanged(CONTENT)


@EXAMPLES
@given(st.integers(0, len(CONTENT) - 1))
def test_a_truncated_checkpoint_is_refused(length):
    with pytest.raises(DamagedCheckpoint):
        decode_checkpoint(CONTENT[:length])


@EXAMPLES
@given(st.integers(0, 8 * len(CONTENT) - 1))
def test_a_flipped_bit_is_refused(bit):
    damaged = bytearray(CONTENT)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(DamagedCheckpoint):
        decode_checkpoint(bytes(damaged))


@EXAMPLES
@given(st.binary(max_size=400))
def test_random_bytes_are_refused(noise):
    with pytest.raises(DamagedCheckpoint):
        decode_checkpoint(noise)


@EXAMPLES
@given(st.integers(0, len(CONTENT) - 1), st.binary(min_size=1, max_size=40))
def test_overwritten_bytes_are_refused(position, noise):
    damaged = CONTENT[:position] + noise + CONTENT[position + len(noise) :]
    with contextlib.suppress(DamagedCheckpoint):
        assert is_unchanged(damaged)  # the new bytes equal the old ones


def damage(path, kind: str) -> None:
    """Flip a bit of a file, truncate it, or empty it."""
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle] ^= 4
    path.write_bytes({"flipped": bytes(content), "truncated": content[:middle], "empty": b""}[kind])


def test_the_previous_checkpoint_is_used_and_the_damaged_one_is_named(tmp_path, capsys):
    arguments = [*TINY_CNN, *SAVE_EVERY_STEP, "--deterministic"]
    uninterrupted, run = tmp_path / "uninterrupted", tmp_path / "run"
    run_until_killed(26, [*arguments, "--run", str(run)])
    newest, _ = RunFolder(run).checkpoint_paths()
    damage(newest, "flipped")
    assert main([*arguments, "--run", str(uninterrupted)]) == 0
    capsys.readouterr()
    assert main(["resume", str(run)]) == 0
    output = capsys.readouterr().out
    assert f"{newest}: damaged; using the previous checkpoint" in output
    assert "resuming after step 24 of 40" in output
    assert outcome_of(run) == outcome_of(uninterrupted)


@pytest.mark.slow
def test_a_run_starts_again_after_its_damaged_checkpoints_are_removed(tmp_path, capsys):
    run = tmp_path / "run"
    run_until_killed(4, [*TINY_CNN, *SAVE_EVERY_STEP, "--run", str(run)])
    for path, kind in zip(RunFolder(run).checkpoint_paths(), ("truncated", "empty"), strict=True):
        damage(path, kind)
    assert main(["resume", str(run)]) == 1
    error = capsys.readouterr().err
    assert f"{run}/checkpoints: every checkpoint is damaged; remove them" in error
    shutil.rmtree(run / "checkpoints")
    assert main(["resume", str(run)]) == 0
