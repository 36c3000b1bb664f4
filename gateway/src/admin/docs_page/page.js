
"use strict";

// Everything is set as text: nothing of the document is ever read as HTML.
const make = (name, attributes = {}, ...children) => {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children.filter((child) => child !== null && child !== undefined));
  return element;
};

// Description texts use `code` and nothing else of Markdown.
const prose = (text) => make("p", {}, ...words(text));
const words = (text) => (text ?? "").split("`").map((part, index) => (index % 2 ? make("code", {}, part) : part));

const nameOf = (schema) => schema.$ref?.split("/").pop();

const kind = (schema) => {
  if (schema.$ref) return nameOf(schema);
  if (schema.oneOf) return schema.oneOf.map(kind).join(" or ");
  if (schema.allOf) return schema.allOf.map(kind).join(" and ");
  const types = [schema.type].flat().filter(Boolean);
  const inner = types.includes("array") ? ` of ${kind(schema.items ?? {})}` : "";
  return types.map((type) => (type === "array" ? `array${inner}` : type)).join(" or ") || "anything";
};

const range = (least, most) => (least === most ? `${most}` : `${least} to ${most}`);

const limits = (schema) => {
  const said = [];
  const inner = schema.items && !schema.items.$ref ? schema.items : null;
  if (schema.format) said.push(schema.format);
  if (schema.enum) said.push(schema.enum.map((word) => JSON.stringify(word)).join(", "));
  if (schema.minimum !== undefined || schema.maximum !== undefined) said.push(`${schema.minimum ?? ""} to ${schema.maximum ?? ""}`);
  if (schema.maxLength !== undefined) said.push(`${range(schema.minLength ?? 0, schema.maxLength)} characters`);
  if (schema.maxProperties !== undefined) said.push(`at most ${schema.maxProperties} members`);
  if (schema.pattern) said.push(schema.pattern);
  if (schema.default !== undefined) said.push(`default ${JSON.stringify(schema.default)}`);
  if (inner) said.push(...limits(inner).map((limit) => `each ${limit}`));
  return said;
};

const table = (head, rows) =>
  make("div", { class: "scroll" }, make("table", {},
    make("thead", {}, make("tr", {}, ...head.map((cell) => make("th", { scope: "col" }, cell)))),
    make("tbody", {}, ...rows.map((cells) => make("tr", {}, ...cells.map((cell) => make("td", {}, ...[cell].flat())))))));

const member = (name, schema, required, meaning) => [
  make("code", {}, name),
  [kind(schema), required ? "" : make("span", { class: "dim" }, " (optional)")],
  [...words(meaning ?? schema.description), ...limits(schema).map((limit) => make("div", { class: "dim" }, make("code", {}, limit)))],
];

const fields = (schema) => {
  if (schema.oneOf) return make("div", {}, ...schema.oneOf.flatMap((one, index) => [index ? make("p", { class: "dim" }, "or") : null, fields(one)]));
  if (schema.allOf) return make("div", {}, ...schema.allOf.flatMap((one, index) => [index ? make("p", { class: "dim" }, "and") : null, fields(one)]));
  if (schema.$ref) return make("p", {}, "everything of ", make("a", { href: `#schema-${nameOf(schema)}` }, nameOf(schema)));
  const rows = Object.entries(schema.properties ?? {}).map(([name, of]) => member(name, of, schema.required?.includes(name)));
  return rows.length ? table(["member", "type", "meaning"], rows) : make("p", { class: "dim" }, kind(schema));
};

const content = (of) => {
  const [media, { schema }] = Object.entries(of ?? {})[0] ?? [null, {}];
  if (!media) return [];
  const name = schema && nameOf(schema);
  return [media, ": ", name ? make("a", { href: `#schema-${name}` }, name) : kind(schema ?? {})];
};

const curl = (method, path, operation) => {
  const open = (operation.security ?? []).some((one) => Object.keys(one).length === 0);
  const lines = [`curl -X ${method.toUpperCase()} ${location.origin}${path}`];
  if (!open) lines.push('-H "Authorization: Bearer $ADMIN_TOKEN"');
  if (operation.requestBody) lines.push("-H 'content-type: application/json'", "-d '{…}'");
  return make("pre", {}, lines.join(" \\\n  "));
};

const show = (method, path, operation) => {
  const parameters = (operation.parameters ?? []).map((one) =>
    member(`${one.name}`, one.schema, one.required, `In the ${one.in}. ${one.description ?? ""}`));
  const answers = Object.entries(operation.responses).map(([status, answer]) => [
    make("code", {}, status), words(answer.description), content(answer.content),
  ]);
  return make("details", { class: "operation", id: operation.operationId },
    make("summary", {}, make("span", { class: `method ${method}` }, method.toUpperCase()), make("code", {}, path), make("span", { class: "dim" }, operation.summary)),
    make("div", {},
      operation.description ? prose(operation.description) : null,
      make("h3", {}, "Call"), curl(method, path, operation),
      parameters.length ? make("h3", {}, "Parameters") : null, parameters.length ? table(["name", "type", "meaning"], parameters) : null,
      operation.requestBody ? make("h3", {}, "Body") : null,
      operation.requestBody ? make("p", {}, ...content(operation.requestBody.content)) : null,
      make("h3", {}, "Answers"), table(["status", "meaning", "content"], answers)));
};

const render = (api) => {
  const page = document.getElementById("page");
  const operations = Object.entries(api.paths).flatMap(([path, item]) =>
    Object.entries(item).filter(([, operation]) => operation.responses).map(([method, operation]) => ({ path, method, operation })));
  const sections = api.tags.map((tag) => make("section", {},
    make("h2", {}, tag.name), prose(tag.description),
    ...operations.filter(({ operation }) => operation.tags?.includes(tag.name)).map(({ path, method, operation }) => show(method, path, operation))));
  const schemas = Object.entries(api.components.schemas).map(([name, schema]) =>
    make("details", { class: "operation", id: `schema-${name}` },
      make("summary", {}, make("code", {}, name), make("span", { class: "dim" }, ...words(schema.description))), make("div", {}, fields(schema))));
  const search = make("input", { type: "search", placeholder: "Find an operation", "aria-label": "Find an operation" });
  search.addEventListener("input", () => {
    const wanted = search.value.toLowerCase();
    for (const one of page.querySelectorAll("section details")) one.hidden = !one.textContent.toLowerCase().includes(wanted);
  });
  page.replaceChildren(
    make("h1", {}, api.info.title, " ", make("span", { class: "dim" }, api.info.version)), prose(api.info.description),
    make("p", {}, "For programs: ", make("a", { href: "/openapi.json" }, "/openapi.json"), "."), search,
    ...sections, make("section", {}, make("h2", {}, "Schemas"), ...schemas));
  const open = () => {
    const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (named?.tagName === "DETAILS") { named.open = true; named.scrollIntoView(); }
  };
  addEventListener("hashchange", open);
  open();
};

fetch("/openapi.json")
  .then((answer) => answer.json())
  .then(render)
  .catch((error) => document.getElementById("page").replaceChildren(make("p", {}, `The document cannot be shown: ${error}`)));
