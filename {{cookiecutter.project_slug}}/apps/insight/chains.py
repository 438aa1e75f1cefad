"""Who waits for whom, in the order of a tree: each session below the one that it waits for."""

from collections import defaultdict
from typing import Any

LEAST_WAIT = 1.0  # seconds, for which sessions wait every day


def arrange_chains(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the sessions, each root before those below it, and tell by each root whom it holds up."""
    known = {row["pid"]: row for row in rows}
    waiting = defaultdict(list)
    for row in rows:
        for pid in set(row["waits_for"]):
            waiting[pid].append(row["pid"])
    arranged: dict[int, dict[str, Any]] = {}
    for pid in sorted(known, key=lambda pid: bool(known[pid]["waits_for"])):  # one that does not wait is a root
        if pid not in arranged:
            chain = descend(pid, waiting, set(arranged))
            arranged |= {each: {**known[each], "depth": depth, "root": pid} for each, depth in chain.items()}
            arranged[pid] |= judge([arranged[each] for each in chain])
    return list(arranged.values())


def descend(root: int, waiting: dict[int, list[int]], seen: set[int]) -> dict[int, int]:
    """Return the depth of each session below a root that was not seen below another, in the order of the tree."""
    depths: dict[int, int] = {}
    following = [(root, 0)]
    while following:
        pid, depth = following.pop()
        if pid not in depths and pid not in seen:
            depths[pid] = depth
            following += [(each, depth + 1) for each in sorted(waiting[pid], reverse=True)]
    return depths


def judge(chain: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what a finding says of a root: whom it holds up, and for how long."""
    root, *others = chain
    longest = max((row["wait_seconds"] or 0 for row in others), default=0)
    who = ", ".join(filter(None, (root["user"], root["application"], root["state"])))
    wrong = "prepared" if root["pid"] == 0 else "blocks"
    return {
        "others": f"{len(others)} others" if len(others) > 1 else "another session",
        "longest": longest,
        "who": who or "of another role",
        "wrong": wrong if longest >= LEAST_WAIT else None,
    }
