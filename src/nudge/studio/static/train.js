// Curves and the log of a run grow in the browser: the server sends what is new, and here it is put to what is there.
window.nudgeTrain = (() => {
  const held = new Map(); // chart id -> { points by series, options }

  function draw(id) {
    const kept = held.get(id);
    kept.drawing = false;
    const chart = getElement(id)?.chart;
    if (!chart) { later(id, 30); return; }
    if (!kept.listening) { kept.listening = true; listen(id, chart); }
    const series = Object.entries(kept.points).map(([name, data]) => ({ id: name, data }));
    chart.setOption({ series });
    for (const options of kept.options.splice(0)) chart.setOption(options);
    getElement(id).$el.dataset.points = Math.max(0, ...Object.values(kept.points).map((points) => points.length));
  }

  // A click anywhere in the chart places the cursor.
  function listen(id, chart) {
    chart.getZr().on("click", ({ offsetX, offsetY }) => {
      const place = [offsetX, offsetY];
      if (!chart.containPixel({ gridIndex: 0 }, place) && !chart.containPixel({ gridIndex: 1 }, place)) return;
      getElement(id).$emit("place", Math.round(chart.convertFromPixel({ gridIndex: 0 }, place)[0]));
    });
  }

  function later(id, milliseconds) {
    const kept = held.get(id);
    if (!kept.drawing) { kept.drawing = true; setTimeout(() => draw(id), milliseconds); }
  }

  // changes: [series, how many points stay, the points that follow them]
  function grow(id, changes, options) {
    if (!held.has(id)) held.set(id, { points: {}, options: [], drawing: false });
    const kept = held.get(id);
    for (const [name, stay, points] of changes) {
      const data = (kept.points[name] ??= []);
      data.length = Math.min(stay, data.length);
      data.push(...points);
    }
    if (options) kept.options.push(options);
    later(id, 0);
  }

  // rows: [step, cells, tags], the oldest first; text is only ever set as text
  function log(id, rows, most, fresh) {
    const table = getHtmlElement(id);
    if (!table) { setTimeout(() => log(id, rows, most, fresh), 30); return; }
    if (fresh) table.querySelectorAll(".update").forEach((row) => row.remove());
    for (const [step, cells, tags] of rows) {
      const row = document.createElement("div");
      row.className = "update";
      row.setAttribute("role", "row");
      row.dataset.step = step;
      for (const [text, kind] of cells) add(row, "div", text, kind).setAttribute("role", "cell");
      const last = add(row, "div", "", "tags");
      for (const [text, kind] of tags) add(last, "span", text, `tag ${kind}`);
      const first = table.querySelector(".update");
      if (first?.dataset.step === row.dataset.step) first.replaceWith(row);
      else table.insertBefore(row, first);
    }
    const all = table.querySelectorAll(".update");
    for (let at = most; at < all.length; at++) all[at].remove();
  }

  function add(parent, tag, text, kind) {
    const element = document.createElement(tag);
    element.className = kind;
    element.textContent = text;
    parent.append(element);
    return element;
  }

  return { grow, log };
})();
