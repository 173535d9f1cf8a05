"""What the hub's refusals mean, each in one line with what to do."""

from __future__ import annotations

import errno
from typing import Any

import huggingface_hub
from huggingface_hub import constants
from huggingface_hub import errors as hub

from understudy.errors import DiskError, SetupError, UnderstudyError, UsageError
from understudy.models.huggingface import first_line
from understudy.models.students import closest

_NO_ANSWER = frozenset({"TransportError", "LocalEntryNotFoundError", "OfflineModeIsEnabled"})
"""Names of errors, here or among their bases, that mean that nobody answered."""


def is_down(error: Exception) -> bool:
    """True if the hub did not answer, or answered that it cannot at the moment."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    return status >= 500 or bool(_NO_ANSWER & {kind.__name__ for kind in type(error).__mro__})


def explained(repo: str, revision: str, error: Exception) -> Exception:
    """The error of our tree for what the hub, the network or the disk said of ``repo``."""
    if isinstance(error, UnderstudyError):
        return error
    if isinstance(error, hub.HFValidationError):
        return UsageError(f"hf:{repo} is no model's name", "Write hf:org/name")
    if isinstance(error, hub.GatedRepoError):
        return _gated(repo)
    if isinstance(error, hub.RevisionNotFoundError):
        return SetupError(
            f"hf:{repo} has no revision {revision!r}",
            f"Name a branch, tag or commit listed at {_page(repo)}/commits",
        )
    if isinstance(error, hub.RepositoryNotFoundError):
        return _unknown(repo)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
        return DiskError(
            f"The Hugging Face cache cannot be written: {error.strerror}",
            "Make room or set HF_HOME to another disk, then go on: whole files are kept",
        )
    return _other(repo, error)


def _other(repo: str, error: Exception) -> SetupError:
    """Refusals of the token, and a hub that cannot be reached or fails."""
    status = getattr(getattr(error, "response", None), "status_code", 0)
    if status in (401, 403):
        return SetupError(
            f"The hub refused the token for hf:{repo} ({status})",
            "Make a new one at https://huggingface.co/settings/tokens and set HF_TOKEN",
        )
    if status == 429:
        return SetupError(
            f"The hub allows no more requests for now, fetching hf:{repo}",
            "Wait a few minutes and go on: whole files are kept; a token (HF_TOKEN) allows more",
        )
    if status >= 500:
        return SetupError(
            f"The hub at {_endpoint()} fails ({status}), fetching hf:{repo}",
            "Try again later: whole files are kept",
        )
    if is_down(error):
        return SetupError(
            f"The hub at {_endpoint()} cannot be reached, and hf:{repo} is not in the cache",
            "Mend the network (or HF_ENDPOINT), or give a local folder",
        )
    return SetupError(
        f"Fetching hf:{repo} broke off: {_without_token(first_line(error))}",
        "Go on with the same command: whole files are kept",
    )


def _gated(repo: str) -> SetupError:
    page = _page(repo)
    if huggingface_hub.get_token() is None:
        return SetupError(
            f"hf:{repo} is gated",
            f"Accept the licence at {page}, then set HF_TOKEN (or run: hf auth login)",
        )
    return SetupError(
        f"hf:{repo} is gated, and the account of this token has no access yet",
        f"Accept the licence at {page} with that account; some owners take a while to answer",
    )


def _unknown(repo: str) -> SetupError:
    near = " or ".join(f"hf:{name}" for name in closest(repo))
    meant = f"Did you mean {near}? " if near else ""
    return SetupError(
        f"There is no model {repo} on the hub, or it is private or retired",
        f"{meant}For a private one set HF_TOKEN",
    )


def _endpoint() -> str:
    address: Any = constants.ENDPOINT
    return str(address)


def _page(repo: str) -> str:
    return f"{_endpoint()}/{repo}"


def _without_token(text: str) -> str:
    """Some errors quote the header that they could not send."""
    token = huggingface_hub.get_token()
    return text.replace(token, "...") if token else text
