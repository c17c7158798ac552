"""No file of an untrusted folder leads a command to another file, blocks it or fills the memory."""

import io
import json
import os
import resource
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from numpy.lib import format as npy
from PIL import Image

from cifar_models.cli.main import main
from cifar_models.errors import RequestError
from cifar_models.runtime.log import log_to_file, logger
from cifar_models.storage.atomic_files import locked, write_bytes_atomic
from cifar_models.storage.checkpoint_file import (
    DamagedCheckpoint,
    decode_checkpoint,
    encode_checkpoint,
)
from cifar_models.storage.open_run import open_run, refuse_if_taken
from cifar_models.storage.run_folder import RunFolder
from tests.conftest import TINY_CNN, Killed, refusal

PRECIOUS = "precious"
ESCAPE = "\x1b]0;title\x07"  # changes the title of a terminal


@pytest.fixture
def victim(tmp_path) -> Iterator[Path]:
    """Return a file that must not change."""
    path = tmp_path / "victim.txt"
    path.write_text(PRECIOUS)
    yield path
    assert path.read_text() == PRECIOUS


def lead_to(victim: Path, kind: str, link: Path) -> None:
    """Make a link of a kind ("symlink" or "hard link") to a file, in place of another file."""
    link.unlink(missing_ok=True)
    if kind == "symlink":
        link.symlink_to(victim)
    else:
        link.hardlink_to(victim)


@pytest.mark.parametrize("kind", ["symlink", "hard link"])
@pytest.mark.parametrize("name", ["a.json", ".partial-a.json"])
def test_a_write_replaces_a_link_and_does_not_follow_it(kind, name, tmp_path, victim):
    (tmp_path / "run").mkdir()
    lead_to(victim, kind, tmp_path / "run" / name)
    write_bytes_atomic(tmp_path / "run", "a.json", b"new")
    assert (tmp_path / "run" / "a.json").read_bytes() == b"new"
    assert not (tmp_path / "run" / "a.json").is_symlink()
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["a.json"]


def test_a_write_does_not_follow_a_linked_folder(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "run" / "plots").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Exception, match=r"plots/curves\.png: cannot be written"):
        write_bytes_atomic(tmp_path / "run", "plots/curves.png", b"new")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.parametrize("kind", ["symlink", "hard link"])
def test_the_lock_and_the_log_are_not_written_through_a_link(kind, tmp_path, victim):
    (tmp_path / "run").mkdir()
    for name in (".lock", "log.txt"):
        lead_to(victim, kind, tmp_path / "run" / name)
    with pytest.raises(RequestError, match=r"\.lock: is a"), locked(tmp_path / "run"):
        pass
    with (
        pytest.raises(RequestError, match=r"log\.txt: is a"),
        log_to_file(tmp_path / "run/log.txt"),
    ):
        pass


@pytest.mark.parametrize("name", [".lock", ".partial-recipe.toml", "plots"])
def test_a_new_run_refuses_a_folder_with_a_link(name, tmp_path, victim, capsys):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / name).symlink_to(victim if name != "plots" else tmp_path)
    assert "holds other files" in refusal(capsys, *TINY_CNN, "--run", tmp_path / "run")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "victim.txt"]


@pytest.mark.parametrize(
    "command",
    [
        ["evaluate"],
        ["evaluate", "--corruptions", "--images", "8"],
        pytest.param(["benchmark"], marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("kind", ["symlink", "hard link"])
def test_commands_write_no_file_through_a_partial_name(command, kind, run_copy, victim):
    (run_copy / "predictions.npz").unlink()
    for name in ("predictions.npz", "robustness.json", "cost.json"):
        lead_to(victim, kind, run_copy / f".partial-{name}")
    status = main([command[0], str(run_copy), *command[1:]])
    assert status == (2 if kind == "symlink" else 0)


def test_compare_writes_no_file_through_a_link(finished_run, tmp_path, victim):
    out = tmp_path / "out"
    out.mkdir()
    lead_to(victim, "symlink", out / ".partial-report.html")
    assert main(["compare", str(finished_run), "--out", str(out)]) == 0
    assert (out / "report.html").is_file() and not (out / "report.html").is_symlink()


@pytest.mark.parametrize("name", ["report.html", "comparison.md", "figures/accuracies.svg"])
def test_compare_replaces_only_its_own_files(name, finished_run, tmp_path, capsys):
    mine = tmp_path / "out" / name
    mine.parent.mkdir(parents=True)
    mine.write_text(PRECIOUS)
    error = refusal(capsys, "compare", finished_run, "--out", tmp_path / "out")
    assert f"{mine}: is not of an older report" in error
    assert mine.read_text() == PRECIOUS
    mine.unlink()
    for _ in range(2):  # the second time, it replaces its own report
        assert main(["compare", str(finished_run), "--out", str(tmp_path / "out")]) == 0


@pytest.fixture
def unlistable_folder() -> Iterator[Path]:
    """Return a folder that this user may enter and change but not list. Root would list it."""
    folder = Path(tempfile.mkdtemp())
    user = os.geteuid()
    if user == 0:
        os.chown(folder, 65534, -1)
        os.seteuid(65534)
    yield folder
    if user == 0:
        os.seteuid(user)
    shutil.rmtree(folder)


def test_a_folder_that_cannot_be_listed_is_refused(unlistable_folder):
    """A link in it would not be seen."""
    run = unlistable_folder / "run"
    (run / "plots").mkdir(parents=True)
    (run / "recipe.toml").touch()
    (run / "fingerprints.json").touch()
    (run / "plots" / "curves.png").symlink_to("/etc/passwd")
    (run / "plots").chmod(0o300)
    with pytest.raises(RequestError, match="cannot be searched for links: Permission denied"):
        open_run(run)
    (run / "fingerprints.json").unlink()
    with pytest.raises(RequestError, match="cannot be searched for links: Permission denied"):
        refuse_if_taken(run)
    (run / "plots").chmod(0o700)


@pytest.mark.parametrize("name", ["trials", "trials/0001"])
def test_a_search_follows_no_link(name, tmp_path, capsys):
    mine = tmp_path / "mine"
    (mine / "0001").mkdir(parents=True)
    (mine / "0001" / "precious.txt").write_text(PRECIOUS)
    out = tmp_path / "search"
    (out / name).parent.mkdir(parents=True)
    (out / name).symlink_to(mine)
    error = refusal(capsys, "tune", "digits-cnn", "--trials", "1", "--out", out)
    assert f"{out / name}: is not a folder of a search" in error
    assert (mine / "0001" / "precious.txt").read_text() == PRECIOUS


@pytest.mark.parametrize("name", ["trials/0001/notes.txt", "trials/0001/recipe.toml"])
def test_a_search_removes_no_file_of_somebody_else(name, tmp_path, capsys):
    out = tmp_path / "search"
    for mine in (out / name, out / "keras_tuner" / "notes.txt"):
        mine.parent.mkdir(parents=True)
        mine.write_text(PRECIOUS)
    assert main(["tune", "digits-cnn", "--trials", "1", "--out", str(out)]) == 2
    assert "0001: holds files that are not of this search" in capsys.readouterr().err
    assert (out / name).read_text() == PRECIOUS
    assert (out / "keras_tuner" / "notes.txt").read_text() == PRECIOUS
    assert [path.name for path in (out / "trials" / "0001").iterdir()] == [Path(name).name]


@pytest.mark.parametrize("target", ["fifo", "/dev/zero"])
@pytest.mark.parametrize("name", ["metrics.json", "recipe.toml", "history.csv", "predictions.npz"])
def test_special_files_neither_block_nor_fill_the_memory(name, target, run_copy, capsys):
    path = run_copy / name
    path.unlink()
    if target == "fifo":
        os.mkfifo(path)
    else:
        path.symlink_to(target)
    for command in (["evaluate", run_copy], ["compare", run_copy, "--out", run_copy / "out"]):
        assert str(run_copy) in refusal(capsys, *command)
    folder = RunFolder(run_copy)
    reads = (folder.read_recipe, folder.read_history, folder.read_predictions)
    for read in reads:  # in the moment between the check and the read
        with pytest.raises(RequestError) if read.__name__[5:] in name else nullcontext():
            read()


@pytest.mark.parametrize("target", ["fifo", "/dev/zero"])
def test_listing_runs_skips_a_special_file(target, finished_run, tmp_path, capsys):
    shutil.copytree(finished_run, tmp_path / "good")
    (tmp_path / "bad").mkdir()
    path = tmp_path / "bad" / "metrics.json"
    os.mkfifo(path) if target == "fifo" else path.symlink_to(target)
    assert main(["list", "runs", "--under", str(tmp_path)]) == 0
    output = capsys.readouterr()
    assert str(tmp_path / "good") in output.out and f"{path}: is " in output.err


@pytest.mark.parametrize("target", ["fifo", "/dev/zero"])
def test_a_special_file_among_images_is_named(target, tmp_path, capsys):
    for name in ("cat", "dog"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(4):
            Image.new("RGB", (8, 8)).save(tmp_path / "images" / name / f"{number}.png")
    path = tmp_path / "images" / "cat" / "x.png"
    os.mkfifo(path) if target == "fifo" else path.symlink_to(target)
    error = refusal(capsys, "train", "cnn", "--dataset", f"folder:{tmp_path / 'images'}")
    assert f"{path}: it is not a regular file" in error


def npz(**arrays: np.ndarray | bytes) -> bytes:
    """Return an .npz file; an array may be given as the content of its .npy file."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_STORED) as archive:
        for name, array in arrays.items():
            if not isinstance(array, bytes):
                file = io.BytesIO()
                np.save(file, array)
                array = file.getvalue()
            archive.writestr(f"{name}.npy", array)
    return content.getvalue()


def header(shape: tuple[int, ...], dtype: str) -> bytes:
    """Return an .npy file that promises an array and holds none of its numbers."""
    content = io.BytesIO()
    npy.write_array_header_1_0(content, {"descr": dtype, "fortran_order": False, "shape": shape})
    return content.getvalue()


LABELS = np.zeros(360, np.int64)
PROBABILITIES = np.full((360, 10), 0.1, np.float32)
OTHER_FILES = {
    "text": b"not an archive",
    "npy": npz(labels=LABELS)[:100],
    "no member": npz(labels=LABELS),
    "1-D": npz(labels=LABELS, probabilities=PROBABILITIES.ravel()),
    "0-D": npz(labels=np.array(3), probabilities=PROBABILITIES),
    "3-D": npz(labels=LABELS, probabilities=PROBABILITIES[None]),
    "strings": npz(labels=LABELS.astype("U1"), probabilities=PROBABILITIES),
    "objects": npz(labels=LABELS, probabilities=header((360, 10), "|O") + b"cos\nsystem\n."),
    "fewer images": npz(labels=LABELS[:300], probabilities=PROBABILITIES[:300]),
    "a promise of 4 TB": npz(labels=LABELS, probabilities=header((10**11, 10), "<f4")),
    "a negative shape": npz(labels=LABELS, probabilities=header((-1, 10), "<f4")),
    "no header": npz(labels=LABELS, probabilities=b"\x93NUMPY\x01\x00\xff\xff{"),
    "sparse": None,
}


@pytest.mark.parametrize("kind", OTHER_FILES)
def test_other_predictions_are_refused(kind, run_copy, tmp_path, capsys):
    path = run_copy / "predictions.npz"
    path.write_bytes(OTHER_FILES[kind] or b"")
    if kind == "sparse":
        os.truncate(path, 10**12)
    error = refusal(capsys, "compare", run_copy, "--out", tmp_path / "out")
    assert error.startswith(f"error: {path}: ") and "write it again" in error


def test_compressed_predictions_are_not_decompressed(run_copy, tmp_path, capsys):
    path = run_copy / "predictions.npz"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("labels.npy", bytes(30_000_000))
    assert path.stat().st_size < 50_000
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
    error = refusal(capsys, "compare", run_copy, "--out", tmp_path / "out")
    assert "labels is compressed" in error
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 20_000


def test_a_deeply_nested_or_other_record_is_a_damaged_checkpoint():
    arrays = {"network/00000": np.zeros(3, np.float32)}
    with pytest.raises(DamagedCheckpoint, match="not a JSON object"):
        decode_checkpoint(encode_checkpoint(arrays, [1]))  # type: ignore[arg-type]
    nested: dict = {}
    for _ in range(900):  # Python can still write it
        nested = {"rows": nested}
    content = encode_checkpoint(arrays, nested)
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(500)
    try:
        with pytest.raises(DamagedCheckpoint, match="RecursionError"):
            decode_checkpoint(content)
    finally:
        sys.setrecursionlimit(limit)


def test_control_characters_reach_neither_the_screen_nor_the_log(run_copy, tmp_path, capsys):
    """An environment.json with a line break in `python` wrote a line of its own into the log."""
    forged = f"3.11\nforged line{ESCAPE}"
    environment = json.loads((run_copy / "environment.json").read_text())
    (run_copy / "environment.json").write_text(json.dumps({**environment, "python": forged}))
    (run_copy / "metrics.json").unlink()
    assert main(["resume", str(run_copy)]) == 0
    output = capsys.readouterr()
    log = (run_copy / "log.txt").read_text()
    for text in (output.out, output.err, log):
        assert "\x1b" not in text and "\x07" not in text
        assert "forged line" not in [line.strip() for line in text.splitlines()]
    assert r"python was 3.11\nforged line\x1b]0;title\x07 and is" in log


def test_a_traceback_in_the_log_keeps_its_lines_and_escapes_the_rest(tmp_path):
    with pytest.raises(ValueError), log_to_file(tmp_path / "log.txt"):
        logger.setLevel("INFO")
        raise ValueError(f"a{ESCAPE}\nb")
    lines = (tmp_path / "log.txt").read_text().splitlines()
    assert lines[1].startswith("Traceback") and r"a\x1b]0;title\x07" in lines[-2]


def rename_in_metrics(run: Path, **values: object) -> None:
    metrics = json.loads((run / "metrics.json").read_text())
    (run / "metrics.json").write_text(json.dumps({**metrics, **values}))


def test_names_are_shown_as_they_are_in_tables(run_copy, capsys):
    """Rich would read [red] as a colour, and [/x] as an error."""
    metrics = json.loads((run_copy / "metrics.json").read_text())
    per_class = {f"[red]apple{ESCAPE}:smile:": next(iter(metrics["per_class"].values()))}
    rename_in_metrics(run_copy, recipe="[/x]", dataset=f"[bold]{ESCAPE}", per_class=per_class)
    assert main(["list", "runs", "--under", str(run_copy)]) == 0
    out = capsys.readouterr().out
    assert "[/x]" in out and r"[bold]\x1b]0;title\x07" in out and "\x1b" not in out


def test_markdown_of_a_comparison_holds_no_html_and_no_link(tmp_path, finished_run):
    name = "<img src=x onerror=alert(1)> ![](http://tracker) a|b &#60;i&#62; " + ESCAPE
    run = Path(shutil.copytree(finished_run, tmp_path / "run"))
    dataset = json.loads((run / "dataset.json").read_text())
    names = [name, *dataset["class_names"][1:]]
    (run / "dataset.json").write_text(json.dumps({**dataset, "class_names": names}))
    probabilities = PROBABILITIES.copy()
    probabilities[:, 0] = 0  # so that a caveat names the class, which is never predicted
    RunFolder(run).write_predictions(LABELS, probabilities, tuple(names))
    assert main(["compare", str(run), "--out", str(tmp_path / "out")]) == 0
    text = (tmp_path / "out" / "comparison.md").read_text()
    assert r"\<img src=x onerror=alert(1)> ![]\(http:\//tracker) a\|b \&#60;i\&#62; \x1b" in text
    assert "\x1b" not in text


@pytest.mark.slow
def test_a_run_that_was_stopped_before_training_begins_again(tmp_path):
    """Nothing needs to be removed for it, not even by hand."""
    run = tmp_path / "run"
    command = [*TINY_CNN, "--run", str(run)]

    def kill(*arguments) -> None:
        raise Killed

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Killed):
        patch.setattr(RunFolder, "write_fingerprints", kill)
        main(command)
    assert (run / "dataset.json").exists() and not RunFolder(run).has_begun()
    assert main([*command, "--seed", "5"]) == 2  # another run
    assert main(command) == 0
