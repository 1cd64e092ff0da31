"""What a step is worth: `python -m bench.calibrate [NAME…]`.

Work is counted in steps of about a microsecond (`store/work.py`). Each row is work of one kind: how
many microseconds one of its steps takes, and the longest time between two charges, during which
nobody else can have a turn. CPU time of this thread, the quickest of several rounds: what else the
machine does is not in it.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import click

from triode.store.change import Edit
from triode.store.document import Document
from triode.store.filter import parse_filter
from triode.store.footprint import footprint
from triode.store.index import Index
from triode.store.operation import Merge, Patch, Set
from triode.store.pattern import parse_pattern
from triode.store.value import MISSING, copy_measured, weigh
from triode.store.work import Work

ROUNDS: Final = 5
# A step of these is worth so much at least and at most. In front of that a row stands out.
LEAST_US: Final = 0.1
MOST_US: Final = 1.5
LONGEST_MS: Final = 1.0

Job = Callable[[Work], object]
JOBS: dict[str, Callable[[], Job]] = {}


class Counted:
    """Counts what is charged; with `timed` also the longest time between two charges."""

    left = 1 << 60

    def __init__(self, *, timed: bool = False) -> None:
        self.steps = 0
        self.longest_s = 0.0
        self._timed = timed
        self._last = time.thread_time()

    def charge(self, steps: int) -> None:
        """Count."""
        self.steps += steps
        if self._timed:
            now = time.thread_time()
            self.longest_s = max(self.longest_s, now - self._last)
            self._last = time.thread_time()


def job(make: Callable[[], Job]) -> Callable[[], Job]:
    """A row of the table; `make` prepares it and gives what is measured."""
    JOBS[make.__name__.strip("_").replace("_", " ")] = make
    return make


def selecting(text: str, root: Any) -> Job:
    """An evaluation."""
    chosen = parse_filter(text)
    return lambda work: deque(chosen.select(root, work), maxlen=0)


def planning(op: Any, root: Any) -> Job:
    """A write, planned."""
    return lambda work: Document(root).weighed_plan(op, work)


def matching(texts: list[str], root: Any, edit: Edit) -> Job:
    """The filters that an edit concerns."""
    index = Index()
    for text in texts:
        index.add(parse_filter(text), root)
    return lambda work: index.match(root, edit, work)


OBJECTS: Final = [{"x": n, "s": f"text {n}", "in": {"y": [n]}} for n in range(20_000)]
NUMBERS: Final = [*range(100_000)]


def _deep(depth: int, inside: Any) -> Any:
    for _ in range(depth):
        inside = {"a": inside}
    return inside


@job
def own_names() -> Job:
    return selecting("[*].in.y[0]", OBJECTS)


@job
def own_wildcards() -> Job:
    return selecting("[*].*", OBJECTS)


@job
def own_slices() -> Job:
    return selecting("[0:]", NUMBERS)


@job
def own_condition_on_order() -> Job:
    return selecting("[x>5]", OBJECTS)


@job
def own_condition_on_equality() -> Job:
    return selecting("[x=5]", OBJECTS)


@job
def own_conditions_of_many_tests() -> Job:
    return selecting("".join(f"[x>{-n}]" for n in range(1, 50)), OBJECTS[:2000])


@job
def own_condition_on_an_object_of_many_equal() -> Job:
    return selecting("[x=1][y>5]", [{"x": 1, "y": n} for n in range(20_000)])


@job
def own_descent_over_objects() -> Job:
    return selecting("..zz", OBJECTS)


@job
def own_descent_over_numbers() -> Job:
    return selecting("..zz", NUMBERS)


@job
def own_descents() -> Job:
    return selecting("..a" * 60 + "..zz", _deep(60, [[]] * 20_000))


@job
def own_names_far_down() -> Job:
    return selecting("..a", _deep(400, 1))


@job
def own_many_segments_each_element() -> Job:
    return selecting("[*]" + ".a" * 100, [_deep(100, 1)] * 1000)


@job
def json_path_wildcards() -> Job:
    return selecting("$.*.*", OBJECTS)


@job
def json_path_slices() -> Job:
    return selecting("$[::2]", NUMBERS)


@job
def json_path_names() -> Job:
    return selecting(
        "$[" + ",".join(f"'{n}'" for n in range(300)) + "]" * 1, {str(n): n for n in range(300)}
    )


@job
def json_path_repeated_names() -> Job:
    return selecting("$" + ("['" + "','".join("a" * 60) + "']") * 3, {"a": {"a": {"a": 1}}})


@job
def json_path_absent_names() -> Job:
    return selecting("$[*]['" + "','".join("bcdefghijklmnop") + "']", OBJECTS)


@job
def json_path_descent() -> Job:
    return selecting("$..zz", OBJECTS)


@job
def json_path_descent_over_numbers() -> Job:
    return selecting("$..zz", NUMBERS)


@job
def json_path_descents_in_conditions() -> Job:
    return selecting("$[*][" + "?@..a," * 19 + "?@..a]", [[[1] * 10_000]] * 3)


@job
def json_path_comparison() -> Job:
    return selecting("$[?@.x>5]", OBJECTS)


@job
def json_path_many_operators() -> Job:
    return selecting("$[?" + "||".join("@.x<0" for _ in range(80)) + "]", OBJECTS[:2000])


@job
def json_path_existence() -> Job:
    return selecting("$[?@.zz]", OBJECTS)


@job
def json_path_function() -> Job:
    return selecting("$[?length(@.s)>100]", OBJECTS)


@job
def json_path_count() -> Job:
    return selecting("$[?count($[*])>1]", [*range(300)])


@job
def json_path_deep_comparison() -> Job:
    return selecting("$[?@==$[0]]", [[*range(2000)] for _ in range(50)])


@job
def json_path_deep_comparison_of_objects() -> Job:
    return selecting("$[?@==$[0]]", [{str(n): n for n in range(2000)} for _ in range(50)])


@job
def json_path_text_comparison() -> Job:
    return selecting("$[?@=='" + "x" * 4000 + "']", ["x" * 4000] * 5000)


@job
def json_path_long_text_comparison() -> Job:
    return selecting("$[?@==$[0]]", ["x" * 100_000 + str(n) for n in range(2000)])


@job
def json_path_many_segments() -> Job:
    return selecting("$" + "[*]" * 100, _nested_lists(98, [*range(10_000)]))


def _nested_lists(depth: int, inside: Any) -> Any:
    for _ in range(depth):
        inside = [inside]
    return inside


@job
def pattern_known() -> Job:
    return selecting("$[?match(@, 'a*b*c*')]", ["abc" * 1000] * 50)


@job
def pattern_of_many_states() -> Job:
    return selecting("$[?search(@, '(a|b){0,150}c')]", ["ab" * 500] * 20)


@job
def pattern_of_many_ranges() -> Job:
    ranges = "".join(f"{chr(0x100 + 3 * n)}-{chr(0x101 + 3 * n)}" for n in range(150))
    text = "".join(chr(0x100 + n % 450) for n in range(2000))
    return selecting(f"$[?search(@, '[{ranges}]{{0,450}}[0]')]", [text])


@job
def pattern_of_many_classes() -> Job:
    text = "".join(chr(0x100 + n % 5000) for n in range(2000))
    return selecting("$[?search(@, '" + "[^a]?" * 90 + "b')]", [text])


@job
def pattern_compiled() -> Job:
    made = iter(range(1 << 30))

    def compile_anew(work: Work) -> None:
        for _ in range(100):
            parse_pattern(f"(a|b{next(made)}){{1,100}}", work)

    return compile_anew


@job
def pattern_compiled_from_a_long_text() -> Job:
    made = iter(range(1 << 30))

    def compile_anew(work: Work) -> None:
        for _ in range(20):
            parse_pattern(f"{next(made)}" + "[a-c]" * 90, work)

    return compile_anew


@job
def match_of_conditions_over_an_array() -> Job:
    root = {"a": OBJECTS}
    return matching([f".a[x>{n}]" for n in range(3)], root, Edit(("a",), OBJECTS, OBJECTS))


@job
def match_of_wildcards_over_an_array() -> Job:
    root = {"a": OBJECTS}
    return matching([".a[*].x", ".a[*].s"], root, Edit(("a",), OBJECTS, OBJECTS))


@job
def match_of_slices() -> Job:
    root = {"a": OBJECTS}
    texts = [f".a[0:][x>{n}]" for n in range(3)]
    return matching(texts, root, Edit(("a", 0, "x"), 1, 0))


@job
def match_of_json_paths() -> Job:
    root = {"a": OBJECTS}
    texts = [f"$.a[?@.x>{n}]" for n in range(3)]
    return matching(texts, root, Edit(("a", 0, "x"), 1, 0))


@job
def match_of_descents_below() -> Job:
    root = {"a": OBJECTS}
    return matching(["..s", "..in"], root, Edit(("a",), MISSING, OBJECTS))


@job
def text_is_weighed() -> Job:
    return lambda work: weigh(OBJECTS, work)


@job
def footprint_is_weighed() -> Job:
    return lambda work: footprint(OBJECTS, limit=1 << 60, work=work)


@job
def copied() -> Job:
    return lambda work: copy_measured(OBJECTS, work)


@job
def plan_of_a_set() -> Job:
    return planning(Set(("a",), OBJECTS), {"a": OBJECTS})


@job
def plan_of_a_wide_merge() -> Job:
    return planning(Merge((), {f"m{n}": n for n in range(50_000)}), {})


@job
def plan_of_a_patch() -> Job:
    steps = [{"op": "remove", "path": f"/a{n}/0"} for n in range(900)]
    return planning(Patch((), steps), {f"a{n}": [1, 2] for n in range(900)})


@job
def plan_of_inserts_into_one_array() -> Job:
    steps = [{"op": "add", "path": "/a/0", "value": n} for n in range(500)]
    return planning(Patch((), steps), {"a": NUMBERS})


@click.command()
@click.argument("names", nargs=-1)
def main(names: tuple[str, ...]) -> None:
    """Say what a step of each kind of work is worth (all, or those whose names contain one of
    NAMES).
    """
    click.echo(f"{'work':<44}{'steps':>10}{'µs a step':>11}{'longest ms':>12}")
    for name, make in JOBS.items():
        if names and not any(part in name for part in names):
            continue
        steps, us, longest_ms = measured(make())
        notes = ["too cheap"] * (us > MOST_US) + ["too dear"] * (us < LEAST_US)
        notes += ["holds on"] * (longest_ms > LONGEST_MS)
        click.echo(f"{name:<44}{steps:>10}{us:>11.2f}{longest_ms:>12.2f}  {', '.join(notes)}")


def measured(work_of: Job) -> tuple[int, float, float]:
    """Steps of a job, microseconds a step, and the longest milliseconds between two charges."""
    best_s, longest_s, steps = float("inf"), float("inf"), 0
    for _ in range(ROUNDS):
        counted = Counted()
        begun = time.thread_time()
        work_of(counted)
        best_s = min(best_s, time.thread_time() - begun)
        steps = counted.steps
    for _ in range(3):
        timed = Counted(timed=True)
        work_of(timed)
        longest_s = min(longest_s, timed.longest_s)
    return steps, best_s / max(1, steps) * 1e6, longest_s * 1e3


if __name__ == "__main__":
    main()
