"""``python -m tests.parity.extract``: cut the extracts kept in the repository out of the whole reference files."""

from __future__ import annotations

import gzip
import sys

import numpy as np

from sc_imagenet.core.files import atomic_path
from tests.parity.models import modules
from tests.parity.references import HERE, ROOT, found_in, full_root, load


def main() -> int:
    """Write the extracts and the compressed lists of keys."""
    root = full_root()
    if root is None:
        print(f"error: the reference files are not here; set {ROOT} to their folder", file=sys.stderr)
        return 2
    for model in modules():
        for name in model.FILES:
            arrays = {key: model.thin(key, array) for key, array in load(name, root).items() if key != "report_json"}
            with atomic_path(HERE / f"{name}.npz") as temporary, open(temporary, "wb") as file:
                np.savez_compressed(file, **arrays)
        for name in getattr(model, "KEYS", model.FILES):
            listed = found_in(root, f"state_dict_keys/{name}.json")
            if listed is not None:  # HPF has no weights of its own
                with atomic_path(HERE / f"{name}.keys.json.gz") as temporary:
                    temporary.write_bytes(gzip.compress(listed.read_bytes(), mtime=0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
