"""Errors in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``.

A route raises ApiError; what the rest of the package raises is turned into one here. A message
never repeats what was asked or answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from starlette.responses import JSONResponse

from understudy.errors import (
    BudgetReached,
    ProjectBusy,
    ProviderRefused,
    SetupError,
    UnderstudyError,
    UsageError,
)
from understudy.models.protocol import CallFailed, Lost, ModelFailed, TooLong, Unpaid, Unreadable
from understudy.models.rendering import MessagesRefused

INVALID = "invalid_request_error"
UNFORESEEN = "internal_error"


class ApiError(Exception):
    """An answer other than 2xx. ``param`` names the parameter that is wrong."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = INVALID,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status, self.message, self.type = status, message, type
        self.code, self.param = code, param
        self.headers = dict(headers or {})

    def body(self) -> dict[str, Any]:
        """The JSON of it."""
        return {
            "error": {
                "message": self.message,
                "type": self.type,
                "param": self.param,
                "code": self.code,
            }
        }

    def response(self) -> JSONResponse:
        """The whole answer."""
        return JSONResponse(self.body(), self.status, self.headers)


def bad(message: str, param: str | None = None, code: str | None = None) -> ApiError:
    """A 400: something in the request is wrong, and ``param`` says where."""
    return ApiError(400, message, code=code, param=param)


def not_found(what: str, *, code: str | None = None, param: str | None = None) -> ApiError:
    """A 404 in shape."""
    return ApiError(404, what, code=code, param=param)


class _Told(NamedTuple):
    """How an error of the package is told."""

    kind: type[UnderstudyError]
    status: int
    type: str = "server_error"
    code: str | None = None
    param: str | None = None
    wait_s: str = ""


_TOLD = (  # the first that fits
    _Told(MessagesRefused, 400, INVALID, param="messages"),
    _Told(Unpaid, 502, code="host_failed"),
    _Told(Lost, 502, code="host_failed"),
    _Told(Unreadable, 502, code="host_failed"),
    _Told(ModelFailed, 500, code="model_failed"),
    _Told(TooLong, 400, INVALID, "context_length_exceeded", "messages"),
    _Told(CallFailed, 400, INVALID, "model_call_failed"),
    _Told(ProviderRefused, 502, code="host_failed"),
    _Told(BudgetReached, 429, "insufficient_quota", "insufficient_quota"),
    _Told(ProjectBusy, 503, code="busy", wait_s="5"),
    _Told(UsageError, 400, INVALID),
    _Told(SetupError, 500, code="setup"),
    _Told(UnderstudyError, 500),
)


def api_error(error: Exception) -> ApiError:
    """Any error as the client is told it; one that was not foreseen says nothing of itself."""
    if isinstance(error, ApiError):
        return error
    for told in _TOLD:
        if isinstance(error, told.kind):
            wait = {"Retry-After": told.wait_s} if told.wait_s else {}
            return ApiError(
                told.status,
                str(error),
                type=told.type,
                code=told.code,
                param=told.param,
                headers=wait,
            )
    return ApiError(
        500,
        f"the server met an error that it did not foresee ({type(error).__name__})",
        type="server_error",
        code=UNFORESEEN,
    )
