"""Change the address of the project, in a fork: `make address URL=https://github.com/OWNER/NAME`.

The address is a setting of _config.yml (repository.url). Notebooks that install the library on
Colab, the README and CITATION.cff hold copies of it; this changes them all.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

COPIES = ["_config.yml", "README.md", "CITATION.cff"]


def change(root: Path, url: str) -> None:
    """Replace the project's address under ``root``; raise SystemExit when ``url`` is none."""
    url = url.removesuffix("/").removesuffix(".git")
    if not re.fullmatch(r"https://github\.com/[\w.-]+/[\w.-]+", url):
        raise SystemExit("Give the address as: make address URL=https://github.com/OWNER/NAME")
    setting = re.search(r"^  url: (\S+)$", (root / "_config.yml").read_text("utf-8"), re.M)
    if setting is None:
        raise SystemExit("_config.yml has no line 'url: ...' under 'repository:'")
    pages = [path for kind in ("*.ipynb", "*.md") for path in (root / "book").rglob(kind)]
    for path in [*(root / name for name in COPIES), *pages]:
        text = path.read_text("utf-8")
        if setting[1] in text:
            path.write_text(text.replace(setting[1], url), "utf-8")
            print(f"{path.relative_to(root)}: {setting[1]} -> {url}")


if __name__ == "__main__":
    change(Path(__file__).parents[2], sys.argv[1] if len(sys.argv) > 1 else "")
