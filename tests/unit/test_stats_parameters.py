"""What can be asked of the statistics: read strictly, and refused by name; and what an answer looks like."""

import csv
import io
from typing import Any

import orjson
import pytest

from api.stats_parameters import (
    BillerParameters,
    ModelParameters,
    percentile_name,
    question_of_biller,
    question_of_model,
    read_cursor,
    write_cursor,
)
from api.stats_tables import document, header, lines, table
from detection.hours import HOUR_MS, MINUTE_MS, parse_ms
from detection.subject import Subject
from state.questions import Comparison, Newest, Page, Position, Question, Summary
from tests.memory_api import memory_api

LLAMA = Subject.model("Llama", "v1")
B1 = Subject.biller("B1")
AT_MS = parse_ms("2026-03-02T12:00:00Z")


def of_model(**given: Any) -> Question:
    return question_of_model(LLAMA, ModelParameters.model_validate(given))


def test_nothing_asked_is_everything_as_one_window() -> None:
    assert of_model() == Question(LLAMA)


def test_each_parameter_has_its_place() -> None:
    assert of_model(
        **{"from": "2026-03-02T13:00:00+01:00"},
        metric=["Prediction_Accuracy", "drift*"],
        to=str(AT_MS + HOUR_MS),
        step="15m",
        label=["region:eu", "path:a:b"],
        value=["lt:0.3", "ge:-1e3"],
        percentiles="50,99.9",
        latest="true",
    ) == Question(
        LLAMA,
        metrics=("prediction-accuracy", "drift*"),
        from_ms=AT_MS,
        to_ms=AT_MS + HOUR_MS,
        step_ms=15 * MINUTE_MS,
        labels={"region": "eu", "path": "a:b"},
        values=(Comparison("lt", 0.3), Comparison("ge", -1000.0)),
        shares=(0.5, pytest.approx(0.999)),  # type: ignore[arg-type]
        is_latest=True,
    )


@pytest.mark.parametrize("text", ["1", "error-rate", "ERROR_RATE_PERCENTAGE", "Timeout_Error_Rate", "*rate*"])
def test_a_billers_metric_has_the_names_that_it_has_elsewhere(text: str) -> None:
    slug = {"1": "average-response-time", "ERROR_RATE_PERCENTAGE": "error-rate"}.get(
        text, text.lower().replace("_", "-")
    )
    assert question_of_biller(B1, BillerParameters(metric=[text])).metrics == (slug,)


REFUSED = [
    ("metric", "a/b", "letters"),
    ("metric", "x" * 64, "63"),
    ("from", "yesterday", "RFC 3339"),
    ("from", "2026-03-02T12:00:00", "offset"),
    ("to", "1763755200", "milliseconds"),
    ("to", "9" * 300, "years"),
    ("step", "0m", "such as"),
    ("step", "1s", "such as"),
    ("step", "367d", "366d"),
    ("label", "region", "key:value"),
    ("label", "region:a\0b", "key:value"),
    ("label", ":eu", "key:value"),
    ("value", "0.3", "lt:"),
    ("value", "lt:many", "finite"),
    ("value", "lt:nan", "finite"),
    ("value", "like:3", "lt:"),
    ("percentiles", "0", "above 0"),
    ("percentiles", "50,101", "at most 100"),
    ("percentiles", ",".join(str(one) for one in range(1, 18)), "more than 16"),
    ("cursor", "!", "page"),
    ("cursor", "MQ", "page"),
    ("format", "xml", "json"),
    ("limit", "0", "1"),
    ("limit", "1001", "1000"),
    ("latest", "maybe", "bool"),
]


@pytest.mark.parametrize(("name", "given", "reason"), REFUSED)
async def test_what_cannot_be_read_is_refused_by_its_name(name: str, given: str, reason: str) -> None:
    async with memory_api() as api:
        response = await api.client.get("/stats/Llama/v1", params={name: given})
    assert response.status_code == 422, response.text
    problem = response.json()
    assert problem["type"] == "urn:tidemark:problem:invalid-request"
    (fault,) = problem["errors"]
    assert fault["field"].startswith(name)
    assert reason in fault["reason"]
    if name not in {"format", "limit", "latest"}:
        assert repr(given)[1:70].rstrip("'") in fault["reason"]


@pytest.mark.parametrize(
    ("path", "query", "field"),
    [
        ("/stats/Llama/v1", "metirc=drift", "metirc"),
        ("/stats/Llama/v1", "prediction_accuracy.lt=0.3", "prediction_accuracy.lt"),
        ("/stats/Llama/v1", "label=a:1&label=a:2", "label"),
        ("/stats/Llama/v1", "from=1763755200000&to=1763755200000", "to"),
        ("/stats/billers/B1", "label=region:eu", "label"),
        ("/stats/billers/B1", "value=lt:3", "value"),
        ("/stats/billers/B1", "step=90m", "step"),
        ("/stats/billers/B 1", "", "billerId"),
        ("/stats/Llama/v1/x", "", "version"),
    ],
)
async def test_a_filter_that_would_be_ignored_is_refused(path: str, query: str, field: str) -> None:
    async with memory_api() as api:
        response = await api.client.get(f"{path}?{query}")
    assert response.status_code == 422, response.text
    assert [one["field"] for one in response.json()["errors"]] == [field]


@pytest.mark.parametrize("path", ["/stats/Llama/v1", "/stats/billers/B1"])
@pytest.mark.parametrize("accept", ["application/json", "text/csv", "application/x-ndjson"])
async def test_without_postgres_the_answer_names_it(path: str, accept: str) -> None:
    async with memory_api() as api:
        response = await api.client.get(path, headers={"Accept": accept})
    assert (response.status_code, response.headers["retry-after"]) == (503, "5")
    assert response.json()["type"] == "urn:tidemark:problem:dependency-unavailable"
    assert "postgres" in response.json()["detail"]


def test_a_cursor_is_read_back() -> None:
    for position in (Position(0, "drift"), Position(AT_MS, "prediction-accuracy")):
        assert read_cursor(write_cursor(position)) == position
    assert read_cursor("") is None


@pytest.mark.parametrize(("share", "name"), [(0.5, "p50"), (0.999, "p99.9"), (1.0, "p100"), (0.07, "p7")])
def test_a_percentile_is_named_as_it_was_asked_for(share: float, name: str) -> None:
    assert percentile_name(share) == name


def summary(metric: str, *, start_ms: int = AT_MS, mean: float = 0.1 + 0.2) -> Summary:
    return Summary(
        metric=metric,
        start_ms=start_ms,
        end_ms=start_ms + HOUR_MS,
        count=3,
        mean=mean,
        minimum=0.1,
        maximum=0.5,
        last=0.5,
        last_ms=start_ms + 1500,
        percentiles=(0.123456789,),
    )


def test_one_window_is_an_object_by_metric_for_people() -> None:
    question = Question(LLAMA, shares=(0.5,))
    page = Page(answers=[summary("drift"), summary("prediction-accuracy")], after=Position(0, "prediction-accuracy"))
    text = document(question, page, step="").decode()
    assert text.startswith('{\n  "name": "Llama",\n  "version": "v1",\n  "from": "2026-03-02T12:00:00Z",\n')
    assert text.endswith("\n}\n")
    answer = orjson.loads(text)
    assert answer["metrics"]["prediction_accuracy"] == {
        "count": 3,
        "mean": 0.3,
        "min": 0.1,
        "max": 0.5,
        "last": 0.5,
        "last_at": "2026-03-02T12:00:01.500Z",
        "p50": 0.1235,
    }
    assert read_cursor(answer["next_cursor"]) == page.after


def test_percentiles_of_single_values_keep_their_digits() -> None:
    question = Question(LLAMA, shares=(0.5,), values=(Comparison("lt", 1.0),))
    answer = orjson.loads(document(question, Page(answers=[summary("drift")]), step=""))
    assert answer["metrics"]["drift"]["p50"] == 0.123456789


def test_windows_hold_the_metrics_that_were_observed_in_them() -> None:
    later = AT_MS + HOUR_MS
    answers = [summary("drift"), summary("tokens"), summary("drift", start_ms=later)]
    page = Page(answers=answers, from_ms=AT_MS, to_ms=later + HOUR_MS)
    answer = orjson.loads(document(Question(LLAMA, step_ms=HOUR_MS, shares=(0.5,)), page, step="1h"))
    assert [(one["start"], list(one["metrics"])) for one in answer["windows"]] == [
        ("2026-03-02T12:00:00Z", ["drift", "tokens"]),
        ("2026-03-02T13:00:00Z", ["drift"]),
    ]
    assert (answer["step"], answer["to"], answer["next_cursor"]) == ("1h", "2026-03-02T14:00:00Z", None)


def test_a_biller_keeps_the_catalogues_names() -> None:
    answer = orjson.loads(document(Question(B1, shares=(0.5,)), Page(answers=[summary("error-rate")]), step=""))
    assert answer["biller_id"] == "B1"
    assert list(answer["metrics"]) == ["error-rate"]


def test_rows_are_the_same_in_ndjson_and_in_csv() -> None:
    question = Question(LLAMA, shares=(0.5, 0.999), step_ms=HOUR_MS)
    answers = [summary("drift"), summary("prediction-accuracy")]
    answers = [Summary(**{**fields(one), "percentiles": (1.0, 2.0)}) for one in answers]
    first, second = (orjson.loads(line) for line in lines(question, answers).splitlines())
    assert second["metric"] == "prediction_accuracy"
    text = (header(question) + table(question, answers)).decode()
    assert text.startswith("metric,start,end,count,mean,min,max,last,last_at,p50,p99.9\r\ndrift,2026-03-02T12:00:00Z,")
    read = list(csv.DictReader(io.StringIO(text, newline="")))
    assert read == [{name: str(value) for name, value in row.items()} for row in (first, second)]


def fields(one: Summary) -> dict[str, Any]:
    return {name: getattr(one, name) for name in Summary.__slots__}


def test_labels_of_a_newest_observation_are_json_in_a_table() -> None:
    question = Question(LLAMA, is_latest=True)
    newest = Newest(metric="drift", last=0.25, last_ms=AT_MS, labels={"say": 'a "b", c'})
    text = (header(question) + table(question, [newest])).decode()
    (read,) = csv.DictReader(io.StringIO(text, newline=""))
    assert orjson.loads(read.pop("labels")) == {"say": 'a "b", c'}
    assert read == {"metric": "drift", "last": "0.25", "last_at": "2026-03-02T12:00:00Z"}
    assert orjson.loads(lines(question, [newest]))["labels"] == {"say": 'a "b", c'}


async def test_the_description_has_every_parameter_and_media_type() -> None:
    async with memory_api() as api:
        described = (await api.client.get("/openapi.json")).json()["paths"]
    of_model = described["/stats/{name}/{version}"]["get"]
    names = {one["name"] for one in of_model["parameters"]}
    assert {"metric", "from", "to", "step", "label", "value", "percentiles", "latest", "limit", "cursor"} <= names
    assert set(of_model["responses"]["200"]["content"]) == {"application/json", "application/x-ndjson", "text/csv"}
    of_biller = described["/stats/billers/{billerId}"]["get"]
    assert {"label", "value"}.isdisjoint(one["name"] for one in of_biller["parameters"])
