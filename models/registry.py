"""Find a component by name. The name is the stem of the file that defines it."""

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, TypeAlias, TypeVar

T = TypeVar("T")
Part: TypeAlias = str | Mapping[str, Any]  # "mlp", or {"name": "mlp", "ratio": 2.0}


def split_part(part: Part) -> tuple[str, dict[str, Any]]:
    """{"name": "window", "window": 7} -> "window", {"window": 7}."""
    options = {"name": part} if isinstance(part, str) else dict(part)
    return options.pop("name"), options


def suggest(name: str, known: Iterable[str]) -> list[str]:
    """The names near `name`, or all of them when none is near."""
    known = sorted(known)
    return difflib.get_close_matches(name, known, n=3) or known


def options_of(part: Callable[..., Any]) -> list[str]:
    """Names of the keyword-only parameters: what a preset or a user may set."""
    parameters = inspect.signature(part).parameters.values()
    return [p.name for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY]


class Registry(Generic[T]):
    """One registry per folder: `MIXERS["window"]` imports `models/mixers/window.py`, and only that."""

    def __init__(self, package: str) -> None:
        self.package = package
        self._found: dict[str, type[T]] = {}

    def register(self, cls: type[T]) -> type[T]:
        """Class decorator: file `cls` under the stem of its module."""
        name = cls.__module__.rpartition(".")[2]
        if (other := self._found.setdefault(name, cls)) is not cls:
            raise TypeError(f"{cls.__module__} registers two classes: {other.__name__} and {cls.__name__}")
        return cls

    def names(self) -> list[str]:
        """Every name on disk, sorted. Imports none of them."""
        path = importlib.import_module(self.package).__path__
        files = (m.name for m in pkgutil.iter_modules(path))
        return sorted(name for name in files if name != "base" and not name.startswith("_"))

    def __getitem__(self, name: str) -> type[T]:
        if name not in self.names():
            raise LookupError(
                f"no {name!r} in {self.package}; did you mean one of {suggest(name, self.names())}?"
            )
        importlib.import_module(f"{self.package}.{name}")
        if name not in self._found:
            raise TypeError(f"{self.package}.{name} registers no class; did you mean _{name}.py?")
        return self._found[name]

    def create(self, name: str, /, *args: Any, **options: Any) -> T:
        """Build part `name`; an option that it does not take is a LookupError that suggests the near one."""
        cls = self[name]
        for option in options:
            if option not in (known := options_of(cls)):
                raise LookupError(
                    f"{name!r} of {self.package} takes no option {option!r}; "
                    f"did you mean one of {suggest(option, known)}?"
                )
        return cls(*args, **options)

    def build(self, part: Part, *args: Any) -> T:
        """Like `create`, from a part as presets write it."""
        name, options = split_part(part)
        return self.create(name, *args, **options)
