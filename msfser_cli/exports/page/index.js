// @ts-check
// The page of a corpus: its recordings in a table that is searched and sorted, its scores, and what failed.
"use strict";
(() => {
  const {byId, element, clock, count} = common;
  const data = JSON.parse(byId("data").textContent);
  const {dimensions, scale} = data;
  const PAGE = 100;

  const share = (/** @type {number} */ value) => Math.min(Math.max((value - scale[0]) / (scale[1] - scale[0]), 0), 1);
  const svg = (/** @type {string} */ tag, /** @type {Record<string, string | number>} */ attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, String(value));
    return made;
  };

  byId("facts").textContent = [
    count(data.counts.recordings, "recording"), `${clock(data.seconds)} of audio`, count(data.counts.utterances, "utterance"),
    data.counts.no_speech ? `${data.counts.no_speech} without speech` : "", data.counts.failed ? `${data.counts.failed} failed` : "",
    data.counts.incomplete ? `${data.counts.incomplete} incomplete` : "",
  ].filter(Boolean).join(" · ");

  // ---- distributions ----------------------------------------------------------------------------------------------------------
  const panel = (/** @type {string} */ title, /** @type {Element} */ drawing, /** @type {string} */ left, /** @type {string} */ right) => {
    const box = element("figure", "panel", undefined);
    const ends = element("div", "ends", undefined);
    ends.append(element("span", "", left), element("span", "", right));
    box.append(element("figcaption", "", title), drawing, ends);
    byId("scores").append(box);
  };
  const [lowest, highest] = scale.map(String);
  data.histograms.forEach((/** @type {number[]} */ bins, /** @type {number} */ i) => {
    if (data.means[i] === null) return;
    const most = Math.max(...bins, 1), drawing = svg("svg", {viewBox: `0 0 ${bins.length} 40`, preserveAspectRatio: "none", role: "img"});
    drawing.setAttribute("aria-label", `${dimensions[i]}: mean ${data.means[i].toFixed(2)}, standard deviation ${data.deviations[i].toFixed(2)}`);
    bins.forEach((n, x) => drawing.append(svg("rect", {x, y: 40 - 40 * n / most, width: 0.92, height: 40 * n / most, class: dimensions[i]})));
    panel(`${dimensions[i]}: mean ${data.means[i].toFixed(2)}`, drawing, lowest, highest);
  });
  if (data.density) {
    const side = data.density.length, most = Math.max(...data.density.flat(), 1);
    const drawing = svg("svg", {viewBox: `0 0 ${side} ${side}`, preserveAspectRatio: "none", role: "img"});
    drawing.setAttribute("aria-label", "Utterances by valence, to the right, and arousal, upwards");
    data.density.forEach((/** @type {number[]} */ row, /** @type {number} */ y) => row.forEach((n, x) => {
      if (n) drawing.append(svg("rect", {x, y: side - 1 - y, width: 1, height: 1, class: "density", opacity: 0.15 + 0.85 * Math.sqrt(n / most)}));
    }));
    panel("arousal (upwards) by valence", drawing, lowest, highest);
  }

  // ---- what failed ------------------------------------------------------------------------------------------------------------
  const trouble = byId("trouble");
  if (data.trouble.length) {
    trouble.append(element("h2", "", "What failed, and what has rows for a part only"));
    for (const {reason, meaning, recordings, more} of data.trouble) {
      const box = element("details", "", undefined), list = element("ul", "", undefined);
      box.append(element("summary", "", `${count(recordings.length + more, "recording")}: ${reason}: ${meaning}`));
      for (const [id, detail] of recordings) list.append(element("li", "", `${id}: ${detail}`));
      if (more) list.append(element("li", "", `and ${more} more: see the ledger`));
      box.append(list);
      trouble.append(box);
    }
  }

  // ---- the recordings ---------------------------------------------------------------------------------------------------------
  const columns = ["recording", "length", "utterances", "language", "speakers", ...dimensions];
  /** The value by which a row is sorted in a column. Rows are [id, page, seconds, utterances, language, speakers, [mean, sd]...]. */
  const value = (/** @type {any} */ row, /** @type {number} */ column) =>
    column === 0 ? row[0] : column < 5 ? row[column + 1] : row[column + 1]?.[0];
  const head = /** @type {HTMLElement} */ (document.querySelector("#recordings thead tr"));
  const body = /** @type {HTMLElement} */ (document.querySelector("#recordings tbody"));
  let rows = data.recordings, page = 0, sorted = 0, up = true;
  columns.forEach((name, i) => {
    const cell = element("th", i && i !== 3 ? "number" : "", undefined), button = element("button", "", name);
    button.addEventListener("click", () => { up = sorted === i ? !up : i === 0 || i === 3; sorted = i; page = 0; show(); });
    cell.append(button);
    head.append(cell);
  });
  const bar = (/** @type {number} */ mean, /** @type {number} */ deviation, /** @type {string} */ name) => {
    const left = share(mean - deviation) * 60, drawing = svg("svg", {viewBox: "0 0 60 12", class: "spread", "aria-hidden": "true"});
    drawing.append(
      svg("rect", {x: 0, y: 5.5, width: 60, height: 1, class: "rail"}),
      svg("rect", {x: left, y: 3, width: Math.max(share(mean + deviation) * 60 - left, 1), height: 6, class: name, opacity: 0.4}),
      svg("rect", {x: share(mean) * 60 - 1, y: 1, width: 2, height: 10, class: name}));
    return drawing;
  };
  const show = () => {
    const wanted = byId("search").value.trim().toLowerCase();
    const compare = new Intl.Collator("en", {numeric: true}).compare;
    rows = data.recordings.filter((/** @type {any} */ row) => row[0].toLowerCase().includes(wanted));
    rows.sort((/** @type {any} */ a, /** @type {any} */ b) => {
      const x = value(a, sorted), y = value(b, sorted);
      if (x === y || (x ?? null) === null || (y ?? null) === null) return Number((x ?? null) === null) - Number((y ?? null) === null);
      return (typeof x === "string" ? compare(x, y) : x - y) * (up ? 1 : -1);
    });
    page = Math.min(page, Math.max(0, Math.ceil(rows.length / PAGE) - 1));
    body.replaceChildren(...rows.slice(page * PAGE, page * PAGE + PAGE).map(line));
    [...head.children].forEach((cell, i) => cell.setAttribute("aria-sort", i !== sorted ? "none" : up ? "ascending" : "descending"));
    byId("found").textContent = rows.length ? `${page * PAGE + 1} to ${Math.min(rows.length, (page + 1) * PAGE)} of ${rows.length}` : "no recording";
    byId("back").disabled = page === 0;
    byId("on").disabled = (page + 1) * PAGE >= rows.length;
  };
  const line = (/** @type {any} */ row) => {
    const made = element("tr", "", undefined), name = element("td", "", undefined), link = element("a", "", row[0]);
    if (row[1]) { link.setAttribute("href", row[1]); name.append(link); } else name.textContent = row[0];
    made.append(name, element("td", "number", row[2] === null ? "" : clock(row[2])), element("td", "number", String(row[3])),
      element("td", "", row[4] ?? ""), element("td", "number", row[5] ? String(row[5]) : ""));
    dimensions.forEach((/** @type {string} */ name, /** @type {number} */ i) => {
      const cell = element("td", "number", undefined), score = row[6 + i];
      if (score) cell.append(`${score[0].toFixed(2)} `, bar(score[0], score[1], name));
      made.append(cell);
    });
    return made;
  };
  byId("search").addEventListener("input", () => { page = 0; show(); });
  byId("back").addEventListener("click", () => { page -= 1; show(); });
  byId("on").addEventListener("click", () => { page += 1; show(); });
  show();

  // ---- extremes and lineage ---------------------------------------------------------------------------------------------------
  if (data.extremes.length) byId("extremes").append(element("h2", "", "The most extreme utterances"));
  for (const {name, utterances} of data.extremes) {
    const box = element("details", "", undefined), list = element("ol", "", undefined);
    box.append(element("summary", "", name));
    for (const [score, page, start, recording, text] of utterances) {
      const item = element("li", "", `${score.toFixed(2)} `), link = element("a", "", `${recording}, ${clock(start)}`);
      link.setAttribute("href", `${page}#t=${start.toFixed(1)}`);
      item.append(link, ` ${text}`);
      list.append(item);
    }
    box.append(list);
    byId("extremes").append(box);
  }
  for (const [name, content] of data.lineage) {
    const made = element("tr", "", undefined);
    made.append(element("th", "", name), element("td", "", content));
    byId("lineage").append(made);
  }
})();
