"""The one error that is the user's to mend."""


class UserError(Exception):
    """A mistake in what the user gave: one line that says what, where and what to do.

    The command line prints it without a traceback and exits with status 2.
    """
