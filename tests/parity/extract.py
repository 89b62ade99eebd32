"""``python -m tests.parity.extract``: cut the extracts kept in the repository out of the whole reference files."""

from __future__ import annotations

import gzip
import sys

import numpy as np

from sc_imagenet.files import atomic_path
from tests.parity import cats
from tests.parity.references import HERE, ROOT, full_root, load


def main() -> int:
    """Write the extracts and the compressed lists of keys."""
    root = full_root()
    if root is None:
        print(f"error: the reference files are not here; set {ROOT} to their folder", file=sys.stderr)
        return 2
    for name in cats.LAYERS:
        arrays = {key: cats.thin(key, array) for key, array in load(name, root).items()}
        with atomic_path(HERE / f"{name}.npz") as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)
        keys = (root / "state_dict_keys" / f"{name}.json").read_bytes()
        with atomic_path(HERE / f"{name}.keys.json.gz") as temporary:
            temporary.write_bytes(gzip.compress(keys, mtime=0))
    return 0


if __name__ == "__main__":
    sys.exit(main())
