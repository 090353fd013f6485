"""JSON as no decent program writes it: keys twice at any depth, space before colons, escapes in keys, strings that look like keys."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

Pairs = list[tuple[str, Any]]
"""An object as written: order and repetition kept."""

SPACE = st.sampled_from(("", "", "", " ", "\n", "\t", "\r", " \n"))
TEXTS = st.one_of(
    st.sampled_from(
        ('":', ":", '"', "\\", ": ", " :", '{"id":"x"}', '":1,"id":"', "", "a", "null", "\x00", "\ud800", "ü", "💰")
    ),
    st.text(max_size=6),
)
KEYS = st.sampled_from(("a", "b", "id", "tokens", ":", 'a":', "", "ü", "a b"))
NUMBERS = st.one_of(
    st.integers(-(10**20), 10**20).map(str),
    st.sampled_from(
        (
            "0",
            "-0",
            "1.0",
            "1e3",
            "0.1e-7",
            "9" * 40,
            "9" * 41,
            "-" + "9" * 40,
            "0." + "1" * 45,
            "1e" + "9" * 30,
            "1E+2",
            "0." + "0" * 60,
        )
    ),
)


class Number(str):
    """Written as it stands."""


LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS.map(Number), TEXTS)
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.lists(st.tuples(KEYS, inner), max_size=4).map(tuple)),
    max_leaves=6,
)


@st.composite
def written(draw: st.DrawFn, value: Any) -> str:
    """`value` as text; a tuple of pairs is an object. Spaces and escapes where JSON allows them."""
    if isinstance(value, Number):
        text = str(value)
    elif isinstance(value, str):
        text = draw(string(value))
    elif isinstance(value, list):
        text = f"[{','.join([draw(written(item)) for item in value])}]"
    elif isinstance(value, tuple):
        text = "{" + ",".join([draw(pair(key, item)) for key, item in value]) + "}"
    else:
        text = json.dumps(value)
    return draw(SPACE) + text + draw(SPACE)


@st.composite
def pair(draw: st.DrawFn, key: str, value: Any) -> str:
    return f"{draw(SPACE)}{draw(string(key))}{draw(SPACE)}:{draw(written(value))}"


@st.composite
def string(draw: st.DrawFn, text: str) -> str:
    if text and draw(st.integers(0, 9)) == 0:
        at = draw(st.integers(0, len(text) - 1))
        escaped = "".join(f"\\u{ord(c):04x}" if ord(c) < 0x10000 else json.dumps(c)[1:-1] for c in text[at])
        return json.dumps(text[:at])[:-1] + escaped + json.dumps(text[at + 1 :])[1:]
    return json.dumps(text, ensure_ascii=any("\ud800" <= c <= "\udfff" for c in text))


@st.composite
def mutated(draw: st.DrawFn, pairs: Pairs) -> tuple[tuple[str, Any], ...]:
    """Most often as it is; else one pair repeated (with its own value or another), dropped, renamed or given another value."""
    pairs = list(pairs)
    kind = draw(st.sampled_from(("", "", "", "repeat", "repeat", "drop", "rename", "value", "extra")))
    at = draw(st.integers(0, len(pairs) - 1))
    key, value = pairs[at]
    if kind == "repeat":
        other = draw(st.one_of(st.just(value), VALUES))
        pairs.insert(draw(st.integers(0, len(pairs))), (key, other))
    elif kind == "drop":
        del pairs[at]
    elif kind == "rename":
        pairs[at] = (draw(KEYS), value)
    elif kind == "value":
        pairs[at] = (key, draw(VALUES))
    elif kind == "extra":
        pairs.append((draw(KEYS), draw(VALUES)))
    return tuple(pairs)


@st.composite
def events(draw: st.DrawFn) -> tuple[tuple[str, Any], ...]:
    pairs: Pairs = [("id", draw(TEXTS)), ("type", draw(st.sampled_from(("api.call", "llm.completion", "x:"))))]
    optional: list[tuple[str, Any]] = [
        ("customer", draw(st.sampled_from(("cus_fuzz", "nobody", ":")))),
        ("source", draw(st.one_of(TEXTS, st.just("default")))),
        ("subject", draw(st.one_of(st.none(), TEXTS))),
        ("specversion", draw(st.sampled_from(("1.0", "1.0", "0.3", None)))),
        ("datacontenttype", draw(st.sampled_from(("application/json", None)))),
        ("data", draw(st.one_of(VALUES, st.lists(st.tuples(KEYS, VALUES), max_size=4).map(tuple)))),
    ]
    pairs += [entry for entry in optional if draw(st.integers(0, 2)) > 0]
    return draw(mutated(draw(st.permutations(pairs))))


CHECK_FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "key": TEXTS,
    "meter": st.sampled_from(("api_calls", "tokens", "nothing", None)),
    "cost": st.one_of(st.sampled_from(("1", "0", "0.5", "-1", "1e9", "NaN", "9" * 60, "")), NUMBERS.map(Number)),
    "scope": st.one_of(st.none(), TEXTS),
    "ip": st.sampled_from((None, "203.0.113.9", "::1", "300.1.1.1", ":")),
    "id": st.one_of(st.none(), TEXTS),
    "reserve": st.booleans(),
    "durable": st.booleans(),
}


@st.composite
def checks(draw: st.DrawFn, key: str | None = None) -> tuple[tuple[str, Any], ...]:
    pairs: Pairs = [("key", draw(TEXTS) if key is None else key)]
    for name in draw(st.lists(st.sampled_from(list(CHECK_FIELDS)[1:]), unique=True, max_size=4)):
        pairs.append((name, draw(CHECK_FIELDS[name])))
    return draw(mutated(draw(st.permutations(pairs))))
