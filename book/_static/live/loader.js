// A cell tagged "live-NAME" or "live-NAME-PRESET" gets the live part NAME.js, mounted
// below its output. Without scripts, in print and in a notebook, the figure that the cell
// drew stays.
const parts = { geometry: 1, metrics: 1, network: 1 };

for (const cell of document.querySelectorAll("div.cell[class*='tag_live-']")) {
  const tag = [...cell.classList].find((name) => name.startsWith("tag_live-"));
  const [name, ...preset] = tag.slice("tag_live-".length).split("-");
  if (!(name in parts)) throw new Error(`no live part is called ${name}`);
  const host = document.createElement("section");
  host.className = `live live-${name}`;
  cell.append(host);
  import(new URL(`${name}.js`, import.meta.url)).then((part) => {
    part.mount(host, preset.join("-"));
    cell.classList.add("live-on");
  });
}
