"""The commands that serve a student's folder with an engine made for production.

Flags as vLLM (docs.vllm.ai, `vllm serve`), llama.cpp (tools/server/README.md) and Ollama
(docs/modelfile) document them; looked up 2026-11-29.
"""

from __future__ import annotations

import shlex
from pathlib import Path

from understudy.project.serving import Served
from understudy.server.door import TOKEN_FILE

PORT = 8001
"""Beside this server's own."""


def commands(served: Served, project: Path) -> dict[str, str]:
    """What to type for each engine. ``served`` is a trained student with a folder."""
    assert served.folder is not None  # noqa: S101  (the caller has looked)
    folder = shlex.quote(str(served.folder.resolve()))
    token = shlex.quote(str((project / TOKEN_FILE).resolve()))
    name = served.model.replace(":", "-")
    return {
        "vllm": f'VLLM_API_KEY="$(cat {token})" vllm serve {folder} '
        f"--served-model-name {name} --host 127.0.0.1 --port {PORT} --generation-config vllm",
        "llama.cpp": f"python convert_hf_to_gguf.py --outfile {name}.gguf {folder}\n"
        f"llama-server -m {name}.gguf --alias {name} --host 127.0.0.1 --port {PORT} "
        f"--api-key-file {token} --temp 0",
        "ollama": f"cat > Modelfile <<'END'\n{_modelfile(served)}\nEND\n"
        f"ollama create {name} -f Modelfile",
    }


def _modelfile(served: Served) -> str:
    lines = [f"FROM {served.folder and served.folder.resolve()}", "PARAMETER temperature 0"]
    said = served.system_message
    if said and '"""' not in said and "END" not in said.splitlines():
        lines.append(f'SYSTEM """{said}"""')
    return "\n".join(lines)
