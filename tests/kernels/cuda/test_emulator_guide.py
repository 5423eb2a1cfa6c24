"""docs/emulator.md: its program runs, finds what the guide says, and passes once the barrier is there."""

import os
import re
import subprocess
import sys
from pathlib import Path

from kernels.checks import ROOT
from kernels.cuda.emulated import needs_emulator

GUIDE = (Path(ROOT) / "docs" / "emulator.md").read_text()
KERNEL, PROGRAM = (re.search(rf"```{language}\n(.*?)```", GUIDE, re.S)[1] for language in ("cuda", "python"))
ERROR, RECORD = (text.strip() for text in re.findall(r"```text\n(.*?)```", GUIDE, re.S))


@needs_emulator
def test_the_guides_program(tmp_path):
    def run(kernel):
        (tmp_path / "shifted.cu").write_text(kernel)
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", PROGRAM]
        done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        return done.stdout + done.stderr

    assert ERROR in run(KERNEL)
    repaired = KERNEL.replace("  out[", "  __syncthreads();\n  out[")
    assert RECORD in run(repaired)
    doubled = (
        repaired.replace("s[64]", "s[128]").replace("s[threadIdx.x]", "s[2 * threadIdx.x]").replace("s[(", "s[2 * (")
    )
    assert run(doubled).count("requests=2, wavefronts=4, least_wavefronts=2") == 2
