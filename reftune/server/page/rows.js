// The examples that are typed in: a question and its answer in each row.

import { byId, make, say } from "/page/elements.js";
import { parseExamples } from "/page/parse.js";

const MOST_ROWS = 100; // shown; further examples are kept without a row each
const list = byId("rows");
let more = []; // examples without a row: those beyond MOST_ROWS, and chats of several turns

export function startRows() {
  byId("add").addEventListener("click", () => addRow().querySelector("textarea").focus());
  byId("example").addEventListener("click", loadExample);
  byId("clear-rows").addEventListener("click", () => {
    setExamples([]);
    list.querySelector("textarea").focus();
  });
  byId("more-remove").addEventListener("click", () => {
    more = [];
    showMore();
    byId("add").focus();
  });
  byId("paste-add").addEventListener("click", addPasted);
  setExamples([]);
}

/** Return all examples; throw an Error if a row has a question without answer or the reverse. */
export function examples() {
  const typed = [];
  for (const row of list.children) {
    const [prompt, answer] = [...row.querySelectorAll("textarea")].map((box) => box.value.trim());
    if (prompt && answer) typed.push({ prompt, answer });
    else if (prompt || answer) {
      row.querySelectorAll("textarea")[prompt ? 1 : 0].focus();
      throw new Error(prompt ? "An example has no answer yet." : "An example has no question yet.");
    }
  }
  const all = [...typed, ...more];
  if (!all.length) {
    list.querySelector("textarea").focus();
    throw new Error("There are no examples yet.");
  }
  return all;
}

export function setExamples(added) {
  list.replaceChildren();
  more = [];
  addExamples(added);
  while (list.children.length < 2) addRow();
}

function addExamples(added) {
  const isEmpty = (row) => [...row.querySelectorAll("textarea")].every((box) => !box.value.trim());
  for (const row of [...list.children]) if (isEmpty(row)) row.remove();
  for (const example of added) {
    if (example.messages || list.children.length >= MOST_ROWS) more.push(example);
    else addRow(example.prompt, example.answer);
  }
  if (!list.children.length) addRow();
  showMore();
}

function showMore() {
  byId("more").hidden = !more.length;
  byId("more-count").textContent = `and ${more.length} more that are not shown`;
}

async function loadExample() {
  try {
    const response = await fetch("/page/example.jsonl");
    if (!response.ok) throw new Error(`The example is missing (${response.status}).`);
    setExamples(parseExamples(await response.text()));
    if (!byId("suffix").value) byId("suffix").value = "emoji";
    say(byId("lesson-trouble"), "");
  } catch (error) {
    say(byId("lesson-trouble"), error.message);
  }
}

function addPasted() {
  try {
    const added = parseExamples(byId("paste").value);
    if (!added.length) throw new Error("Nothing is pasted yet.");
    addExamples(added);
    byId("paste").value = "";
    byId("paste-box").open = false;
    say(byId("lesson-trouble"), "");
    byId("teach-button").focus();
  } catch (error) {
    say(byId("lesson-trouble"), error.message);
    byId("paste").focus();
  }
}

function addRow(prompt = "", answer = "") {
  const remove = make("button", { type: "button", class: "quiet remove", text: "×" });
  const row = make("li", {}, box("Question", prompt), box("Answer", answer), remove);
  remove.setAttribute("aria-label", "Remove this example");
  remove.addEventListener("click", () => {
    const next = row.nextElementSibling ?? row.previousElementSibling ?? addRow();
    row.remove();
    next.querySelector("textarea").focus();
  });
  row.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    if (event.target.tagName !== "TEXTAREA") return;
    event.preventDefault();
    next(event.target);
  });
  list.append(row);
  return row;
}

function box(label, text) {
  const area = make("textarea", { rows: "1", "aria-label": label, placeholder: label });
  area.value = text;
  return area;
}

/** Enter leads to the next field, and from the last one to a new row. */
function next(area) {
  const all = [...list.querySelectorAll("textarea")];
  const place = all.indexOf(area);
  (all[place + 1] ?? addRow().querySelector("textarea")).focus();
}
