"""The pages about the site file: up to date with the settings, and the example is a site file."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from orveil.pipeline.errors import OrveilError
from orveil.pipeline.settings import SiteSettings, load_site

ROOT = Path(__file__).resolve().parent.parent


def docs_script():
    spec = importlib.util.spec_from_file_location("site_file_docs", ROOT / "scripts" / "site_file_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_what_the_script_writes():
    script = docs_script()
    assert script.PAGE.read_text("utf-8") == script.page(), "run scripts/site_file_docs.py"


def test_the_page_explains_every_key_of_every_table():
    page = docs_script().page()
    for name, field in SiteSettings.model_fields.items():
        assert f"`{name}`" in page or f"`[{name}]`" in page or f"`[[{name}]]`" in page
        for key in getattr(field.annotation, "model_fields", {}):
            if not (field.annotation.model_fields[key].description or "").startswith("set by the pipeline"):
                assert f"| `{key}` |" in page
    assert not re.search(r"\|  \|$", page, re.MULTILINE), "a key without a description"


def test_the_check_notices_an_old_page(monkeypatch, tmp_path):
    script = docs_script()
    old = tmp_path / "site-file.md"
    monkeypatch.setattr(script, "PAGE", old)
    assert script.main(["--check"]) == 1
    assert script.main([]) == 0
    assert script.main(["--check"]) == 0
    old.write_text(old.read_text() + "x")
    assert script.main(["--check"]) == 1


def test_the_example_is_a_site_file(tmp_path):
    example = (ROOT / "configs" / "site.example.toml").read_text("utf-8")
    path = tmp_path / "site.toml"
    path.write_text(example)
    site = load_site(path)
    assert site.videos == tmp_path / "recordings" / "monday"
    # The lines that are commented out are right too.
    path.write_text(re.sub(r"^# (\[evaluate\]|ground_truth = )", r"\1", example, flags=re.MULTILINE))
    assert load_site(path).evaluate.ground_truth == tmp_path / "labels" / "monday.json"
    path.write_text(re.sub(r"^# (\[\[|id|session|path|offset_s)", r"\1", example, flags=re.MULTILINE))
    with pytest.raises(OrveilError, match="not both"):
        load_site(path)
