"""Start the practice server: ``python -m understudy.practice --port 0``.

Prints one line of JSON, ``{"url": "http://127.0.0.1:PORT/v1"}``, as soon as it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from understudy.errors import UnderstudyError, UsageError
from understudy.practice.batches import BATCH_FAULTS
from understudy.practice.faults import PAID, parse_fault
from understudy.practice.options import Options
from understudy.practice.server import listening
from understudy.practice.tuning import TUNING_FAULTS

_ABOUT = """\
An OpenAI-compatible server on loopback whose models are programs. It prints its address as one
line of JSON as soon as it listens, and can fail in every way in which a provider does.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until SIGINT or SIGTERM, or until stdin closes if asked to. Returns the exit code."""
    given = _parser().parse_args(arguments)
    try:
        _allow_many_connections()
        asyncio.run(
            _serve(_options(given), given.port, until_stdin_closes=given.until_stdin_closes)
        )
    except UnderstudyError as error:
        sys.stderr.write(f"understudy: {error}\n")
        return error.exit_code
    return 0


def _options(given: argparse.Namespace) -> Options:
    return Options(
        key=given.key,
        faults=tuple(map(parse_fault, given.fault)),
        latency=given.latency,
        refused_parameters=tuple(given.refuse_parameter),
        log=given.log,
        seed=given.seed,
        repeat=given.repeat,
        waver=given.waver,
        requests_per_minute=given.requests_per_minute,
        tokens_per_minute=given.tokens_per_minute,
        burst_seconds=given.burst_seconds,
        limit_headers=not given.no_limit_headers,
        retry_after=given.retry_after,
        retry_after_ms=given.retry_after_ms,
        refusal_headers=tuple(map(_header, given.refusal_header)),
        redirect_to=given.redirect_to,
        cut_bytes=given.cut_bytes,
        drip_seconds=given.drip_seconds,
        hang_seconds=given.hang_seconds,
        batch_seconds=given.batch_seconds,
        batch_faults=tuple(parse_fault(one, BATCH_FAULTS) for one in given.batch_fault),
        tune_seconds=given.tune_seconds,
        tune_faults=tuple(parse_fault(one, TUNING_FAULTS) for one in given.tune_fault),
        tune_list_seconds=given.tune_list_seconds,
        tune_shutdown=given.tune_shutdown,
    )


async def _serve(options: Options, port: int, *, until_stdin_closes: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, lambda *_: loop.call_soon_threadsafe(stop.set))
    async with listening(options, port) as url:
        sys.stdout.write(json.dumps({"url": url}) + "\n")
        sys.stdout.flush()
        if until_stdin_closes:
            threading.Thread(target=_wait_for_end, args=(loop, stop), daemon=True).start()
        await stop.wait()
        logging.disable()  # that requests in flight are torn is what ending means
        for name in (signal.SIGINT, signal.SIGTERM):
            signal.signal(name, signal.SIG_IGN)  # the loop that would hear another is ending


def _wait_for_end(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    while os.read(sys.stdin.fileno(), 1024):
        pass
    with contextlib.suppress(RuntimeError):  # the loop has ended already
        loop.call_soon_threadsafe(stop.set)


def _allow_many_connections() -> None:
    """Raise the soft limit of open files to the hard one: each connection is a file."""
    with contextlib.suppress(ImportError, ValueError, OSError):  # Windows has no such limit
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not (name.strip() and colon and text.isprintable()):
        raise UsageError(f"header {text!r} is not NAME:VALUE", "For example x-should-retry:false")
    return name.strip(), value.strip()


def _line(text: str) -> str:
    if not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is not one line of text")
    return text


def _count(text: str) -> int:
    count = int(text)
    if count < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return count


def _share(text: str) -> float:
    share = float(text)
    if not 0 <= share <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not a share from 0 to 1")
    return share


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return number


def _seconds(text: str) -> float:
    seconds = float(text)
    if not 0 <= seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is no time in seconds")
    return seconds


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m understudy.practice", description=_ABOUT)
    add = parser.add_argument
    add("--port", type=int, default=0, help="port on 127.0.0.1; 0: any free one (default)")
    add("--key", default="", help="API key that requests must bring")
    add("--seed", type=int, default=0, help="seed of inputs and faults")
    add("--until-stdin-closes", action="store_true", help="end when stdin does, with its parent")
    add("--log", type=Path, metavar="FILE", help="account of every request, as JSON lines")
    add(
        "--latency",
        type=_seconds,
        default=0.0,
        metavar="SECONDS",
        help="from a request's arrival to its reply",
    )
    add(
        "--repeat",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="share of inputs that are one of the few favourites of their cell",
    )
    add(
        "--waver",
        type=_share,
        default=0.0,
        metavar="SHARE",
        help="share of answers that are drawn anew each time: a teacher not sure of itself",
    )
    _add_limits(parser.add_argument_group("rate limits"))
    _add_faults(parser.add_argument_group("faults"))
    _add_batches(parser.add_argument_group("batches"))
    _add_tuning(
        parser.add_argument_group(
            "fine-tuning",
            "Trains dates, durations, support, and novice, which knows nothing: "
            "understudy train --student URL#novice --train-price 3. OpenAI's protocol; with "
            "TOGETHER_BASE_URL=URL also Together's, with FIREWORKS_BASE_URL=HOST/inference/v1 "
            "Fireworks'.",
        )
    )
    return parser


def _add_limits(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--requests-per-minute", type=_positive, metavar="R", help="answer 429 above it")
    add(
        "--tokens-per-minute",
        type=_positive,
        metavar="T",
        help="the same of tokens: of the prompt or max_tokens, whichever is more",
    )
    add(
        "--burst-seconds",
        type=_positive,
        default=1.0,
        metavar="SECONDS",
        help="slice over which limits are enforced: what may come at once (default: 1)",
    )
    add("--no-limit-headers", action="store_true", help="do not tell the limits, nor the wait")


def _add_faults(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--fault",
        action="append",
        default=[],
        metavar="KIND:SHARE",
        help="fail this share of requests, or with KIND@N, KIND@N-M, KIND@N- the N-th, N-th to "
        f"M-th, N-th and all later; repeatable. Billed: {_kinds(paid=True)}. Not billed: "
        f"{_kinds(paid=False)}",
    )
    add(
        "--retry-after",
        type=_line,
        default="0.05",
        metavar="TEXT",
        help="Retry-After of the faults 429, 503 and 529, sent as it is (default: 0.05)",
    )
    add("--retry-after-ms", type=_line, default="", metavar="TEXT", help="their retry-after-ms")
    add(
        "--refusal-header",
        action="append",
        default=[],
        metavar="NAME:VALUE",
        help="another header of every refusal; repeatable",
    )
    add(
        "--refuse-parameter",
        action="append",
        default=[],
        metavar="NAME",
        help="answer 400 to a body that has it, for example max_tokens; repeatable",
    )
    add(
        "--redirect-to",
        type=_line,
        default=Options().redirect_to,
        metavar="URL",
        help="where the faults 307 and 308 lead (default: port 9 of this machine)",
    )
    add(
        "--cut-bytes",
        type=_count,
        metavar="K",
        help="bytes of the body that cut_body and cut_json send (default: 40, and half)",
    )
    add(
        "--drip-seconds",
        type=_seconds,
        default=0.1,
        metavar="SECONDS",
        help="between two bytes of the fault drip (default: 0.1)",
    )
    add(
        "--hang-seconds",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="without a byte in the fault slow_headers (default: 30)",
    )


def _add_batches(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--batch-seconds",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="that a batch takes, about (default: 1)",
    )
    add(
        "--batch-fault",
        action="append",
        default=[],
        metavar="KIND@N",
        help="like --fault, counted among uploads, creations, looks or downloads; repeatable: "
        f"{', '.join(BATCH_FAULTS)}",
    )


def _add_tuning(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--tune-seconds",
        type=_seconds,
        default=2.0,
        metavar="SECONDS",
        help="that a fine-tuning takes, about (default: 2)",
    )
    add(
        "--tune-fault",
        action="append",
        default=[],
        metavar="KIND@N",
        help="like --fault, counted among uploads, lists, creations, looks or jobs; repeatable: "
        f"{', '.join(TUNING_FAULTS)}",
    )
    add(
        "--tune-list-seconds",
        type=_seconds,
        default=1.0,
        metavar="SECONDS",
        help="age from which lists show a thing, in list_slow (default: 1)",
    )
    add("--tune-shutdown", default="", metavar="DAY", help="day on which its models end")


def _kinds(*, paid: bool) -> str:
    return ", ".join(kind for kind, is_paid in PAID.items() if is_paid == paid)


if __name__ == "__main__":
    sys.exit(main())
