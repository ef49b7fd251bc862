"""The file of targets: what is wrong stops the start, says where, and shows nothing secret."""

import base64
from pathlib import Path

import pytest

from detection.errors import SettingsError
from stream.channels.alertmanager import AlertmanagerChannel
from stream.channels.lines import LineChannel
from stream.channels.targets import load_targets, only_lines
from stream.channels.webhook import WebhookChannel

EXAMPLE = Path(__file__).parents[2] / "examples" / "targets.yaml"
SECRET = "whsec_" + base64.b64encode(b"a secret of at least 24 bytes").decode()
imghdr = pytest.mark.filterwarnings("ignore:'imghdr' is deprecated")


def written(folder: Path, text: str) -> Path:
    path = folder / "targets.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@imghdr
def test_the_example_is_read_as_it_stands(tmp_path: Path) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    for name, secret in {
        "pager-url": "https://hooks.example.org/T0",
        "pager-secret": SECRET,
        "mail-url": "mailtos://user:pass@example.org",
    }.items():
        (tmp_path / name).write_text(f"{secret}\n")
        text = text.replace(f"/run/secrets/{name}", str(tmp_path / name))
    assert "/run/secrets" not in text
    targets = load_targets(written(tmp_path, text))
    assert {one.name: type(one.channel).__name__ for one in targets} == {
        "log": "LineChannel",
        "pager": "WebhookChannel",
        "alertmanager": "AlertmanagerChannel",
        "mail": "ServiceChannel",
    }
    assert [one.name for one in targets if one.is_default] == ["log", "alertmanager"]


def test_without_a_file_alerts_are_at_least_seen() -> None:
    (only,) = only_lines()
    assert isinstance(only.channel, LineChannel)
    assert only.is_default


def test_a_secret_file_holds_the_old_and_the_new_secret(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{SECRET}\n{SECRET}\n")
    text = f"targets:\n  a: {{kind: webhook, url: 'https://x.example/', secret_file: {tmp_path}/key, default: true}}\n"
    (one,) = load_targets(written(tmp_path, text))
    assert isinstance(one.channel, WebhookChannel)
    assert len(one.channel._signers) == 2


def test_an_alertmanager_has_several_members(tmp_path: Path) -> None:
    text = (
        "targets:\n  a:\n    kind: alertmanager\n    urls: ['http://a:9093', 'http://b:9093/am/']\n    default: true\n"
    )
    (one,) = load_targets(written(tmp_path, text))
    assert isinstance(one.channel, AlertmanagerChannel)
    assert one.channel._urls == ["http://a:9093/api/v2/alerts", "http://b:9093/am/api/v2/alerts"]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("targets:\n  a:\n    kind: log\n    defualt: true\n", 4, "unknown field `defualt`"),
        ("targets:\n  a:\n    kind: pigeon\n", 3, "Invalid value 'pigeon'"),
        ("targets:\n  a: {}\n", 2, "missing required field `kind`"),
        ("targets:\n  a:\n", 2, "Expected `object`, got `null`"),
        ("targets:\n  a:\n    kind: webhook\n", 2, "one of `url` and `url_file` is needed"),
        ("targets:\n  a:\n    kind: webhook\n    url: x\n    url_file: y\n", 2, "one of `url` and `url_file`"),
        ("targets:\n  a:\n    kind: webhook\n    url: file:///etc/passwd\n", 2, "`http://` or `https://` and a host"),
        ("targets:\n  a:\n    kind: webhook\n    url: 'gopher://x'\n", 2, "`http://` or `https://` and a host"),
        ("targets:\n  a:\n    kind: webhook\n    url: 'http://'\n", 2, "`http://` or `https://` and a host"),
        ("targets:\n  a:\n    kind: webhook\n    url: 'http://x:99999/'\n", 2, "`http://` or `https://` and a host"),
        ('targets:\n  a:\n    kind: webhook\n    url: "http://x/\\r\\nHost: y"\n', 2, "and a host are needed"),
        ("targets:\n  a:\n    kind: webhook\n    url_file: /no/such/file\n", 2, "No such file"),
        ("targets:\n  a:\n    kind: alertmanager\n    urls: []\n", 4, "urls: "),
        ("targets:\n  a:\n    kind: alertmanager\n    urls: [7]\n", 4, "urls: "),
        (
            "targets:\n  a:\n    kind: alertmanager\n    urls: ['http://a']\n    interval_seconds: 0\n",
            5,
            "interval_seconds",
        ),
        ("targets:\n  a:\n    kind: log\n  a:\n    kind: log\n", 4, "`a` is here already, in line 2"),
        ("targets:\n  a:\n    kind: log\n    kind: log\n", 4, "`kind` is here already, in line 3"),
        ("targets:\n  a:\n    kind: log\n   b: x\n", 4, "expected"),
        ("targets:\n  'A b':\n    kind: log\n", 2, "regex"),
        ("targets:\n  7:\n    kind: log\n", 2, "put it in quotes"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(tmp_path: Path, text: str, line: int, reason: str) -> None:
    with pytest.raises(SettingsError) as refused:
        load_targets(written(tmp_path, text))
    assert f"targets.yaml:{line}:" in str(refused.value)
    assert reason in str(refused.value)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "nothing is in it"),
        ("- a\n", "`targets:` and then names"),
        ("targets: [a]\n", "`targets:` and then names"),
        ("targets: {}\nother: {}\n", "`targets:` and then names"),
        ("targets: {}\n", "no target has `default: true`"),
        ("targets:\n  a:\n    kind: log\n", "no target has `default: true`"),
        ("targets: !!python/object/apply:os.system ['true']\n", "is not taken"),
        ("a: &a [*a]\n", "stands for nothing that is complete"),
    ],
)
def test_a_file_that_is_no_list_of_targets_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(SettingsError, match=reason):
        load_targets(written(tmp_path, text))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"targets\.yaml"):
        load_targets(tmp_path / "targets.yaml")


@imghdr
@pytest.mark.parametrize(
    "fields",
    [
        "kind: webhook\n    url: 'ftp://hunter2.example/'",
        "kind: webhook\n    url: 'https://x.example/'\n    secret_file: {file}",
        "kind: apprise\n    url: 'nosuchservice://hunter2/'",
        "kind: apprise\n    url: 'slack://hunter2'",
        "kind: webhook\n    url: ['https://hunter2/']",
        "kind: webhook\n    url: 'https://hunter2/\n",
    ],
)
def test_no_refusal_shows_a_secret(tmp_path: Path, fields: str) -> None:
    (tmp_path / "key").write_text("hunter2\n")
    text = f"targets:\n  a:\n    {fields.format(file=tmp_path / 'key')}\n    default: true\n"
    with pytest.raises(SettingsError) as refused:
        load_targets(written(tmp_path, text))
    assert "hunter2" not in str(refused.value)
    assert refused.value.__cause__ is None
