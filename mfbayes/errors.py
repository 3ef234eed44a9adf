"""Errors with an exit code: what a user can put right, what a fit could not, and checks that failed."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import xarray as xr


class MfbayesError(Exception):
    """A failure that is explained in one readable message.

    `exit_code` is what the command line exits with.
    """

    exit_code = 1


class InputError(MfbayesError):
    """Input that cannot be used: the message says what was expected, what came and what to do."""

    exit_code = 2


class TooLargeError(InputError):
    """Something that does not fit into the memory there is."""


class ConvergenceError(MfbayesError):
    """Estimates that cannot be trusted, because a fit did not converge."""

    exit_code = 3


class CheckError(MfbayesError):
    """Checks of a fit that failed by a fault of theirs, which is the cause.

    Attributes
    ----------
    fit : DataTree
        The finished fit with everything but them.
    """

    def __init__(self, message: str, fit: "xr.DataTree") -> None:
        super().__init__(message)
        self.fit = fit

    def __reduce__(self) -> "tuple[type[CheckError], tuple[str, xr.DataTree]]":
        """With the fit, so that it comes out of a pool of processes whole."""
        return type(self), (str(self), self.fit)
