// Filling with the selected methods, the results, and editing the edges of a method.
const selectedMethods = () => all(".methods input:checked").map((input) => input.value);

// The part of a request that is the same for all methods.
async function makeRequest() {
  const side = one("[name=side]:checked").value;
  return {
    image: source.base64,
    mask: await toBase64(await painter.hole.toPng({ binary: true })),
    edges: painter.edges ? await toBase64(await painter.edges.toPng({ binary: false })) : null,
    side: side === "full" ? null : side === "auto" ? side : Number(side),
    figures: one("[name=figures]").checked,
  };
}

function findMissingInput() {
  if (!source) return "Choose an image first.";
  if (painter.hole.holeRatio() === 0) return "Nothing is painted: paint over what you want to remove.";
  return "";
}

async function fill() {
  const methods = selectedMethods();
  const error = findMissingInput() || (methods.length ? "" : "Select at least one method.");
  showError(error);
  if (error) return;
  stop();
  const started = round;
  setFilling(true);
  results = [];
  const cards = methods.map((method) => makeCard(method));
  one(".cards").replaceChildren(...cards);
  one(".figures").replaceChildren();
  one(".results").hidden = false;
  one("[data-do=save-all]").hidden = true;
  one(".results").scrollIntoView({ behavior: "smooth", block: "nearest" });
  const request = await makeRequest();
  for (const [i, method] of methods.entries()) {
    if (started !== round) break;
    showBusy(`Filling with ${method} (${i + 1} of ${methods.length})`);
    cards[i].dataset.state = "running";
    const response = await call("fill", { ...request, method });
    if (started !== round) break;
    if (response.error) showFailure(cards[i], response.error);
    else await showResult(cards[i], response, request);
  }
  if (started === round) setFilling(false);
}

// Add a sample of a stochastic method behind its other results; sample n has the seed n - 1, as in python -m src.predict.
async function addSample(request, method) {
  if (isFilling) return;
  showError("");
  stop();
  const started = round;
  setFilling(true);
  const shown = all(".card").filter((card) => card.dataset.method === method);
  const sample = shown.filter((card) => card.dataset.sample && card.dataset.state === "done").length + 1;
  const card = makeCard(method, sample);
  shown.at(-1).after(card);
  card.dataset.state = "running";
  showBusy(`Filling with ${method}, sample ${sample}`);
  const response = await call("fill", { ...request, method, seed: sample - 1, figures: false });
  if (started !== round) return;
  if (response.error) showFailure(card, response.error);
  else await showResult(card, response, request);
  if (started === round) setFilling(false);
}

// Fill and Stop replace each other: the second click of a double click must not press the other one.
let enabling = 0;
function disableBriefly(buttons) {
  for (const button of buttons) button.disabled = true;
  clearTimeout(enabling);
  enabling = setTimeout(() => buttons.forEach((button) => (button.disabled = false)), 500);
}

function setFilling(value) {
  if (!value && !isFilling) return;
  isFilling = value;
  disableBriefly(all(".go"));
  one("[type=submit]").hidden = value;
  for (const button of all("[data-do=stop]")) button.hidden = !value;
  if (value) return;
  showBusy("");
  for (const card of all(".card[data-state=waiting], .card[data-state=running]")) card.remove();
  one(".results").hidden = !one(".card");
  one("[data-do=save-all]").hidden = results.length < 2;
  update();
}

// ---- cards --------------------------------------------------------------------------------------------------------
function makeElement(tag, className, text = "") {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

function makeLink(text, action, title = "") {
  const link = Object.assign(makeElement("button", "link", text), { type: "button", title });
  link.addEventListener("click", action);
  return link;
}

function makeCard(method, sample = 0) {
  const card = makeElement("article", "card");
  card.dataset.state = "waiting";
  card.dataset.method = method;
  if (sample) card.dataset.sample = sample;
  const frame = makeElement("div", "frame");
  frame.style.aspectRatio = `${source.width} / ${source.height}`;
  const line = makeElement("div", "line");
  line.append(makeElement("b", "", sample ? `${method} ${sample}` : method), makeElement("span", "seconds"));
  card.append(frame, line);
  return card;
}

function showFailure(card, message) {
  card.dataset.state = "failed";
  card.querySelector(".frame").append(makeElement("p", "", message));
}

const formatTime = (seconds) => (seconds < 1 ? `${Math.round(1000 * seconds)} ms` : `${seconds.toFixed(1)} s`);

async function showResult(card, response, request) {
  card.dataset.state = "done";
  const { method, sample } = card.dataset;
  const title = sample ? `${method} ${sample}` : method;
  const blob = new Blob([await fetchBytes(pngUrl(response.image))], { type: "image/png" });
  const name = `${source.name}_${title.replace(/[^\w.-]+/g, "_")}.png`;
  results.push({ method, name, blob });
  const image = Object.assign(new Image(), { src: URL.createObjectURL(blob), alt: `Filled by ${title}` });
  await image.decode();
  const time = formatTime(response.seconds);
  const masked = drawMaskedImage();
  card.querySelector(".frame").append(image, masked, makeCompareButton(masked));
  image.addEventListener("click", () => enlarge(image.src, `${title}, ${time}`));
  card.querySelector(".seconds").textContent = time;
  if (response.used_edges) card.querySelector("b").append(makeElement("i", "", "your edges"));
  const actions = makeElement("div", "actions");
  actions.append(makeLink("Download", () => download(blob, name), `${name}, ${source.width} x ${source.height}`));
  if (response.stochastic) actions.append(makeLink("Another result", () => addSample(request, method), "A sample of the method's distribution"));
  if (response.takes_edges) actions.append(makeLink("Edit edges", () => editEdges(method)));
  card.append(actions);
  if (response.warning) card.append(makeElement("p", "warning", response.warning));
  if (response.figures.length) one(".figures").append(makeFigures(method, response.figures));
}

// The image with its hole painted, shown over the result while the button is held.
function drawMaskedImage() {
  const canvas = makeCanvas(painter.canvas.width, painter.canvas.height);
  const context = canvas.getContext("2d");
  context.drawImage(painter.image, 0, 0, canvas.width, canvas.height);
  context.globalAlpha = 0.7;
  context.drawImage(painter.hole.canvas, 0, 0, canvas.width, canvas.height);
  canvas.className = "before";
  return canvas;
}

function makeCompareButton(before) {
  const button = Object.assign(makeElement("button", "hold", "Hold to compare"), { type: "button" });
  const shows = { pointerdown: true, keydown: true, pointerup: false, pointerleave: false, pointercancel: false, keyup: false };
  for (const [type, shown] of Object.entries(shows)) {
    button.addEventListener(type, (event) => event.key !== "Tab" && before.classList.toggle("shown", shown));
  }
  button.addEventListener("contextmenu", (event) => event.preventDefault()); // a long press opens it on phones
  return button;
}

function enlarge(url, text) {
  const dialog = one("dialog");
  dialog.querySelector("img").src = url;
  dialog.querySelector("p").textContent = text;
  dialog.showModal();
}

// A section of a method's figures, each collapsible.
function makeFigures(method, figures) {
  const section = makeElement("section", "");
  section.append(makeElement("h3", "", `Internals of ${method}`));
  for (const { title, images } of figures) {
    const details = Object.assign(makeElement("details", ""), { open: true });
    const row = makeElement("div", "row");
    details.append(makeElement("summary", "", title), row);
    for (const { title: caption, png } of images) {
      const figure = makeElement("figure", "");
      const image = Object.assign(new Image(), { src: pngUrl(png), alt: `${title}: ${caption}` });
      image.addEventListener("click", () => enlarge(image.src, `${method}, ${title}: ${caption}`));
      figure.append(image, makeElement("figcaption", "", caption));
      row.append(figure);
    }
    section.append(details);
  }
  return section;
}

// ---- edges --------------------------------------------------------------------------------------------------------
async function editEdges(method) {
  const error = findMissingInput();
  showError(error);
  if (error) return;
  if (edgesMethod !== method) {
    stop();
    setFilling(true);
    showBusy(`Predicting edges with ${method}`);
    const started = round;
    const response = await callOrShowError("predict_edges", { ...(await makeRequest()), method });
    if (started === round) setFilling(false);
    if (!response) return;
    edgesMethod = method;
    painter.openEdges(await loadImage(pngUrl(response.edges)));
  }
  one(".layers").hidden = false;
  selectTool("brush");
  selectLayer("edges");
  one(".stage").scrollIntoView({ behavior: "smooth", block: "start" });
}
