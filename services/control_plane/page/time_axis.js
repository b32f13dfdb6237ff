// @ts-check
// Ticks and text of a time axis: time since a start, or time of day.

const MINUTE = 60;
const HOUR = 3600;
const DAY = 86400;
const UNITS = [1, 2, 5, 10, 15, 30, ...[1, 2, 5, 10, 15, 30].map((n) => n * MINUTE), ...[1, 2, 3, 6, 12].map((n) => n * HOUR), ...[1, 2, 5, 10, 20, 50, 100, 200, 500].map((n) => n * DAY)];

const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit" });
const SECONDS = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DATE = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });

/**
 * Round times between two others, seconds since the start or since the epoch.
 * @param {"elapsed" | "clock"} kind
 * @param {number} first
 * @param {number} last
 * @param {number} wanted about how many
 */
export function timeTicks(kind, first, last, wanted) {
  const rough = (last - first) / wanted;
  const unit = UNITS.find((one) => one >= rough) ?? /** @type {number} */ (UNITS.at(-1));
  // Local midnight is a round time of day.
  const shift = kind === "clock" ? -60 * new Date(1000 * first).getTimezoneOffset() : 0;
  const ticks = [];
  for (let place = Math.ceil((first + shift) / unit) * unit - shift; place <= last; place += unit) {
    ticks.push({ place, text: kind === "clock" ? clockText(place, unit) : elapsedText(place, unit) });
  }
  return ticks;
}

/**
 * @param {number} place
 * @param {number} unit
 */
function clockText(place, unit) {
  const date = new Date(1000 * place);
  if (unit >= DAY || (date.getHours() === 0 && date.getMinutes() === 0 && date.getSeconds() === 0)) return DATE.format(date);
  return (unit < MINUTE ? SECONDS : CLOCK).format(date);
}

/**
 * A time since a start, in at most two units.
 * @param {number} seconds
 * @param {number} [unit] the distance of ticks: smaller units are not needed
 */
export function elapsedText(seconds, unit = 1) {
  const whole = Math.round(Math.abs(seconds));
  const sign = seconds < 0 && whole > 0 ? "−" : "";
  const parts = [
    [Math.floor(whole / DAY), "d"],
    [Math.floor((whole % DAY) / HOUR), "h"],
    [Math.floor((whole % HOUR) / MINUTE), "min"],
    [whole % MINUTE, "s"],
  ];
  const from = parts.findIndex(([n]) => n !== 0);
  if (from < 0) return unit >= DAY ? "0 d" : unit >= HOUR ? "0 h" : unit >= MINUTE ? "0 min" : "0 s";
  const shown = parts.slice(from, from + 2).filter(([n]) => n !== 0);
  return sign + shown.map(([n, name]) => `${n} ${name}`).join(" ");
}
