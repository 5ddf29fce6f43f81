"use strict";
const picture = document.querySelector("#picture");
const nodes = [...picture.querySelectorAll("a[data-at]")];
const lines = [...picture.querySelectorAll("path[data-from]")];
const lists = [...document.querySelectorAll("details[data-at]")];
const say = document.querySelector("#said");

/** Everything that hangs on a node by lines, in one direction. */
function reached(from, start, end) {
  const found = new Set([from]);
  for (const at of found) {
    for (const line of lines) if (line.dataset[start] === at) found.add(line.dataset[end]);
  }
  return found;
}

/** Brings out nodes, and the lines between them; all are alike if there are none. */
function light(which) {
  picture.classList.toggle("some", which !== null);
  for (const node of nodes) node.classList.toggle("lit", which !== null && which.has(node.dataset.at));
  for (const line of lines) {
    line.classList.toggle("lit", which !== null && which.has(line.dataset.from) && which.has(line.dataset.to));
  }
}

let chosen = null;
function choose(node) {
  chosen = node === chosen ? null : node;
  if (chosen === null) {
    say.textContent = "";
    return light(null);
  }
  const at = chosen.dataset.at;
  const above = reached(at, "to", "from");
  const below = reached(at, "from", "to");
  light(new Set([...above, ...below]));
  say.textContent = `${chosen.dataset.label}: needs ${above.size - 1}, needed by ${below.size - 1}`;
}

for (const node of nodes) {
  node.addEventListener("click", (event) => {
    event.preventDefault();
    choose(node);
  });
  node.addEventListener("dblclick", () => {
    const list = document.querySelector(node.getAttribute("href"));
    list.open = true;
    list.scrollIntoView();
  });
}
document.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && chosen !== null) choose(chosen);
});
document.querySelector("#find").addEventListener("input", (event) => {
  const text = event.target.value.toLowerCase();
  chosen = null;
  const has = new Set();
  for (const list of lists) {
    const is = list.textContent.toLowerCase().includes(text);
    list.classList.toggle("out", !is);
    if (is) has.add(list.dataset.at);
  }
  light(text === "" ? null : has);
  say.textContent = text === "" ? "" : `${has.size} of ${lists.length}`;
});
