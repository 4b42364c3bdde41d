"""The public types of `supervisors`, as another type checker than ours sees them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

HOUSE = Path(__file__).parents[2]
PYRIGHT = HOUSE / "tests/ops/node/node_modules/.bin/pyright"
TESTS = HOUSE / "supervisors/tests"
WRONG, TUTORIAL = TESTS / "wrong_uses.py", TESTS / "tutorial.py"


def test_pyright_refuses_the_wrong_uses_and_accepts_the_tutorial(tmp_path: Path) -> None:
    config = tmp_path / "pyrightconfig.json"
    files = [os.path.relpath(file, tmp_path) for file in (WRONG, TUTORIAL)]  # it takes no others
    config.write_text(json.dumps({"typeCheckingMode": "strict", "include": files, "extraPaths": [str(HOUSE)]}))
    command = [str(PYRIGHT), "--project", str(config), "--pythonpath", sys.executable, "--outputjson"]
    answer = json.loads(subprocess.run(command, capture_output=True, text=True, timeout=120, check=False).stdout)
    assert answer["summary"]["filesAnalyzed"] == len(files)
    found = {(each["file"], each["range"]["start"]["line"]) for each in answer["generalDiagnostics"]}
    assert found == {(str(WRONG), n) for n, line in enumerate(WRONG.read_text().splitlines()) if "# error: " in line}
