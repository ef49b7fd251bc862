"""A wrong setting must stop the start, say what is wrong, and never show a secret."""

from pathlib import Path

import pytest

import settings
from detection.errors import SettingsError

PASSWORD = "correct-horse-battery"


def test_the_defaults_are_complete() -> None:
    assert settings.load() == settings.Settings()


def test_an_environment_variable_beats_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_COVERAGE", "0.95")
    assert settings.load().coverage == 0.95


def test_an_override_beats_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_COVERAGE", "0.95")
    assert settings.load(coverage=0.97).coverage == 0.97


def test_a_misspelt_variable_stops_the_start_and_names_the_nearest_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_COVERAG", "0.95")
    with pytest.raises(SettingsError, match="TIDEMARK_COVERAG is no setting, did you mean TIDEMARK_COVERAGE"):
        settings.load()


def test_every_unknown_variable_is_named_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_XYZZY", "1")
    monkeypatch.setenv("TIDEMARK_PLUGH", "1")
    with pytest.raises(SettingsError, match="TIDEMARK_PLUGH is no setting; TIDEMARK_XYZZY is no setting"):
        settings.load()


def test_variables_of_others_are_left_alone() -> None:
    settings.refuse_unknown({"PATH": "/bin", "TIDE_MARK": "1", "tidemark_lower": "1"})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("TIDEMARK_COVERAGE", "1"),
        ("TIDEMARK_COVERAGE", "nan"),
        ("TIDEMARK_HTTP_PORT", "65536"),
        ("TIDEMARK_CLOCK", "sundial"),
        ("TIDEMARK_TIME_ZONE", "Middle/Earth"),
        ("TIDEMARK_TIME_ZONE", "../../etc/passwd"),
        ("TIDEMARK_KAFKA_LOG_ID", "with space"),
        ("TIDEMARK_FLUSH_EVENTS", "many"),
    ],
)
def test_a_value_out_of_range_stops_the_start_and_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str
) -> None:
    monkeypatch.setenv(name, text)
    with pytest.raises(SettingsError, match=f"{name}: "):
        settings.load()


def test_a_secret_is_read_from_its_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    url = f"redis://:{PASSWORD}@redis:6379/0"
    (tmp_path / "tidemark_redis_url").write_text(url)
    monkeypatch.setenv("TIDEMARK_SECRETS_DIR", str(tmp_path))
    assert settings.load().redis_url.get_secret_value() == url


def test_an_environment_variable_beats_the_secret_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "tidemark_redis_url").write_text("redis://file")
    monkeypatch.setenv("TIDEMARK_SECRETS_DIR", str(tmp_path))
    monkeypatch.setenv("TIDEMARK_REDIS_URL", "redis://environment")
    assert settings.load().redis_url.get_secret_value() == "redis://environment"


def test_settings_never_print_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_REDIS_URL", f"redis://:{PASSWORD}@redis:6379/0")
    monkeypatch.setenv("TIDEMARK_POSTGRES_URL", f"postgresql://tidemark:{PASSWORD}@db/tidemark")
    loaded = settings.load()
    shown = f"{loaded} {loaded!r} {loaded.model_dump()} {loaded.model_dump_json()}"
    assert PASSWORD not in shown


def test_a_refused_value_is_not_repeated_for_it_may_be_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TIDEMARK_HTTP_PORT", PASSWORD)
    with pytest.raises(SettingsError) as caught:
        settings.load()
    assert PASSWORD not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
