// The page of ip2p studio. It speaks the interface that docs/reference/studio-api.yaml describes, and nothing else.
//
// Sections: helpers, the service, notices, settings, the photograph, the mask, the stage, runs, comparison, history, start.
//
// A "piece" is what is shown, kept in the history and made again: {kind: "edit" | "sweep", time, photo, mask, settings,
// results: [{index, seed, text_scale, image_scale, width, height, blob}], chosen}.

// Helpers.

const $ = (id) => document.getElementById(id);

/** An element. Properties with a dash, `role` and `for` are attributes; `on...` listens; children that are null are left out. */
function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** One of the symbols at the top of the page. */
function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#icon-${name}`);
  svg.setAttribute("aria-hidden", "true");
  svg.append(use);
  return svg;
}

const narrow = matchMedia("(max-width: 860px)");  // as in studio.css
const sleep = (milliseconds) => new Promise((resolve) => setTimeout(resolve, milliseconds));
const number = (value) => String(Number(Number(value).toFixed(4)));
const plural = (count, one, many = `${one}s`) => `${count} ${count === 1 ? one : many}`;

/** "4 s", "2 min 5 s". */
function duration(seconds) {
  const whole = Math.max(1, Math.round(seconds));
  return whole < 60 ? `${whole} s` : `${Math.floor(whole / 60)} min${whole % 60 ? ` ${whole % 60} s` : ""}`;
}

/** A value of the browser's own store, which may be forbidden. */
const stored = {
  get(name, store = localStorage) { try { return store.getItem(`ip2p-${name}`); } catch { return null; } },
  set(name, value, store = localStorage) { try { store.setItem(`ip2p-${name}`, value); } catch { /* forbidden: forgotten on reload */ } },
};

/** Addresses of blobs, given back together when what they show goes away. */
class Addresses {
  #made = new Map();
  of(blob) {
    if (!this.#made.has(blob)) this.#made.set(blob, URL.createObjectURL(blob));
    return this.#made.get(blob);
  }
  clear() {
    for (const address of this.#made.values()) URL.revokeObjectURL(address);
    this.#made.clear();
  }
}

/** Says something to screen readers. */
function announce(sentence) { $("live").textContent = sentence; }

// The service.

/** An error that the service described. */
class Refusal extends Error {
  constructor(status, fault, retryAfter) {
    super(fault.message);
    Object.assign(this, {status, param: fault.param ?? null, code: fault.code ?? null, retryAfter});
  }
}

const client = Array.from(crypto.getRandomValues(new Uint8Array(8)), (byte) => byte.toString(16).padStart(2, "0")).join("");
let token = stored.get("token", sessionStorage) ?? "";

/** `fetch` with the token, which is asked for where it is missing. Throws a Refusal for an answer that is one. */
async function request(path, options = {}) {
  for (;;) {
    const headers = {"X-Client": client, ...options.headers};
    if (token) headers.Authorization = `Bearer ${token}`;
    const used = token;
    const answer = await fetch(path, {cache: "no-store", ...options, headers});
    if (answer.ok) return answer;
    const text = await answer.text();
    let fault = {message: `The studio answered with status ${answer.status}.`};
    try { fault = JSON.parse(text).error ?? fault; } catch { /* of a proxy, not ours */ }
    if (answer.status !== 401) throw new Refusal(answer.status, fault, Number(answer.headers.get("Retry-After")) || null);
    if (token === used) await askForToken(used ? fault.message : "");
  }
}

let asking = null;

/** Resolves when a token was entered. */
function askForToken(problem) {
  $("problem-token").textContent = problem;
  $("problem-token").hidden = !problem;
  asking ??= new Promise((resolve) => {
    const dialog = $("entry");
    dialog.oncancel = (event) => event.preventDefault();  // nothing works without it
    $("entry-form").onsubmit = () => {
      token = $("token").value.trim();
      stored.set("token", token, sessionStorage);
      asking = null;
      resolve();
    };
    $("token").value = "";
    dialog.showModal();
  });
  return asking;
}

/** Server-sent events of a path, as {event, data}. A stream without a word for `silence` ms counts as broken. */
async function* eventsOf(path, signal, silence = 40000) {
  const watch = new AbortController();
  let timer = setTimeout(() => watch.abort(), silence);
  try {
    const answer = await request(path, {headers: {Accept: "text/event-stream"}, signal: AbortSignal.any([signal, watch.signal])});
    const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = "";
    for (;;) {
      const {value, done} = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(() => watch.abort(), silence);
      text += value.replaceAll("\r", "");
      for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
        const lines = text.slice(0, end).split("\n");
        text = text.slice(end + 2);
        const of = (field) => lines.filter((line) => line.startsWith(`${field}:`)).map((line) => line.slice(field.length + 1).trimStart());
        if (of("data").length) yield {event: of("event")[0] ?? "message", data: JSON.parse(of("data").join("\n"))};
      }
    }
  } finally {
    clearTimeout(timer);
  }
}

// Notices: sentences next to what they are about.

let countdown = 0;

/** Shows a sentence above the instruction, with buttons as [label, action]. */
function notice(sentence, {error = false, buttons = []} = {}) {
  clearInterval(countdown);
  const box = $("notice");
  box.className = error ? "notice error" : "notice";
  box.replaceChildren(
    el("p", {}, sentence),
    ...buttons.map(([label, action]) => el("button", {type: "button", className: "small", onclick: () => { clearNotice(); action(); }}, label)),
    el("button", {type: "button", className: "quiet icon", "aria-label": "Dismiss", onclick: clearNotice}, icon("close")));
  box.hidden = false;
}

/** Takes the sentence away. */
function clearNotice() {
  clearInterval(countdown);
  $("notice").hidden = true;
}

/** Which input and which line for its error a field of the interface has. */
function placeOf(param) {
  const name = (param ?? "").replace(/^settings\./, "");
  if (name === "instruction") return ["prompt", "prompt"];
  if (name === "grid.text_scale" || mode === "sweep" && name === "text_scale") return ["text-scales", "text_scales"];
  if (name === "grid.image_scale" || mode === "sweep" && name === "image_scale") return ["image-scales", "image_scales"];
  if (name === "image") return [null, "image"];
  if (name === "mask") return [null, "mask"];
  if (fields[name]) return [fields[name].input.id, name];
  return null;
}

/** Shows an error next to what caused it, and brings that into view. */
function problem(param, sentence) {
  const place = placeOf(param);
  const line = place && $(`problem-${place[1]}`);
  if (!line) return notice(sentence, {error: true});
  if (sentence.startsWith(`${param}: `)) sentence = sentence[param.length + 2].toUpperCase() + sentence.slice(param.length + 3);
  line.textContent = sentence;
  line.hidden = false;
  if (place[1] === "mask") { setMode("edit"); openMask(true); }
  if (place[1] === "image") setMode("edit");
  const input = place[0] && $(place[0]);
  if (line.closest("#settings")) openSettings(true);
  if (input) {
    input.setAttribute("aria-invalid", "true");
    input.focus();
  }
  line.scrollIntoView({block: "nearest"});
  announce(sentence);
}

/** Takes the error of a field away. */
function clearProblem(name) {
  const line = $(`problem-${name}`);
  if (line) line.hidden = true;
}

/** Takes all errors of fields away. */
function clearProblems() {
  for (const line of document.querySelectorAll(".problem[id]")) line.hidden = true;
  for (const input of document.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

// Settings.

let model = null;
const fields = {};  // by the names of the interface: {input, get(), set(value)}

/** A slider with a field for the number, the range that suits the model marked, and warnings outside of it. */
function scaleField(name, label, hint, {least, most, step, sound, recommended, whole = false, unlikely}) {
  const slider = el("input", {type: "range", min: least, max: most, step, "aria-label": `${label}, slider`, tabIndex: 0});
  const input = el("input", {type: "number", id: `set-${name}`, min: 0, step: whole ? 1 : "any", inputMode: whole ? "numeric" : "decimal",
                             "aria-describedby": `hint-${name} advice-${name} problem-${name}`});
  const band = el("span", {className: "sound", hidden: !sound});
  if (sound) {
    const share = (value) => 100 * (value - least) / (most - least);
    band.style.setProperty("--from", `${share(sound.least)}%`);
    band.style.setProperty("--span", `${share(sound.most) - share(sound.least)}%`);
  }
  const advice = el("p", {className: "advice", id: `advice-${name}`, hidden: true});
  const changed = () => {
    const value = Number(input.value);
    const outside = sound && input.value !== "" && (value < sound.least || value > sound.most);
    advice.textContent = outside ? `Outside of ${number(sound.least)} to ${number(sound.most)}, ${unlikely}.` : "";
    advice.hidden = !outside;
    clearProblem(name);
    input.removeAttribute("aria-invalid");
    summarise();
  };
  slider.addEventListener("input", () => { input.value = slider.value; changed(); });
  input.addEventListener("input", () => { slider.value = input.value; changed(); });
  fields[name] = {
    input,
    get: () => input.value.trim() === "" ? recommended : Number(input.value),
    set(value) { input.value = number(value); slider.value = value; changed(); },
    recommended,
  };
  return el("div", {className: "setting"}, el("label", {for: input.id}, label), el("p", {className: "hint", id: `hint-${name}`}, hint),
            el("div", {className: "pair"}, el("span", {className: "scale"}, slider, band), input), advice,
            el("p", {className: "problem", id: `problem-${name}`, hidden: true}));
}

/** A list to choose from. */
function listField(name, label, values, recommended) {
  const input = el("select", {id: `set-${name}`, "aria-describedby": `problem-${name}`},
                   ...values.map((value) => el("option", {value}, value === recommended ? `${value} (recommended)` : value)));
  input.addEventListener("change", () => { clearProblem(name); summarise(); });
  fields[name] = {input, recommended, get: () => input.value, set(value) { if (values.includes(value)) input.value = value; summarise(); }};
  return el("div", {className: "setting"}, el("label", {for: input.id}, label), input,
            el("p", {className: "problem", id: `problem-${name}`, hidden: true}));
}

/** The seed: locked, or another one for each edit. */
function seedField() {
  const input = el("input", {type: "text", id: "set-seed", inputMode: "numeric", autocomplete: "off", value: "42",
                             "aria-describedby": "hint-seed problem-seed"});
  const roll = () => { input.value = String(crypto.getRandomValues(new Uint32Array(1))[0] % 1000000); clearProblem("seed"); summarise(); };
  const lock = el("button", {type: "button", className: "quiet icon", id: "seed-lock", "aria-pressed": "false", "aria-label": "Keep this seed",
                             title: "Keep this seed"}, icon("unlocked"));
  const setLocked = (locked) => {
    lock.setAttribute("aria-pressed", String(locked));
    lock.querySelector("use").setAttribute("href", `#icon-${locked ? "locked" : "unlocked"}`);
    summarise();
  };
  const locked = () => lock.getAttribute("aria-pressed") === "true";
  lock.addEventListener("click", () => setLocked(!locked()));
  input.addEventListener("input", () => { setLocked(true); clearProblem("seed"); input.removeAttribute("aria-invalid"); summarise(); });
  fields.seed = {
    input, locked, roll, recommended: "42",
    get: () => /^\d+$/.test(input.value.trim()) ? Number(input.value) : NaN,
    set(value) { input.value = String(value); setLocked(true); },
    reset() { input.value = "42"; setLocked(false); },
  };
  return el("div", {className: "setting"}, el("label", {for: input.id}, "Seed"),
            el("p", {className: "hint", id: "hint-seed"}, "The same seed gives the same picture. Unlocked, each edit takes another."),
            el("div", {className: "pair"}, input, lock,
               el("button", {type: "button", className: "quiet icon", id: "seed-roll", "aria-label": "Another seed", title: "Another seed", onclick: roll}, icon("dice"))),
            el("p", {className: "problem", id: "problem-seed", hidden: true}));
}

/** What to steer away from. */
function negativeField() {
  const input = el("input", {type: "text", id: "set-negative", autocomplete: "off", "aria-describedby": "hint-negative advice-negative problem-negative"});
  input.addEventListener("input", () => { clearProblem("negative"); summarise(); });
  fields.negative = {input, recommended: "", get: () => input.value, set(value) { input.value = value; summarise(); }};
  return el("div", {className: "setting"}, el("label", {for: input.id}, "Steer away from"),
            el("p", {className: "hint", id: "hint-negative"}, "A negative prompt, such as “blurry”."), input,
            el("p", {className: "advice", id: "advice-negative", hidden: true}, "It has no effect while both scales are 1."),
            el("p", {className: "problem", id: "problem-negative", hidden: true}));
}

/** A switch. */
function toggleField(name, label, hint, recommended) {
  const input = el("input", {type: "checkbox", id: `set-${name}`, role: "switch", checked: recommended, "aria-describedby": `hint-${name} problem-${name}`});
  input.addEventListener("change", () => { clearProblem(name); summarise(); });
  fields[name] = {input, recommended, get: () => input.checked, set(value) { input.checked = Boolean(value); summarise(); }};
  return el("div", {className: "setting"}, el("label", {className: "toggle", for: input.id}, input, label),
            el("p", {className: "hint", id: `hint-${name}`}, hint), el("p", {className: "problem", id: `problem-${name}`, hidden: true}));
}

/** Fills the section of settings, and what else depends on the model. */
function furnish() {
  const {recommended, ranges, limits} = model;
  const scale = (value, sound, most) => {
    const span = sound ? sound.most - sound.least : 0;
    return {recommended: value, sound, step: sound ? 0.05 : 0.1, unlikely: "for which this model was trained; the picture may be spoiled",
            least: sound ? Math.max(0, number(sound.least - span)) : 0, most: sound ? Number(number(sound.most + span)) : most};
  };
  $("fields").replaceChildren(
    scaleField("text_scale", "Text scale", "How closely to follow the instruction.", scale(recommended.text_scale, ranges.text_scale, 15)),
    scaleField("image_scale", "Image scale", "How closely to follow the photograph.", scale(recommended.image_scale, ranges.image_scale, 3)),
    scaleField("steps", "Steps", "More take longer and may be finer.",
               {recommended: recommended.steps, least: 1, most: Math.min(limits.steps, Math.max(20, 2 * recommended.steps)), step: 1, whole: true}),
    scaleField("count", "Results", "With as many seeds, to choose from.",
               {recommended: 1, least: 1, most: Math.min(limits.count, 16), step: 1, whole: true}),
    seedField(),
    ...(model.full_size ? [toggleField("full_size", "Full size", "Bring the result to the photograph's own size and sharpness.", true)] : []),
    listField("sampler", "Sampler", model.samplers, recommended.sampler),
    listField("schedule", "Schedule", model.schedules, recommended.schedule),
    negativeField());
  recommend();
  $("model").textContent = `${model.name} on ${model.device}`;
  $("model").title = `ip2p ${model.version}, ${model.dtype}`;
  const wishes = model.known.length ? model.known.map(({name}) => [name, `make it ${name}`]) :
    ["make it snowy", "turn it into a watercolor", "make it sunset", "as a pencil drawing", "make it autumn"].map((text) => [text, text]);
  $("suggestions").replaceChildren(...wishes.map(([name, text]) => el("li", {}, el("button", {
    type: "button", title: text, onclick() { $("prompt").value = text; promptChanged(); $("prompt").focus(); }}, name))));
  $("text-scales").value = spread(recommended.text_scale, ranges.text_scale, [0.5, 1, 1.5]).map(number).join(", ");
  $("image-scales").value = spread(recommended.image_scale, ranges.image_scale, [2 / 3, 1, 4 / 3]).map(number).join(", ");
  $("mask-open").hidden = !model.masks;
  $("go").disabled = false;
  axesChanged();
  render();
}

/** Values for an axis: over the model's range, or about its own value. */
function spread(value, range, factors) {
  if (!range || range.least === range.most) return factors.map((factor) => Number((value * factor).toFixed(2)));
  const inside = [0, 1 / 3, 2 / 3, 1].map((share) => Number((range.least + share * (range.most - range.least)).toFixed(2)));
  return [...new Set(range.most - range.least < 0.3 ? [inside[0], inside[3]] : inside)];
}

/** Puts what the model recommends into all fields. */
function recommend() {
  for (const field of Object.values(fields)) field.reset ? field.reset() : field.set(field.recommended);
}

/** The settings as the interface takes them. */
function settingsNow() {
  const settings = {instruction: $("prompt").value.trim()};
  for (const [name, field] of Object.entries(fields)) settings[name] = field.get();
  return settings;
}

/** Puts settings into the fields; what is not given becomes what the model recommends. */
function applySettings(settings) {
  for (const [name, field] of Object.entries(fields)) {
    if (name === "full_size" || name === "count") field.set(settings[name] ?? (name === "count" ? 1 : false));
    else field.set(settings[name] ?? field.recommended);
  }
  if (settings.grid?.text_scale) $("text-scales").value = settings.grid.text_scale.map(number).join(", ");
  if (settings.grid?.image_scale) $("image-scales").value = settings.grid.image_scale.map(number).join(", ");
  $("prompt").value = settings.instruction ?? "";
  clearProblems();
  promptChanged();
  axesChanged();
}

/** One line about settings: of a result, if it is given. */
function factsOf(settings, result) {
  const facts = [`text ${number(result?.text_scale ?? settings.text_scale)}`, `image ${number(result?.image_scale ?? settings.image_scale)}`,
                 plural(settings.steps, "step"), `seed ${result?.seed ?? settings.seed}`];
  if (result) facts.push(settings.sampler, `${result.width}\u00a0×\u00a0${result.height}`);
  if (settings.negative) facts.push(`not “${settings.negative}”`);
  return facts.join(" · ");
}

/** Says beside the button of the settings what they are. */
function summarise() {
  if (!fields.negative || !fields.full_size && model.full_size) return;  // while they are made
  const settings = settingsNow();
  const parts = [plural(settings.steps, "step")];
  if (mode === "edit") parts.unshift(`text ${number(settings.text_scale)}`, `image ${number(settings.image_scale)}`);
  if (mode === "edit" && settings.count > 1) parts.push(plural(settings.count, "result"));
  if (fields.seed.locked()) parts.push(`seed ${settings.seed}`);
  $("summary").textContent = parts.join(" · ");
  $("advice-negative").hidden = !(settings.negative && settings.text_scale === 1 && settings.image_scale === 1);
}

/** Opens or closes the section of settings. */
function openSettings(open) {
  $("settings").hidden = !open;
  $("settings-open").setAttribute("aria-expanded", String(open));
  stored.set("settings", open ? "open" : "closed");
}

/** Warns about an instruction that names no edit of a model that knows only a few, as the service's library judges it. */
function promptChanged() {
  if (!CSS.supports("field-sizing", "content")) {  // the field grows with its text
    $("prompt").style.height = "auto";
    $("prompt").style.height = `${$("prompt").scrollHeight + 2}px`;
  }
  clearProblem("prompt");
  $("prompt").removeAttribute("aria-invalid");
  const words = $("prompt").value.toLowerCase().match(/[a-z0-9\u0080-\uffff]+/g) ?? [];
  const knows = !model?.known.length || !words.length || words.some((word) => model.known.some((edit) =>
    edit.words.some((one) => word === one || one.length >= 4 && word.startsWith(one))));
  $("advice-prompt").textContent = knows ? "" : "This small model knows only the edits that are suggested below, and the instruction names none of them.";
  $("advice-prompt").hidden = knows;
}

// The photograph.

let photo = null;  // {key, blob, name, width, height}
const photoAddresses = new Addresses();

/** A name for the same bytes: their SHA-256, or where the browser withholds it (http), one that is merely likely. */
async function keyOf(blob, name) {
  if (!crypto.subtle) return `${name}-${blob.size}-${blob.lastModified ?? 0}`;
  const sum = new Uint8Array(await crypto.subtle.digest("SHA-256", await blob.arrayBuffer()));
  return Array.from(sum, (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A file that was dropped, pasted or chosen: settings where it is a picture of ours, otherwise the photograph. */
async function receive(file) {
  clearProblem("image");
  if (!model) return notice("The studio cannot be reached yet.", {error: true});
  if (running) return notice("An edit is being made; cancel it to take another photograph.");
  const text = new TextDecoder("latin1").decode(await file.arrayBuffer());
  if (/[ti][ET]Xtip2p\0|urn:ip2p:1\.0:/.test(text)) {
    try {
      return await restore(file, await (await request("/api/settings", {method: "POST", body: file, headers: {"Content-Type": file.type || "application/octet-stream"}})).json());
    } catch (error) {
      if (error instanceof Refusal && error.status >= 500) notice(error.message, {error: true});
      // It has no settings that can be used, so it is a photograph like any other.
    }
  }
  await takePhotograph(file, file.name || "photograph");
}

/** The settings of a picture, and its photograph where the history has it. */
async function restore(file, found) {
  applySettings(found.settings);
  setMode(found.settings.grid ? "sweep" : "edit");
  const name = file.name || "the picture";
  const origin = found.model && found.model !== model.name ? `, which was made by ${found.model},` : "";
  const known = found.photo && photo?.key !== found.photo ? await history.photo(found.photo) : null;
  if (known) await takePhotograph(known.blob, known.name);
  const same = found.photo && photo?.key === found.photo;
  notice(`The settings of ${name}${origin} are in place${same ? ", and its photograph too" : photo ? "" : "; choose its photograph to make it again"}.`,
         {buttons: [["Use as photograph", () => takePhotograph(file, name)]]});
  announce("Settings restored.");
}

/** Hangs a picture as the photograph: as it is, or in a form and size that the service takes. */
async function takePhotograph(file, name) {
  const image = new Image();
  image.src = URL.createObjectURL(file);
  try {
    await image.decode();
  } catch {
    return problem("image", `${name} is not a picture that this browser can show; PNG, JPEG and WebP are taken.`);
  } finally {
    URL.revokeObjectURL(image.src);
  }
  let blob = file, {naturalWidth: width, naturalHeight: height} = image;
  const scale = Math.min(1, Math.sqrt(model.limits.pixels / (width * height)));
  if (scale < 1 || !await isTaken(file)) {  // the browser can read it, the service cannot
    width = Math.max(1, Math.floor(width * scale));
    height = Math.max(1, Math.floor(height * scale));
    const canvas = el("canvas", {width, height});
    const context = canvas.getContext("2d");
    context.imageSmoothingQuality = "high";
    context.drawImage(image, 0, 0, width, height);
    blob = await new Promise((resolve) => canvas.toBlob(resolve, scale < 1 ? "image/jpeg" : "image/png", 0.95));
    if (!blob) return problem("image", `${name} is too large for this browser.`);
  }
  if (blob.size > model.limits.bytes) {
    return problem("image", `${name} has ${(blob.size / 1e6).toFixed(1)} MB; this studio takes at most ${(model.limits.bytes / 1e6).toFixed(1)} MB.`);
  }
  clearNotice();
  clearProblem("image");
  hang({key: await keyOf(blob, name), blob, name, width, height});
  setMask(null);
  if (scale < 1) notice(`${name} was scaled down to ${width} × ${height}: this studio takes at most ${number(model.limits.pixels / 1e6)} million pixels.`);
  announce(`Photograph ${name}, ${width} by ${height} pixels.`);
}

/** Whether the first bytes are those of PNG, JPEG or WebP. */
async function isTaken(file) {
  const head = String.fromCharCode(...new Uint8Array(await file.slice(0, 12).arrayBuffer()));
  return /^(\x89PNG|\xff\xd8|RIFF....WEBP)/s.test(head);
}

// The mask: a canvas over the photograph, in which what is painted is to be edited.

const mask = {canvas: $("mask"), context: $("mask").getContext("2d", {willReadFrequently: true}), painted: false, last: null};

/** Takes a canvas or picture as the mask; null for none, which means the whole picture. */
function setMask(picture) {
  if (!photo) return;
  const scale = Math.min(1, 1536 / Math.max(photo.width, photo.height));
  mask.canvas.width = Math.max(1, Math.round(photo.width * scale));
  mask.canvas.height = Math.max(1, Math.round(photo.height * scale));
  mask.painted = false;
  if (picture) {
    const {context} = mask;
    context.drawImage(picture, 0, 0, mask.canvas.width, mask.canvas.height);
    tint(context, mask.canvas, getComputedStyle($("go")).backgroundColor);
  }
  maskChanged();
}

/** Gives all that is painted one colour. */
function tint(context, canvas, colour) {
  context.globalCompositeOperation = "source-in";
  context.fillStyle = colour;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.globalCompositeOperation = "source-over";
}

/** Paints or erases, as the tool is; `draw` gets the context. */
function paintMask(draw) {
  const {context} = mask;
  const erasing = document.querySelector("input[name=tool]:checked").value === "erase";
  context.globalCompositeOperation = erasing ? "destination-out" : "source-over";
  context.fillStyle = context.strokeStyle = getComputedStyle($("go")).backgroundColor;
  draw(context);
  context.globalCompositeOperation = "source-over";
}

/** Says what share is painted. */
function maskChanged() {
  const {width, height} = mask.canvas;
  const pixels = mask.context.getImageData(0, 0, width, height).data;
  let count = 0;
  for (let i = 3; i < pixels.length; i += 4) count += pixels[i] > 127;
  mask.painted = count > 0;
  const share = Math.round(100 * count / (width * height));
  $("mask-state").textContent = mask.painted ? `${share || "less than 1"} % of the picture is painted; the rest stays as it is.`
                                             : "Nothing is painted yet: the whole picture is edited.";
  $("mask-open").querySelector("span").textContent = mask.painted ? "Editing a part" : "Edit a part";
  clearProblem("mask");
  render();
}

/** The mask as the service takes it: a PNG of the photograph's size, white where to edit; null for the whole picture. */
async function maskBlob() {
  if (!mask.painted) return null;
  const canvas = el("canvas", {width: photo.width, height: photo.height});
  const context = canvas.getContext("2d");
  context.drawImage(mask.canvas, 0, 0, canvas.width, canvas.height);
  tint(context, canvas, "#fff");
  context.globalCompositeOperation = "destination-over";
  context.fillStyle = "#000";
  context.fillRect(0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** The canvas form of a mask of the history, with alpha for its white. */
async function canvasOfMask(blob) {
  const bitmap = await createImageBitmap(blob);
  const canvas = el("canvas", {width: bitmap.width, height: bitmap.height});
  const context = canvas.getContext("2d");
  context.drawImage(bitmap, 0, 0);
  const picture = context.getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 0; i < picture.data.length; i += 4) picture.data[i + 3] = picture.data[i];
  context.putImageData(picture, 0, 0);
  return canvas;
}

/** Opens or closes the brush. */
function openMask(open) {
  if (open && hung.edit) show("edit", null);
  $("mask-tools").hidden = !open;
  $("mask-open").setAttribute("aria-expanded", String(open));
  $("print").classList.toggle("painting", open);
  render();
}

/** Draws the brush from where it was to a pointer's place. */
function strokeTo(event) {
  const box = mask.canvas.getBoundingClientRect();
  const scale = mask.canvas.width / box.width;
  const point = [(event.clientX - box.left) * scale, (event.clientY - box.top) * scale];
  paintMask((context) => {
    context.lineCap = context.lineJoin = "round";
    context.lineWidth = Number($("brush-size").value) / 100 * Math.min(mask.canvas.width, mask.canvas.height);
    context.beginPath();
    context.moveTo(...(mask.last ?? point));
    context.lineTo(...point);
    context.stroke();
  });
  mask.last = point;
}

/** Connects the brush and its tools. */
function wireMask() {
  const {canvas} = mask;
  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    strokeTo(event);
  });
  canvas.addEventListener("pointermove", (event) => {
    if (mask.last) for (const one of event.getCoalescedEvents?.() ?? [event]) strokeTo(one);
  });
  for (const end of ["pointerup", "pointercancel"]) canvas.addEventListener(end, () => { mask.last = null; maskChanged(); });
  const fill = (context) => context.fillRect(0, 0, canvas.width, canvas.height);
  $("mask-open").addEventListener("click", () => openMask($("mask-tools").hidden));
  $("mask-done").addEventListener("click", () => { openMask(false); $("prompt").focus(); });
  $("mask-clear").addEventListener("click", () => setMask(null));
  $("mask-whole").addEventListener("click", () => { paintMask(fill); maskChanged(); });
  $("mask-invert").addEventListener("click", () => {
    const {context} = mask;
    context.globalCompositeOperation = "source-out";
    context.fillStyle = getComputedStyle($("go")).backgroundColor;
    fill(context);
    context.globalCompositeOperation = "source-over";
    maskChanged();
  });
  $("rectangle-apply").addEventListener("click", () => {
    const [left, top, width, height] = ["left", "top", "width", "height"].map((side) => Number($(`rectangle-${side}`).value) / 100);
    paintMask((context) => context.fillRect(left * canvas.width, top * canvas.height, width * canvas.width, height * canvas.height));
    maskChanged();
  });
  for (const tool of document.querySelectorAll("input[name=tool]")) {
    tool.addEventListener("change", () => { $("rectangle-apply").textContent = tool.value === "erase" ? "Erase it" : "Paint it"; });
  }
}

// The stage.

let mode = "edit";  // or "sweep"
const hung = {edit: null, sweep: null};  // the pieces on the wall, of `photo`
const addresses = {edit: new Addresses(), sweep: new Addresses()};

/** Hangs a piece in the place of another, or none. */
function show(kind, piece) {
  if (piece !== hung[kind]) addresses[kind].clear();
  hung[kind] = piece;
  render();
}

/** Takes another photograph, and the pieces of the old one down. */
function hang(next) {
  if (next !== photo) photoAddresses.clear();
  photo = next;
  show("edit", null);
  show("sweep", null);
}

const chosenOf = (piece) => piece.results.find(({index}) => index === piece.chosen);

/** Draws what the state is. */
function render() {
  if (!model) return;
  const {edit} = hung;
  const result = edit && edit.chosen != null ? chosenOf(edit) : null;
  const sheet = edit && !result && edit.settings.count > 1;
  const busy = edit && edit === running?.piece;
  $("invitation").hidden = Boolean(photo);
  $("print").hidden = !photo || sheet;
  $("sheet").hidden = !sheet;
  if (photo && !sheet) renderPrint(result, busy);
  if (sheet) renderSheet(edit, busy);

  $("caption").hidden = !photo;
  $("caption-title").textContent = edit ? edit.settings.instruction : photo?.name ?? "";
  $("caption-facts").textContent = result ? factsOf(edit.settings, result)
    : sheet ? (busy ? "" : "Choose one to see it large.") : photo && !busy ? `${photo.width} × ${photo.height}` : "";
  $("to-sheet").hidden = !(result && edit.results.length > 1);
  $("reuse").hidden = !result || busy;
  $("go-on").hidden = !result || busy;
  $("download").hidden = !result;
  $("mask-open").hidden = !model.masks || Boolean(running) || !photo;
  $("replace").hidden = Boolean(running);
  if (result) Object.assign($("download"), {href: addresses.edit.of(result.blob), download: fileName(edit, result)});

  $("go").hidden = Boolean(running);
  $("go").textContent = mode === "sweep" ? "Compare" : "Edit";
  $("cancel").hidden = !running;
  $("command").classList.toggle("running", Boolean(running));
  renderSweep();
  history.mark();
}

/** The photograph, and over it the preview, the result or the mask. */
function renderPrint(result, busy) {
  const print = $("print");
  const shape = result ?? photo;
  print.style.setProperty("--aspect", shape.width / shape.height);
  const source = photoAddresses.of(photo.blob);
  if ($("before").getAttribute("src") !== source) $("before").src = source;
  $("before").alt = `The photograph ${photo.name}`;
  const preview = busy ? running.previews.get(0) : null;
  $("preview").hidden = $("tag-preview").hidden = !preview;
  if (preview) $("preview").src = preview;
  if (result) {
    const address = addresses.edit.of(result.blob);
    if ($("after").getAttribute("src") !== address) {
      $("after").src = address;
      reveal();
    }
    $("after").alt = `The result of “${hung.edit.settings.instruction}”`;
  }
  for (const id of ["after-clip", "divider", "wipe"]) $(id).hidden = !result;
  label();
  $("mask").hidden = Boolean(result || preview) || !(mask.painted || print.classList.contains("painting"));
}

/** Draws a new result over the photograph, once, from left to right. */
function reveal() {
  wipeTo(0);
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  $("print").classList.remove("revealing");
  requestAnimationFrame(() => $("print").classList.add("revealing"));
}

/** Shows so much of the photograph, at the left, and the result beside it. */
function wipeTo(percent) {
  $("print").classList.remove("revealing");
  $("wipe").value = percent;
  $("print").style.setProperty("--wipe", `${percent}%`);
  $("wipe").setAttribute("aria-valuetext", `${percent} % before, ${100 - percent} % after`);
  label();
}

/** Names the sides that are wide enough for it. */
function label() {
  $("tag-before").hidden = $("wipe").hidden || $("wipe").value < 12;
  $("tag-after").hidden = $("wipe").hidden || $("wipe").value > 88;
}

/** All results of an edit, those that are still to come among them. */
function renderSheet(edit, busy) {
  const {count} = edit.settings;
  const list = $("sheet");
  const aspect = (edit.results[0] ?? edit.photo).width / (edit.results[0] ?? edit.photo).height;
  const columns = columnsFor(count, aspect, $("stage"));
  list.style.setProperty("--columns", columns);
  list.style.setProperty("--rows", Math.ceil(count / columns));
  list.style.setProperty("--aspect", aspect);
  fill(list, count, (index) => {
    const result = edit.results.find((one) => one.index === index);
    return {result, label: result ? `Result ${index + 1}, seed ${result.seed}` : `Result ${index + 1}, not made yet`, caption: String(index + 1),
            source: result ? addresses.edit.of(result.blob) : busy ? running.previews.get(index) : null, shape: result ?? edit.photo,
            choose() { edit.chosen = index; history.update(edit); render(); $("wipe").focus(); announce(`Result ${index + 1} is chosen.`); }};
  }, "li");
}

/** The number of columns with which cells of this shape become largest. */
function columnsFor(count, aspect, {clientWidth, clientHeight}) {
  if (narrow.matches) return 2;
  const size = (columns) => Math.min(clientWidth / columns, clientHeight / Math.ceil(count / columns) * aspect);
  return Array.from({length: count}, (_, i) => i + 1).reduce((best, columns) => size(columns) > size(best) ? columns : best, 1);
}

/** Puts cells into a list, and changes those that are there, so that the focus stays where it is. */
function fill(list, count, describe, tag, cells = [...list.querySelectorAll(".cell")]) {
  if (cells.length !== count) {
    cells = Array.from({length: count}, () => el("button", {type: "button", className: "cell"},
      el("img", {alt: ""}), el("span", {className: "tag approximate"}, "approximate preview"), el("span", {className: "tag number"})));
    list.replaceChildren(...cells.map((cell) => el(tag, {}, cell)));
  }
  cells.forEach((cell, index) => setCell(cell, describe(index)));
}

/** Says what a cell of a sheet or sweep shows. */
function setCell(cell, {result, label, caption, source, shape, choose}) {
  const [image, tag, name] = cell.children;
  if (source) { if (image.getAttribute("src") !== source) image.src = source; } else image.removeAttribute("src");
  image.hidden = !source;
  tag.hidden = !source || Boolean(result);
  name.textContent = caption;
  name.hidden = !caption;
  cell.style.setProperty("--aspect", shape.width / shape.height);
  cell.setAttribute("aria-label", label);
  cell.disabled = !result;
  cell.onclick = choose;
}

/** A name for a result's file: photograph, instruction and seed. */
function fileName(one, result) {
  const plain = (text) => text.replace(/\.[^.]*$/, "").replace(/[^\p{L}\p{N}]+/gu, "-").replace(/^-|-$/g, "").slice(0, 60);
  return `${plain(one.photo.name)}-${plain(one.settings.instruction)}-${result.seed}.png`;
}

/** Chooses a tab. */
function setMode(next) {
  mode = next;
  summarise();
  for (const name of ["text_scale", "image_scale", "count"]) fields[name].input.closest(".setting").hidden = mode === "sweep";
  for (const [name, tab] of [["edit", "edit"], ["sweep", "compare"]]) {
    const selected = mode === name;
    $(`tab-${tab}`).setAttribute("aria-selected", String(selected));
    $(`tab-${tab}`).tabIndex = selected ? 0 : -1;
    $(tab).hidden = !selected;
  }
  render();
}

// Runs: a job of the service, from the request to its last result.

let running = null;  // {piece, id, state, position, step, steps, secondsLeft, previews, fetched, stopping, begin, last}

/** A run that begins. */
function runOf(piece, state, id = null) {
  return {piece, id, state, position: 0, step: 0, steps: 0, secondsLeft: null, previews: new Map(), fetched: new Map(),
          stopping: false, begin: performance.now(), over: new AbortController()};
}

/** Goes on with the run that the page followed before it was loaded anew. */
async function resume() {
  const made = await history.expected();
  if (!made) return;
  hang(made.photo);
  running = runOf(made.piece, "queued", made.id);
  setMask(made.piece.mask ? await canvasOfMask(made.piece.mask) : null);
  applySettings(made.piece.settings);
  setMode(made.piece.kind);
  show(made.piece.kind, made.piece);
  renderProgress();
  await follow(running);
}

/** Sends what the page says. */
async function start() {
  if (running || !model) return;
  clearProblems();
  clearNotice();
  if (!photo) {
    problem("image", "Choose a photograph first.");
    return $("choose").focus();
  }
  const settings = settingsNow();
  if (!settings.instruction) return problem("instruction", "Write what should change, or take one of the suggestions.");
  if (!(settings.seed <= model.limits.seed)) return problem("seed", `Expected a whole number from 0 to ${model.limits.seed}, found “${fields.seed.input.value}”.`);
  if (mode === "sweep") {
    const grid = {text_scale: listOf("text-scales"), image_scale: listOf("image-scales")};
    for (const [name, values] of Object.entries(grid)) {
      if (!values) return problem(`grid.${name}`, "Expected numbers with commas between them, such as 1, 1.2.");
    }
    const cells = grid.text_scale.length * grid.image_scale.length;
    if (cells > model.limits.count) return problem("grid.text_scale", `These are ${cells} pictures; this studio makes at most ${model.limits.count} at once.`);
    delete settings.count;
    settings.grid = grid;
  }
  if (!fields.seed.locked()) {
    fields.seed.roll();
    settings.seed = fields.seed.get();
  }
  openMask(false);
  const made = {kind: mode, time: Date.now(), photo, mask: null, settings, results: [], chosen: null};
  running = runOf(made, "sending");
  show(mode, made);
  renderProgress();
  if (narrow.matches) $("stage").scrollIntoView({block: "start"});
  announce(mode === "sweep" ? "Comparison sent." : "Edit sent.");
  const run = running;
  made.mask = await maskBlob();
  const form = new FormData();
  form.append("image", photo.blob, photo.name);
  if (made.mask) form.append("mask", made.mask, "mask.png");
  form.append("settings", new Blob([JSON.stringify({...settings, preview_every: model.previews ? 1 : 0})], {type: "application/json"}));
  try {
    const job = await (await request("/api/jobs", {method: "POST", body: form, signal: run.over.signal})).json();
    run.id = job.id;
    await history.expect(run);
    change(run, job);
  } catch (error) {
    end(run);
    return refused(error);
  }
  if (run.stopping) stop();  // while it was being sent
  await follow(run);
}

/** What is to be said of a request that failed. */
function refused(error) {
  if (error.name === "AbortError") return;
  if (!(error instanceof Refusal)) {
    return notice("The studio cannot be reached. Your photograph and settings are kept.", {error: true, buttons: [["Try again", start]]});
  }
  if (error.status === 429) return tryLater(error);
  problem(error.param, error.message);
}

/** Counts down to when the service says that it takes more. */
function tryLater({message, retryAfter}) {
  const until = performance.now() + 1000 * (retryAfter ?? 5);
  notice("", {error: true, buttons: [["Try again", start]]});
  const tick = () => {
    const left = Math.ceil((until - performance.now()) / 1000);
    $("notice").firstChild.textContent = `${message} ${left > 0 ? `Try again in ${duration(left)}.` : "You can try again now."}`;
    if (left <= 0) clearInterval(countdown);
  };
  tick();
  countdown = setInterval(tick, 1000);
}

const OVER = ["done", "failed", "cancelled"];

/** Follows a job to its end, over lost connections too. */
async function follow(run) {
  let wait = 500, lost = false;
  const found = () => { if (lost) clearNotice(); lost = false; wait = 500; };
  while (!OVER.includes(run.state)) {
    try {
      for await (const {event, data} of eventsOf(`/api/jobs/${run.id}/events`, run.over.signal)) {
        found();
        if (event === "preview") { run.previews.set(data.index, data.image); render(); }
        else if (event === "result") take(run, data);
        else change(run, data);
        if (OVER.includes(event)) break;
      }
      if (OVER.includes(run.state)) break;
    } catch (error) {
      if (gone(run, error)) return;
    }
    lost = true;
    notice("The connection to the studio was lost; trying to reach it again.", {error: true});
    await sleep(wait);
    wait = Math.min(2 * wait, 8000);
    try {
      const job = await (await request(`/api/jobs/${run.id}`, {signal: AbortSignal.timeout(15000)})).json();
      found();
      change(run, job);
    } catch (error) {
      if (gone(run, error)) return;
    }
  }
  await Promise.allSettled(run.fetched.values());
  finish(run);
}

/** Whether an error ends the run: the service answered, but no longer has the job. */
function gone(run, error) {
  if (!(error instanceof Refusal) || error.status >= 500) return false;
  end(run);
  notice(error.status === 404 ? "The studio no longer has this edit; it was probably started anew." : error.message,
         {error: true, buttons: [["Make it again", start]]});
  return true;
}

/** Takes over what is known of the job. */
function change(run, data) {
  const before = run.state;
  if (data.state) run.state = data.state;
  if (data.position != null) run.position = data.position;
  if (data.steps) Object.assign(run, {step: data.step, steps: data.steps, secondsLeft: data.seconds_left});
  if (data.error) run.error = data.error;
  for (const result of data.results ?? []) take(run, result);
  if (run.state !== before && run.state === "running") announce("The edit is being made.");
  if (run.state === "queued" && run.position !== run.announced) announce(queueText(run.announced = run.position));
  renderProgress();
}

/** Fetches a result, once. */
function take(run, result) {
  if (run.fetched.has(result.index)) return;
  const fetching = (async () => {
    for (let tries = 0;; ++tries) {
      try {
        const blob = await (await request(result.url)).blob();
        run.piece.results.push({...result, blob});
        run.piece.results.sort((a, b) => a.index - b.index);
        return render();
      } catch (error) {
        if (error instanceof Refusal || tries === 30) { run.missing = error; return; }
        await sleep(1000);
      }
    }
  })();
  run.fetched.set(result.index, fetching);
}

/** The place in the queue as a sentence. */
const queueText = (position) => position === 0 ? "Waiting; yours is the next." : `Waiting; ${plural(position, "edit")} before yours.`;

/** Draws how far the run is. */
function renderProgress() {
  if (!running) return;
  const {state, step, steps, secondsLeft, position, stopping} = running;
  const bar = $("bar");
  if (state === "running" && steps) { bar.max = steps; bar.value = step; } else bar.removeAttribute("value");
  const left = secondsLeft == null ? "" : ` · about ${duration(secondsLeft)} left`;
  $("progress-text").textContent = stopping ? "Stopping after this step." : state === "queued" ? queueText(position)
    : state === "running" && steps ? `Step ${step} of ${steps}${left}` : state === "sending" ? "Sending the photograph." : "Starting.";
  $("cancel").disabled = stopping;
  document.title = state === "running" && steps ? `${Math.floor(100 * step / steps)} % · ip2p studio` : "ip2p studio";
}

/** Asks the service to stop. */
async function stop() {
  const run = running;
  if (!run) return;
  run.stopping = true;
  renderProgress();
  if (!run.id) return;  // start() stops it when the service has named it
  try {
    change(run, await (await request(`/api/jobs/${run.id}`, {method: "DELETE"})).json());
  } catch (error) {
    run.stopping = false;
    renderProgress();
    notice(error instanceof Refusal ? error.message : "The studio cannot be reached, so the edit could not be stopped.", {error: true});
  }
}

/** Takes the run off the page. */
function end(run) {
  run.over.abort();
  const focused = document.activeElement === $("cancel");
  running = null;
  history.forget(run);
  document.title = "ip2p studio";
  if (run.piece.results.length === 0) show(run.piece.kind, null);
  else render();
  if (focused) $("go").focus();
}

/** Shows and keeps what the job has made. */
function finish(run) {
  const {piece: made, state} = run;
  if (made.kind === "edit" && made.settings.count === 1 && made.results.length) made.chosen = made.results[0].index;
  end(run);
  if (made.results.length) history.add(made);
  const parts = made.results.length ? ` ${plural(made.results.length, "result")} made before are kept.` : "";
  if (state === "failed") problem(run.error?.param ?? null, run.error?.message ?? "The edit failed.");
  else if (state === "cancelled") { notice(`The edit was cancelled.${parts}`); announce("The edit was cancelled."); }
  else if (run.missing) notice("A result could not be fetched; make the edit again.", {error: true, buttons: [["Make it again", start]]});
  else announce(`Ready after ${duration((performance.now() - run.begin) / 1000)}.`);
}

// Comparison: a sweep of the text scale against the image scale.

/** The numbers of a list, or null. */
function listOf(id) {
  const words = $(id).value.split(/[\s,;]+/).filter((word) => word);
  const values = words.map(Number);
  return words.length && values.every(Number.isFinite) ? values : null;
}

/** Says how many pictures the lists make. */
function axesChanged() {
  const rows = listOf("text-scales"), columns = listOf("image-scales");
  $("axes-hint").textContent = rows && columns ? `${plural(rows.length * columns.length, "picture")} of one seed, at most ${model.limits.count}.` : "";
}

/** Draws the table of a comparison, or what it is for. */
function renderSweep() {
  const holder = $("sweep");
  const {sweep} = hung;
  if (!sweep) {
    const hint = photo ? "The photograph is edited with every pair of these scales, and the pictures are laid out in rows and columns."
                       : "Choose a photograph in the tab Edit, or drop one anywhere; then compare what the two scales do.";
    return holder.replaceChildren(el("p", {className: "hint"}, hint));
  }
  const {text_scale: rows, image_scale: columns} = sweep.settings.grid;
  if (holder.piece !== sweep || !holder.querySelector("table")) {
    holder.piece = sweep;
    for (const [name, value] of [["--columns", columns.length], ["--rows", rows.length], ["--aspect", sweep.photo.width / sweep.photo.height]]) {
      holder.style.setProperty(name, value);
    }
    holder.replaceChildren(el("table", {className: "sweep"},
      el("caption", {}, el("span", {className: "title"}, sweep.settings.instruction)),
      el("thead", {}, el("tr", {}, el("td", {className: "corner"}), ...columns.map((value) => el("th", {scope: "col"}, `image ${number(value)}`)))),
      el("tbody", {}, ...rows.map((value) => el("tr", {}, el("th", {scope: "row"}, `text ${number(value)}`),
        ...columns.map(() => el("td", {}, el("button", {type: "button", className: "cell"}, el("img", {alt: ""}),
          el("span", {className: "tag approximate"}, "approximate"), el("span", {className: "tag number"})))))))));
  }
  [...holder.querySelectorAll(".cell")].forEach((cell, index) => {
    const result = sweep.results.find((one) => one.index === index);
    const scales = `text scale ${number(rows[Math.floor(index / columns.length)])}, image scale ${number(columns[index % columns.length])}`;
    setCell(cell, {result, label: result ? `Picture with ${scales}` : `Picture with ${scales}, not made yet`, caption: "", shape: result ?? sweep.photo,
                   source: result ? addresses.sweep.of(result.blob) : sweep === running?.piece ? running.previews.get(index) : null,
                   choose: () => enlarge(sweep, result)});
  });
}

/** Opens a cell of a sweep. */
function enlarge(sweep, result) {
  $("large-title").textContent = sweep.settings.instruction;
  $("large-image").src = addresses.sweep.of(result.blob);
  $("large-image").alt = `Text scale ${number(result.text_scale)}, image scale ${number(result.image_scale)}`;
  $("large-facts").textContent = factsOf(sweep.settings, result);
  Object.assign($("large-download"), {href: addresses.sweep.of(result.blob), download: fileName(sweep, result)});
  $("large-use").onclick = () => {
    $("large").close();
    reuse(sweep, result);
    setMode("edit");
    show("edit", {...sweep, kept: null, kind: "edit", settings: settingsNow(), results: [result], chosen: result.index});
    $("prompt").focus();
  };
  $("large").showModal();
}

/** Puts the settings of a result into the fields. */
function reuse(one, result) {
  const {grid, ...settings} = one.settings;
  applySettings({...settings, count: 1, seed: result.seed, text_scale: result.text_scale, image_scale: result.image_scale});
  announce("The settings of this result are in place.");
}

// History: pieces in the browser's own database, photographs once each.

const history = {
  database: null,
  most: 40,  // pieces
  list: [],

  async open() {
    try {
      this.database = await new Promise((resolve, reject) => {
        const opening = indexedDB.open("ip2p-studio", 1);
        opening.onupgradeneeded = () => {
          opening.result.createObjectStore("pieces", {keyPath: "time"});
          opening.result.createObjectStore("photos", {keyPath: "key"});
          opening.result.createObjectStore("runs", {keyPath: "id"});
        };
        opening.onsuccess = () => resolve(opening.result);
        opening.onerror = () => reject(opening.error);
      });
      for (const kept of await this.ask("pieces", "readonly", (store) => store.getAll())) this.list.push(kept);
    } catch {
      $("film-empty").textContent = "This browser keeps no history (a private window, perhaps).";
    }
    this.render();
  },

  /** One request to a store. */
  ask(store, access, action) {
    return new Promise((resolve, reject) => {
      const transaction = this.database.transaction(store, access);
      const asked = action(transaction.objectStore(store));
      transaction.oncomplete = () => resolve(asked?.result);
      transaction.onerror = transaction.onabort = () => reject(transaction.error);
    });
  },

  /** Keeps what is being made, so that it is found again when this tab is loaded anew. */
  async expect({id, piece: {photo: of, ...rest}}) {
    stored.set("run", id, sessionStorage);
    await this.keep(async () => {
      await this.ask("photos", "readwrite", (store) => store.put(of));
      await this.ask("runs", "readwrite", (store) => store.put({...rest, id, photoKey: of.key, results: []}));
    });
  },

  /** What was being made, {id, piece, photo}, or null. */
  async expected() {
    const id = stored.get("run", sessionStorage);
    if (!id || !this.database) return null;
    const found = await this.ask("runs", "readonly", (store) => store.get(id));
    const of = found && await this.photo(found.photoKey);
    if (!of) return null;
    const {photoKey, id: same, ...rest} = found;
    return {id, photo: of, piece: {...rest, photo: of}};
  },

  async forget({id}) {
    if (!id) return;
    stored.set("run", "", sessionStorage);
    await this.keep(() => this.ask("runs", "readwrite", (store) => store.delete(id)));
  },

  async photo(key) {
    return this.database ? (await this.ask("photos", "readonly", (store) => store.get(key))) ?? null : null;
  },

  async add(made) {
    const kept = await this.entryOf(made);
    made.kept = kept;
    this.list.push(kept);
    this.render();
    await this.keep(async () => {
      await this.ask("photos", "readwrite", (store) => store.put(made.photo));
      await this.ask("pieces", "readwrite", (store) => store.put(kept));
      while (this.list.length > this.most) await this.ask("pieces", "readwrite", (store) => store.delete(this.list.shift().time));
      const waiting = await this.ask("runs", "readonly", (store) => store.getAll());
      const used = new Set([...this.list, ...waiting].map((one) => one.photoKey));
      for (const key of await this.ask("photos", "readonly", (store) => store.getAllKeys())) {
        if (!used.has(key)) await this.ask("photos", "readwrite", (store) => store.delete(key));
      }
    });
    this.render();
  },

  /** A piece as it is kept: the photograph by its key, and a thumbnail. */
  async entryOf({photo: of, kept, ...rest}) {
    return {...rest, photoKey: of.key, thumbnail: await thumbnailOf((chosenOf(rest) ?? rest.results[0]).blob)};
  },

  /** After another choice among the results. */
  async update(made) {
    if (!made.kept || !this.list.includes(made.kept)) return;
    Object.assign(made.kept, await this.entryOf(made));
    await this.keep(() => this.ask("pieces", "readwrite", (store) => store.put(made.kept)));
    this.render();
  },

  /** Says so where the browser cannot keep more. */
  async keep(action) {
    if (!this.database) return;
    try {
      await action();
    } catch {
      notice("The browser has no room for this edit in its history; download it, or clear the history.", {error: true});
    }
  },

  async clear() {
    this.list = [];
    await this.keep(async () => {
      await this.ask("pieces", "readwrite", (store) => store.clear());
      await this.ask("photos", "readwrite", (store) => store.clear());
    });
    this.render();
    announce("The history is cleared.");
  },

  async show(kept) {
    if (running) return notice("An edit is being made; its result comes first.");
    const of = photo?.key === kept.photoKey ? photo : await this.photo(kept.photoKey);
    if (!of) return notice("The photograph of this edit is no longer in the history.", {error: true});
    const {photoKey, thumbnail, ...rest} = kept;
    hang(of);
    setMask(kept.mask ? await canvasOfMask(kept.mask) : null);
    openMask(false);
    clearNotice();
    show(kept.kind, {...rest, photo: of, kept});
    setMode(kept.kind);
  },

  render() {
    $("film-empty").hidden = this.list.length > 0;
    $("clear-history").hidden = this.list.length === 0;
    this.addresses.clear();
    $("film").replaceChildren(...[...this.list].reverse().map((kept) => {
      const when = new Date(kept.time).toLocaleString([], {dateStyle: "short", timeStyle: "short"});
      const label = `${kept.settings.instruction}, ${kept.results.length > 1 ? `${kept.results.length} results, ` : ""}${when}`;
      return el("li", {}, el("button", {type: "button", "aria-label": label, title: label, onclick: () => this.show(kept)},
        el("img", {alt: "", src: this.addresses.of(kept.thumbnail)}),
        kept.results.length > 1 ? el("span", {className: "tag number"}, kept.kind === "sweep" ? "grid" : `× ${kept.results.length}`) : null));
    }));
    this.mark();
  },

  /** Marks the piece that hangs on the wall. */
  mark() {
    [...$("film").querySelectorAll("button")].reverse().forEach((button, i) => {
      button.setAttribute("aria-current", String(this.list[i] === hung[mode]?.kept));
    });
  },

  addresses: new Addresses(),
};

/** A small JPEG of a picture. */
async function thumbnailOf(blob) {
  const bitmap = await createImageBitmap(blob, {resizeWidth: 184, resizeQuality: "high"});
  const canvas = el("canvas", {width: bitmap.width, height: bitmap.height});
  canvas.getContext("2d").drawImage(bitmap, 0, 0);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", 0.85));
}

/** Asks before the history is cleared, in the place of the button. */
function confirmClear() {
  const button = $("clear-history");
  const close = () => { asked.remove(); button.hidden = history.list.length === 0; };
  const asked = el("div", {className: "confirm", role: "group", "aria-label": "Clear the history?"},
    el("span", {}, "Clear all?"),
    el("button", {type: "button", className: "small", onclick() { close(); history.clear(); $("prompt").focus(); }}, "Clear"),
    el("button", {type: "button", className: "quiet small", onclick() { close(); button.focus(); }}, "Keep"));
  button.hidden = true;
  button.after(asked);
  asked.querySelector("button").focus();
}

// Start.

/** Colours: as the system's, light or dark; remembered. */
function wireTheme() {
  const names = {auto: "Auto", light: "Light", dark: "Dark"};
  const set = (theme) => {
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    $("theme").querySelector(".label").textContent = names[theme];
    $("theme").setAttribute("aria-label", `Colours: ${names[theme]}`);
    stored.set("theme", theme);
    return theme;
  };
  let theme = set(stored.get("theme") in names ? stored.get("theme") : "auto");
  $("theme").addEventListener("click", () => { theme = set({auto: "light", light: "dark", dark: "auto"}[theme]); });
}

/** Tabs by mouse and arrow keys. */
function wireTabs() {
  const tabs = [["edit", $("tab-edit")], ["sweep", $("tab-compare")]];
  tabs.forEach(([name, tab], i) => {
    tab.addEventListener("click", () => model && setMode(name));
    tab.addEventListener("keydown", (event) => {
      if (!["ArrowLeft", "ArrowRight"].includes(event.key)) return;
      event.preventDefault();
      const [other, next] = tabs[1 - i];
      if (model) setMode(other);
      next.focus();
    });
  });
}

/** Files come by the button, by dropping and by pasting. */
function wirePhotograph() {
  const choose = () => $("file").click();
  $("choose").addEventListener("click", choose);
  $("replace").addEventListener("click", choose);
  $("file").addEventListener("change", () => { if ($("file").files[0]) receive($("file").files[0]); $("file").value = ""; });
  let depth = 0;
  const veil = (change) => { depth = Math.max(0, depth + change); $("veil").hidden = depth === 0; };
  const holdsFiles = (event) => event.dataTransfer?.types.includes("Files");
  document.addEventListener("dragenter", (event) => { if (holdsFiles(event)) { event.preventDefault(); veil(1); } });
  document.addEventListener("dragleave", (event) => { if (holdsFiles(event)) veil(-1); });
  document.addEventListener("dragover", (event) => { if (holdsFiles(event)) event.preventDefault(); });
  document.addEventListener("drop", (event) => {
    if (!holdsFiles(event)) return;
    event.preventDefault();
    veil(-depth);
    if (event.dataTransfer.files[0]) receive(event.dataTransfer.files[0]);
  });
  document.addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files].find(({type}) => type.startsWith("image/"));
    if (file) { event.preventDefault(); receive(file); }
  });
}

/** What can be done with a result. */
function wireResult() {
  $("wipe").addEventListener("input", () => wipeTo(Number($("wipe").value)));
  $("to-sheet").addEventListener("click", () => { hung.edit.chosen = null; render(); $("sheet").querySelector(".cell:not(:disabled)")?.focus(); });
  $("reuse").addEventListener("click", () => { reuse(hung.edit, chosenOf(hung.edit)); $("prompt").focus(); });
  $("go-on").addEventListener("click", () => takePhotograph(chosenOf(hung.edit).blob, fileName(hung.edit, chosenOf(hung.edit))));
}

/** The instruction, the settings, and what else sends or changes them. */
function wireCommand() {
  $("command").addEventListener("submit", (event) => { event.preventDefault(); start(); });
  $("cancel").addEventListener("click", stop);
  $("prompt").addEventListener("input", promptChanged);
  $("prompt").addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); start(); }
  });
  $("settings-open").addEventListener("click", () => {
    const open = $("settings").hidden;
    openSettings(open);
    if (open && narrow.matches) $("settings").scrollIntoView({block: "start"});
  });
  $("settings-close").addEventListener("click", () => { openSettings(false); $("settings-open").focus(); });
  $("recommended").addEventListener("click", () => { clearProblems(); recommend(); announce("The settings are those that the model recommends."); });
  for (const id of ["text-scales", "image-scales"]) {
    $(id).addEventListener("input", () => { clearProblem(id.replace("-", "_")); $(id).removeAttribute("aria-invalid"); axesChanged(); });
    $(id).addEventListener("keydown", (event) => { if (event.key === "Enter") start(); });
  }
  $("settings").addEventListener("keydown", (event) => {
    if (event.key === "Escape") $("settings-close").click();
    if (event.key === "Enter" && event.target.matches("input")) start();
  });
  $("mask-tools").addEventListener("keydown", (event) => { if (event.key === "Escape") { openMask(false); $("mask-open").focus(); } });
  $("clear-history").addEventListener("click", confirmClear);
}

/** Asks for the model until the service answers. */
async function meet() {
  for (let wait = 1000;; wait = Math.min(2 * wait, 8000)) {
    try {
      model = await (await request("/api/model")).json();
      clearNotice();
      return furnish();
    } catch (error) {
      notice(error instanceof Refusal ? error.message : "The studio cannot be reached; trying again.", {error: true});
      await sleep(wait);
    }
  }
}

$("go").disabled = true;
wireTheme();
wireTabs();
wirePhotograph();
wireMask();
wireResult();
wireCommand();
openSettings(stored.get("settings") === "open");
await history.open();
await meet();
await resume();
