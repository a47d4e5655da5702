"""The layout of a flowchart: layers along its direction, and an order in each layer with few crossing arrows.

Source: Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures" (1981): break
cycles, assign layers by the longest path, order by barycenters.
"""

from collections.abc import Sequence
from statistics import fmean

Pair = tuple[int, int]  # from node, to node
SWEEPS = 8


def topological_order(n_nodes: int, edges: Sequence[Pair]) -> list[int]:
    """Return the nodes in an order in which only edges that close a cycle lead back.

    This is a depth-first search from each node, in order of appearance; the node that is finished last is first.
    """
    leaving: list[list[int]] = [[] for _ in range(n_nodes)]
    for start, end in edges:
        leaving[start].append(end)
    seen = [False] * n_nodes
    finished: list[int] = []
    for root in range(n_nodes):
        path = [] if seen[root] else [root]  # not recursive: a chain may have thousands of nodes
        while path:
            seen[path[-1]] = True
            following = next((end for end in leaving[path[-1]] if not seen[end]), None)
            if following is None:
                finished.append(path.pop())
            else:
                path.append(following)
    return finished[::-1]


def assign_ranks(n_nodes: int, edges: Sequence[Pair]) -> tuple[list[int], list[bool]]:
    """Return the rank of each node, by the longest path to it, and for each edge whether it leads back."""
    place = {node: place for place, node in enumerate(topological_order(n_nodes, edges))}
    back = [place[end] <= place[start] for start, end in edges]
    rank = [0] * n_nodes
    for start, end in sorted(edges, key=lambda edge: place[edge[0]]):
        if place[start] < place[end]:
            rank[end] = max(rank[end], rank[start] + 1)
    return rank, back


def order_ranks(rank: Sequence[int], edges: Sequence[Pair]) -> list[int]:
    """Return the place of each node in its rank, choosing the order with the fewest crossings of several sweeps."""
    ranks: list[list[int]] = [[] for _ in range(max(rank, default=-1) + 1)]
    for node, number in enumerate(rank):
        ranks[number].append(node)
    before: list[list[int]] = [[] for _ in rank]
    after: list[list[int]] = [[] for _ in rank]
    for start, end in edges:
        if rank[start] < rank[end]:
            after[start].append(end)
            before[end].append(start)
    place = [ranks[number].index(node) for node, number in enumerate(rank)]
    best = (crossings(rank, place, edges), list(place))
    for sweep in range(SWEEPS):
        forwards = sweep % 2 == 0
        for nodes in ranks if forwards else reversed(ranks):
            neighbors = before if forwards else after
            # Places count from the middle, because ranks are drawn centered. A node without neighbors keeps its place.
            middle = {
                node: fmean([place[one] - (len(ranks[rank[one]]) - 1) / 2 for one in neighbors[node] or [node]])
                for node in nodes
            }
            nodes.sort(key=middle.__getitem__)
            for order, node in enumerate(nodes):
                place[node] = order
        found = crossings(rank, place, edges)
        if found < best[0]:
            best = (found, list(place))
    return best[1]


def crossings(rank: Sequence[int], place: Sequence[int], edges: Sequence[Pair]) -> int:
    """Count the crossing pairs among edges between the same two ranks."""
    ends: dict[Pair, list[Pair]] = {}
    for start, end in edges:
        ends.setdefault((rank[start], rank[end]), []).append((place[start], place[end]))
    return sum(
        (one[0] - other[0]) * (one[1] - other[1]) < 0
        for between in ends.values()
        for number, one in enumerate(between)
        for other in between[:number]
    )


def nested_ranks(group_of: Sequence[int | None], parents: Sequence[int | None], edges: Sequence[Pair]) -> list[int]:
    """Return the rank of each node, such that the ranks of a group's nodes follow each other and have no other nodes.

    So a frame around a group holds nothing else. `group_of`: each node's innermost group; `parents`: of each group.
    """
    n_nodes = len(group_of)
    paths = [_path(group, parents, n_nodes) for group in group_of]
    items: dict[int | None, dict[int, None]] = {}  # of each group, in order: nodes, and groups as n_nodes + number
    for node, path in enumerate(paths):
        for level, item in zip([None, *path], [*path, node], strict=True):
            items.setdefault(level, {})[item] = None
    within: dict[int | None, list[Pair]] = {}  # edges between the items of each group
    for start, end in edges:
        (one, other) = ([*paths[start], start], [*paths[end], end])
        split = next((n for n, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]), None)
        if split is not None:
            within.setdefault(one[split - 1] if split else None, []).append((one[split], other[split]))
    ranks = [0] * n_nodes

    def place(level: int | None, first: int) -> int:
        """Place the items of a group from this rank on; return the next free rank."""
        numbers = {item: number for number, item in enumerate(items[level])}
        pairs = [(numbers[start], numbers[end]) for start, end in within.get(level, [])]
        by_rank: dict[int, list[int]] = {}
        for item, rank in zip(numbers, assign_ranks(len(numbers), pairs)[0], strict=True):
            by_rank.setdefault(rank, []).append(item)
        for _, some in sorted(by_rank.items()):
            nodes = [item for item in some if item < n_nodes]
            for node in nodes:
                ranks[node] = first
            first += bool(nodes)
            for group in some:
                first = place(group, first) if group >= n_nodes else first
        return first

    place(None, 0)
    return ranks


def ranks_inside(group_of: Sequence[int | None], parents: Sequence[int | None], ranks: Sequence[int]) -> list[set[int]]:
    """Return the ranks of the nodes inside each group, at any depth."""
    inside: list[set[int]] = [set() for _ in parents]
    for group, rank in zip(group_of, ranks, strict=True):
        for outer in _path(group, parents, 0):
            inside[outer].add(rank)
    return inside


def _path(group: int | None, parents: Sequence[int | None], offset: int) -> list[int]:
    """Return the groups around a node from the outermost to the innermost, each plus `offset`."""
    path: list[int] = []
    while group is not None:
        path.append(group + offset)
        group = parents[group]
    return path[::-1]
