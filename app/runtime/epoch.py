"""The name of an epoch: new whenever changes could have been lost, so that no position of before is
taken for one of now.
"""

from __future__ import annotations

import secrets
import string
from typing import Final

_CHARS: Final = string.ascii_lowercase + string.digits
# It stands in each position that is sent, so it is short. Of a million starts two have the same one
# with a chance of one in six.
_LENGTH: Final = 8


def new_epoch() -> str:
    """A name for an epoch that no other has."""
    return "".join(secrets.choice(_CHARS) for _ in range(_LENGTH))
