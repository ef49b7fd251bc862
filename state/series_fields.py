"""The fields of a series' hash by name: those of today's version, those of older ones, and which are read for what."""

from typing import Final

ABOUT: Final = (b"schema", b"subject", b"metric", b"unit", b"operator", b"coverage", b"claimed_exceedance")
DYNAMIC: Final = (
    b"status",
    b"estimate",
    b"lower",
    b"upper",
    b"threshold",
    b"expected_calls",
    b"window_start",
    b"valid_until",
    b"n_learned",
    b"min_calls",
    b"judged",
    b"measured_exceedance",
    b"explanation",
    b"last",
)
STORED: Final = (*ABOUT, *DYNAMIC)

# What older versions have in place of `last`, as far as it cannot be derived.
OLDER_VERDICT: Final = (
    b"last_verdict",
    b"last_window",
    b"last_count",
    b"last_value",
    b"last_estimate",
    b"last_threshold",
    b"last_score",
    b"last_is_credible",
    b"last_is_alert",
)

# What `answer_fields` needs of the hash of a series: of this version, and whatever its version.
STORED_FIELDS: Final = tuple(name.decode() for name in STORED)
ANSWER_FIELDS: Final = (*STORED_FIELDS, *(name.decode() for name in OLDER_VERDICT))

# What `survey_fields` needs, which is where a series stands.
STANDING: Final = (
    "schema",
    "subject",
    "metric",
    "unit",
    "operator",
    "coverage",
    "status",
    "estimate",
    "lower",
    "upper",
    "threshold",
    "expected_calls",
    "window_start",
    "valid_until",
    "n_learned",
    "min_calls",
)
SURVEY_FIELDS: Final = (*STANDING, "last", *(name.decode() for name in OLDER_VERDICT))

# What the hashes of older versions have and that of this one has not.
OBSOLETE: Final = (b"model", b"window_end", *OLDER_VERDICT, b"version")

SERIES_SCHEMA: Final = 3
READABLE_SERIES: Final = (1, 2, SERIES_SCHEMA)
