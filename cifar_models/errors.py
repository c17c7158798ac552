"""Errors of wrong requests and of failed runs. Each message is one line for the user."""


class RequestError(Exception):
    """The request is wrong. The message says what, where and how to fix it. Exit status 2."""

    exit_status = 2


class RunError(Exception):
    """The request is right, but the run failed. Exit status 1."""

    exit_status = 1
