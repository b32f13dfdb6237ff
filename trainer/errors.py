"""Errors a user can act on."""


class ScopeError(Exception):
    """A fault explained in one paragraph: the field, the value it had, what is allowed, what to do.

    The command line prints the message without a traceback and exits with status 2.
    """
