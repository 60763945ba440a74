// Where the log is away: tries again every few seconds, and says so.
"use strict";

const told = document.getElementById("retry");
told.textContent = "it is tried again every 3 s";
setInterval(async () => {
  try {
    const response = await fetch(location.href, { headers: { "X-Fragment": "1" }, cache: "no-store" });
    if (response.status !== 503) location.reload();
  } catch {
    told.textContent = "the service does not answer; it is tried again every 3 s";
  }
}, 3000);
