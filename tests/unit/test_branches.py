from __future__ import annotations

import json

import cacher
from cacher import Model, State
from cacher.branches import MAX_ABOVE, MAX_LEVELS, Kin, family_tree


def line(tree: cacher.Tree) -> list[tuple[int, str]]:
    return [(level, node.state_id) for level, node in tree.nodes()]


def test_a_tree_goes_from_the_oldest_ancestor_down(model: Model) -> None:
    root = model.state("Once upon", state_id="root")
    left = root.fork(state_id="left").append(" a time")
    right = root.fork(state_id="right")
    leaf = left.fork(state_id="leaf", at=1)
    stranger = model.state("Else", state_id="stranger")
    tree = cacher.tree(left, [leaf, stranger, root, right])
    assert line(tree) == [(0, "root"), (1, "left"), (2, "leaf"), (1, "right")]
    assert [node.token_count for _, node in tree.nodes()] == [2, 4, 1, 2]
    assert [node.state_id for _, node in tree.nodes() if node.current] == ["left"]
    assert tree.to_dict() == {
        "state_id": "root", "token_count": 2, "current": False, "deleted": False, "children": [
            {"state_id": "left", "token_count": 4, "current": True, "deleted": False, "children": [
                {"state_id": "leaf", "token_count": 1, "current": False, "deleted": False,
                 "children": []}]},
            {"state_id": "right", "token_count": 2, "current": False, "deleted": False,
             "children": []}]}  # fmt: skip
    assert str(tree).splitlines() == [
        "root (2 tokens)",
        "├── left (4 tokens) *",
        "│   └── leaf (1 tokens)",
        "└── right (2 tokens)",
    ]


def test_what_is_gone_is_shown_as_gone(model: Model) -> None:
    child = model.state("Hello", state_id="gone").fork(state_id="child")
    tree = cacher.tree(child)
    assert line(tree) == [(0, "gone"), (1, "child")]
    assert tree.root.deleted
    assert tree.root.token_count is None
    assert "gone (deleted)" in str(tree)
    assert 'n0["gone<br/>deleted"]:::deleted' in tree.to_mermaid()
    known = family_tree([Kin("a", 3, deleted=True), Kin("b", 4, ("a",))], "b")
    assert "a (3 tokens, deleted)" in str(known)


def test_a_merge_hangs_below_its_first_parent(model: Model) -> None:
    root = model.state("Once", state_id="root")
    parts = [root.fork(state_id=name).append(text) for name, text in (("a", " x"), ("b", " y"))]
    merged = cacher.merge(parts, state_id="m")
    tree = cacher.tree(merged, [root, *parts])
    assert line(tree) == [(0, "root"), (1, "a"), (2, "m"), (1, "b")]
    assert "m (4 tokens) + b *" in str(tree)
    assert "n3 -.-> n2" in tree.to_mermaid()


def test_circles_and_long_chains_have_an_end() -> None:
    circle = [Kin("a", 1, ("b",)), Kin("b", 1, ("a",)), Kin("c", 1, ("c",))]
    assert line(family_tree(circle, "a")) == [(0, "b"), (1, "a")]
    assert line(family_tree(circle, "c")) == [(0, "c")]
    chain = [Kin("s0", 0)] + [Kin(f"s{i}", i, (f"s{i - 1}",)) for i in range(1, 5000)]
    tree = family_tree(chain, "s2500")
    assert tree.root.state_id == f"s{2500 - MAX_ABOVE}"
    nodes = list(tree.nodes())
    assert len(nodes) == MAX_LEVELS
    assert [node.state_id for _, node in nodes if node.truncated] == [nodes[-1][1].state_id]
    assert json.dumps(tree.to_dict()).count("truncated") == 1
    assert str(tree).count("\n") == MAX_LEVELS - 1


def test_only_states_are_taken(story: State) -> None:
    import pytest

    for wrong in (5, "a", None):
        with pytest.raises(TypeError):
            cacher.tree(wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError):
            cacher.tree(story, [wrong])  # type: ignore[list-item]
    assert line(cacher.tree(story, [story, story])) == [(0, story.id)]
