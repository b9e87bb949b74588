from __future__ import annotations

from pathlib import Path

from bunriwiki.sandbox.policy import interpreter_folders


def test_an_environment_that_extends_another_may_read_both(tmp_path: Path) -> None:
    base, packages = tmp_path / "base", tmp_path / "sync" / "lib" / "python3.11" / "site-packages"
    program = tmp_path / "sync" / "bin" / "python3"
    for folder in (base / "bin", packages, program.parent):
        folder.mkdir(parents=True)
    (base / "bin" / "python3").touch()
    program.symlink_to(base / "bin" / "python3")
    (packages / "extends.pth").write_text("/opt/serve/lib/python3.11/site-packages\nimport os\n")
    assert interpreter_folders(program) == [tmp_path / "sync", base, Path("/opt/serve/lib/python3.11/site-packages")]
