"use strict";
// A page that follows its run: it asks its own server for a newer one, and takes over the parts that have changed. What
// a person is reading, has marked or typed into stays as it is.
(() => {
  const EVERY = 2000; // milliseconds
  const at = (id) => document.getElementById(id);
  const pause = at("pause");
  let stamp = "", text = "", whole = true, paused = false;

  const inUse = (part) => {
    const chosen = getSelection();
    const search = part.querySelector("#search");
    return (
      part.contains(document.activeElement) ||
      (chosen && !chosen.isCollapsed && part.contains(chosen.anchorNode)) ||
      (search && (search.value || !part.querySelector("#chosen").hidden))
    );
  };
  const named = (details) => details.querySelector("summary").textContent;
  // Whether the part was put in its place; details that were open stay open.
  const replace = (before, after) => {
    if (inUse(before)) return false;
    const open = new Set([...before.querySelectorAll("details[open]")].map(named));
    const made = document.importNode(after, true);
    for (const details of made.querySelectorAll("details")) details.open ||= open.has(named(details));
    before.replaceWith(made);
    if (made.id === "completions") showCompletions();
    return true;
  };

  const take = (text) => {
    const page = new DOMParser().parseFromString(text, "text/html");
    const parts = [...page.querySelectorAll("main > section")];
    const header = document.querySelector("header");
    let all = replace(header, page.querySelector("header"));
    document.title = page.title;
    at("told").textContent = document.querySelector(".status").textContent;
    const main = at("main");
    for (const old of main.querySelectorAll(":scope > section")) {
      if (!parts.some((part) => part.id === old.id) && !inUse(old)) old.remove();
    }
    let last = null;
    for (const part of parts) {
      const old = at(part.id);
      if (!old) {
        const made = document.importNode(part, true);
        if (last) last.after(made);
        else main.prepend(made);
        if (made.id === "completions") showCompletions();
      } else if (old.outerHTML !== part.outerHTML) all = replace(old, part) && all;
      last = at(part.id);
    }
    return all;
  };

  const look = async () => {
    if (paused || document.hidden) return;
    try {
      const newest = await (await fetch("stamp", { cache: "no-store" })).text();
      if (newest === stamp && whole) return;
      if (newest !== stamp) {
        const answer = await fetch("page", { cache: "no-store" });
        if (!answer.ok) throw new Error();
        [stamp, text] = [newest, await answer.text()];
      }
      whole = take(text);
      at("when").textContent = `as of ${new Date().toLocaleTimeString()}`;
    } catch {
      at("told").textContent = "no longer followed: `tunesmith watch` has ended";
      at("when").textContent = "";
    }
  };
  pause.addEventListener("click", () => {
    paused = !paused;
    pause.setAttribute("aria-pressed", String(paused));
    if (!paused) look();
  });
  document.addEventListener("visibilitychange", look);
  const again = () => look().finally(() => setTimeout(again, EVERY));
  again();
})();
