"""Will it fit? Memory, disk and time of a training, from the model's shape and the rows' lengths.

Nothing is downloaded, loaded or started. What is counted where:

- weights, gradients, optimizer: bytes a weight, as AdamW in mixed precision needs them (S.
  Rajbhandari et al., "ZeRO", arXiv:1910.02054, section 3.1); adapters as in LoRA (E. Hu et al.,
  arXiv:2106.09685) and QLoRA (T. Dettmers et al., arXiv:2305.14314: 4 bits a weight and one float32
  constant for 64 of them, doubly quantised: 4.127 bits).
- activations: what PyTorch keeps of a Llama layer for its backward pass, counted tensor by tensor
  below; the method is V. Korthikanti et al., "Reducing Activation Recomputation", arXiv:2205.05198,
  section 4. With checkpointing a layer's input is kept, and one layer at a time in full.
- logits: scores, their log-softmax and the gradient of both, for the positions that are scored.
- time: 2 operations a weight and token forward, as many again for the gradient of activations and
  as many for that of weights (J. Kaplan et al., arXiv:2001.08361, section 2.1).

bench/fits.py measures how far this is from real trainings.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

from understudy.run import Recipe
from understudy.train.sizing.machine import Machine
from understudy.train.sizing.rates import matmul_rate
from understudy.train.sizing.shape import Shape

__all__ = ["Machine", "Memory", "Need", "Range", "Shape", "estimate"]

Range = tuple[float, float]
"""Lowest and highest, in seconds."""

GB = 1e9
HEADROOM = 0.92
"""Share of the free memory that a plan may use: an estimate is an estimate."""
_RUNTIME_CPU, _RUNTIME_ADAPTERS = 620_000_000, 110_000_000
"""Bytes of a trainer without a model: Python, torch and TRL; and of what PEFT loads. Measured."""
_HELD_CHECKPOINTED, _HELD_ADAPTERS = 2.0, 1.85
"""RAM that a pass takes for each byte of activations that is counted here. Measured on students of
5 and 30 million weights: the allocator of the C library holds on to much of what is freed between
layers, and passes through adapters free more. Full training without checkpointing: 1."""
_RUNTIME_GPU = 1_200_000_000
"""Bytes of GPU memory beside the tensors: CUDA's context and workspaces."""
_FRAGMENTED = 1.1
"""GPU memory that torch's allocator holds for each byte in use."""
_FOUR_BITS = 4.127 / 8
_CHECKPOINTS_KEPT = 3  # two, and the one that is being written
_GGUF_BYTES = 2.6
"""Bytes a weight on export: a GGUF in 16 bits and one in about 4.8 (Q4_K_M)."""
_USED_SHARE = (0.2, 0.75)
"""Share of the matrix-multiply rate that trainings reach, from short rows to large models."""
_DISK_RATE = (1.5e8, 1.5e9)
"""Bytes a second, from a slow disk to a fast one."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes at the fullest moment of a training, on what trains (the GPU, else RAM)."""

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    copies: int
    """Of weights while a model is read or written, as far as they exceed what a step needs."""
    runtime: int

    @property
    def total(self) -> int:
        """All of it."""
        return sum(int(getattr(self, part.name)) for part in fields(self))


@dataclass(frozen=True, slots=True)
class Need:
    """What a training needs of a machine."""

    memory: Memory
    host_bytes: int
    """RAM; the same as ``memory`` where the processor trains."""
    download_bytes: int
    checkpoint_bytes: int
    merged_bytes: int
    export_bytes: int
    training_s: Range
    merging_s: Range
    export_s: Range

    @property
    def memory_bytes(self) -> int:
        """Memory of what trains, at the fullest moment."""
        return self.memory.total

    @property
    def disk_bytes(self) -> int:
        """Disk that is taken when all of it is there at once."""
        return self.download_bytes + self.checkpoint_bytes + self.merged_bytes + self.export_bytes

    def lacking(self, machine: Machine) -> tuple[str, ...]:
        """A sentence for each thing that this machine has too little of; none: it fits."""
        wanted = [(self.disk_bytes, machine.disk_bytes, "disk")]
        if machine.gpu:
            wanted.append((self.memory_bytes, int(machine.training_bytes * HEADROOM), "GPU memory"))
        wanted.append((self.host_bytes, int(machine.free_bytes * HEADROOM), "memory"))
        return tuple(
            f"needs {need / GB:,.1f} GB of {what}, {have / GB:,.1f} GB can be used"
            for need, have, what in wanted
            if need > have
        )


def estimate(
    shape: Shape,
    recipe: Recipe,
    lengths: Sequence[int],
    machine: Machine,
    *,
    answers: Sequence[int] = (),
    local: bool = False,
    tokens_per_s: float | None = None,
) -> Need:
    """Estimate what a training needs, on the high side.

    ``lengths``: tokens of each training row, prompt and answer; ``answers``: those of its answer,
    if known. ``local``: the model is on the disk already. ``tokens_per_s``: speed of an earlier
    training of this student with this method on this machine.
    """
    rows = [min(length, recipe.max_tokens) for length in lengths] or [recipe.max_tokens]
    scored = [min(pair) for pair in zip(rows, answers or rows, strict=True)]
    memory = _memory(shape, recipe, rows, scored, machine)
    stored = shape.parameters * shape.stored_bytes
    host = memory.total
    if machine.gpu:  # weights pass through RAM on their way
        passing = max(shape.parameters * max(2, shape.stored_bytes), _merging(shape, recipe))
        host = _RUNTIME_CPU + int(GB) + passing
    trained = _trained(shape, recipe)
    checkpoint = trained * (4 + _OPTIMIZER_BYTES)
    merged = stored + trained * 4 * (recipe.method != "full")
    export = int(shape.parameters * _GGUF_BYTES)
    return Need(
        memory=memory,
        host_bytes=host,
        download_bytes=0 if local else stored,
        checkpoint_bytes=_CHECKPOINTS_KEPT * checkpoint,
        merged_bytes=merged,
        export_bytes=export,
        training_s=_training_seconds(shape, recipe, rows, scored, machine, tokens_per_s),
        merging_s=_at_disk_rate(stored + merged),
        export_s=_at_disk_rate(stored + export),
    )


# -- memory ------------------------------------------------------------------------------------

_OPTIMIZER_BYTES = 8  # AdamW: mean and variance of the gradient, float32


def _trained(shape: Shape, recipe: Recipe) -> int:
    """Weights that the optimizer changes."""
    if recipe.method == "full":
        return shape.parameters
    return shape.adapter_parameters(recipe.lora_rank)


def _memory(
    shape: Shape, recipe: Recipe, rows: Sequence[int], scored: Sequence[int], machine: Machine
) -> Memory:
    trained = _trained(shape, recipe)
    number = 2 if recipe.precision == "bfloat16" else 4
    in_pass, longest = pass_rows(recipe, rows), max(rows)
    tokens = in_pass * longest
    weights = int(_weight_bytes(shape, recipe)) + (trained * 4 if recipe.method != "full" else 0)
    activations = _activations(shape, recipe, tokens, number)
    if not machine.gpu:
        activations = int(activations * _held(recipe))
    logits = _logits(shape, in_pass * max(scored), number)
    gradients, optimizer = trained * 4, trained * _OPTIMIZER_BYTES
    # Reading maps the stored file and fills the weights; writing copies what it writes, or merges.
    copy = max(shape.parameters * shape.stored_bytes, _merging(shape, recipe))
    step = gradients + activations + logits
    spread = _FRAGMENTED if machine.gpu else 1.0
    return Memory(
        weights=int(weights * spread),
        gradients=int(gradients * spread),
        optimizer=int(optimizer * spread),
        activations=int(activations * spread),
        logits=int(logits * spread),
        copies=0 if machine.gpu else max(0, copy - step),
        runtime=_RUNTIME_GPU if machine.gpu else _runtime(recipe),
    )


def _merging(shape: Shape, recipe: Recipe) -> int:
    """What adapters take to be added to the weights as they are stored, one tensor at a time.

    Experts are stored one by one and held as one tensor, weights of 8 bits or less have scales:
    these are merged in memory, read anew in float32 where the training held them rounded.
    """
    if recipe.method == "full":
        return 0
    if shape.experts or shape.stored_bytes < 2:
        number = 2 if recipe.precision == "bfloat16" else 4
        rounded = recipe.method == "qlora" or number < shape.stored_bytes
        return shape.parameters * 4 if rounded else 0
    widest = max(shape.intermediate, shape.heads * shape.head_size)
    return shape.hidden * widest * (shape.stored_bytes + 3 * 4)


def saving_bytes(shape: Shape, recipe: Recipe) -> int:
    """RAM that it takes to save the student when all is trained, on a machine without a GPU."""
    full = recipe.method == "full"
    held = _weight_bytes(shape, recipe) + _trained(shape, recipe) * (_OPTIMIZER_BYTES + 4)
    written = shape.parameters * shape.stored_bytes if full else _merging(shape, recipe)
    return int(_runtime(recipe) + held) + written


def _held(recipe: Recipe) -> float:
    adapters = _HELD_ADAPTERS if recipe.method != "full" else 1.0
    return adapters * (_HELD_CHECKPOINTED if recipe.gradient_checkpointing else 1.0)


def _runtime(recipe: Recipe) -> int:
    return _RUNTIME_CPU + (_RUNTIME_ADAPTERS if recipe.method != "full" else 0)


def pass_rows(recipe: Recipe, rows: Sequence[int]) -> int:
    """Rows in one forward pass, if all were as long as the longest of ``rows`` (tokens)."""
    longest = min(max(rows), recipe.max_tokens)
    return max(1, min(recipe.batch_size, recipe.micro_batch_tokens // longest))


def _weight_bytes(shape: Shape, recipe: Recipe) -> float:
    """The student itself: what is trained in float32, what is frozen as small as it may be."""
    everything = shape.parameters
    if recipe.method == "full":
        # bfloat16 passes compute with a copy; float32 stays the truth (arXiv:1710.03740).
        return everything * (6 if recipe.precision == "bfloat16" else 4)
    frozen = 2 if recipe.precision == "bfloat16" else 4
    if recipe.method == "lora":
        return everything * frozen
    kept = shape.embedding_parameters * (1 if shape.tied else 2)  # not quantised
    return (everything - kept) * _FOUR_BITS + kept * frozen


def _activations(shape: Shape, recipe: Recipe, tokens: int, number: int) -> int:
    """Bytes that the backward pass needs of a pass over ``tokens``, and what it works in."""
    hidden, inner = shape.hidden, shape.intermediate * max(1, shape.experts_used)
    queries = shape.heads * shape.head_size
    full = recipe.method == "full"
    # Two norms: the stream, the normed stream (if the norm's weight is trained), their output.
    norms = 2 * hidden * (3 if full else 2)
    # Queries, keys and values as attention takes them (keys repeated for all heads), its result.
    attention = 5 * queries
    # Gate before and after its activation, up, their product; without a gate, in and out.
    mlp = (4 if shape.gated else 3) * inner
    routed = 2 * hidden * shape.experts_used if shape.experts else 0
    one_layer = number * (norms + attention + mlp + routed)
    if number == 2:
        one_layer += 4 * 2 * hidden  # norms compute in float32
    if not full:
        one_layer += number * 7 * recipe.lora_rank + (
            4 * (5 * hidden + inner) if number == 2 else 0
        )
    working = number * (3 * inner + 4 * hidden)
    kept = shape.layers * one_layer
    if recipe.gradient_checkpointing:
        kept = shape.layers * number * hidden + one_layer
    return tokens * (kept + working)


def _logits(shape: Shape, positions: int, number: int) -> int:
    """Scores and log-softmax forward, and the gradients of both backward, in float32."""
    return positions * shape.vocabulary * (12 if number == 4 else 16)


# -- time --------------------------------------------------------------------------------------


def _training_seconds(
    shape: Shape,
    recipe: Recipe,
    rows: Sequence[int],
    scored: Sequence[int],
    machine: Machine,
    tokens_per_s: float | None,
) -> Range:
    tokens = sum(rows) * recipe.epochs
    if tokens_per_s:
        return 0.8 * tokens / tokens_per_s, 1.3 * tokens / tokens_per_s
    forward_backward = 3 if recipe.method == "full" else 2
    passes = forward_backward + (1 if recipe.gradient_checkpointing else 0)
    work = 2.0 * shape.used_parameters * sum(rows)
    # Attention: each token's query with every key before it, and as much with the values.
    work += 2.0 * shape.layers * shape.heads * shape.head_size * sum(row * row for row in rows)
    work += 2.0 * shape.embedding_parameters * sum(scored)
    seconds = work * passes * recipe.epochs / matmul_rate(machine)
    steps = math.ceil(len(rows) * recipe.epochs / recipe.batch_size)
    low, high = (seconds / share for share in reversed(_USED_SHARE))
    return low + 0.005 * steps, high + 0.05 * steps + 15.0


def _at_disk_rate(size: float) -> Range:
    slow, fast = _DISK_RATE
    return size / fast, size / slow + 5.0
