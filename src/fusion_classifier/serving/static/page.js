// The page of `fec serve`: asks POST /predict, POST /explain and GET /info of its own server, nothing else.

const SHOWN = 6; // labels at first
const HEADLINE = 60; // characters of labels that make a headline
const LEAST = 0.08; // share of the largest weight below which a word is left unshaded

const at = (id) => document.getElementById(id);
const percent = (p) => `${(100 * p).toFixed(1)}%`;
let info = null;
let asked = null; // AbortController of the text in work
let explained = new Map(); // label to its words, of the text shown
let shownText = "";

// --- the server ---------------------------------------------------------------------------------------------

class Problem extends Error {
  constructor(message, { type = "", way = null } = {}) {
    super(message);
    Object.assign(this, { type, way });
  }
}

async function call(path, body, { signal, json = true } = {}) {
  const headers = {};
  const key = sessionStorage.getItem("fec-key");
  if (key) headers.authorization = `Bearer ${key}`;
  if (json && body !== undefined) headers["content-type"] = "application/json";
  let answer;
  try {
    answer = await fetch(path, {
      method: body === undefined ? "GET" : "POST",
      headers,
      body: json && body !== undefined ? JSON.stringify(body) : body,
      signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem("The server does not answer. Is fec serve still running?", { type: "Offline" });
  }
  if (answer.ok) return answer;
  let said = {};
  try {
    said = await answer.json();
  } catch {
    // A proxy in between answers in a form of its own.
  }
  throw explainedProblem(answer.status, said.error_type ?? "", said.error ?? "");
}

function explainedProblem(status, type, message) {
  if (status === 401) {
    at("key-form").hidden = false;
    if (sessionStorage.getItem("fec-key")) at("key-hint").textContent = "The server rejected this key.";
    return new Problem("This server requires a key: enter it above.", { type });
  }
  if (type === "Empty") return new Problem("There is no text yet: write one first.", { type });
  if (type === "Tokenizer") {
    const most = info ? ` (${info.max_input_length.toLocaleString("en")} tokens, about ${about(info.max_input_length * 0.7)} words)` : "";
    return new Problem(`The text is longer than the model’s limit${most}.`, { type, way: "truncate" });
  }
  if (status === 413 && !message.startsWith("The file has")) {
    const most = info ? ` It takes ${size(info.payload_limit)}.` : "";
    return new Problem(`That is more than the server accepts at once.${most}`, { type });
  }
  if (status === 429) return new Problem("The server is overloaded. Try again in a moment.", { type, way: "again" });
  if (status === 503) return new Problem("The server is starting or stopping. Try again in a moment.", { type, way: "again" });
  if (status === 424) return new Problem("The model failed on this text. See the server’s log.", { type, way: "again" });
  return new Problem(message || `The server answered with the error ${status}.`, { type });
}

const about = (n) => (Math.round(n / 10) * 10).toLocaleString("en");
const size = (bytes) => (bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} KB` : `${(bytes / 1e6).toFixed(bytes < 1e7 ? 1 : 0).replace(".0", "")} MB`);

async function learn() {
  try {
    info = await (await call("/info")).json();
  } catch (error) {
    if (error.type !== "Unauthorized") show(error);
    return;
  }
  at("key-form").hidden = true;
  const names = Object.values(info.id2label);
  const labels = names.length;
  at("model").textContent = info.model_id;
  document.title = `${info.model_id} · LLM-FusionClassifier`;
  const either = `${names.slice(0, -1).join(", ")} or ${names.at(-1)}?`;
  at("headline").textContent = either.length <= HEADLINE ? either : `${info.multilabel ? "Which" : "Which one"} of ${labels} labels?`;
  at("caveat").textContent = info.caveat;
  offer(info.examples, names);
  at("lead").textContent =
    `Write a text to see which of ${labels} labels it ${info.multilabel ? "may have" : "most likely has"}, ` +
    "the probability of each, and the words that lead to them.";
  at("file-limit").textContent = `Up to ${size(info.payload_limit)}; texts that are too long are truncated.`;
  if (info.multilabel) at("format").querySelector("[value=csv]").remove();
  const facts = [
    ["Model", info.model_id],
    ["Encoders, frozen", info.encoders.map((one) => one.name).join(" + ")],
    ["Head", info.head],
    ["Labels", labels],
    ["Trained on", info.task],
    ["Longest text", `${info.max_input_length} tokens`],
    ["Version", info.version],
  ];
  at("about").replaceChildren(...facts.map(([name, value]) => {
    const group = document.createElement("div");
    group.append(made("dt", name), made("dd", value));
    return group;
  }));
}

// --- elements -----------------------------------------------------------------------------------------------

function made(tag, text = "", className = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

function show(error) {
  at("empty").hidden = true;
  at("answer").hidden = true;
  at("words").hidden = true;
  at("problem").hidden = false;
  at("problem-text").textContent = error instanceof Problem ? error.message : "The page failed; reload it.";
  if (!(error instanceof Problem)) console.error(error);
  const ways = { truncate: "Read its beginning", again: "Try again" };
  at("problem-way").hidden = !ways[error.way];
  at("problem-way").textContent = ways[error.way] ?? "";
  at("problem-way").onclick = () => classify({ truncate: error.way === "truncate" });
}

// --- a text -------------------------------------------------------------------------------------------------

async function classify({ truncate = false } = {}) {
  const text = at("text").value;
  asked?.abort();
  asked = new AbortController();
  const { signal } = asked;
  at("problem").hidden = true;
  busy(true);
  try {
    if (!text.trim()) throw explainedProblem(400, "Empty", "");
    const found = await (await call("/predict", { inputs: text, truncate }, { signal })).json();
    if (signal.aborted) return;
    shownText = text;
    explained = new Map();
    draw(found);
    busy(false);
    await explain(text, truncate, signal);
  } catch (error) {
    if (error.name === "AbortError") return;
    at("said").textContent = "";
    show(error);
    if (error.type === "Empty") at("text").focus();
  } finally {
    if (asked?.signal === signal) busy(false);
  }
}

function busy(yes) {
  // Not `disabled`: the focus would be lost.
  at("go").setAttribute("aria-disabled", yes);
  at("go").textContent = yes ? "Reading …" : "Classify";
}

function draw(found) {
  const given = (one) => info?.multilabel && one.score >= info.thresholds[one.label];
  at("empty").hidden = true;
  at("answer").hidden = false;
  const best = info?.multilabel ? found.filter(given) : found.slice(0, 1);
  at("best").textContent = best.map((one) => one.label).join(", ") || "no label";
  at("best-figure").textContent = best.length === 1 ? percent(best[0].score) : "";
  const rows = found.map((one, position) => {
    const row = document.createElement("label");
    row.hidden = position >= SHOWN && !given(one);
    const input = Object.assign(document.createElement("input"), {
      type: "radio", name: "label", value: one.label, checked: position === 0,
    });
    const track = made("span", "", "track");
    const fill = made("span", "", "fill");
    fill.style.width = "0";
    requestAnimationFrame(() => requestAnimationFrame(() => { fill.style.width = `${100 * one.score}%`; }));
    track.append(fill);
    if (info?.multilabel) {
      const limit = made("span", "", "limit");
      limit.style.left = `calc(${100 * info.thresholds[one.label]}% - 1px)`;
      limit.title = "given from here on";
      track.append(limit);
    }
    const name = made("span", one.label, "name");
    if (given(one)) name.append(made("span", "given", "tag"));
    row.append(input, name, made("span", percent(one.score), "figure"), track);
    return row;
  });
  at("bars").replaceChildren(at("bars").querySelector("legend"), ...rows);
  const rest = rows.filter((row) => row.hidden);
  at("more").hidden = rest.length === 0;
  at("more").setAttribute("aria-expanded", "false");
  at("more").textContent = `Show all ${rows.length} labels`;
  at("more").onclick = () => {
    const open = at("more").getAttribute("aria-expanded") === "true";
    for (const row of rest) row.hidden = open && !row.querySelector("input").checked;
    at("more").setAttribute("aria-expanded", String(!open));
    at("more").textContent = open ? `Show all ${rows.length} labels` : "Show fewer";
  };
  const next = found.slice(1, 3).map((one) => `${one.label} ${percent(one.score)}`).join(", ");
  at("said").textContent = `${at("best").textContent} ${at("best-figure").textContent}. Next: ${next}.`;
}

async function explain(text, truncate, signal) {
  at("words").hidden = false;
  at("words").classList.add("waiting");
  at("words-label").textContent = chosen();
  at("reading").textContent = text;
  at("finding").textContent = "Leaving out each word in turn …";
  at("weights").replaceChildren();
  try {
    const found = await (await call("/explain", { inputs: text, truncate }, { signal })).json();
    explained = new Map(found.map((one) => [one.label, one.words]));
    shade();
  } catch (error) {
    if (error.name === "AbortError") throw error;
    at("finding").textContent = error instanceof Problem ? `No words available. ${error.message}` : "No words available.";
  } finally {
    if (!signal.aborted) at("words").classList.remove("waiting");
  }
}

const chosen = () => at("bars").querySelector("input:checked")?.value ?? "";

function shade() {
  const label = chosen();
  const words = explained.get(label);
  at("words-label").textContent = label;
  if (!words) return;
  const letters = Array.from(shownText); // offsets count code points
  const largest = Math.max(...words.map((word) => Math.abs(word.weight)), 1e-9);
  const parts = [];
  let position = 0;
  for (const word of words) {
    parts.push(letters.slice(position, word.start).join(""));
    position = word.end;
    const share = Math.abs(word.weight) / largest;
    if (share < LEAST) {
      parts.push(word.text);
      continue;
    }
    const side = word.weight > 0 ? "for" : "against";
    const mark = made("mark", word.text, side);
    mark.style.backgroundColor = `color-mix(in srgb, var(--${side}) ${Math.round(15 + 85 * share)}%, transparent)`;
    mark.title = signed(word.weight);
    parts.push(mark);
  }
  parts.push(letters.slice(position).join(""));
  at("reading").replaceChildren(...parts);
  const order = [...words].sort((a, b) => Math.abs(b.weight) - Math.abs(a.weight));
  at("weights").replaceChildren(...order.map((word) => {
    const row = document.createElement("tr");
    row.append(made("td", short(word.text)), made("td", signed(word.weight)));
    return row;
  }));
  at("finding").textContent = finding(label, order);
}

const signed = (weight) => (weight < 0 ? "−" : "+") + Math.abs(weight).toFixed(2);
const short = (text) => (text.length > 60 ? `${text.slice(0, 59)}…` : text);

function finding(label, order) {
  const [most] = order.filter((word) => word.weight > 0);
  if (!most || most.weight < 0.1) return `No single word supports ${label}.`;
  const factor = Math.exp(most.weight);
  const times = factor >= 10 ? Math.round(factor).toLocaleString("en") : factor.toFixed(1);
  return `Without “${short(most.text)}” the odds of ${label} would be ${times} times lower.`;
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  classify();
});
at("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    classify();
  }
});
at("bars").addEventListener("change", shade);
function offer(examples, labels) {
  at("examples-title").textContent = examples.length ? "Or try one of these" : "Its labels";
  at("examples").replaceChildren(...(examples.length ? examples : labels).map((text) => {
    const item = document.createElement("li");
    if (!examples.length) {
      item.textContent = text;
      return item;
    }
    const button = Object.assign(made("button", text), { type: "button" });
    button.addEventListener("click", () => {
      at("text").value = text;
      classify();
      at("form").scrollIntoView({ block: "nearest" });
    });
    item.append(button);
    return item;
  }));
}

if (/Mac|iPhone|iPad/.test(navigator.platform)) at("hint").querySelector("kbd").textContent = "⌘";

// --- a file -------------------------------------------------------------------------------------------------

let working = null;
let ready = null;

function tell(message, wrong = false) {
  at("file-said").hidden = !message;
  at("file-said").textContent = message;
  at("file-said").classList.toggle("wrong", wrong);
}

function forget() {
  at("file-ready").hidden = true;
  if (ready) URL.revokeObjectURL(ready);
  ready = null;
}

const isTable = (file) => /\.(parquet|xlsx)$/i.test(file.name);

function fileQuery(file) {
  const query = new URLSearchParams({ name: file.name });
  if (at("encoding").value && !isTable(file)) query.set("encoding", at("encoding").value);
  return query;
}

async function look() {
  const [file] = at("file").files;
  working?.abort();
  forget();
  tell("");
  at("file-options").hidden = true;
  at("encoding-field").hidden = !file || isTable(file);
  at("file-name").textContent = file ? file.name : "Choose a file";
  at("file-size").textContent = file ? size(file.size) : "or drop it here";
  if (!file) return;
  try {
    if (info && file.size > info.payload_limit) throw explainedProblem(413, "", "");
    const answer = await call(`/file/columns?${fileQuery(file)}`, file, { json: false });
    const { columns, text_columns: trained } = await answer.json();
    const own = trained.every((name) => columns.includes(name)) ? trained : [];
    if (at("file").files[0] !== file) return;
    at("column-field").hidden = columns.length === 0 || own.length > 1;
    const likely = own[0] ?? columns.find((name) => /^(text|comment|review|content|message|sentence|body)s?$/i.test(name)) ?? columns[0];
    at("column").replaceChildren(...columns.map((name) =>
      Object.assign(made("option", name), { value: name, selected: name === likely })));
    at("file-options").hidden = false;
  } catch (error) {
    failed(error);
  }
}

function failed(error) {
  if (error.name === "AbortError") return tell("Stopped.");
  if (!(error instanceof Problem)) console.error(error);
  return tell(error instanceof Problem ? error.message : "The file can’t be read any more; choose it again.", true);
}

async function classifyFile() {
  const [file] = at("file").files;
  if (!file || working) return;
  forget();
  working = new AbortController();
  at("file-go").setAttribute("aria-disabled", "true");
  at("file-stop").hidden = false;
  const began = performance.now();
  const clock = () => tell(`Classifying ${file.name} … ${Math.round((performance.now() - began) / 1000)} s`);
  tell(`Classifying ${file.name} …`);
  const ticking = setInterval(() => { at("file-said").setAttribute("aria-live", "off"); clock(); }, 1000);
  try {
    const query = fileQuery(file);
    query.set("format", at("format").value);
    if (at("column").value && !at("column-field").hidden) query.set("text_column", at("column").value);
    const answer = await call(`/file/predict?${query}`, file, { json: false, signal: working.signal });
    const count = Number(answer.headers.get("fec-texts"));
    ready = URL.createObjectURL(await answer.blob());
    const name = `${file.name.replace(/\.[^.]*$/, "")}-labels.${at("format").value}`;
    Object.assign(at("download"), { href: ready, download: name, textContent: `Download ${name}` });
    at("file-said").removeAttribute("aria-live");
    tell(`${count.toLocaleString("en")} ${count === 1 ? "text" : "texts"} classified.`);
    at("file-ready").hidden = false;
    at("download").focus();
  } catch (error) {
    at("file-said").removeAttribute("aria-live");
    failed(error);
  } finally {
    clearInterval(ticking);
    working = null;
    at("file-stop").hidden = true;
    at("file-go").removeAttribute("aria-disabled");
  }
}

at("file").addEventListener("change", look);
at("encoding").addEventListener("change", look);
at("file-form").addEventListener("submit", (event) => {
  event.preventDefault();
  classifyFile();
});
at("file-stop").addEventListener("click", () => working?.abort());
for (const name of ["dragenter", "dragover"]) at("drop").addEventListener(name, () => at("drop").classList.add("over"));
for (const name of ["dragleave", "drop"]) at("drop").addEventListener(name, () => at("drop").classList.remove("over"));

// --- the key ------------------------------------------------------------------------------------------------

at("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  sessionStorage.setItem("fec-key", at("key").value.trim());
  at("key-hint").textContent = "Asking the server …";
  await learn();
  if (info) {
    at("problem").hidden = true;
    at("text").focus();
  }
});

learn();
