// Sorts and filters the tables of the page. Without it, everything is there to read.
"use strict";

for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0];
  const heads = [...table.tHead.rows[0].cells];

  const value = (row, column) => {
    const cell = row.cells[column];
    const exact = cell.dataset.v;
    return exact === undefined ? cell.textContent.trim() : Number(exact);
  };

  const compare = (a, b) => {
    if (typeof a === "number" && typeof b === "number") return a - b;
    return String(a).localeCompare(String(b), undefined, { numeric: true });
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
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", next);
      const sign = next === "ascending" ? 1 : -1;
      const rows = [...body.rows].sort((a, b) => sign * compare(value(a, column), value(b, column)));
      body.append(...rows);
    });
  });

  if (body.rows.length > 8) {
    const filter = document.createElement("input");
    filter.type = "search";
    filter.placeholder = "filter";
    filter.setAttribute("aria-label", "filter the rows of the table below");
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
