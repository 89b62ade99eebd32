"""``python -m tests.fuzz``: every parser of foreign bytes fed spoilt inputs; one JSON line a parser.

    python -m tests.fuzz --inputs 100000 --workers 2
    python -m tests.fuzz --parser mat --inputs 5000 --saved runs/fuzz

Exit code 1 where anything but an accepted value or a one-line refusal came of an input.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.fuzz.campaign import campaign
from tests.fuzz.parsers import parsers


def main() -> None:
    """Run the campaign."""
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--inputs", type=int, default=100_000, help="of all parsers together")
    options.add_argument("--seconds", type=float, default=900.0, help="most for one parser")
    options.add_argument("--parser", action="append", choices=sorted(parsers()), help="only this one; repeat")
    options.add_argument("--workers", type=int, default=1, help="processes side by side")
    options.add_argument("--saved", type=Path, help="folder for inputs that broke a parser")
    given = options.parse_args()
    chosen = [parser for name, parser in parsers().items() if not given.parser or name in given.parser]
    whole = sum(parser.share for parser in chosen)
    counts = [max(1, round(given.inputs * parser.share / whole)) for parser in chosen]
    with ThreadPoolExecutor(given.workers) as pool:
        tallies = []
        runs = [
            pool.submit(campaign, parser, count, given.seconds, given.saved) for parser, count in zip(chosen, counts)
        ]
        for run in runs:
            tally = run.result()
            tallies.append(tally)
            print(tally.line(), flush=True)
            for crash in tally.found[:5]:
                reason = str(crash["why"]).strip().splitlines()[-1][:200] if crash["why"] else ""
                print(f"  {crash['kind']} at input {crash['number']}: {reason}", file=sys.stderr, flush=True)
    crashes = sum(tally.crashes for tally in tallies)
    print(f'{{"parser": "all", "inputs": {sum(tally.inputs for tally in tallies)}, "crashes": {crashes}}}')
    sys.exit(1 if crashes else 0)


if __name__ == "__main__":
    main()
