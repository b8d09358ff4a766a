"""From an exception to one clear line and an exit code. Only mistakes of our own come with a traceback."""

import errno
import sys
import traceback
from typing import Final

OK: Final = 0
CRASH: Final = 1  # a mistake of ours
BAD_CONFIG: Final = 2
OVER_BUDGET: Final = 3
STORAGE: Final = 4
CLUSTER: Final = 5
INTERRUPTED: Final = 130

FULL: Final = (errno.ENOSPC, errno.EDQUOT)
OWN_MISTAKES: Final = (KeyError, IndexError, UnicodeError)  # of the families below, yet never meant for users
# By name: importing what they belong to takes a second.
MACHINES: Final = ("ClusterDown", "SandboxError")  # of jobs.cluster and pipelines.stages
STORED_BADLY: Final = ("Conflict", "Corrupt")  # of pipelines.shards


def report(error: BaseException, *, debug: bool = False) -> int:
    """Print what went wrong to stderr and return the exit code."""
    cause = _cause(error)
    code = exit_code(cause)
    if debug or code == CRASH:
        traceback.print_exception(error)
    if code == CRASH:
        print("this is a mistake in rayloom; please report it with the lines above", file=sys.stderr)
    else:
        print(_line(cause), file=sys.stderr)
    return code


def exit_code(error: BaseException) -> int:
    """By family: bad arguments 2, storage 4, cluster 5; 1 is a mistake of ours."""
    module = type(error).__module__.partition(".")[0]
    if module == "ray" or type(error).__name__ in MACHINES or isinstance(error, ConnectionError):
        return CLUSTER
    if type(error) in OWN_MISTAKES or isinstance(error, UnicodeError):
        return CRASH
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError):
        return BAD_CONFIG
    if isinstance(error, OSError) or type(error).__name__ in STORED_BADLY:
        return STORAGE
    if isinstance(error, ModuleNotFoundError | ValueError | LookupError | FloatingPointError):
        return BAD_CONFIG
    return CRASH


def _cause(error: BaseException) -> BaseException:
    """What a worker raised, taken out of the error in which Ray brings it."""
    for _ in range(10):  # errors of Ray in errors of Ray, and no circle
        inner = getattr(error, "cause", None) or next(
            iter(getattr(error, "worker_failures", {}).values()), None
        )
        if type(error).__module__.partition(".")[0] == "ray" and isinstance(
            inner := inner or error.__cause__, BaseException
        ):
            error = inner
    return error


def _line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        place = f"{error.filename}: " if error.filename else ""
        advice = "; free some space and run the same command again" if error.errno in FULL else ""
        return f"{place}{error.strerror}{advice}"
    text = str(error).partition("\nFailed to apply UDF transform")[0]  # Ray Data's advice on its retries
    text = text.strip() or type(error).__name__
    if exit_code(error) == CLUSTER:
        return f"{type(error).__name__}: {text}"
    return text
