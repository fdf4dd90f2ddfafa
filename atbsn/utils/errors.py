"""The one exception a user is meant to read."""


class UserError(ValueError):
    """Something the user gave is wrong. The message says value, rule and remedy.

    The commands print it in one line and leave with exit status 2; from Python it is a ``ValueError``.
    """
