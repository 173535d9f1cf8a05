"""The hosted trainer against `understudy serve`; the way to a trained model: test_jobs_sdk.py."""

from __future__ import annotations

import threading
from contextlib import closing
from pathlib import Path

import pytest

from hosts import FLAGS, frozen_project, spent_and_held, states
from rehearsal import until
from serving_project import serving
from understudy.errors import PartlyDone, UnderstudyError
from understudy.project import Project, handing


def test_a_job_at_home_is_paused_and_cancelled_from_afar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever follows it ends with what to do; what was held is given back."""
    monkeypatch.setattr(handing, "FIRST_WAIT_S", 0.1)
    Project.new(tmp_path / "served").close()
    frozen_project(tmp_path / "p", 30)
    with serving(tmp_path / "served") as home:
        monkeypatch.setenv("OPENAI_BASE_URL", home.url)
        monkeypatch.setenv("OPENAI_API_KEY", home.token)
        flags = {**FLAGS, "train_price": 0.0, "student": f"{home.url}#tiny"}
        with closing(Project(tmp_path / "p", flags)) as project:
            raised: list[BaseException] = []

            def follow() -> None:
                with closing(Project(tmp_path / "p", flags)) as own:
                    try:
                        own.train(epochs=50, batch_size=1)
                    except UnderstudyError as error:
                        raised.append(error)

            follower = threading.Thread(target=follow)
            follower.start()
            until(lambda: any(one.kind == "train.step" for one in project.events()))
            assert project.pause("run:1").state == "paused"
            follower.join(60)
            assert isinstance(raised[0], PartlyDone), raised
            assert states(project) == ["paused"]
            assert project.cancel("run:1").state == "cancelled"
            assert states(project) == ["cancelled"]
            assert spent_and_held(project) == (0, 0)
