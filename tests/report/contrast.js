// The texts of the page that are hard to read: WCAG 2 wants a ratio of relative luminances of at least 4.5.
const parse = (colour) => (colour.match(/[\d.]+/g) || [0, 0, 0, 0]).map(Number);
const linear = (value) => (value <= 0.03928 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
const luminance = (rgb) => {
  const [red, green, blue] = rgb.map((value) => linear(value / 255));
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
};
const behind = (element) => {
  for (let e = element; e; e = e.parentElement) {
    const colour = parse(getComputedStyle(e).backgroundColor);
    if (colour.length < 4 || colour[3] > 0) return colour.slice(0, 3);
  }
  return [255, 255, 255];
};
const faint = [];
for (const element of document.querySelectorAll("p, li, td, th button, dt, dd, h1, h2, h3, b, small, figcaption, code")) {
  if (!element.textContent.trim()) continue;
  const ink = luminance(parse(getComputedStyle(element).color).slice(0, 3));
  const paper = luminance(behind(element));
  const ratio = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
  if (ratio < 4.5) faint.push(`${element.tagName}: ${element.textContent.trim().slice(0, 30)} ${ratio.toFixed(2)}`);
}
return faint.slice(0, 5);
