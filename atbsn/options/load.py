"""Read option files, YAML with inheritance and overrides, as plain dictionaries."""

import re
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Any

import yaml

from atbsn.options.files import find_base
from atbsn.options.schema import TrainLoader
from atbsn.utils.errors import UserError

_TAG = "tag:yaml.org,2002:"
"""What the tags of YAML's own types begin with."""
_MAX_VALUES, _MAX_DEPTH, _MAX_LENGTH = 10_000, 20, 4096
"""Most values of an option file, levels of nesting, and characters of a value. Chosen by hand: far more than any file
has, but few enough that a hostile one is refused at once."""

NAMED = (("datasets",), ("val", "metrics"))
"""Paths of mappings whose keys are names that the user gives, so that null cannot mean a default."""


class _Loader(yaml.SafeLoader):
    """Safe YAML in which ``3e-4`` is a number, ``010`` and dates are text, and keys are texts that stand only once."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag == f"{_TAG}merge":
                continue
            if key.tag != f"{_TAG}str":
                raise yaml.MarkedYAMLError(problem="a key is not text; quote it", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"key '{key.value}' stands twice; keep one", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_constructors = {
    tag: construct
    for tag, construct in yaml.SafeLoader.yaml_constructors.items()
    if tag is None or tag.removeprefix(_TAG) in ("null", "bool", "int", "float", "str", "seq", "map")
}
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if not tag.endswith((":timestamp", ":float", ":int"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_TAG}int", re.compile(r"^[-+]?(0|[1-9][0-9_]*)$"), list("-+0123456789"))
_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(r"^[-+]?((\d+\.\d*|\.\d+)([eE][-+]?\d+)?|\d+[eE][-+]?\d+|\.(inf|Inf|INF)|\.(nan|NaN|NAN))$"),
    list("-+0123456789."),
)


def parse_yaml(text: str, source: str) -> Any:
    """Parse YAML text into plain values.

    Raises:
        UserError: it is malformed; the message names ``source`` and the line.
    """
    if not text.isascii() and any("\ud800" <= letter <= "\udfff" for letter in text):
        raise UserError(f"{source}: holds bytes that are not UTF-8; rename the file, or save the text as UTF-8")
    try:
        values = yaml.load(text, _Loader)
        _check_plain(values)
    except (yaml.YAMLError, ValueError, LookupError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        parts = [getattr(error, name, None) for name in ("context", "problem")]
        problem = ", ".join(filter(None, parts)) or str(error) or type(error).__name__
        raise UserError(f"{source}{place}: not valid YAML: {problem}; mend the file") from None
    return values


def _check_plain(values: Any) -> None:
    """Refuse what options never have: endless aliases, deep nesting, and texts that cannot be a file name."""
    left, waiting = _MAX_VALUES, [(values, 0)]
    while waiting:
        value, depth = waiting.pop()
        left -= 1
        if left < 0 or depth > _MAX_DEPTH:
            raise ValueError(f"more than {_MAX_VALUES:,} values or {_MAX_DEPTH} levels, each alias counted")
        if isinstance(value, dict):
            waiting += [(part, depth + 1) for entry in value.items() for part in entry]
        elif isinstance(value, list):
            waiting += [(part, depth + 1) for part in value]
        elif isinstance(value, str):
            value.encode()  # half a character (a surrogate) has no code
            if len(value) > _MAX_LENGTH or "\0" in value:
                raise ValueError(f"{value[:40]!r}: more than {_MAX_LENGTH} characters, or a NUL among them")


def read_options(path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read the options in ``path`` and lay them over those of its ``base``, which may have a base too.

    ``base`` is a file or a list of files, each laid over those before it. Each is a path relative to ``path``, or a
    name that ``-opt`` finds. Top-level keys ``x-...`` are left out, so that they can hold YAML's anchors.

    Args:
        seen: the files that led here, to find a base that leads back to itself.

    Raises:
        UserError: a file is missing, is not a mapping, or is its own base; the message says which.
    """
    path = path.resolve()
    if path in seen:
        raise UserError(f"{path}: 'base' leads back to itself: {' -> '.join(p.name for p in (*seen, path))}")
    try:
        options = parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is not UTF-8 text"
        named_by = f" (the 'base' of {seen[-1]})" if seen else ""
        raise UserError(f"{path}{named_by}: cannot be read: {reason}; check the path") from None
    if not isinstance(options, dict):
        raise UserError(f"{path}: holds {type(options).__name__}, but options are a mapping of key: value")
    options = {key: value for key, value in options.items() if not key.startswith("x-")}
    base = options.pop("base", None)
    names = [] if base is None else base if isinstance(base, list) else [base]
    if not all(isinstance(name, str) and name for name in names):
        raise UserError(f"{path}: base: {base!r} is not a file name, nor a list of them; give a path or a name")
    return merge_layers([*(read_options(find_base(name, path), (*seen, path)) for name in names), options])


def merge_layers(layers: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Lay ``layers`` over one another, the first at the bottom.

    A method may have other options for data with a certain name (``on_data``). These are laid over the method, and the
    layer that brings data with this name is laid over them.
    """
    laid: dict[str, Any] = {}
    for layer in layers:
        both = merge(laid, layer)
        special = _special(both)
        if special is not None:
            both = merge(merge(laid, special), layer)
            both.pop("on_data")
        laid = both
    return laid


def _special(options: dict[str, Any]) -> dict[str, Any] | None:
    """The options in ``on_data`` for the data that are named; None if there is no ``on_data``, or no data yet."""
    on_data, data = options.get("on_data"), options.get("data")
    if on_data is None or data is None:
        return None
    if not isinstance(on_data, dict) or not all(isinstance(each, dict) for each in on_data.values()):
        raise UserError(f"on_data: {on_data!r}: not a mapping of names of data to options; write polyu: {{...}}")
    special = on_data.get(data, {}) if isinstance(data, str) else {}
    if wrong := special.keys() & {"data", "on_data", "base"}:
        raise UserError(f"on_data.{data}.{min(wrong)}: cannot stand here; leave it out")
    return special


def merge(base: dict[str, Any], over: dict[str, Any], path: tuple[str, ...] = ()) -> dict[str, Any]:
    """Lay ``over`` over ``base``: mappings are merged, everything else is replaced.

    A mapping with another ``type`` also replaces, because the arguments of one class mean nothing to another. Only
    the keys of ``TrainLoader`` stay, which belong to no class. ``None`` over an entry of a ``NAMED`` mapping removes
    the entry.

    Args:
        path: the keys that lead to both from the top of the options.
    """
    if "type" in base and over.get("type", base["type"]) != base["type"]:
        return {key: base[key] for key in TrainLoader.model_fields if key in base} | over
    merged = dict(base)
    for key, value in over.items():
        inherited = merged.get(key)
        if isinstance(inherited, dict) and isinstance(value, dict):
            merged[key] = merge(inherited, value, (*path, key))
        elif value is None and inherited is not None and path in NAMED:
            del merged[key]
        else:
            merged[key] = value
    return merged


def apply_override(options: dict[str, Any], assignment: str) -> dict[str, Any]:
    """Lay an assignment ``a.b=value``, with a value as in YAML, over ``options``."""
    key, separator, text = assignment.partition("=")
    steps = key.strip().split(".")
    if not separator or not all(steps):
        raise UserError(f"--set {assignment[:80]}: not of the form key.subkey=value, such as train.total_iter=1000")
    override: Any = parse_yaml(text, f"--set {key[:80]}")
    for step in reversed(steps):
        override = {step: override}
    return merge(options, override)
