from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tollkeeper.core.catalog_faults import Path
from tollkeeper.core.catalog_source import Source, read_toml

from .catalogs import any_keys, inline, quoted

texts = st.text(st.sampled_from("ab'\"\\[]{}=,.#\n é"), max_size=8)
numbers = st.integers(-5, 5) | st.booleans() | st.sampled_from([1.5, float("inf")])
bare = st.text("Aa0_-", min_size=1, max_size=4)


class Writer:
    """Writes TOML in every style the standard has, and notes the line of each path as it goes."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw, self.text, self.lines = draw, "", {}  # type: tuple[st.DrawFn, str, dict[Path, int]]

    @property
    def line(self) -> int:
        return self.text.count("\n") + 1

    def note(self, path: Path) -> None:
        while path:
            self.lines.setdefault(path, self.line)
            path = path[:-1]

    def filler(self) -> None:
        self.text += self.draw(st.sampled_from(["", "", " ", "\n", "\t", "# a [comment] = {1}\n", "\r\n"]))

    def string(self, text: str) -> None:
        styles = [inline(text)]
        if "'" not in text and "\n" not in text:
            styles.append(f"'{text}'")
        if "'''" not in text:
            styles.append(f"'''\n{text}'''")
        escaped = text.replace("\\", "\\\\").replace('"""', '""\\"')
        styles.append(f'"""{escaped}"""' if not escaped.startswith("\n") else f'"""\n{escaped}"""')
        self.text += self.draw(st.sampled_from(styles))

    def value(self, path: Path, depth: int) -> None:
        kind = self.draw(st.sampled_from(["string", "number", "array", "table"] if depth else ["string", "number"]))
        if kind == "string":
            self.string(self.draw(texts))
        elif kind == "number":
            self.text += inline(self.draw(numbers))
        elif kind == "array":
            self.text += "["
            for i in range(self.draw(st.integers(0, 3))):
                self.filler()
                self.note((*path, i))
                self.value((*path, i), depth - 1)
                self.filler()
                self.text += ","
            self.filler()
            self.text += "]"
        else:
            self.text += "{"
            for i, key in enumerate(self.draw(st.lists(bare, max_size=3, unique=True))):
                self.text += ", " if i else " "
                self.note((*path, key))
                self.text += f"{key} = "
                self.value((*path, key), depth - 1)
            self.text += " }"

    def pairs(self, path: Path, keys: list[str]) -> None:
        for key in keys:
            self.filler()
            dotted = (key, *self.draw(st.lists(bare, max_size=2)))
            self.note((*path, *dotted))
            self.text += " . ".join(part if self.draw(st.booleans()) else quoted(part) for part in dotted) + " = "
            self.value((*path, *dotted), 2)
            self.text += "\n"

    def document(self) -> None:
        names = self.draw(st.lists(bare, min_size=1, max_size=6, unique=True))
        self.pairs((), names[:1])
        for name in names[1:]:
            if self.draw(st.booleans()):
                self.note((name, "x"))
                self.text += f"[ {name} . 'x' ]\n"
                self.pairs((name, "x"), self.draw(st.lists(bare, max_size=3, unique=True)))
            else:
                for i in range(self.draw(st.integers(1, 3))):
                    self.note((name, i))
                    self.text += f"[[{name}]] # {i}\n"
                    self.pairs(
                        (name, i), self.draw(st.lists(bare, max_size=2, unique=True).filter(lambda k: "sub" not in k))
                    )
                    if self.draw(st.booleans()):
                        self.note((name, i, "sub"))
                        self.text += f"[{name}.sub]\n"
                        self.pairs((name, i, "sub"), self.draw(st.lists(bare, max_size=2, unique=True)))


@given(st.data())
def test_every_key_is_found_on_the_line_it_was_written_on(data: st.DataObject) -> None:
    writer = Writer(data.draw)
    writer.document()
    _, source = read_toml(writer.text, "f")
    assert source.lines == writer.lines


@settings(max_examples=40)
@given(
    st.dictionaries(
        any_keys, st.recursive(texts | numbers, lambda v: st.lists(v) | st.dictionaries(any_keys, v)), max_size=4
    )
)
def test_scanning_valid_toml_never_fails(data: dict[str, Any]) -> None:
    text = "".join(f"{quoted(key)} = {inline(value)}\n" for key, value in data.items())
    tomllib.loads(text)
    Source("f", text).scan()


def test_an_unknown_path_has_the_line_of_the_nearest_key_above_it() -> None:
    _, source = read_toml("a = 1\n[b.c]\nd = [\n  2,\n]\n", "f")
    assert source.line(("b", "c", "d", 0)) == 4
    assert source.line(("b", "c", "d", 7, "x")) == 3
    assert source.line(("b", "c", "e")) == 2
    assert source.line(("z",)) is None
