"""The errors that end a command; each message is one line for the user."""


class RequestError(Exception):
    """A wrong request. The message says what is wrong, where, and how to fix it. Exit status 2."""

    exit_status = 2


class RunError(Exception):
    """A failure although the request was right. Exit status 1."""

    exit_status = 1


class Divergence(RunError):
    """A loss or a weight is no longer finite."""


class Paused(Exception):
    """A run has trained as many epochs as it was asked to. Its state is saved."""
