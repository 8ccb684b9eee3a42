"use strict";
// Curves of a run, an image that is dropped, and a word where the server has gone; everything else lives by htmx.
(() => {
  const LOOK = { train: ["#0072B2", "training"], validation: ["#D55E00", "validation"], test: ["#000000", "test (observed)"] };
  const gone = document.getElementById("gone");
  for (const name of ["htmx:sendError", "htmx:timeout"]) document.addEventListener(name, () => { gone.hidden = false; });
  document.addEventListener("htmx:afterOnLoad", () => { gone.hidden = true; });

  for (const box of document.querySelectorAll("[data-curves]")) {
    const plots = {};
    const width = (place) => Math.max(240, place.clientWidth);
    const draw = (found) => {
      for (const place of box.querySelectorAll("[data-of]")) {
        const of = place.dataset.of, splits = Object.keys(found[of]);
        const data = [found.epochs, ...splits.map((split) => found[of][split])];
        if (plots[of] && plots[of].splits === splits.join()) { plots[of].plot.setData(data); continue; }
        if (plots[of]) plots[of].plot.destroy();
        const series = splits.map((split) => ({
          label: LOOK[split][1], stroke: LOOK[split][0], width: 2, spanGaps: false, points: { show: found.epochs.length < 16 },
          value: (_, v) => (v === null ? "–" : v.toFixed(of === "loss" ? 3 : 2)),
        }));
        const options = {
          width: width(place), height: 260, scales: { x: { time: false }, y: { range: (_, low, high) => [0, high > 0 ? high * 1.05 : 1] } },
          axes: [{ label: "epoch", labelSize: 20, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000] }, { size: 55 }],
          series: [{ label: "epoch" }, ...series],
        };
        plots[of] = { plot: new uPlot(options, data, place), splits: splits.join() };
      }
    };
    const ask = async () => {
      let going = true;
      try {
        if (!document.hidden) {
          const answer = await fetch(box.dataset.curves);
          if (answer.ok) { const found = await answer.json(); going = found.going; if (found.epochs.length) draw(found); }
        }
      } catch { gone.hidden = false; }
      if (going) setTimeout(ask, 2000);
    };
    ask();
    addEventListener("resize", () => {
      for (const { plot } of Object.values(plots)) plot.setSize({ width: width(plot.root.parentElement), height: 260 });
    });
  }

  for (const form of document.querySelectorAll("[data-put]")) {
    const answer = form.parentElement.querySelector(".answer"), input = form.querySelector("input");
    const say = (text) => { const p = document.createElement("p"); p.className = "bad"; p.textContent = text; answer.replaceChildren(p); };
    const send = async (file) => {
      if (!file) return;
      if (file.size > 16 * 2 ** 20) return say("An image may have 16 MiB.");
      answer.textContent = "…";
      try {
        const reply = await fetch(form.dataset.put, { method: "PUT", body: file });
        if (reply.ok) answer.innerHTML = await reply.text(); else say(await reply.text());
      } catch { say("The page's server does not answer."); }
    };
    form.addEventListener("submit", (event) => event.preventDefault());
    input.addEventListener("change", () => send(input.files[0]));
    for (const name of ["dragover", "dragenter"]) form.addEventListener(name, (event) => { event.preventDefault(); form.classList.add("over"); });
    form.addEventListener("dragleave", () => form.classList.remove("over"));
    form.addEventListener("drop", (event) => { event.preventDefault(); form.classList.remove("over"); send(event.dataTransfer.files[0]); });
  }
})();
