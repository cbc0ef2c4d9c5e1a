// Sorts and filters tables, moves about in the picture of the network, opens what a link leads to.
// Without it, everything is there to read.
"use strict";

const remembered = {
  key: (table) => `bnfold ${document.title} ${table.id}`,
  get(table) {
    try { return JSON.parse(sessionStorage.getItem(this.key(table))); } catch { return null; }
  },
  set(table, column, order) {
    try { sessionStorage.setItem(this.key(table), JSON.stringify([column, order])); } catch { /* a page from a file may have no storage */ }
  },
};

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];

  const value = (row, column) => {
    const cell = row.cells[column];
    const exact = cell.dataset.v;
    return exact === undefined ? cell.textContent.trim() : Number(exact);
  };

  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a === b ? 0 : a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
  };

  const sort = (column, order) => {
    heads.forEach((head) => head.removeAttribute("aria-sort"));
    heads[column].setAttribute("aria-sort", order);
    const sign = order === "ascending" ? 1 : -1;
    body.append(...[...body.rows].sort((a, b) => sign * compare(value(a, column), value(b, column))));
  };

  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const numeric = body.rows.length > 0 && typeof value(body.rows[0], column) === "number";
      const now = head.getAttribute("aria-sort");
      // The first click shows what is largest among numbers, and what comes first among names.
      const next = now === "descending" ? "ascending" : now === "ascending" ? "descending" : numeric ? "descending" : "ascending";
      sort(column, next);
      remembered.set(table, column, next);
    });
  });
  const last = remembered.get(table);
  if (last && heads[last[0]]) sort(...last);

  if (body.rows.length > 8) {
    const filter = document.createElement("input");
    filter.type = "search";
    filter.placeholder = "filter";
    filter.setAttribute("aria-label", `filter the rows: ${table.caption.textContent}`);
    const shown = document.createElement("output");
    const line = document.createElement("p");
    line.className = "filter";
    line.append(filter, shown);
    table.parentElement.before(line);
    filter.addEventListener("input", () => {
      const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
      let visible = 0;
      for (const row of body.rows) {
        const text = row.textContent.toLowerCase();
        row.hidden = !words.every((word) => text.includes(word));
        visible += row.hidden ? 0 : 1;
      }
      shown.textContent = words.length ? `${visible} of ${body.rows.length}` : "";
    });
  }
}

// What a link leads to may lie in a part that is folded up.
const reveal = () => {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let at = target.parentElement; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  target.scrollIntoView({ block: "center", inline: "center" });
};
addEventListener("hashchange", reveal);
reveal();

document.querySelector(".strip")?.addEventListener("click", (event) => {
  const cell = event.target.closest("[data-row]");
  if (cell) location.hash = `#node-${cell.dataset.row}`;
});

for (const plan of document.querySelectorAll(".plan")) {
  const frames = [...plan.querySelectorAll(".frame")];
  const graphs = frames.map((frame) => frame.querySelector("svg"));
  let scale = 1;

  const zoom = (factor) => {
    const next = Math.min(4, Math.max(0.02, scale * factor));
    frames.forEach((frame, index) => {
      const graph = graphs[index];
      const [, , width, height] = graph.getAttribute("viewBox").split(" ").map(Number);
      const x = (frame.scrollLeft + frame.clientWidth / 2) / scale, y = (frame.scrollTop + frame.clientHeight / 2) / scale;
      graph.setAttribute("width", width * next);
      graph.setAttribute("height", height * next);
      frame.scrollTo(x * next - frame.clientWidth / 2, y * next - frame.clientHeight / 2);
    });
    scale = next;
  };

  const fit = () => {
    const ratios = frames.map((frame, index) => {
      const [, , width, height] = graphs[index].getAttribute("viewBox").split(" ").map(Number);
      return Math.min((frame.clientWidth - 28) / width, (frame.clientHeight - 28) / height);
    });
    zoom(Math.min(...ratios) / scale);
  };

  const tools = document.createElement("div");
  tools.className = "tools";
  for (const [text, label, act] of [
    ["+", "zoom in", () => zoom(1.25)],
    ["−", "zoom out", () => zoom(0.8)],
    ["1:1", "real size", () => zoom(1 / scale)],
    ["fit", "show the whole network", fit],
  ]) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.setAttribute("aria-label", label);
    button.addEventListener("click", act);
    tools.append(button);
  }
  const search = document.createElement("input");
  search.type = "search";
  search.placeholder = "find a layer";
  search.setAttribute("aria-label", "find a layer by name or type");
  const count = document.createElement("output");
  const found = () => {
    const word = search.value.trim().toLowerCase();
    const nodes = [...plan.querySelectorAll(".node")];
    const hits = nodes.filter((node) => {
      const hit = word !== "" && node.querySelector("title").textContent.toLowerCase().includes(word);
      node.classList.toggle("found", hit);
      return hit;
    });
    count.textContent = word ? `${hits.length} found` : "";
    return hits;
  };
  let turn = 0;
  search.addEventListener("input", () => { turn = 0; found()[0]?.scrollIntoView({ block: "nearest", inline: "nearest" }); });
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter") return;
    const hits = found();
    if (hits.length) hits[++turn % hits.length].scrollIntoView({ block: "center", inline: "center" });
  });
  tools.append(search, count);
  plan.before(tools);

  for (const frame of frames) {
    frame.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && !event.metaKey) return;
      event.preventDefault();
      zoom(event.deltaY < 0 ? 1.1 : 1 / 1.1);
    }, { passive: false });
    frame.addEventListener("keydown", (event) => {
      if (event.key === "+") zoom(1.25);
      else if (event.key === "-") zoom(0.8);
      else if (event.key === "0") fit();
    });
    let from = null;
    frame.addEventListener("pointerdown", (event) => {
      if (event.pointerType === "mouse" && event.button === 0) from = { x: event.clientX, y: event.clientY, left: frame.scrollLeft, top: frame.scrollTop };
    });
    addEventListener("pointermove", (event) => {
      if (!from) return;
      const [dx, dy] = [event.clientX - from.x, event.clientY - from.y];
      if (Math.hypot(dx, dy) < 4 && !frame.classList.contains("dragged")) return;
      frame.classList.add("dragged");
      frame.scrollTo(from.left - dx, from.top - dy);
    });
    addEventListener("pointerup", () => { from = null; setTimeout(() => frame.classList.remove("dragged")); });
    // A drag that ends on a layer is no click on it.
    frame.addEventListener("click", (event) => { if (frame.classList.contains("dragged")) event.preventDefault(); }, true);
    frame.addEventListener("dragstart", (event) => event.preventDefault());
  }
}
