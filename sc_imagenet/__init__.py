"""The data of semantic correspondence under one schema, and the generator that makes more of it.

>>> import sc_imagenet, datasets
>>> datasets.get_dataset_config_names("sc_imagenet")
['pairs', 'images', 'toy']

``from sc_imagenet import load_dataset`` does the same without the hook. Importing this package imports
neither ``datasets`` nor ``torch``.
"""

from __future__ import annotations

from sc_imagenet.data import datasets_plugin

TYPE_CHECKING = False  # as typing's, whose import would take a third of this package's
if TYPE_CHECKING:
    from typing import Any

    from sc_imagenet.data.load import load_dataset, manifest_sha256

__all__ = ["load_dataset", "manifest_sha256"]

datasets_plugin.install()


def __getattr__(name: str) -> Any:
    if name in __all__:
        from sc_imagenet.data import load

        return getattr(load, name)
    raise AttributeError(f"module 'sc_imagenet' has no attribute {name!r}")
