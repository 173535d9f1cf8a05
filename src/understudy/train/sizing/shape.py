"""The shape of a causal language model, read from its config.json: what its size follows from.

Names of fields differ between families; those of transformers' own configs are known here. Where
safetensors are at hand, their headers give the exact number of weights.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

from understudy.errors import SetupError
from understudy.models.huggingface import count_parameters

_TWO_MATRICES = frozenset((
    "bloom", "codegen", "falcon", "gpt2", "gpt_bigcode", "gpt_neo", "gpt_neox", "gptj", "mpt",
    "nemotron", "opt", "phi", "starcoder2",
))  # fmt: skip
"""Families whose MLP has no gate: up and down alone (GLU variants: Shazeer, arXiv:2002.05202)."""
_TIED = frozenset((
    "bloom", "codegen", "falcon", "gemma", "gemma2", "gemma3", "gemma3_text", "gpt2",
    "gpt_bigcode", "gpt_neo", "mpt", "opt", "starcoder2",
))  # fmt: skip
"""Families whose config may be silent about a head that is the embedding once more."""
_BYTES = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1}
_USUAL_CONTEXT = 2_048
_TYPICAL_VOCABULARY, _TIED_BELOW, _STEP = 140_000, 4_000_000_000, 64


@dataclass(frozen=True, slots=True)
class Shape:
    """Sizes of a decoder-only transformer; all counts are of one layer unless they say so."""

    hidden: int
    layers: int
    intermediate: int
    """Inner width of an MLP, or of one expert."""
    vocabulary: int
    heads: int
    kv_heads: int
    head_size: int
    experts: int = 0
    """MLPs to choose from; 0: one that every token passes."""
    experts_used: int = 0
    """Experts that one token passes, shared ones included."""
    gated: bool = True
    tied: bool = False
    """The head is the embedding."""
    context: int = _USUAL_CONTEXT
    stored_bytes: int = 2
    """Bytes of one weight as it is stored."""
    counted: int = 0
    """Weights as the files' headers count them; 0: not at hand, use the formula."""

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Read a model folder. Raises SetupError if there is no config that can be understood."""
        path = folder / "config.json"
        try:
            config = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise SetupError(f"{path} cannot be read: {error}", "Fetch the model again") from None
        return replace(cls.of_config(config), counted=count_parameters(folder))

    @classmethod
    def of_config(cls, config: Mapping[str, Any]) -> Self:
        """Read what config.json says. Raises SetupError if a size is missing or is no number."""
        if not isinstance(config, Mapping):
            raise SetupError("config.json is not a JSON object", "Fetch the model again")
        text = config.get("text_config")
        inner = {**config, **text} if isinstance(text, Mapping) else config
        hidden = _size(inner, "hidden_size", "n_embd", "d_model")
        heads = _size(inner, "num_attention_heads", "n_head", "n_heads")
        family = str(inner.get("model_type", ""))
        usual_inner = 4 * hidden
        expert = _size(inner, "moe_intermediate_size", otherwise=0)
        experts = _size(inner, "num_local_experts", "num_experts", "n_routed_experts", otherwise=0)
        used = _size(inner, "num_experts_per_tok", "top_k_experts", otherwise=1)
        shared = _size(inner, "n_shared_experts", otherwise=0)
        return cls(
            hidden=hidden,
            layers=_size(inner, "num_hidden_layers", "n_layer", "n_layers"),
            intermediate=(expert if experts else 0)
            or _size(
                inner, "intermediate_size", "n_inner", "ffn_dim", "ffn_hidden_size",
                otherwise=usual_inner,
            ),
            vocabulary=_size(inner, "vocab_size"),
            heads=heads,
            kv_heads=1 if inner.get("multi_query") else _size(
                inner, "num_key_value_heads", "num_kv_heads", otherwise=heads
            ),
            head_size=_size(inner, "head_dim", otherwise=max(1, hidden // heads)),
            experts=experts + shared if experts else 0,
            experts_used=used + shared if experts else 0,
            gated=family not in _TWO_MATRICES,
            tied=bool(inner.get("tie_word_embeddings", family in _TIED)),
            context=_size(
                inner, "max_position_embeddings", "n_positions", otherwise=_USUAL_CONTEXT
            ),
            stored_bytes=_BYTES.get(str(inner.get("dtype") or inner.get("torch_dtype")), 4),
        )  # fmt: skip

    @classmethod
    def typical(cls, parameters: int) -> Self:
        """The shape that small open models of about so many weights have, where no config is read.

        As of Llama 3 and Qwen 2.5: layers grow with the width, four queries share a key, the MLP
        is three to four times as wide, the vocabulary is large and tied under 4 billion weights.
        """
        tied = parameters < _TIED_BELOW
        hidden = _STEP
        while True:
            wider = cls(
                hidden=hidden,
                layers=max(4, hidden // 128),
                intermediate=hidden * 7 // 2,
                vocabulary=_TYPICAL_VOCABULARY,
                heads=hidden // 64,
                kv_heads=max(1, hidden // 256),
                head_size=64,
                tied=tied,
            )
            if wider.parameters >= parameters:
                return replace(wider, counted=parameters)
            hidden += _STEP

    @property
    def attention_parameters(self) -> int:
        """Weights of the four projections of attention."""
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        return self.hidden * (2 * queries + 2 * keys)

    @property
    def mlp_parameters(self) -> int:
        """Weights of one MLP or expert."""
        return (3 if self.gated else 2) * self.hidden * self.intermediate

    @property
    def embedding_parameters(self) -> int:
        """Weights of the embedding, and so of the head."""
        return self.vocabulary * self.hidden

    @property
    def parameters(self) -> int:
        """All weights of the model: as counted in its files, else by formula without norms."""
        if self.counted:
            return self.counted
        return self.layers * self._per_layer(max(1, self.experts)) + self.embedding_parameters * (
            1 if self.tied else 2
        )

    @property
    def used_parameters(self) -> int:
        """Weights in the layers that one token is multiplied with: fewer than all with experts."""
        return self.layers * self._per_layer(max(1, self.experts_used))

    @property
    def linear_sizes(self) -> tuple[int, int]:
        """Sum of inputs and outputs of a layer's matrices, attention's and an MLP's.

        An adapter of rank r on a matrix of n by m has r (n + m) weights.
        """
        queries, keys = self.heads * self.head_size, self.kv_heads * self.head_size
        attention = 4 * self.hidden + 2 * queries + 2 * keys
        mlp = (3 if self.gated else 2) * (self.hidden + self.intermediate)
        return attention, mlp

    def adapter_parameters(self, rank: int) -> int:
        """Weights of LoRA adapters on every matrix of every layer (arXiv:2106.09685).

        Experts that a family keeps as one stacked tensor get none: PEFT adapts linear layers.
        """
        attention, mlp = self.linear_sizes
        return self.layers * rank * (attention + (0 if self.experts else mlp))

    def _per_layer(self, mlps: int) -> int:
        router = self.hidden * self.experts
        return self.attention_parameters + mlps * self.mlp_parameters + router


def _size(config: Mapping[str, Any], *names: str, otherwise: int | None = None) -> int:
    """The first of these fields that is set. Raises SetupError if it is no positive number."""
    for name in names:
        value = config.get(name)
        if value is None:
            continue
        least = 1 if otherwise is None else 0
        if isinstance(value, int) and not isinstance(value, bool) and value >= least:
            return value
        raise SetupError(
            f"config.json says {name} is {str(value)[:40]!r}, which is no size",
            "Choose a causal language model",
        )
    if otherwise is None:
        raise SetupError(
            f"config.json has no {names[0]}, so it is no causal language model that is known",
            "Choose another student",
        )
    return otherwise
