"""The API reference, and what a problem's type means, as HTML pages without scripts or styles.

Swagger UI and similar pages need inline scripts or scripts of other sites, which the server's
content security policy forbids.
"""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from regard.api.http.problems import PROBLEMS

_METHODS = ("get", "post", "put", "patch", "delete")


def reference_page(document: Mapping[str, Any]) -> str:
    """The operations of an OpenAPI document as HTML: parameters, bodies, answers and problems."""
    title = escape(f"{document['info']['title']} {document['info']['version']}")
    by_tag: dict[str, list[str]] = {}
    for path, operations in document["paths"].items():
        for method in _METHODS:
            if method in operations:
                operation = operations[method]
                tag = next(iter(operation.get("tags", [])), "other")
                by_tag.setdefault(tag, []).append(_operation(method, path, operation))
    contents = "".join(f'<li><a href="#{escape(tag)}">{escape(tag)}</a></li>' for tag in by_tag)
    sections = "".join(
        f'<section id="{escape(tag)}"><h2>{escape(tag)}</h2>{"".join(articles)}</section>'
        for tag, articles in by_tag.items()
    )
    problems = "".join(
        f"<tr><td>{kind.status}</td><td><code>{name}</code></td><td>{escape(kind.unspecific)}</td></tr>"
        for name, kind in PROBLEMS.items()
    )
    return _page(
        title,
        f"{_paragraph(document['info'].get('description'))}"
        '<p>For programs: <a href="openapi.json">the OpenAPI document</a>.</p>'
        f'<nav aria-label="Contents"><ul>{contents}<li><a href="#problems">problems</a></li></ul></nav>'
        f'{sections}<section id="problems"><h2>problems</h2><table>'
        "<thead><tr><th>status</th><th>name</th><th>meaning</th></tr></thead>"
        f"<tbody>{problems}</tbody></table></section>",
    )


def problem_page(name: str) -> str:
    """What is found at the `type` of a problem; `name` is a key of `PROBLEMS`."""
    kind = PROBLEMS[name]
    return _page(
        escape(kind.title),
        f"<p>Answers with the type <code>{name}</code> and the status {kind.status} mean: "
        f"{escape(kind.unspecific)}.</p><p>The <code>detail</code> of an answer says what is wrong "
        "in its case, its <code>remedy</code> how to mend it.</p>",
    )


def _page(title: str, content: str) -> str:
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta name="color-scheme" content="light dark"><title>{title}</title></head><body><main>'
        f"<h1>{title}</h1>{content}</main></body></html>\n"
    )


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parameters = "".join(
        f"<tr><td><code>{escape(item['name'])}</code></td><td>{escape(item['in'])}</td>"
        f"<td>{escape(_type(item.get('schema', {})))}</td>"
        f"<td>{'required' if item.get('required') else ''}</td>"
        f"<td>{escape(item.get('description', ''))}</td></tr>"
        for item in operation.get("parameters", [])
    )
    table = (
        "<table><thead><tr><th>parameter</th><th>in</th><th>type</th><th></th><th></th></tr></thead>"
        f"<tbody>{parameters}</tbody></table>"
        if parameters
        else ""
    )
    body = "".join(
        f"<p>Body: <code>{escape(kind)}</code>, {escape(_type(content.get('schema', {})))}</p>"
        for kind, content in operation.get("requestBody", {}).get("content", {}).items()
    )
    answers = "".join(
        f"<li>{escape(status)}: {escape(answer.get('description', ''))}</li>"
        for status, answer in operation["responses"].items()
    )
    return (
        f"<article><h3><code>{method.upper()} {escape(path)}</code></h3>"
        f"{_paragraph(operation.get('description') or operation.get('summary'))}"
        f"{table}{body}<ul>{answers}</ul></article>"
    )


def _type(schema: Mapping[str, Any]) -> str:
    """A short name of a schema's type."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[-1]
    for name in ("anyOf", "oneOf"):
        if name in schema:
            return " or ".join(dict.fromkeys(map(_type, schema[name])))
    if "enum" in schema:
        return " or ".join(map(str, schema["enum"]))
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("type", schema.get("const", "any")))


def _paragraph(text: str | None) -> str:
    return f"<p>{escape(text)}</p>" if text else ""
