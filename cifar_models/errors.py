"""The two ways in which a command can end badly; each message is one line for the user."""


class RequestError(Exception):
    """The request was wrong: names the thing, where it is and how to mend it. Exit status 2."""

    exit_status = 2


class RunError(Exception):
    """The request was right and the run failed. Exit status 1."""

    exit_status = 1
