"""The error that users can act on."""


class ScopeError(Exception):
    """An error that the user can fix, explained in one paragraph: the field, its value, what is allowed, what to do.

    The command line prints the message without a traceback and exits with status 2.
    """
