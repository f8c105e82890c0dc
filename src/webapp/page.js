// State of the page, requests to the server, and opening images.
// Gradio provides `element` (the page) and `props` (set in page.py); the functions of api.py are called by `call`.
const one = (selector) => element.querySelector(selector);
const all = (selector) => [...element.querySelectorAll(selector)];
const painter = new Painter(one("canvas"), afterStroke);
let source = null; // the image: {name, base64, width, height}
let edgesMethod = null; // the method whose edges are being edited
let results = []; // {method, name, blob}
let round = 0; // responses to requests of earlier rounds are ignored
let requests = new AbortController(); // of this round
let isFilling = false;

// ---- requests -----------------------------------------------------------------------------------------------------
async function call(name, request) {
  const [headers, body] = [{ "Content-Type": "application/json" }, JSON.stringify(request)];
  try {
    const response = await fetch(`call/${name}`, { method: "POST", headers, body, signal: requests.signal });
    return response.ok ? await response.json() : { error: `The server responded: ${await response.text()}.` };
  } catch {
    return { error: "The server is unreachable. Your painting is kept: try again." };
  }
}

// Return the response, or null if a new round has begun or an error was shown.
async function callOrShowError(name, request) {
  const started = round;
  const response = await call(name, request);
  if (started !== round) return null;
  if (response.error) showError(response.error);
  return response.error ? null : response;
}

// Stop all requests: the server stops working on them when the connection is closed.
function stop() {
  requests.abort();
  requests = new AbortController();
  round++;
  setFilling(false);
}

function showError(message) {
  one(".error").hidden = !message;
  one(".error span").textContent = message;
}

function showBusy(text) {
  one(".hint").textContent = text;
  one(".hint").classList.toggle("busy", Boolean(text));
}

// ---- image data ---------------------------------------------------------------------------------------------------
const pngUrl = (base64) => `data:image/png;base64,${base64}`;
const fetchBytes = async (url) => new Uint8Array(await (await fetch(url)).arrayBuffer());

async function loadImage(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  return image;
}

function toBase64(blob) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("The file can't be read."));
    reader.readAsDataURL(blob);
  });
}

function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

// ---- opening an image ---------------------------------------------------------------------------------------------
function isSmallEnough(file) {
  const megabytes = file.size / 1e6;
  const isSmall = megabytes <= props.limits.megabytes;
  showError(isSmall ? "" : `${file.name} has ${megabytes.toFixed(1)} MB, the limit is ${props.limits.megabytes} MB: choose a smaller file.`);
  return isSmall;
}

async function openFile(file) {
  if (!file || !isSmallEnough(file)) return;
  stop();
  showBusy("Opening the image");
  const base64 = await toBase64(file);
  const response = await callOrShowError("open_image", { image: base64 });
  showBusy("");
  if (response) await showImage(response, { name: file.name.replace(/\.[^.]*$/, "") || "image", base64 });
}

async function openExample(index) {
  stop();
  showError("");
  const response = await callOrShowError("open_example", { example: index });
  if (!response) return;
  await showImage(response, { name: props.examples[index].title, base64: response.image });
  await loadMask(pngUrl(response.mask));
  fill();
}

async function showImage({ width, height, preview }, { name, base64 }) {
  if (!canPaint(width, height)) {
    return showError(`This browser can't paint on ${width} x ${height} pixels: choose a smaller image or another browser.`);
  }
  source = { name, base64, width, height };
  const image = await loadImage(`data:image/jpeg;base64,${preview}`);
  one(".drop").hidden = true;
  painter.canvas.hidden = one(".tools").hidden = one(".files").hidden = false;
  const shorter = Math.min(width, height);
  painter.widths = { hole: Math.max(3, Math.round(shorter / 12)), edges: Math.max(2, Math.round(shorter / 220)) };
  painter.open(image, width, height);
  results = [];
  one(".results").hidden = true;
  discardEdges();
  selectLayer("hole");
}

async function openMask(file) {
  if (!file || !isSmallEnough(file)) return;
  const response = await callOrShowError("open_mask", { mask: await toBase64(file), hole: one("[name=hole]").value });
  if (response) await loadMask(pngUrl(response.mask));
}

async function loadMask(url) {
  const mask = await loadImage(url);
  const [width, height] = [mask.naturalWidth, mask.naturalHeight];
  if (width !== source.width || height !== source.height) {
    return showError(`The mask is ${width} x ${height} but the image is ${source.width} x ${source.height} pixels: load a mask of the same size.`);
  }
  painter.hole.replace(tint(mask, MASK_COLOUR));
  selectLayer("hole");
  afterStroke();
}

function discardEdges() {
  painter.edges = painter.knownEdges = edgesMethod = null;
  one(".layers").hidden = true;
}

// ---- painting -----------------------------------------------------------------------------------------------------
function afterStroke() {
  if (painter.active === "hole" && painter.edges) discardEdges(); // they belong to the previous hole
  update();
}

function selectLayer(name) {
  painter.active = name;
  for (const button of all("[data-layer]")) button.setAttribute("aria-pressed", button.dataset.layer === name);
  one("[name=width]").value = widthToSlider(painter.widths[name]);
  update();
}

function selectTool(tool) {
  painter.isErasing = tool === "eraser";
  for (const button of all("[data-tool]")) button.setAttribute("aria-pressed", button.dataset.tool === tool);
}

// Update everything that depends on what is painted.
function update() {
  const layer = painter.layer;
  one("[data-do=undo]").disabled = !layer?.canUndo();
  one("[data-do=redo]").disabled = !layer?.canRedo();
  const ratio = painter.hole?.holeRatio() ?? 0;
  one("[data-do=save-mask]").disabled = ratio === 0;
  if (!isFilling) one(".hint").textContent = source ? describePainting(ratio) : "";
  painter.render();
}

function describePainting(ratio) {
  if (painter.active === "edges") {
    return `Edges used by ${edgesMethod}: blue in the known region, red in the hole. Draw or erase lines in the hole, then fill again.`;
  }
  if (ratio === 0) return "Paint over what you want to remove.";
  return `${source.width} x ${source.height} px, ${(100 * ratio).toFixed(ratio < 0.1 ? 1 : 0)} % painted`;
}

// The slider is logarithmic: 1 is one pixel, 100 is half of the shorter side.
const maxWidth = () => Math.max(2, Math.min(source.width, source.height) / 2);
const sliderToWidth = (value) => Math.max(1, Math.round(maxWidth() ** ((value - 1) / 99)));
const widthToSlider = (width) => 1 + (99 * Math.log(width)) / Math.log(maxWidth());
