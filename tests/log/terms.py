"""Model clusters, as many as you like, each from a seed of its own.

python -m tests.log.terms --steps 5000000
python -m tests.log.terms --mutations        each invariant notices a fault that is put in
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from tests.log.chaos import STEPS, run
from tests.log.mutations import MUTATIONS, notices
from tests.log.world import Violation, World


def soak(steps: int, seed: int) -> Counter[str]:
    """So many steps in all; what came about. Raises `Violation`, with a note of the seed."""
    counts: Counter[str] = Counter()
    for number in range(-(-steps // STEPS)):
        world = World(seed + number)
        try:
            run(world)
        except Exception as error:
            error.add_note(f"seed {seed + number}")
            raise
        counts.update(world.counts)
        counts["acknowledged"] += len(world.acknowledged)
        counts["announced as lost"] += len(world.acknowledged.keys() & world.announced)
    return counts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutations", action="store_true")
    args = parser.parse_args()
    if args.mutations:
        missed = 0
        for mutation in MUTATIONS:
            noticed = notices(mutation, args.seed)
            missed += not noticed
            print(f"{mutation.name:60} {noticed or 'NOT NOTICED'}", flush=True)
        sys.exit(f"{missed} of {len(MUTATIONS)} were not noticed" if missed else 0)
    began = time.monotonic()
    try:
        counts = soak(args.steps, args.seed)
    except Violation as violation:
        sys.exit(f"{violation} ({', '.join(violation.__notes__)})")
    print(f"{args.steps} steps in {time.monotonic() - began:.0f} s, no violation")
    for what, count in sorted(counts.items()):
        print(f"{count:9} {what}")


if __name__ == "__main__":
    main()
