// The page's life. Gradio hands in `element` (the page), `props` (what page.py set) and `server` (answers.py's functions).
const one = (selector) => element.querySelector(selector);
const all = (selector) => [...element.querySelectorAll(selector)];
const canvas = one("canvas");
const painter = new Painter(canvas, painted);
const MAC = navigator.platform.startsWith("Mac");
let photo = null; // {name, base64, width, height}
let edgesOf = null; // the method whose edges are drawn at
let results = []; // {method, name, blob}
let round = 0; // what is asked for in an earlier one is not shown any more
let filling = false;

// ---- asking -------------------------------------------------------------------------------------------------------
const browser = crypto.getRandomValues(new Uint32Array(4)).join("-"); // nobody else knows it, so nobody else can stop us

async function ask(what, sent) {
  const answer = await server[what]({ ...sent, user: `${browser}-${round}` });
  return answer ?? { problem: "The server can't be reached. What is painted is still here: try again." };
}

// What is under way comes to nothing, here at once.
function stop() {
  if (filling) ask("stop", {});
  round++;
  working(false);
}

function complain(sentence) {
  one(".problem").hidden = !sentence;
  one(".problem span").textContent = sentence;
}

// The answer; null where another round has begun since, or there is a problem, which is then said.
async function answerTo(what, sent) {
  const mine = round;
  const answer = await ask(what, sent);
  if (mine !== round) return null;
  if (answer.problem) complain(answer.problem);
  return answer.problem ? null : answer;
}

// ---- pictures -----------------------------------------------------------------------------------------------------
const pngUrl = (base64) => `data:image/png;base64,${base64}`;
const bytesOf = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());

async function picture(url) {
  const made = new Image();
  made.src = url;
  await made.decode();
  return made;
}

function base64Of(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("The file can't be read."));
    reader.readAsDataURL(blob);
  });
}

function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// ---- the photo ----------------------------------------------------------------------------------------------------
async function openFile(file) {
  if (!file) return;
  const megabytes = file.size / 1e6;
  if (megabytes > props.limits.megabytes) {
    return complain(`${file.name} has ${megabytes.toFixed(1)} MB, and at most ${props.limits.megabytes} are taken: save it smaller.`);
  }
  stop();
  complain("");
  busy("Opening the photo");
  const base64 = await base64Of(file);
  const answer = await answerTo("open_photo", { photo: base64 });
  busy("");
  if (answer) await show(answer, { name: file.name.replace(/\.[^.]*$/, "") || "photo", base64 });
}

async function openExample(number) {
  stop();
  complain("");
  const answer = await answerTo("open_example", { example: number });
  if (!answer) return;
  await show(answer, { name: props.examples[number].name, base64: answer.photo });
  await loadHole(pngUrl(answer.mask));
  fill();
}

async function show(answer, { name, base64 }) {
  photo = { name, base64, width: answer.width, height: answer.height };
  const preview = await picture(`data:image/jpeg;base64,${answer.preview}`);
  one(".drop").hidden = true;
  canvas.hidden = one(".tools").hidden = one(".files").hidden = false;
  const short = Math.min(answer.width, answer.height);
  painter.widths = { hole: Math.max(3, Math.round(short / 12)), edges: Math.max(2, Math.round(short / 220)) };
  painter.open(preview, answer.width, answer.height);
  forget();
  select("hole");
}

async function loadHole(url) {
  const mask = await picture(url);
  if (mask.naturalWidth !== photo.width || mask.naturalHeight !== photo.height) {
    return complain(`The mask is ${mask.naturalWidth} x ${mask.naturalHeight}, the photo ${photo.width} x ${photo.height}: both must have the same size.`);
  }
  painter.hole.replace(tinted(mask, MASK));
  select("hole");
  painted();
}

// Results, and edges, are of one photo and one hole.
function forget() {
  results = [];
  one(".results").hidden = true;
  dropEdges();
}

function dropEdges() {
  painter.edges = painter.known = edgesOf = null;
  one(".layers").hidden = true;
}

// ---- painting -----------------------------------------------------------------------------------------------------
function painted() {
  if (painter.active === "hole" && painter.edges) dropEdges();
  update();
}

function select(layer) {
  painter.active = layer;
  for (const button of all("[data-layer]")) button.setAttribute("aria-pressed", button.dataset.layer === layer);
  one("[name=width]").value = widthToSlider(painter.widths[layer]);
  one(".stage").dataset.layer = layer;
  update();
}

function update() {
  const layer = painter.layer;
  one("[data-do=undo]").disabled = !layer || layer.done.length <= layer.given;
  one("[data-do=redo]").disabled = !layer?.undone.length;
  const share = painter.hole?.share() ?? 0;
  const percent = (100 * share).toFixed(share < 0.1 ? 1 : 0);
  one("[data-do=save-mask]").disabled = share === 0;
  const hint = {
    none: "",
    hole: share ? `${photo?.width} x ${photo?.height}, ${percent} % of it painted over` : "Paint over what should go.",
    edges: `What ${edgesOf} takes for edges: blue where the photo is known, red in the hole. Draw or erase lines in the hole, then Fill.`,
  }[photo ? painter.active : "none"];
  if (!filling) one(".hint").textContent = hint;
  painter.render();
}

// The slider's steps grow with the brush: 1 to 100 are a pixel to half of the shorter side.
const widest = () => Math.min(photo.width, photo.height) / 2;
const sliderToWidth = (value) => Math.max(1, Math.round(widest() ** ((value - 1) / 99)));
const widthToSlider = (width) => 1 + (99 * Math.log(width)) / Math.log(Math.max(widest(), 2));

function useTool(tool) {
  painter.erases = tool === "eraser";
  for (const button of all("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === tool);
}

// ---- filling ------------------------------------------------------------------------------------------------------
function busy(text) {
  one(".hint").textContent = text;
  one(".hint").classList.toggle("busy", Boolean(text));
}

const checked = () => all(".methods input:checked").map((input) => input.value);

// What a method needs to know but its name.
async function request() {
  const side = one("[name=side]:checked").value;
  return {
    photo: photo.base64,
    mask: await base64Of(await painter.hole.png(true)),
    edges: painter.edges ? await base64Of(await painter.edges.png(false)) : null,
    side: side === "whole" ? null : Number(side),
    inside: one("[name=inside]").checked,
  };
}

function ready() {
  if (!photo) return "Choose a photo first.";
  if (painter.hole.share() === 0) return "Nothing is painted over: paint over what should go.";
  return "";
}

async function fill() {
  const problem = ready() || (checked().length ? "" : "Pick at least one method.");
  complain(problem);
  if (problem) return;
  stop();
  const mine = round;
  working(true);
  results = [];
  const methods = checked();
  const cards = methods.map(waitingCard);
  one(".cards").replaceChildren(...cards);
  one(".insides").replaceChildren();
  one(".results").hidden = false;
  one("[data-do=save-all]").hidden = true;
  one(".results").scrollIntoView({ behavior: "smooth", block: "nearest" });
  const sent = await request();
  for (const [i, method] of methods.entries()) {
    if (mine !== round) break;
    busy(`${method}: ${i + 1} of ${methods.length}`);
    cards[i].dataset.state = "working";
    const answer = await ask("fill", { ...sent, method });
    if (mine !== round) break;
    if (answer.problem) failed(cards[i], answer.problem);
    else await arrived(cards[i], method, answer);
  }
  if (mine === round) working(false);
}

function working(is) {
  if (!is && !filling) return;
  filling = is;
  one("[type=submit]").hidden = is;
  one("[data-do=stop]").hidden = !is;
  if (is) return;
  busy("");
  for (const card of all(".card[data-state=waiting], .card[data-state=working]")) card.remove();
  one(".results").hidden = !one(".card");
  one("[data-do=save-all]").hidden = results.length < 2;
  update();
}

function made(tag, className, text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

function button(text, action, title = "") {
  const made_ = Object.assign(made("button", "link", text), { type: "button", title });
  made_.addEventListener("click", action);
  return made_;
}

function waitingCard(method) {
  const card = made("article", "card");
  card.dataset.state = "waiting";
  card.dataset.method = method;
  const frame = made("div", "frame");
  frame.style.aspectRatio = `${photo.width} / ${photo.height}`;
  const line = made("div", "line");
  line.append(made("b", "", method), made("span", "seconds"));
  card.append(frame, line);
  return card;
}

function failed(card, sentence) {
  card.dataset.state = "failed";
  card.querySelector(".frame").append(made("p", "", sentence));
}

const time = (seconds) => (seconds < 1 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toFixed(1)} s`);

async function arrived(card, method, answer) {
  card.dataset.state = "done";
  const blob = new Blob([await bytesOf(pngUrl(answer.picture))], { type: "image/png" });
  const name = `${photo.name}_${method.replace(/[^\w.-]+/g, "_")}.png`;
  results.push({ method, name, blob });
  const image = Object.assign(new Image(), { src: URL.createObjectURL(blob), alt: `Filled by ${method}` });
  await image.decode();
  const before = await beforePicture();
  const frame = card.querySelector(".frame");
  frame.append(image, before, holdToCompare(before));
  image.addEventListener("click", () => enlarge(image.src, `${method}, ${time(answer.seconds)}`));
  card.querySelector(".seconds").textContent = time(answer.seconds);
  if (answer.drawn) card.querySelector("b").append(made("i", "", "your edges"));
  const actions = made("div", "actions");
  actions.append(button("Download", () => save(blob, name), `${name}, ${photo.width} x ${photo.height}`));
  if (answer.takes_edges) actions.append(button("Edit edges", () => editEdges(method)));
  card.append(actions);
  if (answer.inside.length) one(".insides").append(inside(method, answer.inside));
}

// The photo with its hole, above the result while it is held.
async function beforePicture() {
  const drawn = canvasOf(painter.canvas.width, painter.canvas.height);
  const context = drawn.getContext("2d");
  context.drawImage(painter.photo, 0, 0, drawn.width, drawn.height);
  context.globalAlpha = 0.7;
  context.drawImage(painter.hole.canvas, 0, 0, drawn.width, drawn.height);
  drawn.className = "before";
  return drawn;
}

function holdToCompare(before) {
  const hold = Object.assign(made("button", "hold", "Hold to compare"), { type: "button" });
  const shown = { pointerdown: true, keydown: true, pointerup: false, pointerleave: false, pointercancel: false, keyup: false };
  for (const [type, is] of Object.entries(shown)) {
    hold.addEventListener(type, (event) => event.key !== "Tab" && before.classList.toggle("shown", is));
  }
  hold.addEventListener("contextmenu", (event) => event.preventDefault()); // of a long touch
  return hold;
}

function enlarge(url, text) {
  const dialog = one("dialog");
  dialog.querySelector("img").src = url;
  dialog.querySelector("p").textContent = text;
  dialog.showModal();
}

// What a network did inside, each part under a head that closes it.
function inside(method, figures) {
  const block = made("section", "inside-of");
  block.append(made("h3", "", `Inside ${method}`));
  for (const { title, pictures } of figures) {
    const details = Object.assign(made("details", ""), { open: true });
    const row = made("div", "row");
    details.append(made("summary", "", title), row);
    for (const { head, png } of pictures) {
      const figure = made("figure", "");
      const image = Object.assign(new Image(), { src: pngUrl(png), alt: `${title}: ${head}` });
      image.addEventListener("click", () => enlarge(image.src, `${method}, ${title}: ${head}`));
      figure.append(image, made("figcaption", "", head));
      row.append(figure);
    }
    block.append(details);
  }
  return block;
}

// ---- edges --------------------------------------------------------------------------------------------------------
async function editEdges(method) {
  complain(ready());
  if (ready()) return;
  if (edgesOf !== method) {
    stop();
    working(true);
    busy(`${method}: its edges`);
    const mine = round;
    const answer = await answerTo("find_edges", { ...(await request()), method });
    if (mine === round) working(false);
    if (!answer) return;
    edgesOf = method;
    painter.openEdges(await picture(pngUrl(answer.edges)));
  }
  one(".layers").hidden = false;
  useTool("brush");
  select("edges");
  one(".stage").scrollIntoView({ behavior: "smooth", block: "start" });
}

// ---- what is there to choose --------------------------------------------------------------------------------------
function choices() {
  const [trained, others] = [true, false].map((has) => props.methods.filter((method) => method.has_weights === has));
  for (const [title, methods] of [["Networks", trained], ["Without weights", others]]) {
    if (!methods.length) continue;
    const group = made("div", "group");
    group.append(made("span", "", title));
    for (const { name, checked } of methods) {
      const label = made("label", "check");
      label.append(Object.assign(document.createElement("input"), { type: "checkbox", value: name, checked }), made("span", "", name));
      group.append(label);
    }
    one(".methods").append(group);
  }
  if (!trained.length) one(".methods").append(made("small", "", "No trained network is found here: make demo trains five, python -m src.train others."));
  for (const side of props.sides) {
    const label = made("label", "");
    const value = side ?? "whole";
    label.append(
      Object.assign(document.createElement("input"), { type: "radio", name: "side", value, checked: side === props.side }),
      made("span", "", side === null ? "full size" : side),
    );
    one(".sizes .switch").append(label);
  }
  for (const [number, { title, thumbnail }] of props.examples.entries()) {
    const choice = Object.assign(made("button", "example"), { type: "button", title: `Remove ${title}` });
    choice.append(Object.assign(new Image(), { src: thumbnail, alt: "" }), made("span", "", title));
    choice.addEventListener("click", () => openExample(number));
    one(".examples").append(choice);
  }
  one("[data-part=limits]").textContent = `PNG, JPEG, WebP, BMP, TIFF; up to ${props.limits.megabytes} MB and ${props.limits.megapixels} megapixels`;
}

const ACTIONS = {
  choose: () => one("[name=photo]").click(),
  "load-mask": () => one("[name=mask]").click(),
  "save-mask": async () => save(await painter.hole.png(true), `${photo.name}_mask.png`),
  undo: () => painter.layer.undo(),
  redo: () => painter.layer.redo(),
  clear: () => painter.layer.replace(null),
  dismiss: () => complain(""),
  stop,
  "save-all": async () => {
    const files = {};
    for (const { name, blob } of results) files[name] = new Uint8Array(await blob.arrayBuffer());
    save(zipped(files), `${photo.name}_filled.zip`);
  },
};

function act(name) {
  ACTIONS[name]();
  if (["undo", "redo", "clear"].includes(name)) painted();
}

element.addEventListener("click", (event) => {
  const pressed = event.target.closest("[data-do], [data-tool], [data-layer]");
  if (pressed?.dataset.do) act(pressed.dataset.do);
  if (pressed?.dataset.tool) useTool(pressed.dataset.tool);
  if (pressed?.dataset.layer) select(pressed.dataset.layer);
});
one("form").addEventListener("submit", (event) => {
  event.preventDefault();
  fill();
});
one("[name=width]").addEventListener("input", (event) => {
  painter.widths[painter.active] = sliderToWidth(Number(event.target.value));
});
one("[name=photo]").addEventListener("change", (event) => {
  openFile(event.target.files[0]);
  event.target.value = ""; // the same file again is a change, too
});
one("[name=mask]").addEventListener("change", async (event) => {
  const file = event.target.files[0];
  event.target.value = "";
  if (file) await loadHole(URL.createObjectURL(file)).catch(() => complain(`${file.name} is no picture that this browser shows.`));
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
  const file = [...event.clipboardData.files].find((one) => one.type.startsWith("image/"));
  if (file) openFile(file);
});
document.addEventListener("keydown", (event) => {
  if (!photo || event.target.matches("input[type=text], textarea")) return;
  const key = event.key.toLowerCase();
  if ((MAC ? event.metaKey : event.ctrlKey) && key === "z") {
    event.preventDefault();
    act(event.shiftKey ? "redo" : "undo");
  } else if (!event.ctrlKey && !event.metaKey && !event.altKey && { b: 1, e: 1 }[key]) useTool(key === "b" ? "brush" : "eraser");
});
new ResizeObserver(() => painter.layOut()).observe(board);
choices();
update();
