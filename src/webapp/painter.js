// Paint over a photo, at the photo's own size whatever the screen's: strokes that can be taken back.
const MASK = "#ff4054";

function canvasOf(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

// Draw one segment of a stroke. Segments are replayed after an undo, which reproduces the same pixels.
// A tap is a segment without length, which a canvas does not stroke: it is filled as a dot.
function drawSegment(context, stroke, from, to) {
  context.globalCompositeOperation = stroke.erases ? "destination-out" : "source-over";
  context.strokeStyle = context.fillStyle = stroke.colour;
  context.lineWidth = stroke.width;
  context.lineCap = "round";
  context.beginPath();
  if (from[0] === to[0] && from[1] === to[1]) {
    context.arc(...to, stroke.width / 2, 0, 2 * Math.PI);
    context.fill();
  } else {
    context.moveTo(...from);
    context.lineTo(...to);
    context.stroke();
  }
  context.globalCompositeOperation = "source-over";
}

// One coat of paint: opaque where it is painted. `within` bounds it: another layer, or null.
class Layer {
  constructor(width, height, colour, within = null) {
    this.canvas = canvasOf(width, height);
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.colour = colour;
    this.within = within;
    this.done = []; // strokes, pictures (canvases) and null, which clears
    this.undone = [];
    this.given = 0; // so many of them can't be taken back
  }

  begin(width, erases, point) {
    this.undone = [];
    this.done.push({ width, erases, colour: this.colour, points: [point] });
    this.extend([point]);
  }

  extend(points) {
    const stroke = this.done.at(-1);
    for (const point of points) {
      drawSegment(this.context, stroke, stroke.points.at(-1), point);
      stroke.points.push(point);
    }
    this.#bound();
  }

  // A picture (canvas) in the place of all paint, or null for none.
  replace(picture) {
    this.undone = [];
    this.done.push(picture);
    this.#draw(picture);
  }

  undo() {
    if (this.done.length > this.given) this.undone.push(this.done.pop());
    this.#drawAll();
  }

  redo() {
    if (this.undone.length) this.done.push(this.undone.pop());
    this.#drawAll();
  }

  // A number a pixel, whose lowest byte is blue's and highest alpha's.
  #pixels() {
    const { data } = this.context.getImageData(0, 0, this.canvas.width, this.canvas.height);
    return new Uint32Array(data.buffer);
  }

  // The share of the photo that is painted, 0 to 1.
  share() {
    let count = 0;
    const pixels = this.#pixels();
    for (const pixel of pixels) count += pixel >>> 31;
    return count / pixels.length;
  }

  // White on black, as the suite's masks and edges are; `sharp` leaves no grey.
  async png(sharp) {
    const drawn = canvasOf(this.canvas.width, this.canvas.height);
    const pixels = this.#pixels();
    for (let i = 0; i < pixels.length; i++) {
      const alpha = pixels[i] >>> 24;
      pixels[i] = (0xff000000 | ((sharp ? (alpha >> 7) * 255 : alpha) * 0x010101)) >>> 0;
    }
    const bytes = new Uint8ClampedArray(pixels.buffer);
    drawn.getContext("2d").putImageData(new ImageData(bytes, drawn.width, drawn.height), 0, 0);
    return new Promise((resolve) => drawn.toBlob(resolve, "image/png"));
  }

  #draw(step) {
    if (step === null || step instanceof HTMLCanvasElement) {
      this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
      if (step) this.context.drawImage(step, 0, 0);
    } else step.points.slice(1).forEach((point, i) => drawSegment(this.context, step, step.points[i], point));
    this.#bound();
  }

  #drawAll() {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    for (const step of this.done) this.#draw(step);
  }

  #bound() {
    if (!this.within) return;
    this.context.globalCompositeOperation = "destination-in";
    this.context.drawImage(this.within.canvas, 0, 0);
    this.context.globalCompositeOperation = "source-over";
  }
}

// What is white in a picture, in one colour, the rest transparent.
function tinted(picture, colour) {
  const canvas = canvasOf(picture.naturalWidth, picture.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const rgb = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  for (let i = 0; i < pixels.data.length; i += 4) pixels.data.set([...rgb, pixels.data[i]], i);
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// The canvas on the screen: the photo, its paint and the brush. `onpaint` is called after each stroke.
class Painter {
  constructor(canvas, onpaint) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.onpaint = onpaint;
    this.photo = this.hole = this.edges = this.known = null;
    this.active = "hole";
    this.erases = false;
    this.widths = { hole: 40, edges: 3 }; // of the brush, in the photo's pixels
    this.#listen();
  }

  open(photo, width, height) {
    [this.photo, this.width, this.height] = [photo, width, height];
    this.hole = new Layer(width, height, MASK);
    this.edges = this.known = null;
    this.active = "hole";
    this.layOut();
  }

  // A picture of edges, white on black: the hole's can be painted, the others are only seen.
  openEdges(picture) {
    this.known = tinted(picture, "#9ecbff");
    const context = this.known.getContext("2d");
    context.globalCompositeOperation = "destination-out";
    context.drawImage(this.hole.canvas, 0, 0);
    this.edges = new Layer(this.width, this.height, MASK, this.hole);
    this.edges.replace(tinted(picture, MASK));
    this.edges.given = 1;
    this.render();
  }

  get layer() {
    return this[this.active];
  }

  // As large as its surroundings are, in whole device pixels.
  layOut() {
    if (!this.photo) return;
    const room = this.canvas.parentElement;
    const scale = Math.min(room.clientWidth / this.width, this.#mostHeight() / this.height);
    const css = [this.width, this.height].map((side) => Math.max(1, Math.round(side * scale)));
    [this.canvas.style.width, this.canvas.style.height] = css.map((side) => `${side}px`);
    [this.canvas.width, this.canvas.height] = css.map((side) => Math.round(side * devicePixelRatio));
    this.render();
  }

  #mostHeight() {
    return Math.max(240, Math.min(window.innerHeight * 0.62, 720));
  }

  render() {
    if (!this.photo) return;
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.#render());
  }

  #render() {
    const { context, canvas } = this;
    const fill = (picture, opacity) => {
      context.globalAlpha = opacity;
      context.drawImage(picture, 0, 0, canvas.width, canvas.height);
      context.globalAlpha = 1;
    };
    context.clearRect(0, 0, canvas.width, canvas.height);
    fill(this.photo, 1);
    if (this.active === "edges" && this.edges) {
      context.fillStyle = "rgb(8 10 16 / .72)";
      context.fillRect(0, 0, canvas.width, canvas.height);
      fill(this.hole.canvas, 0.16);
      fill(this.known, 1);
      fill(this.edges.canvas, 1);
    } else fill(this.hole.canvas, 0.7);
    if (this.pointer) this.#ring();
  }

  #ring() {
    const { context } = this;
    const scale = this.canvas.width / this.width;
    context.beginPath();
    context.arc(this.pointer[0] * scale, this.pointer[1] * scale, Math.max(2, (this.widths[this.active] * scale) / 2), 0, 7);
    for (const [width, colour] of [[3.5, "rgb(0 0 0 / .6)"], [1.5, "#fff"]]) {
      context.lineWidth = width * devicePixelRatio * 0.75;
      context.strokeStyle = colour;
      context.setLineDash(this.erases ? [6 * devicePixelRatio, 4 * devicePixelRatio] : []);
      context.stroke();
    }
    context.setLineDash([]);
  }

  #at(event) {
    const box = this.canvas.getBoundingClientRect();
    const share = [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
    return [share[0] * this.width, share[1] * this.height];
  }

  #listen() {
    let painting = null; // the pointer's id
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || painting !== null || !this.layer) return;
      event.preventDefault();
      this.canvas.focus({ preventScroll: true, focusVisible: false });
      this.canvas.setPointerCapture(event.pointerId);
      painting = event.pointerId;
      this.pointer = this.#at(event);
      this.layer.begin(this.widths[this.active], this.erases, this.pointer);
      this.render();
    });
    this.canvas.addEventListener("pointermove", (event) => {
      this.pointer = this.#at(event);
      if (event.pointerId === painting) {
        const events = event.getCoalescedEvents?.() ?? [];
        this.layer.extend((events.length ? events : [event]).map((one) => this.#at(one)));
      }
      this.render();
    });
    const end = (event) => {
      if (event.pointerId === painting) {
        painting = null;
        this.onpaint();
      }
      if (event.type !== "pointerup" || event.pointerType !== "mouse") this.pointer = null;
      this.render();
    };
    for (const type of ["pointerup", "pointercancel", "pointerleave"]) this.canvas.addEventListener(type, end);
  }
}
