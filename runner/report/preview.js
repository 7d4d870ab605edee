"use strict";
// Rows token by token, made as they are asked for; every text goes in as text.
(() => {
  const PAGE = 20, TITLE = 0, NOTE = 1, TOKENS = 2, LEARNED = 3, TEXTS = 4, CHANGES = 5, BEGINS = 6;
  const at = (id) => document.getElementById(id);
  let data;
  try {
    data = JSON.parse(at("rows-data").textContent);
  } catch {
    return;
  }
  const names = Object.keys(data.splits);
  const learns = at("viewer").dataset.learns === "yes";
  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  // What cannot be seen is shown by a mark; a line still ends where it ends.
  const visible = (text) => text.replace(/\n/g, "⏎\n").replace(/\t/g, "⇥\t").replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g,
    (hidden) => `\\u${hidden.charCodeAt(0).toString(16).padStart(4, "0")}`);

  const drawn = (row) => {
    const part = element("article");
    const title = element("h3", row[TITLE]);
    title.tabIndex = -1;
    const share = row[TOKENS] ? Math.round((100 * row[LEARNED]) / row[TOKENS]) : 0;
    const count = learns ? `${row[TOKENS]} tokens, ${row[LEARNED]} learned (${share} %)` : `${row[TOKENS]} tokens of a prompt`;
    const text = element("pre", undefined, "tokens");
    text.dir = "auto";
    text.tabIndex = 0;
    text.setAttribute("aria-label", `${row[TITLE]}: ${count}`);
    const begins = new Map();
    for (const [place, name] of row[BEGINS]) begins.set(place, name);
    const changes = new Set(row[CHANGES]);
    let learned = false;
    row[TEXTS].forEach((piece, number) => {
      if (begins.has(number)) text.append(element("b", begins.get(number), "begins"));
      if (changes.has(number)) learned = !learned;
      text.append(element("span", visible(piece), learned ? "learned" : "read"));
    });
    part.append(title, element("p", count, "note"), text);
    if (row[NOTE]) part.append(element("p", row[NOTE], "note"));
    return part;
  };

  let rows = [], shown = 0;
  const more = at("more"), list = at("rows"), found = at("found"), search = at("search");
  const show = () => {
    const next = rows.slice(shown, shown + PAGE).map(drawn);
    list.append(...next);
    shown += next.length;
    more.hidden = shown >= rows.length;
    return next[0];
  };
  const choose = () => {
    const words = search.value.trim().toLowerCase();
    const all = data.splits[at("split").value];
    rows = words ? all.filter((row) => (row[TITLE] + "\n" + row[TEXTS].join("")).toLowerCase().includes(words)) : all;
    found.textContent = words ? `${rows.length} of ${all.length} rows` : `${all.length} rows`;
    list.replaceChildren();
    shown = 0;
    show();
  };
  for (const name of names) {
    const option = element("option", name);
    option.value = name;
    at("split").append(option);
  }
  at("split").addEventListener("change", choose);
  let waiting;
  search.addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(choose, 150);
  });
  more.addEventListener("click", () => show()?.querySelector("h3").focus());
  if (names.length) {
    at("viewer").hidden = false;
    choose();
  }
})();
