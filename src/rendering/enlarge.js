// Enlarge an image of a grid on click; the buttons show the other images of its row in its place.
const dialog = document.querySelector("dialog");
const [choices, shown] = [dialog.querySelector("span"), dialog.querySelector("img")];
for (const image of document.querySelectorAll(".grid img")) {
  image.tabIndex = 0;
  image.addEventListener("click", () => enlarge(image));
  image.addEventListener("keydown", (event) => event.key === "Enter" && enlarge(image));
}
function enlarge(image) {
  const row = [...image.closest("tr").querySelectorAll("img")];
  const buttons = row.map((other) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = other.alt;
    button.addEventListener("click", () => show(other));
    return button;
  });
  function show(chosen) {
    shown.src = chosen.src;
    shown.alt = chosen.alt;
    buttons.forEach((button, i) => button.setAttribute("aria-pressed", row[i] === chosen));
  }
  choices.replaceChildren(...buttons);
  show(image);
  dialog.showModal();
}
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
