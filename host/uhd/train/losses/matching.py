"""One-to-one matching of few objects with few queries, by cost."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Costs = npt.NDArray[np.float64]
Pairs = tuple[npt.NDArray[Any], npt.NDArray[Any]]

#: Stands for a cost that is no number: worse than all others, and still to be added up.
_WORST = 1e12


def hungarian(costs: Costs) -> Pairs:
    """Rows and columns [min(n,m)] of the cheapest one-to-one matching of ``costs`` [n,m]; rows ascend.

    Shortest augmenting paths with potentials (Jonker and Volgenant), O(n**2 m) with the inner loop in NumPy. Costs
    that are not finite are taken as very high.
    """
    costs = np.nan_to_num(np.asarray(costs, dtype=np.float64), nan=_WORST, posinf=_WORST, neginf=-_WORST)
    if costs.shape[0] > costs.shape[1]:
        columns, rows = hungarian(costs.T)
        order = rows.argsort()
        return rows[order], columns[order]
    count, wide = costs.shape
    row_price, price = np.zeros(count), np.zeros(wide)
    owner = np.full(wide, -1)
    for row in range(count):
        distance = np.full(wide, np.inf)
        before = np.full(wide, -1)
        done = np.zeros(wide, dtype=bool)
        here, column, reach = row, -1, 0.0
        while True:  # Dijkstra over columns, until a free one is nearest
            through = reach + costs[here] - row_price[here] - price
            shorter = ~done & (through < distance)
            distance[shorter], before[shorter] = through[shorter], column
            column = int(np.where(done, np.inf, distance).argmin())
            reach = float(distance[column])
            done[column] = True
            if owner[column] < 0:
                break
            here = int(owner[column])
        visited = done.copy()
        visited[column] = False
        row_price[owner[visited]] += reach - distance[visited]
        row_price[row] += reach
        price[visited] -= reach - distance[visited]
        while column >= 0:
            previous = int(before[column])
            owner[column] = owner[previous] if previous >= 0 else row
            column = previous
    columns = np.flatnonzero(owner >= 0)
    rows = owner[columns]
    order = rows.argsort()
    return rows[order], columns[order]


def greedy(costs: Costs) -> Pairs:
    """Rows and columns of the reference's matching: the cheapest pair that is left, again and again."""
    rows: list[int] = []
    columns: list[int] = []
    for place in np.argsort(costs, axis=None, kind="stable"):
        row, column = divmod(int(place), costs.shape[1])
        if row not in rows and column not in columns:
            rows.append(row)
            columns.append(column)
    return np.array(rows, dtype=np.int64), np.array(columns, dtype=np.int64)
