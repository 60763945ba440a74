"""`eventlog backup` and `eventlog restore`: what they print, and their exit codes."""

from __future__ import annotations

from pathlib import Path

import pytest

from service.cli.main import run
from tests.docs.pages import ROOT


def test_backup_verify_restore_and_what_goes_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EVENTLOG_DATA_DIR", str(tmp_path / "data"))
    folder, elsewhere = str(tmp_path / "backup"), ["--data-dir", str(tmp_path / "other")]
    assert run(["import", "--no-project", str(ROOT / "examples/data/irc-new-domains")]) == 0
    capsys.readouterr()
    assert run(["backup", folder]) == 0
    assert "entries in 8 partitions" in capsys.readouterr().out
    assert run([*elsewhere, "restore", folder]) == 0
    assert "the log is whole" in capsys.readouterr().out
    assert run([*elsewhere, "restore", "--from-archive"]) == 1
    assert "the archive holds no segment" in capsys.readouterr().err
    assert run([*elsewhere, "restore", folder, "--from-archive"]) == 2
    assert run([*elsewhere, "restore", folder, "--overwrite"]) == 2
    assert "Add --yes" in capsys.readouterr().err

    victim = next(Path(folder).rglob("*.parquet"))
    victim.write_bytes(victim.read_bytes()[:-1])
    assert run(["backup", "--verify", folder]) == 3
    assert f"{victim.name} has " in capsys.readouterr().out
    assert run([*elsewhere, "restore", folder, "--overwrite", "--yes"]) == 1
    assert "Nothing was changed" in capsys.readouterr().err
    assert run(["backup", "--verify", str(tmp_path / "none")]) == 1
    assert "holds no complete backup" in capsys.readouterr().err
