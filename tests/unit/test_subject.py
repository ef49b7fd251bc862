"""An id from outside reaches its own keys and no others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detection.errors import InvalidSubjectError
from detection.subject import Subject, is_valid_part

PARTS = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._@+=-]{0,127}", fullmatch=True)


@given(PARTS)
def test_a_biller_survives_being_written_and_read(biller_id: str) -> None:
    subject = Subject.biller(biller_id)
    assert Subject.parse(str(subject)) == subject


@given(PARTS, PARTS)
def test_a_model_survives_being_written_and_read(name: str, version: str) -> None:
    subject = Subject.model(name, version)
    assert Subject.parse(str(subject)) == subject


def test_a_bare_word_is_a_biller_and_a_slash_makes_a_model() -> None:
    assert Subject.parse("B1") == Subject.biller("B1")
    assert Subject.parse("Mistral/v1") == Subject.model("Mistral", "v1")


@given(st.text())
def test_only_text_that_cannot_damage_a_key_is_a_part(text: str) -> None:
    if is_valid_part(text):
        assert text.isascii()
        assert not set(text) & set(" \t\n:/{}[]*?\\\"'|")
    else:
        with pytest.raises(InvalidSubjectError, match="biller_id"):
            Subject.biller(text)


@pytest.mark.parametrize(
    "text",
    ["", "B 1", "B1\n", "{B1}", "B:1", "*", "-B1", ".", "B\u0131", "\uff22\uff11", "B\x00", "x" * 129],
    ids=ascii,
)
def test_a_malformed_biller_id_is_refused_with_the_name_of_the_field(text: str) -> None:
    with pytest.raises(InvalidSubjectError, match="biller_id"):
        Subject.biller(text)


@pytest.mark.parametrize("text", ["model:Mistral", "user:1", "biller:", "model:a/b/c", ":B1", "a/b/c"])
def test_text_that_names_no_subject_is_refused(text: str) -> None:
    with pytest.raises(InvalidSubjectError):
        Subject.parse(text)


def test_a_refused_id_is_quoted_only_in_part() -> None:
    with pytest.raises(InvalidSubjectError) as caught:
        Subject.biller("x" * 1_000_000)
    assert len(str(caught.value)) < 300
