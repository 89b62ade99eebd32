"""``python -m tests.parity.table``: every array of the whole reference files beside ours, with its tolerance.

The files are looked for in ``SC_PARITY_ROOT``, else in ``../shared/parity``. Exits with 1 if anything deviates.
"""

from __future__ import annotations

import sys

from tests.parity import cats
from tests.parity.references import ROOT, full_root, load


def main() -> int:
    """Print the table."""
    root = full_root()
    if root is None:
        print(f"error: the reference files are not here; set {ROOT} to their folder", file=sys.stderr)
        return 2
    failed = 0
    print(f"{'file':<14} {'array':<36} {'deviation':>10} {'tolerance':>10}  measure")
    for name in cats.LAYERS:
        for found in cats.compare(name, load(name, root)):
            failed += not found.holds
            measure = {"no": "absolute", "each": "relative, each"}.get(
                found.tolerance.relative, "relative to the largest"
            )
            print(
                f"{name:<14} {found.array:<36} {found.deviation:>10.1e} {found.tolerance.limit:>10.0e}  "
                f"{measure}{'' if found.holds else '  DEVIATES'}"
            )
    print(f"{failed} deviate" if failed else "all within tolerance")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
