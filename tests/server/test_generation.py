"""Generation over HTTP: checklist 32 to 52 and 61 to 81."""

from __future__ import annotations

import math
from typing import Any

import httpx
import pytest

import cacher
from tests.server.conftest import Api, over_socket


def test_32_to_34_a_continuation(api: Api) -> None:
    state_id = api.new()
    found = api.post("/generate/token", state_id=state_id, max_tokens=8)
    assert "".join(found["new_tokens"]) == found["text"]
    assert found["tokens"] == found["new_tokens"]
    lists = ("new_tokens", "token_ids", "probabilities", "logprobs")
    assert {len(found[name]) for name in lists} == {8}
    state = api.get(f"/states/{state_id}")
    assert state["text"] == "Hello world" + found["text"] == found["full_text"]
    assert state["head_position"] == state["token_count"] == found["head_position"] == 10
    for probability, logprob in zip(found["probabilities"], found["logprobs"], strict=True):
        assert probability == pytest.approx(math.exp(logprob), rel=1e-5)


def test_it_is_what_a_notebook_gives(api: Api, model: cacher.Model) -> None:
    found = api.post("/generate/token", state_id=api.new(), max_tokens=20, seed=9, top_k=7)
    state = model.state("Hello world")
    ours = state.generate(20, seed=9, top_k=7)
    assert (found["token_ids"], found["text"]) == (ours.token_ids, ours.text)
    assert found["probabilities"] == ours.probabilities  # to the bit: JSON loses none
    assert found["logprobs"] == ours.logprobs


def test_35_36_max_tokens(api: Api) -> None:
    state_id = api.new()
    for given in ({}, {"max_tokens": None}, {"max_tokens": 1.0}):
        found = api.post("/generate/token", state_id=state_id, **given)
        assert len(found["token_ids"]) == 1
        assert (found["finished"], found["finish_reason"]) == (False, None)
    for bad in (0, -1, 101, "5", 1.5, True, 2**63):
        api.refused(422, "validation_error", "/generate/token", state_id=state_id, max_tokens=bad)


def test_37_42_43_greedy(api: Api) -> None:
    texts = set()
    for sampling in (
        {"temperature": 0}, {"temperature": 0, "seed": 3, "top_p": 0.5},
        {"temperature": 0, "top_p": 1.0}, {"temperature": 2.5, "top_p": 0},
    ):  # fmt: skip
        found = api.post("/generate/token", state_id=api.new(), max_tokens=8, **sampling)
        texts.add(found["text"])
        if sampling["temperature"] == 0:
            assert found["seed"] is None
    config = {"temperature": 0}
    texts.add(api.post("/generate/token", state_id=api.new(config=config), max_tokens=8)["text"])
    assert len(texts) == 1


def test_38_to_41_seeds(api: Api) -> None:
    def drawn(state_id: str | None = None, n: int = 5, **sampling: Any) -> dict[str, Any]:
        found: dict[str, Any] = api.post(
            "/generate/token", state_id=state_id or api.new(), max_tokens=n, **sampling
        )
        return found

    assert drawn(seed=7)["text"] == drawn(seed=7)["text"]
    one_by_one = api.new()
    text = "".join(drawn(one_by_one, 1, seed=7)["text"] for _ in range(5))
    assert text == drawn(seed=7)["text"]
    first, second = drawn(seed=None, temperature=1.5), drawn(seed=None, temperature=1.5)
    assert first["seed"] != second["seed"]
    assert drawn(seed=first["seed"], temperature=1.5)["text"] == first["text"]
    five = [drawn(api.new(config={"seed": 5})) for _ in range(2)]
    assert five[0]["text"] == five[1]["text"]
    assert five[0]["seed"] == 5
    assert (
        drawn(api.new(config={"seed": None}))["seed"]
        != drawn(api.new(config={"seed": None}))["seed"]
    )


def test_44_to_46_stop_sequences(api: Api) -> None:
    greedy = api.post("/generate/token", state_id=api.new(), max_tokens=20, temperature=0)
    stop = "".join(greedy["new_tokens"][3:5])
    for how in ("request", "config"):
        config = {"stop_sequences": [stop]} if how == "config" else {}
        given = {"stop_sequences": ["zzz", stop]} if how == "request" else {}
        found = api.post(
            "/generate/token",
            state_id=api.new(config=config),
            max_tokens=20,
            temperature=0,
            **given,
        )
        assert stop in found["text"]
        assert found["text"] == "".join(greedy["new_tokens"][: len(found["new_tokens"])])
        assert (found["finished"], found["finish_reason"]) == (True, "stop_sequence")
        assert found["stop_sequence"] == stop
    found = api.post("/generate/token", state_id=api.new(), max_tokens=3, stop_sequences=["Hello"])
    assert found["finish_reason"] is None
    for bad in ([""], ["x"] * 17, ["x" * 257], "x", [1], ["x"] * 10_000):
        api.refused(422, "validation_error", "/generate/token", state_id="x", stop_sequences=bad)


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -0.1}, {"temperature": "hot"}, {"temperature": 10.5}, {"top_p": 1.1},
        {"top_p": True}, {"seed": -1}, {"seed": 2**63}, {"seed": "1"}, {"top_k": 1001},
        {"min_p": 2}, {"no_repeat_ngram_size": 11}, {"max_time_ms": 0}, {"state_id": 5},
        {"min_tokens": 2, "max_tokens": 1}, {"temperature_schedule": {"start": 1}},
        {"temperature_schedule": {"start": 1, "end": 11}}, {"state_id": None},
    ],
)  # fmt: skip
def test_47_values_that_are_refused(api: Api, bad: dict[str, Any]) -> None:
    api.refused(422, "validation_error", "/generate/token", **{"state_id": "x", **bad})


def test_48_52_null_and_unknown_fields(api: Api) -> None:
    names = (
        "max_tokens", "temperature", "top_p", "seed", "stop_sequences", "stream", "top_k", "min_p",
        "no_repeat_ngram_size", "min_tokens", "max_time_ms", "temperature_schedule",
        "adaptive_top_p", "adaptive_top_k",
    )  # fmt: skip
    nulls = dict.fromkeys(names)
    found = api.post("/generate/token", state_id=api.new(), unknown={"a": [1]}, **nulls)
    assert len(found["token_ids"]) == 1


def test_49_unknown_states(api: Api) -> None:
    for path in ("/generate/token", "/generate/multi", "/generate/beam"):
        refusal = api.refused(404, "state_not_found", path, state_id="nobody")
        assert "nobody" in refusal["detail"]
    api.refused(404, "state_not_found", "/forward", state_id="nobody", text_input="x")
    api.refused(404, "state_not_found", "/generate", state_id="nobody")


def test_50_a_full_state(api: Api) -> None:
    state_id = api.new(config={"context_size": 3})
    found = api.post("/generate/token", state_id=state_id, max_tokens=5)
    assert (len(found["token_ids"]), found["finish_reason"]) == (1, "context_length")
    found = api.post("/generate/token", state_id=state_id, max_tokens=5)
    assert (found["text"], found["finish_reason"]) == ("", "context_length")
    assert found["finished"]
    (line,) = api.lines("/generate/token", state_id=state_id, max_tokens=5, stream=True)
    assert (line["token"], line["step"], line["finish_reason"]) == ("", 1, "context_length")


def test_51_probabilities_agree_with_token_analysis(api: Api) -> None:
    state_id = api.new()
    found = api.post("/generate/token", state_id=state_id, max_tokens=6)
    tokens = api.get(f"/analysis/tokens/{state_id}")["tokens"][2:]
    for token, logprob in zip(tokens, found["logprobs"], strict=True):
        assert token["logprob"] == pytest.approx(logprob, abs=1e-4)


def test_controls_of_generation(api: Api, model: cacher.Model) -> None:
    given = {
        "temperature_schedule": {"start": 2.0, "end": 0.1}, "adaptive_top_p": True, "top_k": 9,
        "adaptive_top_k": True, "min_p": 0.01, "no_repeat_ngram_size": 2, "min_tokens": 4,
    }  # fmt: skip
    found = api.post("/generate/token", state_id=api.new(), max_tokens=12, seed=3, **given)
    ours = model.state("Hello world").generate(12, seed=3, **given)
    assert found["token_ids"] == ours.token_ids


def test_61_to_63_multi(api: Api) -> None:
    state_id = api.new()
    before = api.get(f"/states/{state_id}")
    found = api.post("/generate/multi", state_id=state_id, n=3, max_tokens=4, seed=9)
    assert [one["stream_index"] for one in found["continuations"]] == [0, 1, 2]
    assert found["seed"] == 9
    assert api.get(f"/states/{state_id}") == before
    single = api.post("/generate/token", state_id=api.new(), max_tokens=4, seed=9)
    assert found["continuations"][0]["token_ids"] == single["token_ids"]
    assert len({one["text"] for one in found["continuations"]}) > 1
    same = api.post("/generate/multi", state_id=state_id, max_tokens=4, temperature=0)
    assert len({one["text"] for one in same["continuations"]}) == 1
    for n in (0, 33):
        api.refused(422, "validation_error", "/generate/multi", state_id=state_id, n=n)


def test_64_65_both_forms_of_beams(http: Any) -> None:
    plain, versioned = Api(http, "", ""), Api(http, "/v1", "")
    body = {"state_id": plain.new(), "num_beams": 3, "max_length": 6}
    u, v = plain.post("/generate/beam", **body), versioned.post("/generate/beam", **body)
    assert [beam["text"] for beam in u["beams"]] == v["beams"]
    assert u["beams"] == u["beam_details"] == v["beam_details"]
    assert u["texts"] == v["texts"] == ["Hello world" + text for text in v["beams"]]
    assert len(u["beams"]) == 3


def test_66_to_71_beams(api: Api) -> None:
    state_id = api.new("Hello world, it was a fine day and all the world was out to see")
    before = api.get(f"/states/{state_id}")

    def search(**body: Any) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = api.post("/generate/beam", state_id=state_id, **body)[
            "beam_details"
        ]
        return found

    beams = search(num_beams=4, max_length=6)
    assert beams == search(num_beams=4, max_length=6)
    scores = [beam["score"] for beam in beams]
    assert scores == sorted(scores, reverse=True)
    for beam in beams:
        length = len(beam["token_ids"]) + (beam["finish_reason"] == "eos")
        assert beam["score"] == pytest.approx(beam["logprob"] / length)
        assert 0 < len(beam["token_ids"]) <= 6
    assert len({tuple(beam["token_ids"]) for beam in beams}) == 4
    (one,) = search(num_beams=1, max_length=6)
    fork = api.post(f"/states/{state_id}/fork")["state_id"]
    greedy = api.post("/generate/token", state_id=fork, max_tokens=6, temperature=0)
    assert one["token_ids"] == greedy["token_ids"]
    for penalty in ({}, {"diversity_penalty": None}, {"diversity_penalty": 0.5}):
        assert len(search(num_beams=2, max_length=3, **penalty)) == 2
    diverse = search(num_beams=3, max_length=4, diversity_penalty=100)
    assert len({beam["token_ids"][0] for beam in diverse}) == 3
    uneven = search(num_beams=5, max_length=4, diverse_groups=2, length_penalty=0.8)
    assert len(uneven) == 5
    assert api.get(f"/states/{state_id}") == before
    short = api.new("Hello world", config={"context_size": 5})
    ends = api.post("/generate/beam", state_id=short, num_beams=2, max_length=9)["beam_details"]
    assert [len(beam["token_ids"]) for beam in ends] == [3, 3]
    assert [(b["finished"], b["finish_reason"]) for b in ends] == [(True, "context_length")] * 2
    found = api.post(
        "/generate/beam", state_id=state_id, num_beams=2, max_length=3, include_trace=True
    )
    assert [step["step"] for step in found["trace"]] == [1, 2, 3]
    assert found["trace"][0]["beams"][0].keys() == {"group", "tokens", "logprob", "parent"}
    for bad in (
        {"num_beams": 0}, {"num_beams": 33}, {"max_length": 101}, {"diversity_penalty": -1},
        {"diverse_groups": 6}, {"length_penalty": 6}, {"early_stopping": "yes"},
    ):  # fmt: skip
        api.refused(422, "validation_error", "/generate/beam", state_id=state_id, **bad)


def test_72_to_78_forward(api: Api) -> None:
    found = api.post("/forward", text_input="Hello")
    assert (found["head_position"], found["token_count"]) == (1, 1)
    again = api.post("/forward", text_input=" world", state_id=found["state_id"])
    assert (again["state_id"], again["head_position"]) == (found["state_id"], 2)
    assert again.keys() == {"state_id", "head_position", "token_count"}
    assert api.get(f"/states/{found['state_id']}")["text"] == "Hello world"
    final = api.post("/forward", text_input="Hello", return_final_token_info=True)
    assert final["token_info"]["token"] == "Hello"
    everything = api.post("/forward", text_input="Hello world", return_all_tokens_info=True)
    assert [info["token"] for info in everything["tokens_info"]] == ["Hello", " world"]
    lines = api.lines("/forward", text_input="Hello world", stream_tokens_info=True)
    assert [line["token_info"]["token"] for line in lines] == ["Hello", " world"]
    assert [line["finished"] for line in lines] == [False, True]
    assert [line["head_position"] for line in lines] == [1, 2]
    found = api.post(
        "/forward", text_input="Hello world", return_logits=True, return_top_logprobs=2,
        return_entropy=True,
    )  # fmt: skip
    info = found["token_info"]
    assert len(info["logits"]) == 4096
    assert info["entropy"] >= 0
    assert info["distribution"] == "next_token"
    top = api.get(f"/states/{found['state_id']}/top_tokens", n=2)["tokens"]
    assert [one["token_id"] for one in info["top_logprobs"]] == [one["token_id"] for one in top]
    for mine, theirs in zip(info["top_logprobs"], top, strict=True):
        assert mine["logprob"] == pytest.approx(theirs["logprob"], abs=1e-5)


def test_forward_what_is_pending_or_too_much(api: Api) -> None:
    state_id = api.new()
    assert api.post("/forward", state_id=state_id, text_input="")["head_position"] == 2
    api.refused(400, "empty_input", "/forward", text_input="")
    api.refused(422, "validation_error", "/forward", text_input=None)
    before = api.get(f"/states/{state_id}")
    refusal = api.refused(
        400, "context_overflow", "/forward", state_id=state_id, text_input="word " * 1100
    )
    assert "1024" in refusal["detail"]
    assert api.get(f"/states/{state_id}") == before


def test_76_77_more_logits_than_a_response_holds() -> None:
    with (
        over_socket(MAX_RESPONSE_VALUES=3 * 4096) as address,
        httpx.Client(base_url=address, timeout=60) as http,
    ):
        api = Api(http, "", "")
        state_id = api.new()
        before = api.get(f"/states/{state_id}")
        body = {"state_id": state_id, "text_input": " the" * 7, "return_logits": True}
        for path in ("/forward", "/generate"):
            every = {**body, "return_all_tokens_info": True}
            api.refused(400, "response_too_large", path, **every)
        assert api.get(f"/states/{state_id}") == before
        lines = api.lines("/forward", **body, stream_tokens_info=True)
        assert [line["step"] for line in lines] == [1, 2, 3, 4, 5, 6, 7]
        assert [line["head_position"] for line in lines] == [3, 4, 5, 6, 7, 8, 9]
        assert [line["finished"] for line in lines] == [False] * 6 + [True]
        assert {len(line["token_info"]["logits"]) for line in lines} == {4096}


def test_79_to_81_generate(api: Api) -> None:
    found = api.post("/generate", text_input="Hello world", max_new_tokens=5)
    assert found["generated_text"] == found["text"] == "".join(found["new_tokens"])
    assert found["head_position"] == 7
    assert found["full_text"] == "Hello world" + found["text"]
    assert "generated_token_info" not in found
    again = api.post("/generate", state_id=found["state_id"], max_new_tokens=2)
    assert (again["state_id"], again["head_position"]) == (found["state_id"], 9)
    assert api.get(f"/states/{found['state_id']}")["text"] == again["full_text"]
    api.refused(400, "missing_input", "/generate")
    api.refused(422, "validation_error", "/generate", text_input="x", max_new_tokens=101)
    found = api.post(
        "/generate", text_input="Hello world", max_new_tokens=2, return_all_tokens_info=True,
        return_entropy=True, return_top_logprobs=3,
    )  # fmt: skip
    infos = found["generated_tokens_info"]
    assert [info["token"] for info in infos] == found["new_tokens"]
    assert infos[-1] == found["generated_token_info"]
    assert [info["probability"] for info in infos] == pytest.approx(found["probabilities"])
    assert {info["distribution"] for info in infos} == {"this_token"}
    assert len(infos[0]["top_logprobs"]) == 3


@pytest.mark.parametrize("flag", ["stream", "stream_tokens_info"])
def test_81_generate_streams(api: Api, flag: str) -> None:
    body = {"text_input": "Hello world", "max_new_tokens": 3, "config": {"seed": 4}}
    plain = api.post("/generate", **body, return_all_tokens_info=True, return_entropy=True)
    lines = api.lines("/generate", **body, return_entropy=True, **{flag: True})
    assert [line["token"] for line in lines] == plain["new_tokens"]
    assert api.get(f"/states/{lines[0]['state_id']}")["text"] == plain["full_text"]
    for line, info in zip(lines, plain["generated_tokens_info"], strict=True):
        assert line["token_info"]["entropy"] == pytest.approx(info["entropy"], abs=1e-5)
    lines = api.lines("/generate", **body, return_logits=True, return_top_logprobs=7, stream=True)
    assert [len(line["token_info"]["logits"]) for line in lines] == [4096] * 3
    assert [len(line["token_info"]["top_logprobs"]) for line in lines] == [7] * 3


def test_a_request_is_one_change_of_the_state(api: Api) -> None:
    for path in ("/generate", "/forward"):
        made = api.post(path, text_input="Hello world")
        state = api.get(f"/states/{made['state_id']}")
        assert (state["revision"], state["metadata"]["text"]) == (2, "Hello world")
        api.post(path, state_id=state["state_id"], text_input=" and")
        events = api.get(f"/states/{state['state_id']}/history")["events"]
        assert [event["op"] for event in events] == ["create", path[1:], path[1:]]
        assert [event["revision"] for event in events] == [1, 2, 3]
        assert (events[0]["token_count"], events[0]["head_position"]) == (2, 0)


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_that_is_refused_changes_nothing(api: Api, stream: bool) -> None:
    state_id = api.new()
    before = api.get(f"/states/{state_id}")
    body = {"state_id": state_id, "text_input": " and", "stream": stream, "max_new_tokens": 3}
    for bad in ({"min_tokens": 4}, {"adaptive_top_k": True}):
        api.refused(422, "validation_error", "/generate", **body, **bad)
    long = {**body, "text_input": " word" * 5000, "stream_tokens_info": stream}
    for path in ("/generate", "/forward"):
        api.refused(400, "context_overflow", path, **long)
    assert api.get(f"/states/{state_id}") == before
    total = api.get("/states")["total"]
    api.refused(422, "validation_error", "/generate", text_input="x", adaptive_top_k=True)
    assert api.get("/states")["total"] == total


def test_limits_come_from_the_settings() -> None:
    import asyncio

    from tests.server.conftest import in_memory

    async def run() -> None:
        async with in_memory(MAX_TOKENS_PER_REQUEST=7, DEFAULT_SEED=5) as http:
            document = (await http.get("/openapi.json")).json()
            schemas = document["components"]["schemas"]
            assert schemas["GenerateToken"]["properties"]["max_tokens"]["anyOf"][0]["maximum"] == 7
            state = (await http.post("/states", json={"model_id": "tales", "text": "a"})).json()
            body = {"state_id": state["state_id"]}
            assert state["config"]["seed"] == 5
            for path, name in (
                ("/generate/token", "max_tokens"), ("/generate", "max_new_tokens"),
                ("/generate/beam", "max_length"),
            ):  # fmt: skip
                assert (await http.post(path, json={**body, name: 7})).status_code == 200
                assert (await http.post(path, json={**body, name: 8})).status_code == 422
            found = await http.post("/generate", json=body)
            assert len(found.json()["token_ids"]) == 7

    asyncio.run(run())


def test_a_full_context_slides_when_asked_to(api: Api, model: cacher.Model) -> None:
    config = {"context_size": 12, "context_strategy": "slide", "seed": 3}
    state_id = api.new(config=config)
    ours = model.state("Hello world", config=config).generate(40)
    found = api.post("/generate/token", state_id=state_id, max_tokens=40)
    assert (found["token_ids"], found["dropped_tokens"]) == (ours.token_ids, ours.dropped_tokens)
    assert (found["finished"], found["head_position"]) == (False, 42)
    assert api.get(f"/states/{state_id}")["config"]["context_strategy"] == "slide"
    assert "dropped_tokens" not in api.post("/generate/token", state_id=api.new(), max_tokens=2)
    tokens = api.get(f"/analysis/tokens/{state_id}")["tokens"]
    assert [token["logprob"] for token in tokens[2:]] == pytest.approx(found["logprobs"], abs=1e-4)
    options = {"state_id": api.new(config=config), "max_tokens": 40, "stream": True}
    streamed = api.lines("/generate/token", **options)
    assert [record["token_id"] for record in streamed] == found["token_ids"]
