// The list of models: which adapter is talked to; download and deletion.

import { call, send } from "/page/api.js";
import { answered, byId, goTo, make, say, shortName } from "/page/elements.js";

const select = byId("adapter");
let base = "";

export const baseName = () => base;
export const chosenAdapter = () => select.value;

/** Talk to an adapter; to the base model alone if there is none of this name. */
export function choose(model) {
  select.value = model;
  if (select.selectedIndex < 0) select.value = "";
  select.dispatchEvent(new Event("change"));
}

/** Ask the server for all models, and show them. */
export async function loadModels() {
  const models = (await call("GET", "/v1/models")).data;
  base = models.find((model) => model.kind === "base").id;
  byId("base-name").textContent = base;
  const adapters = models.filter((model) => model.kind !== "base");
  adapters.sort((one, other) => other.created - one.created);
  const before = select.value;
  const options = adapters.map(({ id }) => make("option", { value: id, text: shortName(id) }));
  select.replaceChildren(select.options[0], ...options);
  if (adapters.some(({ id }) => id === before)) select.value = before;
  byId("adapter-list").replaceChildren(...adapters.map(entry));
  byId("no-adapters").hidden = adapters.length > 0;
}

function entry(model) {
  const short = shortName(model.id);
  const date = new Date(model.created * 1000).toLocaleString([], {
    dateStyle: "medium",
    timeStyle: "short",
  });
  const action = (text, run) => {
    const button = make("button", {
      type: "button", class: "quiet", text, "aria-label": `${text}: ${short}`,
    });
    button.addEventListener("click", () => guarded(run));
    return button;
  };
  const actions = [
    action("Talk to it", async () => {
      choose(model.id);
      goTo("chat");
      byId("prompt").focus();
    }),
    action("Download", () => download(model.id)),
  ];
  if (model.kind === "own") actions.push(action("Delete", () => remove(model.id)));
  const whose = model.kind === "own" ? date : `${date}, for everybody`;
  return make(
    "li", {},
    make("code", { text: model.id }),
    make("span", { class: "faint", text: whose }),
    make("span", { class: "actions" }, ...actions),
  );
}

async function guarded(run) {
  try {
    say(byId("trouble"), "");
    await run();
  } catch (error) {
    say(byId("trouble"), error.message);
  }
}

// Names hold colons; they are one part of the path.
const path = (model) => encodeURIComponent(model);

async function download(model) {
  const response = await send("GET", `/v1/adapters/${path(model)}/download`);
  const url = URL.createObjectURL(await response.blob());
  const name = model.replace(/[^A-Za-z0-9.-]+/g, "-");
  make("a", { href: url, download: `${name}.zip` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

async function remove(model) {
  byId("delete-name").textContent = model;
  if (!(await answered(byId("delete-dialog")))) return;
  await call("DELETE", `/v1/models/${path(model)}`);
  const chosen = select.value === model;
  await loadModels();
  if (chosen) choose("");
  (byId("adapter-list").querySelector("button") ?? byId("add")).focus();
}
