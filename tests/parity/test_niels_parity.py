"""Checkpoints that torch wrote, of the architecture written in torch: logits within 2e-4."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402
from torch.nn import functional as F  # noqa: E402, N812

import cacher  # noqa: E402
from cacher.niels_gpt.checkpoint import read_checkpoint  # noqa: E402

pytestmark = pytest.mark.parity

TOLERANCE = 2e-4
SIZES = {
    "small": {"V": 256, "T": 48, "C": 24, "L": 3, "H": 3, "d_ff": 40},
    "seen": {"V": 256, "T": 256, "C": 256, "L": 4, "H": 4, "d_ff": 1024},
    "wide": {"V": 256, "T": 512, "C": 384, "L": 8, "H": 6, "d_ff": 1152},
}


class Norm(nn.Module):
    """RMS norm, as torch has it in newer versions only."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x: Any) -> Any:
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


class Attention(nn.Module):
    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__()
        self.heads, dim = cfg["H"], cfg["C"] // cfg["H"]
        self.qkv = nn.Linear(cfg["C"], 3 * cfg["C"], bias=False)
        self.proj = nn.Linear(cfg["C"], cfg["C"], bias=False)
        inverse = cfg["rope_theta"] ** (-torch.arange(0, dim, 2, dtype=torch.float64) / dim)
        angles = torch.arange(cfg["T"], dtype=torch.float64)[:, None] * inverse
        self.register_buffer("rope_cos", angles.cos().float())
        self.register_buffer("rope_sin", angles.sin().float())
        self.register_buffer("mask", torch.ones(1, 1, cfg["T"], cfg["T"], dtype=torch.bool).tril())

    def rotate(self, x: Any) -> Any:
        cos, sin = self.rope_cos[: x.shape[2]], self.rope_sin[: x.shape[2]]
        even, odd = x[..., 0::2], x[..., 1::2]
        pairs = torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1)
        return pairs.flatten(-2)

    def forward(self, x: Any) -> Any:
        b, t, c = x.shape
        q, k, v = (
            part.view(b, t, self.heads, -1).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1)
        )
        q, k = self.rotate(q), self.rotate(k)
        scores = (q @ k.transpose(-2, -1) / (c // self.heads) ** 0.5).masked_fill(
            ~self.mask[:, :, :t, :t], float("-inf")
        )
        return self.proj((scores.softmax(-1) @ v).transpose(1, 2).reshape(b, t, c))


class Gelu(nn.Module):
    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(cfg["C"], cfg["d_ff"]), nn.Linear(cfg["d_ff"], cfg["C"])

    def forward(self, x: Any) -> Any:
        return self.fc2(F.gelu(self.fc1(x)))


class SwiGLU(nn.Module):
    def __init__(self, cfg: dict[str, Any]) -> None:
        super().__init__()
        self.fc_a, self.fc_g = nn.Linear(cfg["C"], cfg["d_ff"]), nn.Linear(cfg["C"], cfg["d_ff"])
        self.fc_out = nn.Linear(cfg["d_ff"], cfg["C"])

    def forward(self, x: Any) -> Any:
        return self.fc_out(F.silu(self.fc_g(x)) * self.fc_a(x))


class Block(nn.Module):
    def __init__(self, cfg: dict[str, Any], generation: int) -> None:
        super().__init__()
        norm = nn.LayerNorm if generation == 1 else Norm
        self.ln1, self.ln2 = norm(cfg["C"]), norm(cfg["C"])
        self.attn = Attention(cfg)
        self.mlp = Gelu(cfg) if generation == 1 else SwiGLU(cfg)

    def forward(self, x: Any) -> Any:
        x = x + self.attn(self.ln1(x))
        return x + self.mlp(self.ln2(x))


class Model(nn.Module):
    def __init__(self, cfg: dict[str, Any], generation: int) -> None:
        super().__init__()
        self.tok_emb = nn.Embedding(cfg["V"], cfg["C"])
        self.blocks = nn.ModuleList(Block(cfg, generation) for _ in range(cfg["L"]))
        self.ln_f = nn.LayerNorm(cfg["C"]) if generation == 1 else Norm(cfg["C"])
        self.lm_head = nn.Linear(cfg["C"], cfg["V"], bias=False)
        self.lm_head.weight = self.tok_emb.weight

    def forward(self, ids: Any) -> Any:
        x = self.tok_emb(ids)
        for block in self.blocks:
            x = block(x)
        return self.lm_head(self.ln_f(x))


def trained(cfg: dict[str, Any], generation: int) -> tuple[Any, dict[str, Any]]:
    """A model with random weights after one step, and its checkpoint, optimizer and all."""
    torch.manual_seed(generation)
    model = Model(cfg, generation)
    for name, parameter in model.named_parameters():
        nn.init.normal_(parameter, std=0.1)
        if "ln" in name and name.endswith("weight"):
            nn.init.normal_(parameter, mean=1.0, std=0.1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    model(torch.zeros(1, 8, dtype=torch.long)).logsumexp(-1).sum().backward()
    optimizer.step()
    return model.eval(), {
        "model_cfg": cfg,
        "train_cfg": {"lr": 1e-3, "name": "parity"},
        "model_state": model.state_dict(),
        "optimizer_state": optimizer.state_dict(),
        "step": 1,
        "best_val_loss": 2.5,
    }


@pytest.mark.parametrize("generation", [1, 2])
@pytest.mark.parametrize("name", SIZES)
def test_every_logit_of_a_checkpoint_of_torch(tmp_path: Path, name: str, generation: int) -> None:
    cfg = SIZES[name] | {"dropout": 0.1, "rope_theta": 10000.0}
    model, checkpoint = trained(cfg, generation)
    path = tmp_path / "best.pt"
    torch.save(checkpoint, path)
    ids = np.random.default_rng(7).integers(0, 256, cfg["T"]).tolist()
    with torch.no_grad():
        want = model(torch.tensor([ids]))[0].numpy()
    got = cacher.load(path).state(ids).logits(0)
    worst, largest = float(np.abs(got - want).max()), float(np.abs(want).max())
    print(f"\nniels{generation} {name:6} worst difference {worst:.2e}, largest logit {largest:.1f}")
    assert largest > 1, "logits this small would hide a mistake"
    assert worst <= TOLERANCE


@pytest.mark.parametrize("generation", [1, 2])
def test_what_torch_wrote_is_read(tmp_path: Path, generation: int) -> None:
    cfg = SIZES["small"] | {"rope_theta": 500.0}
    model, checkpoint = trained(cfg, generation)
    path = tmp_path / "best.pt"
    for dtype in (torch.float32, torch.float64, torch.float16, torch.bfloat16):
        state = {
            key: value.to(dtype) if value.is_floating_point() else value
            for key, value in model.state_dict().items()
        }
        torch.save(checkpoint | {"model_state": state}, path)
        found = read_checkpoint(path)
        assert found["generation"] == generation
        assert found["model_cfg"] == cfg
        assert found["train_cfg"] == checkpoint["train_cfg"]
        names = {key for key in state if not key.endswith(("rope_cos", "rope_sin", "mask"))}
        assert set(found["tensors"]) == names
        for key, (shape, numbers) in found["tensors"].items():
            assert shape == tuple(state[key].shape)
            np.testing.assert_array_equal(np.asarray(numbers), state[key].float().numpy())


def test_other_files_of_torch_are_refused(tmp_path: Path) -> None:
    model, checkpoint = trained(SIZES["small"] | {"rope_theta": 1e4}, 1)
    path = tmp_path / "best.pt"
    torch.save(model, path)  # the module itself: its classes are names to import
    with pytest.raises(cacher.UnsupportedModelError, match="is not imported"):
        cacher.load(path)
    torch.save(checkpoint, path, _use_new_zipfile_serialization=False)
    with pytest.raises(cacher.UnsupportedModelError, match="old file of torch"):
        cacher.load(path)
    torch.save(checkpoint, path, pickle_protocol=5)
    assert cacher.load(path).n_ctx == 48
