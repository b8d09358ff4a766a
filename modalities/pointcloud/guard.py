"""What native decoders and parsers raise, as BadSample."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from modalities.base import BadSample
from modalities.libraries import MissingLibrary


@contextmanager
def guarded(what: str) -> Iterator[None]:
    """Any error of the block becomes BadSample "corrupt", or "too-large" when memory ran out.

    Numbers that overflow a narrower type become infinite without a warning: hostile files must not fill logs.
    """
    try:
        with np.errstate(all="ignore"):
            yield
    except (BadSample, MissingLibrary):
        raise
    except MemoryError as e:
        raise BadSample("too-large", f"no memory for {what}; cut it into tiles") from e
    except Exception as e:
        raise BadSample("corrupt", f"{what}: {type(e).__name__}: {str(e)[:300]}") from e
    except BaseException as e:
        # A Rust panic in lazrs arrives as a PanicException, which is no Exception.
        if type(e).__name__ != "PanicException":
            raise
        raise BadSample("corrupt", f"{what}: the LAZ decoder gave up: {str(e)[:300]}") from e
