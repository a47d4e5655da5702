"""One update of GPT-2 written out: forward, backward and optimizer, without autograd. The fast update on a CPU.

It computes what nudge.model.gpt computes under autograd (tests/unit/test_fused_update.py compares every gradient). Its
code shows every step of an update. It is faster because
  - products write to buffers that are kept from update to update;
  - a gradient is written once, directly to the place that the optimizer reads;
  - everything between two products is one pass over memory (nudge/fast/native/layers.c);
  - the logits of all tokens never exist at once.

    dtypes   matrix products use compute_dtype (bfloat16 where the processor supports it). Weights exist in float32 and
             once more in compute_dtype. The two streams that every layer adds to, x forward and its gradient dx
             backward, are float32; a product reads them rounded to compute_dtype
    shapes   B windows of T tokens, N = B*T rows, C channels, H heads of K channels, V tokens in the vocabulary
    names    dx is the gradient of the loss with respect to x
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

from nudge.config import MachineConfig, ModelConfig, TrainConfig
from nudge.distributed.world import ALONE, World
from nudge.fast.attention import attention, attention_backward
from nudge.fast.flat_params import FlatOptimizer, FlatParameters
from nudge.fast.kernels import Kernels
from nudge.fast.native_loader import UnavailableError
from nudge.model.gpt import GPT
from nudge.runs.checkpoint import OptimizerState

LOGIT_ROWS = 1024  # at a time: all B*T rows of 50,257 numbers fit no laptop, and more at a time are no faster
QUERY_ROWS = 256  # at a time, in attention
MOST_SERIAL = 2  # threads of PyTorch with which kernels on one thread are no slower than autograd


@dataclass(slots=True)
class Norm:
    """The values of one layer norm that its backward pass needs."""

    name: str
    x: Tensor  # [N, C] float32: its input, the residual stream
    y: Tensor  # [N, C] compute_dtype: its output
    mean: Tensor  # [N]
    rstd: Tensor  # [N]: 1 / standard deviation


@dataclass(slots=True)
class Layer:
    """The values of one block that its backward pass needs."""

    ln_1: Norm
    qkv: Tensor  # [3, B*H, T, K]
    probs: list[Tensor]  # for each span of queries [B*H, queries of the span, tokens up to its end]
    attn_out: Tensor  # [N, C]: the values, averaged with these probabilities
    ln_2: Norm
    mlp_pre: Tensor  # [N, 4C] before GELU
    mlp_act: Tensor  # [N, 4C] after GELU


class FusedUpdate:
    """The updates of one GPT-2 on a CPU: `forward_backward` once for each pass, then `step`.

    Raises: UnavailableError if the kernels cannot be compiled.
    """

    def __init__(self, network: GPT, train: TrainConfig, compute_dtype: torch.dtype, world: World = ALONE) -> None:
        self.config, self.train, self.compute_dtype, self.world = network.config, train, compute_dtype, world
        self.kernels = Kernels(compute_dtype)
        self.flat = FlatParameters(network, train, compute_dtype)
        self.optimizer = FlatOptimizer(self.flat, train, self.kernels, world)
        flat, names = self.flat, self.flat.shapes
        self.weight_float32 = {name: flat.view(flat.weights, name) for name in names}  # for embeddings, norms, biases
        self.weight = {name: flat.view(flat.compute_weights, name, padded=True) for name in names}
        self.grad = {name: flat.view(flat.grads, name, padded=True) for name in names}
        self.earlier: Tensor | None = None  # summed gradients of all passes but the last, in float32
        self.n_passes = 0
        self.buffers: dict[str, Tensor] = {}

    @torch.no_grad()
    def forward_backward(self, tokens: Tensor, targets: Tensor, share: float = 1.0, *, last: bool = True) -> Tensor:
        """Compute the gradients of one pass; return its mean loss times `share`, the pass's share of the update.

        Shapes: tokens and targets [B, T] of int64. Targets of -1 are ignored.
        """
        self._keep_earlier()
        B = len(tokens)
        layers, ln_f = self._forward(tokens)
        loss, dy = self._head(ln_f.y, targets.reshape(-1), share)
        dx = self._buffer("dx", ln_f.x.shape, torch.float32).zero_()
        d = self._layer_norm_backward(ln_f, dy, dx, f"blocks.{self.config.n_layer - 1}.mlp.c_proj.bias")
        for i in reversed(range(self.config.n_layer)):
            d = self._block_backward(i, layers[i], d, dx, B)
        self._embedding_backward(tokens, dx)
        return loss

    @torch.no_grad()
    def loss(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Return the mean loss of windows [B, T], without gradients, for an evaluation."""
        _, ln_f = self._forward(tokens)
        return self._head(ln_f.y, targets.reshape(-1), 1.0, backward=False)[0]

    @torch.no_grad()
    def step(self, lr: float, loss: Tensor) -> Tensor:
        """Clip the gradients and update the weights; return the norm of the gradients before clipping.

        If the loss or the norm is not finite, change nothing.
        """
        if self.world.size > 1:
            # Add the last pass to `earlier` too, sum that over all processes, and leave zeros in `grads`. Then n_passes
            # is at least 2, so that `earlier` is used below.
            self._keep_earlier()
            self.world.sum(cast(Tensor, self.earlier))
            self.flat.grads.zero_()
        earlier = self.earlier if self.n_passes > 1 else None
        norm = math.sqrt(self.kernels.sum_of_squares(len(self.flat.grads), self.flat.grads, earlier))
        if math.isfinite(norm) and math.isfinite(loss):
            self.optimizer.step(lr, min(1.0, self.train.grad_clip / (norm + 1e-6)), earlier)
        self.n_passes = 0
        return torch.tensor(norm)

    def forget(self) -> None:
        """Delete the gradients of the passes so far."""
        self.n_passes = 0

    def state(self) -> OptimizerState:
        """Return the moments by parameter name."""
        return self.optimizer.state()

    def load_state(self, state: OptimizerState) -> None:
        """Restore the moments from a `state()`, after the network's weights were loaded. Raises: CheckpointError."""
        self.flat.compute_weights.copy_(self.flat.weights)
        self.optimizer.load_state(state)

    # Forward

    def _forward(self, tokens: Tensor) -> tuple[list[Layer], Norm]:
        """Run tokens [B, T] through the network; return the values of each block and of ln_f."""
        self.kernels.use_threads(torch.get_num_threads())
        B, T = tokens.shape
        x = (self.weight_float32["wte.weight"][tokens] + self.weight_float32["wpe.weight"][:T]).view(B * T, -1)
        add, add_bias = None, None
        layers: list[Layer] = []
        for i in range(self.config.n_layer):
            layer, add, add_bias = self._block(i, x, add, add_bias, B)
            layers.append(layer)
            x = layer.ln_2.x
        return layers, self._layer_norm("ln_f", x, add, add_bias)

    def _block(
        self, i: int, x: Tensor, add: Tensor | None, add_bias: Tensor | None, B: int
    ) -> tuple[Layer, Tensor, Tensor]:
        """Run one block; return its values, and the output and bias of its MLP, which are not added to the stream yet.

        The next layer norm adds them, in one pass over memory instead of two, as this block's ln_1 adds `add` and
        `add_bias` of the block before.
        """
        kernels, name, weight, bias = self.kernels, f"blocks.{i}.", self.weight, self.weight_float32
        (N, C), H = x.shape, self.config.n_head
        T, K = N // B, C // H
        ln_1 = self._layer_norm(name + "ln_1", x, add, add_bias)
        merged = torch.mm(ln_1.y, weight[name + "attn.c_attn.weight"], out=self._buffer("qkv", (N, 3 * C)))
        qkv = self._buffer(name + "qkv", (3, B * H, T, K))
        kernels.split_heads(B, T, 3, H, K, merged, bias[name + "attn.c_attn.bias"], qkv)
        heads = self._buffer("heads", (B * H, T, K))
        q, k, v = qkv
        probs = attention(
            kernels, q, k, v, heads, n_queries=QUERY_ROWS, buffer=lambda key, shape: self._buffer(name + key, shape)
        )
        attn_out = self._buffer(name + "attn_out", (N, C))
        kernels.merge_heads(B, T, 1, H, K, heads, attn_out, None, None)
        add = torch.mm(attn_out, weight[name + "attn.c_proj.weight"], out=self._buffer("add", (N, C)))
        ln_2 = self._layer_norm(name + "ln_2", ln_1.x, add, bias[name + "attn.c_proj.bias"])
        mlp_pre = torch.mm(ln_2.y, weight[name + "mlp.c_fc.weight"], out=self._buffer(name + "mlp_pre", (N, 4 * C)))
        mlp_act = self._buffer(name + "mlp_act", (N, 4 * C))
        kernels.gelu(N, 4 * C, mlp_pre, bias[name + "mlp.c_fc.bias"], mlp_act)
        torch.mm(mlp_act, weight[name + "mlp.c_proj.weight"], out=add)
        return Layer(ln_1, qkv, probs, attn_out, ln_2, mlp_pre, mlp_act), add, bias[name + "mlp.c_proj.bias"]

    def _layer_norm(self, name: str, x: Tensor, add: Tensor | None, add_bias: Tensor | None) -> Norm:
        """Add `add` and `add_bias` to x [N, C], then apply layer norm; return the values for the backward pass."""
        N, C = x.shape
        norm = Norm(
            name,
            x if add is None else self._buffer(name + ".x", (N, C), torch.float32),
            self._buffer(name + ".y", (N, C)),
            self._buffer(name + ".mean", (N,), torch.float32),
            self._buffer(name + ".rstd", (N,), torch.float32),
        )
        weight, bias = self.weight_float32[name + ".weight"], self.weight_float32[name + ".bias"]
        self.kernels.residual_norm(N, C, x, add, add_bias, weight, bias, norm.x, norm.y, norm.mean, norm.rstd)
        return norm

    def _head(self, y: Tensor, targets: Tensor, share: float, *, backward: bool = True) -> tuple[Tensor, Tensor]:
        """Return the loss and its gradient with respect to y [N, C].

        Only LOGIT_ROWS rows of logits exist at a time, and their gradient overwrites them.
        """
        N, wte = len(y), self.weight["wte.weight"]
        assert targets.max() < self.config.vocab_size, "a target outside the vocabulary"  # C does not check
        scale = share / max(1, int((targets >= 0).sum()))
        losses = self._buffer("losses", (N,), torch.float32)
        dy, dwte = self._buffer("dy", y.shape), self.grad["wte.weight"]
        for start in range(0, N, LOGIT_ROWS):
            rows = slice(start, min(N, start + LOGIT_ROWS))
            logits = torch.mm(y[rows], wte.t(), out=self._buffer("logits", (len(y[rows]), len(wte))))
            self.kernels.cross_entropy(
                len(logits), self.config.vocab_size, len(wte), logits, targets[rows], scale, losses[rows]
            )
            if not backward:
                continue
            torch.mm(logits, wte, out=dy[rows])
            if start == 0:
                torch.mm(logits.t(), y[rows], out=dwte)
            else:
                dwte.addmm_(logits.t(), y[rows])
        return (losses.double().sum() * scale).float(), dy

    # Backward. For each product y = x @ weight: dweight = x^T @ dy and dx = dy @ weight^T.

    def _block_backward(self, i: int, layer: Layer, d: Tensor, dx: Tensor, B: int) -> Tensor:
        """Compute the gradients of one block, from the gradient of the stream after it; return the one before it.

        Two tensors [N, C] hold the gradient of the stream: dx in float32, which is updated in place, and d, the same
        rounded to compute_dtype, which is returned.
        """
        kernels, name, grad = self.kernels, f"blocks.{i}.", self.grad
        (N, C), H = dx.shape, self.config.n_head
        T, K = N // B, C // H
        d_mlp_pre = self._product_backward(name + "mlp.c_proj.weight", layer.mlp_act, d)
        d_fc_bias = grad[name + "mlp.c_fc.bias"]
        kernels.gelu_backward(N, 4 * C, layer.mlp_pre, d_mlp_pre, d_fc_bias, self._thread_sums(4 * C))
        dy = self._product_backward(name + "mlp.c_fc.weight", layer.ln_2.y, d_mlp_pre)
        d = self._layer_norm_backward(layer.ln_2, dy, dx, name + "attn.c_proj.bias")

        d_attn_out = self._product_backward(name + "attn.c_proj.weight", layer.attn_out, d)
        dheads = self._buffer("heads", (B * H, T, K))
        kernels.split_heads(B, T, 1, H, K, d_attn_out, None, dheads)
        dqkv = self._buffer("dqkv", layer.qkv.shape)
        attention_backward(kernels, layer.qkv, layer.probs, dheads, dqkv, n_queries=QUERY_ROWS, buffer=self._buffer)
        merged = self._buffer("qkv", (N, 3 * C))
        kernels.merge_heads(B, T, 3, H, K, dqkv, merged, grad[name + "attn.c_attn.bias"], self._thread_sums(3 * C))
        dy = self._product_backward(name + "attn.c_attn.weight", layer.ln_1.y, merged)
        return self._layer_norm_backward(layer.ln_1, dy, dx, f"blocks.{i - 1}.mlp.c_proj.bias" if i else None)

    def _product_backward(self, name: str, x: Tensor, dy: Tensor) -> Tensor:
        """Write the gradient of the weight of y = x @ weight; return the gradient of x."""
        torch.mm(x.t(), dy, out=self.grad[name])
        return torch.mm(dy, self.weight[name].t(), out=self._buffer(f"d {x.size(1)}", x.shape))

    def _layer_norm_backward(self, norm: Norm, dy: Tensor, dx: Tensor, bias_before: str | None) -> Tensor:
        """Add the gradient of this layer norm's input to dx, the stream's gradient; return dx in compute_dtype.

        `bias_before` names the bias that was added to the stream just before the norm. Its gradient, the sum over the
        rows of dx, is written too.
        """
        N, C = dx.shape
        # Three buffers are used in turn: other cores have just read the last one and still hold its cache lines.
        dx_rounded = self._buffer("dx " + norm.name[-4:], dx.shape)
        self.kernels.norm_backward(
            N,
            C,
            dy,
            norm.x,
            norm.mean,
            norm.rstd,
            self.weight_float32[norm.name + ".weight"],
            dx,
            dx_rounded,
            self.grad[norm.name + ".weight"],
            self.grad[norm.name + ".bias"],
            self.grad[bias_before] if bias_before else None,
            self._thread_sums(3 * C),
        )
        return dx_rounded

    def _embedding_backward(self, tokens: Tensor, dx: Tensor) -> None:
        """Add dx to the gradients of wte and write the gradients of wpe, at the rows that the forward pass read."""
        (B, T), (N, C), flat = tokens.shape, dx.shape, tokens.reshape(-1)
        self.kernels.embedding_backward(N, C, flat, flat.argsort(stable=True), dx, self.grad["wte.weight"])
        dwpe = self.grad["wpe.weight"]
        dwpe[:T] = dx.view(B, T, C).sum(0)
        dwpe[T:] = 0

    def _keep_earlier(self) -> None:
        """Add the last pass's gradients to `earlier` before the next pass overwrites them, and count the next pass."""
        if self.n_passes == 1:
            self.earlier = torch.empty(len(self.flat.grads)) if self.earlier is None else self.earlier
            self.earlier.copy_(self.flat.grads)
        elif self.n_passes > 1:
            self.kernels.accumulate(len(self.flat.grads), self.flat.grads, self.earlier)
        self.n_passes += 1

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> Tensor:
        """Return an uninitialized tensor that is kept for the next update: new memory costs a page fault per 4 KB."""
        buffer = self.buffers.get(name)
        if buffer is None or buffer.shape != shape:
            buffer = self.buffers[name] = torch.empty(shape, dtype=dtype or self.compute_dtype)
        return buffer

    def _thread_sums(self, columns: int) -> Tensor:
        """Return a buffer [threads, columns] in which each thread sums its rows."""
        return self._buffer(f"partial {columns}", (torch.get_num_threads(), columns), torch.float32)


def why_not_fast(
    device: str, dtype: str, model: ModelConfig | None = None, machine: MachineConfig | None = None
) -> str | None:
    """Return in a few words why the fast update is unavailable here, or None. May compile the kernels."""
    if machine and (machine.shard or machine.recompute):
        return (
            f"the fast update cannot {'shard' if machine.shard else 'recompute'}: it keeps every weight and activation"
        )
    if model and not model.is_gpt2:
        return f"the fast update supports plain GPT-2 only, not {' and '.join(model.departures)}"
    if device != "cpu":
        return f"the fast update is for a CPU, not for {device}"
    try:
        kernels = Kernels(getattr(torch, dtype))
    except UnavailableError as error:
        return str(error)
    if kernels.is_serial and torch.get_num_threads() > MOST_SERIAL:
        return "the C kernels were compiled without OpenMP, for one thread"
    return None
