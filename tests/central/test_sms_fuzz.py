"""Whatever a file, an answer or a report says: a mistake, an outcome or a refusal, never anything else."""

from __future__ import annotations

import json

from hypothesis import example, given
from hypothesis import strategies as st

from gateway.central.telling.alphabet import Alphabet, size_of
from gateway.central.telling.answers import AnswerRules, outcome_of
from gateway.central.telling.lint import _Read
from gateway.central.telling.messages import Accepted, Doubtful, NotTaken, Refused, State
from gateway.central.telling.reports import ReportRefused, ReportRules, reports_in

TOML = st.text(alphabet="[]{}=\"'#.,\n ab1templatesregistered-", max_size=120)
RULES = AnswerRules(where="a.0.b", accepted=("ok",), id_at="a.0.id", id_pattern=None)
REPORTS = ReportRules(status_at="s", id_at="id", delivered=("D",), undelivered=("U",), list_at="l")
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["D", "U", "ok"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["a", "b", "s", "id", "l", "0"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(TOML)
@example("templates = 1")
@example("[registered]\nx = {}")
@example("[[templates]]\nid = 1\nvariables = [1]\nen = 2")
@example("[registered.a]\nfr = '1'")
@example("links = [1]\nhelpline = 5")
def test_any_file_is_read_or_has_mistakes(text: str) -> None:
    read = _Read("t.toml", text)
    assert (read.file is None) == bool(read.mistakes)


@given(st.integers(100, 599), st.binary(max_size=60) | JSON.map(lambda v: json.dumps(v).encode()))
def test_any_answer_is_an_outcome(status: int, body: bytes) -> None:
    got = outcome_of(RULES, status, body, ("s3cret",))
    assert isinstance(got, Accepted | NotTaken | Refused | Doubtful)
    if isinstance(got, Accepted):
        assert status in RULES.accepted_status


@given(st.binary(max_size=60) | JSON.map(lambda v: json.dumps(v).encode()), st.text(max_size=20))
def test_any_report_is_final_or_refused(body: bytes, query: str) -> None:
    try:
        found = reports_in(REPORTS, body, "application/json", query)
    except ReportRefused:
        return
    assert {one.state for one in found} <= {State.DELIVERED, State.UNDELIVERED}


@given(st.text(max_size=700))
def test_a_longer_text_never_has_fewer_parts(text: str) -> None:
    size = size_of(text)
    assert size.segments >= size_of(text[:-1]).segments
    most = {Alphabet.GSM7: 153, Alphabet.UCS2: 67}[size.alphabet]
    assert (size.segments == 0) == (not text)
    assert size.segments <= 1 or (size.segments - 1) * (most - 1) < size.units <= size.segments * most
