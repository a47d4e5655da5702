"""Every address of the Plan page is a plan or an error."""

from hypothesis import given
from hypothesis import strategies as st

from nudge.errors import ConfigError
from nudge.plan import questions
from nudge.plan.planner import plan
from nudge.studio.pages.plan_question import CHOICES, FIELDS, opening, to_ask

NUMBERS = st.sampled_from(
    ["0", "1", "8", "64", "1e17", "9" * 30, "-1", "٣", "1.5", "2K", "3억", "nan", "inf", ".", "_"]
)
NAMES = st.sampled_from(
    ["gpt2_small", "tiny", "gpt3", "h100", "t4", "cpu", "3@2026-11-01", "0@2026-11-01", "chinchilla"]
)
KINDS = st.sampled_from([kind for kinds in CHOICES.values() for kind in kinds])
ANY = st.text(alphabet="0123456789.,-eEKMB@$ 억x", max_size=8)


@given(st.dictionaries(st.sampled_from(FIELDS), NUMBERS | NAMES | KINDS | ANY, max_size=6))
def test_an_address_is_a_plan_or_an_error(written: dict[str, str]) -> None:
    try:
        answer = plan(to_ask(opening(written)))
    except ConfigError:
        return
    assert answer.hours.low <= answer.hours.likely <= answer.hours.high
    assert answer.ask in [other.ask for other in questions.ladder(answer.ask)]
    assert questions.changes(answer.ask)
