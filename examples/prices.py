"""A price board: 500 symbols, a thousand price changes a second, and pages that show the latest.

The page subscribes with the policy `latest`: one that can't keep up is spared the prices between,
never the newest.

Run `python -m examples.prices`, and open http://127.0.0.1:8000/.
"""

import random
import string
from itertools import islice, product

import trio

from examples.site import main, make_site, run_with
from triode.store.operation import Merge

SYMBOLS = ["".join(three) for three in islice(product(string.ascii_uppercase, repeat=3), 500)]
TICK_S = 0.05
CHANGES = 50  # a tick

prices = {name: round(random.lognormvariate(4, 1), 2) for name in SYMBOLS}
app, triode = make_site("prices.html", {"prices": dict(prices)})


def moved(price: float) -> float:
    """The next price of a random walk."""
    return max(0.01, round(price * random.gauss(1, 0.002), 2))


async def feed() -> None:
    """Change some prices at each tick, in one write: all of a tick are seen together."""
    while True:
        changes = {name: moved(prices[name]) for name in random.sample(SYMBOLS, CHANGES)}
        prices.update(changes)
        await triode.write(Merge(("prices",), dict(changes)))
        await trio.sleep(TICK_S)


run_with(app, feed)

if __name__ == "__main__":
    main(app, __doc__)
