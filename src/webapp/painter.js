// Painting over an image at full resolution, with undo and redo.
const MASK_COLOUR = "#ff4054";

function makeCanvas(width, height) {
  return Object.assign(document.createElement("canvas"), { width, height });
}

// Whether canvases may be this large: above a browser's limit, such as 16.7 megapixels on phones, they stay empty.
function canPaint(width, height) {
  const context = makeCanvas(width, height).getContext("2d");
  context?.fillRect(width - 1, height - 1, 1, 1);
  return Boolean(context?.getImageData(width - 1, height - 1, 1, 1).data[3]);
}

// Draw one segment of a stroke. Segments are replayed after an undo, which reproduces the same pixels.
// A tap is a segment without length, which a canvas does not stroke: it is filled as a dot.
function drawSegment(context, stroke, from, to) {
  context.globalCompositeOperation = stroke.isErasing ? "destination-out" : "source-over";
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

// A layer of opaque paint. `within`, another layer or null, clips it.
class Layer {
  constructor(width, height, colour, within = null) {
    this.canvas = makeCanvas(width, height);
    this.context = this.canvas.getContext("2d", { willReadFrequently: true });
    this.colour = colour;
    this.within = within;
    this.done = []; // strokes, canvases that replace everything, and null, which clears
    this.undone = [];
    this.permanent = 0; // the number of first steps that can't be undone
  }

  beginStroke(width, isErasing, point) {
    this.undone = [];
    this.done.push({ width, isErasing, colour: this.colour, points: [point] });
    this.extendStroke([point]);
  }

  extendStroke(points) {
    const stroke = this.done.at(-1);
    for (const point of points) {
      drawSegment(this.context, stroke, stroke.points.at(-1), point);
      stroke.points.push(point);
    }
    this.#clip();
  }

  // Replace all paint by a canvas, or clear it with null.
  replace(canvas) {
    this.undone = [];
    this.done.push(canvas);
    this.#draw(canvas);
  }

  canUndo() {
    return this.done.length > this.permanent;
  }

  canRedo() {
    return this.undone.length > 0;
  }

  undo() {
    if (this.canUndo()) this.undone.push(this.done.pop());
    this.#drawAll();
  }

  redo() {
    if (this.canRedo()) this.done.push(this.undone.pop());
    this.#drawAll();
  }

  // One 32-bit integer per pixel; the highest byte is alpha.
  #pixels() {
    const { data } = this.context.getImageData(0, 0, this.canvas.width, this.canvas.height);
    return new Uint32Array(data.buffer);
  }

  // Ratio of painted pixels, 0 to 1.
  holeRatio() {
    let count = 0;
    const pixels = this.#pixels();
    for (const pixel of pixels) count += pixel >>> 31;
    return count / pixels.length;
  }

  // The paint as a PNG, white on black; antialiased borders stay grey unless `binary`.
  async toPng({ binary }) {
    const canvas = makeCanvas(this.canvas.width, this.canvas.height);
    const pixels = this.#pixels();
    for (let i = 0; i < pixels.length; i++) {
      const alpha = pixels[i] >>> 24;
      pixels[i] = (0xff000000 | ((binary ? (alpha >> 7) * 255 : alpha) * 0x010101)) >>> 0;
    }
    const bytes = new Uint8ClampedArray(pixels.buffer);
    canvas.getContext("2d").putImageData(new ImageData(bytes, canvas.width, canvas.height), 0, 0);
    return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
  }

  #draw(step) {
    if (step === null || step instanceof HTMLCanvasElement) {
      this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
      if (step) this.context.drawImage(step, 0, 0);
    } else step.points.slice(1).forEach((point, i) => drawSegment(this.context, step, step.points[i], point));
    this.#clip();
  }

  #drawAll() {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    for (const step of this.done) this.#draw(step);
  }

  #clip() {
    if (!this.within) return;
    this.context.globalCompositeOperation = "destination-in";
    this.context.drawImage(this.within.canvas, 0, 0);
    this.context.globalCompositeOperation = "source-over";
  }
}

// Convert white on black to a colour on transparent.
function tint(image, colour) {
  const canvas = makeCanvas(image.naturalWidth, image.naturalHeight);
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(image, 0, 0);
  const pixels = context.getImageData(0, 0, canvas.width, canvas.height);
  const rgb = [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16));
  for (let i = 0; i < pixels.data.length; i += 4) pixels.data.set([...rgb, pixels.data[i]], i);
  context.putImageData(pixels, 0, 0);
  return canvas;
}

// The canvas on the screen: image, paint and brush. `onStroke` is called after each stroke.
class Painter {
  constructor(canvas, onStroke) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.onStroke = onStroke;
    this.image = this.hole = this.edges = this.knownEdges = null;
    this.active = "hole";
    this.isErasing = false;
    this.widths = { hole: 40, edges: 3 }; // brush width by layer, in pixels of the image
    this.#listen();
  }

  open(image, width, height) {
    [this.image, this.width, this.height] = [image, width, height];
    this.hole = new Layer(width, height, MASK_COLOUR);
    this.edges = this.knownEdges = null;
    this.active = "hole";
    this.resize();
  }

  // Show an edge map, white on black: edges in the hole can be edited, others are only shown.
  openEdges(image) {
    this.knownEdges = tint(image, "#9ecbff");
    const context = this.knownEdges.getContext("2d");
    context.globalCompositeOperation = "destination-out";
    context.drawImage(this.hole.canvas, 0, 0);
    this.edges = new Layer(this.width, this.height, MASK_COLOUR, this.hole);
    this.edges.replace(tint(image, MASK_COLOUR));
    this.edges.permanent = 1;
    this.render();
  }

  get layer() {
    return this[this.active];
  }

  // Fit the canvas into its parent, in whole device pixels.
  resize() {
    if (!this.image) return;
    const parent = this.canvas.parentElement;
    const scale = Math.min(parent.clientWidth / this.width, this.#maxHeight() / this.height);
    const css = [this.width, this.height].map((side) => Math.max(1, Math.round(side * scale)));
    [this.canvas.style.width, this.canvas.style.height] = css.map((side) => `${side}px`);
    [this.canvas.width, this.canvas.height] = css.map((side) => Math.round(side * devicePixelRatio));
    this.render();
  }

  #maxHeight() {
    return Math.max(240, Math.min(window.innerHeight * 0.62, 720));
  }

  render() {
    if (!this.image) return;
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.#render());
  }

  #render() {
    const { context, canvas } = this;
    const draw = (image, opacity) => {
      context.globalAlpha = opacity;
      context.drawImage(image, 0, 0, canvas.width, canvas.height);
      context.globalAlpha = 1;
    };
    context.clearRect(0, 0, canvas.width, canvas.height);
    draw(this.image, 1);
    if (this.active === "edges" && this.edges) {
      context.fillStyle = "rgb(8 10 16 / .72)";
      context.fillRect(0, 0, canvas.width, canvas.height);
      draw(this.hole.canvas, 0.16);
      draw(this.knownEdges, 1);
      draw(this.edges.canvas, 1);
    } else draw(this.hole.canvas, 0.7);
    if (this.pointer) this.#drawBrush();
  }

  #drawBrush() {
    const { context } = this;
    const scale = this.canvas.width / this.width;
    context.beginPath();
    context.arc(this.pointer[0] * scale, this.pointer[1] * scale, Math.max(2, (this.widths[this.active] * scale) / 2), 0, 7);
    for (const [width, colour] of [[3.5, "rgb(0 0 0 / .6)"], [1.5, "#fff"]]) {
      context.lineWidth = width * devicePixelRatio * 0.75;
      context.strokeStyle = colour;
      context.setLineDash(this.isErasing ? [6 * devicePixelRatio, 4 * devicePixelRatio] : []);
      context.stroke();
    }
    context.setLineDash([]);
  }

  // The pointer's position in pixels of the image.
  #locate(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) / box.width) * this.width, ((event.clientY - box.top) / box.height) * this.height];
  }

  #listen() {
    let painting = null; // identifier of the pointer that paints
    this.canvas.addEventListener("pointerdown", (event) => {
      if (event.button !== 0 || painting !== null || !this.layer) return;
      event.preventDefault();
      this.canvas.focus({ preventScroll: true, focusVisible: false });
      this.canvas.setPointerCapture(event.pointerId);
      painting = event.pointerId;
      this.pointer = this.#locate(event);
      this.layer.beginStroke(this.widths[this.active], this.isErasing, this.pointer);
      this.render();
    });
    this.canvas.addEventListener("pointermove", (event) => {
      this.pointer = this.#locate(event);
      if (event.pointerId === painting) {
        const events = event.getCoalescedEvents?.() ?? [];
        this.layer.extendStroke((events.length ? events : [event]).map((one) => this.#locate(one)));
      }
      this.render();
    });
    const end = (event) => {
      if (event.pointerId === painting) {
        painting = null;
        this.onStroke();
      }
      if (event.type !== "pointerup" || event.pointerType !== "mouse") this.pointer = null;
      this.render();
    };
    for (const type of ["pointerup", "pointercancel", "pointerleave"]) this.canvas.addEventListener(type, end);
  }
}
