"""The chat service as it is documented, in torch: what benchmarks/chat.py compares with.

    python benchmarks/chat_peer.py CHECKPOINT PORT

The architecture of generation 2, as its checkpoint names the tensors.  Each step is a plain pass
over the window, with the trace of one layer, and no cache of keys and values.  What the documents
leave open is done the fast way: fused attention, of the traced layer only the row that is sent,
inference mode, a stream in a thread of its own, compact JSON.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from sentencepiece import SentencePieceProcessor
from torch import Tensor, nn
from torch.nn import functional

TOP = 10


class RMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) * weight, over the last dimension."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return functional.rms_norm(x, self.weight.shape, self.weight, 1e-5)


class Attention(nn.Module):
    """Causal attention with rotated neighbouring pairs."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__()
        width, self.heads = cfg["C"], cfg["H"]
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width, bias=False)
        size = width // self.heads
        rates = cfg.get("rope_theta", 10000.0) ** (-torch.arange(0, size, 2).double() / size)
        angles = torch.arange(cfg["T"]).double()[:, None] * rates
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def rotated(self, x: Tensor) -> Tensor:
        """Turn [batch, heads, tokens, size] by the angles of its positions."""
        cos, sin = self.cos[: x.shape[2]], self.sin[: x.shape[2]]
        even, odd = x[..., ::2], x[..., 1::2]
        return torch.stack((even * cos - odd * sin, even * sin + odd * cos), -1).flatten(-2)

    def forward(self, x: Tensor, traced: bool) -> tuple[Tensor, Tensor | None]:
        batch, length, width = x.shape
        parts = self.qkv(x).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        query, key, value = self.rotated(parts[0]), self.rotated(parts[1]), parts[2]
        joined = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        row = None
        if traced:
            scores = query[:, :, -1:] @ key.transpose(-1, -2) * key.shape[-1] ** -0.5
            row = scores.softmax(-1)[:, :, 0]
        return self.proj(joined.transpose(1, 2).reshape(batch, length, width)), row


class MLP(nn.Module):
    """SwiGLU with biases."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__()
        self.fc_a = nn.Linear(cfg["C"], cfg["d_ff"])
        self.fc_g = nn.Linear(cfg["C"], cfg["d_ff"])
        self.fc_out = nn.Linear(cfg["d_ff"], cfg["C"])

    def forward(self, x: Tensor) -> Tensor:
        return self.fc_out(functional.silu(self.fc_g(x)) * self.fc_a(x))


class Block(nn.Module):
    """Attention and MLP, each behind a norm and beside a shortcut."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__()
        self.ln1, self.ln2 = RMSNorm(cfg["C"]), RMSNorm(cfg["C"])
        self.attn, self.mlp = Attention(cfg), MLP(cfg)

    def forward(self, x: Tensor, traced: bool) -> tuple[Tensor, Tensor | None]:
        added, row = self.attn(self.ln1(x), traced)
        x = x + added
        return x + self.mlp(self.ln2(x)), row


class GPT(nn.Module):
    """The whole model; its head is its embedding."""

    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__()
        self.tok_emb = nn.Embedding(cfg["V"], cfg["C"])
        self.blocks = nn.ModuleList(Block(cfg) for _ in range(cfg["L"]))
        self.ln_f = RMSNorm(cfg["C"])
        self.lm_head = nn.Linear(cfg["C"], cfg["V"], bias=False)

    def forward_with_attn_trace(self, x: Tensor, trace_layer: int) -> tuple[Tensor, Tensor]:
        """Return logits [1, tokens, vocabulary] and the last row's weights [1, heads, tokens]."""
        h, trace = self.tok_emb(x), None
        for number, block in enumerate(self.blocks):
            h, row = block(h, number == trace_layer)
            trace = row if row is not None else trace
        assert trace is not None
        return self.lm_head(self.ln_f(h)), trace


class Message(BaseModel):
    role: str
    content: str


class ChatRequest(BaseModel):
    messages: list[Message]
    max_new_tokens: int = 256
    temperature: float = 0.9
    top_k: int | None = 50
    seed: int = 42
    trace_layer: int


class Service:
    """A model, its tokenizer, and the events of a completion."""

    def __init__(self, path: Path) -> None:
        saved = torch.load(path, map_location="cpu", weights_only=True)
        self.cfg = saved["model_cfg"]
        self.model = GPT(self.cfg).eval()
        self.model.load_state_dict(saved["model_state"])
        self.pieces = SentencePieceProcessor(model_file=str(path.with_name("spm.model")))
        self.special = {name: self._special(name) for name in ("sys", "usr", "asst", "eot")}
        size = self.pieces.get_piece_size()
        banned = {i for i in range(size) if self.pieces.is_control(i) or self.pieces.is_unknown(i)}
        banned |= {self.special[name] for name in ("sys", "usr", "asst")}
        self.banned = torch.tensor(sorted(banned))
        self.texts = [self.pieces.id_to_piece(i).replace("\u2581", " ") for i in range(size)]

    def _special(self, name: str) -> int:
        spelled = (f"<|ngpt_{name}_84a5023f67d74cf29cc4001becde983c|>", f"<|{name}|>")
        found = [self.pieces.piece_to_id(text) for text in spelled]
        return next(i for i in found if i != self.pieces.unk_id())

    def prompt(self, messages: list[Message]) -> list[int]:
        """Return the ids of a conversation, up to the answer."""
        role = {"system": "sys", "user": "usr", "assistant": "asst"}
        ids = []
        for message in messages:
            ids += [self.special[role[message.role]], *self.pieces.encode(message.content)]
            ids.append(self.special["eot"])
        return [*ids, self.special["asst"]]

    @torch.inference_mode()
    def events(self, request: ChatRequest) -> Iterator[str]:
        """Give the events of a completion as they are made."""
        generator = torch.Generator().manual_seed(request.seed)
        ids = self.prompt(request.messages)
        made: list[int] = []
        for step in range(request.max_new_tokens):
            window = torch.tensor([(ids + made)[-self.cfg["T"] :]])
            logits, row = self.model.forward_with_attn_trace(window, request.trace_layer)
            probabilities = self._distribution(logits[0, -1], request)
            token = int(torch.multinomial(probabilities, 1, generator=generator))
            if token == self.special["eot"]:
                break
            made.append(token)
            yield event("token", {"step": step, **self._shown(token)})
            yield event("trace", {"step": step, **_trace(probabilities, row, self._shown)})
        yield event("done", {"reply": self.pieces.decode(made).strip()})

    def _distribution(self, logits: Tensor, request: ChatRequest) -> Tensor:
        logits = logits.index_fill(0, self.banned, -torch.inf)
        if request.temperature == 0:
            return functional.one_hot(logits.argmax(), len(logits)).float()
        logits = logits / request.temperature
        if request.top_k is not None:
            kept = torch.topk(logits, min(request.top_k, len(logits)))
            logits = torch.full_like(logits, -torch.inf).scatter(0, kept.indices, kept.values)
        return logits.softmax(-1)

    def _shown(self, token: int) -> dict[str, object]:
        text = self.texts[token]
        return {"token_id": token, "token_text": text, "token_display": text}


def _trace(probabilities: Tensor, row: Tensor, shown: Any) -> dict[str, object]:
    entropy = -torch.special.xlogy(probabilities, probabilities).sum().item()
    top = torch.topk(probabilities, TOP)
    pairs = zip(top.indices.tolist(), top.values.tolist(), strict=True)
    listed = [{**shown(token), "prob": prob} for token, prob in pairs]
    return {"entropy": entropy, "topk": listed, "attn": row[0].tolist()}


def event(name: str, data: dict[str, object]) -> str:
    """Return the text of an event."""
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n"


def main() -> None:
    """Serve a checkpoint."""
    service = Service(Path(sys.argv[1]))
    app = FastAPI()

    @app.post("/chat/stream")
    def stream(request: ChatRequest) -> StreamingResponse:
        return StreamingResponse(service.events(request), media_type="text/event-stream")

    uvicorn.run(app, host="127.0.0.1", port=int(sys.argv[2]), log_level="warning")


if __name__ == "__main__":
    main()
