"""Registries, which map names in option files to classes.

A registry belongs to a package folder (``atbsn.archs``, ``atbsn.data``, ``atbsn.models``, ``atbsn.metrics``). Its
modules are imported at the first look-up, not before, so ``import atbsn`` stays cheap, and a new file in the folder
is found without being listed anywhere. An import error is raised as it is.
"""

from collections.abc import Callable, Iterator
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Generic, TypeVar

from atbsn.utils.errors import UserError
from atbsn.utils.suggest import did_you_mean

T = TypeVar("T")
C = TypeVar("C", bound=type[Any])


class Registry(Generic[T]):
    """Maps names to classes of one kind.

    Args:
        kind: what the entries are, for error messages: ``"architecture"``.
        package: dotted name of the folder whose modules register entries.
        name_of: gives the name in option files for the name of a class.
    """

    def __init__(self, kind: str, package: str, name_of: Callable[[str], str] = str) -> None:
        self.kind = kind
        self._package, self._name_of = package, name_of
        self._entries: dict[str, type[T]] = {}
        self._scanned = False

    def register(self, cls: C) -> C:
        """Class decorator that registers ``cls`` under its name.

        Raises:
            UserError: another module, such as a plug-in, has registered a class with this name.
        """
        name = self._name_of(cls.__name__)
        known = self._entries.get(name)
        if known is not None and known.__module__ != cls.__module__:
            raise UserError(
                f"{self.kind} '{name}' is registered twice: in {known.__module__} and in {cls.__module__}; rename one, "
                "or leave the file out of plugins"
            )
        self._entries[name] = cls
        return cls

    def get(self, name: object) -> type[T]:
        """Return the class that is registered as ``name``.

        Raises:
            UserError: there is none; the message suggests the nearest name.
        """
        self._scan()
        if not isinstance(name, str) or name not in self._entries:
            raise UserError(f"'{name}' is not a registered {self.kind}; {did_you_mean(str(name), self._entries)}")
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        self._scan()
        return iter(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        self._scan()
        return name in self._entries

    def _scan(self) -> None:
        if self._scanned:
            return
        for module in iter_modules(import_module(self._package).__path__, prefix=f"{self._package}."):
            import_module(module.name)
        self._scanned = True


# Only higher floors know the class of the entries; the builders there, such as ``build_arch``, declare it.
ARCHS: Registry[Any] = Registry("architecture", "atbsn.archs")
DATASETS: Registry[Any] = Registry("data set", "atbsn.data")
MODELS: Registry[Any] = Registry("model (training method)", "atbsn.models")
METRICS: Registry[Any] = Registry("metric", "atbsn.metrics", name_of=str.lower)
"""The four registries."""
