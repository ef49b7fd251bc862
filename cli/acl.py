"""`tidemark acl`: the users that Redis is to have, one for each role, with no more than the role does.

tidemark acl --passwords FOLDER > users.acl     an ACL file for the servers (`aclfile users.acl`); hashes, no passwords
tidemark acl --role reader                      the rules of one role, for `ACL SETUSER`
"""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from detection.errors import InputError

if TYPE_CHECKING:
    from state.acl import Role


def acl(
    passwords: Annotated[
        Path | None, typer.Option(help="Folder with a file for each role (worker, api, ...) that holds its password.")
    ] = None,
    role: Annotated[str, typer.Option(help="Print the rules of this role alone.")] = "",
) -> None:
    """Print the ACL users of Redis: as an ACL file, in which passwords are hashes, or the rules of one role."""
    from state import acl as users

    if (passwords is None) == (not role):
        raise InputError("name --passwords FOLDER, or --role ROLE")
    if passwords is not None:
        print(users.users(_read(passwords)), end="")
        return
    for known in users.ROLES:
        if known == role:
            print(users.rules(known))
            return
    raise InputError(f"there is no role {role!r}: {', '.join(users.ROLES)}")


def _read(folder: Path) -> "dict[Role, str]":
    from state import acl as users

    found: dict[Role, str] = {}
    for role in users.OF_SERVERS:
        try:
            # As an editor leaves it: the end of the line is not part of it.
            found[role] = (folder / role).read_text(encoding="utf-8").rstrip("\r\n")
        except FileNotFoundError:
            continue
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{folder / role}: {error}") from None
    if not found:
        raise InputError(f"{folder} has none of the files {', '.join(users.OF_SERVERS)}")
    return found
