"""The one error the commands raise for what a user can mend."""


class CliError(Exception):
    """A plain sentence: what was given, what is allowed, what to do."""
