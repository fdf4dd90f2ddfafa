"""Write docs/options.md from the code: every option, and every class that an option file can name.

python scripts/document_options.py
"""

import argparse
import ast
import inspect
import re
import textwrap
import types
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from annotated_types import Ge, Gt, Interval, Le, Lt, MinLen
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from atbsn.engine.inference import finish
from atbsn.metrics import METRICS
from atbsn.options import optimization, schema
from atbsn.registry import ARCHS, DATASETS, MODELS, Registry
from atbsn.registry.build import parameter_names
from atbsn.utils.files import write_text

PAGE = Path(__file__).resolve().parents[1] / "docs" / "options.md"
"""The file that is written."""
_HEAD = """\
# Options

Written by `scripts/document_options.py` from the code; do not edit. Examples are in `options/`.

`atbsn train -opt apbsn.yml sidd.yml` lays files over one another, `base:` names files that these options are laid
over (those that come with the package by name, from anywhere), `--set a.b=value` lays one option over all. A mapping
merges; a list, a scalar or a mapping of another `type` replaces; `null` takes an entry out of `datasets` or
`val.metrics`, as in `--set val.metrics.ssim=null`. A key that is not here is refused, and so is a value of another
type; top-level keys `x-...` are left out, a place for YAML's anchors.
"""
_SECTIONS = {
    "": schema.Options,
    "datasets.train": schema.TrainLoader,
    "path": schema.Paths,
    "train": schema.Train,
    "train.optim": (optimization.Adam, optimization.SGD),
    "train.scheduler": (
        optimization.CosineSchedule,
        optimization.StepSchedule,
        optimization.MultiStepSchedule,
        optimization.ConstantSchedule,
    ),
    "val": schema.Val,
    "test": schema.Test,
    "logger": schema.Logger,
}
"""The classes of the options by their path; several where ``type`` chooses one."""
_RANGE: dict[type, tuple[str, str]] = {Ge: ("ge", ">="), Gt: ("gt", ">"), Le: ("le", "<="), Lt: ("lt", "<")}
"""Attribute and sign of each kind of limit."""
_WORDS = {bool: "true or false", int: "integer", float: "number", str: "text", type(None): "none", Path: "path"}
"""Types in words."""
_HUGE = 2**30
"""Limits beyond this are not printed, because they only protect the machine. Chosen by hand."""


def page() -> str:
    """Write the text of docs/options.md."""
    parts = [_HEAD]
    for path, found in _SECTIONS.items():
        parts.append(f"## {f'`{path}`' if path else 'Top level'}\n")
        for section in found if isinstance(found, tuple) else (found,):
            parts.append(_section(section, named=isinstance(found, tuple)))
    parts.append("The metrics of `val.metrics`, each `{name: {type: ..., ...}}`:\n")
    parts += [_function(name, METRICS.get(name), ()) for name in METRICS]
    parts.append(_registry("network", ARCHS, "Every network's `denoise` has besides its own settings:", ()))
    parts.append(_registry("model", MODELS, "", ("net",)))
    parts.append(_registry("datasets.*", DATASETS, "", ()))
    return "\n".join(parts).rstrip("\n") + "\n"


def spell(annotation: Any, limits: Sequence[Any] = ()) -> str:
    """Write a type with its range in words: ``Annotated[int, Gt(0)] | None`` becomes ``integer > 0, or none``."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return spell(inner[0], [*limits, *inner[1:]])
    if origin in (Union, types.UnionType):
        return ", or ".join(dict.fromkeys(spell(part) for part in inner))
    if origin is Literal:
        return ", ".join(f"`{value}`" for value in inner)
    name = _WORDS.get(annotation)
    if origin in (list, Sequence, Iterable) or annotation in (list, Sequence):
        name = f"list of ({spell(inner[0])})" if inner and " or " in spell(inner[0]) else f"list of {spell(inner[0])}"
    elif name is None and origin is tuple:
        name = f"list of {spell(inner[0])}" if inner[1:] == (...,) else f"[{', '.join(map(spell, inner))}]"
    elif name is None and (origin is dict or annotation is dict):
        name = "mapping"
    elif name is None and inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        name = "mapping, see below"
    assert name is not None, f"{annotation}: there is no word for it; add one to _WORDS"
    ranges = [text for limit in limits for text in _limits(limit)]
    return f"{name} {' and '.join(ranges)}" if ranges else name


def _limits(limit: Any) -> Iterator[str]:
    if isinstance(limit, FieldInfo):
        for part in limit.metadata:
            yield from _limits(part)
    elif isinstance(limit, MinLen):
        yield f"of at least {limit.min_length}"
    else:
        for kind, (key, sign) in _RANGE.items():
            value = getattr(limit, key, None) if isinstance(limit, kind | Interval) else None
            if value is not None and abs(value) < _HUGE:
                yield f"{sign} {value:g}"


def _section(section: type[BaseModel], named: bool) -> str:
    described = _attribute_docs(section)
    hints = get_type_hints(section, include_extras=True)
    rows = []
    for name, field in section.model_fields.items():
        default = "" if field.is_required() else _value(field.default)
        if named and name == "type":
            continue
        rows.append((name, spell(hints[name]), default, described.get(name, "")))
    title = f"**`type: {'` or `'.join(get_args(hints['type']))}`**\n\n" if named else ""
    about = "" if section.__doc__ is None or not named else f"{_plain(section.__doc__)}\n\n"
    return f"{title}{about}{_table(rows)}"


def _registry(path: str, registry: Registry[Any], finishing: str, exclude: tuple[str, ...]) -> str:
    parts = [f"## `{path}`\n"]
    if finishing:
        parts += [f"{finishing}\n", _table(_arguments(finish.finish, finish.GIVEN))]
    for name in registry:
        cls = registry.get(name)
        if not cls.__module__.startswith("atbsn."):
            continue  # a plugin
        parts.append(_function(name, cls, exclude))
        if registry is ARCHS and cls.denoise_keywords():
            reserved = [n for n in inspect.signature(cls.denoise).parameters if n not in cls.denoise_keywords()]
            parts += ["`test.denoise`:\n", _table(_arguments(cls.denoise, tuple(reserved)))]
    return "\n".join(parts)


def _function(name: str, function: Callable[..., Any], exclude: tuple[str, ...]) -> str:
    about = _plain(re.split(r"\n\s*\n", inspect.getdoc(function) or "")[0])
    rows = _arguments(function, exclude)
    return f"### `{name}`\n\n{about}\n" + (f"\n{_table(rows)}" if rows else "")


def _arguments(function: Callable[..., Any], exclude: tuple[str, ...]) -> list[tuple[str, str, str, str]]:
    """List name, type, default and description of the arguments of ``function``, or of a class's constructor."""
    own = function.__init__ if inspect.isclass(function) else function
    hints = get_type_hints(own, include_extras=True)
    signature = inspect.signature(function)
    described = dict(_argument_docs(function))
    rows = []
    for name in parameter_names(function, exclude):
        default = signature.parameters[name].default
        rows.append(
            (name, spell(hints[name]), "" if default is inspect.Parameter.empty else _value(default),
             described.get(name, ""))
        )  # fmt: skip
    return rows


def _argument_docs(function: Callable[..., Any]) -> Iterator[tuple[str, str]]:
    """Yield name and text of each argument in the docstring's section Args; for a class also those of its parents."""
    for source in reversed(inspect.getmro(function)) if inspect.isclass(function) else (function,):
        found = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)+)", inspect.cleandoc(source.__doc__ or ""), re.MULTILINE)
        for entry in re.split(r"\n(?=\S)", textwrap.dedent(found[1]).strip()) if found else ():
            names, _, text = entry.partition(":")
            for name in names.split(","):
                yield name.strip(), _plain(text)


def _attribute_docs(section: type[BaseModel]) -> dict[str, str]:
    """Read the text below each field of ``section`` and of its parents."""
    found: dict[str, str] = {}
    for cls in reversed(section.__mro__):
        if not cls.__module__.startswith("atbsn.options."):
            continue
        body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
        assert isinstance(body, ast.ClassDef)
        for field, text in zip(body.body, body.body[1:], strict=False):
            if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name) and _is_text(text):
                found[field.target.id] = _plain(ast.literal_eval(text.value))  # type: ignore[attr-defined]
    return found


def _is_text(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


def _value(value: Any) -> str:
    """Write a default value as in an option file."""
    if isinstance(value, BaseModel):
        return f"`{{type: {value.type}}}`" if hasattr(value, "type") else ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple | list):
        return f"`[{', '.join(map(str, value))}]`"
    if value is None or value in ("", {}):
        return ""
    text = (
        ", ".join(f"{key}: {{type: {entry['type']}}}" for key, entry in value.items()) if type(value) is dict else value
    )
    return f"`{{{text}}}`" if type(value) is dict else f"`{text}`"


def _plain(text: str) -> str:
    """Convert a docstring to one line of Markdown."""
    return " ".join(text.replace("``", "`").split())


def _table(rows: Sequence[tuple[str, str, str, str]]) -> str:
    lines = ["| | | default | |", "|---|---|---|---|"]
    for name, kind, default, text in rows:
        lines.append(f"| `{name}` | {kind} | {default} | {text.replace('|', chr(92) + '|')} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    argparse.ArgumentParser(description="Write docs/options.md.").parse_args()
    write_text(PAGE, page())


if __name__ == "__main__":
    main()
