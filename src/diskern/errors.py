"""The one exception that reaches a user: a line that names the value and the mend."""


class DiskernError(ValueError):
    """Something the user gave cannot be used.

    The message is one line, names the offending value and says what would mend it.  The
    command line prints it and exits with 1; ``-v`` adds the traceback.
    """
