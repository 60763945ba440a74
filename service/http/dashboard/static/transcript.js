// A transcript that goes on: takes entries from its stream, each once, by their sequence.
// How far this browser has seen it is kept, so that whoever comes back is shown what was missed.
"use strict";

const chat = document.getElementById("chat");
const badge = document.getElementById("live");
const note = document.getElementById("resume");
const key = `eventlog:seen:${chat.dataset.key}`;
const ended = { completed: "completed", failed: "failed" };
const words = { active: "session goes on", dormant: "session sleeps", completed: "session completed", failed: "session failed", pending: "session waits for its agent" };
let newest = Math.max(0, ...[...chat.querySelectorAll("[data-n]")].map((item) => Number(item.dataset.n)));

const kept = (() => { try { return localStorage; } catch { return null; } })();
const seen = Number(kept?.getItem(key) || 0);

function remember() {
  if (!document.hidden && newest) try { kept?.setItem(key, String(newest)); } catch { /* it is full: nothing is missed now, only later */ }
}

function lasting(ms) {
  const s = ms / 1000;
  return s < 10 ? `${s.toFixed(1)} s` : s < 60 ? `${Math.round(s)} s` : `${Math.round(s / 60)} min`;
}

const clock = (us) => new Date(us / 1000).toISOString().slice(11, 19);

function blank(kind, n, values) {
  const item = document.getElementById(`blank-${kind}`).content.firstElementChild.cloneNode(true);
  item.id = `n-${n}`;
  item.dataset.n = n;
  for (const [slot, value] of Object.entries(values)) {
    const place = item.querySelector(`[data-slot=${slot}]`);
    if (place) place.textContent = value;
  }
  return item;
}

const telling = ["path", "file_path", "filePath", "command", "cmd", "query", "pattern", "url", "thought"];

// As the server does: what says most of a tool's arguments, in one line.
function briefOf(text) {
  let line = text || "";
  try {
    const given = JSON.parse(line);
    if (given && typeof given === "object") {
      const values = [...telling.map((name) => given[name]), ...Object.values(given)];
      line = values.find((value) => typeof value === "string") ?? line;
    }
  } catch { /* it is no JSON, but plain words */ }
  line = line.split(/\s+/).filter(Boolean).join(" ");
  return line.length <= 200 ? line : `${line.slice(0, 199)}…`;
}

function finish(item, event) {
  const end = item.querySelector("[data-slot=end]");
  const result = item.querySelector("[data-slot=result]");
  const called = Number(item.dataset.at || 0);
  const ms = event.duration_ms ?? (called ? Math.max(0, (event.occurred_at - called) / 1000) : null);
  item.className = event.is_error ? "tool bad" : "tool";
  end.textContent = (event.is_error ? "✗ " : "✓ ") + (ms === null ? "" : lasting(ms) + (event.is_error ? " · " : "")) + (event.is_error ? "failed" : ms === null ? "returned" : "");
  if (result) result.textContent = event.result || "";
}

function itemOf(entry) {
  const { event, sequence: n } = entry;
  const at = clock(event.occurred_at);
  switch (event.type) {
    case "message.received":
    case "message.sent": {
      const out = event.type === "message.sent";
      const item = blank("said", n, { at, who: event.sender || (out ? "agent" : "user"), text: event.text });
      item.classList.toggle("out", out);
      return item;
    }
    case "tool.called": {
      const item = blank("tool", n, { who: event.name, text: event.arguments || "", brief: briefOf(event.arguments), end: `… running since ${at}` });
      item.className = "tool run";
      item.dataset.call = event.call;
      item.dataset.at = event.occurred_at;
      return item;
    }
    case "tool.returned": {
      const running = [...chat.querySelectorAll(".tool.run")].find((each) => each.dataset.call === event.call);
      if (running) { finish(running, event); return null; }
      if ([...chat.querySelectorAll(".tool")].some((each) => each.dataset.call === event.call)) return null;
      const item = blank("tool", n, { who: event.name || "tool" });
      item.dataset.call = event.call;
      finish(item, event);
      return item;
    }
    case "session.started": return blank("change", n, { at, text: "session started" });
    case "session.transitioned":
      return blank("change", n, { at, text: (words[event.to_status] || `session is ${event.to_status}`) + (event.reason ? `: ${event.reason}` : "") });
    default: return null;
  }
}

function take(entry) {
  if (!document.getElementById(`n-${entry.sequence}`)) {
    const nearEnd = innerHeight + scrollY > document.body.scrollHeight - 160;
    const item = itemOf(entry);
    if (item) {
      chat.append(item);
      document.getElementById("nothing").hidden = true;
      if (nearEnd) item.scrollIntoView({ block: "nearest" });
    }
  }
  newest = Math.max(newest, entry.sequence);
  remember();
}

function resume() {
  const missed = [...chat.querySelectorAll("[data-n]")].filter((item) => Number(item.dataset.n) > seen);
  // A tool that returned since is shown where it was called; it counts by its return.
  if (!seen || !chat.dataset.stream && !missed.length) return;
  note.hidden = false;
  note.dataset.count = missed.length;
  const what = missed.length === 1 ? "1 entry" : `${missed.length} entries`;
  note.textContent = missed.length ? `Resuming session… caught up with ${what} since you left.` : "Resuming session… nothing was said since you left.";
  if (missed.length && missed.length < chat.querySelectorAll("[data-n]").length) {
    const line = document.createElement("li");
    line.className = "divide";
    line.id = "since";
    line.textContent = "since you left";
    missed[0].before(line);
    line.scrollIntoView({ block: "center" });
  }
}

function tell(text, isLost) {
  badge.textContent = text;
  badge.classList.toggle("lost", isLost);
}

function follow() {
  const address = `${chat.dataset.stream}?last_event_id=${encodeURIComponent(chat.dataset.place)}`;
  const stream = new EventSource(address);
  stream.onopen = () => tell("live", false);
  stream.onerror = () => tell(stream.readyState === EventSource.CLOSED ? "not live: reload the page" : "connection lost; it comes back by itself", true);
  stream.addEventListener("entry", (message) => take(JSON.parse(message.data)));
  stream.addEventListener("resync", () => location.reload());
  stream.addEventListener("problem", (message) => tell(JSON.parse(message.data).detail, true));
  stream.addEventListener("end", () => {
    stream.close();
    badge.className = "tag quiet";
    badge.textContent = "ended just now";
    for (const item of chat.querySelectorAll(".tool.run")) {
      item.className = "tool warn";
      item.querySelector("[data-slot=end]").textContent = "▲ never returned: the session ended";
    }
    document.getElementById("say")?.remove();
  });
  addEventListener("pagehide", () => stream.close());
}

resume();
remember();
document.addEventListener("visibilitychange", remember);
addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
if (chat.dataset.stream) follow();

const say = document.getElementById("say");
say?.addEventListener("submit", async (event) => {
  event.preventDefault();
  const told = document.getElementById("sent");
  const button = say.querySelector("button");
  button.disabled = true;
  try {
    const response = await fetch(say.action, { method: "POST", body: new URLSearchParams(new FormData(say)), headers: { "X-Fragment": "1" } });
    if (!response.ok) throw new Error(String(response.status));
    say.querySelector("textarea").value = "";
    say.querySelector("[name=message_id]").value = crypto.randomUUID();
    told.textContent = "sent";
  } catch (error) {
    told.textContent = error instanceof TypeError ? "Not sent: the service does not answer. Your text is still here; send it again." : "Not sent. Your text is still here; reload the page, or send it again.";
  }
  button.disabled = false;
  say.querySelector("textarea").focus();
});
