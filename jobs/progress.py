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
        self._started: dict[str, tuple[float, int]] = {}
        self._printed = 0.0
        self._bars: Any = None
        self._tasks: dict[str, Any] = {}

    def __call__(self, phase: str, done: int, total: int, **facts: float) -> None:
        now = time.monotonic()
        began, before = self._started.setdefault(phase, (now, done))  # a job may go on with work half done
        if self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            record = {"time": time.time(), "phase": phase, "done": done, "total": total, **facts}
            with self._path.open("a") as file:
                file.write(json.dumps(record) + "\n")
        if sys.stderr.isatty():
            self._bar(phase, done, total, facts)
        elif done == total or now - self._printed >= EVERY_S:
            self._printed = now
            rate = (done - before) / (now - began) if now > began else 0.0
            if "eta_s" not in facts and rate and done < total:
                facts["eta_s"] = (total - done) / rate
            shown = "".join(f" | {written(name, value)}" for name, value in facts.items())
            print(f"{self._title}: {phase} {done}/{total}{shown}", file=sys.stderr, flush=True)

    def _bar(self, phase: str, done: int, total: int, facts: dict[str, float]) -> None:
        from rich.console import Console
        from rich.progress import Progress as Bars

        if self._bars is None:
            self._bars = Bars(console=Console(stderr=True))
            self._bars.start()
        if phase not in self._tasks:
            self._tasks[phase] = self._bars.add_task(f"{self._title}: {phase}", total=total)
        shown = " ".join(written(name, value) for name, value in facts.items())
        self._bars.update(
            self._tasks[phase], completed=done, description=f"{self._title}: {phase} {shown}".rstrip()
        )

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bars is not None:
            self._bars.stop()


def written(name: str, value: float) -> str:
    """A number for the eye, by the unit in its name."""
    match name:
        case "eta_s":
            minutes, seconds = divmod(round(value), 60)
            return f"eta {minutes}:{seconds:02} min" if minutes else f"eta {seconds} s"
        case "data_wait" | "mfu":
            return f"{name.replace('_', ' ')} {value:.0%}"
        case _ if name.endswith("_bytes"):
            return f"{name.removesuffix('_bytes')} {value / 2**20:.0f} MiB"
        case _ if name.endswith("_s"):
            return f"{name.removesuffix('_s')}/s {value:.4g}"
    return f"{name} {value:.4g}"
