// Colours of the page as numbers, for canvases. Every scale rises or falls in lightness alone, so that it is read
// without telling colours apart.

function styleColour(name) {
  const text = getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  return [1, 3, 5].map((from) => parseInt(text.slice(from, from + 2), 16));
}

// 256 colours from the sheet to the ink of the accent, as [r, g, b].
function sequentialScale() {
  const stops = ["--scale-0", "--scale-1", "--scale-2", "--scale-3"].map(styleColour);
  return Array.from({ length: 256 }, (_, n) => between(stops, (n / 255) * (stops.length - 1)));
}

function between(stops, at) {
  const first = Math.min(stops.length - 2, Math.floor(at)),
    part = at - first;
  return stops[first].map((channel, i) => Math.round(channel + (stops[first + 1][i] - channel) * part));
}

let inUse = {};

function scale() {
  return (inUse.scale ??= sequentialScale());
}

function signedEnds() {
  return (inUse.ends ??= ["--sheet", "--below", "--above"].map(styleColour));
}

// After a change between light and dark.
function forgetColours() {
  inUse = {};
}

// A share from 0 to 1 as an index of the scale: the square root shows small ones.
function shade(share) {
  return Math.max(0, Math.min(255, Math.round(255 * Math.sqrt(share))));
}

function rgb([r, g, b]) {
  return `rgb(${r} ${g} ${b})`;
}

// Numbers below zero and above it, as a colour: towards one ink or the other.
function signedColour(value, reach) {
  const strength = Math.min(1, Math.abs(value) / (reach || 1));
  const [sheet, below, above] = signedEnds();
  return rgb(between([sheet, value < 0 ? below : above], strength));
}
