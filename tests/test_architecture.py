"""The house stands as the README draws it: floors, lazy imports, small install, public names."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import understudy

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "src" / "understudy"
HEAVY = ("torch", "transformers", "trl", "peft", "datasets", "accelerate", "streamlit", "ray")
HEAVY += ("openai", "sqlalchemy", "alembic", "pandas", "numpy", "aiohttp", "babel", "genai_prices")
HEAVY += ("starlette", "uvicorn", "llguidance")


def loaded_after(code: str) -> set[str]:
    """Top-level packages in ``sys.modules`` after running ``code`` in a new process."""
    shown = "import sys; print(*{name.split('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", f"{code}\n{shown}"], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def test_importing_it_loads_nothing_heavy() -> None:
    """``import understudy`` is for free."""
    assert loaded_after("import understudy").isdisjoint(HEAVY)


def test_help_loads_nothing_heavy() -> None:
    """``understudy --help`` needs the command line's own library and no more."""
    code = (
        "import sys; sys.argv = ['understudy', '--help']\n"
        "from understudy.cli import main\n"
        "try: main()\nexcept SystemExit: pass"
    )
    assert loaded_after(code).isdisjoint(HEAVY)


def test_the_readme_tree_is_the_tree_on_disk() -> None:
    """Every room that the README names is there, and every room that is there is named."""
    readme = (ROOT / "README.md").read_text()
    block = re.search(r"```text\nsrc/understudy/\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    named = {line.split()[0] for line in block.group(1).splitlines() if line.strip()}
    on_disk = {
        f"{path.name}/" if path.is_dir() else path.name
        for path in PACKAGE.iterdir()
        if path.name not in ("__pycache__", "py.typed")
    }
    assert named == on_disk


def test_public_names_are_sorted_and_load() -> None:
    """What ``understudy`` offers is what it says, in order."""
    assert understudy.__all__ == sorted(understudy.__all__)
    for name in understudy.__all__:
        assert getattr(understudy, name).__module__.startswith("understudy.")


def test_every_setting_and_command_is_in_the_docs() -> None:
    """A command or setting that no page names cannot be found by a reader."""
    from understudy.cli import adopting, looking, reviewing, serving, verbs  # noqa: F401
    from understudy.cli.face import app
    from understudy.settings import Settings

    page = (ROOT / "docs" / "command-line.md").read_text()
    names = [command.name or command.callback.__name__ for command in app.registered_commands]  # type: ignore[union-attr]
    assert [name for name in names if f"`{name}" not in page] == []
    assert [name for name in Settings.model_fields if f"`{name}`" not in page] == []


def test_modules_say_what_they_are_and_stay_small() -> None:
    """Every module has a docstring; none is longer than 400 lines."""
    for path in PACKAGE.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if text.strip():
            assert text.lstrip().startswith(('"""', 'r"""')), path
        assert text.count("\n") <= 400, path


def test_nothing_runs_strangers_code() -> None:
    """No pickle, eval, exec, shell or remote code anywhere in the package (T82-T84)."""
    found = []
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            words = set()
            if isinstance(node, ast.Import):
                words = {name.name for name in node.names} & {"pickle", "marshal", "shelve"}
            elif isinstance(node, ast.ImportFrom):
                words = {node.module} & {"pickle", "marshal", "shelve"}
            elif isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                words = {called} & {"eval", "exec", "torch.load", "yaml.load", "os.system"}
                words |= {
                    word.arg
                    for word in node.keywords
                    if word.arg in ("shell", "trust_remote_code")
                    and not (isinstance(word.value, ast.Constant) and word.value.value is False)
                }
            found += [f"{path.relative_to(ROOT)}:{node.lineno}: {word}" for word in words]
    assert found == []


def test_the_base_install_is_small() -> None:
    """Fewer than 35 distributions come with ``pip install understudy``."""
    wanted, seen = ["understudy"], set[str]()
    while wanted:
        name = wanted.pop()
        if name in seen:
            continue
        seen.add(name)
        for need in metadata.requires(name) or ():
            plain, _, marker = need.partition(";")
            if "extra ==" in marker or "platform_system" in marker or "sys_platform" in marker:
                continue
            found = re.match(r"[\w.-]+", plain)
            assert found is not None
            try:
                metadata.distribution(found.group())
            except metadata.PackageNotFoundError:
                continue  # for another Python version
            wanted.append(found.group().lower().replace("_", "-"))
    assert len(seen) < 35, sorted(seen)
