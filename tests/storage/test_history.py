"""Reading history.csv."""

import pytest

from cifar_models.errors import RequestError
from cifar_models.storage.run_folder import RunFolder


def test_a_row_for_each_epoch(tmp_path):
    rows = [{"epoch": 1, "train_loss": 0.1 + 0.2}, {"epoch": 2, "train_loss": 1e-30}]
    RunFolder(tmp_path).write_history(rows)
    text = (tmp_path / "history.csv").read_text()
    assert text == "epoch,train_loss\n1,0.30000000000000004\n2,1e-30\n"
    assert RunFolder(tmp_path).read_history() == rows


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"epoch,train_loss\n1,none\n",
        b"epoch,train_loss\n1\n",
        b"epoch,train_loss\n1,2,3\n",
        b"epoch\n\xff\n",
    ],
    ids=["no file", "not a number", "too few cells", "too many cells", "not text"],
)
def test_a_missing_or_damaged_file_is_named(tmp_path, content):
    path = tmp_path / "history.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(RequestError, match=r"history\.csv: cannot be read: "):
        RunFolder(tmp_path).read_history()
