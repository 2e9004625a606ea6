// The page at /docs: shows /openapi.json of its own server and sends requests to it, nothing else.

const at = (id) => document.getElementById(id);

function made(tag, text = "", className = "") {
  const element = document.createElement(tag);
  element.textContent = text;
  if (className) element.className = className;
  return element;
}

function call(path, options = {}) {
  const key = sessionStorage.getItem("fec-key");
  const headers = { ...options.headers, ...(key ? { authorization: `Bearer ${key}` } : {}) };
  return fetch(path, { ...options, headers });
}

function fields(schema, schemas) {
  const named = schemas[schema?.$ref?.split("/").at(-1)] ?? schema;
  return Object.entries(named?.properties ?? {}).map(([name, field]) => {
    const row = document.createElement("tr");
    const fallback = "default" in field ? JSON.stringify(field.default) : "";
    row.append(made("td", name), made("td", field.description ?? field.title ?? ""), made("td", fallback));
    return row;
  });
}

function table(rows) {
  const found = document.createElement("table");
  const head = document.createElement("tr");
  head.append(...["field", "", "default"].map((name) => Object.assign(made("th", name), { scope: "col" })));
  found.append(head, ...rows);
  return found;
}

function section(path, method, about, schemas) {
  const found = made("section", "", "card");
  found.append(made("h2", `${method.toUpperCase()} ${path}`), made("p", about.description ?? about.summary ?? ""));
  const schema = about.requestBody?.content?.["application/json"]?.schema;
  const rows = fields(schema, schemas);
  if (rows.length) found.append(table(rows));
  const statuses = Object.entries(about.responses ?? {}).map(([status, one]) => `${status} ${one.description}`);
  found.append(made("p", `Answers: ${statuses.join(" · ")}`, "hint"));
  const form = document.createElement("form");
  const body = made("textarea", JSON.stringify({ inputs: "a text" }));
  body.rows = 3;
  body.setAttribute("aria-label", `Body of ${path}`);
  if (schema) form.append(body);
  const answer = made("pre");
  answer.setAttribute("aria-live", "polite");
  form.append(Object.assign(made("button", "Send", "primary"), { type: "submit" }), answer);
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    try {
      const options = schema ? { method, body: body.value, headers: { "content-type": "application/json" } } : { method };
      const got = await call(path, options);
      const text = await got.text();
      answer.textContent = `${got.status}\n${text.slice(0, 20_000)}`;
    } catch {
      answer.textContent = "The server does not answer. Is fec serve still running?";
    }
  });
  found.append(form);
  return found;
}

async function show() {
  at("problem").hidden = true;
  try {
    const got = await call("/openapi.json");
    at("key-form").hidden = got.status !== 401;
    if (!got.ok) throw new Error(got.status === 401 ? "" : `The server answered with the error ${got.status}.`);
    const { paths, components } = await got.json();
    const all = Object.entries(paths).flatMap(([path, methods]) =>
      Object.entries(methods).map(([method, about]) => section(path, method, about, components?.schemas ?? {})));
    at("paths").replaceChildren(...all);
  } catch (error) {
    at("problem").hidden = !error.message;
    at("problem").textContent = error.message;
  }
}

at("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem("fec-key", at("key").value.trim());
  show();
});

show();
