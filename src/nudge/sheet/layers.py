"""Where the nodes of a flowchart stand: layers along its direction, and an order within each that crosses few arrows.

Source: Sugiyama, Tagawa and Toda, "Methods for visual understanding of hierarchical system structures" (1981): cycles
broken, layers by the longest path, order by barycentres.
"""

from collections.abc import Sequence
from statistics import fmean

Pair = tuple[int, int]  # from node, to node
SWEEPS = 8


def backward(n_nodes: int, edges: Sequence[Pair]) -> tuple[list[bool], list[int]]:
    """Per edge whether it closes a cycle, and the nodes so ordered that all others lead onwards.

    A depth-first search from each node in order of appearance; an edge into a node that is still open closes a cycle.
    """
    leaving: list[list[int]] = [[] for _ in range(n_nodes)]
    for number, (start, _) in enumerate(edges):
        leaving[start].append(number)
    back = [False] * len(edges)
    finished: list[int] = []
    seen, still_open = [False] * n_nodes, [False] * n_nodes
    for root in range(n_nodes):
        if seen[root]:
            continue
        seen[root] = still_open[root] = True
        stack = [(root, iter(leaving[root]))]  # of our own: a chain of thousands of nodes is only a long chain
        while stack:
            node, numbers = stack[-1]
            for number in numbers:
                end = edges[number][1]
                back[number] = still_open[end]
                if not seen[end]:
                    seen[end] = still_open[end] = True
                    stack.append((end, iter(leaving[end])))
                    break
            else:
                stack.pop()
                still_open[node] = False
                finished.append(node)
    return back, finished[::-1]


def layers(n_nodes: int, edges: Sequence[Pair]) -> tuple[list[int], list[bool]]:
    """The rank of every node, by the longest path to it, and per edge whether it leads back."""
    back, onwards = backward(n_nodes, edges)
    leaving: list[list[int]] = [[] for _ in range(n_nodes)]
    for (start, end), leads_back in zip(edges, back, strict=True):
        if not leads_back:
            leaving[start].append(end)
    rank = [0] * n_nodes
    for node in onwards:
        for end in leaving[node]:
            rank[end] = max(rank[end], rank[node] + 1)
    return rank, back


def orders(rank: Sequence[int], edges: Sequence[Pair]) -> list[int]:
    """The place of every node in its rank, 0, 1, 2, …: of the orders it tried, the one with the fewest crossings."""
    ranks: list[list[int]] = [[] for _ in range(max(rank, default=-1) + 1)]
    for node, own in enumerate(rank):
        ranks[own].append(node)
    before: list[list[int]] = [[] for _ in rank]
    after: list[list[int]] = [[] for _ in rank]
    for start, end in edges:
        if rank[start] < rank[end]:
            after[start].append(end)
            before[end].append(start)
    place = [ranks[own].index(node) for node, own in enumerate(rank)]
    best = (crossings(rank, place, edges), list(place))
    for sweep in range(SWEEPS):
        forwards = sweep % 2 == 0
        for nodes in ranks if forwards else reversed(ranks):
            beside = before if forwards else after
            # Counted from the middle of a rank, as ranks are drawn centred. Who has no neighbour there keeps its place.
            middle = {
                node: fmean([place[one] - (len(ranks[rank[one]]) - 1) / 2 for one in beside[node] or [node]])
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
    """How many pairs of edges between the same two ranks cross."""
    ends: dict[Pair, list[Pair]] = {}
    for start, end in edges:
        ends.setdefault((rank[start], rank[end]), []).append((place[start], place[end]))
    return sum(
        (one[0] - other[0]) * (one[1] - other[1]) < 0
        for between in ends.values()
        for number, one in enumerate(between)
        for other in between[:number]
    )
