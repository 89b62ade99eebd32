"""``python -m tests.golden.table [FILE ...]``: every array of the reference files beside ours.

The files are looked for in ``SC_GOLDEN_ROOT``, else in ``../shared/golden``. Exits with 1 if anything deviates.
"""

from __future__ import annotations

import sys

from tests.golden.files import MODULES, compare
from tests.golden.references import ROOT, full_root


def main() -> int:
    """Print the table."""
    root = full_root()
    if root is None:
        print(f"error: the reference files are not here; set {ROOT} to their folder", file=sys.stderr)
        return 2
    failed = total = 0
    print(f"{'file':<18} {'array':<52} {'deviation':>10} {'tolerance':>10}")
    for name in sys.argv[1:] or MODULES:
        for found in compare(name, root):
            failed += not found.holds
            total += found.limit is not None
            limit = "input" if found.limit is None else f"{found.limit:.0e}" if found.limit else "exact"
            mark = "" if found.holds else "  DEVIATES"
            print(f"{name:<18} {found.array:<52} {found.deviation:>10.1e} {limit:>10}{mark}")
    print(f"{total} arrays compared: {f'{failed} deviate' if failed else 'all within tolerance'}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
