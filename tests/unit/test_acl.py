"""The ACL users of Redis as they are printed; what they may do, the integration tests say."""

import hashlib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from detection.errors import InputError
from state import acl, keys

PASSWORD = "correct-horse-battery"


def test_an_acl_file_has_hashes_and_no_passwords() -> None:
    text = acl.users(dict.fromkeys(acl.OF_SERVERS, PASSWORD))
    first, *others = text.splitlines()
    assert first == "user default off"
    digest = hashlib.sha256(PASSWORD.encode()).hexdigest()
    assert [line.split()[1] for line in others] == [acl.user(role) for role in acl.OF_SERVERS]
    assert all(f" on #{digest} resetkeys " in line for line in others)
    assert PASSWORD not in text


@pytest.mark.parametrize("role", acl.ROLES)
def test_every_role_begins_with_nothing_and_is_given_no_whole_category_that_writes(role: acl.Role) -> None:
    words = acl.rules(role).split()
    assert {"resetkeys", "resetchannels", "-@all", "-@dangerous"} <= set(words)
    assert words.index("-@all") < words.index("+@connection") < words.index("-@dangerous")
    assert {one for one in words if one.startswith("+@")} <= {"+@connection", "+@read"}
    assert not {"~*", "allkeys", "allcommands", "nopass", "&*"} & set(words)
    assert all(keys.PATTERN.rstrip("*") in one for one in words if "~" in one)


def test_every_key_of_tidemark_is_of_the_roles_that_need_it() -> None:
    def reaches(role: acl.Role, key: str) -> bool:
        patterns = [word.partition("~")[2] for word in acl.rules(role).split() if "~" in word]
        return any(key == one or (one.endswith("*") and key.startswith(one[:-1])) for one in patterns)

    shared = {value for name, value in vars(keys).items() if name[0].isupper() and isinstance(value, str)}
    shared -= {keys.PATTERN}
    for key in shared:
        assert reaches("maintenance", key)
        assert reaches("api", key)
        assert reaches("worker", key) == (key not in {keys.API_KEYS, keys.REPLAYED})
        assert reaches("reader", key) == (key != keys.API_KEYS)


def test_the_command_prints_the_users_whose_passwords_are_there(tmp_path: Path) -> None:
    (tmp_path / "worker").write_text(f"{PASSWORD}\n")
    done = CliRunner().invoke(app, ["acl", "--passwords", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert done.stdout == acl.users({"worker": PASSWORD})
    assert CliRunner().invoke(app, ["acl", "--role", "reader"]).stdout.strip() == acl.rules("reader")


@pytest.mark.parametrize("arguments", [[], ["--role", "root"], ["--role", "reader", "--passwords", "."]])
def test_the_command_refuses_what_names_nothing(arguments: list[str]) -> None:
    assert CliRunner().invoke(app, ["acl", *arguments]).exit_code == 2


def test_a_password_that_can_be_guessed_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="16 at least") as refused:
        acl.users({"worker": "hunter2"})
    assert "hunter2" not in str(refused.value)
    done = CliRunner().invoke(app, ["acl", "--passwords", str(tmp_path)])
    assert (done.exit_code, "has none of the files" in done.stderr) == (2, True)
