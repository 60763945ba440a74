// Keeps what is marked `data-live` as it is on the server, for as long as the page is looked at.
// `data-refresh` on <main>: how many ms between two looks. What has not changed is not touched.
"use strict";

const main = document.querySelector("main[data-refresh]");
const away = document.getElementById("away");
const pause = Number(main ? main.dataset.refresh : 0);
const longest = 15000;
let failures = 0;
let since = null;
let timer = 0;

function take(text) {
  const fresh = new DOMParser().parseFromString(text, "text/html");
  for (const part of fresh.querySelectorAll("[data-live]")) {
    const here = document.getElementById(part.id);
    if (!here || here.innerHTML === part.innerHTML) continue;
    if (here.contains(document.activeElement) && document.activeElement.matches("input,textarea,select")) continue;
    const open = [...here.querySelectorAll("details[open]")].map((each) => each.id);
    const ticked = new Set([...here.querySelectorAll("input:checked")].map((each) => each.value));
    const focused = here.contains(document.activeElement) ? document.activeElement.id : "";
    here.innerHTML = part.innerHTML;
    for (const id of open) if (id) document.getElementById(id)?.setAttribute("open", "");
    for (const box of here.querySelectorAll("input[type=checkbox][name]")) box.checked = ticked.has(box.value);
    if (focused) document.getElementById(focused)?.focus();
  }
}

function tell(text) {
  const told = away.querySelector("p");
  if (told.textContent !== text) told.textContent = text;
  away.hidden = !text;
  document.body.classList.toggle("away", Boolean(text));
}

async function look() {
  try {
    const response = await fetch(location.href, { headers: { "X-Fragment": "1" }, cache: "no-store" });
    if (response.status === 401) { location.reload(); return; }
    if (!response.ok) throw new Error(response.status === 503 ? "The log is away" : "The page cannot be made");
    take(await response.text());
    failures = 0; since = null;
    tell("");
  } catch (error) {
    failures += 1;
    since = since || new Date();
    const who = error instanceof TypeError ? "The service does not answer" : error.message;
    const at = since.toISOString().slice(11, 19);
    if (failures > 1) tell(`${who} since ${at} UTC. What you see was true then; this page goes on by itself as soon as there is an answer.`);
  }
  plan();
}

function plan() {
  clearTimeout(timer);
  if (!document.hidden) timer = setTimeout(look, Math.min(longest, pause * Math.max(1, failures)));
}

if (pause) {
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : look()));
  plan();
}
