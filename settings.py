"""The only reader of the environment: every setting with its meaning, unit, range and default.

Precedence: environment variables (`TIDEMARK_...`), then the files of `TIDEMARK_SECRETS_DIR` (one secret a file, named
like the variable in lower case), then the defaults below. A variable that starts with `TIDEMARK_` and is not listed
here stops the start: a misspelt setting that is silently ignored is how a threshold ends up wrong for a month.
"""

import difflib
import os
from pathlib import Path
from typing import Literal, Self
from zoneinfo import ZoneInfo

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from detection.challengers.selection import Selection
from detection.errors import SettingsError
from detection.hours import SECOND_MS
from detection.policy import Policy
from state.brokers import Brokers, Mechanism, Protocol
from state.certificates import Certificates
from state.keeping import Keeping
from state.postgres_address import with_password
from state.redis_address import Credentials
from state.redis_address import parse as parse_redis_url
from state.snapshots.address import SnapshotAddress
from state.snapshots.address import parse as parse_snapshot_url

PREFIX = "TIDEMARK_"
SECRETS_DIR = "TIDEMARK_SECRETS_DIR"


class Settings(BaseSettings):
    """What one process of Tidemark may be told from outside."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="forbid")

    kafka_brokers: str = Field(
        default="127.0.0.1:9092",
        description="Bootstrap brokers, `host:port` separated by commas.",
    )
    kafka_security_protocol: Protocol = Field(
        default="PLAINTEXT",
        description="How brokers are spoken to: `SSL` and `SASL_SSL` encrypt; the two with `SASL` say who asks, by "
        "TIDEMARK_KAFKA_USERNAME and TIDEMARK_KAFKA_PASSWORD.",
    )
    kafka_sasl_mechanism: Mechanism = Field(
        default="SCRAM-SHA-512", description="How the password is proved, where TIDEMARK_KAFKA_SECURITY_PROTOCOL asks."
    )
    kafka_username: str = Field(default="", description="Who we are to Kafka.")
    kafka_password: SecretStr = Field(default=SecretStr(""), description="Password of TIDEMARK_KAFKA_USERNAME.")
    kafka_ca_file: Path | None = Field(
        default=None,
        description="CAs, in PEM, that sign the brokers' certificates; without it, those of the system. The name in "
        "the certificate is always compared.",
    )
    kafka_certificate_file: Path | None = Field(
        default=None, description="Our own certificate, in PEM, for brokers that ask for one."
    )
    kafka_key_file: Path | None = Field(default=None, description="Key of TIDEMARK_KAFKA_CERTIFICATE_FILE, in PEM.")
    kafka_key_password: SecretStr = Field(
        default=SecretStr(""), description="Password of TIDEMARK_KAFKA_KEY_FILE, where it is encrypted."
    )
    kafka_group: str = Field(default="tidemark", min_length=1, description="Consumer group of the workers.")
    kafka_log_id: str = Field(
        default="kafka",
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="Names the log that stored offsets belong to. Change it after topics were deleted and created "
        "anew: offsets of the old log are then no longer compared with those of the new one.",
    )
    kafka_partitions: int = Field(
        default=8, ge=1, le=4096, description="Partitions of a topic that Tidemark creates itself."
    )
    kafka_replicas: int = Field(default=1, ge=1, le=7, description="Replicas of a topic that Tidemark creates itself.")
    kafka_session_seconds: float = Field(
        default=30,
        ge=6,
        le=300,
        description="Seconds without a heartbeat after which a worker's partitions move to another one.",
    )
    redis_url: SecretStr = Field(
        default=SecretStr("redis://127.0.0.1:6379/0"),
        description="Redis or Valkey with the learned state: `redis://HOST:PORT/DB`, "
        "`redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB` or `redis+cluster://HOST:PORT,HOST:PORT`; `rediss` in place "
        "of `redis` for TLS.",
    )
    redis_username: str = Field(
        default="", description="Who we are to Redis (an ACL user), unless TIDEMARK_REDIS_URL says it."
    )
    redis_password: SecretStr = Field(
        default=SecretStr(""), description="Password for Redis, unless TIDEMARK_REDIS_URL has it."
    )
    redis_sentinel_username: str = Field(default="", description="Who we are to the Sentinels.")
    redis_sentinel_password: SecretStr = Field(default=SecretStr(""), description="Password for the Sentinels.")
    redis_ca_file: Path | None = Field(
        default=None,
        description="CAs, in PEM, that sign the certificates of Redis (`rediss`); without it, those of the system.",
    )
    redis_certificate_file: Path | None = Field(
        default=None, description="Our own certificate, in PEM, for a Redis that asks for one."
    )
    redis_key_file: Path | None = Field(default=None, description="Key of TIDEMARK_REDIS_CERTIFICATE_FILE, in PEM.")
    redis_key_password: SecretStr = Field(
        default=SecretStr(""), description="Password of TIDEMARK_REDIS_KEY_FILE, where it is encrypted."
    )
    redis_replicas: int = Field(
        default=0,
        ge=0,
        le=5,
        description="Replicas that must have a write of the learned state before it counts as written. 0: what was "
        "written last can be lost when a replica takes over.",
    )
    postgres_url: SecretStr = Field(
        default=SecretStr("postgresql://postgres@127.0.0.1:5432/postgres"),
        description="PostgreSQL with the history of closed windows; `?sslmode=verify-full&sslrootcert=FILE` behind it "
        "for TLS.",
    )
    postgres_password: SecretStr = Field(
        default=SecretStr(""), description="Password for PostgreSQL, unless TIDEMARK_POSTGRES_URL has it."
    )
    keep_events_days: int = Field(
        default=30,
        ge=1,
        le=36_600,
        description="Days for which PostgreSQL keeps raw observation events. Like all that is kept, they go by whole "
        "partitions, here days, and by the clock that TIDEMARK_CLOCK names.",
    )
    keep_minutes_days: int = Field(
        default=90, ge=1, le=36_600, description="Days for which PostgreSQL keeps the minutes of observations."
    )
    keep_hours_days: int = Field(
        default=1830,
        ge=32,
        le=36_600,
        description="Days for which PostgreSQL keeps hours: of observations, of calls, and the values that models "
        "learned, from which they can be trained again.",
    )
    keep_alerts_days: int = Field(
        default=1830,
        ge=32,
        le=36_600,
        description="Days for which PostgreSQL keeps alerts and the audit of the rules.",
    )
    label_sets: int = Field(
        default=1000,
        ge=0,
        le=100_000,
        description="Label sets of one model that statistics are kept for; what more there are is counted together.",
    )
    http_host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    http_port: int = Field(default=8000, ge=0, le=65535, description="Port the API listens on.")
    insecure: bool = Field(
        default=False,
        description="Serve an address other than the loopback without authentication.",
    )
    auth: Literal["off", "on"] = Field(
        default="off",
        description="Whether the API asks who asks: for a key of `tidemark keys`, or a token of the OIDC issuer. An "
        "address other than the loopback takes it, or TIDEMARK_INSECURE.",
    )
    api_key: SecretStr = Field(
        default=SecretStr(""),
        description="Key that this command's requests to an API are sent with; worker and API have no use for it.",
    )
    oidc_issuer: str = Field(
        default="",
        description="URL of the identity provider whose tokens (JWT) the API takes beside its keys; empty for none. "
        "What a token may do is in its claim `scope`, as `tidemark:read`.",
    )
    oidc_audience: str = Field(default="tidemark", min_length=1, description="Audience that a token must be for.")
    max_body_bytes: int = Field(
        default=16 * 1024 * 1024,
        ge=1024,
        le=1024**3,
        description="Largest request body in bytes, after decompression.",
    )
    max_rows: int = Field(default=200_000, ge=1, le=10_000_000, description="Most rows or events in one request.")
    requests_at_once: int = Field(
        default=512,
        ge=16,
        le=100_000,
        description="Most requests that the API has under way at a time: so many predictions, so many posts of events, "
        "and so many others. What is more is refused with 503.",
    )
    longest_turn_ms: float = Field(
        default=20,
        ge=1,
        le=10_000,
        description="Milliseconds that a turn of the API's event loop may take. While turns take longer, requests "
        "stand in line: fewer are let in at a time, down to 16 of each kind, and the others are refused with 503. A "
        "prediction waits for three turns or four.",
    )
    clock: Literal["wall", "events"] = Field(
        default="wall",
        description="What closes the windows of a silent biller: the wall clock, or the newest event of the stream "
        "(for recorded data, whose time is not ours).",
    )
    close_after_seconds: int = Field(
        default=60,
        ge=0,
        le=3600,
        description="Seconds after its end at which a window is closed: judged, and the next threshold published.",
    )
    grace_seconds: int = Field(
        default=3600,
        ge=0,
        le=86_400,
        description="Seconds after its end for which a window still takes calls. Then it is learned; what comes later "
        "is late: counted, and kept in the dead letters.",
    )
    future_seconds: int = Field(
        default=300,
        ge=0,
        le=86_400,
        description="Seconds by which an event may be ahead of the time at which the broker was given it.",
    )
    stale_after_hours: int = Field(
        default=24, ge=1, le=720, description="Hours without an observation after which a series is `stale`."
    )
    time_zone: str = Field(
        default="UTC",
        description="IANA zone in which hours of the day and days of the week are counted.",
    )
    coverage: float = Field(
        default=0.99,
        ge=0.9,
        le=0.999,
        description="Share of normal observations that stay inside their threshold.",
    )
    min_calls: int = Field(
        default=5,
        ge=1,
        le=1_000_000,
        description="Calls below which an exceedance raises no alert flag.",
    )
    false_alerts: float = Field(
        default=0.03,
        gt=0,
        le=10,
        description="False alerts inside the hour that are accepted of a biller in a week: what is said of its minutes "
        "must be as improbable as that.",
    )
    challengers: str = Field(
        default="",
        description="River forecasters that race beside the default one, `[SUBJECT/]METRIC=NAME,NAME; ...`: "
        "`holt-winters`, `snarimax`, `ewa`. Each costs 0.1 to 0.7 ms an hour and 2 to 8 kB a series.",
    )
    forecasters: str = Field(
        default="",
        description="Who speaks at the beginning, `[SUBJECT/]METRIC=NAME; ...`: `default` or one of the challengers.",
    )
    flush_seconds: float = Field(
        default=1.0,
        ge=0.05,
        le=60,
        description="Seconds between two writes of what was absorbed. The first events of a start, or after an idle "
        "time, are written sooner, 0.1 to 0.3 s after they came.",
    )
    flush_events: int = Field(
        default=16_000_000,
        ge=1,
        le=100_000_000,
        description="Calls in memory at which reading waits for a write, which begins at half of them: the bound on "
        "the worker's memory, 20 to 50 bytes each. An observation counts as 30 calls.",
    )
    cached_subjects: int = Field(
        default=5000,
        ge=0,
        le=1_000_000,
        description="Subjects whose state a worker keeps between two writes, about 50 kB each.",
    )
    cohort_seconds: int = Field(
        default=300,
        ge=10,
        le=86_400,
        description="Least seconds between two refreshes of the cohorts, from which young series borrow. One worker "
        "does each, and takes a twentieth of its time for it at most.",
    )
    rules: Path | None = Field(
        default=None,
        description="YAML file of rules that a worker writes into Redis when it starts, in place of those that the "
        "file had before. The same content again changes nothing.",
    )
    targets: Path | None = Field(
        default=None,
        description="YAML file of the targets that are told of alerts. Without one, they are lines on the worker's "
        "standard output.",
    )
    notify_after_seconds: float = Field(
        default=10,
        ge=0,
        le=3600,
        description="Seconds for which an alert has to be open before anybody is told, and in which alerts of many "
        "billers can become one of the platform.",
    )
    platform_share: float = Field(
        default=0.3,
        gt=0,
        le=1,
        description="Share of the active billers with the same alert, opened within ten minutes, that makes it one "
        "alert of the platform.",
    )
    platform_billers: int = Field(
        default=5, ge=2, le=100_000, description="Billers that it takes at least to make an alert one of the platform."
    )
    dead_letter_share: float = Field(
        default=0.5,
        gt=0,
        le=1,
        description="Share of rejected events, over the last ten thousand, at which the worker stops.",
    )
    worker_http_port: int = Field(
        default=0,
        ge=0,
        le=65535,
        description="Port of the worker's own `/metrics`, `/healthz` and `/readyz`; 0 serves none.",
    )
    stall_seconds: float = Field(
        default=60,
        ge=2,
        le=3600,
        description="Seconds after which a worker that reads nothing, though the broker has records for it, starts "
        "itself again.",
    )
    data_dir: Path = Field(default=Path(".tidemark"), description="Folder of the embedded stack's data and logs.")
    otlp_endpoint: str | None = Field(
        default=None,
        pattern=r"^https?://",
        description="OpenTelemetry collector that is sent traces, by OTLP over HTTP: `http://HOST:4318`, to which "
        "`/v1/traces` is added. Without one, nothing is traced.",
    )
    trace_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        description="Share of the worker's writes and of the requests that are traced. Of a request that comes with a "
        "`traceparent`, its sender has decided.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        default="info", description="Lowest level that is logged."
    )
    log_format: Literal["json", "console"] = Field(
        default="json", description="Structured lines for machines, or coloured ones for people."
    )
    snapshot_url: str = Field(
        default="",
        description="Where snapshots of what was learned are kept: `az://CONTAINER/PREFIX`, `s3://BUCKET/PREFIX`, "
        "`gs://BUCKET/PREFIX` or `file:///FOLDER`; empty for nowhere. It has no credentials.",
    )
    snapshot_options: SecretStr = Field(
        default=SecretStr(""),
        description="JSON object of what the cloud's own variables and files do not say: `account_name`, "
        "`account_key`, `access_key_id`, `endpoint` and so on. An endpoint without TLS leads to this machine alone.",
    )
    snapshot_ca_file: Path | None = Field(
        default=None, description="CAs, in PEM, that sign the storage's certificate beside those of the system."
    )
    snapshot_hours: int = Field(
        default=26,
        ge=1,
        le=8784,
        description="Hours after which `tidemark doctor` says that the newest snapshot is too old.",
    )

    def brokers(self) -> Brokers:
        """Kafka, as every client of it is made."""
        return Brokers(
            self.kafka_brokers,
            protocol=self.kafka_security_protocol,
            mechanism=self.kafka_sasl_mechanism,
            username=self.kafka_username,
            password=self.kafka_password.get_secret_value(),
            certificates=Certificates(
                "TIDEMARK_KAFKA",
                ca=self.kafka_ca_file,
                certificate=self.kafka_certificate_file,
                key=self.kafka_key_file,
                key_password=self.kafka_key_password.get_secret_value(),
            ),
        )

    def redis(self) -> str:
        """The URL of Redis with all that it takes to be let in: a secret."""
        credentials = Credentials(
            username=self.redis_username,
            password=self.redis_password.get_secret_value(),
            sentinel_username=self.redis_sentinel_username,
            sentinel_password=self.redis_sentinel_password.get_secret_value(),
            certificates=Certificates(
                "TIDEMARK_REDIS",
                ca=self.redis_ca_file,
                certificate=self.redis_certificate_file,
                key=self.redis_key_file,
                key_password=self.redis_key_password.get_secret_value(),
            ),
        )
        return credentials.within(self.redis_url.get_secret_value())

    def postgres(self) -> str:
        """What psycopg connects by, with the password: a secret."""
        return with_password(self.postgres_url.get_secret_value(), self.postgres_password.get_secret_value())

    def snapshots(self) -> SnapshotAddress:
        """Where snapshots are kept; SettingsError where no such place is named."""
        if not self.snapshot_url:
            raise SettingsError("TIDEMARK_SNAPSHOT_URL names no place for snapshots, such as az://CONTAINER/PREFIX")
        return parse_snapshot_url(self.snapshot_url, self.snapshot_options.get_secret_value())

    def policy(self) -> Policy:
        """The part of the settings that the pure core works by."""
        return Policy(
            close_after_ms=self.close_after_seconds * SECOND_MS,
            grace_ms=self.grace_seconds * SECOND_MS,
            stale_after_hours=self.stale_after_hours,
            zone=self.time_zone,
            coverage=self.coverage,
            min_calls=self.min_calls,
            selection=Selection.parse(self.challengers, forecasters=self.forecasters),
        )

    def keeping(self) -> Keeping:
        """For how long PostgreSQL keeps what."""
        return Keeping(
            events_days=self.keep_events_days,
            minutes_days=self.keep_minutes_days,
            hours_days=self.keep_hours_days,
            alerts_days=self.keep_alerts_days,
        )

    @model_validator(mode="after")
    def _forecasters_exist(self) -> Self:
        try:
            Selection.parse(self.challengers, forecasters=self.forecasters)
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _connections_fit(self) -> Self:
        try:
            self.brokers().check()
            self.redis()
            self.postgres()
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return self

    @model_validator(mode="after")
    def _snapshots_have_a_place(self) -> Self:
        try:
            if self.snapshot_url:
                self.snapshots()
        except SettingsError as error:
            raise ValueError(f"TIDEMARK_SNAPSHOT_URL or TIDEMARK_SNAPSHOT_OPTIONS: {error}") from error
        return self

    @field_validator("redis_url")
    @classmethod
    def _redis_url_names_servers(cls, url: SecretStr) -> SecretStr:
        try:
            parse_redis_url(url.get_secret_value())
        except SettingsError as error:
            raise ValueError(str(error)) from error
        return url

    @field_validator("time_zone")
    @classmethod
    def _zone_exists(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (KeyError, ValueError, OSError) as error:
            raise ValueError(f"no IANA time zone is called {name!r}") from error
        return name


def load(**overrides: object) -> Settings:
    """Settings of this process; raises SettingsError that names each refused variable."""
    refuse_unknown(os.environ)
    secrets = os.environ.get(SECRETS_DIR)
    try:
        return Settings(_secrets_dir=secrets, **overrides)  # type: ignore[arg-type]  # overrides are validated by pydantic
    except ValidationError as error:
        # The refused input itself is left out: it may be a password.
        found = "; ".join(
            # What contradicts each other names the settings itself.
            f"{PREFIX}{'.'.join(map(str, item['loc'])).upper()}: {item['msg']}"
            if item["loc"]
            else item["msg"].removeprefix("Value error, ")
            for item in error.errors(include_input=False, include_url=False)
        )
        raise SettingsError(found) from None


def refuse_unknown(environment: "os._Environ[str] | dict[str, str]") -> None:
    """Raise SettingsError that names each `TIDEMARK_` variable which is no setting: pydantic takes them in silence."""
    known = {PREFIX + name.upper() for name in Settings.model_fields} | {SECRETS_DIR}
    unknown = sorted(name for name in environment if name.startswith(PREFIX) and name not in known)
    if not unknown:
        return
    hints = []
    for name in unknown:
        # Without the prefix, which all share and which would make any two names look alike.
        near = difflib.get_close_matches(name.removeprefix(PREFIX), [item.removeprefix(PREFIX) for item in known], n=1)
        hints.append(f"{name} is no setting" + (f", did you mean {PREFIX}{near[0]}?" if near else ""))
    raise SettingsError("; ".join(hints))
