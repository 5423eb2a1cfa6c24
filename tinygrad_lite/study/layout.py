"""Where the boxes of a graph go: a layered layout, as Graphviz's dot makes it, without Graphviz.

Sugiyama, Tagawa & Toda 1981: a rank for each box, so that all edges lead on; places within the ranks, so that few
cross; then coordinates. Long edges get a point in each rank that they pass, those from one box together. Gansner,
Koutsofios, North & Vo 1993 say why.
"""

from __future__ import annotations

from typing import NamedTuple

SWEEPS = 8
LARGE = 20_000  # points and boxes together, above which two sweeps must do: a sweep takes 0.1 s there


class Layout(NamedTuple):
    """Where everything is: the middle of each box, the points of each edge from one box's end to the other's begin."""

    places: list[tuple[float, float]]
    routes: list[list[tuple[float, float]]]
    width: float
    height: float


def layered(sizes, edges, gap: float = 24.0, rank_gap: float = 40.0) -> Layout:
    """A layout from top to bottom. sizes: (width, height) of each box; edges: (from, to), of a graph without cycles.

    Raises ValueError for a cycle.
    """
    if not sizes:
        return Layout([], [], 0.0, 0.0)
    ranks = _ranks(len(sizes), edges)
    widths, heights = [w for w, _ in sizes], [h for _, h in sizes]
    chains, below, above = [], [[] for _ in sizes], [[] for _ in sizes]
    trunks: dict[int, list[int]] = {}  # by box: the points of its long edges, which share their way
    for u, v in edges:
        trunk = trunks.setdefault(u, [u])
        for rank in range(ranks[u] + len(trunk), ranks[v]):
            point = len(ranks)
            ranks.append(rank)
            widths.append(0.0)
            heights.append(0.0)
            below.append([])
            above.append([trunk[-1]])
            below[trunk[-1]].append(point)
            trunk.append(point)
        chain = [*trunk[: ranks[v] - ranks[u]], v]
        below[chain[-2]].append(v)
        above[v].append(chain[-2])
        chains.append(chain)
    layers = _ordered(ranks, above, below)
    xs = _across(layers, widths, len(sizes), above, below, gap)
    tops, y = [], 0.0
    for layer in layers:
        tops.append(y)
        y += max(heights[i] for i in layer) + rank_gap
    tall = [max(heights[i] for i in layer) for layer in layers]
    left = min(x - w / 2 for x, w in zip(xs, widths))
    xs = [x - left for x in xs]
    places = [(xs[i], tops[ranks[i]] + tall[ranks[i]] / 2) for i in range(len(sizes))]
    routes = []
    for chain in chains:
        first, last = chain[0], chain[-1]
        points = [(xs[first], places[first][1] + heights[first] / 2)]
        for i in chain[1:-1]:  # straight through the rank, so that no box beside is touched
            points += [(xs[i], tops[ranks[i]]), (xs[i], tops[ranks[i]] + tall[ranks[i]])]
        points.append((xs[last], places[last][1] - heights[last] / 2))
        routes.append(points)
    return Layout(places, routes, max(x + w / 2 for x, w in zip(xs, widths)), y - rank_gap)


def _ranks(count, edges):
    """The longest way from any beginning; then each as late as it can be, unless that lengthens more than it shortens.

    A weight's transpose stands right before its product so, and not at the top with an edge through 1000 ranks.
    """
    below, waiting = [[] for _ in range(count)], [0] * count
    for u, v in edges:
        below[u].append(v)
        waiting[v] += 1
    incoming = list(waiting)
    rank, order = [0] * count, [i for i in range(count) if not waiting[i]]
    for u in order:  # grows on the way
        for v in below[u]:
            rank[v] = max(rank[v], rank[u] + 1)
            waiting[v] -= 1
            if not waiting[v]:
                order.append(v)
    if len(order) < count:
        raise ValueError("layered: the graph has a cycle")
    for u in reversed(order):
        if below[u] and incoming[u] <= len(below[u]):
            rank[u] = min(rank[v] for v in below[u]) - 1
    first = min(rank)
    return [r - first for r in rank]


def _ordered(ranks, above, below):
    """The ranks' members from left to right: sweeps down and up by barycentres; the order with the fewest crossings."""
    layers = [[] for _ in range(max(ranks) + 1)]
    for i in _by_depth(ranks, above, below):
        layers[ranks[i]].append(i)
    place = [0] * len(ranks)
    _number(layers, place)
    best, fewest = [list(layer) for layer in layers], _crossings(layers, below, place)
    for sweep in range(SWEEPS if len(ranks) <= LARGE else 2):
        if not fewest:
            break
        near, through = (above, layers[1:]) if sweep % 2 == 0 else (below, layers[-2::-1])
        for layer in through:
            keys = {i: sum(place[j] for j in near[i]) / len(near[i]) if near[i] else place[i] for i in layer}
            layer.sort(key=keys.__getitem__)
            for position, i in enumerate(layer):
                place[i] = position
        crossings = _crossings(layers, below, place)
        if crossings < fewest:
            best, fewest = [list(layer) for layer in layers], crossings
    return best


def _by_depth(ranks, above, below):
    """All, depth first from the last rank up, so that what belongs together begins side by side."""
    seen, order = [False] * len(ranks), []
    for start in sorted(range(len(ranks)), key=lambda i: -ranks[i]):
        stack = [start]
        while stack:
            i = stack.pop()
            if not seen[i]:
                seen[i] = True
                order.append(i)
                stack.extend(reversed(above[i]))
    return order


def _number(layers, place):
    for layer in layers:
        for position, i in enumerate(layer):
            place[i] = position


def _crossings(layers, below, place):
    """How many pairs of edges cross, rank by rank: inversions, counted with a Fenwick tree (Barth et al. 2004)."""
    total = 0
    for upper, lower in zip(layers, layers[1:]):
        tree, added = [0] * (len(lower) + 1), 0
        for i in upper:
            ends = sorted(place[j] for j in below[i])
            for end in ends:  # edges before this one that end further right cross it
                k, smaller = end + 1, 0
                while k:
                    smaller += tree[k]
                    k &= k - 1
                total += added - smaller
            for end in ends:
                k = end + 1
                while k <= len(lower):
                    tree[k] += 1
                    k += k & -k
            added += len(ends)
    return total


def _across(layers, widths, boxes, above, below, gap):
    """x of everything: each rank in turn as near as it can be to where its neighbours are, the order kept.

    Least squares under "no nearer than" is isotonic regression: pooling neighbours that violate it solves it exactly.
    """
    xs = [0.0] * len(widths)
    for layer in layers:
        x = 0.0
        for before, i in zip([None, *layer], layer):
            x += 0.0 if before is None else _apart(before, i, widths, boxes, gap)
            xs[i] = x
        middle = x / 2
        for i in layer:
            xs[i] -= middle
    passes = 10 if len(widths) <= LARGE else 4
    for number in range(passes):
        down = number % 2 == 0
        for layer in layers if down else reversed(layers):
            near = above if down else below
            wish, weight = [], []
            for i in layer:
                around = near[i] or (below if down else above)[i]
                total = pull = 0.0
                for j in around:
                    w = (
                        8.0 if i >= boxes and j >= boxes else 2.0 if i >= boxes or j >= boxes else 1.0
                    )  # long edges straight
                    total += w * xs[j]
                    pull += w
                wish.append(total / pull if pull else xs[i])
                weight.append(pull or 0.1)
            for i, x in zip(layer, _spread(layer, wish, weight, widths, boxes, gap)):
                xs[i] = x
    return xs


def _apart(a, b, widths, boxes, gap):
    """How far the middles of two neighbours must be from each other."""
    return (widths[a] + widths[b]) / 2 + (gap if a < boxes or b < boxes else gap / 2)


def _spread(layer, wish, weight, widths, boxes, gap):
    offsets, offset = [], 0.0
    for before, i in zip([None, *layer], layer):
        offset += 0.0 if before is None else _apart(before, i, widths, boxes, gap)
        offsets.append(offset)
    pools = []  # (mean, weight, members)
    for x, w, o in zip(wish, weight, offsets):
        mean, mass, members = x - o, w, 1
        while pools and pools[-1][0] > mean:
            m, n, k = pools.pop()
            mean, mass, members = (mean * mass + m * n) / (mass + n), mass + n, members + k
        pools.append((mean, mass, members))
    starts = [mean for mean, _, members in pools for _ in range(members)]
    return [start + o for start, o in zip(starts, offsets)]
