"""Ranges that one process holds."""

import os
import subprocess
import sys

import pytest

from cacher.stores.ranges import LIMIT, Ranges


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "held")


def test_two_objects_exclude_each_other_where_they_overlap(path):
    one, other = Ranges(path), Ranges(path)
    assert one.take(5, 0, 3)
    assert not other.take(5, 2, 9)
    assert not other.take(5, 0, 1)
    assert other.take(5, 3, 9)
    assert other.take(1_000_000, 0, 3)


def test_one_object_does_not_take_twice(path):
    held = Ranges(path)
    assert held.take(5, 0, 3)
    assert not held.take(5, 2, 4)
    held.leave(5, 0, 3)
    assert held.take(5, 2, 4)


def test_leaving_one_range_keeps_its_neighbours(path):
    one, other = Ranges(path), Ranges(path)
    for start in range(0, 9, 3):
        assert one.take(5, start, start + 3)
    one.leave(5, 3, 6)
    assert not other.take(5, 2, 3)
    assert not other.take(5, 6, 7)
    assert other.take(5, 3, 6)


def test_what_was_not_taken_is_not_left(path):
    one, other = Ranges(path), Ranges(path)
    assert one.take(5, 0, 3)
    other.leave(5, 0, 3)
    one.leave(5, 0, 2)
    assert not other.take(5, 0, 3)


def test_closing_lets_go_and_opens_again(path):
    one, other = Ranges(path), Ranges(path)
    assert one.take(5, 0, 3)
    one.close()
    one.close()
    assert other.take(5, 0, 3)
    one.leave(5, 0, 3)
    assert not one.take(5, 0, 3)


def test_places_may_be_as_large_as_can_be(path):
    one, other = Ranges(path), Ranges(path)
    assert one.take(LIMIT - 1, LIMIT - 2, LIMIT - 1)
    assert not other.take(LIMIT - 1, 0, LIMIT - 1)


def test_a_mark_is_seen_by_all_and_is_another_each_time(path):
    one, other = Ranges(path), Ranges(path)
    assert one.marked() == b""
    marks = {b""}
    for held in (one, other, one):
        held.mark()
        assert one.marked() == other.marked()
        marks.add(one.marked())
    assert len(marks) == 4


def test_a_process_that_is_killed_holds_nothing(path):
    script = (
        "import sys; from cacher.stores.ranges import Ranges; held = Ranges(sys.argv[1]);"
        "print(held.take(5, 0, 3), flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, path],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert holder.stdout.readline() == "True\n"
    held = Ranges(path)
    assert not held.take(5, 2, 3)
    holder.kill()
    holder.communicate()
    assert held.take(5, 2, 3)


def test_a_child_holds_nothing_of_its_parent(path):
    held = Ranges(path)
    assert held.take(5, 0, 3)
    child = os.fork()
    if child == 0:
        held.leave(5, 0, 3)
        os._exit(2 * held.take(5, 0, 1) + held.take(5, 3, 4))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert not Ranges(path).take(5, 0, 3)


def test_a_folder_that_is_not_there_is_an_error(path):
    with pytest.raises(FileNotFoundError):
        Ranges(path + "/there").take(5, 0, 3)
