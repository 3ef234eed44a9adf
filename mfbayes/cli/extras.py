"""What to install when a command needs more than the light core."""

from collections.abc import Iterator
from contextlib import contextmanager

from mfbayes.errors import InputError


@contextmanager
def needing(extra: str) -> Iterator[None]:
    """Turn a missing package of an extra into a message that names the extra.

    Raises
    ------
    InputError
        If an import inside the block fails because a package is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "mfbayes":
            raise
        raise InputError(
            f"This command needs {error.name}, which is not installed. Install it with: pip install 'mfbayes[{extra}]'"
        ) from error
