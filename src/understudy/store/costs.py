"""What a reply costs: by its usage, at the dearer of the model asked and the one that answered."""

from __future__ import annotations

from collections.abc import Callable

from understudy.models.protocol import Endpoint, Reply, Unreadable
from understudy.money import Price
from understudy.store.calls import Ended, Sent


class Costs:
    """Of one endpoint. ``dearer`` gives the price of another model name, or None."""

    def __init__(
        self,
        endpoint: Endpoint,
        price: Price,
        dearer: Callable[[str], Price | None],
        say: Callable[..., None],
    ) -> None:
        self._endpoint = endpoint
        self._price = price
        self._dearer = dearer
        self._say = say
        self._overshot = False
        self._others: set[str] = set()  # models that answered though another was asked

    def ended(self, sent: Sent, result: Reply | Unreadable) -> Ended:
        """How a call ended that brought a whole reply.

        One that cannot be read, or that tells no usage, costs its reserve.
        """
        if isinstance(result, Unreadable):
            return Ended(sent, "settled", sent.reserve_micro, result.what, estimated=True)
        cost, note = self._cost(result)
        if cost is not None and cost > sent.reserve_micro:
            note = f"{note}; " * bool(note) + "billed more than the limit that was sent"
            self._tell_overshoot(cost - sent.reserve_micro)
        return Ended(
            sent,
            "settled",
            sent.reserve_micro if cost is None else cost,
            note,
            estimated=cost is None,
            input_tokens=result.input_tokens,
            output_tokens=result.output_tokens,
            finish=result.finish,
        )

    def _tell_overshoot(self, micro: int) -> None:
        """Say it once: a provider that does not keep to max_tokens can pass a budget."""
        if not self._overshot:
            self._overshot = True
            self._say("ledger.overshoot", teacher=self._endpoint.name, micro=micro)

    def _cost(self, reply: Reply) -> tuple[int | None, str]:
        """Micro-dollars, None if no usage is told; and what is odd about it."""
        if reply.input_tokens is None or reply.output_tokens is None:
            return None, ""
        cost = self._price.cost_micro(reply.input_tokens, reply.output_tokens)
        if same_model(self._endpoint.identity, reply.model):
            return cost, ""
        if reply.model not in self._others:
            self._others.add(reply.model)
            self._say("teacher.other_model", asked=self._endpoint.name, answered=reply.model)
        price = self._dearer(reply.model)
        if price is not None:
            cost = max(cost, price.cost_micro(reply.input_tokens, reply.output_tokens))
        return cost, f"answered by {reply.model}"


def same_model(identity: str, answered: str) -> bool:
    """True if the model that answered is the one asked, perhaps with a date or a maker's name."""
    asked = identity.rpartition("#")[2].rpartition("/")[2].rpartition(":")[2].casefold()
    other = answered.rpartition("/")[2].rpartition(":")[2].casefold()
    return not other or other.startswith(asked) or asked.startswith(other)
