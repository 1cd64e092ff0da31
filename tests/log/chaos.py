"""What goes on in a model cluster, and what goes wrong, drawn from a seed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.log.world import World

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.log.node import Node

    Step = Callable[[World, Node], None]

# Of one world, before all is well again.
STEPS: Final = 2000
# Between what goes wrong, on average.
CALM_STEPS: Final = 80


def serve(world: World, node: Node) -> None:
    node.serve()


def deliver(world: World, node: Node) -> None:
    node.deliver()


def read(world: World, node: Node) -> None:
    node.read(world.random.randint(1, 3))


def tail(world: World, node: Node) -> None:
    node.tail(world.random.randint(1, 3))


def write(world: World, node: Node) -> None:
    node.write()


def connect(world: World, node: Node) -> None:
    world.connect(node)


def finish(world: World, node: Node) -> None:
    node.finish_reload()
    node.finish_seed(fails=world.random.random() < 0.05)


def wait(world: World, node: Node) -> None:
    world.advance(world.random.choice((0.001, 0.001, 0.01, 0.05, 0.2)))
    for other in world.nodes:
        other.tick()


def snapshot(world: World, node: Node) -> None:
    if node.pinned is None:
        node.begin_new() or node.pin()
    else:
        node.name_snapshot()


def flow(world: World, node: Node) -> None:
    world.connect(node)
    node.exhaust()


def thaw(world: World, node: Node) -> None:
    node.thaw()


GOES_ON: Final[tuple[tuple[Step, int], ...]] = (
    (serve, 24), (deliver, 24), (read, 14), (tail, 14), (write, 14), (connect, 8), (finish, 6),
    (wait, 14), (snapshot, 2), (thaw, 1), (flow, 12),
)  # fmt: skip


def lost_states(world: World) -> int:
    return world.random.choice((0, 0, 1, 2, 5, 10, 20, 50))


def fail_over(world: World, node: Node) -> None:
    world.fail_over(lost_states(world))


def split(world: World, node: Node) -> None:
    world.fail_over(lost_states(world), is_dead=False)
    for other in world.nodes:
        if world.random.random() < 0.5:
            other.is_aside = True
        elif world.random.random() < 0.7:
            world.cut(other)


def heal(world: World, node: Node) -> None:
    world.heal()


def switch_back(world: World, node: Node) -> None:
    world.promote_stale()


def restart(world: World, node: Node) -> None:
    world.restart(lost_states(world))


def bounce(world: World, node: Node) -> None:
    world.bounce(lost_states(world))


def restart_empty(world: World, node: Node) -> None:
    world.restart_empty()


def flush(world: World, node: Node) -> None:
    world.flush()


def cut(world: World, node: Node) -> None:
    world.cut(node)


def cut_in_salvage(world: World, node: Node) -> None:
    for other in world.nodes:
        if other.link and any(call.script == "salvage" for call in other.link.up):
            world.cut(other, 0.8)


def arrive(world: World, node: Node) -> None:
    world.arrive()


def freeze(world: World, node: Node) -> None:
    node.freeze()
    if world.random.random() < 0.4:
        world.advance(11.0)


def long_pause(world: World, node: Node) -> None:
    world.advance(world.random.choice((0.6, 2.5, 11.0, 35.0)))


def trim(world: World, node: Node) -> None:
    world.trim()


def turn_clock(world: World, node: Node) -> None:
    world.turn_clock(world.random.choice((-3600, -1, 1, 3600)))


def kill(world: World, node: Node) -> None:
    world.kill(node)


def kill_elected(world: World, node: Node) -> None:
    elected = world.primary.data.meta.get("elected")
    for other in [other for other in world.nodes if other.name == elected]:
        world.kill(other)


def freeze_asking(world: World, node: Node) -> None:
    for other in world.nodes:
        if other.link and any(call.script == "attach" for call, _, _ in other.link.down):
            other.freeze()
            world.advance(11.0)
            return


def fill(world: World, node: Node) -> None:
    world.primary.is_full = not world.primary.is_full


GOES_WRONG: Final[tuple[tuple[Step, int], ...]] = (
    (fail_over, 8), (split, 4), (heal, 3), (switch_back, 1), (restart, 4), (bounce, 3),
    (restart_empty, 1), (flush, 2), (cut, 16), (cut_in_salvage, 16), (arrive, 16),
    (freeze, 5), (long_pause, 4), (trim, 2), (turn_clock, 1), (kill, 2), (kill_elected, 4),
    (freeze_asking, 3), (fill, 4),
)  # fmt: skip


def run(world: World, steps: int = STEPS) -> None:
    """So many steps, and the end. Raises `Violation`."""
    draw = world.random
    on, on_weights = zip(*GOES_ON, strict=True)
    wrong, wrong_weights = zip(*GOES_WRONG, strict=True)
    for step in draw.choices(on, on_weights, k=steps):
        if draw.random() * CALM_STEPS < 1:
            draw.choices(wrong, wrong_weights)[0](world, world.any_node())
        step(world, world.any_node())
    world.settle()
