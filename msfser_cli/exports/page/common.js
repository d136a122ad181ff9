// @ts-check
// What both pages use: elements, times and counts in words.
"use strict";
const common = {
  byId: (/** @type {string} */ id) => /** @type {any} */ (document.getElementById(id)),
  /** An element of the class `kind` with `text`, which is never markup: names and words are other people's. */
  element: (/** @type {string} */ tag, /** @type {string} */ kind, /** @type {string | undefined} */ text) => {
    const made = document.createElement(tag);
    if (kind) made.className = kind;
    if (text !== undefined) made.textContent = text;
    return made;
  },
  /** Seconds as h:mm:ss or m:ss. */
  clock: (/** @type {number} */ seconds) => {
    const whole = Math.max(0, Math.floor(seconds)), minutes = Math.floor(whole / 60) % 60, hours = Math.floor(whole / 3600);
    const two = (/** @type {number} */ n) => String(n).padStart(2, "0");
    return (hours ? `${hours}:${two(minutes)}` : `${minutes}`) + `:${two(whole % 60)}`;
  },
  count: (/** @type {number} */ n, /** @type {string} */ what) => `${n.toLocaleString("en")} ${what}${n === 1 ? "" : "s"}`,
};
