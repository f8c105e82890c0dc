// Client side of the study: the voter's token, the visible screen, and the size of the images. Gradio passes `element`
// (the page) and `props` (set in page.py); the functions of page.py are called by `call`.
// If not all images fit on the screen, they have their own size within these limits, in CSS pixels, but at most half the
// width of the screen.
const [MIN_SIDE_PX, ENOUGH_PX] = [180, 256];
const KEY = `user-study-token-${props.study}`; // another study at the same address has its own voters
const [MAX_SECONDS, UNKNOWN_VOTER] = [86_400, 403];
const one = (selector) => element.querySelector(selector);
const form = one("form");
const images = one(".images");
let token = null; // of the voter to whom the visible question is shown; another tab may have changed the stored one
let number = null; // of the visible question
let appeared = null; // time at which its images were shown, in ms
let begun = false;
let waiting = false;
let again = null; // the call that failed

class Rejected extends Error {}

async function call(name, data) {
  const [headers, body] = [{ "Content-Type": "application/json" }, JSON.stringify(data)];
  const response = await fetch(`call/${name}`, { method: "POST", headers, body });
  if (response.ok) return response.json();
  if (response.status === UNKNOWN_VOTER && name !== "join") {
    localStorage.removeItem(KEY); // of an earlier file of votes
    return firstQuestion();
  }
  throw new Rejected(await response.text());
}

// Return the first unanswered question of this browser's voter, who joins the study if there is none yet.
async function firstQuestion() {
  if (localStorage.getItem(KEY) === null) {
    const joined = await call("join", null);
    if (localStorage.getItem(KEY) === null) localStorage.setItem(KEY, joined.token); // unless another tab was faster
  }
  token = localStorage.getItem(KEY);
  return call("ask", token);
}

function show(screen) {
  for (const other of element.querySelectorAll("[data-screen]")) other.hidden = other.dataset.screen !== screen;
  one(".another").hidden = !props.shared_device || screen === "welcome";
  window.scrollTo(0, 0);
  one(`[data-screen=${screen}] h1`).focus({ preventScroll: true }); // screen readers start there
}

function card(tag, url, name, title) {
  const made = document.createElement(tag);
  made.className = "card";
  const image = new Image();
  image.src = url;
  image.alt = title;
  const line = document.createElement("span");
  line.className = "name";
  line.textContent = name;
  made.append(image, line);
  return made;
}

function result(url, place) {
  const letter = String.fromCharCode(65 + place);
  const made = card("label", url, letter, `Result ${letter}`);
  const radio = document.createElement("input");
  Object.assign(radio, { type: "radio", name: "choice", value: place });
  made.querySelector(".name").prepend(radio);
  return made;
}

async function render(page) {
  one("[data-part=count]").textContent = page.count === 1 ? "1 question" : `${page.count} questions`;
  if (page.number === null) return show("thanks");
  if (page.answered === 0 && !begun) return show("welcome");
  const shown = [card("div", page.input, "Input", "The image with its hole"), ...page.results.map(result)];
  shown[0].classList.add("input");
  await Promise.all(shown.map((made) => made.querySelector("img").decode()));
  images.replaceChildren(...shown);
  number = page.number;
  one("[data-part=number]").textContent = `${page.number} of ${page.count}`;
  Object.assign(one("progress"), { max: page.count, value: page.number - 1 });
  show("question");
  layOut();
  appeared = performance.now();
}

// One call at a time: further clicks are ignored until it has finished.
async function ask(call) {
  if (waiting) return;
  waiting = true;
  form.querySelector("[type=submit]").disabled = true;
  try {
    await render(await call());
    one(".problem").hidden = true;
  } catch (error) {
    console.error(error);
    again = call;
    one(".problem span").textContent =
      error instanceof DOMException // of localStorage
        ? "This browser does not store data for this page, which is needed to identify voters: allow site data, or use another browser."
        : error instanceof Rejected
          ? `The server responded: ${error.message}. Your previous answers are saved.`
          : "The server can't be reached. Your previous answers are saved.";
    one(".problem").hidden = false;
  }
  waiting = false;
  form.querySelector("[type=submit]").disabled = picked() === null;
}

function picked() {
  return form.querySelector("[name=choice]:checked");
}

// Choose the number of columns that makes the images largest, all on one screen if they are large enough then. Each image
// pixel covers an integer number of screen pixels, so that all have the same size, unless that wastes much space.
function layOut() {
  const shown = [...images.querySelectorAll("img")];
  if (form.hidden || shown.length === 0) return;
  const { naturalWidth: width, naturalHeight: height } = shown[0];
  const gap = parseFloat(getComputedStyle(images).columnGap);
  const border = 2 * parseFloat(getComputedStyle(shown[0].parentElement).paddingLeft);
  const free = { width: Math.floor(form.getBoundingClientRect().width), height: window.innerHeight };
  free.height -= images.getBoundingClientRect().top + window.scrollY + one("footer").offsetHeight + 12;
  const side = (columns) => {
    const rows = Math.ceil(shown.length / columns);
    const wide = (free.width - gap * (columns - 1)) / columns - border;
    const high = (free.height - gap * (rows - 1)) / rows - border - 30; // the line with the name
    return Math.min(wide, (high * width) / height);
  };
  const own = Math.min(Math.max(width / devicePixelRatio, MIN_SIDE_PX), ENOUGH_PX);
  const least = Math.min(own, (free.width - gap) / 2 - border);
  let room = Math.max(least, ...shown.map((_, i) => side(i + 1)));
  const whole = (Math.floor((room * devicePixelRatio) / width) * width) / devicePixelRatio;
  const crisp = whole >= Math.min(ENOUGH_PX, 0.75 * room);
  if (crisp) room = whole;
  for (const image of shown) {
    image.style.width = `${room}px`;
    image.style.height = `${(room * height) / width}px`;
    image.style.imageRendering = crisp ? "pixelated" : "auto";
  }
  const columns = Math.floor((free.width + gap + 1) / (room + border + gap));
  const rows = Math.ceil(shown.length / columns); // with full rows, the last one could hold a single image
  images.style.maxWidth = `${Math.ceil(shown.length / rows) * (room + border + gap)}px`;
}

form.addEventListener("change", () => {
  form.querySelector("[type=submit]").disabled = waiting;
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const choice = picked();
  if (choice === null || waiting) return;
  const seconds = Math.min((performance.now() - appeared) / 1000, MAX_SECONDS);
  const answer = { token, number, choice: Number(choice.value), seconds };
  ask(() => call("answer", answer));
});
const buttons = {
  begin: () => {
    begun = true;
    ask(firstQuestion);
  },
  another: () => {
    if (!form.hidden && !confirm("Start as a new voter? The answers so far are saved.")) return;
    begun = false;
    localStorage.removeItem(KEY);
    ask(firstQuestion);
  },
  again: () => ask(again),
};
element.addEventListener("click", (event) => buttons[event.target.closest("[data-do]")?.dataset.do]?.());
window.addEventListener("resize", layOut);
ask(firstQuestion);
