"""The API reference: one page of HTML made from the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final, NamedTuple

from tollkeeper.web.html import code_block, coloured, inline, join, markdown, page

Schema = Mapping[str, Any]
METHODS: Final = ("get", "post", "put", "patch", "delete")
DEEPEST: Final = 6


class Operation(NamedTuple):
    """One method of one address."""

    method: str
    path: str
    spec: Mapping[str, Any]

    @property
    def anchor(self) -> str:
        return str(self.spec["operationId"])

    @property
    def tag(self) -> str:
        return str(self.spec["tags"][0])


class Reference:
    """`document` is the OpenAPI document, `base` the address that examples call."""

    def __init__(self, document: Mapping[str, Any], base: str) -> None:
        self._document = document
        self._base = base
        self._operations = [
            Operation(method, path, item[method])
            for path, item in document["paths"].items()
            for method in METHODS
            if method in item
        ]

    def html(self) -> str:
        info = self._document["info"]
        intro = (
            f'<section class="intro"><h1>{escape(info["title"])} <span class="version">{escape(info["version"])}</span></h1>'
            f"{markdown(info['description'])}</section>"
        )
        groups = join(self._group(tag) for tag in self._document["tags"])
        return page("API reference", intro + groups, side=self._side(), description=info["summary"])

    def _of(self, tag: str) -> list[Operation]:
        return [operation for operation in self._operations if operation.tag == tag]

    def _side(self) -> str:
        groups = join(
            f'<h2><a href="#{_slug(tag["name"])}">{escape(tag["name"])}</a></h2><ul>'
            + join(
                f'<li><a href="#{operation.anchor}"><span class="method {operation.method}">{operation.method}</span>'
                f"{escape(operation.spec['summary'])}</a></li>"
                for operation in self._of(tag["name"])
            )
            + "</ul>"
            for tag in self._document["tags"]
        )
        return (
            '<input type="search" class="filter" placeholder="Filter" aria-label="Filter operations" autocomplete="off" hidden>'
            + groups
        )

    def _group(self, tag: Mapping[str, str]) -> str:
        return (
            f'<section class="group" id="{_slug(tag["name"])}"><h2>{escape(tag["name"])}</h2>'
            f"{markdown(tag['description'])}</section>"
            + join(self._operation(operation) for operation in self._of(tag["name"]))
        )

    def _operation(self, operation: Operation) -> str:
        spec = operation.spec
        words = [
            f'<h3><a href="#{operation.anchor}">{escape(spec["summary"])}</a></h3>',
            f'<p class="address"><span class="method {operation.method}">{operation.method}</span>'
            f"<code>{_path(operation.path)}</code></p>",
            markdown(spec.get("description", "")),
            self._needs(spec),
            self._parameters(spec.get("parameters", ())),
            self._body(spec),
            self._answer(spec),
            self._errors(spec),
        ]
        return (
            f'<section class="operation" id="{operation.anchor}"><div class="words">{join(words)}</div>'
            f'<div class="examples">{self._examples(operation)}</div></section>'
        )

    def _needs(self, spec: Mapping[str, Any]) -> str:
        return f'<p class="needs">{inline(spec["x-needs"])}</p>' if spec.get("x-needs") else ""

    def _parameters(self, parameters: Sequence[Mapping[str, Any]]) -> str:
        html = ""
        for place, title in (("path", "Path"), ("query", "Query"), ("header", "Headers")):
            rows = join(
                self._row(
                    parameter["name"],
                    parameter["schema"],
                    required=parameter.get("required", False),
                    description=parameter.get("description", ""),
                )
                for parameter in parameters
                if parameter["in"] == place
            )
            html += f"<h4>{title}</h4><dl>{rows}</dl>" if rows else ""
        return html

    def _body(self, spec: Mapping[str, Any]) -> str:
        if "requestBody" not in spec:
            return ""
        schema = next(iter(spec["requestBody"]["content"].values()))["schema"]
        return f"<h4>Body</h4>{self._described(schema)}<dl>{self._properties(schema, sent=True)}</dl>"

    def _answer(self, spec: Mapping[str, Any]) -> str:
        status, response = _success(spec)
        content = response.get("content")
        if not content:
            return f"<h4>Answer <code>{status}</code></h4><p>No content.</p>"
        media, shape = next(iter(content.items()))
        if "schema" not in shape or not self._properties(shape["schema"]):
            return f"<h4>Answer <code>{status}</code></h4><p>{escape(media)}</p>"
        schema = shape["schema"]
        return (
            f"<h4>Answer <code>{status}</code></h4>{self._described(schema)}"
            f"<details><summary>Fields of the answer</summary><dl>{self._properties(schema)}</dl></details>"
        )

    def _errors(self, spec: Mapping[str, Any]) -> str:
        statuses = [status for status in spec["responses"] if status.isdigit() and status >= "400"]
        if not statuses:
            return ""
        codes = join(
            f"<li><code>{status}</code> "
            + ", ".join(
                f'<a href="/docs/errors/{code}">{code}</a>' for code in spec["responses"][status].get("x-codes", ())
            )
            + "</li>"
            for status in sorted(statuses)
        )
        return f'<h4>Errors</h4><ul class="errors">{codes}</ul>'

    def _described(self, schema: Schema) -> str:
        resolved = self._resolve(schema)
        return markdown(resolved.get("description", ""))

    def _resolve(self, schema: Schema) -> Schema:
        while "$ref" in schema:
            schema = self._document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        options = [option for option in schema.get("anyOf", ()) if option.get("type") != "null"]
        if len(options) == 1:
            outer = {key: value for key, value in schema.items() if key != "anyOf"}
            return {**self._resolve(options[0]), **outer}
        return schema

    def _properties(self, schema: Schema, depth: int = 0, *, sent: bool = False) -> str:
        """Rows for the fields of an object, or of a list's items. Of what is sent it says which fields are required."""
        resolved = self._resolve(schema)
        if resolved.get("type") == "array":
            return self._properties(resolved.get("items", {}), depth, sent=sent)
        for option in resolved.get("anyOf", ()):
            if found := self._properties(option, depth, sent=sent):
                return found
        required = resolved.get("required", ()) if sent else ()
        return join(
            self._row(name, inner, required=name in required, depth=depth, sent=sent)
            for name, inner in resolved.get("properties", {}).items()
        )

    def _row(
        self,
        name: str,
        schema: Schema,
        *,
        required: bool,
        description: str = "",
        depth: int = 0,
        sent: bool = True,
    ) -> str:
        resolved = self._resolve(schema)
        facts = " · ".join(_facts(resolved)) if sent else ""
        inner = self._properties(schema, depth + 1, sent=sent) if depth < DEEPEST else ""
        mark = '<span class="required">required</span>' if required else ""
        return (
            f'<dt><code>{escape(name)}</code> <span class="type">{escape(self._type(schema))}</span>{mark}</dt>'
            f"<dd>{markdown(description or resolved.get('description', ''))}"
            + (f'<p class="facts">{facts}</p>' if facts else "")
            + (f"<dl>{inner}</dl>" if inner else "")
            + "</dd>"
        )

    def _type(self, schema: Schema) -> str:
        if "anyOf" in schema:
            return " or ".join(dict.fromkeys(self._type(option) for option in schema["anyOf"]))
        resolved = self._resolve(schema)
        if "enum" in resolved:
            return " | ".join(json.dumps(value) for value in resolved["enum"])
        if "const" in resolved:
            return json.dumps(resolved["const"])
        kind = resolved.get("type", "any")
        if isinstance(kind, list):
            return " or ".join(kind)
        if kind == "array":
            return f"list of {self._type(resolved.get('items', {}))}"
        return "time" if resolved.get("format") == "date-time" else str(kind)

    def _examples(self, operation: Operation) -> str:
        spec = operation.spec
        html = code_block("Request", self._curl(operation))
        status, response = _success(spec)
        for media, shape in response.get("content", {}).items():
            if media.endswith("json"):
                html += code_block(f"Answer · {status}", coloured(self._example(shape)))
        return html

    def _example(self, shape: Mapping[str, Any]) -> Any:
        return shape["example"] if "example" in shape else self.sample(shape.get("schema", {}))

    def _curl(self, operation: Operation) -> str:
        spec = operation.spec
        path = operation.path
        query = []
        for parameter in spec.get("parameters", ()):
            if parameter["in"] == "path":
                path = path.replace("{" + parameter["name"] + "}", str(self.sample(parameter["schema"])))
            elif parameter["in"] == "query" and parameter.get("required"):
                query.append(f"{parameter['name']}={self.sample(parameter['schema'])}")
        address = self._base + path + (f"?{'&'.join(query)}" if query else "")
        body = spec.get("requestBody")
        implied = operation.method == "get" or (operation.method == "post" and body)
        lines = ["curl " + ("" if implied else f"-X {operation.method.upper()} ") + escape(address, quote=False)]
        if spec.get("security"):
            lines.append('  -H "Authorization: Bearer $TOLLKEEPER_TOKEN"')
        if body:
            media, shape = next(iter(body["content"].items()))
            lines.append(f"  -H 'Content-Type: {media}'")
            text = coloured(self._example(shape)).replace("'", "'\\''").replace("\n", "\n  ")
            lines.append(f"  -d '{text}'")
        return " \\\n".join(lines)

    def sample(self, schema: Schema, depth: int = 0) -> Any:
        """A value of the schema, made of its examples."""
        if schema.get("examples"):
            return schema["examples"][0]
        resolved = self._resolve(schema)
        for key in ("examples", "enum"):
            if resolved.get(key):
                return resolved[key][0]
        if "const" in resolved:
            return resolved["const"]
        if "default" in resolved:
            return resolved["default"]
        if resolved.get("properties"):
            return {name: self.sample(inner, depth + 1) for name, inner in resolved["properties"].items()}
        if resolved.get("type") == "array":
            return [self.sample(resolved["items"], depth + 1)] if depth < DEEPEST else []
        if resolved.get("anyOf"):
            return self.sample(resolved["anyOf"][0], depth)
        return {"integer": 1, "number": 1, "boolean": True, "object": {}, "null": None}.get(
            resolved.get("type", ""), "…"
        )


def _success(spec: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    return next((status, response) for status, response in spec["responses"].items() if status.startswith("2"))


def _facts(schema: Schema) -> Iterator[str]:
    """Bounds and defaults, in words."""
    if schema.get("default") is not None and schema["default"] != "":
        yield f"default <code>{escape(json.dumps(schema['default']))}</code>"
    low, high = schema.get("minimum"), schema.get("maximum", schema.get("exclusiveMaximum"))
    if low is not None and high is not None:
        yield f"{low:,} to {high:,}"
    if "maxLength" in schema:
        yield f"at most {schema['maxLength']:,} characters"
    if "maxItems" in schema:
        yield f"at most {schema['maxItems']} entries"
    if "pattern" in schema:
        yield f"<code>{escape(schema['pattern'])}</code>"


def _path(path: str) -> str:
    """An address with its parameters marked."""
    return escape(path).replace("{", '<span class="parameter">{').replace("}", "}</span>")


def _slug(name: str) -> str:
    return f"group-{name.lower().replace(' ', '-')}"
