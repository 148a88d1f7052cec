"use strict";

// Figures: drawn from the JSON beside them, as wide as their box.
for (const figure of document.querySelectorAll("figure")) {
  const { data, layout } = JSON.parse(figure.querySelector("script").textContent);
  Plotly.newPlot(figure.querySelector(".plot"), data, layout, {
    responsive: true,
    displaylogo: false,
    showSendToCloud: false, // unpublished results stay here
    plotlyServerURL: "",
    modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d"],
    toImageButtonOptions: { format: "svg", filename: figure.dataset.name },
  });
}

// Legends: one for all figures of a group.
for (const legend of document.querySelectorAll(".legend")) {
  const buttons = [...legend.querySelectorAll("button")];
  const isShown = (button) => button.getAttribute("aria-pressed") === "true";
  const redraw = () => {
    const hidden = new Set(buttons.filter((button) => !isShown(button)).map((button) => button.dataset.key));
    for (const plot of legend.closest(".group").querySelectorAll(".plot")) {
      Plotly.restyle(plot, { visible: plot.data.map((trace) => !hidden.has(trace.legendgroup)) });
    }
  };
  for (const button of buttons) {
    button.addEventListener("click", () => {
      button.setAttribute("aria-pressed", !isShown(button));
      redraw();
    });
    button.addEventListener("dblclick", () => {
      const alone = buttons.every((other) => isShown(other) === (other === button));
      for (const other of buttons) other.setAttribute("aria-pressed", alone || other === button);
      redraw();
    });
  }
}

// Tables: a heading sorts, numbers by their value, and turns the order when it is clicked again; what is missing stays last.
for (const table of document.querySelectorAll("table.sortable")) {
  const headings = [...table.tHead.rows[0].cells];
  headings.forEach((heading, column) => {
    heading.querySelector("button").addEventListener("click", () => {
      const turn = heading.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      for (const other of headings) other.removeAttribute("aria-sort");
      heading.setAttribute("aria-sort", turn === 1 ? "ascending" : "descending");
      const value = (row) => row.cells[column].dataset.value ?? row.cells[column].textContent.trim();
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => {
        const [x, y] = [value(a), value(b)];
        if (x === "" || y === "") return (x === "") - (y === "");
        return turn * (isNaN(x) || isNaN(y) ? x.localeCompare(y) : x - y);
      });
      table.tBodies[0].append(...rows);
    });
  });
}
