"""Standard streams that outlast a job: a log that is full, closed or speaks another code ends nothing."""

import atexit
import io
import os
import sys
from typing import Any, NoReturn

from jobs import failures


class _Log(io.FileIO):
    """The standard error. What cannot be written is lost: there is nobody else to tell."""

    def write(self, text: Any) -> int:
        try:
            return super().write(text)
        except OSError:
            return len(text)


def steady() -> None:
    """Open what is closed of 0, 1 and 2, so that no file of ours gets such a number, and let logs fail."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the least number that is free
    raw = io.BufferedWriter(_Log(2, "w", closefd=False))
    sys.stderr = io.TextIOWrapper(raw, errors="backslashreplace", line_buffering=True)
    if sys.stdout is None:
        sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115 - as long as the process
    if isinstance(sys.stdout, io.TextIOWrapper) and sys.stdout.errors == "strict":
        sys.stdout.reconfigure(errors="backslashreplace")


def leave(code: int) -> NoReturn:
    """End the process without taking Python apart.

    A thread of Arrow's that gives back what it has read, and wants Python for that, would abort meanwhile.
    """
    atexit._run_exitfuncs()
    end(code)


def end(code: int) -> NoReturn:
    """Say what is to be said, and end the process at once."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:  # whoever read has read enough
        pass
    except OSError as e:
        code = code or failures.report(e)
    sys.stderr.flush()
    os._exit(code)
