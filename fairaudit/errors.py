"""The errors a user can meet. Each carries the exit code that the command line returns for it."""


class FairauditError(Exception):
    """Something went wrong that a person can act on: the message says what was given, what is allowed, what to do."""

    exit_code = 5


class UsageError(FairauditError):
    """Wrong use or a bad spec (exit code 2)."""

    exit_code = 2


class DataError(FairauditError):
    """Unusable data or an unusable checkpoint (exit code 4)."""

    exit_code = 4


class TooFewFacesError(DataError):
    """Fewer faces than a split into three needs."""
