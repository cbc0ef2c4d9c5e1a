"""What the site needs besides docs/: the pages at the top of the repository, with links that lead within the site."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parent.parent
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "CONTRIBUTING.md", "SECURITY.md": "SECURITY.md"}
PAGES["CHANGELOG.md"] = "CHANGELOG.md"


def on_files(files: Files, config: Any) -> Files:
    """Add the pages."""
    urls = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["urls"]
    source = f"{urls['Repository']}/blob/main/"
    for name, page in PAGES.items():
        text = (ROOT / name).read_text(encoding="utf-8")
        text = text.replace(f"({urls['Repository']}/raw/main/docs/", "(").replace(f"({source}docs/", "(")
        for other, its_page in PAGES.items():
            text = text.replace(f"({source}{other})", f"({its_page})")
        files.append(File.generated(config, page, content=text))
    return files
