"""From ``{"type": name, argument: value, ...}`` to an object, with the arguments checked first."""

import inspect
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from atbsn.registry import Registry
from atbsn.utils.errors import UserError
from atbsn.utils.suggest import did_you_mean


@lru_cache(maxsize=256)
def arguments_schema(function: Callable[..., Any], exclude: tuple[str, ...] = ()) -> type[BaseModel]:
    """A strict pydantic model of the keyword arguments of ``function`` (a class: of its constructor)."""
    target = function.__init__ if inspect.isclass(function) else function
    hints = get_type_hints(target, include_extras=True)
    fields: dict[str, Any] = {}
    for name, parameter in inspect.signature(function).parameters.items():
        if name in exclude or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        default = ... if parameter.default is parameter.empty else parameter.default
        fields[name] = (hints.get(name, Any), default)
    config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    return create_model(f"{function.__name__}Arguments", __config__=config, **fields)


def check_arguments(
    function: Callable[..., Any], arguments: Mapping[str, Any], exclude: tuple[str, ...] = ()
) -> dict[str, Any]:
    """``arguments`` converted to the types ``function`` declares; only those given.

    Raises:
        ValidationError: pydantic's, listing every fault.
    """
    checked = arguments_schema(function, exclude).model_validate(dict(arguments))
    return {name: getattr(checked, name) for name in checked.model_fields_set}


def describe_faults(error: ValidationError, schema: type[BaseModel], prefix: str = "") -> list[str]:
    """One line a fault: path, value, rule and remedy. ``schema`` is what was validated against."""
    return [_describe(fault, schema, prefix) for fault in error.errors()]


def build(registry: Registry, options: Mapping[str, Any], **given: Any) -> Any:
    """Build the entry ``options["type"]`` of ``registry`` from the other options.

    Args:
        given: arguments that do not come from options, such as an already built network.
    """
    arguments = dict(options)
    name = arguments.pop("type", None)
    if name is None:
        raise UserError(f"{dict(options)}: 'type' is missing; name a {registry.kind}: {', '.join(registry)}")
    cls = registry.get(name)
    try:
        arguments = check_arguments(cls, arguments, exclude=tuple(given))
    except ValidationError as error:
        faults = describe_faults(error, arguments_schema(cls, tuple(given)), prefix=f"{name}.")
        raise UserError("; ".join(faults)) from None
    return cls(**given, **arguments)


def _describe(fault: Any, schema: type[BaseModel], prefix: str) -> str:
    path = prefix + ".".join(str(part) for part in fault["loc"])
    if fault["type"] == "extra_forbidden":
        return f"{path}: unknown key; {did_you_mean(str(fault['loc'][-1]), _known_keys(schema, fault['loc'][:-1]))}"
    if fault["type"] == "missing":
        return f"{path}: missing; this key is required"
    message = fault["msg"].removeprefix("Value error, ")
    return f"{path}: {fault['input']!r}: {message[0].lower()}{message[1:]}"


def _known_keys(schema: Any, location: tuple[Any, ...]) -> list[str]:
    """The keys that ``schema`` knows at ``location``, followed through nested models."""
    for step in location:
        field = schema.model_fields.get(step) if step in getattr(schema, "model_fields", {}) else None
        if field is None:
            continue
        candidates = (field.annotation, *get_args(field.annotation))
        schema = next((c for c in candidates if inspect.isclass(c) and issubclass(c, BaseModel)), schema)
    return list(schema.model_fields)
