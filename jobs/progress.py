"""How far a job is: a bar on a terminal, a line every few seconds in a log, and a JSONL file always."""

import json
import sys
import time
from pathlib import Path
from typing import Any

EVERY_S = 5.0  # between lines of a log


class Progress:
    """Call it with (phase, done, total). `path` gets every report, for programs to read."""

    def __init__(self, title: str, path: Path | None = None) -> None:
        self._title, self._path = title, path
        self._started: dict[str, float] = {}
        self._printed = 0.0
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    def __call__(self, phase: str, done: int, total: int, **facts: float) -> None:
        now = time.monotonic()
        began = self._started.setdefault(phase, now)
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            record = {"time": time.time(), "phase": phase, "done": done, "total": total, **facts}
            with self._path.open("a") as file:
                file.write(json.dumps(record) + "\n")
        if sys.stderr.isatty():
            self._bar(phase, done, total, facts)
        elif done == total or now - self._printed >= EVERY_S:
            self._printed = now
            rate = done / (now - began) if now > began else 0.0
            left = f" | eta {(total - done) / rate:.0f} s" if rate and done < total else ""
            shown = "".join(f" | {name} {value:.4g}" for name, value in facts.items())
            print(f"{self._title}: {phase} {done}/{total}{shown}{left}", file=sys.stderr, flush=True)

    def _bar(self, phase: str, done: int, total: int, facts: dict[str, float]) -> None:
        from rich.console import Console
        from rich.progress import Progress as Bars

        if self._bars is None:
            self._bars = Bars(console=Console(stderr=True))
            self._bars.start()
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(f"{self._title}: {phase}", total=total)
        shown = " ".join(f"{name} {value:.4g}" for name, value in facts.items())
        self._bars.update(
            self._tasks[phase], completed=done, description=f"{self._title}: {phase} {shown}".rstrip()
        )

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bars is not None:
            self._bars.stop()
