"""Build an object from ``{"type": name, argument: value, ...}``, after a check of the arguments."""

import inspect
import json
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from reprlib import repr as shorten
from typing import Any, TypeVar, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from atbsn.registry import Registry
from atbsn.utils.errors import UserError
from atbsn.utils.suggest import did_you_mean

T = TypeVar("T")


_PATTERNS = {
    r"^\w[\w.-]*(/\w[\w.-]*)*$": "not a name for a folder; use letters, digits, '_', '-' and '.', and no spaces",
    r"^\w[\w.-]*$": "not a name; use letters, digits, '_', '-' and '.'",
    r"^(train|val|test)(_\w+)?$": "not a name of a data set; use train, val or test, and _ with a word after it",
}
"""What the regular expressions of the options ask for, in words."""


def build(registry: Registry[T], options: Mapping[str, Any], **given: Any) -> T:
    """Build the entry ``options["type"]`` of ``registry`` from the other options.

    Args:
        given: arguments that do not come from options, such as an already built network.

    Raises:
        UserError: no such entry, or its constructor does not take these arguments.
    """
    arguments = dict(options)
    name = arguments.pop("type", None)
    if name is None:
        raise UserError(f"{dict(options)}: 'type' is missing; name a {registry.kind}: {', '.join(registry)}")
    cls = registry.get(name)
    try:
        arguments = check_arguments(cls, arguments, exclude=tuple(given))
    except UserError as error:
        raise UserError("; ".join(f"{name}.{fault}" for fault in str(error).splitlines())) from None
    return cls(**given, **arguments)


def check_arguments(
    function: Callable[..., Any], arguments: Mapping[str, Any], exclude: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Convert ``arguments`` to the types that ``function``, or the constructor of a class, declares.

    Types are strict, as in JSON: ``"8"`` and ``true`` are not numbers. A list is taken for a tuple.

    Args:
        exclude: parameters of ``function`` that a user may not give.

    Returns:
        The converted arguments, without defaults.

    Raises:
        UserError: one line for every fault.
    """
    schema = _arguments_schema(function, exclude)
    text = json.dumps(dict(arguments), default=_plain)
    check_text(text)
    try:
        checked = schema.model_validate_json(text)
    except ValidationError as error:
        raise UserError("\n".join(describe_faults(error, schema, arguments))) from None
    return {name: getattr(checked, name) for name in checked.model_fields_set}


def check_text(text: str) -> None:
    """Refuse JSON with a text that has bytes which are not UTF-8, as file names of other systems may."""
    if half := re.search(r'"[^"]*\\ud[89a-f][0-9a-f]{2}[^"]*"', _whole_characters(text)):
        raise UserError(f"{half[0]}: holds bytes that are not UTF-8; rename the file")


def _whole_characters(text: str) -> str:
    """Remove pairs of surrogates from ``text``; each pair is one character."""
    return re.sub(r"\\ud[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2}", "", text)


def parameter_names(function: Callable[..., Any], exclude: tuple[str, ...] = ()) -> list[str]:
    """The names of the arguments that ``check_arguments`` accepts for ``function``, in its order."""
    return list(_arguments_schema(function, exclude).model_fields)


def with_defaults(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Complete ``arguments`` by the defaults of the other parameters of ``function``, or of a class's constructor."""
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.default is not parameter.empty
    }
    return {**defaults, **arguments}


def describe_faults(
    error: ValidationError, schema: type[BaseModel], data: Mapping[str, Any], prefix: str = ""
) -> list[str]:
    """Describe each fault in a line with path, value, rule and remedy.

    Args:
        schema: the schema that ``data`` was validated against.
        prefix: what each path begins with.
    """
    faults: dict[str, dict[str, None]] = {}
    for fault in error.errors():
        subject, rule = _describe(fault, schema, data, prefix)
        faults.setdefault(subject, {})[rule] = None
    # A union gives several rules for one value.
    return sorted(f"{subject}: {', or '.join(rules)}" for subject, rules in faults.items())


@lru_cache(maxsize=256)
def _arguments_schema(function: Callable[..., Any], exclude: tuple[str, ...]) -> type[BaseModel]:
    hints = get_type_hints(function.__init__ if inspect.isclass(function) else function, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name not in exclude and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            default = ... if parameter.default is parameter.empty else parameter.default
            fields[name] = (hints.get(name, Any), default)
    config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, protected_namespaces=())
    return create_model(f"{function.__name__}Arguments", __config__=config, **fields)


def _plain(value: Any) -> Any:
    """Convert a number of NumPy to one of Python, and anything else that JSON does not have to its text."""
    return value.item() if hasattr(value, "item") and getattr(value, "ndim", None) == 0 else str(value)


def _describe(fault: Any, schema: type[BaseModel], data: Mapping[str, Any], prefix: str) -> tuple[str, str]:
    """Give the path of a fault, with the value if there is one, and the rule that it breaks."""
    location = _without_tags(fault["loc"], data, keep_last=fault["type"] == "missing")
    path = prefix + ".".join(str(part) for part in location)
    if fault["type"] == "extra_forbidden":
        return path, f"unknown key; {did_you_mean(str(fault['loc'][-1]), _known_keys(schema, fault['loc'][:-1]))}"
    if fault["type"] == "missing":
        return path, "missing; this key is required"
    if fault["type"] == "union_tag_invalid":
        tag, known = fault["ctx"]["tag"], re.findall("'([^']+)'", str(fault["ctx"]["expected_tags"]))
        return f"{path}.type: {tag!r}", f"there is no such type; {did_you_mean(tag, known)}"
    if fault["type"] == "string_pattern_mismatch":
        what = _PATTERNS.get(fault["ctx"]["pattern"], f"has to match {fault['ctx']['pattern']}")
        return f"{path}: {shorten(fault['input'])}", what
    message = fault["msg"].removeprefix("Value error, ")
    return f"{path}: {shorten(fault['input'])}", f"{message[0].lower()}{message[1:]}"


def _without_tags(location: tuple[Any, ...], data: Any, keep_last: bool) -> list[Any]:
    """Remove the steps that pydantic adds to ``location`` for unions; they are not keys of ``data``."""
    path = []
    for position, step in enumerate(location):
        try:
            data = data[step]
        except (KeyError, IndexError, TypeError):
            if not (keep_last and position == len(location) - 1):
                continue
        path.append(step)
    return path


def _known_keys(schema: Any, location: tuple[Any, ...]) -> list[str]:
    """The keys that ``schema`` knows at ``location``, followed through nested models."""
    for step in location:
        if step in schema.model_fields:
            annotation = schema.model_fields[step].annotation
            classes = filter(inspect.isclass, (annotation, *get_args(annotation)))
            options = [cls for cls in classes if issubclass(cls, BaseModel)]
        else:  # the tag of a union: the member that has it
            options = [c for c in options if step in get_args(c.model_fields["type"].annotation)]
        if not options:
            return []
        schema = options[0]
    return list(schema.model_fields)
