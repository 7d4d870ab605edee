"use strict";
// The completions of a run: a table of prompts, and of one prompt's completions. Rows are made as they are asked for,
// and every text goes in as text.
const showCompletions = () => {
  const PAGE = 100, LONGEST = 240, PROMPT = 0, STEP = 1, TOTAL = 2, ADVANTAGE = 3, TOKENS = 4, CUT = 5, SCORES = 6, TEXT = 7, FAULTS = 8;
  const at = (id) => document.getElementById(id);
  let data;
  try {
    data = JSON.parse(at("completions-data").textContent); // a page that goes on may have none yet
  } catch {
    return;
  }
  const known = (value) => value !== null && value !== undefined;
  const figure = (value) => (known(value) ? String(Number(value.toPrecision(4))) : "–");
  const mean = (values) => (values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null);

  const prompts = data.prompts.map(([text, place]) => ({ text, place, rows: [] }));
  for (const row of data.rows) prompts[row[PROMPT]].rows.push(row);
  for (const prompt of prompts) {
    const totals = (step) => prompt.rows.filter((row) => row[STEP] === step && known(row[TOTAL])).map((row) => row[TOTAL]);
    const steps = prompt.rows.map((row) => row[STEP]);
    prompt.first = steps.reduce((least, step) => Math.min(least, step), Infinity);
    prompt.last = steps.reduce((most, step) => Math.max(most, step), -Infinity);
    prompt.began = mean(totals(prompt.first));
    prompt.ended = mean(totals(prompt.last));
    const scored = prompt.rows.map((row) => row[TOTAL]).filter(known);
    prompt.best = scored.length ? scored.reduce((most, total) => Math.max(most, total)) : null;
  }

  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };
  // What all prompts begin with, such as a system turn, says nothing of one of them.
  const alike = () => {
    if (prompts.length < 2) return 0;
    let end = prompts[0].text.length;
    for (const { text } of prompts) {
      let same = 0;
      while (same < end && text[same] === prompts[0].text[same]) same++;
      end = same;
    }
    return prompts[0].text.lastIndexOf("\n", end - 1) + 1;
  };
  const begin = alike();
  const told = (prompt) => shortened(begin ? `…${prompt.text.slice(begin)}` : prompt.text);
  const shortened = (text) => (text.length > LONGEST ? `${text.slice(0, LONGEST)}…` : text);

  // A table whose rows come by the page, sorted by the column whose head was pressed last. A column has a name, a value
  // to sort by, and the cell for a row.
  const listing = (table, more, columns, sorted) => {
    let rows = [], shown = 0, by = sorted, down = false;
    const body = table.tBodies[0];
    const heads = columns.map((column, number) => {
      const head = element("th");
      head.scope = "col";
      const button = element("button", column.name);
      button.type = "button";
      button.addEventListener("click", () => {
        down = by === number ? !down : column.number === true;
        by = number;
        order();
      });
      head.append(button);
      return head;
    });
    const line = element("tr");
    line.append(...heads);
    table.tHead.replaceChildren(line);
    const show = () => {
      const part = rows.slice(shown, shown + PAGE).map((row) => {
        const made = element("tr");
        made.append(...columns.map((column) => column.cell(row)));
        return made;
      });
      body.append(...part);
      shown += part.length;
      more.hidden = shown >= rows.length;
    };
    const order = () => {
      const value = columns[by].value, sign = down ? -1 : 1;
      const keyed = rows.map((row) => [value(row), row]);
      keyed.sort(([one], [other]) => {
        if (!known(one) || !known(other)) return known(other) - known(one); // what has no value comes last
        return one < other ? -sign : one > other ? sign : 0;
      });
      rows = keyed.map(([, row]) => row);
      heads.forEach((head, number) => head.setAttribute("aria-sort", number !== by ? "none" : down ? "descending" : "ascending"));
      body.replaceChildren();
      shown = 0;
      show();
    };
    more.addEventListener("click", () => {
      const first = shown;
      show();
      const next = body.rows[first];
      (next.querySelector("button, summary") ?? more).focus();
    });
    return (given) => {
      rows = given;
      order();
    };
  };

  const numbers = (name, value) => ({ name, value, number: true, cell: (row) => element("td", figure(value(row)), "number") });

  const answers = listing(at("answers"), at("more-answers"), [
    numbers("step", (row) => row[STEP]),
    numbers("total", (row) => row[TOTAL]),
    ...data.rewards.map((name, number) => numbers(name, (row) => row[SCORES][number])),
    numbers("advantage", (row) => row[ADVANTAGE]),
    numbers("tokens", (row) => row[TOKENS]),
    { name: "cut", value: (row) => row[CUT], number: true, cell: (row) => element("td", row[CUT] ? "cut" : "") },
    {
      name: "completion",
      value: (row) => row[TEXT],
      cell: (row) => {
        const cell = element("td");
        const text = element("pre", row[TEXT]);
        text.dir = "auto";
        if (row[TEXT].length > LONGEST) {
          const details = element("details");
          details.append(element("summary", shortened(row[TEXT])), text);
          cell.append(details);
        } else cell.append(text);
        if (row[FAULTS]) cell.append(element("p", row[FAULTS], "note"));
        return cell;
      },
    },
  ], 0);

  let words = "", now = null;
  const matches = (text) => text.toLowerCase().includes(words);
  const choose = (prompt, line) => {
    now?.classList.remove("now");
    now = line;
    now.classList.add("now");
    at("chosen").hidden = false;
    at("chosen-title").textContent = `${prompt.rows.length} completions of ${prompt.place}`;
    at("chosen-prompt").textContent = prompt.text;
    answers(words && !matches(prompt.text) ? prompt.rows.filter((row) => matches(row[TEXT])) : prompt.rows);
    at("chosen-title").focus();
  };

  const list = listing(at("prompts"), at("more-prompts"), [
    {
      name: "prompt",
      value: (prompt) => prompt.text,
      cell: (prompt) => {
        const cell = element("th");
        cell.scope = "row";
        const button = element("button", told(prompt) || "(empty)");
        button.type = "button";
        button.dir = "auto";
        button.addEventListener("click", () => choose(prompt, cell.parentElement));
        cell.append(button);
        return cell;
      },
    },
    { name: "row", value: (prompt) => prompt.place, cell: (prompt) => element("td", prompt.place) },
    numbers("completions", (prompt) => prompt.rows.length),
    numbers("first step", (prompt) => prompt.first),
    numbers("its mean total", (prompt) => prompt.began),
    numbers("last step", (prompt) => prompt.last),
    numbers("mean total there", (prompt) => prompt.ended),
    numbers("best total", (prompt) => prompt.best),
  ], 3);

  const find = () => {
    words = at("search").value.trim().toLowerCase();
    const found = words
      ? prompts.filter((prompt) => matches(prompt.text) || prompt.rows.some((row) => matches(row[TEXT])))
      : prompts;
    at("found").textContent = words ? `${found.length} of ${prompts.length} prompts` : "";
    list(found);
  };
  let waiting;
  at("search").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(find, 150);
  });
  at("viewer").hidden = false;
  find();
};
showCompletions();
