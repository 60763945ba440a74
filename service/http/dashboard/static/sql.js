// The editor: Ctrl+Enter runs it, and while it runs the page says so.
"use strict";

const form = document.getElementById("editor");
const state = document.getElementById("state");
form.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) { event.preventDefault(); form.requestSubmit(document.getElementById("run")); }
});
form.addEventListener("submit", (event) => {
  if (event.submitter?.name !== "format") state.textContent = "running …";
});
