"""Analysis: what a state's tokens, attention heads, keys and values, and vectors are worth.

All read-only: no field of the state changes, though the model may have to run.  Defaults and names
are those of the HTTP routes.  What computes the answers is imported when it is first asked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cacher.checks import number
from cacher.looking import Looking

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cacher.attention import AttentionAnalysis, HeadImportance
    from cacher.kv import CacheFormat, CacheInspection
    from cacher.tokeninfo import Distribution, TokenInfo
    from cacher.tokens import TokenAnalysis
    from cacher.vectors import Embedding, EmbeddingKind

MAX_STORED_LOGITS = 16_777_216  # numbers of whole logit vectors
MAX_ATTENTION_TOKENS = 512
MAX_ATTENTION_HEADS = 12
MAX_VALUES = 2_000_000  # numbers of a result


class Analysis(Looking):
    """The analysing half of `cacher.State`."""

    __slots__ = ()

    def analyze_tokens(
        self,
        *,
        include_logits: bool = False,
        top: int = 0,
        ngrams: int = 0,
        histogram: bool = False,
        correlation: bool = False,
        max_stored_logits: int = MAX_STORED_LOGITS,
    ) -> TokenAnalysis:
        """Return how the model judges each token, in one pass at most.

        Args:
            include_logits: Give each token the logits stored for the prediction after it, as the
                state's ``store_logits`` and ``top_k_logits`` say; only tokens that were consumed.
            top: Likeliest tokens at each position, 0 to 100; capped at the vocabulary size.
            ngrams: Count the n-grams of this size, 2 to 5; 0 is off.
            histogram: Count the tokens by probability.
            correlation: Correlate log-probabilities.
            max_stored_logits: With ``store_logits`` ``"full"``: numbers at most; the last tokens'
                logits are given.

        Example:
            >>> import cacher
            >>> found = cacher.load("tales").state("Hello world").analyze_tokens()
            >>> [token.text for token in found.tokens], found.token_count
            (['Hello', ' world'], 2)
        """
        from cacher.tokens import analyze

        return analyze(self, include_logits, top, ngrams, histogram, correlation, max_stored_logits)

    def token_info(
        self,
        first: int = 0,
        n: int | None = None,
        *,
        distribution: Distribution = "next_token",
        logits: bool = False,
        top_logprobs: int = 0,
        entropy: bool = False,
        max_logits: int = MAX_STORED_LOGITS,
    ) -> list[TokenInfo]:
        """Return what is known of tokens; what is stored is read, the rest takes one pass.

        Args:
            first: First token.
            n: Tokens; None is all from `first`.
            distribution: Which one `logits`, `top_logprobs` and `entropy` describe:
                ``"next_token"``: the prediction after each token, as after a forward pass;
                ``"this_token"``: the one each token was chosen from, as after a generation.
            logits: Give the whole vector of it.
            top_logprobs: Give its likeliest tokens, 0 to 100; capped at the vocabulary size.
            entropy: Give its entropy.
            max_logits: Numbers that `logits` may give at most.

        Raises:
            ParameterError: A value is out of range.
            ResponseTooLargeError: Over `max_logits`.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("Once upon a").forward()
            >>> [info] = state.token_info(2, top_logprobs=1)
            >>> info.token, info.top_logprobs[0].token
            (' a', ' time')
        """
        from cacher.tokeninfo import infos

        return infos(self, first, n, distribution, logits, top_logprobs, entropy, max_logits)

    def analyze_attention(
        self,
        layer: int | None = None,
        head: int | None = None,
        *,
        threshold: float = 0.0,
        normalize: bool = True,
        renormalize: bool = False,
        position_range: Sequence[int] | None = None,
        per_layer: bool = False,
        per_head: bool = False,
        max_tokens: int = MAX_ATTENTION_TOKENS,
        max_heads: int = MAX_ATTENTION_HEADS,
        max_values: int = MAX_VALUES,
    ) -> AttentionAnalysis:
        """Return attention among tokens: of a head, or the mean over heads, layers or both.

        Args:
            layer: 0 to n_layers - 1; None is the mean over all layers.
            head: 0 to n_heads - 1; None is the mean over all heads.
            threshold: Entries up to it become 0, larger ones keep their value; 0 to 1.
            normalize: Divide each row of the selection by its sum; without it a selection that
                does not begin at the first token has rows that sum to less than 1.
            renormalize: Divide rows by their sums again, after the threshold.
            position_range: First and last selected token, both included; the last is clipped.
            per_layer: Give `attention_patterns` one entry for each layer of the mean.
            per_head: And one for each head of the mean, at most `max_heads`.
            max_tokens: Selected tokens at most.
            max_heads: Heads that `per_head` lists, those of the lowest indices.
            max_values: Numbers in `attention_patterns` at most.

        Raises:
            EmptyStateError: The state holds no tokens.
            LayerOutOfRangeError, HeadOutOfRangeError: The model has no such layer or head.
            TokenIndexOutOfRangeError: The selection begins behind the last token.
            ResponseTooLargeError: Over `max_tokens` or `max_values`.
            ParameterError: Another value is out of range.

        Example:
            >>> import cacher
            >>> found = cacher.load("tales").state("Hello world").analyze_attention(layer=5)
            >>> found.tokens, found.attention_pattern.shape
            (['Hello', ' world'], (2, 2))
        """
        from cacher.attention import analyze

        return analyze(
            self,
            layer,
            head,
            threshold,
            normalize,
            renormalize,
            position_range,
            per_layer,
            per_head,
            max_tokens,
            max_heads,
            max_values,
        )

    def head_importance(self, layer: int | None = None) -> list[HeadImportance]:
        """Return how focused each head is, layer after layer.

        Args:
            layer: 0 to n_layers - 1; None is all layers.

        Raises:
            EmptyStateError: The state holds no tokens.
            LayerOutOfRangeError: The model has no such layer.

        Example:
            >>> import cacher
            >>> heads = cacher.load("tales").state("Once upon a time").head_importance(0)
            >>> len(heads), all(0 <= head.importance <= 1 for head in heads)
            (8, True)
        """
        from cacher.attention import importances

        return importances(self, layer)

    def attention_heatmap(
        self,
        layer: int | None = None,
        head: int | None = None,
        threshold: float = 0.0,
        *,
        position_range: Sequence[int] | None = None,
        max_tokens: int = MAX_ATTENTION_TOKENS,
    ) -> str:
        """Return a page that shows attention as a map to explore: HTML that needs no network.

        Args:
            layer: As of `analyze_attention`, as are the others.
            head: None is the mean over all heads.
            threshold: Where the page's slider begins.
            position_range: First and last selected token.
            max_tokens: Selected tokens at most.

        Raises:
            As `analyze_attention`.

        Example:
            >>> import cacher
            >>> page = cacher.load("tales").state("Hello world").attention_heatmap(layer=0)
            >>> page.splitlines()[0]
            '<!DOCTYPE html>'
        """
        from cacher.heatmap import page

        found = self.analyze_attention(
            layer, head, position_range=position_range, max_tokens=max_tokens
        )
        both_ways = self.model.model_type == "encoder"
        return page(found, self.model.name, number("threshold", threshold, 0.0, 1.0), both_ways)

    def inspect_cache(
        self,
        key_name: str | None = None,
        layer_range: Sequence[int] | None = None,
        *,
        layer: int | None = None,
        head: int | None = None,
        position_range: Sequence[int] | None = None,
        format: CacheFormat = "object",  # noqa: A002 - the name it has everywhere
        max_values: int = MAX_VALUES,
    ) -> CacheInspection:
        """Return keys and values of the state's tokens: those of a fresh forward pass.

        Args:
            key_name: ``"k"``, ``"key"``, ``"keys"``; ``"v"``, ``"value"``, ``"values"``;
                ``"all"``, ``"kv"`` or None for both.  Any other name finds nothing.
            layer_range: First and last layer, both included; the last is clipped.  None is all.
            layer: One layer, inside of `layer_range` where that is given.
            head: 0 to n_kv_heads - 1; None is all.
            position_range: First and last token, both included; the last is clipped.
            format: ``"object"``: means over positions, and statistics; ``"list"``: the numbers.
            max_values: Numbers in the result at most.

        Raises:
            EmptyStateError: The state holds no tokens.
            LayerOutOfRangeError, HeadOutOfRangeError: There is no such layer or head.
            TokenIndexOutOfRangeError: The selection begins behind the last token.
            ResponseTooLargeError: Over `max_values`.
            ParameterError: Another value is out of range.

        Example:
            >>> import cacher
            >>> state = cacher.load("tales").state("Hello world")
            >>> state.inspect_cache("k", layer=0, format="list").shape
            (4, 2, 32)
        """
        from cacher.kv import inspect

        return inspect(self, key_name, layer_range, layer, head, position_range, format, max_values)

    def embedding(
        self,
        token_index: int | None = None,
        *,
        kind: EmbeddingKind = "hidden",
        layer: int | None = None,
    ) -> Embedding:
        """Return a vector for one token, or the mean over all.

        Args:
            token_index: One token, negative from the end; None is the mean over all tokens.
            kind: ``"hidden"``: hidden states; ``"input"``: rows of the embedding table.
            layer: For hidden states: 0 (input of the first layer) to n_layers (output of the
                last); None: after the final norm.

        Raises:
            EmptyStateError: The state holds no tokens.
            TokenIndexOutOfRangeError: There is no such token.
            LayerOutOfRangeError: There is no such layer.
            ParameterError: Another kind, or a layer of ``"input"``.

        Example:
            >>> import cacher
            >>> found = cacher.load("tales").state("Hello world").embedding(-1)
            >>> found.token, found.dimension
            (' world', 256)
        """
        from cacher.vectors import embed

        return embed(self, token_index, kind, layer)
