"""Beam search against transformers' generate: sequences and scores of 100 prompts.

Random models with a small vocabulary, so that EOS really fires.  Where the two disagree, a plain
float64 search over transformers' own logits says how small the gap was that some decision hung on:
below 1e-5 it is a near-tie of float32 rounding, printed and accepted; anything else fails.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import cacher  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from reference import beam as reference  # noqa: E402

pytestmark = pytest.mark.parity

NEAR_TIE = 1e-5
VOCAB, EOS, MAX_TOKENS, PROMPTS = 67, 5, 14, 50
Found = tuple[list[int], float]


def make_model(family: str, folder: Path) -> Any:
    """Return a random model with peaked predictions, saved to the folder."""
    torch.manual_seed(11)
    shape: dict[str, Any] = {
        "vocab_size": VOCAB,
        "bos_token_id": 1,
        "eos_token_id": EOS,
        "initializer_range": 0.35,
        "tie_word_embeddings": False,
    }
    if family == "gpt2":
        config = transformers.GPT2Config(n_embd=48, n_layer=2, n_head=4, n_positions=128, **shape)
    else:
        config = transformers.LlamaConfig(
            hidden_size=48,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            max_position_embeddings=128,
            **shape,
        )
    model = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model = model.float().eval()
    with torch.no_grad():
        model.get_output_embeddings().weight[EOS] *= 2.5  # its logit is large now and then
    model.save_pretrained(folder)
    return model


@pytest.fixture(scope="module", params=["gpt2", "llama"])
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, cacher.Model]:
    folder = tmp_path_factory.mktemp(request.param)
    return make_model(request.param, folder), cacher.load(str(folder), threads=1)


def prompts() -> list[list[int]]:
    rng = np.random.default_rng(5)
    return [rng.integers(6, VOCAB, rng.integers(1, 24)).tolist() for _ in range(PROMPTS)]


def theirs(model: Any, prompt: list[int], settings: dict[str, Any]) -> list[Found]:
    """Return the new tokens, cut behind EOS, and the score of each sequence."""
    with torch.no_grad():
        out = model.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=MAX_TOKENS,
            num_return_sequences=settings["num_beams"],
            return_dict_in_generate=True,
            output_scores=True,
            pad_token_id=0,
            eos_token_id=EOS,
            **settings,
        )
    found = []
    for row, score in zip(out.sequences, out.sequences_scores, strict=True):
        tokens = row[len(prompt) :].tolist()
        end = tokens.index(EOS) + 1 if EOS in tokens else MAX_TOKENS
        found.append((tokens[:end], float(score)))
    return found


def ours(model: cacher.Model, prompt: list[int], settings: dict[str, Any]) -> list[Found]:
    ours_call_it = {"min_new_tokens": "min_tokens"}
    options = {ours_call_it.get(name, name): value for name, value in settings.items()}
    beams = model.state(prompt).beam(max_tokens=MAX_TOKENS, **options)
    end = {"eos": [EOS]}
    return [([*b.token_ids, *end.get(b.finish_reason or "", [])], b.score) for b in beams]


def decision_gap(model: Any, prompt: list[int], settings: dict[str, Any]) -> float:
    plain = dict(settings)
    least = plain.pop("min_new_tokens", 0)

    def logprobs(sequences: list[list[int]]) -> NDArray[np.float64]:
        with torch.no_grad():
            logits = model(torch.tensor([prompt + tokens for tokens in sequences])).logits[:, -1]
        rows = np.asarray(torch.log_softmax(logits.double(), -1).numpy())
        rows[[len(tokens) < least for tokens in sequences], EOS] = -1e9
        return rows

    return reference.search(logprobs, max_tokens=MAX_TOKENS, eos=EOS, **plain)[1]


@pytest.mark.parametrize("early_stopping", [True, False, "never"])
@pytest.mark.parametrize("length_penalty", [0.5, 1.0, 2.0])
def test_sequences_and_scores(
    pair: tuple[Any, cacher.Model], length_penalty: float, early_stopping: bool | str
) -> None:
    torch_model, model = pair
    n, by_eos, worst, ties = 0, 0, 0.0, 0
    for i, prompt in enumerate(prompts()):
        settings = {
            "num_beams": 2 + i % 4,
            "length_penalty": length_penalty,
            "early_stopping": early_stopping,
        }
        want, got = theirs(torch_model, prompt, settings), ours(model, prompt, settings)
        n += len(want)
        by_eos += sum(tokens[-1] == EOS for tokens, _ in want)
        if [tokens for tokens, _ in got] == [tokens for tokens, _ in want]:
            worst = max(worst, *(abs(a - b) for (_, a), (_, b) in zip(got, want, strict=True)))
            continue
        gap = decision_gap(torch_model, prompt, settings)
        ties += 1
        print(f"prompt {i} {prompt}, {settings}: ours {got}, theirs {want}")
        print(f"  near-tie: a decision hung on {gap:.1e}")
        assert gap < NEAR_TIE
    print(f"{PROMPTS} prompts, {n} sequences, {by_eos} of them ended by EOS")
    print(f"worst score difference {worst:.1e}, {ties} near-ties")
    assert worst < 1e-4
    assert by_eos > n // 10, "EOS must fire for this to test anything"
    assert ties <= PROMPTS // 10


def test_min_tokens_is_min_new_tokens(pair: tuple[Any, cacher.Model]) -> None:
    torch_model, model = pair
    delayed = 0
    for i, prompt in enumerate(prompts()[:20]):
        settings = {"num_beams": 2 + i % 3, "length_penalty": 1.0, "early_stopping": True}
        free = theirs(torch_model, prompt, settings)
        settings["min_new_tokens"] = 3 + i % 6
        want, got = theirs(torch_model, prompt, settings), ours(model, prompt, settings)
        delayed += want != free
        if [tokens for tokens, _ in got] == [tokens for tokens, _ in want]:
            assert max(abs(a - b) for (_, a), (_, b) in zip(got, want, strict=True)) < 1e-4
        else:
            assert decision_gap(torch_model, prompt, settings) < NEAR_TIE
    assert delayed > 5, "EOS must be put off for this to test anything"
