// What is wrong with the page as it is rendered: one list of sentences for each question. Evaluated inside the page by tests/browser.

const MINIMUM_TEXT = 9.5;  // pixels on the screen

document.querySelectorAll("details").forEach(one => { one.open = true; });

const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });

// Any CSS colours, one painted over the other, as the red, green and blue that are seen.
function painted(colors) {
  canvas.globalCompositeOperation = "source-over";
  for (const { color, opacity } of colors) {
    canvas.globalAlpha = opacity;
    canvas.fillStyle = color;
    canvas.fillRect(0, 0, 1, 1);
  }
  return canvas.getImageData(0, 0, 1, 1).data.slice(0, 3);
}

function luminance(rgb) {
  const [r, g, b] = [...rgb].map(value => {
    const share = value / 255;
    return share <= 0.04045 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

// As WCAG 2 defines it.
function ratio(one, other) {
  const [light, dark] = [luminance(one), luminance(other)].sort((a, b) => b - a);
  return (light + 0.05) / (dark + 0.05);
}

function chain(element) {
  const found = [];
  for (let one = element; one; one = one.parentElement) found.unshift(one);
  return found;
}

// The layers under an element's own ink, from the canvas of the browser upwards, and how opaque the ink is.
function under(element) {
  const layers = [{ color: "Canvas", opacity: 1 }];
  let opacity = 1;
  for (const one of chain(element)) {
    const style = getComputedStyle(one);
    opacity *= Number(style.opacity);
    layers.push({ color: style.backgroundColor, opacity });
  }
  return { layers, opacity };
}

function contrast(element, ink, strength = 1) {
  const { layers, opacity } = under(element);
  const paper = painted(layers);
  return ratio(painted([...layers, { color: ink, opacity: opacity * strength }]), paper);
}

function visible(element) {
  const box = element.getBoundingClientRect();
  return box.width > 0 && box.height > 0 && element.checkVisibility({ visibilityProperty: true, opacityProperty: true });
}

function name(element) {
  const classes = element.getAttribute("class");
  return element.tagName.toLowerCase() + (classes ? "." + classes.trim().replace(/\s+/g, ".") : "");
}

function texts() {
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  const found = [];
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement, text = walker.currentNode.data.trim();
    if (text && !element.closest("title, desc, style, script") && visible(element)) found.push({ element, text });
  }
  return found;
}

// Pixels on the screen: an SVG may be scaled.
function size(element) {
  const scale = element instanceof SVGElement ? Math.abs(element.getScreenCTM().a) || Math.abs(element.getScreenCTM().b) : 1;
  return parseFloat(getComputedStyle(element).fontSize) * scale;
}

function faintTexts() {
  const wrong = [];
  for (const { element, text } of texts()) {
    const style = getComputedStyle(element), pixels = size(element);
    const large = pixels >= 24 || (pixels >= 18.66 && Number(style.fontWeight) >= 700);
    const found = contrast(element, element instanceof SVGElement ? style.fill : style.color), wanted = large ? 3 : 4.5;
    if (found < wanted) wrong.push(`${name(element)} "${text.slice(0, 40)}": contrast ${found.toFixed(2)}, must be ${wanted}`);
  }
  return wrong;
}

function smallTexts() {
  return texts().filter(one => size(one.element) < MINIMUM_TEXT)
    .map(({ element, text }) => `${name(element)} "${text.slice(0, 40)}": ${size(element).toFixed(1)} pixels`);
}

// What carries information without being text: lines, dots, intervals, swatches, bars. A grid carries none.
function faintMarks() {
  const wrong = [];
  for (const one of document.querySelectorAll("svg line, svg polyline, svg circle, svg polygon, .swatch, .bar")) {
    if (one.matches(".grid") || !one.checkVisibility()) continue;
    const style = getComputedStyle(one);
    let ink = style.stroke !== "none" ? style.stroke : style.fill;
    if (!(one instanceof SVGElement)) ink = parseFloat(style.borderTopWidth) ? style.borderTopColor : style.backgroundColor;
    const found = contrast(one.parentElement, ink, Number(style.opacity));
    if (found < 3) wrong.push(`${name(one)} in ${name(one.parentElement)}: contrast ${found.toFixed(2)}, must be 3`);
  }
  return wrong;
}

// Elements that leave the window at the side; what scrolls inside a container of its own may.
function overflowing() {
  const root = document.documentElement, wrong = [];
  // Not innerWidth: a phone zooms out of a page that is too wide, and innerWidth with it.
  const width = root.clientWidth;
  if (root.scrollWidth > width) wrong.push(`the page is ${root.scrollWidth} pixels wide, the window ${width}`);
  const scrolls = element => chain(element.parentElement).some(one => ["auto", "scroll"].includes(getComputedStyle(one).overflowX));
  for (const one of document.body.querySelectorAll("*")) {
    const box = one.getBoundingClientRect();
    if (!box.width || one.closest("title") || scrolls(one)) continue;
    if (box.left < -1 || box.right > width + 1) wrong.push(`${name(one)} reaches from ${box.left.toFixed(0)} to ${box.right.toFixed(0)}`);
  }
  return wrong;
}

function unnamedPictures() {
  const wrong = [];
  for (const one of document.querySelectorAll("svg, img, canvas, object")) {
    const given = (one.getAttribute("aria-label") || one.getAttribute("alt") || "").trim();
    if (!given) wrong.push(`${name(one)} has no text alternative`);
    if (one.tagName.toLowerCase() === "svg" && one.getAttribute("role") !== "img") wrong.push(`${name(one)} is not announced as a picture`);
  }
  for (const one of document.querySelectorAll("figure")) {
    if (!one.querySelector("figcaption")?.textContent.trim()) wrong.push(`${name(one)} has no caption`);
  }
  return wrong;
}

return {
  overflow: overflowing(),
  pictures: unnamedPictures(),
  texts: faintTexts(),
  sizes: smallTexts(),
  marks: faintMarks(),
  requests: performance.getEntriesByType("resource").map(one => one.name),
  scheme: matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light",
  width: document.documentElement.clientWidth,
  charts: document.querySelectorAll("svg").length,
  words: document.body.innerText.length,
};
