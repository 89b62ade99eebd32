"""``python -m tests.parity.table [FILE ...]``: every array of the reference files beside ours.

The files are looked for in ``SC_PARITY_ROOT`` and its folders, else in ``../shared/parity``; those that are not there
are named. Exits with 1 if anything deviates. What is
allowed is the tolerance of the array and, where it comes from a training step, the rounding of float32 on top (see
``tests/parity/rounding.py``); shown is the element that comes nearest to it.
"""

from __future__ import annotations

import sys

from tests.parity.models import modules
from tests.parity.references import ROOT, found_in, full_root, load

MEASURES = {
    "no": "absolute",
    "each": "relative, each",
    "together": "relative, together",
    "to the largest": "relative to the largest",
}


def main() -> int:
    """Print the table."""
    root = full_root()
    if root is None:
        print(f"error: the reference files are not here; set {ROOT} to their folder", file=sys.stderr)
        return 2
    failed = absent = 0
    print(f"{'file':<18} {'array':<36} {'deviation':>10} {'allowed':>10} {'tolerance':>10}  measure")
    files = {name: model for model in modules() for name in model.FILES}
    for name in sys.argv[1:] or files:
        if found_in(root, f"{name}.npz") is None:
            print(f"{name:<18} is not in {root}")
            absent += 1
            continue
        for found in files[name].compare(name, load(name, root)):
            failed += not found.holds
            print(
                f"{name:<18} {found.array:<36} {found.deviation:>10.1e} {found.allowed:>10.1e} "
                f"{found.tolerance.limit:>10.0e}  {MEASURES[found.tolerance.relative]}"
                f"{'' if found.holds else '  DEVIATES'}",
                flush=True,
            )
    print((f"{failed} deviate" if failed else "all within tolerance") + (f"; {absent} files absent" if absent else ""))
    return 1 if failed or absent == len(files) else 0


if __name__ == "__main__":
    sys.exit(main())
