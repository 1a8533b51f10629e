"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const [width, height] = data.size;
const shown = data.frames.map((frame, place) => ({ ...frame, place })).filter((frame) => frame.shown);
const measured = data.sides.length > 2 ? ["A", "B"] : ["B"];
const at = (id) => document.getElementById(id);
const state = { frame: 0, mode: "split", left: 0, right: 1, zoom: 0, x: width / 2, y: height / 2, split: 0.5, metric: 0 };
const canvas = at("view"), paint = canvas.getContext("2d");

// Pictures: decoded when first wanted, the last few kept.
const decoded = new Map();
function picture(frame, side, wanted = true) {
  const key = `picture-${shown[frame].place}-${side}`;
  let image = decoded.get(key);
  if (!image) {
    image = new Image();
    image.onload = () => requestAnimationFrame(draw);
    image.src = `data:image/png;base64,${at(key).textContent}`;
  }
  decoded.delete(key);
  decoded.set(key, image);
  while (decoded.size > 12) decoded.delete(decoded.keys().next().value);
  return image.complete && wanted ? image : null;
}

// The view. Its scale is in pixels of the screen a pixel of the picture; x and y, of the picture, lie in its middle.
function panes() {
  const sides = [state.left, state.right];
  if (state.mode !== "side") return [{ sides, left: 0, width: canvas.width }];
  const step = canvas.width / 2;
  return sides.map((side, number) => ({ sides: [side], left: number * step, width: step - 1 }));
}
function scale() {
  const pane = panes()[0];
  return state.zoom || Math.min(pane.width / width, canvas.height / height);
}
function place(pane) {
  const by = scale();
  return [pane.left + pane.width / 2 - state.x * by, canvas.height / 2 - state.y * by, width * by, height * by];
}
function draw() {
  const ratio = window.devicePixelRatio || 1, box = canvas.getBoundingClientRect();
  canvas.width = Math.max(1, Math.round(box.width * ratio));
  canvas.height = Math.max(1, Math.round(box.height * ratio));
  if (!state.zoom) [state.x, state.y] = [width / 2, height / 2];
  paint.imageSmoothingEnabled = scale() < 1; // never between enlarged pixels
  let complete = true;
  const put = (pane, side, from, to) => {
    const image = picture(state.frame, side);
    complete = complete && Boolean(image);
    if (!image) return;
    paint.save();
    paint.beginPath();
    paint.rect(from, 0, to - from, canvas.height);
    paint.clip();
    paint.drawImage(image, ...place(pane));
    paint.restore();
  };
  for (const pane of panes()) {
    const end = pane.left + pane.width, border = pane.left + state.split * pane.width;
    if (state.mode === "split") {
      put(pane, state.left, pane.left, border);
      put(pane, state.right, border, end);
    } else put(pane, pane.sides[0], pane.left, end);
    if (state.mode === "diff") {
      paint.globalCompositeOperation = "difference";
      put(pane, state.right, pane.left, end);
      paint.globalCompositeOperation = "lighter";
      for (let doubling = 0; doubling < 3; doubling++) paint.drawImage(canvas, 0, 0);
      paint.globalCompositeOperation = "source-over";
    }
  }
  for (const next of [state.frame + 1, state.frame - 1]) {
    if (complete && shown[next]) [state.left, state.right].forEach((side) => picture(next, side, false));
  }
  canvas.dataset.frame = complete ? shown[state.frame].number : "";
}

// What is told besides the pictures.
const number = (value, metric) => (value === undefined ? "" : value === null ? "∞" : value.toFixed(metric.digits));
function words() {
  const frame = shown[state.frame], names = data.sides.map((side) => `${side.key}: ${side.name}`);
  const time = frame.time === null ? "" : `, ${frame.time.toFixed(3)} s`;
  at("where").textContent = `frame ${frame.number} of ${data.count}${time}`;
  at("frame").value = state.frame;
  at("frame").setAttribute("aria-valuetext", at("where").textContent);
  at("previous").disabled = state.frame === 0;
  at("next").disabled = state.frame === shown.length - 1;
  at("zoom").textContent = `${Math.round(scale() * 100)} %`;
  at("fit").setAttribute("aria-pressed", !state.zoom);
  for (const button of at("modes").children) check(button, button.dataset.mode === state.mode);
  for (const button of at("metrics").children) check(button, Number(button.dataset.metric) === state.metric);
  for (const end of ["left", "right"]) {
    const tag = at(`tag-${end}`), side = state[end];
    at(end).value = side;
    tag.textContent = names[side];
    tag.className = `tag ${data.sides[side].key}`;
    tag.hidden = end === "right" && state.mode === "flip";
  }
  const handle = at("handle");
  handle.hidden = state.mode !== "split";
  handle.style.left = `${state.split * 100}%`;
  handle.setAttribute("aria-valuenow", Math.round(state.split * 100));
  const seen = state.mode === "flip" ? names[state.left] : `${names[state.left]} and ${names[state.right]}`;
  canvas.setAttribute("aria-label", `${seen}, ${at("where").textContent}`);
  at("body").replaceChildren(
    ...data.metrics.map((metric) =>
      row([metric.unit ? `${metric.name} (${metric.unit})` : metric.name,
        ...measured.flatMap((_, side) => [frame.metrics[side], data.means[side]].map((of) => number(of[metric.key], metric)))])),
  );
  plot();
}
function check(button, on) {
  button.setAttribute("aria-checked", on);
  button.tabIndex = on ? 0 : -1;
}
function row(cells, kind = "td") {
  const made = document.createElement("tr");
  cells.forEach((text, index) => {
    const cell = document.createElement(index ? kind : "th");
    cell.scope = index ? "" : "row";
    cell.textContent = text;
    made.append(cell);
  });
  return made;
}
function refresh() {
  draw();
  words();
}

// The plot of one metric over the measured frames. Where nothing differs it is infinite, and lies on top.
function plot() {
  const svg = at("plot"), box = svg.getBoundingClientRect(), metric = data.metrics[state.metric];
  const [w, h] = [Math.max(box.width, 200), 120], [left, top, bottom] = [52, 8, 20];
  svg.setAttribute("viewBox", `0 0 ${w} ${h}`);
  const values = data.frames.flatMap((frame) => frame.metrics.map((of) => of[metric.key])).filter((v) => v !== null);
  let [low, high] = values.length ? [Math.min(...values), Math.max(...values)] : [0, 1];
  const least = 10 ** -metric.digits * 10;
  if (high - low < least) [low, high] = [low - least / 2, high + least / 2];
  const last = Math.max(1, data.count - 1);
  const px = (frame) => left + (frame.number / last) * (w - left - 10);
  const py = (v) => (v === null ? top : h - bottom - ((v - low) / (high - low)) * (h - bottom - top - 6));
  const parts = [low, (low + high) / 2, high].map((v) =>
    `<line class="grid" x1="${left}" x2="${w}" y1="${py(v)}" y2="${py(v)}"/>` +
    `<text x="${left - 6}" y="${py(v) + 4}" text-anchor="end">${v.toFixed(metric.digits)}</text>`);
  measured.forEach((key, side) => {
    const points = data.frames.map((frame) => [px(frame), py(frame.metrics[side][metric.key])]);
    parts.push(`<polyline class="${key}" points="${points.map((p) => p.join()).join(" ")}"/>`);
    parts.push(...points.map(([x, y]) => `<circle class="${key}" cx="${x}" cy="${y}" r="2.2"/>`));
  });
  const now = px(shown[state.frame]);
  parts.push(`<line class="now" x1="${now}" x2="${now}" y1="0" y2="${h - bottom}"/>`);
  parts.push(`<text x="${left}" y="${h - 5}">frame 0</text>`,
    `<text x="${w - 10}" y="${h - 5}" text-anchor="end">${data.count - 1}</text>`);
  svg.innerHTML = parts.join("");
  const told = measured.map((key, side) => `${key} mean ${number(data.means[side][metric.key], metric)} ${metric.unit}`);
  svg.setAttribute("aria-label", `${metric.name} over ${data.frames.length} frames: ${told.join(", ")}`);
}
at("plot").addEventListener("click", (event) => {
  const box = at("plot").getBoundingClientRect();
  const wanted = ((event.clientX - box.left - 52) / (box.width - 62)) * (data.count - 1);
  const far = (frame) => Math.abs(frame.number - wanted);
  go(shown.reduce((best, frame, index) => (far(frame) < far(shown[best]) ? index : best), 0));
});

// What can be done.
function go(frame) {
  state.frame = Math.min(Math.max(frame, 0), shown.length - 1);
  refresh();
}
function mode(name) {
  state.mode = name;
  refresh();
}
function swap() {
  [state.left, state.right] = [state.right, state.left];
  refresh();
}
function zoom(by, x = canvas.width / 2, y = canvas.height / 2) {
  const pane = panes().find((each) => x < each.left + each.width) || panes()[0];
  const before = scale(), after = Math.min(Math.max(by(before), 1 / 16), 32);
  const [ox, oy] = place(pane), [ix, iy] = [(x - ox) / before, (y - oy) / before];
  state.zoom = after;
  state.x = ix - (x - pane.left - pane.width / 2) / after;
  state.y = iy - (y - canvas.height / 2) / after;
  limit();
}
const up = (s) => 2 ** (Math.floor(Math.log2(s) + 1e-6) + 1), down = (s) => 2 ** (Math.ceil(Math.log2(s) - 1e-6) - 1);
function pan(dx, dy) {
  if (!state.zoom) return;
  state.x -= dx / scale();
  state.y -= dy / scale();
  limit();
}
function limit() {
  state.x = Math.min(Math.max(state.x, 0), width);
  state.y = Math.min(Math.max(state.y, 0), height);
  refresh();
}
function fit() {
  state.zoom = 0;
  refresh();
}
function split(to) {
  state.split = Math.min(Math.max(to, 0), 1);
  refresh();
}
function help() {
  at("help").hidden = !at("help").hidden;
  at("help-button").setAttribute("aria-expanded", !at("help").hidden);
}
const keys = {
  ArrowLeft: () => go(state.frame - 1), ArrowRight: () => go(state.frame + 1),
  Home: () => go(0), End: () => go(shown.length - 1),
  "[": () => split(state.split - 0.02), "]": () => split(state.split + 0.02), " ": swap,
  "+": () => zoom(up), "=": () => zoom(up), "-": () => zoom(down), 0: fit, 1: () => zoom(() => 1), "?": help,
  s: () => mode("split"), v: () => mode("side"), f: () => mode("flip"), d: () => mode("diff"),
};
const moves = { ArrowLeft: [64, 0], ArrowRight: [-64, 0], ArrowUp: [0, 64], ArrowDown: [0, -64] };
addEventListener("keydown", (event) => {
  const on = event.target, key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  if (event.ctrlKey || event.altKey || event.metaKey || on.tagName === "SELECT") return;
  if (key === " " && (on.tagName === "BUTTON" || on.tagName === "SUMMARY")) return;
  const radios = on.getAttribute("role") === "radio" && key.startsWith("Arrow") && [...on.parentElement.children];
  if (radios) {
    const step = key === "ArrowLeft" || key === "ArrowUp" ? radios.length - 1 : 1;
    const next = radios[(radios.indexOf(on) + step) % radios.length];
    next.click();
    next.focus();
  } else if (on.id === "handle" && key.startsWith("Arrow") && !event.shiftKey) {
    split(state.split + (key === "ArrowLeft" || key === "ArrowDown" ? -0.02 : 0.02));
  } else if (event.shiftKey && moves[key]) pan(...moves[key]);
  else if (keys[key]) keys[key]();
  else return;
  event.preventDefault();
});
function drag(element, move) {
  element.addEventListener("pointerdown", (event) => {
    element.setPointerCapture(event.pointerId);
    element.classList.add("moving");
    let last = [event.clientX, event.clientY];
    element.onpointermove = (each) => {
      move(each, each.clientX - last[0], each.clientY - last[1]);
      last = [each.clientX, each.clientY];
    };
  });
  const end = () => {
    element.onpointermove = null;
    element.classList.remove("moving");
  };
  element.addEventListener("pointerup", end);
  element.addEventListener("pointercancel", end);
}
const pixels = (value) => value * (window.devicePixelRatio || 1);
const across = (event) => (event.clientX - canvas.getBoundingClientRect().left) / canvas.clientWidth;
drag(at("handle"), (event) => split(across(event)));
drag(canvas, (event, dx, dy) => {
  if (state.zoom) pan(pixels(dx), pixels(dy));
  else if (state.mode === "split") split(across(event));
});
canvas.addEventListener("wheel", (event) => {
  const box = canvas.getBoundingClientRect();
  zoom(event.deltaY < 0 ? up : down, pixels(event.clientX - box.left), pixels(event.clientY - box.top));
  event.preventDefault();
}, { passive: false });

// The page, filled in once.
for (const side of data.sides) {
  const entry = document.createElement("div"), name = document.createElement("dt"), about = document.createElement("dd");
  const small = document.createElement("small");
  name.className = side.key;
  name.textContent = side.key;
  about.textContent = `${side.name} `;
  const role = side.key === "R" || (data.sides.length === 2 && side.key === "A") ? ", reference" : "";
  small.textContent = `${side.size.join("×")}, ${side.codec}, ${side.format}, ${side.frames} frames, ` +
    `${(side.bytes / 1e6).toFixed(2)} MB${role}`;
  about.append(small);
  entry.append(name, about);
  at("sides").append(entry);
}
for (const end of ["left", "right"]) {
  at(end).append(...data.sides.map((side, index) => new Option(side.key, index)));
  at(end).addEventListener("change", () => {
    state[end] = Number(at(end).value);
    refresh();
  });
}
data.metrics.forEach((metric, index) => {
  const button = document.createElement("button");
  button.setAttribute("role", "radio");
  button.dataset.metric = index;
  button.textContent = metric.name;
  button.addEventListener("click", () => {
    state.metric = index;
    words();
  });
  at("metrics").append(button);
});
for (const button of at("modes").children) button.addEventListener("click", () => mode(button.dataset.mode));
for (const [id, action] of Object.entries({
  "zoom-in": () => zoom(up), "zoom-out": () => zoom(down), fit, actual: () => zoom(() => 1), "help-button": help,
  previous: () => go(state.frame - 1), next: () => go(state.frame + 1),
})) at(id).addEventListener("click", action);
at("frame").max = shown.length - 1;
at("frame").addEventListener("input", () => go(Number(at("frame").value)));
at("head").append(row(["", ...measured.flatMap((key) => [key, `${key} mean`])], "th"));
at("about").textContent = `${data.frames.length} of ${data.count} frames measured, ${shown.length} shown; luma, in ` +
  `${data.format}${data.sides.some((side) => side.size[0] !== width) ? `, enlarged to ${width}×${height} by bicubic scaling` : ""}` +
  `${data.hdr ? "; HDR, so SSIMULACRA2 is left out" : ""}.`;
at("legend").innerHTML = measured.map((key) => `<span class="${key}">■ ${key}</span>`).join(" ") +
  ` against ${data.sides.length > 2 ? "R" : "A"}; a click shows the nearest frame`;
at("all").append(
  row(["frame", ...measured.flatMap((key) => data.metrics.map((metric) => `${key} ${metric.name}`))], "th"),
  ...data.frames.map((frame) =>
    row([frame.number, ...frame.metrics.flatMap((of) => data.metrics.map((metric) => number(of[metric.key], metric)))])),
);
new ResizeObserver(refresh).observe(at("stage"));
refresh();
