"use strict";
// The page is whole without this script. It adds: sorting and finding rows, another measure in a chart, tooltips,
// folds that print. It reads nothing but the page's own tables, stores nothing and asks for nothing.
(() => {
  const DASH = "–";
  const make = (tag, text, parts) => Object.assign(document.createElement(tag), { textContent: text || "" }, parts);
  const all = (selector, root) => [...(root || document).querySelectorAll(selector)];
  const plain = (cell) => {
    if (!cell) return "";
    const copy = cell.cloneNode(true);
    all("sup, svg", copy).forEach((part) => part.remove());
    return copy.textContent.trim();
  };
  const numbers = (text) =>
    (text.match(/[−+-]?(?:\d[\d,]*)?\.?\d+/g) || []).map((part) => Number(part.replace(/,/g, "").replace("−", "-")));
  const numeric = (text) => /^(?:[<=(]|below)?[\s\u00a0]*[−+-]?\.?\d/.test(text);

  // --- sorting: every head of a column becomes a button; a third press restores the order of the page -------------
  const sortable = (table) => {
    const body = table.tBodies[0];
    if (!body || table.tBodies.length > 1 || body.rows.length < 4) return;
    const heads = [...table.tHead.rows[0].cells];
    const first = [...body.rows];
    heads.forEach((head, column) => {
      if (head.classList.contains("chart") || !head.textContent.trim()) return;
      if (!first.some((row) => plain(row.cells[column]))) return; // drawings have no order
      const button = make("button", "", { type: "button", className: "sort" });
      button.append(...head.childNodes);
      head.append(button);
      button.addEventListener("click", () => {
        const next = { none: "ascending", ascending: "descending", descending: "none" };
        const order = next[head.getAttribute("aria-sort") || "none"];
        heads.forEach((other) => other.removeAttribute("aria-sort"));
        if (order !== "none") head.setAttribute("aria-sort", order);
        body.append(...(order === "none" ? first : sorted(first, column, order === "ascending" ? 1 : -1)));
      });
    });
  };
  const sorted = (rows, column, sign) => {
    const keyed = rows.map((row, place) => ({ row, place, text: plain(row.cells[column]) }));
    const asNumber = keyed.filter((k) => numeric(k.text)).length * 2 > keyed.filter((k) => k.text !== DASH).length;
    const held = (k) => k.row.classList.contains("all");
    const lacks = (k) => k.text === DASH || k.text === "" || (asNumber && !numeric(k.text));
    keyed.sort((a, b) => {
      if (held(a) !== held(b)) return held(a) ? -1 : 1;
      if (lacks(a) !== lacks(b)) return lacks(a) ? 1 : -1; // what is undefined is last in either direction
      if (lacks(a)) return a.place - b.place;
      const apart = asNumber ? numbers(a.text)[0] - numbers(b.text)[0] : a.text.localeCompare(b.text);
      return sign * apart || a.place - b.place;
    });
    return keyed.map((k) => k.row);
  };

  // --- finding rows: a field above long tables, and a choice where the table says which column has one --------------
  const findable = (table, tools) => {
    const rows = [...table.tBodies[0].rows];
    const pick = table.dataset.pick;
    if (rows.length < 15 && pick === undefined) return;
    const texts = rows.map((row) => row.textContent.toLowerCase());
    const field = make("input", "", { type: "search", autocomplete: "off" });
    const said = make("output");
    const choice = pick === undefined ? null : make("select");
    const labelled = (word, control) => {
      const label = make("label", word + " ");
      label.append(control);
      return label;
    };
    const show = () => {
      const words = field.value.toLowerCase().split(/\s+/).filter(Boolean);
      let left = 0;
      rows.forEach((row, place) => {
        const fits =
          words.every((word) => texts[place].includes(word)) &&
          (!choice || !choice.value || plain(row.cells[pick]) === choice.value);
        row.hidden = !fits;
        left += fits;
      });
      const whole = left === rows.length;
      said.textContent = whole ? `${rows.length} rows` : `${left} of ${rows.length} rows`;
    };
    tools.append(labelled("Find", field));
    if (choice) {
      choice.append(make("option", "all", { value: "" }));
      new Set(rows.map((row) => plain(row.cells[pick]))).forEach((text) => choice.append(make("option", text)));
      choice.addEventListener("change", show);
      tools.append(labelled(plain(table.tHead.rows[0].cells[pick]), choice));
    }
    tools.append(said);
    field.addEventListener("input", show);
    show();
  };

  // --- another measure in the chart: drawn from the figures that stand in the row -----------------------------------
  const space = document.querySelector("svg")?.namespaceURI; // a table that is drawn anew holds one
  const drawn = (tag, attributes, text) => {
    const shape = document.createElementNS(space, tag);
    Object.entries(attributes).forEach(([name, value]) => shape.setAttribute(name, value));
    if (text) shape.textContent = text;
    return shape;
  };
  const scaleOf = (values, difference, share) => {
    let low = Math.min(...values, ...(difference ? [0] : []));
    let high = Math.max(...values, ...(difference ? [0] : []));
    if (high - low < 1e-9) [low, high] = [low - 1, high + 1];
    const raw = (high - low) / 4;
    const power = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= raw * 0.999);
    low = Math.floor(low / step + 1e-9) * step;
    high = Math.ceil(high / step - 1e-9) * step;
    if (share) [low, high] = [Math.max(low, 0), Math.min(high, 100)];
    const ticks = [];
    for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-6; i += 1) ticks.push(i * step);
    return { ticks, at: (value) => (3 + (94 * (value - low)) / (high - low)).toFixed(1) + "%" };
  };
  const choosable = (table, tools) => {
    if (table.dataset.draw === undefined) return;
    const heads = [...table.tHead.rows[0].cells];
    const chart = heads.findIndex((head) => head.classList.contains("chart"));
    const rows = [...table.tBodies[0].rows];
    const shown = (column) => rows.some((row) => /\(.*\d/.test(plain(row.cells[column])));
    const columns = heads.map((_, column) => column).filter((column) => column > 1 && column !== chart && shown(column));
    if (columns.length < 2) return;
    const original = [heads[chart], ...rows.map((row) => row.cells[chart])].map((cell) => [cell, [...cell.childNodes]]);
    const select = make("select");
    columns.forEach((column) => select.append(make("option", plain(heads[column]), { value: column })));
    select.addEventListener("change", () => {
      original.forEach(([cell, nodes]) => cell.replaceChildren(...nodes));
      if (Number(select.value) !== columns[0]) draw(heads, rows, chart, Number(select.value));
    });
    const label = make("label", "Draw ");
    label.append(select);
    tools.append(label);
  };
  const draw = (heads, rows, chart, column) => {
    const texts = rows.map((row) => plain(row.cells[column]));
    const triples = texts.map((text) => (numeric(text) ? numbers(text.split(", n")[0]).slice(0, 3) : []));
    const difference = texts.some((text) => /points/.test(text)) || triples.some((triple) => triple[0] < 0);
    const scale = scaleOf(triples.flat(), difference, !difference && texts.some((text) => /%/.test(text)));
    const whole = rows.findIndex((row) => row.classList.contains("all"));
    const line = difference ? 0 : whole >= 0 ? triples[whole][0] : undefined;
    const svg = (name) => drawn("svg", { class: "strip" + name, "aria-hidden": "true" });
    const head = svg(" head");
    scale.ticks.forEach((tick) => {
      const text = String(Number(tick.toPrecision(6))).replace("-", "−");
      head.append(drawn("text", { x: scale.at(tick), y: 12, "text-anchor": "middle" }, text));
    });
    heads[chart].replaceChildren(head);
    rows.forEach((row, place) => {
      const [value, low, high] = triples[place];
      const strip = svg(row.classList.contains("small") ? " faint" : "");
      const across = (name, from, to) => drawn("line", { class: name, x1: from, x2: to, y1: 0, y2: 22 });
      scale.ticks.forEach((tick) => strip.append(across("tick", scale.at(tick), scale.at(tick))));
      if (line !== undefined) strip.append(across("pooled", scale.at(line), scale.at(line)));
      if (high !== undefined)
        strip.append(drawn("line", { class: "bar", x1: scale.at(low), x2: scale.at(high), y1: 11, y2: 11 }));
      if (value !== undefined) strip.append(drawn("circle", { class: "dot", cx: scale.at(value), cy: 11, r: 4 }));
      row.cells[chart].replaceChildren(strip);
    });
  };

  // --- tooltips: what the shape under the pointer stands for, in words ----------------------------------------------
  const tip = make("div", "", { className: "tip", hidden: true });
  document.body.append(tip);
  const words = (target) => {
    const told = target.closest("[data-tip]");
    if (told) return told.dataset.tip;
    const strip = target.closest("td.chart");
    if (!strip) return "";
    const row = strip.parentElement;
    const heads = row.closest("table").tHead.rows[0].cells;
    const beside = [...row.cells].filter((cell) => !cell.classList.contains("chart") && plain(cell));
    return beside.map((cell) => (cell.cellIndex ? plain(heads[cell.cellIndex]) + ": " : "") + plain(cell)).join("\n");
  };
  const place = (event) => {
    const text = event.target instanceof Element ? words(event.target) : "";
    tip.hidden = !text;
    if (!text) return;
    tip.textContent = text;
    const width = document.documentElement.clientWidth;
    const left = Math.max(8, Math.min(event.clientX + 14, width - tip.offsetWidth - 8));
    const below = event.clientY + 18 + tip.offsetHeight < innerHeight;
    tip.style.left = left + "px";
    tip.style.top = (below ? event.clientY + 18 : event.clientY - tip.offsetHeight - 10) + "px";
  };
  document.addEventListener("pointermove", place);
  document.addEventListener("scroll", () => (tip.hidden = true), true);
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") tip.hidden = true;
  });

  // --- tables are made ready when they come near the screen, so that a page of hundreds opens at once ---------------
  const ready = (region) => {
    const table = region.querySelector("table:not(.matrix)");
    if (!table || !table.tHead || !table.tBodies.length) return;
    const tools = make("div", "", { className: "tools" });
    findable(table, tools);
    choosable(table, tools);
    if (tools.childElementCount) region.before(tools);
    sortable(table);
  };
  const near = new IntersectionObserver(
    (entries) =>
      entries
        .filter((entry) => entry.isIntersecting)
        .forEach((entry) => {
          near.unobserve(entry.target);
          ready(entry.target);
        }),
    { rootMargin: "600px" },
  );
  all(".region").forEach((region) => near.observe(region));

  // --- folds: a link into one opens it; one button opens all; closed ones are printed, too -----------------------------
  const reveal = () => {
    let part = location.hash.length > 1 ? document.getElementById(decodeURIComponent(location.hash.slice(1))) : null;
    const target = part;
    for (; part; part = part.parentElement) if (part.tagName === "DETAILS") part.open = true;
    if (target) target.scrollIntoView();
  };
  addEventListener("hashchange", reveal);
  const folds = all("main details");
  let closed = []; // for browsers in which the style alone cannot print them
  addEventListener("beforeprint", () => {
    closed = folds.filter((fold) => !fold.open);
    closed.forEach((fold) => (fold.open = true));
  });
  addEventListener("afterprint", () => closed.forEach((fold) => (fold.open = false)));
  const bar = document.querySelector("nav.toc");
  if (folds.length && bar) {
    const button = make("button", "", { type: "button", className: "plain" });
    const name = () => (button.textContent = folds.every((fold) => fold.open) ? "Close all folds" : "Open all folds");
    button.addEventListener("click", () => {
      const open = !folds.every((fold) => fold.open);
      folds.forEach((fold) => (fold.open = open));
      name();
    });
    name();
    bar.append(button);
  }
  reveal();
})();
