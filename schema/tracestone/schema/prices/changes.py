"""What a newer list of prices changes in a known one."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import date

from tracestone.schema.prices.price import ALWAYS, Price


def changes(known: Iterable[Price], newer: Iterable[Price], day: date, *, fix: bool = False) -> list[Price]:
    """The rows that bring a list up to a newer one, of the same scope.

    A model that was not there before costs what it costs for always. One whose price changed gets a row from `day` on;
    with `fix` the known price was wrong, and the row in force at `day` is replaced. A newer row that tells its own day
    is taken as it is. What the newer list has no more keeps its price: old spans still name it.
    """
    in_force: dict[tuple[str, str], Price] = {}
    for price in sorted(known, key=lambda price: price.effective_from):
        if price.effective_from <= day:
            in_force[price.provider, price.model] = price
    all_known = {price.key: price for price in known}
    found = []
    for price in newer:
        before = in_force.get((price.provider, price.model))
        if price.effective_from != ALWAYS:
            same = all_known.get(price.key)
            if same is None or not same.costs_the_same(price):
                found.append(price)
        elif before is None:
            found.append(price)
        elif not before.costs_the_same(price):
            found.append(replace(price, effective_from=before.effective_from if fix else day))
    return found
