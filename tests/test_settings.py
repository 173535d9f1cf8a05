"""Settings: one declaration, a fixed order of precedence, a clear line for a bad value."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from conftest import Done
from understudy.errors import UsageError
from understudy.project.folder import write_settings
from understudy.settings import CONFIG_FILE, Settings, load, variable


def test_flag_then_environment_then_file_then_default(tmp_path: Path) -> None:
    """Each layer hides the one behind it, and the origin says which spoke."""
    (tmp_path / CONFIG_FILE).write_text('budget = 1\nteacher = "a"\nseed = 3\n')
    environ = {"UNDERSTUDY_BUDGET": "2", "UNDERSTUDY_TEACHER": "b"}
    found = load(tmp_path, {"budget": 3.0, "seed": None}, environ)
    assert (found.settings.budget, found.settings.teacher, found.settings.seed) == (3, "b", 3)
    origins = [found.origin[name] for name in ("budget", "teacher", "seed", "student")]
    assert origins == ["flag", "environment", CONFIG_FILE, "default"]


def test_prices_belong_to_the_teacher_named_with_them(tmp_path: Path) -> None:
    """Another teacher does not take them over; the same one, or one without a name, does."""
    (tmp_path / CONFIG_FILE).write_text('teacher = "a"\nprice_in = 1\nprice_out = 2\n')
    for flags, price in (({"teacher": "b"}, None), ({"teacher": "a"}, 1), ({}, 1)):
        assert load(tmp_path, flags, {}).settings.price_in == price
    given = {"teacher": "b", "price_in": 3.0}
    assert load(tmp_path, given, {}).settings.price_in == 3
    found = load(tmp_path, {"teacher": "b"}, {"UNDERSTUDY_PRICE_OUT": "7"})
    assert (found.settings.price_in, found.settings.price_out) == (None, 7)
    assert (found.origin["price_in"], found.origin["price_out"]) == ("default", "environment")


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("colour = 'red'\n", "colour"),
        ("budget = -1\n", "budget"),
        ("concurrency = -1\n", "concurrency"),
        ("seed = [1]\n", "seed"),
        ("budget = nan\n", "budget"),
        ('bases = "gpt"\n', "bases"),
        ("[bases]\nold = 3\n", "bases"),
        ('[bases]\n"run:1" = "tiny"\n', "bases"),
        ('[bases]\nold = ""\n', "bases"),
        ("budget\n", "TOML"),
        ("\xff", "TOML"),
    ],
)
def test_a_bad_value_is_named_with_its_place(text: str, word: str, tmp_path: Path) -> None:
    """Unknown keys, wrong types and values out of range are refused (T84)."""
    (tmp_path / CONFIG_FILE).write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError) as caught:
        load(tmp_path, {}, {})
    assert word in str(caught.value)
    assert CONFIG_FILE in str(caught.value)


def test_every_setting_has_a_description_and_a_variable() -> None:
    """What ``config`` prints comes from the one declaration."""
    for name, field in Settings.model_fields.items():
        assert field.description
        assert variable(name) == f"UNDERSTUDY_{name.upper()}"


def test_config_writes_one_line_and_keeps_the_others(
    understudy: Callable[..., Done], tmp_path: Path
) -> None:
    """Comments survive; a bad value is not written; the budget takes force at once."""
    project = tmp_path / "p"
    assert understudy("new", project, "--describe", "x", "--seed", "4").code == 0
    with (project / CONFIG_FILE).open("a") as file:
        file.write("# mine\n")
    assert understudy("config", "budget", "2.5", "-p", project).code == 0
    assert understudy("config", "budget", "nonsense", "-p", project).code == 2
    body: dict[str, Any] = understudy("config", "-p", project, "--json").json
    assert body["budget"] == {"value": 2.5, "origin": CONFIG_FILE}
    assert body["seed"] == {"value": 4, "origin": CONFIG_FILE}
    assert "# mine" in (project / CONFIG_FILE).read_text()
    assert understudy("ledger", "-p", project, "--json").json["budget_usd"] == 2.5


def test_bases_are_pairs_from_wherever_they_come(tmp_path: Path) -> None:
    """A table in the file; NAME=STUDENT with commas in the environment and on the command line."""
    pairs = {"gpt-3.5-turbo": "hf:org/name@main", "old": "tiny"}
    (tmp_path / CONFIG_FILE).write_text(
        '[bases]\n"gpt-3.5-turbo" = "hf:org/name@main"\nold = "tiny"\n'
    )
    assert load(tmp_path, {}, {}).settings.bases == pairs
    environ = {"UNDERSTUDY_BASES": "gpt-3.5-turbo=hf:org/name@main, old = tiny,"}
    assert load(None, {}, environ).settings.bases == pairs
    assert load(tmp_path, {"bases": {"a": "b"}}, environ).settings.bases == {"a": "b"}


def test_a_setting_is_written_before_the_tables(tmp_path: Path) -> None:
    """What stands behind ``[bases]`` belongs to it; setting bases replaces the table."""
    file = tmp_path / CONFIG_FILE
    file.write_text('seed = 3\n# mine\n[bases]\nseed = "tiny"\n')
    write_settings(tmp_path, {"budget": 2.5, "seed": 4})
    found = load(tmp_path, {}, {}).settings
    assert (found.budget, found.seed, found.bases) == (2.5, 4, {"seed": "tiny"})
    write_settings(tmp_path, {"bases": {'a "b"': "hf:x/y", "c.d": "tiny"}})
    found = load(tmp_path, {}, {}).settings
    assert (found.seed, found.bases) == (4, {'a "b"': "hf:x/y", "c.d": "tiny"})
    assert "# mine" in file.read_text()
