// @ts-check
// The page of a recording: its sound, its waveform and curves, and its transcript, all at one moment.
"use strict";
(() => {
  const {byId, element, clock, count} = common, {uPlot} = /** @type {any} */ (window);
  const data = JSON.parse(byId("data").textContent), sound = JSON.parse(byId("sound").textContent);
  const audio = /** @type {HTMLAudioElement} */ (byId("audio"));
  const {duration, dimensions, scale} = data, columns = data.utterances;
  const utterances = columns.start.map((/** @type {number} */ start, /** @type {number} */ i) => ({
    start, end: columns.end[i], speaker: columns.speaker[i], language: columns.language[i], text: columns.text[i],
    words: columns.words[i], after: columns.after[i], description: columns.description[i],
    scores: columns.scores.map((/** @type {any} */ ends) => ends[0][i] === null ? null : ends.map((/** @type {any} */ of) => of[i])),
  }));

  const number = (/** @type {number | null} */ value) => value === null ? "" : value.toFixed(2);
  /** The index of the last of `items` whose start is not after `time`; -1 if there is none. */
  const lastBefore = (/** @type {any[]} */ items, /** @type {number} */ time, /** @type {(item: any) => number} */ start) => {
    let low = 0, high = items.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (start(items[middle]) <= time) low = middle + 1; else high = middle;
    }
    return low - 1;
  };

  // ---- the transcript ---------------------------------------------------------------------------------------------------------
  const transcript = byId("transcript");
  const emphasised = new Set(data.words.emphasised);
  let next = 0;  // the number of the next word, of those of all utterances
  /** @type {{box: HTMLElement, text: HTMLElement, words: {box: HTMLElement, start: number, end: number}[]}[]} */
  const shown = utterances.map((/** @type {any} */ u) => {
    const box = element("section", "utterance", undefined);
    const who = element("div", "who", undefined), at = element("button", "", clock(u.start));
    at.setAttribute("type", "button");
    at.setAttribute("aria-label", `Play from ${clock(u.start)}`);
    at.addEventListener("click", () => seek(u.start, true));
    who.append(at);
    if (u.speaker !== null) {
      const name = element("div", "name", data.speakers[u.speaker]);
      name.style.setProperty("--of", `var(--speaker-${u.speaker % 8})`);
      who.append(name);
    }
    for (const [i, dimension] of dimensions.entries()) {
      const score = u.scores[i];
      if (score) who.append(element("span", "scores", `${dimension} ${number(score[0])}`));
    }
    const text = element("div", "text", undefined);
    if (u.language) text.lang = u.language;
    text.dir = "auto";
    let before = Math.round(u.start * 1000);
    const words = Array.from({length: u.words}, (_, i) => {
      const word = data.words.text[next], prominence = data.words.prominence[next];
      const start = before + data.words.gap[next], end = start + data.words.length[next];
      before = end;
      const span = element("span", "", undefined);
      span.append(emphasised.has(next) ? element("b", "", word) : document.createTextNode(word));
      if (prominence !== null) span.title = `${clock(start / 1000)}, prominence ${number(prominence / 100)}`;
      span.addEventListener("click", () => seek(start / 1000, true));
      text.append(span, u.after ? u.after[i] : i + 1 < u.words ? " " : "");
      next += 1;
      return {box: span, start: start / 1000, end: end / 1000};
    });
    if (!words.length) text.textContent = u.text;
    const said = element("div", "", undefined);
    said.append(text);
    if (u.description) said.append(element("div", "about", u.description));
    box.append(who, said);
    transcript.append(box);
    return {box, text, words};
  });
  if (!utterances.length) transcript.append(element("p", "soft", "No speech was found in this recording."));

  const facts = [`${clock(duration)} long`, count(utterances.length, "utterance")];
  if (data.speakers.length) facts.push(`speakers: ${data.speakers.join(", ")}`);
  byId("facts").textContent = facts.join(" · ");

  const numbers = byId("numbers");
  numbers.addEventListener("toggle", () => {
    if (!numbers.open || numbers.querySelector("table")) return;
    const table = element("table", "", undefined), row = (/** @type {string} */ tag, /** @type {string[]} */ cells) => {
      const line = document.createElement("tr");
      cells.forEach((cell, i) => line.append(element(tag, i < 2 || i > 3 ? "number" : "", cell)));
      table.append(line);
    };
    row("th", ["start", "end", "speaker", "text", ...dimensions.flatMap((/** @type {string} */ d) => [d, "low", "high"])]);
    for (const [i, u] of utterances.entries()) {
      const scores = u.scores.flatMap((/** @type {any} */ s) => s ? s.map(number) : ["", "", ""]);
      row("td", [clock(u.start), clock(u.end), u.speaker === null ? "" : data.speakers[u.speaker], shown[i].text.textContent ?? "", ...scores]);
    }
    numbers.querySelector(".wide").append(table);
  });

  // ---- the curves -------------------------------------------------------------------------------------------------------------
  const color = (/** @type {string} */ name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const faint = (/** @type {string} */ name) => `color-mix(in srgb, ${color(name)} 22%, transparent)`;
  const peaks = Uint8Array.from(atob(sound.peaks), c => c.charCodeAt(0));
  /** @type {Map<number, number[][]>} */
  const waves = new Map();
  /** The waveform in `each` peaks at a time, the highest of them: hours have many more than the screen has columns. */
  const wave = (/** @type {number} */ each) => {
    const known = waves.get(each);
    if (known) return known;
    const [times, high, low] = /** @type {number[][]} */ ([[], [], []]);
    for (let i = 0; i < peaks.length; i += each) {
      let peak = 0;
      for (let k = i; k < Math.min(i + each, peaks.length); k++) peak = Math.max(peak, peaks[k]);
      times.push(i / sound.peaks_per_second);
      high.push(peak / 255);
      low.push(-peak / 255);
    }
    waves.set(each, [times, high, low]);
    return [times, high, low];
  };
  /** How many peaks are drawn as one in a stretch of `length` seconds: a power of two. */
  const eachFor = (/** @type {number} */ length) =>
    2 ** Math.max(0, Math.ceil(Math.log2(length * sound.peaks_per_second / byId("charts").clientWidth)));
  const STEPS = [15, 30, 60, 120, 180, 300, 600, 1200, 1800];
  /** The seconds that are summed up where a stretch of `length` seconds has more utterances than there is room for; else 0. */
  const stepFor = (/** @type {number} */ length) => {
    const width = byId("charts").clientWidth;
    if (utterances.length * length / duration < width / 5) return 0;
    return STEPS.find(step => step >= 8 * length / width) ?? 3600;
  };
  /** Stretches with a mean, a lowest and a highest value: those of utterances with their intervals, or of `step` seconds each. */
  const stretches = (/** @type {number} */ dimension, /** @type {number} */ step) => {
    const scored = utterances.filter((/** @type {any} */ u) => u.scores[dimension]);
    if (!step) return scored.map((/** @type {any} */ u) => [u.start, u.end, ...u.scores[dimension]]);
    /** @type {Map<number, any[]>} */
    const parts = new Map();
    for (const u of scored) {
      const at = Math.floor((u.start + u.end) / 2 / step);
      parts.set(at, [...parts.get(at) ?? [], u]);
    }
    return [...parts].sort((a, b) => a[0] - b[0]).map(([at, inside]) => {
      const values = inside.map(u => u.scores[dimension][0]), weights = inside.map(u => Math.max(u.end - u.start, 0.001));
      const mean = values.reduce((sum, value, i) => sum + value * weights[i], 0) / weights.reduce((sum, weight) => sum + weight, 0);
      return [at * step, Math.min((at + 1) * step, duration), mean, Math.min(...values), Math.max(...values)];
    });
  };
  /** Where stretches overlap, because several speakers talk, the one that began last. In order, none overlapping. */
  const apart = (/** @type {number[][]} */ all) => {
    const [pieces, open] = /** @type {number[][][]} */ ([[], []]);
    const until = (/** @type {number} */ time) => {  // what is open, up to the time
      while (open.length) {
        const [from, to, ...values] = open[open.length - 1];
        if (Math.min(to, time) > from) pieces.push([from, Math.min(to, time), ...values]);
        if (to > time) { open[open.length - 1][0] = time; return; }
        open.pop();
        if (open.length) open[open.length - 1][0] = Math.max(open[open.length - 1][0], to);
      }
    };
    for (const stretch of all) { until(stretch[0]); open.push([...stretch]); }
    until(Infinity);
    return pieces;
  };
  const curve = (/** @type {number} */ dimension, /** @type {number} */ step) => {
    const columns = /** @type {(number | null)[][]} */ ([[], [], [], []]);
    for (const [from, to, ...score] of apart(stretches(dimension, step))) {
      for (const time of [from + 0.0001, to - 0.0002]) [time, ...score].forEach((value, i) => columns[i].push(value));
      columns[0].push(to - 0.0001);  // a gap where nobody speaks
      for (const i of [1, 2, 3]) columns[i].push(null);
    }
    return columns;
  };
  const titled = (/** @type {string} */ dimension, /** @type {number} */ step) =>
    step ? `${dimension}: mean and range of ${step < 60 ? `${step} seconds` : `${step / 60} min`} each` : dimension;

  let range = {min: 0, max: duration}, step = 0, each = 1;
  /** @typedef {{plot: any, box: HTMLElement, label: HTMLElement, head: HTMLElement, whole: boolean, dimension: number}} Chart */
  /** dimension: -1 for the sound. @type {Chart[]} */
  let charts = [];
  const axis = (/** @type {boolean} */ isShown) => ({
    show: isShown, stroke: color("soft"), grid: {stroke: color("line"), width: 1}, ticks: {stroke: color("line")}, size: 28,
    values: (/** @type {any} */ _, /** @type {number[]} */ splits) => splits.map(clock),
    incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200],
  });
  const side = (/** @type {boolean} */ isShown) => ({
    size: 50, stroke: color("soft"), grid: {stroke: color("line"), width: 1}, ticks: {show: false},
    values: (/** @type {any} */ _, /** @type {number[]} */ splits) => splits.map(s => isShown ? String(+s.toFixed(2)) : ""),
  });

  const add = (/** @type {HTMLElement} */ parent, /** @type {string} */ name, /** @type {any} */ options, /** @type {any} */ columns, dimension = -1) => {
    const box = element("div", "chart", undefined), label = element("span", "name", name);
    parent.append(box);
    if (name) box.append(label);
    const whole = parent === byId("overview");
    const plot = new uPlot({
      width: parent.clientWidth, legend: {show: false}, pxAlign: false, padding: [10, 26, 4, 0], ...options,
      cursor: {sync: {key: "moment", setSeries: false}, drag: {x: true, y: false, setScale: !whole}, points: {show: false}, y: false},
      scales: {x: {time: false, range: () => whole ? [0, duration] : [range.min, range.max]}, y: {range: options.limits}},
      hooks: {
        setSelect: [(/** @type {any} */ u) => {
          if (u.select.width > 3) zoom(u.posToVal(u.select.left, "x"), u.posToVal(u.select.left + u.select.width, "x"));
          if (u.select.width) u.setSelect({left: 0, top: 0, width: 0, height: 0}, false);
        }],
      },
    }, columns, box);
    const head = element("div", "head", undefined);
    plot.over.append(head);
    plot.over.addEventListener("dblclick", () => zoom(0, duration));
    let pressed = 0;
    plot.over.addEventListener("mousedown", (/** @type {MouseEvent} */ e) => { pressed = e.clientX; });
    plot.over.addEventListener("click", (/** @type {MouseEvent} */ e) => {
      if (Math.abs(e.clientX - pressed) < 4) seek(plot.posToVal(e.clientX - plot.over.getBoundingClientRect().left, "x"), !audio.paused);
    });
    plot.over.addEventListener("wheel", (/** @type {WheelEvent} */ e) => {
      e.preventDefault();
      const at = plot.posToVal(e.clientX - plot.over.getBoundingClientRect().left, "x"), by = Math.exp(e.deltaY / 400);
      zoom(at - (at - range.min) * by, at + (range.max - at) * by);
    }, {passive: false});
    charts.push({plot, box, label, head, whole, dimension});
  };

  const draw = () => {
    for (const chart of charts) { chart.plot.destroy(); chart.box.remove(); }
    charts = [];
    const points = {show: false}, wide = byId("charts");
    const waveform = {
      limits: [-1, 1], bands: [{series: [1, 2], fill: color("wave")}],
      series: [{}, {stroke: color("wave"), width: 0.5, points}, {stroke: color("wave"), width: 0.5, points}],
    };
    if (peaks.length) {
      each = eachFor(range.max - range.min);
      add(byId("overview"), "", {...waveform, height: 48, axes: [axis(false), side(false)]}, wave(eachFor(duration)));
      add(wide, "sound", {...waveform, height: 70, axes: [axis(false), side(false)]}, wave(each));
    }
    step = stepFor(range.max - range.min);
    const known = dimensions.filter((/** @type {string} */ _, /** @type {number} */ i) => utterances.some((/** @type {any} */ u) => u.scores[i]));
    for (const name of known) {
      const isLast = name === known.at(-1), line = {stroke: faint(name), width: 0, points, spanGaps: false}, i = dimensions.indexOf(name);
      add(wide, titled(name, step), {
        limits: scale, height: 92 + (isLast ? 28 : 0), bands: [{series: [3, 2], fill: faint(name)}], axes: [axis(isLast), side(true)],
        series: [{}, {stroke: color(name), width: 2.5, points, spanGaps: false}, line, line],
      }, curve(i, step), i);
    }
    wide.hidden = !charts.length;
    wide.setAttribute("aria-label", known.length
      ? `Curves of ${known.join(", ")} over time. The table at the end of the page has the same numbers.` : "The waveform of the sound");
    move();
  };

  const zoom = (/** @type {number} */ from, /** @type {number} */ to) => {
    const length = Math.min(Math.max(to - from, 1), duration), min = Math.min(Math.max(from, 0), duration - length);
    range = {min, max: min + length};
    const isOther = {step: step !== stepFor(length), each: each !== eachFor(length)};
    step = stepFor(length);
    each = eachFor(length);
    for (const {plot, label, dimension, whole} of charts) {
      if (dimension < 0 && isOther.each && !whole) plot.setData(wave(each), false);
      if (dimension < 0 || !isOther.step) continue;
      label.textContent = titled(dimensions[dimension], step);
      plot.setData(curve(dimension, step), false);
    }
    for (const {plot, whole} of charts) if (!whole) plot.setScale("x", range);
    move();
  };

  // ---- the moment -------------------------------------------------------------------------------------------------------------
  let moment = 0, current = -1, word = -1;
  /** The index of the utterance at the time, or of the last one before: of several, the one that began last. */
  const spokenAt = (/** @type {number} */ time) => {
    const last = lastBefore(utterances, time, u => u.start);
    for (let at = last; at >= 0 && at > last - 20; at--) if (utterances[at].end > time) return at;
    return last;
  };
  /** Show the moment: its time, a line in each chart, the utterance and the word. */
  const move = () => {
    byId("clock").textContent = `${clock(moment)} / ${clock(duration)}`;
    for (const {plot, head} of charts) {
      const left = plot.valToPos(moment, "x");
      head.style.left = `${left}px`;
      head.style.visibility = left < 0 || left > plot.over.clientWidth ? "hidden" : "visible";
    }
    const at = spokenAt(moment);
    if (at !== current) {
      shown[current]?.box.classList.remove("now");
      shown[current]?.words[word]?.box.classList.remove("now");
      word = -1;
      shown[at]?.box.classList.add("now");
      if (at >= 0 && byId("follow").checked && (!audio.paused || current !== -1)) center(shown[at].box);
      current = at;
    }
    const words = shown[at]?.words ?? [], spoken = lastBefore(words, moment, w => w.start);
    if (spoken !== word) {
      words[word]?.box.classList.remove("now");
      words[spoken]?.box.classList.add("now");
      word = spoken;
    }
    if (!audio.paused && byId("follow").checked && (moment < range.min || moment > range.max)) {
      zoom(moment, moment + range.max - range.min);
    }
  };
  /** Bring an utterance below the player, unless all of it is in view. */
  const center = (/** @type {HTMLElement} */ box) => {
    const covered = byId("stand").offsetHeight, place = box.getBoundingClientRect();
    if (place.top >= covered && place.bottom <= innerHeight) return;
    box.style.scrollMarginTop = `${covered + 24}px`;
    box.scrollIntoView({block: "start", behavior: "instant"});  // heights above are estimates until they are drawn
  };
  const seek = (/** @type {number} */ time, /** @type {boolean} */ andPlay) => {
    moment = Math.min(Math.max(time, 0), duration);
    if (isPlayable) audio.currentTime = moment;
    if (andPlay) play();
    if (moment < range.min || moment > range.max) zoom(moment - (range.max - range.min) / 2, moment + (range.max - range.min) / 2);
    remember();
    move();
  };
  const remember = () => { history.replaceState(null, "", `#t=${moment.toFixed(1)}`); };
  const fromAddress = () => {
    const found = /^#t=([0-9]+(?:\.[0-9]*)?)$/.exec(location.hash);
    if (!found) return;
    seek(Number(found[1]), false);
    if (duration > 60) zoom(moment - 15, moment + 15);
    // In the second frame: until the first is drawn, the heights of the utterances in view are estimates.
    requestAnimationFrame(() => requestAnimationFrame(() => { if (shown[current]) center(shown[current].box); }));
  };
  const here = () => { moment = audio.currentTime; move(); };
  let isTicking = false;  // one loop only, however often one seeks
  const tick = () => {
    here();
    isTicking = !audio.paused;
    if (isTicking) requestAnimationFrame(tick);
  };

  // ---- the player -------------------------------------------------------------------------------------------------------------
  let isPlayable = Boolean(sound.source);
  const silence = () => { isPlayable = false; byId("play").disabled = byId("rate").disabled = true; };
  const play = () => { if (isPlayable) audio.play().catch(() => {}); };  // the event `error` says why
  const toggle = () => { if (audio.paused) play(); else audio.pause(); };
  if (isPlayable) audio.src = sound.source; else silence();
  byId("silent").textContent = sound.note ?? "";
  audio.addEventListener("error", () => { silence(); byId("silent").textContent = `The sound cannot be played: ${data.name} is not where the page expects it.`; });
  audio.addEventListener("play", () => { byId("play").textContent = "Pause"; if (!isTicking) tick(); });
  audio.addEventListener("pause", () => { byId("play").textContent = "Play"; remember(); });
  audio.addEventListener("seeked", here);
  byId("play").addEventListener("click", toggle);
  byId("rate").addEventListener("change", () => { audio.playbackRate = Number(byId("rate").value); });
  const by = (/** @type {number} */ factor) => {
    const middle = moment >= range.min && moment <= range.max ? moment : (range.min + range.max) / 2;
    zoom(middle - (middle - range.min) * factor, middle + (range.max - middle) * factor);
  };
  byId("in").addEventListener("click", () => by(0.5));
  byId("out").addEventListener("click", () => by(2));
  byId("all").addEventListener("click", () => zoom(0, duration));

  for (const [i, dimension] of dimensions.entries()) {
    for (const end of ["high", "low"]) byId("kind").append(new Option(`${end} ${dimension}`, `${i} ${end}`));
  }
  for (const name of ["kind", "previous", "next"]) byId(name).disabled = !utterances.some((/** @type {any} */ u) => u.scores.some(Boolean));
  /** The tenth of the utterances with the most extreme scores, at least one, in order of time. */
  const extremes = () => {
    const [i, end] = byId("kind").value.split(" "), scored = utterances.filter((/** @type {any} */ u) => u.scores[i]);
    scored.sort((/** @type {any} */ a, /** @type {any} */ b) => (b.scores[i][0] - a.scores[i][0]) * (end === "high" ? 1 : -1));
    return scored.slice(0, Math.ceil(scored.length / 10)).sort((/** @type {any} */ a, /** @type {any} */ b) => a.start - b.start);
  };
  const jump = (/** @type {any} */ to) => { if (to) { seek(to.start, !audio.paused); if (shown[current]) center(shown[current].box); } };
  byId("next").addEventListener("click", () => jump(extremes().find((/** @type {any} */ u) => u.start > moment + 0.01)));
  byId("previous").addEventListener("click", () => jump(extremes().reverse().find((/** @type {any} */ u) => u.start < moment - 0.01)));

  addEventListener("keydown", event => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || target.closest("select, input:not([type=checkbox]), textarea")) return;
    if (event.key === " " && !target.closest("button, summary, a, input")) toggle();
    else if (event.key === "ArrowRight" && event.shiftKey) jump(utterances.find((/** @type {any} */ u) => u.start > moment + 0.01));
    else if (event.key === "ArrowLeft" && event.shiftKey) jump([...utterances].reverse().find(u => u.start < moment - 0.01));
    else if (event.key === "ArrowRight") seek(moment + 5, !audio.paused);
    else if (event.key === "ArrowLeft") seek(moment - 5, !audio.paused);
    else if (event.key === "+") by(0.5);
    else if (event.key === "-") by(2);
    else return;
    event.preventDefault();
  });

  let width = 0;
  new ResizeObserver(() => {
    if (byId("charts").clientWidth !== width) { width = byId("charts").clientWidth; draw(); }
  }).observe(byId("charts"));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
  addEventListener("hashchange", fromAddress);
  fromAddress();
  move();
})();
