"""Check a plain dictionary of options, before anything is created, and find all faults at once."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import ValidationError

from atbsn.metrics import ESTIMATED_PSNR, build_metric
from atbsn.options.optimization import CosineSchedule
from atbsn.options.schema import Options, TrainLoader
from atbsn.registry import ARCHS, DATASETS, MODELS, Registry
from atbsn.registry.build import check_arguments, check_text, describe_faults, with_defaults
from atbsn.registry.plugins import load_plugin
from atbsn.utils.errors import UserError
from atbsn.utils.suggest import did_you_mean


def check_options(raw: dict[str, Any], source: str, needs_network: bool = True) -> Options:
    """Check ``raw`` against the schema and against the signatures of the classes it names.

    Args:
        source: the name of the file, for messages.
        needs_network: whether a network, or weights that name theirs, must be named.

    Raises:
        UserError: there are faults; the message has a line for each, with path, value, rule and remedy.
    """
    check_text(_as_json(raw))
    faults = [*_plugin_faults(raw), *_schema_faults(raw)]
    faults += [
        fault for path, registry, entry in _components(raw) for fault in _component_faults(path, registry, entry)
    ]
    if not faults:
        options = Options.model_validate_json(_as_json(raw))
        faults = list(_cross_faults(options, needs_network))
    if faults:
        count = "1 fault" if len(faults) == 1 else f"{len(faults)} faults"
        raise UserError(f"{source}: {count}\n" + "\n".join(f"  {fault}" for fault in faults))
    return options


def _plugin_faults(raw: dict[str, Any]) -> Iterator[str]:
    """Load the plug-ins, so that the classes that they register are known, and yield what is wrong with them."""
    plugins = raw.get("plugins")
    for number, path in enumerate(plugins if isinstance(plugins, list) else ()):
        try:
            load_plugin(str(path))
        except UserError as error:
            yield f"plugins.{number}: {error}"


def _schema_faults(raw: dict[str, Any]) -> Iterator[str]:
    try:
        Options.model_validate_json(_as_json(raw))
    except ValidationError as error:
        yield from describe_faults(error, Options, raw)


def _components(raw: dict[str, Any]) -> Iterator[tuple[str, Registry[Any], Any]]:
    """Yield every part of the options that names a registered class: its path, the registry and the part."""
    for path, registry in (("network", ARCHS), ("model", MODELS)):
        if raw.get(path) is not None:
            yield path, registry, raw[path]
    if isinstance(raw.get("datasets"), dict):
        for name, entry in raw["datasets"].items():
            yield f"datasets.{name}", DATASETS, entry
            parts = entry.get("sets") if isinstance(entry, dict) else None
            for number, part in enumerate(parts if isinstance(parts, list) else ()):
                yield f"datasets.{name}.sets.{number}", DATASETS, part


def _component_faults(path: str, registry: Registry[Any], entry: Any) -> Iterator[str]:
    """Yield the faults of ``{type: ..., argument: ...}`` against the signature of the class that it names."""
    if not isinstance(entry, dict):
        return  # a fault that the check of the schema finds
    arguments = dict(entry)
    name = arguments.pop("type", None)
    loader: dict[str, Any] = {}
    if path == "datasets.train":
        loader = {key: arguments.pop(key) for key in TrainLoader.model_fields if key in arguments}
        try:
            TrainLoader.model_validate_json(_as_json(loader))
        except ValidationError as error:
            yield from describe_faults(error, TrainLoader, loader, prefix=f"{path}.")
    if name is None:
        yield f"{path}.type: missing; name a registered {registry.kind}: {', '.join(registry)}"
        return
    if not isinstance(name, str) or name not in registry:
        yield f"{path}.type: {name!r} is not a registered {registry.kind}; {did_you_mean(str(name), registry)}"
        return
    try:
        check_arguments(registry.get(name), arguments, exclude=("net",) if registry is MODELS else ())
    except UserError as error:
        yield from (f"{path}.{fault}" for fault in str(error).splitlines())


def _cross_faults(options: Options, needs_network: bool) -> Iterator[str]:
    """Yield what is wrong between options of different sections."""
    for name, metric in options.val.metrics.items():
        try:
            build_metric(metric)
        except UserError as error:
            yield f"val.metrics.{name}: {error}"
    train = options.train
    if train is not None and isinstance(train.scheduler, CosineSchedule) and train.scheduler.eta_min > train.optim.lr:
        yield f"train.scheduler.eta_min: {train.scheduler.eta_min} exceeds train.optim.lr ({train.optim.lr}); lower it"
    if train is not None and train.scheduler.warmup_iter > train.total_iter:
        warmup, total = train.scheduler.warmup_iter, train.total_iter
        yield f"train.scheduler.warmup_iter: {warmup} exceeds train.total_iter ({total}); lower it"
    best = options.val.best_metric
    if best is not None and best not in (known := (*options.val.metrics, ESTIMATED_PSNR)):
        yield f"val.best_metric: '{best}' is not one of val.metrics; {did_you_mean(best, known)}"
    for kind in ("val", "test"):
        found = options.inference(kind)
        if isinstance(found.tile, int) and isinstance(found.overlap, int) and found.tile < 2 * found.overlap:
            fault = f"{kind}.tile: {found.tile} is less than twice {kind}.overlap ({found.overlap}); enlarge it"
            if kind == "test" or (options.val.tile, options.val.overlap) != (None, None):
                yield fault
    if needs_network and options.network is None and options.path.pretrain_network is None:
        yield "network: missing; name an architecture, or weights that know theirs (path.pretrain_network)"
    if options.network is not None:
        yield from _hole_faults(options, ARCHS.get(options.network["type"]))
    if options.network is not None and options.model is not None:
        yield from _method_faults(options, options.network["type"], options.model)


def _hole_faults(options: Options, network: Any) -> Iterator[str]:
    """Yield the blind spots that the network does not take, if it has any to choose from."""
    named = [("test.k", options.test.k), *(("val.k", k) for k in options.val.k or ())]
    for path, k in named if hasattr(network, "check_choice") else ():
        try:
            if k is not None:
                network.check_choice(k)
        except UserError as error:
            yield f"{path}: {k}: {error}"


def _method_faults(options: Options, network: str, model: dict[str, Any]) -> Iterator[str]:
    """Yield why the method cannot train the network, or not with patches of this size."""
    method, net_class = MODELS.get(model["type"]), ARCHS.get(network)
    arguments = with_defaults(method, {key: value for key, value in model.items() if key != "type"})
    try:
        method.check_network(net_class, arguments)
    except UserError as error:
        yield str(error)
        return
    if "train" not in options.datasets:
        return
    size = options.loader().patch_size
    multiple = method.patch_multiple(net_class, arguments)
    if size % multiple:
        below, above = size // multiple * multiple, (size // multiple + 1) * multiple
        remedy = f"{below} or {above}" if below else str(above)
        yield (
            f"datasets.train.patch_size: {size} is not a multiple of {multiple}, which {network} "
            f"with {model['type']} needs; use {remedy}"
        )
    try:
        method.check_patch(net_class, arguments, size)
    except UserError as error:
        yield str(error)


def _as_json(value: Any) -> str:
    return json.dumps(value, default=str)
