"""``/v1/files``: what is trained on, sent and deleted; what was measured, fetched."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Any, Literal, TypeVar
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from understudy.errors import DiskError
from understudy.project import uploads
from understudy.project.jobs import PURPOSE
from understudy.project.uploads import Incoming, Upload
from understudy.project.workplace import Workplace
from understudy.server import multipart, paging
from understudy.server.errors import ApiError, bad, not_found

MOST_BYTES = 512 * 1024**2
"""Bytes of one file, as OpenAI takes them for fine-tuning."""
MOST_LISTED = 10_000
T = TypeVar("T")


def routes() -> list[Route]:
    """Sending, listing, looking up, fetching, deleting."""
    return [
        Route("/v1/files", create, methods=["POST"]),
        Route("/v1/files", list_files, methods=["GET"]),
        Route("/v1/files/{id}", retrieve, methods=["GET"]),
        Route("/v1/files/{id}", delete, methods=["DELETE"]),
        Route("/v1/files/{id}/content", content, methods=["GET"]),
    ]


def _place(request: Request) -> Workplace:
    place: Workplace = request.app.state.serving.place
    return place


async def create(request: Request) -> Response:
    """Take a file, straight to the disk."""
    return JSONResponse(body(await _received(request, _place(request))))


async def _received(request: Request, place: Workplace) -> Upload:
    with uploads.receiving(place) as incoming:
        form = await multipart.read(request, "file", _bounded(incoming))
        purpose = form.fields.get("purpose")
        if form.filename is None:
            raise bad("no file came", "file", "missing_required_parameter")
        if purpose is None:
            raise bad("purpose is missing", "purpose", "missing_required_parameter")
        if purpose != PURPOSE:
            raise bad(
                f"this server takes files for fine-tuning alone: purpose={PURPOSE!r}",
                "purpose",
                "invalid_value",
            )
        for name in form.fields:
            if name != "purpose":
                raise bad(
                    f"{ascii(name)[1:-1]} is not supported here; a file stays until it is deleted",
                    name,
                    "unsupported_parameter",
                )
        if not incoming.bytes:
            raise bad("the file is empty", "file", "empty_file")

        def keep() -> Upload:
            with place.database.write() as connection:
                return incoming.keep(connection, form.filename or "", purpose)

        return await _on_disk(keep)


def _bounded(incoming: Incoming) -> Callable[[bytes], None]:
    """``incoming.write``, up to the most that is taken; a full disk is told as such."""

    def write(piece: bytes) -> None:
        if incoming.bytes + len(piece) > MOST_BYTES:
            raise ApiError(
                413,
                f"the file is larger than {MOST_BYTES:,} bytes",
                code="file_too_large",
                param="file",
                headers={"Connection": "close"},
            )
        try:
            incoming.write(piece)
        except DiskError as error:
            raise _no_room(error) from None

    return write


async def _on_disk(work: Callable[[], T]) -> T:
    try:
        return await asyncio.to_thread(work)
    except DiskError as error:
        raise _no_room(error) from None


def _no_room(error: DiskError) -> ApiError:
    return ApiError(507, str(error), type="server_error", code="insufficient_storage")


async def list_files(request: Request) -> Response:
    """Files, the newest first unless ``order=asc``."""
    asked = paging.asked(request, most=MOST_LISTED, usual=MOST_LISTED, extra=("purpose", "order"))
    order = request.query_params.get("order", "desc")
    if order not in ("asc", "desc"):
        raise bad("order is asc or desc", "order", "invalid_value")
    place = _place(request)
    if (
        asked.after is not None
        and await asyncio.to_thread(uploads.find, place, asked.after) is None
    ):
        raise _unknown(asked.after, "after")
    found = await asyncio.to_thread(
        uploads.page,
        place,
        purpose=request.query_params.get("purpose"),
        after=asked.after,
        limit=asked.limit + 1,
        newest_first=order == "desc",
    )
    return JSONResponse(paging.page([body(one) for one in found], asked.limit))


async def retrieve(request: Request) -> Response:
    """What is known of a file."""
    return JSONResponse(body(await _find(request)))


async def content(request: Request) -> Response:
    """A file's bytes, as they were sent."""
    upload = await _find(request)
    try:
        path = await asyncio.to_thread(uploads.where, _place(request), upload)
    except DiskError as error:
        raise not_found(str(error), code="file_gone", param="id") from None
    is_csv = upload.name.endswith(".csv")
    return FileResponse(
        path,
        media_type="text/csv" if is_csv else "application/octet-stream",
        headers={"Content-Disposition": f"attachment; filename*=utf-8''{quote(upload.name)}"},
    )


async def delete(request: Request) -> Response:
    """Forget a file; what was trained on it stays."""
    upload = await _find(request)
    await _on_disk(lambda: uploads.remove(_place(request), upload.id))
    return JSONResponse({"id": upload.id, "object": "file", "deleted": True})


async def _find(request: Request) -> Upload:
    id = request.path_params["id"]  # noqa: A001  (what the protocol calls it)
    upload = await asyncio.to_thread(uploads.find, _place(request), id)
    if upload is None:
        raise _unknown(id, "id")
    return upload


def _unknown(id: str, param: Literal["id", "after"]) -> ApiError:
    return not_found(f"no such file: {ascii(id)[1:-1]}", code="file_not_found", param=param)


def body(upload: Upload) -> dict[str, Any]:
    """A file as OpenAI tells it, and its hash."""
    return {
        "id": upload.id,
        "object": "file",
        "bytes": upload.bytes,
        "created_at": int(datetime.fromisoformat(upload.at).timestamp()),
        "expires_at": None,
        "filename": upload.name,
        "purpose": upload.purpose,
        "status": "processed",
        "status_details": None,
        "sha256": upload.sha256,
    }
