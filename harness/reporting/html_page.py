"""The frame of report.html: its page, its style and its script, as text."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-$hash'">
$reload<title>$title</title>
<style>$style</style>
</head>
<body>
<header>
<h1>$title</h1>
<p>$description</p>
<nav><details><summary>Contents</summary><ul>$links</ul></details></nav>
</header>
<main>
$body
</main>
<script>$script</script>
</body>
</html>
"""

STYLE = """
:root { --ink: #222222; --pale: #b4b4b4; --page: #ffffff; --soft: #f3f4f6; --link: #0b57d0; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --pale: #6a6a6a; --page: #16181c; --soft: #22262c; --link: #8ab4f8; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 84rem; padding: 1rem; background: var(--page); color: var(--ink);
  font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.2rem; margin-top: 2rem; border-bottom: 1px solid var(--pale); }
a { color: var(--link); }
.lead { font-size: 1.05rem; max-width: 60rem; }
#answer .lead { font-size: 1.25rem; background: var(--soft); border-left: 4px solid var(--link); padding: .8rem 1rem; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-size: .9rem; font-variant-numeric: tabular-nums; }
figure.table figcaption { font-weight: 600; }
th, td { padding: .25rem .6rem; text-align: left; border-bottom: 1px solid var(--soft); vertical-align: top; }
td { min-width: 3.5rem; } .n { text-align: right; } td.n { white-space: nowrap; }
thead th { border-bottom: 2px solid var(--pale); vertical-align: bottom; }
tbody th { font-weight: 400; white-space: nowrap; position: sticky; left: 0; background: var(--page); }
thead button { all: unset; cursor: pointer; font-weight: 600; }
thead button:focus-visible { outline: 2px solid var(--link); }
th[aria-sort=ascending] button::after { content: " ↑"; } th[aria-sort=descending] button::after { content: " ↓"; }
figure { margin: 1rem 0; } figure svg { height: auto; max-width: 100%; min-width: var(--least); }
figcaption { font-size: .9rem; }
pre { background: var(--soft); padding: .8rem; overflow-x: auto; } code { background: var(--soft); overflow-wrap: anywhere; }
fieldset.presence { min-width: 0; border: 1px solid var(--pale); margin: 1rem 0; } legend { font-weight: 600; }
.sliders { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .3rem 1.5rem; }
.sliders label { display: flex; gap: .6rem; align-items: center; } .sliders input { flex: 1; min-width: 6rem; }
.sliders output { min-width: 3.2rem; text-align: right; font-variant-numeric: tabular-nums; }
.presence pre { white-space: pre-wrap; }
summary { cursor: pointer; padding: .2rem 0; font-weight: 600; } .below { margin-left: 1.5rem; }
"""

SCRIPT = """
"use strict";
// A cell's number, or null: a minus sign may be typographic, thousands have commas; what is absent goes last.
function numberOf(text) {
  const found = text.trim().replace("\\u2212", "-").replace(/,/g, "").match(/^[-+<]?\\s?(\\d+(\\.\\d+)?|\\u221e)/);
  return found ? parseFloat(found[0].replace(/[+<\\s]/g, "").replace("\\u221e", "Infinity")) : null;
}
function compare(a, b, sign) {
  const gone = [a, b].map(text => text.trim() === "\\u2013" || text.trim() === "");
  if (gone[0] || gone[1]) return gone[0] - gone[1];
  const [x, y] = [numberOf(a), numberOf(b)];
  return sign * (x !== null && y !== null ? (x < y ? -1 : x > y ? 1 : 0) : a.localeCompare(b));
}
for (const head of document.querySelectorAll("thead th")) {
  head.addEventListener("click", () => {
    const sign = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const other of head.parentNode.children) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", sign > 0 ? "ascending" : "descending");
    const body = head.closest("table").tBodies[0], at = head.cellIndex;
    const rows = Array.from(body.rows);
    rows.sort((a, b) => compare(a.cells[at].textContent, b.cells[at].textContent, sign));
    body.append(...rows);
  });
}
// Expected values for where the sliders stand: combinations weighted by how likely they are, those without a
// value and the case that nothing is present left out.
// A word as a shell reads it.
function quoted(word) { return /^[\\w@%+=:,./-]+$/.test(word) ? word : `'${word.replace(/'/g, `'"'"'`)}'`; }
for (const box of document.querySelectorAll(".presence")) {
  const facts = JSON.parse(box.dataset.facts), inputs = Array.from(box.querySelectorAll("input"));
  const body = box.querySelector("tbody");
  function update() {
    const chances = inputs.map(input => input.valueAsNumber / 100);
    const weights = facts.masks.map(mask =>
      mask.reduce((product, there, at) => product * (there ? chances[at] : 1 - chances[at]), 1));
    const found = Object.entries(facts.rows).map(([label, values]) => {
      let total = 0, sum = 0;
      values.forEach((value, at) => { if (value !== null) { total += weights[at]; sum += weights[at] * value; } });
      return [label, total > 0 ? sum / total : null];
    });
    const sign = facts.higher ? -1 : 1;
    found.sort((a, b) => a[1] === null || b[1] === null ? (a[1] === null) - (b[1] === null) : sign * (a[1] - b[1]));
    body.replaceChildren(...found.map(([label, value]) => {
      const row = document.createElement("tr"), head = document.createElement("th"), cell = document.createElement("td");
      head.scope = "row"; head.textContent = label; cell.className = "n";
      cell.textContent = value === null ? "\u2013" : value.toFixed(facts.decimals);
      row.append(head, cell);
      return row;
    }));
    inputs.forEach((input, at) => { input.nextElementSibling.textContent = input.value + " %"; });
    const nothing = chances.reduce((product, chance) => product * (1 - chance), 1);
    box.querySelector(".nothing").textContent = Number((100 * nothing).toPrecision(3)) + " %";
    const keys = facts.names.map((name, at) => quoted(facts.key + "." + name + "=" + chances[at]));
    box.querySelector("pre").textContent = [facts.command, ...keys].join(" ");
  }
  box.addEventListener("input", update);
  update();
}
"""
