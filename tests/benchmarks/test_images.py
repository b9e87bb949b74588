from __future__ import annotations

from pathlib import Path

from benchmarks.images import table, write


def test_a_table_replaces_the_one_before_and_nothing_else(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("Before.\n\n<!-- sizes -->\n| old |\n| --- |\n| 1 |\n\nAfter.\n\n<!-- parts -->\n\nEnd.\n")
    write({"sizes": table(("image", "MB"), [("a", "2")]), "parts": table(("part",), [])}, page)
    sizes = "| image | MB |\n| --- | --- |\n| a | 2 |\n"
    parts = "| part |\n| --- |\n"
    assert page.read_text() == f"Before.\n\n<!-- sizes -->\n{sizes}\nAfter.\n\n<!-- parts -->\n{parts}\nEnd.\n"
