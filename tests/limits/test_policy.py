from __future__ import annotations

import json

import pytest

from triode.limits.policy import Policy, parse_policy


@pytest.mark.parametrize("name", ["drop-newest", "drop-oldest", "latest", "disconnect"])
def test_names(name: str) -> None:
    assert parse_policy(name).value == name
    assert json.dumps(Policy(name)) == f'"{name}"'


@pytest.mark.parametrize("name", ["", "Latest", "drop_newest", " latest", "x" * 5_000])
def test_choices_are_listed(name: str) -> None:
    with pytest.raises(
        ValueError, match="one of: drop-newest, drop-oldest, latest, disconnect"
    ) as caught:
        parse_policy(name)
    assert len(str(caught.value)) < 200
