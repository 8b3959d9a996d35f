"""A process's mirror of a tenant's entries, as plain as can be."""

from __future__ import annotations

from cacher.semantic.entry import Entry
from cacher.semantic.store import Changes, EntryStore, Record, Write


def record(n: int, query: str | None = None, **changes: object) -> Record:
    """The n-th entry; what is given instead of its own."""
    values = {
        "entry_id": f"e-{n:016x}",
        "query": f"query {n}" if query is None else query,
        "response": f"response {n}",
        "timestamp": 1000.0 + n,
        "source": "template",
        "embedder": "minilm",
    }
    return Record(Entry(**{**values, **changes}), n.to_bytes(4, "little") * 8)  # type: ignore[arg-type]


class Mirror:
    """What a process knows of a tenant; with a bound, the oldest entries make room."""

    def __init__(self, store: EntryStore, tenant: str = "", bound: int = 10**9) -> None:
        self.store, self.tenant, self.bound = store, tenant, bound
        self.revision = 0
        self.records: dict[str, Record] = {}
        self.used: dict[str, float] = {}

    def apply(self, changes: Changes) -> None:
        if changes.whole:
            self.records.clear()
            self.used.clear()
        for entry_id in changes.removed:
            self.records.pop(entry_id, None)
            self.used.pop(entry_id, None)
        for each in changes.put:
            assert each.entry.entry_id not in self.records
            self.records[each.entry.entry_id] = each
        self.used |= changes.used
        self.revision = changes.revision

    def sync(self) -> Changes:
        changes = self.store.changes(self.tenant, self.revision)
        self.apply(changes)
        return changes

    def put(self, *records: Record) -> Changes:
        def decide(changes: Changes) -> Write:
            self.apply(changes)
            texts = {each.entry.query for each in records}
            old = [i for i, each in self.records.items() if each.entry.query not in texts]
            surplus = len(old) + len(texts) - self.bound
            return Write(records, old[:surplus] if surplus > 0 else [])

        changes = self.store.write(self.tenant, decide, self.revision)
        self.apply(changes)
        return changes

    def remove(self, *entry_ids: str) -> Changes:
        def decide(changes: Changes) -> Write:
            self.apply(changes)
            return Write(remove=entry_ids)

        changes = self.store.write(self.tenant, decide, self.revision)
        self.apply(changes)
        return changes

    def queries(self) -> list[str]:
        return [each.entry.query for each in self.records.values()]


def contents(store: EntryStore, tenant: str = "") -> list[Record]:
    """All entries of a tenant, oldest first."""
    changes = store.changes(tenant, 0)
    assert changes.whole
    return list(changes.put)
