"""Untrusted run folders are refused in one line. No file is written and no process is started."""

import io
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow_datasets

from cifar_models.cli.main import main
from cifar_models.data import tfds
from cifar_models.errors import RunError
from cifar_models.layers.patches import PatchExtraction
from cifar_models.run.load import load_run
from cifar_models.storage.checkpoint_file import decode_checkpoint, encode_checkpoint
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import SAVE_EVERY_STEP, TINY_CNN, run_until_killed

SUSPICIOUS = (
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.fork",
    "os.spawn",
    "socket.connect",
    "pickle.find_class",
)
audited: list[str] = []
is_auditing = False


def audit(event: str, arguments: tuple) -> None:
    if is_auditing and event in SUSPICIOUS:
        audited.append(f"{event} {arguments}")


sys.addaudithook(audit)  # cannot be removed, hence is_auditing


@pytest.fixture
def untrusted_run(finished_run, tmp_path) -> Path:
    """Return a copy of a finished run to tamper with."""
    return Path(shutil.copytree(finished_run, tmp_path / "untrusted"))


@pytest.fixture
def refusal(tmp_path, capsys) -> Callable[..., str]:
    """Return a function that runs a command and returns the one line with which it is refused.

    It asserts that the command changes no file, starts no process and opens no connection.
    """

    def files() -> dict[Path, tuple[int, int] | None]:
        """Return the size and the time of change of every file except the lock, and the folders."""
        found = (path for path in tmp_path.rglob("*") if path.name != ".lock")
        return {
            # A temporary file, which is gone again, changes the time of its folder.
            path: None if path.is_dir() else (path.lstat().st_size, path.lstat().st_mtime_ns)
            for path in found
        }

    def run(*command: object, status: int = 2) -> str:
        global is_auditing
        before = files()
        audited.clear()
        is_auditing = True
        try:
            assert main([str(argument) for argument in command]) == status
        finally:
            is_auditing = False
        assert audited == []
        assert files() == before
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        return error

    return run


def replace_members(
    model: Path, changed: dict[str, bytes], compression: int = zipfile.ZIP_STORED
) -> None:
    """Replace or add members of a .keras file."""
    with zipfile.ZipFile(model) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(model, "w", compression) as archive:
        for name, content in {**members, **changed}.items():
            archive.writestr(name, content)


def change_weights(model: Path, change: Callable[[h5py.File], None]) -> None:
    """Apply a function to the HDF5 file in a .keras file."""
    with zipfile.ZipFile(model) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content, "r+") as file:
        change(file)
    replace_members(model, {"model.weights.h5": content.getvalue()})


def first_array(file: h5py.File) -> str:
    """Return the name of the first array in the file."""
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
    return names[0]


def test_an_unchanged_copy_is_accepted(untrusted_run):
    assert main(["evaluate", str(untrusted_run)]) == 0


def test_a_lambda_layer_is_refused_and_not_run(untrusted_run, refusal, tmp_path):
    victim = str(tmp_path / "written by the lambda")
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Lambda(lambda x: os.system(f"touch '{victim}'") or x)(inputs)
    model = keras.Model(inputs, outputs)
    Path(victim).unlink(missing_ok=True)  # Keras calls the lambda when the model is built
    with zipfile.ZipFile(untrusted_run / "model.keras") as archive:
        weights = archive.read("model.weights.h5")
    model.save(untrusted_run / "model.keras")
    replace_members(untrusted_run / "model.keras", {"model.weights.h5": weights})
    error = refusal("evaluate", untrusted_run)
    assert "config.json names 'Lambda', which the recipe's network does not have" in error
    refusal("export", untrusted_run, "--out", tmp_path / "export")
    assert not Path(victim).exists()


@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("keras.layers", "TFSMLayer"), ("builtins", "eval")]
)
def test_a_function_of_another_module_is_refused(module, name, untrusted_run, refusal):
    with zipfile.ZipFile(untrusted_run / "model.keras") as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"][1]["config"]["activation"] = {
        **{"module": module, "class_name": name, "registered_name": name},
        "config": "touch evil",
    }
    replace_members(untrusted_run / "model.keras", {"config.json": json.dumps(config).encode()})
    assert f"config.json names {name!r}" in refusal("evaluate", untrusted_run)


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil.py", "assets/vocabulary.txt"])
def test_an_archive_member_with_another_path_is_refused(name, untrusted_run, refusal):
    replace_members(untrusted_run / "model.keras", {name: b"import os"})
    assert f"holds {name!r}" in refusal("evaluate", untrusted_run)


def test_an_archive_bomb_is_refused(untrusted_run, refusal):
    bomb = bytes(200_000_000)
    replace_members(untrusted_run / "model.keras", {"model.weights.h5": bomb}, zipfile.ZIP_DEFLATED)
    assert (untrusted_run / "model.keras").stat().st_size < 1_000_000
    assert "is compressed" in refusal("evaluate", untrusted_run)


def test_a_weights_file_that_is_too_large_is_refused(untrusted_run, refusal):
    replace_members(untrusted_run / "model.keras", {"model.weights.h5": bytes(20_000_000)})
    assert "model.weights.h5 has 20000000 bytes" in refusal("evaluate", untrusted_run)


@pytest.mark.parametrize("kind", ["external", "soft"])
def test_a_link_in_the_weights_is_refused(kind, untrusted_run, refusal, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["secret"] = np.ones(3)

    def change(file: h5py.File) -> None:
        name = first_array(file)
        del file[name]
        links = {
            "external": h5py.ExternalLink(str(tmp_path / "secret.h5"), "/secret"),
            "soft": h5py.SoftLink("/"),
        }
        file[name] = links[kind]

    change_weights(untrusted_run / "model.keras", change)
    assert "is a link" in refusal("evaluate", untrusted_run)


def test_weights_stored_in_another_file_are_refused(untrusted_run, refusal, tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(10_000))

    def change(file: h5py.File) -> None:
        name = first_array(file)
        shape = file[name].shape
        del file[name]
        location = [(str(tmp_path / "secret.bin"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset(name, shape, "float32", external=location)

    change_weights(untrusted_run / "model.keras", change)
    assert "keeps its numbers outside the file" in refusal("evaluate", untrusted_run)


def test_a_virtual_data_set_is_refused(untrusted_run, refusal, tmp_path):
    def change(file: h5py.File) -> None:
        name = first_array(file)
        shape = file[name].shape
        del file[name]
        layout = h5py.VirtualLayout(shape, "float32")
        layout[...] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "secret", shape)
        file.create_virtual_dataset(name, layout)

    change_weights(untrusted_run / "model.keras", change)
    assert "keeps its numbers outside the file" in refusal("evaluate", untrusted_run)


def test_an_array_of_a_huge_shape_is_refused(untrusted_run, refusal):
    def change(file: h5py.File) -> None:
        name = first_array(file)
        del file[name]
        file.create_dataset(name, (10**6, 10**6), "float32", chunks=(1000, 1000))

    change_weights(untrusted_run / "model.keras", change)
    assert "(1000000, 1000000)" in refusal("evaluate", untrusted_run)


def test_compressed_weights_are_refused(untrusted_run, refusal):
    def change(file: h5py.File) -> None:
        name = first_array(file)
        value = file[name][()]
        del file[name]
        file.create_dataset(name, data=value, chunks=value.shape, compression="gzip")

    change_weights(untrusted_run / "model.keras", change)
    assert "is compressed" in refusal("evaluate", untrusted_run)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 torn"])
def test_a_file_that_is_not_a_model_is_refused(content, untrusted_run, refusal):
    (untrusted_run / "model.keras").write_bytes(content)
    assert "damaged or no model file" in refusal("evaluate", untrusted_run)


def test_a_truncated_model_file_is_refused(untrusted_run, refusal):
    whole = (untrusted_run / "model.keras").read_bytes()
    for length in (100, len(whole) // 2, len(whole) - 1):
        (untrusted_run / "model.keras").write_bytes(whole[:length])
        assert f"{untrusted_run / 'model.keras'}: damaged" in refusal("evaluate", untrusted_run)


@pytest.mark.parametrize("command", ["evaluate", "resume"])
def test_a_link_out_of_the_folder_is_refused(command, untrusted_run, refusal, tmp_path):
    """`resume` appends to log.txt, which would change the file that the link leads to."""
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    (untrusted_run / "log.txt").unlink()
    (untrusted_run / "log.txt").symlink_to(victim)
    (untrusted_run / "metrics.json").unlink()
    assert "is a link or a special file" in refusal(command, untrusted_run)
    assert victim.read_text() == "precious"


def test_a_recipe_whose_name_is_a_path_is_refused(tmp_path, refusal):
    (tmp_path / "mine.toml").write_text('name = "../../evil"\n[data]\ndataset = "digits"\n')
    assert "letters, digits, spaces" in refusal("train", tmp_path / "mine.toml")


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b'{"class_names": ', b"\xff\xfe"])
def test_records_that_are_not_json_are_refused(content, untrusted_run, refusal):
    (untrusted_run / "dataset.json").write_bytes(content)
    assert f"{untrusted_run / 'dataset.json'}: cannot be read" in refusal("evaluate", untrusted_run)


def test_a_checkpoint_of_another_network_is_refused(tmp_path, capsys):
    """The checksum is valid, as it would be in a checkpoint that was made for an attack."""
    run = tmp_path / "run"
    run_until_killed(4, [*TINY_CNN, *SAVE_EVERY_STEP, "--run", str(run)])
    path = RunFolder(run).checkpoint_paths()[0]
    arrays, record = decode_checkpoint(path.read_bytes())
    for name, array in (("network/00003", np.zeros((5, 5))), ("network/99999", np.zeros(1))):
        path.write_bytes(encode_checkpoint({**arrays, name: array}, record))
        assert main(["resume", str(run)]) == 1
        assert f"{path}: belongs to another run: {name} differs" in capsys.readouterr().err
    path.write_bytes(encode_checkpoint(arrays, {**record, "step": 10**9}))
    assert main(["resume", str(run)]) == 1
    assert f"{path}: belongs to another run: the step differs" in capsys.readouterr().err
    path.write_bytes(encode_checkpoint(arrays, {**record, "__class__": "os.system"}))
    for older in RunFolder(run).checkpoint_paths()[1:]:
        older.unlink()
    assert main(["resume", str(run)]) == 1
    assert "every checkpoint is damaged" in capsys.readouterr().err


@pytest.mark.slow
def test_a_checkpoint_larger_than_the_memory_is_not_read(tmp_path, capsys):
    run = tmp_path / "run"
    run_until_killed(4, [*TINY_CNN, *SAVE_EVERY_STEP, "--run", str(run)])
    with (run / "checkpoints" / "step-9999999999.safetensors").open("wb") as file:
        file.truncate(10**12)  # sparse: it occupies no space on the disk
    assert main(["resume", str(run)]) == 0
    assert "has 1000000000000 bytes, more than" in capsys.readouterr().out


@pytest.mark.parametrize("file", ["recipe", "dataset"])
def test_a_network_larger_than_the_model_file_is_refused(file, untrusted_run, refusal):
    """The size is computed from the configuration, without memory for the weights."""
    if file == "recipe":
        text = (untrusted_run / "recipe.toml").read_text()
        changed = text.replace("stem_filters = 8", "stem_filters = 65536")
        (untrusted_run / "recipe.toml").write_text(changed)
    else:
        dataset = json.loads((untrusted_run / "dataset.json").read_text())
        changed = json.dumps({**dataset, "image_shape": [8, 8, 10**12]})
        (untrusted_run / "dataset.json").write_text(changed)
    assert "parameters" in refusal("export", untrusted_run)
    # The refusal leaves no state in Keras that disturbs the next network.
    patches = PatchExtraction(2)(keras.Input((4, 4, 1)))
    assert patches.shape == (None, 4, 4)


def test_a_data_set_with_code_of_its_own_is_refused(untrusted_run, refusal, tmp_path):
    """TFDS would import the module that the files of an unknown version name."""
    files = untrusted_run / "tfds" / "mnist" / "9.9.9"
    files.mkdir(parents=True)
    (files / "features.json").write_text('{"pythonClassName": "evil.Evil"}')
    (files / "dataset_info.json").write_text('{"name": "mnist", "version": "9.9.9"}')
    text = (untrusted_run / "recipe.toml").read_text()
    for name in ("mnist:9.9.9", "mnist/other", "mnist/9.9.9"):
        changed = text.replace('"digits"', f'"{name}"')
        changed = changed.replace('data_dir = ""', f'data_dir = "{untrusted_run / "tfds"}"')
        (untrusted_run / "recipe.toml").write_text(changed)
        assert "mnist" in refusal("evaluate", untrusted_run)
    assert "evil" not in sys.modules


def test_nothing_is_downloaded_to_a_path_that_the_run_folder_gives(
    untrusted_run, refusal, monkeypatch
):
    downloads = []
    builder = tensorflow_datasets.core.DatasetBuilder
    monkeypatch.setattr(builder, "download_and_prepare", lambda self: downloads.append(self))
    monkeypatch.setattr(tfds, "_check_reachable", lambda hosts: None)
    text = (untrusted_run / "recipe.toml").read_text().replace('"digits"', '"mnist"')
    text = text.replace('data_dir = ""', f'data_dir = "{untrusted_run.parent / "home"}"')
    (untrusted_run / "recipe.toml").write_text(text)
    assert "give its folder with --data-dir" in refusal("evaluate", untrusted_run, status=1)
    with pytest.raises(RunError, match="give its folder with --data-dir"):
        load_run(untrusted_run).load_dataset()  # as `export` does
    other = shutil.copytree(untrusted_run, untrusted_run.parent / "other")
    (other / "recipe.toml").write_text(text.replace('"digits-cnn"', '"other"'))
    runs = [str(untrusted_run), str(other)]
    assert main(["compare", *runs, "--out", str(untrusted_run.parent / "out")]) == 0
    assert not downloads
    main(["evaluate", str(untrusted_run), "--data-dir", str(untrusted_run.parent / "mine")])
    assert len(downloads) == 1


def test_a_hard_link_to_another_file_is_refused(untrusted_run, refusal, tmp_path):
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    (untrusted_run / "log.txt").unlink()
    (untrusted_run / "log.txt").hardlink_to(victim)
    (untrusted_run / "metrics.json").unlink()
    assert "is a hard link" in refusal("resume", untrusted_run)
    assert victim.read_text() == "precious"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("environment.json", "[]"),
        ("environment.json", '{"precision": "nonsense"}'),
        ("dataset.json", "{}"),
        ("recipe.toml", "a = " + "[" * 100_000),
    ],
)
def test_records_with_other_content_are_refused(name, content, untrusted_run, refusal):
    (untrusted_run / name).write_text(content)
    assert f"{untrusted_run / name}: " in refusal("evaluate", untrusted_run)


def test_weights_that_do_not_fit_or_are_not_finite_are_refused(untrusted_run, refusal):
    def rename_array(file: h5py.File) -> None:
        name = first_array(file)
        file["renamed"] = file[name][()]
        del file[name]

    def fill_with_nan(file: h5py.File) -> None:
        file[first_array(file)][...] = np.nan

    original = (untrusted_run / "model.keras").read_bytes()
    change_weights(untrusted_run / "model.keras", rename_array)
    assert f"does not fit {untrusted_run / 'recipe.toml'}" in refusal("evaluate", untrusted_run)
    (untrusted_run / "model.keras").write_bytes(original)
    change_weights(untrusted_run / "model.keras", fill_with_nan)
    assert "holds a weight that is not finite" in refusal("evaluate", untrusted_run)


def test_an_invalid_run_does_not_hide_the_others(finished_run, tmp_path, capsys):
    shutil.copytree(finished_run, tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "metrics.json").write_text("{}")
    assert main(["list", "runs", "--under", str(tmp_path)]) == 0
    output = capsys.readouterr()
    assert str(tmp_path / "good") in output.out
    assert f"{tmp_path / 'bad' / 'metrics.json'}: cannot be read" in output.err
    assert output.err.rstrip().endswith("; skipped")
