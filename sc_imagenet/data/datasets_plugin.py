"""Makes ``datasets.load_dataset("sc_imagenet")`` and the other names of the catalogue reach our builder.

``datasets`` asks one function, ``datasets.load.dataset_module_factory``, what a name means; it is wrapped for
our names only. Where ``datasets`` is not imported yet, the wrapping waits until it is, so that importing this
package stays cheap. Its ``push_to_hub`` uploads the images of a data set unless told not to: it is wrapped, too, so
that ImageNet's are refused. (An entry among its packaged modules would be the other way; it fails in an empty working
directory and lists every file below ``data_dir`` at each call.)
"""

from __future__ import annotations

import functools
import sys

TYPE_CHECKING = False  # as typing's, whose import would take a third of this package's
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

_LOAD, _INSPECT, _FACTORY = "datasets.load", "datasets.inspect", "dataset_module_factory"
_MARK = "_sc_imagenet"
_PUSHED = {
    "datasets.arrow_dataset": ("Dataset",),
    "datasets.iterable_dataset": ("IterableDataset",),
    "datasets.dataset_dict": ("DatasetDict", "IterableDatasetDict"),
}


def install() -> None:
    """Wrap ``datasets`` now if it is imported, else as soon as it is; calling this again changes nothing."""
    loaded = sys.modules.get(_LOAD)
    if loaded is not None and hasattr(loaded, _FACTORY):
        _wrap(loaded)
    elif not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport())


def _wrap(load: ModuleType) -> None:
    original = getattr(load, _FACTORY)
    if hasattr(original, _MARK):
        return

    @functools.wraps(original)
    def dataset_module_factory(path: Any, *args: Any, **kwargs: Any) -> Any:
        from sc_imagenet.data.catalog import catalog

        name = path.replace("_", "-") if isinstance(path, str) else None
        known = catalog().get(name) if name is not None else None
        if known is not None and known.config_of is None:
            from sc_imagenet.data.load import dataset_module

            return dataset_module(known.name, kwargs.get("data_dir"), kwargs.get("data_files"))
        return original(path, *args, **kwargs)

    setattr(dataset_module_factory, _MARK, True)
    setattr(load, _FACTORY, dataset_module_factory)
    inspect = sys.modules.get(_INSPECT)  # holds a name of its own for the same function
    if inspect is not None and getattr(inspect, _FACTORY, None) is original:
        setattr(inspect, _FACTORY, dataset_module_factory)
    for module, kinds in _PUSHED.items():
        for kind in kinds:
            _guard(getattr(sys.modules[module], kind))


def _guard(kind: type[Any]) -> None:
    push = kind.push_to_hub

    @functools.wraps(push)
    def push_to_hub(self: Any, *args: Any, **kwargs: Any) -> Any:
        from sc_imagenet.data.publish import refuse_imagenet

        if kwargs.get("embed_external_files", True):
            refuse_imagenet(self)
        return push(self, *args, **kwargs)

    kind.push_to_hub = push_to_hub


class _AfterImport:
    """Lets the import of ``datasets.load`` run as ever and wraps the module when it has run."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _LOAD:
            return None
        sys.meta_path.remove(self)  # its work is done once
        for finder in sys.meta_path:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                spec.loader = _WrappingLoader(spec.loader)  # type: ignore[assignment]
                return spec
        return None


class _WrappingLoader:
    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _wrap(module)

    def __getattr__(self, name: str) -> Any:  # get_source, get_filename, ...: what inspect and pickle ask
        return getattr(self._loader, name)
