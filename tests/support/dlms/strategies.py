"""Hypothesis strategies of DLMS data."""

from __future__ import annotations

from hypothesis import strategies as st

from protocols.dlms.data.types import (
    FIXED_OCTETS,
    INTEGERS,
    NULL,
    Data,
    Tag,
)


def _integers(tag: Tag) -> st.SearchStrategy[Data]:
    size, signed = INTEGERS[tag]
    bits = 8 * size
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    return st.integers(low, high).map(lambda n: Data(tag, n))


LEAVES = st.one_of(
    st.just(NULL),
    st.just(Data(Tag.DONT_CARE, None)),
    st.booleans().map(lambda b: Data(Tag.BOOLEAN, b)),
    st.sampled_from(sorted(INTEGERS)).flatmap(_integers),
    st.binary(max_size=200).map(lambda b: Data(Tag.OCTET_STRING, b)),
    st.text(alphabet=st.characters(max_codepoint=255), max_size=40).map(
        lambda t: Data(Tag.VISIBLE_STRING, t)
    ),
    st.text(max_size=40).map(lambda t: Data(Tag.UTF8_STRING, t)),
    st.text(alphabet="01", max_size=140).map(lambda b: Data(Tag.BIT_STRING, b)),
    st.sampled_from(sorted(FIXED_OCTETS)).flatmap(
        lambda tag: st.binary(min_size=FIXED_OCTETS[tag], max_size=FIXED_OCTETS[tag]).map(
            lambda b: Data(tag, b)
        )
    ),
)
