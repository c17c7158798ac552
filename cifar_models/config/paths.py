"""Paths that a user gives. They are checked before anything is opened or created."""

from pathlib import Path

from cifar_models.errors import RequestError

FOLDER = "folder:"  # prefix of a data set that is a folder of images
MAX_NAME_BYTES = 255  # of a file or folder, on all common file systems
MAX_PATH_BYTES = 4095  # on Linux


def user_path(text: str) -> Path:
    """Return a path, in which ~ and ~USER at the beginning stand for a home folder.

    Raises:
        RequestError: No file system can have such a path, or there is no such user.
    """
    if "\0" in text:
        raise RequestError(f"{text!r}: is no path, because it holds a null character; remove it")
    try:
        path = Path(text).expanduser()
    except RuntimeError:
        raise RequestError(
            f"{text}: there is no home folder of this name; write ./{text} for a folder that "
            "begins with ~"
        ) from None
    longest = max((len(name.encode(errors="replace")) for name in path.parts), default=0)
    for what, size, limit in (
        ("a name in this path", longest, MAX_NAME_BYTES),
        ("this path", len(str(path).encode(errors="replace")), MAX_PATH_BYTES),
    ):
        if size > limit:
            raise RequestError(
                f"{text[:40]}…: {what} has {size} bytes, more than {limit}; shorten it"
            )
    return path


def as_argument(path: Path | str) -> str:
    """Return a path as an argument of a command, which does not take it for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def absolute_path(text: str) -> str:
    """Return a path as `user_path`, from the root of the file system."""
    path = user_path(text)
    try:
        return str(path.absolute())
    except FileNotFoundError:
        raise RequestError(
            f"{text}: the working directory has been removed; change to another one"
        ) from None


def absolute_dataset(name: str) -> str:
    """Return the name of a data set, with an absolute path if it is a folder of images."""
    if not name.startswith(FOLDER):
        return name
    return FOLDER + absolute_path(name.removeprefix(FOLDER))


def dataset_problem(name: str) -> str:
    """Return what is wrong with the path in the name of a data set, or "" if nothing is."""
    if not name.startswith(FOLDER):
        return ""
    if name == FOLDER:
        return "names no folder; write folder:PATH"
    return path_problem(name.removeprefix(FOLDER))


def path_problem(text: str) -> str:
    """Return what is wrong with a path, or "" if nothing is."""
    try:
        user_path(text)
    except RequestError as error:
        return f"names no folder: {error}"
    return ""
