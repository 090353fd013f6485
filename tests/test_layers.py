"""The layer table of docs/architecture.md, read from the imports."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

import pytest

SRC = Path(__file__).parent.parent / "src" / "tollkeeper"
FILES = sorted(SRC.rglob("*.py"))

# layer -> (parts of Tollkeeper it may import, third-party packages it may import)
LAYERS: dict[str, tuple[set[str], set[str]]] = {
    "core": ({"core"}, set()),
    "services": ({"core", "services"}, set()),
    "storage": ({"core", "storage"}, {"apsw", "sqlalchemy", "alembic"}),
    "integrations": ({"core", "integrations"}, {"prometheus_client", "opentelemetry", "stripe", "urllib3"}),
    "web": (
        {"core", "services", "web", "__version__"},
        {
            "fastapi",
            "starlette",
            "msgspec",
            "markdown_it",
            "pydantic",
            "uvicorn",
            "uvloop",
            "httptools",
            "aiohttp",
            "yarl",
        },
    ),
    "cli": (
        {"core", "services", "cli", "client", "bootstrap", "dotenv", "sandbox", "settings", "upkeep", "__version__"},
        {"typer", "click", "rich", "msgspec", "pyarrow"},
    ),
    "asgi": ({"core", "services", "web"}, set()),
    "fastapi": ({"core", "services", "web", "asgi"}, {"fastapi", "starlette"}),
    "wsgi": ({"core", "services", "web"}, set()),
    "flask": ({"core", "services", "web", "wsgi"}, {"flask"}),
    "django": ({"core", "services", "web", "wsgi"}, {"django", "asgiref"}),
    "client": (set(), set()),
    "connected": ({"core", "services", "client"}, set()),
    "demo_api": (set(), set()),
    "sandbox": ({"sandbox"}, {"starlette", "uvicorn"}),
    "dotenv": ({"core"}, set()),
}
FREE = {
    "bootstrap",
    "demo",
    "embedded",
    "first",
    "front",
    "money",
    "play",
    "server",
    "settings",
    "upkeep",
    "wrap",
    "__init__",
    "__main__",
}


def layer(path: Path) -> str:
    first = path.relative_to(SRC).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> list[str]:
    package = ["tollkeeper", *path.relative_to(SRC).parent.parts]
    names: list[str] = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            names += [f"{module}.{alias.name}" for alias in node.names] if module == "tollkeeper" else [module]
    return names


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_a_layer_imports_only_what_the_table_allows(path: Path) -> None:
    name = layer(path)
    if name in FREE:
        return
    ours, theirs = LAYERS[name]
    for module in imports(path):
        top = module.split(".")[0]
        if top == "tollkeeper":
            part = module.split(".")[1] if "." in module else "__init__"
            assert part in ours, f"{path.name} ({name}) imports {module}"
        elif top not in sys.stdlib_module_names:
            assert top in theirs, f"{path.name} ({name}) imports {module}"


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(SRC)))
def test_no_file_is_longer_than_600_lines(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 600


def test_init_files_only_re_export() -> None:
    for path in FILES:
        if path.name == "__init__.py":
            for node in ast.parse(path.read_text()).body:
                assert isinstance(
                    node, ast.Import | ast.ImportFrom | ast.Expr | ast.Assign | ast.FunctionDef | ast.If
                ), path
