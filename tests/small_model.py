"""Where the small real model of the tests lies: SmolLM2-135M-Instruct, or what `TUNESMITH_TEST_MODEL` names."""

from __future__ import annotations

import os
from pathlib import Path

MODEL = Path(
    os.environ.get("TUNESMITH_TEST_MODEL", Path(__file__).parent.parent / "models" / "SmolLM2-135M-Instruct.Q4_1.gguf")
)
