"""A process with a cache whose store is shared; it does what lines of JSON tell it.

python -m tests.semantic.sharing WHERE FOLDER CLAIM_S

{"put": [query, response]}, {"get": query}, {"ask": [queries]} (all at once), {"size": null}: each
is answered by a line of JSON.  To generate, it appends a line to FOLDER/generated and waits while
there is FOLDER/wait.
"""

from __future__ import annotations

import json
import os
import sys
import time
from concurrent.futures import ThreadPoolExecutor

from cacher import SemanticCache
from cacher.semantic import shelf


def main(where: str, folder: str, claim_s: float) -> None:
    shelf.CLAIM_S = claim_s
    cache = SemanticCache("minilm", store=where, max_cache_size=50)
    log = os.path.join(folder, "generated")
    cache.look("warm")

    def generate(query: str) -> str:
        with open(log, "a") as file:
            file.write(f"{os.getpid()} {query}\n")
        while os.path.exists(os.path.join(folder, "wait")):
            time.sleep(0.005)
        return f"answer of {os.getpid()}"

    def ask(query: str) -> tuple[str, bool]:
        answer = cache.query(query, generate)
        return answer.response, answer.cache_hit

    print(json.dumps(os.getpid()), flush=True)
    for line in sys.stdin:
        (verb, value), = json.loads(line).items()  # fmt: skip
        result: object = None
        if verb == "put":
            result = cache.put(*value).entry_id
        elif verb == "get":
            hit = cache.get(value)
            result = hit and [hit.entry.response, hit.similarity]
        elif verb == "ask":
            with ThreadPoolExecutor(len(value)) as threads:
                result = list(threads.map(ask, value))
        elif verb == "size":
            result = cache.stats().cache_size
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
