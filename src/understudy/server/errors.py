"""Errors in OpenAI's shape: ``{"error": {"message", "type", "param", "code"}}``.

A route raises ApiError; what the rest of the package raises is turned into one here. A message
never repeats what was asked or answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

from understudy.errors import (
    BudgetReached,
    ProjectBusy,
    ProviderRefused,
    SetupError,
    UnderstudyError,
    UsageError,
)
from understudy.models.protocol import CallFailed, Lost, ModelFailed, Unpaid, Unreadable
from understudy.models.rendering import MessagesRefused

INVALID = "invalid_request_error"


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


def api_error(error: Exception) -> ApiError:
    """Any error as the client is told it; one that was not foreseen says nothing of itself."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, MessagesRefused):
        return bad(error.what, "messages")
    if isinstance(error, Unpaid | Lost | Unreadable | ProviderRefused):
        return ApiError(502, str(error), type="server_error", code="host_failed")
    if isinstance(error, ModelFailed):
        return ApiError(500, str(error), type="server_error", code="model_failed")
    if isinstance(error, CallFailed):
        return ApiError(400, str(error), code="model_call_failed")
    if isinstance(error, BudgetReached):
        return ApiError(429, str(error), type="insufficient_quota", code="insufficient_quota")
    if isinstance(error, ProjectBusy):
        return ApiError(
            503, str(error), type="server_error", code="busy", headers={"Retry-After": "5"}
        )
    if isinstance(error, UsageError):
        return ApiError(400, str(error))
    if isinstance(error, SetupError):
        return ApiError(500, str(error), type="server_error", code="setup")
    if isinstance(error, UnderstudyError):
        return ApiError(500, str(error), type="server_error")
    return ApiError(
        500,
        f"the server met an error that it did not foresee ({type(error).__name__})",
        type="server_error",
        code="internal_error",
    )
