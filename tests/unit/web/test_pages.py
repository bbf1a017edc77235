"""The views are drawn from templates that keep to the policy of content, and load what they need at once."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from starlette.applications import Starlette

from prefork_logd.config.load import loads
from prefork_logd.web import pages, templates
from tests.support.page import Client

STATIC = templates.STATIC
SCRIPTS = sorted(STATIC.glob("*.js"))
MOST_LINES = 400
_IMPORT = re.compile(r'^(?:import|export) .*?from "\./([\w.]+)";', re.MULTILINE)


def _client() -> Client:
    return Client(Starlette(routes=pages.routes()), base="http://127.0.0.1")


def _needed(name: str, found: set[str]) -> set[str]:
    """Return every module that a module imports, also through others."""
    for other in _IMPORT.findall((STATIC / name).read_text()):
        if other not in found:
            found.add(other)
            _needed(other, found)
    return found


@pytest.mark.parametrize("view", pages.VIEWS, ids=lambda view: view.name)
def test_a_view_is_drawn(view: pages.View) -> None:
    """It has its title and its place in the navigation, no script or style in the text, and nothing of other hosts."""
    client = _client()
    answer = client.get(view.path)
    client.close()
    assert answer.status_code == 200
    assert answer.headers["cache-control"] == "no-store"
    text = answer.text
    assert f"<title>{view.title} - prefork-logd</title>" in text
    assert re.search(rf'<a href="{view.path}" aria-current="page">{view.title}</a>', text)
    assert text.count("aria-current") == 1
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\bstyle=|\bon\w+=|https?://", text)
    targets = re.findall(r'(?:href|src)="([^"#]+)"', text)
    assert all(
        target.startswith(templates.static_path()) or target in {v.path for v in pages.VIEWS} for target in targets
    )


def test_the_page_of_one_thing_is_that_of_its_view() -> None:
    """Whatever its address names: the module in the browser asks for it."""
    client = _client()
    answers = [client.get(f"/errors/{key}") for key in ("g1:4d96b4c00d4337c3", "%3Cb%3E", "..%5c")]
    same, other = client.get("/errors").text, client.get("/errors/a/b")
    client.close()
    assert [answer.text for answer in answers] == [same] * 3
    assert other.status_code == 404


@pytest.mark.parametrize("view", pages.VIEWS, ids=lambda view: view.name)
def test_a_view_preloads_every_module_it_imports(view: pages.View) -> None:
    """No module is found late, and none is loaded in vain."""
    assert {f"{name}.js" for name in view.modules} == _needed(f"{view.name}.js", set())
    assert len(view.modules) == len(set(view.modules))


def test_static_files_may_be_kept_for_ever() -> None:
    """Their address names their content, so a changed file has another one."""
    client = _client()
    answers = {path.name: client.get(f"{templates.static_path()}/{path.name}") for path in sorted(STATIC.iterdir())}
    missing = client.get(f"{templates.static_path()}/../pages.py"), client.get("/static/0/dom.js")
    client.close()
    assert all(answer.status_code == 200 for answer in answers.values())
    assert "immutable" in answers["dom.js"].headers["cache-control"]
    assert answers["dom.js"].headers["content-type"].startswith("text/javascript")
    assert [answer.status_code for answer in missing] == [404, 404]


def test_the_address_of_static_files_follows_their_content(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two contents have two addresses."""
    found = []
    for content in ("a", "b"):
        (tmp_path / "one.js").write_text(content)
        monkeypatch.setattr(templates, "STATIC", tmp_path)
        found.append(templates.static_path.__wrapped__())
    assert found[0] != found[1]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_modules_keep_to_the_rules(path: Path) -> None:
    """A module says what it does, is short, is reached by a view, and never makes markup of a text."""
    text = path.read_text()
    assert re.match(r"/\*\*\n \* [A-Z].*\.\n|// [A-Z].*\.", text), "the first sentence is missing"
    assert len(text.splitlines()) <= MOST_LINES
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|https?://(?!www\.w3\.org)", text
    )
    reached = {"theme.js"} | {f"{view.name}.js" for view in pages.VIEWS}
    for view in pages.VIEWS:
        _needed(f"{view.name}.js", reached)
    assert path.name in reached


def test_the_example_of_a_receiver_is_valid() -> None:
    """What the view of alerts advises where there is none is a configuration that is taken."""
    (example,) = re.findall(r"const EXAMPLE = '(.+)';", (STATIC / "alerts.js").read_text())
    (receiver,) = loads(example.replace("\\n", "\n"), "").receiver
    assert receiver.name == "ops"


def test_every_export_is_used() -> None:
    """A name that a module exports is imported by another one."""
    texts = {path.name: path.read_text() for path in SCRIPTS}
    exported = {
        (name, one)
        for name, text in texts.items()
        for one in re.findall(r"^export (?:async )?(?:function|class|const) (\w+)", text, re.MULTILINE)
    }
    assert len(exported) > 50
    imports = "\n".join(re.findall(r"^import .*$|panels\.\w+", "\n".join(texts.values()), re.MULTILINE))
    assert not [(name, one) for name, one in exported if not re.search(rf"\b{one}\b", imports)]


@pytest.mark.parametrize("path", sorted(STATIC.glob("*.css")), ids=lambda path: path.name)
def test_colours_and_sizes_of_text_are_tokens(path: Path) -> None:
    """Styles other than tokens.css take colours from there, and use no token that it lacks."""
    text = re.sub(r"/\*.*?\*/", "", path.read_text(), flags=re.DOTALL)
    declared = set(re.findall(r"(--[\w-]+):", text)) | set(
        re.findall(r"(--[\w-]+):", (STATIC / "tokens.css").read_text())
    )
    assert set(re.findall(r"var\((--[\w-]+)", text)) <= declared
    if path.name != "tokens.css":
        assert not re.findall(r"#[0-9a-fA-F]{3,8}\b(?!-)", re.sub(r"#[\w-]+\s*[,{]", "", text))
