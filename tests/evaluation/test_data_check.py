"""The command `check`: counts, problems, the contact sheet and the exit status."""

from pathlib import Path

import numpy as np
from PIL import Image

from cifar_models.cli.main import main
from tests.conftest import write_noise_images


def check(capsys, folder: Path, out: Path) -> tuple[int, str, list[str]]:
    """Return the exit status, the output, and the lines of the list of problems."""
    status = main(["check", f"folder:{folder}", "--out", str(out), "--image-size", "16"])
    output = capsys.readouterr()
    lines = (out / "problems.txt").read_text(errors="surrogateescape").splitlines()
    return status, output.out + output.err, lines


def test_a_folder_without_problems(tmp_path, capsys):
    folder = write_noise_images(tmp_path / "images", ("cat", "dog"), 20)
    status, output, problems = check(capsys, folder, tmp_path / "out")
    assert status == 0 and problems == []
    rows = [line.split() for line in output.splitlines()]
    counts = {
        row[0]: [int(value) for value in row[1:]] for row in rows if row[:1] in (["cat"], ["dog"])
    }
    assert [sum(counts[name]) for name in ("cat", "dog")] == [20, 20]
    assert ["median", "width", "and", "height,", "pixels", "8,", "8"] in rows
    with Image.open(tmp_path / "out" / "contact_sheet.png") as sheet:
        assert min(sheet.size) > 100
        assert len(np.unique(np.asarray(sheet.convert("L")))) > 50  # noise images are drawn


def test_every_kind_of_problem_is_listed(tmp_path, capsys):
    folder = tmp_path / "images"
    for part, count in (("train", 12), ("test", 3)):
        write_noise_images(folder / part, ("cat", "dog"), count)
    # The generator has one seed, so the test images are the first six training images of cats.
    train, test = folder / "train", folder / "test"
    (train / "dog" / "x.png").write_bytes((train / "cat" / "11.png").read_bytes())
    (train / "cat" / "broken.png").write_bytes(b"")
    Image.new("RGB", (90, 20)).save(train / "cat" / "long.png")
    status, output, problems = check(capsys, folder, tmp_path / "out")
    assert status == 1
    assert "unusable files (1); equal images of different classes (4)" in output
    unusable = [line for line in problems if line.startswith("unusable files: ")]
    assert len(unusable) == 1 and f"{train / 'cat' / 'broken.png'}: " in unusable[0]
    pair = f"{train / 'cat' / '11.png'} = {train / 'dog' / 'x.png'}"
    assert f"equal images of different classes: {pair}" in problems
    leaks = [line for line in problems if line.startswith("equal images in training and test")]
    assert f"{train / 'cat' / '0.png'} = {test / 'cat' / '0.png'}" in leaks[0]
    assert any(
        "a side that is more than 4 times" in line and "long.png" in line for line in problems
    )


def test_two_equal_copies_of_a_training_image_are_found_again(tmp_path, capsys):
    folder = tmp_path / "images"
    for part, count in (("train", 12), ("test", 3)):
        write_noise_images(folder / part, ("cat", "dog"), count)
    rng = np.random.default_rng(1)  # smooth, as a photograph is
    photograph = Image.fromarray(rng.integers(0, 256, (6, 6, 3), np.uint8)).resize((64, 64))
    photograph.save(folder / "train" / "cat" / "photograph.png")
    for name in ("one", "two"):
        photograph.save(folder / "test" / "cat" / f"{name}.jpg", quality=60)
    _, _, problems = check(capsys, folder, tmp_path / "out")
    similar = [line for line in problems if line.startswith("test images that look like")]
    assert sum("photograph.png" in line for line in similar) == 2


def test_a_class_without_a_usable_file_is_named_with_its_files(tmp_path, capsys):
    folder = write_noise_images(tmp_path / "images", ("cat", "dog"), 30)
    for path in (folder / "dog").iterdir():
        path.write_bytes(b"")
    assert main(["check", f"folder:{folder}", "--out", str(tmp_path / "out")]) == 2
    error = capsys.readouterr().err
    assert "no train image of class dog can be read; unusable image files (30)" in error
    listed = Path(error.rpartition("the whole list is in ")[2].strip())
    assert len(listed.read_text().splitlines()) == 30
    listed.unlink()


def test_a_file_that_is_not_of_a_check_is_not_replaced(tmp_path, capsys):
    (tmp_path / "problems.txt").write_text("mine")
    assert main(["check", "digits", "--out", str(tmp_path)]) == 2
    assert "problems.txt: is not of a check" in capsys.readouterr().err
    assert (tmp_path / "problems.txt").read_text() == "mine"


def test_data_without_files_are_checked_too(tmp_path, capsys):
    assert main(["check", "digits", "--out", str(tmp_path)]) == 0
    assert "360" in capsys.readouterr().out


def test_a_folder_that_is_none_is_refused(tmp_path, capsys):
    assert main(["check", f"folder:{tmp_path / 'none'}", "--out", str(tmp_path / "out")]) == 2
    assert "no such folder" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
