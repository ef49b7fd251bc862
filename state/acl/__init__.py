"""The ACL users of Redis, one for each role, with no more than that role does.

The rules are in `ROLE.acl` beside this: lines of them, and comments. `users` makes an ACL file of them, in which a
password is its SHA-256.
"""

import hashlib
from collections.abc import Mapping
from importlib.resources import files
from typing import Final, Literal, get_args

from detection.errors import InputError

Role = Literal["worker", "api", "reader", "maintenance", "sentinel"]

ROLES: Final[tuple[Role, ...]] = get_args(Role)
# The users of the servers that hold the state; the others are for whoever watches those.
OF_SERVERS: Final[tuple[Role, ...]] = ("worker", "api", "reader", "maintenance")

# An ACL stands for as long as it is not guessed: the hash is a quick one.
_SHORTEST: Final = 16


def user(role: Role) -> str:
    """The name of its user."""
    return f"tidemark-{role}"


def rules(role: Role) -> str:
    """The rules as one line, for `ACL SETUSER` or a line of an ACL file."""
    text = files(__name__).joinpath(f"{role}.acl").read_text(encoding="utf-8")
    return " ".join(line for line in text.splitlines() if line and not line.startswith("#"))


def users(passwords: Mapping[Role, str]) -> str:
    """An ACL file of the users of these roles; the user `default`, whom everybody is at first, is off.

    Raises InputError for a password that can be guessed.
    """
    lines = ["user default off"]
    for role, password in passwords.items():
        if len(password) < _SHORTEST:
            raise InputError(f"the password of {role} has {len(password)} characters: take {_SHORTEST} at least")
        digest = hashlib.sha256(password.encode()).hexdigest()
        lines.append(f"user {user(role)} on #{digest} {rules(role)}")
    return "".join(f"{line}\n" for line in lines)
