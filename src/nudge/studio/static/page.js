// Keys and pointers, handled in the browser. `emit` sends a value to the server.
window.nudgePage = {
  // The position of an event in its element, as shares of the height and the width.
  place(event) {
    const place = event.currentTarget.getBoundingClientRect();
    return [(event.clientY - place.top) / place.height, (event.clientX - place.left) / place.width];
  },

  // The row under the pointer, when it changes.
  row(event, emit) {
    const element = event.currentTarget;
    const row = Math.floor(nudgePage.place(event)[0] * element.dataset.rows);
    if (element.row !== row) { element.row = row; emit(row); }
  },

  // A key, if it is one of these.
  key(event, emit, keys) {
    if (!keys.test(event.key)) return;
    event.preventDefault();
    emit(event.key);
  },

  // The token under the mouse.
  token(event, emit) {
    const token = event.target.closest("[data-at]");
    if (token) emit(Number(token.dataset.at));
  },

  // The keys of a tree, as in the ARIA practices. The focus moves here; a click opens, closes or chooses.
  tree(event) {
    const rows = [...event.currentTarget.querySelectorAll("[role=treeitem]")].filter((row) => row.offsetParent);
    const at = rows.indexOf(event.target), row = rows[at];
    if (!row || event.altKey || event.ctrlKey || event.metaKey) return;
    const level = (other) => Number(other.getAttribute("aria-level")), open = row.getAttribute("aria-expanded");
    let to = null;
    if (event.key === "ArrowDown") to = rows[at + 1];
    else if (event.key === "ArrowUp") to = rows[at - 1];
    else if (event.key === "Home") to = rows[0];
    else if (event.key === "End") to = rows[rows.length - 1];
    else if (event.key === "ArrowRight" && open === "true") to = rows[at + 1];
    else if (event.key === "ArrowRight" && open === "false") row.click();
    else if (event.key === "ArrowLeft" && open === "true") row.click();
    else if (event.key === "ArrowLeft") to = rows.slice(0, at).reverse().find((other) => level(other) < level(row));
    else if (event.key === "Enter" || event.key === " ") row.click();
    else if (event.key !== "ArrowRight") return;
    event.preventDefault();
    if (to) { rows.forEach((other) => { other.tabIndex = other === to ? 0 : -1; }); to.focus(); }
  },
};
