"""llama.cpp through llama-cpp-python: batches of several sequences, filled in place.

It has no search by beams of its own; the one here keeps beams as sequences of one memory, where a
copy of a beam shares its cells.
"""

from __future__ import annotations

import ctypes
import time

import llama_cpp as api
import numpy as np

from engines import Engine, Timed, likeliest

KV = {"f32": api.GGML_TYPE_F32}  # for what is not named here: f16, the default
TOKENS = 640  # of one sequence at most
SHORT = 128  # of one of several
UBATCH = 512


@api.llama_log_callback
def _silent(_level: int, _text: bytes, _data: ctypes.c_void_p) -> None:
    """Keep it from writing what it loads."""


class Context:
    """Sequences of a model, and the batch that is written and read again and again."""

    def __init__(self, model: int, dtype: str, threads: int, n_seqs: int, unified: bool) -> None:
        params = api.llama_context_default_params()
        params.n_ctx = n_seqs * SHORT if n_seqs > 1 else TOKENS
        params.n_batch = params.n_ubatch = UBATCH
        params.n_seq_max, params.kv_unified = n_seqs, unified
        params.n_threads = params.n_threads_batch = threads
        params.type_k = params.type_v = KV.get(dtype, params.type_k)
        params.no_perf = True
        self._context = api.llama_init_from_model(model, params)
        if self._context is None:
            raise RuntimeError(f"llama.cpp makes no context of {n_seqs} sequences")
        self.memory = api.llama_get_memory(self._context)
        self._vocab = api.llama_vocab_n_tokens(api.llama_model_get_vocab(model))
        self._batch = api.llama_batch_init(UBATCH, 0, 1)
        arrays = (self._batch.token, self._batch.pos, self._batch.n_seq_id, self._batch.logits)
        self._token, self._pos, n_seq_id, self._wanted = (
            np.ctypeslib.as_array(array, (UBATCH,)) for array in arrays
        )
        n_seq_id[:] = 1

    def run(
        self, tokens: np.ndarray, pos: np.ndarray, seqs: np.ndarray, wanted: np.ndarray | bool
    ) -> np.ndarray:
        """Read tokens [n]; return logits [wanted, vocab]: a view, good until the next call."""
        n = len(tokens)
        self._batch.n_tokens = n
        self._token[:n], self._pos[:n], self._wanted[:n] = tokens, pos, wanted
        for i, seq in enumerate(seqs.tolist()):
            self._batch.seq_id[i][0] = seq
        status = api.llama_decode(self._context, self._batch)
        if status != 0:
            raise RuntimeError(f"llama_decode gives {status}")
        rows = int(self._wanted[:n].sum())
        return np.ctypeslib.as_array(api.llama_get_logits(self._context), (rows, self._vocab))

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Read prompts [rows, n] into empty sequences; return the logits [rows, vocab] after."""
        rows, n = ids.shape
        pos = np.tile(np.arange(n), rows)
        return self.run(ids.ravel(), pos, np.repeat(np.arange(rows), n), pos == n - 1)

    def clear(self) -> None:
        api.llama_memory_clear(self.memory, False)

    def copy(self, source: int, target: int) -> None:
        api.llama_memory_seq_cp(self.memory, source, target, -1, -1)

    def drop(self, seq: int) -> None:
        api.llama_memory_seq_rm(self.memory, seq, -1, -1)


class LlamaCpp(Engine):
    def __init__(self, path: str, dtype: str, threads: int) -> None:
        api.llama_log_set(_silent, None)
        api.llama_backend_init()
        self.model = api.llama_model_load_from_file(path.encode(), api.llama_model_default_params())
        if self.model is None:
            raise RuntimeError(f"llama.cpp does not load {path}")
        self._dtype, self._threads = dtype, threads
        self._contexts: dict[tuple[int, bool], Context] = {}

    def _empty(self, n_seqs: int = 1, unified: bool = False) -> Context:
        key = n_seqs, unified
        if key not in self._contexts:
            self._contexts[key] = Context(self.model, self._dtype, self._threads, *key)
        self._contexts[key].clear()
        return self._contexts[key]

    def logits(self, ids: np.ndarray) -> np.ndarray:
        return self._empty().read(ids[None])[0].copy()

    def prefill(self, ids: np.ndarray) -> Timed:
        context = self._empty()
        started = time.perf_counter()
        token = context.read(ids[None]).argmax()
        return Timed(time.perf_counter() - started, np.array([[token]]))

    def decode(self, ids: np.ndarray, tokens: int) -> Timed:
        rows, length = ids.shape
        context = self._empty(rows)
        seqs = np.arange(rows)
        made = [context.read(ids).argmax(1)]
        started = time.perf_counter()
        for step in range(tokens):
            pos = np.full(rows, length + step)
            made.append(context.run(made[-1], pos, seqs, True).argmax(1))
        return Timed(time.perf_counter() - started, np.stack(made, axis=1))

    def beam(self, ids: np.ndarray, tokens: int, beams: int) -> Timed:
        context = self._empty(2 * beams, unified=True)
        banks = np.arange(2 * beams).reshape(2, beams)  # the beams' sequences, and empty ones
        started = time.perf_counter()
        made = np.zeros((beams, 0), int)
        scores = np.full(beams, -np.inf)
        scores[0] = 0.0  # at first all beams are the prompt: only one counts
        logits = np.repeat(context.read(ids[None]), beams, axis=0)
        for other in banks[0, 1:].tolist():
            context.copy(0, other)
        for step in range(tokens):
            parents, chosen, scores = _best(logits, scores)
            made = np.concatenate([made[parents], chosen[:, None]], axis=1)
            if step + 1 == tokens:
                break
            if (parents != np.arange(beams)).any():
                for seq, parent in zip(banks[1].tolist(), parents.tolist(), strict=True):
                    context.copy(int(banks[0, parent]), seq)
                for seq in banks[0].tolist():
                    context.drop(seq)
                banks = banks[::-1]
            pos = np.full(beams, len(ids) + step)
            logits = context.run(chosen, pos, banks[0], True)
        return Timed(time.perf_counter() - started, made[scores.argmax()][None])


def _best(logits: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return parents, tokens and scores of the best continuations, as many as there are beams."""
    beams = len(scores)
    ids = likeliest(logits, beams)
    largest = logits.max(1, keepdims=True)
    sums = largest + np.log(np.exp(logits - largest).sum(1, keepdims=True))
    whole = (scores[:, None] + np.take_along_axis(logits, ids, axis=1) - sums).ravel()
    best = np.argsort(-whole)[:beams]
    return best // beams, ids.ravel()[best], whole[best]
