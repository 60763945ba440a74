"""Order, used as a partition's work uses it, against lines that are real lists.

The machine delivers, begins, ends, settles, spills, loads and crashes in any order. The model knows
what was delivered to which conversation; Redis is a dict of lists.
"""

from __future__ import annotations

from collections import defaultdict
from typing import NamedTuple

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from consumers.ordering import NOW_MS, Item, Order
from eventlog.ids import EntryId
from eventlog.vocabulary import MessageReceived
from tests.strategies import EXAMPLES

CHATS = ("a", "b", "c")
PAGE = 3


class Ended(NamedTuple):
    """What became of an attempt, not yet settled."""

    item: Item
    due_ms: int | None
    """None: it is done with."""


class Ordering(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.events = {chat: MessageReceived(conversation=chat, text="") for chat in CHATS}
        self.n = 0
        self.now_ms = 1
        # The world: what is written.
        self.lines: dict[str, list[EntryId]] = defaultdict(list)
        self.due: dict[str, int] = {}
        self.in_hand: set[EntryId] = set()
        self.settled: dict[str, list[EntryId]] = defaultdict(list)
        self.delivered: dict[str, list[EntryId]] = defaultdict(list)
        self.handled: dict[str, list[EntryId]] = defaultdict(list)
        """First and later successes, in the order in which they happened."""
        self.begin()

    def begin(self) -> None:
        """What a process has, and loses."""
        self.order = Order()
        self.running: list[Item] = []
        self.ended: list[Ended] = []
        self.deferred: list[tuple[str, EntryId]] = []
        self.loads: list[tuple[str, list[Item]]] = []

    def item(self, entry_id: EntryId, chat: str, *, in_line: bool = False) -> Item:
        return Item(entry_id, self.events[chat], None, in_line=in_line)

    # --- what happens ----------------------------------------------------------------------------

    @initialize()
    def first(self) -> None:
        self.deliver(list(CHATS))

    @rule(chats=st.lists(st.sampled_from(CHATS), min_size=1, max_size=12))
    def deliver(self, chats: list[str]) -> None:
        for chat in chats:
            self.n += 1
            entry_id = EntryId(1, self.n)
            self.delivered[chat].append(entry_id)
            self.in_hand.add(entry_id)
            if not self.order.arrive(self.item(entry_id, chat)):
                self.deferred.append((chat, entry_id))

    @precondition(lambda self: self.order.ready_count)
    @rule(count=st.integers(1, 4))
    def take(self, count: int) -> None:
        for _ in range(count):
            item = self.order.take()
            if item is None:
                return
            assert item.conversation not in {each.conversation for each in self.running}
            item.is_begun = True  # as is written down before an entry of a line begins
            self.running.append(item)

    @precondition(lambda self: self.running)
    @rule(data=st.data(), how=st.sampled_from(["nothing follows", "results", "again"]))
    def end(self, data: st.DataObject, how: str) -> None:
        item = data.draw(st.sampled_from(self.running))
        if how == "again":
            self.running.remove(item)
            self.ended.append(Ended(item, self.now_ms + data.draw(st.integers(0, 3))))
            return
        self.succeed(item, passes=how == "nothing follows")

    def succeed(self, item: Item, *, passes: bool) -> None:
        self.running.remove(item)
        before = self.handled[item.conversation]
        expected = self.delivered[item.conversation][len(set(before))]
        assert item.id <= expected, "first successes are in order"
        before.append(item.id)
        self.ended.append(Ended(item, None))
        if passes:
            self.order.pass_on(item)

    @rule(limit=st.integers(0, 4))
    def settle(self, limit: int) -> None:
        finished: list[Item] = []
        fronts = []
        for item, due_ms in self.ended[:limit]:
            if due_ms is not None:
                items = self.order.block(item, due_ms)
                fronts.append((item.conversation, items, due_ms))
                continue
            finished.append(item)
        self.ended = self.ended[limit:]
        backs, self.deferred = self.deferred, []
        loads, self.loads = self.loads, []
        # It is written.
        for item in finished:
            self.settled[item.conversation].append(item.id)
            if item.in_line:
                assert self.lines[item.conversation][0] == item.id
                self.lines[item.conversation].pop(0)
            else:
                self.in_hand.remove(item.id)
        for chat, items, due_ms in fronts:
            fresh = [each.id for each in items if not each.in_line]
            self.in_hand -= set(fresh)
            self.lines[chat][:0] = fresh
            self.due[chat] = due_ms
        for chat, entry_id in backs:
            self.in_hand.remove(entry_id)
            self.lines[chat].append(entry_id)
            self.due.setdefault(chat, NOW_MS)
        for chat in CHATS:
            assert self.lines[chat] == sorted(self.lines[chat])
            if not self.lines[chat]:
                self.due.pop(chat, None)
        self.replied(finished, loads)

    def replied(self, finished: list[Item], loads: list[tuple[str, list[Item]]]) -> None:
        for item in finished:
            self.order.finish(item)
        for chat, loaded in loads:
            # What failed or died begins one by one, what only waited together.
            for each in loaded if self.now_ms % 2 else loaded[:1]:
                each.is_begun = True
            self.order.load(chat, loaded)

    @rule(limit=st.integers(1, 3))
    def load(self, limit: int) -> None:
        for chat in self.order.pop_due(self.now_ms, limit):
            page = [self.item(n, chat, in_line=True) for n in self.lines[chat][:PAGE]]
            if page:
                self.loads.append((chat, page))
            else:
                self.order.put_off(chat, self.now_ms + 1)

    @rule(ways=st.lists(st.booleans(), max_size=6), limit=st.integers(1, 3))
    def turn(self, ways: list[bool], limit: int) -> None:
        """Load what is due, and have what is ready end well, settled a few at a time."""
        self.now_ms += 3
        self.settle(limit)
        self.load(3)
        self.settle(limit)
        for passes in ways:
            self.take(1)
            if self.running:
                self.succeed(self.running[-1], passes=passes)

    @rule(kept=st.integers(1, 4))
    def spill(self, kept: int) -> None:
        for chat, entries in self.order.spill(kept).items():
            self.deferred += [(chat, entry_id) for entry_id in entries]

    @rule(duration_ms=st.integers(1, 3))
    def wait(self, duration_ms: int) -> None:
        self.now_ms += duration_ms

    @rule()
    def crash(self) -> None:
        """Another owner puts what was in hand into lines, and takes note of all of them."""
        chat_of = {each: chat for chat, entries in self.delivered.items() for each in entries}
        fronts: dict[str, list[EntryId]] = defaultdict(list)
        for entry_id in sorted(self.in_hand):
            chat = chat_of[entry_id]
            line = self.lines[chat]
            if line and entry_id < line[0]:
                fronts[chat].append(entry_id)
            else:
                line.append(entry_id)
            if chat in fronts or line == [entry_id]:
                self.due[chat] = NOW_MS
        for chat, entries in fronts.items():
            self.lines[chat][:0] = entries
        self.in_hand.clear()
        for chat in CHATS:
            settled = self.settled[chat]
            self.handled[chat] = list(settled)
            assert settled == self.delivered[chat][: len(settled)]
        self.begin()
        for chat, line in self.lines.items():
            if line:
                self.order.found(chat, self.due[chat], len(line))

    # --- what holds ------------------------------------------------------------------------------

    @invariant()
    def each_is_settled_once_and_in_order(self) -> None:
        for chat in CHATS:
            settled = self.settled[chat]
            assert settled == self.delivered[chat][: len(settled)]

    @invariant()
    def nothing_is_lost(self) -> None:
        for chat in CHATS:
            rest = sorted([*self.settled[chat], *self.lines[chat]])
            in_hand = [each for each in self.delivered[chat] if each in self.in_hand]
            assert sorted([*rest, *in_hand]) == self.delivered[chat]

    @invariant()
    def lengths_are_those_of_the_lines(self) -> None:
        unwritten = defaultdict(int)
        for chat, _ in self.deferred:
            unwritten[chat] += 1
        lengths = {chat: len(self.lines[chat]) + unwritten[chat] for chat in CHATS}
        assert {chat: line.length for chat, line in self.order.lines.items() if line.length} == {
            chat: length for chat, length in lengths.items() if length
        }
        assert self.order.waiting_count == sum(lengths.values())

    @invariant()
    def what_is_loaded_is_counted(self) -> None:
        queued = [each for lane in self.order._lanes.values() for each in lane.queue]
        passed = [each.item for each in self.ended if each.item.is_passed]
        assert self.order.loaded_count == sum(each.in_line for each in [*queued, *passed])

    def teardown(self) -> None:
        """All of it comes to an end, and leaves nothing behind."""
        for _ in range(1000):
            while self.running:
                item = self.running.pop()
                self.handled[item.conversation].append(item.id)
                self.ended.append(Ended(item, None))
            self.settle(100)
            self.now_ms += 5
            self.load(3)
            self.settle(100)
            if self.order.ready_count:
                self.take(3)
            elif not (self.running or self.ended or self.order.lines or self.in_hand):
                break
        assert self.settled == self.delivered
        assert (self.order.loaded_count, self.order.waiting_count) == (0, 0)
        assert not self.order._lanes
        assert not self.order.lines
        assert self.order.next_due_ms() is None
        assert not self.order._due


TestOrdering = Ordering.TestCase
TestOrdering.settings = settings(max_examples=200 * EXAMPLES, deadline=None)
