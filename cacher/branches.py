"""The branch tree: which state was forked or merged from which, deleted ancestors included."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from cacher.lineage import check_states
from cacher.state import State

MAX_ABOVE = 100  # levels of ancestors above the state that is asked about
MAX_LEVELS = 200  # of the whole tree: deep nesting is more than JSON writers take


class Kin(NamedTuple):
    """What a tree needs to know of a state; `token_count` is None where only the id is known."""

    state_id: str
    token_count: int | None
    parents: tuple[str, ...] = ()
    deleted: bool = False


@dataclass(slots=True)
class TreeNode:
    """A state in a branch tree.

    Attributes:
        state_id: Its id.
        token_count: How many tokens it holds, or held; None where that is not known.
        current: Whether it is the state the tree was asked for.
        deleted: Whether it is gone.
        also_from: Further states it was merged from; it hangs below the first.
        truncated: Whether it has children too deep to be shown.
        children: What was forked or merged from it, in the order the states were given.
    """

    state_id: str
    token_count: int | None
    current: bool = False
    deleted: bool = False
    also_from: tuple[str, ...] = ()
    truncated: bool = False
    children: list[TreeNode] = field(default_factory=list)

    def label(self) -> str:
        """Return what is said of it in a picture."""
        known = "" if self.token_count is None else f"{self.token_count} tokens"
        words = (known, "deleted" if self.deleted else "", "..." if self.truncated else "")
        return ", ".join(word for word in words if word)


class Tree:
    """A branch tree, from the oldest known ancestor down; `str` gives the text form."""

    def __init__(self, root: TreeNode) -> None:
        """Show a root; use `cacher.tree`."""
        self.root = root

    def nodes(self) -> Iterator[tuple[int, TreeNode]]:
        """Yield every node with its level, parents before children.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("Hello")
            >>> [level for level, node in cacher.tree(state, [state.fork()]).nodes()]
            [0, 1]
        """
        open_nodes = [(0, self.root)]
        while open_nodes:
            level, node = open_nodes.pop()
            yield level, node
            open_nodes.extend((level + 1, child) for child in reversed(node.children))

    def to_dict(self) -> dict[str, object]:
        """Return nested dictionaries: state_id, token_count, current, deleted, children.

        Example:
            >>> import cacher
            >>> cacher.tree(cacher.load("tales").state("Hello", state_id="a")).to_dict()["state_id"]
            'a'
        """
        shown: dict[int, dict[str, object]] = {}
        for _level, node in reversed(list(self.nodes())):  # children before parents
            item: dict[str, object] = {
                "state_id": node.state_id,
                "token_count": node.token_count,
                "current": node.current,
                "deleted": node.deleted,
                "children": [shown.pop(id(child)) for child in node.children],
            }
            if node.truncated:
                item["truncated"] = True
            shown[id(node)] = item
        return shown[id(self.root)]

    def to_text(self) -> str:
        """Return the tree drawn with lines, a state on a line.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("Hello", state_id="a")
            >>> print(cacher.tree(state, [state.fork(state_id="b")]).to_text())
            a (1 tokens) *
            └── b (1 tokens)
        """
        lines: list[str] = []
        open_nodes = [("", "", self.root)]
        while open_nodes:
            branch, below, node = open_nodes.pop()
            label = f" ({node.label()})" if node.label() else ""
            also = f" + {', '.join(node.also_from)}" if node.also_from else ""
            lines.append(f"{branch}{node.state_id}{label}{also}{' *' if node.current else ''}")
            for child in reversed(node.children):
                last = child is node.children[-1]
                open_nodes.append(
                    (
                        below + ("└── " if last else "├── "),
                        below + ("    " if last else "│   "),
                        child,
                    )
                )
        return "\n".join(lines)

    def to_mermaid(self) -> str:
        """Return the tree as a Mermaid graph; dotted arrows lead from a merge's other parents.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("Hello", state_id="a")
            >>> print(cacher.tree(state, [state.fork(state_id="b")]).to_mermaid())
            graph TD
                n0["a<br/>1 tokens"]:::current
                n1["b<br/>1 tokens"]
                n0 --> n1
                classDef current stroke-width:3px
                classDef deleted stroke-dasharray:4
        """
        nodes = [node for _level, node in self.nodes()]
        names = {node.state_id: f"n{i}" for i, node in enumerate(nodes)}
        boxes, arrows = [], []
        for node in nodes:
            name = names[node.state_id]
            style = ":::current" if node.current else ":::deleted" if node.deleted else ""
            label = f"<br/>{node.label()}" if node.label() else ""
            boxes.append(f'    {name}["{node.state_id}{label}"]{style}')
            arrows += [f"    {name} --> {names[child.state_id]}" for child in node.children]
            arrows += [f"    {names[p]} -.-> {name}" for p in node.also_from if p in names]
        styles = [
            "    classDef current stroke-width:3px",
            "    classDef deleted stroke-dasharray:4",
        ]
        return "\n".join(["graph TD", *boxes, *arrows, *styles])

    def __str__(self) -> str:
        return self.to_text()

    def __repr__(self) -> str:
        return f"<Tree of {sum(1 for _ in self.nodes())} states below {self.root.state_id}>"


def tree(state: State, others: Iterable[State] = ()) -> Tree:
    """Return the branch tree that holds a state.

    Args:
        state: The state; the tree begins at its oldest known ancestor.
        others: Other states that are known; those that are no relatives are not shown.

    Example:
        >>> import cacher
        >>> state = cacher.load("tales").state("Hello")
        >>> cacher.tree(state.fork(), [state]).root.state_id == state.id
        True
    """
    check_states([state])
    known = {id(each): each for each in (state, *others)}
    check_states(known.values())
    return family_tree([kin(each) for each in known.values()], state.id)


def kin(state: State) -> Kin:
    """Return what a tree needs to know of a state."""
    parents = state.merged_from or ([] if state.forked_from is None else [state.forked_from])
    return Kin(state.id, len(state), tuple(parents))


def family_tree(known: Iterable[Kin], current: str) -> Tree:
    """Return the tree that holds the state of the id `current`.

    Args:
        known: All states there are, deleted ones included.  Parents that are not among them are
            shown as deleted.
        current: The id of one of them.
    """
    members = {member.state_id: member for member in known}
    for member in list(members.values()):
        for parent in member.parents:
            members.setdefault(parent, Kin(parent, None, deleted=True))
    children: dict[str, list[str]] = {}
    for member in members.values():
        if member.parents:
            children.setdefault(member.parents[0], []).append(member.state_id)
    root = _oldest(members, current)
    return Tree(_grown(members, children, root, current))


def _oldest(members: dict[str, Kin], current: str) -> str:
    """Follow first parents up; ids that were given by hand may go in a circle."""
    seen = {current}
    while len(seen) <= MAX_ABOVE and members[current].parents:
        parent = members[current].parents[0]
        if parent in seen:
            break
        seen.add(parent)
        current = parent
    return current


def _grown(
    members: dict[str, Kin], children: dict[str, list[str]], root: str, current: str
) -> TreeNode:
    nodes = {root: _node(members[root], current)}
    level = [root]
    for depth in range(MAX_LEVELS):
        below: list[str] = []
        for name in level:
            fresh = [child for child in children.get(name, ()) if child not in nodes]
            if fresh and depth == MAX_LEVELS - 1:
                nodes[name].truncated = True
                continue
            for child in fresh:
                nodes[child] = _node(members[child], current)
                nodes[name].children.append(nodes[child])
            below += fresh
        level = below
    return nodes[root]


def _node(member: Kin, current: str) -> TreeNode:
    return TreeNode(
        member.state_id, member.token_count, member.state_id == current, member.deleted,
        member.parents[1:],
    )  # fmt: skip
