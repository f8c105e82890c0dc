// The page's life: who votes, which screen is seen, how large pictures are. Gradio hands in `element` (the page),
// `props` (what page.py set) and `server` (page.py's functions).
// Where the screen is too small for all pictures at once: their own size between these two, in CSS pixels, but on narrow
// screens no more than half the width.
const [LEAST_PX, ENOUGH_PX] = [180, 256];
const KEY = `user-study-${props.study}`; // another study at the same address has voters of its own
const one = (selector) => element.querySelector(selector);
const form = one("form");
const pictures = one(".pictures");
let number = null; // of the question on the screen
let appeared = null; // when its pictures did, ms
let begun = false;
let waiting = false;
let again = null; // what did not reach the server

function newVoter() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  localStorage.setItem(KEY, Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(""));
}

function voter() {
  if (localStorage.getItem(KEY) === null) newVoter();
  return localStorage.getItem(KEY);
}

function show(screen) {
  for (const other of element.querySelectorAll("[data-screen]")) other.hidden = other.dataset.screen !== screen;
  one(".another").hidden = !props.shared_device || screen === "welcome";
  window.scrollTo(0, 0);
  one(`[data-screen=${screen}] h1`).focus({ preventScroll: true }); // readers of screens start there
}

function card(tag, url, name, title) {
  const made = document.createElement(tag);
  made.className = "card";
  const picture = new Image();
  picture.src = url;
  picture.alt = title;
  const line = document.createElement("span");
  line.className = "name";
  line.textContent = name;
  made.append(picture, line);
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
  const shown = [card("div", page.input, "Input", "The photo with its hole"), ...page.results.map(result)];
  shown[0].classList.add("input");
  await Promise.all(shown.map((made) => made.querySelector("img").decode()));
  pictures.replaceChildren(...shown);
  number = page.number;
  one("[data-part=number]").textContent = `${page.number} of ${page.count}`;
  Object.assign(one("progress"), { max: page.count, value: page.number - 1 });
  show("question");
  layOut();
  appeared = performance.now();
}

// One call at a time: while it is under way, further clicks are nothing.
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
        ? "This browser keeps nothing for this page, so it can't tell who answers: allow it to, or take another."
        : "The server can't be reached. What you answered before is kept.";
    one(".problem").hidden = false;
  }
  waiting = false;
  form.querySelector("[type=submit]").disabled = picked() === null;
}

function picked() {
  return form.querySelector("[name=choice]:checked");
}

// As many columns as make the pictures largest, all on one screen if that leaves them large enough. Each pixel of a
// picture covers a whole number of the screen's, so that all are equally large, unless much room would be lost by that.
function layOut() {
  const images = [...pictures.querySelectorAll("img")];
  if (form.hidden || images.length === 0) return;
  const { naturalWidth: width, naturalHeight: height } = images[0];
  const gap = parseFloat(getComputedStyle(pictures).columnGap);
  const border = 2 * parseFloat(getComputedStyle(images[0].parentElement).paddingLeft);
  const free = { width: Math.floor(form.getBoundingClientRect().width), height: window.innerHeight };
  free.height -= pictures.getBoundingClientRect().top + window.scrollY + one("footer").offsetHeight + 12;
  const side = (columns) => {
    const rows = Math.ceil(images.length / columns);
    const wide = (free.width - gap * (columns - 1)) / columns - border;
    const high = (free.height - gap * (rows - 1)) / rows - border - 30; // the line with the name
    return Math.min(wide, (high * width) / height);
  };
  const own = Math.min(Math.max(width / devicePixelRatio, LEAST_PX), ENOUGH_PX);
  const least = Math.min(own, (free.width - gap) / 2 - border);
  let room = Math.max(least, ...images.map((_, i) => side(i + 1)));
  const whole = (Math.floor((room * devicePixelRatio) / width) * width) / devicePixelRatio;
  const crisp = whole >= Math.min(ENOUGH_PX, 0.75 * room);
  if (crisp) room = whole;
  for (const image of images) {
    image.style.width = `${room}px`;
    image.style.height = `${(room * height) / width}px`;
    image.style.imageRendering = crisp ? "pixelated" : "auto";
  }
  const columns = Math.floor((free.width + gap + 1) / (room + border + gap));
  const rows = Math.ceil(images.length / columns); // full ones first would leave a single picture in the last
  pictures.style.maxWidth = `${Math.ceil(images.length / rows) * (room + border + gap)}px`;
}

form.addEventListener("change", () => {
  form.querySelector("[type=submit]").disabled = waiting;
});
form.addEventListener("submit", (event) => {
  event.preventDefault();
  const choice = picked();
  if (choice === null || waiting) return;
  const seconds = (performance.now() - appeared) / 1000;
  const answer = { number, choice: Number(choice.value), seconds };
  ask(() => server.answer({ voter: voter(), ...answer }));
});
const buttons = {
  begin: () => {
    begun = true;
    ask(() => server.ask(voter()));
  },
  another: () => {
    if (!form.hidden && !confirm("Begin anew, as somebody else? What was answered so far is kept.")) return;
    begun = false;
    newVoter();
    ask(() => server.ask(voter()));
  },
  again: () => ask(again),
};
element.addEventListener("click", (event) => buttons[event.target.closest("[data-do]")?.dataset.do]?.());
window.addEventListener("resize", layOut);
ask(() => server.ask(voter()));
