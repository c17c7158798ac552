"""A run folder from a stranger: refused in one line; no file is written, no process started."""

import io
import json
import os
import shutil
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import h5py
import keras
import numpy as np
import pytest
import tensorflow_datasets

from cifar_models.cli.main import main
from cifar_models.data import tfds
from cifar_models.layers.patches import PatchExtraction
from cifar_models.storage.checkpoint_file import decode_checkpoint, encode_checkpoint
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import EVERY_STEP, TINY_CNN, killed_at

STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.fork", "os.spawn")
seen: list[str] = []
is_watching = False


def note(event: str, arguments: tuple) -> None:
    if is_watching and event in (*STARTS, "socket.connect", "pickle.find_class"):
        seen.append(f"{event} {arguments}")


sys.addaudithook(note)  # for the life of the process, so it can be told to look away


@pytest.fixture
def stranger(finished_run, tmp_path) -> Path:
    """A run folder to tamper with."""
    return Path(shutil.copytree(finished_run, tmp_path / "stranger"))


@pytest.fixture
def refused(tmp_path, capsys) -> Iterator[Callable[..., str]]:
    """Runs a command that must fail in one line, without a trace; returns the line."""

    def files() -> dict[Path, tuple[int, int]]:
        found = (path for path in tmp_path.rglob("*") if path.name != ".lock")
        return {path: (path.lstat().st_size, path.lstat().st_mtime_ns) for path in found}

    def run(*command: object, status: int = 2) -> str:
        global is_watching
        before = files()
        seen.clear()
        is_watching = True
        try:
            assert main([str(word) for word in command]) == status
        finally:
            is_watching = False
        assert seen == []
        assert files() == before
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1
        return error

    return run


def rewrite(model: Path, changed: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> None:
    """Replaces or adds members of a .keras file."""
    with zipfile.ZipFile(model) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(model, "w", compression) as archive:
        for name, content in {**members, **changed}.items():
            archive.writestr(name, content)


def change_weights(model: Path, change: Callable[[h5py.File], None]) -> None:
    with zipfile.ZipFile(model) as archive:
        content = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(content, "r+") as file:
        change(file)
    rewrite(model, {"model.weights.h5": content.getvalue()})


def a_dataset(file: h5py.File) -> str:
    """The name of a kernel in the file."""
    names: list[str] = []
    file.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
    return names[0]


def test_the_untouched_copy_is_accepted(stranger):
    assert main(["evaluate", str(stranger)]) == 0


def test_a_lambda_layer(stranger, refused, tmp_path):
    """The classic: code in the configuration. Nothing of it is run, and it is refused."""
    victim = str(tmp_path / "written by the lambda")
    inputs = keras.Input((8, 8, 1))
    outputs = keras.layers.Lambda(lambda x: os.system(f"touch '{victim}'") or x)(inputs)
    model = keras.Model(inputs, outputs)
    Path(victim).unlink(missing_ok=True)  # building it called it
    with zipfile.ZipFile(stranger / "model.keras") as archive:
        weights = archive.read("model.weights.h5")
    model.save(stranger / "model.keras")
    rewrite(stranger / "model.keras", {"model.weights.h5": weights})
    error = refused("evaluate", stranger)
    assert "config.json names 'Lambda', which the recipe's network does not have" in error
    refused("export", stranger, "--out", tmp_path / "export")
    assert not Path(victim).exists()


@pytest.mark.parametrize(
    ("module", "name"), [("os", "system"), ("keras.layers", "TFSMLayer"), ("builtins", "eval")]
)
def test_a_function_of_a_module(module, name, stranger, refused):
    with zipfile.ZipFile(stranger / "model.keras") as archive:
        config = json.loads(archive.read("config.json"))
    config["config"]["layers"][1]["config"]["activation"] = {
        **{"module": module, "class_name": name, "registered_name": name},
        "config": "touch evil",
    }
    rewrite(stranger / "model.keras", {"config.json": json.dumps(config).encode()})
    assert f"config.json names {name!r}" in refused("evaluate", stranger)


@pytest.mark.parametrize("name", ["../evil.py", "/etc/evil.py", "assets/vocabulary.txt"])
def test_a_member_with_another_path(name, stranger, refused):
    rewrite(stranger / "model.keras", {name: b"import os"})
    assert f"holds {name!r}" in refused("evaluate", stranger)


def test_an_archive_bomb(stranger, refused):
    bomb = bytes(200_000_000)
    rewrite(stranger / "model.keras", {"model.weights.h5": bomb}, zipfile.ZIP_DEFLATED)
    assert (stranger / "model.keras").stat().st_size < 1_000_000
    assert "is compressed" in refused("evaluate", stranger)


def test_a_weights_file_far_too_large(stranger, refused):
    rewrite(stranger / "model.keras", {"model.weights.h5": bytes(20_000_000)})
    assert "model.weights.h5 has 20000000 bytes" in refused("evaluate", stranger)


@pytest.mark.parametrize("kind", ["external", "soft"])
def test_a_link_in_the_weights(kind, stranger, refused, tmp_path):
    with h5py.File(tmp_path / "secret.h5", "w") as secret:
        secret["secret"] = np.ones(3)

    def change(file: h5py.File) -> None:
        name = a_dataset(file)
        del file[name]
        links = {
            "external": h5py.ExternalLink(str(tmp_path / "secret.h5"), "/secret"),
            "soft": h5py.SoftLink("/"),
        }
        file[name] = links[kind]

    change_weights(stranger / "model.keras", change)
    assert "is a link" in refused("evaluate", stranger)


def test_numbers_kept_in_another_file(stranger, refused, tmp_path):
    (tmp_path / "secret.bin").write_bytes(bytes(10_000))

    def change(file: h5py.File) -> None:
        name = a_dataset(file)
        shape = file[name].shape
        del file[name]
        where = [(str(tmp_path / "secret.bin"), 0, h5py.h5f.UNLIMITED)]
        file.create_dataset(name, shape, "float32", external=where)

    change_weights(stranger / "model.keras", change)
    assert "keeps its numbers outside the file" in refused("evaluate", stranger)


def test_a_virtual_data_set(stranger, refused, tmp_path):
    def change(file: h5py.File) -> None:
        name = a_dataset(file)
        shape = file[name].shape
        del file[name]
        layout = h5py.VirtualLayout(shape, "float32")
        layout[...] = h5py.VirtualSource(str(tmp_path / "secret.h5"), "secret", shape)
        file.create_virtual_dataset(name, layout)

    change_weights(stranger / "model.keras", change)
    assert "keeps its numbers outside the file" in refused("evaluate", stranger)


def test_a_shape_bomb(stranger, refused):
    def change(file: h5py.File) -> None:
        name = a_dataset(file)
        del file[name]
        file.create_dataset(name, (10**6, 10**6), "float32", chunks=(1000, 1000))

    change_weights(stranger / "model.keras", change)
    assert "(1000000, 1000000)" in refused("evaluate", stranger)


def test_compressed_weights(stranger, refused):
    def change(file: h5py.File) -> None:
        name = a_dataset(file)
        value = file[name][()]
        del file[name]
        file.create_dataset(name, data=value, chunks=value.shape, compression="gzip")

    change_weights(stranger / "model.keras", change)
    assert "is compressed" in refused("evaluate", stranger)


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 torn"])
def test_something_that_is_no_model_file(content, stranger, refused):
    (stranger / "model.keras").write_bytes(content)
    assert "damaged or no model file" in refused("evaluate", stranger)


def test_a_truncated_model_file(stranger, refused):
    whole = (stranger / "model.keras").read_bytes()
    for length in (100, len(whole) // 2, len(whole) - 1):
        (stranger / "model.keras").write_bytes(whole[:length])
        assert f"{stranger / 'model.keras'}: damaged" in refused("evaluate", stranger)


@pytest.mark.parametrize("command", ["evaluate", "resume"])
def test_a_link_out_of_the_folder(command, stranger, refused, tmp_path):
    """`resume` appends to log.txt: a link would have it write wherever the stranger likes."""
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    (stranger / "log.txt").unlink()
    (stranger / "log.txt").symlink_to(victim)
    (stranger / "metrics.json").unlink()
    assert "is a link or a special file" in refused(command, stranger)
    assert victim.read_text() == "precious"


def test_a_recipe_whose_name_is_a_path(tmp_path, refused):
    (tmp_path / "mine.toml").write_text('name = "../../evil"\n[data]\ndataset = "digits"\n')
    assert "must be letters, digits, spaces" in refused("train", tmp_path / "mine.toml")


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b'{"class_names": ', b"\xff\xfe"])
def test_records_that_are_no_json(content, stranger, refused):
    (stranger / "dataset.json").write_bytes(content)
    assert f"{stranger / 'dataset.json'}: cannot be read" in refused("evaluate", stranger)


def test_a_checkpoint_of_another_network(tmp_path, capsys):
    """Its checksum is right: a stranger can compute one too."""
    run = tmp_path / "run"
    killed_at(4, [*TINY_CNN, *EVERY_STEP, "--run", str(run)])
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


def test_a_checkpoint_that_would_fill_the_memory(tmp_path, capsys):
    run = tmp_path / "run"
    killed_at(4, [*TINY_CNN, *EVERY_STEP, "--run", str(run)])
    with (run / "checkpoints" / "step-9999999999.safetensors").open("wb") as file:
        file.truncate(10**12)  # sparse: it takes no room
    assert main(["resume", str(run)]) == 0
    assert "1000000000000 bytes, too many for this run" in capsys.readouterr().out


@pytest.mark.parametrize("file", ["recipe", "dataset"])
def test_a_network_far_larger_than_the_model_file(file, stranger, refused):
    """Nothing of that size is made to find it out."""
    if file == "recipe":
        text = (stranger / "recipe.toml").read_text()
        changed = text.replace("stem_filters = 8", "stem_filters = 2000000000")
        (stranger / "recipe.toml").write_text(changed)
    else:
        dataset = json.loads((stranger / "dataset.json").read_text())
        changed = json.dumps({**dataset, "image_shape": [8, 8, 10**12]})
        (stranger / "dataset.json").write_text(changed)
    assert "parameters" in refused("export", stranger)
    patches = PatchExtraction(2)(keras.Input((4, 4, 1)))  # Keras would make up now for what
    assert patches.shape == (None, 4, 4)  # a scope left uninitialised


def test_a_data_set_that_brings_its_own_code(stranger, refused, tmp_path):
    """TFDS would import the module that the files of an unknown version name."""
    files = tmp_path / "stranger" / "tfds" / "mnist" / "9.9.9"
    files.mkdir(parents=True)
    (files / "features.json").write_text('{"pythonClassName": "evil.Evil"}')
    (files / "dataset_info.json").write_text('{"name": "mnist", "version": "9.9.9"}')
    text = (stranger / "recipe.toml").read_text()
    for name in ("mnist:9.9.9", "mnist/other", "mnist/9.9.9"):
        changed = text.replace('"digits"', f'"{name}"')
        changed = changed.replace('data_dir = ""', f'data_dir = "{tmp_path / "stranger" / "tfds"}"')
        (stranger / "recipe.toml").write_text(changed)
        assert "mnist" in refused("evaluate", stranger)
    assert "evil" not in sys.modules


def test_a_data_set_to_be_downloaded_to_where_the_folder_says(stranger, refused, monkeypatch):
    downloads = []
    builder = tensorflow_datasets.core.DatasetBuilder
    monkeypatch.setattr(builder, "download_and_prepare", lambda self: downloads.append(self))
    monkeypatch.setattr(tfds, "_check_reachable", lambda hosts: None)
    text = (stranger / "recipe.toml").read_text().replace('"digits"', '"mnist"')
    text = text.replace('data_dir = ""', f'data_dir = "{stranger.parent / "home"}"')
    (stranger / "recipe.toml").write_text(text)
    assert "give its folder with --data-dir" in refused("evaluate", stranger, status=1)
    assert "give its folder with --data-dir" in refused("export", stranger, status=1)
    other = shutil.copytree(stranger, stranger.parent / "other")
    (other / "recipe.toml").write_text(text.replace('"digits-cnn"', '"other"'))
    runs = [str(stranger), str(other)]
    assert main(["compare", *runs, "--out", str(stranger.parent / "out")]) == 0
    assert not downloads
    main(["evaluate", str(stranger), "--data-dir", str(stranger.parent / "mine")])
    assert len(downloads) == 1


def test_a_hard_link_to_a_file_of_the_user(stranger, refused, tmp_path):
    victim = tmp_path / "victim.txt"
    victim.write_text("precious")
    (stranger / "log.txt").unlink()
    (stranger / "log.txt").hardlink_to(victim)
    (stranger / "metrics.json").unlink()
    assert "is a hard link" in refused("resume", stranger)
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
def test_records_of_another_form(name, content, stranger, refused):
    (stranger / name).write_text(content)
    assert f"{stranger / name}: " in refused("evaluate", stranger)


def test_weights_that_do_not_fit_or_are_not_finite(stranger, refused):
    def remove(file: h5py.File) -> None:
        name = a_dataset(file)
        file["elsewhere"] = file[name][()]
        del file[name]

    def spoil(file: h5py.File) -> None:
        file[a_dataset(file)][...] = np.nan

    original = (stranger / "model.keras").read_bytes()
    change_weights(stranger / "model.keras", remove)
    assert f"does not fit {stranger / 'recipe.toml'}" in refused("evaluate", stranger)
    (stranger / "model.keras").write_bytes(original)
    change_weights(stranger / "model.keras", spoil)
    assert "holds a weight that is not finite" in refused("evaluate", stranger)


def test_a_record_that_is_none_does_not_hide_the_others(finished_run, tmp_path, capsys):
    shutil.copytree(finished_run, tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "metrics.json").write_text("{}")
    assert main(["list", "runs", "--under", str(tmp_path)]) == 0
    output = capsys.readouterr()
    assert str(tmp_path / "good") in output.out
    assert f"{tmp_path / 'bad' / 'metrics.json'}: cannot be read" in output.err
    assert output.err.rstrip().endswith("; skipped")
