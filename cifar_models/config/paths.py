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
    if problem := path_problem(text):
        raise RequestError(f"{text[:40]!r}: {problem}")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise RequestError(
            f"{text}: there is no home folder of this name; write ./{text} for a folder that "
            "begins with ~"
        ) from None


def path_problem(text: str) -> str:
    """Return why no file system can have a path, or "" if one can."""
    if "\0" in text:
        return "no path holds a null character; remove it"
    size = len(text.encode(errors="replace"))
    longest = max(len(name.encode(errors="replace")) for name in text.split("/"))
    if longest > MAX_NAME_BYTES:
        return f"a name in this path has {longest} bytes, more than {MAX_NAME_BYTES}; shorten it"
    if size > MAX_PATH_BYTES:
        return f"this path has {size} bytes, more than {MAX_PATH_BYTES}; shorten it"
    return ""


def dataset_problem(name: str) -> str:
    """Return what is wrong with the path in the name of a data set, or "" if nothing is."""
    if name == FOLDER:
        return "names no folder; write folder:PATH"
    return path_problem(name.removeprefix(FOLDER)) if name.startswith(FOLDER) else ""


def as_argument(path: Path | str) -> str:
    """Return a path as an argument of a command, which does not take it for an option."""
    return f"./{path}" if str(path).startswith("-") else str(path)


def absolute_path(text: str) -> str:
    """Return a path as `user_path`, from the root of the file system. A URL is left as it is."""
    if "://" in text:
        return text
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
    return FOLDER + str(user_path(name.removeprefix(FOLDER)).absolute())
