// Methods, sizes and examples to choose from, and event handlers.
function buildChoices() {
  const [trained, classical] = [true, false].map((value) => props.methods.filter((method) => method.has_weights === value));
  for (const [title, methods] of [["Trained networks", trained], ["Classical methods", classical]]) {
    if (!methods.length) continue;
    const group = makeElement("div", "group");
    group.append(makeElement("span", "", title));
    for (const { name, selected, details } of methods) {
      const label = makeElement("label", "check");
      const checkbox = Object.assign(document.createElement("input"), { type: "checkbox", value: name, checked: selected });
      const text = makeElement("span", "", name);
      if (details) text.append(makeElement("small", "", details));
      label.append(checkbox, text);
      group.append(label);
    }
    one(".methods").append(group);
  }
  for (const side of props.sides) {
    const label = makeElement("label", "");
    const radio = { type: "radio", name: "side", value: side ?? "full", checked: side === props.side };
    label.append(Object.assign(document.createElement("input"), radio), makeElement("span", "", side ?? "full"));
    one(".sizes .switch").append(label);
  }
  for (const [index, { title, thumbnail }] of props.examples.entries()) {
    const button = Object.assign(makeElement("button", "example"), { type: "button", title: `Remove the ${title}` });
    button.append(Object.assign(new Image(), { src: thumbnail, alt: "" }), makeElement("span", "", title));
    button.addEventListener("click", () => openExample(index));
    one(".examples").append(button);
  }
  const { megabytes, megapixels } = props.limits;
  one("[data-part=limits]").textContent = `PNG, JPEG, WebP, BMP, TIFF or GIF, up to ${megabytes} MB and ${megapixels} megapixels`;
}

const ACTIONS = {
  choose: () => one("[name=image]").click(),
  "load-mask": () => one("[name=mask]").click(),
  "save-mask": async () => download(await painter.hole.toPng({ binary: true }), `${source.name}_mask.png`),
  undo: () => painter.layer.undo(),
  redo: () => painter.layer.redo(),
  clear: () => painter.layer.replace(null),
  dismiss: () => showError(""),
  stop,
  "save-all": async () => {
    const files = {};
    for (const { name, blob } of results) files[name] = new Uint8Array(await blob.arrayBuffer());
    download(makeZip(files), `${source.name}_filled.zip`);
  },
};

function runAction(name) {
  ACTIONS[name]();
  if (["undo", "redo", "clear"].includes(name)) afterStroke();
}

element.addEventListener("click", (event) => {
  const pressed = event.target.closest("[data-do], [data-tool], [data-layer]");
  if (pressed?.dataset.do) runAction(pressed.dataset.do);
  if (pressed?.dataset.tool) selectTool(pressed.dataset.tool);
  if (pressed?.dataset.layer) selectLayer(pressed.dataset.layer);
});
one("form").addEventListener("submit", (event) => {
  event.preventDefault();
  fill();
});
one("[name=width]").addEventListener("input", (event) => {
  painter.widths[painter.active] = sliderToWidth(Number(event.target.value));
});
one("[name=image]").addEventListener("change", (event) => {
  openFile(event.target.files[0]);
  event.target.value = ""; // so that choosing the same file again is a change
});
one("[name=mask]").addEventListener("change", (event) => {
  openMask(event.target.files[0]);
  event.target.value = "";
});
one("dialog").addEventListener("click", () => one("dialog").close());

const board = one(".board");
for (const type of ["dragenter", "dragover"]) {
  board.addEventListener(type, (event) => {
    event.preventDefault();
    board.classList.add("over");
  });
}
for (const type of ["dragleave", "drop"]) board.addEventListener(type, () => board.classList.remove("over"));
board.addEventListener("drop", (event) => {
  event.preventDefault();
  openFile(event.dataTransfer.files[0]);
});
document.addEventListener("paste", (event) => {
  const file = [...event.clipboardData.files].find((file) => file.type.startsWith("image/"));
  if (file) openFile(file);
});

const isMac = navigator.platform.startsWith("Mac");
document.addEventListener("keydown", (event) => {
  if (!source || event.target.matches("input[type=text], textarea")) return;
  const key = event.key.toLowerCase();
  if ((isMac ? event.metaKey : event.ctrlKey) && key === "z") {
    event.preventDefault();
    runAction(event.shiftKey ? "redo" : "undo");
  } else if (!event.ctrlKey && !event.metaKey && !event.altKey && (key === "b" || key === "e")) {
    selectTool(key === "b" ? "brush" : "eraser");
  }
});
new ResizeObserver(() => painter.resize()).observe(board);
buildChoices();
update();
