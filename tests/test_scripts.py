"""The page's scripts are JavaScript that Chromium can read, and none of it stands in Python."""

import ast
from pathlib import Path

import pytest

import app
from ui import js
from ui.js import script, template

UI = Path(js.FOLDER).parent
FILES = sorted(path.name for path in js.FOLDER.iterdir() if path.suffix in (".js", ".html"))
READS = r"""([of, source]) => {
  try {
    of === 'template' ? new Function(`return \`${source}\``) : new Function(source);
    return '';
  } catch (error) { return String(error); }
}"""


def sent():
    """What the browser gets: (template or script, its text)."""
    for part in app.demo.config["components"]:
        yield from ((of, part["props"][name]) for of, name in (("template", "html_template"), ("script", "js_on_load"))
                    if part["props"].get(name))
    yield from (("script", event["js"]) for event in app.demo.config["dependencies"] if isinstance(event["js"], str))


@pytest.mark.browser
def test_chromium_reads_every_script(browser):
    page = browser.new_page()
    faults = [(text, page.evaluate(READS, [of, text])) for of, text in dict.fromkeys(sent())]
    assert [(text, fault) for text, fault in faults if fault] == []
    assert "SyntaxError" in page.evaluate(READS, ["script", "const a = ;"])
    assert "SyntaxError" in page.evaluate(READS, ["template", "${a b}"])
    page.close()


@pytest.mark.parametrize("name", FILES)
def test_every_script_is_sent(name):
    text = script(name[:-3]) if name.endswith(".js") else template(name[:-5]).partition("LOOK")[0]
    assert any(text in one for _, one in sent())


@pytest.mark.parametrize("path", sorted(UI.rglob("*.py")), ids=lambda path: str(path.relative_to(UI)))
def test_python_holds_no_javascript(path):
    """A line of it may stand in a call; more belongs in a file of ``ui/js``."""
    texts = [node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
             if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    assert [text for text in texts if text.count("\n") > 1 and ("=>" in text or "addEventListener" in text)] == []
